/*
 * The compiled decision against a reference that is written to be read: random policies, callers
 * and requests, the same answer each time.
 */
#include "policy_kit.h"

#include <strings.h>

#include "dagward/base/buf.h"

/* --- a policy as plain lists, the shape it is generated in --- */

enum { MOST_VALUES = 3, MOST_ENTRIES = 12, MOST_ROLES = 4, MOST_BINDINGS = 4 };
enum { KINDS = 4 };

static const enum resource_kind kinds[KINDS] = {
        RESOURCE_PROJECT, RESOURCE_PIPELINE, RESOURCE_REPOSITORY, RESOURCE_REF};

struct values {
        const char *items[MOST_VALUES];
        size_t n; /* 0: the selector is not there */
};

struct model_entry {
        struct values operations, access, scopes, areas, method, path, resources[KINDS];
};

struct model_role {
        struct model_entry allow[MOST_ENTRIES], deny[MOST_ENTRIES];
        size_t n_allow, n_deny;
        size_t first_line; /* of the first allow entry, once printed */
};

struct model_binding {
        const char *issuer, *subject; /* subject NULL: any */
        size_t roles[2], n_roles;
        int64_t expires_ms;
};

struct model {
        struct model_role roles[MOST_ROLES];
        size_t n_roles;
        struct model_binding bindings[MOST_BINDINGS];
        size_t n_bindings;
};

/* --- the reference decision --- */

enum answer { NO, MAYBE, YES };

static enum answer least(enum answer a, enum answer b)
{
        return a < b ? a : b;
}

static enum answer most(enum answer a, enum answer b)
{
        return a > b ? a : b;
}

static bool is_number(const char *text)
{
        return strspn(text, "0123456789") == strlen(text);
}

static bool is_id(enum resource_kind kind, const char *text)
{
        if (kind == RESOURCE_REF)
                return strncmp(text, "refs/", 5) != 0;
        return strlen(text) == 36 || (kind == RESOURCE_PIPELINE && is_number(text));
}

static bool starts(const char *text, const char *pattern_with_star, bool fold)
{
        size_t n = strlen(pattern_with_star) - 1;

        return (fold ? strncasecmp(text, pattern_with_star, n)
                     : strncmp(text, pattern_with_star, n)) == 0;
}

static bool has_star(const char *text)
{
        return text[strlen(text) - 1] == '*';
}

/* Is the thing called `item` the one that the policy calls `value`? */
static enum answer same(const char *value, enum resource_kind kind, const char *item, bool deny)
{
        bool fold = kind != RESOURCE_REF || deny;

        if (strcmp(value, "*") == 0)
                return YES;
        if (has_star(value)) {
                if (is_id(kind, item))
                        return MAYBE;
                return starts(item, value, fold) ? YES : NO;
        }
        if ((fold ? strcasecmp(value, item) : strcmp(value, item)) == 0)
                return YES;
        return is_id(kind, value) != is_id(kind, item) ? MAYBE : NO;
}

static enum answer kind_answer(const char *value, enum resource_kind kind,
        const struct policy_request *request, bool deny);

/* `project/name` or `name` for repositories; the value itself otherwise. */
static enum answer value_answer(const char *value, enum resource_kind kind, const char *item,
        const struct policy_request *request, bool deny)
{
        const char *slash = kind == RESOURCE_REPOSITORY ? strchr(value, '/') : NULL;
        char project[64];

        if (!slash)
                return same(value, kind, item, deny);
        snprintf(project, sizeof(project), "%.*s", (int)(slash - value), value);
        return least(same(slash + 1, kind, item, deny),
                kind_answer(project, RESOURCE_PROJECT, request, deny));
}

static size_t items_of(
        const struct policy_request *request, enum resource_kind kind, const char *out[])
{
        size_t n = 0;

        for (size_t i = 0; i < request->resources->n; i++)
                if (request->resources->items[i].kind == kind)
                        out[n++] = request->resources->items[i].value.ptr;
        return n;
}

