#include "token_kit.h"

#include <openssl/pem.h>

#include "dagward/token/base64.h"
#include "dagward/token/keyset.h"

static struct mint_key *rsa, *ec, *ed;

static int make_keys(void **state)
{
        (void)state;
        rsa = mint_key_generate(TOKEN_RS256, STR("rsa"));
        ec = mint_key_generate(TOKEN_ES256, STR("ec"));
        ed = mint_key_generate(TOKEN_EDDSA, STR("ed"));
        return 0;
}

static int drop_keys(void **state)
{
        (void)state;
        mint_key_free(rsa);
        mint_key_free(ec);
        mint_key_free(ed);
        return 0;
}

/* `%` in `format` becomes the JWK of `key` without its closing brace. */
static struct keyset *parse(const char *format, const struct mint_key *key,
        struct error_list *warnings, struct error *err)
{
        struct buf text, jwk;

        buf_init(&text, 1 << 20);
        buf_init(&jwk, 1 << 16);
        mint_key_jwk(key, -1, &jwk);
        for (const char *c = format; *c; c++)
                if (*c == '%')
                        buf_add(&text, jwk.data, jwk.len - 1);
                else
                        buf_char(&text, *c);
        struct keyset *set = keyset_parse(buf_str(&text), true, "keys.json", warnings, err);
        buf_clear(&text);
        buf_clear(&jwk);
        return set;
}

static void only_keys_to_be_trusted_are_kept(void **state)
{
        static const struct {
                const char *text;
                size_t kept, dropped; /* kept 0: refused as a whole */
        } cases[] = {
                {"{\"keys\":[%}]}", 1, 0},
                {"{\"keys\":[%},%}]}", 1, 0}, /* the same key twice is one key */
                {"{\"keys\":[%,\"alg\":\"ES256\"}]}", 1, 0},
                {"{\"keys\":[%,\"key_ops\":[\"verify\"]}]}", 1, 0},
                {"{\"keys\":[%,\"x5c\":[7],\"other\":{}}]}", 1, 0},
                {"{\"keys\":[null,7,{},{\"kty\":\"XYZ\"},%}]}", 1, 4},
                {"{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"},%}]}", 1, 1},
                {"{\"keys\":[%,\"alg\":\"RS256\"}]}", 0, 0},
                {"{\"keys\":[%,\"alg\":\"HS256\"}]}", 0, 0},
                {"{\"keys\":[%,\"alg\":\"none\"}]}", 0, 0},
                {"{\"keys\":[%,\"alg\":7}]}", 0, 0},
                {"{\"keys\":[%,\"key_ops\":[\"sign\"]}]}", 0, 0},
                {"{\"keys\":[%,\"key_ops\":[]}]}", 0, 0},
                {"{\"keys\":[%,\"d\":\"AAAA\"}]}", 0, 0},
                {"{\"keys\":[%,\"kid\":\"again\"}]}", 0, 0}, /* duplicate member */
                {"{\"keys\":[]}", 0, 0},
                {"{\"keys\":{}}", 0, 0},
                {"{}", 0, 0},
                {"[]", 0, 0},
                {"", 0, 0},
                {"{\"keys\":[%}]} x", 0, 0},
                {"%}", 0, 0}, /* a key is not a set */
                {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", 0, 0},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct error_list warnings;
                struct error err = {""};
                error_list_init(&warnings);
                struct keyset *set = parse(cases[i].text, ec, &warnings, &err);
                if ((set ? set->n : 0) != cases[i].kept)
                        fail_msg("case %zu: %zu keys, %s", i, set ? set->n : 0, err.text);
                if (set)
                        assert_int_equal(set->dropped, cases[i].dropped);
                else
                        assert_true(err.text[0] != '\0');
                assert_int_equal(warnings.errors, 0);
                if (set)
                        assert_int_equal(warnings.n, cases[i].dropped);
                error_list_clear(&warnings);
                keyset_unref(set);
        }
}

static void a_weak_key_is_named_in_the_warning(void **state)
{
        static const char text[] =
                "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"old\",\"n\":\"wQ\",\"e\":\"AQAB\"},"
                "{\"kty\":\"EC\",\"kid\":\"off\\n\",\"crv\":\"P-256\","
                "\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\","
                "\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}";
        struct error_list warnings;
        struct error err;

        (void)state;
        error_list_init(&warnings);
        assert_null(keyset_parse(str_of(text), false, "keys.json", &warnings, &err));
        assert_string_equal(err.text, "holds no key that can be used (2 left out)");
        assert_int_equal(warnings.n, 2);
        assert_string_equal(warnings.findings[0].text,
                "key 1 (`old`) is not used: RSA modulus of 8 bits, not 2048 to 8192");
        assert_string_equal(warnings.findings[1].text, "key 2 is not used: not a point of P-256");
        assert_true(warnings.findings[0].warning);
        error_list_clear(&warnings);
}

