#include "names.h"

#include <event2/event.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "dagward/base/log.h"

enum { RETRY_MS = 5 * 1000, AGAIN_MS = 2 * 1000, TOGETHER_MS = 10 };

/* --- the thread --- */

/* Two mailboxes: questions for the thread, answers for the loop. Names go by value, so that the
 * thread can be left behind in a look-up that does not end, with nothing it could touch but this.
 */
struct resolver {
        pthread_t thread;
        struct mailbox *questions, *answers;
        struct event answered;
        names_lookup *lookup;
        bool ends, orphan;   /* the thread's: it has read the last question */
        unsigned n_pending;  /* the loop's: questions without an answer */
        struct names *names; /* NULL: nobody listens any more */
};

struct question {
        struct mail mail;
        struct endpoint endpoint; /* host and port; comes back with addresses */
        bool ok;
        struct error why;
};

static void on_answer(struct mail *mail, void *receiver);

/* Whose addresses an endpoint has. */
static const char *dial_host(const struct endpoint *endpoint)
{
        return endpoint->via ? endpoint->via_host : endpoint->host;
}

static uint16_t dial_port(const struct endpoint *endpoint)
{
        return endpoint->via ? endpoint->via_port : endpoint->port;
}

/* On the thread. */
static void on_question(struct mail *mail, void *receiver)
{
        struct resolver *resolver = receiver;
        struct question *question = (struct question *)mail;

        question->ok = resolver->lookup(dial_host(&question->endpoint),
                dial_port(&question->endpoint), &question->endpoint, &question->why);
        mail->deliver = on_answer;
        mailbox_post(resolver->answers, mail);
}

struct end {
        struct mail mail;
        bool orphan; /* nobody joins: the thread frees what is left */
};

/* On the thread. */
static void on_end(struct mail *mail, void *receiver)
{
        struct resolver *resolver = receiver;

        resolver->ends = true;
        resolver->orphan = ((struct end *)mail)->orphan;
        free(mail);
}

static void resolver_drop(struct resolver *resolver)
{
        mailbox_drain(resolver->answers);
        mailbox_free(resolver->questions);
        mailbox_free(resolver->answers);
        free(resolver);
}

static void *resolver_run(void *arg)
{
        struct resolver *resolver = arg;
        struct pollfd waiting = {.fd = mailbox_fd(resolver->questions), .events = POLLIN};

        while (!resolver->ends) {
                poll(&waiting, 1, -1);
                mailbox_drain(resolver->questions);
        }
        if (resolver->orphan)
                resolver_drop(resolver);
        return NULL;
}

static void on_answered(evutil_socket_t fd, short what, void *arg)
{
        struct resolver *resolver = arg;

        (void)fd;
        (void)what;
        mailbox_drain(resolver->answers);
}

static struct resolver *resolver_new(struct names *names)
{
        struct resolver *resolver = calloc(1, sizeof(*resolver));
        sigset_t all, before;

        if (!resolver)
                abort();
        resolver->names = names;
        resolver->lookup = names->lookup;
        resolver->questions = mailbox_new(resolver);
        resolver->answers = mailbox_new(resolver);
        event_assign(&resolver->answered, names->base, mailbox_fd(resolver->answers),
                EV_READ | EV_PERSIST, on_answered, resolver);
        event_add(&resolver->answered, NULL);
        sigfillset(&all); /* signals are for the loop */
        pthread_sigmask(SIG_BLOCK, &all, &before);
        if (pthread_create(&resolver->thread, NULL, resolver_run, resolver) != 0)
                abort();
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return resolver;
}

static void resolver_free(struct resolver *resolver)
{
        struct end *end;

        if (!resolver)
                return;
        end = calloc(1, sizeof(*end));
        if (!end)
                abort();
        resolver->names = NULL;
        event_del(&resolver->answered);
        mailbox_drain(resolver->answers);
        end->mail.deliver = on_end;
        /* It may sit in a look-up for many seconds: nobody waits for that. */
        bool orphan = end->orphan = resolver->n_pending > 0;
        pthread_t thread = resolver->thread;
        mailbox_post(resolver->questions, &end->mail);
        if (orphan) {
                pthread_detach(thread);
        } else {
                pthread_join(thread, NULL);
                resolver_drop(resolver);
        }
}

