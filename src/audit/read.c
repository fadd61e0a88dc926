#include "dagward/audit/read.h"

#include "dagward/base/clock.h"

enum { MOST_ITEMS = 512, MOST_NESTED = 32 };

struct reader {
        const char *p, *end;
        struct arena *arena;
        bool cut;
};

/* What a member's value is, and where it goes. */
enum type {
        TEXT,
        TIME,
        KIND,
        EFFECT,
        COUNT,
        STATUS,
        ATTEMPTS,
        DURATION,
        ITEMS,
        PAIRS,
        DETAIL,
        OBJECT
};

struct row {
        struct str name;
        enum type type;
        size_t at;      /* in struct audit_line */
        size_t n_at;    /* of lists: where their length goes */
        bool tells_cut; /* a part of it is not enough to decide again */
        const struct row *rows;
        unsigned n_rows;
};

/* --- JSON --- */

static void skip_blanks(struct reader *r)
{
        while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\r' || *r->p == '\n'))
                r->p++;
}

static bool take(struct reader *r, char c)
{
        skip_blanks(r);
        if (r->p == r->end || *r->p != c)
                return false;
        r->p++;
        return true;
}

/* Four hexadecimal digits. */
static bool take_hex(struct reader *r, unsigned *out)
{
        unsigned value = 0;

        if (r->end - r->p < 4)
                return false;
        for (int i = 0; i < 4; i++) {
                char c = char_lower(*r->p++);
                if (c >= '0' && c <= '9')
                        value = value * 16 + (unsigned)(c - '0');
                else if (c >= 'a' && c <= 'f')
                        value = value * 16 + (unsigned)(c - 'a' + 10);
                else
                        return false;
        }
        *out = value;
        return true;
}

static char *put_utf8(char *to, unsigned code)
{
        if (code < 0x80) {
                *to++ = (char)code;
        } else if (code < 0x800) {
                *to++ = (char)(0xC0 | code >> 6);
                *to++ = (char)(0x80 | (code & 0x3F));
        } else if (code < 0x10000) {
                *to++ = (char)(0xE0 | code >> 12);
                *to++ = (char)(0x80 | (code >> 6 & 0x3F));
                *to++ = (char)(0x80 | (code & 0x3F));
        } else {
                *to++ = (char)(0xF0 | code >> 18);
                *to++ = (char)(0x80 | (code >> 12 & 0x3F));
                *to++ = (char)(0x80 | (code >> 6 & 0x3F));
                *to++ = (char)(0x80 | (code & 0x3F));
        }
        return to;
}

