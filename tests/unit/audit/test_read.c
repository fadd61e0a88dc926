#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dagward/audit/read.h"

static struct arena arena;

static int begin(void **state)
{
        (void)state;
        arena_init(&arena, 4096, 1 << 20);
        return 0;
}

static int end(void **state)
{
        (void)state;
        arena_clear(&arena);
        return 0;
}

static bool reads(const char *text, struct audit_line *out)
{
        arena_reset(&arena);
        return audit_line_read(str_of(text), &arena, out);
}

static void assert_str(struct str found, const char *wanted)
{
        if (!str_eq(found, str_of(wanted)))
                fail_msg("found %.*s, wanted %s", STR_FMT(found), wanted);
}

/* Every member that record.c writes, with values that need escapes. */
static struct audit_fields whole(void)
{
        static const struct str roles[] = {STR("Op"), STR("say \"hi\"")};
        static const struct pair resources[] = {
                {STR("pipeline"), STR("42")}, {STR("ref"), STR("refs/heads/a:b")}};
        static const struct str says[] = {STR("variables.x")};

        return (struct audit_fields){
                .time_ms = 1795425153123,
                .kind = AUDIT_OUTCOME,
                .request_id = STR("r"),
                .correlation_id = STR("c"),
                .traceparent = STR("t"),
                .caller = {STR("airflow"), STR("sub\x01\"\\\xC3\xA4\xF0\x9F\x98\x80"), roles, 2,
                        STR("jti"), STR("bearer"), STR("10.0.0.7")},
                .claimed = {STR("dag"), STR("run"), STR("task"), STR("3"), STR("1"), STR("agent")},
                .request = {STR("POST"), STR("host"), STR("/a/b\tc"), NULL, 0,
                        STR("pipelines.runs.run"), STR("execute"), STR("contoso"), STR("analytics"),
                        resources, 2, says, 1, UINT64_MAX},
                .decision = {AUDIT_ERROR, STR("b"), STR("role"), STR("p.yaml:12"), STR("reason"),
                        STR("abcdef"), STR("deny"), STR("glass")},
                .credential = {STR("etl"), STR("federated")},
                .upstream = {STR("dev.azure.com"), 200, STR("act"), STR("e2e"), 2, 9876},
                .response = {503, 345},
                .duration_us = 12345678,
                .run = {STR("1234"), STR("https://dev.azure.com/x?id=1")},
        };
}

static void what_was_written_is_read_back(void **state)
{
        static const struct pair detail[] = {{STR("cause"), STR("a\nb")}, {STR("n"), STR("2")}};
        struct audit_fields fields = whole();
        struct audit_line line;
        struct buf first, second, text;

        (void)state;
        buf_init(&first, 2 * AUDIT_RECORD_MOST);
        buf_init(&second, 2 * AUDIT_RECORD_MOST);
        buf_init(&text, 2 * AUDIT_RECORD_MOST);
        for (int kind = AUDIT_INTENT; kind <= AUDIT_EVENT; kind++) {
                fields.kind = (enum audit_kind)kind;
                if (kind == AUDIT_EVENT) {
                        fields.event.name = STR("reload.done");
                        fields.event.detail = detail;
                        fields.event.n_detail = 2;
                }
                buf_reset(&first);
                buf_reset(&second);
                buf_reset(&text);
                assert_true(audit_record_write(&first, &fields));
                buf_printf(&text, "{\"seq\":7,%.*s,\"prev\":\"p\",\"hash\":\"h\"}",
                        STR_FMT(buf_str(&first)));
                arena_reset(&arena);
                assert_true(audit_line_read(buf_str(&text), &arena, &line));
                assert_true(audit_record_write(&second, &line.fields));
                assert_str(buf_str(&second), (buf_char(&first, '\0'), first.data));
                assert_int_equal(line.seq, 7);
                assert_str(line.prev, "p");
                assert_str(line.hash, "h");
                assert_false(line.cut);
        }
        buf_clear(&first);
        buf_clear(&second);
        buf_clear(&text);
}

static void members_of_later_versions_are_passed_over(void **state)
{
        struct audit_line line;

        (void)state;
        assert_true(reads("{\"later\":[{},[],{\"a\":[1,2.5e-3,true,null,\"]}\"]}],\"time\":"
                          "\"2026-11-23T09:12:33.123Z\",\"caller\":{\"shoe\":{\"size\":42},"
                          "\"subject\":\"s\"}}",
                &line));
        assert_str(line.fields.caller.subject, "s");
        assert_int_equal(line.fields.time_ms, 1795425153123);
        assert_true(reads(" { \"time\" : \"2026-11-23T09:12:33Z\" , \"seq\" : 1 } ", &line));
}

static void escapes_become_what_they_stand_for(void **state)
{
        struct audit_line line;

        (void)state;
        assert_true(reads("{\"time\":\"2026-11-23\",\"request_id\":"
                          "\"\\u0041\\n\\/\\u00e4\\ud83d\\ude00\\\"0123456789abcdef\"}",
                &line));
        assert_str(line.fields.request_id, "A\n/\xC3\xA4\xF0\x9F\x98\x80\"0123456789abcdef");
        assert_true(reads("{\"time\":\"2026-11-23\",\"request_id\":\"a\\u0000b\"}", &line));
        assert_int_equal(line.fields.request_id.len, 3);
}

