#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "dagward/base/pull.h"

static struct arena arena;

/* A string that is read alone, from memory that ends with it: a sanitizer sees what reads on. */
static bool text_of(const char *json, size_t len, struct str *out)
{
        char *exact = malloc(len ? len : 1);

        memcpy(exact, json, len);
        struct pull r = {exact, exact + len, &arena};
        bool ok = pull_text(&r, out) && r.p == r.end;
        if (ok)
                *out = arena_copy(&arena, *out);
        free(exact);
        return ok;
}

static void a_special_byte_is_found_wherever_it_stands(void **state)
{
        static const struct {
                const char *in, *out; /* NULL: no string of JSON */
        } bytes[] = {{"x", "x"}, {"\\\"", "\""}, {"\\\\", "\\"}, {"\\u0041", "A"}, {"\x1f", NULL},
                {"\n", NULL}, {"\x7f", "\x7f"}, {"\xc3\xa9", "\xc3\xa9"}, {"\xc3", NULL},
                {"\x80", NULL}, {"\xf0\x9f\x98\x80\xc3\xa9", "\xf0\x9f\x98\x80\xc3\xa9"},
                {"\xc3\xa9\\n", "\xc3\xa9\n"}, {"\xc3\xa9\t", NULL}, {"\\x", NULL}, {" ", " "}};

        (void)state;
        for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
                for (size_t before = 0; before < 40; before++) {
                        for (size_t after = 0; after < 20; after++) {
                                char json[128], wanted[128];
                                struct str out;

                                snprintf(json, sizeof(json), "\"%.*s%s%.*s\"", (int)before,
                                        "abcdefghijklmnopqrstuvwxyz0123456789ABCD", bytes[i].in,
                                        (int)after, "ZYXWVUTSRQPONMLKJIHG");
                                bool ok = text_of(json, strlen(json), &out);
                                assert_true(ok == (bytes[i].out != NULL));
                                /* Its end is missing. */
                                assert_false(text_of(json, strlen(json) - 1, &(struct str){0}));
                                if (!ok)
                                        continue;
                                snprintf(wanted, sizeof(wanted), "%.*s%s%.*s", (int)before,
                                        "abcdefghijklmnopqrstuvwxyz0123456789ABCD", bytes[i].out,
                                        (int)after, "ZYXWVUTSRQPONMLKJIHG");
                                assert_int_equal(out.len, strlen(wanted));
                                assert_memory_equal(out.ptr, wanted, out.len);
                                arena_reset(&arena);
                        }
                }
        }
}

static void blanks_are_those_of_json(void **state)
{
        (void)state;
        for (int c = 1; c < 256; c++) {
                char text[] = {(char)c, (char)c, ':'};
                struct pull r = {text, text + sizeof(text), &arena};
                bool blank = c == ' ' || c == '\t' || c == '\r' || c == '\n';

                assert_true(pull_char(&r, ':') == (blank || c == ':'));
                if (!blank && c != ':')
                        assert_ptr_equal(r.p, text);
        }
}

static unsigned long long chance = 88172645463325252ULL;

static unsigned next(unsigned below)
{
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        return (unsigned)(chance % below);
}

/* What jansson takes, and nothing else: no part makes a number of another form, which pull_skip
 * lets pass. */
static void what_is_json_is_skipped_as_a_whole(void **state)
{
        static const char *const parts[] = {"{", "}", "[", "]", ",", ":", "\"a\"", "\"b\\n\"",
                "\"0123456789abcdef\"", "\"\xc3\xa9\"", "1", " -2.5e3 ", "true", "false", "null",
                " ", "\n", "{\"k\":1}", "[1,2]", "{\"n\":{\"m\":[]}}", "\"", "\\"};
        unsigned taken = 0;

        (void)state;
        for (int run = 0; run < 200000; run++) {
                char text[512];
                size_t len = 0;
                unsigned n = 1 + next(8);

                for (unsigned i = 0; i < n; i++)
                        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s",
                                parts[next(sizeof(parts) / sizeof(parts[0]))]);
                struct pull r = {text, text + len, &arena};
                bool skipped = pull_skip(&r);
                pull_blanks(&r);
                json_t *json = json_loadb(text, len, JSON_DECODE_ANY, NULL);
                if (json) {
                        taken++;
                        assert_true(skipped);
                        assert_ptr_equal(r.p, r.end);
                } else if (skipped && r.p == r.end) {
                        fail_msg("no JSON, and taken: %.*s", (int)len, text);
                }
                json_decref(json);
                arena_reset(&arena);
        }
        assert_in_range(taken, 2000, 200000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_special_byte_is_found_wherever_it_stands),
                cmocka_unit_test(blanks_are_those_of_json),
                cmocka_unit_test(what_is_json_is_skipped_as_a_whole),
        };

        arena_init(&arena, 4096, 64 * 1024);
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        arena_clear(&arena);
        return failed;
}
