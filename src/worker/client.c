#include "inside.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dagward/net/listener.h"
#include "dagward/net/tls.h"

enum { LINGER_MS = 2000 };       /* how long bytes of a refused request are thrown away */
enum { REQUESTS_PER_TURN = 32 }; /* of one client that sends them without waiting */
enum { FRESH_MS = 2000 };        /* in a drain, for the first request of a new connection */

static void on_ready(struct stream *stream, void *owner)
{
        (void)stream;
        client_go_on(owner);
}

static void wait_for_request(struct client *client)
{
        const struct config *config = client->worker->lease->world->config;
        bool fresh = client->requests == 0;

        client->deadline_ms = client->worker->now_ms + (fresh ? config->timeouts.headers_ms
                                                              : config->timeouts.keep_alive_ms);
}

/* Closed at once: an answer would cost more than it helps. */
static void turn_away(int fd)
{
        struct linger now = {.l_onoff = 1};

        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close(fd);
}

uint64_t client_address(const struct client *client)
{
        unsigned char bytes[16];

        return config_address_bytes(client->peer, bytes)
                       ? budget_address(client->worker->budget, bytes)
                       : 0;
}

void client_accept(struct worker *worker, struct worker_listener *listener)
{
        char peer[LISTENER_PEER];
        int fd = listener_accept(listener->fd, peer);
        struct world *world = worker->lease->world;
        SSL *ssl = NULL;
        budget_place place;

        if (fd < 0) {
                if (errno == ECONNABORTED || errno == EINTR)
                        errno = 0; /* that one is gone; there may be others */
                else if (errno != EAGAIN)
                        listener_pause(listener);
                return;
        }
        if (!admit_connection(worker, peer, &place)) {
                turn_away(fd);
                errno = 0;
                return;
        }
        if (listener->index < world->config->n_listeners && world->listener_tls[listener->index]) {
                ssl = tls_accept(world->listener_tls[listener->index], fd);
                if (!ssl) {
                        budget_disconnect(worker->budget, place);
                        close(fd);
                        errno = 0;
                        return;
                }
        }
        size_t peer_size = strlen(peer) + 1;
        struct client *client = calloc(1, sizeof(*client) + peer_size);
        if (!client)
                abort();
        client->worker = worker;
        client->tls = ssl != NULL;
        client->listener = listener->index;
        client->reload = world->reload;
        memcpy(client->peer, peer, peer_size);
        client->address_place = place;
        link_add(&worker->clients, &client->link);
        admit_meet(client);
        worker->metrics.clients_accepted++;
        worker->metrics.clients_now++;
        wait_for_request(client);
        stream_open(&client->stream, worker->base, &worker->pool, fd, ssl, on_ready, client);
        /* What a client sends first is often here already. */
        client_go_on(client);
        errno = 0;
}

void client_drop(struct client *client)
{
        if (client->stream.fd < 0)
                return;
        stream_close(&client->stream);
        admit_gone(client);
        client->worker->metrics.clients_now--;
        worker_defer_client(client);
}

void client_cut(struct client *client)
{
        if (client->stream.fd < 0)
                return;
        stream_abort(&client->stream);
        admit_gone(client);
        client->worker->metrics.clients_now--;
        worker_defer_client(client);
}

/* Nothing more will be said; what the peer still sends is thrown away for a while, because closing
 * on unread bytes would reset the connection and could destroy the answer (RFC 9112 9.6). */
static void finish(struct client *client)
{
        if (client->stream.failed || client->stream.deaf || client->stream.eof) {
                client_drop(client);
                return;
        }
        client->closing = true;
        client->deadline_ms = client->worker->now_ms + LINGER_MS;
        stream_unfix(&client->stream);
        stream_finish(&client->stream);
        stream_listen(&client->stream, true);
        client_go_on(client);
}

static void throw_away(struct client *client)
{
        for (int round = 0; round < 16; round++) {
                stream_consume(&client->stream, stream_in(&client->stream).len);
                switch (stream_fill(&client->stream)) {
                case STREAM_OK:
                case STREAM_FULL: continue;
                case STREAM_AGAIN: return;
                case STREAM_EOF:
                case STREAM_ERROR: client_drop(client); return;
                }
        }
        /* More than a round's worth: TLS may hold bytes that wake nobody. */
        stream_wake(&client->stream);
}

/* After a reload a connection stays if its listener would let it in now: over TLS if it has that,
 * and with a certificate of the authorities that are in force. */
static bool is_let_in_still(struct client *client)
{
        const struct world *world = client->worker->lease->world;

        if (client->reload == world->reload)
                return true;
        client->reload = world->reload;
        const struct tls_context *tls = world->listener_tls[client->listener];
        return !tls || (client->stream.ssl && tls_admits(tls, client->stream.ssl));
}

/* Between two requests: begins an exchange when bytes are there. */
static void look_for_request(struct client *client)
{
        struct stream *stream = &client->stream;
        struct worker *worker = client->worker;

        if (evidence_is_full(worker)) {
                client_drop(client); /* what cannot be recorded is not even read */
                return;
        }
        if (stream_in(stream).len == 0) {
                if (!shake_begin(client))
                        return;
                enum stream_io io = stream_fill(stream);
                shake_end(client);
                if (io == STREAM_EOF || io == STREAM_ERROR) {
                        if (stream_tls_failed(stream))
                                log_debug("client=%s %s", client->peer, stream_why(stream));
                        client_drop(client);
                        return;
                }
                if (io == STREAM_AGAIN) {
                        /* What has not come by now is not read: its sender can tell, and may send
                         * it again elsewhere (RFC 9112 9.3.1). */
                        if (worker->drain && client->requests)
                                client_drop(client);
                        return;
                }
        }
        if (!is_let_in_still(client)) {
                log_info("client=%s closed: it would not be let in since the reload", client->peer);
                client_drop(client);
                return;
        }
        client->exchange = exchange_new(client);
}

void client_go_on(struct client *client)
{
        struct worker *worker = client->worker;
        unsigned served = 0;

        worker->now_ms = clock_mono_ms();
        while (client->stream.fd >= 0) {
                if (client->closing) {
                        throw_away(client);
                        return;
                }
                /* An exchange may have ended elsewhere, too: what is left in the buffer then is a
                 * body that nobody wanted, and no request. */
                if (!client->exchange && client->last) {
                        finish(client);
                        return;
                }
                if (!client->exchange) {
                        look_for_request(client);
                        if (!client->exchange)
                                return;
                }
                struct exchange *x = client->exchange;
                exchange_go_on(x);
                if (client->stream.fd < 0 || client->exchange == x)
                        return; /* it waits for something */
                if (client->last)
                        continue;
                wait_for_request(client);
                if (++served == REQUESTS_PER_TURN) {
                        stream_wake(&client->stream);
                        return;
                }
                if (stream_in(&client->stream).len == 0 && stream_is_drained(&client->stream) &&
                        !worker->drain)
                        return;
        }
}

void client_part(struct client *client)
{
        int64_t fresh_until_ms = client->worker->now_ms + FRESH_MS;

        if (client->exchange)
                return;
        stream_look_again(&client->stream);
        client_go_on(client);
        if (client->deadline_ms > fresh_until_ms && client->stream.fd >= 0 && !client->exchange)
                client->deadline_ms = fresh_until_ms;
}

void client_tick(struct client *client)
{
        if (client->stream.fd < 0 || client->worker->now_ms < client->deadline_ms)
                return;
        if (client->exchange)
                exchange_late(client->exchange);
        else
                client_drop(client);
}
