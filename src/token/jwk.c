#include "jwk.h"

#include <assert.h>
#include <stdlib.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>

#include "dagward/token/base64.h"
#include "json.h"

enum {
        RSA_LEAST_BITS = 2048,
        RSA_MOST_BITS = 8192,
        RSA_MOST_BYTES = RSA_MOST_BITS / 8,
        RSA_LEAST_EXPONENT = 65537,
        ED25519_BYTES = 32,
        POINT_MOST_BYTES = 1 + 2 * 66,
};

#define RSA_ALGS                                                                                   \
        (TOKEN_ALG_BIT(TOKEN_RS256) | TOKEN_ALG_BIT(TOKEN_RS384) | TOKEN_ALG_BIT(TOKEN_RS512) |    \
                TOKEN_ALG_BIT(TOKEN_PS256) | TOKEN_ALG_BIT(TOKEN_PS384) |                          \
                TOKEN_ALG_BIT(TOKEN_PS512))

static const struct curve {
        const char *crv;   /* RFC 7518 6.2.1.1 */
        const char *group; /* OpenSSL's name */
        size_t coordinate_bytes;
        enum token_alg alg;
} curves[] = {
        {"P-256", "prime256v1", 32, TOKEN_ES256},
        {"P-384", "secp384r1", 48, TOKEN_ES384},
        {"P-521", "secp521r1", 66, TOKEN_ES512},
};
enum { CURVES = sizeof(curves) / sizeof(curves[0]) };

/* A string member as bytes, at most `most`; -1 when absent, not base64url or longer. */
static ssize_t bytes_member(const json_t *jwk, const char *name, unsigned char *out, size_t most)
{
        struct str text = json_str_member(jwk, name);

        if (!text.ptr || BASE64_DECODED(text.len) > most)
                return -1;
        return base64url_decode(text, out);
}

/* Takes ownership of `build`'s parameters; NULL when OpenSSL refuses the key. */
static EVP_PKEY *pkey_build(const char *type, OSSL_PARAM_BLD *build)
{
        OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
        EVP_PKEY *pkey = NULL;

        if (!params || !ctx)
                abort();
        if (EVP_PKEY_fromdata_init(ctx) != 1 ||
                EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
                pkey = NULL;
        EVP_PKEY_CTX_free(ctx);
        OSSL_PARAM_free(params);
        return pkey;
}

static EVP_PKEY *read_rsa(const json_t *jwk, struct error *why)
{
        unsigned char n[RSA_MOST_BYTES + 1], e[8];
        ssize_t n_len = bytes_member(jwk, "n", n, sizeof(n));
        ssize_t e_len = bytes_member(jwk, "e", e, sizeof(e));

        if (n_len < 0 || e_len < 0) {
                error_set(why, "`n` or `e` is missing, too long or not base64url");
                return NULL;
        }
        BIGNUM *modulus = BN_bin2bn(n, (int)n_len, NULL);
        BIGNUM *exponent = BN_bin2bn(e, (int)e_len, NULL);
        OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
        if (!modulus || !exponent || !build)
                abort();
        EVP_PKEY *pkey = NULL;
        /* Judged before OpenSSL sees it: odd numbers of odd sizes are its least tested input. */
        if (BN_num_bits(modulus) < RSA_LEAST_BITS || BN_num_bits(modulus) > RSA_MOST_BITS)
                error_set(why, "RSA modulus of %d bits, not %d to %d", BN_num_bits(modulus),
                        RSA_LEAST_BITS, RSA_MOST_BITS);
        else if (!BN_is_odd(modulus) || !BN_is_odd(exponent))
                error_set(why, "RSA modulus or exponent is even");
        else if (OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) != 1 ||
                 OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent) != 1)
                abort();
        else if (!(pkey = pkey_build("RSA", build)))
                error_set(why, "not a valid RSA key");
        OSSL_PARAM_BLD_free(build);
        BN_free(modulus);
        BN_free(exponent);
        return pkey;
}

