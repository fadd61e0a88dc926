/*
 * Pipelines, their runs, and the same runs as builds. A run is in progress until its state was
 * asked for EMU_POLLS times.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dagward/base/clock.h"
#include "embedded/emu.h"

enum { EMU_POLLS = 3 };

static const struct emu_project *project_of(const struct emu_pipeline *p)
{
        return &emu_projects[p->project];
}

/* --- pipelines --- */

static json_t *pipeline_json(const struct emu_pipeline *p)
{
        char url[256], web[256];

        snprintf(url, sizeof(url), EMU_BASE "/%s/_apis/pipelines/%lld?revision=1",
                project_of(p)->id, p->id);
        snprintf(web, sizeof(web), EMU_BASE "/%s/_build/definition?definitionId=%lld",
                project_of(p)->id, p->id);
        return json_pack("{s{s{ss} s{ss}} ss sI si ss ss}", "_links", "self", "href", url, "web",
                "href", web, "url", url, "id", (json_int_t)p->id, "revision", 1, "name", p->name,
                "folder", "\\");
}

/* The pipeline of that number in the call's project, or NULL. */
static const struct emu_pipeline *pipeline_numbered(const struct emu_call *call, struct str number)
{
        uint64_t id;

        for (size_t i = 0; str_to_u64(number, &id) && i < EMU_PIPELINES; i++) {
                if ((uint64_t)emu_pipelines[i].id == id &&
                        project_of(&emu_pipelines[i]) == call->project)
                        return &emu_pipelines[i];
        }
        return NULL;
}

/* The pipeline that the route names; NULL after an answer. */
static const struct emu_pipeline *named_pipeline(struct emu_call *call)
{
        const struct emu_pipeline *p = pipeline_numbered(call, call->arguments[0]);

        if (!p)
                emu_error(call, 404, "PipelineNotFoundException",
                        "The pipeline %.*s does not exist in project %s.",
                        STR_FMT(call->arguments[0]), call->project->name);
        return p;
}

void emu_pipeline_list(struct emu_call *call)
{
        json_t *list = json_array();

        for (size_t i = 0; i < EMU_PIPELINES; i++) {
                if (project_of(&emu_pipelines[i]) == call->project)
                        json_array_append_new(list, pipeline_json(&emu_pipelines[i]));
        }
        emu_json(call, 200,
                json_pack("{si so}", "count", (int)json_array_size(list), "value", list));
}

void emu_pipeline_get(struct emu_call *call)
{
        const struct emu_pipeline *p = named_pipeline(call);

        if (p)
                emu_json(call, 200, pipeline_json(p));
}

/* --- the store; callers hold the lock --- */

static void run_clear(struct emu_run *run)
{
        free(run->branch);
        free(run->build_parameters);
        for (size_t i = 0; i < run->n_tags; i++)
                free(run->tags[i]);
        json_decref(run->parameters);
        json_decref(run->variables);
        *run = (struct emu_run){0};
}

void emu_runs_free(struct azure_devops *azure)
{
        for (size_t i = 0; i < EMU_RUNS; i++)
                run_clear(&azure->runs[i]);
}

static struct emu_run *run_new(struct emu_call *call, const struct emu_pipeline *p)
{
        struct azure_devops *azure = call->azure;
        struct str e2eid = h1_field_value(&call->request->head, H1_X_VSS_E2EID);
        long long id = azure->next_run++;
        struct emu_run *run = &azure->runs[(id - EMU_FIRST_RUN) % EMU_RUNS];

        run_clear(run);
        run->id = id;
        run->pipeline = (unsigned)(p - emu_pipelines);
        run->created_ms = clock_wall_ms();
        snprintf(run->e2eid, sizeof(run->e2eid), "%.*s", STR_FMT(e2eid));
        return run;
}

static struct emu_run *run_find(struct azure_devops *azure, long long id)
{
        struct emu_run *run;

