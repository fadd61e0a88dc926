/* Views, numbers, JSON strings, times and identifiers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dagward/base/arena.h"
#include "dagward/base/buf.h"
#include "dagward/base/clock.h"
#include "dagward/base/error.h"
#include "dagward/base/id.h"

static void numbers_are_digits_only(void **state)
{
        static const struct {
                const char *text;
                bool ok;
                uint64_t value;
        } cases[] = {{"0", true, 0}, {"18446744073709551615", true, UINT64_MAX},
                {"18446744073709551616", false, 0}, {"", false, 0}, {"+1", false, 0},
                {"-1", false, 0}, {" 1", false, 0}, {"1 ", false, 0}, {"0x1", false, 0},
                {"007", true, 7}, {"99999999999999999999999", false, 0}};

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                uint64_t value = 0;
                assert_int_equal(str_to_u64(str_of(cases[i].text), &value), cases[i].ok);
                if (cases[i].ok)
                        assert_true(value == cases[i].value);
        }
}

static void utf8_is_judged_like_rfc_3629(void **state)
{
        static const struct {
                const char *bytes;
                bool ok;
        } cases[] = {{"", true}, {"plain", true}, {"\xC3\xA9", true}, {"\xE2\x82\xAC", true},
                {"\xF0\x9F\x98\x80", true}, {"\xF4\x8F\xBF\xBF", true}, {"\x80", false},
                {"\xC0\xAF", false}, {"\xC1\xBF", false}, {"\xE0\x80\x80", false},
                {"\xED\xA0\x80", false}, {"\xF0\x80\x80\x80", false}, {"\xF4\x90\x80\x80", false},
                {"\xF5\x80\x80\x80", false}, {"\xC3", false}, {"\xE2\x82", false},
                {"a\xFF", false}};

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                assert_int_equal(str_utf8_valid(str_of(cases[i].bytes)), cases[i].ok);
}

static void globs_match_whole_text(void **state)
{
        static const struct {
                const char *pattern, *text;
                bool fold, match;
        } cases[] = {{"*", "", false, true}, {"*", "x", false, true}, {"a*", "abc", false, true},
                {"a*", "ba", false, false}, {"*c", "abc", false, true},
                {"a*c", "abbc", false, true}, {"a*c", "abcd", false, false}, {"A", "a", true, true},
                {"A", "a", false, false}, {"a**b", "ab", false, true}, {"", "", false, true},
                {"", "a", false, false}, {"*a*b*c*", "xxaxxbxxcxx", false, true},
                {"*aab", "aaaab", false, true}};

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                assert_int_equal(
                        str_glob(str_of(cases[i].pattern), str_of(cases[i].text), cases[i].fold),
                        cases[i].match);
}

static void distance_counts_typing_slips(void **state)
{
        (void)state;
        assert_int_equal(str_distance(STR("same"), STR("SAME")), 0);
        assert_int_equal(str_distance(STR("issuers"), STR("issuer")), 1);
        assert_int_equal(str_distance(STR("isusers"), STR("issuers")), 1);
        assert_int_equal(str_distance(STR("kitten"), STR("sitting")), 3);
        assert_int_equal(str_distance(STR(""), STR("abc")), 3);
        struct str names[] = {STR("listen"), STR("issuers"), STR("upstream")};
        assert_string_equal(
                error_did_you_mean(STR("isuers"), names, 3), "; did you mean `issuers`?");
        assert_string_equal(error_did_you_mean(STR("zebra"), names, 3), "");
}

static void any_byte_becomes_a_json_string_on_one_line(void **state)
{
        static const struct {
                const char *bytes;
                const char *json;
        } cases[] = {{"plain", "\"plain\""}, {"a\"b\\c", "\"a\\\"b\\\\c\""},
                {"line\nfeed\r\t", "\"line\\nfeed\\r\\t\""}, {"\x01\x7F", "\"\\u0001\\u007f\""},
                {"\xC3\xA9", "\"\xC3\xA9\""}, {"\xFF", "\"\xEF\xBF\xBD\""},
                {"\xE2\x80\xA8", "\"\\u2028\""}, {"\xE2\x80\xA9", "\"\\u2029\""},
                {"a\xC3", "\"a\xEF\xBF\xBD\""}, {"\xC2\x9Bz", "\"\\u009bz\""},
                {"x\xE2\x80\xAEgpj", "\"x\\u202egpj\""}, {"\xF3\xA0\x81\x81", "\"\\udb40\\udc41\""},
                {"\xF0\x9F\x98\x80", "\"\xF0\x9F\x98\x80\""}};
        struct buf buf;

        (void)state;
        buf_init(&buf, 1 << 20);
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                buf_reset(&buf);
                buf_json_str(&buf, str_of(cases[i].bytes));
                assert_true(str_eq(buf_str(&buf), str_of(cases[i].json)));
        }
        buf_clear(&buf);
}

static void a_buffer_that_overflows_writes_nothing_more(void **state)
{
        char memory[8];
        struct buf buf;

        (void)state;
        buf_init_fixed(&buf, memory, sizeof(memory));
        buf_str_add(&buf, STR("12345"));
        buf_str_add(&buf, STR("6789"));
        assert_true(buf.overflow);
        assert_int_equal(buf.len, 5);
        buf_char(&buf, 'x');
        assert_int_equal(buf.len, 5);
        buf_init(&buf, 300);
        for (int i = 0; i < 400; i++)
                buf_char(&buf, 'x');
        assert_true(buf.overflow);
        assert_int_equal(buf.len, 300);
        buf_clear(&buf);
}

static void times_are_written_and_read_alike(void **state)
{
        char text[CLOCK_RFC3339_LEN + 1];
        int64_t ms = 0;
        static const struct {
                const char *text;
                bool ok;
                int64_t ms;
        } cases[] = {{"1970-01-01", true, 0}, {"2027-03-31", true, 1806451200000},
                {"2027-03-31T00:00:00Z", true, 1806451200000},
                {"2027-03-31T02:00:00+02:00", true, 1806451200000},
                {"2027-03-31T00:00:00.25Z", true, 1806451200250}, {"2027-02-31", false, 0},
                {"2027-13-01", false, 0}, {"2027-03-31T00:00:00", false, 0}, {"tomorrow", false, 0},
                {"2027-03-31T25:00:00Z", false, 0}, {"2027-03-31x", false, 0}, {"", false, 0}};

        (void)state;
        clock_rfc3339(1806451200123, text);
        assert_string_equal(text, "2027-03-31T00:00:00.123Z");
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                assert_int_equal(clock_parse(str_of(cases[i].text), &ms), cases[i].ok);
                if (cases[i].ok)
                        assert_true(ms == cases[i].ms);
        }
}

static void uuids_are_versioned_sorted_and_canonical(void **state)
{
        char first[ID_UUID_LEN + 1], second[ID_UUID_LEN + 1], canonical[ID_UUID_LEN + 1];

        (void)state;
        id_uuid7(1700000000000, first);
        id_uuid7(1700000000001, second);
        assert_int_equal(strlen(first), ID_UUID_LEN);
        assert_int_equal(first[14], '7');
        assert_true(strcmp(first, second) < 0);
        assert_true(id_uuid_canonical(STR("0190A1B2C3D47E8F9A0B1C2D3E4F5061"), canonical));
        assert_string_equal(canonical, "0190a1b2-c3d4-7e8f-9a0b-1c2d3e4f5061");
        assert_true(id_uuid_canonical(str_of(first), canonical));
        assert_string_equal(canonical, first);
        assert_false(id_uuid_canonical(STR("0190A1B2C3D47E8F9A0B1C2D3E4F506"), canonical));
        assert_false(id_uuid_canonical(STR("0190a1b2-c3d4-7e8f-9a0b-1c2d3e4f506g"), canonical));
        assert_false(id_uuid_canonical(STR("0190a1b2xc3d4-7e8f-9a0b-1c2d3e4f5061"), canonical));
}

static void blanks_are_those_of_dot_net(void **state)
{
        static const char *const blanks[] = {" ", "\t", "\n", "\v", "\f", "\r", "\xc2\x85",
                "\xc2\xa0", "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x83", "\xe2\x80\x8a",
                "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};
        /* Not trimmed: zero widths, and what only begins or ends as a blank does. */
        static const char *const others[] = {"", "a", "\xe2\x80\x8b", "\xef\xbb\xbf",
                "\xe1\xa0\x8e", "\xc2", "\xe2\x80", "\xc3\xa0", "\xe2\x82\xa0", "\xe4\xb8\x80"};
        char text[32];

        (void)state;
        for (size_t i = 0; i < sizeof(blanks) / sizeof(blanks[0]); i++) {
                snprintf(text, sizeof(text), "%s%sa b%s", blanks[i], blanks[i], blanks[i]);
                assert_true(str_eq(str_trim_wide(str_of(text)), STR("a b")));
                assert_int_equal(str_trim_wide(str_of(blanks[i])).len, 0);
        }
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
                assert_true(str_eq(str_trim_wide(str_of(others[i])), str_of(others[i])));
}