#define ONES_64 "________________________________________________________________"
#define ONES_341 ONES_64 ONES_64 ONES_64 ONES_64 ONES_64 "_____________________"

static void what_is_no_key_to_be_trusted_is_named(void **state)
{
        static const struct {
                const char *key, *why;
        } cases[] = {
                {"\"kty\":\"RSA\",\"n\":\"" ONES_341 "g\",\"e\":\"AQAB\"",
                        "RSA modulus or exponent is even"},
                {"\"kty\":\"RSA\",\"n\":\"" ONES_341 "w\",\"e\":\"Ag\"",
                        "RSA modulus or exponent is even"},
                {"\"kty\":\"RSA\",\"n\":\"" ONES_341 "w\"",
                        "`n` or `e` is missing, too long or not base64url"},
                {"\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"AAAA\"", "`crv` is not Ed25519"},
                {"\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"",
                        "`x` is not base64url of 32 bytes"},
                {"\"kty\":\"RSA\",\"kid\":7", "`kid` is not a string of 1 to 1024 bytes"},
                {"\"kty\":\"RSA\",\"kid\":\"\"", "`kid` is not a string of 1 to 1024 bytes"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct error_list warnings;
                struct error err;
                char text[1024];
                snprintf(text, sizeof(text), "{\"keys\":[{%s}]}", cases[i].key);
                error_list_init(&warnings);
                assert_null(keyset_parse(str_of(text), false, NULL, &warnings, &err));
                assert_int_equal(warnings.n, 1);
                if (!strstr(warnings.findings[0].text, cases[i].why))
                        fail_msg("case %zu: %s", i, warnings.findings[0].text);
                error_list_clear(&warnings);
        }
}

static void points_of_small_order_are_no_ed25519_keys(void **state)
{
        static const struct {
                const char *x;
                bool good;
        } cases[] = {
                /* y = 1, 0, -1, both of order 8, p, p + 1; then with the sign bit; then no point */
                {"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", false},
                {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", false},
                {"7P_______________________________________38", false},
                {"JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU", false},
                {"xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o", false},
                {"7f_______________________________________38", false},
                {"7v_______________________________________38", false},
                {"JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_IU", false},
                {"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIA", false},
                {"AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", false}, /* y = 2 */
                /* the base point, and RFC 8032 7.1 test 1 */
                {"WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY", true},
                {"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", true},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct error err;
                char text[256];
                snprintf(text, sizeof(text),
                        "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"}]}",
                        cases[i].x);
                struct keyset *set = keyset_parse(str_of(text), false, NULL, NULL, &err);
                if (!set == cases[i].good)
                        fail_msg("case %zu: %s", i, set ? "kept" : err.text);
                keyset_unref(set);
        }
}

static void kid_and_algorithm_name_one_key_or_none(void **state)
{
        struct mint_key *keys[] = {rsa, ec, ed};
        struct keyset *set = kit_keyset(keys, 3);
        static const struct {
                const char *kid; /* NULL: the token has none */
                enum token_alg alg;
                int found; /* index or -1 */
                bool other_alg;
        } cases[] = {
                {"rsa", TOKEN_RS256, 0, false},
                {"rsa", TOKEN_PS512, 0, false},
                {"rsa", TOKEN_ES256, -1, true},
                {"ec", TOKEN_ES256, 1, false},
                {"ec", TOKEN_ES384, -1, true},
                {"ed", TOKEN_EDDSA, 2, false},
                {"RSA", TOKEN_RS256, -1, false},
                {"rsa ", TOKEN_RS256, -1, false},
                {"", TOKEN_RS256, -1, false},
                {NULL, TOKEN_RS256, 0, false},
                {NULL, TOKEN_ES256, 1, false},
                {NULL, TOKEN_ES384, -1, false},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                bool other_alg = !cases[i].other_alg;
                const struct key *key =
                        keyset_find(set, str_of(cases[i].kid), cases[i].alg, &other_alg);
                assert_int_equal(key ? (int)(key - set->keys) : -1, cases[i].found);
                assert_int_equal(other_alg, cases[i].other_alg);
        }
        keyset_unref(set);
}

