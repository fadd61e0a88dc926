/*
 * keyset: the public keys of one issuer.
 *
 * Parsed once from a JWK set (RFC 7517) or from PEM, then immutable, counted and shared by threads.
 * A key says which algorithms it is for; a token never does. Keys nobody should trust are left out
 * with a warning: RSA below 2048 or above 8192 bits or with a public exponent outside 65537..2^32,
 * points off their curve or of small order, symmetric keys, keys for encryption, private keys that
 * were published, different keys that share a `kid` and an algorithm. It knows no URL and no file.
 */
#ifndef DAGWARD_TOKEN_KEYSET_H
#define DAGWARD_TOKEN_KEYSET_H

#include "dagward/base/arena.h"
#include "dagward/base/error.h"
#include "dagward/base/snapshot.h"
#include "dagward/base/str.h"
#include "dagward/token/alg.h"

struct evp_pkey_st;
struct key_use;

enum {
        KEYSET_MOST_KEYS = 256,       /* in one set; more is an error */
        KEYSET_MOST_BYTES = 1 << 20,  /* of the document */
        KEYSET_KID_MOST_BYTES = 1024, /* longer: the key is left out */
};

struct key {
        struct str kid;       /* ptr NULL: the set gives it no name */
        struct str other_kid; /* PEM keys: base64url SHA-256 of the DER, else ptr NULL */
        unsigned algorithms;  /* TOKEN_ALG_BITs it may verify */
        struct evp_pkey_st *pkey;
        size_t signature_bytes; /* exact length of a signature in a token */
        struct key_use *use;    /* the only part that changes, see keyset_prepare; the set's */
};

struct keyset {
        struct snapshot snap;
        struct arena arena;
        struct key *keys;
        size_t n;
        size_t dropped; /* entries that were left out with a warning */
        bool pem;       /* named by whoever configured the file, not by `kid` */
        /* Digest of the keys: the same keys fetched again have the same generation, so that
         * verdicts survive a refresh that changed nothing. Never 0. */
        uint64_t generation;
};

/* Parses a JWK set, or when `pem_allowed` one or more PEM public keys (SPKI; certificates are not
 * keys). Warnings about dropped keys go to `warnings` (may be NULL) and name `source` (may be NULL,
 * must outlive the list's use of it only during the call). The result holds one reference. NULL
 * when the document is not a set, is too large, or no usable key is left. */
struct keyset *keyset_parse(struct str text, bool pem_allowed, const char *source,
        struct error_list *warnings, struct error *err) __attribute__((warn_unused_result));
static inline struct keyset *keyset_ref(struct keyset *set)
{
        snapshot_ref(&set->snap);
        return set;
}
/* Harmless on NULL. */
void keyset_unref(struct keyset *set);
/* The one key that `kid` names and that is for `alg`. `kid` with ptr NULL (the token has none), and
 * any `kid` on a PEM set that does not know it, mean the only key for `alg`, if there is only one.
 * NULL when nothing, or more than one key, fits; `*other_alg` then tells if the name is known but
 * the key is for other algorithms. */
const struct key *keyset_find(
        const struct keyset *set, struct str kid, enum token_alg alg, bool *other_alg);
/* Gives one key a table, by which its ES256 signatures cost about half, if it has one that is used
 * enough for that and has none: some 30 ms, and 150 KB as long as the set lives. `*made` is that
 * key, or NULL. True as long as there are keys that may want one later. One thread at a time;
 * others may verify meanwhile. */
bool keyset_prepare(struct keyset *set, const struct key **made);
/* Checks a signature over `input` made with `alg`, which `key` must be for. Bounded work: a
 * signature of the wrong length costs nothing. RS/PS: RFC 8017, PSS salt as long as the hash; ES:
 * r || s (RFC 7518 3.4); EdDSA: RFC 8037. */
bool key_verify(const struct key *key, enum token_alg alg, struct str input, struct str signature);

#endif
