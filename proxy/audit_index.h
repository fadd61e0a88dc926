/*
 * audit_index: in which parts of a log an id may stand.
 *
 * A cache beside the logs, a file each: sorted pairs of a hash of an id and a block of the log. It
 * only says where to look; who asks reads the block and compares. It is as good as its directory:
 * whoever can write there can make a search miss something, and nothing else.
 */
#ifndef DAGWARD_PROXY_AUDIT_INDEX_H
#define DAGWARD_PROXY_AUDIT_INDEX_H

#include "audit_files.h"
#include "audit_points.h"
#include "dagward/audit/read.h"

enum { AUDIT_INDEX_BLOCK = 64 * 1024, AUDIT_INDEX_KEYS = 24 };

/* What a record can be found by; `kind` keeps ids of different kinds apart. */
enum audit_key_kind {
        AUDIT_KEY_ID = 'i',  /* correlation, request, activity or trace id, as a lower-case UUID */
        AUDIT_KEY_RUN = 'r', /* number of a run or build */
        AUDIT_KEY_DAG = 'd', /* DAG/RUN, as claimed */
};
uint32_t audit_key(enum audit_key_kind kind, struct str text);
/* All keys of a record; how many. */
size_t audit_keys(const struct audit_line *line, uint32_t out[AUDIT_INDEX_KEYS]);
/* The run that a record names in its resources or, of an event, in its details: the i-th; false
 * when there is none any more. */
bool audit_run_named(const struct audit_line *line, size_t *i, struct str *run);
/* The trace id of a traceparent (W3C Trace Context 3.2.2), as a UUID; false when it has none. */
bool audit_trace_id(struct str traceparent, char out[37]);

struct audit_index {
        int fd;
        uint64_t covered; /* bytes of the log, from its begin; the rest is not in the index */
        uint64_t n_segments;
        uint64_t sizes[1024];       /* entries of each segment */
        bool built;                 /* just now, or brought up to date */
        bool whole;                 /* there is no rest */
        struct audit_points points; /* of a gzip file whose index is kept; else its fd is -1 */
};

/* The index of an open log, whose descriptor is `fd`; built or brought up to date where that is
 * needed: reads the log then, one pass, in 64 MiB of memory. `directory` is one that
 * audit_index_directory named; NULL: the index is not kept. False with errno, or with why in
 * `log`. */
bool audit_index_open(struct audit_index *index, const char *directory, struct audit_file *log,
        int fd) __attribute__((warn_unused_result));
void audit_index_close(struct audit_index *index);
/* Adds to `blocks` (of room for `most`) those in which the key may stand, ascending; how many there
 * are now. */
size_t audit_index_find(
        const struct audit_index *index, uint32_t key, uint32_t *blocks, size_t n, size_t most);

/* `given`, else $XDG_CACHE_HOME/dagward, else ~/.cache/dagward; made when it is not there. False
 * when it cannot be used, with why. */
bool audit_index_directory(const char *given, char *out, size_t bytes, const char **why)
        __attribute__((warn_unused_result));

#endif
