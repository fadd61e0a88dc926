/*
 * token_bench: what one identification costs, on one thread.
 *
 * Usage: token_bench [ROUNDS]. Prints nanoseconds per verdict found in the cache, per digest of the
 * same token (the alternative as a cache key), and microseconds per token verified in full.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dagward/token/mint.h"
#include "dagward/token/verdicts.h"

static struct str iss = {"https://issuer.example", 22}, audience = {"dagward", 7};
static struct str roles_path = {"roles", 5};
static long rounds = 200000;

static double now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static struct str claims_of(struct buf *out, size_t pad)
{
        buf_reset(out);
        BUF_LITERAL(out,
                "{\"iss\":\"https://issuer.example\",\"aud\":\"dagward\",\"sub\":\"worker\","
                "\"exp\":4000000000,\"iat\":1800000000,\"jti\":\"0191\","
                "\"roles\":[\"etl-operator\",\"reader\"],\"groups\":[\"x\"");
        for (size_t i = 0; i < pad; i++)
                buf_printf(out, ",\"00000000-0000-0000-0000-%012zu\"", i);
        BUF_LITERAL(out, "]}");
        return buf_str(out);
}

#define MEASURE(label, unit, count, ...)                                                           \
        do {                                                                                       \
                double start = now_ns();                                                           \
                for (long i = 0; i < (count); i++) {                                               \
                        __VA_ARGS__;                                                               \
                }                                                                                  \
                printf("%-34s %9.2f %s\n", label,                                                  \
                        (now_ns() - start) / (double)(count) / ((unit)[0] == 'u' ? 1e3 : 1),       \
                        unit);                                                                     \
        } while (0)

static void bench_digests(struct str token)
{
        unsigned char digest[32];
        EVP_MD *md = EVP_MD_fetch(NULL, "SHA256", NULL);
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();

        MEASURE("EVP_Digest(EVP_sha256())", "ns", rounds,
                if (!EVP_Digest(token.ptr, token.len, digest, NULL, EVP_sha256(), NULL)) abort());
        MEASURE("EVP_MD_CTX kept, fetched SHA256", "ns", rounds,
                if (!EVP_DigestInit_ex2(ctx, md, NULL) ||
                        !EVP_DigestUpdate(ctx, token.ptr, token.len) ||
                        !EVP_DigestFinal_ex(ctx, digest, NULL)) abort());
        MEASURE("SHA256()", "ns", rounds, SHA256((const void *)token.ptr, token.len, digest));
        EVP_MD_CTX_free(ctx);
        EVP_MD_free(md);
}

static void bench_alg(enum token_alg alg)
{
        struct mint_key *key = mint_key_generate(alg, STR("k"));
        struct buf text;
        struct secret token;
        struct error err;
        struct token_rules rules = {.name = STR("bench"),
                .issuers = &iss,
                .n_issuers = 1,
                .audiences = &audience,
                .n_audiences = 1,
                .algorithms = TOKEN_ALGS_ALL,
                .clock_skew_s = 60,
                .roles_paths = &roles_path,
                .n_roles_paths = 1};
        struct caller *caller;
        unsigned index;
        char label[64];

        buf_init(&text, 1 << 16);
        mint_key_set((const struct mint_key *const *)&key, 1, &text);
        struct issuer_view view = {&rules, keyset_parse(buf_str(&text), false, NULL, NULL, &err)};
        if (!view.keys)
                abort();
        if (!mint_sign(key, alg, NULL, 0, claims_of(&text, alg == TOKEN_RS256 ? 17 : 21), &token,
                    &err))
                abort();
        struct str compact = secret_reveal(&token);
        snprintf(label, sizeof(label), "%s miss, %zu bytes", token_alg_name(alg), compact.len);
        MEASURE(label, "us", rounds / 50, {
                if (token_verify(compact, &view, 1, 1800000000, &caller, &index, &err) != TOKEN_OK)
                        abort();
                caller_unref(caller);
        });
        const struct key *made;
        keyset_prepare((struct keyset *)view.keys, &made);
        if (made) {
                snprintf(label, sizeof(label), "%s miss, by a table", token_alg_name(alg));
                MEASURE(label, "us", rounds / 50, {
                        if (token_verify(compact, &view, 1, 1800000000, &caller, &index, &err) !=
                                TOKEN_OK)
                                abort();
                        caller_unref(caller);
                });
        }
        /* What a forger costs who knows everything but the key. */
        char *forged = str_dup(compact);
        forged[compact.len - 50] = forged[compact.len - 50] == 'A' ? 'B' : 'A';
        snprintf(label, sizeof(label), "%s forged signature", token_alg_name(alg));
        MEASURE(label, "us", rounds / 50, {
                if (token_verify(str_view(forged, compact.len), &view, 1, 1800000000, &caller,
                            &index, &err) == TOKEN_OK)
                        abort();
        });
        snprintf(label, sizeof(label), "%s expired (no signature checked)", token_alg_name(alg));
        MEASURE(label, "us", rounds / 10, {
                if (token_verify(compact, &view, 1, 5000000000, &caller, &index, &err) !=
                        TOKEN_EXPIRED)
                        abort();
        });
        free(forged);
        if (alg == TOKEN_RS256) {
                struct verdicts *v = verdicts_new(4096);
                if (token_verify(compact, &view, 1, 1800000000, &caller, &index, &err) != TOKEN_OK)
                        abort();
                const struct verdicts_now now = {1800000000, 1000};
                bool ended;
                verdicts_put(v, compact, caller, &view, 1, 1, &now);
                caller_unref(caller);
                MEASURE("verdict found, same token", "ns", rounds * 10,
                        { caller_unref(verdicts_find(v, compact, &view, 1, 1, &now, &ended)); });
                MEASURE("CRYPTO_memcmp of the token", "ns", rounds,
                        if (CRYPTO_memcmp(compact.ptr, compact.ptr, compact.len)) abort());
                bench_digests(compact);
                verdicts_free(v);
        }
        secret_drop(&token);
        buf_clear(&text);
        keyset_unref((struct keyset *)view.keys);
        mint_key_free(key);
}

int main(int argc, char **argv)
{
        static const enum token_alg algs[] = {
                TOKEN_RS256, TOKEN_PS256, TOKEN_ES256, TOKEN_ES384, TOKEN_ES512, TOKEN_EDDSA};

        if (argc > 1)
                rounds = atol(argv[1]);
        for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++)
                bench_alg(algs[i]);
        return 0;
}