static bool unnamed(const struct policy_request *request, enum resource_kind kind, size_t n)
{
        return request->resources->unresolved[kind] || (!request->op && n == 0);
}

/* The project part of a repository: unlike a selector, it may be missing from the request. */
static enum answer kind_answer(
        const char *value, enum resource_kind kind, const struct policy_request *request, bool deny)
{
        const char *items[RESOURCES_MAX];
        size_t n = items_of(request, kind, items);
        enum answer all = YES, any = NO;

        if (strcmp(value, "*") == 0)
                return YES;
        if (n == 0)
                return MAYBE;
        for (size_t i = 0; i < n; i++) {
                all = least(all, same(value, kind, items[i], deny));
                any = most(any, same(value, kind, items[i], deny));
        }
        if (unnamed(request, kind, n)) {
                all = least(all, MAYBE);
                any = most(any, MAYBE);
        }
        return deny ? any : all;
}

static enum answer selector_answer(const struct values *values, enum resource_kind kind,
        const struct policy_request *request, bool deny)
{
        const char *items[RESOURCES_MAX];
        size_t n = items_of(request, kind, items);
        enum answer all = YES, any = NO, unnamed_one = MAYBE;

        for (size_t i = 0; i < n; i++) {
                enum answer one = NO;
                for (size_t v = 0; v < values->n; v++)
                        one = most(
                                one, value_answer(values->items[v], kind, items[i], request, deny));
                all = least(all, one);
                any = most(any, one);
        }
        for (size_t v = 0; v < values->n; v++)
                if (strcmp(values->items[v], "*") == 0 || strcmp(values->items[v], "*/*") == 0)
                        unnamed_one = YES;
        if (unnamed(request, kind, n)) {
                all = least(all, unnamed_one);
                any = most(any, unnamed_one);
        } else if (n == 0) {
                return NO;
        }
        return deny ? any : all;
}

/* Only the shapes that the generator makes: an id, an alias, `area.*`, `*`. */
static bool operation_named(const char *value, const struct operation *op)
{
        struct operation_set set = {0};

        if (strcmp(value, "*") == 0)
                return true;
        if (has_star(value))
                return starts(op->id, value, true);
        if (catalogue_alias(str_of(value), &set))
                return operation_set_has(&set, op->index);
        return strcasecmp(value, op->id) == 0;
}

static bool listed(const char *value, const struct operation *op, int which)
{
        if (which == 0)
                return operation_named(value, op);
        if (which == 1)
                return strcmp(value, access_name(op->access)) == 0;
        if (which == 3)
                return strcasecmp(value, op->area) == 0;
        for (size_t i = 0; i < op->n_scopes; i++)
                if (strcasecmp(value, op->scopes[i]) == 0)
                        return true;
        return false;
}

static bool path_fits(const char *pattern, const char *path)
{
        size_t n = strlen(pattern);

        if (n > 3 && strcmp(pattern + n - 3, "/**") == 0)
                return strncasecmp(pattern, path, n - 3) == 0 &&
                       (path[n - 3] == '\0' || path[n - 3] == '/');
        return strcasecmp(pattern, path) == 0;
}

static bool entry_decides(
        const struct model_entry *entry, const struct policy_request *request, bool deny)
{
        const struct values *choices[] = {
                &entry->operations, &entry->access, &entry->scopes, &entry->areas};
        const struct operation *op = request->op;
        bool chosen = false, found;

        for (int which = 0; which < 4; which++) {
                if (!choices[which]->n)
                        continue;
                chosen = true;
                found = false;
                for (size_t v = 0; v < choices[which]->n; v++) {
                        const char *value = choices[which]->items[v];
                        if (!op)
                                found |= deny && (which != 0 || strcmp(value, "*") == 0);
                        else
                                found |= listed(value, op, which) &&
                                         (deny || !(operation_by_name_only(op)) ||
                                                 strcasecmp(value, op->id) == 0);
                }
                if (!found)
                        return false;
        }
        if (!deny && !op && (chosen || !entry->method.n || !entry->path.n))
                return false;
        if (!deny && op && !chosen && operation_by_name_only(op))
                return false;
        found = entry->method.n == 0;
        for (size_t v = 0; v < entry->method.n; v++)
                found |= str_eq(str_of(entry->method.items[v]), request->method);
        if (!found)
                return false;
        found = entry->path.n == 0;
        for (size_t v = 0; v < entry->path.n; v++)
                found |= path_fits(entry->path.items[v], request->path.ptr);
        if (!found)
                return false;
        for (size_t k = 0; k < KINDS; k++)
                if (entry->resources[k].n && selector_answer(&entry->resources[k], kinds[k],
                                                     request, deny) < (deny ? MAYBE : YES))
                        return false;
        return true;
}

