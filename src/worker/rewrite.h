/*
 * rewrite: a body that passes with its links told in terms of somebody else's URL, and without the
 * gzip it came in, in constant memory.
 *
 *      in -> [ inflate -> middle ] -> links -> out
 */
#ifndef DAGWARD_WORKER_REWRITE_H
#define DAGWARD_WORKER_REWRITE_H

#include <zlib.h>

#include "dagward/azdo/links.h"

enum { REWRITE_MIDDLE = 8 * 1024 };

struct rewrite {
        struct links links;
        bool gzip;     /* `z` is there */
        bool finished; /* a gzip member has ended, with nothing behind it so far */
        bool damaged;  /* no gzip: nothing more comes out */
        bool more;     /* the last piece filled `middle`: there may be more without input */
        z_stream z;
        char middle[REWRITE_MIDDLE];
        size_t start, end; /* of what waits in `middle` */
};

void rewrite_init(
        struct rewrite *rewrite, bool gzip, enum links_form form, links_writer *write, void *owner);
/* Gives back what inflating took. */
void rewrite_clear(struct rewrite *rewrite);
/* Takes bytes as long as `out` has room for LINKS_ROOM more: how many. */
size_t rewrite_feed(struct rewrite *rewrite, struct str in, struct buf *out);
/* Whether rewrite_feed has something to write without further input. */
static inline bool rewrite_waits(const struct rewrite *rewrite)
{
        return rewrite->start < rewrite->end || rewrite->more;
}
/* The body has ended. False: in the middle of its gzip. `out` has room for LINKS_ROOM bytes. */
bool rewrite_end(struct rewrite *rewrite, struct buf *out);

#endif
