#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dagward/world/naming.h"

/* A request as it comes, and how it is named. */
struct row {
        const char *method, *url, *host; /* host NULL: our own name */
        enum naming_result result;
        const char *operation; /* NULL: unknown */
        const char *path, *organization, *resources;
};

static void write_resources(const struct resources *resources, struct buf *out)
{
        for (size_t i = 0; i < resources->n; i++)
                buf_printf(out, "%s%s=%.*s", out->len ? " " : "",
                        resource_kind_name(resources->items[i].kind),
                        STR_FMT(resources->items[i].value));
        for (int kind = 0; kind < RESOURCE_KINDS; kind++)
                if (resources->unresolved[kind])
                        buf_printf(out, "%s?%s", out->len ? " " : "",
                                resource_kind_name((enum resource_kind)kind));
}

static void a_request_is_named_by_service_organization_and_route(void **state)
{
        static const struct row rows[] = {
                {"POST", "/contoso/analytics/_apis/pipelines/42/runs", NULL, NAMING_FOUND,
                        "pipelines.runs.run", "/contoso/analytics/_apis/pipelines/42/runs",
                        "contoso", NULL},
                {"GET", "/~vsrm/contoso/analytics/_apis/release/releases/7", NULL, NAMING_FOUND,
                        "release.releases.get", "/~vsrm/contoso/analytics/_apis/release/releases/7",
                        "contoso", NULL},
                {"GET", "/contoso/analytics/_apis/release/releases/7", "vsrm.dev.azure.com",
                        NAMING_FOUND, "release.releases.get",
                        "/~vsrm/contoso/analytics/_apis/release/releases/7", "contoso", NULL},
                {"GET", "/analytics/_apis/build/builds/7", "contoso.visualstudio.com", NAMING_FOUND,
                        "build.builds.get", "/contoso/analytics/_apis/build/builds/7", "contoso",
                        NULL},
                {"GET", "/contoso/analytics/_APIS/Build/Builds/7/", NULL, NAMING_FOUND,
                        "build.builds.get", "/contoso/analytics/_apis/build/builds/7", "contoso",
                        NULL},
                /* Without a service: the one that has such a route. */
                {"GET", "/contoso/analytics/_apis/release/releases/7", NULL, NAMING_FOUND,
                        "release.releases.get", "/~vsrm/contoso/analytics/_apis/release/releases/7",
                        "contoso", NULL},
                {"GET", "/contoso/_apis/packaging/feeds/npm", NULL, NAMING_FOUND,
                        "artifacts.feedManagement.getFeed",
                        "/~feeds/contoso/_apis/packaging/feeds/npm", "contoso", NULL},
                {"GET", "/contoso/_apis/packaging/feeds/npm/npm/left-pad/versions/1.0.0", NULL,
                        NAMING_FOUND, "artifactsPackageTypes.npm.getPackageVersion", NULL,
                        "contoso", NULL},
                {"PUT", "/contoso/_packaging/data/npm/registry/@data%2fleft-pad", NULL,
                        NAMING_FOUND, "packages.npm.publish", NULL, "contoso", NULL},
                {"GET", "/contoso/_apis/projects/a%2fb", NULL, NAMING_REFUSED, NULL, NULL, NULL,
                        NULL},
                {"GET", "/~dev/contoso/analytics/_apis/release/releases/7", NULL, NAMING_UNKNOWN,
                        NULL, "/contoso/analytics/_apis/release/releases/7", "contoso",
                        "organization=contoso"},
                {"GET", "/~nope/contoso/x", NULL, NAMING_REFUSED, NULL, NULL, NULL, NULL},
                {"GET", "/~vsrm/contoso/x", "vsrm.dev.azure.com", NAMING_REFUSED, NULL, NULL, NULL,
                        NULL},
                {"GET", "/contoso/_apis/nothing/like/it", NULL, NAMING_UNKNOWN, NULL,
                        "/contoso/_apis/nothing/like/it", "contoso", "organization=contoso"},
                {"GET", "/~feeds/contoso/_apis/nothing/like/it", NULL, NAMING_UNKNOWN, NULL,
                        "/~feeds/contoso/_apis/nothing/like/it", "contoso", "organization=contoso"},
                {"GET", "/_apis/nothing/like/it", NULL, NAMING_UNKNOWN, NULL,
                        "/_apis/nothing/like/it", "", ""},
                {"GET", "/", NULL, NAMING_UNKNOWN, NULL, "/", "", ""},
                {"GET", "/contoso/_git/dags/info/refs?service=git-upload-pack", NULL, NAMING_FOUND,
                        "gitHttp.refs.advertiseFetch", NULL, "contoso", NULL},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                const struct row *row = &rows[i];
                struct target target;
                struct h1_fault fault;
                struct named named;
                struct arena arena;
                const char *why = "";
                struct naming_input input = {
                        .method = str_of(row->method), .target = &target, .body = STR("")};
                if (row->host)
                        assert_true(service_of_host(
                                str_of(row->host), &input.service, &input.organization));
                arena_init(&arena, 16384, 1 << 20);
                assert_true(target_parse(str_of(row->url), STR_NONE, &arena, &target, &fault));
                enum naming_result result = request_name(&input, &arena, &named, &why);
                if (result != row->result)
                        fail_msg("%s: result %d %s", row->url, result, why);
                if (result != NAMING_REFUSED) {
                        assert_string_equal(named.op ? named.op->id : "-",
                                row->operation ? row->operation : "-");
                        if (row->path && !str_eq(named.path, str_of(row->path)))
                                fail_msg("%s: path %.*s", row->url, STR_FMT(named.path));
                        assert_true(str_eq(named.organization, str_of(row->organization)));
                }
                if (row->resources) {
                        struct buf said;
                        buf_init(&said, 4096);
                        write_resources(&named.resources, &said);
                        if (!str_eq(buf_str(&said), str_of(row->resources)))
                                fail_msg("%s: %.*s", row->url, STR_FMT(buf_str(&said)));
                        buf_clear(&said);
                }
                arena_clear(&arena);
        }
}

