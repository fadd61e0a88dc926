/*
 * addresses: which address of a host is tried next, and what is learnt from how that goes.
 *
 * Addresses are tried in turn, each with its share of `timeouts.connect`, beginning with the one
 * that served last. Nothing of a request has been sent while a connection is being made, so that
 * going on to the next is safe for every method. An address that fails too often is ejected
 * (health.h). If all of them are, what is done depends on why: as long as one can at least be
 * reached, the least bad one is used; if none can, one request at a time tries and the others are
 * refused at once. Only connections decide about that: no caller can bring it about by what it
 * asks.
 */
#include "inside.h"

#include "dagward/net/listener.h"

enum { EVENTS_MS = 10 * 1000, EVENTS_AT_ONCE = 20 }; /* records of one worker */
enum { DOWN_MS = 2000 };    /* a host of which no address can be reached is tried so often */
enum { RESOLVE_MS = 5000 }; /* at most one question for newer addresses */

static struct health_rule rule_of(const struct worker *worker)
{
        const struct config_upstream *upstream = &worker->lease->world->config->upstream;

        return (struct health_rule){.failures = (unsigned)upstream->eject_failures,
                .time_ms = upstream->eject_ms,
                .most_ms = upstream->eject_most_ms};
}

static enum health_state look(const struct worker *worker, const struct endpoint *endpoint,
        unsigned address, const struct health_entry **entry)
{
        struct health_key key;

        *entry = NULL;
        if (worker->health.n == 0)
                return HEALTH_GOOD;
        key = health_key_of(&endpoint->addresses[address]);
        *entry = health_find(&worker->health, &key);
        return health_look(*entry, worker->now_ms);
}

/* Who may try an address that has answered badly: a request that can be repeated. One that cannot
 * be reached costs nobody more than time. */
static bool may_probe(const struct exchange *x, const struct health_entry *entry)
{
        struct str method = x->request.method;

        return entry->fault == FAULT_UNREACHABLE || str_eq(method, STR("GET")) ||
               str_eq(method, STR("HEAD"));
}

/* What is known of the addresses that have not been tried yet; -1: there is none. */
struct options {
        int good, probe, least_bad, down;
        int64_t least_bad_ms, soonest_ms;
};

/* One that cannot be reached, when there is no other: a long ejection would only make an outage
 * longer. */
static void consider_down(
        struct options *found, const struct health_entry *entry, unsigned address, int64_t now_ms)
{
        int64_t again_ms = entry->since_ms + DOWN_MS;

        if (again_ms > entry->until_ms)
                again_ms = entry->until_ms;
        if (now_ms >= again_ms && !entry->probed && found->down < 0)
                found->down = (int)address;
        if (again_ms < found->soonest_ms)
                found->soonest_ms = again_ms;
}

static struct options options_of(const struct exchange *x, const struct endpoint *endpoint)
{
        const struct worker *worker = x->worker;
        struct options found = {-1, -1, -1, -1, INT64_MAX, INT64_MAX};
        const struct health_entry *entry;

        for (unsigned i = 0; i < endpoint->n_addresses; i++) {
                unsigned address = (unsigned)((worker->rotation + i) % endpoint->n_addresses);
                if (x->addresses_tried >> address & 1)
                        continue;
                enum health_state state = look(worker, endpoint, address, &entry);
                if (state == HEALTH_GOOD) {
                        if (found.good < 0)
                                found.good = (int)address;
                        continue;
                }
                if (state == HEALTH_PROBE && found.probe < 0 && may_probe(x, entry))
                        found.probe = (int)address;
                if (entry->fault == FAULT_ANSWER && entry->until_ms < found.least_bad_ms) {
                        found.least_bad = (int)address;
                        found.least_bad_ms = entry->until_ms;
                }
                consider_down(&found, entry, address, worker->now_ms);
        }
        return found;
}

