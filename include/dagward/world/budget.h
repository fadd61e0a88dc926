/*
 * budget: what one address and one identity have in use, counted over all workers.
 *
 * Two tables of counters that all workers share. Their number of slots is fixed, each slot is
 * found by a keyed hash (SipHash-2-4 with a key of this process, so that nobody can aim at a slot),
 * and each is changed by atomic operations alone: no lock, no waiting. An identity's slot is a
 * cache line of its own, so that only workers that serve the same caller meet there.
 *
 * Two workers that race for a slot may count one request in the wrong one, for as long as it takes;
 * what was taken is always given back to where it was taken from.
 *
 * A slot is given to another only when it says nothing any more: no connection or request under
 * way, and every bucket full. To be forgotten is therefore never an advantage. Identities that find
 * no slot share one account.
 */
#ifndef DAGWARD_WORLD_BUDGET_H
#define DAGWARD_WORLD_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "dagward/base/str.h"
#include "dagward/config/config.h"

struct budget;

enum budget_flow { BUDGET_READS, BUDGET_WRITES };

/* What was counted, to be given back; 0: nothing. */
typedef uint32_t budget_place;

/* For so many connections at most (`limits.connections`). Never NULL. */
struct budget *budget_new(uint64_t connections);
/* When no worker runs any more; harmless on NULL. */
void budget_free(struct budget *budget);

/* The number that stands for an issuer and a subject, or for a role; the same in all workers. */
uint64_t budget_identity(const struct budget *budget, struct str issuer, struct str subject);
uint64_t budget_role(const struct budget *budget, struct str role);

/* The number that stands for an address (IPv4 as ::ffff:a.b.c.d; IPv6 by its first 64 bits, as one
 * host has all that begin so). */
uint64_t budget_address(const struct budget *budget, const unsigned char address[16]);

/* Counts one more connection of `address`. False: it has `most` already, and nothing was counted.
 * `*place` is for budget_disconnect. */
bool budget_connect(struct budget *budget, const unsigned char address[16], uint64_t most,
        budget_place *place) __attribute__((warn_unused_result));
void budget_disconnect(struct budget *budget, budget_place place);

/* Counts one more request under way of `identity`; `stream`: one that may last (a clone). False: it
 * has `most` already, or three quarters of them are streams and this is another; then nothing was
 * counted. `*place` is for budget_end. */
bool budget_begin(struct budget *budget, uint64_t identity, uint64_t most, bool stream,
        int64_t now_us, budget_place *place) __attribute__((warn_unused_result));
void budget_end(struct budget *budget, budget_place place, bool stream);

/* Takes one request out of the bucket of `identity`: 0, or, when it is empty and nothing was taken,
 * the microseconds until there is one in it. */
int64_t budget_spend(struct budget *budget, uint64_t identity, enum budget_flow flow,
        const struct config_bucket *bucket, int64_t now_us);

/* For metrics: how often somebody had to share an account so far. */
uint64_t budget_crowded(const struct budget *budget);

#endif
