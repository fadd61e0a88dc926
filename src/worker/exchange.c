/*
 * exchange: one request and its answer, from the first byte to the audit record.
 *
 * The table below is the only legal order. Each step reads what earlier ones left in the exchange,
 * adds its own, and answers what comes next; none reaches back. Whatever happens, exchange_end or
 * exchange_abandon records one outcome. HTTP status is chosen here (through refuse) and nowhere
 * else.
 */
#include "inside.h"

#include <event2/event.h>
#include <stdlib.h>

#include "dagward/azdo/batch.h"
#include "dagward/http/h1_body.h"
#include "dagward/http/h1_write.h"

/* What is kept back is for records, and for what upstream says. */
enum { ARENA_BLOCK = 16 * 1024, ARENA_CEILING = 256 * 1024, ARENA_KEPT_BACK = 128 * 1024 };
enum { DRAIN_MOST = 1024 * 1024, DRAIN_MS = 5000 };
enum { DECISION_MS = 1000 }; /* how old a request may be that is let go by its first decision */
/* git reads the answer to a push when it has sent all of it, and not at all if it could not. */
enum { DRAIN_PUSH_MOST = 256 * 1024 * 1024, DRAIN_PUSH_MS = 60 * 1000 };

static enum next step_identify(struct exchange *x);
static enum next step_name(struct exchange *x);
static enum next step_decide(struct exchange *x);
static enum next step_hold_small(struct exchange *x);
static enum next step_record_intent(struct exchange *x);
static enum next step_lend(struct exchange *x);
static enum next step_forward(struct exchange *x);

static enum next (*const steps[])(struct exchange *) = {
        head_read,
        step_identify,
        step_name,
        step_decide,
        step_hold_small,
        trigger_step,
        place_tell_upstream,
        throttle_step,
        step_record_intent,
        step_lend,
        step_forward,
};

enum { STEP_IDENTIFY = 1, STEP_LEND = 9 };

/* --- identify: a token to a caller --- */

static enum next step_identify(struct exchange *x)
{
        return identify(x);
}

/* --- name: which operation this is, and what it touches --- */

enum naming_result exchange_name(struct exchange *x, struct str body, struct arena *arena,
        struct named *named, const char **why)
{
        struct naming_input input = {.method = x->request.method,
                .target = &x->target,
                .service = SERVICE_DEV,
                .organization = STR_NONE,
                .body = body};

        if (!service_of_host(x->request.host, &input.service, &input.organization))
                input.service = SERVICE_DEV; /* our own name */
        return request_name(&input, arena, named, why);
}

unsigned exchange_body_kinds(
        const struct named *named, const struct policy *policy, const struct policy_grants *grants)
{
        unsigned kinds = policy_kinds(policy, grants, named->op);

        return (kinds | resources_implied_by(&named->resources, kinds) | BODY_GUARDED_FACTS) &
               operation_body_kinds(named->op);
}

static unsigned kinds_of_body(const struct exchange *x)
{
        return exchange_body_kinds(&x->named, x->world->policy, x->grants);
}

/* What has to be understood of the body that is held: nothing, if all it could do is veil what the
 * request names elsewhere, and a look at it says that it does not. */
static struct str body_that_matters(const struct exchange *x)
{
        const struct operation *op = x->named.op;
        bool only_veils = x->has_name && op && !operation_is_batch(op) &&
                          !(kinds_of_body(x) & ~operation_veiled_kinds(op));

        return only_veils && !body_may_veil(op, x->held) ? STR("") : x->held;
}

static bool is_test_connection(const struct exchange *x)
{
        return x->target.n_segments == 0 &&
               (str_eq(x->request.method, STR("GET")) || str_eq(x->request.method, STR("POST")) ||
                       str_eq(x->request.method, STR("HEAD")));
}

static enum next step_name(struct exchange *x)
{
        const char *why = "";
        struct str body = STR_NONE;