static EVP_PKEY *read_ec(const json_t *jwk, struct error *why)
{
        struct str crv = json_str_member(jwk, "crv");
        const struct curve *curve = NULL;
        unsigned char point[POINT_MOST_BYTES] = {4 /* uncompressed */};

        for (int i = 0; i < CURVES; i++)
                if (str_eq(crv, str_of(curves[i].crv)))
                        curve = &curves[i];
        if (!curve) {
                error_set(why, "`crv` is not P-256, P-384 or P-521");
                return NULL;
        }
        size_t size = curve->coordinate_bytes;
        if (bytes_member(jwk, "x", point + 1, size) != (ssize_t)size ||
                bytes_member(jwk, "y", point + 1 + size, size) != (ssize_t)size) {
                error_set(why, "`x` or `y` is not base64url of %zu bytes", size);
                return NULL;
        }
        OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
        if (!build ||
                OSSL_PARAM_BLD_push_utf8_string(
                        build, OSSL_PKEY_PARAM_GROUP_NAME, curve->group, 0) != 1 ||
                OSSL_PARAM_BLD_push_octet_string(
                        build, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * size) != 1)
                abort();
        EVP_PKEY *pkey = pkey_build("EC", build);
        OSSL_PARAM_BLD_free(build);
        if (!pkey)
                error_set(why, "not a point of %s", curve->crv);
        return pkey;
}

static EVP_PKEY *read_okp(const json_t *jwk, struct error *why)
{
        unsigned char x[ED25519_BYTES];

        if (!str_eq(json_str_member(jwk, "crv"), STR("Ed25519"))) {
                error_set(why, "`crv` is not Ed25519");
                return NULL;
        }
        if (bytes_member(jwk, "x", x, sizeof(x)) != ED25519_BYTES) {
                error_set(why, "`x` is not base64url of %d bytes", ED25519_BYTES);
                return NULL;
        }
        EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, sizeof(x));
        if (!pkey)
                error_set(why, "not an Ed25519 key");
        return pkey;
}

static bool for_signatures(const json_t *jwk, struct error *why)
{
        const json_t *use = json_object_get(jwk, "use"), *ops = json_object_get(jwk, "key_ops");

        if (json_object_get(jwk, "d") || json_object_get(jwk, "k"))
                return error_set(why, "holds secret material, which must never be published: "
                                      "replace this key at the issuer");
        if (use && !str_eq(json_str(use), STR("sig")))
                return error_set(why, "`use` is not \"sig\"");
        if (!ops)
                return true;
        for (size_t i = 0; i < json_array_size(ops); i++)
                if (str_eq(json_str(json_array_get(ops, i)), STR("verify")))
                        return true;
        return error_set(why, "`key_ops` does not hold \"verify\"");
}

/* Fills kid and the algorithm the set pins the key to (all bits when it pins none). */
static bool read_names(const json_t *jwk, struct key *key, unsigned *pinned, struct error *why)
{
        const json_t *kid = json_object_get(jwk, "kid"), *alg = json_object_get(jwk, "alg");
        enum token_alg named;

        key->kid = json_str(kid);
        if (kid && (str_empty(key->kid) || key->kid.len > KEYSET_KID_MOST_BYTES))
                return error_set(
                        why, "`kid` is not a string of 1 to %d bytes", KEYSET_KID_MOST_BYTES);
        *pinned = TOKEN_ALGS_ALL;
        if (!alg)
                return true;
        if (!json_is_string(alg) || !token_alg_named(json_str(alg), &named))
                return error_set(why, "`alg` is not an algorithm that is accepted");
        *pinned = TOKEN_ALG_BIT(named);
        return true;
}

bool jwk_read(const json_t *jwk, struct key *key, struct error *why)
{
        unsigned pinned;

        *key = (struct key){0};
        if (!json_is_object(jwk))
                return error_set(why, "not an object");
        struct str kty = json_str_member(jwk, "kty");
        if (str_eq(kty, STR("oct")))
                return error_set(why, "symmetric keys are not accepted");
        if (!read_names(jwk, key, &pinned, why) || !for_signatures(jwk, why))
                return false;
        if (str_eq(kty, STR("RSA")))
                key->pkey = read_rsa(jwk, why);
        else if (str_eq(kty, STR("EC")))
                key->pkey = read_ec(jwk, why);
        else if (str_eq(kty, STR("OKP")))
                key->pkey = read_okp(jwk, why);
        else
                return error_set(why, "`kty` is not RSA, EC or OKP");
        if (!key->pkey)
                return false;
        bool good = jwk_judge(key, why);
        if (good && !(key->algorithms & pinned))
                good = error_set(why, "`alg` does not fit this kind of key");
        key->algorithms &= pinned;
        if (!good) {
                EVP_PKEY_free(key->pkey);
                key->pkey = NULL;
        }
        return good;
}

/* Keys of one maker's chips can be factored (CVE-2017-15361, "ROCA"): their moduli are powers of
 * 65537 modulo every small prime, which others are by a chance of less than 2^-27. */
