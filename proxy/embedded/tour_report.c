/*
 * What people see of the tour: blocks of lines with a label before them, 100 columns wide.
 */
#include "tour.h"

#include <stdarg.h>
#include <stdlib.h>

enum { MARGIN = 2, LABEL = 9, FIELD = 13, TEXT_MOST = 16 << 10 };

#define BOLD "1"
#define DIM "2"
#define RED "31"
#define GREEN "32"
#define CYAN "36"

static void paint(const struct tour *t, const char *colour, struct str text)
{
        if (t->colour)
                printf("\033[%sm%.*s\033[0m", colour, STR_FMT(text));
        else
                printf("%.*s", STR_FMT(text));
}

/* Columns of UTF-8 text without wide or combining characters. */
static size_t columns(struct str text)
{
        size_t n = 0;

        for (size_t i = 0; i < text.len; i++)
                n += ((unsigned char)text.ptr[i] & 0xC0) != 0x80;
        return n;
}

/* Text of others, without what a terminal would obey. */
static struct str harmless(struct tour *t, struct str text)
{
        char *out = arena_alloc(&t->arena, text.len + 1);
        size_t len = 0;

        if (!out)
                return STR_NONE;
        for (size_t i = 0; i < text.len; i++) {
                unsigned char c = (unsigned char)text.ptr[i];
                if (c == 0x1B && i + 2 < text.len && text.ptr[i + 1] == '[')
                        i += 2; /* git's "erase to the end of the line" */
                else if (c >= 0x20 && c != 0x7F)
                        out[len++] = (char)c;
        }
        return str_view(out, len);
}

/* The first part of `text` that fits into `width` columns, cut at a blank if there is one. */
static struct str take_line(struct str *text, size_t width)
{
        size_t end = 0, blank = 0, n = 0;

        while (end < text->len && n <= width) {
                if (text->ptr[end] == ' ')
                        blank = end;
                do
                        end++;
                while (end < text->len && ((unsigned char)text->ptr[end] & 0xC0) == 0x80);
                n++;
        }
        if (end == text->len && n <= width)
                blank = end;
        else if (blank == 0) /* a word too long for a line: it is cut */
                for (blank = end - 1; ((unsigned char)text->ptr[blank] & 0xC0) == 0x80;)
                        blank--;
        struct str line = str_head(*text, blank);
        *text = str_from(*text, blank);
        while (text->len && text->ptr[0] == ' ')
                *text = str_from(*text, 1);
        return line;
}

static void spaces(size_t n)
{
        printf("%*s", (int)n, "");
}

static void padded(const struct tour *t, const char *colour, const char *word, size_t width)
{
        size_t n = columns(str_of(word));

        paint(t, colour, str_of(word));
        spaces(n < width ? width - n : 1);
}

/* A block's line: label, name of the field (or NULL), text with a hanging indent. */
static void emit(struct tour *t, const char *label, const char *field, struct str text)
{
        size_t indent = MARGIN + LABEL + (field ? FIELD : 0);
        bool first = true;

        text = harmless(t, text);
        do {
                struct str line = take_line(&text, TOUR_COLUMNS - indent);
                spaces(MARGIN);
                padded(t, CYAN, first && label ? label : "", LABEL);
                if (field)
                        padded(t, DIM, first ? field : "", FIELD);
                printf("%.*s\n", STR_FMT(line));
                first = false;
        } while (text.len);
}

static struct str formatted(struct tour *t, const char *format, va_list args)
{
        struct buf text;

        buf_init(&text, TEXT_MOST);
        buf_vprintf(&text, format, args);
        struct str copy = arena_copy(&t->arena, buf_str(&text));
        buf_clear(&text);
        return copy.ptr ? copy : STR("");
}

void report_gap(struct tour *t)
{
        (void)t;
        putchar('\n');
}

void report_title(struct tour *t, const char *text)
{
        size_t n = columns(str_of(text)) + 4;

        printf("\n");
        paint(t, DIM, STR("── "));
        paint(t, BOLD, str_of(text));
        putchar(' ');
        printf("%s", t->colour ? "\033[" DIM "m" : "");
        for (; n < TOUR_COLUMNS; n++)
                printf("─");
        printf("%s\n\n", t->colour ? "\033[0m" : "");
}

void report_prose(struct tour *t, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        struct str text = formatted(t, format, args);
        va_end(args);
        while (text.len) {
                struct str line = take_line(&text, TOUR_COLUMNS - 2 * MARGIN);
                spaces(MARGIN);
                printf("%.*s\n", STR_FMT(line));
        }
        putchar('\n');
}

void report_line(struct tour *t, const char *label, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        emit(t, label, NULL, formatted(t, format, args));
        va_end(args);
}