        x->grants = grants_find(x->worker->grants, x->caller, x->world, &x->shadow_grants);
        enum next next = x->admitted ? NEXT : admit_request(x);
        if (next == NEXT && is_test_connection(x)) {
                next = admit_rate(x, NULL);
                return next == NEXT ? answer_whoami(x) : next;
        }
        if (next != NEXT)
                return next;
        for (;;) {
                enum naming_result result = exchange_name(x, body, &x->arena, &x->named, &why);
                bool found = result == NAMING_FOUND;
                bool needs = result == NAMING_NEEDS_BODY ||
                             (found && (kinds_of_body(x) || operation_is_batch(x->named.op)));
                x->has_name = found || result == NAMING_UNKNOWN;
                next = admit_rate(x, found || needs ? x->named.op : NULL);
                if (next != NEXT)
                        return next;
                if (needs && !body.ptr) {
                        next = hold_to_decide(x);
                        if (next != NEXT)
                                return next;
                        body = body_that_matters(x);
                        x->understood = body;
                        continue;
                }
                switch (result) {
                case NAMING_FOUND:
                case NAMING_UNKNOWN: return NEXT;
                case NAMING_NEEDS_BODY: /* it was read, and did not help */
                case NAMING_REFUSED: return refuse(x, 400, REFUSED_MALFORMED, "%s", why);
                case NAMING_FULL:
                        return refuse(x, 431, REFUSED_TOO_LARGE, "the request names too much");
                }
        }
}

/* --- decide, record, lend, forward --- */

/* By the clock, as it was when the token was accepted; in the turn in which it was, it has not. */
static bool token_has_ended(const struct exchange *x)
{
        const struct token_rules *rules = x->world->issuers[x->caller->issuer_index].rules;

        return x->worker->now_ms != x->begun_ms &&
               x->worker->wall_ms / 1000 - rules->clock_skew_s >= x->caller->expires_s;
}

/* What decides who the caller is and what it may: all that is loaded, and its issuer's keys. */
static bool world_is_another(const struct exchange *x)
{
        const struct world *newest = x->worker->lease->world;
        unsigned i = x->caller->issuer_index;

        return x->world->reload != newest->reload ||
               x->world->issuers[i].keys != newest->issuers[i].keys;
}

/* Bodies and names were waited for, the first as long as their sender liked: who is slow keeps no
 * right that a reload, the issuer or the end of its token took away. Nothing has been recorded yet,
 * and nothing sent. */
bool exchange_is_overtaken(const struct exchange *x)
{
        bool world = x->lease != x->worker->lease && world_is_another(x);

        return !x->ask && (world || token_has_ended(x));
}

bool exchange_is_old(const struct exchange *x)
{
        return x->worker->now_ms - x->begun_ms > DECISION_MS;
}

enum next exchange_begin_anew(struct exchange *x)
{
        caller_unref(x->caller);
        x->caller = NULL;
        x->asked_keys = x->issuer_unheard = false;
        x->decided = x->shadow_disagrees = false;
        x->names_used = NULL;
        x->names_asked = 0;
        x->step = STEP_IDENTIFY - 1; /* which is behind this one now */
        return NEXT;
}

static enum next step_decide(struct exchange *x)
{
        if (exchange_is_overtaken(x))
                return exchange_begin_anew(x);
        enum next next = decide_step(x);

        return next == NEXT ? admit_rate_of_role(x) : next;
}

/* What was decided before the body came is decided again when that took long: bindings and windows
 * of time end by the clock, too. */
static enum next step_hold_small(struct exchange *x)
{
        bool held = x->holds_body;
        enum next next = trigger_wants_body(x) ? hold_whole(x) : hold_small(x);

        if (next != NEXT || held || !x->holds_body)
                return next; /* there was nothing to wait for, or it streams */
        return exchange_is_old(x) || exchange_is_overtaken(x) ? exchange_begin_anew(x) : NEXT;
}

/* The same trigger may have been waited for, too. */
static enum next step_record_intent(struct exchange *x)
{
        if (!x->intent_recorded && token_has_ended(x))
                return identify_ended(x);
        return evidence_intent(x);
}

/* Which kind of trouble it is goes to the caller and into its record; the rest is for operators. */
static enum next refuse_without_credential(struct exchange *x)
{
        const char *colon = x->ask_cause.len ? ": " : "";

        log_info("correlation=%s credential=%.*s none to lend: %s", x->correlation_id,
                STR_FMT(x->decision.credential), x->ask_why);
        if (x->replaced_credential)
                return refuse(x, 502, REFUSED_UPSTREAM_CREDENTIAL,
                        "Azure DevOps turned the proxy's credential away, and there is no other "
                        "one%s%.*s; the proxy's operators have to look at it, nothing is wrong "
                        "with your token",
                        colon, STR_FMT(x->ask_cause));
        return refuse(x, 503, REFUSED_NO_CREDENTIAL,
                "there is no usable credential for Azure DevOps at the moment%s%.*s; the proxy's "
                "operators have to look at it, nothing is wrong with your token",
                colon, STR_FMT(x->ask_cause));
}

