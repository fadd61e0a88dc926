#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "dagward/token/base64.h"

static void one_spelling_per_value(void **state)
{
        static const struct {
                const char *text;
                ssize_t url, padded; /* length or -1 */
                const char *bytes;
        } cases[] = {
                {"", 0, 0, ""},
                {"Zg", 1, -1, "f"},
                {"Zm8", 2, -1, "fo"},
                {"Zm9v", 3, 3, "foo"},
                {"Zm9vYg", 4, -1, "foob"},
                {"Zm9vYmFy", 6, 6, "foobar"},
                {"Zg==", -1, 1, "f"},
                {"Zm8=", -1, 2, "fo"},
                {"Zm9v====", -1, -1, ""},
                {"====", -1, -1, ""},
                {"Zg=", -1, -1, ""},
                {"Z===", -1, -1, ""},
                {"Zh", -1, -1, ""},   /* stray bit */
                {"Zh==", -1, -1, ""}, /* stray bit */
                {"Zm9=", -1, -1, ""}, /* stray bit */
                {"Zm9", -1, -1, ""},  /* stray bit */
                {"Z", -1, -1, ""},
                {"Zm9vY", -1, -1, ""},
                {"-_-_", 3, -1, "\xfb\xff\xbf"},
                {"+/+/", -1, 3, "\xfb\xff\xbf"},
                {"Zm 9v", -1, -1, ""},
                {"Zm9v\n", -1, -1, ""},
                {"Zm9\xc3", -1, -1, ""},
                {"Zm9@", -1, -1, ""},
                {"Zm9[", -1, -1, ""},
                {"Zm9`", -1, -1, ""},
                {"Zm9{", -1, -1, ""},
                {"Zm9:", -1, -1, ""},
                {"Zm9.", -1, -1, ""},
        };
        char out[64];

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct str text = str_of(cases[i].text);
                assert_int_equal(base64url_decode(text, out), cases[i].url);
                if (cases[i].url > 0)
                        assert_memory_equal(out, cases[i].bytes, (size_t)cases[i].url);
                assert_int_equal(base64_decode(text, out), cases[i].padded);
                if (cases[i].padded > 0)
                        assert_memory_equal(out, cases[i].bytes, (size_t)cases[i].padded);
        }
}

static void a_nul_is_not_in_the_alphabet(void **state)
{
        char out[8];

        (void)state;
        assert_int_equal(base64url_decode(str_view("Zm\0v", 4), out), -1);
        assert_int_equal(base64_decode(str_view("Zm\0v", 4), out), -1);
}

static void what_is_written_reads_back(void **state)
{
        unsigned char bytes[256], back[256];
        char memory[400];
        struct buf text;

        (void)state;
        for (size_t i = 0; i < sizeof(bytes); i++)
                bytes[i] = (unsigned char)(i * 167 + 13);
        for (size_t len = 0; len <= sizeof(bytes); len++) {
                buf_init_fixed(&text, memory, sizeof(memory));
                base64url_write(&text, bytes, len);
                assert_int_equal(BASE64_DECODED(text.len), len);
                assert_int_equal(base64url_decode(buf_str(&text), back), len);
                assert_memory_equal(back, bytes, len);
        }
}

static void what_is_written_with_padding_reads_back(void **state)
{
        static const char *const cases[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="},
                {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"\xfb\xff\xbf", "+/+/"}};

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                char memory[32], back[32];
                struct buf out;
                buf_init_fixed(&out, memory, sizeof(memory));
                base64_write(&out, cases[i][0], strlen(cases[i][0]));
                assert_true(str_eq(buf_str(&out), str_of(cases[i][1])));
                assert_int_equal(base64_decode(buf_str(&out), back), strlen(cases[i][0]));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_written_with_padding_reads_back),
                cmocka_unit_test(one_spelling_per_value),
                cmocka_unit_test(a_nul_is_not_in_the_alphabet),
                cmocka_unit_test(what_is_written_reads_back),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
