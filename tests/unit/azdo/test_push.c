/* The commands in front of a pack, and the report that refuses them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dagward/azdo/push.h"

#define ZERO "0000000000000000000000000000000000000000"
#define SOME "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ff"
/* 4 + 40 + 1 + 40 + 1 + 15 + 1 + 14 = 0x74 */
#define FIRST "0074" ZERO " " SOME " refs/heads/main\0report-status "

static void commands_are_read_up_to_the_flush_at_every_length(void **state)
{
        static const char body[] = FIRST "0062" SOME " " ZERO " refs/tags/v1"
                                         "0000PACK....";
        struct arena arena;
        struct push push;
        const char *why = "";
        size_t whole = sizeof(body) - 1 - 8;

        (void)state;
        arena_init(&arena, 4096, 65536);
        for (size_t n = 0; n < whole; n++)
                assert_int_equal(push_read(str_view(body, n), &arena, &push, &why), PUSH_MORE);
        for (size_t n = whole; n < sizeof(body); n++) {
                assert_int_equal(push_read(str_view(body, n), &arena, &push, &why), PUSH_READ);
                assert_int_equal(push.n, 2);
                assert_true(str_eq(push.refs[0], STR("refs/heads/main")));
                assert_true(str_eq(push.refs[1], STR("refs/tags/v1")));
                assert_true(push.report_status);
                assert_false(push.side_band);
        }
        assert_int_equal(push_read(STR("0000"), &arena, &push, &why), PUSH_READ);
        assert_int_equal(push.n, 0);
        arena_clear(&arena);
}

static void what_happens_to_a_ref_is_an_operation(void **state)
{
        static const struct {
                const char *from, *to, *ref, *operation;
        } cases[] = {
                {ZERO, SOME, "refs/heads/a", "gitHttp.push.createBranch"},
                {SOME, SOME, "refs/heads/a", "gitHttp.push.updateBranch"},
                {SOME, ZERO, "refs/heads/a", "gitHttp.push.deleteBranch"},
                {ZERO, ZERO, "refs/heads/a", "gitHttp.push.deleteBranch"},
                {SOME, ZERO, "refs/Heads/a", "gitHttp.push.deleteBranch"},
                {ZERO, SOME, "refs/tags/v1", "gitHttp.push.createTag"},
                {SOME, SOME, "refs/tags/v1", "gitHttp.push.moveTag"},
                {SOME, ZERO, "refs/tags/v1", "gitHttp.push.deleteTag"},
                {ZERO, SOME, "refs/notes/a", "gitHttp.push.createRef"},
                {SOME, SOME, "refs/notes/a", "gitHttp.push.updateRef"},
                {SOME, ZERO, "refs/heads", "gitHttp.push.deleteRef"},
        };
        struct arena arena;
        size_t n;

        (void)state;
        arena_init(&arena, 4096, 65536);
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char body[256];
                struct push push;
                const char *why = NULL;
                int length = snprintf(body, sizeof(body), "%04zx%s %s %s0000",
                        86 + strlen(cases[i].ref), cases[i].from, cases[i].to, cases[i].ref);
                assert_int_equal(
                        push_read(str_view(body, (size_t)length), &arena, &push, &why), PUSH_READ);
                assert_string_equal(
                        push_operation(push.changes[0], push.refs[0])->id, cases[i].operation);
        }
        const char *const *ids = push_operation_ids(&n);
        for (size_t i = 0; i < n; i++)
                assert_string_equal(catalogue_find(str_of(ids[i]))->part_of, "gitHttp.pack.push");
        arena_clear(&arena);
}

static void names_that_git_does_not_allow_are_refused(void **state)
{
        static const char *const names[] = {"refs/heads/", "refs/heads//a", "refs/heads/.a",
                "refs/heads/a.", "refs/heads/a.lock", "refs/heads/a..b", "refs/heads/a b",
                "refs/heads/a~1", "refs/heads/a^", "refs/heads/a:b", "refs/heads/a?",
                "refs/heads/*", "refs/heads/[a", "refs/heads/a\\b", "refs/heads/a@{1}",
                "refs/heads/a\x7f", "refs/heads/\xff", "heads/a", "HEAD", "refs/", "/refs/heads/a"};
        struct arena arena;

        (void)state;
        arena_init(&arena, 4096, 65536);
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                char body[256];
                struct push push;
                const char *why = NULL;
                int n = snprintf(body, sizeof(body), "%04zx" ZERO " " SOME " %s0000",
                        86 + strlen(names[i]), names[i]);
                assert_int_equal(
                        push_read(str_view(body, (size_t)n), &arena, &push, &why), PUSH_BAD);
                assert_non_null(why);
        }
        arena_clear(&arena);
}

static void a_refusal_has_a_line_for_each_ref(void **state)
{
        struct push push = {
                .refs = {STR("refs/heads/a"), STR("refs/heads/b")}, .n = 2, .report_status = true};
        const char *const reasons[] = {"no", "not\nthis"};
        struct buf out;

        (void)state;
        buf_init(&out, 4096);
        push_refusal_write(&push, reasons, &out);
        assert_true(str_eq(buf_str(&out), STR("000eunpack ok\n0017ng refs/heads/a no\n"
                                              "001dng refs/heads/b not?this\n0000")));
        buf_reset(&out);
        push.side_band = true;
        push_refusal_write(&push, reasons, &out);
        assert_true(str_starts(buf_str(&out), STR("004b\001"
                                                  "000eunpack ok\n")));
        assert_true(str_ends(buf_str(&out), STR("\n00000000")));
        buf_reset(&out);
        push.report_status = false;
        push_refusal_write(&push, reasons, &out);
        assert_int_equal(out.len, 0);
        buf_clear(&out);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(commands_are_read_up_to_the_flush_at_every_length),
                cmocka_unit_test(what_happens_to_a_ref_is_an_operation),
                cmocka_unit_test(names_that_git_does_not_allow_are_refused),
                cmocka_unit_test(a_refusal_has_a_line_for_each_ref),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