/* From the newest world: tokens are renewed while requests wait. */
static enum next step_lend(struct exchange *x)
{
        const struct credential_store *store = x->worker->lease->world->credentials;
        const struct credential *credential;
        unsigned index;

        if (!credential_find(store, x->decision.credential, &index))
                return refuse(x, 503, REFUSED_NO_CREDENTIAL,
                        "the credential of your binding is no longer configured");
        if (lend_is_callers(x->worker->lease->world, index))
                return lend_to_caller(x, index);
        if (x->replaced_credential && x->credential) {
                uint64_t seen = x->credential->generation;
                credential_unref(x->credential);
                x->credential = NULL;
                if (credential_generation(store, index) == seen)
                        return ask_credential(x, index, seen, ASK_CREDENTIAL_REPLACE);
        }
        credential = credential_lend(store, index, x->worker->now_ms);
        if (!credential && !x->ask_why[0] && !x->asked_credential)
                return ask_credential(
                        x, index, credential_generation(store, index), ASK_CREDENTIAL);
        if (!credential || (x->replaced_credential && x->ask_why[0]))
                return refuse_without_credential(x);
        x->credential = credential_ref((struct credential *)credential);
        x->credential_type = arena_copy(&x->arena, store->slots[index].type);
        return NEXT;
}

static enum next step_forward(struct exchange *x)
{
        return relay_begin(x);
}

void exchange_lend_again(struct exchange *x)
{
        x->phase = PHASE_STEPS;
        x->step = STEP_LEND;
        x->asked_credential = false;
        x->addresses_tried = 0;
        exchange_go_on(x);
}

/* --- running --- */

void exchange_wait(struct exchange *x, enum waits_for what, int64_t ms)
{
        x->waits = what;
        x->client->deadline_ms = x->worker->now_ms + ms;
        admit_stranger_waits(x);
}

void exchange_refuse(struct exchange *x)
{
        x->refused = true;
        refusal_write(x);
        x->phase = PHASE_ANSWER;
        exchange_go_on(x);
}

static bool body_is_unread(const struct exchange *x)
{
        /* What has been understood may still stand in the buffer, because upstream took no more. */
        return x->parsed && (!x->in.body.done || x->in.payload_left);
}

/* The answer has gone out. A connection whose framing is in doubt, or whose next request stands
 * behind a body that has not come, is not used again. */
static void after_answer(struct exchange *x)
{
        if (!x->keep_alive || !body_is_unread(x)) {
                exchange_end(x);
                return;
        }
        exchange_drain(x);
}

static uint64_t drain_most(const struct exchange *x)
{
        return x->push ? DRAIN_PUSH_MOST : DRAIN_MOST;
}

void exchange_drain(struct exchange *x)
{
        bool small = x->request.framing != H1_LENGTH || x->request.content_length <= drain_most(x);

        /* A client that was asked to wait for 100 will not send its body now. */
        if (!small || !x->keep_alive || (x->request.expect_continue && !x->continued)) {
                x->keep_alive = false;
                exchange_end(x);
                return;
        }
        x->phase = PHASE_DRAIN;
        x->in.to = NULL;
        exchange_wait(x, WAIT_BODY, x->push ? DRAIN_PUSH_MS : DRAIN_MS);
        stream_listen(&x->client->stream, true);
        exchange_go_on(x);
}

static void drain_go_on(struct exchange *x)
{
        enum pipe_state state = pipe_pump(&x->in);

        if (state == PIPE_MORE)
                stream_wake(&x->client->stream);
        if ((state == PIPE_HUNGRY || state == PIPE_MORE) && x->in.moved <= drain_most(x))
                return;
        if (state != PIPE_DONE)
                x->keep_alive = false;
        exchange_end(x);
}

/* What there is room for of a large answer. */
static void queue_more(struct exchange *x)
{
        struct stream *to = &x->client->stream;
        struct str part = str_head(x->answer_left, stream_room(to));

        if (part.len && stream_queue(to, part))
                x->answer_left = str_from(x->answer_left, part.len);
}

