/*
 * issuer_form: what a client sends to a token endpoint, a form of RFC 6749 appendix B, with its
 * name in the form or in `Authorization: Basic` (2.3.1).
 */
#ifndef DAGWARD_EMBEDDED_ISSUER_FORM_H
#define DAGWARD_EMBEDDED_ISSUER_FORM_H

#include "dagward/base/arena.h"

struct issuer_form {
        bool whole; /* false: broken escapes, a name twice, or no memory; nothing else counts */
        struct str grant_type, client_id, client_secret, client_assertion, audience;
};

/* Reads `body`; `authorization` is the field's value, maybe empty. Everything is copied into
 * `arena`. What is not there is empty. */
void issuer_form_read(
        struct issuer_form *form, struct str body, struct str authorization, struct arena *arena);

#endif
