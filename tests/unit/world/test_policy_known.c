/* `known:` of policy files: tests and explanations are told what Azure DevOps would answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dagward/policy/known.h"
#include "dagward/policy/tests.h"
#include "dagward/world/naming.h"

#define PROJECT "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c"
#define PAYROLL "11111111-ce1f-45d1-b94d-e6bf2464ba2c"
#define DAGS "aaaaaaaa-0000-4000-8000-000000000001"

static const char head[] =
        "version: 1\n"
        "roles:\n"
        "  r:\n"
        "    allow:\n"
        "      - {operations: [build.builds.get], projects: [analytics], pipelines: ['\\etl\\*']}\n"
        "      - {operations: [pipelines.runs.run], projects: [analytics], pipelines: [nightly]}\n"
        "      - {operations: [git.refs.list], repositories: [analytics/dags]}\n"
        "      - {access: [read], areas: [wiki], projects: [analytics]}\n"
        "      - {operations: [wit.workItems.delete, wit.workItems.list], projects: [analytics]}\n"
        "bindings: [{callers: {issuer: i}, roles: [r], credential: c}]\n"
        "known:\n"
        "  - {project: " PROJECT ", name: analytics}\n"
        "  - {pipeline: 42, name: '\\etl\\nightly', project: analytics}\n"
        "  - {pipeline: 7, name: other, project: " PROJECT "}\n"
        "  - {build: 1001, pipeline: 42, ref: refs/heads/main}\n"
        "  - {build: 1002, pipeline: 7}\n"
        "  - {repository: " DAGS ", name: dags, project: analytics}\n"
        "  - {workItem: 42, project: analytics}\n"
        "  - {workItem: 43, project: payroll}\n";

static struct policy *load(const char *text, struct error_list *errors)
{
        error_list_init(errors);
        return policy_load_text("p.yaml", str_of(text), errors);
}

static void tests_are_decided_with_what_is_known(void **state)
{
        static const struct {
                const char *request, *expect;
        } cases[] = {
                {"GET /contoso/analytics/_apis/build/builds/1001", "allow"},
                {"GET /contoso/" PROJECT "/_apis/build/builds/1001", "allow"},
                {"GET /contoso/analytics/_apis/build/builds/1002", "deny"},
                {"GET /contoso/analytics/_apis/build/builds/1003", "deny"},
                {"POST /contoso/analytics/_apis/pipelines/42/runs", "allow"},
                {"POST /contoso/analytics/_apis/pipelines/7/runs", "deny"},
                {"GET /contoso/analytics/_apis/git/repositories/" DAGS "/refs", "allow"},
                {"GET /contoso/_apis/git/repositories/" DAGS "/refs", "allow"},
                {"GET /contoso/" PROJECT "/_apis/wiki/wikis", "allow"},
                {"GET /contoso/" PAYROLL "/_apis/wiki/wikis", "deny"},
                {"DELETE /contoso/analytics/_apis/wit/workitems/42", "allow"},
                {"DELETE /contoso/" PROJECT "/_apis/wit/workitems/42", "allow"},
                {"DELETE /contoso/_apis/wit/workitems/42", "allow"},
                {"DELETE /contoso/_apis/wit/workitems/43", "deny"},
                {"DELETE /contoso/analytics/_apis/wit/workitems/44", "deny"},
                {"GET /contoso/analytics/_apis/wit/workitems?ids=42,44", "deny"},
        };
        char text[8192];
        struct error_list errors;
        size_t len = (size_t)snprintf(text, sizeof(text), "%stests:\n", head);

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                len += (size_t)snprintf(text + len, sizeof(text) - len,
                        "  - {caller: {issuer: i}, request: '%s', expect: %s}\n", cases[i].request,
                        cases[i].expect);
        struct policy *policy = load(text, &errors);
        error_list_print(&errors, stderr);
        assert_non_null(policy);
        const struct policy_test_options options = {.namer = naming_for_policy, .out = stderr};
        struct policy_test_counts counts = policy_run_tests(policy, &options);
        assert_int_equal(counts.failed, 0);
        assert_int_equal(counts.reached, counts.entries);
        policy_unref(policy);
        error_list_clear(&errors);
}

static void what_is_in_another_project_is_refused(void **state)
{
        char text[8192];
        struct error_list errors;

        (void)state;
        snprintf(text, sizeof(text),
                "%stests: [{caller: {issuer: i}, expect: deny,\n"
                "  request: GET /contoso/" PAYROLL "/_apis/git/repositories/" DAGS "/refs}]\n",
                head);
        struct policy *policy = load(text, &errors);
        assert_non_null(policy);
        char *said = NULL;
        size_t len;
        FILE *out = open_memstream(&said, &len);
        const struct policy_test_options options = {.namer = naming_for_policy, .out = out};
        struct policy_test_counts counts = policy_run_tests(policy, &options);
        fclose(out);
        assert_int_equal(counts.failed, 1); /* 400 is no decision */
        assert_non_null(strstr(said, "the repository does not belong to the project"));
        free(said);
        policy_unref(policy);
        error_list_clear(&errors);
}

static void without_it_nothing_is_learnt(void **state)
{
        char text[8192];
        struct error_list errors;

        (void)state;
        snprintf(text, sizeof(text),
                "%.*stests: [{caller: {issuer: i}, expect: deny,\n"
                "  request: GET /contoso/analytics/_apis/build/builds/1001}]\n",
                (int)(strstr(head, "known:") - head), head);
        struct policy *policy = load(text, &errors);
        assert_non_null(policy);
        const struct policy_test_options options = {.namer = naming_for_policy, .out = stderr};
        assert_int_equal(policy_run_tests(policy, &options).failed, 0);
        policy_unref(policy);
        error_list_clear(&errors);
}

static void mistakes_have_their_place(void **state)
{
        static const struct {
                const char *known, *error;
        } cases[] = {
                {"{name: x}", "begins with an id"},
                {"{pipeline: nightly}", "`pipeline` is an id here"},
                {"{repository: dags, project: analytics}", "`repository` is an id here"},
                {"{project: analytics}", "`project` is an id here"},
                {"{build: 1, pipeline: nightly}", "`pipeline` is an id here"},
                {"{pipeline: 1, ref: refs/heads/x}", "ref"},
                {"{pipeline: 1, nam: x}", "did you mean `name`"},
                {"{workItem: x, project: a}", "`workItem` is an id here"},
                {"{workItem: 1, name: x}", "name"},
                {"[1]", "what is known"},
        };
        char text[512];

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct error_list errors;
                snprintf(text, sizeof(text), "version: 1\nknown:\n  - %s\n", cases[i].known);
                assert_null(load(text, &errors));
                assert_true(errors.n > 0);
                if (!strstr(errors.findings[0].text, cases[i].error))
                        fail_msg("%s: %s", cases[i].known, errors.findings[0].text);
                assert_int_equal(errors.findings[0].line, 3);
                error_list_clear(&errors);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(tests_are_decided_with_what_is_known),
                cmocka_unit_test(what_is_in_another_project_is_refused),
                cmocka_unit_test(without_it_nothing_is_learnt),
                cmocka_unit_test(mistakes_have_their_place),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
