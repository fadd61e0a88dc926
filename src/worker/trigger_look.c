/*
 * trigger_look: what became of a trigger that was sent and not answered; and what makes that easy
 * to say, the mark in a run and the tags on it.
 */
#include "inside.h"

#include <stdlib.h>

enum { SKEW_MS = 60 * 1000 };      /* between upstream's clock and ours */
enum { PAUSE_MS = 2000 };          /* between two looks */
enum { LOOK_MOST_MS = 25 * 1000 }; /* control answers within 20 s */

/* --- whom and what --- */

static void fill_wanted(struct exchange *x, struct started_wanted *wanted)
{
        const struct config_correlation *correlation = &x->world->config->correlation;
        const struct trigger *t = x->trigger;
        struct str project = route_param(&x->named.route, STR("project"));

        *wanted = (struct started_wanted){.op = x->named.op,
                /* A build may say itself why it was queued, and then no reason tells it apart. */
                .any_reason = str_find_str(x->held, STR("eason")) >= 0,
                .since_ms = t->begun_ms - SKEW_MS,
                .until_ms = t->lost_ms + x->world->config->idempotency.settle_ms + SKEW_MS};
        if (project.len < sizeof(wanted->project))
                snprintf(wanted->project, sizeof(wanted->project), "%.*s", STR_FMT(project));
        snprintf(wanted->organization, sizeof(wanted->organization), "%.*s",
                STR_FMT(x->named.organization));
        snprintf(wanted->definition, sizeof(wanted->definition), "%.*s", STR_FMT(t->definition));
        snprintf(wanted->id, sizeof(wanted->id), "%s", t->first_id);
        snprintf(wanted->correlation_id, sizeof(wanted->correlation_id), "%s",
                t->first_correlation_id);
        if (correlation->variable.ptr)
                snprintf(wanted->names[0], sizeof(wanted->names[0]), "%s",
                        correlation->variable.ptr);
        if (correlation->parameter.ptr)
                snprintf(wanted->names[1], sizeof(wanted->names[1]), "%s",
                        correlation->parameter.ptr);
}

static struct run_ask *run_new(void)
{
        struct run_ask *run = calloc(1, sizeof(*run));

        if (!run)
                abort();
        return run;
}

static bool credential_index(const struct exchange *x, unsigned *index)
{
        return credential_find(x->worker->lease->world->credentials, x->decision.credential, index);
}

/* A reference of what was lent, if it is the caller's own; NULL: it is anybody's. */
static struct credential *callers_own(const struct exchange *x)
{
        return x->credential_is_callers ? credential_ref(x->credential) : NULL;
}

/* --- looking --- */

static enum next cannot_tell(struct exchange *x)
{
        const struct trigger *t = x->trigger;
        char text[420];

        snprintf(text, sizeof(text),
                "the same request was sent before and its answer was lost; whether it started "
                "something cannot be told%s%s. Look in Azure DevOps for what was started at that "
                "time; if nothing was, or to start another on purpose, send an Idempotency-Key "
                "that was not used before",
                t->maybe[0] ? ", it may be run " : "", t->maybe);
        return trigger_refuse(x, 409, text, 0);
}

static enum next begin_look(struct exchange *x)
{
        struct trigger *t = x->trigger;
        char memory[STARTED_PATH_MOST_BYTES];
        struct buf path;
        enum service service;
        unsigned index;

        if (!credential_index(x, &index))
                return refuse(x, 503, REFUSED_NO_CREDENTIAL,
                        "the credential of your binding is no longer configured");
        /* What only this caller has can be looked for with that alone. */
        if (lend_is_callers(x->worker->lease->world, index)) {
                enum next next = lend_to_caller(x, index);
                if (next != NEXT)
                        return next;
        }
        struct run_ask *run = run_new();
        fill_wanted(x, &run->wanted);
        buf_init_fixed(&path, memory, sizeof(memory));
        if (!started_list_path(&run->wanted, &path, &service)) {
                free(run);
                return cannot_tell(x);
        }
        run->lent = callers_own(x);
        t->look_steady_ms = clock_steady_ms();
        enum next next = ask_run(x, ASK_RUN, index, run);
        exchange_wait(x, WAIT_TRIGGER, LOOK_MOST_MS);
        return next;
}

