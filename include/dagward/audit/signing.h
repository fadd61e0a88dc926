/*
 * signing: the Ed25519 key (RFC 8032) that checkpoints of the audit log are signed with.
 *
 * A private key is a PEM file (PKCS #8, RFC 5958). A public key is written as the base64 of its
 * SubjectPublicKeyInfo (RFC 8410), which is also what stands between the lines of its PEM file; a
 * signature as base64. Both are compared as text: only the one canonical spelling is accepted.
 * Knows no log.
 */
#ifndef DAGWARD_AUDIT_SIGNING_H
#define DAGWARD_AUDIT_SIGNING_H

#include "dagward/base/error.h"

enum {
        SIGNING_KEY_LEN = 60, /* a public key, characters */
        SIGNING_LEN = 88,     /* a signature, characters */
};

struct signing_key; /* a private key and its public half; may be read from any thread */

/* NULL with the reason: no file, no key in it, another kind of key, a key with a passphrase. */
struct signing_key *signing_key_load(const char *path, struct error *err)
        __attribute__((warn_unused_result));
/* The key at the path; where there is no file, makes a key and puts it there (mode 0600, on disk
 * when this returns). */
struct signing_key *signing_key_load_or_make(const char *path, struct error *err)
        __attribute__((warn_unused_result));
/* Harmless on NULL. */
void signing_key_free(struct signing_key *key);
/* The public half: as text, and as a PEM file. Both end with the key. */
const char *signing_key_text(const struct signing_key *key);
const char *signing_key_pem(const struct signing_key *key);
void signing_sign(const struct signing_key *key, struct str text, char out[SIGNING_LEN + 1]);

/* Reads the public half from a PEM file, which may hold the private key as well. */
bool signing_public_load(const char *path, char out[SIGNING_KEY_LEN + 1], struct error *err)
        __attribute__((warn_unused_result));
/* False as well when key or signature are no such texts. */
bool signing_verify(struct str key, struct str text, struct str signature)
        __attribute__((warn_unused_result));

#endif
