/*
 * audit_tally: how often things of a kind were met, in bounded memory.
 */
#ifndef DAGWARD_PROXY_AUDIT_TALLY_H
#define DAGWARD_PROXY_AUDIT_TALLY_H

#include "dagward/audit/record.h"

enum { TALLY_PARTS = 4 };

struct tally_row {
        struct str parts[TALLY_PARTS]; /* its name; of this table's memory */
        uint64_t n, allowed, denied, failed;
        uint64_t extra, sum_us; /* what the table's user counts */
        int64_t first_ms, last_ms;
};

struct tally {
        struct tally_row *rows;
        uint32_t *slots; /* row + 1; 0: empty */
        size_t n, n_slots, most;
        uint64_t left_out; /* met, but there was no room for another row */
};

/* Room for `most` rows. */
void tally_init(struct tally *tally, size_t most);
void tally_clear(struct tally *tally);
/* The row of that name, counted once more at that time; NULL: there is no room. */
struct tally_row *tally_count(
        struct tally *tally, const struct str *parts, size_t n, int64_t time_ms);
/* The same, and by what was decided. */
struct tally_row *tally_effect(struct tally *tally, const struct str *parts, size_t n,
        int64_t time_ms, enum audit_effect effect);
/* The most frequent first; the earliest first. Nothing can be counted behind that. */
void tally_sort(struct tally *tally);
void tally_sort_time(struct tally *tally);

#endif
