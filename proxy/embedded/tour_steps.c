/*
 * What the tour shows: the requests by HTTP. Each step says what it is about, asks, shows answer
 * and records, and checks them.
 */
#include "tour.h"

#include <stdlib.h>
#include <string.h>

#define RUNS "/contoso/analytics/_apis/pipelines/%d/runs"
/* 52 characters that look like a personal access token, and are none. */
#define FAKE_PAT "dagwarddemo2dagwarddemo3dagwarddemo4dagwarddemo5dagw"

/* What a step expects of answer and record. */
struct expectation {
        int status;
        const char *effect, *operation; /* operation NULL: none */
        bool rule;
        int upstream; /* requests upstream has to have seen; -1: not looked at */
        bool intent;
};

static const char *text_or(const char *text, const char *other)
{
        return text[0] ? text : other;
}

/* The credential that upstream saw, and that it was not the caller's. */
static void check_lent(struct tour *t, const json_t *request)
{
        const char *seen = tour_recorded_header(request, "Authorization");
        char *all = json_dumps(request, JSON_COMPACT);
        const char *signature = strrchr(t->token, '.');

        step_check(t, strncmp(seen, "Bearer emulated-", 16) == 0, "a lent token went upstream",
                "upstream saw %s", seen[0] ? "another credential" : "no credential");
        step_check(t, all && signature && !strstr(all, signature), "the caller's did not",
                "upstream received the caller's token");
        free(all);
}

static void check_records(
        struct tour *t, const struct expectation *e, json_t *const *records, size_t n, int saw)
{
        const json_t *outcome = records_outcome(records, n);
        const char *effect = record_text(outcome, "decision.effect");
        const char *operation = record_text(outcome, "request.operation");
        const char *rule = record_text(outcome, "decision.rule");

        if (!outcome) {
                step_check(t, false, "an audit record", "there is none");
                return;
        }
        step_check(t, strcmp(effect, e->effect) == 0,
                arena_printf(&t->arena, "decision %s", e->effect).ptr, "the record says `%s`",
                effect);
        if (e->operation)
                step_check(t, strcmp(operation, e->operation) == 0, e->operation,
                        "the record says `%s`", operation);
        if (e->rule)
                step_check(t, strncmp(rule, "policy.yaml:", 12) == 0, "the rule is named",
                        "the record names `%s`", rule);
        if (e->intent)
                step_check(t, n == 2 && strcmp(record_text(records[0], "kind"), "intent") == 0,
                        "intent before outcome", "there are %zu records", n);
        else
                step_check(t, n == 1, "one record", "there are %zu", n);
        if (e->upstream == 0)
                step_check(t, saw == 0, "nothing reached upstream",
                        saw < 0 ? "the emulator cannot be asked" : "upstream saw it");
        else if (e->upstream > 0)
                step_check(t, saw == e->upstream, "upstream saw the same ID",
                        saw < 0 ? "the emulator cannot be asked" : "it saw the ID %d times", saw);
}

/* Calls, shows answer and records, checks; `answer` stays for the step's own checks. */
static void show(struct tour *t, const struct tour_call *call, const char *const *members,
        const struct expectation *e, struct tour_answer *answer)
{
        json_t *records[TOUR_RECORDS_MOST], *all = NULL, *first = NULL;

        tour_call(t, call, answer);
        report_answer(t, answer, members);
        size_t n = records_find(t, answer->correlation, 1, records);
        int saw = e->upstream < 0 ? -1 : tour_upstream_saw(t, answer->correlation, &all, &first);
        report_records(t, records, n, saw);
        step_check(t, answer->status == e->status,
                arena_printf(&t->arena, "status %d", e->status).ptr, "it is %d", answer->status);
        check_records(t, e, records, n, saw);
        if (first)
                check_lent(t, first);
        json_decref(all);
        records_clear(records, n);
}

static const char *runs_url(struct tour *t, int pipeline)
{
        return arena_printf(&t->arena, "%s" RUNS "?api-version=7.1", t->proxy_url, pipeline).ptr;
}

