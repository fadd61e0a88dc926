/* What is asked about a name, and what is understood of the answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dagward/azdo/identity.h"

#define GUID "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c"

static struct str view(const char *text)
{
        return text ? str_of(text) : STR_NONE;
}

static void each_kind_has_its_question(void **state)
{
        static const struct {
                enum resource_kind kind;
                const char *project, *value, *path; /* path NULL: cannot be asked */
                enum service service;
        } cases[] = {
                {RESOURCE_PROJECT, NULL, "Data Lake",
                        "/o/_apis/projects/Data%20Lake?api-version=7.1", SERVICE_DEV},
                {RESOURCE_PROJECT, "p", GUID, "/o/_apis/projects/" GUID "?api-version=7.1",
                        SERVICE_DEV},
                {RESOURCE_TEAM, "p", "core", "/o/_apis/projects/p/teams/core?api-version=7.1",
                        SERVICE_DEV},
                {RESOURCE_TEAM, NULL, "core", NULL, SERVICE_DEV},
                {RESOURCE_REPOSITORY, "p", "r", "/o/p/_apis/git/repositories/r?api-version=7.1",
                        SERVICE_DEV},
                {RESOURCE_REPOSITORY, NULL, GUID,
                        "/o/_apis/git/repositories/" GUID "?api-version=7.1", SERVICE_DEV},
                {RESOURCE_REPOSITORY, NULL, "r", NULL, SERVICE_DEV},
                {RESOURCE_PIPELINE, "p", "42",
                        "/o/p/_apis/build/definitions?api-version=7.1&definitionIds=42",
                        SERVICE_DEV},
                {RESOURCE_PIPELINE, NULL, "42", "/o/_apis/build/definitions/42?api-version=7.1",
                        SERVICE_DEV},
                {RESOURCE_PIPELINE, "p", "nightly", NULL, SERVICE_DEV},
                {RESOURCE_BUILD, "p", "1001", "/o/p/_apis/build/builds/1001?api-version=7.1",
                        SERVICE_DEV},
                {RESOURCE_FEED, NULL, "npm", "/o/_apis/packaging/feeds/npm?api-version=7.1",
                        SERVICE_FEEDS},
                {RESOURCE_ENVIRONMENT, "p", "7",
                        "/o/p/_apis/pipelines/environments/7?api-version=7.1", SERVICE_DEV},
                {RESOURCE_WORK_ITEM, "p", "42",
                        "/o/_apis/wit/workitems/42?api-version=7.1&fields=System.TeamProject",
                        SERVICE_DEV},
                {RESOURCE_WORK_ITEM, "p", "x", NULL, SERVICE_DEV},
                {RESOURCE_REF, "p", "refs/heads/main", NULL, SERVICE_DEV},
                {RESOURCE_WORK_ITEM_TYPE, "p", "Bug", NULL, SERVICE_DEV},
                {RESOURCE_PROJECT, NULL, "..", NULL, SERVICE_DEV},
                {RESOURCE_PROJECT, NULL, "a/../b", NULL, SERVICE_DEV},
                {RESOURCE_PROJECT, NULL, "a?b", NULL, SERVICE_DEV},
                {RESOURCE_PROJECT, NULL, "a\rb", NULL, SERVICE_DEV},
                {RESOURCE_PROJECT, NULL, "a%2fb", NULL, SERVICE_DEV},
                {RESOURCE_PROJECT, NULL, "\xff", NULL, SERVICE_DEV},
                {RESOURCE_PROJECT, NULL, "\xc3\xa9", "/o/_apis/projects/%C3%A9?api-version=7.1",
                        SERVICE_DEV},
                {RESOURCE_REPOSITORY, "a/b", "r", NULL, SERVICE_DEV},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char memory[IDENTITY_QUESTION_MOST_BYTES];
                enum service service = SERVICE_DEV;
                struct buf out;

                buf_init_fixed(&out, memory, sizeof(memory));
                bool asked = identity_question(cases[i].kind, STR("o"), view(cases[i].project),
                        view(cases[i].value), &out, &service);
                assert_int_equal(asked, cases[i].path != NULL);
                if (!asked)
                        continue;
                buf_char(&out, '\0');
                assert_string_equal(out.data, cases[i].path);
                assert_int_equal(service, cases[i].service);
        }
}

static void assert_text(struct str text, const char *wanted)
{
        if (!wanted) {
                assert_null(text.ptr);
                return;
        }
        assert_int_equal(text.len, strlen(wanted));
        assert_memory_equal(text.ptr, wanted, text.len);
}

