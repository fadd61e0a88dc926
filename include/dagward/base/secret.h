/*
 * secret: bytes that must not be seen.
 *
 * The one type that may hold a token, key or password beyond the call that read it. It has no
 * formatting function on purpose; it is wiped when dropped. Its pages are left out of core dumps
 * as far as the kernel allows it.
 */
#ifndef DAGWARD_BASE_SECRET_H
#define DAGWARD_BASE_SECRET_H

#include "dagward/base/error.h"
#include "dagward/base/str.h"

struct secret {
        char *bytes; /* owned, NUL behind it (not counted) */
        size_t len;
};

/* Copies `s`. */
void secret_set(struct secret *secret, struct str s);
/* Reads a file of at most `most` bytes, blanks at both ends left off; false with a reason when it
 * cannot be read, is too long, or is empty. */
bool secret_read(struct secret *secret, const char *path, size_t most, struct error *err);
/* Wipes and frees; harmless on an empty one. */
void secret_drop(struct secret *secret);
/* The bytes, for the one place that needs them. */
static inline struct str secret_reveal(const struct secret *secret)
{
        return str_view(secret->bytes, secret->len);
}
/* Overwrites memory in a way the compiler keeps. */
void secret_wipe(void *memory, size_t len);

#endif
