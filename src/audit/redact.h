/*
 * redact: what must not be written into a record.
 */
#ifndef DAGWARD_SRC_AUDIT_REDACT_H
#define DAGWARD_SRC_AUDIT_REDACT_H

#include "dagward/base/str.h"

/* The base64url alphabet. */
static inline bool redact_token_char(unsigned char c)
{
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_';
}

/* Finds the first thing in `s` that has the shape of a JWT or of a personal access token; false if
 * there is none. */
bool redact_find(struct str s, size_t *at, size_t *len);
/* Is this a query parameter whose value may be written? */
bool redact_harmless(struct str name);
/* May the name itself be written? One that could be a secret may not. */
bool redact_plain_name(struct str name);

#endif
