/*
 * admit: who is let in, and who has to go when there is no room.
 *
 * What can run out is counted here: connections, requests under way, bytes that are held. A request
 * is admitted once its caller is known and before anything of its body is read; what it may need is
 * set aside then, so that none is refused half way. Who has to make room is, first, who has never
 * shown a valid token, and then who rests between two requests; never who is being served.
 *
 * A worker can only close its own connections, so the total is shared out among the workers. What
 * one address or one identity has is counted over all of them (world/budget.h), because nobody
 * chooses the worker that his connection meets.
 */
#include "inside.h"

#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
        OWN_DESCRIPTORS = 128, /* files, the control thread's sockets, the admin listener */
        OWN_DESCRIPTORS_OF_WORKER = 16, /* loop, mailbox, listeners */
        BYTES_LEAST = 2 * 1024 * 1024,  /* a worker's share of memory, however many there are */
        SOON_S = 1,                     /* when to try again what is over in a moment */
        EVICTIONS_AT_ONCE = 64,
        TOLD_MS = 10000, /* an event of what was turned away is written no more often */
};

/* --- shares --- */

static uint64_t share_of(uint64_t total, unsigned n_workers)
{
        return (total + n_workers - 1) / n_workers;
}

/* With fewer descriptors than the limits promise, both kinds of connections get less, and some are
 * left for what must go on: the audit log, the admin listener, keys and tokens. False: they are
 * enough. */
static bool share_descriptors(
        struct worker *worker, uint64_t clients, uint64_t upstreams, uint64_t own)
{
        unsigned n_workers = worker->n_workers;
        uint64_t least = 2 * (uint64_t)n_workers;

        worker->most_clients = share_of(clients, n_workers);
        worker->most_upstreams = UINT64_MAX;
        if (worker->descriptors >= clients + upstreams + own)
                return false;
        uint64_t most = worker->descriptors > own + least ? worker->descriptors - own : least;
        if (clients > most - most / 2 && upstreams > most / 2)
                clients = most - most / 2;
        else if (clients > most - most / 2)
                clients = most - upstreams;
        worker->most_clients = clients / n_workers ? clients / n_workers : 1;
        worker->most_upstreams = (most - clients) / n_workers ? (most - clients) / n_workers : 1;
        return true;
}

void admit_begin(struct worker *worker, unsigned n_workers)
{
        struct rlimit files;
        bool known = getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY;

        worker->n_workers = n_workers;
        worker->descriptors = known ? files.rlim_cur : UINT64_MAX;
}

void admit_share_out(struct worker *worker, const struct config *config)
{
        uint64_t upstreams = config->upstream.connections * worker->n_workers;
        uint64_t clients = config->limits.connections;
        uint64_t own = OWN_DESCRIPTORS + OWN_DESCRIPTORS_OF_WORKER * worker->n_workers;
        uint64_t clients_before = worker->most_clients, upstreams_before = worker->most_upstreams;

        if (!share_descriptors(worker, clients, upstreams, own))
                return;
        bool changed = worker->most_clients != clients_before ||
                       worker->most_upstreams != upstreams_before;
        if (worker->number == 0 && changed)
                log_info("RLIMIT_NOFILE=%llu is less than `limits.connections` and "
                         "`upstream.connections` may need (%llu): at most %llu client connections "
                         "and %llu upstream connections per worker",
                        (unsigned long long)worker->descriptors,
                        (unsigned long long)clients + upstreams + own,
                        (unsigned long long)worker->most_clients,
                        (unsigned long long)worker->most_upstreams);
}

uint64_t admit_upstreams(const struct worker *worker, const struct config *config)
{
        return config->upstream.connections < worker->most_upstreams ? config->upstream.connections
                                                                     : worker->most_upstreams;
}

/* --- connections --- */

/* Served as long as its caller is known: it stands in none of the lists then. */
static void evict(struct client *client, uint64_t *counter)
{
        struct exchange *x = client->exchange;

        ++*counter;
        if (!x) {
                client_drop(client);
                return;
        }
        if (!x->status) { /* else it has its answer, and took its time over it */
                x->refused = true;
                (void)refuse(x, 503, REFUSED_OVERLOAD,
                        "the connection was closed to make room for others");
        }
        exchange_abandon(x);
}

