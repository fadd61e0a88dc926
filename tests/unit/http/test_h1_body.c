#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dagward/http/h1_body.h"
#include "dagward/http/h1_write.h"

/* What a body came to after its bytes were fed `step` at a time. */
struct outcome {
        char payload[4096];
        size_t payload_len;
        size_t used;
        bool done, bad;
        struct h1_fault fault;
};

static void read_body(struct str raw, enum h1_framing framing, uint64_t length, size_t step,
        struct outcome *outcome)
{
        struct h1_body body;

        memset(outcome, 0, sizeof(*outcome));
        h1_body_init(&body, framing, length);
        while (outcome->used < raw.len && !body.done) {
                size_t left = raw.len - outcome->used;
                size_t len = left < step ? left : step;
                char *copy = malloc(len);
                struct str payload;
                assert_non_null(copy);
                memcpy(copy, raw.ptr + outcome->used, len);
                ssize_t got = h1_body_next(&body, copy, len, &payload, &outcome->fault);
                if (got == H1_BAD) {
                        struct h1_fault again;
                        assert_int_equal(h1_body_next(&body, copy, len, &payload, &again), H1_BAD);
                        assert_ptr_equal(again.why, outcome->fault.why);
                        free(copy);
                        outcome->bad = true;
                        return;
                }
                assert_true(got > 0 && (size_t)got <= len);
                assert_true(outcome->payload_len + payload.len <= sizeof(outcome->payload));
                memcpy(outcome->payload + outcome->payload_len, payload.ptr, payload.len);
                outcome->payload_len += payload.len;
                outcome->used += (size_t)got;
                free(copy);
        }
        assert_int_equal(body.payload_bytes, outcome->payload_len);
        assert_int_equal(body.wire_bytes, outcome->used);
        outcome->done = body.done;
}

struct good_case {
        struct str raw;
        const char *payload;
        size_t rest; /* bytes that are not the body's */
};

static const struct good_case good[] = {
        {STR("0\r\n\r\n"), "", 0},
        {STR("0\r\n\r\nGET / HTTP/1.1\r\n"), "", 16},
        {STR("5\r\nhello\r\n0\r\n\r\n"), "hello", 0},
        {STR("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nx"), "hello world", 1},
        {STR("A\r\n0123456789\r\n0\r\n\r\n"), "0123456789", 0},
        {STR("000a\r\n0123456789\r\n000\r\n\r\n"), "0123456789", 0},
        {STR("0000000000000001\r\na\r\n0\r\n\r\n"), "a", 0},
        {STR("4\r\n\r\n\r\n\r\n0\r\n\r\n"), "\r\n\r\n", 0},
        {STR("1;a;b=c;d=\"\\\"\xff\";e\r\nx\r\n0\r\n\r\n"), "x", 0},
        {STR("1;a=b\r\nx\r\n0;c\r\n\r\n"), "x", 0},
        {STR("1;a=\"b;c \\\" d\"\r\nx\r\n0\r\n\r\n"), "x", 0},
        {STR("1\r\nx\r\n0\r\nX-Note: t\r\nX-A-Trailer-With-A-Very-Long-Name: 5\r\n\r\n"), "x", 0},
        {STR("1\r\nx\r\n0\r\nA:\r\nB:\tc\xff\r\n\r\nrest"), "x", 4},
};

static void chunks_are_joined_however_they_are_cut(void **state)
{
        struct outcome outcome;

        (void)state;
        for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
                for (size_t step = 1; step <= good[i].raw.len; step++) {
                        read_body(good[i].raw, H1_CHUNKED, 0, step, &outcome);
                        if (outcome.bad || !outcome.done)
                                fail_msg("%.*s: %s", STR_FMT(good[i].raw), outcome.fault.why);
                        assert_true(str_eq(str_view(outcome.payload, outcome.payload_len),
                                str_of(good[i].payload)));
                        assert_int_equal(outcome.used, good[i].raw.len - good[i].rest);
                }
}

static void a_body_cut_short_is_not_done(void **state)
{
        struct outcome outcome;

        (void)state;
        for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
                for (size_t len = 0; len < good[i].raw.len - good[i].rest; len++) {
                        read_body(str_head(good[i].raw, len), H1_CHUNKED, 0, 7, &outcome);
                        assert_false(outcome.bad);
                        assert_false(outcome.done);
                }
}