        if (id < EMU_FIRST_RUN || id >= azure->next_run)
                return NULL;
        run = &azure->runs[(id - EMU_FIRST_RUN) % EMU_RUNS];
        return run->id == id ? run : NULL;
}

struct emu_run *emu_run_named(struct emu_call *call, size_t i)
{
        uint64_t id;
        struct emu_run *run = str_to_u64(call->arguments[i], &id) && id < INT64_MAX
                                      ? run_find(call->azure, (long long)id)
                                      : NULL;

        return run && project_of(&emu_pipelines[run->pipeline]) == call->project ? run : NULL;
}

static void run_poll(struct emu_run *run)
{
        if (!run->result && ++run->polls >= EMU_POLLS) {
                run->result = "succeeded";
                run->finished_ms = clock_wall_ms();
        }
}

static void run_name(const struct emu_run *run, char out[48])
{
        time_t at = (time_t)(run->created_ms / 1000);
        struct tm tm;
        char day[16];

        gmtime_r(&at, &tm);
        strftime(day, sizeof(day), "%Y%m%d", &tm);
        snprintf(out, 48, "%s.%lld", day, run->id - EMU_FIRST_RUN + 1);
}

static json_t *time_json(int64_t ms)
{
        char text[CLOCK_RFC3339_LEN + 1];

        clock_rfc3339(ms, text);
        return json_string(text);
}

/* --- runs --- */

static json_t *run_json(const struct emu_run *run)
{
        const struct emu_pipeline *p = &emu_pipelines[run->pipeline];
        const struct emu_repository *r = &emu_repositories[p->repository];
        char url[256], web[256], pipeline[256], name[48];

        snprintf(url, sizeof(url), EMU_BASE "/%s/_apis/pipelines/%lld/runs/%lld", project_of(p)->id,
                p->id, run->id);
        snprintf(web, sizeof(web), EMU_BASE "/%s/_build/results?buildId=%lld", project_of(p)->id,
                run->id);
        snprintf(pipeline, sizeof(pipeline), EMU_BASE "/%s/_apis/pipelines/%lld?revision=1",
                project_of(p)->id, p->id);
        run_name(run, name);
        json_t *body = json_pack("{s{s{ss} s{ss} s{ss}} sO* sO* so ss so ss sI ss}", "_links",
                "self", "href", url, "web", "href", web, "pipeline", "href", pipeline,
                "templateParameters", run->parameters, "variables", run->variables, "pipeline",
                pipeline_json(p), "state", run->result ? "completed" : "inProgress", "createdDate",
                time_json(run->created_ms), "url", url, "id", (json_int_t)run->id, "name", name);
        json_object_set_new(body, "resources",
                json_pack("{s{s{s{ss ss} ss ss}}}", "repositories", "self", "repository", "id",
                        r->id, "type", "azureReposGit", "refName", run->branch, "version",
                        "c0117e577e1111c0117e577e1111c0117e577e11"));
        if (run->result) {
                json_object_set_new(body, "result", json_string(run->result));
                json_object_set_new(body, "finishedDate", time_json(run->finished_ms));
        }
        return body;
}

static char *branch_copy(const char *name)
{
        if (!name || !name[0])
                name = "refs/heads/main";
        struct buf text;

        buf_init(&text, 4096);
        buf_printf(&text, "%s%s", strncmp(name, "refs/", 5) == 0 ? "" : "refs/heads/", name);
        char *copy = str_dup(buf_str(&text));
        buf_clear(&text);
        return copy;
}

/* A member of `body` that is an object, or NULL. */
static json_t *object_at(const json_t *body, const char *name)
{
        json_t *value = json_object_get(body, name);

        return json_is_object(value) ? value : NULL;
}

/* The variables of a run as its build shows them: an object in a string. */
static char *variables_text(const json_t *variables)
{
        json_t *flat = variables ? json_object() : NULL, *one;
        const char *name;
        char *text = NULL;

        json_object_foreach((json_t *)variables, name, one)
                json_object_set(flat, name, json_object_get(one, "value"));
        if (flat)
                text = json_dumps(flat, JSON_COMPACT);
        json_decref(flat);
        return text;
}