static void a_repository_tells_its_project(void **state)
{
        struct identity *found = NULL;
        const char *why = "";

        (void)state;
        assert_int_equal(
                identity_read(RESOURCE_REPOSITORY, STR("dags"),
                        STR("{\"id\":\"" GUID "\",\"name\":\"Dags\",\"project\":{\"id\":\"" GUID
                            "\",\"name\":\"analytics\"}}"),
                        &found, &why),
                IDENTITY_KNOWN);
        assert_text(found->id, GUID);
        assert_text(found->name, "Dags");
        assert_text(found->project_name, "analytics");
        assert_text(found->ref, NULL);
        assert_true(identity_is_project(found, STR("ANALYTICS")));
        assert_false(identity_is_project(found, STR("payroll")));
        struct identity *copy = identity_dup(found);
        free(found);
        assert_text(copy->project_id, GUID);
        free(copy);
}

static void a_build_tells_what_it_ran(void **state)
{
        struct identity *found = NULL;
        const char *why = "";

        (void)state;
        assert_int_equal(identity_read(RESOURCE_BUILD, STR("1001"),
                                 STR("{\"id\":1001,\"buildNumber\":\"20260302.1\",\"sourceBranch\":"
                                     "\"refs/heads/main\",\"definition\":{\"id\":42,\"name\":\"n\","
                                     "\"path\":\"\\\\etl\"},\"project\":{\"id\":\"" GUID "\"}}"),
                                 &found, &why),
                IDENTITY_KNOWN);
        assert_text(found->id, "1001");
        assert_text(found->pipeline_id, "42");
        assert_text(found->pipeline_path, "\\etl\\n");
        assert_text(found->ref, "refs/heads/main");
        free(found);
}

static void answers_about_something_else_are_not_believed(void **state)
{
        static const struct {
                enum resource_kind kind;
                const char *value, *text;
                enum identity_answer answer;
        } cases[] = {
                {RESOURCE_PROJECT, GUID, "{\"id\":\"" GUID "\",\"name\":\"a\"}", IDENTITY_KNOWN},
                {RESOURCE_PROJECT, GUID,
                        "{\"id\":\"00000000-ce1f-45d1-b94d-e6bf2464ba2c\",\"name\":\"a\"}",
                        IDENTITY_BAD},
                /* A name of digits is still a name. */
                {RESOURCE_PROJECT, "2026", "{\"id\":\"" GUID "\",\"name\":\"2026\"}",
                        IDENTITY_KNOWN},
                {RESOURCE_PROJECT, "a", "{\"id\":\"x\",\"name\":\"a\"}", IDENTITY_BAD},
                {RESOURCE_PROJECT, "a", "{\"name\":\"a\"}", IDENTITY_BAD},
                {RESOURCE_PROJECT, "a", "[]", IDENTITY_NOBODY},
                {RESOURCE_PROJECT, "a", "<html>", IDENTITY_BAD},
                {RESOURCE_PROJECT, "a", "{\"id\":\"" GUID "\",\"id\":\"" GUID "\"}", IDENTITY_BAD},
                {RESOURCE_REPOSITORY, "r", "{\"id\":\"" GUID "\",\"name\":\"r\"}", IDENTITY_BAD},
                {RESOURCE_WORK_ITEM, "42",
                        "{\"id\":42,\"fields\":{\"System.TeamProject\":\"dags\"}}", IDENTITY_KNOWN},
                {RESOURCE_WORK_ITEM, "42",
                        "{\"id\":43,\"fields\":{\"System.TeamProject\":\"dags\"}}", IDENTITY_BAD},
                {RESOURCE_WORK_ITEM, "42", "{\"id\":42,\"fields\":{}}", IDENTITY_BAD},
                {RESOURCE_WORK_ITEM, "42", "{\"id\":42}", IDENTITY_BAD},
                {RESOURCE_PIPELINE, "42", "{\"count\":0,\"value\":[]}", IDENTITY_NOBODY},
                {RESOURCE_PIPELINE, "42",
                        "{\"value\":[{\"id\":7,\"name\":\"x\"},{\"id\":42,\"name\":\"y\",\"path\":"
                        "\"\\\\\",\"project\":{\"id\":\"" GUID "\"}}]}",
                        IDENTITY_KNOWN},
                {RESOURCE_PIPELINE, "42", "{\"id\":43,\"project\":{\"id\":\"" GUID "\"}}",
                        IDENTITY_BAD},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct identity *found = NULL;
                const char *why = "";

                assert_int_equal(identity_read(cases[i].kind, view(cases[i].value),
                                         view(cases[i].text), &found, &why),
                        cases[i].answer);
                assert_int_equal(found != NULL, cases[i].answer == IDENTITY_KNOWN);
                if (found && cases[i].kind == RESOURCE_WORK_ITEM)
                        assert_text(found->project_name, "dags");
                if (found && cases[i].kind == RESOURCE_PIPELINE)
                        assert_text(found->path, "\\y");
                free(found);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_kind_has_its_question),
                cmocka_unit_test(a_repository_tells_its_project),
                cmocka_unit_test(a_build_tells_what_it_ran),
                cmocka_unit_test(answers_about_something_else_are_not_believed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
