/* Azure Key Vault: how it is asked, and the credential whose secret lies there. */
#include "attempt.h"
#include "challenge.h"
#include "dagward/base/buf.h"
#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "token_source.h"
#include "vault_answer.h"

#define API_VERSION "7.5"

/* Tenant and resource are the configuration's: a challenge never decides for whom a token is. */
void vault_ask(struct attempt *a, const struct config_url *vault, const char *path, struct str body,
        attempt_answer *then)
{
        const struct config_url *to = &a->config->vault_endpoint;
        struct secret bearer = {0};
        struct buf url;

        buf_init(&url, 4096);
        if (to->text.ptr)
                buf_str_add(&url, to->text);
        else
                buf_printf(&url, "https://%.*s", STR_FMT(vault->host));
        buf_printf(&url, "%s?api-version=" API_VERSION, path);
        buf_char(&url, '\0');
        secret_set(&bearer, token_source_token(a->other));
        snprintf(a->vault, sizeof(a->vault), "%.*s", STR_FMT(vault->host));
        a->asked = "the key vault";
        struct fetch_request request = {
                .url = url.data,
                .body = body,
                .content_type = body.ptr ? "application/json" : NULL,
                .bearer = &bearer,
                .ca = a->config->ca.ptr,
                .allow_plain_loopback = to->text.ptr && !to->https,
        };
        attempt_fetch(a, &request, then);
        secret_drop(&bearer);
        buf_clear(&url);
}

static const char *asked_for(enum vault_kind kind)
{
        switch (kind) {
        case VAULT_SECRET: return "secret";
        case VAULT_CERTIFICATE: return "certificate";
        case VAULT_KEY: return "key";
        case VAULT_SIGNATURE: return "signature";
        }
        return "";
}

/* What the vault would rather have: worth more than a guess. */
static void say_challenge(struct str challenge, struct error *why)
{
        char authorization[160], error[40];
        size_t len = strlen(why->text);

        if (challenge_param(challenge, STR("Bearer"), STR("error"), error, sizeof(error)) &&
                strcmp(error, "insufficient_claims") == 0)
                snprintf(why->text + len, sizeof(why->text) - len,
                        "; it wants one that was evaluated anew");
        else if (challenge_param(challenge, STR("Bearer"), STR("authorization"), authorization,
                         sizeof(authorization)))
                snprintf(why->text + len, sizeof(why->text) - len,
                        "; it wants one of %s: is that its tenant?", authorization);
}

bool vault_answered(struct attempt *a, enum vault_kind kind, const struct fetch_result *result,
        struct vault_answer *answer)
{
        enum outcome_kind outcome = OUTCOME_RETRY;

        if (result->answered) {
                vault_answer_read(kind, result->status, result->content_type, result->body, answer);
        } else {
                *answer = (struct vault_answer){.verdict = VAULT_RETRY, .why = result->error};
        }
        switch (answer->verdict) {
        case VAULT_GOOD: return true;
        case VAULT_RETRY: break;
        case VAULT_OPERATOR: outcome = OUTCOME_OPERATOR; break;
        case VAULT_GONE:
                /* A token that was obtained with it runs to its end. */
                outcome = a->config->holds == HOLDS_PAT ? OUTCOME_GONE : OUTCOME_OPERATOR;
                break;
        case VAULT_REJECTED:
                say_challenge(result->challenge, &answer->why);
                token_source_reject(a->other);
                break;
        }
        a->step = NULL;
        error_wrap(&answer->why, "%s from the key vault %s", asked_for(kind), a->vault);
        attempt_fail_answer(a, outcome, result, &answer->why);
        return false;
}

/* --- key_vault_secret --- */

/* Whether a token is wanted even if the secret is the one that is known. */
static bool is_due(const struct attempt *a)
{
        return a->again || clock_mono_ms() >= a->memory->due_mono_ms;
}

static void on_old_secret(struct attempt *a, const struct fetch_result *result)
{
        struct vault_answer answer;

        if (!vault_answered(a, VAULT_SECRET, result, &answer))
                return;
        entra_ask(a, PROOF_SECRET, secret_reveal(&answer.value));
        secret_drop(&answer.value);
}

/* Entra does not take the newest version: it may know it in a moment, or never. The one that worked
 * last is used as long as a token is wanted. */
static void on_refused(struct attempt *a, const struct error *why)
{
        const struct config_url *url = &a->config->key_vault_secret;
        struct error text = *why;
        struct str name;
        char path[320];

        error_wrap(&text, "version %.40s of the secret", a->version[0] ? a->version : "?");
        if (!a->memory->version[0] || strcmp(a->memory->version, a->version) == 0 || !is_due(a)) {
                attempt_fail(a, OUTCOME_OPERATOR, &text);
                return;
        }
        log_error("credential name=%s: %s: the version before is used", a->config->name.ptr,
                text.text);
        snprintf(a->version, sizeof(a->version), "%s", a->memory->version);
        (void)str_cut(str_from(url->path, 9), '/', &name);
        snprintf(path, sizeof(path), "/secrets/%.*s/%s", STR_FMT(name), a->version);
        vault_ask(a, url, path, STR_NONE, on_old_secret);
}

static void take_secret(struct attempt *a, const struct vault_answer *answer)
{
        const struct config_credential *c = a->config;
        int64_t life_ms = INT64_MAX;

        snprintf(a->version, sizeof(a->version), "%s", answer->version);
        a->memory->proof_until_s = answer->until_s;
        if (c->holds == HOLDS_PAT) {
                /* Expired secrets are still given out. */
                if (answer->until_s)
                        life_ms = answer->until_s * 1000 - clock_wall_ms();
                if (life_ms > 0)
                        attempt_pat(a, secret_reveal(&answer->value), life_ms, c->poll_ms);
                else
                        attempt_failf(a, OUTCOME_GONE,
                                "the secret in the key vault %s has expired: put a new one there",
                                a->vault);
        } else if (!is_due(a) && answer->version[0] &&
                   strcmp(a->memory->version, answer->version) == 0) {
                attempt_same(a, c->poll_ms);
        } else {
                entra_ask_or(a, PROOF_SECRET, secret_reveal(&answer->value), on_refused);
        }
}

static void on_secret(struct attempt *a, const struct fetch_result *result)
{
        struct vault_answer answer;

        if (!vault_answered(a, VAULT_SECRET, result, &answer))
                return;
        take_secret(a, &answer);
        secret_drop(&answer.value);
}

static void on_vault_token(struct attempt *a)
{
        const struct config_url *url = &a->config->key_vault_secret;

        vault_ask(a, url, url->path.ptr, STR_NONE, on_secret);
}

void way_key_vault_secret(struct attempt *a)
{
        attempt_need(a, "token for the key vault", on_vault_token);
}
