/*
 * shakes: handshakes of TLS wait for each other, and requests do not wait for them.
 *
 * A whole handshake takes a worker ten times as long as a request, and its peer next to nothing: a
 * hello that was recorded once can be sent for ever. So what handshakes take of one turn of the
 * loop is bounded, and the others are done in the next one: first those from addresses that have
 * taken little of late, and of all others one in a turn. Among both, addresses take turns: who has
 * a thousand waiting has as many as who has one. A worker that has nothing else to do loses no time
 * by it. Who waits for longer than a head may take is shown out, as ever.
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

static void wait_in_line(struct client *client, enum shaker shaker)
{
        struct worker *worker = client->worker;
        unsigned line = client_address(client) % SHAKE_LINES;

        link_add(&worker->shakes[shaker][line], &client->waiting);
        worker->shake_lines[shaker] |= UINT64_C(1) << line;
}

/* Whether somebody waits; shake_next is a line with somebody in it then. */
static bool somebody_waits(struct worker *worker, enum shaker shaker)
{
        uint64_t *lines = &worker->shake_lines[shaker];

        while (*lines) {
                uint64_t from_next = *lines & UINT64_MAX << worker->shake_next[shaker];
                unsigned line = (unsigned)__builtin_ctzll(from_next ? from_next : *lines);
                worker->shake_next[shaker] = line;
                if (!link_empty(&worker->shakes[shaker][line]))
                        return true;
                *lines &= ~(UINT64_C(1) << line); /* they have left */
        }
        return false;
}

/* Who came first of the line whose turn it is, taken out of it. Somebody waits. */
static struct client *take_next(struct worker *worker, enum shaker shaker)
{
        unsigned line = worker->shake_next[shaker];
        struct link *oldest = worker->shakes[shaker][line].before;

        worker->shake_next[shaker] = (line + 1) % SHAKE_LINES;
        link_remove(oldest);
        return LINK_OF(struct client, waiting, oldest);
}

void shakes_init(struct worker *worker)
{
        for (size_t i = 0; i < SHAKERS; i++)
                for (size_t line = 0; line < SHAKE_LINES; line++)
                        link_init(&worker->shakes[i][line]);
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
        if (has_time(worker, shaker) && !somebody_waits(worker, shaker)) {
                step_begins(worker, shaker);
                return true;
        }
        stream_listen(&client->stream, false);
        wait_in_line(client, shaker);
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
                while (has_time(worker, shaker) && somebody_waits(worker, shaker)) {
                        struct client *client = take_next(worker, shaker);
                        if (shaker == SHAKER_GOOD && shaker_of(client) != shaker)
                                wait_in_line(client, SHAKER_OVERDRAWN);
                        else
                                go_on(client, shaker);
                }
        }
}

void shakes_turn_end(struct worker *worker)
{
        worker->shaken_us[SHAKER_GOOD] = worker->shaken_us[SHAKER_OVERDRAWN] = 0;
        if (somebody_waits(worker, SHAKER_GOOD) || somebody_waits(worker, SHAKER_OVERDRAWN))
                event_active(&worker->shake_event, EV_TIMEOUT, 0);
}
