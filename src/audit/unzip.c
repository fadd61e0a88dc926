#include "dagward/audit/unzip.h"

#include <stdint.h>
#include <stdlib.h>
#include <zlib.h>

enum { WINDOW_GZIP = 15 + 16, OUT_BYTES = 64 * 1024, GZIP_FIRST = 0x1F };

struct unzip {
        z_stream z;
        bool ready; /* z is */
        bool known; /* what kind of file it is */
        bool gzip;
        bool within; /* a member has begun and not ended */
        unsigned char out[OUT_BYTES];
};

struct unzip *unzip_new(void)
{
        struct unzip *unzip = calloc(1, sizeof(*unzip));

        if (!unzip)
                abort();
        return unzip;
}

void unzip_free(struct unzip *unzip)
{
        if (!unzip)
                return;
        if (unzip->ready)
                inflateEnd(&unzip->z);
        free(unzip);
}

void unzip_reset(struct unzip *unzip)
{
        unzip->known = unzip->gzip = unzip->within = false;
        if (unzip->ready)
                inflateReset(&unzip->z);
}

static void begin(struct unzip *unzip, char first)
{
        unzip->known = true;
        unzip->gzip = (unsigned char)first == GZIP_FIRST;
        if (unzip->gzip && !unzip->ready) {
                if (inflateInit2(&unzip->z, WINDOW_GZIP) != Z_OK)
                        abort();
                unzip->ready = true;
        }
}

static enum unzip_state inflate_piece(struct unzip *unzip, unzip_sink *sink, void *owner)
{
        z_stream *z = &unzip->z;

        do {
                z->next_out = unzip->out;
                z->avail_out = OUT_BYTES;
                unzip->within = true;
                int got = inflate(z, Z_NO_FLUSH);
                /* What came out before any damage counts, however the file was cut in pieces. */
                size_t n = OUT_BYTES - z->avail_out;
                if (n && !sink(owner, (const char *)unzip->out, n))
                        return UNZIP_STOPPED;
                if (got != Z_OK && got != Z_STREAM_END && got != Z_BUF_ERROR)
                        return UNZIP_DAMAGED;
                if (got == Z_STREAM_END) {
                        inflateReset(z);
                        unzip->within = false;
                        /* Also when what came out filled `out` just to its end. */
                        if (z->avail_in == 0)
                                break;
                } else if (got == Z_BUF_ERROR || (z->avail_in == 0 && z->avail_out)) {
                        break;
                }
        } while (z->avail_in || z->avail_out == 0);
        return UNZIP_GOOD;
}

enum unzip_state unzip_feed(
        struct unzip *unzip, const char *bytes, size_t len, unzip_sink *sink, void *owner)
{
        enum { PIECE = 1 << 20 };
        enum unzip_state state = UNZIP_GOOD;

        if (len && !unzip->known)
                begin(unzip, bytes[0]);
        if (!unzip->gzip)
                return !len || sink(owner, bytes, len) ? UNZIP_GOOD : UNZIP_STOPPED;
        while (len && state == UNZIP_GOOD) {
                size_t n = len < PIECE ? len : PIECE;
                unzip->z.next_in = (unsigned char *)(uintptr_t)bytes;
                unzip->z.avail_in = (unsigned)n;
                state = inflate_piece(unzip, sink, owner);
                bytes += n;
                len -= n;
        }
        return state;
}

bool unzip_whole(const struct unzip *unzip)
{
        return !unzip->gzip || !unzip->within;
}
