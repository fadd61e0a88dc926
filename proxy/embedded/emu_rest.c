#include <stdio.h>
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "dagward/base/id.h"
#include "embedded/emu.h"

/* --- bodies --- */

json_t *emu_body_json(struct emu_call *call)
{
        struct buf text;
        json_error_t at;
        json_t *body = NULL;

        if (!emu_body_all(call->request, 8 << 20, &text)) {
                if (text.overflow)
                        emu_error(call, 413, "RequestTooLargeException", "The body is too large.");
                else
                        emu_drop(call->request);
        } else if (text.len == 0) {
                body = json_object();
        } else {
                body = json_loadb(text.data, text.len, 0, &at);
                if (!body)
                        emu_error(call, 400, "JsonReaderException", "Line %d, column %d: %s",
                                at.line, at.column, at.text);
        }
        buf_clear(&text);
        return body;
}

static json_t *listed(json_t *list)
{
        return json_pack("{si so}", "count", (int)json_array_size(list), "value", list);
}

void emu_list(struct emu_call *call, json_t *list)
{
        emu_json(call, 200, listed(list));
}

/* --- projects --- */

json_t *emu_project_json(const struct emu_project *project)
{
        char url[256];

        snprintf(url, sizeof(url), EMU_BASE "/_apis/projects/%s", project->id);
        return json_pack("{ss ss ss ss ss si ss ss}", "id", project->id, "name", project->name,
                "description", project->description, "url", url, "state", "wellFormed", "revision",
                17, "visibility", "private", "lastUpdateTime", "2026-03-02T08:15:30.000Z");
}

static void project_list(struct emu_call *call)
{
        json_t *list = json_array();
        uint64_t top = EMU_PROJECTS, skip = 0;

        if (emu_query(call, "$top").ptr && !str_to_u64(emu_query(call, "$top"), &top))
                top = EMU_PROJECTS;
        if (!str_to_u64(emu_query(call, "$skip"), &skip) &&
                !str_to_u64(emu_query(call, "continuationToken"), &skip))
                skip = 0;
        for (; skip < EMU_PROJECTS && top > 0; skip++, top--)
                json_array_append_new(list, emu_project_json(&emu_projects[skip]));
        if (skip < EMU_PROJECTS) {
                char token[24];

                snprintf(token, sizeof(token), "%llu", (unsigned long long)skip);
                emu_header(call->request, STR("x-ms-continuationtoken"), str_of(token));
        }
        emu_json(call, 200, listed(list));
}

static void project_get(struct emu_call *call)
{
        const struct emu_project *project = emu_project_named(call->arguments[0]);
        char team[256], web[256];

        if (!project) {
                emu_no_project(call, 404, call->arguments[0]);
                return;
        }
        json_t *body = emu_project_json(project);
        snprintf(team, sizeof(team), EMU_BASE "/_apis/projects/%s/teams/%.8s-7000-4b1e-9d5a-1",
                project->id, project->id);
        snprintf(web, sizeof(web), EMU_BASE "/%s", project->name);
        json_object_set_new(body, "_links",
                json_pack("{s{ss} s{ss}}", "self", "href",
                        json_string_value(json_object_get(body, "url")), "web", "href", web));
        json_object_set_new(body, "defaultTeam",
                json_pack("{ss ss ss}", "id", "7ea77ea7-7000-4b1e-9d5a-000000000001", "name",
                        "Contributors", "url", team));
        emu_json(call, 200, body);
}

/* --- repositories --- */

json_t *emu_repository_json(const struct emu_repository *repository)
{
        const struct emu_project *project = &emu_projects[repository->project];
        char url[256], remote[256], web[256], ssh[256];

        snprintf(url, sizeof(url), EMU_BASE "/%s/_apis/git/repositories/%s", project->id,
                repository->id);
        snprintf(remote, sizeof(remote),
                "https://" EMU_ORGANIZATION "@dev.azure.com/" EMU_ORGANIZATION "/%s/_git/%s",
                project->name, repository->name);
        snprintf(web, sizeof(web), EMU_BASE "/%s/_git/%s", project->name, repository->name);
        snprintf(ssh, sizeof(ssh), "git@ssh.dev.azure.com:v3/" EMU_ORGANIZATION "/%s/%s",
                project->name, repository->name);
        return json_pack("{ss ss ss so ss si ss ss ss sb}", "id", repository->id, "name",
                repository->name, "url", url, "project", emu_project_json(project), "defaultBranch",
                "refs/heads/main", "size", 4096, "remoteUrl", remote, "sshUrl", ssh, "webUrl", web,
                "isDisabled", 0);
}

