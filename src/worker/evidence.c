/*
 * evidence: what an exchange leaves in the audit log.
 *
 * Records of one loop turn share a batch. A batch goes to the scribe at the end of the turn when a
 * record in it must be on disk before its request may go on, or when it is large; else within
 * BATCH_MS. An exchange that waits is linked to its batch and goes on when the batch comes back.
 * A batch that could not be written is kept and sent again: an outcome is not lost because the disk
 * was full for a while.
 */
#include "inside.h"

#include <event2/event.h>
#include <stdlib.h>

enum { BATCH_MS = 20 };
enum { BATCH_LARGE = AUDIT_BATCH_BYTES / 2 }; /* each wakes the scribe */
enum { AUDIT_MOST_MS = 30000 };               /* a disk that takes longer is as good as broken */
enum { BATCHES_MOST = 256 }; /* under way; the disk does not keep up when there are more */
enum { SPARE_BATCHES_MOST = 8 };

struct evidence_batch {
        struct audit_batch batch;          /* first */
        struct link waiters;               /* exchanges, by audit_link */
        struct evidence_batch *next_spare; /* or next failed one */
};

static void keep_batch(struct worker *worker, struct evidence_batch *batch)
{
        if (worker->n_spare_batches == SPARE_BATCHES_MOST) {
                audit_batch_clear(&batch->batch);
                free(batch);
                return;
        }
        audit_batch_reset(&batch->batch);
        batch->next_spare = worker->spare_batches;
        worker->spare_batches = batch;
        worker->n_spare_batches++;
}

static void on_state(bool ok, void *receiver)
{
        struct worker *worker = receiver;

        if (ok == worker->audit_failing)
                log_error("worker=%u audit records are %s", worker->number,
                        ok ? "written again" : "not written; see the reason above");
        worker->audit_failing = !ok;
}

void evidence_watch(struct worker *worker)
{
        worker->audit_watch = (struct scribe_watch){.reply_to = worker->box, .changed = on_state};
        scribe_watch(worker->scribe, &worker->audit_watch);
}

void evidence_overdue(struct worker *worker)
{
        on_state(false, worker);
}

static void on_written(struct audit_batch *audit, void *receiver)
{
        struct evidence_batch *batch = (struct evidence_batch *)audit;
        struct worker *worker = receiver;
        bool ok = audit->ok;

        worker->batches_out--;
        on_state(ok, worker);
        if (audit->durable)
                worker->audit_hurried = false;
        while (!link_empty(&batch->waiters)) {
                struct exchange *x = LINK_OF(struct exchange, audit_link, batch->waiters.after);
                evidence_leave(x);
                x->audit_answered = true;
                x->audit_ok = ok;
                client_go_on(x->client);
        }
        if (ok) {
                keep_batch(worker, batch);
                return;
        }
        worker->batches_out++; /* it still has to be written */
        batch->next_spare = worker->failed_batches;
        worker->failed_batches = batch;
}

void evidence_post_failed(struct worker *worker)
{
        struct evidence_batch *batch = worker->failed_batches;

        worker->failed_batches = NULL;
        while (batch) {
                struct evidence_batch *next = batch->next_spare;
                batch->batch.durable = false; /* nobody waits for it any more */
                scribe_post(worker->scribe, &batch->batch);
                batch = next;
        }
}

void evidence_tick(struct worker *worker)
{
        if (!worker->audit_failing)
                evidence_flush(worker, true);
        evidence_post_failed(worker);
}

static struct evidence_batch *batch_take(struct worker *worker)
{
        struct evidence_batch *batch = worker->spare_batches;
        struct timeval due = {.tv_usec = BATCH_MS * 1000};

        if (batch) {
                worker->spare_batches = batch->next_spare;
                worker->n_spare_batches--;
        } else {
                batch = calloc(1, sizeof(*batch));
                if (!batch)
                        abort();
                audit_batch_init(&batch->batch, worker->box, on_written, batch);
                link_init(&batch->waiters);
        }
        event_add(&worker->audit_event, &due);
        return batch;
}

static void post(struct worker *worker)
{
        struct evidence_batch *batch = worker->batch;

        worker->batch = NULL;
        worker->batches_out++;
        event_del(&worker->audit_event);
        scribe_post(worker->scribe, &batch->batch);
}

bool evidence_is_behind(const struct worker *worker)
{
        return worker->batches_out > BATCHES_MOST;
}