/* Its token is being looked at: that is nobody who only holds a place. */
static bool is_being_identified(const struct client *client)
{
        const struct exchange *x = client->exchange;

        return x && x->phase == PHASE_STEPS && x->waits != WAIT_HEAD;
}

static bool evict_oldest(struct link *list, uint64_t *counter)
{
        int looked_at = 0;

        for (struct link *link = list->before; link != list && looked_at < EVICTIONS_AT_ONCE;
                link = link->before, looked_at++) {
                struct client *client = LINK_OF(struct client, standing, link);
                if (is_being_identified(client))
                        continue;
                evict(client, counter);
                return true;
        }
        return false;
}

static bool make_room(struct worker *worker)
{
        struct metrics *metrics = &worker->metrics;

        return evict_oldest(&worker->strangers, &metrics->clients_evicted_strangers) ||
               evict_oldest(&worker->resting, &metrics->clients_evicted_idle);
}

bool admit_connection(struct worker *worker, const char *peer, budget_place *place)
{
        const struct config_limits *limits = &worker->lease->world->config->limits;
        unsigned char address[16];

        *place = 0;
        if (config_address_bytes(peer, address) && !config_trusts_address(limits, address) &&
                !budget_connect(worker->budget, address, limits->connections_per_address, place)) {
                worker->metrics.clients_refused_address++;
                return false;
        }
        if (worker->metrics.clients_now < worker->most_clients || make_room(worker))
                return true;
        budget_disconnect(worker->budget, *place);
        worker->metrics.clients_refused_full++;
        return false;
}

void admit_meet(struct client *client)
{
        link_init(&client->waiting);
        link_add(&client->worker->strangers, &client->standing);
}

void admit_rest(struct client *client)
{
        link_remove(&client->standing);
        link_remove(&client->waiting);
        link_add(client->known ? &client->worker->resting : &client->worker->strangers,
                &client->standing);
}

void admit_gone(struct client *client)
{
        link_remove(&client->standing);
        link_remove(&client->waiting);
        budget_disconnect(client->worker->budget, client->address_place);
}

/* --- bytes --- */

static uint64_t bytes_in_use(const struct worker *worker)
{
        return stream_pool_bytes(&worker->pool) + worker->held_bytes +
               worker->metrics.exchanges_now * sizeof(struct exchange);
}

static uint64_t bytes_most(const struct worker *worker)
{
        uint64_t share = worker->lease->world->config->limits.memory_bytes / worker->n_workers;

        return share > BYTES_LEAST ? share : BYTES_LEAST;
}

/* Whether `bytes` more can be had, once those that wait and are not let in have made room. */
static bool has_bytes(struct worker *worker, uint64_t bytes, const struct client *but)
{
        uint64_t most = bytes_most(worker);
        struct link *link = worker->waiting.before;

        for (int n = 0; n < EVICTIONS_AT_ONCE && bytes_in_use(worker) + bytes > most; n++) {
                if (link == &worker->waiting)
                        return false;
                struct client *client = LINK_OF(struct client, waiting, link);
                link = link->before;
                if (client != but)
                        evict(client, &worker->metrics.clients_evicted_strangers);
        }
        return bytes_in_use(worker) + bytes <= most;
}

/* What it waits for makes no difference: a head, a turn for its token, a body that nobody wants, or
 * that the client takes its refusal. It costs nothing to wait so, and holds a block. */
void admit_stranger_waits(struct exchange *x)
{
        if (x->admitted || !link_empty(&x->client->waiting))
                return;
        link_add(&x->worker->waiting, &x->client->waiting);
        (void)has_bytes(x->worker, 0, x->client); /* it goes on itself, whatever there is */
}

/* By the other requests of its caller. */
static uint64_t bytes_held_beside(const struct exchange *x)
{
        const struct link *all = &x->worker->holding;
        uint64_t bytes = 0;

        for (const struct link *link = all->after; link != all; link = link->after) {
                const struct exchange *other = LINK_OF(struct exchange, holding, link);
                if (other != x && other->identity == x->identity)
                        bytes += other->held_bytes;
        }
        return bytes;
}

/* Whoever holds as much as is free gets no more: alone half of it, two a third each. One request of
 * each may be as large as any. While half is free nobody need be looked at. */
