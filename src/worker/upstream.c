#include "inside.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IDLE_FRESH_MS = 1000 };
enum { TICKETS_MOST = 8 };   /* of TLS sessions, that an idle connection may have received */
enum { NOT_RESOLVED_S = 5 }; /* names are tried again so often */

static void on_ready(struct stream *stream, void *owner)
{
        struct upstream *upstream = owner;

        if (upstream->exchange) {
                client_go_on(upstream->exchange->client);
                return;
        }
        /* Idle: the only good news is none. TLS 1.3 sends session tickets at its leisure. */
        if (stream_fill(stream) != STREAM_AGAIN)
                upstream_drop(upstream);
}

const struct endpoint *upstream_endpoint(const struct exchange *x)
{
        return x->detour ? &x->detour->endpoint : &x->world->endpoints[x->named.service];
}

/* A connected (or connecting) non-blocking socket, or -1. */
static int begin_connect(const struct endpoint *endpoint, unsigned address)
{
        const struct sockaddr *to = (const struct sockaddr *)&endpoint->addresses[address];
        int on = 1;
        int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (connect(fd, to, endpoint->address_lens[address]) == 0 || errno == EINPROGRESS)
                return fd;
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
}

/* A file in storage is a host of its own each time; all others are met again. */
SSL *upstream_tls(struct exchange *x, int fd, const char *host)
{
        return x->detour ? tls_connect(x->world->upstream_tls, fd, host)
                         : tls_resume(x->world->upstream_tls, fd, host,
                                   &x->worker->tls_sessions[x->named.service]);
}

static struct upstream *upstream_open(
        struct exchange *x, const struct endpoint *endpoint, unsigned address, struct error *why)
{
        struct worker *worker = x->worker;
        int fd = begin_connect(endpoint, address);
        SSL *ssl = NULL;

        if (fd < 0) {
                int error = errno;
                error_set(why, "cannot connect to %s%s: %s", endpoint->host,
                        endpoint->via ? " through the outgoing proxy" : "", strerror(error));
                errno = error;
                return NULL;
        }
        if (endpoint->tls && !endpoint->via && !(ssl = upstream_tls(x, fd, endpoint->host))) {
                error_set(why, "cannot begin TLS with %s", endpoint->host);
                close(fd);
                errno = ECANCELED;
                return NULL;
        }
        struct upstream *upstream = calloc(1, sizeof(*upstream));
        if (!upstream)
                abort();
        upstream->worker = worker;
        upstream->service = x->named.service;
        upstream->once = x->detour != NULL;
        upstream->reload = x->world->reload;
        upstream->key = health_key_of(&endpoint->addresses[address]);
        const struct health_entry *entry = health_find(&worker->health, &upstream->key);
        upstream->probe = entry && entry->probed;
        upstream->generation = x->world->generation;
        memcpy(upstream->host, endpoint->host, sizeof(upstream->host));
        link_init(&upstream->idle_link);
        link_add(&worker->upstreams, &upstream->link);
        stream_open(&upstream->stream, worker->base, &worker->pool, fd, ssl, on_ready, upstream);
        worker->metrics.upstream_opened++;
        worker->metrics.upstream_now++;
        if (endpoint->via && !tunnel_begin(x, upstream, endpoint, why)) {
                upstream_drop(upstream);
                errno = ECANCELED;
                return NULL;
        }
        return upstream;
}

/* Whether a pooled connection is still as it was left. One that the loop has found readable in this
 * very turn has been closed, or holds bytes that would be taken for our answer. What may not be
 * sent twice is not sent on one that is closed already: when it has been idle for a while, in which
 * peers close, that is worth a system call. */
static bool is_quiet(struct exchange *x, struct upstream *upstream)
{
        struct str method = x->request.method;
        bool repeatable = str_eq(method, STR("GET")) || str_eq(method, STR("HEAD"));
        int64_t since_ms = upstream->idle_until_ms - x->world->config->upstream.keep_alive_ms;
        bool fresh = x->worker->now_ms - since_ms < IDLE_FRESH_MS;

        if ((repeatable || fresh) && !stream_has_news(&upstream->stream) &&
                stream_is_drained(&upstream->stream))
                return true;
        stream_look_again(&upstream->stream);
        for (int tickets = 0; tickets < TICKETS_MOST; tickets++) {
                if (stream_fill(&upstream->stream) != STREAM_AGAIN)
                        return false;
                if (stream_is_drained(&upstream->stream))
                        return true;
        }
        return false;
}

static struct upstream *from_pool(struct exchange *x)
{
        struct link *pool = &x->worker->idle[x->named.service];

        while (!link_empty(pool)) {
                struct upstream *upstream = LINK_OF(struct upstream, idle_link, pool->after);
                if (upstream->reload != x->world->reload)
                        return NULL;
                if (!is_quiet(x, upstream)) {
                        upstream_drop(upstream);
                        continue;
                }
                link_remove(&upstream->idle_link);
                x->worker->metrics.upstream_idle--;
                x->worker->metrics.upstream_reused++;
                return upstream;
        }
        return NULL;
}

/* Makes room by closing the connection that has been idle the longest. */
static bool drop_oldest(struct worker *worker)
{
        for (size_t i = 0; i < SERVICE_COUNT; i++) {
                if (!link_empty(&worker->idle[i])) {
                        upstream_drop(LINK_OF(struct upstream, idle_link, worker->idle[i].before));
                        return true;
                }
        }
        return false;
}

static bool has_room(struct exchange *x)
{
        return x->worker->metrics.upstream_now < admit_upstreams(x->worker, x->world->config) ||
               drop_oldest(x->worker);
}