/* The line of the first entry that allows; 0: denied. */
static size_t reference_allows(const struct model *model, const struct policy_caller *caller,
        const struct policy_request *request)
{
        size_t allowed = 0;

        for (size_t b = 0; b < model->n_bindings; b++) {
                const struct model_binding *binding = &model->bindings[b];
                if (!str_eq(str_of(binding->issuer), caller->issuer) ||
                        (binding->subject && !str_eq(str_of(binding->subject), caller->subject)) ||
                        request->now_ms >= binding->expires_ms)
                        continue;
                for (size_t r = 0; r < binding->n_roles; r++) {
                        const struct model_role *role = &model->roles[binding->roles[r]];
                        for (size_t i = 0; i < role->n_deny; i++)
                                if (entry_decides(&role->deny[i], request, true))
                                        return 0;
                        for (size_t i = 0; i < role->n_allow && !allowed; i++)
                                if (entry_decides(&role->allow[i], request, false))
                                        allowed = role->first_line + i;
                }
        }
        return allowed;
}

/* --- random policies, callers, requests --- */

static uint64_t state_of_chance = 88172645463325252u;

static size_t chance(size_t n)
{
        state_of_chance ^= state_of_chance << 13;
        state_of_chance ^= state_of_chance >> 7;
        state_of_chance ^= state_of_chance << 17;
        return (size_t)((state_of_chance >> 11) % n);
}

#define GUID "a1111111-1111-1111-1111-111111111111"

static const char *const operations[] = {"pipelines.runs.run", "pipelines.runs.get",
        "build.builds.queue", "build.builds.list", "gitHttp.pack.fetch", "gitHttp.pack.push",
        "legacy.soap.any", "git.repositories.list"};
static const char *const operation_values[] = {"pipelines.runs.run", "build.builds.queue",
        "git.fetch", "git.push", "pipelines.*", "build.*", "*", "legacy.soap.any"};
static const char *const access_values[] = {"read", "write", "execute", "manage"};
static const char *const scope_values[] = {"vso.build", "vso.build_execute", "vso.code"};
static const char *const area_values[] = {"build", "pipelines", "git", "legacy"};
static const char *const method_values[] = {"GET", "POST"};
static const char *const path_values[] = {"/contoso/**", "/contoso/a", "/contoso/b/**"};
static const char *const paths[] = {"/contoso", "/contoso/a", "/Contoso/b/c", "/fabrikam/a"};
static const char *const kind_values[KINDS][8] = {
        {"a", "b", "a*", "*", GUID, "A", "ab", "c"},
        {"42", "99", "nightly", "night*", "*", "4*", "42", "7"},
        {"dags", "a/dags", "a/*", "*", "*/dags", "b/d*", "etl", GUID},
        {"refs/heads/main", "refs/heads/*", "*", "refs/tags/v1", "refs/heads/Main", "refs/heads/r*",
                "refs/heads/x", "refs/heads/y"},
};
static const char *const kind_items[KINDS][6] = {
        {"a", "b", "AB", GUID, "c", "a"},
        {"42", "99", "nightly", "7", "42", "421"},
        {"dags", "DAGS", "etl", GUID, "other", "dags"},
        {"refs/heads/main", "refs/heads/Main", "main", "refs/tags/v1", "refs/heads/r1",
                "refs/heads/main"},
};
static const char *const issuers[] = {"i", "i", "j"};
static const char *const subjects[] = {"s", "t"};
#define ANY(list) (list)[chance(sizeof(list) / sizeof((list)[0]))]

