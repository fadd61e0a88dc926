/*
 * carrier: where in a request the token is.
 *
 * Exactly one of `Authorization: Bearer`, Basic with the token as password (any user), Basic with
 * the token as user and no password, `X-Dagward-Token`. It is given field values, not requests, and
 * does not verify anything. Several credentials are never a silent pick.
 */
#ifndef DAGWARD_TOKEN_CARRIER_H
#define DAGWARD_TOKEN_CARRIER_H

#include "dagward/base/arena.h"
#include "dagward/base/str.h"

enum token_via { VIA_BEARER, VIA_BASIC_PASSWORD, VIA_BASIC_USER, VIA_HEADER };

enum carrier_result {
        CARRIER_NONE,    /* 401: no credential, an empty one, or a scheme that is not ours */
        CARRIER_TOKEN,   /* `token` is set; still to be verified */
        CARRIER_PAT,     /* 401: a secret that is no JWT; see token_verdict_text(TOKEN_PAT) */
        CARRIER_SEVERAL, /* 400: more than one credential */
        CARRIER_BAD,     /* 400: not readable as what its scheme promises */
        CARRIER_LARGE,   /* 431: longer than a token may be */
};

enum { CARRIER_CLAIMED_MOST_BYTES = 256 };

/* Looks into the values (as the fields hold them) of all Authorization and all X-Dagward-Token
 * fields. `token` is a view into a value or, for Basic, into `arena`; white space at its end is
 * gone. `claimed_user` is the Basic user name as the caller sent it, cut to
 * CARRIER_CLAIMED_MOST_BYTES: a remark, not an identity, never a secret (STR_NONE if there is none
 * or if it looks like one). RFC 6750 2.1, RFC 7617 2. */
enum carrier_result carrier_find(const struct str *authorization, size_t n_authorization,
        const struct str *x_dagward_token, size_t n_x_dagward_token, struct arena *arena,
        struct str *token, enum token_via *via, struct str *claimed_user)
        __attribute__((warn_unused_result));
/* How audit writes it: "bearer", "basic" or "header". */
const char *token_via_name(enum token_via via);

#endif
