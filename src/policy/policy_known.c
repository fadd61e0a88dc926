/* `known:`: what upstream would say of names and ids, for tests. */
#include <stdlib.h>

#include "dagward/azdo/conclude.h"
#include "dagward/policy/known.h"
#include "policy_internal.h"

/* --- reading --- */

/* Which keys an entry has, by what it is about: the first of these that is there. */
static const struct shape {
        enum resource_kind kind;
        struct str keys[5]; /* first that which holds the id */
        size_t n_keys;
} shapes[] = {
        {RESOURCE_BUILD, {{"build", 5}, {"name", 4}, {"project", 7}, {"pipeline", 8}, {"ref", 3}},
                5},
        {RESOURCE_PIPELINE, {{"pipeline", 8}, {"name", 4}, {"project", 7}}, 3},
        {RESOURCE_REPOSITORY, {{"repository", 10}, {"name", 4}, {"project", 7}}, 3},
        {RESOURCE_TEAM, {{"team", 4}, {"name", 4}, {"project", 7}}, 3},
        {RESOURCE_FEED, {{"feed", 4}, {"name", 4}, {"project", 7}}, 3},
        {RESOURCE_ENVIRONMENT, {{"environment", 11}, {"name", 4}, {"project", 7}}, 3},
        {RESOURCE_WORK_ITEM, {{"workItem", 8}, {"project", 7}}, 2},
        {RESOURCE_PROJECT, {{"project", 7}, {"name", 4}}, 2},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static struct str text_at(struct loader *loader, const struct yaml_node *node, const char *key)
{
        const struct yaml_node *at = yaml_get(node, key);
        struct str text;

        if (!at || !yaml_str(at, key, &text, loader->errors))
                return STR_NONE;
        return keep_str(loader, text);
}

/* The part behind the last backslash of `\folder\name`. */
static struct str last_part(struct str path)
{
        for (size_t i = path.len; i > 0; i--)
                if (path.ptr[i - 1] == '\\')
                        return str_from(path, i);
        return path;
}

static void set_names(struct identity *identity, struct str name)
{
        identity->name = last_part(name);
        if (name.len && name.ptr[0] == '\\')
                identity->path = name;
}

/* Of the project that it is in, one of name and id is enough; the other may be in another entry. */
static void set_project(struct identity *identity, struct str project)
{
        if (guid_valid(project))
                identity->project_id = project;
        else
                identity->project_name = project;
}

/* The id at `key`, or STR_NONE with an error. */
static struct str id_at(struct loader *loader, const struct yaml_node *node, const char *key,
        enum resource_kind kind)
{
        struct str id = text_at(loader, node, key);

        if (id.ptr && is_resource_id((int)kind, id))
                return id;
        if (id.ptr)
                error_list_add(loader->errors, yaml_get(node, key)->at,
                        "`%s` is an id here, as Azure DevOps gives it; what it is called stands in "
                        "`name`",
                        key);
        return STR_NONE;
}

void known_read(struct loader *loader, const struct yaml_node *node)
{
        struct policy *policy = loader->policy;
        const struct shape *shape = shapes;

        if (!yaml_is_mapping(node, "what is known", loader->errors))
                return;
        while (shape < shapes + SHAPES && !yaml_entry_of(node, shape->keys[0]))
                shape++;
        if (shape == shapes + SHAPES) {
                error_list_add(loader->errors, node->at,
                        "what is known begins with an id: {pipeline: 42, name: nightly}, "
                        "{repository: GUID, name: dags, project: analytics}");
                return;
        }
        (void)yaml_known_keys(node, shape->keys, shape->n_keys, loader->errors);
        struct known known = {.kind = shape->kind};
        struct identity *identity = &known.identity;
        identity->id = id_at(loader, node, shape->keys[0].ptr, shape->kind);
        set_names(identity, text_at(loader, node, "name"));
        if (shape->kind == RESOURCE_BUILD) {
                identity->pipeline_id = id_at(loader, node, "pipeline", RESOURCE_PIPELINE);
                identity->ref = text_at(loader, node, "ref");
        }
        if (shape->kind != RESOURCE_PROJECT)
                set_project(identity, text_at(loader, node, "project"));
        policy->known =
                grow(policy->known, policy->n_known, &loader->cap_known, sizeof(*policy->known));
        policy->known[policy->n_known++] = known;
}

/* --- joining --- */

static const struct identity *known_of(
        const struct policy *policy, enum resource_kind kind, struct str value)
{
        for (size_t i = 0; i < policy->n_known; i++) {
                const struct identity *identity = &policy->known[i].identity;
                if (policy->known[i].kind == kind &&
                        (str_eq_fold(identity->id, value) || str_eq_fold(identity->name, value) ||
                                (identity->path.len && str_eq_fold(identity->path, value))))
                        return identity;
        }
        return NULL;
}

/* A build knows its pipeline's number; everything its project's name or id. */
void known_join(struct policy *policy)
{
        for (size_t i = 0; i < policy->n_known; i++) {
                struct identity *identity = &policy->known[i].identity;
                const struct identity *pipeline =
                        known_of(policy, RESOURCE_PIPELINE, identity->pipeline_id);
                if (pipeline) {
                        identity->pipeline_name = pipeline->name;
                        identity->pipeline_path = pipeline->path;
                        if (!identity->project_id.len && !identity->project_name.len) {
                                identity->project_id = pipeline->project_id;
                                identity->project_name = pipeline->project_name;
                        }
                }
                struct str project =
                        identity->project_id.len ? identity->project_id : identity->project_name;
                const struct identity *known = known_of(policy, RESOURCE_PROJECT, project);
                if (known && policy->known[i].kind != RESOURCE_PROJECT) {
                        identity->project_id = known->id;
                        identity->project_name = known->name;
                }
        }
}

/* --- learning --- */

/* Looks up what would help; whether there was anything. */
static bool learn_once(const struct policy *policy, const struct policy_request *request,
        struct resources *resources, unsigned doubts, bool *learnt, struct error *err)
{
        for (size_t i = 0; i < resources->n; i++) {
                struct resource *item = &resources->items[i];
                if (!conclude_helps(request->op, resources, doubts, item))
                        continue;
                const struct identity *known = known_of(policy, item->kind, item->value);
                if (!known)
                        continue;
                if (conclude_is_elsewhere(resources, item, known))
                        return error_set(err,
                                "the proxy refuses this request: the %s does not belong to the "
                                "project that the request names",
                                resource_kind_name(item->kind));
                item->known = known;
                *learnt = true;
        }
        return true;
}

bool policy_learn(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, struct resources *resources, struct arena *arena,
        struct error *err)
{
        struct decision decision;
        struct str credential;
        bool learnt = policy->n_known > 0;

        while (learnt) {
                learnt = false;
                policy_decide(policy, grants, request, &decision);
                if (decision.effect == EFFECT_ALLOW)
                        return true;
                unsigned doubts = policy_doubts(policy, grants, request, &credential);
                if (!doubts)
                        return true;
                if (!learn_once(policy, request, resources, doubts, &learnt, err))
                        return false;
                if (learnt)
                        conclude(request->op, resources, doubts, arena);
        }
        return true;
}
