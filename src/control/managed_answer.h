/*
 * managed_answer: what an identity endpoint on the machine says (IMDS, App Service, Azure Arc), and
 * what the operator must do about it. Private to control. Knows no socket; the time is given to it.
 */
#ifndef DAGWARD_CONTROL_MANAGED_ANSWER_H
#define DAGWARD_CONTROL_MANAGED_ANSWER_H

#include "dagward/base/error.h"
#include "dagward/base/secret.h"
#include "dagward/base/str.h"
#include "entra_answer.h"

struct managed_answer {
        enum entra_verdict verdict;
        struct secret token;  /* the caller drops it */
        int64_t expires_in_s; /* 1 to 10 years */
        int64_t refresh_in_s; /* -1: not said */
        /* Whose token it is, as far as it says; else "". */
        char client_id[ANSWER_WORD], object_id[ANSWER_WORD], resource_id[400];
        struct error why; /* unless ENTRA_TOKEN; no secret */
};

/* Reads an answer. `now_s`, Unix time, serves only for answers with an `expires_on` alone. Never
 * fails: nonsense is an ENTRA_RETRY. */
void managed_answer_read(int status, struct str content_type, struct str body, int64_t now_s,
        struct managed_answer *out);

#endif