void trigger_seen(struct exchange *x, struct run_ask *run, bool ok, const char *why)
{
        struct trigger *t = x->trigger;
        struct str id = STR_NONE, url = STR_NONE;

        t->looked_up = true;
        t->look_ok = ok;
        t->found = run->found;
        snprintf(t->maybe, sizeof(t->maybe), "%s", run->maybe);
        snprintf(t->look_why, sizeof(t->look_why), "%s", why);
        if (!ok || run->found != RUN_FOUND)
                return;
        struct str body = str_view(run->body, run->body_bytes);
        struct trigger_answer answer = {
                .status = 200, .content_type = STR("application/json"), .whole = true};
        if (!started_read(x->named.op, body, &x->arena, &id, &url))
                id = str_of(run->id);
        answer.run_id = id;
        answer.run_url = url;
        answer.body = body;
        t->answer = trigger_answer_keep(&answer);
}

static enum next answer_found(struct exchange *x)
{
        struct trigger *t = x->trigger;

        ledger_tell(x->worker->ledger, &t->key, x->request_id, TRIGGER_ENDED, t->answer);
        t->in_hand = false;
        x->worker->metrics.triggers_found++;
        enum next next = trigger_answer_again(x, "found");
        trigger_tag(x);
        return next;
}

/* It is not there. Once enough time has passed since it can last have been on its way, that means
 * that it never will be. */
static enum next judge_absence(struct exchange *x)
{
        struct trigger *t = x->trigger;
        int64_t settled = t->lost_steady_ms + x->world->config->idempotency.settle_ms;
        int64_t left = settled - clock_steady_ms(), pause = left < PAUSE_MS ? left + 1 : PAUSE_MS;

        if (t->look_steady_ms >= settled) {
                x->worker->metrics.triggers_renewed++;
                return trigger_ask_ledger(x, true);
        }
        if (pause < 1)
                pause = 1;
        if (x->worker->now_ms + pause < t->until_ms) {
                t->looked_up = false;
                t->look_ms = x->worker->now_ms + pause;
                exchange_wait(x, WAIT_TRIGGER, pause);
                return PENDING;
        }
        return trigger_refuse(x, 409,
                "the same request was sent before and its answer was lost. Azure DevOps does not "
                "show what it would have started, but it is too early to be sure; ask again later",
                (int)(left > 0 ? left / 1000 + 1 : 1));
}

enum next trigger_look(struct exchange *x)
{
        struct trigger *t = x->trigger;
        char text[256];

        if (!t->starts)
                return cannot_tell(x);
        if (!t->looked_up)
                return begin_look(x);
        if (!t->look_ok) {
                snprintf(text, sizeof(text),
                        "the same request was sent before and its answer was lost; what became of "
                        "it could not be found out (%s); ask again",
                        t->look_why);
                return trigger_refuse(x, 503, text, 5);
        }
        switch (t->found) {
        case RUN_FOUND: return answer_found(x);
        case RUN_UNSURE: return cannot_tell(x);
        case RUN_ABSENT: return judge_absence(x);
        }
        return PENDING;
}

/* --- the mark --- */

enum next trigger_mark(struct exchange *x)
{
        const struct config_correlation *correlation = &x->world->config->correlation;
        struct started_mark mark = {correlation->variable, correlation->parameter};
        char value[ID_UUID_LEN + 1 + TRIGGER_ID + 1];
        const char *why = NULL;
        struct buf marked;

        if (!x->trigger->starts || (!mark.variable.ptr && !mark.parameter.ptr) || !x->holds_body)
                return NEXT;
        snprintf(value, sizeof(value), "%s/%s", x->correlation_id, x->trigger->first_id);
        buf_init(&marked, 6 * x->held.len + 4096);
        if (!started_mark_write(x->named.op, x->held, &mark, str_of(value), &marked, &why)) {
                buf_clear(&marked);
                return refuse(x, 400, REFUSED_MALFORMED, "%s",
                        why ? why : "the body is too large to be marked");
        }
        return hold_instead(x, &marked);
}

