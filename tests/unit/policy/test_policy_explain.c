#include "policy_kit.h"

#include "dagward/base/buf.h"
#include "dagward/policy/explain.h"
#include "dagward/policy/tests.h"

static const char text[] =
        "version: 1\n"
        "roles:\n"
        "  operator:\n"
        "    allow:\n"
        "      - operations: [pipelines.runs.run]\n"
        "        projects: [analytics]\n"
        "        pipelines: [42]\n"
        "      - {access: [read], projects: ['*']}\n"
        "    deny:\n"
        "      - {pipelines: [99]}\n"
        "  other:\n"
        "    allow: [{operations: [build.builds.queue]}]\n"
        "bindings:\n"
        "  - name: workers\n"
        "    callers: {issuer: i, subject: 'w*', claims: {team: [red, blue]}}\n"
        "    roles: [operator]\n"
        "    credential: c\n"
        "    expires: 2027-01-01\n"
        "tests:\n"
        "  - {name: runs 42, caller: {issuer: i, subject: w1, claims: {team: red}},\n"
        "     request: POST /run/42, expect: allow, rule: operator}\n"
        "  - {name: not 7, caller: {issuer: i, subject: w1, claims: {team: red}},\n"
        "     request: POST /run/7, expect: deny}\n"
        "  - {name: not 99, caller: {issuer: i, subject: w1, claims: {team: red}},\n"
        "     request: POST /run/99, expect: deny, rule: 'p.yaml:10'}\n"
        "  - {name: too late, caller: {issuer: i, subject: w1, claims: {team: red}},\n"
        "     request: POST /run/42, at: 2027-02-01, expect: deny}\n"
        "  - {name: wrong expectation, caller: {issuer: i, subject: w1, claims: {team: red}},\n"
        "     request: POST /run/7, expect: allow}\n"
        "  - {name: wrong rule, caller: {issuer: i, subject: w1, claims: {team: red}},\n"
        "     request: POST /run/42, expect: allow, rule: other}\n"
        "  - {name: malformed, caller: {issuer: i, subject: w1},\n"
        "     request: POST /bad, expect: deny}\n";

/* What is asked, for whom, and words that the explanation must hold. */
struct row {
        const char *subject, *claims, *what, *resources;
        const char *words[6];
};

static void an_explanation_tells_each_condition_and_the_change(void **state)
{
        static const struct row rows[] = {
                {"w1", "{\"team\":\"red\"}", "pipelines.runs.run",
                        "projects=analytics pipelines=42",
                        {"ALLOWED", "rule      p.yaml:5 (role operator, binding workers)",
                                "credential c", "to refuse it, remove p.yaml:5 or add a deny"}},
                {"w1", "{\"team\":\"red\"}", "pipelines.runs.run", "projects=analytics pipelines=7",
                        {"DENIED", "rule      none", "      pipelines      42; has 7: NO",
                                "p.yaml:5 (role operator) would have to accept 7 in `pipelines`"}},
                {"w1", "{\"team\":\"red\"}", "pipelines.runs.run",
                        "projects=analytics pipelines=99",
                        {"DENIED", "rule      p.yaml:10",
                                "p.yaml:10 (deny, role operator) would have to stop matching",
                                "p.yaml:5 (role operator) would have to accept 99"}},
                {"w1", "{\"team\":\"red\"}", "pipelines.runs.run", "projects=analytics ?pipelines",
                        {"DENIED",
                                "99; has one that the request does not name: cannot tell, so yes",
                                "42; has one that the request does not name: cannot tell, so NO"}},
                {"w1", "{\"team\":\"green\"}", "pipelines.runs.run",
                        "projects=analytics pipelines=42",
                        {"DENIED", "workers (p.yaml:14) does not apply",
                                "claims.team    red, blue; has \"green\": NO",
                                "but the caller does not have this role",
                                "binding \"workers\" (p.yaml:14) would have to apply: its "
                                "`claims.team` wants red, blue, the caller has \"green\""}},
                {"x", NULL, "pipelines.runs.run", "projects=analytics pipelines=42",
                        {"DENIED", "subject        w*; has x: NO", "has no such claim: NO",
                                "no binding applies to this caller"}},
                {"w1", "{\"team\":\"red\"}", "build.builds.queue", "projects=analytics",
                        {"DENIED", "a binding would have to give the role other to this caller"}},
                {"w1", "{\"team\":\"red\"}", "git.repositories.create", "projects=analytics",
                        {"DENIED", "an allow entry for it would have to be written"}},
                {"w1", "{\"team\":\"red\"}", "GET /contoso/x", "",
                        {"DENIED", "unknown to the catalogue",
                                "p.yaml:10 (deny, role operator) would have to stop"}},
        };
        struct policy *policy = kit_policy(text);

        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct policy_explanation explanation;
                struct policy_request request;
                struct resources resources;
                struct arena arena;
                struct buf said, json;
                struct arena said_by_token;
                const struct tree *claims = kit_claims(rows[i].claims, &said_by_token);
                const struct policy_caller caller = {
                        .issuer = STR("i"), .subject = str_of(rows[i].subject), .claims = claims};

                kit_resources(rows[i].resources, &resources);
                kit_request(rows[i].what, &resources, &request);
                arena_init(&arena, 16384, 1 << 20);
                buf_init(&said, 1 << 20);
                buf_init(&json, 1 << 20);
                assert_true(policy_explain(policy, &caller, &request, &arena, &explanation));
                policy_explanation_text(&explanation, &said);
                buf_char(&said, '\0');
                for (size_t k = 0; k < 6 && rows[i].words[k]; k++)
                        if (!strstr(said.data, rows[i].words[k]))
                                fail_msg("row %zu: no `%s` in\n%s", i, rows[i].words[k], said.data);
                policy_explanation_json(&explanation, &json);
                json_t *parsed = json_loadb(json.data, json.len, JSON_REJECT_DUPLICATES, NULL);
                assert_non_null(parsed);
                assert_string_equal(json_string_value(json_object_get(parsed, "effect")),
                        strcmp(rows[i].words[0], "ALLOWED") == 0 ? "allow" : "deny");
                json_decref(parsed);
                arena_clear(&said_by_token);
                buf_clear(&said);
                buf_clear(&json);
                arena_clear(&arena);
        }
        policy_unref(policy);
}