/* As Airflow's HttpHook sends it: login and password of the connection, headers of the operator. */
static struct tour_call run_call(struct tour *t, int pipeline)
{
        static const char *const headers[] = {"Content-Type: application/json",
                "X-Airflow-Dag-Id: nightly_load", "X-Airflow-Run-Id: scheduled__2026-11-23",
                "X-Airflow-Task-Id: start_pipeline", "X-Airflow-Try-Number: 1", NULL};

        return (struct tour_call){.method = "POST",
                .url = runs_url(t, pipeline),
                .user_password = arena_printf(&t->arena, "airflow:%s", t->token).ptr,
                .headers = headers,
                .body = "{\"resources\":{\"repositories\":{\"self\":{\"refName\":"
                        "\"refs/heads/main\"}}}}"};
}

static void show_run_request(struct tour *t, const struct tour_call *call)
{
        report_command(t, "request",
                "curl -u \"airflow:%s\" -H 'Content-Type: application/json'\n"
                "-H 'X-Airflow-Dag-Id: nightly_load' -H 'X-Airflow-Run-Id: "
                "scheduled__2026-11-23'\n"
                "-H 'X-Airflow-Task-Id: start_pipeline' -H 'X-Airflow-Try-Number: 1'\n"
                "-d '%s'\n"
                "'%s'",
                report_short(t, t->token), call->body, call->url);
}

static void step_who(struct tour *t)
{
        static const char *const members[] = {"issuer", "subject", "grants", NULL};
        const struct expectation e = {200, "allow", NULL, false, 0, false};
        struct tour_call call = {.method = "GET",
                .url = arena_printf(&t->arena, "%s/", t->proxy_url).ptr,
                .bearer = t->token};
        struct tour_answer answer;

        step_begin(t, "Who am I?");
        report_prose(t,
                "A caller is whoever its OIDC token says. Here it is the service account of an "
                "Airflow worker; the proxy knows the issuer's keys and checks the signature "
                "itself. "
                "Airflow's \"Test connection\" button asks exactly this.");
        report_command(t, "request", "curl -H \"Authorization: Bearer %s\" %s/",
                report_short(t, t->token), t->proxy_url);
        show(t, &call, members, &e, &answer);
        const char *subject = record_text(answer.json, "subject");
        step_check(t, strcmp(subject, "system:serviceaccount:airflow:worker") == 0,
                "the caller is known", "the answer says `%s`", subject);
        tour_answer_clear(&answer);
        step_end(t);
}

static void step_run(struct tour *t)
{
        static const char *const members[] = {"id", "state", "pipeline.name", NULL};
        const struct expectation e = {200, "allow", "pipelines.runs.run", true, 1, true};
        struct tour_call call = run_call(t, 42);
        struct tour_answer answer;

        step_begin(t, "A task starts pipeline 42");
        report_prose(t,
                "The request that Airflow's HttpHook sends, with the token as password of the "
                "connection. The policy allows it, so it is written down first and then goes "
                "upstream with a token that the proxy obtained; the caller's own token stays here. "
                "What the X-Airflow headers say is recorded as a claim and never a reason to "
                "allow.");
        show_run_request(t, &call);
        show(t, &call, members, &e, &answer);
        t->run_id = json_integer_value(json_object_get(answer.json, "id"));
        step_check(t, t->run_id > 0, "a run was started", "the answer names no run");
        tour_answer_clear(&answer);
        step_end(t);
}

static void step_poll(struct tour *t)
{
        static const char *const members[] = {"id", "state", "result", NULL};
        const struct expectation e = {200, "allow", "pipelines.runs.get", true, 1, false};
        const char *url = arena_printf(
                &t->arena, "%s" RUNS "/%lld?api-version=7.1", t->proxy_url, 42, t->run_id)
                                  .ptr;
        struct tour_call call = {.method = "GET", .url = url, .bearer = t->token};
        struct tour_answer answer;

        step_begin(t, "The task watches its run");
        report_prose(t,
                "The same caller, with the token as Bearer this time. Reading leaves one record; "
                "only requests that change something are written down before they are sent.");
        report_command(t, "request", "curl -H \"Authorization: Bearer %s\"\n'%s'",
                report_short(t, t->token), url);
        show(t, &call, members, &e, &answer);
        long long id = json_integer_value(json_object_get(answer.json, "id"));
        step_check(t, t->run_id > 0 && id == t->run_id, "it is the run of step 2",
                "the answer is about run %lld", id);
        tour_answer_clear(&answer);
        step_end(t);
}