static bool leaves_some_to_others(const struct exchange *x, uint64_t bytes)
{
        uint64_t most = bytes_most(x->worker), used = bytes_in_use(x->worker);

        if (used + bytes <= most / 2)
                return true;
        uint64_t beside = bytes_held_beside(x);
        return beside == 0 || beside + x->held_bytes + bytes <= most - used;
}

bool admit_bytes(struct exchange *x, uint64_t bytes)
{
        if (!has_bytes(x->worker, bytes, x->client) || !leaves_some_to_others(x, bytes))
                return false;
        admit_count_bytes(x, bytes);
        return true;
}

void admit_count_bytes(struct exchange *x, uint64_t bytes)
{
        if (link_empty(&x->holding))
                link_add(&x->worker->holding, &x->holding);
        x->held_bytes += bytes;
        x->worker->held_bytes += bytes;
}

void admit_count_arena(struct exchange *x)
{
        if (x->arena.held <= x->arena_counted)
                return;
        admit_count_bytes(x, x->arena.held - x->arena_counted);
        x->arena_counted = x->arena.held;
}

/* --- requests --- */

/* A body that is not here yet is not waited for: there would be nothing else to do with it. */
enum next admit_turn_away(
        struct exchange *x, int status, enum refusal kind, int after_s, const char *format, ...)
{
        bool none = x->request.framing == H1_NO_BODY;
        bool here = x->request.framing == H1_LENGTH &&
                    x->request.content_length <= stream_in(&x->client->stream).len;
        va_list args;

        x->keep_alive = x->keep_alive && (none || here || x->in.body.done);
        x->refusal.retry_after_s = after_s;
        (void)refuse(x, status, kind, "%s", "");
        va_start(args, format);
        vsnprintf(x->refusal.message, sizeof(x->refusal.message), format, args);
        va_end(args);
        return REFUSE;
}

static enum next shed(struct exchange *x, const char *what)
{
        return admit_turn_away(x, 503, REFUSED_OVERLOAD, SOON_S,
                "the proxy has as much to do as it can (%s); try again", what);
}

static enum next count_identity(struct exchange *x)
{
        const struct config_limits *limits = &x->world->config->limits;

        uint64_t *number = grants_number(x->worker->grants, x->caller);

        if (!*number)
                *number = budget_identity(x->worker->budget, x->caller->issuer, x->caller->subject);
        x->identity = *number;
        if (budget_begin(x->worker->budget, x->identity, limits->requests_per_identity, x->is_git,
                    x->worker->now_ms * 1000, &x->identity_place))
                return NEXT;
        return admit_turn_away(x, 429, REFUSED_CONCURRENCY, SOON_S,
                "%.*s of %.*s has as many requests under way as one caller may (%llu%s); try again",
                STR_FMT(str_head(x->caller->subject, 128)), STR_FMT(x->caller->issuer),
                (unsigned long long)limits->requests_per_identity,
                x->is_git ? ", three quarters of them git transfers" : "");
}

enum next admit_request(struct exchange *x)
{
        struct worker *worker = x->worker;
        const struct config *config = x->world->config;

        x->client->known = true;
        link_remove(&x->client->standing);
        link_remove(&x->client->waiting);
        enum next next = count_identity(x);
        if (next != NEXT)
                return next;
        if (worker->admitted >= admit_upstreams(worker, config))
                return shed(x, "requests under way");
        if (!has_bytes(worker, 0, x->client))
                return shed(x, "memory");
        if (evidence_is_behind(worker) && config->audit.on_failure == ON_FAILURE_REFUSE)
                return admit_turn_away(x, 503, REFUSED_AUDIT, SOON_S,
                        "the audit log cannot be written as fast as requests come; try again");
        x->admitted = true;
        worker->admitted++;
        return NEXT;
}

void admit_leave(struct exchange *x)
{
        budget_end(x->worker->budget, x->identity_place, x->is_git);
        x->worker->admitted -= x->admitted;
        x->worker->held_bytes -= x->held_bytes;
        link_remove(&x->holding);
}

static bool is_read(const struct exchange *x, const struct operation *op)
{
        struct str method = x->request.method;

        if (op)
                return op->access == ACCESS_READ;
        return str_eq(method, STR("GET")) || str_eq(method, STR("HEAD")) ||
               str_eq(method, STR("OPTIONS"));
}