static bool is_roca(const BIGNUM *modulus)
{
        static const unsigned char primes[] = {3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47,
                53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139,
                149, 151, 157, 163, 167};

        for (size_t i = 0; i < sizeof(primes); i++) {
                unsigned prime = primes[i], power = 1;
                BN_ULONG rest = BN_mod_word(modulus, prime);
                do
                        power = power * (65537 % prime) % prime;
                while (power != rest && power != 1);
                if (power != rest)
                        return false;
        }
        return true;
}

static bool judge_rsa(struct key *key, struct error *why)
{
        BIGNUM *exponent = NULL, *modulus = NULL;
        int bits = EVP_PKEY_get_bits(key->pkey);

        if (bits < RSA_LEAST_BITS || bits > RSA_MOST_BITS)
                return error_set(why, "RSA modulus of %d bits, not %d to %d", bits, RSA_LEAST_BITS,
                        RSA_MOST_BITS);
        if (EVP_PKEY_get_bn_param(key->pkey, OSSL_PKEY_PARAM_RSA_E, &exponent) != 1 ||
                EVP_PKEY_get_bn_param(key->pkey, OSSL_PKEY_PARAM_RSA_N, &modulus) != 1)
                abort(); /* every RSA key has both */
        bool sane = BN_num_bits(exponent) <= 32 && BN_is_odd(exponent) &&
                    BN_get_word(exponent) >= RSA_LEAST_EXPONENT;
        bool roca = is_roca(modulus);
        BN_free(exponent);
        BN_free(modulus);
        if (roca)
                return error_set(why, "RSA key of a broken generator (CVE-2017-15361)");
        if (!sane)
                return error_set(why, "RSA public exponent is even, below %d or above 2^32",
                        RSA_LEAST_EXPONENT);
        key->algorithms = RSA_ALGS;
        key->signature_bytes = (size_t)EVP_PKEY_get_size(key->pkey);
        return true;
}

static bool judge_ec(struct key *key, struct error *why)
{
        char group[64];
        size_t len;
        const struct curve *curve = NULL;

        if (EVP_PKEY_get_utf8_string_param(
                    key->pkey, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group), &len) == 1)
                for (int i = 0; i < CURVES; i++)
                        if (strcmp(group, curves[i].group) == 0)
                                curve = &curves[i];
        if (!curve)
                return error_set(why, "the curve is not P-256, P-384 or P-521");
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key->pkey, NULL);
        if (!ctx)
                abort();
        bool valid = EVP_PKEY_public_check(ctx) == 1;
        EVP_PKEY_CTX_free(ctx);
        if (!valid)
                return error_set(why, "not a point of %s", curve->crv);
        key->algorithms = TOKEN_ALG_BIT(curve->alg);
        key->signature_bytes = 2 * curve->coordinate_bytes;
        return true;
}

/* Points whose order divides 8, by the y coordinate (little endian, sign bit cleared): such a "key"
 * verifies signatures that nobody made. The last two coordinates are those of order 8. */