static void take_address(const struct addrinfo *one, struct endpoint *out)
{
        if (out->n_addresses == NAMES_MOST_ADDRESSES || one->ai_addrlen > sizeof(out->addresses[0]))
                return;
        memcpy(&out->addresses[out->n_addresses], one->ai_addr, one->ai_addrlen);
        out->address_lens[out->n_addresses++] = one->ai_addrlen;
}

/* In the order they came, but one of the first one's family and one of the other by turns. */
static void take_in_turn(const struct addrinfo *found, struct endpoint *out)
{
        const struct addrinfo *one = found, *other = found;

        out->n_addresses = 0;
        while (one || other) {
                while (one && one->ai_family != found->ai_family)
                        one = one->ai_next;
                while (other && other->ai_family == found->ai_family)
                        other = other->ai_next;
                if (one)
                        take_address(one, out);
                if (other)
                        take_address(other, out);
                one = one ? one->ai_next : NULL;
                other = other ? other->ai_next : NULL;
        }
}

bool names_getaddrinfo(const char *host, uint16_t port, struct endpoint *out, struct error *err)
{
        struct addrinfo hints = {.ai_family = AF_UNSPEC,
                .ai_socktype = SOCK_STREAM,
                .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV};
        struct addrinfo *found = NULL;
        char service[8];

        snprintf(service, sizeof(service), "%u", (unsigned)port);
        int code = getaddrinfo(host, service, &hints, &found);
        if (code != 0)
                return error_set(err, "%s", gai_strerror(code));
        take_in_turn(found, out);
        freeaddrinfo(found);
        return out->n_addresses ? true : error_set(err, "no address");
}

/* --- the loop's side --- */

static void arm(struct event *event, int64_t ms)
{
        struct timeval wait = {ms / 1000, ms % 1000 * 1000};

        event_add(event, &wait);
}

static bool has_address(const struct endpoint *endpoint, const struct endpoint *in, size_t i)
{
        for (size_t j = 0; j < endpoint->n_addresses; j++) {
                if (endpoint->address_lens[j] == in->address_lens[i] &&
                        memcmp(&endpoint->addresses[j], &in->addresses[i], in->address_lens[i]) ==
                                0)
                        return true;
        }
        return false;
}

/* As sets: name servers turn the order round, which is no news. */
static bool same_addresses(const struct endpoint *a, const struct endpoint *b)
{
        if (a->n_addresses != b->n_addresses)
                return false;
        for (size_t i = 0; i < b->n_addresses; i++) {
                if (!has_address(a, b, i))
                        return false;
        }
        return true;
}

static void take_addresses(struct endpoint *to, const struct endpoint *from)
{
        memcpy(to->addresses, from->addresses, sizeof(to->addresses));
        memcpy(to->address_lens, from->address_lens, sizeof(to->address_lens));
        to->n_addresses = from->n_addresses;
}

static bool same_place(const struct endpoint *a, const struct endpoint *b)
{
        return dial_port(a) == dial_port(b) && strcmp(dial_host(a), dial_host(b)) == 0;
}

/* Said once for all services of a host, when it begins and when it ends. */
static void say(const struct endpoint *endpoint, const struct question *question, unsigned service)
{
        if (question->ok)
                log_info("names host=%s found again", dial_host(endpoint));
        else if (service == SERVICE_DEV)
                log_error("names host=%s not found, %s: %s", dial_host(endpoint),
                        endpoint->n_addresses ? "keeping the old addresses"
                                              : "nothing can be forwarded",
                        question->why.text);
        else
                log_info("names host=%s not found: %s", dial_host(endpoint), question->why.text);
}

