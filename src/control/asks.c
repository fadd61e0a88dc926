/*
 * What workers ask for, and when they are answered: each ask exactly once, within
 * CONTROL_ASK_BOUND_MS, however many wait for the same thing.
 */
#include <event2/event.h>
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "inside.h"

void control_reply(struct control *control, struct ask *ask, bool ok, const char *why)
{
        if (!ok)
                control->n_asks_refused++;
        ask->ok = ok;
        ask->unheard = !ok && ask->kind == ASK_KEYS &&
                       ask->index < control->parts->config->n_issuers &&
                       issuer_unheard(control->issuers[ask->index]);
        bool credential = ask->kind == ASK_CREDENTIAL || ask->kind == ASK_CREDENTIAL_REPLACE;
        if (!ok && credential && ask->index < control->parts->config->n_credentials)
                snprintf(ask->cause, sizeof(ask->cause), "%s",
                        token_source_cause(control->sources[ask->index]));
        snprintf(ask->why, sizeof(ask->why), "%s", ok ? "" : why);
        ask->mail.deliver = ask->answered;
        mailbox_post(ask->reply_to, &ask->mail);
}

static void waiters_arm(struct control *control)
{
        if (!control->waiters) {
                event_del(&control->ask_timer);
                return;
        }
        int64_t wait = control->waiters->deadline_mono_ms - clock_mono_ms();
        if (wait < 0)
                wait = 0;
        struct timeval span = {wait / 1000, wait % 1000 * 1000};
        event_add(&control->ask_timer, &span);
}

static void wait_for(struct control *control, struct ask *ask)
{
        struct waiter *waiter = calloc(1, sizeof(*waiter));

        if (!waiter)
                abort();
        waiter->ask = ask;
        waiter->deadline_mono_ms = clock_mono_ms() + CONTROL_ASK_BOUND_MS;
        bool first = control->waiters == NULL;
        *control->last_waiter = waiter;
        control->last_waiter = &waiter->next;
        if (first)
                waiters_arm(control);
}

/* Takes those out that `which` names and answers them. All have the same bound, so that the list
 * stays in the order of deadlines. */
static void answer_those(struct control *control,
        bool (*which)(const struct waiter *, const void *), const void *arg, bool ok,
        const char *why)
{
        struct waiter **link = &control->waiters;

        while (*link) {
                struct waiter *waiter = *link;
                if (!which(waiter, arg)) {
                        link = &waiter->next;
                        continue;
                }
                *link = waiter->next;
                control_reply(control, waiter->ask, ok, why);
                free(waiter);
        }
        control->last_waiter = link;
        waiters_arm(control);
}

struct subject {
        bool keys;
        unsigned index;
};

static bool is_about(const struct waiter *waiter, const void *arg)
{
        const struct subject *subject = arg;

        switch (waiter->ask->kind) {
        case ASK_KEYS: return subject->keys && waiter->ask->index == subject->index;
        case ASK_CREDENTIAL:
        case ASK_CREDENTIAL_REPLACE: return !subject->keys && waiter->ask->index == subject->index;
        case ASK_ADDRESS:
        case ASK_NAME:
        case ASK_ASSERTION:
        case ASK_FORGET:
        case ASK_RESOLVE:
        case ASK_RUN:
        case ASK_TAG: return false;
        }
        return false;
}

/* The place somebody waits for: its ask takes the addresses along. */
struct found_place {
        const char *host;
        const struct endpoint *endpoint; /* NULL: not found */
};

static bool wants_place(const struct waiter *waiter, const void *arg)
{
        const struct found_place *found = arg;

        if (waiter->ask->kind != ASK_ADDRESS || strcmp(waiter->ask->host, found->host) != 0)
                return false;
        if (found->endpoint)
                waiter->ask->endpoint = *found->endpoint;
        return true;
}

/* Its ask takes a copy of the answer along. */
static bool wants_name(const struct waiter *waiter, const void *arg)
{
        const struct lookup_result *result = arg;
        struct ask *ask = waiter->ask;

        if (ask->kind != ASK_NAME || ask->index != result->credential ||
                ask->name.service != result->service || strcmp(ask->name.path, result->path) != 0)
                return false;
        ask->name.answered = result->ok;
        if (result->identity)
                ask->name.identity = identity_dup(result->identity);
        return true;
}

static bool wants_exchange(const struct waiter *waiter, const void *arg)
{
        const struct assertion_result *result = arg;
        struct ask *ask = waiter->ask;

        if (ask->kind != ASK_ASSERTION || ask->index != result->index ||
                memcmp(ask->assertion.digest, result->digest, TOKEN_DIGEST_BYTES) != 0)
                return false;
        assertion_answer(ask, result);
        return true;
}

static bool is_late(const struct waiter *waiter, const void *arg)
{
        return waiter->deadline_mono_ms <= *(const int64_t *)arg;
}

static bool is_any(const struct waiter *waiter, const void *arg)
{
        (void)waiter;
        (void)arg;
        return true;
}

void control_answer(struct control *control, bool keys, unsigned index, bool ok, const char *why)
{
        struct subject subject = {keys, index};

        answer_those(control, is_about, &subject, ok, why);
}

