#include "dagward/azdo/identity.h"
#include "policy_kit.h"

#include "dagward/base/buf.h"
#include "dagward/base/clock.h"

#define RUN "pipelines.runs.run"
#define A "projects=analytics "

/* One entry, one request. */
struct row {
        const char
                *entry; /* behind "allow: [" or, with a leading '!', in a deny beside allow-all */
        const char *what;
        const char *resources;
        enum effect effect;
};

static void check_rows(const struct row *rows, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                char text[1024];
                bool deny = rows[i].entry[0] == '!';
                snprintf(text, sizeof(text),
                        deny ? ONE_ROLE("    allow: [{operations: ['*']}, "
                                        "{method: [GET, POST], path: '/**'}]\n    deny: [%s]\n")
                             : ONE_ROLE("    allow: [%s]\n"),
                        rows[i].entry + deny);
                struct policy *policy = kit_policy(text);
                struct decision decision = kit_decide(policy, rows[i].what, rows[i].resources);
                if (decision.effect != rows[i].effect)
                        fail_msg("row %zu: %s on %s [%s]: %s", i, rows[i].entry, rows[i].what,
                                rows[i].resources,
                                decision.effect == EFFECT_ALLOW ? "allowed" : decision.reason);
                policy_unref(policy);
        }
}
#define CHECK_ROWS(rows) check_rows(rows, sizeof(rows) / sizeof((rows)[0]))

static void operations_are_chosen_by_id_alias_wildcard_access_scope_and_area(void **state)
{
        static const struct row rows[] = {
                {"{operations: [pipelines.runs.run]}", RUN, "", EFFECT_ALLOW},
                {"{operations: pipelines.runs.run}", RUN, "", EFFECT_ALLOW},
                {"{operations: [Pipelines.Runs.RUN]}", RUN, "", EFFECT_ALLOW},
                {"{operations: [pipelines.runs.get]}", RUN, "", EFFECT_DENY},
                {"{operations: ['pipelines.*']}", RUN, "", EFFECT_ALLOW},
                {"{operations: ['pipelines.runs.*']}", RUN, "", EFFECT_ALLOW},
                {"{operations: ['*.runs.run']}", RUN, "", EFFECT_ALLOW},
                {"{operations: ['*.*.run']}", RUN, "", EFFECT_ALLOW},
                {"{operations: ['pipelines.r*.run']}", RUN, "", EFFECT_ALLOW},
                {"{operations: ['pipelines.runs.r*']}", RUN, "", EFFECT_ALLOW},
                {"{operations: ['build.*']}", RUN, "", EFFECT_DENY},
                {"{operations: ['*']}", RUN, "", EFFECT_ALLOW},
                {"{operations: [git.fetch]}", "gitHttp.pack.fetch", "", EFFECT_ALLOW},
                {"{operations: [git.fetch]}", "gitHttp.refs.advertiseFetch", "", EFFECT_ALLOW},
                {"{operations: [git.fetch]}", "gitHttp.pack.push", "", EFFECT_DENY},
                {"{operations: [git.push]}", "gitHttp.pack.push", "", EFFECT_ALLOW},
                {"{access: [execute]}", RUN, "", EFFECT_ALLOW},
                {"{access: [read, write]}", RUN, "", EFFECT_DENY},
                {"{scopes: [vso.build_execute]}", RUN, "", EFFECT_ALLOW},
                /* no scope includes another: what is not listed is not granted */
                {"{scopes: [vso.build]}", RUN, "", EFFECT_DENY},
                {"{scopes: [vso.code_write]}", "git.repositories.list", "", EFFECT_DENY},
                {"{scopes: [vso.code]}", "git.repositories.list", "", EFFECT_ALLOW},
                {"{scopes: ['vso.build*']}", RUN, "", EFFECT_ALLOW},
                {"{areas: [pipelines]}", RUN, "", EFFECT_ALLOW},
                {"{areas: [Pipelines]}", RUN, "", EFFECT_ALLOW},
                {"{areas: [build]}", RUN, "", EFFECT_DENY},
                {"{areas: ['pipe*']}", RUN, "", EFFECT_ALLOW},
                {"{access: [execute], areas: [pipelines]}", RUN, "", EFFECT_ALLOW},
                {"{access: [read], areas: [pipelines]}", RUN, "", EFFECT_DENY},
                {"{access: [execute], areas: [build]}", RUN, "", EFFECT_DENY},
                /* what is not an API is opened by its id alone */
                {"{operations: ['*']}", "legacy.soap.any", "", EFFECT_DENY},
                {"{access: [manage]}", "legacy.soap.any", "", EFFECT_DENY},
                {"{areas: [legacy]}", "legacy.soap.any", "", EFFECT_DENY},
                {"{path: '/**'}", "legacy.soap.any", "", EFFECT_DENY},
                {"{operations: [legacy.soap.any]}", "legacy.soap.any", "", EFFECT_ALLOW},
        };
        (void)state;
        CHECK_ROWS(rows);
}