static void repository_list(struct emu_call *call)
{
        json_t *list = json_array();

        for (size_t i = 0; i < EMU_REPOSITORIES; i++) {
                const struct emu_repository *r = &emu_repositories[i];

                if (!call->project || call->project == &emu_projects[r->project])
                        json_array_append_new(list, emu_repository_json(r));
        }
        emu_json(call, 200, listed(list));
}

/* The repository that the route names; NULL after an answer. */
static const struct emu_repository *named_repository(struct emu_call *call)
{
        const struct emu_repository *r = emu_repository_named(call->project, call->arguments[0]);

        if (!r)
                emu_error(call, 404, "GitRepositoryNotFoundException",
                        "TF401019: The Git repository with name or identifier %.*s does not exist "
                        "or you do not have permissions for the operation you are attempting.",
                        STR_FMT(call->arguments[0]));
        return r;
}

static void repository_get(struct emu_call *call)
{
        const struct emu_repository *r = named_repository(call);

        if (r)
                emu_json(call, 200, emu_repository_json(r));
}

static void ref_list(struct emu_call *call)
{
        static const char *const arguments[] = {
                "for-each-ref", "--format=%(objectname) %(refname)", NULL};
        const struct emu_repository *r = named_repository(call);
        struct str filter = emu_query(call, "filter"), line, rest;
        json_t *list = json_array();
        struct buf text;
        char url[512];

        buf_init(&text, 1 << 20);
        if (!r || !emu_git_output(call->azure, r, arguments, &text)) {
                if (r)
                        emu_error(call, 500, "GitCommandException", "git for-each-ref failed");
                json_decref(list);
                buf_clear(&text);
                return;
        }
        for (rest = buf_str(&text); rest.len > 0;) {
                rest = str_cut(rest, '\n', &line);
                struct str name = str_from(line, 41);

                if (line.len < 47 || !str_starts(str_from(name, 5), filter))
                        continue;
                snprintf(url, sizeof(url),
                        EMU_BASE "/%s/_apis/git/repositories/%s/refs?filter=%.*s",
                        emu_projects[r->project].id, r->id, STR_FMT(str_from(name, 5)));
                json_array_append_new(
                        list, json_pack("{ss% ss% s{ss ss} ss}", "name", name.ptr, name.len,
                                      "objectId", line.ptr, (size_t)40, "creator", "displayName",
                                      "dagward", "id", EMU_USER_ID, "url", url));
        }
        buf_clear(&text);
        emu_json(call, 200, listed(list));
}

/* POST {project}/_apis/wit/attachments: takes any size, keeps nothing. */
static void attachment_post(struct emu_call *call)
{
        uint64_t bytes = emu_body_discard(call->request);
        char id[ID_UUID_LEN + 1], url[256];

        id_uuid7(clock_wall_ms(), id);
        snprintf(url, sizeof(url), EMU_BASE "/_apis/wit/attachments/%s", id);
        emu_header(call->request, STR("Location"), str_of(url));
        emu_json(call, 201,
                json_pack("{ss ss sI}", "id", id, "url", url, "size", (json_int_t)bytes));
}

/* --- teams and environments: one of each, for whoever asks what a name is --- */

static void team_get(struct emu_call *call)
{
        const struct emu_project *project = emu_project_named(call->arguments[0]);
        char name[80], id[40];

        snprintf(name, sizeof(name), "%s Team", project ? project->name : "");
        snprintf(id, sizeof(id), "%.8s-7000-4b1e-9d5a-000000000001", project ? project->id : "");
        if (project && (str_eq_fold(call->arguments[1], str_of(name)) ||
                               str_eq_fold(call->arguments[1], str_of(id))))
                emu_json(call, 200,
                        json_pack("{ss ss ss ss}", "id", id, "name", name, "projectId", project->id,
                                "projectName", project->name));
        else
                emu_error(call, 404, "TeamNotFoundException", "TF400499: There is no team %.*s.",
                        STR_FMT(call->arguments[1]));
}

static void environment_get(struct emu_call *call)
{
        if (str_eq(call->arguments[0], STR("7")) && call->project == &emu_projects[0])
                emu_json(call, 200,
                        json_pack("{si ss so}", "id", 7, "name", "production", "project",
                                emu_project_json(call->project)));
        else
                emu_error(call, 404, "EnvironmentNotFoundException",
                        "The environment %.*s does not exist.", STR_FMT(call->arguments[0]));
}

