#include "token_file.h"

#include <event2/event.h>
#include <stdlib.h>

#include "dagward/base/buf.h"
#include "dagward/base/clock.h"
#include "dagward/base/id.h"
#include "dagward/base/log.h"
#include "dagward/token/base64.h"
#include "renewal.h"

enum {
        BUDGET_MS = 9 * 1000,        /* below the bound in which asks are answered */
        DEMAND_BUDGET_MS = 4 * 1000, /* of a step, so that what needs it has time left */
        REFRESH_LEAST_MS = 1000,     /* an endpoint may hand out its old token to the end */
        REPLACE_LEAST_MS = 60 * 1000,
        HOUR_S = 3600,
};

static void source_attempt(struct token_source *source, bool again);

static const char *type_text(const struct token_source *source)
{
        return config_credential_type_name(source->config->type).ptr;
}

/* A file that holds the token itself: there is no asking for another one. */
static bool is_local(const struct token_source *source)
{
        return source->config->file.ptr != NULL;
}

static bool is_chain(const struct token_source *source)
{
        return source->config->type == CREDENTIAL_DEFAULT;
}

bool token_source_usable(const struct token_source *source)
{
        return source->credential && clock_mono_ms() < source->credential->until_mono_ms;
}

enum config_credential_type token_source_used(const struct token_source *source)
{
        return source->memory.chosen ? source->config->candidates[source->memory.candidate].type
                                     : source->config->type;
}

/* --- files --- */

static void stamps_take(
        const struct token_source *source, struct file_stamp stamps[CONFIG_CREDENTIAL_FILES])
{
        const struct str *files[CONFIG_CREDENTIAL_FILES];
        size_t n = config_credential_files(source->config, files);

        memset(stamps, 0, CONFIG_CREDENTIAL_FILES * sizeof(*stamps));
        for (size_t i = 0; i < n; i++)
                stamps[i] = file_stamp_of(files[i]->ptr);
}

static bool files_changed(const struct token_source *source)
{
        struct file_stamp now[CONFIG_CREDENTIAL_FILES];
        bool same = true;

        stamps_take(source, now);
        for (size_t i = 0; i < CONFIG_CREDENTIAL_FILES; i++)
                same = same && file_stamp_same(&now[i], &source->stamps[i]);
        return !same;
}

/* Files are looked at in between: a token's own always, others while they might be the cause. */
static void source_arm(struct token_source *source, int64_t wait_ms)
{
        bool look = is_local(source) || source->failures > 0;

        source->next_mono_ms = clock_mono_ms() + wait_ms;
        if (source->on_demand)
                return;
        if (look && wait_ms > SOURCE_FILE_POLL_MS)
                wait_ms = SOURCE_FILE_POLL_MS;
        struct timeval wait = {wait_ms / 1000, wait_ms % 1000 * 1000};
        event_add(&source->timer, &wait);
}

static void source_event(struct token_source *source, const char *name, const char *reason)
{
        struct pair detail[] = {
                {STR("credential"), source->config->name},
                {STR("type"), config_credential_type_name(source->config->type)},
                {STR("reason"), str_of(reason)},
        };

        source->hooks.event(source->hooks.owner, name, detail, reason ? 3 : 2);
}

/* --- the end of an attempt --- */

/* One who is told may need it again, at once. */
static void tell_needs(struct token_source *source, bool ok, const char *why)
{
        struct need *told = source->first_need;

        source->first_need = NULL;
        if (told)
                told->link = &told;
        while (told) {
                struct need *need = told;
                token_source_unneed(need);
                need->settled(need->owner, ok, why);
        }
}

static void source_settled(struct token_source *source, bool ok, const char *why)
{
        source->hooks.settled(source->hooks.owner, source->index, ok, why);
        tell_needs(source, ok, why);
}

/* Better one that some request was refused with than none at all. */
static void take_back_rejected(struct token_source *source)
{
        if (!source->rejected)
                return;
        if (clock_mono_ms() < source->rejected->until_mono_ms && !source->credential) {
                source->credential = credential_ref(source->rejected);
                source->hooks.changed(source->hooks.owner);
        }
        credential_unref(source->rejected);
        source->rejected = NULL;
}