static void a_slash_inside_a_segment_does_not_look_like_one_between(void **state)
{
        const struct str url = STR("/contoso/_apis/nothing/a%2Fb");
        struct target target;
        struct h1_fault fault;
        struct named named;
        struct arena arena;
        const char *why = "";
        struct naming_input input = {.method = STR("GET"), .target = &target};

        (void)state;
        arena_init(&arena, 16384, 1 << 20);
        assert_true(target_parse(url, STR_NONE, &arena, &target, &fault));
        /* refused, or shown escaped: never as two segments */
        if (request_name(&input, &arena, &named, &why) == NAMING_UNKNOWN)
                assert_true(str_eq(named.path, url));
        arena_clear(&arena);
}

static void a_full_arena_is_an_answer(void **state)
{
        struct target target;
        struct h1_fault fault;
        struct named named;
        struct arena arena, small;
        const char *why = "";
        struct naming_input input = {.method = STR("GET"), .target = &target};

        (void)state;
        arena_init(&arena, 16384, 1 << 20);
        arena_init(&small, 16, 16);
        assert_true(target_parse(STR("/contoso/x/y"), STR_NONE, &arena, &target, &fault));
        assert_int_equal(request_name(&input, &small, &named, &why), NAMING_FULL);
        arena_clear(&arena);
        arena_clear(&small);
}

static void a_question_that_the_proxy_would_refuse_is_an_error(void **state)
{
        static const struct {
                const char *url;
                bool good;
        } rows[] = {
                {"/contoso/analytics/_apis/build/builds", true},
                {"https://dev.azure.com/contoso/analytics/_apis/build/builds", true},
                {"https://dagward.example:8443/contoso/analytics/_apis/build/builds", true},
                {"https://contoso.visualstudio.com/analytics/_apis/build/builds", true},
                {"/contoso/../x", false},
                {"contoso/x", false},
                {"ftp://dev.azure.com/contoso", false},
                {"/contoso/analytics/_apis/build/builds?a=1&A=2", false},
        };
        struct arena arena;

        (void)state;
        arena_init(&arena, 16384, 4 << 20);
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                const struct policy_question question = {
                        .method = STR("GET"), .url = str_of(rows[i].url)};
                struct policy_request request = {0};
                struct error err = {""};
                bool good = naming_for_policy(NULL, &question, &arena, &request, &err);
                if (good != rows[i].good)
                        fail_msg("%s: %s", rows[i].url, err.text);
                if (good)
                        assert_string_equal(request.op->id, "build.builds.list");
                else
                        assert_true(err.text[0]);
        }
        arena_clear(&arena);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_request_is_named_by_service_organization_and_route),
                cmocka_unit_test(a_slash_inside_a_segment_does_not_look_like_one_between),
                cmocka_unit_test(a_full_arena_is_an_answer),
                cmocka_unit_test(a_question_that_the_proxy_would_refuse_is_an_error),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
