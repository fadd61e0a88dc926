/*
 * jwk: one public key, from JSON or OpenSSL and back.
 */
#ifndef DAGWARD_SRC_TOKEN_JWK_H
#define DAGWARD_SRC_TOKEN_JWK_H

#include <jansson.h>
#include <openssl/evp.h>

#include "dagward/base/buf.h"
#include "dagward/base/error.h"
#include "dagward/token/keyset.h"

/* Reads one entry of a JWK set. On success key->pkey is the caller's to free and key->kid points
 * into `jwk`. False with the reason the key is of no use (never with key material). */
bool jwk_read(const json_t *jwk, struct key *key, struct error *why);
/* Which algorithms a public key could verify, and how long a signature is; false with a reason for
 * keys that nobody should trust. Sets key->algorithms and key->signature_bytes from key->pkey. */
bool jwk_judge(struct key *key, struct error *why);
/* Appends the members that RFC 7638 3.2 hashes, in its order, without the braces. */
void jwk_write_members(const EVP_PKEY *pkey, struct buf *out);
/* Appends the RFC 7638 thumbprint (SHA-256, base64url). */
void jwk_thumbprint(const EVP_PKEY *pkey, struct buf *out);

#endif
