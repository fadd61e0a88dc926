#include "policy_usage.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "dagward/azdo/resources.h"

struct policy_usage {
        const struct policy *policy;
        struct past_judge *judge; /* NULL: no policy */
        int64_t since_ms;
        size_t most, left_out;
        json_t *rules;          /* rule -> operation -> true; as the policy decides today */
        json_t *before, *since; /* use -> time: the last, and the first */
};

struct policy_usage *policy_usage_new(const struct policy *policy, int64_t since_ms, size_t most)
{
        struct policy_usage *usage = calloc(1, sizeof(*usage));

        if (!usage)
                abort();
        *usage = (struct policy_usage){
                .policy = policy,
                .judge = policy ? past_judge_new(policy) : NULL,
                .since_ms = since_ms,
                .most = most,
                .rules = json_object(),
                .before = json_object(),
                .since = json_object(),
        };
        return usage;
}

void policy_usage_free(struct policy_usage *usage)
{
        if (!usage)
                return;
        past_judge_free(usage->judge);
        json_decref(usage->rules);
        json_decref(usage->before);
        json_decref(usage->since);
        free(usage);
}

size_t policy_usage_left_out(const struct policy_usage *usage)
{
        return usage->left_out;
}

bool policy_usage_lasts(enum resource_kind kind)
{
        return kind != RESOURCE_BUILD && kind != RESOURCE_RELEASE && kind != RESOURCE_WORK_ITEM;
}

/* A request that the catalogue does not know, or that belongs to no organization, is allowed by
 * method and path alone: "GET /_apis/profile". Other operations have no blank in their names. False
 * when no entry could name it: its path is not whole, or has what is a wildcard there. */
bool policy_usage_key(const struct past *past, char *out, size_t bytes)
{
        const struct policy_request *request = &past->request;

        if (request->op && resources_first(request->resources, RESOURCE_ORGANIZATION).len)
                return (size_t)snprintf(out, bytes, "%s", request->op->id) < bytes;
        return !past->incomplete && str_find(request->path, '*') < 0 &&
               (size_t)snprintf(out, bytes, "%.*s %.*s", STR_FMT(request->method),
                       STR_FMT(request->path)) < bytes;
}

static void note_rule(struct policy_usage *usage, const struct past *past, const char *key)
{
        struct decision now;

        if (past_decide(usage->judge, past, false, &now) != PAST_ALLOWED)
                return;
        json_t *operations = json_object_getn(usage->rules, now.rule.ptr, now.rule.len);
        if (!operations) {
                operations = json_object();
                json_object_setn_new(usage->rules, now.rule.ptr, now.rule.len, operations);
        }
        json_object_set_new(operations, key, json_true());
}

static void say_use(const struct past *past, const char *key, char *out, size_t bytes)
{
        const struct resources *resources = past->request.resources;
        size_t len = (size_t)snprintf(out, bytes, "%s by %.*s:", key, STR_FMT(past->role));

        for (int k = 0; k < RESOURCE_KINDS; k++)
                for (size_t i = 0; i < resources->n && len < bytes; i++) {
                        const struct resource *item = &resources->items[i];
                        if (item->kind == (enum resource_kind)k && policy_usage_lasts(item->kind))
                                len += (size_t)snprintf(out + len, bytes - len, " %s %.*s",
                                        resource_kind_selector(item->kind), STR_FMT(item->value));
                }
}

static void note_use(struct policy_usage *usage, const struct past *past, const char *key)
{
        bool since = past->request.now_ms >= usage->since_ms;
        json_t *uses = since ? usage->since : usage->before;
        char use[2048];

        say_use(past, key, use, sizeof(use));
        bool known = json_object_get(uses, use) != NULL;
        if (!known && json_object_size(uses) >= usage->most)
                usage->left_out++;
        else if (!known || !since)
                json_object_set_new(uses, use, json_stringn(past->time.ptr, past->time.len));
}

void policy_usage_note(struct policy_usage *usage, const struct past *past, const char *key)
{
        /* What an emergency needed is no use of the usual rights, but its own are not unused. */
        if (usage->since_ms != INT64_MIN && !past->broke_glass)
                note_use(usage, past, key);
        if (usage->judge)
                note_rule(usage, past, key);
}

struct unused {
        const struct policy_usage *usage;
        policy_unused_found *found;
        void *owner;
};

static void look_at_right(void *owner, const struct policy_right *right)
{
        const struct unused *unused = owner;
        size_t n = json_object_size(
                json_object_getn(unused->usage->rules, right->rule.ptr, right->rule.len));

        if (right->effect == EFFECT_ALLOW && n < right->n_operations)
                unused->found(unused->owner, right, n);
}

void policy_usage_unused(const struct policy_usage *usage, policy_unused_found *found, void *owner)
{
        struct unused unused = {usage, found, owner};

        if (usage->policy)
                (void)policy_rights(usage->policy, look_at_right, &unused);
}

void policy_usage_text(const struct policy_right *right, size_t used, char *out, size_t bytes)
{
        if (used)
                snprintf(out, bytes, "%zu of %zu operations were used", used, right->n_operations);
        else
                snprintf(out, bytes, "never used");
}

static void only_in(json_t *these, json_t *not_these, policy_drift_found *found, void *owner)
{
        const char *use;
        json_t *time;

        json_object_foreach(these, use, time)
        {
                if (!json_object_get(not_these, use))
                        found(owner, str_of(use), str_of(json_string_value(time)));
        }
}

void policy_usage_new_uses(const struct policy_usage *usage, policy_drift_found *found, void *owner)
{
        only_in(usage->since, usage->before, found, owner);
}

void policy_usage_gone_uses(
        const struct policy_usage *usage, policy_drift_found *found, void *owner)
{
        only_in(usage->before, usage->since, found, owner);
}