static void an_allow_needs_every_touched_resource_of_a_kind_to_match(void **state)
{
        static const struct row rows[] = {
                {"{operations: [" RUN "], projects: [analytics]}", RUN, A, EFFECT_ALLOW},
                {"{operations: [" RUN "], projects: [Analytics]}", RUN, A, EFFECT_ALLOW},
                {"{operations: [" RUN "], projects: [a, analytics]}", RUN, A, EFFECT_ALLOW},
                {"{operations: [" RUN "], projects: [analytic]}", RUN, A, EFFECT_DENY},
                {"{operations: [" RUN "], projects: ['analytic*']}", RUN, A, EFFECT_ALLOW},
                {"{operations: [" RUN "], projects: ['*']}", RUN, A, EFFECT_ALLOW},
                {"{operations: [" RUN "], projects: [analytics]}", RUN, "", EFFECT_DENY},
                {"{operations: [" RUN "], projects: [analytics]}", RUN, A "projects=b",
                        EFFECT_DENY},
                {"{operations: [" RUN "], projects: [analytics, b]}", RUN, A "projects=b",
                        EFFECT_ALLOW},
                {"{operations: [" RUN "], projects: [analytics]}", RUN, A "?projects", EFFECT_DENY},
                {"{operations: [" RUN "], projects: [analytics]}", RUN, "?projects", EFFECT_DENY},
                {"{operations: [" RUN "], projects: ['*']}", RUN, "?projects", EFFECT_ALLOW},
                {"{operations: [" RUN "], projects: ['*']}", RUN, "", EFFECT_DENY},
                {"{operations: [" RUN "], projects: [analytics], pipelines: [42]}", RUN,
                        A "pipelines=42", EFFECT_ALLOW},
                {"{operations: [" RUN "], projects: [analytics], pipelines: [42]}", RUN,
                        A "pipelines=99", EFFECT_DENY},
                {"{operations: [" RUN "], pipelines: [42]}", RUN, A "pipelines=421", EFFECT_DENY},
                /* a name is not the number of anything, nor does a wildcard fit numbers */
                {"{operations: [" RUN "], pipelines: [nightly]}", RUN, "pipelines=42", EFFECT_DENY},
                {"{operations: [" RUN "], pipelines: ['4*']}", RUN, "pipelines=42", EFFECT_DENY},
                {"{operations: [" RUN "], pipelines: ['*']}", RUN, "pipelines=42", EFFECT_ALLOW},
                {"{operations: [" RUN "], projects: ['a*']}", RUN,
                        "projects=a1111111-1111-1111-1111-111111111111", EFFECT_DENY},
                {"{operations: [" RUN "], projects: [A1111111-1111-1111-1111-111111111111]}", RUN,
                        "projects=a1111111-1111-1111-1111-111111111111", EFFECT_ALLOW},
                /* refs are told apart by letter case */
                {"{operations: [" RUN "], refs: [refs/heads/main]}", RUN, "refs=refs/heads/main",
                        EFFECT_ALLOW},
                {"{operations: [" RUN "], refs: [refs/heads/main]}", RUN, "refs=refs/heads/Main",
                        EFFECT_DENY},
                {"{operations: [" RUN "], refs: ['refs/heads/release/*']}", RUN,
                        "refs=refs/heads/release/1/2", EFFECT_ALLOW},
                {"{operations: [" RUN "], refs: [refs/heads/main]}", RUN, "?refs", EFFECT_DENY},
                /* letters beyond ASCII: exact */
                {"{operations: [" RUN "], projects: [\xc3\x84rger]}", RUN, "projects=\xc3\xa4rger",
                        EFFECT_DENY},
                {"{operations: [" RUN "], projects: [\xc3\x84rger]}", RUN, "projects=\xc3\x84RGER",
                        EFFECT_ALLOW},
        };
        (void)state;
        CHECK_ROWS(rows);
}

/* MY_KEY is what a script is given of both. */
static void variables_that_become_one_are_one(void **state)
{
        static const struct {
                const char *entries, *key;
                enum effect effect;
        } cases[] = {
                {"deny: [{operations: [" RUN "], where: {variables: {my.key: [x]}}}]", "my_key",
                        EFFECT_DENY},
                {"deny: [{operations: [" RUN "], where: {variables: {my.key: [x]}}}]", "MY KEY",
                        EFFECT_DENY},
                {"deny: [{operations: [" RUN "], where: {variables: {'my_*': [x]}}}]", "my.key",
                        EFFECT_DENY},
                {"deny: [{operations: [" RUN "], where: {variables: {my.key: [x]}}}]", "my-key",
                        EFFECT_ALLOW},
                {"deny: [{operations: [" RUN "], where: {variables: {my.key: [y]}}}]", "my_key",
                        EFFECT_ALLOW},
        };
        unsigned kind;

        (void)state;
        assert_true(fact_named(STR("variables"), &kind));
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char text[1024];
                snprintf(text, sizeof(text),
                        ONE_ROLE("    allow: [{operations: [" RUN "]}]\n    %s\n"),
                        cases[i].entries);
                struct policy *policy = kit_policy(text);
                struct fact fact = {kind, str_of(cases[i].key), STR("x")};
                struct facts facts = {.items = &fact, .n = 1, .cap = 1};
                assert_int_equal(
                        kit_decide_saying(policy, RUN, "", &facts).effect, cases[i].effect);
                policy_unref(policy);
        }
        struct policy *policy =
                kit_policy(ONE_ROLE("    allow: [{operations: [" RUN
                                    "], where: {variables: {my.key: [y], '*': ['*']}}}]\n"));
        struct fact fact = {kind, STR("my_key"), STR("x")};
        struct facts facts = {.items = &fact, .n = 1, .cap = 1};
        assert_int_equal(kit_decide_saying(policy, RUN, "", &facts).effect, EFFECT_DENY);
        fact.key = STR("mykey");
        assert_int_equal(kit_decide_saying(policy, RUN, "", &facts).effect, EFFECT_ALLOW);
        policy_unref(policy);
}

