/* Bodies in gzip: read whole, or refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <zlib.h>

#include "dagward/http/gunzip.h"

/* `text` in one member. */
static struct str folded(struct str text, unsigned char *memory, size_t bytes)
{
        z_stream z = {.next_in = (unsigned char *)text.ptr, .avail_in = (uInt)text.len};

        assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
        z.next_out = memory;
        z.avail_out = (uInt)bytes;
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        size_t n = bytes - z.avail_out;
        deflateEnd(&z);
        return str_view((const char *)memory, n);
}

static void a_body_is_read_whole_also_in_several_members(void **state)
{
        unsigned char memory[512];
        struct str one = folded(STR("{\"a\":"), memory, 256);
        struct str two = folded(STR("1}"), memory + one.len, 256);
        struct buf out;
        struct error err = {{0}};

        (void)state;
        buf_init(&out, 1000);
        assert_true(gunzip_whole(str_view(one.ptr, one.len + two.len), &out, &err));
        assert_true(str_eq(buf_str(&out), STR("{\"a\":1}")));
        buf_clear(&out);
}

static void a_body_that_unfolds_to_too_much_is_refused_early(void **state)
{
        static char zeros[4 * 1024 * 1024];
        unsigned char memory[16 * 1024];
        struct str bomb = folded(str_view(zeros, sizeof(zeros)), memory, sizeof(memory));
        struct buf out;
        struct error err = {{0}};

        (void)state;
        assert_true(bomb.len < 8192);
        buf_init(&out, 1024 * 1024);
        assert_false(gunzip_whole(bomb, &out, &err));
        assert_true(out.overflow);
        buf_clear(&out);
}

static void damage_anywhere_is_refused(void **state)
{
        unsigned char memory[256];
        struct str good = folded(STR("{\"definition\":{\"id\":42}}"), memory, sizeof(memory));
        struct error err = {{0}};
        struct buf out;

        (void)state;
        for (size_t n = 0; n < good.len; n++) { /* cut short */
                buf_init(&out, 1000);
                assert_false(gunzip_whole(str_head(good, n), &out, &err));
                buf_clear(&out);
        }
        for (size_t i = 10; i < good.len; i++) { /* a bit of the content or the checksum */
                memory[i] ^= 1;
                buf_init(&out, 1000);
                assert_false(gunzip_whole(good, &out, &err));
                buf_clear(&out);
                memory[i] ^= 1;
        }
        memory[good.len] = 'x'; /* something behind */
        buf_init(&out, 1000);
        assert_false(gunzip_whole(str_view(good.ptr, good.len + 1), &out, &err));
        buf_clear(&out);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_body_is_read_whole_also_in_several_members),
                cmocka_unit_test(a_body_that_unfolds_to_too_much_is_refused_early),
                cmocka_unit_test(damage_anywhere_is_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
