/*
 * target: what a request asks for, in one canonical form.
 *
 * The path is cut at `/` and each segment decoded once; the query is cut at `&` and its names and
 * values decoded. Policy decides on this form and only this form is sent upstream
 * (target_write), so it does not matter how else the bytes could have been read. What could still
 * be read in two ways afterwards is refused.
 *
 * Refused with 400, raw or encoded alike: a segment that ends with a dot or a blank or begins with
 * a blank (so `.` and `..`), controls, backslash, `< > * & : ; ? #` and `%` in a segment (no second
 * decoding can find anything), bytes that RFC 3986 does not allow raw, malformed escapes, UTF-8
 * that is invalid, invisible, or that a server may fold to ASCII (full-width forms, Kelvin sign), a
 * fragment, a query name twice (ASCII case ignored), empty, blank or not ASCII. Dropped: empty
 * segments (`//` is `/`), one or more slashes at the end, empty query parts.
 */
#ifndef DAGWARD_HTTP_TARGET_H
#define DAGWARD_HTTP_TARGET_H

#include "dagward/base/arena.h"
#include "dagward/base/buf.h"
#include "dagward/http/fault.h"

enum { TARGET_MAX_SEGMENTS = 40, TARGET_MAX_QUERY = 64 };

struct target {
        struct str raw;                           /* as sent */
        struct str segments[TARGET_MAX_SEGMENTS]; /* decoded once, never empty */
        uint64_t encoded_slash; /* bit i: segments[i] holds a `/` that was sent as %2F; the
                                   catalogue says where that may be (npm's @scope%2fname) */
        size_t n_segments;
        struct pair query[TARGET_MAX_QUERY]; /* decoded; spelt and ordered as sent */
        size_t n_query;
        bool trailing_slash; /* one was there; target_write never writes one */
};

/*
 * Reads origin-form, or absolute-form (http or https) whose authority equals `host`, case ignored
 * (RFC 9112 3.2). Views point into `raw` or `arena`. False with `fault` (offset into `raw`) when
 * refused, or when the arena is full (431).
 */
bool target_parse(struct str raw, struct str host, struct arena *arena, struct target *target,
        struct h1_fault *fault) __attribute__((warn_unused_result));

/* Writes "/a/b?c=d": escapes everything that is not plainly itself. target_parse of the result
 * gives the same segments and query. `/` when there is no segment; a parameter always has `=`. */
void target_write(const struct target *target, struct buf *buf);
/* The path alone, and the query alone with its `?` (nothing when there is none). */
void target_write_path(const struct target *target, struct buf *buf);
void target_write_query(const struct target *target, struct buf *buf);

/* Escapes one decoded segment; a `/` in it becomes %2F. */
void segment_write(struct str decoded, struct buf *buf);
/* Escapes one decoded name or value of a query. */
void query_write(struct str decoded, struct buf *buf);

/* Value of the parameter `name`, ASCII case ignored; STR_NONE (ptr NULL) when there is none. */
struct str target_query(const struct target *target, struct str name);

#endif
