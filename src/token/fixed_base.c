/* Tables for other points than the curve's own are made by a function that OpenSSL 3 calls
 * deprecated, without one that takes its place. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "fixed_base.h"

#include <pthread.h>
#include <stdlib.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/obj_mac.h>

enum { POINT_BYTES = 65 }; /* uncompressed: SEC 1 2.3.3 */

struct fixed_base {
        EC_GROUP *curve; /* P-256 with its own generator */
        EC_GROUP *own;   /* the same with the key in its place, and its table */
        BN_MONT_CTX *order;
};

/* --- what a thread keeps ready --- */

struct numbers {
        BN_CTX *ctx;
        BIGNUM *r, *s, *e, *u1, *u2, *x;
        EC_POINT *by_curve, *by_key;
};

static pthread_key_t numbers_key;
static pthread_once_t numbers_once = PTHREAD_ONCE_INIT;

static void numbers_free(void *arg)
{
        struct numbers *have = arg;

        BN_free(have->r);
        BN_free(have->s);
        BN_free(have->e);
        BN_free(have->u1);
        BN_free(have->u2);
        BN_free(have->x);
        EC_POINT_free(have->by_curve);
        EC_POINT_free(have->by_key);
        BN_CTX_free(have->ctx);
        free(have);
}

static void numbers_make_key(void)
{
        if (pthread_key_create(&numbers_key, numbers_free) != 0)
                abort();
}

static struct numbers *numbers_here(const EC_GROUP *curve)
{
        pthread_once(&numbers_once, numbers_make_key);
        struct numbers *have = pthread_getspecific(numbers_key);
        if (have)
                return have;
        have = calloc(1, sizeof(*have));
        if (!have || !(have->ctx = BN_CTX_new()) || !(have->r = BN_new()) ||
                !(have->s = BN_new()) || !(have->e = BN_new()) || !(have->u1 = BN_new()) ||
                !(have->u2 = BN_new()) || !(have->x = BN_new()) ||
                !(have->by_curve = EC_POINT_new(curve)) || !(have->by_key = EC_POINT_new(curve)) ||
                pthread_setspecific(numbers_key, have) != 0)
                abort();
        return have;
}

/* --- the table --- */

/* The key as a point of the curve; NULL when it is none. */
static EC_POINT *point_of(const EVP_PKEY *pkey, const EC_GROUP *curve)
{
        unsigned char bytes[POINT_BYTES];
        char group[32];
        size_t len = 0;
        EC_POINT *point = NULL;

        if (EVP_PKEY_get_group_name(pkey, group, sizeof(group), &len) != 1 ||
                OBJ_sn2nid(group) != NID_X9_62_prime256v1 ||
                EVP_PKEY_get_octet_string_param(
                        pkey, OSSL_PKEY_PARAM_PUB_KEY, bytes, sizeof(bytes), &len) != 1 ||
                !(point = EC_POINT_new(curve)))
                return NULL;
        if (EC_POINT_oct2point(curve, point, bytes, len, NULL) == 1 &&
                !EC_POINT_is_at_infinity(curve, point))
                return point;
        EC_POINT_free(point);
        return NULL;
}

struct fixed_base *fixed_base_new(const EVP_PKEY *pkey)
{
        struct fixed_base *base = calloc(1, sizeof(*base));
        BN_CTX *ctx = BN_CTX_new();

        if (!base || !ctx || !(base->order = BN_MONT_CTX_new()) ||
                !(base->curve = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1)) ||
                !(base->own = EC_GROUP_dup(base->curve)))
                abort();
        const BIGNUM *order = EC_GROUP_get0_order(base->curve);
        EC_POINT *key = point_of(pkey, base->curve);
        /* What is used here is no part of a validated module. */
        bool good = key && !EVP_default_properties_is_fips_enabled(NULL) &&
                    BN_MONT_CTX_set(base->order, order, ctx) == 1 &&
                    EC_GROUP_set_generator(
                            base->own, key, order, EC_GROUP_get0_cofactor(base->curve)) == 1 &&
                    EC_GROUP_precompute_mult(base->own, ctx) == 1;
        EC_POINT_free(key);
        BN_CTX_free(ctx);
        if (good)
                return base;
        fixed_base_free(base);
        ERR_clear_error();
        return NULL;
}

void fixed_base_free(struct fixed_base *base)
{
        if (!base)
                return;
        BN_MONT_CTX_free(base->order);
        EC_GROUP_free(base->own);
        EC_GROUP_free(base->curve);
        free(base);
}

/* --- verification, in the steps of FIPS 186-5 6.4.2 --- */

static bool in_range(const BIGNUM *number, const BIGNUM *order)
{
        return !BN_is_zero(number) && BN_cmp(number, order) < 0;
}

/* u1 = e / s and u2 = r / s, both modulo the order. */
static bool factors(struct numbers *have, const struct fixed_base *base, const BIGNUM *order)
{
        BIGNUM *w = have->x;

        return BN_nnmod(have->e, have->e, order, have->ctx) == 1 &&
               BN_mod_inverse(w, have->s, order, have->ctx) &&
               BN_to_montgomery(w, w, base->order, have->ctx) == 1 &&
               BN_mod_mul_montgomery(have->u1, have->e, w, base->order, have->ctx) == 1 &&
               BN_mod_mul_montgomery(have->u2, have->r, w, base->order, have->ctx) == 1;
}

bool fixed_base_verify(const struct fixed_base *base, const unsigned char digest[FIXED_BASE_DIGEST],
        const unsigned char signature[FIXED_BASE_SIGNATURE])
{
        enum { HALF = FIXED_BASE_SIGNATURE / 2 };
        struct numbers *have = numbers_here(base->curve);
        const BIGNUM *order = EC_GROUP_get0_order(base->curve);
        EC_POINT *sum = have->by_curve;

        bool good =
                BN_bin2bn(signature, HALF, have->r) && BN_bin2bn(signature + HALF, HALF, have->s) &&
                BN_bin2bn(digest, FIXED_BASE_DIGEST, have->e) && in_range(have->r, order) &&
                in_range(have->s, order) && factors(have, base, order) &&
                EC_POINT_mul(base->curve, have->by_curve, have->u1, NULL, NULL, have->ctx) == 1 &&
                EC_POINT_mul(base->own, have->by_key, have->u2, NULL, NULL, have->ctx) == 1 &&
                EC_POINT_add(base->curve, sum, have->by_curve, have->by_key, have->ctx) == 1 &&
                !EC_POINT_is_at_infinity(base->curve, sum) &&
                EC_POINT_get_affine_coordinates(base->curve, sum, have->x, NULL, have->ctx) == 1 &&
                BN_nnmod(have->x, have->x, order, have->ctx) == 1;
        return good && BN_cmp(have->x, have->r) == 0;
}