static void some(struct values *out, const char *const *list, size_t n, size_t one_in)
{
        if (chance(one_in) != 0)
                return;
        out->n = 1 + chance(MOST_VALUES);
        for (size_t i = 0; i < out->n; i++)
                out->items[i] = list[chance(n)];
}
#define SOME(out, list, one_in) some(out, list, sizeof(list) / sizeof((list)[0]), one_in)

static void random_entry(struct model_entry *entry, bool deny)
{
        *entry = (struct model_entry){0};
        SOME(&entry->operations, operation_values, 2);
        SOME(&entry->access, access_values, 4);
        SOME(&entry->scopes, scope_values, 8);
        SOME(&entry->areas, area_values, 6);
        SOME(&entry->method, method_values, 5);
        SOME(&entry->path, path_values, 5);
        for (size_t k = 0; k < KINDS; k++)
                SOME(&entry->resources[k], kind_values[k], deny ? 3 : 5);
        if (!entry->operations.n && !entry->access.n && !entry->scopes.n && !entry->areas.n &&
                !entry->path.n)
                SOME(&entry->operations, operation_values, 1);
}

static void random_model(struct model *model)
{
        *model = (struct model){.n_roles = 1 + chance(MOST_ROLES)};
        for (size_t r = 0; r < model->n_roles; r++) {
                struct model_role *role = &model->roles[r];
                role->n_allow = 1 + chance(MOST_ENTRIES);
                role->n_deny = chance(3);
                for (size_t i = 0; i < role->n_allow; i++)
                        random_entry(&role->allow[i], false);
                for (size_t i = 0; i < role->n_deny; i++)
                        random_entry(&role->deny[i], true);
        }
        model->n_bindings = 1 + chance(MOST_BINDINGS);
        for (size_t b = 0; b < model->n_bindings; b++) {
                struct model_binding *binding = &model->bindings[b];
                *binding = (struct model_binding){.issuer = ANY(issuers), .expires_ms = INT64_MAX};
                binding->subject = chance(2) ? NULL : ANY(subjects);
                binding->n_roles = 1 + chance(2);
                for (size_t i = 0; i < binding->n_roles; i++)
                        binding->roles[i] = chance(model->n_roles);
                if (chance(5) == 0)
                        binding->expires_ms = 1767225600000; /* 2026-01-01 */
        }
}

static void print_values(struct buf *out, const struct values *values)
{
        for (size_t i = 0; i < values->n; i++)
                buf_printf(out, "%s'%s'", i ? ", " : "", values->items[i]);
        buf_printf(out, "]");
}

static void print_entry(struct buf *out, const struct model_entry *entry)
{
        const struct {
                const char *name;
                const struct values *values;
        } all[] = {
                {"operations", &entry->operations},
                {"access", &entry->access},
                {"scopes", &entry->scopes},
                {"areas", &entry->areas},
                {"method", &entry->method},
                {"path", &entry->path},
                {"projects", &entry->resources[0]},
                {"pipelines", &entry->resources[1]},
                {"repositories", &entry->resources[2]},
                {"refs", &entry->resources[3]},
        };
        const char *between = "      - {";

        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
                if (!all[i].values->n)
                        continue;
                buf_printf(out, "%s%s: [", between, all[i].name);
                print_values(out, all[i].values);
                between = ", ";
        }
        buf_printf(out, "}\n");
}

static size_t lines(const struct buf *out)
{
        size_t n = 0;

        for (size_t i = 0; i < out->len; i++)
                n += out->data[i] == '\n';
        return n;
}

