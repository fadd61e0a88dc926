/* ES256 by a table: the same answers as OpenSSL's own verification, for all of Wycheproof and for
 * signatures that were made, cut and bent. */
#include "token_kit.h"

#include <jansson.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>

#include "../../../src/token/fixed_base.h"
#include "dagward/token/base64.h"

#define VECTORS SOURCE_DIR "/tests/corpora/jwt/wycheproof_p256.json"

static EVP_PKEY *key_at(const unsigned char *point, size_t len)
{
        OSSL_PARAM params[] = {
                OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0),
                OSSL_PARAM_construct_octet_string(
                        OSSL_PKEY_PARAM_PUB_KEY, (unsigned char *)point, len),
                OSSL_PARAM_END};
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
        EVP_PKEY *pkey = NULL;

        assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
        assert_int_equal(EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params), 1);
        EVP_PKEY_CTX_free(ctx);
        return pkey;
}

static size_t unhex(const char *text, unsigned char *out, size_t room)
{
        size_t len = strlen(text) / 2;

        assert_true(len <= room);
        for (size_t i = 0; i < len; i++) {
                unsigned byte;
                assert_int_equal(sscanf(text + 2 * i, "%2x", &byte), 1);
                out[i] = (unsigned char)byte;
        }
        return len;
}

static bool prepare(struct keyset *set)
{
        const struct key *made;

        return keyset_prepare(set, &made);
}

static void all_of_wycheproof_for_p256(void **state)
{
        json_t *document = json_load_file(VECTORS, 0, NULL), *group, *test;
        size_t i, k, n = 0, n_valid = 0;

        (void)state;
        assert_non_null(document);
        json_array_foreach(json_object_get(document, "groups"), i, group)
        {
                unsigned char point[65], message[256], signature[256], digest[32];
                size_t len = unhex(
                        json_string_value(json_object_get(group, "key")), point, sizeof(point));
                EVP_PKEY *pkey = key_at(point, len);
                struct fixed_base *base = fixed_base_new(pkey);
                assert_non_null(base);
                json_array_foreach(json_object_get(group, "tests"), k, test)
                {
                        len = unhex(json_string_value(json_object_get(test, "msg")), message,
                                sizeof(message));
                        assert_int_equal(
                                EVP_Digest(message, len, digest, NULL, EVP_sha256(), NULL), 1);
                        len = unhex(json_string_value(json_object_get(test, "sig")), signature,
                                sizeof(signature));
                        bool valid = json_is_true(json_object_get(test, "valid"));
                        /* Other lengths never come here: key_verify has looked. */
                        bool good = len == FIXED_BASE_SIGNATURE &&
                                    fixed_base_verify(base, digest, signature);
                        if (good != valid)
                                fail_msg("tcId %lld: %s",
                                        json_integer_value(json_object_get(test, "id")),
                                        json_string_value(json_object_get(test, "comment")));
                        n++;
                        n_valid += valid;
                }
                fixed_base_free(base);
                EVP_PKEY_free(pkey);
        }
        json_decref(document);
        assert_int_equal(n, 262);
        assert_int_equal(n_valid, 173);
}

/* For s = 5, which nobody would find by signing: the digest that it signs with k = 1 is computed
 * from the private key d = 1. Then r is the generator's own x. */
static void a_number_beyond_the_order_is_refused(void **state)
{
        unsigned char point[65], digest[32], signature[FIXED_BASE_SIGNATURE];
        EC_GROUP *curve = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
        const BIGNUM *order = EC_GROUP_get0_order(curve);
        const EC_POINT *generator = EC_GROUP_get0_generator(curve);
        BIGNUM *r = BN_new(), *s = BN_new(), *e = BN_new();
        BN_CTX *ctx = BN_CTX_new();

        (void)state;
        assert_int_equal(EC_POINT_point2oct(curve, generator, POINT_CONVERSION_UNCOMPRESSED, point,
                                 sizeof(point), ctx),
                sizeof(point));
        EVP_PKEY *pkey = key_at(point, sizeof(point));
        struct fixed_base *base = fixed_base_new(pkey);
        assert_int_equal(EC_POINT_get_affine_coordinates(curve, generator, r, NULL, ctx), 1);
        assert_int_equal(BN_set_word(s, 5), 1);
        assert_int_equal(BN_mod_sub(e, s, r, order, ctx), 1); /* e = s k - r d */
        assert_int_equal(BN_bn2binpad(e, digest, 32), 32);
        assert_int_equal(BN_bn2binpad(r, signature, 32), 32);
        assert_int_equal(BN_bn2binpad(s, signature + 32, 32), 32);
        assert_true(fixed_base_verify(base, digest, signature));
        assert_int_equal(BN_add(s, s, order), 1);
        assert_int_equal(BN_bn2binpad(s, signature + 32, 32), 32);
        assert_false(fixed_base_verify(base, digest, signature));
        memset(signature + 32, 0, 32);
        assert_false(fixed_base_verify(base, digest, signature));
        memset(signature, 0, 32);
        assert_false(fixed_base_verify(base, digest, signature));
        fixed_base_free(base);
        EVP_PKEY_free(pkey);
        EC_GROUP_free(curve);
        BN_CTX_free(ctx);
        BN_free(r);
        BN_free(s);
        BN_free(e);
}

struct signed_text {
        struct secret token;
        struct str input;
        unsigned char signature[FIXED_BASE_SIGNATURE];
};

static struct signed_text sign(const struct mint_key *key, unsigned number)
{
        struct signed_text text;
        struct str head, payload;
        char claims[64];