static void names_answer(struct names *names, const struct question *question)
{
        bool said = false;

        names->n_failed += !question->ok;
        for (unsigned s = 0; s < SERVICE_COUNT; s++) {
                struct endpoint *endpoint = &names->endpoints[s];
                if (names->literal[s] || !same_place(endpoint, &question->endpoint))
                        continue;
                names->pending[s] = false;
                if (names->failing[s] == question->ok && !said) {
                        say(endpoint, question, s);
                        said = true;
                }
                names->failing[s] = !question->ok;
                if (question->ok && !same_addresses(endpoint, &question->endpoint)) {
                        take_addresses(endpoint, &question->endpoint);
                        arm(&names->soon, TOGETHER_MS);
                }
        }
        for (size_t i = 0; i < NAMES_PLACES; i++) {
                struct place *place = &names->places[i];
                if (!place->pending || !same_place(&place->endpoint, &question->endpoint))
                        continue;
                place->pending = false;
                if (question->ok) {
                        take_addresses(&place->endpoint, &question->endpoint);
                        place->found_mono_ms = clock_mono_ms();
                }
                /* What was found once is better than nothing. */
                bool known = place->found_mono_ms != 0;
                if (known && !question->ok)
                        log_info("names host=%s not found, keeping the old addresses: %s",
                                place->host, question->why.text);
                if (names->found)
                        names->found(names->hooks.owner, place->host,
                                known ? &place->endpoint : NULL, question->why.text);
        }
}

/* On the loop. */
static void on_answer(struct mail *mail, void *receiver)
{
        struct resolver *resolver = receiver;
        struct question *question = (struct question *)mail;

        resolver->n_pending--;
        if (resolver->names)
                names_answer(resolver->names, question);
        free(question);
}

static void look_up(struct names *names, const struct endpoint *endpoint)
{
        struct question *question = calloc(1, sizeof(*question));

        if (!question)
                abort();
        if (!names->resolver)
                names->resolver = resolver_new(names);
        question->mail.deliver = on_question;
        question->endpoint = *endpoint;
        names->resolver->n_pending++;
        mailbox_post(names->resolver->questions, &question->mail);
}

static void names_round(struct names *names)
{
        int64_t next = names->upstream->resolve_ms;

        names->round_mono_ms = clock_mono_ms();
        for (unsigned s = 0; s < SERVICE_COUNT; s++) {
                struct endpoint *endpoint = &names->endpoints[s];
                bool asked = false;
                if (names->literal[s])
                        continue;
                if (endpoint->n_addresses == 0 && next > RETRY_MS)
                        next = RETRY_MS;
                for (unsigned before = 0; before < s; before++)
                        asked = asked || (!names->literal[before] &&
                                                 same_place(endpoint, &names->endpoints[before]));
                if (names->pending[s] || asked)
                        continue;
                names->pending[s] = true;
                look_up(names, endpoint);
        }
        arm(&names->timer, jitter_ms(next));
}

static void on_names_timer(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        names_round(arg);
}

static void on_soon(evutil_socket_t fd, short what, void *arg)
{
        struct names *names = arg;

        (void)fd;
        (void)what;
        names->hooks.changed(names->hooks.owner);
}

/* --- which host a service has --- */

/* As config_host_override for storage, which "*" does not stand for but "*.blob.core.windows.net"
 * does. */
static const struct config_url *storage_override_of(
        const struct config_upstream *upstream, const char *host)
{
        const struct config_url *wide = NULL;

        for (size_t i = 0; i < upstream->n_hosts; i++) {
                struct str pattern = upstream->hosts[i].pattern;
                if (str_eq_fold(pattern, str_of(host)))
                        return &upstream->hosts[i].url;
                if (str_starts(pattern, STR("*.")) &&
                        str_ends_fold(str_of(host), str_from(pattern, 1)))
                        wide = &upstream->hosts[i].url;
        }
        return wide;
}