static void answer_go_on(struct exchange *x)
{
        queue_more(x);
        switch (stream_flush(&x->client->stream)) {
        case STREAM_OK:
                if (!x->answer_left.len) {
                        after_answer(x);
                        return;
                }
                stream_wake(&x->client->stream);
                return;
        case STREAM_AGAIN:
                if (x->waits != WAIT_CLIENT)
                        exchange_wait(x, WAIT_CLIENT, x->world->config->timeouts.body_ms);
                /* Its next requests are not read before it takes this answer. */
                stream_listen(&x->client->stream, false);
                return;
        case STREAM_FULL:
        case STREAM_EOF:
        case STREAM_ERROR: exchange_abandon(x); return;
        }
}

/* Something came while somebody else is asked. A client that is gone needs no answer; one that has
 * said all it will (or more than there is room for) must not wake us over and over. */
static void watch_while_pending(struct exchange *x)
{
        struct stream *stream = &x->client->stream;

        switch (stream_fill(stream)) {
        case STREAM_OK:
        case STREAM_AGAIN: return;
        case STREAM_FULL:
        case STREAM_EOF: stream_listen(stream, false); return;
        case STREAM_ERROR: exchange_abandon(x); return;
        }
}

static void steps_go_on(struct exchange *x)
{
        struct client *client = x->client; /* a step may end the exchange */

        stream_listen(&client->stream, true);
        for (;;) {
                switch (steps[x->step](x)) {
                case NEXT: x->step++; continue;
                case AGAIN: return;
                case PENDING: return;
                case REFUSE: exchange_refuse(x); return;
                case ANSWER:
                        x->phase = PHASE_ANSWER;
                        answer_go_on(x);
                        return;
                case RELAY:
                        if (client->exchange == x && x->phase == PHASE_RELAY)
                                relay_go_on(x);
                        return;
                }
        }
}

void exchange_go_on(struct exchange *x)
{
        switch (x->phase) {
        case PHASE_STEPS:
                /* Nothing is read before its turn: bytes that were read ahead would wake it anew
                 * each time that it listens. */
                if (!link_empty(&x->turn_link))
                        return;
                if (x->ask || !link_empty(&x->audit_link) || trigger_waits(x))
                        watch_while_pending(x);
                else
                        steps_go_on(x);
                return;
        case PHASE_RELAY: relay_go_on(x); return;
        case PHASE_ANSWER: answer_go_on(x); return;
        case PHASE_DRAIN: drain_go_on(x); return;
        }
}

void exchange_late(struct exchange *x)
{
        struct client *client = x->client;

        if (x->waits == WAIT_TRIGGER && trigger_look_again(x)) {
                client_go_on(client);
                return;
        }
        if (x->waits == WAIT_CONNECT && relay_connect_late(x)) {
                client_go_on(client);
                return;
        }
        x->keep_alive = false;
        switch (x->waits) {
        case WAIT_HEAD:
                if (stream_in(&x->client->stream).len == 0) {
                        exchange_abandon(x);
                        return;
                }
                (void)refuse(x, 408, REFUSED_MALFORMED, "the request did not come in time");
                break;
        case WAIT_BODY:
                if (x->phase == PHASE_DRAIN) { /* it has its answer */
                        exchange_end(x);
                        client_go_on(client);
                        return;
                }
                if (x->response_begun) {
                        exchange_abandon(x);
                        return;
                }
                (void)refuse(x, 408, REFUSED_MALFORMED, "the body did not come in time");
                break;
        case WAIT_TURN:
                link_remove(&x->turn_link);
                x->refusal.retry_after_s = 1;
                (void)refuse(x, 429, REFUSED_BAD_TOKEN,
                        "too many tokens that are not valid come from your address; try again");
                break;
        case WAIT_CONTROL:
                ask_forget(x);
                if (x->detour || (x->names_asked && !x->decided))
                        (void)refuse(x, 503, REFUSED_UPSTREAM,
                                "%s could not be had in time; try again",
                                x->detour ? "the address of a storage host"
                                          : "what Azure DevOps knows of the resource");
                else
                        (void)refuse(x, 503, REFUSED_NO_CREDENTIAL,
                                "keys or a credential could not be had in time; try again");
                break;
        case WAIT_TRIGGER: (void)trigger_late(x); break;
        case WAIT_AUDIT:
                evidence_leave(x);
                evidence_overdue(x->worker);
                (void)refuse(
                        x, 503, REFUSED_AUDIT, "the audit record could not be written in time");
                break;
        case WAIT_CONNECT:
        case WAIT_FIRST_BYTE:
        case WAIT_UPSTREAM:
                if (x->response_begun) {
                        exchange_abandon(x);
                        return;
                }
                (void)refuse(x, 504, REFUSED_UPSTREAM,
                        x->waits != WAIT_CONNECT ? "Azure DevOps did not answer in time"
                        : x->upstream && x->upstream->tunnelling
                                ? "the outgoing proxy did not open a way to Azure DevOps in time"
                                : "Azure DevOps could not be reached in time");
                break;
        case WAIT_NOTHING:
        case WAIT_CLIENT: exchange_abandon(x); return;
        }
        if (x->upstream)
                upstream_drop(x->upstream);
        exchange_refuse(x);
        if (!client->exchange)
                client_go_on(client);
}

