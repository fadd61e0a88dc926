/*
 * fault: why bytes are not a message, in the words of the rule they break.
 *
 * Filled by the parsers of this module, read by whoever chooses the answer. Holds no byte of the
 * peer's: `rule` and `why` are literals, so that they can be logged and sent.
 */
#ifndef DAGWARD_HTTP_FAULT_H
#define DAGWARD_HTTP_FAULT_H

#include "dagward/base/str.h"

struct h1_fault {
        int status;       /* for the client: 400 413 414 417 431 501 505; 502 if upstream's */
        const char *rule; /* "RFC 9112 6.3"; "" for rules of our own */
        const char *why;  /* "two Host fields"; what is wrong, without full stop */
        size_t offset;    /* of the byte that shows it, counted as each parser says */
};

/* Fills `fault`. Always false, for `return h1_fault_set(...)`. */
bool h1_fault_set(
        struct h1_fault *fault, int status, const char *rule, const char *why, size_t offset);

#endif
