/*
 * started: requests that start a run, and how the run is marked and found again.
 *
 * Three operations: pipelines.runs.run, build.builds.queue and release.releases.create. A run of a
 * pipeline is a build of the same number. Knows JSON and paths; asks nobody.
 */
#ifndef DAGWARD_AZDO_STARTED_H
#define DAGWARD_AZDO_STARTED_H

#include "dagward/azdo/catalogue.h"
#include "dagward/base/arena.h"
#include "dagward/base/buf.h"

enum {
        STARTED_NAME_MOST = 128, /* of a variable or parameter */
        STARTED_PAGE = 200,      /* runs that are listed at once */
        STARTED_LIST_MOST_BYTES = 8 * 1024 * 1024,
        STARTED_ITEM_MOST_BYTES = 64 * 1024,
        STARTED_PATH_MOST_BYTES = 2048,
        STARTED_SHOWN = 5, /* runs that are named to people */
};

/* Whether the operation starts a run. `op` may be NULL. */
bool operation_starts(const struct operation *op);

/* What an answer to `op` says about the run it started; copies in `arena`. False: it names none. */
bool started_read(const struct operation *op, struct str body, struct arena *arena, struct str *id,
        struct str *url) __attribute__((warn_unused_result));

/* The number of the pipeline or definition that is started: `given` (of the path or query) if there
 * is one, else what the body says. A copy in `arena`; empty: it does not say. */
struct str started_definition(
        const struct operation *op, struct str given, struct str body, struct arena *arena);

/* Where a value can be put into a run. */
struct started_mark {
        struct str variable;  /* of the run; empty: none */
        struct str parameter; /* of its template; empty: none */
};

/* Writes `body` with the mark in it; an empty body becomes one. False with a reason: it is no JSON
 * object, or it says something else under that name. */
bool started_mark_write(const struct operation *op, struct str body,
        const struct started_mark *mark, struct str value, struct buf *out, const char **why)
        __attribute__((warn_unused_result));

/* A run that is looked for. Texts end with a NUL. */
struct started_wanted {
        const struct operation *op;
        char organization[64], project[256], definition[24];
        char id[40];                          /* in the mark, and in no other run's */
        char correlation_id[40];              /* another one in a tag: somebody else's run */
        char names[2][STARTED_NAME_MOST + 1]; /* what marks are put under; "": nothing */
        bool any_reason; /* the request itself may have said why the run is started */
        int64_t since_ms, until_ms;
};

/* The path of the list of runs that may be it, oldest first. False: it cannot be asked. */
bool started_list_path(const struct started_wanted *wanted, struct buf *out, enum service *service);
/* The path of one run in the shape that starting it is answered with. */
bool started_item_path(
        const struct started_wanted *wanted, struct str id, struct buf *out, enum service *service);
/* The path and JSON of a PATCH that tags it. False: such runs have no tags. */
bool started_tags_write(const struct started_wanted *wanted, struct str id, const struct str *tags,
        size_t n, struct buf *path, struct buf *body, enum service *service);

/* What pages of the list have said so far; all zeros at the beginning. */
struct started_seen {
        char found[24];                /* its number; "": not found */
        char shown[STARTED_SHOWN][24]; /* others that may be it */
        size_t n_maybe;                /* how many of these there are in all */
        size_t n_listed;
        bool more; /* the page was full: ask again from `newest_ms` on */
        int64_t newest_ms;
};

/* Reads one page. False with a reason: it is no such list. */
bool started_list_read(const struct started_wanted *wanted, struct str body,
        struct started_seen *seen, const char **why) __attribute__((warn_unused_result));

#endif