static const struct str bad[] = {STR("\r\n"), STR(" 1\r\n"), STR("\t1\r\n"), STR("+1\r\n"),
        STR("-1\r\n"), STR("-0\r\n"), STR("0x1\r\n"), STR("g\r\n"), STR(";a\r\n"), STR("1 \r\n"),
        STR("1\t\r\n"), STR("1 ;a\r\n"), STR("1,1\r\n"), STR("1.0\r\n"), STR("1_0\r\n"),
        STR("1h\r\n"), STR("1\0\r\n"), STR("1\x0b\r\n"), STR("1\xa0\r\n"), STR("\"1\"\r\n"),
        STR("1\n"), STR("1\rx"), STR("1\r\r\n"), STR("1;a\rb"), STR("1;a\nb"), STR("1;a\0"),
        STR("1;a=\"\r\n"), STR("1;a=\"\\\r\n"), STR("00000000000000001"),
        STR("8000000000000000\r\n"), STR("ffffffffffffffff\r\n"), STR("10000000000000000\r\n"),
        STR("1\r\nx\n0\r\n\r\n"), STR("1\r\nx\r0\r\n\r\n"), STR("1\r\nx0\r\n\r\n"),
        STR("1\r\nxXX0\r\n\r\n"), STR("1\r\nxmore\r\n0\r\n\r\n"), STR("1\r\nx\r\n\r\n0\r\n\r\n"),
        STR("0\n\r\n"), STR("0\r\n\n"), STR("0\r\n\rX"), STR("0\r\nX\r\n\r\n"),
        STR("0\r\nXXGET /x HTTP/1.1\r\n"), STR("0\r\nX : a\r\n\r\n"), STR("0\r\n: a\r\n\r\n"),
        STR("0\r\nX: a\r\n b\r\n\r\n"), STR("0\r\nX: a\0\r\n\r\n"), STR("0\r\nX: a\nY: b\r\n\r\n"),
        STR("0\r\nX: a\rY: b\r\n\r\n"), STR("0\r\n\xff: a\r\n\r\n"), STR("0x0\r\n"), STR("1;\r\n"),
        STR("1;;a\r\n"), STR("1;a=\r\n"), STR("1;a b\r\n"), STR("1; a\r\n"), STR("1;=a\r\n"),
        STR("1;a=b=c\r\n"), STR("1;a=\"b\"c\r\n"), STR("1;\"a\"\r\n"), STR("1;a=\xff\r\n"),
        STR("0\r\nContent-Length: 0\r\n\r\n"), STR("0\r\ntransfer-encoding: chunked\r\n\r\n"),
        STR("0\r\nA: b\r\nHOST: h\r\n\r\n"), STR("1\r\nx\r\n-0\r\n")};

static void broken_chunks_are_refused_at_the_same_byte_however_cut(void **state)
{
        struct outcome whole, cut;

        (void)state;
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
                read_body(bad[i], H1_CHUNKED, 0, bad[i].len, &whole);
                if (!whole.bad)
                        fail_msg("%.*s", STR_FMT(bad[i]));
                assert_int_equal(whole.fault.status, 400);
                assert_true(whole.fault.offset < bad[i].len);
                read_body(bad[i], H1_CHUNKED, 0, 1, &cut);
                assert_true(cut.bad);
                assert_int_equal(cut.fault.offset, whole.fault.offset);
                assert_ptr_equal(cut.fault.why, whole.fault.why);
        }
}