static void what_is_no_record_is_refused(void **state)
{
#define TIME "\"time\":\"2026-11-23T09:12:33Z\""
        static const char *const bad[] = {
                "",
                "[]",
                "{}", /* no time */
                "{" TIME,
                "{" TIME "}x",
                "{" TIME ",}",
                "{" TIME "," TIME "}", /* a member twice */
                "{" TIME ",\"caller\":{\"via\":\"a\",\"via\":\"a\"}}",
                "{" TIME ",\"caller\":[]}",
                "{" TIME ",\"caller\":\"x\"}",
                "{" TIME ",\"seq\":\"1\"}",
                "{" TIME ",\"seq\":-1}",
                "{" TIME ",\"seq\":1.5}",
                "{" TIME ",\"kind\":\"rumour\"}",
                "{" TIME ",\"decision\":{\"effect\":\"maybe\"}}",
                "{" TIME ",\"response\":{\"status\":99999999999}}",
                "{" TIME ",\"ms\":1.2}",
                "{" TIME ",\"request\":{\"resources\":\"a:b\"}}",
                "{" TIME ",\"request\":{\"resources\":[1]}}",
                "{" TIME ",\"request\":{\"says\":[\"a\",]}}",
                "{" TIME ",\"request_id\":\"a\nb\"}",
                "{" TIME ",\"request_id\":\"\\x\"}",
                "{" TIME ",\"request_id\":\"\\u12g4\"}",
                "{" TIME ",\"request_id\":\"\\ud800\"}",
                "{" TIME ",\"request_id\":\"\\ude00\"}",
                "{" TIME ",\"request_id\":\"\\ud800\\u0041\"}",
                "{" TIME ",\"request_id\":\"\xff\"}",
                "{" TIME ",\"request_id\":\"\\n\xff\"}",
                "{" TIME ",\"request_id\":\"never ends",
                "{" TIME ",\"request_id\":\"never ends\\",
                "{" TIME ",\"later\":tru}",
                "{" TIME ",\"later\":[1 2]}",
                "{" TIME ",\"later\":{\"a\"}}",
                "{" TIME ",\"later\":[}}",
                "{\"time\":\"yesterday\"}",
        };
        struct audit_line line;

        (void)state;
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                if (reads(bad[i], &line))
                        fail_msg("read: %s", bad[i]);
}

static void deep_nesting_is_refused_without_recursion(void **state)
{
        struct audit_line line;
        struct buf text;

        (void)state;
        buf_init(&text, 1 << 20);
        BUF_LITERAL(&text, "{\"later\":");
        for (int i = 0; i < 100000; i++)
                buf_char(&text, '[');
        buf_char(&text, '\0');
        assert_false(reads(text.data, &line));
        buf_clear(&text);
}

static void a_bracket_inside_an_item_ends_no_list(void **state)
{
        struct audit_line line;

        (void)state;
        assert_true(reads("{" TIME ",\"request\":{\"resources\":[\"feed:a]b\",\"pipeline:42\"],"
                          "\"says\":[\"variables.a]b\",\"variables.c\"]}}",
                &line));
        assert_int_equal(line.fields.request.n_resources, 2);
        assert_str(line.fields.request.resources[1].value, "42");
        assert_int_equal(line.fields.request.n_says, 2);
        assert_false(line.cut);
}

static void more_than_may_be_in_a_list_is_cut(void **state)
{
        struct audit_line line;
        struct buf text;

        (void)state;
        buf_init(&text, 1 << 20);
        BUF_LITERAL(&text, "{" TIME ",\"request\":{\"says\":[\"a\"");
        for (int i = 0; i < 600; i++)
                BUF_LITERAL(&text, ",\"a\"");
        BUF_LITERAL(&text, "]}}");
        arena_reset(&arena);
        assert_true(audit_line_read(buf_str(&text), &arena, &line));
        assert_int_equal(line.fields.request.n_says, 512);
        assert_true(line.cut);
        buf_clear(&text);
}

static void a_record_that_was_cut_says_so(void **state)
{
        struct audit_line line;

        (void)state;
        assert_true(reads("{" TIME ",\"request\":{\"path\":\"/a/[+12 bytes]\"}}", &line));
        assert_true(line.cut);
        assert_true(
                reads("{" TIME ",\"request\":{\"resources\":[\"ref:a\",\"[+3 more]\"]}}", &line));
        assert_true(line.cut);
        assert_true(reads("{" TIME ",\"decision\":{\"reason\":\"long [+12 bytes]\"}}", &line));
        assert_false(line.cut);
}

static void the_reason_to_break_glass_is_read(void **state)
{
        struct audit_line line;

        (void)state;
        assert_true(reads("{" TIME ",\"decision\":{\"break_glass\":\"INC-4711\"}}", &line));
        assert_str(line.fields.decision.break_glass, "INC-4711");
        assert_true(reads("{" TIME ",\"decision\":{\"effect\":\"allow\"}}", &line));
        assert_str(line.fields.decision.break_glass, "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_was_written_is_read_back),
                cmocka_unit_test(members_of_later_versions_are_passed_over),
                cmocka_unit_test(escapes_become_what_they_stand_for),
                cmocka_unit_test(what_is_no_record_is_refused),
                cmocka_unit_test(deep_nesting_is_refused_without_recursion),
                cmocka_unit_test(a_bracket_inside_an_item_ends_no_list),
                cmocka_unit_test(more_than_may_be_in_a_list_is_cut),
                cmocka_unit_test(a_record_that_was_cut_says_so),
                cmocka_unit_test(the_reason_to_break_glass_is_read),
        };

        return cmocka_run_group_tests(tests, begin, end);
}
