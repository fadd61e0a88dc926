#include "dagward/token/keyset.h"

#include <limits.h>
#include <stdlib.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

enum { DER_MOST_BYTES = 160 }; /* SEQUENCE of two INTEGERs of at most 67 bytes */

static const struct {
        const char *digest; /* NULL: the algorithm hashes by itself */
        bool pss, ecdsa;
} ways[TOKEN_ALG_COUNT] = {
        [TOKEN_RS256] = {"SHA256", false, false},
        [TOKEN_RS384] = {"SHA384", false, false},
        [TOKEN_RS512] = {"SHA512", false, false},
        [TOKEN_PS256] = {"SHA256", true, false},
        [TOKEN_PS384] = {"SHA384", true, false},
        [TOKEN_PS512] = {"SHA512", true, false},
        [TOKEN_ES256] = {"SHA256", false, true},
        [TOKEN_ES384] = {"SHA384", false, true},
        [TOKEN_ES512] = {"SHA512", false, true},
        [TOKEN_EDDSA] = {NULL, false, false},
};

/* r || s as DER (X.690 8.3); the length, or 0 when a half is zero and so no signature. */
static size_t ecdsa_to_der(struct str raw, unsigned char out[DER_MOST_BYTES])
{
        size_t half = raw.len / 2, len = 0;
        unsigned char body[DER_MOST_BYTES];

        for (int i = 0; i < 2; i++) {
                const unsigned char *number = (const unsigned char *)raw.ptr + (size_t)i * half;
                size_t size = half;
                while (size && *number == 0) {
                        number++;
                        size--;
                }
                if (!size)
                        return 0;
                bool sign = *number & 0x80; /* a zero in front keeps it positive */
                body[len++] = 2;
                body[len++] = (unsigned char)(size + sign);
                if (sign)
                        body[len++] = 0;
                memcpy(body + len, number, size);
                len += size;
        }
        size_t head = 0;
        out[head++] = 0x30;
        if (len > 127)
                out[head++] = 0x81;
        out[head++] = (unsigned char)len;
        memcpy(out + head, body, len);
        return head + len;
}

bool key_verify(const struct key *key, enum token_alg alg, struct str input, struct str signature)
{
        unsigned char der[DER_MOST_BYTES];
        const unsigned char *bytes = (const unsigned char *)signature.ptr;
        size_t len = signature.len;
        EVP_PKEY_CTX *pctx = NULL;

        if (!(key->algorithms & TOKEN_ALG_BIT(alg)) || len != key->signature_bytes)
                return false;
        if (ways[alg].ecdsa) {
                len = ecdsa_to_der(signature, der);
                bytes = der;
                if (!len)
                        return false;
        }
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        if (!ctx)
                abort();
        bool good = EVP_DigestVerifyInit_ex(
                            ctx, &pctx, ways[alg].digest, NULL, NULL, key->pkey, NULL) == 1;
        /* PKCS #1 v1.5 is OpenSSL's default padding; said here so that no default decides. */
        if (good && EVP_PKEY_get_base_id(key->pkey) == EVP_PKEY_RSA)
                good = EVP_PKEY_CTX_set_rsa_padding(pctx,
                               ways[alg].pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) == 1;
        if (good && ways[alg].pss)
                good = EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) == 1;
        good = good &&
               EVP_DigestVerify(ctx, bytes, len, (const unsigned char *)input.ptr, input.len) == 1;
        EVP_MD_CTX_free(ctx);
        if (!good)
                ERR_clear_error(); /* a forged token must leave nothing for others to find */
        return good;
}
