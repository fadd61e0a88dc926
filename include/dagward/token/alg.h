/*
 * alg: the signature algorithms a token may carry.
 *
 * The list is compiled in and holds public-key algorithms only: "none" and HS* have no name here,
 * so no configuration and no token can ask for them (RFC 8725 3.1, 3.2).
 */
#ifndef DAGWARD_TOKEN_ALG_H
#define DAGWARD_TOKEN_ALG_H

#include "dagward/base/str.h"

enum token_alg {
        TOKEN_RS256,
        TOKEN_RS384,
        TOKEN_RS512,
        TOKEN_PS256,
        TOKEN_PS384,
        TOKEN_PS512,
        TOKEN_ES256,
        TOKEN_ES384,
        TOKEN_ES512,
        TOKEN_EDDSA, /* Ed25519 only */
};
enum { TOKEN_ALG_COUNT = TOKEN_EDDSA + 1 };

/* A set of algorithms is an `unsigned` of these bits. */
#define TOKEN_ALG_BIT(alg) (1u << (alg))
#define TOKEN_ALGS_DEFAULT (TOKEN_ALG_BIT(TOKEN_RS256) | TOKEN_ALG_BIT(TOKEN_ES256))
#define TOKEN_ALGS_ALL ((1u << TOKEN_ALG_COUNT) - 1u)

/* The registered name ("RS256", "EdDSA"; RFC 7518 3.1, RFC 8037 3.1). */
const char *token_alg_name(enum token_alg alg);
/* Finds one by its exact name, letter case counts; false for everything else. */
bool token_alg_named(struct str name, enum token_alg *alg);

#endif