/* --- tags --- */

static struct str value_of(struct exchange *x, struct str name)
{
        static const struct {
                struct str name;
                enum claim claim;
        } claims[] = {{STR("dag_id"), CLAIM_DAG_ID}, {STR("run_id"), CLAIM_RUN_ID},
                {STR("task_id"), CLAIM_TASK_ID}, {STR("map_index"), CLAIM_MAP_INDEX},
                {STR("try_number"), CLAIM_TRY_NUMBER}};

        if (str_eq(name, STR("correlation_id")))
                return str_of(x->correlation_id);
        if (str_eq(name, STR("request_id")))
                return str_of(x->request_id);
        if (str_eq(name, STR("subject")))
                return x->caller->subject;
        claims_read(x);
        for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++)
                if (str_eq(name, claims[i].name))
                        return x->claims[claims[i].claim].value;
        return STR_NONE;
}

/* What a tag cannot hold becomes `_`: separators of lists, and what is no text. */
static void add_value(struct buf *out, struct str value)
{
        bool text = str_utf8_valid(value);

        for (size_t i = 0; i < value.len; i++) {
                unsigned char c = (unsigned char)value.ptr[i];
                bool bad = c < 0x20 || c == 0x7f || c == ',' || c == ';' || (c >= 0x80 && !text);
                buf_char(out, bad ? '_' : (char)c);
        }
}

/* The tag with its placeholders filled in; empty: one of them has no value. */
static struct str write_tag(struct exchange *x, struct str form)
{
        enum { TAG_MOST = 256 };
        char memory[2048];
        struct buf out;

        buf_init_fixed(&out, memory, sizeof(memory));
        while (form.len) {
                ssize_t end = form.ptr[0] == '{' ? str_find(form, '}') : -1;
                if (end < 0) {
                        buf_char(&out, form.ptr[0]);
                        form = str_from(form, 1);
                        continue;
                }
                struct str value = value_of(x, str_view(form.ptr + 1, (size_t)end - 1));
                if (!value.len)
                        return STR_NONE;
                add_value(&out, value);
                form = str_from(form, (size_t)end + 1);
        }
        /* Upstream takes no more characters than that; a character is not cut in two. */
        struct str tag = str_head(buf_str(&out), TAG_MOST);
        while (tag.len && !str_utf8_valid(tag))
                tag.len--;
        return arena_copy(&x->arena, tag);
}

void trigger_tag(struct exchange *x)
{
        const struct config_correlation *correlation = &x->world->config->correlation;
        const struct trigger *t = x->trigger;
        struct str tags[16];
        struct buf path, json;
        size_t n = 0;
        unsigned index;

        for (size_t i = 0; i < correlation->n_tags && n < 16; i++) {
                tags[n] = write_tag(x, correlation->tags[i]);
                n += tags[n].len > 0;
        }
        if (!n || !t->run_id.len || !credential_index(x, &index))
                return;
        struct run_ask *run = run_new();
        fill_wanted(x, &run->wanted);
        buf_init(&path, STARTED_PATH_MOST_BYTES);
        buf_init(&json, 64 * 1024);
        if (started_tags_write(&run->wanted, t->run_id, tags, n, &path, &json, &run->service)) {
                run->path = str_dup(buf_str(&path));
                run->tags = str_dup(buf_str(&json));
                snprintf(run->id, sizeof(run->id), "%.*s", STR_FMT(t->run_id));
                snprintf(run->request_id, sizeof(run->request_id), "%s", x->request_id);
                snprintf(run->correlation_id, sizeof(run->correlation_id), "%s", x->correlation_id);
                run->lent = callers_own(x);
                (void)ask_run(x, ASK_TAG, index, run);
        } else {
                free(run);
        }
        buf_clear(&path);
        buf_clear(&json);
}