bool address_choose(struct exchange *x, const struct endpoint *endpoint, unsigned *address)
{
        struct worker *worker = x->worker;
        struct options found = options_of(x, endpoint);
        /* Behind a failure a sure one is better than one that has to prove itself. */
        bool probe = found.probe >= 0 && (!x->addresses_tried || found.good < 0);
        int chosen = probe ? found.probe : found.good >= 0 ? found.good : found.least_bad;

        if (chosen < 0) {
                chosen = found.down;
                probe = true;
        }
        if (chosen < 0) {
                int64_t wait_ms = found.soonest_ms - worker->now_ms;
                if (found.soonest_ms == INT64_MAX || x->addresses_tried)
                        return false;
                x->refusal.retry_after_s = wait_ms < 1000 ? 1 : (int)((wait_ms + 999) / 1000);
                worker->metrics.upstream_shed++;
                return false;
        }
        if (probe) {
                struct health_key key = health_key_of(&endpoint->addresses[chosen]);
                health_probe(&worker->health, &key);
                worker->metrics.upstream_probes++;
        }
        x->addresses_tried |= 1u << chosen;
        *address = (unsigned)chosen;
        return true;
}

bool address_is_left(const struct exchange *x)
{
        struct options found = options_of(x, upstream_endpoint(x));

        return found.good >= 0 || found.probe >= 0 || found.least_bad >= 0 || found.down >= 0;
}

/* --- what is learnt --- */

void address_event(struct worker *worker, const char *name, const struct pair *detail, size_t n)
{
        int64_t earliest_ms = worker->now_ms - EVENTS_AT_ONCE * EVENTS_MS;

        if (worker->next_event_ms < earliest_ms)
                worker->next_event_ms = earliest_ms;
        if (!worker->scribe || worker->next_event_ms > worker->now_ms)
                return;
        worker->next_event_ms += EVENTS_MS;
        scribe_event(worker->scribe, str_of(name), detail, n);
}

static void tell(struct worker *worker, const char *name, const char *host,
        const struct health_key *key, const char *why, int64_t ms)
{
        struct sockaddr_storage address = {.ss_family = key->family};
        char text[LISTENER_PEER], number[16], span[24];

        if (key->family == AF_INET6)
                memcpy(&((struct sockaddr_in6 *)&address)->sin6_addr, key->ip, 16);
        else
                memcpy(&((struct sockaddr_in *)&address)->sin_addr, key->ip, 4);
        listener_peer_text((struct sockaddr *)&address, sizeof(address), text);
        if (*why)
                log_error("%s host=%s address=%s worker=%u ms=%lld because: %s", name, host, text,
                        worker->number, (long long)ms, why);
        else
                log_info("%s host=%s address=%s worker=%u ms=%lld", name, host, text,
                        worker->number, (long long)ms);
        snprintf(number, sizeof(number), "%u", worker->number);
        snprintf(span, sizeof(span), "%lld", (long long)ms);
        const struct pair detail[] = {{STR("host"), str_of(host)}, {STR("address"), str_of(text)},
                {STR("worker"), str_of(number)}, {STR("ms"), str_of(span)},
                {STR("cause"), str_of(why)}};
        address_event(worker, name, detail, *why ? 5 : 4);
}

/* Idle connections to an address that is not to be used. */
static void drop_idle(struct worker *worker, const struct health_key *key)
{
        for (size_t i = 0; i < SERVICE_COUNT; i++) {
                struct link *link = worker->idle[i].after;
                while (link != &worker->idle[i]) {
                        struct upstream *upstream = LINK_OF(struct upstream, idle_link, link);
                        link = link->after;
                        if (health_key_eq(&upstream->key, key))
                                upstream_drop(upstream);
                }
        }
}

void address_failed(struct worker *worker, const struct endpoint *endpoint, unsigned address,
        enum health_fault fault, const char *why)
{
        struct health_key key = health_key_of(&endpoint->addresses[address]);
        struct health_rule rule = rule_of(worker);
        uint32_t random;

        id_random(&random, sizeof(random));
        if (worker->rotation % endpoint->n_addresses == address)
                worker->rotation = address + 1; /* others begin with another one */
        if (fault == FAULT_UNREACHABLE)
                worker->metrics.upstream_failed++;
        else
                worker->metrics.upstream_bad_answers++;
        if (fault == FAULT_UNREACHABLE && worker->now_ms >= worker->next_resolve_ms) {
                worker->next_resolve_ms = worker->now_ms + RESOLVE_MS;
                ask_resolve(worker);
        }
        if (!health_failed(&worker->health, &key, fault, &rule, worker->now_ms, random))
                return;
        const struct health_entry *entry = health_find(&worker->health, &key);
        worker->metrics.upstream_ejections++;
        drop_idle(worker, &key);
        tell(worker, "upstream.ejected", endpoint->host, &key, why,
                entry->until_ms - entry->since_ms);
}