static bool ed25519_small_order(const unsigned char y[ED25519_BYTES])
{
        static const unsigned char order8[2][ED25519_BYTES] = {
                {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
                        0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38,
                        0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
                {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
                        0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7,
                        0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
        };
        unsigned char middle = 0, ones = 0xff;

        if (memcmp(y, order8[0], ED25519_BYTES) == 0 || memcmp(y, order8[1], ED25519_BYTES) == 0)
                return true;
        for (int i = 1; i < ED25519_BYTES - 1; i++) {
                middle |= y[i];
                ones &= y[i];
        }
        /* y = 0 and 1; y = -1. */
        return (middle == 0 && y[31] == 0 && y[0] <= 1) ||
               (ones == 0xff && y[31] == 0x7f && y[0] == 0xec);
}

/* y must be below p and (y^2 - 1) / (d y^2 + 1) a square (RFC 8032 5.1.3), or there is no point. */
static bool ed25519_on_curve(const unsigned char y_bytes[ED25519_BYTES])
{
        static const char d_hex[] =
                "52036CEE2B6FFE738CC740797779E89800700A4D4141D8AB75EB4DCA135978A3";
        static const char p_hex[] =
                "7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFED";
        BIGNUM *d = NULL, *p = NULL, *y = BN_lebin2bn(y_bytes, ED25519_BYTES, NULL);
        BIGNUM *u = BN_new(), *v = BN_new();
        BN_CTX *ctx = BN_CTX_new();

        if (!BN_hex2bn(&d, d_hex) || !BN_hex2bn(&p, p_hex) || !y || !u || !v || !ctx)
                abort();
        /* u v has the same quadratic character as u / v. */
        bool on = BN_cmp(y, p) < 0 && BN_mod_sqr(u, y, p, ctx) && BN_mod_mul(v, u, d, p, ctx) &&
                  BN_add_word(v, 1) && BN_sub_word(u, 1) && BN_mod_mul(u, u, v, p, ctx) &&
                  BN_kronecker(u, p, ctx) >= 0;
        BN_CTX_free(ctx);
        BN_free(d);
        BN_free(p);
        BN_free(y);
        BN_free(u);
        BN_free(v);
        return on;
}

static bool judge_ed25519(struct key *key, struct error *why)
{
        unsigned char y[ED25519_BYTES];
        size_t len = sizeof(y);

        if (EVP_PKEY_get_raw_public_key(key->pkey, y, &len) != 1 || len != sizeof(y))
                return error_set(why, "not an Ed25519 key");
        y[31] &= 0x7f; /* the sign of x */
        if (ed25519_small_order(y) || !ed25519_on_curve(y))
                return error_set(why, "not a point of Ed25519, or one of small order");
        key->algorithms = TOKEN_ALG_BIT(TOKEN_EDDSA);
        key->signature_bytes = 64;
        return true;
}

bool jwk_judge(struct key *key, struct error *why)
{
        switch (EVP_PKEY_get_base_id(key->pkey)) {
        case EVP_PKEY_RSA: return judge_rsa(key, why);
        case EVP_PKEY_EC: return judge_ec(key, why);
        case EVP_PKEY_ED25519: return judge_ed25519(key, why);
        default: return error_set(why, "neither RSA, EC nor Ed25519");
        }
}

static void write_number(
        const EVP_PKEY *pkey, const char *param, const char *name, int size, struct buf *out)
{
        BIGNUM *number = NULL;
        unsigned char bytes[RSA_MOST_BYTES];

        if (EVP_PKEY_get_bn_param(pkey, param, &number) != 1)
                abort();
        if (!size)
                size = BN_num_bytes(number);
        assert((size_t)size <= sizeof(bytes));
        if (BN_bn2binpad(number, bytes, size) != size)
                abort();
        buf_printf(out, "\"%s\":\"", name);
        base64url_write(out, bytes, (size_t)size);
        buf_char(out, '"');
        BN_free(number);
}

static void write_ec_members(const EVP_PKEY *pkey, struct buf *out)
{
        char group[64];
        size_t len;

        if (EVP_PKEY_get_utf8_string_param(
                    pkey, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group), &len) != 1)
                abort();
        for (int i = 0; i < CURVES; i++) {
                if (strcmp(group, curves[i].group) != 0)
                        continue;
                int size = (int)curves[i].coordinate_bytes;
                buf_printf(out, "\"crv\":\"%s\",\"kty\":\"EC\",", curves[i].crv);
                write_number(pkey, OSSL_PKEY_PARAM_EC_PUB_X, "x", size, out);
                buf_char(out, ',');
                write_number(pkey, OSSL_PKEY_PARAM_EC_PUB_Y, "y", size, out);
        }
}

void jwk_write_members(const EVP_PKEY *pkey, struct buf *out)
{
        unsigned char x[ED25519_BYTES];
        size_t len = sizeof(x);

        switch (EVP_PKEY_get_base_id(pkey)) {
        case EVP_PKEY_RSA:
                write_number(pkey, OSSL_PKEY_PARAM_RSA_E, "e", 0, out);
                BUF_LITERAL(out, ",\"kty\":\"RSA\",");
                write_number(pkey, OSSL_PKEY_PARAM_RSA_N, "n", 0, out);
                break;
        case EVP_PKEY_EC: write_ec_members(pkey, out); break;
        case EVP_PKEY_ED25519:
                if (EVP_PKEY_get_raw_public_key(pkey, x, &len) != 1)
                        abort();
                BUF_LITERAL(out, "\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"");
                base64url_write(out, x, len);
                buf_char(out, '"');
                break;
        default: abort(); /* a key that jwk_judge refuses */
        }
}

void jwk_thumbprint(const EVP_PKEY *pkey, struct buf *out)
{
        struct buf members;
        unsigned char digest[32];

        buf_init(&members, 8192);
        buf_char(&members, '{');
        jwk_write_members(pkey, &members);
        buf_char(&members, '}');
        if (members.overflow ||
                EVP_Digest(members.data, members.len, digest, NULL, EVP_sha256(), NULL) != 1)
                abort();
        base64url_write(out, digest, sizeof(digest));
        buf_clear(&members);
}
