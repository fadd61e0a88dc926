/*
 * entra_answer: what a token endpoint says, and what the operator must do about it. Private to
 * control. Knows no socket and no clock (RFC 6749 5.1 and 5.2, with Entra's additions).
 */
#ifndef DAGWARD_CONTROL_ENTRA_ANSWER_H
#define DAGWARD_CONTROL_ENTRA_ANSWER_H

#include <jansson.h>

#include "dagward/base/error.h"
#include "dagward/base/secret.h"
#include "dagward/base/str.h"

enum entra_verdict {
        ENTRA_TOKEN,    /* `token` and `expires_in_s` are set */
        ENTRA_RETRY,    /* will pass: try again after a while */
        ENTRA_OPERATOR, /* somebody has to change something */
};

struct entra_answer {
        enum entra_verdict verdict;
        struct secret token;  /* the caller drops it */
        int64_t expires_in_s; /* 1 to 10 years */
        int64_t refresh_in_s; /* -1: not said */
        int64_t aadsts;       /* 0: none */
        struct error why;     /* unless ENTRA_TOKEN: what is wrong and what to do; no secret */
};

/* Reads an answer. `content_type` may be STR_NONE. Never fails: nonsense is an ENTRA_RETRY (a proxy
 * of the network, an outage), said so in `why`. `callers`: the assertion that was sent was a
 * caller's own, which is what the advice is about. */
void entra_answer_read(int status, struct str content_type, struct str body, bool callers,
        struct entra_answer *out);
/* For answers of others that look alike. Seconds, as a number or as decimal digits in a string; -1
 * when neither. */
int64_t answer_seconds(const json_t *value);
/* An identifier for a message: letters, digits and `-._` only, whatever else cuts it off. */
enum { ANSWER_WORD = 64 };
void answer_word(const json_t *value, char out[ANSWER_WORD]);
/* `access_token` of a bearer answer into `token`, wiped in the tree; false with a reason. */
bool answer_token(json_t *root, const char *who, struct secret *token, struct error *why);
/* Whether the code is about the assertion that was sent, and not about who is asked or for what. */
bool entra_refuses_assertion(int64_t aadsts);
/* What to do about an AADSTS code; NULL for one without an entry. */
const char *entra_remedy(int64_t aadsts);
/* What such a code says, without advice; "" for one without an entry. Static per thread. */
const char *entra_fact(int64_t aadsts);

#endif
