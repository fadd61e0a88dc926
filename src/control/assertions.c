#include "assertions.h"

#include <stdlib.h>

#include "attempt.h"
#include "authorities.h"
#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "dagward/credential/credential.h"
#include "entra_answer.h"

enum {
        BUDGET_MS = 9 * 1000, /* below the bound in which asks are answered */
        MARGIN_MOST_MS = 5 * 1000,
        REFUSED_MS = 30 * 1000, /* whoever Entra does not know is not sent there sooner again */
        BACKOFF_MOST_MS = 30 * 1000,
        THROTTLED_MS = 60 * 1000, /* 429 without Retry-After */
        WAIT_MOST_MS = 3600 * 1000,
        REPLACE_LEAST_MS = 60 * 1000,
        BUSY_MS = 1000,
        BUCKETS = 2048, /* a power of two */
};

/* What is known of one caller's token at one credential. */
struct entry {
        struct entry *next;          /* in its bucket */
        struct entry *newer, *older; /* by last use */
        unsigned index;              /* of the credential */
        unsigned char digest[TOKEN_DIGEST_BYTES];
        struct flight *flight; /* NULL: no exchange runs */
        struct credential *credential;
        int64_t replaced_mono_ms; /* last replacement; INT64_MIN: none */
        int64_t refused_until_mono_ms;
        enum assertion_refusal refusal;
        unsigned failures; /* in a row */
        char *why;         /* of the last one */
        char cause[160];   /* the same for callers */
};

/* An exchange under way. */
struct flight {
        struct flight *next; /* among the spare ones */
        struct assertions *owner;
        struct entry *entry;
        struct attempt attempt;
        struct memory memory;
        int64_t expires_s; /* of the caller's token */
};

/* Of one credential, whoever the caller is. */
struct whole {
        int64_t held_until_mono_ms;  /* Entra asked us to come back later */
        bool failing;                /* an event has said so */
        char ca[AUTHORITIES_DIGEST]; /* those that vouched for Entra when this was loaded */
};

struct assertions {
        const struct config *config;
        struct fetcher *fetcher;
        uint64_t *generations;
        struct assertions_hooks hooks;
        struct entry *buckets[BUCKETS];
        struct entry *newest, *oldest;
        size_t n_entries;
        struct flight *spare;
        struct whole *wholes; /* config->n_credentials */
        struct assertions_counts counts;
};

static void *take(size_t n, size_t bytes)
{
        void *memory = calloc(n ? n : 1, bytes);

        if (!memory)
                abort();
        return memory;
}

/* --- entries --- */

static struct entry **bucket_of(struct assertions *a, const unsigned char *digest)
{
        uint32_t word;

        memcpy(&word, digest, sizeof(word));
        return &a->buckets[word & (BUCKETS - 1)];
}

static void unlink_use(struct assertions *a, struct entry *e)
{
        *(e->newer ? &e->newer->older : &a->newest) = e->older;
        *(e->older ? &e->older->newer : &a->oldest) = e->newer;
}

static void link_use(struct assertions *a, struct entry *e)
{
        e->newer = NULL;
        e->older = a->newest;
        *(a->newest ? &a->newest->newer : &a->oldest) = e;
        a->newest = e;
}

static void entry_set(struct assertions *a, struct entry *e, struct credential *credential)
{
        a->counts.kept += credential != NULL;
        a->counts.kept -= e->credential != NULL;
        credential_unref(e->credential);
        e->credential = credential;
}

static void flight_end(struct flight *flight)
{
        struct assertions *a = flight->owner;

        flight->entry->flight = NULL;
        flight->entry = NULL;
        flight->next = a->spare;
        a->spare = flight;
        a->counts.running--;
}

static void entry_drop(struct assertions *a, struct entry *e)
{
        struct entry **link = bucket_of(a, e->digest);

        if (e->flight) {
                attempt_cancel(&e->flight->attempt);
                flight_end(e->flight);
        }
        while (*link != e)
                link = &(*link)->next;
        *link = e->next;
        unlink_use(a, e);
        entry_set(a, e, NULL);
        free(e->why);
        free(e);
        a->n_entries--;
}

/* The one that was used least recently, of those that nobody waits for. */
static void make_room(struct assertions *a)
{
        struct entry *e = a->oldest;

        while (e && e->flight)
                e = e->newer;
        if (e)
                entry_drop(a, e);
}

static struct entry *entry_of(struct assertions *a, unsigned index, const unsigned char *digest)
{
        struct entry **bucket = bucket_of(a, digest), *e = *bucket;

