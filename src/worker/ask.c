/*
 * ask: an exchange waits for control.
 *
 * The ask outlives the exchange that made it (a client may hang up while it is under way), so it is
 * a thing of its own that the exchange can let go of.
 */
#include "inside.h"

#include <stdlib.h>

struct pending_ask {
        struct ask ask;     /* first: the mail is the ask */
        struct exchange *x; /* NULL: nobody waits any more */
};

enum { ASK_MOST_MS = 15000 }; /* control answers within 10 s; this is for when it cannot */

/* Goes into the directory, whoever waits for it. A failure is kept from being asked again at once;
 * no answer at all is not: the asker's world was an old one. */
static void tell_directory(struct worker *worker, struct ask *ask)
{
        struct name_ask *name = &ask->name;
        struct name_question question = {.kind = name->kind,
                .value = str_of(name->value),
                .service = name->service,
                .path = str_of(name->path),
                .credential = ask->index};
        enum directory_answer answer = !ask->ok          ? DIRECTORY_FAILED
                                       : !name->answered ? DIRECTORY_ASK
                                       : name->identity  ? DIRECTORY_KNOWN
                                                         : DIRECTORY_NOBODY;

        if (!ask->ok)
                log_info("name kind=\"%s\" cannot be looked up: %s", resource_kind_name(name->kind),
                        ask->why);
        if (ask->world_reload == worker->lease->world->reload)
                directory_tell(
                        worker->directory, &question, answer, name->identity, worker->now_ms);
        else
                free(name->identity);
        free(name->value);
        free(name->path);
}

static void run_free(struct run_ask *run)
{
        if (!run)
                return;
        free(run->body);
        free(run->path);
        free(run->tags);
        credential_unref(run->lent);
        free(run);
}

/* What was waited for went with a reload; whoever obtains it now has to be asked. */
static bool reloaded_meanwhile(
        const struct worker *worker, struct exchange *x, const struct ask *ask)
{
        enum { RELOADS_MOST = 4 };

        return (ask->kind == ASK_CREDENTIAL || ask->kind == ASK_CREDENTIAL_REPLACE ||
                       ask->kind == ASK_KEYS) &&
               ask->ok && ask->world_reload != worker->lease->world->reload &&
               x->reloads_met++ < RELOADS_MOST;
}

static void on_answer(struct mail *mail, void *receiver)
{
        struct pending_ask *pending = (struct pending_ask *)mail;
        struct exchange *x = pending->x;

        if (pending->ask.kind == ASK_NAME)
                tell_directory(receiver, &pending->ask);
        if (pending->ask.kind == ASK_ASSERTION)
                lend_answered(receiver, x, &pending->ask);
        if (x && (pending->ask.kind == ASK_NAME || pending->ask.kind == ASK_ASSERTION)) {
                x->ask = NULL;
        } else if (x && pending->ask.kind == ASK_RUN) {
                x->ask = NULL;
                trigger_seen(x, pending->ask.run, pending->ask.ok, pending->ask.why);
        } else if (x) {
                x->ask = NULL;
                x->ask_why[0] = '\0';
                x->issuer_unheard = pending->ask.unheard;
                if (reloaded_meanwhile(receiver, x, &pending->ask))
                        x->asked_keys = x->asked_credential = false;
                /* Without any address what was waited for went with a reload: it is asked for
                 * again. */
                if (pending->ask.kind == ASK_ADDRESS && pending->ask.ok &&
                        pending->ask.endpoint.n_addresses) {
                        x->detour->endpoint = pending->ask.endpoint;
                        x->detour->known = true;
                }
                if (!pending->ask.ok)
                        snprintf(x->ask_why, sizeof(x->ask_why), "%s",
                                pending->ask.why[0] ? pending->ask.why : "no answer");
                x->ask_cause = arena_copy(&x->arena, str_of(pending->ask.cause));
        }
        run_free(pending->ask.run);
        free(pending->ask.challenge);
        free(pending);
        if (x)
                client_go_on(x->client);
}

/* An ask of `kind`; what else it says is put in before it is posted. */
static struct pending_ask *prepare(struct exchange *x, enum ask_kind kind, uint64_t reload)
{
        struct pending_ask *pending = calloc(1, sizeof(*pending));

        if (!pending)
                abort();
        pending->x = x;
        pending->ask = (struct ask){
                .mail.deliver = x->worker->control.asked,
                .kind = kind,
                .world_reload = reload,
                .reply_to = x->worker->box,
                .answered = on_answer,
        };
        return pending;
}