/* Json.NET passes over blanks around a word, takes several with commas between, and numbers. */
static void a_deny_catches_every_spelling_of_a_word(void **state)
{
        static const struct {
                const char *listed, *said;
                enum effect effect;
        } cases[] = {
                {"completed", "completed", EFFECT_DENY},
                {"completed", "Completed", EFFECT_DENY},
                {"completed", " completed", EFFECT_DENY},
                {"completed", "completed\t\r\n", EFFECT_DENY},
                {"completed", "\xc2\xa0\xe2\x80\x89 completed\xe3\x80\x80\xc2\x85", EFFECT_DENY},
                {"completed", "active,completed", EFFECT_DENY},
                {"completed", "completed , active", EFFECT_DENY},
                {"completed", "3", EFFECT_DENY},
                {"completed", " +3 ", EFFECT_DENY},
                {"completed", "active,3", EFFECT_DENY},
                {"3", "completed", EFFECT_DENY},
                {"3", "03", EFFECT_DENY},
                {"3", "+3", EFFECT_DENY},
                {"-3", "-03", EFFECT_DENY},
                {"0", "-0", EFFECT_DENY},
                {"3", "13", EFFECT_ALLOW},
                {"completed", "abandoned", EFFECT_ALLOW},
                {"completed", "active,abandoned", EFFECT_ALLOW},
                {"completed", "uncompleted", EFFECT_ALLOW},
                {"completed", "completed\xc3\xa9", EFFECT_ALLOW},
                {"completed", "", EFFECT_ALLOW},
                {"/prod/*", "/prod/x", EFFECT_DENY},
                {"/prod/*", "prod/x", EFFECT_DENY},
                {"prod/*", "/prod/x", EFFECT_DENY},
                {"/prod/*", "/prod", EFFECT_DENY},
                {"/prod/x", "PROD/", EFFECT_DENY},
                {"/prod/x", "/", EFFECT_DENY},
                {"/prod/*", "//prod/x", EFFECT_DENY},
                {"/prod/*", "./prod/x", EFFECT_DENY},
                {"/prod/*", "/a/./x", EFFECT_DENY},
                {"/prod/*", "/a/../prod/x", EFFECT_DENY},
                {"/prod/*", "\\prod\\x", EFFECT_DENY},
                {"/prod/*", "/production/x", EFFECT_ALLOW},
                {"/prod/*", "/pro", EFFECT_ALLOW},
                {"/prod/*", "", EFFECT_ALLOW},
                {"https://a/*", "https://b/", EFFECT_ALLOW},
        };
        unsigned kind;

        (void)state;
        assert_true(fact_named(STR("status"), &kind));
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char text[1024];
                snprintf(text, sizeof(text),
                        ONE_ROLE("    allow: [{operations: [git.pullRequests.update]}]\n"
                                 "    deny: [{operations: [git.pullRequests.update], where: "
                                 "{status: ['%s']}}]\n"),
                        cases[i].listed);
                struct policy *policy = kit_policy(text);
                struct fact fact = {kind, STR(""), str_of(cases[i].said)};
                struct facts facts = {.items = &fact, .n = 1, .cap = 1};
                struct decision decision =
                        kit_decide_saying(policy, "git.pullRequests.update", "", &facts);
                if (decision.effect != cases[i].effect)
                        fail_msg("%s by %s: %s", cases[i].said, cases[i].listed, decision.reason);
                policy_unref(policy);
        }
}

static void a_deny_catches_what_it_cannot_rule_out(void **state)
{
        static const struct row rows[] = {
                {"!{operations: [" RUN "]}", RUN, A, EFFECT_DENY},
                {"!{operations: [pipelines.runs.get]}", RUN, A, EFFECT_ALLOW},
                {"!{projects: [analytics]}", RUN, A, EFFECT_DENY},
                {"!{projects: [ANALYTICS]}", RUN, A, EFFECT_DENY},
                {"!{projects: [other]}", RUN, A, EFFECT_ALLOW},
                {"!{projects: [other]}", RUN, A "projects=other", EFFECT_DENY},
                {"!{projects: [other]}", RUN, A "?projects", EFFECT_DENY},
                {"!{projects: [other]}", RUN, "", EFFECT_ALLOW},
                {"!{projects: ['*']}", RUN, "", EFFECT_ALLOW},
                {"!{projects: ['*']}", RUN, "?projects", EFFECT_DENY},
                {"!{pipelines: [99]}", RUN, "pipelines=99", EFFECT_DENY},
                {"!{pipelines: [99]}", RUN, "pipelines=42", EFFECT_ALLOW},
                /* a name and a number may be the same pipeline */
                {"!{pipelines: [prod]}", RUN, "pipelines=42", EFFECT_DENY},
                {"!{pipelines: [99]}", RUN, "pipelines=prod", EFFECT_DENY},
                {"!{pipelines: ['prod*']}", RUN, "pipelines=42", EFFECT_DENY},
                {"!{projects: [secret]}", RUN, "projects=a1111111-1111-1111-1111-111111111111",
                        EFFECT_DENY},
                /* .NET reads a GUID in other forms, too */
                {"!{projects: [secret]}", RUN, "projects=a1111111111111111111111111111111",
                        EFFECT_DENY},
                {"!{projects: ['secret*']}", RUN, "projects={a1111111-1111-1111-1111-111111111111}",
                        EFFECT_DENY},
                {"!{projects: [a1111111-1111-1111-1111-111111111111]}", RUN,
                        "projects=(A1111111-1111-1111-1111-111111111111)", EFFECT_DENY},
                {"!{repositories: [a1111111-1111-1111-1111-111111111111]}", RUN,
                        "repositories=A1111111111111111111111111111111", EFFECT_DENY},
                {"!{projects: [secret]}", RUN, "projects=a111111111111111111111111111111",
                        EFFECT_ALLOW},
                {"!{projects: [secret]}", RUN, "projects=a111111111111111111111111111111g",
                        EFFECT_ALLOW},
                {"!{refs: [refs/heads/main]}", RUN, "refs=a1111111111111111111111111111111",
                        EFFECT_DENY},
                /* it trims blanks beyond ASCII */
                {"!{projects: [secret]}", RUN, "projects=\xc2\xa0secret", EFFECT_DENY},
                {"!{projects: [secret]}", RUN, "projects=secret\xe2\x80\x83", EFFECT_DENY},
                {"!{projects: [secret]}", RUN, "projects=\xc2\x85secret\xe3\x80\x80", EFFECT_DENY},
                {"!{projects: [secret]}", RUN, "projects=\xe1\x9a\x80secret", EFFECT_DENY},
                {"!{projects: [secret]}", RUN, "projects=\vsecret", EFFECT_DENY},
                {"!{projects: [secret]}", RUN,
                        "projects=se\xc2\xa0"
                        "cret",
                        EFFECT_ALLOW},
                {"!{refs: [refs/heads/main]}", RUN, "refs=refs/heads/main\xc2\xa0", EFFECT_DENY},
                /* and git's clients put .git behind the name of a repository */
                {"!{repositories: [dags]}", RUN, "repositories=dags.git", EFFECT_DENY},
                {"!{repositories: [dags]}", RUN, "repositories=dags.hg", EFFECT_ALLOW},
                {"!{projects: [dags]}", RUN, "projects=dags.git", EFFECT_ALLOW},
                {"!{refs: [refs/heads/main]}", RUN, "refs=refs/heads/MAIN", EFFECT_DENY},
                {"!{refs: [refs/heads/main]}", RUN, "refs=main", EFFECT_DENY},
                {"!{refs: [refs/heads/main]}", RUN, "refs=refs/heads/dev", EFFECT_ALLOW},
                {"!{refs: [refs/heads/main]}", RUN, "?refs", EFFECT_DENY},
                /* upstream may fold more letters than ASCII */
                {"!{projects: [\xc3\x84rger]}", RUN, "projects=\xc3\xa4rger", EFFECT_DENY},
                {"!{projects: [kasse]}", RUN,
                        "projects=\xe2\x84\xaa"
                        "asse",
                        EFFECT_DENY},
                {"!{projects: [kasse]}", RUN, "projects=\xc3\xa4rger", EFFECT_ALLOW},
                {"!{operations: [" RUN "], pipelines: [99]}", RUN, "pipelines=42", EFFECT_ALLOW},
                {"!{operations: [" RUN "], pipelines: [99]}", RUN, "pipelines=99", EFFECT_DENY},
                {"!{access: [execute]}", RUN, "", EFFECT_DENY},
                {"!{access: [read]}", RUN, "", EFFECT_ALLOW},
                {"!{operations: ['*']}", "git.repositories.list", "", EFFECT_DENY},
        };
        (void)state;
        CHECK_ROWS(rows);
}