        while (e && (e->index != index || memcmp(e->digest, digest, sizeof(e->digest)) != 0))
                e = e->next;
        if (e) {
                unlink_use(a, e);
                link_use(a, e);
                return e;
        }
        if (a->n_entries >= ASSERTIONS_KEPT)
                make_room(a);
        e = take(1, sizeof(*e));
        e->index = index;
        memcpy(e->digest, digest, sizeof(e->digest));
        e->replaced_mono_ms = INT64_MIN;
        e->next = *bucket;
        *bucket = e;
        link_use(a, e);
        a->n_entries++;
        return e;
}

/* --- answers --- */

void assertion_answer(struct ask *ask, const struct assertion_result *result)
{
        struct assertion_ask *out = &ask->assertion;

        secret_drop(&out->token);
        out->credential = credential_ref(result->credential);
        if (result->credential)
                return;
        out->refusal = result->refusal;
        out->retry_after_s = (int)((result->wait_ms + 999) / 1000);
        snprintf(out->why, sizeof(out->why), "%s", result->why);
        snprintf(out->cause, sizeof(out->cause), "%s", result->cause ? result->cause : "");
        /* It quotes claims, and goes to a person. */
        for (char *c = out->why; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f)
                        *c = '?';
}

static struct assertion_result result_of(const struct entry *e)
{
        int64_t wait_ms = e->refused_until_mono_ms - clock_mono_ms();

        return (struct assertion_result){.index = e->index,
                .digest = e->digest,
                .credential = e->credential,
                .refusal = e->refusal,
                .wait_ms = wait_ms > 0 ? wait_ms : BUSY_MS,
                .why = e->why ? e->why : "",
                .cause = e->cause};
}

static enum source_answer say_no(
        struct ask *ask, enum assertion_refusal refusal, int64_t wait_ms, const char *why)
{
        const struct assertion_result result = {.refusal = refusal, .wait_ms = wait_ms, .why = why};

        assertion_answer(ask, &result);
        return SOURCE_NO;
}

/* --- the end of an exchange --- */

static void say_failing(struct assertions *a, const struct entry *e, bool failing)
{
        const struct config_credential *config = &a->config->credentials[e->index];
        struct whole *whole = &a->wholes[e->index];
        struct pair detail[] = {{STR("credential"), config->name},
                {STR("type"), config_credential_type_name(config->type)},
                {STR("reason"), str_of(e->why)}};

        if (whole->failing == failing)
                return;
        whole->failing = failing;
        a->hooks.event(a->hooks.owner,
                failing ? "credential.refresh_failed" : "credential.refresh_recovered", detail,
                failing ? 3 : 2);
}

static enum assertion_refusal refusal_of(const struct attempt *attempt, enum outcome_kind kind)
{
        if (entra_refuses_assertion(attempt->aadsts))
                return ASSERTION_REFUSED;
        return kind == OUTCOME_OPERATOR ? ASSERTION_MISCONFIGURED : ASSERTION_LATER;
}

static void failed(struct assertions *a, struct entry *e, enum assertion_refusal refusal,
        const struct outcome *outcome)
{
        const char *name = a->config->credentials[e->index].name.ptr;
        int64_t wait = REFUSED_MS, least = outcome->wait_least_ms;

        if (refusal == ASSERTION_LATER)
                wait = backoff_ms(e->failures, BACKOFF_MOST_MS);
        if (outcome->throttled)
                least = jitter_ms(THROTTLED_MS);
        if (least > WAIT_MOST_MS)
                least = WAIT_MOST_MS;
        /* It was said to this application, not to this caller. */
        if (least > 0 && refusal != ASSERTION_REFUSED)
                a->wholes[e->index].held_until_mono_ms = clock_mono_ms() + later_ms(least);
        if (least > wait)
                wait = least;
        e->failures++;
        e->refusal = refusal;
        e->refused_until_mono_ms = clock_mono_ms() + wait;
        free(e->why);
        e->why = str_dup(str_of(outcome->why->text));
        snprintf(e->cause, sizeof(e->cause), "%s", outcome->cause);
        a->counts.failed++;
        if (refusal == ASSERTION_REFUSED) {
                log_info("credential name=%s refused for a caller again_in_ms=%lld: %s", name,
                        (long long)wait, e->why);
        } else {
                log_error("credential name=%s failed for a caller again_in_ms=%lld: %s", name,
                        (long long)wait, e->why);
                say_failing(a, e, true);
        }
}

static int64_t margin_ms(int64_t life_ms)
{
        return life_ms / 10 < MARGIN_MOST_MS ? life_ms / 10 : MARGIN_MOST_MS;
}

/* Neither past its own end nor past that of the token it was obtained with. */
static int64_t until_of(const struct flight *flight, const struct outcome *outcome)
{
        int64_t until = outcome->asked_mono_ms + outcome->life_ms - margin_ms(outcome->life_ms);
        int64_t callers = clock_mono_ms() + flight->expires_s * 1000 - clock_wall_ms();

        return callers < until ? callers : until;
}