static enum next post(struct exchange *x, struct pending_ask *pending)
{
        x->ask = pending;
        exchange_wait(x, WAIT_CONTROL, ASK_MOST_MS);
        mailbox_post(x->worker->control.box, &pending->ask.mail);
        return PENDING;
}

enum next ask_keys(struct exchange *x, unsigned issuer)
{
        const struct keyset *keys = x->world->issuers[issuer].keys;
        struct pending_ask *pending = prepare(x, ASK_KEYS, x->world->reload);

        x->asked_keys = true;
        pending->ask.index = issuer;
        pending->ask.seen = keys ? keys->generation : 0;
        return post(x, pending);
}

/* What upstream said when it turned away what is to be replaced; once. */
static void take_challenge(struct exchange *x, struct ask *ask)
{
        enum { CHALLENGE_MOST = 4096 };

        if (x->challenge.len && x->challenge.len <= CHALLENGE_MOST)
                ask->challenge = str_dup(x->challenge);
        x->challenge = STR_NONE;
}

enum next ask_credential(struct exchange *x, unsigned index, uint64_t seen, enum ask_kind kind)
{
        struct pending_ask *pending = prepare(x, kind, x->worker->lease->world->reload);

        x->asked_credential = true;
        pending->ask.index = index;
        pending->ask.seen = seen;
        take_challenge(x, &pending->ask);
        return post(x, pending);
}

enum next ask_address(struct exchange *x)
{
        struct pending_ask *pending = prepare(x, ASK_ADDRESS, x->world->reload);

        snprintf(pending->ask.host, sizeof(pending->ask.host), "%s", x->detour->host);
        return post(x, pending);
}

static void fill_assertion(struct exchange *x, struct ask *ask, unsigned index, uint64_t seen)
{
        ask->index = index;
        ask->seen = seen;
        ask->assertion.expires_s = x->caller->expires_s;
        memcpy(ask->assertion.digest, x->token_digest, sizeof(x->token_digest));
        secret_set(&ask->assertion.token, x->token);
}

enum next ask_assertion(struct exchange *x, unsigned index, uint64_t rejected)
{
        struct pending_ask *pending = prepare(x, ASK_ASSERTION, x->worker->lease->world->reload);

        fill_assertion(x, &pending->ask, index, rejected);
        take_challenge(x, &pending->ask);
        return post(x, pending);
}

void ask_assertion_ahead(struct exchange *x, unsigned index, uint64_t seen)
{
        struct pending_ask *pending = prepare(x, ASK_ASSERTION, x->worker->lease->world->reload);

        fill_assertion(x, &pending->ask, index, seen);
        pending->ask.assertion.ahead = true;
        pending->x = NULL;
        mailbox_post(x->worker->control.box, &pending->ask.mail);
}

enum next ask_name(struct exchange *x, const struct name_question *question)
{
        struct pending_ask *pending = prepare(x, ASK_NAME, x->worker->lease->world->reload);

        pending->ask.index = question->credential;
        pending->ask.name = (struct name_ask){.kind = question->kind,
                .value = str_dup(question->value),
                .path = str_dup(question->path),
                .service = question->service};
        return post(x, pending);
}

enum next ask_run(struct exchange *x, enum ask_kind kind, unsigned index, struct run_ask *run)
{
        struct pending_ask *pending = prepare(x, kind, x->worker->lease->world->reload);

        pending->ask.index = index;
        pending->ask.run = run;
        if (kind == ASK_RUN)
                return post(x, pending);
        pending->x = NULL;
        mailbox_post(x->worker->control.box, &pending->ask.mail);
        return NEXT;
}

/* What nobody waits for. */
static void tell(struct worker *worker, enum ask_kind kind)
{
        struct pending_ask *pending = calloc(1, sizeof(*pending));

        if (!pending)
                abort();
        pending->ask = (struct ask){.mail.deliver = worker->control.asked,
                .kind = kind,
                .world_reload = worker->lease->world->reload,
                .reply_to = worker->box,
                .answered = on_answer};
        mailbox_post(worker->control.box, &pending->ask.mail);
}

void ask_forget_names(struct worker *worker)
{
        tell(worker, ASK_FORGET);
}

void ask_resolve(struct worker *worker)
{
        tell(worker, ASK_RESOLVE);
}

void ask_forget(struct exchange *x)
{
        if (x->ask)
                x->ask->x = NULL;
        x->ask = NULL;
}
