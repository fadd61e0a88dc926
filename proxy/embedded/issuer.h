/*
 * issuer: a small OpenID provider on loopback, for the demo and for tests.
 *
 * It signs whatever claims it is asked for and trusts everybody: it is for this machine only and
 * listens nowhere else. Two keys at a time, RSA and P-256, made at start and at each rotation.
 *
 *   GET  /.well-known/openid-configuration   discovery (OpenID Connect Discovery 1.0, 4)
 *   GET  /jwks                               public keys, `Cache-Control: max-age=60`
 *   POST /mint                               JSON claims -> compact token, text/plain
 *   POST /rotate[?keep=1]                    new keys; the old ones stay in the set with keep=1
 *   POST /token                              client credentials (RFC 6749 4.4) -> a JWT
 *   POST /{tenant}/oauth2/v2.0/token         the same as Entra ID answers it -> `emulated-<random>`
 *   GET  /count                              how often each path was asked for, as JSON
 */
#ifndef DAGWARD_EMBEDDED_ISSUER_H
#define DAGWARD_EMBEDDED_ISSUER_H

#include "dagward/base/error.h"
#include "dagward/base/secret.h"

struct emu_issuer; /* threads of its own; every function is safe from any thread */

struct emu_issuer_settings {
        uint16_t port;  /* on 127.0.0.1; 0: any free one */
        struct str url; /* the name in `iss` and in discovery; empty: http://127.0.0.1:PORT */
};

/* Serves until emu_issuer_stop; NULL with a reason when the port cannot be had. */
struct emu_issuer *emu_issuer_start(const struct emu_issuer_settings *settings, struct error *err)
        __attribute__((warn_unused_result));
uint16_t emu_issuer_port(const struct emu_issuer *issuer);
/* Without a slash at the end, unless the settings had one; lives as long as the issuer. */
struct str emu_issuer_url(const struct emu_issuer *issuer);
/* A token as POST /mint makes it: `claims` is a JSON object, or empty. False when it is none, or
 * names an `_alg` that there is no key for. */
bool emu_issuer_mint(struct emu_issuer *issuer, struct str claims, struct secret *out,
        struct error *err) __attribute__((warn_unused_result));
/* Waits for what is being answered. NULL is harmless. */
void emu_issuer_stop(struct emu_issuer *issuer);

#endif