static void an_arena_answers_null_at_its_ceiling(void **state)
{
        struct arena arena;

        (void)state;
        arena_init(&arena, 128, 512);
        assert_non_null(arena_alloc(&arena, 100));
        assert_non_null(arena_alloc(&arena, 300));
        assert_null(arena_alloc(&arena, 200));
        assert_null(arena_copy(&arena, STR_NONE).len ? (void *)1 : NULL);
        arena_reset(&arena);
        struct str text = arena_printf(&arena, "%d %s", 42, "runs");
        assert_true(str_eq(text, STR("42 runs")));
        assert_null(arena_alloc(&arena, SIZE_MAX));
        arena_clear(&arena);
        assert_int_equal(arena.held, 0);
}

static void findings_are_printed_in_the_order_of_their_places(void **state)
{
        struct error_list list;
        char text[512] = {0};

        (void)state;
        error_list_init(&list);
        error_list_add(&list, (struct mark){"b.yaml", 2, 1}, "second");
        error_list_warn(&list, (struct mark){"b.yaml", 9, 1}, "third");
        error_list_add(&list, (struct mark){"a.yaml", 7, 3}, "first");
        FILE *out = fmemopen(text, sizeof(text), "w");
        error_list_print(&list, out);
        fclose(out);
        assert_string_equal(
                text, "a.yaml:7:3: first\nb.yaml:2:1: second\nb.yaml:9:1: warning: third\n");
        assert_int_equal(list.errors, 2);
        error_list_clear(&list);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(numbers_are_digits_only),
                cmocka_unit_test(utf8_is_judged_like_rfc_3629),
                cmocka_unit_test(globs_match_whole_text),
                cmocka_unit_test(distance_counts_typing_slips),
                cmocka_unit_test(any_byte_becomes_a_json_string_on_one_line),
                cmocka_unit_test(a_buffer_that_overflows_writes_nothing_more),
                cmocka_unit_test(times_are_written_and_read_alike),
                cmocka_unit_test(uuids_are_versioned_sorted_and_canonical),
                cmocka_unit_test(blanks_are_those_of_dot_net),
                cmocka_unit_test(an_arena_answers_null_at_its_ceiling),
                cmocka_unit_test(findings_are_printed_in_the_order_of_their_places),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
