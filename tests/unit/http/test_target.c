#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dagward/http/target.h"

static struct arena arena;
static struct buf buf;
static struct target target;
static struct h1_fault fault;

static int setup(void **state)
{
        (void)state;
        arena_init(&arena, 16384, 1 << 20);
        buf_init(&buf, 1 << 20);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        arena_clear(&arena);
        buf_clear(&buf);
        return 0;
}

static bool parse(struct str raw)
{
        arena_reset(&arena);
        return target_parse(raw, STR("dagward:8443"), &arena, &target, &fault);
}

struct good_case {
        const char *raw, *written;
};

static void one_canonical_form_is_written(void **state)
{
        static const struct good_case cases[] = {{"/", "/"}, {"//", "/"}, {"/?", "/"}, {"/?&", "/"},
                {"/a", "/a"}, {"/a/", "/a"}, {"/a//", "/a"}, {"//a//b", "/a/b"},
                {"/a/b?c=d", "/a/b?c=d"},
                {"/contoso/My%20Project/_apis", "/contoso/My%20Project/_apis"},
                {"/%63ontoso/%5fapis", "/contoso/_apis"}, {"/o/%c3%a9t%C3%A9", "/o/%C3%A9t%C3%A9"},
                {"/o/%E6%97%A5%E6%9C%AC", "/o/%E6%97%A5%E6%9C%AC"},
                {"/o/_apis/wit/%24batch", "/o/_apis/wit/$batch"},
                {"/o/_apis/wit/$batch", "/o/_apis/wit/$batch"},
                {"/o/npm/@scope%2fname", "/o/npm/@scope%2Fname"},
                {"/o/%40scope%2Fname", "/o/@scope%2Fname"}, {"/o/a+b", "/o/a%2Bb"},
                {"/o/a%2bb", "/o/a%2Bb"}, {"/o/(x)'y'!,=~", "/o/(x)'y'!,=~"},
                {"/o/a%22b%7c%5e%7b", "/o/a%22b%7C%5E%7B"}, {"/o/.a", "/o/.a"},
                {"/o/a..b", "/o/a..b"}, {"/?a=b+c", "/?a=b%20c"}, {"/?a=b%20c", "/?a=b%20c"},
                {"/?a=b%2Bc", "/?a=b%2Bc"}, {"/?a", "/?a="}, {"/?a=", "/?a="},
                {"/?a=b=c==", "/?a=b%3Dc%3D%3D"}, {"/?a&b", "/?a=&b="},
                {"/?a=b&&c=d&", "/?a=b&c=d"}, {"/?$top=1&%24skip=2", "/?$top=1&$skip=2"},
                {"/?p=/../../x&u=http://a/b", "/?p=/../../x&u=http://a/b"},
                {"/?a=%26%3d%23%25%3b;", "/?a=%26%3D%23%25%3B%3B"}, {"/?a=100%25", "/?a=100%25"},
                {"/?a=%2500", "/?a=%2500"},
                {"/?a=\"<>\\^`{|}[]", "/?a=%22%3C%3E%5C%5E%60%7B%7C%7D%5B%5D"}, {"/?a=?", "/?a=?"},
                {"/?a=%E2%80%8B", "/?a=%E2%80%8B"}, {"http://dagward:8443/a?b=c", "/a?b=c"},
                {"HTTPS://DAGWARD:8443/a", "/a"}, {"http://dagward:8443//a", "/a"}};
        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                if (!parse(str_of(cases[i].raw)))
                        fail_msg("%s: %s", cases[i].raw, fault.why);
                buf_reset(&buf);
                target_write(&target, &buf);
                if (!str_eq(buf_str(&buf), str_of(cases[i].written)))
                        fail_msg("%s: %.*s", cases[i].raw, STR_FMT(buf_str(&buf)));
        }
}

static void segments_and_parameters_are_decoded_once(void **state)
{
        (void)state;
        assert_true(parse(STR("/o/My%20P//@s%2fn/x/?Api-Version=7.1&$filter=a+eq+%27b%27&flag")));
        assert_int_equal(target.n_segments, 4);
        assert_true(str_eq(target.segments[1], STR("My P")));
        assert_true(str_eq(target.segments[2], STR("@s/n")));
        assert_int_equal(target.encoded_slash, 1u << 2);
        assert_true(target.trailing_slash);
        assert_int_equal(target.n_query, 3);
        assert_true(str_eq(target_query(&target, STR("api-version")), STR("7.1")));
        assert_true(str_eq(target_query(&target, STR("$FILTER")), STR("a eq 'b'")));
        assert_true(
                target_query(&target, STR("flag")).ptr && !target_query(&target, STR("flag")).len);
        assert_null(target_query(&target, STR("none")).ptr);
        assert_true(parse(STR("/")));
        assert_true(target.n_segments == 0 && target.n_query == 0 && !target.trailing_slash);
}

