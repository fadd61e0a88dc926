/*
 * fixed_base: signatures of one P-256 key, verified in about half of the time.
 *
 * ECDSA (FIPS 186-5 6.4.2) multiplies the curve's generator and the key by a number each. For the
 * generator OpenSSL has a table of multiples and needs no doubling; for any other point it doubles
 * 256 times. Here the key is made the generator of a group of its own, so that OpenSSL makes and
 * uses such a table for it, too. The arithmetic is OpenSSL's; only the equation stands here.
 * All values are public: nothing has to take constant time.
 */
#ifndef DAGWARD_SRC_TOKEN_FIXED_BASE_H
#define DAGWARD_SRC_TOKEN_FIXED_BASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <openssl/evp.h>

struct fixed_base;

/* What is learnt of a key while it is used. */
struct key_use {
        atomic_uint good; /* ES256 signatures, counted up to KEY_WORTH_A_TABLE */
        _Atomic(struct fixed_base *) table;
        bool refused; /* no table can be had */
};

enum { KEY_WORTH_A_TABLE = 64 };

enum { FIXED_BASE_DIGEST = 32, FIXED_BASE_SIGNATURE = 64 };

/* Takes some 30 ms, and 150 KB. NULL: not a key of P-256, OpenSSL would not, or its configuration
 * asks for FIPS: those verifications stay with the provider. */
struct fixed_base *fixed_base_new(const EVP_PKEY *pkey);
/* Harmless on NULL. */
void fixed_base_free(struct fixed_base *base);
/* Whether r || s, big-endian (RFC 7518 3.4), is a signature by the key over what has this SHA-256.
 * Any number of threads at once. */
bool fixed_base_verify(const struct fixed_base *base, const unsigned char digest[FIXED_BASE_DIGEST],
        const unsigned char signature[FIXED_BASE_SIGNATURE]);

#endif
