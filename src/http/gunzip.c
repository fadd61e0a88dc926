#include "dagward/http/gunzip.h"

#include <stdlib.h>
#include <zlib.h>

enum { WINDOW_GZIP = 15 + 16 }; /* zlib: the largest window, gzip's header and trailer only */

/* One member; moves `z` behind it. */
static bool unfold_member(z_stream *z, struct buf *out, struct error *err)
{
        unsigned char piece[16 * 1024];

        for (;;) {
                z->next_out = piece;
                z->avail_out = sizeof(piece);
                int rc = inflate(z, Z_NO_FLUSH);
                if (rc == Z_MEM_ERROR)
                        abort();
                if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
                        return error_set(err, "the body is not the gzip it says it is");
                size_t n = sizeof(piece) - z->avail_out;
                buf_str_add(out, str_view((const char *)piece, n));
                if (out->overflow)
                        return error_set(err, "the body unfolds to more than is inspected");
                if (rc == Z_STREAM_END)
                        return true;
                if (n == 0 && z->avail_in == 0)
                        return error_set(err, "the gzip body is cut short");
        }
}

bool gunzip_whole(struct str in, struct buf *out, struct error *err)
{
        z_stream z = {.next_in = (unsigned char *)in.ptr, .avail_in = (uInt)in.len};
        bool ok = true;

        if (in.len == 0 || in.len > UINT32_MAX / 2)
                return error_set(err, "the body is not the gzip it says it is");
        if (inflateInit2(&z, WINDOW_GZIP) != Z_OK)
                abort();
        while (ok && z.avail_in)
                ok = unfold_member(&z, out, err) && inflateReset(&z) == Z_OK;
        inflateEnd(&z);
        return ok;
}
