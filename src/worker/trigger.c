/*
 * trigger: what starts something is sent once.
 *
 * Before such a request is sent the ledger is asked; after that it is told what came of it. A
 * duplicate is authorised like any other request (that happened in an earlier step) and then gets
 * the first answer. Whoever has the key in hand tells the ledger at its end, whatever the end is.
 */
#include "inside.h"

#include <stdlib.h>

#include "dagward/http/h1_write.h"

enum { ANSWER_READ_MOST = 256 * 1024 }; /* of upstream's answer: its run's number stands in it */
enum { RETRY_SOON_S = 5, RETRY_FULL_S = 60 };

struct pending_trigger {
        struct trigger_ask ask; /* first: the mail is the ask */
        struct exchange *x;     /* NULL: nobody waits any more */
};

/* --- asking the ledger --- */

/* The one who asked is gone: the key is in nobody's hand, and nothing was sent. */
static void give_back(struct worker *worker, const struct trigger_ask *ask)
{
        if (!worker->ledger)
                return; /* it has ended, too; a key it gave out is looked up after the start */
        if (ask->verdict == TRIGGER_FIRST)
                ledger_tell(worker->ledger, &ask->key, ask->request_id, TRIGGER_NOT_STARTED, NULL);
        if (ask->verdict == TRIGGER_LOOK)
                ledger_tell(worker->ledger, &ask->key, ask->request_id, TRIGGER_ENDED_LOST, NULL);
}

static void on_verdict(struct mail *mail, void *receiver)
{
        struct pending_trigger *pending = (struct pending_trigger *)mail;
        struct trigger_ask *ask = &pending->ask;
        struct exchange *x = pending->x;

        if (!x) {
                give_back(receiver, ask);
                free(ask->answer);
                free(pending);
                return;
        }
        struct trigger *t = x->trigger;
        t->ask = NULL;
        t->answered = true;
        t->verdict = ask->verdict;
        t->in_hand = ask->verdict == TRIGGER_FIRST || ask->verdict == TRIGGER_LOOK;
        t->answer = ask->answer;
        memcpy(t->first_id, ask->first_id, sizeof(t->first_id));
        memcpy(t->first_correlation_id, ask->first_correlation_id, sizeof(t->first_correlation_id));
        t->begun_ms = ask->begun_ms;
        t->lost_ms = ask->lost_ms;
        t->lost_steady_ms = ask->lost_steady_ms;
        free(pending);
        client_go_on(x->client);
}

enum next trigger_ask_ledger(struct exchange *x, bool renew)
{
        const struct config_idempotency *settings = &x->world->config->idempotency;
        struct pending_trigger *pending = calloc(1, sizeof(*pending));
        struct trigger *t = x->trigger;

        if (!pending)
                abort();
        pending->x = x;
        pending->ask = (struct trigger_ask){.key = t->key,
                .renew = renew,
                .window_ms = settings->window_ms,
                .most = settings->entries,
                .reply_to = x->worker->box,
                .answered = on_verdict};
        memcpy(pending->ask.request_id, x->request_id, sizeof(x->request_id));
        memcpy(pending->ask.correlation_id, x->correlation_id, sizeof(x->correlation_id));
        t->ask = pending;
        t->asked = true;
        t->answered = false;
        t->renewed = renew;
        int64_t left = t->until_ms - x->worker->now_ms;
        exchange_wait(x, WAIT_TRIGGER, left > 1000 || !renew ? left : 1000);
        ledger_ask(x->worker->ledger, &pending->ask);
        return PENDING;
}

/* Nor does it stand in line any more: who asks and hangs up, over and over, would make that as long
 * as it likes, for everybody behind it and for the ledger. */
static void forget_ask(struct exchange *x)
{
        struct trigger *t = x->trigger;

        if (!t->ask)
                return;
        t->ask->x = NULL;
        t->ask = NULL;
        if (x->worker->ledger)
                ledger_withdraw(x->worker->ledger, &t->key, x->request_id);
}

bool trigger_waits(const struct exchange *x)
{
        const struct trigger *t = x->trigger;

        return t && (t->ask || t->look_ms > x->worker->now_ms);
}

bool trigger_look_again(struct exchange *x)
{
        if (x->trigger->ask || x->ask)
                return false;
        x->trigger->look_ms = 0;
        x->waits = WAIT_NOTHING;
        x->client->deadline_ms = INT64_MAX;
        return true;
}

/* --- refusals --- */

enum next trigger_refuse(struct exchange *x, int status, const char *what, int retry_after_s)
{
        const struct trigger *t = x->trigger;
        char begun[CLOCK_RFC3339_LEN + 1] = "";

