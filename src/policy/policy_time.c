/*
 * Windows of time: `where: {time: ["Mon-Fri 06:00-20:00 +01:00"]}`.
 *
 * What a window is in UTC never changes: no names of zones, whose rules differ from machine to
 * machine and change by decree, and no hour that a clock shows twice.
 */
#include "dagward/base/clock.h"
#include "policy_internal.h"

enum { DAY_MINUTES = 24 * 60, WEEK_MINUTES = 7 * DAY_MINUTES, MINUTE_MS = 60 * 1000 };

/* A week of 2024 whose Monday was the first of January, for examples. */
static const int64_t WEEK_BEGINS_MS = INT64_C(1704067200000);

static const char day_names[7][4] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};

static int64_t floor_div(int64_t a, int64_t b)
{
        return a / b - (a % b < 0);
}

/* 0 is Monday. */
static int weekday(int64_t day)
{
        return (int)(day + 3 - floor_div(day + 3, 7) * 7); /* 1970 began on a Thursday */
}

/* --- reading --- */

/* Takes "Fri" off the front. */
static bool take_day(struct str *text, int *day)
{
        for (*day = 0; *day < 7; ++*day) {
                if (!str_starts(*text, str_of(day_names[*day])))
                        continue;
                *text = str_from(*text, 3);
                return true;
        }
        return false;
}

/* Takes "06:30" off the front. */
static bool take_clock(struct str *text, int *minutes, int most_hours)
{
        const char *p = text->ptr;

        if (text->len < 5 || p[2] != ':')
                return false;
        for (int i = 0; i < 5; i++)
                if (i != 2 && (p[i] < '0' || p[i] > '9'))
                        return false;
        int hours = (p[0] - '0') * 10 + p[1] - '0', rest = (p[3] - '0') * 10 + p[4] - '0';
        *minutes = hours * 60 + rest;
        *text = str_from(*text, 5);
        return rest < 60 && *minutes <= most_hours * 60;
}

static bool take_char(struct str *text, char c)
{
        if (!text->len || text->ptr[0] != c)
                return false;
        *text = str_from(*text, 1);
        return true;
}

static bool take_days(struct str *text, struct window *out)
{
        out->first = 0;
        out->last = 6;
        if (!text->len || (text->ptr[0] >= '0' && text->ptr[0] <= '9'))
                return true;
        if (!take_day(text, &out->first))
                return false;
        out->last = out->first;
        if (take_char(text, '-') && !take_day(text, &out->last))
                return false;
        return take_char(text, ' ');
}

/* NULL, or what is wrong with it. */
static const char *window_parse(struct str text, struct window *out)
{
        static const char shape[] =
                "no window of time: [days] HH:MM-HH:MM [offset from UTC], as `22:00-06:00`, "
                "`Mon-Fri 06:00-20:00` or `Sat 08:00-24:00 +01:00`";

        *out = (struct window){0};
        if (!take_days(&text, out) || !take_clock(&text, &out->begin, 24) ||
                !take_char(&text, '-') || !take_clock(&text, &out->end, 24) ||
                out->begin == DAY_MINUTES)
                return shape;
        if (out->begin == out->end)
                return "it begins when it ends; a whole day is 00:00-24:00";
        if (!text.len)
                return NULL;
        (void)take_char(&text, ' ');
        bool west = text.len && text.ptr[0] == '-';
        if (text.len && text.ptr[0] != '+' && text.ptr[0] != '-' &&
                !(text.ptr[0] >= '0' && text.ptr[0] <= '9'))
                return "zones are not known by name, and their clocks change: write an offset from "
                       "UTC, as `Mon-Fri 06:00-20:00 +01:00`";
        if (!text.len || (!west && text.ptr[0] != '+'))
                return shape;
        text = str_from(text, 1);
        if (!take_clock(&text, &out->offset, 14) || text.len)
                return shape;
        if (west)
                out->offset = -out->offset;
        return NULL;
}