static void a_repository_may_be_written_with_its_project(void **state)
{
#define F "gitHttp.pack.fetch"
        static const struct row rows[] = {
                {"{operations: [git.fetch], repositories: [dags]}", F, A "repositories=dags",
                        EFFECT_ALLOW},
                {"{operations: [git.fetch], repositories: [analytics/dags]}", F,
                        A "repositories=Dags", EFFECT_ALLOW},
                {"{operations: [git.fetch], repositories: [other/dags]}", F, A "repositories=dags",
                        EFFECT_DENY},
                {"{operations: [git.fetch], repositories: ['analytics/*']}", F,
                        A "repositories=dags", EFFECT_ALLOW},
                {"{operations: [git.fetch], repositories: ['*/dags']}", F, "repositories=dags",
                        EFFECT_ALLOW},
                {"{operations: [git.fetch], repositories: [analytics/dags]}", F,
                        "repositories=dags", EFFECT_DENY},
                {"{operations: [git.fetch], repositories: [analytics/dags]}", F,
                        "?projects repositories=dags", EFFECT_DENY},
                {"{operations: [git.fetch], repositories: [analytics/dags]}", F,
                        A "projects=other repositories=dags", EFFECT_DENY},
                {"{operations: [git.fetch], repositories: [analytics/dags]}", F,
                        A "repositories=dags repositories=other", EFFECT_DENY},
                {"!{repositories: [analytics/dags]}", F, A "repositories=dags", EFFECT_DENY},
                {"!{repositories: [analytics/dags]}", F, "projects=other repositories=dags",
                        EFFECT_ALLOW},
                {"!{repositories: [analytics/dags]}", F, "repositories=dags", EFFECT_DENY},
                {"!{repositories: [analytics/dags]}", F,
                        "projects=other ?projects repositories=dags", EFFECT_DENY},
                {"!{repositories: [analytics/dags]}", F, A "repositories=other", EFFECT_ALLOW},
        };
        (void)state;
        CHECK_ROWS(rows);
}

static void a_request_unknown_to_the_catalogue_needs_method_and_path(void **state)
{
        static const struct row rows[] = {
                {"{operations: ['*']}", "GET /contoso/x", "", EFFECT_DENY},
                {"{path: /contoso/x}", "GET /contoso/x", "", EFFECT_DENY},
                {"{method: GET, path: /contoso/x}", "GET /contoso/x", "", EFFECT_ALLOW},
                {"{method: GET, path: /Contoso/X/}", "GET /contoso/x", "", EFFECT_ALLOW},
                {"{method: GET, path: /contoso/x}", "POST /contoso/x", "", EFFECT_DENY},
                {"{method: GET, path: /contoso/x}", "GET /contoso/x/y", "", EFFECT_DENY},
                {"{method: GET, path: /contoso/x}", "GET /contoso", "", EFFECT_DENY},
                {"{method: GET, path: '/contoso/*'}", "GET /contoso/x", "", EFFECT_ALLOW},
                {"{method: GET, path: '/contoso/*'}", "GET /contoso/x/y", "", EFFECT_DENY},
                {"{method: GET, path: '/contoso/*'}", "GET /contoso", "", EFFECT_DENY},
                {"{method: GET, path: '/contoso/x*'}", "GET /contoso/xyz", "", EFFECT_ALLOW},
                {"{method: GET, path: '/contoso/*/y'}", "GET /contoso/x/y", "", EFFECT_ALLOW},
                {"{method: GET, path: '/contoso/**'}", "GET /contoso/x/y", "", EFFECT_ALLOW},
                {"{method: GET, path: '/contoso/**'}", "GET /contoso", "", EFFECT_ALLOW},
                {"{method: GET, path: '/contoso/**'}", "GET /contosox", "", EFFECT_DENY},
                {"{method: GET, path: '/contoso/**'}", "GET /~vsrm/contoso/x", "", EFFECT_DENY},
                {"{method: GET, path: '/contoso/x', access: [read]}", "GET /contoso/x", "",
                        EFFECT_DENY},
                {"{method: GET, path: '/contoso/**', projects: [a]}", "GET /contoso/x", "",
                        EFFECT_DENY},
                {"{method: GET, path: '/contoso/**', organizations: [contoso]}", "GET /contoso/x",
                        "organizations=contoso", EFFECT_ALLOW},
                {"!{operations: [build.builds.queue]}", "GET /contoso/x", "", EFFECT_ALLOW},
                {"!{operations: ['*']}", "GET /contoso/x", "", EFFECT_DENY},
                {"!{access: [manage]}", "GET /contoso/x", "", EFFECT_DENY},
                {"!{areas: [build]}", "GET /contoso/x", "", EFFECT_DENY},
                {"!{projects: [secret]}", "GET /contoso/x", "", EFFECT_DENY},
                {"!{organizations: [fabrikam]}", "GET /contoso/x", "organizations=contoso",
                        EFFECT_ALLOW},
                {"!{path: '/contoso/y/**'}", "GET /contoso/x", "", EFFECT_ALLOW},
                {"!{path: '/contoso/x/**'}", "GET /contoso/x", "", EFFECT_DENY},
                {"!{method: POST}", "GET /contoso/x", "", EFFECT_ALLOW},
                {"!{method: GET}", "GET /contoso/x", "", EFFECT_DENY},
        };
        (void)state;
        CHECK_ROWS(rows);
}

/* Who gets a role. */
struct caller_row {
        const char *callers;
        const char *issuer, *subject, *role, *claims;
        bool applies;
};