        x->trigger->state = "refused";
        x->refusal.retry_after_s = retry_after_s;
        if (!t->first_id[0])
                return refuse(x, status, REFUSED_DUPLICATE, "%s", what);
        clock_rfc3339(t->begun_ms, begun);
        return refuse(x, status, REFUSED_DUPLICATE, "%s (first request %s, correlation %s, at %s)",
                what, t->first_id, t->first_correlation_id, begun);
}

enum next trigger_late(struct exchange *x)
{
        if (x->ask) {
                ask_forget(x);
                return trigger_refuse(x, 503,
                        "the answer to the same request before was lost, and Azure DevOps could "
                        "not be asked in time what became of it; ask again",
                        RETRY_SOON_S);
        }
        forget_ask(x);
        return trigger_refuse(x, 409,
                "the same request was sent before and is still being answered; ask again later, "
                "the first answer will be given. To start another run on purpose send an "
                "Idempotency-Key that was not used before",
                RETRY_SOON_S);
}

/* --- what it is --- */

/* The one value of that field. NEXT with ptr NULL: there is none. */
static enum next read_chosen(struct exchange *x, struct str *chosen)
{
        struct str field = STR_NONE;

        *chosen = STR_NONE;
        for (size_t i = 0; i < x->request.n_fields; i++) {
                if (!str_eq_fold(x->request.fields[i].name, STR("Idempotency-Key")))
                        continue;
                if (field.ptr)
                        return refuse(x, 400, REFUSED_MALFORMED, "two Idempotency-Key fields");
                field = x->request.fields[i].value;
        }
        if (field.ptr && !trigger_chosen_read(field, chosen))
                return refuse(x, 400, REFUSED_MALFORMED,
                        "the Idempotency-Key is not one of 1 to %d visible ASCII characters "
                        "without \" \\ , and ;",
                        TRIGGER_CHOSEN_MOST);
        return NEXT;
}

bool trigger_wants_body(const struct exchange *x)
{
        const struct config *config = x->world->config;
        bool marks = config->correlation.variable.ptr || config->correlation.parameter.ptr;
        bool starts, task;

        if (!x->named.op || x->named.op->access != ACCESS_EXECUTE)
                return false;
        starts = operation_starts(x->named.op);
        task = h1_field_value(&x->request, H1_X_AIRFLOW_RUN_ID).len > 0;
        if (!x->worker->ledger || !config->idempotency.enabled)
                return starts && marks;
        for (size_t i = 0; i < x->request.n_fields; i++)
                if (str_eq_fold(x->request.fields[i].name, STR("Idempotency-Key")))
                        return true;
        return starts && (task || marks);
}

static struct str max_tries(const struct exchange *x)
{
        for (size_t i = 0; i < x->request.n_fields; i++)
                if (str_eq_fold(x->request.fields[i].name, STR("X-Airflow-Max-Tries")))
                        return x->request.fields[i].value;
        return STR_NONE;
}

/* Claims as they were sent: what is shown of them may have been cut. */
static void make_key(struct exchange *x, struct trigger *t, struct str chosen)
{
        const struct h1_request *request = &x->request;
        struct trigger_parts parts = {
                .issuer = x->caller->issuer,
                .subject = x->caller->subject,
                .chosen = chosen,
                .dag_id = h1_field_value(request, H1_X_AIRFLOW_DAG_ID),
                .run_id = h1_field_value(request, H1_X_AIRFLOW_RUN_ID),
                .task_id = h1_field_value(request, H1_X_AIRFLOW_TASK_ID),
                .map_index = h1_field_value(request, H1_X_AIRFLOW_MAP_INDEX),
                .max_tries = max_tries(x),
                .method = request->method,
                .service = str_of(service_name(x->named.service)),
                .operation = str_of(x->named.op->id),
                .path = x->named.path,
                .query = x->target.query,
                .n_query = x->target.n_query,
                .body = x->held,
        };

        t->keyed = trigger_key_make(&parts, &t->key);
}

static struct str definition_of(struct exchange *x)
{
        struct str given = route_param(&x->named.route, STR("pipelineId"));

        for (size_t i = 0; i < x->target.n_query && !given.len; i++)
                if (str_eq_fold(x->target.query[i].name, STR("definitionId")))
                        given = x->target.query[i].value;
        return started_definition(x->named.op, given, x->held, &x->arena);
}

static enum next prepare(struct exchange *x)
{
        const struct config *config = x->world->config;
        bool kept = x->worker->ledger != NULL && config->idempotency.enabled;
        bool starts = operation_starts(x->named.op);
        struct str chosen = STR_NONE;
        enum next next = kept ? read_chosen(x, &chosen) : NEXT;