static void add_literal(struct endpoint *endpoint, const char *address)
{
        struct addrinfo hints = {.ai_family = AF_UNSPEC,
                .ai_socktype = SOCK_STREAM,
                .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
        struct addrinfo *found = NULL;
        char service[8];

        snprintf(service, sizeof(service), "%u", (unsigned)dial_port(endpoint));
        if (getaddrinfo(address, service, &hints, &found) != 0)
                return;
        memcpy(&endpoint->addresses[endpoint->n_addresses], found->ai_addr, found->ai_addrlen);
        endpoint->address_lens[endpoint->n_addresses++] = found->ai_addrlen;
        freeaddrinfo(found);
}

static bool endpoint_init(struct endpoint *endpoint, const char *host,
        const struct config_url *override, const struct egress *egress)
{
        bool v6;

        endpoint->tls = override ? override->https : true;
        endpoint->port = override ? override->port : 443;
        snprintf(
                endpoint->host, sizeof(endpoint->host), "%s", override ? override->host.ptr : host);
        v6 = strchr(endpoint->host, ':') != NULL;
        if (endpoint->port == (endpoint->tls ? 443 : 80))
                snprintf(endpoint->authority, sizeof(endpoint->authority), v6 ? "[%s]" : "%s",
                        endpoint->host);
        else
                snprintf(endpoint->authority, sizeof(endpoint->authority), v6 ? "[%s]:%u" : "%s:%u",
                        endpoint->host, (unsigned)endpoint->port);
        if (endpoint->tls && egress_serves(egress, endpoint->host)) {
                endpoint->via = egress->number;
                endpoint->via_port = egress->port;
                snprintf(endpoint->via_host, sizeof(endpoint->via_host), "%s", egress->host);
        }
        if (strcmp(dial_host(endpoint), "localhost") == 0) {
                add_literal(endpoint, "127.0.0.1");
                add_literal(endpoint, "::1");
        } else {
                add_literal(endpoint, dial_host(endpoint));
        }
        return endpoint->n_addresses > 0;
}

struct names *names_new(const struct config *config, struct egress *egress, struct event_base *base,
        names_lookup *lookup, const struct source_hooks *hooks)
{
        struct names *names = calloc(1, sizeof(*names));

        if (!names)
                abort();
        names->base = base;
        names->egress = egress_ref(egress);
        names->upstream = &config->upstream;
        names->hooks = *hooks;
        names->lookup = lookup;
        for (unsigned s = 0; s < SERVICE_COUNT; s++) {
                const char *host = service_host((enum service)s);
                names->literal[s] = endpoint_init(&names->endpoints[s], host,
                        config_host_override(&config->upstream, host), egress);
        }
        evtimer_assign(&names->timer, base, on_names_timer, names);
        evtimer_assign(&names->soon, base, on_soon, names);
        return names;
}

void names_free(struct names *names)
{
        if (!names)
                return;
        resolver_free(names->resolver);
        event_del(&names->timer);
        event_del(&names->soon);
        egress_unref(names->egress);
        free(names);
}

void names_adopt(struct names *names, struct names *old)
{
        names->resolver = old->resolver;
        old->resolver = NULL;
        if (names->resolver)
                names->resolver->names = names;
        for (unsigned s = 0; s < SERVICE_COUNT; s++) {
                for (unsigned o = 0; o < SERVICE_COUNT; o++) {
                        if (names->literal[s] ||
                                !same_place(&names->endpoints[s], &old->endpoints[o]))
                                continue;
                        take_addresses(&names->endpoints[s], &old->endpoints[o]);
                        names->failing[s] = old->failing[o];
                }
        }
}

void names_start(struct names *names)
{
        names_round(names);
}

void names_again(struct names *names)
{
        int64_t since = clock_mono_ms() - names->round_mono_ms;

        if (since >= AGAIN_MS)
                names_round(names);
        else
                arm(&names->timer, AGAIN_MS - since);
}

/* The place of that host, or the slot it may have: a free one, or that of who was found first. */
static struct place *place_of(struct names *names, const char *host)
{
        struct place *slot = NULL;

        for (size_t i = 0; i < NAMES_PLACES; i++) {
                struct place *place = &names->places[i];
                if (strcmp(place->host, host) == 0)
                        return place;
                if (!place->pending && (!slot || place->found_mono_ms < slot->found_mono_ms))
                        slot = place;
        }
        return slot;
}

enum source_answer names_place(
        struct names *names, const char *host, struct endpoint *out, struct error *err)
{
        struct place *place = place_of(names, host);

        if (!place || strlen(host) >= sizeof(place->host)) {
                error_set(err, "too many hosts are looked up at once");
                return SOURCE_NO;
        }
        if (strcmp(place->host, host) != 0) {
                *place = (struct place){0};
                snprintf(place->host, sizeof(place->host), "%s", host);
                if (endpoint_init(&place->endpoint, host,
                            storage_override_of(names->upstream, host), names->egress))
                        place->found_mono_ms = INT64_MAX - NAMES_PLACE_KEPT_MS; /* a literal */
        }
        if (place->found_mono_ms && clock_mono_ms() < place->found_mono_ms + NAMES_PLACE_KEPT_MS) {
                *out = place->endpoint;
                return SOURCE_NEWER;
        }
        if (!place->pending)
                look_up(names, &place->endpoint);
        place->pending = true;
        return SOURCE_WAIT;
}