static void bindings_apply_by_issuer_subject_roles_and_claims(void **state)
{
        static const struct caller_row rows[] = {
                {"{issuer: i}", "i", "anybody", NULL, NULL, true},
                {"{issuer: i}", "j", "anybody", NULL, NULL, false},
                {"{issuer: i}", "I", "anybody", NULL, NULL, false},
                {"{issuer: i, subject: a}", "i", "a", NULL, NULL, true},
                {"{issuer: i, subject: a}", "i", "A", NULL, NULL, false},
                {"{issuer: i, subject: a}", "i", "ab", NULL, NULL, false},
                {"{issuer: i, subject: ['x', 'a*']}", "i", "ab", NULL, NULL, true},
                {"{issuer: i, subject: 'system:serviceaccount:airflow:*'}", "i",
                        "system:serviceaccount:airflow:worker", NULL, NULL, true},
                {"{issuer: i, subject: 'system:serviceaccount:airflow:*'}", "i",
                        "system:serviceaccount:airflow-dev:worker", NULL, NULL, false},
                {"{issuer: i, subject: '*'}", "i", "a", NULL, NULL, true},
                {"{issuer: i, roles: Op}", "i", "a", "Op", NULL, true},
                {"{issuer: i, roles: Op}", "i", "a", "op", NULL, false},
                {"{issuer: i, roles: [Op, Admin]}", "i", "a", "Admin", NULL, true},
                {"{issuer: i, roles: Op}", "i", "a", NULL, NULL, false},
                {"{issuer: i, claims: {roles: Op}}", "i", "a", NULL, "{\"roles\":\"Op\"}", true},
                {"{issuer: i, claims: {roles: Op}}", "i", "a", NULL, "{\"roles\":[\"x\",\"Op\"]}",
                        true},
                {"{issuer: i, claims: {roles: Op}}", "i", "a", NULL, "{\"roles\":[\"x\"]}", false},
                {"{issuer: i, claims: {roles: Op}}", "i", "a", NULL, "{}", false},
                {"{issuer: i, claims: {roles: Op}}", "i", "a", NULL, NULL, false},
                {"{issuer: i, claims: {roles: [Op, Dev]}}", "i", "a", NULL, "{\"roles\":\"Dev\"}",
                        true},
                {"{issuer: i, claims: {a.b: x}}", "i", "a", NULL, "{\"a\":{\"b\":\"x\"}}", true},
                {"{issuer: i, claims: {a.b: x}}", "i", "a", NULL, "{\"a.b\":\"x\"}", true},
                {"{issuer: i, claims: {a.b: x}}", "i", "a", NULL,
                        "{\"a.b\":\"y\",\"a\":{\"b\":\"x\"}}", false},
                {"{issuer: i, claims: {a.b.c: x}}", "i", "a", NULL, "{\"a.b\":{\"c\":[\"x\"]}}",
                        true},
                {"{issuer: i, claims: {a.b: x}}", "i", "a", NULL, "{\"a\":\"x\"}", false},
                {"{issuer: i, claims: {a: x, b: y}}", "i", "a", NULL, "{\"a\":\"x\"}", false},
                {"{issuer: i, claims: {a: x, b: y}}", "i", "a", NULL, "{\"a\":\"x\",\"b\":\"y\"}",
                        true},
                {"{issuer: i, claims: {a: true}}", "i", "a", NULL, "{\"a\":true}", true},
                {"{issuer: i, claims: {a: 'true'}}", "i", "a", NULL, "{\"a\":true}", false},
                {"{issuer: i, claims: {a: true}}", "i", "a", NULL, "{\"a\":false}", false},
                {"{issuer: i, claims: {a: 12}}", "i", "a", NULL, "{\"a\":12}", true},
                {"{issuer: i, claims: {a: 12}}", "i", "a", NULL, "{\"a\":\"12\"}", true},
                {"{issuer: i, claims: {a: 12}}", "i", "a", NULL, "{\"a\":123}", false},
                {"{issuer: i, claims: {a: 'te*'}}", "i", "a", NULL, "{\"a\":[\"team\"]}", true},
                {"{issuer: i, claims: {a: '*'}}", "i", "a", NULL, "{\"a\":7}", true},
                {"{issuer: i, claims: {a: '*'}}", "i", "a", NULL, "{\"a\":null}", false},
                {"{issuer: i, claims: {a: '*'}}", "i", "a", NULL, "{\"a\":[]}", false},
                {"{issuer: i, subject: a, claims: {a: x}}", "i", "b", NULL, "{\"a\":\"x\"}", false},
        };
        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                char text[512];
                snprintf(text, sizeof(text),
                        "version: 1\nroles: {r: {allow: [{operations: ['*']}]}}\n"
                        "bindings: [{callers: %s, roles: r, credential: c}]\n",
                        rows[i].callers);
                struct policy *policy = kit_policy(text);
                struct arena arena;
                const struct tree *claims = kit_claims(rows[i].claims, &arena);
                struct str role = str_of(rows[i].role);
                const struct policy_caller caller = {
                        .issuer = str_of(rows[i].issuer),
                        .subject = str_of(rows[i].subject),
                        .roles = &role,
                        .n_roles = rows[i].role ? 1 : 0,
                        .claims = claims,
                };
                struct policy_grants *grants = policy_grants_new(policy, &caller);
                if ((policy_grants_count(grants) == 1) != rows[i].applies)
                        fail_msg("row %zu: %s", i, rows[i].callers);
                policy_grants_free(grants);
                arena_clear(&arena);
                policy_unref(policy);
        }
}