/* Whoever takes away what is lent as it is does not want it to be used any more; nothing else would
 * end it before a restart. */
static void withdraw(struct token_source *source, const char *why)
{
        if (!source->credential && !source->rejected)
                return;
        credential_unref(source->credential);
        credential_unref(source->rejected);
        source->credential = source->rejected = NULL;
        log_error("credential name=%s withdrawn: %s", source->config->name.ptr, why);
        source_event(source, "credential.withdrawn", why);
        source->hooks.changed(source->hooks.owner);
}

static void withdraw_with_file(struct token_source *source)
{
        if (is_local(source) && token_file_is_gone(source))
                withdraw(source, "its file is gone");
}

/* A look at a vault, that failed or found nothing new, does not put off the renewal. */
static int64_t not_past_due_ms(const struct token_source *source, int64_t wait_ms)
{
        int64_t due_ms = source->memory.due_mono_ms - clock_mono_ms();

        return token_source_usable(source) && due_ms > 0 && due_ms < wait_ms ? due_ms : wait_ms;
}

static void source_failed(struct token_source *source, const struct outcome *outcome)
{
        int64_t wait_ms =
                not_past_due_ms(source, renewal_after_failure_ms(outcome, source->failures));

        source->n_failed++;
        source->last_error = *outcome->why;
        snprintf(source->last_cause, sizeof(source->last_cause), "%s", outcome->cause);
        if (source->config->type != CREDENTIAL_ISSUER) /* which is a step of one with that name */
                error_wrap(&source->last_error, "credential %s", source->config->name.ptr);
        withdraw_with_file(source);
        if (outcome->kind == OUTCOME_GONE)
                withdraw(source, "its secret was deleted or disabled, or has expired");
        take_back_rejected(source);
        log_error("credential name=%s failed usable=%s again_in_ms=%lld: %s",
                source->config->name.ptr, token_source_usable(source) ? "yes" : "no",
                (long long)wait_ms, source->last_error.text);
        if (source->failures == 0)
                source->failing_wall_ms = clock_wall_ms();
        if (source->failures++ == 0)
                source_event(source, "credential.refresh_failed", source->last_error.text);
        source_arm(source, wait_ms);
        struct error why = source->last_error; /* who is told may start the next attempt */
        source_settled(source, false, why.text);
}

/* NULL: it cannot stand in a header. */
static struct credential *credential_of(
        struct token_source *source, const struct outcome *outcome, int64_t until_mono_ms)
{
        struct credential *fresh = NULL;
        struct buf plain, encoded;
        bool printable = true;

        if (!outcome->is_pat)
                return credential_new(outcome->token, ++*source->generations, until_mono_ms);
        for (size_t i = 0; i < outcome->token.len; i++)
                printable =
                        printable && outcome->token.ptr[i] > ' ' && outcome->token.ptr[i] <= '~';
        /* The user is empty, as Azure DevOps ignores it. */
        buf_init(&plain, 128 * 1024);
        buf_reserve(&plain, outcome->token.len + 1);
        buf_char(&plain, ':');
        buf_str_add(&plain, outcome->token);
        buf_init(&encoded, 256 * 1024);
        buf_reserve(&encoded, (plain.len + 2) / 3 * 4);
        base64_write(&encoded, plain.data, plain.len);
        if (printable && !plain.overflow && !encoded.overflow)
                fresh = credential_new_basic(
                        buf_str(&encoded), ++*source->generations, until_mono_ms);
        secret_wipe(plain.data, plain.len);
        secret_wipe(encoded.data, encoded.len);
        buf_clear(&plain);
        buf_clear(&encoded);
        return fresh;
}