static void extensions_and_trailers_have_bounds(void **state)
{
        static char raw[200000];
        struct outcome outcome;

        (void)state;
        for (unsigned over = 0; over < 2; over++) {
                size_t n = (size_t)sprintf(raw, "1;");
                memset(raw + n, 'a', H1_MAX_EXTENSION - 1 + over); /* the CR counts */
                n += H1_MAX_EXTENSION - 1 + over;
                n += (size_t)sprintf(raw + n, "\r\nx\r\n0\r\n\r\n");
                read_body(str_view(raw, n), H1_CHUNKED, 0, 64, &outcome);
                assert_int_equal(outcome.bad, over);
                if (over)
                        assert_int_equal(outcome.fault.status, 413);
        }
        size_t n = 0;
        for (int i = 0; i < 1000; i++)
                n += (size_t)sprintf(raw + n, "1;aaaaaaaa\r\nx\r\n");
        read_body(str_view(raw, n), H1_CHUNKED, 0, 64, &outcome);
        assert_true(outcome.bad && outcome.fault.status == 413);
        n = (size_t)sprintf(raw, "0\r\n");
        for (int i = 0; i < 1000; i++)
                n += (size_t)sprintf(raw + n, "X-%03d: y\r\n", i);
        read_body(str_view(raw, n), H1_CHUNKED, 0, 64, &outcome);
        assert_true(outcome.bad && outcome.fault.status == 431);
        assert_int_equal(outcome.fault.offset, 3 + H1_MAX_TRAILERS);
}

static void a_length_is_counted_to_the_byte(void **state)
{
        struct outcome outcome;
        struct h1_body body;
        struct str payload;
        struct h1_fault fault;

        (void)state;
        read_body(STR("hello world"), H1_LENGTH, 5, 3, &outcome);
        assert_true(outcome.done && outcome.used == 5);
        assert_memory_equal(outcome.payload, "hello", 5);
        read_body(STR("hell"), H1_LENGTH, 5, 3, &outcome);
        assert_false(outcome.done);
        h1_body_init(&body, H1_LENGTH, 0);
        assert_true(body.done);
        assert_int_equal(h1_body_next(&body, "x", 1, &payload, &fault), 0);
        h1_body_init(&body, H1_NO_BODY, 0);
        assert_true(body.done);
        assert_true(h1_body_close(&body));
        h1_body_init(&body, H1_LENGTH, UINT64_C(1) << 40);
        assert_int_equal(h1_body_next(&body, "abc", 3, &payload, &fault), 3);
        assert_int_equal(body.left, (UINT64_C(1) << 40) - 3);
        assert_false(h1_body_close(&body));
}

static void only_an_unframed_body_ends_with_the_connection(void **state)
{
        struct h1_body body;
        struct str payload;
        struct h1_fault fault;

        (void)state;
        h1_body_init(&body, H1_UNTIL_CLOSE, 0);
        assert_false(body.done);
        assert_int_equal(h1_body_next(&body, "abc", 3, &payload, &fault), 3);
        assert_true(payload.len == 3 && !body.done);
        assert_true(h1_body_close(&body));
        assert_true(body.done);
        h1_body_init(&body, H1_CHUNKED, 0);
        assert_int_equal(h1_body_next(&body, "1\r\na\r\n0\r\n", 9, &payload, &fault), 4);
        assert_false(h1_body_close(&body));
}

static void what_the_writer_frames_the_reader_unframes(void **state)
{
        static char raw[3 * 1400 + 200];
        struct outcome outcome;
        size_t sizes[] = {1, 15, 16, 255, 256, 1400}, n = 0, sum = 0;

        (void)state;
        for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
                n += h1_chunk_head(raw + n, sizes[i]);
                memset(raw + n, 'a' + (int)i, sizes[i]);
                n += sizes[i];
                n += (size_t)sprintf(raw + n, H1_CHUNK_TAIL);
                sum += sizes[i];
        }
        n += (size_t)sprintf(raw + n, H1_CHUNK_LAST);
        for (size_t step = 1; step < 2000; step += 37) {
                read_body(str_view(raw, n), H1_CHUNKED, 0, step, &outcome);
                assert_true(outcome.done && outcome.payload_len == sum && outcome.used == n);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(chunks_are_joined_however_they_are_cut),
                cmocka_unit_test(a_body_cut_short_is_not_done),
                cmocka_unit_test(broken_chunks_are_refused_at_the_same_byte_however_cut),
                cmocka_unit_test(extensions_and_trailers_have_bounds),
                cmocka_unit_test(a_length_is_counted_to_the_byte),
                cmocka_unit_test(only_an_unframed_body_ends_with_the_connection),
                cmocka_unit_test(what_the_writer_frames_the_reader_unframes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