static void a_binding_gives_nothing_outside_its_time(void **state)
{
        static const char text[] =
                "version: 1\nroles: {r: {allow: [{operations: ['*']}]}}\n"
                "bindings: [{callers: {issuer: i}, roles: r, credential: c,\n"
                "            not_before: 2026-01-01, expires: 2026-02-01T12:00:00Z}]\n";
        static const struct {
                const char *at;
                enum effect effect;
                const char *reason; /* ends so */
        } rows[] = {
                {"2025-12-31T23:59:59Z", EFFECT_DENY,
                        "; the binding p.yaml:3, which will allow it, begins at "
                        "2026-01-01T00:00:00Z"},
                {"2026-01-01T00:00:00Z", EFFECT_ALLOW, ""},
                {"2026-02-01T11:59:59Z", EFFECT_ALLOW, ""},
                {"2026-02-01T12:00:00Z", EFFECT_DENY,
                        "; the binding p.yaml:3, which allowed it, expired at "
                        "2026-02-01T12:00:00Z; ask whoever keeps it to renew it"},
        };
        struct policy *policy = kit_policy(text);
        const struct policy_caller caller = {.issuer = STR("i")};
        struct policy_grants *grants = policy_grants_new(policy, &caller);

        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct policy_request request;
                struct decision decision;
                kit_request(RUN, NULL, &request);
                assert_true(clock_parse(str_of(rows[i].at), &request.now_ms));
                policy_decide(policy, grants, &request, &decision);
                assert_int_equal(decision.effect, rows[i].effect);
                struct policy_grant shown[2];
                assert_int_equal(policy_grants_list(policy, grants, request.now_ms, shown, 2),
                        rows[i].effect == EFFECT_ALLOW ? 1 : 0);
                assert_true(str_ends(str_of(decision.reason), str_of(rows[i].reason)));
        }
        policy_grants_free(grants);
        policy_unref(policy);
}

static void a_binding_that_expired_is_blamed_only_where_it_would_have_allowed(void **state)
{
        static const char text[] =
                "version: 1\n"
                "roles:\n"
                "  runs: {allow: [{operations: [pipelines.runs.run], pipelines: [42, 7]}],\n"
                "         deny: [{operations: [pipelines.runs.run], pipelines: [7]}]}\n"
                "  reads: {allow: [{access: [read]}]}\n"
                "bindings:\n"
                "- {name: old, callers: {issuer: i}, roles: runs, credential: c, expires: "
                "2026-02-01}\n"
                "- {name: new, callers: {issuer: i}, roles: reads, credential: c}\n";
        static const struct {
                const char *resources;
                bool blamed;
        } rows[] = {{"pipelines=42", true}, {"pipelines=7", false}, {"pipelines=8", false}};
        struct policy *policy = kit_policy(text);
        const struct policy_caller caller = {.issuer = STR("i")};
        struct policy_grants *grants = policy_grants_new(policy, &caller);

        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct policy_request request;
                struct resources resources;
                struct decision decision;
                kit_resources(rows[i].resources, &resources);
                kit_request(RUN, &resources, &request);
                assert_true(clock_parse(STR("2026-03-01"), &request.now_ms));
                policy_decide(policy, grants, &request, &decision);
                assert_int_equal(decision.effect, EFFECT_DENY);
                if (rows[i].blamed != (strstr(decision.reason, "binding old") != NULL))
                        fail_msg("%s: %s", rows[i].resources, decision.reason);
        }
        policy_grants_free(grants);
        policy_unref(policy);
}

#define ASSERT_STR(have, want)                                                                     \
        do {                                                                                       \
                struct str have_ = (have);                                                         \
                if (!str_eq(have_, str_of(want)))                                                  \
                        fail_msg("`%.*s`, not `%s`", STR_FMT(have_), (want));                      \
        } while (0)

static void the_decision_names_rule_role_binding_and_credential(void **state)
{
        static const char text[] =
                "version: 1\n"
                "roles:\n"
                "  one:\n"
                "    allow:\n"
                "      - operations: [build.builds.list]\n"
                "      - operations: [pipelines.runs.run]\n"
                "        pipelines: [42]\n"
                "  two:\n"
                "    allow:\n"
                "      - access: [execute, read]\n"
                "    deny: [{operations: [pipelines.runs.run], pipelines: [7]}]\n"
                "bindings:\n"
                "  - {callers: {issuer: i}, roles: [two], credential: c2}\n"
                "  - {name: first, callers: {issuer: i}, roles: [one], "
                "credential: c1}\n";
        struct policy *policy = kit_policy(text);
        struct decision decision;

        (void)state;
        decision = kit_decide(policy, RUN, "pipelines=42");
        assert_int_equal(decision.effect, EFFECT_ALLOW);
        ASSERT_STR(decision.rule, "p.yaml:10");
        ASSERT_STR(decision.role, "two");
        ASSERT_STR(decision.binding, "p.yaml:13");
        ASSERT_STR(decision.credential, "c2");
        assert_string_equal(decision.reason, "");

        decision = kit_decide(policy, RUN, "projects=analytics pipelines=7");
        assert_int_equal(decision.effect, EFFECT_DENY);
        ASSERT_STR(decision.rule, "p.yaml:11");
        ASSERT_STR(decision.role, "two");
        assert_int_equal(decision.credential.len, 0);
        assert_string_equal(decision.reason,
                "role two denies pipelines.runs.run on project analytics, pipeline 7 for worker "
                "(issuer i), whatever else allows it; ask whoever keeps p.yaml:11");

        decision = kit_decide(policy, "git.repositories.create", "projects=analytics");
        assert_int_equal(decision.effect, EFFECT_DENY);
        assert_int_equal(decision.rule.len, 0);
        assert_string_equal(decision.reason,
                "no role allows git.repositories.create on project analytics for worker (issuer i);"
                " your roles: two, one; ask for a role that allows it");
        policy_unref(policy);
}

static void a_reason_is_cut_at_whole_characters_and_holds_no_controls(void **state)
{
        struct policy *policy = kit_policy(ONE_ROLE("    allow: [{access: [read]}]\n"));
        char subject[1024], value[2048];
        struct resources resources = {.n = 40};
        struct policy_request request;
        struct decision decision;

        (void)state;
        for (size_t i = 0; i + 2 < sizeof(subject); i += 2)
                memcpy(subject + i, "\xc3\xa4", 3);
        memset(value, '\n', sizeof(value));
        for (size_t i = 0; i < resources.n; i++)
                resources.items[i] =
                        (struct resource){.kind = (enum resource_kind)(i % RESOURCE_KINDS),
                                .value = str_view(value, 1 + i * 50)};
        const struct policy_caller caller = {.issuer = STR("i"), .subject = str_of(subject)};
        struct policy_grants *grants = policy_grants_new(policy, &caller);
        kit_request(RUN, &resources, &request);
        policy_decide(policy, grants, &request, &decision);
        assert_true(strlen(decision.reason) < sizeof(decision.reason));
        assert_true(str_utf8_valid(str_of(decision.reason)));
        assert_null(strchr(decision.reason, '\n'));
        policy_grants_free(grants);
        policy_unref(policy);
}