/* Which of the candidates it is from now on. */
static void note_chosen(struct token_source *source)
{
        if (!is_chain(source) || source->memory.chosen)
                return;
        source->memory.chosen = true;
        const char *used = config_credential_type_name(token_source_used(source)).ptr;
        log_info("credential name=%s type=default uses=%s", source->config->name.ptr, used);
        source_event(source, "credential.chosen", used);
}

/* The very token that is there already: a file that did not change, an endpoint that keeps its
 * tokens. Nothing is published; false if its end has moved by more than clocks and rounding do. */
static bool is_confirmed(struct token_source *source, const struct credential *fresh)
{
        struct credential *old = source->credential ? source->credential : source->rejected;
        int64_t moved;

        if (!old || !credential_same(old, fresh) || clock_mono_ms() >= old->until_mono_ms)
                return false;
        if (!source->credential)
                return true; /* rejected, and there is no other one */
        if (old->until_mono_ms == INT64_MAX || fresh->until_mono_ms == INT64_MAX)
                return old->until_mono_ms == fresh->until_mono_ms;
        moved = old->until_mono_ms - fresh->until_mono_ms;
        return moved < 5000 && moved > -5000;
}

static void source_recovered(struct token_source *source)
{
        if (source->failures)
                source_event(source, "credential.refresh_recovered", NULL);
        source->failures = 0;
}

/* What was obtained is what there was already. */
static void source_confirmed(struct token_source *source, int64_t refresh_ms)
{
        bool rejected = source->rejected != NULL;

        take_back_rejected(source);
        source_arm(source, refresh_ms > REFRESH_LEAST_MS ? refresh_ms : (int64_t)REFRESH_LEAST_MS);
        /* Trying the same again would be refused again. */
        source_settled(
                source, !rejected, rejected ? "there is no other token than the rejected one" : "");
}

static void source_renewed(
        struct token_source *source, struct credential *fresh, int64_t refresh_ms)
{
        struct credential *old = source->credential;

        source->n_obtained++;
        source->obtained_mono_ms = clock_mono_ms();
        source->credential = fresh;
        credential_unref(source->rejected);
        source->rejected = NULL;
        log_info("credential name=%s type=%s generation=%llu refresh_in_s=%lld",
                source->config->name.ptr, type_text(source), (unsigned long long)fresh->generation,
                (long long)refresh_ms / 1000);
        source->hooks.changed(source->hooks.owner);
        credential_unref(old);
        source_arm(source, refresh_ms);
        source_settled(source, true, "");
}

static void source_useless(struct token_source *source, const char *why)
{
        struct error text;
        struct outcome failed = {.kind = is_local(source) ? OUTCOME_OPERATOR : OUTCOME_RETRY,
                .why = &text,
                .cause = "what was obtained cannot be used"};

        error_set(&text, "%s", why);
        source_failed(source, &failed);
}

static void source_succeeded(struct token_source *source, const struct outcome *outcome)
{
        const struct config_credential *config = source->config;
        int64_t until = INT64_MAX;

        if (outcome->life_ms != INT64_MAX)
                until = outcome->asked_mono_ms + outcome->life_ms -
                        renewal_margin_ms(outcome->life_ms);
        if (until <= clock_mono_ms()) {
                source_useless(source, "the token had ended when it came");
                return;
        }
        struct credential *fresh = credential_of(source, outcome, until);
        if (!fresh) {
                source_useless(
                        source, "what was obtained cannot stand in a header: it is no token");
                return;
        }
        source->gone_mono_ms = INT64_MAX;
        if (is_local(source))
                fresh = token_file_not_longer(source, fresh);
        if (fresh->until_mono_ms <= clock_mono_ms()) {
                credential_unref(fresh);
                source_useless(source, "the token has ended, though the clock was set back");
                return;
        }
        int64_t refresh_ms = renewal_after_token_ms(outcome, is_local(source));
        memcpy(source->token_ca, source->asked_ca, sizeof(source->token_ca));
        memcpy(source->memory.version, source->attempt.version, sizeof(source->memory.version));
        source->memory.due_mono_ms = clock_mono_ms() + refresh_ms;
        if (config->type == CREDENTIAL_KEY_VAULT_SECRET && refresh_ms > config->poll_ms)
                refresh_ms = config->poll_ms;
        note_chosen(source);
        source_recovered(source);
        if (is_confirmed(source, fresh)) {
                credential_unref(fresh);
                source_confirmed(source, refresh_ms);
        } else {
                source_renewed(source, fresh, refresh_ms);
        }
}