        snprintf(claims, sizeof(claims), "{\"n\":%u}", number);
        text.token = kit_sign(key, TOKEN_ES256, claims);
        struct str all = secret_reveal(&text.token);
        struct str encoded = str_cut(str_cut(all, '.', &head), '.', &payload);
        text.input = str_head(all, head.len + 1 + payload.len);
        assert_int_equal(base64url_decode(encoded, text.signature), FIXED_BASE_SIGNATURE);
        return text;
}

static bool verifies(const struct key *key, const struct signed_text *text)
{
        return key_verify(key, TOKEN_ES256, text->input,
                str_view((const char *)text->signature, sizeof(text->signature)));
}

/* A key gets its table when it has been used enough, and its answers stay what they were. */
static void a_key_that_is_used_gets_a_table_and_says_the_same(void **state)
{
        enum { TEXTS = 100, BENT = 12 };
        struct mint_key *mint = mint_key_generate(TOKEN_ES256, STR("ec"));
        struct keyset *plain = kit_keyset(&mint, 1), *fast = kit_keyset(&mint, 1);
        unsigned seed = 11, good = 0;
        const struct key *made;

        (void)state;
        for (unsigned i = 0; i < KEY_WORTH_A_TABLE; i++) {
                assert_true(prepare(fast)); /* later, perhaps */
                assert_null(fast->keys[0].use->table);
                struct signed_text text = sign(mint, i);
                assert_true(verifies(&fast->keys[0], &text));
                text.signature[i] ^= 1;
                for (int forged = 0; forged < 3; forged++) /* they do not count */
                        assert_false(verifies(&fast->keys[0], &text));
                secret_drop(&text.token);
        }
        assert_true(keyset_prepare(fast, &made));
        assert_ptr_equal(made, &fast->keys[0]);
        assert_non_null(fast->keys[0].use->table);
        assert_false(prepare(fast)); /* nothing is left to do */
        assert_null(plain->keys[0].use->table);
        for (unsigned i = 0; i < TEXTS; i++) {
                struct signed_text text = sign(mint, 1000 + i);
                assert_true(verifies(&fast->keys[0], &text));
                for (int bent = 0; bent < BENT; bent++) {
                        seed = seed * 1103515245 + 12345;
                        struct signed_text other = text;
                        switch (bent % 4) {
                        case 0:
                                other.signature[seed >> 16 & 63] ^= (unsigned char)(1 << bent % 8);
                                break;
                        case 1:
                                memset(other.signature + (seed >> 16 & 32), bent & 4 ? 0xff : 0,
                                        32);
                                break;
                        case 2: /* r and s in each other's place */
                                memcpy(other.signature, text.signature + 32, 32);
                                memcpy(other.signature + 32, text.signature, 32);
                                break;
                        case 3:
                                other.input =
                                        str_head(text.input, text.input.len - (seed >> 16 & 7));
                                break;
                        }
                        bool by_openssl = verifies(&plain->keys[0], &other);
                        assert_int_equal(verifies(&fast->keys[0], &other), by_openssl);
                        good += by_openssl;
                }
                secret_drop(&text.token);
        }
        /* Only those of whose input nothing was cut: and they are some. */
        assert_true(good > 0 && good < TEXTS * BENT / 2);
        assert_true(plain->keys[0].use->good >= 1);
        keyset_unref(plain);
        keyset_unref(fast);
        mint_key_free(mint);
}

/* 150 KB each: an issuer that publishes many and uses them all gets a few. */
static void a_set_has_a_few_tables_at_most(void **state)
{
        enum { KEYS = 12, MOST = 8 };
        struct mint_key *keys[KEYS];
        char name[KEYS][8];
        size_t tables = 0;

        (void)state;
        for (int i = 0; i < KEYS; i++) {
                snprintf(name[i], sizeof(name[i]), "k%d", i);
                keys[i] = mint_key_generate(TOKEN_ES256, str_of(name[i]));
        }
        struct keyset *set = kit_keyset(keys, KEYS);
        for (int i = 0; i < KEYS; i++)
                atomic_store(&set->keys[i].use->good, KEY_WORTH_A_TABLE);
        for (int i = 0; i < MOST; i++)
                assert_true(prepare(set));
        for (int i = 0; i < 3; i++)
                assert_false(prepare(set));
        for (int i = 0; i < KEYS; i++) {
                tables += set->keys[i].use->table != NULL;
                struct signed_text text = sign(keys[i], 1);
                assert_true(verifies(&set->keys[i], &text));
                assert_false(verifies(&set->keys[(i + 1) % KEYS], &text));
                secret_drop(&text.token);
        }
        assert_int_equal(tables, MOST);
        keyset_unref(set);
        for (int i = 0; i < KEYS; i++)
                mint_key_free(keys[i]);
}

static void other_keys_have_none(void **state)
{
        static const enum token_alg algs[] = {TOKEN_RS256, TOKEN_ES384, TOKEN_EDDSA};

        (void)state;
        for (size_t i = 0; i < sizeof(algs) / sizeof(*algs); i++) {
                struct mint_key *mint = mint_key_generate(algs[i], STR("key"));
                struct keyset *set = kit_keyset(&mint, 1);
                assert_null(fixed_base_new(set->keys[0].pkey));
                assert_false(prepare(set));
                keyset_unref(set);
                mint_key_free(mint);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(all_of_wycheproof_for_p256),
                cmocka_unit_test(a_number_beyond_the_order_is_refused),
                cmocka_unit_test(a_key_that_is_used_gets_a_table_and_says_the_same),
                cmocka_unit_test(a_set_has_a_few_tables_at_most),
                cmocka_unit_test(other_keys_have_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
