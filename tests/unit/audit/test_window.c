#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "dagward/audit/window.h"

enum { MIB = 1024 * 1024 };

/* A file whose byte at N depends on N. */
struct seen {
        int fd;
        off_t bytes, zeros;
        off_t cut_to; /* as soon as something is handed on; -1: not */
        bool grow;    /* when all of it was handed on */
        bool wrong;
};

static char byte_at(off_t at)
{
        return (char)(1 + at % 251);
}

static int file_of(off_t size)
{
        char path[] = "/tmp/dagward-window-XXXXXX";
        int fd = mkstemp(path);

        assert_true(fd >= 0);
        unlink(path);
        char *bytes = malloc((size_t)size + 1);
        assert_non_null(bytes);
        for (off_t i = 0; i < size; i++)
                bytes[i] = byte_at(i);
        assert_int_equal(pwrite(fd, bytes, (size_t)size, 0), size);
        free(bytes);
        return fd;
}

static void look(void *owner, const char *bytes, size_t len)
{
        struct seen *seen = owner;

        /* First the file changes, so that what was not touched before is touched after it. */
        if (seen->cut_to >= 0)
                assert_int_equal(ftruncate(seen->fd, seen->cut_to), 0);
        for (size_t i = 0; i < len; i++) {
                seen->zeros += bytes[i] == 0;
                seen->wrong |= bytes[i] != 0 && bytes[i] != byte_at(seen->bytes + (off_t)i);
        }
        seen->bytes += (off_t)len;
        if (seen->grow && seen->bytes == lseek(seen->fd, 0, SEEK_END)) {
                char more[3] = {
                        byte_at(seen->bytes), byte_at(seen->bytes + 1), byte_at(seen->bytes + 2)};
                assert_int_equal(pwrite(seen->fd, more, sizeof(more), seen->bytes), sizeof(more));
                seen->grow = false;
        }
}

static void all_bytes_are_handed_on_in_order_whatever_the_size(void **state)
{
        static const off_t sizes[] = {0, 1, 4095, 4096, MIB - 1, MIB, MIB + 1, 3 * MIB + 4097};

        (void)state;
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                struct seen seen = {.fd = file_of(sizes[i]), .cut_to = -1};
                assert_true(window_feed(seen.fd, look, &seen));
                assert_int_equal(seen.bytes, sizes[i]);
                assert_int_equal(seen.zeros, 0);
                assert_false(seen.wrong);
                close(seen.fd);
        }
}

static void what_is_appended_meanwhile_is_handed_on_once(void **state)
{
        static const off_t sizes[] = {5, 4096, MIB - 1, MIB, MIB + 7};

        (void)state;
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                struct seen seen = {.fd = file_of(sizes[i]), .cut_to = -1, .grow = true};
                assert_true(window_feed(seen.fd, look, &seen));
                assert_int_equal(seen.bytes, sizes[i] + 3);
                assert_false(seen.wrong);
                close(seen.fd);
        }
}

static void a_file_that_is_cut_short_under_the_eyes_is_an_error_and_no_death(void **state)
{
        static const off_t cuts[] = {0, 1, 4096, 8191, MIB / 2, MIB - 1, MIB, 2 * MIB - 5};

        (void)state;
        for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
                struct seen seen = {.fd = file_of(2 * MIB), .cut_to = cuts[i]};
                errno = 0;
                assert_false(window_feed(seen.fd, look, &seen));
                assert_int_equal(errno, ESTALE);
                assert_false(seen.wrong); /* zeros, but never other bytes */
                close(seen.fd);
        }
}

static void the_next_file_is_looked_at_as_if_nothing_had_been(void **state)
{
        (void)state;
        struct seen cut = {.fd = file_of(MIB), .cut_to = 0};
        assert_false(window_feed(cut.fd, look, &cut));
        assert_true(cut.zeros > 0);
        close(cut.fd);
        struct seen seen = {.fd = file_of(MIB), .cut_to = -1};
        assert_true(window_feed(seen.fd, look, &seen));
        assert_int_equal(seen.zeros, 0);
        close(seen.fd);
}

static void what_is_no_file_or_stands_within_one_is_left_to_be_read(void **state)
{
        int pipes[2];
        struct seen seen = {.fd = file_of(100), .cut_to = -1};

        (void)state;
        assert_int_equal(pipe(pipes), 0);
        assert_false(window_feed(pipes[0], look, &seen));
        assert_int_equal(errno, EFBIG);
        assert_int_equal(lseek(seen.fd, 10, SEEK_SET), 10);
        assert_false(window_feed(seen.fd, look, &seen));
        assert_int_equal(errno, EFBIG);
        assert_int_equal(seen.bytes, 0);
        close(pipes[0]);
        close(pipes[1]);
        close(seen.fd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(all_bytes_are_handed_on_in_order_whatever_the_size),
                cmocka_unit_test(what_is_appended_meanwhile_is_handed_on_once),
                cmocka_unit_test(a_file_that_is_cut_short_under_the_eyes_is_an_error_and_no_death),
                cmocka_unit_test(the_next_file_is_looked_at_as_if_nothing_had_been),
                cmocka_unit_test(what_is_no_file_or_stands_within_one_is_left_to_be_read),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