/* The next candidate, when this one does not exist here; false: there is none. */
static bool next_candidate(struct token_source *source, const struct outcome *outcome)
{
        struct memory *memory = &source->memory;

        if (!is_chain(source) || memory->chosen || outcome->kind != OUTCOME_ABSENT ||
                memory->candidate + 1 >= source->config->n_candidates)
                return false;
        log_info("credential name=%s type=default not=%s: %s", source->config->name.ptr,
                config_credential_type_name(source->attempt.config->type).ptr, outcome->why->text);
        memory->candidate++;
        source->attempt.config = source->config;
        attempt_start(&source->attempt, BUDGET_MS);
        return true;
}

static void on_done(void *owner, const struct outcome *outcome)
{
        struct token_source *source = owner;
        struct error named;
        struct outcome failed = *outcome;

        switch (outcome->kind) {
        case OUTCOME_TOKEN: source_succeeded(source, outcome); return;
        case OUTCOME_SAME:
                source_recovered(source);
                if (!token_source_usable(source)) { /* rejected since it was asked */
                        source_attempt(source, true);
                        return;
                }
                source_arm(source, not_past_due_ms(source, outcome->refresh_ms));
                source_settled(source, true, "");
                return;
        case OUTCOME_RETRY:
        case OUTCOME_OPERATOR:
        case OUTCOME_GONE:
        case OUTCOME_ABSENT: break;
        }
        if (next_candidate(source, outcome))
                return;
        if (is_chain(source)) {
                named = *outcome->why;
                error_wrap(&named, "%s",
                        config_credential_type_name(source->attempt.config->type).ptr);
                failed.why = &named;
        }
        source_failed(source, &failed);
}

/* --- attempts --- */

static void source_attempt(struct token_source *source, bool again)
{
        struct attempt *attempt = &source->attempt;

        if (attempt->running)
                return;
        event_del(&source->timer);
        stamps_take(source, source->stamps);
        authorities_of_credential(source->config, source->asked_ca);
        attempt->config = source->config;
        attempt->again = again || !token_source_usable(source);
        if (!source->memory.chosen)
                source->memory.candidate = 0;
        attempt_start(attempt, source->on_demand ? DEMAND_BUDGET_MS : BUDGET_MS);
}

static void on_source_timer(evutil_socket_t fd, short what, void *arg)
{
        struct token_source *source = arg;
        int64_t left = source->next_mono_ms - clock_mono_ms();

        (void)fd;
        (void)what;
        if (left > 0 && !files_changed(source)) {
                withdraw_with_file(source);
                source_arm(source, left);
        } else {
                source_attempt(source, left > 0);
        }
}

int64_t token_source_wait_ms(const struct token_source *source)
{
        int64_t left = source->next_mono_ms - clock_mono_ms();

        return source->failures && left > 0 ? left : 0;
}

/* Whether an attempt now would only repeat what has just failed. */
static bool is_backed_off(const struct token_source *source)
{
        return token_source_wait_ms(source) > 0 && !files_changed(source);
}

void token_source_doubt(struct token_source *source)
{
        if (!source->on_demand && !is_local(source) && !is_backed_off(source))
                source_attempt(source, true);
}

/* --- asks --- */

