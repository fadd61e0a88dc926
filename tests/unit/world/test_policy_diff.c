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

enum { ROLES = 3, OPS = 7 };

static const char *const ops[OPS] = {"pipelines.runs.run", "pipelines.runs.list",
        "build.builds.queue", "git.repositories.get", "git.items.get", "gitHttp.push.createBranch",
        "gitHttp.push.deleteTag"};
static const char *const projects[] = {"analytics", "sales", "s*", "*", "elsewhere", "group:ours"};
static const char *const pipelines[] = {"42", "57", "nightly", "4*", "group:nights"};
static const char *const repositories[] = {"dags", "analytics/dags", "d*", "*/tools"};
static const char *const refs[] = {"refs/heads/main", "refs/heads/*", "refs/tags/v*"};
/* Of a run, on an allow and on a deny; and what its caller claims. */
static const char *const said[] = {"stagesToSkip: []", "stagesToSkip: [approve]",
        "stagesToSkip: ['a*'], yamlOverride: ['*']", "yamlOverride: [x, 'y*']"};
static const char *const refused[] = {"stagesToSkip: [approve]", "yamlOverride: ['*']"};
static const char *const claims[] = {"dag_id: [etl]", "dag_id: ['e*', other]"};
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

static void add_entry(struct buf *out, bool deny)
{
        unsigned op = any(OPS);
        bool run = op == 0 && !any(2);

        buf_printf(out, "      - {operations: [%s, %s]", ops[op], run ? ops[op] : ops[any(OPS)]);
        if (any(3))
                buf_printf(out, ", projects: ['%s']", projects[any(COUNT(projects))]);
        if (!any(3))
                buf_printf(out, ", pipelines: ['%s']", pipelines[any(COUNT(pipelines))]);
        if (!any(3))
                buf_printf(out, ", repositories: ['%s']", repositories[any(COUNT(repositories))]);
        if (!any(4))
                buf_printf(out, ", refs: ['%s']", refs[any(COUNT(refs))]);
        if (run)
                buf_printf(out, ", where: {%s}",
                        deny ? refused[any(COUNT(refused))] : said[any(COUNT(said))]);
        if (!deny && !any(6))
                buf_printf(out, ", claimed: {%s}", claims[any(COUNT(claims))]);
        buf_printf(out, "}\n");
}

static void add_entries(struct buf *out, const char *effect, unsigned n)
{
        if (!n)
                return;
        buf_printf(out, "    %s:\n", effect);
        while (n-- > 0)
                add_entry(out, *effect == 'd');
}

/* The first role includes the last. */
static void add_role(struct buf *out, unsigned which)
{
        buf_printf(out, "  r%u:\n", which);
        if (which == 0)
                buf_printf(out, "    includes: [r%u]\n", ROLES - 1);
        add_entries(out, "allow", 1 + any(3));
        add_entries(out, "deny", any(3));
}

