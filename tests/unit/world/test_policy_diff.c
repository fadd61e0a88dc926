/*
 * policy diff against brute force: random pairs of policies, every operation they speak of and
 * every combination of the names in them, at every hour that tells their windows apart, decided by
 * both; what differs is what diff has to tell. So is a binding whose glass is another. Nothing is
 * decided by an entry of which lint says that it never matches or never allows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dagward/policy/analyse.h"
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
/* In UTC, they all begin and end at six, morning or evening. */
static const char *const windows[] = {"Mon-Fri 06:00-18:00", "18:00-06:00", "Fri 18:00-06:00",
        "Fri-Mon 20:00-08:00 +02:00", "Sat-Sun 00:00-24:00 -06:00", "Sun 12:00-00:00 +06:00",
        "Mon 23:30-11:30 -06:30", "Tue 08:00-20:00 +14:00"};
static const unsigned glasses[] = {0, 10, 20};
#define COUNT(list) (sizeof(list) / sizeof(list[0]))

static unsigned long long seed = 1;

/* Of the pair at hand: each hour is one more request to try. */
static bool with_windows;

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
        bool timed = with_windows && !any(3);
        if (run || timed)
                buf_printf(out, ", where: {");
        if (run)
                buf_printf(out, "%s%s",
                        deny ? refused[any(COUNT(refused))] : said[any(COUNT(said))],
                        timed ? ", " : "");
        if (timed)
                buf_printf(out, any(2) ? "time: ['%s']" : "time: ['%s', 'Wed 06:00-18:00']",
                        windows[any(COUNT(windows))]);
        if (run || timed)
                buf_printf(out, "}");
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

/* As the role that is given, but for one of its windows, if it has any. */
static void add_role_with_another_window(struct buf *out, const char *role, size_t len)
{
        static const char before[] = "time: ['";
        const char *window = memmem(role, len, before, sizeof(before) - 1);

        if (!window) {
                buf_add(out, role, len);
                return;
        }
        window += sizeof(before) - 1;
        size_t n = (size_t)(window - role);
        buf_add(out, role, n);
        buf_printf(out, "%s", windows[any(COUNT(windows))]);
        n += strcspn(window, "'");
        buf_add(out, role + n, len - n);
}