bool evidence_is_full(const struct worker *worker)
{
        return worker->batches_out > 2 * BATCHES_MOST;
}

/* The time of a batch is over. While nothing can be written it is filled up instead, so that few
 * large batches wait and not many small ones; the tick sees when that is over. */
void evidence_due(struct worker *worker)
{
        if (!worker->audit_failing)
                evidence_flush(worker, true);
}

void evidence_flush(struct worker *worker, bool all)
{
        struct evidence_batch *batch = worker->batch;

        if (batch && (all || batch->batch.durable || batch->batch.records.len >= BATCH_LARGE))
                post(worker);
}

static void free_batches(struct evidence_batch *batch)
{
        while (batch) {
                struct evidence_batch *next = batch->next_spare;
                audit_batch_clear(&batch->batch);
                free(batch);
                batch = next;
        }
}

void evidence_give_back(struct worker *worker)
{
        free_batches(worker->spare_batches);
        worker->spare_batches = NULL;
        worker->n_spare_batches = 0;
}

void evidence_clear(struct worker *worker)
{
        if (worker->failed_batches)
                log_error("worker=%u ends with audit records that could not be written",
                        worker->number);
        free_batches(worker->failed_batches);
        worker->failed_batches = NULL;
        evidence_give_back(worker);
}

static struct evidence_batch *write_record(
        struct worker *worker, const struct audit_fields *fields, bool durable)
{
        for (int attempt = 0; attempt < 2; attempt++) {
                if (!worker->batch)
                        worker->batch = batch_take(worker);
                if (audit_batch_add(&worker->batch->batch, fields, durable))
                        return worker->batch;
                post(worker); /* it was full */
        }
        return NULL;
}

static void fill_caller(struct exchange *x, struct audit_fields *fields)
{
        fields->caller.address = str_of(x->client->peer);
        if (!x->caller)
                return;
        fields->caller.issuer = x->caller->issuer;
        fields->caller.subject = x->caller->subject;
        fields->caller.roles = x->caller->roles;
        fields->caller.n_roles = x->caller->n_roles;
        fields->caller.token_id = x->caller->token_id;
        fields->caller.via = str_of(token_via_name(x->via));
}

static void fill_request(struct exchange *x, struct audit_fields *fields)
{
        if (!x->parsed)
                return;
        fields->traceparent = h1_field_value(&x->request, H1_TRACEPARENT);
        claims_read(x);
        fields->claimed.dag_id = x->claims[CLAIM_DAG_ID].value;
        fields->claimed.run_id = x->claims[CLAIM_RUN_ID].value;
        fields->claimed.task_id = x->claims[CLAIM_TASK_ID].value;
        fields->claimed.map_index = x->claims[CLAIM_MAP_INDEX].value;
        fields->claimed.try_number = x->claims[CLAIM_TRY_NUMBER].value;
        fields->claimed.user_agent = x->claims[CLAIM_USER_AGENT].value;
        fields->request.method = x->request.method;
        fields->request.host = x->request.host;
        fields->request.bytes = x->in.body.payload_bytes;
        if (x->has_target) {
                fields->request.query = x->target.query;
                fields->request.n_query = x->target.n_query;
        }
        if (x->has_name) {
                fields->request.path = x->named.path;
        } else if (x->has_target) {
                struct buf path;
                buf_init(&path, 32 * 1024);
                target_write_path(&x->target, &path);
                fields->request.path = arena_copy(&x->arena, buf_str(&path));
                buf_clear(&path);
        }
}

/* The other name of what the decision was about: "pipeline.name", "project.id". */
static size_t known_pairs(
        struct exchange *x, struct str kind, const struct resource *item, struct pair *out)
{
        struct str id = item->known->id;
        struct str name = item->known->path.len ? item->known->path : item->known->name;
        size_t n = 0;

        if (id.len && !str_eq_fold(id, item->value))
                out[n++] = (struct pair){arena_printf(&x->arena, "%.*s.id", STR_FMT(kind)), id};
        if (name.len && !str_eq(name, item->value))
                out[n++] = (struct pair){arena_printf(&x->arena, "%.*s.name", STR_FMT(kind)), name};
        return n;
}

