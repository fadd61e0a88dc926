/*
 * token: who is calling.
 *
 * Takes a compact JWS (RFC 7515), the rules and keys of the issuers, and the time; answers with a
 * caller or with the reason why not. It knows no header field, no clock and no network. What is
 * cheap is checked before the signature, so that a forged token costs little; a token that is not
 * of one of our issuers, not for us, or expired never reaches a key. `jku`, `x5u`, `jwk` and `x5c`
 * of the token are ignored.
 */
#ifndef DAGWARD_TOKEN_TOKEN_H
#define DAGWARD_TOKEN_TOKEN_H

#include "dagward/base/arena.h"
#include "dagward/base/error.h"
#include "dagward/base/snapshot.h"
#include "dagward/base/str.h"
#include "dagward/base/tree.h"
#include "dagward/token/alg.h"
#include "dagward/token/keyset.h"

enum {
        TOKEN_MOST_BYTES = 16 * 1024, /* a longer token is refused unread */
        TOKEN_MOST_ROLES = 512, /* a token with more is refused: dropping some could lose a deny */
        TOKEN_MOST_DEPTH = 24,  /* of nested JSON */
        TOKEN_MOST_VALUES = 2048, /* members and elements in one part */
        TOKEN_SUBJECT_MOST_BYTES = 1024,
        TOKEN_DIGEST_BYTES = 32,
};

/* What one issuer's tokens must satisfy. Views; the owner (a configuration) outlives the rules. */
struct token_rules {
        struct str name;           /* how policy and audit call the issuer */
        const struct str *issuers; /* exact values of `iss` */
        size_t n_issuers;
        const struct str *audiences; /* one of them must be in `aud` */
        size_t n_audiences;
        unsigned algorithms; /* TOKEN_ALG_BITs */
        int64_t clock_skew_s;
        int64_t max_lifetime_s;     /* 0: no bound */
        const struct pair *require; /* claim (path) and its exact value */
        size_t n_require;
        /* Claims (paths such as `realm_access.roles`) that name roles: a string, a blank-separated
         * string or an array of strings. A claim whose own name holds dots is found too: at every
         * level the longest name that exists is taken. */
        const struct str *roles_paths;
        size_t n_roles_paths;
};

/* An issuer as a worker sees it now. */
struct issuer_view {
        const struct token_rules *rules;
        const struct keyset *keys; /* NULL: none yet */
};

/* Who is calling: immutable, counted; strings and claims live as long as it does. */
struct caller {
        struct snapshot snap;
        unsigned issuer_index; /* in the array of views it was verified against */
        struct str issuer;     /* rules->name, copied */
        struct str iss;
        struct str subject;
        struct str token_id; /* `jti`, or "sha256:" and 32 hex digits of the token's digest */
        const struct str *roles;
        size_t n_roles;
        bool groups_unknown; /* the issuer left groups out because there are too many (Entra) */
        const struct tree *claims; /* an object */
        int64_t issued_s;          /* `iat`, or INT64_MIN */
        int64_t expires_s;         /* `exp`, without skew */
        struct arena arena;
};

enum token_verdict {
        TOKEN_OK,
        TOKEN_TOO_LARGE,
        TOKEN_MALFORMED,  /* not a compact JWS of two JSON objects, or a claim of the wrong kind */
        TOKEN_PAT,        /* not a JWT at all, most likely a personal access token */
        TOKEN_WRONG_KIND, /* a JWT, but of another kind: ID, refresh, logout token, `crit`, `typ` */
        TOKEN_WRONG_ALG,  /* not allowed for this issuer, or not what the named key is for */
        TOKEN_UNKNOWN_ISSUER,
        TOKEN_NO_KEYS,       /* the issuer's keys have not been fetched yet: ask for them */
        TOKEN_UNKNOWN_KID,   /* no key of that name: the only verdict worth a refresh of the keys */
        TOKEN_BAD_SIGNATURE, /* the only refusal that costs public-key arithmetic */
        TOKEN_EXPIRED,
        TOKEN_NOT_YET, /* `nbf` or `iat` in the future */
        TOKEN_WRONG_AUDIENCE,
        TOKEN_TOO_LONG_LIVED,
        TOKEN_REQUIRED_CLAIM,
        TOKEN_NO_SUBJECT,
        TOKEN_TOO_MANY_ROLES,
};
enum { TOKEN_VERDICT_COUNT = TOKEN_TOO_MANY_ROLES + 1 };

/* Verifies `compact` (blanks already stripped) at `now_s`, seconds since 1970. On TOKEN_OK `*out`
 * gets a caller with one reference. `*issuer_index` is set as soon as the issuer is known, else to
 * `n`. On refusal `why` (may be NULL) says more than the verdict does, without a byte of the token.
 */
enum token_verdict token_verify(struct str compact, const struct issuer_view *issuers, size_t n,
        int64_t now_s, struct caller **out, unsigned *issuer_index, struct error *why)
        __attribute__((warn_unused_result));
/* A short stable name for metrics and logs: "expired", "unknown_kid". */
const char *token_verdict_name(enum token_verdict verdict);
/* One sentence for the person who sent the token: what is wrong and what to do. */
const char *token_verdict_text(enum token_verdict verdict);
/* Not three dot-separated parts, or the 52 or 84 characters of an Azure DevOps PAT. */
bool token_looks_like_pat(struct str secret);
/* SHA-256 of all of a token: what to find things by that belong to it. */
void token_digest(struct str compact, unsigned char out[TOKEN_DIGEST_BYTES]);
/* Three non-empty parts of base64url characters with dots between: shape only. */
bool token_looks_like_jwt(struct str secret);

static inline struct caller *caller_ref(struct caller *caller)
{
        snapshot_ref(&caller->snap);
        return caller;
}
/* Harmless on NULL. */
void caller_unref(struct caller *caller);
#endif