static void a_name_for_two_keys_of_one_algorithm_names_none(void **state)
{
        struct mint_key *twin = mint_key_generate(TOKEN_ES256, STR("ec"));
        struct mint_key *cousin = mint_key_generate(TOKEN_ES384, STR("ec"));
        struct mint_key *with_twin[] = {ec, twin, rsa}, *with_cousin[] = {ec, cousin};
        bool other_alg;

        (void)state;
        struct keyset *set = kit_keyset(with_twin, 3);
        assert_int_equal(set->n, 1);
        assert_int_equal(set->dropped, 2);
        assert_null(keyset_find(set, STR("ec"), TOKEN_ES256, &other_alg));
        assert_non_null(keyset_find(set, STR("rsa"), TOKEN_RS256, &other_alg));
        keyset_unref(set);

        set = kit_keyset(with_cousin, 2); /* the algorithm tells them apart */
        assert_int_equal(set->n, 2);
        assert_ptr_equal(keyset_find(set, STR("ec"), TOKEN_ES256, &other_alg), &set->keys[0]);
        assert_ptr_equal(keyset_find(set, STR("ec"), TOKEN_ES384, &other_alg), &set->keys[1]);
        keyset_unref(set);
        mint_key_free(twin);
        mint_key_free(cousin);
}

static void the_generation_follows_the_keys(void **state)
{
        struct mint_key *both[] = {rsa, ec}, *one[] = {rsa};
        struct keyset *a = kit_keyset(both, 2), *again = kit_keyset(both, 2),
                      *b = kit_keyset(one, 1);

        (void)state;
        assert_true(a->generation == again->generation);
        assert_true(a->generation != b->generation);
        assert_true(a->generation != 0);
        struct error err;
        struct keyset *pinned = parse("{\"keys\":[%,\"alg\":\"RS256\"}]}", rsa, NULL, &err);
        assert_non_null(pinned);
        assert_true(pinned->generation != b->generation); /* the same key, for less */
        keyset_unref(pinned);
        keyset_unref(a);
        keyset_unref(again);
        keyset_unref(b);
}

/* Two keys made elsewhere, and their RFC 7638 thumbprints and DER digests. */
static const char pem_ec[] = "-----BEGIN PUBLIC KEY-----\n"
                             "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMKBCTNIcKUSDii11ySs3526iDZ8A\n"
                             "iTo7Tu6KPAqv7D7gS2XpJFbZiItSs3m9+9Ue6GnvHw/GW2ZZaVtszggXIw==\n"
                             "-----END PUBLIC KEY-----\n"; /* RFC 7517 A.1 */

static void a_pem_key_serves_whatever_name_the_token_gives(void **state)
{
        struct error err = {""};
        struct keyset *set = keyset_parse(str_of(pem_ec), true, "key.pem", NULL, &err);
        bool other_alg;

        (void)state;
        if (!set)
                fail_msg("%s", err.text);
        assert_true(set->pem);
        assert_int_equal(set->n, 1);
        assert_true(str_eq(set->keys[0].kid, STR("cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s")));
        assert_non_null(keyset_find(set, set->keys[0].kid, TOKEN_ES256, &other_alg));
        assert_non_null(keyset_find(set, set->keys[0].other_kid, TOKEN_ES256, &other_alg));
        assert_non_null(keyset_find(set, STR("any"), TOKEN_ES256, &other_alg));
        assert_non_null(keyset_find(set, STR_NONE, TOKEN_ES256, &other_alg));
        assert_null(keyset_find(set, STR("any"), TOKEN_RS256, &other_alg));
        keyset_unref(set);
        assert_null(
                keyset_parse(str_of(pem_ec), false, NULL, NULL, &err)); /* not over the network */

        char two[2 * sizeof(pem_ec) + 1024];
        snprintf(two, sizeof(two), "\n# comment\n%s%s", pem_ec, pem_ec);
        set = keyset_parse(str_from(str_of(two), 11), true, NULL, NULL, &err);
        assert_non_null(set);
        assert_int_equal(set->n, 1);
        keyset_unref(set);
}

static void weak_pem_keys_are_left_out(void **state)
{
        EVP_PKEY *weak[] = {EVP_RSA_gen(1024), EVP_EC_gen("secp256k1"),
                EVP_PKEY_Q_keygen(NULL, NULL, "ED448"), EVP_PKEY_Q_keygen(NULL, NULL, "X25519")};
        static const char *const why[] = {"RSA modulus of 1024 bits, not 2048 to 8192",
                "the curve is not P-256, P-384 or P-521", "neither RSA, EC nor Ed25519",
                "neither RSA, EC nor Ed25519"};

        (void)state;
        for (size_t i = 0; i < 4; i++) {
                BIO *bio = BIO_new(BIO_s_mem());
                struct error_list warnings;
                struct error err;
                char *pem, expected[256];
                assert_int_equal(PEM_write_bio_PUBKEY(bio, weak[i]), 1);
                BIO_puts(bio, pem_ec);
                long len = BIO_get_mem_data(bio, &pem);
                error_list_init(&warnings);
                struct keyset *set =
                        keyset_parse(str_view(pem, (size_t)len), true, "k", &warnings, &err);
                assert_non_null(set);
                assert_int_equal(set->n, 1); /* the good one behind it */
                assert_int_equal(set->dropped, 1);
                snprintf(expected, sizeof(expected), "key 1 is not used: %s", why[i]);
                assert_string_equal(warnings.findings[0].text, expected);
                keyset_unref(set);
                error_list_clear(&warnings);
                BIO_free(bio);
                EVP_PKEY_free(weak[i]);
        }
}