/* --- routes --- */

/* Paths behind `_apis`, `*` stands for one segment, which becomes an argument. */
static const struct rest_route {
        const char *method, *path;
        bool in_project;
        void (*run)(struct emu_call *call);
} routes[] = {
        {"GET", "projects", false, project_list},
        {"GET", "projects/*", false, project_get},
        {"GET", "projects/*/teams/*", false, team_get},
        {"GET", "connectionData", false, emu_connection_data},
        {"GET", "ResourceAreas", false, emu_resource_areas},
        {"GET", "ResourceAreas/*", false, emu_resource_area},
        {"GET", "pipelines", true, emu_pipeline_list},
        {"GET", "pipelines/*", true, emu_pipeline_get},
        {"GET", "pipelines/*/runs", true, emu_run_list},
        {"POST", "pipelines/*/runs", true, emu_run_start},
        {"GET", "pipelines/*/runs/*", true, emu_run_get},
        {"GET", "pipelines/*/runs/*/artifacts", true, emu_run_artifact},
        {"GET", "pipelines/environments/*", true, environment_get},
        {"GET", "build/definitions", true, emu_definition_list},
        {"GET", "build/definitions/*", true, emu_definition_get},
        {"GET", "build/builds", true, emu_build_list},
        {"POST", "build/builds", true, emu_build_queue},
        {"GET", "build/builds/*", true, emu_build_get},
        {"PATCH", "build/builds/*", true, emu_build_update},
        {"GET", "build/builds/*/tags", true, emu_build_tags},
        {"POST", "build/builds/*/tags", true, emu_build_tags},
        {"PATCH", "build/builds/*/tags", true, emu_build_tags},
        {"PUT", "build/builds/*/tags/*", true, emu_build_tags},
        {"DELETE", "build/builds/*/tags/*", true, emu_build_tags},
        {"GET", "build/builds/*/logs/*", true, emu_build_log},
        {"GET", "build/builds/*/logs", true, emu_build_logs},
        {"GET", "build/builds/*/timeline", true, emu_build_timeline},
        {"GET", "build/builds/*/artifacts", true, emu_build_artifacts},
        {"GET", "release/definitions", true, emu_release_definitions},
        {"GET", "release/releases", true, emu_release_list},
        {"POST", "release/releases", true, emu_release_create},
        {"GET", "release/releases/*", true, emu_release_get},
        {"PATCH", "release/releases/*/environments/*", true, emu_release_deploy},
        {"GET", "release/approvals", true, emu_release_approvals},
        {"PATCH", "release/approvals/*", true, emu_release_approve},
        {"GET", "packaging/feeds", false, emu_feed_list},
        {"GET", "packaging/feeds/*", false, emu_feed_get},
        {"GET", "wiki/wikis/*/pages", true, emu_page_get},
        {"PUT", "wiki/wikis/*/pages", true, emu_page_put},
        {"GET", "git/repositories", false, repository_list},
        {"GET", "git/repositories/*", false, repository_get},
        {"GET", "git/repositories/*/refs", false, ref_list},
        {"POST", "wit/attachments", false, attachment_post},
};

static bool path_matches(
        struct emu_call *call, const char *path, const struct str *segments, size_t n)
{
        struct str rest = str_of(path), part;
        size_t i = 0, arguments = 0;

        while (rest.ptr) {
                rest = str_cut(rest, '/', &part);
                if (i == n)
                        return false;
                if (str_eq(part, STR("*")))
                        call->arguments[arguments++] = segments[i];
                else if (!str_eq_fold(part, segments[i]))
                        return false;
                i++;
        }
        return i == n;
}

void emu_rest(struct emu_call *call, const struct str *segments, size_t n)
{
        struct str method = str_eq(call->method, STR("HEAD")) ? STR("GET") : call->method;
        bool path_known = false;

        for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
                const struct rest_route *route = &routes[i];

                if (!path_matches(call, route->path, segments, n) ||
                        (route->in_project && !call->project))
                        continue;
                path_known = true;
                if (str_eq_fold(method, str_of(route->method))) {
                        route->run(call);
                        return;
                }
        }
        if (path_known)
                emu_error(call, 405, "VssRequestMethodNotAllowedException",
                        "The requested resource does not support http method '%.*s'.",
                        STR_FMT(call->method));
        else
                emu_error(call, 404, "VssResourceNotFoundException",
                        "The controller for path '%.*s' was not found or does not implement "
                        "IController.",
                        STR_FMT(str_head(call->request->head.target, 300)));
}
