/*
 * forgers: a worthless token costs its sender time, not everybody else.
 *
 * What the verification of a token that turns out to be bad takes is put on the account of the
 * address it came from (accounts.c). Who has overdrawn it has to wait: its tokens that are not
 * known yet are looked at in a later turn, a few at a time, so that what an account recovers is not
 * spent in one piece in which nobody else is served. Callers whose token was verified before, and
 * those from elsewhere, notice nothing.
 */
#include "inside.h"

#include <event2/event.h>

enum { TURN_EVERY_MS = 2 }; /* what recovers meanwhile is some five bad RS256 tokens */
enum { TURN_MOST = 64 };    /* of those that wait, so that many cost no more than few */

bool forger_must_wait(const struct exchange *x)
{
        return account_is_overdrawn(
                &x->worker->forgers, client_address(x->client), x->worker->now_ms);
}

void forger_charge(const struct exchange *x, int64_t us)
{
        account_charge(&x->worker->forgers, client_address(x->client), x->worker->now_ms, us);
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
                if (forger_must_wait(x))
                        link_add(&worker->turns, &x->turn_link);
                else
                        client_go_on(x->client);
        }
        if (!link_empty(&worker->turns))
                turn_soon(worker);
}