void control_found(void *owner, const char *host, const struct endpoint *endpoint, const char *why)
{
        struct found_place found = {host, endpoint};

        answer_those(owner, wants_place, &found, endpoint != NULL, why);
}

void control_named(void *owner, const struct lookup_result *result)
{
        answer_those(owner, wants_name, result, result->ok, result->why);
}

void control_exchanged(void *owner, const struct assertion_result *result)
{
        answer_those(owner, wants_exchange, result, result->credential != NULL, result->why);
}

struct fetch *control_fetch(struct control *control, unsigned index, const struct credential *lent,
        enum service service, const char *path, struct fetch_request request, fetch_done *done,
        void *arg)
{
        static const char *const fields[] = {
                "Accept: application/json", "X-TFS-FedAuthRedirect: Suppress"};
        const struct endpoint *endpoint = &control->names->endpoints[service];
        const struct credential *credential = lent;
        struct secret field = {0};
        struct buf url;

        if (!credential && index < control->parts->config->n_credentials)
                credential = control->sources[index]->credential;
        if (!credential || clock_mono_ms() >= credential->until_mono_ms)
                return NULL;
        buf_init(&url, 8192);
        buf_printf(&url, "http%s://%s%s", endpoint->tls ? "s" : "", endpoint->authority, path);
        buf_char(&url, '\0');
        secret_set(&field, credential_field(credential));
        request.url = url.overflow ? "" : url.data;
        request.secret_field = &field;
        request.fields = fields;
        request.n_fields = sizeof(fields) / sizeof(fields[0]);
        request.ca = control->parts->config->upstream.ca.ptr;
        request.allow_plain_loopback = !endpoint->tls;
        struct fetch *fetch = fetch_start(control->fetcher, &request, done, arg);
        secret_drop(&field);
        buf_clear(&url);
        return fetch;
}

static bool asks_name(const struct waiter *waiter, const void *arg)
{
        (void)arg;
        return waiter->ask->kind == ASK_NAME;
}

/* Every worker forgets when it gets a world of the next count. What is being asked was asked
 * before: who waits for it asks again. */
static void forget_names(struct control *control)
{
        control->names_changed++;
        control_publish(control);
        lookups_cancel(control->lookups);
        answer_those(control, asks_name, NULL, true, "");
}

void control_answer_all(struct control *control, bool ok, const char *why)
{
        answer_those(control, is_any, NULL, ok, why);
}

void on_ask_timer(evutil_socket_t fd, short what, void *arg)
{
        int64_t now = clock_mono_ms();

        (void)fd;
        (void)what;
        answer_those(arg, is_late, &now, false, "no answer within 10 s");
}

/* Whether there is such a credential, and one for all callers. */
static bool is_shared(const struct config *config, unsigned index)
{
        return index < config->n_credentials && !config->credentials[index].assertion_is_callers;
}

void control_asked(struct mail *mail, void *receiver)
{
        struct control *control = receiver;
        struct ask *ask = (struct ask *)mail;
        const struct config *config = control->parts->config;
        enum source_answer found = SOURCE_NO;
        struct error why = {"there is no such issuer or credential"};

        control->n_asks++;
        if (control->stopped) {
                control_reply(control, ask, false, "the proxy is stopping");
                return;
        }
        if (ask->world_reload != control->reload && ask->kind != ASK_ADDRESS &&
                ask->kind != ASK_FORGET && ask->kind != ASK_RESOLVE) {
                /* Another configuration is on its way to the asker: it has to look again. */
                control_reply(control, ask, true, "");
                return;
        }
        switch (ask->kind) {
        case ASK_KEYS:
                if (ask->index < config->n_issuers)
                        found = issuer_ask(control->issuers[ask->index], ask->seen, &why);
                break;
        case ASK_CREDENTIAL:
                if (is_shared(config, ask->index))
                        found = token_source_ask(control->sources[ask->index], ask->seen, &why);
                break;
        case ASK_CREDENTIAL_REPLACE:
                if (is_shared(config, ask->index))
                        found = token_source_replace(
                                control->sources[ask->index], ask->seen, ask->challenge, &why);
                break;
        case ASK_ADDRESS:
                found = names_place(control->names, ask->host, &ask->endpoint, &why);
                break;
        case ASK_NAME: found = lookups_ask(control->lookups, &ask->name, ask->index, &why); break;
        case ASK_ASSERTION:
                if (ask->index < config->n_credentials &&
                        config->credentials[ask->index].assertion_is_callers)
                        found = assertions_ask(control->assertions, ask);
                break;
        case ASK_FORGET:
                forget_names(control);
                found = SOURCE_NEWER;
                break;
        case ASK_RESOLVE:
                names_again(control->names);
                found = SOURCE_NEWER;
                break;
        case ASK_RUN: runs_ask(control->runs, ask); return;
        case ASK_TAG:
                tags_add(control->tags, ask);
                found = SOURCE_NEWER;
                break;
        }
        switch (found) {
        case SOURCE_NEWER: control_reply(control, ask, true, ""); break;
        case SOURCE_WAIT: wait_for(control, ask); break;
        case SOURCE_NO: control_reply(control, ask, false, why.text); break;
        }
}