/* --- life --- */

struct exchange *exchange_new(struct client *client)
{
        struct worker *worker = client->worker;
        struct exchange *x = worker->spare;
        struct rewrite *rewrite = NULL;
        struct arena arena;

        if (x) {
                worker->spare = x->next_spare;
                worker->n_spare--;
                arena = x->arena;
                rewrite = x->rewrite;
        } else {
                x = malloc(sizeof(*x));
                if (!x)
                        abort();
                arena_init(&arena, ARENA_BLOCK, ARENA_CEILING);
        }
        memset(x, 0, offsetof(struct exchange, request));
        x->arena = arena;
        x->arena.ceiling = ARENA_CEILING;
        x->arena_counted = ARENA_BLOCK;
        x->rewrite = rewrite;
        x->client = client;
        x->worker = worker;
        x->lease = lease_take(worker);
        x->world = x->lease->world;
        x->begun_ms = worker->now_ms;
        x->begun_us = clock_mono_us();
        worker->wall_ms = clock_wall_ms();
        id_uuid7(worker->wall_ms, x->request_id);
        memcpy(x->correlation_id, x->request_id, sizeof(x->correlation_id));
        link_init(&x->audit_link);
        link_init(&x->turn_link);
        link_init(&x->holding);
        worker->metrics.exchanges_now++;
        worker->served = true;
        return x;
}

void exchange_open_reserve(struct exchange *x)
{
        x->arena.ceiling = ARENA_CEILING + ARENA_KEPT_BACK;
        admit_count_arena(x);
}

static void release(struct exchange *x)
{
        struct worker *worker = x->worker;
        struct client *client = x->client;

        client->exchange = NULL;
        client->requests++;
        admit_leave(x);
        admit_rest(client);
        ask_forget(x);
        trigger_clear(x);
        evidence_leave(x);
        link_remove(&x->turn_link);
        caller_unref(x->caller);
        credential_unref(x->credential);
        if (x->rewrites)
                rewrite_clear(x->rewrite);
        buf_clear(&x->inspected);
        buf_clear(&x->rewritten);
        buf_clear(&x->own);
        lease_return(x->lease);
        arena_reset(&x->arena);
        worker->metrics.exchanges_now--;
        /* Not freed here: callers up the stack may still hold it (see turn_end in worker.c). */
        x->next_spare = worker->spare;
        worker->spare = x;
        worker->n_spare++;
}

void exchange_end(struct exchange *x)
{
        struct client *client = x->client;

        trigger_settle(x);
        if (x->upstream)
                upstream_drop(x->upstream);
        evidence_outcome(x);
        client->last = !x->keep_alive;
        release(x);
        stream_unfix(&client->stream);
        stream_listen(&client->stream, true);
}

void exchange_abandon(struct exchange *x)
{
        struct client *client = x->client;
        bool cut = x->response_begun && x->phase == PHASE_RELAY;

        trigger_settle(x);
        if (x->upstream)
                upstream_drop(x->upstream);
        if (cut)
                x->response_bytes = x->out.moved;
        /* A connection that closed before it said anything was no request. */
        if (x->parsed || stream_in(&client->stream).len)
                evidence_outcome(x);
        release(x);
        if (cut)
                client_cut(client);
        else
                client_drop(client);
}