enum source_answer token_source_ask(struct token_source *source, uint64_t seen, struct error *why)
{
        /* Whoever asks lends it: from now on it is kept fresh like the others. */
        source->on_demand = false;
        if (token_source_usable(source) && source->credential->generation != seen)
                return SOURCE_NEWER;
        if (source->attempt.running)
                return SOURCE_WAIT;
        if (is_backed_off(source)) {
                *why = source->last_error;
                return SOURCE_NO;
        }
        source_attempt(source, true);
        if (source->attempt.running)
                return SOURCE_WAIT;
        if (token_source_usable(source) && source->credential->generation != seen)
                return SOURCE_NEWER; /* a file: read at once */
        if (source->failures)
                *why = source->last_error;
        else
                error_set(why, "credential %s: there is no other token than the one known",
                        source->config->name.ptr);
        return SOURCE_NO;
}

enum source_answer token_source_replace(
        struct token_source *source, uint64_t seen, const char *challenge, struct error *why)
{
        int64_t now = clock_mono_ms();

        if (!source->credential || source->credential->generation != seen)
                return token_source_ask(source, seen, why);
        if (source->replaced_mono_ms != INT64_MIN &&
                now - source->replaced_mono_ms < REPLACE_LEAST_MS) {
                error_set(why,
                        "credential %s was renewed %lld s ago and is rejected again: is its "
                        "service "
                        "principal a member of the organization?",
                        source->config->name.ptr,
                        (long long)(now - source->replaced_mono_ms) / 1000);
                return SOURCE_NO;
        }
        if (!source->attempt.running && is_backed_off(source)) {
                *why = source->last_error;
                return SOURCE_NO;
        }
        if (challenge_claims(challenge, source->memory.claims))
                log_info("credential name=%s upstream wants it evaluated anew",
                        source->config->name.ptr);
        source->replaced_mono_ms = now;
        source->n_replaced++;
        log_error("credential name=%s generation=%llu rejected by upstream, replacing it",
                source->config->name.ptr, (unsigned long long)seen);
        source_event(source, "credential.replaced", "upstream rejected it");
        if (!is_local(source)) {
                source->rejected = source->credential;
                source->credential = NULL;
                source->hooks.changed(source->hooks.owner);
        }
        return token_source_ask(source, seen, why);
}

/* --- between sources --- */

enum source_answer token_source_need(
        struct token_source *source, struct need *need, struct error *why)
{
        bool due = clock_mono_ms() >= source->next_mono_ms;

        if (token_source_usable(source)) {
                if (due && !is_backed_off(source))
                        source_attempt(source, false);
                return SOURCE_NEWER;
        }
        if (is_backed_off(source)) {
                *why = source->last_error;
                return SOURCE_NO;
        }
        source_attempt(source, true);
        if (!source->attempt.running) {
                if (token_source_usable(source))
                        return SOURCE_NEWER;
                *why = source->last_error;
                return SOURCE_NO;
        }
        need->next = source->first_need;
        need->link = &source->first_need;
        if (need->next)
                need->next->link = &need->next;
        source->first_need = need;
        return SOURCE_WAIT;
}

void token_source_unneed(struct need *need)
{
        if (!need->link)
                return;
        *need->link = need->next;
        if (need->next)
                need->next->link = need->link;
        need->link = NULL;
}

const char *token_source_cause(const struct token_source *source)
{
        static _Thread_local char text[240];
        char since[CLOCK_RFC3339_LEN + 1];

        if (!source->failures)
                return "";
        clock_rfc3339(source->failing_wall_ms, since);
        /* of a chain, what a source before this one says has its time already */
        bool has_since = strstr(source->last_cause, " since ") != NULL;
        snprintf(text, sizeof(text), has_since ? "%s" : "%s, since %.10s %.5s UTC",
                source->last_cause, since, since + 11);
        return text;
}

struct str token_source_token(const struct token_source *source)
{
        return source->credential ? credential_token(source->credential) : STR_NONE;
}

void token_source_reject(struct token_source *source)
{
        int64_t now = clock_mono_ms();

        if (!source->credential || (source->replaced_mono_ms != INT64_MIN &&
                                           now - source->replaced_mono_ms < REPLACE_LEAST_MS))
                return;
        source->replaced_mono_ms = now;
        source->n_replaced++;
        credential_unref(source->credential);
        source->credential = NULL;
        source->hooks.changed(source->hooks.owner);
}

