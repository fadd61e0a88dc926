/*
 * mint: signed tokens of our own.
 *
 * For client assertions to a token endpoint, for the demo's issuer and for tests; callers' tokens
 * are never minted here. libjwt signs RS and ES; PS and EdDSA, which it does not know, are signed
 * by OpenSSL behind the same function.
 */
#ifndef DAGWARD_TOKEN_MINT_H
#define DAGWARD_TOKEN_MINT_H

#include "dagward/base/buf.h"
#include "dagward/base/error.h"
#include "dagward/base/secret.h"
#include "dagward/base/str.h"
#include "dagward/token/alg.h"

struct mint_key; /* a private key; wiped when freed */

/* A fresh key fit for `alg`: RSA of 2048 bits, the curve of ES*, or Ed25519. `kid` empty: its
 * RFC 7638 thumbprint. */
struct mint_key *mint_key_generate(enum token_alg alg, struct str kid);
/* From a PEM private key without pass phrase (PKCS #8, PKCS #1, SEC 1). NULL when unreadable. */
struct mint_key *mint_key_from_pem(struct str pem, struct str kid, struct error *err)
        __attribute__((warn_unused_result));
void mint_key_free(struct mint_key *key);
struct str mint_key_kid(const struct mint_key *key);
/* The algorithms this key can sign with, TOKEN_ALG_BITs. */
unsigned mint_key_algorithms(const struct mint_key *key);
/* The private key as PKCS #8 PEM. */
void mint_key_pem(const struct mint_key *key, struct secret *out);
/* Appends the public key as one JWK, with `kid`, `use` and, unless `alg` is negative, `alg`. */
void mint_key_jwk(const struct mint_key *key, int alg, struct buf *out);
/* Appends `{"keys":[...]}` with the public halves of `n` keys. */
void mint_key_set(const struct mint_key *const *keys, size_t n, struct buf *out);

/* Appends base64url(header) "." base64url(claims): what a signer elsewhere (a key vault) signs. The
 * header is `{"alg":...,"typ":"JWT"}` and the `n` further string members of `header` (`kid`,
 * `x5t#S256`). `claims` is a JSON object and goes in as it is. */
bool mint_signing_input(enum token_alg alg, const struct pair *header, size_t n, struct str claims,
        struct buf *out, struct error *err) __attribute__((warn_unused_result));
/* SHA-256 of a signing input: what RS256 and PS256 sign, and a signer elsewhere is sent. */
enum { MINT_DIGEST_BYTES = 32 };
void mint_signing_digest(struct str input, unsigned char digest[MINT_DIGEST_BYTES]);
/* Signs `claims` (a JSON object; libjwt may spell it anew) with `key` and `alg` into a compact
 * token. `header` are at most 16 further string members; without one called `kid` the key's own is
 * put in, an empty `kid` leaves it out. False when the key is not for `alg`, the claims are no
 * object or the token would be longer than 1 MiB. */
bool mint_sign(const struct mint_key *key, enum token_alg alg, const struct pair *header, size_t n,
        struct str claims, struct secret *out, struct error *err)
        __attribute__((warn_unused_result));

#endif