/* When the next one is to be asked for: never, if the caller's token ends no later than this one
 * does, as any other would end with it. */
static int64_t refresh_of(const struct flight *flight, const struct outcome *outcome, int64_t until)
{
        int64_t now = clock_mono_ms(), left = until - now;
        int64_t callers = now + flight->expires_s * 1000 - clock_wall_ms();
        int64_t refresh = outcome->refresh_ms >= 0 ? outcome->refresh_ms : left / 2;

        if (callers <= until)
                return INT64_MAX;
        if (refresh > left / 10 * 8)
                refresh = left / 10 * 8;
        return now + jitter_ms(refresh);
}

static void on_done(void *owner, const struct outcome *outcome)
{
        struct flight *flight = owner;
        struct assertions *a = flight->owner;
        struct entry *e = flight->entry;
        struct credential *fresh = NULL;
        enum assertion_refusal refusal = refusal_of(&flight->attempt, outcome->kind);
        struct error text;
        struct outcome useless = {.kind = OUTCOME_RETRY,
                .why = &text,
                .cause = "what Microsoft Entra gave cannot be used"};

        if (outcome->kind == OUTCOME_TOKEN) {
                int64_t until = until_of(flight, outcome);
                error_set(&text, "what was obtained is no token, or had ended when it came");
                if (until > clock_mono_ms())
                        fresh = credential_new(outcome->token, ++*a->generations, until);
                if (fresh)
                        fresh->refresh_mono_ms = refresh_of(flight, outcome, until);
                refusal = ASSERTION_LATER;
                if (!fresh)
                        outcome = &useless;
        }
        flight_end(flight);
        /* What was renewed ahead in vain is still good. */
        if (fresh || (e->credential && clock_mono_ms() >= e->credential->until_mono_ms))
                entry_set(a, e, fresh);
        if (fresh) {
                a->counts.obtained++;
                e->failures = 0;
                e->refused_until_mono_ms = 0;
                log_debug("credential name=%s obtained for a caller generation=%llu",
                        a->config->credentials[e->index].name.ptr,
                        (unsigned long long)fresh->generation);
                say_failing(a, e, false);
        } else {
                failed(a, e, refusal, outcome);
        }
        const struct assertion_result result = result_of(e);
        a->hooks.settled(a->hooks.owner, &result);
}

/* --- asks --- */

static void depart(struct assertions *a, struct entry *e, struct ask *ask)
{
        struct flight *flight = a->spare;

        if (flight)
                a->spare = flight->next;
        else
                flight = take(1, sizeof(*flight));
        memset(flight, 0, sizeof(*flight));
        flight->owner = a;
        flight->entry = e;
        flight->expires_s = ask->assertion.expires_s;
        flight->attempt = (struct attempt){.config = &a->config->credentials[e->index],
                .fetcher = a->fetcher,
                .memory = &flight->memory,
                .done = on_done,
                .owner = flight,
                .kept = ask->assertion.token};
        ask->assertion.token = (struct secret){0};
        (void)challenge_claims(ask->challenge, flight->memory.claims);
        e->flight = flight;
        a->counts.running++;
        attempt_start(&flight->attempt, BUDGET_MS);
}

/* Upstream has rejected what is held: at most once a minute it is given up for another one. */
static bool may_replace(struct assertions *a, struct entry *e)
{
        int64_t now = clock_mono_ms();

        if (e->replaced_mono_ms != INT64_MIN && now - e->replaced_mono_ms < REPLACE_LEAST_MS)
                return false;
        e->replaced_mono_ms = now;
        a->counts.replaced++;
        log_info("credential name=%s generation=%llu of a caller rejected by upstream, replacing "
                 "it",
                a->config->credentials[e->index].name.ptr,
                (unsigned long long)e->credential->generation);
        entry_set(a, e, NULL);
        return true;
}

static enum source_answer ask_entra(struct assertions *a, struct entry *e, struct ask *ask)
{
        int64_t now = clock_mono_ms(), held_ms = a->wholes[e->index].held_until_mono_ms - now;
        char alg[16];

        if (clock_wall_ms() / 1000 >= ask->assertion.expires_s)
                return say_no(ask, ASSERTION_EXPIRED, BUSY_MS, "the caller's token has expired");
        attempt_jwt_alg(secret_reveal(&ask->assertion.token), alg);
        if (strcmp(alg, "RS256") != 0) {
                char why[120];
                snprintf(why, sizeof(why),
                        "Entra takes tokens that are signed with RS256, and this one is signed "
                        "with %s",
                        alg);
                return say_no(ask, ASSERTION_REFUSED, REFUSED_MS, why);
        }
        if (held_ms > 0)
                return say_no(ask, ASSERTION_LATER, held_ms, "Entra asked for a pause");
        if (a->counts.running >= ASSERTIONS_AT_ONCE) {
                a->counts.busy++;
                return say_no(ask, ASSERTION_LATER, BUSY_MS,
                        "too many callers are being shown to Entra at once");
        }
        depart(a, e, ask);
        if (e->flight)
                return SOURCE_WAIT;
        const struct assertion_result result = result_of(e);
        assertion_answer(ask, &result);
        return result.credential ? SOURCE_NEWER : SOURCE_NO;
}