void emu_run_start(struct emu_call *call)
{
        const struct emu_pipeline *p = named_pipeline(call);
        json_t *body = p ? emu_body_json(call) : NULL;

        if (!body)
                return;
        if (!json_is_object(body)) {
                emu_error(call, 400, "InvalidArgumentValueException",
                        "Value cannot be null. Parameter name: runParameters");
        } else if (json_is_true(json_object_get(body, "previewRun"))) {
                emu_json(call, 200,
                        json_pack("{ss ss}", "state", "unknown", "finalYaml",
                                "steps:\n- script: echo hello\n"));
        } else {
                json_t *self =
                        object_at(object_at(object_at(body, "resources"), "repositories"), "self");
                const char *branch = json_string_value(json_object_get(self, "refName"));

                pthread_mutex_lock(&call->azure->lock);
                struct emu_run *run = run_new(call, p);
                run->branch = branch_copy(branch);
                run->parameters = json_deep_copy(object_at(body, "templateParameters"));
                run->variables = json_deep_copy(object_at(body, "variables"));
                run->build_parameters = variables_text(run->variables);
                json_t *answer = run_json(run);
                pthread_mutex_unlock(&call->azure->lock);
                emu_json(call, 200, answer);
        }
        json_decref(body);
}

void emu_run_list(struct emu_call *call)
{
        const struct emu_pipeline *p = named_pipeline(call);
        json_t *list = json_array();

        pthread_mutex_lock(&call->azure->lock);
        for (long long id = call->azure->next_run - 1; p && id >= EMU_FIRST_RUN; id--) {
                struct emu_run *run = run_find(call->azure, id);

                if (!run || json_array_size(list) == 1000)
                        break;
                if (&emu_pipelines[run->pipeline] == p)
                        json_array_append_new(list, run_json(run));
        }
        pthread_mutex_unlock(&call->azure->lock);
        if (p)
                emu_json(call, 200,
                        json_pack("{si so}", "count", (int)json_array_size(list), "value", list));
        else
                json_decref(list);
}

void emu_run_get(struct emu_call *call)
{
        const struct emu_pipeline *p = named_pipeline(call);
        json_t *answer = NULL;

        if (!p)
                return;
        pthread_mutex_lock(&call->azure->lock);
        struct emu_run *run = emu_run_named(call, 1);
        if (run && &emu_pipelines[run->pipeline] == p) {
                run_poll(run);
                answer = run_json(run);
        }
        pthread_mutex_unlock(&call->azure->lock);
        if (answer)
                emu_json(call, 200, answer);
        else
                emu_error(call, 404, "RunNotFoundException", "The run %.*s does not exist.",
                        STR_FMT(call->arguments[1]));
}

/* --- builds --- */

static json_t *tags_json(const struct emu_run *run)
{
        json_t *list = json_array();

        for (size_t i = 0; i < run->n_tags; i++)
                json_array_append_new(list, json_string(run->tags[i]));
        return list;
}

static json_t *definition_json(const struct emu_pipeline *p)
{
        char url[256];

        snprintf(url, sizeof(url), EMU_BASE "/%s/_apis/build/Definitions/%lld?revision=1",
                project_of(p)->id, p->id);
        return json_pack("{sI ss ss ss ss ss si so}", "id", (json_int_t)p->id, "name", p->name,
                "url", url, "path", "\\", "type", "build", "queueStatus", "enabled", "revision", 1,
                "project", emu_project_json(project_of(p)));
}