/* The second is the first with one role written anew. */
static void make_pair(struct buf *a, struct buf *b)
{
        static const char head[] = "version: 1\ngroups:\n  ours: [analytics, 't*']\n"
                                   "  nights: ['n*', 57]\nbindings:\n"
                                   "- {callers: {issuer: i0}, roles: [r0], credential: c}\n"
                                   "- {callers: {issuer: i1}, roles: [r1], credential: c}\n"
                                   "- {callers: {issuer: i2}, roles: [r2], credential: c}\n"
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
        char examples[ROLES][OPS][2][200];
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

/* What a request may have in each place; NULL: nothing. */
struct combination {
        const char *project, *pipeline, *repository, *ref, *skips, *overrides, *dag;
};

static void say(struct facts *facts, const char *name, const char *value)
{
        unsigned kind;

        if (!value)
                return;
        assert_true(fact_named(str_of(name), &kind));
        facts->items[facts->n++] = (struct fact){kind, STR(""), str_of(value)};
}

static const char *shown(const char *text)
{
        return text ? text : "(none)";
}

static void try(struct told *found, const struct operation *op, const struct combination *one)
{
        const struct {
                enum resource_kind kind;
                const char *value;
        } touched[] = {{RESOURCE_ORGANIZATION, "contoso"}, {RESOURCE_PROJECT, one->project},
                {RESOURCE_PIPELINE, one->pipeline}, {RESOURCE_REPOSITORY, one->repository},
                {RESOURCE_REF, one->ref}};
        struct resources resources = {0};
        struct fact items[2];
        struct facts facts = {.items = items, .cap = 2};
        struct pair claimed = {STR("dag_id"), STR_NONE};
        struct policy_request request = {
                .op = op, .resources = &resources, .facts = &facts, .claimed = &claimed};

        for (size_t i = 0; i < COUNT(touched); i++)
                if (touched[i].value)
                        (void)!resources_add(
                                &resources, touched[i].kind, str_of(touched[i].value), NULL);
        say(&facts, "stagesToSkip", one->skips);
        say(&facts, "yamlOverride", one->overrides);
        if (one->overrides) /* it may be any pipeline's */
                resources.unresolved[RESOURCE_PIPELINE] = true;
        if (one->dag) {
                claimed.value = str_of(one->dag);
                request.n_claimed = 1;
        }
        for (int r = 0; r < ROLES; r++) {
                enum effect before = decided(found->both[0], r, &request);
                enum effect after = decided(found->both[1], r, &request);
                bool now = after == EFFECT_ALLOW;
                if (before == after)
                        continue;
                found->changes[r][op_number(op->id)][now] = true;
                snprintf(found->examples[r][op_number(op->id)][now], 200,
                        "%s, pipeline %s, repository %s, ref %s; skips %s, overrides %s; dag %s",
                        one->project, shown(one->pipeline), shown(one->repository), shown(one->ref),
                        shown(one->skips), shown(one->overrides), shown(one->dag));
        }
}

static void brute_force(struct told *found)
{
        static const char *const all_projects[] = {
                "analytics", "sales", "sx1", "elsewhere", "x", "team"};
        static const char *const all_pipelines[] = {"42", "57", "4", "4711", "99"};
        static const char *const all_repositories[] = {"dags", "tools", "d", "dx1", "other"};
        static const char *const all_refs[] = {
                "refs/heads/main", "refs/heads/x1", "refs/tags/v1", "refs/tags/w", "refs/x"};
        static const char *const all_skips[] = {NULL, "approve", "ax", "test"};
        static const char *const all_overrides[] = {NULL, "x", "y: 1", "none", "z"};
        static const char *const all_dags[] = {NULL, "etl", "e", "other", "nobody's"};
        static const char *const none[] = {NULL};
        struct combination one;

        for (int i = 0; i < OPS; i++) {
                const struct operation *op = catalogue_find(str_of(ops[i]));
                bool push = *op->part_of != '\0', git = push || i == 3 || i == 4, run = i == 0;
                size_t n[] = {COUNT(all_projects), i < 3 ? 5 : 1, git ? 5 : 1, push ? 5 : 1,
                        run ? 4 : 1, run ? 5 : 1, COUNT(all_dags)};
                size_t total = 1;
                for (size_t d = 0; d < COUNT(n); d++)
                        total *= n[d];
                for (size_t c = 0; c < total; c++) {
                        size_t at[COUNT(n)], rest = c;
                        for (size_t d = 0; d < COUNT(n); rest /= n[d], d++)
                                at[d] = rest % n[d];
                        one = (struct combination){all_projects[at[0]],
                                (i < 3 ? all_pipelines : none)[at[1]],
                                (git ? all_repositories : none)[at[2]],
                                (push ? all_refs : none)[at[3]], (run ? all_skips : none)[at[4]],
                                (run ? all_overrides : none)[at[5]], all_dags[at[6]]};
                        try(found, op, &one);
                }
        }
}

static void what_differs_is_told(void **state)
{
        const char *runs = getenv("DAGWARD_DIFF_RUNS"), *from = getenv("DAGWARD_PROPERTY_SEED");
        long rounds = runs ? strtol(runs, NULL, 10) : 30;
        struct buf a, b;
        size_t changes = 0, unfinished = 0;

        (void)state;
        seed = from ? strtoull(from, NULL, 10) : 1;
        print_message("DAGWARD_PROPERTY_SEED=%llu DAGWARD_DIFF_RUNS=%ld\n", seed, rounds);
        buf_init(&a, 1 << 20);
        buf_init(&b, 1 << 20);
        for (long round = 0; round < rounds; round++) {
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
                assert_int_equal(counts.untried, 0);
                unfinished += counts.unfinished > 0;
                if (!counts.unfinished) /* else it says so */
                        brute_force(&found);
                for (int r = 0; r < ROLES; r++)
                        for (int i = 0; i < OPS; i++)
                                for (int k = 0; k < 2; k++) {
                                        if (!found.changes[r][i][k] || told.changes[r][i][k])
                                                continue;
                                        fprintf(stderr, "old:\n%s\nnew:\n%s\n", a.data, b.data);
                                        fail_msg("round %ld: %s of r%d, %s: not told, as for %s",
                                                round, ops[i], r, k ? "allowed" : "denied",
                                                found.examples[r][i][k]);
                                }
                changes += told.n;
                policy_unref(old);
                policy_unref(new_one);
        }
        print_message(
                "%zu changes told; %zu pairs had too many combinations\n", changes, unfinished);
        assert_true(changes > (size_t)rounds);
        assert_true(unfinished <= 1 + (size_t)rounds / 20);
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

/* Nobody has to name a guarded fact that says no; the denial that is gone refused it as well. */
static void a_denial_of_what_is_guarded_is_missed(void **state)
{
        static const char with[] =
                "version: 1\nroles: {r: {allow: [{operations: [pipelines.runs.run]}], deny: "
                "[{operations: [pipelines.runs.run], where: {yamlOverride: ['*']}}]}}\n";
        static const char without[] =
                "version: 1\nroles: {r: {allow: [{operations: [pipelines.runs.run]}]}}\n";
        struct policy *old = load(with), *new_one = load(without);
        const struct policy_diff_options options = {
                .namer = naming_for_policy, .changed = ignore, .binding_changed = binding_changed};

        (void)state;
        struct policy_diff_counts counts = policy_diff(old, new_one, &options);
        assert_int_equal(counts.allowed, 1);
        assert_int_equal(counts.denied, 0);
        policy_unref(old);
        policy_unref(new_one);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_differs_is_told),
                cmocka_unit_test(every_operation_can_be_tried),
                cmocka_unit_test(a_denial_of_what_is_guarded_is_missed),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
