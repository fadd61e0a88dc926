/* A log file, plain or gzip, whole and in pieces: the same bytes come out, and the same is said. */
#include <assert.h>

#include "dagward/audit/unzip.h"
#include "dagward/base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT_MOST = 1 << 20 };

static bool take(void *owner, const char *bytes, size_t len)
{
        struct buf *out = owner;

        if (out->len + len > OUT_MOST)
                return false;
        buf_str_add(out, str_view(bytes, len));
        return true;
}

static enum unzip_state read_all(
        struct unzip *unzip, struct str bytes, size_t piece, struct buf *out, bool *whole)
{
        enum unzip_state state = UNZIP_GOOD;

        unzip_reset(unzip);
        for (; bytes.len && state == UNZIP_GOOD; bytes = str_from(bytes, piece))
                state = unzip_feed(
                        unzip, bytes.ptr, bytes.len < piece ? bytes.len : piece, take, out);
        *whole = state == UNZIP_GOOD && unzip_whole(unzip);
        return state;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str bytes = str_view((const char *)data, size);
        struct unzip *unzip = unzip_new();
        struct buf whole, pieces;
        bool whole_ends, pieces_end;

        buf_init(&whole, OUT_MOST + 1);
        buf_init(&pieces, OUT_MOST + 1);
        enum unzip_state one = read_all(unzip, bytes, size + 1, &whole, &whole_ends);
        enum unzip_state other =
                read_all(unzip, bytes, size ? data[0] % 7 + 1U : 1, &pieces, &pieces_end);
        /* Where the sink stopped is a matter of how much it was handed at once. */
        if (one != UNZIP_STOPPED && other != UNZIP_STOPPED) {
                assert(one == other && whole_ends == pieces_end);
                /* What comes out before damage is met depends on the pieces; one begins the other.
                 */
                struct str a = buf_str(&whole), b = buf_str(&pieces);
                assert(one == UNZIP_GOOD ? str_eq(a, b) : str_starts(a, b) || str_starts(b, a));
        }
        if (size && data[0] != 0x1f && size <= OUT_MOST)
                assert(one == UNZIP_GOOD && str_eq(buf_str(&whole), bytes));
        buf_clear(&whole);
        buf_clear(&pieces);
        unzip_free(unzip);
        return 0;
}
