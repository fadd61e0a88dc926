#include "token_kit.h"

#include <jansson.h>
#include <jwt.h>
#include <openssl/pem.h>

#include "dagward/token/base64.h"

#define CLAIMS                                                                                     \
        "{\"iss\":\"https://"                                                                      \
        "issuer.example\",\"aud\":\"dagward\",\"sub\":\"s\",\"exp\":1800003600}"

static enum token_verdict verify(struct str token, const struct keyset *keys)
{
        struct issuer_view view = {&kit_rules, keys};
        struct caller *caller;
        unsigned index;
        enum token_verdict verdict = token_verify(token, &view, 1, NOW, &caller, &index, NULL);

        caller_unref(caller);
        return verdict;
}

static void what_is_minted_verifies_with_every_algorithm(void **state)
{
        (void)state;
        for (int a = 0; a < TOKEN_ALG_COUNT; a++) {
                enum token_alg alg = (enum token_alg)a;
                struct mint_key *key = mint_key_generate(alg, STR_NONE);
                struct keyset *keys = kit_keyset(&key, 1);
                struct secret token = kit_sign(key, alg, CLAIMS);
                assert_int_equal(mint_key_kid(key).len, 43); /* its thumbprint */
                assert_true(str_eq(keys->keys[0].kid, mint_key_kid(key)));
                assert_int_equal(keys->keys[0].algorithms, mint_key_algorithms(key));
                assert_int_equal(verify(secret_reveal(&token), keys), TOKEN_OK);
                secret_drop(&token);
                keyset_unref(keys);
                mint_key_free(key);
        }
}

/* libjwt's word on a token, given the public key it should have been signed with. */
static bool libjwt_accepts(struct str token, const char *public_pem, jwt_alg_t alg)
{
        char *text = str_dup(token);
        jwt_t *jwt = NULL;
        bool good = jwt_decode(&jwt, text, (const unsigned char *)public_pem,
                            (int)strlen(public_pem)) == 0 &&
                    jwt_get_alg(jwt) == alg;

        jwt_free(jwt);
        free(text);
        return good;
}

static void public_pem_of(const struct keyset *keys, char *out, size_t room)
{
        BIO *bio = BIO_new(BIO_s_mem());
        char *pem;

        assert_int_equal(PEM_write_bio_PUBKEY(bio, keys->keys[0].pkey), 1);
        long len = BIO_get_mem_data(bio, &pem);
        assert_true((size_t)len < room);
        memcpy(out, pem, (size_t)len);
        out[len] = '\0';
        BIO_free(bio);
}

static void libjwt_and_openssl_agree(void **state)
{
        static const struct {
                enum token_alg alg;
                jwt_alg_t libjwt;
        } algs[] = {
                {TOKEN_RS256, JWT_ALG_RS256},
                {TOKEN_RS384, JWT_ALG_RS384},
                {TOKEN_RS512, JWT_ALG_RS512},
                {TOKEN_ES256, JWT_ALG_ES256},
                {TOKEN_ES384, JWT_ALG_ES384},
                {TOKEN_ES512, JWT_ALG_ES512},
        };
        static const long changes[] = {-1, -2, -20, -80, 60, 75}; /* place of a changed byte */

        (void)state;
        for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
                struct mint_key *key = mint_key_generate(algs[i].alg, STR("k"));
                struct keyset *keys = kit_keyset(&key, 1);
                struct secret token = kit_sign(key, algs[i].alg, CLAIMS);
                struct str good = secret_reveal(&token);
                char pem[4096] = "";
                public_pem_of(keys, pem, sizeof(pem));
                assert_true(libjwt_accepts(good, pem, algs[i].libjwt));
                assert_int_equal(verify(good, keys), TOKEN_OK);
                for (size_t j = 0; j < sizeof(changes) / sizeof(changes[0]); j++) {
                        char *bad = str_dup(good);
                        size_t at = changes[j] < 0 ? good.len - (size_t)-changes[j]
                                                   : (size_t)changes[j];
                        bad[at] = bad[at] == 'Q' ? 'g' : 'Q';
                        assert_int_equal(libjwt_accepts(str_of(bad), pem, algs[i].libjwt),
                                verify(str_of(bad), keys) == TOKEN_OK);
                        free(bad);
                }
                secret_drop(&token);
                keyset_unref(keys);
                mint_key_free(key);
        }
}