static void step_refused(struct tour *t)
{
        static const char *const members[] = {"message", "typeKey", "rule", NULL};
        const struct expectation e = {403, "deny", "pipelines.runs.run", true, 0, false};
        struct tour_call call = run_call(t, 99);
        struct tour_answer answer;

        step_begin(t, "The same task wants pipeline 99");
        report_prose(t,
                "A `deny` rule names pipeline 99, and a deny wins over everything. The answer has "
                "the shape of Azure DevOps' own errors, so that SDKs and task logs show its "
                "message; "
                "the status line carries the correlation ID for clients that show nothing else.");
        show_run_request(t, &call);
        show(t, &call, members, &e, &answer);
        t->refused_correlation = answer.correlation;
        const char *rule = record_text(answer.json, "rule");
        step_check(t, strstr(answer.line, "(corr ") != NULL, "the status line carries the ID",
                "it reads `%s`", answer.line);
        step_check(t, strncmp(rule, "policy.yaml:", 12) == 0, "the answer names the rule",
                "the answer names `%s`", text_or(rule, "none"));
        tour_answer_clear(&answer);
        step_end(t);
}

static void step_expired(struct tour *t)
{
        static const char *const members[] = {"message", NULL};
        const struct expectation e = {401, "deny", NULL, false, 0, false};
        struct tour_call call = run_call(t, 42);
        struct tour_answer answer;

        call.user_password = arena_printf(&t->arena, "airflow:%s", t->expired).ptr;
        step_begin(t, "A token that expired an hour ago");
        report_prose(t, "The request of step 2 again; only the token is an old one. The caller "
                        "learns what is wrong and what to do, and the token appears nowhere.");
        report_command(t, "request",
                "curl -u \"airflow:%s\" -H 'Content-Type: application/json' -d '{…}'\n'%s'",
                report_short(t, t->expired), call.url);
        show(t, &call, members, &e, &answer);
        step_check(t, strstr(record_text(answer.json, "message"), "expired") != NULL,
                "the message says that it expired", "it does not");
        tour_answer_clear(&answer);
        step_end(t);
}

static void step_pat(struct tour *t)
{
        static const char *const members[] = {"message", NULL};
        const struct expectation e = {401, "deny", NULL, false, 0, false};
        struct tour_call call = run_call(t, 42);
        struct tour_answer answer;
        struct buf audit;

        call.user_password = ":" FAKE_PAT;
        step_begin(t, "A personal access token");
        report_prose(t,
                "What many connections hold today: a secret that says nothing about who "
                "uses it, and lives for months. It is refused, with advice, and not logged.");
        report_command(t, "request",
                "curl -u \":%.10s…\" -H 'Content-Type: application/json' -d '{…}'\n'%s'", FAKE_PAT,
                call.url);
        show(t, &call, members, &e, &answer);
        const char *message = record_text(answer.json, "message");
        step_check(t, strstr(message, "PAT") || strstr(message, "ersonal access token"),
                "the message says that PATs are not accepted", "it does not");
        bool read = tour_read(t->audit_file, &audit);
        step_check(t, read && str_find_str(buf_str(&audit), STR(FAKE_PAT)) < 0,
                "the PAT is in no record", "the audit file %s",
                read ? "holds it" : "cannot be read");
        buf_clear(&audit);
        tour_answer_clear(&answer);
        step_end(t);
}

void tour_walk(struct tour *t)
{
        void (*const steps[TOUR_STEPS])(struct tour *) = {step_who, step_run, step_poll,
                step_refused, step_expired, step_pat, step_clone, step_push, step_audit};

        for (size_t i = 0; i < TOUR_STEPS && !tour_stopped(); i++)
                steps[i](t);
}