/* The project's id, where only something in it was asked about: a rule may be about either. */
static size_t project_pair(const struct resources *resources, struct pair *out)
{
        struct str project = resources_first(resources, RESOURCE_PROJECT), id = STR_NONE;

        for (size_t i = 0; i < resources->n; i++) {
                const struct resource *item = &resources->items[i];
                if (item->known && item->kind == RESOURCE_PROJECT)
                        return 0;
                if (item->known && item->known->project_id.len)
                        id = item->known->project_id;
        }
        if (!id.len || !project.len || str_eq_fold(id, project))
                return 0;
        *out = (struct pair){STR("project.id"), id};
        return 1;
}

/* Of a key, and of all of them together: more than a record shows, and no more than there is room
 * for in what is kept back for it. */
enum { KEY_MOST = 512, SAYS_MOST = 16 * 1024 };

/* What it says, without the values: a variable of a run may be a secret. */
static void fill_facts(struct exchange *x, struct audit_fields *fields)
{
        const struct facts *facts = x->named.facts;
        size_t n_kinds, n = 0;
        const struct fact_kind *kinds = facts_all(&n_kinds);

        if (!facts || !facts->n)
                return;
        struct str *says = arena_alloc(&x->arena, facts->n * sizeof(*says));
        size_t left = SAYS_MOST;
        for (size_t i = 0; says && i < facts->n; i++) {
                const struct fact *fact = &facts->items[i];
                struct str kind = str_of(kinds[fact->kind].name), text = STR_NONE;
                struct str key = str_head(fact->key, KEY_MOST);
                if (key.len && key.len <= left)
                        text = arena_printf(&x->arena, "%s.%.*s", kind.ptr, STR_FMT(key));
                if (text.ptr)
                        left -= key.len;
                says[n++] = text.ptr ? text : kind;
        }
        fields->request.says = says;
        fields->request.n_says = n;
}

static void fill_name(struct exchange *x, struct audit_fields *fields)
{
        const struct resources *resources = &x->named.resources;

        if (!x->has_name)
                return;
        fields->request.organization = x->named.organization;
        if (!x->named.op)
                return;
        fields->request.operation = str_of(x->named.op->id);
        fields->request.access = str_of(access_name(x->named.op->access));
        fields->request.project = resources_first(resources, RESOURCE_PROJECT);
        struct pair *pairs =
                arena_alloc(&x->arena, (3 * resources->n + RESOURCE_KINDS + 2) * sizeof(*pairs));
        size_t n = 0, projects = 0;
        for (size_t i = 0; pairs && i < resources->n; i++) {
                const struct resource *item = &resources->items[i];
                struct str kind = str_of(resource_kind_name(item->kind));
                bool elsewhere = item->kind == RESOURCE_ORGANIZATION ||
                                 (item->kind == RESOURCE_PROJECT && !projects++);
                if (!elsewhere)
                        pairs[n++] = (struct pair){kind, item->value};
                if (item->known)
                        n += known_pairs(x, kind, item, &pairs[n]);
        }
        if (pairs)
                n += project_pair(resources, &pairs[n]);
        for (int k = 0; pairs && k < RESOURCE_KINDS; k++)
                if (resources->unresolved[k] || resources->deferred >> k & 1)
                        pairs[n++] =
                                (struct pair){str_of(resource_kind_name((enum resource_kind)k)),
                                        resources->unresolved[k] ? STR("?") : STR("~")};
        fields->request.resources = pairs;
        fields->request.n_resources = n;
        fill_facts(x, fields);
}

static void fill_decision(struct exchange *x, struct audit_fields *fields)
{
        const struct decision *decision = &x->decision;

        fields->decision.policy = str_of(x->world->policy_digest);
        if (x->shadow_disagrees && fields->kind == AUDIT_OUTCOME)
                fields->decision.shadow = str_of(x->shadow_text);
        if (x->decided) {
                fields->decision.effect =
                        decision->effect == EFFECT_ALLOW ? AUDIT_ALLOW : AUDIT_DENY;
                fields->decision.role = decision->role;
                fields->decision.binding = decision->binding;
                fields->decision.rule = decision->rule;
                fields->decision.reason = str_of(decision->reason);
                if (decision->breaks_glass && decision->effect == EFFECT_ALLOW)
                        fields->decision.break_glass = x->reason;
        }
        if (!x->refused) {
                if (!x->decided && x->status) { /* `GET /`: anybody known may ask who they are */
                        fields->decision.effect = AUDIT_ALLOW;
                        fields->decision.reason = STR("told the caller who it is");
                } else if (!x->decided) {
                        fields->decision.effect = AUDIT_ERROR;
                        fields->decision.reason = STR("the client left before a decision");
                }
                return;
        }
        /* Refused before the policy was asked is a deny; after an allow it is a failure. */
        if (!x->decided || decision->effect == EFFECT_ALLOW) {
                fields->decision.effect = x->decided ? AUDIT_ERROR : AUDIT_DENY;
                fields->decision.reason = str_of(x->refusal.message);
        }
}