/* Behind the backslash; what comes out is never longer than what stands there. */
static char *unescape(struct reader *r, char *to)
{
        static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        unsigned code, low;

        if (r->p == r->end)
                return NULL;
        char c = *r->p++;
        const char *found = c ? strchr(names, c) : NULL;
        if (found) {
                *to++ = values[found - names];
                return to;
        }
        if (c != 'u' || !take_hex(r, &code) || (code >= 0xDC00 && code < 0xE000))
                return NULL;
        if (code >= 0xD800 && code < 0xDC00) {
                if (r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u')
                        return NULL;
                r->p += 2;
                if (!take_hex(r, &low) || low < 0xDC00 || low >= 0xE000)
                        return NULL;
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        }
        return put_utf8(to, code);
}

/* From the first backslash on; `begin` is behind the opening quote, r->p at the backslash. */
static bool take_escaped(struct reader *r, const char *begin, struct str *out)
{
        const char *close = r->p;

        while (close < r->end && *close != '"')
                close += *close == '\\' && r->end - close > 1 ? 2 : 1;
        if (close == r->end)
                return false;
        char *copy = arena_alloc(r->arena, (size_t)(close - begin) + 1), *to = copy;
        if (!copy)
                return false;
        memcpy(copy, begin, (size_t)(r->p - begin));
        to += r->p - begin;
        while (r->p < close) {
                if ((unsigned char)*r->p < 0x20)
                        return false;
                if (*r->p != '\\') {
                        *to++ = *r->p++;
                        continue;
                }
                r->p++;
                if (!(to = unescape(r, to)))
                        return false;
        }
        r->p = close + 1;
        *out = str_view(copy, (size_t)(to - copy));
        return true;
}

/* Whether one of eight bytes is a quote, a backslash, a control or beyond ASCII. */
static bool has_special(const char *p)
{
        const uint64_t ones = 0x0101010101010101, highs = 0x8080808080808080;
        uint64_t w;

        memcpy(&w, p, sizeof(w));
        uint64_t quote = w ^ ones * '"', backslash = w ^ ones * '\\';
        return (((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) | (w - ones * 0x20) |
                       w) &
               highs;
}

static bool take_text(struct reader *r, struct str *out)
{
        unsigned char seen = 0;

        if (!take(r, '"'))
                return false;
        const char *begin = r->p;
        while (r->end - r->p >= 8 && !has_special(r->p))
                r->p += 8;
        for (; r->p < r->end; r->p++) {
                unsigned char c = (unsigned char)*r->p;
                if (c == '"' || c == '\\')
                        break;
                if (c < 0x20)
                        return false;
                seen |= c;
        }
        if (r->p == r->end)
                return false;
        if (*r->p == '\\')
                return take_escaped(r, begin, out) && str_utf8_valid(*out);
        *out = str_view(begin, (size_t)(r->p++ - begin));
        return seen < 0x80 || str_utf8_valid(*out);
}

/* A number of any form, as text. */
static bool take_number(struct reader *r, struct str *out)
{
        skip_blanks(r);
        const char *begin = r->p;
        while (r->p < r->end && *r->p && strchr("+-.0123456789Ee", *r->p))
                r->p++;
        *out = str_view(begin, (size_t)(r->p - begin));
        return out->len > 0;
}

static bool take_literal(struct reader *r)
{
        static const struct str literals[] = {{"true", 4}, {"false", 5}, {"null", 4}};

        for (size_t i = 0; i < 3; i++)
                if (str_starts(str_view(r->p, (size_t)(r->end - r->p)), literals[i])) {
                        r->p += literals[i].len;
                        return true;
                }
        return false;
}

/* A value that nobody knows: a later version's. */
static bool skip_value(struct reader *r)
{
        char closing[MOST_NESTED];
        unsigned depth = 0;
        struct str ignored;

        for (;;) {
                skip_blanks(r);
                char c = r->p < r->end ? *r->p : '\0';
                if (c == '{' || c == '[') {
                        if (depth == MOST_NESTED)
                                return false;
                        closing[depth++] = c == '{' ? '}' : ']';
                        r->p++;
                        if (take(r, closing[depth - 1]))
                                depth--;
                        else if (c == '[' || (take_text(r, &ignored) && take(r, ':')))
                                continue; /* its first value */
                        else
                                return false;
                } else if (c == '"' ? !take_text(r, &ignored)
                                    : !take_literal(r) && !take_number(r, &ignored)) {
                        return false;
                }
                /* A value is over: so may be what it stands in. */
                while (depth && take(r, closing[depth - 1]))
                        depth--;
                if (!depth)
                        return true;
                if (!take(r, ',') ||
                        (closing[depth - 1] == '}' && !(take_text(r, &ignored) && take(r, ':'))))
                        return false;
        }
}

/* --- values --- */

/* Ends in `[+12 bytes]`, or is `[+3 more]`: record.h writes so what does not fit. */
static bool is_cut(struct str text)
{
        return text.len > 4 && text.ptr[text.len - 1] == ']' &&
               (str_ends(text, STR(" bytes]")) || str_ends(text, STR(" more]"))) &&
               str_find_str(text, STR("[+")) >= 0;
}

static bool take_item(struct reader *r, const struct row *row, struct str *out)
{
        if (!take_text(r, out))
                return false;
        if (row->tells_cut && is_cut(*out))
                r->cut = true;
        return true;
}

/* A copy of a list that was gathered on the stack; false: the arena is full. */
static bool keep_list(struct reader *r, const struct row *row, struct audit_line *out,
        const void *items, size_t n, size_t bytes)
{
        void *kept = arena_alloc(r->arena, n * bytes + 1);

        if (!kept)
                return false;
        memcpy(kept, items, n * bytes);
        *(const void **)((char *)out + row->at) = kept;
        *(size_t *)((char *)out + row->n_at) = n;
        return true;
}

/* ["a","b"] */
static bool take_items(struct reader *r, const struct row *row, struct str *items, size_t *n)
{
        struct str text;

        *n = 0;
        if (!take(r, '['))
                return false;
        if (take(r, ']'))
                return true;
        do {
                if (!take_item(r, row, &text))
                        return false;
                if (*n < MOST_ITEMS)
                        items[(*n)++] = text;
                else
                        r->cut = true;
        } while (take(r, ','));
        return take(r, ']');
}

static bool take_texts(struct reader *r, const struct row *row, struct audit_line *out)
{
        struct str items[MOST_ITEMS];
        size_t n;

        return take_items(r, row, items, &n) && keep_list(r, row, out, items, n, sizeof(items[0]));
}

/* The same as kind:value. */
static bool take_pairs(struct reader *r, const struct row *row, struct audit_line *out)
{
        struct str items[MOST_ITEMS];
        struct pair pairs[MOST_ITEMS];
        size_t n;

        if (!take_items(r, row, items, &n))
                return false;
        for (size_t i = 0; i < n; i++)
                pairs[i].value = str_cut(items[i], ':', &pairs[i].name);
        return keep_list(r, row, out, pairs, n, sizeof(pairs[0]));
}

/* {"cause":"..."} of an event. */
static bool take_detail(struct reader *r, const struct row *row, struct audit_line *out)
{
        struct pair *made = arena_alloc(r->arena, MOST_NESTED * sizeof(*made));
        size_t n = 0;

        if (!made || !take(r, '{'))
                return false;
        if (!take(r, '}')) {
                do {
                        struct pair one;
                        if (!take_text(r, &one.name) || !take(r, ':') || !take_text(r, &one.value))
                                return false;
                        if (n < MOST_NESTED)
                                made[n++] = one;
                } while (take(r, ','));
                if (!take(r, '}'))
                        return false;
        }
        *(const struct pair **)((char *)out + row->at) = made;
        *(size_t *)((char *)out + row->n_at) = n;
        return true;
}

static bool take_u64(struct reader *r, uint64_t *out)
{
        struct str text;

        return take_number(r, &text) && str_to_u64(text, out);
}

/* Milliseconds with three places, to microseconds. */
static bool take_duration(struct reader *r, int64_t *out)
{
        struct str text, whole, places;
        uint64_t ms, rest = 0;

        if (!take_number(r, &text))
                return false;
        places = str_cut(text, '.', &whole);
        if (!str_to_u64(whole, &ms) || ms > INT64_MAX / 1000 - 1 ||
                (places.ptr && (places.len != 3 || !str_to_u64(places, &rest))))
                return false;
        *out = (int64_t)(ms * 1000 + rest);
        return true;
}

static bool take_choice(struct reader *r, const struct str *names, unsigned n, unsigned *out)
{
        struct str text;

        if (!take_text(r, &text))
                return false;
        for (*out = 0; *out < n; (*out)++)
                if (str_eq(text, names[*out]))
                        return true;
        return false;
}

static bool take_value(struct reader *r, const struct row *row, struct audit_line *out)
{
        static const struct str kinds[] = {{"intent", 6}, {"outcome", 7}, {"event", 5}};
        static const struct str effects[] = {{"", 0}, {"allow", 5}, {"deny", 4}, {"error", 5}};
        void *to = (char *)out + row->at;
        uint64_t number;
        unsigned choice;

        switch (row->type) {
        case TEXT: return take_item(r, row, to);
        case TIME: return take_text(r, &out->time) && clock_parse(out->time, &out->fields.time_ms);
        case KIND:
                if (!take_choice(r, kinds, 3, &choice))
                        return false;
                out->fields.kind = (enum audit_kind)choice;
                return true;
        case EFFECT:
                if (!take_choice(r, effects, 4, &choice))
                        return false;
                out->fields.decision.effect = (enum audit_effect)choice;
                return true;
        case COUNT: return take_u64(r, to);
        case STATUS:
        case ATTEMPTS: /* an int and an unsigned: the same bits below this bound */
                if (!take_u64(r, &number) || number > INT32_MAX)
                        return false;
                *(unsigned *)to = (unsigned)number;
                return true;
        case DURATION: return take_duration(r, to);
        case ITEMS: return take_texts(r, row, out);
        case PAIRS: return take_pairs(r, row, out);
        case DETAIL: return take_detail(r, row, out);
        case OBJECT: break;
        }
        return false; /* the caller's */
}

/* --- the table --- */

#define ROW(text, what, ...)                                                                       \
        {                                                                                          \
                .name = {text, sizeof(text) - 1}, .type = what, __VA_ARGS__                        \
        }
#define AT(member) .at = offsetof(struct audit_line, member)
#define FIELD(member) AT(fields.member)
#define LIST(member, count) FIELD(member), .n_at = offsetof(struct audit_line, fields.count)
#define ROWS(table) .rows = (table), .n_rows = sizeof(table) / sizeof((table)[0])

static const struct row caller_rows[] = {
        ROW("issuer", TEXT, FIELD(caller.issuer), .tells_cut = true),
        ROW("subject", TEXT, FIELD(caller.subject), .tells_cut = true),
        ROW("roles", ITEMS, LIST(caller.roles, caller.n_roles), .tells_cut = true),
        ROW("token_id", TEXT, FIELD(caller.token_id)),
        ROW("via", TEXT, FIELD(caller.via)),
        ROW("address", TEXT, FIELD(caller.address)),
};
static const struct row claimed_rows[] = {
        ROW("dag_id", TEXT, FIELD(claimed.dag_id), .tells_cut = true),
        ROW("run_id", TEXT, FIELD(claimed.run_id), .tells_cut = true),
        ROW("task_id", TEXT, FIELD(claimed.task_id), .tells_cut = true),
        ROW("map_index", TEXT, FIELD(claimed.map_index), .tells_cut = true),
        ROW("try_number", TEXT, FIELD(claimed.try_number), .tells_cut = true),
        ROW("user_agent", TEXT, FIELD(claimed.user_agent), .tells_cut = true),
};
static const struct row request_rows[] = {
        ROW("method", TEXT, FIELD(request.method), .tells_cut = true),
        ROW("host", TEXT, FIELD(request.host)),
        ROW("path", TEXT, FIELD(request.path), .tells_cut = true),
        ROW("query", TEXT, AT(query)),
        ROW("operation", TEXT, FIELD(request.operation)),
        ROW("access", TEXT, FIELD(request.access)),
        ROW("organization", TEXT, FIELD(request.organization), .tells_cut = true),
        ROW("project", TEXT, FIELD(request.project), .tells_cut = true),
        ROW("resources", PAIRS, LIST(request.resources, request.n_resources), .tells_cut = true),
        ROW("says", ITEMS, LIST(request.says, request.n_says), .tells_cut = true),
        ROW("bytes", COUNT, FIELD(request.bytes)),
};
static const struct row decision_rows[] = {
        ROW("effect", EFFECT, FIELD(decision.effect)),
        ROW("role", TEXT, FIELD(decision.role)),
        ROW("binding", TEXT, FIELD(decision.binding)),
        ROW("rule", TEXT, FIELD(decision.rule)),
        ROW("reason", TEXT, FIELD(decision.reason)),
        ROW("policy", TEXT, FIELD(decision.policy)),
        ROW("shadow", TEXT, FIELD(decision.shadow)),
        ROW("break_glass", TEXT, FIELD(decision.break_glass)),
};
static const struct row credential_rows[] = {
        ROW("name", TEXT, FIELD(credential.name)),
        ROW("type", TEXT, FIELD(credential.type)),
        ROW("assertion", TEXT, FIELD(credential.assertion)),
};
static const struct row upstream_rows[] = {
        ROW("host", TEXT, FIELD(upstream.host)),
        ROW("status", STATUS, FIELD(upstream.status)),
        ROW("activity_id", TEXT, FIELD(upstream.activity_id)),
        ROW("e2eid", TEXT, FIELD(upstream.e2eid)),
        ROW("attempts", ATTEMPTS, FIELD(upstream.attempts)),
        ROW("ms", DURATION, FIELD(upstream.duration_us)),
};
static const struct row response_rows[] = {
        ROW("status", STATUS, FIELD(response.status)),
        ROW("bytes", COUNT, FIELD(response.bytes)),
};
static const struct row run_rows[] = {
        ROW("id", TEXT, FIELD(run.id)),
        ROW("url", TEXT, FIELD(run.url)),
};
static const struct row event_rows[] = {
        ROW("name", TEXT, FIELD(event.name)),
        ROW("detail", DETAIL, LIST(event.detail, event.n_detail)),
};
/* In the order of record.c, so that the next member is nearly always the next row. */
static const struct row record_rows[] = {
        ROW("seq", COUNT, AT(seq)),
        ROW("time", TIME, AT(time)),
        ROW("kind", KIND, FIELD(kind)),
        ROW("request_id", TEXT, FIELD(request_id)),
        ROW("correlation_id", TEXT, FIELD(correlation_id)),
        ROW("traceparent", TEXT, FIELD(traceparent)),
        ROW("caller", OBJECT, ROWS(caller_rows)),
        ROW("claimed", OBJECT, ROWS(claimed_rows)),
        ROW("request", OBJECT, ROWS(request_rows)),
        ROW("decision", OBJECT, ROWS(decision_rows)),
        ROW("credential", OBJECT, ROWS(credential_rows)),
        ROW("upstream", OBJECT, ROWS(upstream_rows)),
        ROW("response", OBJECT, ROWS(response_rows)),
        ROW("ms", DURATION, FIELD(duration_us)),
        ROW("run", OBJECT, ROWS(run_rows)),
        ROW("event", OBJECT, ROWS(event_rows)),
        ROW("prev", TEXT, AT(prev)),
        ROW("hash", TEXT, AT(hash)),
};
static const struct row line_row = ROW("a record", OBJECT, ROWS(record_rows));

static const struct row *row_named(
        const struct row *rows, unsigned n, unsigned likely, struct str name)
{
        for (unsigned i = 0; i < n; i++) {
                const struct row *row = &rows[(likely + i) % n];
                if (str_eq(row->name, name))
                        return row;
        }
        return NULL;
}

static bool take_members(struct reader *r, const struct row *object, struct audit_line *out,
        bool (*nested)(struct reader *, const struct row *, struct audit_line *))
{
        unsigned seen = 0, likely = 0;
        struct str name;

        if (!take(r, '{'))
                return false;
        if (take(r, '}'))
                return true;
        do {
                if (!take_text(r, &name) || !take(r, ':'))
                        return false;
                const struct row *row = row_named(object->rows, object->n_rows, likely, name);
                if (!row) {
                        if (!skip_value(r))
                                return false;
                        continue;
                }
                likely = (unsigned)(row - object->rows);
                if (seen & 1u << likely++)
                        return false;
                seen |= 1u << (likely - 1);
                if (row->type == OBJECT ? !nested || !nested(r, row, out)
                                        : !take_value(r, row, out))
                        return false;
        } while (take(r, ','));
        return take(r, '}');
}

static bool take_flat(struct reader *r, const struct row *object, struct audit_line *out)
{
        return take_members(r, object, out, NULL);
}

bool audit_line_read(struct str line, struct arena *arena, struct audit_line *out)
{
        struct reader r = {line.ptr, line.ptr + line.len, arena, false};

        *out = (struct audit_line){0};
        if (!take_members(&r, &line_row, out, take_flat))
                return false;
        skip_blanks(&r);
        out->cut = r.cut;
        return r.p == r.end && out->time.len;
}
