#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dagward/net/egress.h"

static const struct {
        const char *except; /* blanks divide */
        const char *host;
        bool through;
} cases[] = {
        {"", "dev.azure.com", true},
        {"", "8.8.8.8", true},
        {"", "2001:db8::1", true},
        {"", "localhost", false},
        {"", "LOCALHOST", false},
        {"", "a.localhost", false},
        {"", "notlocalhost", true},
        {"", "127.0.0.1", false},
        {"", "127.255.0.9", false},
        {"", "128.0.0.1", true},
        {"", "::1", false},
        {"", "[::1]", false},
        {"", "::2", true},
        {"", "::ffff:127.0.0.1", false},
        {"", "169.254.169.254", false},
        {"", "::ffff:169.254.169.254", false},
        {"", "169.255.0.1", true},
        {"", "fe80::1", false},
        {"", "febf::1", false},
        {"", "fec0::1", true},
        {"*", "dev.azure.com", false},
        {"azure.com", "dev.azure.com", false},
        {"azure.com", "azure.com", false},
        {"azure.com", "notazure.com", true},
        {"azure.com", "azure.com.example", true},
        {".azure.com", "dev.azure.com", false},
        {".azure.com", "azure.com", false},
        {"*.azure.com", "DEV.Azure.com", false},
        {"dev.azure.com.", "dev.azure.com", false},
        {"dev.azure.com", "dev.azure.com.", false},
        {"10.0.0.0/8", "10.9.8.7", false},
        {"10.0.0.0/8", "11.0.0.1", true},
        {"10.0.0.0/8", "10.example", true},
        {"10.1.2.0/23", "10.1.3.255", false},
        {"10.1.2.0/23", "10.1.4.0", true},
        {"10.1.2.3", "10.1.2.3", false},
        {"10.1.2.3", "10.1.2.4", true},
        {"0.0.0.0/0", "9.9.9.9", false},
        {"0.0.0.0/0", "2001:db8::1", true},
        {"2001:db8::/32", "[2001:db8:1::1]", false},
        {"2001:db8::/32", "2001:db9::1", true},
        {"a.example 10.0.0.0/8 b.example", "x.b.example", false},
};

static void what_goes_through_the_proxy_is_what_no_exception_names(void **state)
{
        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct egress *egress = egress_new(STR("proxy"), 3128, "a test");
                struct str rest = str_of(cases[i].except), item;
                while (rest.len) {
                        rest = str_cut(rest, ' ', &item);
                        assert_true(egress_except(egress, item));
                }
                if (egress_serves(egress, cases[i].host) != cases[i].through)
                        fail_msg("%s except \"%s\"", cases[i].host, cases[i].except);
                egress_unref(egress);
        }
}

static void what_is_no_exception_is_refused(void **state)
{
        static const char *const wrong[] = {"", ".", "*.", "..a", "a b", "10.0.0.0/33", "::/129",
                "10.0.0.0/x", "a.example/8", "10.0.0.0/", "http://a", "a:80", "a/b"};

        (void)state;
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
                if (egress_exception_ok(str_of(wrong[i])))
                        fail_msg("%s", wrong[i]);
}

static void none_is_the_direct_way_and_each_has_a_number(void **state)
{
        struct egress *one = egress_new(STR("proxy"), 1, "a test");
        struct egress *other = egress_new(STR("::2"), 8080, "a test");

        (void)state;
        assert_false(egress_serves(NULL, "dev.azure.com"));
        assert_true(one->number && other->number && one->number != other->number);
        assert_string_equal(one->text, "http://proxy:1");
        assert_string_equal(other->text, "http://[::2]:8080");
        egress_unref(one);
        egress_unref(other);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_goes_through_the_proxy_is_what_no_exception_names),
                cmocka_unit_test(what_is_no_exception_is_refused),
                cmocka_unit_test(none_is_the_direct_way_and_each_has_a_number),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
