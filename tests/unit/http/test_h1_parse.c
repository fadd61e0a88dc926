#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dagward/http/h1_parse.h"

static const struct h1_limits limits = {65536, 32768, 100};
static struct h1_request request;
static struct h1_response response;
static struct h1_fault fault;

/* Parses an exact-size heap copy, so that a sanitizer sees one byte too many. */
static ssize_t parse_bytes(struct str raw, const struct h1_limits *with)
{
        static char *copy;
        size_t scanned = 0;

        free(copy);
        copy = malloc(raw.len ? raw.len : 1);
        assert_non_null(copy);
        memcpy(copy, raw.ptr, raw.len);
        return h1_parse_request(copy, raw.len, &scanned, with, &request, &fault);
}

static void an_ordinary_request_is_taken_apart(void **state)
{
        struct str raw = STR("POST /contoso/p/_apis/pipelines/42/runs?api-version=7.1 HTTP/1.1\r\n"
                             "Host: dagward:8443\r\nUser-Agent: python-requests/2.28.1\r\n"
                             "accept: */* \t\r\nX-Empty:\r\nAccept:\ttext/plain\r\n"
                             "Connection: keep-alive\r\nContent-Length: 17\r\n\r\n"
                             "{\"resources\": {}}");
        struct str values[4];

        (void)state;
        assert_int_equal(parse_bytes(raw, &limits), raw.len - 17);
        assert_true(str_eq(request.method, STR("POST")));
        assert_true(
                str_eq(request.target, STR("/contoso/p/_apis/pipelines/42/runs?api-version=7.1")));
        assert_true(str_eq(request.host, STR("dagward:8443")));
        assert_int_equal(request.minor, 1);
        assert_int_equal(request.n_fields, 7);
        assert_int_equal(request.framing, H1_LENGTH);
        assert_int_equal(request.content_length, 17);
        assert_true(request.keep_alive);
        assert_false(request.expect_continue);
        assert_int_equal(request.head_bytes, raw.len - 17);
        assert_int_equal(request.first[H1_ACCEPT], 2);
        assert_int_equal(request.first[H1_COOKIE], -1);
        assert_true(str_eq(request.fields[2].value, STR("*/*")));
        assert_true(str_eq(request.fields[3].name, STR("X-Empty")));
        assert_non_null(request.fields[3].value.ptr);
        assert_int_equal(request.fields[3].value.len, 0);
        assert_int_equal(h1_field_values(&request, H1_ACCEPT, values, 4), 2);
        assert_true(str_eq(values[1], STR("text/plain")));
        assert_int_equal(h1_field_values(&request, H1_ACCEPT, values, 1), 2);
        assert_int_equal(h1_field_values(&request, H1_COOKIE, values, 4), 0);
        assert_true(str_eq(h1_field_value(&request, H1_USER_AGENT), STR("python-requests/2.28.1")));
        assert_null(h1_field_value(&request, H1_COOKIE).ptr);
}

#define LINE "GET / HTTP/1.1\r\n"
#define HOST "Host: h\r\n"
#define START LINE HOST
#define POST "POST / HTTP/1.1\r\n" HOST

struct good_case {
        struct str raw;
        enum h1_framing framing;
        uint64_t length;
        bool keep_alive, expect_continue;
};

