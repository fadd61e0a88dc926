/*
 * verdicts: tokens this worker has verified before.
 *
 * A fixed number of slots in small sets; the least recently used of a set makes room. Only good
 * verdicts are kept. A hit needs the whole token to be equal byte for byte, the configuration and
 * the issuer's keys to be the ones it was verified with, and the time to be before `exp`. One per
 * worker, no locks.
 */
#ifndef DAGWARD_TOKEN_VERDICTS_H
#define DAGWARD_TOKEN_VERDICTS_H

#include "dagward/token/token.h"

struct verdicts;

struct verdicts_now {
        int64_t wall_s, mono_ms;
};

struct verdicts_counts {
        uint64_t hits, misses, evictions;
        size_t held; /* entries now */
};

/* Room for at least `most` tokens (rounded up to a power of two, at least 8). */
struct verdicts *verdicts_new(size_t most);
void verdicts_free(struct verdicts *verdicts);
/* The caller that `token` was found to be, with a reference for whoever asked, or NULL.
 * `issuers` are the views in force now, in the order of verification; `config_generation` is the
 * generation of the configuration they come from. Never past `exp`, nor longer after it was put
 * than it was good for then; `*ended` tells that this is so, and that the wall clock would have it
 * otherwise: the token is to be refused, not verified again. */
struct caller *verdicts_find(struct verdicts *verdicts, struct str token,
        const struct issuer_view *issuers, size_t n, uint64_t config_generation,
        const struct verdicts_now *now, bool *ended) __attribute__((warn_unused_result));
/* Keeps `caller` (takes a reference of its own) and a copy of `token`, which is wiped when it makes
 * room. `issuers` and the wall clock of `now` must be what token_verify was given. */
void verdicts_put(struct verdicts *verdicts, struct str token, struct caller *caller,
        const struct issuer_view *issuers, size_t n, uint64_t config_generation,
        const struct verdicts_now *now);
/* Drops everything whose time is over: call now and then so that dead tokens do not linger. */
void verdicts_expire(struct verdicts *verdicts, int64_t now_s);
void verdicts_count(const struct verdicts *verdicts, struct verdicts_counts *counts);

#endif