static void what_two_servers_could_read_differently_is_refused(void **state)
{
        static const struct str cases[] = {STR(""), STR("*"), STR("a"), STR("?a"), STR("h:80"),
                STR("/a/.."), STR("/a/../b"), STR("/./a"), STR("/."), STR("/a/%2e%2e/b"),
                STR("/a/.%2E"), STR("/..."), STR("/a."), STR("/a%2e"), STR("/a%20"), STR("/%20a"),
                STR("/a/%20/b"), STR("/a/..%20/b"), STR("/a\\b"), STR("/a%5cb"), STR("/a%00"),
                STR("/a%0ab"), STR("/a%0d%0aX"), STR("/a%09"), STR("/a%1f"), STR("/a%7f"),
                STR("/a;x=y"), STR("/a%3bx"), STR("/a;"), STR("/a:b"), STR("/a%3ab"),
                STR("/a::$DATA"), STR("/a*b"), STR("/a%2ab"), STR("/a&b"), STR("/a%26b"),
                STR("/a<b"), STR("/a%3cb"), STR("/a%3e"), STR("/a%3fb"), STR("/a%23b"), STR("/a#b"),
                STR("/a?b#c"), STR("/a%25"), STR("/a%252e"), STR("/a%252fb"), STR("/a%"),
                STR("/a%2"), STR("/a%zz"), STR("/a%u002f"), STR("/a%2f"), STR("/%2fa"),
                STR("/a%2f%2fb"), STR("/a%2f..%2fb"), STR("/a%2f.%2fb"), STR("/a%2fb."),
                STR("/?a[]=1"), STR("/?a%5b%5D=1"), STR("/?a.b[0]=1"), STR("/?a]=1"),
                STR("/a%c0%af"), STR("/a%c0%ae"), STR("/a%e0%80%af"), STR("/a%ff"),
                STR("/a%ed%a0%80"), STR("/a%ef%bc%8fb"), STR("/%ef%bc%8e%ef%bc%8e"),
                STR("/%ef%bd%81"), STR("/a%e2%88%95b"), STR("/a%e2%81%84b"), STR("/a%c2%adb"),
                STR("/a%e2%80%8bb"), STR("/a%e2%80%aeb"), STR("/a%ef%bb%bf"), STR("/%e2%84%aa"),
                STR("/%c5%bf"), STR("/a%c2%85"), STR("/a%c2%a0"), STR("/%e1%9a%80a"),
                STR("/a%e2%80%83"), STR("/%e3%80%80a"), STR("/a%f4%8f%bf%bf"), STR("/a\"b"),
                STR("/a|b"), STR("/a^b"), STR("/a`b"), STR("/a{b}"), STR("/a[b]"), STR("/a b"),
                STR("/\xc3\xa9"), STR("/a\0"), STR("/a?b=\xc3\xa9"), STR("/a?b=\x7f"),
                STR("/a?b c"), STR("/?a=1&a=2"), STR("/?a=1&A=1"), STR("/?a=1&%41=2"), STR("/?a&a"),
                STR("/?=x"), STR("/?a+b=c"), STR("/?%20a=c"), STR("/?a%00=c"), STR("/?%c3%a9=c"),
                STR("/?a=%00"), STR("/?a=%0d%0a"), STR("/?a=%7f"), STR("/?a=%"), STR("/?a=%f"),
                STR("/?a=%xx"), STR("/?a=%ff"), STR("/?a=%c0%af"), STR("/?a=%u0041"),
                STR("http://other/a"), STR("http://dagward/a"), STR("http://dagward:8443"),
                STR("http://dagward:8443?a"), STR("http://u:p@dagward:8443/a"), STR("http:///a"),
                STR("http:/a"), STR("http:a"), STR("ftp://dagward:8443/a"),
                STR("file:///etc/passwd"), STR("http://dagward:8443/../a"),
                STR("http://dagward:8443\\/a"), STR("http://dagward:8443/a@x/../b")};
        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                if (parse(cases[i]) || fault.status != 400)
                        fail_msg("%zu %.*s", i, STR_FMT(cases[i]));
                assert_true(fault.offset <= cases[i].len);
        }
        arena_reset(&arena);
        assert_false(target_parse(STR("http:///a"), STR(""), &arena, &target, &fault));
}

