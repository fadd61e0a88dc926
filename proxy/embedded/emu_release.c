/*
 * Classic releases: two stages, the second behind an approval. A stage that was started has
 * succeeded when its release was asked for EMU_RELEASE_POLLS times.
 */
#include <stdio.h>
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "embedded/emu.h"

enum { EMU_RELEASE_POLLS = 2 };

static const struct {
        long long id;
        const char *name;
        unsigned project;
} definitions[] = {{5, "warehouse", 0}, {6, "platform", 1}};
enum { DEFINITIONS = sizeof(definitions) / sizeof(definitions[0]) };

static const char *const stages[EMU_STAGES] = {"staging", "production"};

static bool in_project(const struct emu_call *call, unsigned definition)
{
        return &emu_projects[definitions[definition].project] == call->project;
}

static json_t *definition_json(unsigned i)
{
        char url[256];

        snprintf(url, sizeof(url),
                "https://vsrm.dev.azure.com/" EMU_ORGANIZATION "/%s/_apis/Release/definitions/%lld",
                emu_projects[definitions[i].project].id, definitions[i].id);
        return json_pack("{sI ss ss ss s{s{ss}}}", "id", (json_int_t)definitions[i].id, "name",
                definitions[i].name, "path", "\\", "url", url, "_links", "self", "href", url);
}

void emu_release_definitions(struct emu_call *call)
{
        json_t *list = json_array();

        for (unsigned i = 0; i < DEFINITIONS; i++)
                if (in_project(call, i))
                        json_array_append_new(list, definition_json(i));
        emu_list(call, list);
}

/* The release of the call's project that argument `i` names, or NULL; the caller holds the lock. */
static struct emu_release *release_named(struct emu_call *call, size_t i)
{
        uint64_t id;

        if (!str_to_u64(call->arguments[i], &id) || id < 1 || id > call->azure->n_releases)
                return NULL;
        struct emu_release *release = &call->azure->releases[id - 1];
        return in_project(call, release->definition) ? release : NULL;
}

static json_t *stage_json(const struct emu_release *release, unsigned i)
{
        return json_pack("{sI ss ss sI}", "id", (json_int_t)(release->id * 10 + i + 1), "name",
                stages[i], "status", release->status[i], "releaseId", (json_int_t)release->id);
}

static json_t *release_json(const struct emu_release *release)
{
        const struct emu_project *project = &emu_projects[definitions[release->definition].project];
        char url[256], web[256], name[32];
        json_t *list = json_array();

        snprintf(url, sizeof(url),
                "https://vsrm.dev.azure.com/" EMU_ORGANIZATION "/%s/_apis/Release/releases/%lld",
                project->id, release->id);
        snprintf(
                web, sizeof(web), EMU_BASE "/%s/_release?releaseId=%lld", project->id, release->id);
        snprintf(name, sizeof(name), "Release-%lld", release->id);
        for (unsigned i = 0; i < EMU_STAGES; i++)
                json_array_append_new(list, stage_json(release, i));
        char created[CLOCK_RFC3339_LEN + 1];

        clock_rfc3339(release->created_ms, created);
        return json_pack("{sI ss ss sO* ss ss so so s{s{ss} s{ss}} ss so}", "id",
                (json_int_t)release->id, "createdOn", created, "reason", "manual", "variables",
                release->variables, "name", name, "status", "active", "environments", list,
                "releaseDefinition", definition_json(release->definition), "_links", "self", "href",
                url, "web", "href", web, "url", url, "projectReference", emu_project_json(project));
}

/* What was found under the lock; NULL: there is no such release, or no such stage of it. */
static void reply(struct emu_call *call, json_t *answer)
{
        if (answer)
                emu_json(call, 200, answer);
        else
                emu_error(call, 404, "ReleaseNotFoundException",
                        "VS402877: There is no release %.*s.", STR_FMT(call->arguments[0]));
}

void emu_release_create(struct emu_call *call)
{
        json_t *body = emu_body_json(call), *answer = NULL;
        json_int_t wanted = json_integer_value(json_object_get(body, "definitionId"));
        unsigned found = DEFINITIONS;

        if (!body)
                return;
        for (unsigned i = 0; i < DEFINITIONS; i++)
                if (definitions[i].id == wanted && in_project(call, i))
                        found = i;
        json_t *variables = json_deep_copy(json_object_get(body, "variables"));
        json_decref(body);
        pthread_mutex_lock(&call->azure->lock);
        if (found < DEFINITIONS && call->azure->n_releases < EMU_RELEASES) {
                struct emu_release *release = &call->azure->releases[call->azure->n_releases++];
                *release = (struct emu_release){.id = (long long)call->azure->n_releases,
                        .definition = found,
                        .created_ms = clock_wall_ms(),
                        .variables = json_incref(variables),
                        .status = {"inProgress", "notStarted"}};
                snprintf(release->e2eid, sizeof(release->e2eid), "%.*s",
                        STR_FMT(h1_field_value(&call->request->head, H1_X_VSS_E2EID)));
                answer = release_json(release);
        }
        pthread_mutex_unlock(&call->azure->lock);
        json_decref(variables);
        if (answer)
                emu_json(call, 200, answer);
        else
                emu_error(call, 400, "InvalidRequestException",
                        "VS402947: There is no release definition %lld.", (long long)wanted);
}