bool time_read(struct loader *loader, const struct yaml_node *node, struct entry *entry)
{
        struct names names;
        struct mark *marks;
        bool good = true;

        if (!names_read(loader, node, "time", &names, &marks))
                return false;
        entry->windows = keep(loader, names.n * sizeof(*entry->windows));
        entry->windows_shown = names.shown;
        for (size_t i = 0; i < names.n; i++) {
                const char *wrong = window_parse(names.items[i], &entry->windows[i]);
                if (!wrong)
                        continue;
                error_list_add(loader->errors, marks[i], "`%s` in `time`: %s",
                        yaml_shown(names.items[i]), wrong);
                good = false;
        }
        entry->n_windows = names.n;
        return good;
}

/* --- deciding --- */

static bool has_day(const struct window *window, int day)
{
        return window->first <= window->last ? day >= window->first && day <= window->last
                                             : day >= window->first || day <= window->last;
}

bool windows_hold(const struct entry *entry, int64_t now_ms)
{
        for (size_t i = 0; i < entry->n_windows; i++) {
                const struct window *window = &entry->windows[i];
                int64_t local = floor_div(now_ms, MINUTE_MS) + window->offset;
                int64_t days = floor_div(local, DAY_MINUTES);
                int minute = (int)(local - days * DAY_MINUTES), day = weekday(days);
                bool wraps = window->end <= window->begin;

                if (has_day(window, day) && minute >= window->begin &&
                        (wraps || minute < window->end))
                        return true;
                /* The morning after a night that belongs to the day before. */
                if (wraps && minute < window->end && has_day(window, (day + 6) % 7))
                        return true;
        }
        return false;
}

/* --- for analysis and people --- */

static void mark_minute(bool minutes[WEEK_MINUTES], int minute)
{
        minutes[((minute % WEEK_MINUTES) + WEEK_MINUTES) % WEEK_MINUTES] = true;
}

/* The minutes of the week, in UTC, at which the window begins or ends. */
static void mark_ends(bool minutes[WEEK_MINUTES], const struct window *window)
{
        bool wraps = window->end <= window->begin;

        for (int day = 0; day < 7; day++) {
                int start = day * DAY_MINUTES - window->offset;
                if (!has_day(window, day))
                        continue;
                mark_minute(minutes, start + window->begin);
                mark_minute(minutes, start + window->end + (wraps ? DAY_MINUTES : 0));
        }
}

static bool hold_alike(const struct entry *const *entries, size_t n, int64_t a, int64_t b)
{
        for (size_t i = 0; i < n; i++)
                if (windows_hold(entries[i], a) != windows_hold(entries[i], b))
                        return false;
        return true;
}

int64_t *windows_moments(const struct entry *const *entries, size_t n, size_t *n_moments)
{
        bool minutes[WEEK_MINUTES] = {false};
        int64_t *moments = NULL;
        size_t found = 0, cap = 0;

        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < entries[i]->n_windows; k++)
                        mark_ends(minutes, &entries[i]->windows[k]);
        /* What they say changes only where one of them begins or ends. */
        for (int minute = 0; minute < WEEK_MINUTES; minute++) {
                int64_t at_ms = WEEK_BEGINS_MS + (int64_t)minute * MINUTE_MS;
                bool again = !minutes[minute];
                for (size_t i = 0; i < found && !again; i++)
                        again = hold_alike(entries, n, moments[i], at_ms);
                if (again)
                        continue;
                moments = grow(moments, found, &cap, sizeof(*moments));
                moments[found++] = at_ms;
        }
        *n_moments = found;
        return moments;
}

void time_write(int64_t ms, struct line *line)
{
        char text[CLOCK_RFC3339_LEN + 1];

        clock_rfc3339(ms < 0 ? 0 : ms, text);
        line_add(line, str_of(day_names[weekday(floor_div(ms, DAY_MINUTES * MINUTE_MS))]));
        line_add(line, STR(" "));
        line_add(line, str_of(text));
}