static void counts_are_bounded(void **state)
{
        static char raw[1000];
        size_t n;

        (void)state;
        for (unsigned over = 0; over < 2; over++) {
                n = 0;
                for (unsigned i = 0; i < TARGET_MAX_SEGMENTS + over; i++)
                        n += (size_t)sprintf(raw + n, "/%%2ea%u", i);
                assert_int_equal(parse(str_view(raw, n)), !over);
                n = (size_t)sprintf(raw, "/?");
                for (unsigned i = 0; i < TARGET_MAX_QUERY + over; i++)
                        n += (size_t)sprintf(raw + n, "a%u=%u&", i, i);
                assert_int_equal(parse(str_view(raw, n)), !over);
        }
        struct arena small;
        arena_init(&small, 64, 64);
        memset(raw, 'a', sizeof(raw));
        memcpy(raw, "/%41", 4);
        assert_false(target_parse(str_view(raw, sizeof(raw)), STR(""), &small, &target, &fault));
        assert_int_equal(fault.status, 431);
        arena_clear(&small);
}

static uint32_t random_state = 2463534242u;

static uint32_t random_next(void)
{
        random_state ^= random_state << 13;
        random_state ^= random_state >> 17;
        random_state ^= random_state << 5;
        return random_state;
}

static void expect_same(const struct target *a, const struct target *b)
{
        assert_int_equal(a->n_segments, b->n_segments);
        assert_int_equal(a->n_query, b->n_query);
        for (size_t i = 0; i < a->n_segments; i++)
                assert_true(str_eq(a->segments[i], b->segments[i]));
        for (size_t i = 0; i < a->n_query; i++)
                assert_true(str_eq(a->query[i].name, b->query[i].name) &&
                            str_eq(a->query[i].value, b->query[i].value));
        assert_int_equal(a->encoded_slash, b->encoded_slash);
}

static void what_is_written_reads_back_as_the_same(void **state)
{
        static const char *const parts[] = {"/", "/", "/", "a", "B", "%20x", "%2f", "%2F", "$", "@",
                "+", "%2B", "%25", "?", "&", "&", "=", ".", "%2e", "%c3%a9", "%C3", "%26", "'", ",",
                "~vsrm", ";", "%3D", "_", "-", "1", "%00", "%ef%bc%8f", "%e6%97%a5", ":", "%22",
                "|", "(", "x", "y", "z"};
        static struct target again;
        char raw[512];
        unsigned accepted = 0;

        (void)state;
        for (int round = 0; round < 200000; round++) {
                size_t n = 1;
                raw[0] = '/';
                for (uint32_t left = random_next() % 12; left; left--) {
                        const char *part = parts[random_next() % (sizeof(parts) / sizeof(*parts))];
                        memcpy(raw + n, part, strlen(part));
                        n += strlen(part);
                }
                if (!parse(str_view(raw, n)))
                        continue;
                accepted++;
                buf_reset(&buf);
                target_write(&target, &buf);
                struct str written = buf_str(&buf);
                if (!target_parse(written, STR(""), &arena, &again, &fault))
                        fail_msg("%.*s: %s", STR_FMT(written), fault.why);
                expect_same(&target, &again);
                char *kept = str_dup(written);
                size_t kept_len = written.len;
                buf_reset(&buf);
                target_write(&again, &buf);
                assert_true(str_eq(buf_str(&buf), str_view(kept, kept_len)));
                free(kept);
        }
        assert_true(accepted > 10000);
}

static void every_byte_survives_a_query_and_a_segment(void **state)
{
        (void)state;
        for (int byte = 0; byte < 128; byte++) {
                char text[3] = {'x', (char)byte, 'y'};
                buf_reset(&buf);
                BUF_LITERAL(&buf, "/");
                segment_write(str_view(text, 3), &buf);
                bool ok = parse(buf_str(&buf));
                bool refused = byte < 0x20 || byte == 0x7F || (byte && strchr("<>*%&:\\?#;", byte));
                assert_int_equal(ok, !refused);
                if (ok)
                        assert_true(str_eq(target.segments[0], str_view(text, 3)));
                buf_reset(&buf);
                BUF_LITERAL(&buf, "/?a=");
                query_write(str_view(text, 3), &buf);
                ok = parse(buf_str(&buf));
                assert_int_equal(ok, byte >= 0x20 && byte != 0x7F);
                if (ok)
                        assert_true(target.n_query == 1 &&
                                    str_eq(target.query[0].value, str_view(text, 3)));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(one_canonical_form_is_written),
                cmocka_unit_test(segments_and_parameters_are_decoded_once),
                cmocka_unit_test(what_two_servers_could_read_differently_is_refused),
                cmocka_unit_test(counts_are_bounded),
                cmocka_unit_test(what_is_written_reads_back_as_the_same),
                cmocka_unit_test(every_byte_survives_a_query_and_a_segment),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