/* A connection that was made under another world may stand elsewhere among the addresses of this
 * one, or not at all: then there is nothing to be left alone. */
void address_failed_for(struct upstream *upstream, enum health_fault fault, const char *why)
{
        const struct endpoint *endpoint = upstream_endpoint(upstream->exchange);

        for (unsigned i = 0; i < endpoint->n_addresses; i++) {
                struct health_key key = health_key_of(&endpoint->addresses[i]);
                if (!health_key_eq(&key, &upstream->key))
                        continue;
                upstream->probe = false; /* it has its verdict */
                address_failed(upstream->worker, endpoint, i, fault, why);
                return;
        }
}

static void worked(struct upstream *upstream, enum health_fault proved)
{
        struct worker *worker = upstream->worker;
        const struct health_entry *entry = health_find(&worker->health, &upstream->key);
        int64_t since_ms = entry ? entry->since_ms : 0;

        if (!health_worked(&worker->health, &upstream->key, proved, worker->now_ms))
                return;
        upstream->probe = false;
        tell(worker, "upstream.restored", upstream->host, &upstream->key, "",
                worker->now_ms - since_ms);
}

void address_connected(struct upstream *upstream)
{
        upstream->connected = true;
        if (upstream->worker->health.n)
                worked(upstream, FAULT_UNREACHABLE);
}

/* What stands in front of Azure DevOps answers so when it finds nothing behind it; Azure DevOps
 * itself says why. What asks to come back later is not broken. */
static bool is_gateway_failure(const struct h1_response *response)
{
        bool empty = response->framing == H1_NO_BODY ||
                     (response->framing == H1_LENGTH && response->content_length == 0);

        return response->status >= 502 && response->status <= 504 && empty &&
               response->first[H1_RETRY_AFTER] < 0;
}

void address_answered(struct exchange *x)
{
        struct upstream *upstream = x->upstream;

        if (is_gateway_failure(&x->response)) {
                char why[64];
                if (str_eq(x->request.method, STR("HEAD")))
                        return; /* which has no body anyway */
                snprintf(why, sizeof(why), "answered %d without a word", x->response.status);
                address_failed_for(upstream, FAULT_ANSWER, why);
        } else if (upstream->worker->health.n) {
                worked(upstream, FAULT_ANSWER);
        }
}

bool address_is_used(struct upstream *upstream)
{
        struct worker *worker = upstream->worker;
        const struct world *world = worker->lease->world;
        const struct endpoint *endpoint = &world->endpoints[upstream->service];

        if (worker->health.n && health_look(health_find(&worker->health, &upstream->key),
                                        worker->now_ms) != HEALTH_GOOD)
                return false;
        if (upstream->generation == world->generation)
                return true;
        upstream->generation = world->generation;
        for (size_t i = 0; i < endpoint->n_addresses; i++) {
                struct health_key key = health_key_of(&endpoint->addresses[i]);
                if (health_key_eq(&key, &upstream->key))
                        return true;
        }
        return false;
}

void addresses_reloaded(struct worker *worker)
{
        struct health_rule rule = rule_of(worker);

        health_rule_changed(&worker->health, &rule, worker->now_ms);
}

void addresses_count(struct worker *worker)
{
        const struct world *world = worker->lease->world;
        const struct health_entry *entry;

        for (unsigned s = 0; s < SERVICE_COUNT; s++) {
                const struct endpoint *endpoint = &world->endpoints[s];
                worker->metrics.addresses_ejected[s] = 0;
                for (unsigned i = 0; i < endpoint->n_addresses; i++)
                        if (look(worker, endpoint, i, &entry) != HEALTH_GOOD)
                                worker->metrics.addresses_ejected[s]++;
        }
}