/* The second is the first with one role written anew, or with another window. */
static void make_pair(struct buf *a, struct buf *b, unsigned glass[2])
{
        static const char head[] = "version: 1\ngroups:\n  ours: [analytics, 't*']\n"
                                   "  nights: ['n*', 57]\nbindings:\n"
                                   "- {callers: {issuer: i0}, roles: [r0], credential: c}\n"
                                   "- {callers: {issuer: i1}, roles: [r1], credential: c}\n"
                                   "- {callers: {issuer: i2}, roles: [r2], credential: c, "
                                   "expires: 2100-01-01";
        unsigned other = any(ROLES);

        with_windows = !any(3);
        for (int s = 0; s < 2; s++) {
                struct buf *out = s ? b : a;
                glass[s] = glasses[any(COUNT(glasses))];
                buf_add(out, head, sizeof(head) - 1);
                if (glass[s])
                        buf_printf(out, ", break_glass: {reason_at_least: %u}", glass[s]);
                buf_printf(out, "}\nroles:\n");
        }
        for (unsigned r = 0; r < ROLES; r++) {
                size_t from = a->len;
                add_role(a, r);
                if (r == other && with_windows && any(2))
                        add_role_with_another_window(b, a->data + from, a->len - from);
                else if (r == other)
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
        struct policy_grants *grants[2][ROLES];
        unsigned glass[2];
        size_t n, bindings;
        bool never[2][200]; /* by line: lint says that its entry decides nothing */
        size_t nevers;
};

static int op_number(const char *id)
{
        for (int i = 0; i < OPS; i++)
                if (strcmp(ops[i], id) == 0)
                        return i;
        return -1;
}

static struct policy_grants *grants_of(const struct policy *policy, int role)
{
        char issuer[] = "i0";

        issuer[1] = (char)('0' + role);
        const struct policy_caller caller = {.issuer = str_of(issuer)};
        return policy_grants_new(policy, &caller);
}

static size_t line_of(struct str rule)
{
        uint64_t line;

        assert_true(str_to_u64(str_from(rule, strlen("p.yaml:")), &line));
        assert_true(line < 200);
        return line;
}

struct nevers {
        struct told *told;
        int which;
};

static void note_never(void *owner, const struct policy_finding *finding)
{
        struct nevers *nevers = owner;

        if (!finding->is_error)
                return;
        nevers->told->never[nevers->which][line_of(finding->place)] = true;
        nevers->told->nevers++;
}

#ifdef __SANITIZE_ADDRESS__
enum { ROUNDS = 12 }; /* three seconds each */
#else
enum { ROUNDS = 30 };
#endif

static enum effect decided(
        const struct told *told, int which, int role, const struct policy_request *request)
{
        struct decision decision;

        policy_decide(told->both[which], told->grants[which][role], request, &decision);
        if (decision.rule.len && told->never[which][line_of(decision.rule)])
                fail_msg("%.*s decides %s", STR_FMT(decision.rule), request->op->id);
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
        request.now_ms = change->example->at_ms;
        request.reason_chars = 20;
        assert_int_equal(
                decided(told, 1, role, &request), change->now_allowed ? EFFECT_ALLOW : EFFECT_DENY);
        assert_int_equal(
                decided(told, 0, role, &request), change->now_allowed ? EFFECT_DENY : EFFECT_ALLOW);
        arena_clear(&arena);
}

/* Only the last one may, by its glass. */
static void binding_changed(void *owner, struct str name, struct str old, struct str new_one)
{
        struct told *told = owner;
        const struct str texts[] = {old, new_one};

        (void)name;
        told->bindings++;
        for (int s = 0; s < 2; s++) {
                char text[400], needs[80] = "2100-01-01T00:00:00.000Z";
                snprintf(text, sizeof(text), "%.*s", STR_FMT(texts[s]));
                assert_non_null(strstr(text, "issuer i2"));
                if (told->glass[s])
                        snprintf(needs, sizeof(needs),
                                "break-glass: needs a reason of %u characters or more",
                                told->glass[s]);
                const char *found = strstr(text, needs);
                assert_true(found && !found[strlen(needs)]);
        }
}

static void not_told(void *owner, const struct policy_unsure *unsure)
{
        (void)owner;
        (void)unsure;
}

static void no_binding_changed(void *owner, struct str name, struct str old, struct str new_one)
{
        (void)owner;
        (void)name;
        (void)old;
        (void)new_one;
        fail_msg("no binding changed");
}

/* What a request may have in each place; NULL: nothing. */
struct combination {
        int64_t at_ms;
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
        struct policy_request request = {.op = op,
                .resources = &resources,
                .facts = &facts,
                .claimed = &claimed,
                .reason_chars = 20,
                .now_ms = one->at_ms};

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
                enum effect before = decided(found, 0, r, &request);
                enum effect after = decided(found, 1, r, &request);
                bool now = after == EFFECT_ALLOW;
                if (before == after)
                        continue;
                found->changes[r][op_number(op->id)][now] = true;
                snprintf(found->examples[r][op_number(op->id)][now], 200,
                        "at %lld, %s, pipeline %s, repository %s, ref %s; skips %s, overrides %s; "
                        "dag %s",
                        (long long)one->at_ms, one->project, shown(one->pipeline),
                        shown(one->repository), shown(one->ref), shown(one->skips),
                        shown(one->overrides), shown(one->dag));
        }
}

/* By halves of days, each from its first or until its last minute; one moment will do where no
 * window is. */
static size_t half_days(const char *a, const char *b, int64_t moments[14])
{
        static const int64_t half_ms = 12 * 60 * 60 * 1000;

        for (int i = 0; i < 14; i++) /* of a week in March 2025 */
                moments[i] = INT64_C(1741586400000) + i * half_ms + (any(2) ? half_ms - 1 : 0);
        return strstr(a, "time:") || strstr(b, "time:") ? 14 : 1;
}