/* The newest first, unless it is asked for otherwise. */
void emu_release_list(struct emu_call *call)
{
        bool ascending = str_eq_fold(emu_query(call, "queryOrder"), STR("ascending"));
        struct str definition = emu_query(call, "definitionId");
        json_t *list = json_array();
        uint64_t top = EMU_RELEASES, id = 0;
        size_t n = call->azure->n_releases;

        if (!str_to_u64(emu_query(call, "$top"), &top))
                top = EMU_RELEASES;
        pthread_mutex_lock(&call->azure->lock);
        for (size_t i = 0; i < n && json_array_size(list) < top; i++) {
                const struct emu_release *one = &call->azure->releases[ascending ? i : n - 1 - i];
                if (in_project(call, one->definition) &&
                        (!str_to_u64(definition, &id) ||
                                (uint64_t)definitions[one->definition].id == id) &&
                        emu_in_time(call, "minCreatedTime", "maxCreatedTime", one->created_ms))
                        json_array_append_new(list, release_json(one));
        }
        pthread_mutex_unlock(&call->azure->lock);
        emu_list(call, list);
}

/* One poll nearer to its end: what runs succeeds, and then the next stage waits for its approval.
 */
static void advance(struct emu_release *release)
{
        if (++release->polls % EMU_RELEASE_POLLS)
                return;
        for (unsigned i = 0; i < EMU_STAGES; i++)
                if (strcmp(release->status[i], "inProgress") == 0)
                        release->status[i] = "succeeded";
}

void emu_release_get(struct emu_call *call)
{
        json_t *answer = NULL;

        pthread_mutex_lock(&call->azure->lock);
        struct emu_release *release = release_named(call, 0);
        if (release) {
                advance(release);
                answer = release_json(release);
        }
        pthread_mutex_unlock(&call->azure->lock);
        reply(call, answer);
}

/* PATCH of a stage: `status: inProgress` deploys, `canceled` stops. */
void emu_release_deploy(struct emu_call *call)
{
        json_t *body = emu_body_json(call), *answer = NULL;
        const char *status = json_string_value(json_object_get(body, "status"));
        uint64_t number = 0;

        if (!body)
                return;
        pthread_mutex_lock(&call->azure->lock);
        struct emu_release *release = release_named(call, 0);
        bool good = release && str_to_u64(call->arguments[1], &number);
        for (unsigned i = 0; good && i < EMU_STAGES; i++) {
                if (number != (uint64_t)release->id * 10 + i + 1)
                        continue;
                if (status && strcmp(status, "inProgress") == 0)
                        release->status[i] = "inProgress";
                if (status && strcmp(status, "canceled") == 0)
                        release->status[i] = "canceled";
                answer = stage_json(release, i);
        }
        pthread_mutex_unlock(&call->azure->lock);
        json_decref(body);
        reply(call, answer);
}

static json_t *approval_json(const struct emu_release *release)
{
        return json_pack("{sI ss ss s{sI} s{ss}}", "id", (json_int_t)release->id, "status",
                release->approved ? "approved" : "pending", "approvalType", "preDeploy", "release",
                "id", (json_int_t)release->id, "releaseEnvironment", "name", stages[1]);
}

/* The second stage of a release whose first one has succeeded waits. */
void emu_release_approvals(struct emu_call *call)
{
        json_t *list = json_array();

        pthread_mutex_lock(&call->azure->lock);
        for (size_t i = 0; i < call->azure->n_releases; i++) {
                const struct emu_release *release = &call->azure->releases[i];
                if (in_project(call, release->definition) && !release->approved &&
                        strcmp(release->status[0], "succeeded") == 0)
                        json_array_append_new(list, approval_json(release));
        }
        pthread_mutex_unlock(&call->azure->lock);
        emu_list(call, list);
}

void emu_release_approve(struct emu_call *call)
{
        json_t *body = emu_body_json(call), *answer = NULL;
        const char *status = json_string_value(json_object_get(body, "status"));

        if (!body)
                return;
        pthread_mutex_lock(&call->azure->lock);
        struct emu_release *release = release_named(call, 0);
        if (release && status && strcmp(status, "approved") == 0) {
                release->approved = true;
                release->status[1] = "inProgress";
        }
        if (release)
                answer = approval_json(release);
        pthread_mutex_unlock(&call->azure->lock);
        json_decref(body);
        reply(call, answer);
}

void emu_releases_free(struct azure_devops *azure)
{
        for (size_t i = 0; i < azure->n_releases; i++)
                json_decref(azure->releases[i].variables);
}

json_t *emu_releases_json(struct azure_devops *azure)
{
        json_t *list = json_array();

        for (size_t i = 0; i < azure->n_releases; i++) {
                const struct emu_release *one = &azure->releases[i];
                json_array_append_new(
                        list, json_pack("{sI sI ss sO*}", "id", (json_int_t)one->id, "definition",
                                      (json_int_t)definitions[one->definition].id, "e2eid",
                                      one->e2eid, "variables", one->variables));
        }
        return list;
}
