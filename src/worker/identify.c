/*
 * identify: from the fields of a head to the caller whose token is in one of them.
 *
 * A token that was verified before is found among the verdicts; any other costs a signature, and
 * those whose tokens turn out to be worthless wait for that (forgers.c). A key that is not known
 * yet is asked for once.
 */
#include "inside.h"

enum {
        TURN_MS = 5000,   /* how long a token waits to be looked at */
        KEYS_AFTER_S = 5, /* when to come again for keys that cannot be had */
};

static enum next refuse_token(struct exchange *x, enum refusal kind, const char *text)
{
        x->refusal.challenge = true;
        return refuse(x, 401, kind, "%s", text);
}

enum next identify_ended(struct exchange *x)
{
        return refuse_token(x, REFUSED_BAD_TOKEN, token_verdict_text(TOKEN_EXPIRED));
}

static enum next find_token(struct exchange *x, struct str *token)
{
        enum { MOST = 4 };
        struct str authorization[MOST], ours[MOST];
        size_t n = h1_field_values(&x->request, H1_AUTHORIZATION, authorization, MOST);
        size_t n_ours = h1_field_values(&x->request, H1_X_DAGWARD_TOKEN, ours, MOST);

        switch (carrier_find(authorization, n < MOST ? n : MOST, ours,
                n_ours < MOST ? n_ours : MOST, &x->arena, token, &x->via, &x->claimed_user)) {
        case CARRIER_TOKEN: break;
        case CARRIER_NONE:
                x->worker->metrics.challenges++;
                return refuse_token(x, REFUSED_NO_TOKEN,
                        "no token: send your OIDC token as Bearer, or as the password of Basic");
        case CARRIER_PAT: return refuse_token(x, REFUSED_PAT, token_verdict_text(TOKEN_PAT));
        case CARRIER_SEVERAL:
                return refuse(x, 400, REFUSED_MALFORMED,
                        "more than one credential: send the token in exactly one place");
        case CARRIER_BAD:
                return refuse(x, 400, REFUSED_MALFORMED,
                        "the credential cannot be read as what its scheme promises");
        case CARRIER_LARGE: return refuse(x, 431, REFUSED_TOO_LARGE, "the token is too large");
        }
        if (token->len > x->world->config->limits.token_bytes)
                return refuse(x, 431, REFUSED_TOO_LARGE, "the token is too large");
        return NEXT;
}

/* The keys, or all that was loaded, may be newer than what this exchange began with, at the first
 * byte of its head: whoever is slow with that gets no older rights. Nothing else was used of it
 * yet. */
static void use_newest_world(struct exchange *x)
{
        if (x->lease == x->worker->lease)
                return;
        lease_return(x->lease);
        x->lease = lease_take(x->worker);
        x->world = x->lease->world;
}

/* Others first. Nothing is read meanwhile. */
static enum next wait_turn(struct exchange *x)
{
        if (x->waits != WAIT_TURN)
                exchange_wait(x, WAIT_TURN, TURN_MS);
        stream_listen(&x->client->stream, false);
        forgers_wait(x);
        return PENDING;
}

static enum next verify(struct exchange *x, struct str token)
{
        struct world *world = x->world;
        size_t n = world->config->n_issuers;
        int64_t now_s = x->worker->wall_ms / 1000;
        unsigned issuer = 0;
        struct error why;
        const struct verdicts_now now = {now_s, x->worker->now_ms};
        bool ended;

        error_none(&why);
        x->caller = verdicts_find(
                x->worker->verdicts, token, world->issuers, n, world->reload, &now, &ended);
        if (ended)
                return identify_ended(x);
        if (x->caller) {
                x->worker->metrics.verdict_hits++;
                return NEXT;
        }
        if (forger_must_wait(x))
                return wait_turn(x);
        x->worker->metrics.verdict_misses++;
        int64_t began_us = clock_thread_us();
        enum token_verdict verdict =
                token_verify(token, world->issuers, n, now_s, &x->caller, &issuer, &why);
        if (verdict != TOKEN_OK)
                forger_charge(x, clock_thread_us() - began_us);
        if (verdict == TOKEN_OK) {
                verdicts_put(x->worker->verdicts, token, x->caller, world->issuers, n,
                        world->reload, &now);
                return NEXT;
        }
        bool keys_missing = verdict == TOKEN_UNKNOWN_KID || verdict == TOKEN_NO_KEYS;
        if (keys_missing && !x->asked_keys)
                return ask_keys(x, issuer);
        if (verdict == TOKEN_NO_KEYS || (keys_missing && x->issuer_unheard)) {
                x->refusal.retry_after_s = KEYS_AFTER_S;
                return refuse(x, 503, REFUSED_BAD_TOKEN,
                        "the keys of your token's issuer cannot be had at the moment");
        }
        log_debug("correlation=%s token=%s %s", x->correlation_id, token_verdict_name(verdict),
                why.text);
        return refuse_token(x, REFUSED_BAD_TOKEN, token_verdict_text(verdict));
}

enum next identify(struct exchange *x)
{
        struct str token = STR_NONE;

        use_newest_world(x);
        enum next next = find_token(x, &token);
        if (next == NEXT)
                next = verify(x, token);
        x->token = token;
        if (next == NEXT)
                x->ask_why[0] = '\0'; /* of the keys; it says nothing about a credential */
        return next;
}