        if (next != NEXT || (!starts && !chosen.ptr))
                return next;
        bool task = kept && h1_field_value(&x->request, H1_X_AIRFLOW_RUN_ID).len;
        struct trigger *t = arena_alloc(&x->arena, sizeof(*t));
        if (!t)
                return refuse(x, 431, REFUSED_TOO_LARGE, "the request names too much");
        *t = (struct trigger){
                .starts = starts, .until_ms = x->worker->now_ms + config->idempotency.wait_ms};
        buf_init(&t->body, ANSWER_READ_MOST);
        if (chosen.ptr || task)
                make_key(x, t, chosen);
        if (t->keyed == TRIGGER_UNKEYED)
                memcpy(t->first_id, x->request_id, sizeof(t->first_id));
        if (starts && x->holds_body)
                t->definition = definition_of(x);
        x->trigger = t;
        return NEXT;
}

/* --- the step --- */

enum next trigger_answer_again(struct exchange *x, const char *state)
{
        struct trigger *t = x->trigger;
        const struct trigger_answer *answer = t->answer;
        char text[200];

        t->state = state;
        t->run_id = arena_copy(&x->arena, answer->run_id);
        t->run_url = arena_copy(&x->arena, answer->run_url);
        if (!answer->whole) {
                snprintf(text, sizeof(text),
                        "the same request was answered before with %d, and the answer was too "
                        "large to be kept%s%.*s",
                        answer->status, t->run_id.len ? ": it started run " : "",
                        STR_FMT(t->run_id));
                return trigger_refuse(x, 409, text, 0);
        }
        x->worker->metrics.triggers_replayed++;
        return answer_kept(x, answer->status,
                answer->content_type.len ? answer->content_type : STR("application/octet-stream"),
                answer->body);
}

void trigger_write_fields(struct exchange *x, struct buf *out)
{
        const struct trigger_answer *answer = x->trigger->answer;
        struct error ignored;

        error_none(&ignored);
        h1_write_field(out, STR("Idempotent-Replayed"), STR("true"));
        if (answer->location.len)
                (void)compose_location(x, 201, answer->location, out, &ignored);
        if (answer->activity_id.len)
                h1_write_field(out, STR("ActivityId"), answer->activity_id);
}

static enum next begin(struct exchange *x)
{
        x->trigger->state = x->trigger->renewed ? "sent-again" : "first";
        x->worker->metrics.triggers_first++;
        return trigger_mark(x);
}

/* It could not be told from its duplicates, so it is not sent. */
static enum next no_room(struct exchange *x)
{
        unsigned long long most = x->world->config->idempotency.entries;

        x->trigger->state = "refused";
        x->refusal.retry_after_s = RETRY_FULL_S;
        if (x->trigger->verdict == TRIGGER_FULL)
                return refuse(x, 503, REFUSED_TRIGGERS,
                        "as many triggers are kept as may be (idempotency.entries: %llu), so a "
                        "duplicate could not be told; the proxy's operators have to raise the "
                        "limit",
                        most);
        return refuse(x, 429, REFUSED_TRIGGERS,
                "%.*s of %.*s has at least as many triggers within the window as are free "
                "(idempotency.entries: %llu, for all callers); the rest is for others. Try again "
                "later; the proxy's operators may raise the limit",
                STR_FMT(str_head(x->caller->subject, 128)), STR_FMT(x->caller->issuer), most);
}

static enum next obey(struct exchange *x)
{
        switch (x->trigger->verdict) {
        case TRIGGER_FIRST: return begin(x);
        case TRIGGER_REPLAY: return trigger_answer_again(x, "replayed");
        case TRIGGER_LOOK: return trigger_look(x);
        case TRIGGER_OTHER:
                return trigger_refuse(x, 422,
                        "this Idempotency-Key was used for another request (method, target or body "
                        "differ); send the request as it was, or a new key",
                        0);
        case TRIGGER_FULL:
        case TRIGGER_SHARE: return no_room(x);
        case TRIGGER_BROKEN:
                return refuse(x, 503, REFUSED_AUDIT,
                        "the journal of triggers cannot be used, and nothing is started without "
                        "it; the proxy's operators have to look at it");
        }
        return PENDING;
}

/* The key goes back, to be asked for again by whoever the caller is then, and what was lent to look
 * for a run. */
static enum next step_back(struct exchange *x)
{
        trigger_settle(x);
        trigger_clear(x);
        x->trigger = NULL;
        credential_unref(x->credential);
        x->credential = NULL;
        x->credential_is_callers = x->lend_refused = false;
        x->lend_asks = 0;
        return exchange_begin_anew(x);
}