static void fill_upstream(struct exchange *x, struct audit_fields *fields)
{
        if (x->credential) {
                fields->credential.name = x->decision.credential;
                fields->credential.type = x->credential_type;
                fields->credential.assertion = x->credential_is_callers ? STR("caller") : STR_NONE;
        }
        if (x->attempts == 0)
                return;
        fields->upstream.host =
                str_of(x->detour ? x->detour->host : service_host(x->named.service));
        fields->upstream.status = x->upstream_status;
        fields->upstream.activity_id = x->activity_id;
        fields->upstream.e2eid = x->upstream_e2eid;
        fields->upstream.attempts = x->attempts;
        fields->upstream.duration_us =
                (x->first_byte_us ? x->first_byte_us : clock_mono_us()) - x->upstream_begun_us;
}

static void fill_trigger(struct exchange *x, struct audit_fields *fields)
{
        const struct trigger *t = x->trigger;

        if (!t)
                return;
        fields->run.id = t->run_id;
        fields->run.url = t->run_url;
        if (t->keyed == TRIGGER_UNKEYED)
                return;
        struct buf hex;
        char memory[2 * 8];
        buf_init_fixed(&hex, memory, sizeof(memory));
        buf_hex(&hex, t->key.key, 8);
        fields->trigger.key = arena_copy(&x->arena, buf_str(&hex));
        fields->trigger.by = t->keyed == TRIGGER_BY_CHOICE ? STR("key") : STR("task");
        fields->trigger.state = str_of(t->state);
        if (t->first_id[0] && strcmp(t->first_id, x->request_id) != 0)
                fields->trigger.first = str_of(t->first_id);
}

static void fill(struct exchange *x, enum audit_kind kind, struct audit_fields *fields)
{
        exchange_open_reserve(x);
        fields->time_ms = x->worker->wall_ms;
        fields->kind = kind;
        fields->request_id = str_of(x->request_id);
        fields->correlation_id = str_of(x->correlation_id);
        fill_caller(x, fields);
        fill_request(x, fields);
        fill_name(x, fields);
        fill_decision(x, fields);
        fill_upstream(x, fields);
        fill_trigger(x, fields);
}

/* The event that glass is broken; an intent of the same request fits into the same batch, so that
 * both are written or neither is. */
static struct evidence_batch *write_glass(struct exchange *x, bool durable)
{
        struct worker *worker = x->worker;
        struct audit_fields fields = {0};

        if (worker->batch && worker->batch->batch.records.len > AUDIT_BATCH_BYTES / 2)
                post(worker);
        fill(x, AUDIT_EVENT, &fields);
        fields.event.name = STR("break_glass.used");
        return write_record(worker, &fields, durable);
}

void evidence_glass(struct exchange *x)
{
        if (!write_glass(x, false))
                log_error("correlation=%s event does not fit an audit record", x->correlation_id);
        glass_count(x);
}

void evidence_event(struct worker *worker, struct str name, const struct pair *detail, size_t n)
{
        const struct audit_fields fields = {
                .time_ms = worker->wall_ms,
                .kind = AUDIT_EVENT,
                .event = {.name = name, .detail = detail, .n_detail = n},
        };

        if (!write_record(worker, &fields, false))
                log_error("event=%.*s does not fit an audit record", STR_FMT(name));
}

enum next evidence_intent(struct exchange *x)
{
        const struct config_audit *settings = &x->world->config->audit;
        struct worker *worker = x->worker;
        bool read = x->named.op && x->named.op->access == ACCESS_READ;
        bool glass = x->decision.breaks_glass;
        bool durable = settings->durability == DURABILITY_ALL ||
                       (settings->durability == DURABILITY_WRITES && (!read || glass));

