#include "dagward/policy/analyse.h"
#include "policy_kit.h"

#define RUN "pipelines.runs.run"
#define BOUND "bindings: [{name: b, callers: {issuer: i, subject: s}, roles: [r], credential: c}]\n"

static void take_finding(void *owner, const struct policy_finding *finding)
{
        buf_printf(owner, "%s %.*s %s: %s\n", finding->is_error ? "error" : "warning",
                STR_FMT(finding->place), finding->check, finding->text);
}

static void what_looks_like_a_mistake_is_told(void **state)
{
        static const struct {
                const char *role, *said; /* the beginning of each line, and the check */
        } cases[] = {
                {"{allow: [{operations: [" RUN "], pipelines: [42]}]}", ""},
                {"{allow: [{operations: [" RUN "], pipelines: [42]}], deny: [{operations: "
                 "['pipelines.*']}]}",
                        "error p.yaml:3 never-allows"},
                /* A denial of some of it is what denials are for. */
                {"{allow: [{operations: [" RUN
                 "], pipelines: [42, 57]}], deny: [{operations: ['" RUN "'], pipelines: [42]}]}",
                        ""},
                {"{allow: [{operations: [" RUN "], pipelines: [42]}], deny: [{operations: ['" RUN
                 "'], pipelines: [42, 57]}]}",
                        "error p.yaml:3 never-allows"},
                {"{allow: [{operations: [" RUN ", pipelines.runs.get], projects: [etl-x], "
                 "pipelines: [42]}], deny: [{operations: [" RUN
                 "], projects: ['etl-*']}, {access: [read], projects: [etl-x]}]}",
                        "error p.yaml:3 never-allows"},
                {"{allow: [{operations: [" RUN
                 "], projects: [etl-x], pipelines: [42]}], deny: [{operations: [" RUN
                 "], projects: ['etl-*'], where: {variables: {a: [x]}}}]}",
                        ""},
                {"{includes: [never], allow: [{operations: [" RUN
                 "], pipelines: [42]}]}, never: {deny: [{operations: [" RUN "]}]}",
                        "error p.yaml:3 never-allows"},
                /* each of the operations lacks one of both */
                {"{allow: [{operations: [wit.workItems.create, pipelines.runs.run], projects: [a], "
                 "workItemTypes: [Bug], pipelines: [42]}]}",
                        "error p.yaml:3 never-matches: each operation"},
                {"{allow: [{operations: [serviceEndpoint.endpoints.share], projects: [a]}]}",
                        "error p.yaml:3 never-matches: no request of this entry's operations says "
                        "which project"},
                {"{allow: [{operations: [serviceEndpoint.endpoints.share, build.builds.get], "
                 "projects: [a]}]}",
                        ""},
                {"{allow: [{operations: [serviceEndpoint.endpoints.share], projects: ['*']}]}",
                        "warning p.yaml:3 every-project"},
                {"{deny: [{operations: [serviceEndpoint.endpoints.share], projects: [a]}]}", ""},
                {"{allow: [{operations: [" RUN
                 "], pipelines: [42], refs: [refs/heads/main], where: "
                 "{refs: ['refs/heads/release/*', refs/tags/v1]}}]}",
                        "error p.yaml:3 never-matches: no ref is in"},
                {"{allow: [{operations: [" RUN
                 "], pipelines: [42], refs: [refs/heads/main], where: "
                 "{refs: ['refs/heads/*']}}]}",
                        ""},
                {"{allow: [{operations: [" RUN "], pipelines: [42], refs: ['refs/heads/a..b']}]}",
                        "warning p.yaml:3 impossible-value: git allows no ref"},
                {"{deny: [{method: POST, path: '/contoso/../x'}]}",
                        "warning p.yaml:3 impossible-value: no request has a path with a segment "
                        "`..`"},
                {"{deny: [{method: POST, path: '/contoso/.a*'}]}", ""},
                {"{allow: [{operations: [git.pullRequests.update], projects: [a], where: "
                 "{mergeStrategy: [fastForward]}}]}",
                        "warning p.yaml:3 impossible-value: `where.mergeStrategy` is never"},
                {"{allow: [{operations: [git.pullRequests.update], projects: [a], where: "
                 "{mergeStrategy: [SQUASH, 'reb*', 2], deleteSourceBranch: [True]}}]}",
                        ""},
                {"{allow: [{operations: [" RUN "], pipelines: [42]}, {operations: ['pipelines.*'], "
                 "pipelines: [42]}]}",
                        "warning p.yaml:3 adds-nothing"},
                {"{allow: [{operations: [" RUN "], pipelines: [42]}, {operations: [" RUN
                 "], pipelines: [42]}]}",
                        "warning p.yaml:3 adds-nothing"},
                {"{allow: [{operations: [" RUN "], pipelines: [42]}, {operations: [" RUN
                 "], pipelines: [42], where: {variables: []}}]}",
                        ""},
                {"{allow: [{operations: [" RUN "], pipelines: ['*']}]}",
                        "warning p.yaml:3 every-project"},
                {"{allow: [{access: [read], areas: [build]}]}", ""},
                {"{allow: [{operations: [tokens.pats.create], organizations: [contoso]}]}",
                        "warning p.yaml:3 credentials"},
                {"{allow: [{operations: [contribution.hierarchyQuery.query], organizations: [o]}]}",
                        "warning p.yaml:3 tunnels"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char text[600];
                struct buf out;

                snprintf(
                        text, sizeof(text), "version: 1\n" BOUND "roles: {r: %s}\n", cases[i].role);
                struct policy *policy = kit_policy(text);
                buf_init(&out, 1 << 20);
                size_t n = policy_lint(policy, 1000, take_finding, &out);
                buf_char(&out, '\0');
                if (n != (cases[i].said[0] != '\0') || !strstr(out.data, cases[i].said))
                        fail_msg("%s\nsaid: %s", cases[i].role, out.data);
                buf_clear(&out);
                policy_unref(policy);
        }
}

static void bindings_for_everybody_and_expired_ones_are_told(void **state)
{
        struct policy *policy = kit_policy(
                "version: 1\nroles: {r: {allow: [{access: [read], areas: [build], projects: "
                "[a]}]}}\n"
                "bindings:\n"
                "- {name: all, callers: {issuer: i}, roles: [r], credential: c}\n"
                "- {name: old, callers: {issuer: i, subject: s}, roles: [r], credential: c, "
                "expires: 2020-01-01}\n"
                "- {name: soon, callers: {issuer: i, subject: t}, roles: [r], credential: c, "
                "expires: 2027-01-20T08:00:00Z}\n"
                "- {name: late, callers: {issuer: i, subject: u}, roles: [r], credential: c, "
                "expires: 2027-01-23}\n");
        struct buf out;

        (void)state;
        buf_init(&out, 1 << 20);
        assert_int_equal(policy_lint(policy, INT64_C(1800000000000), take_finding, &out), 3);
        buf_char(&out, '\0');
        assert_non_null(strstr(out.data, "p.yaml:4 everybody: the binding `all`"));
        assert_non_null(strstr(out.data, "p.yaml:5 expired: the binding `old`"));
        assert_non_null(strstr(out.data, "p.yaml:6 expires-soon: the binding `soon` expires at "
                                         "2027-01-20T08:00:00Z, within 7 days"));
        buf_clear(&out);
        policy_unref(policy);
}

/* What lint compares entries by at first glance must not hide any. */
static void among_many_entries_the_one_that_adds_nothing_is_told(void **state)
{
        enum { MANY_ENTRIES = 400 };
        struct buf text, out;

        (void)state;
        buf_init(&text, 1 << 20);
        buf_init(&out, 1 << 20);
        buf_printf(&text, "version: 1\nbindings: [{callers: {issuer: i, subject: s}, roles: [r], "
                          "credential: c}]\nroles:\n  r:\n    allow:\n");
        for (int i = 0; i < MANY_ENTRIES; i++)
                buf_printf(&text,
                        "    - {operations: [" RUN ", pipelines.runs.get], projects: [a], "
                        "pipelines: [%d], where: {stagesToSkip: []}}\n",
                        i + 1);
        /* lines 406 to 409: less, more, other, the same in another order */
        buf_printf(&text,
                "    - {operations: [" RUN "], pipelines: [7], projects: [a], method: POST, where: "
                "{stagesToSkip: []}}\n"
                "    - {operations: [" RUN "], pipelines: [7], where: {stagesToSkip: []}}\n"
                "    - {operations: [" RUN "], pipelines: [8], projects: [a]}\n"
                "    - {where: {stagesToSkip: []}, pipelines: [399], projects: [a], operations: "
                "[pipelines.runs.get, " RUN "]}\n");
        buf_char(&text, '\0');
        struct policy *policy = kit_policy(text.data);
        size_t n = policy_lint(policy, 1000, take_finding, &out);
        buf_char(&out, '\0');
        if (n != 2 || !strstr(out.data, "p.yaml:406 adds-nothing: ") ||
                !strstr(out.data, "at p.yaml:12 already") ||
                !strstr(out.data, "p.yaml:409 adds-nothing: ") ||
                !strstr(out.data, "at p.yaml:404 already"))
                fail_msg("%s", out.data);
        buf_clear(&text);
        buf_clear(&out);
        policy_unref(policy);
}

struct ways {
        unsigned of[8]; /* by the digit behind "b" in the binding's name */
        struct buf text;
};

static void take_way(void *owner, const struct policy_way *way)
{
        struct ways *ways = owner;

        ways->of[way->binding.ptr[1] - '0']++;
        buf_printf(&ways->text, "%.*s %.*s [%.*s] (%.*s)\n", STR_FMT(way->binding),
                STR_FMT(way->rule), STR_FMT(way->limits), STR_FMT(way->except));
}

static const char many[] =
        "version: 1\n"
        "roles:\n"
        "  run42: {allow: [{operations: [" RUN "], projects: [a], pipelines: [42]}]}\n"
        "  runall: {allow: [{operations: ['pipelines.*'], projects: [a, b]}]}\n"
        "  reader: {allow: [{access: [read], projects: ['*']}]}\n"
        "  no99: {deny: [{operations: [" RUN "], pipelines: [99]}]}\n"
        "  nothing: {deny: [{access: [execute]}]}\n"
        "  both: {includes: [run42, reader]}\n"
        "bindings:\n"
        "- {name: b0, callers: {issuer: i, subject: s0}, roles: [run42], credential: c}\n"
        "- {name: b1, callers: {issuer: i, subject: s1}, roles: [runall, no99], credential: c}\n"
        "- {name: b2, callers: {issuer: i, subject: s2}, roles: [reader], credential: c}\n"
        "- {name: b3, callers: {issuer: i, subject: s3}, roles: [runall, nothing], credential: c}\n"
        "- {name: b4, callers: {issuer: i, subject: s4}, roles: [both], credential: c}\n"
        "- {name: b5, callers: {issuer: i, subject: s5}, roles: [runall], credential: c, expires: "
        "1970-01-01}\n";
enum { MANY = 6 };

/* For a request that names all that rules look at, a way is there exactly when the decision allows,
 * whoever asks. */
static void who_can_agrees_with_deciding_for_each(void **state)
{
        static const char *const operations[] = {
                RUN, "pipelines.runs.get", "build.builds.queue", "core.projects.create"};
        static const char *const projects[] = {"a", "b", "c"};
        static const char *const pipelines[] = {"42", "99", "7"};
        struct policy *policy = kit_policy(many);
        unsigned allowed = 0, denied = 0;

        (void)state;
        for (size_t i = 0; i < 4 * 3 * 3; i++) {
                struct resources resources;
                struct policy_request request;
                struct ways ways = {0};
                char text[80];

                snprintf(text, sizeof(text), "projects=%s pipelines=%s", projects[i / 4 % 3],
                        pipelines[i / 12]);
                kit_resources(text, &resources);
                kit_request(operations[i % 4], &resources, &request);
                request.now_ms = INT64_C(1800000000000);
                buf_init(&ways.text, 1 << 20);
                (void)policy_who_can(policy, &request, take_way, &ways);
                for (size_t b = 0; b < MANY; b++) {
                        char subject[4];
                        snprintf(subject, sizeof(subject), "s%zu", b);
                        struct policy_caller caller = {
                                .issuer = STR("i"), .subject = str_of(subject)};
                        struct policy_grants *grants = policy_grants_new(policy, &caller);
                        struct decision decision;
                        policy_decide(policy, grants, &request, &decision);
                        policy_grants_free(grants);
                        bool may = decision.effect == EFFECT_ALLOW;
                        if (may != (ways.of[b] > 0))
                                fail_msg("%s %s %s: decided %d, ways %u", operations[i % 4], text,
                                        subject, may, ways.of[b]);
                        allowed += may;
                        denied += !may;
                }
                buf_clear(&ways.text);
        }
        assert_true(allowed > 20 && denied > 20);
        policy_unref(policy);
}

static void what_the_question_leaves_open_is_a_limit(void **state)
{
        struct policy *policy = kit_policy(many);
        struct resources resources;
        struct policy_request request;
        struct ways ways = {0};

        (void)state;
        kit_resources("projects=a", &resources);
        kit_request(RUN, &resources, &request);
        request.now_ms = INT64_C(1800000000000);
        buf_init(&ways.text, 1 << 20);
        assert_int_equal(policy_who_can(policy, &request, take_way, &ways), 3);
        buf_char(&ways.text, '\0');
        assert_string_equal(ways.text.data, "b0 p.yaml:3 [pipelines 42] ()\n"
                                            "b1 p.yaml:4 [] (p.yaml:6 pipelines 99)\n"
                                            "b4 p.yaml:3 [pipelines 42] ()\n");
        buf_clear(&ways.text);
        policy_unref(policy);
}

/* The number of a pull request says nothing of its branch: such an allow never holds, such a deny
 * always does. */
static void what_no_request_says_lets_nobody_in(void **state)
{
        struct policy *policy = kit_policy(
                "version: 1\n"
                "roles:\n"
                "  one: {allow: [{operations: [git.pullRequests.update], refs: [refs/heads/x]}]}\n"
                "  any: {allow: [{operations: [git.pullRequests.update], refs: ['*']}]}\n"
                "  none: {deny: [{operations: [git.pullRequests.update], refs: [refs/heads/y]}]}\n"
                "bindings:\n"
                "- {name: b0, callers: {issuer: i, subject: s0}, roles: [one], credential: c}\n"
                "- {name: b1, callers: {issuer: i, subject: s1}, roles: [any], credential: c}\n"
                "- {name: b2, callers: {issuer: i, subject: s2}, roles: [any, none], credential: "
                "c}\n");
        struct resources resources;
        struct policy_request request;
        struct ways ways = {0};

        (void)state;
        kit_resources("projects=a", &resources);
        kit_request("git.pullRequests.update", &resources, &request);
        request.now_ms = INT64_C(1800000000000);
        buf_init(&ways.text, 1 << 20);
        assert_int_equal(policy_who_can(policy, &request, take_way, &ways), 1);
        assert_int_equal(ways.of[1], 1);
        buf_clear(&ways.text);
        policy_unref(policy);
}

static void take_right(void *owner, const struct policy_right *right)
{
        buf_printf(owner, "%s %.*s %.*s %.*s [%.*s] %zu\n",
                right->effect == EFFECT_ALLOW ? "may" : "not", STR_FMT(right->rule),
                STR_FMT(right->role), STR_FMT(right->what), STR_FMT(right->limits),
                right->n_operations);
}

static void what_one_caller_can_is_each_entry_of_each_role_once(void **state)
{
        struct policy *policy = kit_policy(many);
        struct policy_caller caller = {.issuer = STR("i"), .subject = STR("s1")};
        struct buf out;

        (void)state;
        buf_init(&out, 1 << 20);
        assert_int_equal(policy_can(policy, &caller, INT64_C(1800000000000), take_right, &out), 2);
        buf_char(&out, '\0');
        assert_non_null(strstr(out.data, "not p.yaml:6 no99 operations " RUN " [pipelines 99] 1\n"
                                         "may p.yaml:4 runall operations pipelines.* [projects a, "
                                         "b]"));
        buf_reset(&out);
        caller.subject = STR("s4");
        assert_int_equal(policy_can(policy, &caller, INT64_C(1800000000000), take_right, &out), 2);
        caller.subject = STR("s5"); /* expired */
        assert_int_equal(policy_can(policy, &caller, INT64_C(1800000000000), take_right, &out), 0);
        caller.subject = STR("nobody");
        assert_int_equal(policy_can(policy, &caller, INT64_C(1800000000000), take_right, &out), 0);
        buf_clear(&out);
        policy_unref(policy);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_looks_like_a_mistake_is_told),
                cmocka_unit_test(bindings_for_everybody_and_expired_ones_are_told),
                cmocka_unit_test(among_many_entries_the_one_that_adds_nothing_is_told),
                cmocka_unit_test(who_can_agrees_with_deciding_for_each),
                cmocka_unit_test(what_the_question_leaves_open_is_a_limit),
                cmocka_unit_test(what_no_request_says_lets_nobody_in),
                cmocka_unit_test(what_one_caller_can_is_each_entry_of_each_role_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