static void brute_force(struct told *found, const int64_t *moments, size_t n_moments)
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
                        run ? 4 : 1, run ? 5 : 1, COUNT(all_dags), n_moments};
                size_t total = 1;
                for (size_t d = 0; d < COUNT(n); d++)
                        total *= n[d];
                for (size_t c = 0; c < total; c++) {
                        size_t at[COUNT(n)], rest = c;
                        for (size_t d = 0; d < COUNT(n); rest /= n[d], d++)
                                at[d] = rest % n[d];
                        one = (struct combination){moments[at[7]], all_projects[at[0]],
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
        long rounds = runs ? strtol(runs, NULL, 10) : ROUNDS;
        struct buf a, b;
        size_t changes = 0, unfinished = 0, nevers = 0;

        (void)state;
        seed = from ? strtoull(from, NULL, 10) : 1;
        print_message("DAGWARD_PROPERTY_SEED=%llu DAGWARD_DIFF_RUNS=%ld\n", seed, rounds);
        buf_init(&a, 1 << 20);
        buf_init(&b, 1 << 20);
        for (long round = 0; round < rounds; round++) {
                buf_reset(&a);
                buf_reset(&b);
                struct told told = {.n = 0};
                int64_t moments[14];
                make_pair(&a, &b, told.glass);
                buf_char(&a, '\0');
                buf_char(&b, '\0');
                struct policy *old = load(a.data), *new_one = load(b.data);
                told.both[0] = old;
                told.both[1] = new_one;
                for (int s = 0; s < 2; s++)
                        (void)policy_lint(told.both[s], 0, note_never, &(struct nevers){&told, s});
                nevers += told.nevers;
                for (int r = 0; r < ROLES; r++) {
                        told.grants[0][r] = grants_of(old, r);
                        told.grants[1][r] = grants_of(new_one, r);
                }
                struct told found = told;
                const struct policy_diff_options options = {.namer = naming_for_policy,
                        .changed = changed,
                        .binding_changed = binding_changed,
                        .unsure = not_told,
                        .owner = &told};
                struct policy_diff_counts counts = policy_diff(old, new_one, &options);
                assert_int_equal(counts.allowed + counts.denied, told.n);
                assert_int_equal(counts.untried, 0);
                assert_int_equal(counts.bindings, told.bindings);
                assert_int_equal(told.bindings, told.glass[0] != told.glass[1]);
                unfinished += counts.unfinished > 0;
                if (!counts.unfinished) /* else it says so */
                        brute_force(&found, moments, half_days(a.data, b.data, moments));
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
                for (int r = 0; r < ROLES; r++) {
                        policy_grants_free(told.grants[0][r]);
                        policy_grants_free(told.grants[1][r]);
                }
                policy_unref(old);
                policy_unref(new_one);
        }
        print_message(
                "%zu changes told; %zu pairs had too many combinations; %zu entries that lint "
                "is sure decide nothing\n",
                changes, unfinished, nevers);
        assert_true(nevers > (size_t)rounds / 2);
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
        const struct policy_diff_options options = {.namer = naming_for_policy,
                .changed = ignore,
                .binding_changed = no_binding_changed,
                .unsure = not_told};
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
        const struct policy_diff_options options = {.namer = naming_for_policy,
                .changed = ignore,
                .binding_changed = no_binding_changed,
                .unsure = not_told};

        (void)state;
        struct policy_diff_counts counts = policy_diff(old, new_one, &options);
        assert_int_equal(counts.allowed, 1);
        assert_int_equal(counts.denied, 0);
        policy_unref(old);
        policy_unref(new_one);
}

#define ROLE(entry) "version: 1\nroles: {r: {allow: [{operations: " entry "}]}}\n"
#define BIND(binding)                                                                              \
        "version: 1\nroles: {r: {allow: [{operations: [git.fetch]}]}, no: {deny: [{projects: "     \
        "[pay]}]}}\nbindings:\n- {callers: {issuer: i, " binding "\n"

static void bound(void *owner, struct str name, struct str old, struct str new_one)
{
        (void)owner;
        (void)name;
        (void)old;
        (void)new_one;
}

/* What a list looks like when it is joined, names that look like the samples, and long lists. */
static void a_widening_does_not_hide(void **state)
{
        static const struct {
                const char *old, *new_one;
                size_t allowed, bindings, unsure;
        } cases[] = {
                {ROLE("[build.builds.queue], projects: ['a, b']"),
                        ROLE("[build.builds.queue], projects: [a, b]"), 1, 0, 0},
                {ROLE("[pipelines.runs.run], where: {stagesToSkip: ['a, b']}"),
                        ROLE("[pipelines.runs.run], where: {stagesToSkip: [a, b]}"), 1, 0, 0},
                {ROLE("[pipelines.runs.run], where: {variables: {a: [x], b: [y]}}"),
                        ROLE("[pipelines.runs.run], where: {variables: {a: [x, 'b: y']}}"), 1, 0,
                        0},
                {ROLE("[pipelines.runs.run], claimed: {dag_id: ['a, b']}"),
                        ROLE("[pipelines.runs.run], claimed: {dag_id: [a, b]}"), 1, 0, 0},
                {ROLE("[build.builds.queue], projects: ['ax1*']"),
                        ROLE("[build.builds.queue], projects: ['a*']"), 1, 0, 0},
                {ROLE("[build.builds.queue], refs: ['refs/heads/elsewhere']"),
                        ROLE("[build.builds.queue], refs: ['refs/heads/*']"), 1, 0, 0},
                /* Which pipeline a build ran, or a folder, is upstream's to say. */
                {ROLE("[build.builds.update], projects: [a], pipelines: [42]"),
                        ROLE("[build.builds.update], projects: [a], pipelines: [42, 43]"), 0, 0, 2},
                {ROLE("[pipelines.runs.run], projects: [a], pipelines: ['\\etl\\x']"),
                        ROLE("[pipelines.runs.run], projects: [a], pipelines: ['\\etl\\*']"), 0, 0,
                        2},
                {ROLE("[pipelines.runs.run], projects: [a], pipelines: [42]"),
                        ROLE("[pipelines.runs.run], projects: [a], pipelines: [42, 43]"), 1, 0, 0},
                {BIND("claims: {x: '1'}}, roles: [r], credential: c}"),
                        BIND("claims: {x: 1}}, roles: [r], credential: c}"), 0, 2, 0},
                {BIND("subject: ['a, b']}, roles: [r], credential: c}"),
                        BIND("subject: [a, b]}, roles: [r], credential: c}"), 0, 2, 0},
                {BIND("subject: a}, roles: [r], credential: c}\n"
                      "- {callers: {issuer: i, subject: a}, roles: ['no']}"),
                        BIND("subject: a}, roles: [r], credential: c}"), 0, 1, 0},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct policy *old = load(cases[i].old), *new_one = load(cases[i].new_one);
                const struct policy_diff_options options = {.namer = naming_for_policy,
                        .changed = ignore,
                        .binding_changed = bound,
                        .unsure = not_told};
                struct policy_diff_counts counts = policy_diff(old, new_one, &options);
                if (counts.allowed != cases[i].allowed || counts.bindings != cases[i].bindings ||
                        counts.unsure != cases[i].unsure)
                        print_message("case %zu\n", i);
                assert_int_equal(counts.allowed, cases[i].allowed);
                assert_int_equal(counts.bindings, cases[i].bindings);
                assert_int_equal(counts.unsure, cases[i].unsure);
                policy_unref(old);
                policy_unref(new_one);
        }
}

static void who_is_added_at_the_end_of_many_is_told(void **state)
{
        struct buf a, b;

        (void)state;
        buf_init(&a, 1 << 20);
        BUF_LITERAL(&a, BIND("subject: ["));
        a.len--; /* the line goes on */
        for (int i = 0; i < 500; i++)
                buf_printf(&a, "worker-%d, ", i);
        buf_init(&b, 1 << 20);
        buf_str_add(&b, buf_str(&a));
        BUF_LITERAL(&a, "z]}, roles: [r], credential: c}\n");
        BUF_LITERAL(&b, "z, '*']}, roles: [r], credential: c}\n");
        buf_char(&a, '\0');
        buf_char(&b, '\0');
        struct policy *old = load(a.data), *new_one = load(b.data);
        const struct policy_diff_options options = {.namer = naming_for_policy,
                .changed = ignore,
                .binding_changed = bound,
                .unsure = not_told};
        struct policy_diff_counts counts = policy_diff(old, new_one, &options);
        assert_int_equal(counts.bindings, 2); /* one for another: they have no name */
        policy_unref(old);
        policy_unref(new_one);
        buf_clear(&a);
        buf_clear(&b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_differs_is_told),
                cmocka_unit_test(every_operation_can_be_tried),
                cmocka_unit_test(a_denial_of_what_is_guarded_is_missed),
                cmocka_unit_test(a_widening_does_not_hide),
                cmocka_unit_test(who_is_added_at_the_end_of_many_is_told),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
