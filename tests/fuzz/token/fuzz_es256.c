/*
 * fuzz_es256: a signature verified by a table says what OpenSSL says.
 *
 * Signatures are made from the two numbers of the equation instead of a private key: for any u1, u2
 * the point u1 G + u2 Q gives r, then s = r / u2 and e = u1 s. So all of them are reached, not only
 * those that somebody would sign. Then bytes of it are changed.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/obj_mac.h>

#include "../../../src/token/fixed_base.h"

enum { NUMBER = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static EC_KEY *key;
static struct fixed_base *base;
static BN_CTX *ctx;

static void begin(void)
{
        BIGNUM *d = BN_new();
        EVP_PKEY *pkey = EVP_PKEY_new();

        key = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
        const EC_GROUP *curve = EC_KEY_get0_group(key);
        EC_POINT *q = EC_POINT_new(curve);
        ctx = BN_CTX_new();
        if (!BN_set_word(d, 1234567) || !EC_POINT_mul(curve, q, d, NULL, NULL, ctx) ||
                !EC_KEY_set_public_key(key, q) || !EVP_PKEY_set1_EC_KEY(pkey, key))
                abort();
        base = fixed_base_new(pkey);
        if (!base)
                abort();
        EVP_PKEY_free(pkey);
        EC_POINT_free(q);
        BN_free(d);
}

/* False for numbers that give no signature. */
static bool make(const uint8_t *numbers, unsigned char digest[NUMBER], unsigned char signature[64])
{
        const EC_GROUP *curve = EC_KEY_get0_group(key);
        const BIGNUM *order = EC_GROUP_get0_order(curve);
        BN_CTX_start(ctx);
        BIGNUM *u1 = BN_CTX_get(ctx), *u2 = BN_CTX_get(ctx), *r = BN_CTX_get(ctx),
               *s = BN_CTX_get(ctx), *e = BN_CTX_get(ctx);
        EC_POINT *point = EC_POINT_new(curve);

        BN_bin2bn(numbers, NUMBER, u1);
        BN_bin2bn(numbers + NUMBER, NUMBER, u2);
        bool good =
                BN_nnmod(u1, u1, order, ctx) && BN_nnmod(u2, u2, order, ctx) && !BN_is_zero(u2) &&
                EC_POINT_mul(curve, point, u1, EC_KEY_get0_public_key(key), u2, ctx) &&
                EC_POINT_get_affine_coordinates(curve, point, r, NULL, ctx) &&
                BN_nnmod(r, r, order, ctx) && !BN_is_zero(r) && BN_mod_inverse(s, u2, order, ctx) &&
                BN_mod_mul(s, s, r, order, ctx) && BN_mod_mul(e, u1, s, order, ctx);
        if (good &&
                (BN_bn2binpad(e, digest, NUMBER) < 0 || BN_bn2binpad(r, signature, NUMBER) < 0 ||
                        BN_bn2binpad(s, signature + NUMBER, NUMBER) < 0))
                abort();
        EC_POINT_free(point);
        BN_CTX_end(ctx);
        return good;
}

static bool by_openssl(const unsigned char digest[NUMBER], const unsigned char signature[64])
{
        ECDSA_SIG *pair = ECDSA_SIG_new();

        if (!pair || !ECDSA_SIG_set0(pair, BN_bin2bn(signature, NUMBER, NULL),
                             BN_bin2bn(signature + NUMBER, NUMBER, NULL)))
                abort();
        bool good = ECDSA_do_verify(digest, NUMBER, pair, key) == 1;
        ECDSA_SIG_free(pair);
        return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        unsigned char bytes[NUMBER + 64];

        if (!key)
                begin();
        if (size < 2 * NUMBER)
                return 0;
        bool made = make(data, bytes, bytes + NUMBER);
        if (!made)
                memset(bytes, 0, sizeof(bytes));
        /* The rest: which byte becomes what. */
        for (size_t i = 2 * NUMBER; i + 1 < size; i += 2)
                bytes[data[i] % sizeof(bytes)] = data[i + 1];
        bool good = by_openssl(bytes, bytes + NUMBER);
        if (fixed_base_verify(base, bytes, bytes + NUMBER) != good)
                abort();
        if (made && size < 2 * NUMBER + 2 && !good)
                abort(); /* it was made for this key */
        return 0;
}