static void a_document_too_long_is_refused(void **state)
{
        char *text = calloc(1, KEYSET_MOST_BYTES + 1);
        struct error err;

        (void)state;
        assert_null(keyset_parse(str_view(text, KEYSET_MOST_BYTES + 1), true, NULL, NULL, &err));
        assert_string_equal(err.text, "longer than 1048576 bytes");
        free(text);
}

static void a_set_of_too_many_keys_is_refused(void **state)
{
        struct buf text;
        struct error err;

        (void)state;
        buf_init(&text, 1 << 20);
        BUF_LITERAL(&text, "{\"keys\":[{}");
        for (int i = 0; i < KEYSET_MOST_KEYS; i++)
                BUF_LITERAL(&text, ",{}");
        BUF_LITERAL(&text, "]}");
        assert_null(keyset_parse(buf_str(&text), false, NULL, NULL, &err));
        assert_string_equal(err.text, "holds 257 keys, more than 256");
        buf_clear(&text);
}

static void a_signature_holds_for_its_bytes_and_its_algorithm_only(void **state)
{
        struct mint_key *keys[] = {rsa, ec, ed};
        static const enum token_alg algs[] = {TOKEN_RS256, TOKEN_ES256, TOKEN_EDDSA};
        struct keyset *set = kit_keyset(keys, 3);

        (void)state;
        for (size_t i = 0; i < 3; i++) {
                struct secret token = kit_sign(keys[i], algs[i], "{}");
                struct str all = secret_reveal(&token), payload;
                struct str head, rest = str_cut(all, '.', &head);
                struct str text = str_cut(rest, '.', &payload);
                struct str input = str_head(all, head.len + 1 + payload.len);
                char raw[512];
                ssize_t len = base64url_decode(text, raw);
                struct str signature = str_view(raw, (size_t)len);
                const struct key *key = &set->keys[i];
                assert_int_equal(signature.len, key->signature_bytes);
                assert_true(key_verify(key, algs[i], input, signature));
                assert_false(key_verify(key, algs[i], str_head(input, input.len - 1), signature));
                assert_false(
                        key_verify(key, algs[i], input, str_head(signature, signature.len - 1)));
                assert_false(key_verify(key, algs[i], input, STR_NONE));
                assert_false(key_verify(&set->keys[(i + 1) % 3], algs[i], input, signature));
                for (int alg = 0; alg < TOKEN_ALG_COUNT; alg++)
                        if (alg != (int)algs[i])
                                assert_false(
                                        key_verify(key, (enum token_alg)alg, input, signature));
                for (size_t bit = 0; bit < 8; bit++) {
                        raw[bit * 7] = (char)(raw[bit * 7] ^ 1 << bit);
                        assert_false(key_verify(key, algs[i], input, signature));
                        raw[bit * 7] = (char)(raw[bit * 7] ^ 1 << bit);
                }
                memset(raw, 0, sizeof(raw));
                assert_false(key_verify(key, algs[i], input, signature));
                secret_drop(&token);
        }
        keyset_unref(set);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(only_keys_to_be_trusted_are_kept),
                cmocka_unit_test(a_weak_key_is_named_in_the_warning),
                cmocka_unit_test(what_is_no_key_to_be_trusted_is_named),
                cmocka_unit_test(points_of_small_order_are_no_ed25519_keys),
                cmocka_unit_test(kid_and_algorithm_name_one_key_or_none),
                cmocka_unit_test(a_name_for_two_keys_of_one_algorithm_names_none),
                cmocka_unit_test(the_generation_follows_the_keys),
                cmocka_unit_test(a_pem_key_serves_whatever_name_the_token_gives),
                cmocka_unit_test(weak_pem_keys_are_left_out),
                cmocka_unit_test(a_document_too_long_is_refused),
                cmocka_unit_test(a_set_of_too_many_keys_is_refused),
                cmocka_unit_test(a_signature_holds_for_its_bytes_and_its_algorithm_only),
        };
        return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
