/* Links in bodies: the pieces in which a body comes must not matter, and nothing may be lost. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "dagward/azdo/links.h"

static bool write_place(void *owner, const struct link_start *start, struct buf *out)
{
        (void)owner;
        if (start->authority.len % 2)
                return false;
        buf_printf(out, "x://%.*s~%.*s", STR_FMT(start->user), STR_FMT(start->service));
        return true;
}

static void rewrite(enum links_form form, struct str in, size_t size, struct buf *whole)
{
        char memory[2 * LINKS_ROOM];
        struct links links;
        struct buf out;

        links_init(&links, form, write_place, NULL);
        for (size_t at = 0; at < in.len;) {
                size_t left = in.len - at;
                buf_init_fixed(&out, memory, sizeof(memory));
                size_t taken =
                        links_feed(&links, str_view(in.ptr + at, size < left ? size : left), &out);
                assert(!out.overflow && (taken || out.len) && taken <= left);
                buf_str_add(whole, buf_str(&out));
                at += taken;
        }
        buf_init_fixed(&out, memory, LINKS_ROOM);
        links_end(&links, &out);
        assert(!out.overflow);
        buf_str_add(whole, buf_str(&out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct buf whole, pieces;

        if (size < 2)
                return 0;
        enum links_form form = data[0] % 3 + LINKS_JSON;
        struct str in = str_view((const char *)data + 2, size - 2);
        buf_init(&whole, 64 << 20);
        buf_init(&pieces, 64 << 20);
        rewrite(form, in, in.len ? in.len : 1, &whole);
        rewrite(form, in, data[1] % 67 + 1U, &pieces);
        assert(str_eq(buf_str(&whole), buf_str(&pieces)));
        buf_clear(&whole);
        buf_clear(&pieces);
        return 0;
}
