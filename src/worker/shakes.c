/*
 * shakes: handshakes of TLS wait for each other, and requests do not wait for them.
 *
 * A whole handshake takes a worker ten times as long as a request, and its peer next to nothing: a
 * hello that was recorded once can be sent for ever. So what handshakes take of one turn of the
 * loop is bounded, and the others are done in the next one: first those from addresses that have
 * taken little of late, and of all others one in a turn. A worker that has nothing else to do loses
 * no time by it. Who waits for longer than a head may take is shown out, as ever.
 */
#include "inside.h"

#include <event2/event.h>

/* What a turn may take before the rest has to wait: a few whole handshakes, or one. What has begun
 * is not interrupted. */
static const int64_t MOST_US[] = {[SHAKER_GOOD] = 1000, [SHAKER_OVERDRAWN] = 100};

static enum shaker shaker_of(const struct client *client)
{
        const struct worker *worker = client->worker;
        bool overdrawn =
                account_is_overdrawn(&worker->shakers, client_address(client), worker->now_ms);

        return overdrawn ? SHAKER_OVERDRAWN : SHAKER_GOOD;
}

static bool has_time(const struct worker *worker, enum shaker shaker)
{
        return worker->shaken_us[shaker] < MOST_US[shaker];
}

static void step_begins(struct worker *worker, enum shaker shaker)
{
        worker->shaking = shaker;
        worker->shake_began_us = clock_thread_us();
}

bool shake_begin(struct client *client)
{
        struct worker *worker = client->worker;

        if (!stream_is_shaking(&client->stream))
                return true;
        if (worker->shake_began_us) /* it is its turn */
                return true;
        if (!link_empty(&client->waiting))
                return false;
        enum shaker shaker = shaker_of(client);
        if (has_time(worker, shaker) && link_empty(&worker->shakes[shaker])) {
                step_begins(worker, shaker);
                return true;
        }
        stream_listen(&client->stream, false);
        link_add(&worker->shakes[shaker], &client->waiting);
        worker->metrics.handshakes_delayed++;
        return false;
}

void shake_end(struct client *client)
{
        struct worker *worker = client->worker;

        if (!worker->shake_began_us)
                return;
        int64_t took_us = clock_thread_us() - worker->shake_began_us;
        worker->shake_began_us = 0;
        worker->shaken_us[worker->shaking] += took_us;
        account_charge(&worker->shakers, client_address(client), worker->now_ms, took_us);
}

static void go_on(struct client *client, enum shaker shaker)
{
        step_begins(client->worker, shaker);
        stream_listen(&client->stream, true);
        client_go_on(client);
        shake_end(client); /* when it did not come to a step */
}

void shakes_turn(struct worker *worker)
{
        for (enum shaker shaker = SHAKER_GOOD; shaker <= SHAKER_OVERDRAWN; shaker++) {
                struct link *waiting = &worker->shakes[shaker];
                while (!link_empty(waiting) && has_time(worker, shaker)) {
                        /* The one that was put there first. */
                        struct client *client = LINK_OF(struct client, waiting, waiting->before);
                        link_remove(&client->waiting);
                        if (shaker == SHAKER_GOOD && shaker_of(client) != shaker)
                                link_add(&worker->shakes[SHAKER_OVERDRAWN], &client->waiting);
                        else
                                go_on(client, shaker);
                }
        }
}

void shakes_turn_end(struct worker *worker)
{
        worker->shaken_us[SHAKER_GOOD] = worker->shaken_us[SHAKER_OVERDRAWN] = 0;
        if (!link_empty(&worker->shakes[SHAKER_GOOD]) ||
                !link_empty(&worker->shakes[SHAKER_OVERDRAWN]))
                event_active(&worker->shake_event, EV_TIMEOUT, 0);
}