static json_t *part(struct str token, int number)
{
        static char bytes[8192];
        struct str text, rest = token;

        for (int i = 0; i <= number; i++)
                rest = str_cut(rest, '.', &text);
        ssize_t len = base64url_decode(text, bytes);
        assert_true(len > 0);
        return json_loadb(bytes, (size_t)len, 0, NULL);
}

static void header_members_go_in_and_alg_is_ours(void **state)
{
        static const struct pair header[] = {
                {{"x5t#S256", 8}, {"thumb\"print", 11}}, {{"kid", 3}, {"mine", 4}}};
        static const enum token_alg algs[] = {TOKEN_RS256, TOKEN_PS256};
        struct mint_key *key = mint_key_generate(TOKEN_PS256, STR("own"));

        (void)state;
        for (size_t i = 0; i < 2; i++)
                for (size_t n = 0; n <= 2; n++) {
                        struct secret token;
                        struct error err;
                        assert_true(mint_sign(key, algs[i], header, n, STR(CLAIMS), &token, &err));
                        json_t *json = part(secret_reveal(&token), 0);
                        assert_string_equal(json_string_value(json_object_get(json, "alg")),
                                token_alg_name(algs[i]));
                        assert_string_equal(json_string_value(json_object_get(json, "typ")), "JWT");
                        assert_string_equal(json_string_value(json_object_get(json, "kid")),
                                n == 2 ? "mine" : "own");
                        if (n)
                                assert_string_equal(
                                        json_string_value(json_object_get(json, "x5t#S256")),
                                        "thumb\"print");
                        json_decref(json);
                        json = part(secret_reveal(&token), 1);
                        assert_string_equal(json_string_value(json_object_get(json, "sub")), "s");
                        json_decref(json);
                        secret_drop(&token);
                }
        mint_key_free(key);
}