static void an_explanation_that_does_not_fit_says_so(void **state)
{
        struct policy *policy = kit_policy(text);
        const struct policy_caller caller = {.issuer = STR("i"), .subject = STR("w")};

        (void)state;
        for (size_t ceiling = 64; ceiling < 20000; ceiling += 97) {
                struct policy_explanation explanation;
                struct policy_request request;
                struct resources resources = {0};
                struct arena arena;
                kit_request("pipelines.runs.run", &resources, &request);
                arena_init(&arena, 64, ceiling);
                bool good = policy_explain(policy, &caller, &request, &arena, &explanation);
                assert_true(good || ceiling < 16000);
                assert_false(good && ceiling < 1000);
                arena_clear(&arena);
        }
        policy_unref(policy);
}

/* POST /run/N is pipelines.runs.run of N in analytics; anything else is malformed. */
static bool name_run(void *context, const struct policy_question *question, struct arena *arena,
        struct policy_request *out, struct error *err)
{
        static struct resources resources;

        (void)context;
        (void)arena;
        if (!str_starts(question->url, STR("/run/")))
                return error_set(err, "not a request");
        kit_resources("projects=analytics", &resources);
        resources.items[resources.n++] =
                (struct resource){.kind = RESOURCE_PIPELINE, .value = str_from(question->url, 5)};
        kit_request("pipelines.runs.run", &resources, out);
        return true;
}

static void policy_tests_pass_and_fail_with_their_reasons(void **state)
{
        struct policy *policy = kit_policy(text);
        char *printed = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&printed, &len);
        const struct policy_test_options options = {
                .namer = name_run, .now_ms = 1000, .out = out, .verbose = true};

        (void)state;
        struct policy_test_counts counts = policy_run_tests(policy, &options);
        fclose(out);
        assert_int_equal(counts.passed, 4);
        assert_int_equal(counts.failed, 3);
        assert_int_equal(counts.entries, 4);
        assert_int_equal(counts.reached, 2);
        static const char *const wanted[] = {
                "p.yaml:20:5: ok: test \"runs 42\": allow by p.yaml:5 (role operator, binding "
                "workers)\n",
                "ok: test \"not 99\": deny by p.yaml:10",
                "ok: test \"too late\": deny\n",
                "FAILED: test \"wrong expectation\": expected allow, was denied\n",
                "no role allows pipelines.runs.run on project analytics, pipeline 7",
                "FAILED: test \"wrong rule\": expected allow by other, was decided by another rule "
                "by p.yaml:5",
                "FAILED: test \"malformed\": not a request\n",
                "p.yaml:8: no test reaches this entry of role operator\n",
                "p.yaml:12: no test reaches this entry of role other\n",
        };
        for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
                if (!strstr(printed, wanted[i]))
                        fail_msg("no `%s` in\n%s", wanted[i], printed);
        free(printed);
        policy_unref(policy);
}

static void policy_tests_as_json_are_one_object(void **state)
{
        struct policy *policy = kit_policy(text);
        char *printed = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&printed, &len);
        const struct policy_test_options options = {
                .namer = name_run, .now_ms = 1000, .out = out, .format = REPORT_JSON};

        (void)state;
        (void)policy_run_tests(policy, &options);
        fclose(out);
        json_t *parsed = json_loadb(printed, len, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(parsed);
        assert_int_equal(json_array_size(json_object_get(parsed, "tests")), 7);
        assert_int_equal(json_array_size(json_object_get(parsed, "unreached")), 2);
        assert_int_equal(json_integer_value(json_object_get(parsed, "failed")), 3);
        json_decref(parsed);
        free(printed);
        policy_unref(policy);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_explanation_tells_each_condition_and_the_change),
                cmocka_unit_test(an_explanation_that_does_not_fit_says_so),
                cmocka_unit_test(policy_tests_pass_and_fail_with_their_reasons),
                cmocka_unit_test(policy_tests_as_json_are_one_object),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
