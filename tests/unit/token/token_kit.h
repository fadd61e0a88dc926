/*
 * token_kit: an issuer to test with. Keys are made once per program.
 */
#ifndef DAGWARD_TESTS_TOKEN_KIT_H
#define DAGWARD_TESTS_TOKEN_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdlib.h>

#include "dagward/token/mint.h"
#include "dagward/token/token.h"

#define NOW INT64_C(1800000000)

static struct str kit_iss[] = {{"https://issuer.example", 22}};
static struct str kit_audiences[] = {{"dagward", 7}, {"api://dagward", 13}};
static struct str kit_paths[] = {
        {"roles", 5}, {"realm_access.roles", 18}, {"https://example.com/roles", 25}};
static const struct token_rules kit_rules = {
        .name = {"kit", 3},
        .issuers = kit_iss,
        .n_issuers = 1,
        .audiences = kit_audiences,
        .n_audiences = 2,
        .algorithms = TOKEN_ALGS_ALL,
        .clock_skew_s = 60,
        .roles_paths = kit_paths,
        .n_roles_paths = 3,
};

/* The set that holds the public halves. */
static inline struct keyset *kit_keyset(struct mint_key *const *keys, size_t n)
{
        struct buf text;
        struct error err;

        buf_init(&text, 1 << 20);
        mint_key_set((const struct mint_key *const *)keys, n, &text);
        struct keyset *set = keyset_parse(buf_str(&text), false, NULL, NULL, &err);
        buf_clear(&text);
        assert_non_null(set);
        return set;
}

/* A token over `claims`; the caller drops it. */
static inline struct secret kit_sign(
        const struct mint_key *key, enum token_alg alg, const char *claims)
{
        struct secret token = {0};
        struct error err = {""};

        if (!mint_sign(key, alg, NULL, 0, str_of(claims), &token, &err))
                fail_msg("%s", err.text);
        return token;
}

#endif
