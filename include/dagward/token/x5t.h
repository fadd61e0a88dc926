/*
 * x5t: what a signed client assertion says about the certificate it is signed with.
 *
 * Only what a token endpoint compares: thumbprints over the DER bytes (RFC 7515 4.1.7, 4.1.8), the
 * time it is valid in, and which key it certifies. No chain is followed and nothing is trusted
 * because of it.
 */
#ifndef DAGWARD_TOKEN_X5T_H
#define DAGWARD_TOKEN_X5T_H

#include "dagward/base/error.h"
#include "dagward/base/str.h"

enum { X5T_MOST_BYTES = 64 * 1024 };

struct x5t {
        char sha1[28];       /* base64url of the SHA-1, terminated */
        char sha256[44];     /* base64url of the SHA-256, terminated */
        char hex[65];        /* the SHA-256 in upper-case hex, as portals show it */
        char key_id[44];     /* RFC 7638 thumbprint of its public key: the kid of that key */
        unsigned algorithms; /* TOKEN_ALG_BITs that its key can sign with */
        int64_t not_before_s, not_after_s; /* Unix time */
};

/* The first certificate of a PEM file, whatever else stands in it. False with a reason when there
 * is none, or its key is of no use. */
bool x5t_read_pem(struct str pem, struct x5t *out, struct error *err)
        __attribute__((warn_unused_result));
/* One certificate in DER. */
bool x5t_read_der(struct str der, struct x5t *out, struct error *err)
        __attribute__((warn_unused_result));

#endif
