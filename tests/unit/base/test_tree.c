/* JSON that is held whole: what is read, and what is refused however well it may look. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dagward/base/tree.h"

static const struct tree_bounds roomy = {24, 2048};

static const struct tree *read_within(
        struct str text, const struct tree_bounds *most, struct arena *arena)
{
        arena_init(arena, 1024, 1 << 20);
        return tree_read(text, most, arena);
}

static void what_is_read_is_written_alike(void **state)
{
        static const struct {
                const char *text, *written;
        } cases[] = {
                {"{}", "{}"},
                {" [ ] ", "[]"},
                {"{\"a\" : [1, -2,\t3.5, true,false , null, \"x\\u00e9\\n\"], \"b\":{}}",
                        "{\"a\":[1,-2,3.5,true,false,null,\"x\xc3\xa9\\n\"],\"b\":{}}"},
                {"9223372036854775807", "9223372036854775807"},
                {"-9223372036854775808", "-9223372036854775808"},
                {"-0", "0"},
                {"0e+300", "0.0"},
                {"1E2", "100.0"},
                {"\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\""},
                {"{\"\":1}", "{\"\":1}"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct arena arena;
                struct buf out;
                const struct tree *value = read_within(str_of(cases[i].text), &roomy, &arena);
                if (!value)
                        fail_msg("refused: %s", cases[i].text);
                buf_init(&out, 4096);
                tree_write(value, &out);
                buf_char(&out, '\0');
                assert_string_equal(out.data, cases[i].written);
                buf_clear(&out);
                arena_clear(&arena);
        }
}

static void what_is_no_json_or_doubtful_is_refused(void **state)
{
        static const struct str cases[] = {STR(""), STR(" "), STR("{"), STR("[1,]"), STR("[1 2]"),
                STR("{\"a\"}"), STR("{\"a\":1,}"), STR("{a:1}"), STR("{} x"), STR("{}{}"),
                STR("01"), STR("-"), STR("-01"), STR("1."), STR(".5"), STR("1e"), STR("1e+"),
                STR("+1"), STR("0x10"), STR("NaN"), STR("Infinity"), STR("truex"), STR("nul"),
                STR("9223372036854775808"), STR("-9223372036854775809"), STR("1e999"), STR("\"a"),
                STR("\"a\nb\""), STR("\"\\x\""), STR("\"\\ud800\""), STR("\"\\udc00\""),
                STR("\"\xff\""), STR("\"\xc0\xaf\""), STR("\"\\u0000\""), STR("{\"a\\u0000\":1}"),
                STR("true\0"), STR("{\"a\":true\0}"), STR("{\"a\":1,\"a\":1}"),
                STR("{\"a\":1,\"\\u0061\":2}"), STR("{\"a\":{\"b\":1,\"c\":2,\"b\":3}}")};

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct arena arena;
                if (read_within(cases[i], &roomy, &arena))
                        fail_msg("accepted: %.*s", STR_FMT(cases[i]));
                arena_clear(&arena);
        }
}

/* `n` members, of which number `same` has the name of the first. */
static void write_wide(struct buf *out, unsigned n, unsigned same)
{
        buf_reset(out);
        for (unsigned i = 0; i < n; i++)
                buf_printf(out, "%c\"m%u\":%u", i ? ',' : '{', i == same ? 0 : i, i);
        buf_char(out, '}');
}

static void two_members_of_one_name_are_found_however_many_there_are(void **state)
{
        struct buf text;
        struct arena arena;

        (void)state;
        buf_init(&text, 1 << 20);
        for (unsigned n = 2; n < 400; n += n < 40 ? 1 : 90) {
                write_wide(&text, n, n);
                const struct tree *whole = read_within(buf_str(&text), &roomy, &arena);
                assert_non_null(whole);
                char last[8];
                snprintf(last, sizeof(last), "m%u", n - 1);
                assert_int_equal(tree_member(whole, str_of(last))->whole, n - 1);
                arena_clear(&arena);
                write_wide(&text, n, n - 1);
                assert_null(read_within(buf_str(&text), &roomy, &arena));
                arena_clear(&arena);
                write_wide(&text, n, n / 2 ? n / 2 : 1);
                assert_null(read_within(buf_str(&text), &roomy, &arena));
                arena_clear(&arena);
        }
        buf_clear(&text);
}

static void bounds_and_a_full_arena_refuse(void **state)
{
        static const struct tree_bounds narrow = {2, 4};
        static const struct {
                const char *text;
                bool good;
        } cases[] = {{"[[1]]", true}, {"[[[1]]]", false}, {"[{\"a\":[]}]", false},
                {"[1,2,3,4]", true}, {"[1,2,3,4,5]", false}, {"[[],[],1]", false},
                {"[[],1,2]", true}, {"[[],1,2,3]", false}};
        struct arena arena;

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                if ((read_within(str_of(cases[i].text), &narrow, &arena) != NULL) != cases[i].good)
                        fail_msg("%s", cases[i].text);
                arena_clear(&arena);
        }
        arena_init(&arena, 64, 256);
        assert_null(tree_read(STR("[1,2,3,4,5,6,7,8,9]"), &roomy, &arena));
        arena_clear(&arena);
}

static void a_path_takes_the_longest_name_at_every_level(void **state)
{
        static const char text[] =
                "{\"a\":{\"b\":1,\"b.c\":2},\"a.b\":{\"c\":3,\"d\":[4]},\"x.\":5}";
        static const struct {
                const char *path;
                int64_t value; /* 0: nothing is there */
        } cases[] = {{"a.b.c", 3}, {"a.b", 0}, {"a.b.x", 0}, {"a.", 0}, {"", 0}, {".", 0},
                {"x.", 5}, {"a.b.d.0", 0}, {"a..b", 0}, {"nothing", 0}};
        struct arena arena;

        (void)state;
        const struct tree *object = read_within(str_of(text), &roomy, &arena);
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                const struct tree *found = tree_at(object, str_of(cases[i].path));
                int64_t value = found && found->kind == TREE_WHOLE ? found->whole : 0;
                if (value != cases[i].value)
                        fail_msg("%s: %lld", cases[i].path, (long long)value);
        }
        assert_null(tree_at(NULL, STR("a")));
        assert_null(tree_member(tree_at(object, STR("a.b.c")), STR("a")));
        arena_clear(&arena);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_read_is_written_alike),
                cmocka_unit_test(what_is_no_json_or_doubtful_is_refused),
                cmocka_unit_test(two_members_of_one_name_are_found_however_many_there_are),
                cmocka_unit_test(bounds_and_a_full_arena_refuse),
                cmocka_unit_test(a_path_takes_the_longest_name_at_every_level),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
