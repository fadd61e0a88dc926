#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dagward/base/report.h"

static char *text_of(struct buf *out)
{
        buf_char(out, '\0');
        return out->data;
}

static void a_cell_cannot_end_its_cell_or_be_markup(void **state)
{
        static const struct {
                const char *text, *cell;
        } cases[] = {
                {"", ""},
                {"plain", "`plain`"},
                {"a|b", "`a\\|b`"},
                {"two\nlines\r\n", "`two lines  `"},
                {"esc\033[2J", "`esc [2J`"},
                {"<b>`@x`", "<code>&#60;b&#62;&#96;&#64;x&#96;</code>"},
                {"a\\|[l](//u) _x_",
                        "<code>a&#92;&#124;&#91;l&#93;&#40;&#47;&#47;u&#41; &#95;x&#95;</code>"},
                {"\\etl\\a|b", "`\\etl\\a\\|b`"},
                {"a\xE2\x80\xAE"
                 "b\xE2\x80\x8B"
                 "c\xF3\xA0\x80\xA0",
                        "`a?b?c?`"},
        };
        struct buf out;

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                buf_init(&out, 4096);
                report_cell(&out, str_of(cases[i].text));
                assert_string_equal(text_of(&out), cases[i].cell);
                buf_clear(&out);
        }
}

static void a_table_has_a_heading_and_rows(void **state)
{
        struct buf out;

        (void)state;
        buf_init(&out, 4096);
        report_heading(&out, (const char *const[]){"A", "B"}, 2);
        report_row(&out, (const struct str[]){STR("1"), STR("")}, 2);
        assert_string_equal(text_of(&out), "| A | B |\n|---|---|\n| `1` |  |\n");
        buf_clear(&out);
}

static void a_terminal_obeys_nothing(void **state)
{
        struct buf out;

        (void)state;
        buf_init(&out, 4096);
        report_text(&out, STR("a\033[2J\x7F\xC2\x9B\xE2\x80\xAE\xC3\xA4\xE2\x80\x8B"));
        assert_string_equal(
                text_of(&out), "a\\x1b[2J\\x7f\\xc2\\x9b\\xe2\\x80\\xae\xC3\xA4\\xe2\\x80\\x8b");
        buf_clear(&out);
}

static void quoted_text_is_yaml_and_json(void **state)
{
        struct buf out;

        (void)state;
        buf_init(&out, 4096);
        report_quoted(&out, STR("a\"\\\n\x7F\xC2\x85\xE2\x80\xAE\xC3\xA4"));
        assert_string_equal(text_of(&out), "\"a\\\"\\\\\\u000a\\u007f\\u0085\\u202e\xC3\xA4\"");
        buf_clear(&out);
}

static void objects_of_a_list_have_commas_between(void **state)
{
        struct buf out;

        (void)state;
        buf_init(&out, 4096);
        for (int i = 0; i < 2; i++) {
                report_object(&out);
                report_member(&out, "a", STR("x"));
                report_count(&out, "n", 3);
                report_flag(&out, "f", i == 1);
                buf_char(&out, '}');
        }
        assert_string_equal(text_of(&out),
                "\n{\"a\":\"x\",\"n\":3,\"f\":false},\n{\"a\":\"x\",\"n\":3,\"f\":true}");
        buf_clear(&out);
}

static void formats_have_names(void **state)
{
        enum report_format format;

        (void)state;
        assert_true(report_format_named(STR("markdown"), &format));
        assert_int_equal(format, REPORT_MARKDOWN);
        assert_false(report_format_named(STR("html"), &format));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_cell_cannot_end_its_cell_or_be_markup),
                cmocka_unit_test(a_table_has_a_heading_and_rows),
                cmocka_unit_test(a_terminal_obeys_nothing),
                cmocka_unit_test(quoted_text_is_yaml_and_json),
                cmocka_unit_test(objects_of_a_list_have_commas_between),
                cmocka_unit_test(formats_have_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
