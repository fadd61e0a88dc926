/*
 * id: random identifiers.
 *
 * Bytes come from the kernel (getrandom) in blocks per thread. Request ids are UUIDs of version 7
 * (RFC 9562 5.7), so that they sort by time.
 */
#ifndef DAGWARD_BASE_ID_H
#define DAGWARD_BASE_ID_H

#include "dagward/base/str.h"

enum { ID_UUID_LEN = 36 };

/* Random bytes from the kernel; aborts if it has none to give. */
void id_random(void *out, size_t len);
/* A version 7 UUID of time `wall_ms`, lower case; writes 36 bytes and a NUL. */
void id_uuid7(int64_t wall_ms, char out[ID_UUID_LEN + 1]);
/* Takes a UUID with dashes, or 32 hex digits, in any case, and writes it as a lower-case UUID with
 * dashes; false if `s` is neither. */
bool id_uuid_canonical(struct str s, char out[ID_UUID_LEN + 1]);

#endif
