#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "dagward/http/connect.h"

static const struct {
        const char *text;
        enum connect_answer answer;
        int status;
} answers[] = {
        {"HTTP/1.1 200 Connection established\r\n\r\n", CONNECT_OPEN, 200},
        {"HTTP/1.0 200 Connection established\r\nProxy-Agent: x\r\n\r\n", CONNECT_OPEN, 200},
        {"HTTP/1.1 204 So be it\r\n\r\n", CONNECT_OPEN, 204},
        /* RFC 9110 9.3.6: framing of a good answer means nothing */
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", CONNECT_OPEN, 200},
        {"HTTP/1.1 200 OK\r\n\r\nx", CONNECT_STRAY, 200},
        {"HTTP/1.1 407 Who\r\nContent-Length: 2\r\n\r\nno", CONNECT_NO, 407},
        {"HTTP/1.1 301 There\r\nLocation: http://a/\r\n\r\n", CONNECT_NO, 301},
        {"HTTP/1.1 503 Busy\r\n\r\n", CONNECT_NO, 503},
        {"HTTP/1.1 100 Continue\r\n\r\n", CONNECT_BROKEN, 0},
        {"HTTP/1.1 101 Switch\r\n\r\n", CONNECT_BROKEN, 0},
        {"HTTP/1.1 200 OK\n\n", CONNECT_BROKEN, 0},
        {"HTTP/2 200 OK\r\n\r\n", CONNECT_BROKEN, 0},
        {"SSH-2.0-x\r\n", CONNECT_BROKEN, 0},
        {"\x16\x03\x01\x02\r\n", CONNECT_BROKEN, 0},
        {"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", CONNECT_BROKEN, 0},
        {"HTTP/1.1 200 OK\r\n", CONNECT_AGAIN, 0},
        {"", CONNECT_AGAIN, 0},
};

/* Whole, and byte by byte as it may come. */
static void an_answer_opens_the_way_or_does_not(void **state)
{
        (void)state;
        for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
                struct str text = str_of(answers[i].text);
                enum connect_answer got = CONNECT_AGAIN;
                size_t scanned = 0;
                int status = -1;

                got = connect_judge(text, &scanned, &status);
                if (got != answers[i].answer || status != answers[i].status)
                        fail_msg("%s: %d %d", answers[i].text, (int)got, status);
                scanned = 0;
                got = CONNECT_AGAIN;
                for (size_t len = 1; len <= text.len && got == CONNECT_AGAIN; len++)
                        got = connect_judge(str_head(text, len), &scanned, &status);
                if (got != answers[i].answer && answers[i].answer != CONNECT_STRAY)
                        fail_msg("in pieces %s: %d", answers[i].text, (int)got);
        }
}

static void an_answer_without_end_is_not_read_for_ever(void **state)
{
        static char text[CONNECT_ANSWER_MOST + 100] = "HTTP/1.1 200 OK\r\n";
        size_t scanned = 0;
        int status;

        (void)state;
        for (size_t at = strlen(text); at + 10 < sizeof(text); at += 8)
                memcpy(text + at, "A: bcd\r\n", 8);
        assert_int_equal(CONNECT_BROKEN,
                connect_judge(str_view(text, CONNECT_ANSWER_MOST + 1), &scanned, &status));
}

static void the_question_names_the_place_and_nothing_else(void **state)
{
        struct buf out;

        (void)state;
        buf_init(&out, 4096);
        connect_write(&out, "dev.azure.com", 443, STR_NONE);
        assert_true(str_eq(buf_str(&out), STR("CONNECT dev.azure.com:443 HTTP/1.1\r\n"
                                              "Host: dev.azure.com:443\r\n"
                                              "User-Agent: dagward/" DAGWARD_VERSION "\r\n\r\n")));
        buf_clear(&out);
        buf_init(&out, 4096);
        connect_write(&out, "2001:db8::1", 8443, STR("Basic eA=="));
        assert_true(str_eq(buf_str(&out), STR("CONNECT [2001:db8::1]:8443 HTTP/1.1\r\n"
                                              "Host: [2001:db8::1]:8443\r\n"
                                              "Proxy-Authorization: Basic eA==\r\n"
                                              "User-Agent: dagward/" DAGWARD_VERSION "\r\n\r\n")));
        buf_clear(&out);
}

static void each_refusal_has_words_and_a_status(void **state)
{
        (void)state;
        assert_non_null(strstr(connect_refusal(407), "407"));
        assert_non_null(strstr(connect_refusal(418), "418"));
        assert_int_equal(502, connect_refusal_status(407));
        assert_int_equal(502, connect_refusal_status(403));
        assert_int_equal(503, connect_refusal_status(503));
        assert_int_equal(504, connect_refusal_status(504));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_answer_opens_the_way_or_does_not),
                cmocka_unit_test(an_answer_without_end_is_not_read_for_ever),
                cmocka_unit_test(the_question_names_the_place_and_nothing_else),
                cmocka_unit_test(each_refusal_has_words_and_a_status),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
