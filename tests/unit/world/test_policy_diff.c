/*
 * policy diff against brute force: random pairs of policies, every operation they speak of and
 * every combination of the names in them, decided by both; what differs is what diff has to tell.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dagward/policy/diff.h"
#include "dagward/world/naming.h"

enum { ROLES = 2, OPS = 7, MOST_CHANGES = 4096 };

static const char *const ops[OPS] = {"pipelines.runs.run", "pipelines.runs.list",
        "build.builds.queue", "git.repositories.get", "git.items.get", "gitHttp.push.createBranch",
        "gitHttp.push.deleteTag"};
static const char *const projects[] = {"analytics", "sales", "s*", "*", "elsewhere"};
static const char *const pipelines[] = {"42", "57", "nightly", "4*"};
static const char *const repositories[] = {"dags", "analytics/dags", "d*", "*/tools"};
static const char *const refs[] = {"refs/heads/main", "refs/heads/*", "refs/tags/v*"};
#define COUNT(list) (sizeof(list) / sizeof(list[0]))

static unsigned long long seed = 1;

static unsigned any(size_t n)
{
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        return (unsigned)((seed >> 33) % n);
}

static struct policy *load(const char *text)
{
        struct error_list errors;

        error_list_init(&errors);
        struct policy *policy = policy_load_text("p.yaml", str_of(text), &errors);
        if (!policy) {
                error_list_print(&errors, stderr);
                fprintf(stderr, "%s\n", text);
        }
        error_list_clear(&errors);
        assert_non_null(policy);
        return policy;
}

static void add_entries(struct buf *out, const char *effect, unsigned n)
{
        if (!n)
                return;
        buf_printf(out, "    %s:\n", effect);
        for (unsigned i = 0; i < n; i++) {
                buf_printf(out, "      - {operations: [%s, %s]", ops[any(OPS)], ops[any(OPS)]);
                if (any(3))
                        buf_printf(out, ", projects: ['%s']", projects[any(COUNT(projects))]);
                if (!any(3))
                        buf_printf(out, ", pipelines: ['%s']", pipelines[any(COUNT(pipelines))]);
                if (!any(3))
                        buf_printf(out, ", repositories: ['%s']",
                                repositories[any(COUNT(repositories))]);
                if (!any(4))
                        buf_printf(out, ", refs: ['%s']", refs[any(COUNT(refs))]);
                buf_printf(out, "}\n");
        }
}

static void add_role(struct buf *out, unsigned which)
{
        buf_printf(out, "  r%u:\n", which);
        add_entries(out, "allow", 1 + any(3));
        add_entries(out, "deny", any(3));
}

/* The second is the first with one role written anew. */
static void make_pair(struct buf *a, struct buf *b)
{
        static const char head[] = "version: 1\nbindings:\n"
                                   "- {callers: {issuer: i0}, roles: [r0], credential: c}\n"
                                   "- {callers: {issuer: i1}, roles: [r1], credential: c}\n"
                                   "roles:\n";
        unsigned other = any(ROLES);

        buf_add(a, head, sizeof(head) - 1);
        buf_add(b, head, sizeof(head) - 1);
        for (unsigned r = 0; r < ROLES; r++) {
                size_t from = a->len;
                add_role(a, r);
                if (r == other)
                        add_role(b, r);
                else
                        buf_add(b, a->data + from, a->len - from);
        }
}

/* --- what is told, and what brute force finds --- */

struct told {
        bool changes[ROLES][OPS][2]; /* by direction */
        const struct policy *both[2];
        size_t n;
};

static int op_number(const char *id)
{
        for (int i = 0; i < OPS; i++)
                if (strcmp(ops[i], id) == 0)
                        return i;
        return -1;
}

static enum effect decided(const struct policy *policy, int role, const struct policy_request *r)
{
        char issuer[] = "i0";
        struct decision decision;

        issuer[1] = (char)('0' + role);
        const struct policy_caller caller = {.issuer = str_of(issuer)};
        struct policy_grants *grants = policy_grants_new(policy, &caller);
        policy_decide(policy, grants, r, &decision);
        policy_grants_free(grants);
        return decision.effect;
}

/* Each example is decided as it is told (a push by what its pack says, which is not in the URL). */
static void changed(void *owner, const struct policy_change *change)
{
        struct told *told = owner;
        int op = op_number(change->op->id),
            role = change->subject.ptr[change->subject.len - 1] - '0';
        struct policy_request request = {0};
        struct arena arena;
        struct error error;

        assert_true(op >= 0 && role >= 0 && role < ROLES);
        told->changes[role][op][change->now_allowed] = true;
        told->n++;
        if (*change->op->part_of)
                return;
        arena_init(&arena, 4096, 1 << 20);
        assert_true(naming_for_policy(NULL, change->example, &arena, &request, &error));
        assert_string_equal(request.op->id, change->op->id);
        assert_int_equal(decided(told->both[1], role, &request),
                change->now_allowed ? EFFECT_ALLOW : EFFECT_DENY);
        assert_int_equal(decided(told->both[0], role, &request),
                change->now_allowed ? EFFECT_DENY : EFFECT_ALLOW);
        arena_clear(&arena);
}