static json_t *build_json(const struct emu_run *run)
{
        const struct emu_pipeline *p = &emu_pipelines[run->pipeline];
        const struct emu_repository *r = &emu_repositories[p->repository];
        char url[256], web[256], logs[256], name[48], plan[48];

        snprintf(url, sizeof(url), EMU_BASE "/%s/_apis/build/Builds/%lld", project_of(p)->id,
                run->id);
        snprintf(web, sizeof(web), EMU_BASE "/%s/_build/results?buildId=%lld", project_of(p)->id,
                run->id);
        snprintf(logs, sizeof(logs), EMU_BASE "/%s/_apis/build/builds/%lld/logs", project_of(p)->id,
                run->id);
        snprintf(plan, sizeof(plan), "91a40000-0000-4c1d-8001-%012lld", run->id);
        run_name(run, name);
        json_t *body = json_pack("{s{s{ss} s{ss}} sI ss ss so ss ss so so so ss}", "_links", "self",
                "href", url, "web", "href", web, "id", (json_int_t)run->id, "buildNumber", name,
                "status",
                run->result  ? "completed"
                : run->polls ? "inProgress"
                             : "notStarted",
                "queueTime", time_json(run->created_ms), "url", url, "uri", plan, "definition",
                definition_json(p), "project", emu_project_json(project_of(p)), "tags",
                tags_json(run), "sourceBranch", run->branch);
        json_object_set_new(
                body, "repository", json_pack("{ss ss}", "id", r->id, "type", "TfsGit"));
        json_object_set_new(body, "orchestrationPlan", json_pack("{ss}", "planId", plan));
        json_object_set_new(
                body, "logs", json_pack("{si ss ss}", "id", 0, "type", "Container", "url", logs));
        json_object_set_new(body, "reason", json_string("manual"));
        if (run->build_parameters)
                json_object_set_new(body, "parameters", json_string(run->build_parameters));
        if (run->parameters)
                json_object_set(body, "templateParameters", run->parameters);
        if (run->result) {
                json_object_set_new(body, "result", json_string(run->result));
                json_object_set_new(body, "startTime", time_json(run->created_ms));
                json_object_set_new(body, "finishTime", time_json(run->finished_ms));
        }
        return body;
}

void emu_no_build(struct emu_call *call)
{
        emu_error(call, 404, "BuildNotFoundException",
                "The requested build %.*s could not be found.", STR_FMT(call->arguments[0]));
}

static bool listed_in(struct str numbers, long long id)
{
        struct str part;
        uint64_t number;

        while (numbers.len > 0) {
                numbers = str_cut(numbers, ',', &part);
                if (str_to_u64(part, &number) && number == (uint64_t)id)
                        return true;
        }
        return false;
}

/* `name` and `definitionIds` choose among them. */
void emu_definition_list(struct emu_call *call)
{
        struct str ids = emu_query(call, "definitionIds"), name = emu_query(call, "name");
        json_t *list = json_array();

        for (size_t i = 0; i < EMU_PIPELINES; i++) {
                const struct emu_pipeline *p = &emu_pipelines[i];
                if (project_of(p) == call->project && (!ids.len || listed_in(ids, p->id)) &&
                        (!name.len || str_eq_fold(name, str_of(p->name))))
                        json_array_append_new(list, definition_json(p));
        }
        emu_list(call, list);
}

void emu_definition_get(struct emu_call *call)
{
        const struct emu_pipeline *p = named_pipeline(call);

        if (p)
                emu_json(call, 200, definition_json(p));
}

void emu_build_queue(struct emu_call *call)
{
        json_t *body = emu_body_json(call);
        json_t *id = json_object_get(object_at(body, "definition"), "id");
        char number[24] = "";

        if (!body)
                return;
        if (json_is_integer(id))
                snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(id));
        else if (json_is_string(id))
                snprintf(number, sizeof(number), "%s", json_string_value(id));
        const struct emu_pipeline *p = pipeline_numbered(call, str_of(number));
        if (!id) {
                emu_error(call, 400, "ArgumentNullException",
                        "Value cannot be null. Parameter name: build.Definition");
        } else if (!p) {
                emu_error(call, 404, "DefinitionNotFoundException",
                        "VS402881: No build definition was found for id %s.", number);
        } else {
                const char *branch = json_string_value(json_object_get(body, "sourceBranch"));

                pthread_mutex_lock(&call->azure->lock);
                struct emu_run *run = run_new(call, p);
                json_t *parameters = json_object_get(body, "parameters");
                run->branch = branch_copy(branch);
                if (json_is_string(parameters))
                        run->build_parameters = str_dup(str_of(json_string_value(parameters)));
                run->parameters = json_deep_copy(object_at(body, "templateParameters"));
                json_t *answer = build_json(run);
                pthread_mutex_unlock(&call->azure->lock);
                emu_json(call, 200, answer);
        }
        json_decref(body);
}

