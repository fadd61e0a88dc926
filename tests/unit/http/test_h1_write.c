#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dagward/http/h1_write.h"

static void a_request_head_is_written_and_read_back(void **state)
{
        struct arena arena;
        struct target target;
        struct h1_fault fault;
        struct buf buf;
        static struct h1_request request;
        struct h1_limits limits = {65536, 65536, 100};
        size_t scanned = 0;
        struct str want =
                STR("POST /o/My%20Project/_apis/x?a=b%20c HTTP/1.1\r\nHost: dev.azure.com\r\n"
                    "X-Empty: \r\nTransfer-Encoding: chunked\r\n\r\n");

        (void)state;
        arena_init(&arena, 4096, 65536);
        buf_init(&buf, 65536);
        assert_true(target_parse(
                STR("/o/My%20Project//_apis/x/?a=b+c"), STR(""), &arena, &target, &fault));
        h1_write_request_line(&buf, STR("POST"), &target);
        h1_write_field(&buf, STR("Host"), STR("dev.azure.com"));
        h1_write_field(&buf, STR("X-Empty"), STR(""));
        h1_write_framing(&buf, H1_CHUNKED, 0);
        h1_write_end(&buf);
        assert_false(buf.overflow);
        assert_true(str_eq(buf_str(&buf), want));
        assert_int_equal(
                h1_parse_request(buf.data, buf.len, &scanned, &limits, &request, &fault), want.len);
        assert_int_equal(request.framing, H1_CHUNKED);
        buf_reset(&buf);
        h1_write_request_line_text(&buf, STR("GET"), STR("/a?b"));
        h1_write_framing(&buf, H1_NO_BODY, 7);
        h1_write_framing(&buf, H1_UNTIL_CLOSE, 7);
        assert_true(str_eq(buf_str(&buf), STR("GET /a?b HTTP/1.1\r\n")));
        buf_clear(&buf);
        arena_clear(&arena);
}

static void a_status_line_cannot_be_split_by_its_reason(void **state)
{
        char space[256];
        struct buf buf;

        (void)state;
        buf_init_fixed(&buf, space, sizeof(space));
        h1_write_status_line(&buf, 403, STR("Forbidden (corr 1)\r\nX: y\0\x7f!"));
        h1_write_framing(&buf, H1_LENGTH, 18446744073709551615u);
        h1_write_end(&buf);
        assert_true(str_eq(buf_str(&buf), STR("HTTP/1.1 403 Forbidden (corr 1)X: y!\r\n"
                                              "Content-Length: 18446744073709551615\r\n\r\n")));
        buf_reset(&buf);
        h1_write_status_line(&buf, 404, STR_NONE);
        h1_write_status_line(&buf, 299, STR(""));
        assert_true(
                str_eq(buf_str(&buf), STR("HTTP/1.1 404 Not Found\r\nHTTP/1.1 299 Unknown\r\n")));
}

static void values_and_names_are_judged_before_they_are_written(void **state)
{
        static const struct str good[] = {STR(""), STR("a"), STR("a b\tc"), STR("\xe9\xff")};
        static const struct str bad[] = {STR(" a"), STR("a "), STR("\ta"), STR("a\t"), STR("a\r"),
                STR("a\nb"), STR("a\0"), STR("\x7f"),
                STR("01234567\x01"
                    "89"),
                STR("\x1f")};
        static const struct str names[] = {
                STR(""), STR("a b"), STR("a:"), STR("a\r\n"), STR("\xe9"), STR("a/b")};

        (void)state;
        for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
                assert_true(h1_value_ok(good[i]));
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                assert_false(h1_value_ok(bad[i]));
        for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
                assert_false(h1_token_ok(names[i]));
        assert_true(h1_token_ok(STR("X-Ok_1")));
}

static void chunk_heads_are_hex(void **state)
{
        static const struct {
                size_t size;
                const char *head;
        } cases[] = {{1, "1\r\n"}, {15, "f\r\n"}, {16, "10\r\n"}, {500, "1f4\r\n"},
                {65536, "10000\r\n"}, {SIZE_MAX, "ffffffffffffffff\r\n"}};
        char out[20];

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
                assert_true(str_eq(
                        str_view(out, h1_chunk_head(out, cases[i].size)), str_of(cases[i].head)));
}

static void a_full_buffer_says_so(void **state)
{
        char space[20];
        struct buf buf;

        (void)state;
        buf_init_fixed(&buf, space, sizeof(space));
        h1_write_field(&buf, STR("Content-Type"), STR("application/json"));
        assert_true(buf.overflow);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_request_head_is_written_and_read_back),
                cmocka_unit_test(a_status_line_cannot_be_split_by_its_reason),
                cmocka_unit_test(values_and_names_are_judged_before_they_are_written),
                cmocka_unit_test(chunk_heads_are_hex),
                cmocka_unit_test(a_full_buffer_says_so),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