static void binding_changed(void *owner, struct str name, struct str old, struct str new_one)
{
        (void)owner;
        (void)name;
        (void)old;
        (void)new_one;
        fail_msg("no binding changed");
}

static void try(struct told *found, const struct operation *op, const char *project,
        const char *pipeline, const char *repository, const char *ref)
{
        struct resources resources = {0};
        const struct policy_request request = {.op = op, .resources = &resources};

        (void)!resources_add(&resources, RESOURCE_ORGANIZATION, STR("contoso"), NULL);
        (void)!resources_add(&resources, RESOURCE_PROJECT, str_of(project), NULL);
        if (pipeline)
                (void)!resources_add(&resources, RESOURCE_PIPELINE, str_of(pipeline), NULL);
        if (repository)
                (void)!resources_add(&resources, RESOURCE_REPOSITORY, str_of(repository), NULL);
        if (ref)
                (void)!resources_add(&resources, RESOURCE_REF, str_of(ref), NULL);
        for (int r = 0; r < ROLES; r++) {
                enum effect before = decided(found->both[0], r, &request);
                enum effect after = decided(found->both[1], r, &request);
                if (before != after)
                        found->changes[r][op_number(op->id)][after == EFFECT_ALLOW] = true;
        }
}

static void brute_force(struct told *found)
{
        static const char *const all_projects[] = {"analytics", "sales", "sx1", "elsewhere", "x"};
        static const char *const all_pipelines[] = {"42", "57", "4", "4711", "99"};
        static const char *const all_repositories[] = {"dags", "tools", "d", "dx1", "other"};
        static const char *const all_refs[] = {
                "refs/heads/main", "refs/heads/x1", "refs/tags/v1", "refs/tags/w", "refs/x"};
        static const char *const none[] = {NULL};

        for (int i = 0; i < OPS; i++) {
                const struct operation *op = catalogue_find(str_of(ops[i]));
                bool push = *op->part_of != '\0', git = push || i == 3 || i == 4;
                const char *const *p = i < 2 ? all_pipelines : none;
                const char *const *r = git ? all_repositories : none;
                const char *const *f = push ? all_refs : none;
                for (size_t a = 0; a < 5; a++)
                        for (size_t b = 0; b < (i < 2 ? 5 : 1); b++)
                                for (size_t c = 0; c < (git ? 5 : 1); c++)
                                        for (size_t e = 0; e < (push ? 5 : 1); e++)
                                                try(found, op, all_projects[a], p[b], r[c], f[e]);
        }
}

static void what_differs_is_told(void **state)
{
        struct buf a, b;
        size_t changes = 0;

        (void)state;
        buf_init(&a, 1 << 20);
        buf_init(&b, 1 << 20);
        for (int round = 0; round < 300; round++) {
                buf_reset(&a);
                buf_reset(&b);
                make_pair(&a, &b);
                buf_char(&a, '\0');
                buf_char(&b, '\0');
                struct policy *old = load(a.data), *new_one = load(b.data);
                struct told told = {.both = {old, new_one}}, found = told;
                const struct policy_diff_options options = {.namer = naming_for_policy,
                        .changed = changed,
                        .binding_changed = binding_changed,
                        .owner = &told};
                struct policy_diff_counts counts = policy_diff(old, new_one, &options);
                assert_int_equal(counts.allowed + counts.denied, told.n);
                assert_int_equal(counts.unfinished + counts.untried, 0);
                brute_force(&found);
                for (int r = 0; r < ROLES; r++)
                        for (int i = 0; i < OPS; i++)
                                for (int k = 0; k < 2; k++) {
                                        if (found.changes[r][i][k] && !told.changes[r][i][k])
                                                fail_msg(
                                                        "round %d: %s of r%d, %s: not told\n%s\n%s",
                                                        round, ops[i], r, k ? "allowed" : "denied",
                                                        a.data, b.data);
                                }
                changes += told.n;
                policy_unref(old);
                policy_unref(new_one);
        }
        assert_true(changes > 300);
        buf_clear(&a);
        buf_clear(&b);
}

static void ignore(void *owner, const struct policy_change *change)
{
        (void)owner;
        (void)change;
}

static void every_operation_can_be_tried(void **state)
{
        struct policy *old = load("version: 1\nroles: {r: {deny: [{operations: ['*']}]}}\n");
        struct policy *new_one = load("version: 1\nroles: {r: {deny: [{operations: ['*'], "
                                      "organizations: [contoso]}]}}\n");
        const struct policy_diff_options options = {
                .namer = naming_for_policy, .changed = ignore, .binding_changed = binding_changed};
        size_t n;

        (void)state;
        (void)catalogue_all(&n);
        struct policy_diff_counts counts = policy_diff(old, new_one, &options);
        assert_int_equal(counts.allowed + counts.denied, 0);
        assert_true(counts.requests >= n);
        /* Operations without an organization in their path, for one. */
        assert_int_equal(counts.untried, 0);
        policy_unref(old);
        policy_unref(new_one);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_differs_is_told),
                cmocka_unit_test(every_operation_can_be_tried),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