/* It may have waited for as long as the first one took. */
static bool has_lost_its_right(struct exchange *x)
{
        return exchange_is_overtaken(x) || (exchange_is_old(x) && !decide_same_now(x));
}

enum next trigger_step(struct exchange *x)
{
        if (!x->named.op || x->named.op->access != ACCESS_EXECUTE)
                return NEXT;
        if (!x->trigger) {
                enum next next = prepare(x);
                if (next != NEXT || !x->trigger)
                        return next;
        }
        if (x->trigger->keyed == TRIGGER_UNKEYED)
                return trigger_mark(x);
        if (!x->trigger->asked)
                return trigger_ask_ledger(x, false);
        if (!x->trigger->answered)
                return PENDING;
        return has_lost_its_right(x) ? step_back(x) : obey(x);
}

/* --- while it is forwarded --- */

void trigger_note_sent(const struct upstream *upstream)
{
        struct trigger *t = upstream->exchange->trigger;

        if (t && upstream->stream.sent > upstream->sent_before)
                t->sent = true;
}

void trigger_answered(struct exchange *x)
{
        struct trigger *t = x->trigger;
        struct str encoding = h1_response_value(&x->response, H1_CONTENT_ENCODING);

        t->encoded = encoding.len && !str_eq_fold(encoding, STR("identity"));
        t->content_type = arena_copy(&x->arena, h1_response_value(&x->response, H1_CONTENT_TYPE));
        t->location = arena_copy(&x->arena, h1_response_value(&x->response, H1_LOCATION));
}

void trigger_turned_away(struct exchange *x)
{
        if (x->trigger)
                x->trigger->sent = false;
}

bool trigger_outlives_client(struct exchange *x)
{
        if (!x->trigger || !x->trigger->in_hand || !x->request_sent)
                return false;
        if (!x->orphan)
                log_info("correlation=%s the client is gone; its trigger's answer is awaited",
                        x->correlation_id);
        x->orphan = true;
        x->keep_alive = false;
        stream_listen(&x->client->stream, false);
        return true;
}

/* --- the end --- */

static bool answer_is_whole(const struct exchange *x)
{
        return x->response_begun && x->out.body.done && !x->out.payload_left;
}

static enum trigger_end end_of(const struct exchange *x)
{
        int status = x->response_begun ? x->response.status : 0;

        if (!x->trigger->sent)
                return TRIGGER_NOT_STARTED;
        if (status >= 200 && status < 300 && answer_is_whole(x))
                return TRIGGER_ENDED;
        /* Upstream said no; but a 408 is somebody's clock, who need not have known. */
        if (status >= 400 && status < 500 && status != 408)
                return TRIGGER_NOT_STARTED;
        return TRIGGER_ENDED_LOST;
}

static void tell_ledger(struct exchange *x, enum trigger_end end)
{
        struct trigger *t = x->trigger;
        struct trigger_answer answer = {0};

        if (!t->in_hand)
                return;
        t->in_hand = false;
        if (t->verdict == TRIGGER_LOOK)
                end = TRIGGER_ENDED_LOST; /* nobody knows more than before */
        if (end == TRIGGER_ENDED_LOST) {
                t->state = "lost";
                x->worker->metrics.triggers_lost++;
        }
        if (end == TRIGGER_ENDED)
                answer = (struct trigger_answer){.status = x->response.status,
                        .whole = t->body.len <= TRIGGER_BODY_MOST && !t->body.overflow &&
                                 !t->encoded,
                        .run_id = t->run_id,
                        .run_url = t->run_url,
                        .content_type = t->content_type,
                        .location = t->location,
                        .activity_id = x->activity_id,
                        .body = buf_str(&t->body)};
        if (x->worker->ledger)
                ledger_tell(x->worker->ledger, &t->key, x->request_id, end,
                        end == TRIGGER_ENDED ? &answer : NULL);
}

void trigger_settle(struct exchange *x)
{
        struct trigger *t = x->trigger;

        if (!t || t->settled)
                return;
        t->settled = true;
        if (x->upstream)
                trigger_note_sent(x->upstream);
        enum trigger_end end = end_of(x);
        bool started =
                end == TRIGGER_ENDED && t->starts &&
                started_read(x->named.op, buf_str(&t->body), &x->arena, &t->run_id, &t->run_url);
        tell_ledger(x, end);
        if (started)
                trigger_tag(x);
}

void trigger_clear(struct exchange *x)
{
        struct trigger *t = x->trigger;

        if (!t)
                return;
        forget_ask(x);
        free(t->answer);
        buf_clear(&t->body);
}