/* What this machine lacks is nothing that another address would have. ECANCELED: the fault is not
 * the peer's. */
static bool is_our_lack(int error)
{
        return error == ECANCELED || error == EMFILE || error == ENFILE || error == ENOBUFS ||
               error == ENOMEM;
}

/* A new connection to one of the addresses; NULL with a reason. */
static struct upstream *connect_new(
        struct exchange *x, const struct endpoint *endpoint, struct error *why)
{
        struct upstream *upstream = NULL;
        unsigned address;

        if (endpoint->n_addresses == 0) {
                x->refusal.retry_after_s = NOT_RESOLVED_S;
                error_set(why, "the address of %s is not known", endpoint->host);
                return NULL;
        }
        if (!has_room(x)) {
                x->refusal.retry_after_s = 1;
                error_set(why, "all %llu upstream connections are in use",
                        (unsigned long long)admit_upstreams(x->worker, x->world->config));
                return NULL;
        }
        while (!upstream && address_choose(x, endpoint, &address)) {
                upstream = upstream_open(x, endpoint, address, why);
                if (!upstream && errno == EMFILE && drop_oldest(x->worker))
                        upstream = upstream_open(x, endpoint, address, why);
                if (!upstream && is_our_lack(errno)) {
                        struct health_key key = health_key_of(&endpoint->addresses[address]);
                        health_probe_end(&x->worker->health, &key);
                        x->refusal.retry_after_s = 1;
                        break;
                }
                if (!upstream)
                        address_failed(x->worker, endpoint, address, FAULT_UNREACHABLE, why->text);
        }
        if (!upstream && !why->text[0])
                error_set(why, "%s cannot be reached; it is tried again in %d s", endpoint->host,
                        x->refusal.retry_after_s);
        return upstream;
}

bool upstream_may_retry(struct exchange *x)
{
        struct worker *worker = x->worker;

        if (x->world->config->upstream.retries == 0 || worker->retries_left < UPSTREAM_RETRY) {
                worker->metrics.retries_refused++;
                return false;
        }
        worker->retries_left -= UPSTREAM_RETRY;
        worker->metrics.retries++;
        return true;
}

bool upstream_lend(struct exchange *x, bool fresh, struct error *why)
{
        struct worker *worker = x->worker;
        const struct endpoint *endpoint = upstream_endpoint(x);
        struct upstream *upstream = fresh || x->detour ? NULL : from_pool(x);

        if (!upstream)
                upstream = connect_new(x, endpoint, why);
        if (!upstream)
                return false;
        if (!x->retried && worker->retries_left < UPSTREAM_RETRIES_MOST)
                worker->retries_left += (int64_t)x->world->config->upstream.retries;
        upstream->exchange = x;
        upstream->sent_before = upstream->stream.sent;
        x->upstream = upstream;
        x->attempts++;
        return true;
}

void upstream_return(struct exchange *x, bool reusable)
{
        struct upstream *upstream = x->upstream;
        struct worker *worker = x->worker;

        if (!upstream)
                return;
        if (x->trigger)
                trigger_note_sent(upstream);
        x->upstream = NULL;
        upstream->exchange = NULL;
        upstream->served++;
        stream_unfix(&upstream->stream);
        /* Bytes behind an answer nobody asked for: the peer is confused or hostile. */
        reusable = reusable && !upstream->once && !upstream->stream.failed &&
                   !upstream->stream.deaf && !upstream->stream.eof &&
                   stream_in(&upstream->stream).len == 0 && !stream_pending(&upstream->stream) &&
                   upstream->reload == worker->lease->world->reload && !worker->drain &&
                   address_is_used(upstream);
        if (!reusable) {
                upstream_drop(upstream);
                return;
        }
        stream_listen(&upstream->stream, true);
        upstream->idle_until_ms = worker->now_ms + x->world->config->upstream.keep_alive_ms;
        link_add(&worker->idle[upstream->service], &upstream->idle_link);
        worker->metrics.upstream_idle++;
}

void upstream_drop(struct upstream *upstream)
{
        struct worker *worker = upstream->worker;

        if (upstream->stream.fd < 0)
                return;
        if (!link_empty(&upstream->idle_link)) {
                link_remove(&upstream->idle_link);
                worker->metrics.upstream_idle--;
        }
        if (upstream->exchange) {
                trigger_note_sent(upstream);
                upstream->exchange->upstream = NULL;
        }
        upstream->exchange = NULL;
        if (upstream->probe)
                health_probe_end(&worker->health, &upstream->key);
        upstream->probe = false;
        /* In case that it was the session that its peer did not like. */
        if (!upstream->once && !upstream->served && !upstream->stream.sent)
                tls_session_clear(&worker->tls_sessions[upstream->service]);
        stream_close(&upstream->stream);
        worker->metrics.upstream_now--;
        worker_defer_upstream(upstream);
}

void upstream_tick(struct worker *worker)
{
        if (worker->retries_left < UPSTREAM_RETRIES_QUIET)
                worker->retries_left += UPSTREAM_RETRY / 4;
        health_expire(&worker->health, worker->now_ms);
        for (size_t i = 0; i < SERVICE_COUNT; i++) {
                /* The oldest stand at the end. */
                while (!link_empty(&worker->idle[i])) {
                        struct upstream *upstream =
                                LINK_OF(struct upstream, idle_link, worker->idle[i].before);
                        if (worker->now_ms < upstream->idle_until_ms)
                                break;
                        upstream_drop(upstream);
                }
        }
}

void upstream_forget_sessions(struct worker *worker)
{
        for (size_t i = 0; i < SERVICE_COUNT; i++)
                tls_session_clear(&worker->tls_sessions[i]);
}
