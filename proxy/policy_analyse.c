/*
 * dagward policy lint, who-can, can: what a policy gives, and what in it looks like a mistake.
 */
#include "policy_analyse.h"

#include <stdio.h>

#include "commands.h"
#include "dagward/base/buf.h"
#include "dagward/policy/analyse.h"

struct printing {
        bool json;
        size_t errors, n;
};

static void member(struct buf *out, const char *name, struct str value, bool last)
{
        buf_json_str(out, str_of(name));
        buf_char(out, ':');
        buf_json_str(out, value);
        buf_str_add(out, last ? STR("") : STR(","));
}

static void print_json(struct buf *out)
{
        fwrite(out->data, 1, out->len, stdout);
        buf_clear(out);
}

static void print_finding(void *owner, const struct policy_finding *finding)
{
        struct printing *p = owner;
        struct buf out;

        p->errors += finding->is_error;
        if (!p->json) {
                printf("%.*s: %s: %s [%s]\n", STR_FMT(finding->place),
                        finding->is_error ? "error" : "warning", finding->text, finding->check);
                return;
        }
        buf_init(&out, 64 * 1024);
        buf_str_add(&out, p->n++ ? STR(",\n{") : STR("\n{"));
        member(&out, "place", finding->place, false);
        member(&out, "level", finding->is_error ? STR("error") : STR("warning"), false);
        member(&out, "check", str_of(finding->check), false);
        member(&out, "text", str_of(finding->text), true);
        buf_char(&out, '}');
        print_json(&out);
}

int policy_print_lint(const struct policy *policy, int64_t now_ms, bool json)
{
        struct printing p = {.json = json};

        if (json)
                printf("[");
        size_t n = policy_lint(policy, now_ms, print_finding, &p);
        if (json)
                printf("\n]\n");
        else
                printf("%zu findings, %zu of them errors\n", n, p.errors);
        return n ? EXIT_NO : EXIT_YES;
}

static void print_way(void *owner, const struct policy_way *way)
{
        struct printing *p = owner;
        struct buf out;

        if (!p->json) {
                printf("%.*s (%.*s)\n  by %.*s, role %.*s%s%.*s\n", STR_FMT(way->binding),
                        STR_FMT(way->callers), STR_FMT(way->rule), STR_FMT(way->role),
                        way->limits.len ? ", only: " : "", STR_FMT(way->limits));
                if (way->except.len)
                        printf("  but not: %.*s\n", STR_FMT(way->except));
                return;
        }
        buf_init(&out, 64 * 1024);
        buf_str_add(&out, p->n++ ? STR(",\n{") : STR("\n{"));
        member(&out, "binding", way->binding, false);
        member(&out, "callers", way->callers, false);
        member(&out, "credential", way->credential, false);
        member(&out, "role", way->role, false);
        member(&out, "rule", way->rule, false);
        member(&out, "limits", way->limits, false);
        member(&out, "except", way->except, true);
        buf_char(&out, '}');
        print_json(&out);
}

/* `pipelines=42`: selector and value. */
static bool take_resource(struct resources *resources, const char *word)
{
        struct str name, value = str_cut(str_of(word), '=', &name);
        struct str known[RESOURCE_KINDS];

        for (int kind = 0; kind < RESOURCE_KINDS; kind++) {
                known[kind] = str_of(resource_kind_selector((enum resource_kind)kind));
                if (!str_eq(name, known[kind]) || !value.len || resources->n == RESOURCES_MAX)
                        continue;
                resources->items[resources->n++] =
                        (struct resource){.kind = (enum resource_kind)kind, .value = value};
                return true;
        }
        fprintf(stderr, "dagward policy: `%s` is no resource: SELECTOR=VALUE, as pipelines=42%s\n",
                word, error_did_you_mean(name, known, RESOURCE_KINDS));
        return false;
}

int policy_print_who_can(
        const struct policy *policy, char **words, int n, int64_t now_ms, bool json)
{
        struct resources resources = {0};
        struct printing p = {.json = json};
        struct policy_request request = {.resources = &resources, .now_ms = now_ms};

        if (n < 1 || !(request.op = catalogue_find(str_of(words[0])))) {
                fprintf(stderr, "dagward policy: who-can needs the id of an operation; `dagward "
                                "operations` lists them\n");
                return EXIT_USAGE;
        }
        for (int i = 1; i < n; i++)
                if (!take_resource(&resources, words[i]))
                        return EXIT_USAGE;
        if (json)
                printf("[");
        size_t ways = policy_who_can(policy, &request, print_way, &p);
        if (json)
                printf("\n]\n");
        else if (!ways)
                printf("nobody may do %s%s\n", request.op->id, resources.n ? " there" : "");
        return ways ? EXIT_YES : EXIT_NO;
}

static void print_right(void *owner, const struct policy_right *right)
{
        struct printing *p = owner;
        bool allow = right->effect == EFFECT_ALLOW;
        struct buf out;

        if (!p->json) {
                printf("%s %.*s (%zu operations)%s%.*s\n    %.*s, role %.*s, by binding %.*s\n",
                        allow ? "may    " : "may not", STR_FMT(right->what), right->n_operations,
                        right->limits.len ? ", only: " : "", STR_FMT(right->limits),
                        STR_FMT(right->rule), STR_FMT(right->role), STR_FMT(right->binding));
                return;
        }
        buf_init(&out, 64 * 1024);
        buf_str_add(&out, p->n++ ? STR(",\n{") : STR("\n{"));
        member(&out, "effect", allow ? STR("allow") : STR("deny"), false);
        member(&out, "what", right->what, false);
        buf_printf(&out, "\"operations\":%zu,", right->n_operations);
        member(&out, "limits", right->limits, false);
        member(&out, "rule", right->rule, false);
        member(&out, "role", right->role, false);
        member(&out, "binding", right->binding, true);
        buf_char(&out, '}');
        print_json(&out);
}

int policy_print_can(
        const struct policy *policy, const struct policy_caller *caller, int64_t now_ms, bool json)
{
        struct printing p = {.json = json};

        if (json)
                printf("[");
        size_t n = policy_can(policy, caller, now_ms, print_right, &p);
        if (json)
                printf("\n]\n");
        else if (!n)
                printf("no binding applies to this caller: nothing\n");
        return n ? EXIT_YES : EXIT_NO;
}