static enum next spend(struct exchange *x, const struct operation *op, uint64_t number)
{
        const struct config_rate *rate = &x->world->config->limits.rate;
        bool write = rate->has_writes && !is_read(x, op), role = rate->by == RATE_BY_ROLE;
        const struct config_bucket *bucket = write ? &rate->writes : &rate->reads;

        x->rated = true;
        int64_t wait_us = budget_spend(x->worker->budget, number,
                write ? BUDGET_WRITES : BUDGET_READS, bucket, x->worker->now_ms * 1000);
        if (!wait_us)
                return NEXT;
        struct str whose = role ? x->decision.role : x->caller->subject;
        return admit_turn_away(x, 429, REFUSED_RATE, (int)((wait_us + 999999) / 1000000),
                "%s%.*s has sent more than its %llu %srequests in %llu s; try again later",
                role ? "the role " : "", STR_FMT(str_head(whose, 128)),
                (unsigned long long)bucket->requests,
                !rate->has_writes ? ""
                : write           ? "changing "
                                  : "reading ",
                (unsigned long long)bucket->per_ms / 1000);
}

enum next admit_rate(struct exchange *x, const struct operation *op)
{
        const struct config_limits *limits = &x->world->config->limits;

        if (!limits->has_rate || x->rated || limits->rate.by != RATE_BY_SUBJECT)
                return NEXT;
        return spend(x, op, x->identity);
}

enum next admit_rate_of_role(struct exchange *x)
{
        const struct config_limits *limits = &x->world->config->limits;

        if (!limits->has_rate || x->rated || limits->rate.by != RATE_BY_ROLE)
                return NEXT;
        return spend(x, x->named.op, budget_role(x->worker->budget, x->decision.role));
}

/* --- what is told --- */

enum { TOLD = 8 };

static void read_counters(const struct metrics *m, uint64_t now[TOLD])
{
        const uint64_t all[TOLD] = {m->clients_refused_full, m->clients_refused_address,
                m->clients_evicted_strangers, m->clients_evicted_idle, m->refusals[REFUSED_RATE],
                m->refusals[REFUSED_CONCURRENCY], m->refusals[REFUSED_OVERLOAD],
                m->refusals[REFUSED_TRIGGERS]};

        memcpy(now, all, sizeof(all));
}

void admit_tick(struct worker *worker)
{
        static const char *const names[TOLD] = {"connections_refused", "connections_over_address",
                "strangers_closed", "idle_closed", "over_rate", "over_concurrency", "shed",
                "over_triggers"};
        struct pair detail[TOLD + 1];
        char texts[TOLD + 1][24];
        uint64_t now[TOLD];
        size_t n = 0;

        worker->metrics.memory_bytes = bytes_in_use(worker);
        if (worker->number == 0) /* one for all: what workers tell is added up */
                worker->metrics.identities_crowded = budget_crowded(worker->budget);
        if (worker->now_ms - worker->turned_away_told_ms < TOLD_MS)
                return;
        read_counters(&worker->metrics, now);
        for (size_t i = 0; i < TOLD; i++) {
                if (now[i] == worker->turned_away_told[i])
                        continue;
                snprintf(texts[n], sizeof(texts[n]), "%llu",
                        (unsigned long long)(now[i] - worker->turned_away_told[i]));
                detail[n] = (struct pair){str_of(names[i]), str_of(texts[n])};
                n++;
        }
        if (!n)
                return;
        snprintf(texts[n], sizeof(texts[n]), "%u", worker->number);
        detail[n] = (struct pair){STR("worker"), str_of(texts[n])};
        scribe_event(worker->scribe, STR("limits.reached"), detail, n + 1);
        log_info("worker=%u limits reached: refused=%llu over_address=%llu closed=%llu/%llu "
                 "over_rate=%llu over_concurrency=%llu shed=%llu over_triggers=%llu (totals)",
                worker->number, (unsigned long long)now[0], (unsigned long long)now[1],
                (unsigned long long)now[2], (unsigned long long)now[3], (unsigned long long)now[4],
                (unsigned long long)now[5], (unsigned long long)now[6], (unsigned long long)now[7]);
        memcpy(worker->turned_away_told, now, sizeof(now));
        worker->turned_away_told_ms = worker->now_ms;
}