void token_source_depend(struct token_source *source, struct token_source *other)
{
        source->attempt.other = other;
}

/* --- life --- */

static void say_emergency(struct token_source *source)
{
        log_error("credential name=%s type=%s EMERGENCY: something long-lived that is lent as it "
                  "is; nobody renews or bounds it: replace it by a federated or managed identity",
                source->config->name.ptr, type_text(source));
}

static void on_hour(evutil_socket_t fd, short what, void *arg)
{
        struct timeval hour = {HOUR_S, 0};
        struct token_source *source = arg;

        (void)fd;
        (void)what;
        say_emergency(source);
        event_add(&source->hourly, &hour);
}

struct token_source *token_source_new(const struct config_credential *config, unsigned index,
        struct event_base *base, struct fetcher *fetcher, uint64_t *generations,
        const struct source_hooks *hooks)
{
        struct token_source *source = calloc(1, sizeof(*source));

        if (!source)
                abort();
        source->config = config;
        source->index = index;
        source->base = base;
        source->generations = generations;
        source->hooks = *hooks;
        source->on_demand = config->on_demand;
        source->replaced_mono_ms = INT64_MIN;
        source->gone_mono_ms = INT64_MAX;
        source->attempt.fetcher = fetcher;
        source->attempt.memory = &source->memory;
        source->attempt.done = on_done;
        source->attempt.owner = source;
        evtimer_assign(&source->timer, base, on_source_timer, source);
        evtimer_assign(&source->hourly, base, on_hour, source);
        return source;
}

void token_source_free(struct token_source *source)
{
        if (!source)
                return;
        attempt_cancel(&source->attempt);
        event_del(&source->timer);
        event_del(&source->hourly);
        credential_unref(source->credential);
        credential_unref(source->first_seen);
        credential_unref(source->rejected);
        free(source);
}

void token_source_adopt(struct token_source *source, const struct token_source *old)
{
        char now[AUTHORITIES_DIGEST];

        if (!config_credential_same(source->config, old->config))
                return;
        authorities_of_credential(source->config, now);
        bool same_ca = authorities_same(source->config, now, old->config, old->token_ca);
        source->credential = old->credential ? credential_ref(old->credential) : NULL;
        source->rejected = old->rejected ? credential_ref(old->rejected) : NULL;
        source->first_seen = old->first_seen ? credential_ref(old->first_seen) : NULL;
        source->obtained_mono_ms = old->obtained_mono_ms;
        source->gone_mono_ms = old->gone_mono_ms;
        source->replaced_mono_ms = old->replaced_mono_ms;
        /* What did not work may work now: that is what people reload for. */
        source->next_mono_ms = old->failures || !same_ca ? 0 : old->next_mono_ms;
        int64_t look_mono_ms = clock_mono_ms() + source->config->poll_ms;
        if (source->config->type == CREDENTIAL_KEY_VAULT_SECRET &&
                source->next_mono_ms > look_mono_ms)
                source->next_mono_ms = look_mono_ms; /* `poll` is another one now */
        memcpy(source->token_ca, old->token_ca, sizeof(source->token_ca));
        if (source->credential && !same_ca)
                log_info("credential name=%s asked for anew: other authorities vouch for where it "
                         "comes from",
                        source->config->name.ptr);
        source->memory = old->memory;
        source->on_demand = source->on_demand && old->on_demand;
        source->n_obtained = old->n_obtained;
        source->n_failed = old->n_failed;
        source->n_replaced = old->n_replaced;
}

void token_source_start(struct token_source *source)
{
        int64_t left = source->next_mono_ms - clock_mono_ms();

        if (config_credential_is_emergency(source->config)) {
                on_hour(-1, 0, source);
                source_event(source, "credential.emergency", "lent as it is, from a file or vault");
        }
        if (source->on_demand)
                return;
        /* A reload does not make every credential ask for a new token. */
        if (source->credential && left > 0 && !is_local(source))
                source_arm(source, left);
        else
                source_attempt(source, true);
}
