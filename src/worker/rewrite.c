#include "rewrite.h"

#include <stdlib.h>

enum { WINDOW_GZIP = 15 + 16 }; /* zlib: the largest window, gzip's header and trailer only */

void rewrite_init(
        struct rewrite *rewrite, bool gzip, enum links_form form, links_writer *write, void *owner)
{
        links_init(&rewrite->links, form, write, owner);
        rewrite->gzip = gzip;
        rewrite->finished = rewrite->damaged = rewrite->more = false;
        rewrite->start = rewrite->end = 0;
        rewrite->z = (z_stream){0};
        if (gzip && inflateInit2(&rewrite->z, WINDOW_GZIP) != Z_OK)
                abort();
}

void rewrite_clear(struct rewrite *rewrite)
{
        if (rewrite->gzip)
                inflateEnd(&rewrite->z);
        rewrite->gzip = false;
}

/* Unfolds into `middle`, which is empty: bytes taken. */
static size_t unfold(struct rewrite *rewrite, struct str in)
{
        z_stream *z = &rewrite->z;

        if (rewrite->finished && in.len) { /* the next member (RFC 1952 2.2) */
                if (inflateReset(z) != Z_OK)
                        abort();
                rewrite->finished = false;
        }
        z->next_in = (unsigned char *)in.ptr;
        z->avail_in = (uInt)in.len;
        z->next_out = (unsigned char *)rewrite->middle;
        z->avail_out = sizeof(rewrite->middle);
        int rc = rewrite->finished ? Z_STREAM_END : inflate(z, Z_NO_FLUSH);
        if (rc == Z_MEM_ERROR)
                abort();
        rewrite->finished = rc == Z_STREAM_END;
        rewrite->damaged = rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR;
        rewrite->start = 0;
        rewrite->end = sizeof(rewrite->middle) - z->avail_out;
        rewrite->more = z->avail_out == 0 && !rewrite->finished;
        return in.len - z->avail_in;
}

size_t rewrite_feed(struct rewrite *rewrite, struct str in, struct buf *out)
{
        size_t taken = 0;

        if (!rewrite->gzip)
                return links_feed(&rewrite->links, in, out);
        for (;;) {
                if (rewrite->start < rewrite->end) {
                        struct str piece = str_view(
                                rewrite->middle + rewrite->start, rewrite->end - rewrite->start);
                        rewrite->start += links_feed(&rewrite->links, piece, out);
                        if (rewrite->start < rewrite->end)
                                return taken; /* no room */
                }
                if (rewrite->damaged || (taken == in.len && !rewrite->more))
                        return taken;
                taken += unfold(rewrite, str_from(in, taken));
        }
}

bool rewrite_end(struct rewrite *rewrite, struct buf *out)
{
        links_end(&rewrite->links, out);
        return !rewrite->gzip || rewrite->finished;
}