static void field_line(struct tour *t, const char *name, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static void field_line(struct tour *t, const char *name, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        emit(t, NULL, name, formatted(t, format, args));
        va_end(args);
}

void report_command(struct tour *t, const char *label, const char *format, ...)
{
        va_list args;
        struct str rest, line;
        bool first = true;

        va_start(args, format);
        rest = formatted(t, format, args);
        va_end(args);
        do {
                rest = str_cut(rest, '\n', &line);
                spaces(MARGIN);
                padded(t, CYAN, first ? label : "", LABEL);
                printf("%s%.*s%s\n", first ? "$ " : "  ", STR_FMT(line), rest.ptr ? " \\" : "");
                first = false;
        } while (rest.ptr);
        putchar('\n');
}

void report_paste(struct tour *t, const char *comment, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        struct str text = formatted(t, format, args);
        va_end(args);
        paint(t, DIM, arena_printf(&t->arena, "# %s", comment));
        printf("\n%.*s\n\n", STR_FMT(text));
}

const char *report_short(struct tour *t, const char *token)
{
        size_t len = strlen(token);

        if (len < 24)
                return token;
        return arena_printf(&t->arena, "%.10s…%s", token, token + len - 4).ptr;
}

static const json_t *member_at(const json_t *value, const char *path)
{
        struct str rest = str_of(path), name;

        while (rest.ptr && value) {
                rest = str_cut(rest, '.', &name);
                value = json_object_getn(value, name.ptr, name.len);
        }
        return value;
}

void report_answer(struct tour *t, const struct tour_answer *answer, const char *const *members)
{
        emit(t, "answer", NULL, str_of(answer->line));
        for (size_t i = 0; members && members[i]; i++) {
                const json_t *value = member_at(answer->json, members[i]);
                char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
                if (text && !json_is_null(value))
                        report_line(t, NULL, "%s: %s", members[i], text);
                free(text);
        }
        if (!answer->json && answer->body.len)
                report_output(t, NULL, answer->body, 3);
        putchar('\n');
}

void report_output(struct tour *t, const char *label, struct str text, size_t most)
{
        struct str line;

        text = str_trim(text);
        for (size_t n = 0; text.len && n < most; n++) {
                text = str_cut(text, '\n', &line);
                emit(t, n ? NULL : label, NULL, line);
        }
        if (text.len)
                emit(t, NULL, NULL, STR("…"));
}

/* --- records --- */

static long long number_at(const json_t *record, const char *path)
{
        return json_integer_value(member_at(record, path));
}

static void record_head(struct tour *t, const json_t *record, const char *label, bool alone)
{
        const char *kind = record_text(record, "kind");
        const char *effect = record_text(record, "decision.effect");
        const char *name = arena_printf(&t->arena, "#%lld %s", number_at(record, "seq"), kind).ptr;
        double ms = json_number_value(json_object_get(record, "ms"));

        if (strcmp(kind, "intent") == 0)
                emit(t, label, name,
                        arena_printf(&t->arena, "%s; on disk before a byte went upstream", effect));
        else if (alone)
                emit(t, label, name,
                        arena_printf(&t->arena, "%s, answered %lld in %.1f ms", effect,
                                number_at(record, "response.status"), ms));
        else
                emit(t, label, name,
                        arena_printf(&t->arena, "%s %lld  %s %s", effect,
                                number_at(record, "response.status"),
                                record_text(record, "request.method"),
                                record_text(record, "request.path")));
}

static void record_caller(struct tour *t, const json_t *record)
{
        static const char *const claims[] = {"dag_id", "run_id", "task_id", "try_number"};
        static const char *const words[] = {"dag", "run", "task", "try"};
        const char *subject = record_text(record, "caller.subject");
        struct buf text;

        if (subject[0])
                field_line(t, "caller", "%s of issuer %s (%s)", subject,
                        record_text(record, "caller.issuer"), record_text(record, "caller.via"));
        else
                field_line(t, "caller", "unknown, from %s", record_text(record, "caller.address"));
        buf_init(&text, TEXT_MOST);
        for (size_t i = 0; i < sizeof(claims) / sizeof(*claims); i++) {
                const char *value = record_text(json_object_get(record, "claimed"), claims[i]);
                if (value[0])
                        buf_printf(&text, "%s%s %s", text.len ? ", " : "", words[i], value);
        }
        if (text.len)
                field_line(t, "claims to be", "%.*s", STR_FMT(buf_str(&text)));
        buf_clear(&text);
}

/* `, pipeline 42` for each `pipeline:42` that the request touches. */
static void add_resources(struct buf *text, const json_t *request)
{
        json_t *one;
        size_t i;

        json_array_foreach(json_object_get(request, "resources"), i, one)
        {
                struct str kind, name = str_cut(str_of(json_string_value(one)), ':', &kind);
                buf_printf(text, ", %.*s %.*s", STR_FMT(kind), STR_FMT(name));
        }
}

static void record_request(struct tour *t, const json_t *record)
{
        const json_t *request = json_object_get(record, "request");
        const char *operation = record_text(request, "operation");
        struct buf text;

        if (!operation[0])
                return;
        buf_init(&text, TEXT_MOST);
        buf_printf(&text, "%s (%s)", operation, record_text(request, "access"));
        if (record_text(request, "project")[0])
                buf_printf(&text, ", project %s", record_text(request, "project"));
        add_resources(&text, request);
        field_line(t, "operation", "%.*s", STR_FMT(buf_str(&text)));
        buf_clear(&text);
}

static void record_decision(struct tour *t, const json_t *record)
{
        const json_t *decision = json_object_get(record, "decision");
        const char *effect = record_text(decision, "effect");
        const char *rule = record_text(decision, "rule");

        if (rule[0])
                field_line(t, "decision", "%s by %s, role %s, binding \"%s\"", effect, rule,
                        record_text(decision, "role"), record_text(decision, "binding"));
        else
                field_line(t, "decision", "%s: %s", effect, record_text(decision, "reason"));
}

void report_records(struct tour *t, json_t *const *records, size_t n, int saw)
{
        const json_t *last = records_outcome(records, n);
        const char *seen = "";
        size_t outcomes = 0;

        if (!last) {
                report_line(t, "audit", "no record");
                return;
        }
        for (size_t i = 0; i < n; i++)
                outcomes += strcmp(record_text(records[i], "kind"), "outcome") == 0;
        for (size_t i = 0; i < n; i++)
                record_head(t, records[i], i ? NULL : "audit", outcomes == 1);
        record_caller(t, last);
        record_request(t, last);
        record_decision(t, last);
        if (record_text(last, "credential.name")[0])
                field_line(t, "credential", "%s (%s)", record_text(last, "credential.name"),
                        record_text(last, "credential.type"));
        if (json_object_get(last, "upstream"))
                field_line(t, "upstream", "%s answered %lld", record_text(last, "upstream.host"),
                        number_at(last, "upstream.status"));
        else
                field_line(t, "upstream", "%s", saw == 0 ? "saw nothing of it" : "not asked");
        if (saw > 0)
                seen = "; upstream saw the same ID";
        field_line(t, "correlation", "%s%s", record_text(last, "correlation_id"), seen);
}

/* --- steps --- */

void report_summary(struct tour *t)
{
        report_title(t, "Summary");
        spaces(MARGIN);
        if (t->good == TOUR_STEPS)
                paint(t, GREEN, STR("✓ "));
        else
                paint(t, RED, STR("✗ "));
        printf("%u of %d steps as expected\n", t->good, TOUR_STEPS);
        fflush(stdout);
}

void step_begin(struct tour *t, const char *title)
{
        t->step++;
        t->step_bad = false;
        buf_reset(&t->passed);
        report_title(t, arena_printf(&t->arena, "%u of %d · %s", t->step, TOUR_STEPS, title).ptr);
}

static void mark(struct tour *t, bool good, struct str text)
{
        const size_t width = TOUR_COLUMNS - 2 * MARGIN;

        for (bool first = true; text.len; first = false) {
                struct str line = take_line(&text, width);
                spaces(MARGIN);
                if (first)
                        paint(t, good ? GREEN : RED, good ? STR("✓ ") : STR("✗ "));
                else
                        spaces(2);
                printf("%.*s\n", STR_FMT(line));
        }
}

void step_check(struct tour *t, bool good, const char *what, const char *format, ...)
{
        va_list args;

        if (tour_stopped()) { /* what is cut short proves nothing */
                t->step_bad = true;
                return;
        }
        if (good) {
                buf_printf(&t->passed, "%s%s", t->passed.len ? ", " : "", what);
                return;
        }
        va_start(args, format);
        struct str found = formatted(t, format, args);
        va_end(args);
        if (!t->step_bad)
                putchar('\n');
        mark(t, false,
                harmless(t,
                        arena_printf(&t->arena, "should be: %s. But %.*s", what, STR_FMT(found))));
        t->step_bad = true;
}

void step_end(struct tour *t)
{
        if (!t->step_bad) {
                t->good++;
                putchar('\n');
                mark(t, true,
                        arena_printf(&t->arena, "as expected: %.*s", STR_FMT(buf_str(&t->passed))));
        }
        fflush(stdout);
}
