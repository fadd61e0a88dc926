/*
 * accounts: what addresses have taken of a worker's time with what may be worthless.
 *
 * Each recovers at RECOVERY_US per ms, so that no address ever has more than that share of a worker
 * without being overdrawn. More than some twenty cannot be overdrawn at once, because they would
 * have to take all of the worker's time: it does no harm that addresses share an account by chance.
 * What is charged is time in which the worker ran (clock_thread_us): who is interrupted pays for
 * nobody else.
 */
#include "inside.h"

/* Hundreds of bad RS256 tokens, about ten of the slowest kind; some 25 whole handshakes. */
enum { OVERDRAWN_US = 10000 };
enum { RECOVERY_US = 50 }; /* per ms: 5 % of a worker */
enum { DEBT_MOST_US = 1000000 };

static unsigned slot_of(uint64_t who)
{
        return who % ACCOUNTS;
}

static int64_t debt_now(const struct accounts *accounts, unsigned slot, int64_t now_ms)
{
        int64_t age_ms = now_ms - accounts->slots[slot].at_ms;

        if (age_ms >= DEBT_MOST_US / RECOVERY_US)
                return 0;
        int64_t debt = accounts->slots[slot].debt_us - age_ms * RECOVERY_US;
        return debt > 0 ? debt : 0;
}

bool account_is_overdrawn(const struct accounts *accounts, uint64_t who, int64_t now_ms)
{
        return debt_now(accounts, slot_of(who), now_ms) >= OVERDRAWN_US;
}

void account_charge(struct accounts *accounts, uint64_t who, int64_t now_ms, int64_t us)
{
        unsigned slot = slot_of(who);
        int64_t debt = debt_now(accounts, slot, now_ms) + us;

        accounts->slots[slot].debt_us = debt < DEBT_MOST_US ? debt : DEBT_MOST_US;
        accounts->slots[slot].at_ms = now_ms;
}