/* Whether the run is one that the query's filters let through. */
static bool build_wanted(const struct emu_call *call, const struct emu_run *run)
{
        struct str definitions = emu_query(call, "definitions"),
                   tags = emu_query(call, "tagFilters");
        struct str part;
        uint64_t id;
        bool found = str_empty(definitions);

        if (project_of(&emu_pipelines[run->pipeline]) != call->project ||
                !emu_in_time(call, "minTime", "maxTime", run->created_ms))
                return false;
        while (definitions.len > 0) {
                definitions = str_cut(definitions, ',', &part);
                found |= str_to_u64(part, &id) && (uint64_t)emu_pipelines[run->pipeline].id == id;
        }
        while (found && tags.len > 0) {
                tags = str_cut(tags, ',', &part);
                found = false;
                for (size_t i = 0; i < run->n_tags; i++)
                        found |= str_eq_fold(part, str_of(run->tags[i]));
        }
        return found;
}

bool emu_in_time(const struct emu_call *call, const char *least, const char *most, int64_t ms)
{
        int64_t limit;

        return (!clock_parse(emu_query(call, least), &limit) || ms >= limit) &&
               (!clock_parse(emu_query(call, most), &limit) || ms <= limit);
}

/* The oldest first; without a token: who asks so goes on by time. */
static void list_ascending(struct emu_call *call, uint64_t top, json_t *list)
{
        long long first = call->azure->next_run - EMU_RUNS;

        for (long long id = first > EMU_FIRST_RUN ? first : EMU_FIRST_RUN;
                id < call->azure->next_run && json_array_size(list) < top; id++) {
                struct emu_run *run = run_find(call->azure, id);
                if (run && build_wanted(call, run))
                        json_array_append_new(list, build_json(run));
        }
}

/* Newest first; the continuation token is the number of the next build. */
void emu_build_list(struct emu_call *call)
{
        bool ascending = str_eq_fold(emu_query(call, "queryOrder"), STR("queueTimeAscending"));
        json_t *list = json_array();
        uint64_t top = 1000, from;
        char token[24] = "";

        if (!str_to_u64(emu_query(call, "$top"), &top) || top > 5000)
                top = 1000;
        if (!str_to_u64(emu_query(call, "continuationToken"), &from) || from > INT32_MAX)
                from = INT32_MAX;
        pthread_mutex_lock(&call->azure->lock);
        if (ascending)
                list_ascending(call, top, list);
        for (long long id = call->azure->next_run - 1; !ascending && id >= EMU_FIRST_RUN; id--) {
                struct emu_run *run = run_find(call->azure, id);

                if (!run)
                        break;
                if (id > (long long)from || !build_wanted(call, run))
                        continue;
                if (json_array_size(list) == top) {
                        snprintf(token, sizeof(token), "%lld", id);
                        break;
                }
                json_array_append_new(list, build_json(run));
        }
        pthread_mutex_unlock(&call->azure->lock);
        emu_header(call->request, STR("x-ms-continuationtoken"), str_of(token));
        emu_json(call, 200,
                json_pack("{si so}", "count", (int)json_array_size(list), "value", list));
}

void emu_build_get(struct emu_call *call)
{
        json_t *answer = NULL;

        pthread_mutex_lock(&call->azure->lock);
        struct emu_run *run = emu_run_named(call, 0);
        if (run) {
                run_poll(run);
                answer = build_json(run);
        }
        pthread_mutex_unlock(&call->azure->lock);
        if (answer)
                emu_json(call, 200, answer);
        else
                emu_no_build(call);
}

