/*
 * secret: bytes that must not be seen.
 *
 * The one type that may hold a token, key or password beyond the call that read it. It has no
 * formatting function on purpose; it is wiped when dropped. It has pages of its own, which are left
 * out of core dumps, wiped in a forked child, and kept out of swap as far as RLIMIT_MEMLOCK allows.
 */
#ifndef DAGWARD_BASE_SECRET_H
#define DAGWARD_BASE_SECRET_H

#include "dagward/base/error.h"
#include "dagward/base/str.h"

struct secret {
        char *bytes; /* owned, NUL behind it (not counted); of secret_room, not of malloc */
        size_t len;
};

/* Room for `len` bytes with a NUL behind them, to be filled at once by whoever puts it together. */
char *secret_room(struct secret *secret, size_t len);
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
/* How many bytes of secrets may be kept out of swap: 0 where that is not allowed, SIZE_MAX: all. */
size_t secret_lockable(void);

#endif
