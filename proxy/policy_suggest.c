/*
 * dagward policy suggest: the least policy that allows what was used, and what is granted beside.
 *
 * What was used is kept as jansson objects, which are hash tables with their keys in order of
 * arrival.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "dagward/azdo/resources.h"
#include "dagward/base/clock.h"
#include "dagward/policy/analyse.h"
#include "past.h"
#include "policy_log.h"

struct suggesting {
        const struct policy *policy;
        int64_t since_ms;
        json_t *roles;   /* role -> operation -> kind of resource -> value -> how often */
        json_t *callers; /* role -> issuer -> subject -> credential */
        json_t *drift;   /* "role operation resources" -> first time, used since but not before */
        json_t *before;  /* the same, used before */
        json_t *rules;   /* rule -> operation -> how often; as `policy` decides today */
        size_t n;
        size_t broke_glass; /* allowed, but by what is there for emergencies */
};

/* The object at `key` in `object`, made if need be. */
static json_t *at(json_t *object, struct str key)
{
        json_t *found = json_object_getn(object, key.ptr, key.len);

        if (!found) {
                found = json_object();
                json_object_setn_new(object, key.ptr, key.len, found);
        }
        return found;
}

static void count(json_t *object, struct str key)
{
        json_t *found = json_object_getn(object, key.ptr, key.len);

        if (found)
                json_integer_set(found, json_integer_value(found) + 1);
        else
                json_object_setn_new(object, key.ptr, key.len, json_integer(1));
}

/* Numbers of builds and releases are new each time. */
static bool is_lasting(enum resource_kind kind)
{
        return kind != RESOURCE_BUILD && kind != RESOURCE_RELEASE;
}

/* Kinds that a request leaves open cannot be asked for: counted as the value "*". */
static void note_resources(json_t *operation, const struct past *past, char *shown, size_t bytes)
{
        const struct resources *resources = past->request.resources;
        size_t len = 0;

        shown[0] = '\0';
        for (int k = 0; k < RESOURCE_KINDS; k++) {
                if (!is_lasting((enum resource_kind)k))
                        continue;
                struct str name = str_of(resource_kind_selector((enum resource_kind)k));
                bool any = resources->unresolved[k];
                for (size_t i = 0; i < resources->n; i++) {
                        const struct resource *item = &resources->items[i];
                        if (item->kind != (enum resource_kind)k)
                                continue;
                        any = true;
                        count(at(operation, name), item->value);
                        if (len < bytes)
                                len += (size_t)snprintf(shown + len, bytes - len, " %.*s %.*s",
                                        STR_FMT(name), STR_FMT(item->value));
                }
                if (!any)
                        continue;
                count(at(operation, STR("")), name);
                if (resources->unresolved[k])
                        count(at(operation, name), STR("*"));
        }
}

static void note_said(json_t *operation, const struct past *past)
{
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);

        for (size_t i = 0; past->said && i < past->said->n; i++)
                count(at(operation, STR("where")), str_of(kinds[past->said->items[i].kind].name));
}

static void note_drift(struct suggesting *s, const struct past *past, const char *resources)
{
        char use[2048];

        if (s->since_ms == INT64_MIN)
                return;
        snprintf(use, sizeof(use), "%.*s by %.*s:%s", STR_FMT(past->operation), STR_FMT(past->role),
                resources);
        if (past->request.now_ms < s->since_ms)
                count(s->before, str_of(use));
        else if (!json_object_get(s->drift, use))
                json_object_set_new(s->drift, use, json_stringn(past->time.ptr, past->time.len));
}

static void seen(void *owner, const struct past *past)
{
        struct suggesting *s = owner;
        struct decision now;
        char resources[1024];

        if (past->effect != EFFECT_ALLOW || !past->operation.len || !past->role.len)
                return;
        if (s->policy && past_decide(s->policy, past, &now) == PAST_ALLOWED)
                count(at(s->rules, now.rule), past->operation);
        if (past->broke_glass) {
                s->broke_glass++;
                return;
        }
        s->n++;
        json_t *operation = at(at(s->roles, past->role), past->operation);
        count(at(operation, STR("")), STR(""));
        note_resources(operation, past, resources, sizeof(resources));
        note_said(operation, past);
        note_drift(s, past, resources);
        json_t *subjects = at(at(s->callers, past->role), past->caller.issuer);
        struct str subject = past->caller.subject;
        if (!json_object_getn(subjects, subject.ptr, subject.len))
                json_object_setn_new(subjects, subject.ptr, subject.len,
                        json_stringn(past->credential.ptr, past->credential.len));
}

