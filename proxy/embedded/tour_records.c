/*
 * The audit file as a reader sees it: no shortcut into the proxy, only the lines on disk.
 */
#include "tour.h"

#include <poll.h>
#include <string.h>

#include "dagward/base/clock.h"

enum { LOOK_MS = 20, LOOK_MOST_MS = 2000, SETTLED_LOOKS = 4 };

void records_clear(json_t **records, size_t n)
{
        for (size_t i = 0; i < n; i++)
                json_decref(records[i]);
}

const char *record_text(const json_t *record, const char *path)
{
        struct str rest = str_of(path), name;
        const json_t *value = record;

        while (rest.ptr && value) {
                rest = str_cut(rest, '.', &name);
                value = json_object_getn(value, name.ptr, name.len);
        }
        return json_is_string(value) ? json_string_value(value) : "";
}

json_t *records_outcome(json_t *const *records, size_t n)
{
        for (size_t i = n; i-- > 0;)
                if (strcmp(record_text(records[i], "kind"), "outcome") == 0)
                        return records[i];
        return NULL;
}

/* One look at the file. */
static size_t look(struct tour *t, const char *correlation, json_t **records, size_t *outcomes)
{
        struct buf file;
        struct str rest, line;
        size_t n = 0;

        *outcomes = 0;
        if (tour_read(t->audit_file, &file)) {
                rest = buf_str(&file);
                while (n < TOUR_RECORDS_MOST && str_find(rest, '\n') >= 0) {
                        rest = str_cut(rest, '\n', &line);
                        if (str_find_str(line, str_of(correlation)) < 0)
                                continue;
                        json_t *record = json_loadb(line.ptr, line.len, 0, NULL);
                        if (strcmp(record_text(record, "correlation_id"), correlation) != 0) {
                                json_decref(record);
                                continue;
                        }
                        *outcomes += strcmp(record_text(record, "kind"), "outcome") == 0;
                        records[n++] = record;
                }
        }
        buf_clear(&file);
        return n;
}

size_t records_find(struct tour *t, const char *correlation, size_t outcomes,
        json_t *records[TOUR_RECORDS_MOST])
{
        int64_t end = clock_mono_ms() + LOOK_MOST_MS;
        size_t n = 0, before, found, settled = 0;

        if (!correlation[0])
                return 0;
        for (;;) {
                before = n;
                n = look(t, correlation, records, &found);
                settled = n == before ? settled + 1 : 0;
                bool done = found >= outcomes && (outcomes == 1 || settled >= SETTLED_LOOKS);
                if (done || clock_mono_ms() >= end || tour_stopped())
                        return n;
                records_clear(records, n);
                poll(NULL, 0, LOOK_MS);
        }
}

size_t records_line(struct str file, const char *const *texts, size_t *offset, size_t *len)
{
        struct str rest = file, line;
        size_t number = 0;

        while (rest.ptr && rest.len) {
                rest = str_cut(rest, '\n', &line);
                number++;
                bool all = true;
                for (size_t i = 0; texts[i]; i++)
                        all = all && str_find_str(line, str_of(texts[i])) >= 0;
                if (!all)
                        continue;
                *offset = (size_t)(line.ptr - file.ptr);
                *len = line.len;
                return number;
        }
        return 0;
}