static void the_kinds_that_matter_are_those_of_entries_about_the_operation(void **state)
{
        struct policy *policy =
                kit_policy(ONE_ROLE("    allow:\n"
                                    "      - {operations: [pipelines.runs.run], pipelines: [42]}\n"
                                    "      - {operations: [git.fetch], repositories: [a/b]}\n"));
        const struct policy_caller caller = {.issuer = STR("i")};
        struct policy_grants *grants = policy_grants_new(policy, &caller);

        (void)state;
        assert_int_equal(
                policy_kinds(policy, grants, catalogue_find(STR(RUN))), 1 << RESOURCE_PIPELINE);
        assert_int_equal(policy_kinds(policy, grants, catalogue_find(STR("gitHttp.pack.fetch"))),
                1 << RESOURCE_REPOSITORY | 1 << RESOURCE_PROJECT);
        assert_int_equal(policy_kinds(policy, grants, catalogue_find(STR("build.builds.list"))), 0);
        assert_int_equal(policy_kinds(policy, grants, NULL), 0);
        policy_grants_free(grants);
        policy_unref(policy);
}

static void one_of_many_entries_is_found_by_any_spelling_of_its_resource(void **state)
{
        struct buf text;

        (void)state;
        buf_init(&text, 1 << 20);
        buf_printf(&text, ONE_ROLE("    allow:\n"));
        for (unsigned i = 0; i < 200; i++)
                buf_printf(
                        &text, "      - {operations: [" RUN "], projects: [Team-%u, x%u]}\n", i, i);
        buf_printf(&text, "      - {operations: [" RUN "], projects: ['wild*'], pipelines: [5]}\n");
        buf_char(&text, '\0');
        struct policy *policy = kit_policy(text.data);
        for (unsigned i = 0; i < 200; i++) {
                char resources[80], rule[20];
                snprintf(rule, sizeof(rule), "p.yaml:%u", i + 6);
                for (size_t k = 0; k < 4; k++) {
                        if (k == 3)
                                snprintf(resources, sizeof(resources),
                                        "projects=X%u projects=team-%u", i, i);
                        else if (k == 2)
                                snprintf(resources, sizeof(resources), "projects=Team-%u", i);
                        else if (k == 1)
                                snprintf(resources, sizeof(resources), "projects=team-%u", i);
                        else
                                snprintf(resources, sizeof(resources), "projects=TEAM-%u", i);
                        struct decision decision = kit_decide(policy, RUN, resources);
                        assert_int_equal(decision.effect, EFFECT_ALLOW);
                        ASSERT_STR(decision.rule, rule);
                }
        }
        assert_int_equal(kit_decide(policy, RUN, "projects=team-200").effect, EFFECT_DENY);
        assert_int_equal(
                kit_decide(policy, RUN, "projects=team-1 projects=team-2").effect, EFFECT_DENY);
        assert_int_equal(kit_decide(policy, RUN, "?projects").effect, EFFECT_DENY);
        assert_int_equal(kit_decide(policy, RUN, "").effect, EFFECT_DENY);
        assert_int_equal(
                kit_decide(policy, RUN, "projects=wilder pipelines=5").effect, EFFECT_ALLOW);
        policy_unref(policy);
        buf_clear(&text);
}

/* Items of `text` with what upstream says they are: id, name, path, project. */
static void what_is_known_decides(void **state)
{
        static const struct {
                const char *entry;
                enum resource_kind kind;
                const char *value;
                struct identity known;
                enum effect effect;
        } cases[] = {
                {"projects: [analytics]", RESOURCE_PROJECT, "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c",
                        {.id = STR("6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c"),
                                .name = STR("Analytics")},
                        EFFECT_ALLOW},
                {"projects: [analytics]", RESOURCE_PROJECT, "analytics",
                        {.id = STR("6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c"), .name = STR("other")},
                        EFFECT_DENY},
                {"projects: [6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c]", RESOURCE_PROJECT, "analytics",
                        {.id = STR("6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c"),
                                .name = STR("analytics")},
                        EFFECT_ALLOW},
                {"projects: [6ce954b1-ce1f-45d1-b94d-000000000000]", RESOURCE_PROJECT, "analytics",
                        {.id = STR("6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c"),
                                .name = STR("analytics")},
                        EFFECT_DENY},
                {"pipelines: [nightly]", RESOURCE_PIPELINE, "42",
                        {.id = STR("42"), .name = STR("nightly"), .path = STR("\\a\\nightly")},
                        EFFECT_ALLOW},
                {"pipelines: ['\\a\\*']", RESOURCE_PIPELINE, "42",
                        {.id = STR("42"), .name = STR("nightly"), .path = STR("\\a\\nightly")},
                        EFFECT_ALLOW},
                {"pipelines: ['\\nightly']", RESOURCE_PIPELINE, "42",
                        {.id = STR("42"), .name = STR("nightly"), .path = STR("\\a\\nightly")},
                        EFFECT_DENY},
                {"pipelines: ['4*']", RESOURCE_PIPELINE, "42",
                        {.id = STR("42"), .name = STR("nightly"), .path = STR("\\a\\nightly")},
                        EFFECT_DENY},
                {"pipelines: ['\\a\\*']", RESOURCE_PIPELINE, "42",
                        {.id = STR("42"), .name = STR("nightly")}, EFFECT_DENY},
        };
        const struct policy_caller caller = {.issuer = STR("i")};

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char text[400];
                struct resources resources = {.n = 1};
                struct policy_request request;
                struct decision decision;
                struct str credential = STR_NONE;

                snprintf(text, sizeof(text), ONE_ROLE("    allow: [{operations: [" RUN "], %s}]\n"),
                        cases[i].entry);
                struct policy *policy = kit_policy(text);
                struct policy_grants *grants = policy_grants_new(policy, &caller);
                resources.items[0] =
                        (struct resource){.kind = cases[i].kind, .value = str_of(cases[i].value)};
                kit_request(RUN, &resources, &request);
                policy_decide(policy, grants, &request, &decision);
                /* Case 1 is what its name says, until somebody is asked. */
                assert_int_equal(decision.effect, i == 1 ? EFFECT_ALLOW : EFFECT_DENY);
                if (decision.effect == EFFECT_DENY) {
                        assert_int_equal(policy_doubts(policy, grants, &request, &credential),
                                1 << cases[i].kind);
                        ASSERT_STR(credential, "c");
                }
                resources.items[0].known = &cases[i].known;
                policy_decide(policy, grants, &request, &decision);
                assert_int_equal(decision.effect, cases[i].effect);
                policy_grants_free(grants);
                policy_unref(policy);
        }
}

