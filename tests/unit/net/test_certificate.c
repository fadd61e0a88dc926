/* What certificate files say. What servers show is looked at in tests/integration/test_doctor.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "certificate_kit.h"
#include "dagward/net/certificate.h"

struct place {
        char folder[64], crt[96], key[96], other_crt[96], other_key[96], text[96];
};

static struct place here;

static int make(void **state)
{
        (void)state;
        strcpy(here.folder, "/tmp/dagward-certificate-XXXXXX");
        if (!mkdtemp(here.folder))
                return -1;
        snprintf(here.crt, sizeof(here.crt), "%s/a.crt", here.folder);
        snprintf(here.key, sizeof(here.key), "%s/a.key", here.folder);
        snprintf(here.other_crt, sizeof(here.other_crt), "%s/b.crt", here.folder);
        snprintf(here.other_key, sizeof(here.other_key), "%s/b.key", here.folder);
        snprintf(here.text, sizeof(here.text), "%s/c", here.folder);
        FILE *text = fopen(here.text, "w");
        if (!text)
                return -1;
        fputs("to be done\n", text);
        fclose(text);
        return certificate_write("DNS:a.example,DNS:*.b.example,IP:192.0.2.1,IP:2001:db8::1", 86400,
                       here.crt, here.key) &&
                               certificate_write(
                                       "DNS:other.example", 86400, here.other_crt, here.other_key)
                       ? 0
                       : -1;
}

static int unmake(void **state)
{
        const char *files[] = {here.crt, here.key, here.other_crt, here.other_key, here.text};

        (void)state;
        for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
                unlink(files[i]);
        return rmdir(here.folder);
}

static void a_certificate_says_who_and_until_when(void **state)
{
        struct certificate_file file;
        struct error err;

        (void)state;
        assert_true(certificate_file_read(here.crt, &file, &err));
        assert_int_equal(file.n, 1);
        assert_int_equal(file.broken_at, 1);
        assert_false(file.system_trusts);
        assert_string_equal(file.chain[0].subject, "CN=stub");
        assert_string_equal(file.chain[0].names, "a.example, *.b.example, 192.0.2.1, 2001:db8::1");
        assert_true(file.chain[0].self_issued);
        assert_false(file.chain[0].issuer_url);
        int64_t now = (int64_t)time(NULL);
        assert_in_range(file.chain[0].not_after_s, now + 86400 - 60, now + 86400 + 60);
        assert_in_range(file.chain[0].not_before_s, now - 7200 - 60, now - 7200 + 60);
}

static void what_is_no_certificate_is_an_error(void **state)
{
        const char *files[] = {here.key, here.text, "/nowhere/a.crt"};
        struct certificate_file file;
        struct error err;

        (void)state;
        for (size_t i = 0; i < 3; i++) {
                assert_false(certificate_file_read(files[i], &file, &err));
                assert_non_null(strstr(err.text, files[i]));
        }
}

static void names_are_compared_as_clients_do(void **state)
{
        static const struct {
                const char *host;
                bool covered;
        } cases[] = {{"a.example", true}, {"A.Example", true}, {"x.b.example", true},
                {"x.y.b.example", false}, {"b.example", false}, {"other.example", false},
                {"192.0.2.1", true}, {"192.0.2.2", false}, {"2001:db8::1", true}};

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
                assert_int_equal(certificate_covers(here.crt, cases[i].host), cases[i].covered);
        assert_false(certificate_covers(here.text, "a.example"));
}

static void a_key_fits_its_own_certificate_only(void **state)
{
        (void)state;
        assert_int_equal(certificate_key_fit(here.crt, here.key), KEY_FITS);
        assert_int_equal(certificate_key_fit(here.crt, here.other_key), KEY_OTHER);
        assert_int_equal(certificate_key_fit(here.crt, here.text), KEY_UNREADABLE);
        assert_int_equal(certificate_key_fit(here.crt, "/nowhere/a.key"), KEY_UNREADABLE);
        assert_int_equal(certificate_key_fit(here.crt, here.crt), KEY_UNREADABLE);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_certificate_says_who_and_until_when),
                cmocka_unit_test(what_is_no_certificate_is_an_error),
                cmocka_unit_test(names_are_compared_as_clients_do),
                cmocka_unit_test(a_key_fits_its_own_certificate_only),
        };

        return cmocka_run_group_tests(tests, make, unmake);
}
