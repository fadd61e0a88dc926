#include "dagward/token/keyset.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include "fixed_base.h"

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

/* --- what a thread keeps ready ---
 *
 * OpenSSL looks algorithms up by name for each signature that is begun anew, which costs a fifth of
 * an RSA verification. A context that is kept holds its key, so no other one can have its address.
 */
enum { KEPT = 8 };

struct kept {
        EVP_PKEY_CTX *ctx; /* NULL: free */
        const EVP_PKEY *pkey;
        enum token_alg alg;
};

struct bench {
        struct kept kept[KEPT];
        unsigned next; /* is given up for another */
        EVP_MD *digests[TOKEN_ALG_COUNT];
        EVP_MD_CTX *hash;
};

static pthread_key_t bench_key;
static pthread_once_t bench_once = PTHREAD_ONCE_INIT;

static void bench_free(void *arg)
{
        struct bench *bench = arg;

        for (size_t i = 0; i < KEPT; i++)
                EVP_PKEY_CTX_free(bench->kept[i].ctx);
        for (size_t i = 0; i < TOKEN_ALG_COUNT; i++)
                EVP_MD_free(bench->digests[i]);
        EVP_MD_CTX_free(bench->hash);
        free(bench);
}

static void bench_make_key(void)
{
        if (pthread_key_create(&bench_key, bench_free) != 0)
                abort();
}

static struct bench *bench_here(void)
{
        pthread_once(&bench_once, bench_make_key);
        struct bench *bench = pthread_getspecific(bench_key);
        if (bench)
                return bench;
        bench = calloc(1, sizeof(*bench));
        if (!bench || !(bench->hash = EVP_MD_CTX_new()) ||
                pthread_setspecific(bench_key, bench) != 0)
                abort();
        return bench;
}

static EVP_MD *digest_of(struct bench *bench, enum token_alg alg)
{
        if (!bench->digests[alg])
                bench->digests[alg] = EVP_MD_fetch(NULL, ways[alg].digest, NULL);
        return bench->digests[alg];
}

static EVP_PKEY_CTX *ready_for(struct bench *bench, EVP_PKEY *pkey, enum token_alg alg)
{
        for (size_t i = 0; i < KEPT; i++)
                if (bench->kept[i].pkey == pkey && bench->kept[i].alg == alg && bench->kept[i].ctx)
                        return bench->kept[i].ctx;
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
        if (!ctx)
                abort();
        bool good = EVP_PKEY_verify_init(ctx) == 1 &&
                    EVP_PKEY_CTX_set_signature_md(ctx, digest_of(bench, alg)) == 1;
        /* PKCS #1 v1.5 is OpenSSL's default padding; said here so that no default decides. */
        if (good && EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA)
                good = EVP_PKEY_CTX_set_rsa_padding(
                               ctx, ways[alg].pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) == 1;
        if (good && ways[alg].pss)
                good = EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
        if (!good) {
                EVP_PKEY_CTX_free(ctx);
                return NULL;
        }
        struct kept *place = &bench->kept[bench->next++ % KEPT];
        EVP_PKEY_CTX_free(place->ctx);
        *place = (struct kept){ctx, pkey, alg};
        return ctx;
}

static bool digest(struct bench *bench, enum token_alg alg, struct str input,
        unsigned char out[EVP_MAX_MD_SIZE], unsigned *size)
{
        EVP_MD *md = digest_of(bench, alg);

        return md && EVP_DigestInit_ex2(bench->hash, md, NULL) == 1 &&
               EVP_DigestUpdate(bench->hash, input.ptr, input.len) == 1 &&
               EVP_DigestFinal_ex(bench->hash, out, size) == 1;
}

static bool verify_digest(EVP_PKEY *pkey, enum token_alg alg, struct str input,
        const unsigned char *signature, size_t len)
{
        struct bench *bench = bench_here();
        unsigned char hash[EVP_MAX_MD_SIZE];
        unsigned size;
        EVP_PKEY_CTX *ctx = digest_of(bench, alg) ? ready_for(bench, pkey, alg) : NULL;

        return ctx && digest(bench, alg, input, hash, &size) &&
               EVP_PKEY_verify(ctx, signature, len, hash, size) == 1;
}

static bool verify_ecdsa(
        const struct key *key, enum token_alg alg, struct str input, struct str raw)
{
        unsigned char der[DER_MOST_BYTES];
        size_t len = ecdsa_to_der(raw, der);

        return len && verify_digest(key->pkey, alg, input, der, len);
}

static bool verify_by_table(const struct fixed_base *table, struct str input, struct str raw)
{
        unsigned char hash[EVP_MAX_MD_SIZE];
        unsigned size;

        return raw.len == FIXED_BASE_SIGNATURE &&
               digest(bench_here(), TOKEN_ES256, input, hash, &size) && size == FIXED_BASE_DIGEST &&
               fixed_base_verify(table, hash, (const unsigned char *)raw.ptr);
}

/* With a table if there is one. A key gets one when signatures show that it is used, which nobody
 * can pretend but its owner. */
static bool verify_es256(const struct key *key, struct str input, struct str raw)
{
        struct key_use *use = key->use;
        const struct fixed_base *table = atomic_load_explicit(&use->table, memory_order_acquire);

        if (table)
                return verify_by_table(table, input, raw);
        bool good = verify_ecdsa(key, TOKEN_ES256, input, raw);
        if (good && atomic_load_explicit(&use->good, memory_order_relaxed) < KEY_WORTH_A_TABLE)
                atomic_fetch_add_explicit(&use->good, 1, memory_order_relaxed);
        return good;
}

/* EdDSA reads the message itself. */
static bool verify_message(
        EVP_PKEY *pkey, struct str input, const unsigned char *signature, size_t len)
{
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();

        if (!ctx)
                abort();
        bool good = EVP_DigestVerifyInit_ex(ctx, NULL, NULL, NULL, NULL, pkey, NULL) == 1 &&
                    EVP_DigestVerify(
                            ctx, signature, len, (const unsigned char *)input.ptr, input.len) == 1;
        EVP_MD_CTX_free(ctx);
        return good;
}

bool key_verify(const struct key *key, enum token_alg alg, struct str input, struct str signature)
{
        bool good;

        if (!(key->algorithms & TOKEN_ALG_BIT(alg)) || signature.len != key->signature_bytes)
                return false;
        if (alg == TOKEN_ES256)
                good = verify_es256(key, input, signature);
        else if (ways[alg].ecdsa)
                good = verify_ecdsa(key, alg, input, signature);
        else if (ways[alg].digest)
                good = verify_digest(
                        key->pkey, alg, input, (const unsigned char *)signature.ptr, signature.len);
        else
                good = verify_message(
                        key->pkey, input, (const unsigned char *)signature.ptr, signature.len);
        if (!good)
                ERR_clear_error(); /* a forged token must leave nothing for others to find */
        return good;
}