/* Those who have nothing yet come first: half of the exchanges is left to them. */
static enum source_answer renew_ahead(struct assertions *a, struct entry *e, struct ask *ask)
{
        int64_t left = e->refused_until_mono_ms - clock_mono_ms();

        if (e->flight)
                return SOURCE_WAIT;
        if (left > 0)
                return say_no(ask, ASSERTION_LATER, left, "it was tried a moment ago");
        if (a->counts.running >= ASSERTIONS_AT_ONCE / 2)
                return say_no(ask, ASSERTION_LATER, BUSY_MS, "others come first");
        return ask_entra(a, e, ask);
}

enum source_answer assertions_ask(struct assertions *a, struct ask *ask)
{
        struct entry *e = entry_of(a, ask->index, ask->assertion.digest);
        int64_t now = clock_mono_ms();
        enum source_answer answer = SOURCE_WAIT;

        if (e->credential && now >= e->credential->until_mono_ms)
                entry_set(a, e, NULL);
        bool current = e->credential && e->credential->generation == ask->seen;
        if (current && ask->assertion.ahead) {
                answer = renew_ahead(a, e, ask);
        } else if (current && !may_replace(a, e)) {
                answer = say_no(ask, ASSERTION_REJECTED, BUSY_MS,
                        "it was renewed a moment ago and is rejected again: is the caller's "
                        "service principal a member of the organization?");
        } else if (e->credential || (!e->flight && now < e->refused_until_mono_ms)) {
                const struct assertion_result result = result_of(e);
                assertion_answer(ask, &result);
                answer = result.credential ? SOURCE_NEWER : SOURCE_NO;
        } else if (!e->flight) {
                answer = ask_entra(a, e, ask);
        }
        secret_drop(&ask->assertion.token);
        return answer;
}

/* --- life --- */

static struct whole *wholes_of(const struct config *config)
{
        struct whole *wholes = take(config->n_credentials, sizeof(*wholes));

        for (size_t i = 0; i < config->n_credentials; i++)
                if (config->credentials[i].assertion_is_callers)
                        authorities_of_credential(&config->credentials[i], wholes[i].ca);
        return wholes;
}

struct assertions *assertions_new(const struct config *config, struct fetcher *fetcher,
        uint64_t *generations, const struct assertions_hooks *hooks)
{
        struct assertions *a = take(1, sizeof(*a));

        a->config = config;
        a->fetcher = fetcher;
        a->generations = generations;
        a->hooks = *hooks;
        a->wholes = wholes_of(config);
        return a;
}

void assertions_free(struct assertions *a)
{
        if (!a)
                return;
        while (a->newest)
                entry_drop(a, a->newest);
        while (a->spare) {
                struct flight *flight = a->spare;
                a->spare = flight->next;
                free(flight);
        }
        free(a->wholes);
        free(a);
}

/* The place in `config` of the credential that `old` is; false: it is there no more. */
static bool place_of(
        const struct config *config, const struct config_credential *old, unsigned *index)
{
        for (size_t i = 0; i < config->n_credentials; i++) {
                *index = (unsigned)i;
                if (config_credential_same(&config->credentials[i], old))
                        return true;
        }
        return false;
}

/* It is lent as before; the next request with its caller's token has another one asked for. */
static void make_due(struct assertions *a, struct entry *e)
{
        const struct credential *old = e->credential;
        struct credential *due =
                credential_new(credential_token(old), old->generation, old->until_mono_ms);

        if (due)
                due->refresh_mono_ms = 0;
        entry_set(a, e, due);
}

void assertions_reconfigure(struct assertions *a, const struct config *config)
{
        struct whole *wholes = wholes_of(config);

        for (struct entry *e = a->newest, *older; e; e = older) {
                unsigned index;
                older = e->older;
                if (e->flight || !e->credential ||
                        !place_of(config, &a->config->credentials[e->index], &index)) {
                        entry_drop(a, e);
                        continue;
                }
                struct whole *whole = &wholes[index]; /* nothing is held: people reload for that */
                whole->failing = a->wholes[e->index].failing;
                if (!authorities_same(&config->credentials[index], whole->ca,
                            &a->config->credentials[e->index], a->wholes[e->index].ca))
                        make_due(a, e);
                e->index = index;
        }
        free(a->wholes);
        a->wholes = wholes;
        a->config = config;
}

void assertions_count(const struct assertions *a, struct assertions_counts *counts)
{
        *counts = a->counts;
}