static void framing_and_persistence_follow_the_fields(void **state)
{
        static const struct good_case cases[] = {
                {STR(START "\r\n"), H1_NO_BODY, 0, true, false},
                {STR("\r\n" START "\r\n"), H1_NO_BODY, 0, true, false},
                {STR("\r\n\r\n" START "\r\n"), H1_NO_BODY, 0, true, false},
                {STR(START "Connection: close\r\n\r\n"), H1_NO_BODY, 0, false, false},
                {STR(START "Connection: x, CLOSE ,\r\n\r\n"), H1_NO_BODY, 0, false, false},
                {STR(START "Connection: keep-alive\r\nConnection: close\r\n\r\n"), H1_NO_BODY, 0,
                        false, false},
                {STR(START "Proxy-Connection: x, Close\r\n\r\n"), H1_NO_BODY, 0, false, false},
                {STR("GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n"), H1_NO_BODY, 0,
                        false, false},
                {STR("GET / HTTP/1.0\r\n\r\n"), H1_NO_BODY, 0, false, false},
                {STR("GET / HTTP/1.0\r\nHost: a\r\n\r\n"), H1_NO_BODY, 0, false, false},
                {STR("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), H1_NO_BODY, 0, true,
                        false},
                {STR("GET / HTTP/1.0\r\nConnection: close, Keep-Alive\r\n\r\n"), H1_NO_BODY, 0,
                        false, false},
                {STR(POST "Content-Length: 0\r\n\r\n"), H1_LENGTH, 0, true, false},
                {STR(POST "content-length:\t12 \r\n\r\n"), H1_LENGTH, 12, true, false},
                {STR(POST "Content-Length: 9223372036854775807\r\n\r\n"), H1_LENGTH, INT64_MAX,
                        true, false},
                {STR(POST "Transfer-Encoding: chunked\r\n\r\n"), H1_CHUNKED, 0, true, false},
                {STR(POST "TRANSFER-ENCODING:\t cHuNkEd \t\r\n\r\n"), H1_CHUNKED, 0, true, false},
                {STR(POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n"), H1_LENGTH, 1, true,
                        true},
                {STR(POST "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"), H1_CHUNKED,
                        0, true, true},
                {STR(START "Expect: 100-continue\r\n\r\n"), H1_NO_BODY, 0, true, false},
                {STR(POST "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n"), H1_LENGTH, 0, true,
                        false},
                {STR("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
                        H1_LENGTH, 2, false, false},
                {STR(POST "Transfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\n"), H1_LENGTH, 3,
                        true, false},
                {STR("OPTIONS http://h/_apis HTTP/1.1\r\n" HOST "\r\n"), H1_NO_BODY, 0, true,
                        false},
                {STR(START "X: \xe9\xff \ta\tb\r\n\r\n"), H1_NO_BODY, 0, true, false},
                {STR(START "X::: a:b\r\n\r\n"), H1_NO_BODY, 0, true, false},
                {STR(START "!#$%&'*+-.^_`|~: v\r\n\r\n"), H1_NO_BODY, 0, true, false},
        };
        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                const struct good_case *c = &cases[i];
                ssize_t got = parse_bytes(c->raw, &limits);
                if (got != (ssize_t)c->raw.len)
                        fail_msg("%zd for %.*s (%s)", got, STR_FMT(c->raw), fault.why);
                assert_int_equal(request.framing, c->framing);
                assert_int_equal(request.content_length, c->length);
                assert_int_equal(request.keep_alive, c->keep_alive);
                assert_int_equal(request.expect_continue, c->expect_continue);
        }
}

struct bad_case {
        struct str raw;
        int status;
        const char *why; /* a part of the text */
};

static const struct bad_case bad_requests[] = {
        {STR(" GET / HTTP/1.1\r\n" HOST "\r\n"), 400, "method"},
        {STR("\nGET / HTTP/1.1\r\n" HOST "\r\n"), 400, "method"},
        {STR("\rGET / HTTP/1.1\r\n" HOST "\r\n"), 400, "CR"},
        {STR("\r\n\r\n\r\n" START "\r\n"), 400, "method"},
        {STR("\0GET / HTTP/1.1\r\n" HOST "\r\n"), 400, "method"},
        {STR("\x16\x03\x01\x02"), 400, "method"},
        {STR("GET\t/ HTTP/1.1\r\n" HOST "\r\n"), 400, "method"},
        {STR("GET: / HTTP/1.1\r\n" HOST "\r\n"), 400, "method"},
        {STR("get / HTTP/1.1\r\n" HOST "\r\n"), 501, "not served"},
        {STR("GETX / HTTP/1.1\r\n" HOST "\r\n"), 501, "not served"},
        {STR("TRACE / HTTP/1.1\r\n" HOST "\r\n"), 501, "not served"},
        {STR("CONNECT h:443 HTTP/1.1\r\n" HOST "\r\n"), 501, "not served"},
        {STR("PRI * HTTP/2.0\r\n\r\n"), 501, "not served"},
        {STR("ABCDEFGHIJKLMNOPQRSTU"), 501, "too long"},
        {STR("OPTIONS * HTTP/1.1\r\n" HOST "\r\n"), 400, "OPTIONS *"},
        {STR("GET  / HTTP/1.1\r\n" HOST "\r\n"), 400, "no path"},
        {STR("GET a HTTP/1.1\r\n" HOST "\r\n"), 400, "no path"},
        {STR("GET ?x HTTP/1.1\r\n" HOST "\r\n"), 400, "no path"},
        {STR("GET /a b HTTP/1.1\r\n" HOST "\r\n"), 400, "version"},
        {STR("GET /a\tb HTTP/1.1\r\n" HOST "\r\n"), 400, "target"},
        {STR("GET /\0 HTTP/1.1\r\n" HOST "\r\n"), 400, "target"},
        {STR("GET /\x7f HTTP/1.1\r\n" HOST "\r\n"), 400, "target"},
        {STR("GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n"), 400, "target"},
        {STR("GET /\r\n" HOST "\r\n"), 400, "target"},
        {STR("GET /  HTTP/1.1\r\n" HOST "\r\n"), 400, "version"},
        {STR("GET / HTTP/1.1 \r\n" HOST "\r\n"), 400, "end"},
        {STR("GET / HTTP/1.1x\r\n" HOST "\r\n"), 400, "end"},
        {STR("GET / HTTP/1.10\r\n" HOST "\r\n"), 400, "end"},
        {STR("GET / HTTP/01.1\r\n" HOST "\r\n"), 400, "version"},
        {STR("GET / http/1.1\r\n" HOST "\r\n"), 400, "version"},
        {STR("GET / HTTP/1\r\n" HOST "\r\n"), 400, "version"},
        {STR("GET / HTTP/1.2\r\n" HOST "\r\n"), 505, "HTTP/1.1"},
        {STR("GET / HTTP/2.0\r\n" HOST "\r\n"), 505, "HTTP/1.1"},
        {STR("GET / HTTP/0.9\r\n" HOST "\r\n"), 505, "HTTP/1.1"},
        {STR("GET / HTTP/1.1\n" HOST "\r\n"), 400, "bare LF"},
        {STR("GET / HTTP/1.1\rHost: h\r\n\r\n"), 400, "CR without LF"},
        {STR(LINE " X: y\r\n" HOST "\r\n"), 400, "before the first"},
        {STR(START "X: a\n\r\n"), 400, "bare LF"},
        {STR(START "X: a\r\n\n"), 400, "bare LF"},
        {STR(START "X: a\rb\r\n\r\n"), 400, "CR without LF"},
        {STR(START "X: a\r\r\n\r\n"), 400, "CR without LF"},
        {STR(START "X: a\r\n b\r\n\r\n"), 400, "folded"},
        {STR(START "X: a\r\n\tb\r\n\r\n"), 400, "folded"},
        {STR(START "\rX: a\r\n\r\n"), 400, "CR without LF"},
        {STR(START "X : a\r\n\r\n"), 400, "blank in or after"},
        {STR(START "X\t: a\r\n\r\n"), 400, "blank in or after"},
        {STR(START "X Y: a\r\n\r\n"), 400, "blank in or after"},
        {STR(START ": a\r\n\r\n"), 400, "without a name"},
        {STR(START "NoColon\r\n\r\n"), 400, "without a colon"},
        {STR(START "NoColon\n\r\n"), 400, "without a colon"},
        {STR(START "X\0Y: a\r\n\r\n"), 400, "not a token"},
        {STR(START "X\xe9: a\r\n\r\n"), 400, "not a token"},
        {STR(START "X(Y): a\r\n\r\n"), 400, "not a token"},
        {STR(START "\"X\": a\r\n\r\n"), 400, "not a token"},
        {STR(START "X: a\0b\r\n\r\n"), 400, "control"},
        {STR(START "X: a\x01\r\n\r\n"), 400, "control"},
        {STR(START "X: \x1f\r\n\r\n"), 400, "control"},
        {STR(START "X: 0123456\x7f 0123456789\r\n\r\n"), 400, "control"},
        {STR(START "X: 01234567\x0b\r\n\r\n"), 400, "control"},
        {STR(LINE "\r\n"), 400, "no Host"},
        {STR(LINE HOST HOST "\r\n"), 400, "two Host"},
        {STR(LINE HOST "HOST: other\r\n\r\n"), 400, "two Host"},
        {STR("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), 400, "two Host"},
        {STR(LINE "Host:\r\n\r\n"), 400, "Host is not"},
        {STR(LINE "Host: a b\r\n\r\n"), 400, "Host is not"},
        {STR(START "Upgrade: h2c\r\n\r\n"), 400, "HTTP/1.1 is spoken"},
        {STR(START "Connection: close;x\r\n\r\n"), 400, "Connection"},
        {STR(START "Connection: a b\r\n\r\n"), 400, "Connection"},
        {STR(POST "Expect: x\r\n\r\n"), 417, "expectation"},
        {STR(POST "Expect: y 100-continue\r\nContent-Length: 1\r\n\r\n"), 417, "expectation"},
        {STR(POST "Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n"), 400, "two Expect"},
        {STR(POST "Content-Type: a/b\r\nContent-type: a/c\r\n\r\n"), 400, "two Content-Type"},
        {STR(POST "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n\r\n"), 400,
                "two Content-Type or Content-Encoding"},
        {STR(POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\n"), 400, "two Content-Length"},
        {STR(POST "Content-Length: 3\r\ncontent-LENGTH: 0\r\n\r\n"), 400, "two Content-Length"},
        {STR(POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"), 400, "and Transfer"},
        {STR(POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"), 400, "and Transfer"},
        {STR(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), 400,
                "two Tr"},
        {STR("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400, "HTTP/1.0"},
};

/* What may not stand in the two framing fields. */
static const char *const bad_lengths[] = {"", "+3", "-3", "-0", "3, 3", "3,", ",3", "0x3", "3 3",
        "3;", "3.0", "1e1", "1_0", "\"3\"", "three", "03", "00",
        "\xa0"
        "3",
        "3\xa0", "\xd9\xa1", "3Z", "9223372036854775808", "18446744073709551616",
        "99999999999999999999999", "%33", "=3", "*"};
static const char *const bad_encodings[] = {"", "xchunked", "chunkedx", "identity", "chunked,",
        ",chunked", "chunked, chunked", "gzip, chunked", "chunked, gzip", "chunked;q=1",
        "\"chunked\"", "'chunked'", "chun ked", "chunked\xa0",
        "\xff"
        "chunked",
        "chunke", "*", "%63hunked", "chunked\xc5\xbf",
        "chun\xe2\x84\xaa"
        "ed"};

static void expect_bad(struct str raw, int status, const char *why)
{
        ssize_t got = parse_bytes(raw, &limits);

        if (got != H1_BAD || fault.status != status || !strstr(fault.why, why))
                fail_msg("%zd %d %s for %.*s", got, got == H1_BAD ? fault.status : 0,
                        got == H1_BAD ? fault.why : "", STR_FMT(raw));
        assert_true(fault.offset <= raw.len);
}

static void what_could_be_read_in_two_ways_is_refused(void **state)
{
        char raw[256];

        (void)state;
        for (size_t i = 0; i < sizeof(bad_requests) / sizeof(*bad_requests); i++)
                expect_bad(bad_requests[i].raw, bad_requests[i].status, bad_requests[i].why);
        for (size_t i = 0; i < sizeof(bad_lengths) / sizeof(*bad_lengths); i++) {
                snprintf(raw, sizeof(raw), POST "Content-Length: %s\r\n\r\n", bad_lengths[i]);
                expect_bad(str_of(raw), 400, "plain decimal");
        }
        for (size_t i = 0; i < sizeof(bad_encodings) / sizeof(*bad_encodings); i++) {
                snprintf(raw, sizeof(raw), POST "Transfer-Encoding: %s\r\n\r\n", bad_encodings[i]);
                expect_bad(str_of(raw), 400, "exactly chunked");
        }
}

static void every_byte_is_judged_in_every_place(void **state)
{
        (void)state;
        for (int byte = 0; byte < 256; byte++) {
                char raw[] = "GET /a HTTP/1.1\r\nHost: h\r\nXY: 0123456789abcdef\r\n\r\n";
                struct str all = str_view(raw, sizeof(raw) - 1);
                bool letter = (byte | 32) >= 'a' && (byte | 32) <= 'z';
                bool token = letter || (byte >= '0' && byte <= '9') ||
                             (byte && strchr("!#$%&'*+-.^_`|~", byte));
                raw[5] = (char)byte; /* in the target */
                bool ok = parse_bytes(all, &limits) > 0;
                assert_int_equal(ok, byte > 0x20 && byte < 0x7F);
                raw[5] = 'a';
                raw[27] = (char)byte; /* in a name; a colon there ends it */
                ok = parse_bytes(all, &limits) > 0;
                assert_int_equal(ok, token || byte == ':');
                raw[27] = 'Y';
                for (size_t at = 30; at < 46; at++) { /* in a value */
                        char kept = raw[at];
                        raw[at] = (char)byte;
                        ok = parse_bytes(all, &limits) > 0;
                        assert_int_equal(ok, byte == '\t' || (byte >= 0x20 && byte != 0x7F));
                        raw[at] = kept;
                }
        }
}

static void hosts_are_names_or_addresses(void **state)
{
        static const char *const good[] = {"h", "dev.azure.com", "127.0.0.1:8080", "[::1]",
                "[::1]:443", "a_b-c.d.", "h:1", "h:65535", "[::ffff:127.0.0.1]:1"};
        static const char *const bad[] = {"", ":80", "h:", "h:0", "h:65536", "h:99999999999",
                "h:abc", "h:1:2", "a b", "a,b", "h/x", "x@h", "http://h", "[h]", "[::1", "[]",
                "[1]", "::1", "[::1]x", "[::1]:", "h?x", "h#x", "h\\x", "h;x", "<h>", "\"h\"",
                "h\xff", "%68", "h:+1", "[fe80::1%25eth0]"};
        (void)state;
        for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
                if (!h1_host_ok(str_of(good[i])))
                        fail_msg("%s", good[i]);
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                if (h1_host_ok(str_of(bad[i])))
                        fail_msg("%s", bad[i]);
}

static void loopback_is_told_by_address_not_by_beginning(void **state)
{
        static const char *const ours[] = {
                "localhost", "LocalHost:80", "127.0.0.1", "127.1.2.3:8021", "[::1]", "[::1]:8021"};
        static const char *const others[] = {"", "127.", "127.0.0.1.example.com", "localhost.x",
                "127.0.0", "127.0.0.256", "128.0.0.1", "127.0.0.1x", "[::1]x", "[::2]",
                "127.0.0.1.", "0127.0.0.1", "localhos", "127.0.0.-1"};
        (void)state;
        for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++)
                if (!h1_host_is_loopback(str_of(ours[i])))
                        fail_msg("%s", ours[i]);
        for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
                if (h1_host_is_loopback(str_of(others[i])))
                        fail_msg("%s", others[i]);
}

static struct str repeat(char *out, const char *before, char c, size_t n, const char *after)
{
        size_t head = strlen(before), tail = strlen(after);

        memcpy(out, before, head);
        memset(out + head, c, n);
        memcpy(out + head + n, after, tail);
        return str_view(out, head + n + tail);
}

static void limits_are_kept_to_the_byte(void **state)
{
        static char raw[100000];
        struct h1_limits small = {200, 50, 3};

        (void)state;
        /* field line of exactly 50: name and colon take 3 */
        assert_true(parse_bytes(repeat(raw, START "X: ", 'a', 47, "\r\n\r\n"), &small) > 0);
        assert_int_equal(
                parse_bytes(repeat(raw, START "X: ", 'a', 48, "\r\n\r\n"), &small), H1_BAD);
        assert_int_equal(fault.status, 431);
        assert_int_equal(parse_bytes(repeat(raw, START, 'N', 51, ": v\r\n\r\n"), &small), H1_BAD);
        assert_int_equal(fault.status, 431);
        assert_true(parse_bytes(STR(START "A: 1\r\nB: 2\r\n\r\n"), &small) > 0);
        assert_int_equal(parse_bytes(STR(START "A: 1\r\nB: 2\r\nC: 3\r\n\r\n"), &small), H1_BAD);
        assert_int_equal(fault.status, 431);
        /* the whole head: "GET /" + n + " HTTP/1.1\r\nHost: h\r\n\r\n" is n + 27 */
        size_t rest = strlen("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        const char *after = " HTTP/1.1\r\nHost: h\r\n\r\nbody";
        assert_int_equal(parse_bytes(repeat(raw, "GET /", 'a', 200 - rest, after), &small), 200);
        assert_int_equal(parse_bytes(repeat(raw, "GET /", 'a', 201 - rest, after), &small), H1_BAD);
        assert_int_equal(fault.status, 431);
        assert_true(parse_bytes(repeat(raw, "GET /", 'a', H1_MAX_TARGET - 1, after), &limits) > 0);
        assert_int_equal(
                parse_bytes(repeat(raw, "GET /", 'a', H1_MAX_TARGET, after), &limits), H1_BAD);
        assert_int_equal(fault.status, 414);
        assert_int_equal(parse_bytes(repeat(raw, "GET /", 'a', 70000, ""), &limits), H1_BAD);
        assert_int_equal(fault.status, 414);
}

/* Feeds growing prefixes as a slow peer would. */
static ssize_t drip(struct str raw, size_t *took)
{
        size_t scanned = 0;
        ssize_t got = H1_AGAIN;

        for (*took = 0; *took <= raw.len && got == H1_AGAIN; ++*took)
                got = h1_parse_request(raw.ptr, *took, &scanned, &limits, &request, &fault);
        --*took;
        return got;
}

static void bytes_one_by_one_say_the_same_as_all_at_once(void **state)
{
        static const struct str heads[] = {
                STR("\r\nPOST /a?b=c HTTP/1.1\r\nHost: h\r\nX: 1\r\nContent-Length: 3\r\n\r\n"),
                STR(START "A: b\r\nC:\td \r\n\r\n")};
        size_t took;

        (void)state;
        for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
                assert_int_equal(drip(heads[i], &took), heads[i].len);
                assert_int_equal(took, heads[i].len);
                for (size_t cut = 0; cut < heads[i].len; cut++) {
                        size_t scanned = 0;
                        assert_int_equal(h1_parse_request(heads[i].ptr, cut, &scanned, &limits,
                                                 &request, &fault),
                                H1_AGAIN);
                        assert_int_equal(h1_parse_request(heads[i].ptr, heads[i].len, &scanned,
                                                 &limits, &request, &fault),
                                heads[i].len);
                }
        }
        for (size_t i = 0; i < sizeof(bad_requests) / sizeof(*bad_requests); i++) {
                struct str raw = bad_requests[i].raw;
                if (raw.len < 4 || memcmp(raw.ptr + raw.len - 4, "\r\n\r\n", 4) != 0)
                        continue;
                assert_int_equal(parse_bytes(raw, &limits), H1_BAD);
                struct h1_fault whole = fault;
                if (drip(raw, &took) != H1_BAD || whole.status != fault.status ||
                        whole.offset != fault.offset || whole.why != fault.why)
                        fail_msg("%.*s: %s, %s", STR_FMT(raw), whole.why, fault.why);
        }
}

static void connection_names_what_goes_no_further(void **state)
{
        struct str raw = STR(START "Connection: keep-alive, X-One\r\nConnection: ,x-two ,\r\n\r\n");

        (void)state;
        assert_true(parse_bytes(raw, &limits) > 0);
        assert_true(h1_connection_names(&request, STR("x-one")));
        assert_true(h1_connection_names(&request, STR("X-TWO")));
        assert_false(h1_connection_names(&request, STR("X-Three")));
        assert_false(h1_connection_names(&request, STR("X-On")));
        assert_true(parse_bytes(STR(START "\r\n"), &limits) > 0);
        assert_false(h1_connection_names(&request, STR("x-one")));
}

static ssize_t parse_answer(struct str raw, struct str method)
{
        size_t scanned = 0;

        return h1_parse_response(raw.ptr, raw.len, &scanned, &limits, method, &response, &fault);
}

struct answer_case {
        struct str raw;
        const char *method;
        int status;
        const char *reason;
        enum h1_framing framing;
        uint64_t length;
        bool keep_alive;
};

static void answers_are_framed_by_request_status_and_fields(void **state)
{
#define OK "HTTP/1.1 200 OK\r\n"
        static const struct answer_case cases[] = {
                {STR(OK "Content-Length: 5\r\n\r\n"), "GET", 200, "OK", H1_LENGTH, 5, true},
                {STR(OK "Content-Length: 0\r\n\r\n"), "GET", 200, "OK", H1_LENGTH, 0, true},
                {STR(OK "Transfer-Encoding: chunked\r\n\r\n"), "GET", 200, "OK", H1_CHUNKED, 0,
                        true},
                {STR(OK "\r\n"), "GET", 200, "OK", H1_UNTIL_CLOSE, 0, false},
                {STR(OK "Connection: close\r\nContent-Length: 5\r\n\r\n"), "GET", 200, "OK",
                        H1_LENGTH, 5, false},
                {STR(OK "Content-Length: 5\r\n\r\n"), "HEAD", 200, "OK", H1_NO_BODY, 5, true},
                {STR(OK "Transfer-Encoding: chunked\r\n\r\n"), "HEAD", 200, "OK", H1_NO_BODY, 0,
                        true},
                {STR(OK "\r\n"), "HEAD", 200, "OK", H1_NO_BODY, 0, true},
                {STR("HTTP/1.1 204 No Content\r\n\r\n"), "PUT", 204, "No Content", H1_NO_BODY, 0,
                        true},
                {STR("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"), "PUT", 204,
                        "No Content", H1_NO_BODY, 0, true},
                {STR("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"), "GET", 304,
                        "Not Modified", H1_NO_BODY, 9, true},
                {STR("HTTP/1.1 100 Continue\r\n\r\n"), "POST", 100, "Continue", H1_NO_BODY, 0,
                        true},
                {STR("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), "GET", 103, "Early Hints",
                        H1_NO_BODY, 0, true},
                {STR("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"), "GET", 200, "OK", H1_LENGTH,
                        5, false},
                {STR("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n"),
                        "GET", 200, "OK", H1_LENGTH, 5, true},
                {STR("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"), "GET", 200, "OK",
                        H1_UNTIL_CLOSE, 0, false},
                {STR("HTTP/1.1 299 \r\nContent-Length: 1\r\n\r\n"), "GET", 299, "", H1_LENGTH, 1,
                        true},
                {STR("HTTP/1.1 401\r\nContent-Length: 1\r\n\r\n"), "GET", 401, "", H1_LENGTH, 1,
                        true},
                {STR("HTTP/1.1 403 Forbidden (corr 018f) \xe9\t!\r\nUpgrade: h2\r\nContent-Length: "
                     "1\r\n\r\n"),
                        "GET", 403, "Forbidden (corr 018f) \xe9\t!", H1_LENGTH, 1, true},
        };
        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                const struct answer_case *c = &cases[i];
                if (parse_answer(c->raw, str_of(c->method)) != (ssize_t)c->raw.len)
                        fail_msg("%.*s: %s", STR_FMT(c->raw), fault.why);
                assert_int_equal(response.status, c->status);
                assert_true(str_eq(response.reason, str_of(c->reason)));
                assert_int_equal(response.framing, c->framing);
                assert_int_equal(response.content_length, c->length);
                assert_int_equal(response.keep_alive, c->keep_alive);
        }
        assert_true(parse_answer(cases[0].raw, STR("GET")) > 0 && response.has_length);
        assert_true(str_eq(h1_response_value(&response, H1_CONTENT_LENGTH), STR("5")));
        assert_false(h1_response_connection_names(&response, STR("x")));
}

static void answers_are_read_as_strictly_as_requests(void **state)
{
        static const struct bad_case cases[] = {
                {STR("HTTP/1.1 101 Switching Protocols\r\n\r\n"), 502, "101"},
                {STR("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n"), 502, "announced"},
                {STR("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"), 502,
                        "announced"},
                {STR("HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\n"), 502, "announced"},
                {STR(OK "Content-Length: 3\r\nContent-Length: 3\r\n\r\n"), 502, "two"},
                {STR(OK "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"), 502, "and"},
                {STR(OK "Transfer-Encoding: gzip, chunked\r\n\r\n"), 502, "exactly"},
                {STR(OK "Transfer-Encoding: identity\r\n\r\n"), 502, "exactly"},
                {STR("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), 502, "HTTP/1.0"},
                {STR("HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\n"), 502, "LF"},
                {STR(OK "X: a\r\n b\r\n\r\n"), 502, "folded"},
                {STR(OK "X : a\r\n\r\n"), 502, "blank"},
                {STR(OK "X: a\0\r\n\r\n"), 502, "control"},
                {STR("HTTP/2.0 200 OK\r\n\r\n"), 502, "HTTP/1.1"},
                {STR("HTTP/1.1 20 OK\r\n\r\n"), 502, "status line"},
                {STR("HTTP/1.1  200 OK\r\n\r\n"), 502, "status line"},
                {STR("HTTP/1.1 2000 OK\r\n\r\n"), 502, "line does not end"},
                {STR("HTTP/1.1 600 OK\r\n\r\n"), 502, "means nothing"},
                {STR("HTTP/1.1 099 OK\r\n\r\n"), 502, "means nothing"},
                {STR("HTTP/1.1 200 a\0b\r\n\r\n"), 502, "line does not end"},
                {STR("ICY 200 OK\r\n\r\n"), 502, "version"},
                {STR("\r\n" OK "\r\n"), 502, "version"},
        };
        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                ssize_t got = parse_answer(cases[i].raw, STR("GET"));
                if (got != H1_BAD || fault.status != 502 || !strstr(fault.why, cases[i].why))
                        fail_msg("%zd %s for %.*s", got, fault.why, STR_FMT(cases[i].raw));
        }
        assert_int_equal(parse_answer(STR("HTTP/1.1 200"), STR("GET")), H1_AGAIN);
        assert_int_equal(parse_answer(STR("HTTP/1.1 200 O"), STR("GET")), H1_AGAIN);
        assert_int_equal(parse_answer(STR(OK), STR("GET")), H1_AGAIN);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_ordinary_request_is_taken_apart),
                cmocka_unit_test(framing_and_persistence_follow_the_fields),
                cmocka_unit_test(what_could_be_read_in_two_ways_is_refused),
                cmocka_unit_test(every_byte_is_judged_in_every_place),
                cmocka_unit_test(hosts_are_names_or_addresses),
                cmocka_unit_test(loopback_is_told_by_address_not_by_beginning),
                cmocka_unit_test(limits_are_kept_to_the_byte),
                cmocka_unit_test(bytes_one_by_one_say_the_same_as_all_at_once),
                cmocka_unit_test(connection_names_what_goes_no_further),
                cmocka_unit_test(answers_are_framed_by_request_status_and_fields),
                cmocka_unit_test(answers_are_read_as_strictly_as_requests),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