void emu_build_update(struct emu_call *call)
{
        json_t *body = emu_body_json(call), *answer = NULL;

        if (!body)
                return;
        const char *status = json_string_value(json_object_get(body, "status"));
        pthread_mutex_lock(&call->azure->lock);
        struct emu_run *run = emu_run_named(call, 0);
        if (run && status && strcmp(status, "cancelling") == 0 && !run->result) {
                run->result = "canceled";
                run->finished_ms = clock_wall_ms();
        }
        if (run)
                answer = build_json(run);
        pthread_mutex_unlock(&call->azure->lock);
        json_decref(body);
        if (answer)
                emu_json(call, 200, answer);
        else
                emu_no_build(call);
}

/* --- tags --- */

static void tag_remove(struct emu_run *run, struct str tag)
{
        for (size_t i = 0; i < run->n_tags; i++) {
                if (str_eq_fold(tag, str_of(run->tags[i]))) {
                        free(run->tags[i]);
                        run->tags[i] = run->tags[--run->n_tags];
                        return;
                }
        }
}

static void tag_add(struct emu_run *run, struct str tag)
{
        for (size_t i = 0; i < run->n_tags; i++) {
                if (str_eq_fold(tag, str_of(run->tags[i])))
                        return;
        }
        if (run->n_tags < EMU_TAGS && tag.len > 0)
                run->tags[run->n_tags++] = str_dup(tag);
}

static void tags_change(struct emu_run *run, const json_t *list, bool add)
{
        json_t *tag;
        size_t i;

        json_array_foreach(list, i, tag)
        {
                struct str name = str_of(json_is_string(tag) ? json_string_value(tag) : "");

                if (add)
                        tag_add(run, name);
                else
                        tag_remove(run, name);
        }
}

/* GET lists; PUT and DELETE name one tag in the path; POST adds a list; PATCH adds and removes. */
void emu_build_tags(struct emu_call *call)
{
        bool post = str_eq(call->method, STR("POST")), patch = str_eq(call->method, STR("PATCH"));
        json_t *body = post || patch ? emu_body_json(call) : json_null(), *answer = NULL;

        if (!body)
                return;
        if ((post && !json_is_array(body)) || (patch && !json_is_object(body))) {
                emu_error(call, 400, "ArgumentException", "The tags are missing.");
                json_decref(body);
                return;
        }
        pthread_mutex_lock(&call->azure->lock);
        struct emu_run *run = emu_run_named(call, 0);
        if (run) {
                if (str_eq(call->method, STR("PUT")))
                        tag_add(run, call->arguments[1]);
                if (str_eq(call->method, STR("DELETE")))
                        tag_remove(run, call->arguments[1]);
                if (post)
                        tags_change(run, body, true);
                if (patch) {
                        tags_change(run, json_object_get(body, "tagsToAdd"), true);
                        tags_change(run, json_object_get(body, "tagsToRemove"), false);
                }
                answer = tags_json(run);
        }
        pthread_mutex_unlock(&call->azure->lock);
        json_decref(body);
        if (answer)
                emu_json(call, 200,
                        json_pack(
                                "{si so}", "count", (int)json_array_size(answer), "value", answer));
        else
                emu_no_build(call);
}

json_t *emu_runs_json(struct azure_devops *azure)
{
        json_t *list = json_array();
        long long first = azure->next_run - EMU_RUNS;

        for (long long id = first > EMU_FIRST_RUN ? first : EMU_FIRST_RUN; id < azure->next_run;
                id++) {
                const struct emu_run *run = run_find(azure, id);
                if (run)
                        json_array_append_new(list,
                                json_pack("{sI sI ss so ss* sO*}", "id", (json_int_t)run->id,
                                        "pipeline", (json_int_t)emu_pipelines[run->pipeline].id,
                                        "e2eid", run->e2eid, "tags", tags_json(run), "parameters",
                                        run->build_parameters, "templateParameters",
                                        run->parameters));
        }
        return list;
}