static void print_model(struct buf *out, struct model *model)
{
        buf_printf(out, "version: 1\nroles:\n");
        for (size_t r = 0; r < model->n_roles; r++) {
                struct model_role *role = &model->roles[r];
                buf_printf(out, "  r%zu:\n    allow:\n", r);
                role->first_line = lines(out) + 1;
                for (size_t i = 0; i < role->n_allow; i++)
                        print_entry(out, &role->allow[i]);
                if (role->n_deny)
                        buf_printf(out, "    deny:\n");
                for (size_t i = 0; i < role->n_deny; i++)
                        print_entry(out, &role->deny[i]);
        }
        buf_printf(out, "bindings:\n");
        for (size_t b = 0; b < model->n_bindings; b++) {
                const struct model_binding *binding = &model->bindings[b];
                buf_printf(out, "  - {credential: c, callers: {issuer: %s", binding->issuer);
                if (binding->subject)
                        buf_printf(out, ", subject: %s", binding->subject);
                buf_printf(out, "}, roles: [r%zu", binding->roles[0]);
                if (binding->n_roles > 1)
                        buf_printf(out, ", r%zu", binding->roles[1]);
                buf_printf(out, "]%s}\n",
                        binding->expires_ms == INT64_MAX ? "" : ", expires: 2026-01-01");
        }
}

static void random_request(struct policy_request *request, struct resources *resources)
{
        *resources = (struct resources){0};
        *request = (struct policy_request){
                .op = chance(6) ? catalogue_find(str_of(ANY(operations))) : NULL,
                .method = str_of(ANY(method_values)),
                .path = str_of(ANY(paths)),
                .resources = resources,
                .now_ms = chance(4) ? 0 : INT64_C(1800000000000),
        };
        for (size_t k = 0; k < KINDS; k++) {
                for (size_t n = chance(4) ? 1 : chance(3); n > 0; n--)
                        resources->items[resources->n++] = (struct resource){
                                .kind = kinds[k], .value = str_of(ANY(kind_items[k]))};
                resources->unresolved[kinds[k]] = chance(10) == 0;
        }
}

static void the_compiled_decision_equals_the_reference(void **state)
{
        enum { POLICIES = 1000, CALLERS = 4, REQUESTS = 50 };
        size_t allowed = 0, denied_by_rule = 0, total = 0;
        struct buf text;

        (void)state;
        buf_init(&text, 1 << 20);
        for (size_t p = 0; p < POLICIES; p++) {
                struct model model;
                random_model(&model);
                buf_reset(&text);
                print_model(&text, &model);
                buf_char(&text, '\0');
                struct policy *policy = kit_policy(text.data);
                for (size_t c = 0; c < CALLERS; c++) {
                        const struct policy_caller caller = {
                                .issuer = str_of(ANY(issuers)), .subject = str_of(ANY(subjects))};
                        struct policy_grants *grants = policy_grants_new(policy, &caller);
                        for (size_t q = 0; q < REQUESTS; q++, total++) {
                                struct policy_request request;
                                struct resources resources;
                                struct decision decision;
                                random_request(&request, &resources);
                                policy_decide(policy, grants, &request, &decision);
                                size_t want = reference_allows(&model, &caller, &request);
                                char rule[40];
                                snprintf(rule, sizeof(rule), "p.yaml:%zu", want);
                                if ((decision.effect == EFFECT_ALLOW) != (want != 0) ||
                                        (want && !str_eq(decision.rule, str_of(rule))))
                                        fail_msg("reference says %s: %s\n%s",
                                                want ? "allow" : "deny", decision.reason,
                                                text.data);
                                allowed += want != 0;
                                denied_by_rule += !want && decision.rule.len;
                        }
                        policy_grants_free(grants);
                }
                policy_unref(policy);
        }
        buf_clear(&text);
        print_message("%zu decisions: %zu allowed, %zu denied by a rule\n", total, allowed,
                denied_by_rule);
        /* all three answers have been compared often enough to mean something */
        assert_true(allowed > total / 20);
        assert_true(denied_by_rule > total / 20);
        assert_true(total - allowed - denied_by_rule > total / 20);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_compiled_decision_equals_the_reference),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
