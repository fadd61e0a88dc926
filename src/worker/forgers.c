/*
 * forgers: a worthless token costs its sender time, not everybody else.
 *
 * What the verification of a token that turns out to be bad takes is put on the account of the
 * address it came from. An account that is overdrawn has to wait: its tokens that are not known yet
 * are looked at in a later turn, a few at a time, so that what an account recovers is not spent in
 * one piece in which nobody else is served. Accounts recover at RECOVERY_US per ms, so that one
 * address can never have more than that share of a worker. Callers whose token was verified before,
 * and those from elsewhere, notice nothing. Addresses that share a slot share an account.
 */
#include "inside.h"

#include <event2/event.h>

enum { OVERDRAWN_US = 10000 }; /* hundreds of bad RS256 tokens, about ten of the slowest kind */
enum { RECOVERY_US = 50 };     /* per ms: 5 % of a worker */
enum { DEBT_MOST_US = 1000000 };
enum { TURN_EVERY_MS = 2 }; /* what recovers meanwhile is some five bad RS256 tokens */
enum { TURN_MOST = 64 };    /* of those that wait, so that many cost no more than few */

static unsigned slot_of(const char *peer)
{
        uint32_t hash = 2166136261u;

        for (; *peer; peer++)
                hash = (hash ^ (unsigned char)*peer) * 16777619u;
        return (hash ^ hash >> 16) % FORGERS;
}

static int64_t debt_now(const struct forgers *forgers, unsigned slot, int64_t now_ms)
{
        int64_t age_ms = now_ms - forgers->slots[slot].at_ms;

        if (age_ms >= DEBT_MOST_US / RECOVERY_US)
                return 0;
        int64_t debt = forgers->slots[slot].debt_us - age_ms * RECOVERY_US;
        return debt > 0 ? debt : 0;
}

bool forgers_may_try(const struct forgers *forgers, const char *peer, int64_t now_ms)
{
        return debt_now(forgers, slot_of(peer), now_ms) < OVERDRAWN_US;
}

void forgers_charge(struct forgers *forgers, const char *peer, int64_t now_ms, int64_t us)
{
        unsigned slot = slot_of(peer);
        int64_t debt = debt_now(forgers, slot, now_ms) + us;

        forgers->slots[slot].debt_us = debt < DEBT_MOST_US ? debt : DEBT_MOST_US;
        forgers->slots[slot].at_ms = now_ms;
}

static void turn_soon(struct worker *worker)
{
        static const struct timeval span = {.tv_usec = TURN_EVERY_MS * 1000};

        if (!event_pending(&worker->turn_event, EV_TIMEOUT, NULL))
                event_add(&worker->turn_event, &span);
}

void forgers_wait(struct exchange *x)
{
        if (link_empty(&x->turn_link))
                link_add(&x->worker->turns, &x->turn_link);
        turn_soon(x->worker);
}

void forgers_turn(struct worker *worker)
{
        for (int i = 0; i < TURN_MOST && !link_empty(&worker->turns); i++) {
                /* The one that was put there first. */
                struct exchange *x = LINK_OF(struct exchange, turn_link, worker->turns.before);
                link_remove(&x->turn_link);
                if (forgers_may_try(&worker->forgers, x->client->peer, worker->now_ms))
                        client_go_on(x->client);
                else
                        link_add(&worker->turns, &x->turn_link);
        }
        if (!link_empty(&worker->turns))
                turn_soon(worker);
}
