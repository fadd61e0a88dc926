#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "judge.h"

static const char *const part_names[DOCTOR_PARTS] = {"configuration", "policy", "listener",
        "issuer", "token", "credential", "upstream", "audit", "sink", "limits"};

const char *doctor_part_name(enum doctor_part part)
{
        return part_names[part];
}

bool doctor_part_named(struct str name, enum doctor_part *part)
{
        for (int i = 0; i < DOCTOR_PARTS; i++) {
                if (str_eq(name, str_of(part_names[i]))) {
                        *part = (enum doctor_part)i;
                        return true;
                }
        }
        return false;
}

const char *doctor_level_name(enum doctor_level level)
{
        switch (level) {
        case DOCTOR_OK: return "ok";
        case DOCTOR_SKIPPED: return "skipped";
        case DOCTOR_WARNING: return "warning";
        case DOCTOR_PROBLEM: return "problem";
        }
        abort();
}

void diagnoses_init(struct diagnoses *list)
{
        *list = (struct diagnoses){.items = NULL};
}

void diagnoses_clear(struct diagnoses *list)
{
        free(list->items);
        diagnoses_init(list);
}

/* The length of the character at `i`, if it is one of UTF-8 that is seen and is no control; else 0.
 */
static size_t shown_at(struct str text, size_t i)
{
        unsigned char c = (unsigned char)text.ptr[i];
        size_t n = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;

        if (n == 1)
                return c >= 0x20 && c != 0x7F;
        return i + n <= text.len && str_utf8_valid(str_view(text.ptr + i, n)) &&
                               !str_invisible_at(text, i)
                       ? n
                       : 0;
}

/* Much of what is said comes from the other side: nothing of it may steer a terminal, of whatever
 * encoding, or turn a line around. */
static void make_harmless(char *out)
{
        struct str text = str_of(out);

        for (size_t i = 0, n; i < text.len; i += n ? n : 1) {
                n = shown_at(text, i);
                if (n == 0)
                        out[i] = (unsigned char)out[i] < 0x80 ? ' ' : '?';
        }
}

static void write_text(char *out, size_t size, const char *format, va_list args)
        __attribute__((format(printf, 3, 0)));
static void write_text(char *out, size_t size, const char *format, va_list args)
{
        vsnprintf(out, size, format, args);
        make_harmless(out);
}

/* Where the next diagnosis of that part and subject belongs. */
static struct diagnosis *insert(struct diagnoses *list, const struct about *about)
{
        size_t at = list->n;

        list->items = realloc(list->items, (list->n + 1) * sizeof(*list->items));
        if (!list->items)
                abort();
        while (at > 0 && (list->items[at - 1].part > about->part ||
                                 (list->items[at - 1].part == about->part &&
                                         list->items[at - 1].order > about->order)))
                at--;
        memmove(list->items + at + 1, list->items + at, (list->n - at) * sizeof(*list->items));
        list->n++;
        list->items[at] = (struct diagnosis){.part = about->part, .order = about->order};
        return &list->items[at];
}

struct diagnosis *diagnose(struct diagnoses *out, const struct about *about,
        enum doctor_level level, const char *name, const char *format, ...)
{
        struct diagnosis *one = insert(out, about);
        va_list args;

        one->level = level;
        out->problems += level == DOCTOR_PROBLEM;
        out->warnings += level == DOCTOR_WARNING;
        out->skipped += level == DOCTOR_SKIPPED;
        snprintf(one->subject, sizeof(one->subject), "%s", about->subject ? about->subject : "");
        make_harmless(one->subject);
        snprintf(one->name, sizeof(one->name), "%s%s%s", about->prefix, name[0] ? "-" : "", name);
        va_start(args, format);
        write_text(one->found, sizeof(one->found), format, args);
        va_end(args);
        return one;
}

void diagnosis_cause(struct diagnosis *diagnosis, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        write_text(diagnosis->cause, sizeof(diagnosis->cause), format, args);
        va_end(args);
}

void diagnosis_remedy(struct diagnosis *diagnosis, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        write_text(diagnosis->remedy, sizeof(diagnosis->remedy), format, args);
        va_end(args);
}

const char *span_text(int64_t seconds, char out[32])
{
        static const struct {
                int64_t seconds;
                const char *name;
        } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
        size_t i = 0;

        if (seconds < 0)
                seconds = -seconds;
        while (i < 3 && seconds < units[i].seconds)
                i++;
        long long n = (long long)(seconds / units[i].seconds);
        snprintf(out, 32, "%lld %s%s", n, units[i].name, n == 1 ? "" : "s");
        return out;
}

const char *day_text(int64_t seconds, char out[32])
{
        char text[CLOCK_RFC3339_LEN + 1];

        if (seconds < 0)
                seconds = 0;
        clock_rfc3339(seconds * 1000, text);
        snprintf(out, 32, "%.10s", text);
        return out;
}