        exchange_open_reserve(x); /* a read has no record yet */
        if (x->audit_answered && x->audit_ok) {
                glass_count(x);
                return NEXT;
        }
        bool stuck = worker->audit_failing || evidence_is_behind(worker);
        if (x->audit_answered || stuck) {
                if (read && !glass && settings->on_failure == ON_FAILURE_ALLOW_READS)
                        return NEXT;
                return refuse(x, 503, REFUSED_AUDIT,
                        "the audit log cannot be written, and nothing is forwarded without a "
                        "record; the proxy's operators have to look at it");
        }
        if (read && !durable && !glass)
                return NEXT; /* its outcome is record enough */
        struct evidence_batch *batch = glass ? write_glass(x, durable) : NULL;
        if (!glass || (batch && !read)) {
                struct audit_fields fields = {0};
                fill(x, AUDIT_INTENT, &fields);
                batch = write_record(worker, &fields, durable);
        }
        if (!batch)
                return refuse(x, 503, REFUSED_AUDIT, "the request does not fit an audit record");
        x->intent_recorded = true;
        if (!durable) {
                glass_count(x);
                return NEXT;
        }
        worker->metrics.audit_waits++;
        link_add(&batch->waiters, &x->audit_link);
        worker->audit_waiting++;
        exchange_wait(x, WAIT_AUDIT, AUDIT_MOST_MS);
        return PENDING;
}

void evidence_leave(struct exchange *x)
{
        if (link_empty(&x->audit_link))
                return;
        link_remove(&x->audit_link);
        x->worker->audit_waiting--;
}

/* Between two fdatasyncs the scribe waits for more records to share the next one: the more do, the
 * less each costs. But when all exchanges waited for the same one there would be nothing to do
 * meanwhile. So it is begun when those that do not wait are just enough for its time: a quarter of
 * all, or the work of some eight requests, but no more than half. */
void evidence_hurry(struct worker *worker)
{
        enum { ENOUGH = 8 };
        uint64_t all = worker->metrics.exchanges_now, meanwhile = all / 4;

        if (meanwhile < ENOUGH)
                meanwhile = all / 2 < ENOUGH ? all / 2 : ENOUGH;
        if (worker->audit_hurried || !worker->audit_waiting ||
                worker->audit_waiting + meanwhile < all)
                return;
        worker->audit_hurried = true;
        scribe_hurry(worker->scribe);
}

static unsigned latency_bucket(int64_t ms)
{
        unsigned i = 0;

        while (i < METRICS_LATENCY - 1 && ms > metrics_latency_ms[i])
                i++;
        return i;
}

static void count(struct exchange *x, enum audit_effect effect, int64_t duration_us)
{
        struct metrics *metrics = &x->worker->metrics;
        unsigned access = x->has_name && x->named.op ? (unsigned)x->named.op->access : ACCESS_COUNT;
        unsigned outcome = effect == AUDIT_ALLOW ? 0 : effect == AUDIT_DENY ? 1 : 2;
        int64_t ms = duration_us / 1000;

        metrics->requests[access][outcome][x->status / 100 % METRICS_STATUS]++;
        metrics->latency[latency_bucket(ms)]++;
        metrics->latency_sum_ms += (uint64_t)ms;
        if (x->first_byte_us) {
                ms = (x->first_byte_us - x->upstream_begun_us) / 1000;
                metrics->upstream_latency[latency_bucket(ms)]++;
                metrics->upstream_latency_sum_ms += (uint64_t)ms;
        }
        if (x->refused)
                metrics->refusals[x->refusal.kind]++;
        metrics->bytes_from_clients += x->in.body.payload_bytes;
        metrics->bytes_to_clients += x->response_bytes;
}

/* One of many that were not let in, and nothing of which went upstream. Who was known when it was
 * admitted, and is not any more because its token has ended meanwhile, is no stranger. */
static bool is_counted(struct exchange *x)
{
        struct worker *worker = x->worker;

        if (x->caller || x->admitted || x->world->config->audit.strangers == STRANGERS_EACH)
                return false;
        unsigned reason = x->refused ? (unsigned)x->refusal.kind : REFUSAL_COUNT;
        bool counted = strangers_count(worker->strangers_met, client_address(x->client),
                x->client->peer, reason, worker->now_ms);
        worker->metrics.strangers_counted += counted;
        return counted;
}

void evidence_outcome(struct exchange *x)
{
        struct audit_fields fields = {0};

        fill(x, AUDIT_OUTCOME, &fields);
        fields.response.status = x->status;
        fields.response.bytes = x->response_bytes;
        fields.duration_us = clock_mono_us() - x->begun_us;
        if (!is_counted(x) && !write_record(x->worker, &fields, false))
                log_error("correlation=%s outcome does not fit an audit record", x->correlation_id);
        count(x, fields.decision.effect, fields.duration_us);
}
