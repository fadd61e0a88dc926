/* Thumbprints against what `openssl x509 -fingerprint` says of the same certificate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dagward/token/x5t.h"
#include "dagward/token/alg.h"

#define RSA_SHA256 "BBAB0AF040C04279683769AFA950E8E6C5E2758B49F3C64F05E183A0676DB61B"
#define RSA_X5T_S256 "u6sK8EDAQnloN2mvqVDo5sXidYtJ88ZPBeGDoGdtths"
#define RSA_X5T "0TvQa01Hl65IoavyiS7NaTslFgY"

static size_t load(const char *name, char *out, size_t size)
{
        char path[400];

        snprintf(path, sizeof(path), "%s/tests/fuzz/token/seeds/fuzz_x5t/%s", SOURCE_DIR, name);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        size_t len = fread(out, 1, size, file);
        fclose(file);
        return len;
}

static void a_certificate_is_known_by_its_thumbprints(void **state)
{
        struct x5t pem, der;
        char text[8192];
        struct error err;

        (void)state;
        size_t len = load("rsa.pem", text, sizeof(text));
        assert_true(x5t_read_pem(str_view(text, len), &pem, &err));
        assert_string_equal(pem.hex, RSA_SHA256);
        assert_string_equal(pem.sha256, RSA_X5T_S256);
        assert_string_equal(pem.sha1, RSA_X5T);
        assert_int_equal(pem.not_after_s - pem.not_before_s, INT64_C(3650) * 86400);
        assert_true(pem.algorithms & TOKEN_ALG_BIT(TOKEN_PS256));
        assert_true(pem.algorithms & TOKEN_ALG_BIT(TOKEN_RS256));
        len = load("rsa.der", text, sizeof(text));
        assert_true(x5t_read_der(str_view(text, len), &der, &err));
        assert_string_equal(der.hex, pem.hex);
        assert_string_equal(der.key_id, pem.key_id);
        len = load("ec.pem", text, sizeof(text));
        assert_true(x5t_read_pem(str_view(text, len), &der, &err));
        assert_false(der.algorithms & TOKEN_ALG_BIT(TOKEN_PS256));
        assert_string_not_equal(der.key_id, pem.key_id);
}

static void what_is_no_certificate_is_none(void **state)
{
        struct x5t one;
        char text[8192];
        struct error err;

        (void)state;
        size_t len = load("rsa.pem", text, sizeof(text));
        assert_false(x5t_read_der(str_view(text, len), &one, &err));
        assert_false(x5t_read_pem(str_view(text, len - 40), &one, &err));
        assert_false(x5t_read_pem(STR_NONE, &one, &err));
        assert_string_equal(err.text, "no PEM certificate in it");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_certificate_is_known_by_its_thumbprints),
                cmocka_unit_test(what_is_no_certificate_is_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