/* --- the policy --- */

/* In double quotes, as YAML and JSON both read it. */
static void print_quoted(const char *text)
{
        struct buf out;

        buf_init(&out, 1 << 20);
        buf_json_str(&out, str_of(text));
        fwrite(out.data, 1, out.len, stdout);
        buf_clear(&out);
}

/* How often the operation was used, and in how many of these something of a kind was named. */
static json_int_t uses_of(const json_t *operation, const char *kind)
{
        return json_integer_value(json_object_get(json_object_get(operation, ""), kind));
}

/* The selectors that all of its requests met, as text: two operations with the same share an entry.
 * Each request named one of the kind, and none left one open. */
static char *selectors_of(const json_t *operation)
{
        json_t *out = json_object();
        const char *kind, *value;
        json_t *values, *n;

        json_object_foreach((json_t *)operation, kind, values)
        {
                if (!*kind || json_object_get(values, "*"))
                        continue;
                if (strcmp(kind, "where") != 0 && uses_of(operation, kind) < uses_of(operation, ""))
                        continue;
                json_t *list = json_array();
                json_object_foreach(values, value, n)
                        json_array_append_new(list, json_string(value));
                json_object_set_new(out, kind, list);
        }
        char *text = json_dumps(out, JSON_SORT_KEYS | JSON_COMPACT);
        json_decref(out);
        return text;
}

static bool is_map(const char *name)
{
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);

        for (size_t i = 0; i < n; i++)
                if (strcmp(kinds[i].name, name) == 0)
                        return kinds[i].is_map;
        return false;
}

static void print_entry(const char *operations, const char *selectors)
{
        json_t *all = json_loads(selectors, 0, NULL), *values, *value;
        const char *kind;
        size_t i;

        printf("      - operations: [%s]\n", operations);
        json_object_foreach(all, kind, values)
        {
                bool where = strcmp(kind, "where") == 0;
                printf("        %s: %s", kind, where ? "{" : "[");
                json_array_foreach(values, i, value)
                {
                        const char *text = json_string_value(value);
                        fputs(i ? ", " : "", stdout);
                        if (where)
                                printf("%s: %s", text,
                                        is_map(text) ? "{\"*\": [\"*\"]}" : "[\"*\"]");
                        else
                                print_quoted(text);
                }
                printf("%s\n", where ? "}" : "]");
        }
        json_decref(all);
}

static void print_role(const char *role, json_t *operations)
{
        json_t *entries = json_object(), *operation, *list;
        const char *id, *selectors;

        json_object_foreach(operations, id, operation)
        {
                char *text = selectors_of(operation);
                char *so_far = strdup(json_string_value(json_object_get(entries, text))
                                              ? json_string_value(json_object_get(entries, text))
                                              : "");
                json_object_set_new(
                        entries, text, json_sprintf("%s%s%s", so_far, *so_far ? ", " : "", id));
                free(so_far);
                free(text);
        }
        printf("  ");
        print_quoted(role);
        printf(":\n    allow:\n");
        json_object_foreach(entries, selectors, list)
                print_entry(json_string_value(list), selectors);
        json_decref(entries);
}

static void print_bindings(const struct suggesting *s)
{
        const char *role, *issuer, *subject;
        json_t *issuers, *subjects, *credential;

        printf("bindings:\n");
        json_object_foreach(s->callers, role, issuers)
        {
                json_object_foreach(issuers, issuer, subjects)
                {
                        const char *separator = "", *lent = "";
                        printf("  - callers:\n      issuer: ");
                        print_quoted(issuer);
                        printf("\n      subject: [");
                        json_object_foreach(subjects, subject, credential)
                        {
                                fputs(separator, stdout);
                                print_quoted(subject);
                                separator = ", ";
                                if (*json_string_value(credential))
                                        lent = json_string_value(credential);
                        }
                        printf("]\n    roles: [");
                        print_quoted(role);
                        printf("]\n    credential: ");
                        print_quoted(*lent ? lent : "unknown");
                        printf("\n");
                }
        }
}

