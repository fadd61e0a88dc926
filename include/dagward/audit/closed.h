/*
 * closed: the files of a log that are written no more.
 *
 * They stand beside the log under its name with the time at which they were closed and the seq of
 * their last record, and `.gz` once they are compressed:
 *
 *     audit.jsonl.20261127T234512Z-000000123456.gz
 *
 * Files of other names, such as those that another program rotated, are not known here.
 */
#ifndef DAGWARD_AUDIT_CLOSED_H
#define DAGWARD_AUDIT_CLOSED_H

#include "dagward/audit/chain.h"
#include "dagward/base/error.h"

struct closed_file {
        char *path; /* owned */
        uint64_t last_seq;
        int64_t closed_wall_ms;
        bool gzip;
};

struct closed_list {
        struct closed_file *items; /* by last_seq */
        size_t n;
};

/* Regular files with such names; what is in them is not looked at. False when the folder cannot be
 * read. */
bool closed_list_read(const char *log, struct closed_list *out, struct error *err)
        __attribute__((warn_unused_result));
void closed_list_clear(struct closed_list *list);
/* The path for a file that is closed now; false when it is too long. */
bool closed_name(const char *log, uint64_t last_seq, int64_t wall_ms, char *out, size_t size)
        __attribute__((warn_unused_result));
/* What follows the last slash. */
const char *closed_base(const char *path);

/* The first record of a file, plain or gzip, which must be good; its bytes are put into `memory`
 * (CHAIN_LINE_MOST bytes). */
bool closed_first(struct chain *chain, const char *path, char *memory, struct chain_line *out,
        struct error *err) __attribute__((warn_unused_result));
/* The same of the last record, which may take reading all of it. */
bool closed_last(struct chain *chain, const char *path, char *memory, struct chain_line *out,
        struct error *err) __attribute__((warn_unused_result));

#endif
