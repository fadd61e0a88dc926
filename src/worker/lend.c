/*
 * lend: a credential that is the caller's own (`assertion: caller`).
 *
 * Found by the digest of the token that was just verified, in this worker's cache; else control is
 * asked, with the token, and its answer comes by mail into the cache, whoever still waits. Two
 * callers never share one: what is found under a digest was obtained with that token.
 */
#include "inside.h"
#include "lent.h"

enum {
        LENT_MOST = 1024, /* callers a worker remembers */
        ASKS_MOST = 4,    /* of one request: a reload and a rejection may each cost one */
};

const char lend_rejected_text[] =
        "Azure DevOps does not accept the identity that Entra ID has for you; is its service "
        "principal a member of the organization?";

bool lend_is_callers(const struct world *world, unsigned index)
{
        return index < world->config->n_credentials &&
               world->config->credentials[index].assertion_is_callers;
}

void lend_answered(struct worker *worker, struct exchange *x, struct ask *ask)
{
        struct assertion_ask *answer = &ask->assertion;

        if (answer->credential && ask->world_reload == worker->lease->world->reload)
                lent_put(worker->lent, answer->digest, ask->index, answer->credential);
        worker->metrics.lent_held = lent_held(worker->lent);
        credential_unref(answer->credential);
        secret_drop(&answer->token);
        if (!x)
                return;
        x->lend_refused = !ask->ok;
        x->lend_refusal = answer->refusal;
        x->refusal.retry_after_s = ask->ok ? 0 : answer->retry_after_s;
        x->lend_why = x->lend_cause = STR_NONE;
        if (ask->ok)
                return;
        x->lend_why = arena_copy(&x->arena, str_of(answer->why[0] ? answer->why : ask->why));
        x->lend_cause = arena_copy(&x->arena, str_of(answer->cause));
}

/* Whose turn it is to do something: the caller's and Entra's records (403), the operator's (502),
 * or nobody's (503). */
static enum next refuse_lending(struct exchange *x)
{
        enum assertion_refusal refusal = x->lend_refused ? x->lend_refusal : ASSERTION_LATER;
        int after_s = x->refusal.retry_after_s;

        log_info("correlation=%s credential=%.*s none to lend to this caller: %.*s",
                x->correlation_id, STR_FMT(x->decision.credential), STR_FMT(x->lend_why));
        x->refusal.retry_after_s = 0;
        switch (refusal) {
        case ASSERTION_EXPIRED: return identify_ended(x);
        case ASSERTION_REFUSED:
                x->refusal.retry_after_s = after_s;
                return refuse(x, 403, REFUSED_NO_CREDENTIAL,
                        "Entra ID does not take your token, and you have no identity at Azure "
                        "DevOps without it: %.*s",
                        STR_FMT(x->lend_why));
        case ASSERTION_REJECTED:
                return refuse(x, 502, REFUSED_UPSTREAM_CREDENTIAL, "%s", lend_rejected_text);
        case ASSERTION_MISCONFIGURED:
                x->refusal.retry_after_s = after_s;
                return refuse(x, 502, REFUSED_NO_CREDENTIAL,
                        "Entra ID gives tokens to none of this proxy's callers%s%.*s; the proxy's "
                        "operators have to look at it, nothing is wrong with your token",
                        x->lend_cause.len ? ": " : "", STR_FMT(x->lend_cause));
        case ASSERTION_LATER: break;
        }
        x->refusal.retry_after_s = after_s > 0 ? after_s : 1;
        return refuse(x, 503, REFUSED_NO_CREDENTIAL,
                "your identity at Azure DevOps cannot be had from Entra ID at the moment%s%.*s; "
                "try again",
                x->lend_cause.len ? ": " : "", STR_FMT(x->lend_cause));
}

enum next lend_to_caller(struct exchange *x, unsigned index)
{
        struct worker *worker = x->worker;
        struct credential *credential;
        uint64_t rejected = 0;

        if (clock_wall_ms() >= x->caller->expires_s * 1000)
                return identify_ended(x);
        if (!worker->lent)
                worker->lent = lent_new(LENT_MOST);
        if (!x->lend_asks)
                token_digest(x->token, x->token_digest);
        /* It was lent before, to find out about a run that may have been started. */
        if (x->credential && !x->replaced_credential &&
                worker->now_ms < x->credential->until_mono_ms)
                return NEXT;
        if (x->credential) {
                rejected = x->replaced_credential ? x->credential->generation : 0;
                credential_unref(x->credential);
                x->credential = NULL;
                x->lend_refused = false;
                lent_forget(worker->lent, x->token_digest, index, rejected);
        }
        credential = lent_find(worker->lent, x->token_digest, index, worker->now_ms);
        if (credential) {
                worker->metrics.lent_hits += x->lend_asks == 0;
                x->credential = credential_ref(credential);
                x->credential_is_callers = true;
                x->credential_type =
                        arena_copy(&x->arena, worker->lease->world->credentials->slots[index].type);
                x->refusal.retry_after_s = 0;
                /* It is good; the next one is asked for meanwhile, and nobody waits for that. */
                if (worker->now_ms >= credential->refresh_mono_ms &&
                        lent_is_due(worker->lent, x->token_digest, index, worker->now_ms))
                        ask_assertion_ahead(x, index, credential->generation);
                return NEXT;
        }
        if (x->lend_refused || x->lend_asks >= ASKS_MOST)
                return refuse_lending(x);
        worker->metrics.lent_misses++;
        x->lend_asks++;
        return ask_assertion(x, index, rejected);
}