static void a_key_signs_only_what_it_is_for(void **state)
{
        struct mint_key *key = mint_key_generate(TOKEN_ES256, STR("k"));
        struct secret token;
        struct error err;
        static const struct {
                enum token_alg alg;
                const char *claims, *why;
        } cases[] = {
                {TOKEN_RS256, CLAIMS, "the key is not for RS256"},
                {TOKEN_ES384, CLAIMS, "the key is not for ES384"},
                {TOKEN_ES256, "[]", "the claims are not one JSON object"},
                {TOKEN_ES256, "{", "the claims are not one JSON object"},
                {TOKEN_ES256, "", "the claims are not one JSON object"},
                {TOKEN_ES256, "{\"a\":1,\"a\":2}", "the claims are not one JSON object"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                assert_false(mint_sign(
                        key, cases[i].alg, NULL, 0, str_of(cases[i].claims), &token, &err));
                assert_string_equal(err.text, cases[i].why);
        }
        mint_key_free(key);
}

static void a_key_survives_its_pem(void **state)
{
        static const enum token_alg algs[] = {TOKEN_RS256, TOKEN_ES256, TOKEN_EDDSA};
        struct error err;

        (void)state;
        for (size_t i = 0; i < 3; i++) {
                struct mint_key *key = mint_key_generate(algs[i], STR("k"));
                struct secret pem;
                mint_key_pem(key, &pem);
                struct mint_key *again = mint_key_from_pem(secret_reveal(&pem), STR("k"), &err);
                assert_non_null(again);
                struct keyset *keys = kit_keyset(&key, 1);
                struct secret token = kit_sign(again, algs[i], CLAIMS);
                assert_int_equal(verify(secret_reveal(&token), keys), TOKEN_OK);
                secret_drop(&token);
                secret_drop(&pem);
                keyset_unref(keys);
                mint_key_free(key);
                mint_key_free(again);
        }
        assert_null(mint_key_from_pem(STR(""), STR("k"), &err));
        assert_null(mint_key_from_pem(STR("-----BEGIN PRIVATE KEY-----\n"), STR("k"), &err));
        assert_string_equal(err.text, "not a PEM private key without pass phrase");
}

static void keys_that_are_locked_or_weak_are_refused(void **state)
{
        EVP_PKEY *locked = EVP_EC_gen("P-256"), *weak = EVP_RSA_gen(1024);
        BIO *bio = BIO_new(BIO_s_mem()), *weak_bio = BIO_new(BIO_s_mem());
        char pass[] = "secret", *pem;
        struct error err;

        (void)state;
        assert_int_equal(
                PEM_write_bio_PKCS8PrivateKey(bio, locked, EVP_aes_128_cbc(), pass, 6, NULL, NULL),
                1);
        long len = BIO_get_mem_data(bio, &pem);
        /* and nobody is asked for the pass phrase */
        assert_null(mint_key_from_pem(str_view(pem, (size_t)len), STR("k"), &err));
        assert_string_equal(err.text, "not a PEM private key without pass phrase");
        assert_int_equal(
                PEM_write_bio_PKCS8PrivateKey(weak_bio, weak, NULL, NULL, 0, NULL, NULL), 1);
        len = BIO_get_mem_data(weak_bio, &pem);
        assert_null(mint_key_from_pem(str_view(pem, (size_t)len), STR("k"), &err));
        assert_string_equal(err.text, "RSA modulus of 1024 bits, not 2048 to 8192");
        BIO_free(bio);
        BIO_free(weak_bio);
        EVP_PKEY_free(locked);
        EVP_PKEY_free(weak);
}

static void a_jwk_says_what_the_key_is_for(void **state)
{
        struct mint_key *key = mint_key_generate(TOKEN_RS256, STR("a\"b"));
        struct buf out;
        struct error err;

        (void)state;
        buf_init(&out, 1 << 16);
        BUF_LITERAL(&out, "{\"keys\":[");
        mint_key_jwk(key, TOKEN_PS384, &out);
        BUF_LITERAL(&out, "]}");
        struct keyset *set = keyset_parse(buf_str(&out), false, NULL, NULL, &err);
        assert_non_null(set);
        assert_true(str_eq(set->keys[0].kid, STR("a\"b")));
        assert_int_equal(set->keys[0].algorithms, TOKEN_ALG_BIT(TOKEN_PS384));
        keyset_unref(set);
        buf_clear(&out);
        mint_key_free(key);
}

static void a_token_without_kid_serves_a_single_key(void **state)
{
        struct mint_key *key = mint_key_generate(TOKEN_ES256, STR("k"));
        struct mint_key *pair[] = {key, mint_key_generate(TOKEN_ES256, STR("l"))};
        struct keyset *one = kit_keyset(&key, 1), *two = kit_keyset(pair, 2);
        static const struct pair none = {{"kid", 3}, {NULL, 0}};
        struct secret token;
        struct error err;

        (void)state;
        assert_true(mint_sign(key, TOKEN_ES256, &none, 1, STR(CLAIMS), &token, &err));
        assert_int_equal(verify(secret_reveal(&token), one), TOKEN_OK);
        assert_int_equal(verify(secret_reveal(&token), two), TOKEN_UNKNOWN_KID);
        secret_drop(&token);
        keyset_unref(one);
        keyset_unref(two);
        mint_key_free(pair[0]);
        mint_key_free(pair[1]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_minted_verifies_with_every_algorithm),
                cmocka_unit_test(libjwt_and_openssl_agree),
                cmocka_unit_test(header_members_go_in_and_alg_is_ours),
                cmocka_unit_test(a_key_signs_only_what_it_is_for),
                cmocka_unit_test(a_key_survives_its_pem),
                cmocka_unit_test(keys_that_are_locked_or_weak_are_refused),
                cmocka_unit_test(a_jwk_says_what_the_key_is_for),
                cmocka_unit_test(a_token_without_kid_serves_a_single_key),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