static void print_policy(const struct suggesting *s)
{
        const char *role;
        json_t *operations;

        printf("# The least that allows the %zu allowed requests of these records.\n"
               "version: 1\nroles:\n",
                s->n);
        json_object_foreach(s->roles, role, operations) print_role(role, operations);
        print_bindings(s);
}

/* --- what was not used --- */

static void print_unused(void *owner, const struct policy_right *right)
{
        const struct suggesting *s = owner;
        const json_t *used = json_object_getn(s->rules, right->rule.ptr, right->rule.len);
        size_t n = json_object_size(used);

        if (right->effect != EFFECT_ALLOW || n == right->n_operations)
                return;
        if (n)
                printf("# %.*s, role %.*s: %zu of %zu operations were used (%.*s)\n",
                        STR_FMT(right->rule), STR_FMT(right->role), n, right->n_operations,
                        STR_FMT(right->what));
        else
                printf("# %.*s, role %.*s: never used (%.*s%s%.*s)\n", STR_FMT(right->rule),
                        STR_FMT(right->role), STR_FMT(right->what), right->limits.len ? "; " : "",
                        STR_FMT(right->limits));
}

static void print_drift(const struct suggesting *s)
{
        const char *use;
        json_t *time;

        json_object_foreach(s->drift, use, time) if (!json_object_get(s->before, use))
                printf("# new since then: %s (first at %s)\n", use, json_string_value(time));
}

static void add_unused_json(void *owner, const struct policy_right *right)
{
        struct suggesting *s = owner;
        const json_t *used = json_object_getn(s->rules, right->rule.ptr, right->rule.len);

        if (right->effect == EFFECT_ALLOW && json_object_size(used) < right->n_operations)
                json_array_append_new(json_object_get(s->before, "unused"),
                        json_pack("{s:s%, s:s%, s:s%, s:I, s:I}", "rule", right->rule.ptr,
                                right->rule.len, "role", right->role.ptr, right->role.len, "what",
                                right->what.ptr, right->what.len, "operations",
                                (json_int_t)right->n_operations, "used",
                                (json_int_t)json_object_size(used)));
}

static void print_json(struct suggesting *s)
{
        json_t *fresh = json_object(), *time;
        const char *use;

        json_object_foreach(s->drift, use, time) if (!json_object_get(s->before, use))
                json_object_set(fresh, use, time);
        json_object_clear(s->before);
        json_object_set_new(s->before, "unused", json_array());
        if (s->policy)
                (void)policy_rights(s->policy, add_unused_json, s);
        json_t *out = json_pack("{s:I, s:I, s:O, s:O, s:o, s:O}", "requests", (json_int_t)s->n,
                "broke_glass", (json_int_t)s->broke_glass, "roles", s->roles, "callers", s->callers,
                "new", fresh, "unused", json_object_get(s->before, "unused"));
        json_dumpf(out, stdout, JSON_COMPACT);
        printf("\n");
        json_decref(out);
}

int policy_print_suggestion(const struct policy *policy, const char *const *logs, size_t n_logs,
        int64_t since_ms, bool json)
{
        struct suggesting s = {
                .policy = policy,
                .since_ms = since_ms,
                .roles = json_object(),
                .callers = json_object(),
                .drift = json_object(),
                .before = json_object(),
                .rules = json_object(),
        };
        struct past_counts counts;
        int status = EXIT_USAGE;

        if (past_read(logs, n_logs, seen, &s, &counts)) {
                status = s.n ? EXIT_YES : EXIT_NO;
                if (json) {
                        print_json(&s);
                } else if (!s.n) {
                        printf("# no request was allowed in these records\n");
                } else {
                        print_policy(&s);
                        if (policy)
                                (void)policy_rights(policy, print_unused, &s);
                        print_drift(&s);
                }
                if (s.broke_glass && !json)
                        printf("# left out: %zu requests that broke glass\n", s.broke_glass);
                if (counts.damaged)
                        fprintf(stderr, "dagward policy: %zu lines are no audit records\n",
                                counts.damaged);
        }
        json_decref(s.roles);
        json_decref(s.callers);
        json_decref(s.drift);
        json_decref(s.before);
        json_decref(s.rules);
        return status;
}
