/*
 * vault_answer: what a key vault says, and what the operator must do about it. Private to control.
 * Knows no socket and no clock.
 */
#ifndef DAGWARD_CONTROL_VAULT_ANSWER_H
#define DAGWARD_CONTROL_VAULT_ANSWER_H

#include "dagward/base/error.h"
#include "dagward/base/secret.h"
#include "dagward/base/str.h"

enum vault_kind {
        VAULT_SECRET,      /* GET /secrets/NAME: `value`, `version`, `until_s` */
        VAULT_CERTIFICATE, /* GET /certificates/NAME: `value` is its DER, `version` of its key */
        VAULT_KEY,         /* GET /keys/NAME: `version` */
        VAULT_SIGNATURE,   /* POST /keys/NAME/VERSION/sign: `value` is base64url */
};

enum { VAULT_VERSION = 80 };

enum vault_verdict {
        VAULT_GOOD,
        VAULT_RETRY,    /* will pass */
        VAULT_OPERATOR, /* somebody has to change something */
        VAULT_GONE,     /* a secret that was deleted or disabled: likewise */
        VAULT_REJECTED, /* 401: the token, not the right, is missing */
};

struct vault_answer {
        enum vault_verdict verdict;
        struct secret value;         /* the caller drops it */
        char version[VAULT_VERSION]; /* letters and digits; "" when it is not said */
        int64_t until_s;             /* Unix time; 0: no end */
        struct error why;            /* unless VAULT_GOOD; no secret */
};

/* Reads an answer; never fails: nonsense is a VAULT_RETRY. */
void vault_answer_read(enum vault_kind kind, int status, struct str content_type, struct str body,
        struct vault_answer *out);

#endif