static void a_repository_that_is_known_has_its_own_project(void **state)
{
        struct policy *policy = kit_policy(ONE_ROLE(
                "    allow: [{operations: [git.fetch], repositories: [analytics/dags]}]\n"));
        const struct policy_caller caller = {.issuer = STR("i")};
        struct policy_grants *grants = policy_grants_new(policy, &caller);
        struct identity known = {.id = STR("aaaaaaaa-0000-4000-8000-000000000001"),
                .name = STR("dags"),
                .project_id = STR("6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c"),
                .project_name = STR("analytics")};
        struct resources resources;
        struct policy_request request;
        struct decision decision;
        struct str credential;

        (void)state;
        kit_resources("?projects repositories=aaaaaaaa-0000-4000-8000-000000000001", &resources);
        kit_request("gitHttp.pack.fetch", &resources, &request);
        assert_int_equal(policy_doubts(policy, grants, &request, &credential),
                1 << RESOURCE_REPOSITORY | 1 << RESOURCE_PROJECT);
        resources.items[0].known = &known;
        policy_decide(policy, grants, &request, &decision);
        assert_int_equal(decision.effect, EFFECT_ALLOW);
        known.project_name = STR("payroll");
        policy_decide(policy, grants, &request, &decision);
        assert_int_equal(decision.effect, EFFECT_DENY);
        assert_int_equal(policy_doubts(policy, grants, &request, &credential), 0);
        policy_grants_free(grants);
        policy_unref(policy);
}

static void a_role_has_the_entries_of_those_it_includes(void **state)
{
        struct policy *policy = kit_policy(
                "version: 1\n"
                "groups: {etl: [42, '\\\\etl\\\\*'], mine: analytics}\n"
                "bindings: [{name: b, callers: {issuer: i}, roles: [op], credential: c}]\n"
                "roles:\n"
                "  reader: {allow: [{access: [read], projects: ['group:mine']}]}\n"
                "  safe: {deny: [{operations: [" RUN "], pipelines: [99]}]}\n"
                "  both: {includes: [reader, safe]}\n"
                "  op:\n"
                "    includes: [both, safe]\n"
                "    allow: [{operations: [" RUN "], pipelines: ['group:etl', 99]}]\n"
                "  other: {allow: [{access: [manage]}]}\n");

        (void)state;
        assert_int_equal(kit_decide(policy, RUN, "projects=a pipelines=42").effect, EFFECT_ALLOW);
        struct decision denied = kit_decide(policy, RUN, "projects=a pipelines=99");
        assert_int_equal(denied.effect, EFFECT_DENY);
        ASSERT_STR(denied.role, "safe");
        ASSERT_STR(denied.binding, "b");
        struct decision read = kit_decide(policy, "build.builds.list", "projects=analytics");
        assert_int_equal(read.effect, EFFECT_ALLOW);
        ASSERT_STR(read.role, "reader");
        ASSERT_STR(read.credential, "c");
        assert_int_equal(
                kit_decide(policy, "build.builds.list", "projects=payroll").effect, EFFECT_DENY);
        assert_int_equal(
                kit_decide(policy, "core.projects.create", "projects=a").effect, EFFECT_DENY);
        policy_unref(policy);
}

static void there_is_no_doubt_where_a_denial_is_certain(void **state)
{
        struct policy *policy =
                kit_policy(ONE_ROLE("    allow: [{operations: [" RUN "], pipelines: [nightly]}]\n"
                                    "    deny: [{operations: [" RUN "], projects: [payroll]}]\n"));
        const struct policy_caller caller = {.issuer = STR("i")};
        struct policy_grants *grants = policy_grants_new(policy, &caller);
        struct resources resources;
        struct policy_request request;
        struct str credential;

        (void)state;
        kit_resources("projects=payroll pipelines=42", &resources);
        kit_request(RUN, &resources, &request);
        assert_int_equal(policy_doubts(policy, grants, &request, &credential), 0);
        kit_resources("projects=analytics pipelines=42", &resources);
        assert_int_equal(
                policy_doubts(policy, grants, &request, &credential), 1 << RESOURCE_PIPELINE);
        request.op = catalogue_find(STR("build.builds.list"));
        assert_int_equal(policy_doubts(policy, grants, &request, &credential), 0);
        request.op = NULL;
        assert_int_equal(policy_doubts(policy, grants, &request, &credential), 0);
        policy_grants_free(grants);
        policy_unref(policy);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(operations_are_chosen_by_id_alias_wildcard_access_scope_and_area),
                cmocka_unit_test(what_is_known_decides),
                cmocka_unit_test(a_repository_that_is_known_has_its_own_project),
                cmocka_unit_test(a_role_has_the_entries_of_those_it_includes),
                cmocka_unit_test(there_is_no_doubt_where_a_denial_is_certain),
                cmocka_unit_test(an_allow_needs_every_touched_resource_of_a_kind_to_match),
                cmocka_unit_test(variables_that_become_one_are_one),
                cmocka_unit_test(a_deny_catches_every_spelling_of_a_word),
                cmocka_unit_test(a_deny_catches_what_it_cannot_rule_out),
                cmocka_unit_test(a_repository_may_be_written_with_its_project),
                cmocka_unit_test(a_request_unknown_to_the_catalogue_needs_method_and_path),
                cmocka_unit_test(bindings_apply_by_issuer_subject_roles_and_claims),
                cmocka_unit_test(a_binding_gives_nothing_outside_its_time),
                cmocka_unit_test(a_binding_that_expired_is_blamed_only_where_it_would_have_allowed),
                cmocka_unit_test(the_decision_names_rule_role_binding_and_credential),
                cmocka_unit_test(a_reason_is_cut_at_whole_characters_and_holds_no_controls),
                cmocka_unit_test(the_kinds_that_matter_are_those_of_entries_about_the_operation),
                cmocka_unit_test(one_of_many_entries_is_found_by_any_spelling_of_its_resource),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
