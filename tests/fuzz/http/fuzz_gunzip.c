/* A body that says it is gzip: what it unfolds to is bounded, complete or refused, and the same
 * whatever room there is; what zlib folded comes back as it was. */
#include <assert.h>
#include <stdlib.h>
#include <zlib.h>

#include "dagward/http/gunzip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROOM = 1 << 16 };

static void there_and_back(struct str bytes)
{
        z_stream z = {0};
        struct buf out;
        struct error err;

        if (deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
                abort();
        uLong most = deflateBound(&z, bytes.len);
        unsigned char *folded = malloc(most);
        if (!folded)
                abort();
        z.next_in = (unsigned char *)bytes.ptr;
        z.avail_in = (uInt)bytes.len;
        z.next_out = folded;
        z.avail_out = (uInt)most;
        assert(deflate(&z, Z_FINISH) == Z_STREAM_END);
        struct str in = str_view((char *)folded, most - z.avail_out);
        deflateEnd(&z);
        buf_init(&out, bytes.len + 1);
        assert(gunzip_whole(in, &out, &err) && str_eq(buf_str(&out), bytes));
        buf_clear(&out);
        buf_init(&out, bytes.len + 1);
        assert(!gunzip_whole(str_head(in, in.len - 1), &out, &err) && err.text[0]);
        buf_clear(&out);
        free(folded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str in = str_view((const char *)data, size);
        struct buf wide, narrow;
        struct error err = {{0}};

        buf_init(&wide, ROOM);
        bool good = gunzip_whole(in, &wide, &err);
        assert(good ? !wide.overflow && wide.len <= ROOM : err.text[0] != 0);
        if (good && wide.len) {
                buf_init(&narrow, wide.len - 1);
                assert(!gunzip_whole(in, &narrow, &err) && narrow.overflow);
                buf_clear(&narrow);
        }
        buf_clear(&wide);
        there_and_back(str_head(in, 4096));
        return 0;
}
