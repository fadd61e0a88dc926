#include "request.h"

#include "dagward/azdo/resources.h"

#define GUID "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c"
#define ODD_GUID "6ce954b1ce1f45d1b94de6bf2464ba2c"
#define OTHER "0a1b2c3d-0000-4000-8000-00000000beef"

/* The items as "kind=value" and the unresolved kinds as "kind?", or "refused"; NULL body: unread.
 */
static const char *gathered(const char *line, const char *body)
{
        static char text[4096];
        struct request request;
        struct route route;
        struct resources resources;
        struct facts *facts;
        struct arena arena;
        const char *why = NULL;
        size_t n = 0;
        request_read(&request, line);
        if (catalogue_match(&request.query, &route, &why) != ROUTE_FOUND)
                fail_msg("%s is in no template", line);
        arena_init(&arena, 1024, 65536);
        text[0] = '\0';
        if (!resources_gather(
                    &route, &request.query, str_of(body), &arena, &resources, &facts, &why)) {
                assert_non_null(why);
                strcpy(text, "refused");
                arena_clear(&arena);
                return text;
        }
        for (size_t i = 0; i < resources.n; i++)
                n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s=%.*s", n ? " " : "",
                        resource_kind_selector(resources.items[i].kind),
                        STR_FMT(resources.items[i].value));
        for (unsigned k = 0; k < RESOURCE_KINDS; k++) {
                if (resources.unresolved[k])
                        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s?", n ? " " : "",
                                resource_kind_selector((enum resource_kind)k));
        }
        arena_clear(&arena);
        return text;
}

#define OF_P "organizations=c projects=p "

struct gathering {
        const char *line, *body, *expected;
};

static void check(const struct gathering *cases, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                const char *text = gathered(cases[i].line, cases[i].body);
                if (strcmp(text, cases[i].expected) != 0)
                        fail_msg("%s with %s: %s, not %s", cases[i].line,
                                cases[i].body ? cases[i].body : "no body", text, cases[i].expected);
        }
}
#define CHECK(cases) check(cases, sizeof(cases) / sizeof(cases[0]))

static void each_kind_is_found_in_the_path(void **state)
{
        (void)state;
        static const struct gathering cases[] = {
                {"GET /c/_apis/projects", NULL, "organizations=c"},
                {"GET /c/_apis/projects/p", NULL, "organizations=c projects=p"},
                {"GET /c/p/t/_apis/work/backlogs", NULL, "organizations=c projects=p teams=t"},
                {"GET /c/p/_apis/work/backlogs", NULL, "organizations=c projects=p teams?"},
                {"GET /c/p/_apis/pipelines/42/runs/7", NULL,
                        "organizations=c projects=p pipelines=42 builds=7"},
                {"GET /c/p/_apis/build/definitions/42", NULL,
                        "organizations=c projects=p pipelines=42"},
                {"GET /c/p/_apis/build/latest/nightly", NULL,
                        "organizations=c projects=p pipelines=nightly builds?"},
                {"GET /c/p/_apis/build/builds/7", NULL,
                        "organizations=c projects=p builds=7 pipelines?"},
                {"GET /~vsrm/c/p/_apis/release/releases/3", NULL,
                        "organizations=c projects=p releases=3"},
                {"GET /c/p/_apis/git/repositories/dags", NULL,
                        "organizations=c projects=p repositories=dags"},
                {"GET /~feeds/c/_apis/packaging/feeds/f", NULL,
                        "organizations=c feeds=f projects?"},
                {"GET /~pkgs/c/p/_packaging/f@Release/npm/registry/x", NULL,
                        "organizations=c projects=p feeds=f"},
                {"GET /c/p/_apis/pipelines/environments/5", NULL,
                        "organizations=c projects=p environments=5"},
                {"POST /c/p/_apis/wit/workitems/$User Story", "[]",
                        "organizations=c projects=p workItemTypes=User Story"},
                {"GET /c/p/_apis/wit/workitems/12", NULL,
                        "organizations=c projects=p workItems=12 projects? workItemTypes?"},
                {"PATCH /c/p/_apis/git/repositories/r/refs?filter=heads/main", NULL,
                        "organizations=c projects=p repositories=r refs=refs/heads/main"},
                {"PATCH /c/p/_apis/git/repositories/r/refs/refs/heads/a/b", NULL,
                        "organizations=c projects=p repositories=r refs=refs/heads/a/b"},
        };
        CHECK(cases);
}

static void what_a_request_leaves_open_is_unresolved(void **state)
{
        (void)state;
        static const struct gathering cases[] = {
                {"GET /c/_apis/wit/workitems/12", NULL,
                        "organizations=c workItems=12 projects? workItemTypes?"},
                {"GET /c/p/_apis/build/builds", NULL,
                        "organizations=c projects=p pipelines? builds?"},
                {"GET /c/p/_apis/pipelines", NULL, "organizations=c projects=p pipelines?"},
                {"GET /c/_apis/git/repositories/" GUID, NULL,
                        "organizations=c repositories=" GUID " projects?"},
                {"GET /c/p/_apis/git/repositories", NULL,
                        "organizations=c projects=p repositories?"},
                {"GET /c/_apis/resources/Containers/9/drop", NULL,
                        "organizations=c projects? pipelines? builds?"},
                {"GET /c/_apis/resources/Containers/9/drop?scope=" GUID, NULL,
                        "organizations=c projects=" GUID " projects? pipelines? builds?"},
                {"GET /c/_apis/resources/Containers?scope=" GUID, NULL,
                        "organizations=c projects=" GUID " pipelines? builds?"},
                {"POST /c/_git/dags/git-upload-pack", NULL,
                        "organizations=c repositories=dags projects=dags"},
                {"POST /c/_git/" GUID "/git-upload-pack", NULL,
                        "organizations=c repositories=" GUID " projects?"},
                {"GET /c/p/_apis/git/repositories/" GUID "/refs", NULL,
                        "organizations=c projects=p repositories=" GUID " projects? refs?"},
                {"POST /c/p/_git/" GUID "/git-upload-pack", NULL,
                        "organizations=c projects=p repositories=" GUID " projects?"},
                {"POST /c/p/_git/" ODD_GUID "/git-upload-pack", NULL,
                        "organizations=c projects=p repositories=" ODD_GUID " projects?"},
                {"GET /c/p/_apis/git/repositories/{" GUID "}/refs", NULL,
                        "organizations=c projects=p repositories={" GUID "} projects? refs?"},
                {"GET /c/p/_apis/build/builds?repositoryId=" GUID, NULL,
                        "organizations=c projects=p repositories=" GUID " pipelines? builds?"},
                {"GET /c/p/_apis/sourceProviders/tfsgit/filecontents?repository=" GUID, NULL,
                        "organizations=c projects=p repositories=" GUID " projects?"},
                {"POST /c/p/_git/dags.git/git-receive-pack", NULL,
                        "organizations=c projects=p repositories=dags refs?"},
        };
        CHECK(cases);
}

/* Else a caller could say which one it is. */
static void a_query_that_upstream_does_not_know_settles_nothing(void **state)
{
        (void)state;
        static const struct gathering cases[] = {
                {"PATCH /c/p/_apis/build/builds/7?definitionId=42", "{}",
                        "organizations=c projects=p pipelines=42 builds=7 projects? pipelines? "
                        "refs?"},
                {"GET /c/p/_apis/build/builds/7?definitions=42&definitionIds=42", NULL,
                        "organizations=c projects=p pipelines=42 builds=7 pipelines?"},
                {"DELETE /c/_apis/git/repositories/" GUID "?projectId=p", NULL,
                        "organizations=c projects=p repositories=" GUID " projects?"},
                {"GET /c/_apis/projects?project=p", NULL, "organizations=c projects=p projects?"},
                {"GET /c/p/_apis/git/repositories?repositoryId=r", NULL,
                        "organizations=c projects=p repositories=r repositories?"},
                {"GET /c/p/_apis/build/authorizedresources?buildId=7", NULL,
                        "organizations=c projects=p builds=7 pipelines? builds?"},
                {"GET /~vsrm/c/p/_apis/release/releases?releaseId=3", NULL,
                        "organizations=c projects=p releases=3 releases?"},
                {"GET /c/p/_apis/test/Runs/5/codecoverage?buildId=7", NULL,
                        "organizations=c projects=p builds=7 builds?"},
        };
        CHECK(cases);

        struct resources resources = {.implied = 1U << RESOURCE_PIPELINE};
        assert_int_equal(
                resources_implied_by(&resources, 1U << RESOURCE_PIPELINE), 1U << RESOURCE_BUILD);
        resources.aside = 1U << RESOURCE_BUILD;
        assert_int_equal(resources_implied_by(&resources, 1U << RESOURCE_PIPELINE), 0);
}

static void the_query_names_resources_too(void **state)
{
        (void)state;
        static const struct gathering cases[] = {
                {"GET /c/p/_apis/build/builds?definitions=1,2,1&Definitionids=", NULL,
                        "organizations=c projects=p pipelines=1 pipelines=2 builds?"},
                {"GET /c/p/_apis/build/builds?definitions=1&buildIds=5,6", NULL,
                        "organizations=c projects=p pipelines=1 builds=5 builds=6 pipelines?"},
                {"GET /c/p/_apis/build/builds?repositoryId=r", NULL,
                        "organizations=c projects=p repositories=r pipelines? builds?"},
                {"GET /c/p/_apis/build/builds?projectId=" GUID "&definitions=1", NULL,
                        "organizations=c projects=p projects=" GUID " pipelines=1 builds?"},
                {"GET /c/p/_apis/build/builds?projectId=P&definitions=1", NULL,
                        "organizations=c projects=p pipelines=1 builds?"},
                {"GET /c/p/_apis/build/builds?projectId=q", NULL, "refused"},
                {"GET /c/" OTHER "/_apis/build/builds?projectId=" GUID, NULL, "refused"},
                {"GET /c/p/_apis/build/builds?definitions=01", NULL, "refused"},
                {"GET /c/p/_apis/build/builds?definitions=+1", NULL, "refused"},
                {"GET /c/p/_apis/build/builds?definitions=1,0x63", NULL, "refused"},
                {"GET /c/p/_apis/build/builds?definitions=0X63", NULL, "refused"},
                {"GET /c/p/_apis/build/builds?definitions=#63", NULL, "refused"},
                {"DELETE /c/_apis/serviceendpoint/endpoints/" GUID "?projectIds=a,b", NULL,
                        "organizations=c projects=a projects=b"},
        };
        CHECK(cases);
}

static void a_queued_build_is_found_in_body_query_or_source(void **state)
{
        (void)state;
#define QUEUE "POST /c/p/_apis/build/builds"
        static const struct gathering cases[] = {
                {QUEUE, NULL, "organizations=c projects=p projects? pipelines? refs?"},
                {QUEUE,
                        "{\"definition\":{\"id\":42,\"project\":{\"name\":\"q\"}},\"project\":{"
                        "\"id\":"
                        "\"" GUID "\"}}",
                        "organizations=c projects=p projects=" GUID
                        " projects=q pipelines=42 refs?"},
                {QUEUE, "", "organizations=c projects=p pipelines? refs?"},
                {QUEUE, "{\"definition\":{\"id\":42}}",
                        "organizations=c projects=p pipelines=42 refs?"},
                {QUEUE, "{\"Definition\":{\"ID\":\"42\"},\"sourceBranch\":\"refs/heads/main\"}",
                        "organizations=c projects=p pipelines=42 refs=refs/heads/main"},
                {QUEUE "?definitionId=42", "", "organizations=c projects=p pipelines=42 refs?"},
                {QUEUE "?definitionId=42", NULL,
                        "organizations=c projects=p pipelines=42 projects? pipelines? refs?"},
                {QUEUE "?definitionId=42", "{\"definition\":{\"id\":42}}",
                        "organizations=c projects=p pipelines=42 refs?"},
                {QUEUE "?definitionId=42", "{\"definition\":{\"id\":99}}", "refused"},
                {QUEUE "?sourceBuildId=7", "{\"definition\":{\"id\":42}}",
                        "organizations=c projects=p pipelines=42 builds=7 pipelines? refs?"},
                {QUEUE, "{\"definition\":{\"id\":42},\"definition\":{\"id\":99}}", "refused"},
                {QUEUE, "{\"definition\":{\"id\":42},\"DEFINITION\":{\"id\":99}}", "refused"},
                {QUEUE, "{\"definition\":{\"id\":42,\"Id\":99}}", "refused"},
                {QUEUE, "{\"definition\":{\"id\":\"042\"}}", "refused"},
                {QUEUE, "{\"definition\":{\"id\":42.0}}", "refused"},
                {QUEUE, "{\"definition\":{\"id\":-42}}", "refused"},
                {QUEUE, "{\"definition\":{\"id\":{}}}", "refused"},
                {QUEUE, "{\"definition\":[42]}", "refused"},
                {QUEUE, "[]", "refused"},
                {QUEUE, "{\"definition\":", "refused"},
                {QUEUE, "definition=42", "refused"},
                {QUEUE, "{\"definition\":null}", "organizations=c projects=p pipelines? refs?"},
        };
        CHECK(cases);
        char deep[300] = "{\"definition\":";
        memset(deep + 14, '[', 200);
        assert_string_equal(gathered(QUEUE, deep), "refused");
}

static void other_bodies_are_rows_of_the_table(void **state)
{
        (void)state;
        static const struct gathering cases[] = {
                {"POST /c/p/_apis/pipelines/42/runs",
                        "{\"resources\":{\"repositories\":{\"self\":{\"refName\":\"refs/heads/"
                        "x\"}}}}",
                        "organizations=c projects=p pipelines=42 refs=refs/heads/x"},
                {"POST /c/p/_apis/pipelines/42/runs", "{}",
                        "organizations=c projects=p pipelines=42 refs?"},
                {"POST /c/p/_apis/git/repositories/r/refs",
                        "[{\"name\":\"refs/heads/a\"},{\"name\":\"refs/heads/A\"}]",
                        "organizations=c projects=p repositories=r refs=refs/heads/a "
                        "refs=refs/heads/A"},
                {"POST /c/p/_apis/git/repositories/r/refs",
                        "[{\"repositoryId\":\"" GUID "\",\"name\":\"refs/heads/a\"}]",
                        "organizations=c projects=p repositories=r repositories=" GUID
                        " refs=refs/heads/a projects?"},
                {"POST /c/p/_apis/git/repositories/r/refs", "[{\"repositoryId\":\"other\"}]",
                        "refused"},
                {"POST /c/p/_apis/git/repositories/r/refs", "{\"name\":\"refs/heads/a\"}",
                        "refused"},
                {"POST /c/p/_apis/git/repositories/r/refs", NULL,
                        "organizations=c projects=p repositories=r projects? repositories? refs?"},
                {"POST /c/_apis/serviceendpoint/endpoints",
                        "{\"serviceEndpointProjectReferences\":[{\"projectReference\":{\"id\":"
                        "\"a\"}},"
                        "{\"projectReference\":{\"id\":\"b\"}},{\"projectReference\":null},{}]}",
                        "organizations=c projects=a projects=b"},
                {"PATCH /c/p/_apis/pipelines/pipelinepermissions",
                        "[{\"pipelines\":[{\"id\":1},{\"id\":2}]},{\"pipelines\":[{\"id\":3}]}]",
                        "organizations=c projects=p pipelines=1 pipelines=2 pipelines=3 "
                        "environments?"},
                {"PATCH /c/p/_apis/pipelines/pipelinepermissions",
                        "[{\"pipelines\":[{\"id\":1}]},{\"allPipelines\":{\"authorized\":true}}]",
                        "organizations=c projects=p pipelines=1 pipelines? environments?"},
                {"PATCH /c/p/_apis/pipelines/pipelinepermissions/queue/7",
                        "{\"pipelines\":[{\"id\":1}],\"AllPipelines\":{\"Authorized\":true}}",
                        "organizations=c projects=p pipelines=1 pipelines? environments?"},
                {"PATCH /c/p/_apis/pipelines/pipelinepermissions/repository/" GUID "." OTHER, "{}",
                        "organizations=c projects=p repositories=" OTHER
                        " projects? pipelines? environments?"},
                {"PATCH /c/p/_apis/pipelines/pipelinepermissions/repository/" GUID ".{" ODD_GUID
                 "}",
                        "{}",
                        "organizations=c projects=p repositories={" ODD_GUID
                        "} projects? pipelines? environments?"},
                {"PATCH /c/p/_apis/pipelines/pipelinepermissions/endpoint/" GUID, "{}",
                        "organizations=c projects=p pipelines? environments?"},
                {"PATCH /c/p/_apis/pipelines/pipelinepermissions",
                        "[{\"resource\":{\"type\":\"repository\",\"id\":\"" GUID "." OTHER
                        "\"},\"pipelines\":[{\"id\":1}]}]",
                        "organizations=c projects=p pipelines=1 repositories=" OTHER
                        " projects? environments?"},
                {"POST /c/p/_apis/pipelines/checks/configurations",
                        "{\"resource\":{\"type\":\"repository\",\"id\":\"" GUID "." OTHER "\"}}",
                        "organizations=c projects=p repositories=" OTHER
                        " projects? pipelines? environments?"},
                {"PATCH /c/p/_apis/pipelines/checks/configurations/7",
                        "{\"resource\":{\"type\":\"environment\",\"id\":\"5\"}}",
                        "organizations=c projects=p pipelines? environments?"},
                {"PATCH /c/p/_apis/pipelines/pipelinepermissions/queue/7",
                        "{\"pipelines\":[{\"id\":1}],\"allPipelines\":null}",
                        "organizations=c projects=p pipelines=1 environments?"},
        };
        CHECK(cases);
}

/* What a body shares, forks or publishes, and what a number alone stands for. */
static void what_is_not_the_paths_is_touched_too(void **state)
{
#define GIT_R "POST /c/p/_apis/git/repositories/r"
        (void)state;
        static const struct gathering cases[] = {
                {"PATCH /c/_apis/serviceendpoint/endpoints/" GUID,
                        "[{\"projectReference\":{\"id\":\"a\",\"name\":\"b\"}}]",
                        "organizations=c projects=a projects=b projects?"},
                {"PUT /c/_apis/serviceendpoint/endpoints/" GUID,
                        "{\"serviceEndpointProjectReferences\":[{\"projectReference\":{\"name\":"
                        "\"a\"}}]}",
                        "organizations=c projects=a projects?"},
                {"PATCH /c/_apis/distributedtask/variablegroups?variableGroupId=7",
                        "[{\"projectReference\":{\"id\":\"a\"}}]",
                        "organizations=c projects=a projects?"},
                {"PUT /c/_apis/distributedtask/variablegroups/7",
                        "{\"variableGroupProjectReferences\":[{\"projectReference\":{\"id\":\"a\"}}"
                        "]}",
                        "organizations=c projects=a projects?"},
                {"PUT /c/_apis/hooks/subscriptions/" GUID,
                        "{\"publisherInputs\":{\"projectId\":\"a\"}}",
                        "organizations=c projects=a projects?"},
                {"POST /c/p/_apis/wiki/wikis", "{\"projectId\":\"q\",\"repositoryId\":\"r\"}",
                        "organizations=c projects=p projects=q repositories=r"},
                {"POST /~feeds/c/p/_apis/packaging/feeds",
                        "{\"project\":{\"id\":\"q\"},\"upstreamSources\":[{"
                        "\"internalUpstreamFeedId\":\"f\",\"internalUpstreamProjectId\":\"s\"}]}",
                        "organizations=c projects=p projects=q projects=s feeds=f"},
                {GIT_R "/pullrequests",
                        "{\"targetRefName\":\"refs/heads/"
                        "a\",\"forkSource\":{\"repository\":{\"id\":"
                        "\"s\",\"project\":{\"id\":\"q\"}}}}",
                        "organizations=c projects=p projects=q repositories=r repositories=s "
                        "refs=refs/heads/a"},
                {GIT_R "/pullrequests",
                        "{\"targetRefName\":\"refs/heads/"
                        "a\",\"ignoreTargetRefAndChooseDynamically\":"
                        "true}",
                        "organizations=c projects=p repositories=r refs=refs/heads/a refs?"},
                {"POST /c/p/_apis/build/definitions", "{\"repository\":{\"name\":\"r\"}}",
                        "organizations=c projects=p repositories=r pipelines?"},
                {"GET /c/p/_apis/tfvc/items?path=$/q/x", NULL,
                        "organizations=c projects=p projects?"},
                {"POST /c/p/_apis/testplan/Plans/CloneOperation",
                        "{\"destinationTestPlan\":{\"project\":\"q\"}}",
                        "organizations=c projects=p projects=q"},
                {"POST /c/p/_apis/testplan/Suites/CloneOperation",
                        "{\"destinationTestSuite\":{\"id\":7,\"project\":\"q\"}}",
                        "organizations=c projects=p projects=q"},
                {"POST /c/p/_apis/testplan/TestCases/CloneTestCaseOperation",
                        "{\"destinationTestSuite\":{\"id\":7,\"project\":\"q\"}}",
                        "organizations=c projects=p projects=q"},
                {"POST /c/p/_apis/test/Plans/7/cloneoperation",
                        "{\"destinationTestPlan\":{\"project\":{\"name\":\"q\"}}}",
                        "organizations=c projects=p projects=q"},
                {"POST /c/p/_apis/test/Plans/7/Suites/8/cloneoperation",
                        "{\"destinationSuiteId\":7,\"destinationSuiteProjectName\":\"q\"}",
                        "organizations=c projects=p projects=q"},
                {"POST /c/p/_apis/work/plans",
                        "{\"properties\":{\"teamBacklogMappings\":[{\"teamId\":\"" GUID "\"}]}}",
                        "organizations=c projects=p teams=" GUID " projects?"},
                {"PATCH /c/p/_apis/policy/evaluations/" GUID, "",
                        "organizations=c projects=p pipelines? repositories?"},
        };
        CHECK(cases);
}

#define FEED_F "organizations=c projects=p feeds=f"
#define UPSTREAM(members)                                                                          \
        "PATCH /~feeds/c/p/_apis/packaging/feeds/f",                                               \
                "{\"upstreamSources\":[{\"internalUpstreamFeedId\":\"" GUID "\"," members "}]}"
#define INTERNAL "\"upstreamSourceType\":\"internal\","

/* Of a feed that lies upstream, the address counts where an id is missing. */
static void what_lies_upstream_of_a_feed_is_touched(void **state)
{
        (void)state;
        static const struct gathering cases[] = {
                {UPSTREAM("\"location\":\"https://registry.npmjs.org/\""), FEED_F " feeds=" GUID},
                {UPSTREAM("\"location\":null"), FEED_F " feeds=" GUID},
                {UPSTREAM(INTERNAL "\"location\":\"azure-feed://c/q/g@local\""),
                        FEED_F " feeds=" GUID " organizations? projects? feeds?"},
                {UPSTREAM(INTERNAL "\"Location\":\" VSTS-feed://c/q/g@local\","
                                   "\"internalUpstreamCollectionId\":\"" GUID "\","
                                   "\"internalUpstreamViewId\":\"\""),
                        FEED_F " feeds=" GUID " organizations? projects? feeds?"},
                /* As it is read and written back: all ids are there, and go before the address. */
                {UPSTREAM(INTERNAL "\"location\":\"azure-feed://c/q/g@local\","
                                   "\"internalUpstreamCollectionId\":\"" GUID "\","
                                   "\"internalUpstreamViewId\":\"" OTHER "\""),
                        FEED_F " feeds=" GUID},
                {"POST /~feeds/c/p/_apis/packaging/feeds",
                        "{\"name\":\"g\",\"upstreamSources\":[{\"location\":"
                        "\"azure-feed://c/q/g@local\"}]}",
                        "organizations=c projects=p organizations? projects? feeds?"},
                {UPSTREAM("\"serviceEndpointId\":\"" OTHER "\",\"serviceEndpointProjectId\":\"q\""),
                        "organizations=c projects=p projects=q feeds=f feeds=" GUID},
        };
        CHECK(cases);
}

static void what_a_repository_takes_from_elsewhere_is_touched(void **state)
{
        (void)state;
        static const struct gathering cases[] = {
                {"GET /c/p/_apis/git/repositories/r/commits/c0ffee/mergebases?otherCommitId=a"
                 "&otherRepositoryId=" GUID,
                        NULL, OF_P "repositories=r repositories=" GUID " projects?"},
                {GIT_R "/importRequests", "{\"parameters\":{\"tfvcSource\":{\"path\":\"$/q/x\"}}}",
                        OF_P "repositories=r projects? refs?"},
                {GIT_R "/importRequests", "{\"parameters\":{\"gitSource\":{\"url\":\"u\"}}}",
                        OF_P "repositories=r refs?"},
                /* Tried again, it writes what it did not. */
                {"PATCH /c/p/_apis/git/repositories/r/importRequests/7", "{\"status\":\"queued\"}",
                        OF_P "repositories=r refs?"},
        };
        CHECK(cases);
}

static void what_a_pull_request_links_and_a_policy_runs_is_touched(void **state)
{
        (void)state;
        static const struct gathering cases[] = {
                {GIT_R "/pullrequests", "{\"targetRefName\":\"refs/heads/a\",\"workItemRefs\":[]}",
                        OF_P "repositories=r refs=refs/heads/a"},
                {GIT_R "/pullrequests",
                        "{\"targetRefName\":\"refs/heads/a\",\"workItemRefs\":[{\"id\":\"7\"},{"
                        "\"id\":8}]}",
                        OF_P "repositories=r workItems=7 workItems=8 refs=refs/heads/a projects?"},
                {GIT_R "/pullrequests", "{\"workItemRefs\":[{\"id\":\"07\"}]}", "refused"},
                {"POST /c/p/_apis/policy/configurations",
                        "{\"settings\":{\"buildDefinitionId\":99}}",
                        OF_P "pipelines=99 repositories?"},
                {"PUT /c/p/_apis/policy/configurations/3",
                        "{\"settings\":{\"BuildDefinitionId\":\"99\"}}",
                        OF_P "pipelines=99 repositories?"},
                {"POST /c/p/_apis/policy/configurations", "{\"settings\":{}}",
                        OF_P "repositories?"},
        };
        CHECK(cases);
}

/* .NET takes off more than a blank before it completes the name. */
static void a_ref_to_lock_has_no_blanks_around_it(void **state)
{
        (void)state;
        static const struct gathering cases[] = {
                {"PATCH /c/p/_apis/git/repositories/r/refs?filter=heads/main", NULL,
                        OF_P "repositories=r refs=refs/heads/main"},
                {"PATCH /c/p/_apis/git/repositories/r/refs?filter=\xc2\xa0heads/main", NULL,
                        "refused"},
                {"PATCH /c/p/_apis/git/repositories/r/refs?filter=heads/main\xe3\x80\x80", NULL,
                        "refused"},
        };
        CHECK(cases);
}

static void bodies_are_asked_for_only_where_rows_read_them(void **state)
{
        (void)state;
        static const struct {
                const char *id;
                unsigned kinds;
        } cases[] = {
                {"build.builds.queue", 1U << RESOURCE_PROJECT | 1U << RESOURCE_PIPELINE |
                                               1U << RESOURCE_REF | BODY_FACTS},
                {"pipelines.runs.run", 1U << RESOURCE_PIPELINE | 1U << RESOURCE_REF | BODY_FACTS |
                                               BODY_GUARDED_FACTS},
                {"pipelines.pipelines.create",
                        1U << RESOURCE_PROJECT | 1U << RESOURCE_REPOSITORY | BODY_FACTS},
                {"build.builds.list", 0},
                {"gitHttp.pack.push", 0},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                const struct operation *op = catalogue_find(str_of(cases[i].id));
                assert_int_equal(operation_body_kinds(op), cases[i].kinds);
                assert_int_equal(operation_reads_body(op), cases[i].kinds != 0);
        }
}

static void what_no_request_says_is_left_open(void **state)
{
        (void)state;
        static const struct {
                const char *id;
                unsigned kinds;
        } cases[] = {
                {"git.pullRequests.update", 1U << RESOURCE_REF},
                {"wit.workItems.update", 1U << RESOURCE_WORK_ITEM_TYPE},
                {"serviceEndpoint.endpoints.share", 1U << RESOURCE_PROJECT},
                {"tfvc.items.get", 1U << RESOURCE_PROJECT},
                {"wit.attachments.get", 1U << RESOURCE_PROJECT},
                {"wit.workItems.get", 0},
                {"git.pullRequests.getPullRequestById", 1U << RESOURCE_PROJECT},
                {"pipelines.runs.run", 0},
                {"gitHttp.refs.advertisePush", 0},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                assert_int_equal(
                        operation_open_kinds(catalogue_find(str_of(cases[i].id))), cases[i].kinds);
}

static void more_resources_than_fit_are_refused(void **state)
{
        (void)state;
        char line[1024] = "GET /c/p/_apis/build/builds?definitions=1";
        size_t n = strlen(line);
        for (int i = 2; i <= 62; i++)
                n += (size_t)sprintf(line + n, ",%d", i);
        assert_string_not_equal(gathered(line, NULL), "refused");
        strcpy(line + n, ",63");
        assert_string_equal(gathered(line, NULL), "refused");
}

#define RUN_42 "POST /c/p/_apis/pipelines/42/runs"
#define QUEUE_42 "POST /c/p/_apis/build/builds?definitionId=42"
#define RUNS_42 "organizations=c projects=p pipelines=42"

static void what_runs_is_more_than_its_number(void **state)
{
        (void)state;
        static const struct gathering cases[] = {
                {RUN_42, "{}", RUNS_42 " refs?"},
                {RUN_42,
                        "{\"resources\":{\"repositories\":{\"self\":{\"refName\":\"refs/heads/"
                        "a\"}}}}",
                        RUNS_42 " refs=refs/heads/a"},
                {RUN_42,
                        "{\"resources\":{\"repositories\":{\"self\":{\"refName\":\"refs/heads/a\"},"
                        "\"lib\":{\"refName\":\"refs/heads/b\"}}}}",
                        RUNS_42 " refs=refs/heads/a refs=refs/heads/b"},
                {RUN_42,
                        "{\"resources\":{\"repositories\":{\"lib\":{\"refName\":\"refs/heads/"
                        "b\"}}}}",
                        RUNS_42 " refs=refs/heads/b refs?"},
                {RUN_42,
                        "{\"resources\":{\"repositories\":{\"self\":{\"refName\":\"refs/heads/a\","
                        "\"version\":\"c0ffee\"}}}}",
                        RUNS_42 " refs=refs/heads/a refs?"},
                {RUN_42,
                        "{\"resources\":{\"repositories\":{\"self\":{\"refName\":\"refs/heads/a\","
                        "\"version\":null},\"lib\":{\"token\":\"x\"}}}}",
                        RUNS_42 " refs=refs/heads/a refs?"},
                {RUN_42, "{\"previewRun\":true,\"YamlOverride\":\"steps: []\"}",
                        RUNS_42 " pipelines? refs?"},
                {RUN_42, "{\"yamlOverride\":\"\"}", RUNS_42 " refs?"},
                {RUN_42, "{\"yamlOverride\":{}}", RUNS_42 " pipelines? refs?"},
                {RUN_42, "{\"resources\":{\"repositories\":[]}}", "refused"},
                {RUN_42, NULL, RUNS_42 " pipelines? refs?"},
                {QUEUE_42, "{\"definition\":{\"id\":42},\"sourceBranch\":\"refs/heads/a\"}",
                        RUNS_42 " refs=refs/heads/a"},
                {QUEUE_42, "{\"sourceBranch\":\"refs/heads/a\",\"sourceVersion\":\"c0ffee\"}",
                        RUNS_42 " refs=refs/heads/a refs?"},
                {QUEUE_42 "&sourceBuildId=7", "{\"sourceBranch\":\"refs/heads/a\"}",
                        RUNS_42 " builds=7 refs=refs/heads/a pipelines? refs?"},
                {QUEUE_42, "{\"definition\":{\"id\":41}}", "refused"},
        };
        CHECK(cases);
}

static void what_a_body_moves_or_merges_is_touched(void **state)
{
        (void)state;
        static const struct gathering cases[] = {
                {"PATCH /c/p/_apis/wit/workitems/7",
                        "[{\"op\":\"add\",\"path\":\"/fields/"
                        "system.teamproject\",\"value\":\"q\"}]",
                        "organizations=c projects=p projects=q workItems=7 projects? "
                        "workItemTypes?"},
                {"PATCH /c/p/_apis/wit/workitems/7",
                        "[{\"op\":\"copy\",\"path\":\"/fields/System.TeamProject\",\"from\":\"/"
                        "id\"}]",
                        "refused"},
                {"PATCH /c/p/_apis/wit/workitems/7", "{}", "refused"},
                {"PATCH /c/p/_apis/git/repositories/r/pullrequests/9",
                        "{\"status\":\"completed\",\"targetRefName\":\"refs/heads/a\"}",
                        "organizations=c projects=p repositories=r refs=refs/heads/a refs?"},
                {"POST /c/p/_apis/git/repositories/r/cherryPicks",
                        "{\"ontoRefName\":\"refs/heads/a\",\"generatedRefName\":\"refs/heads/b\"}",
                        "organizations=c projects=p repositories=r refs=refs/heads/a "
                        "refs=refs/heads/b"},
                {"POST /c/p/_apis/git/repositories/r/refs",
                        "[{\"name\":\"refs/heads/a\",\"repositoryId\":\"other\"}]", "refused"},
                {"PUT /c/p/_apis/build/definitions/42", "{\"id\":41}", "refused"},
                {"PUT /~vsrm/c/p/_apis/release/releases/3", "{\"id\":3}",
                        "organizations=c projects=p releases=3"},
                {"PUT /~vsrm/c/p/_apis/release/releases/3", "{\"id\":4}", "refused"},
        };
        CHECK(cases);
}

#define STEP(path, value) "[{\"op\":\"add\",\"path\":\"" path "\",\"value\":" value "}]"
#define ITEM_7 "PATCH /c/p/_apis/wit/workitems/7"

/* Azure DevOps splits the path at slashes and passes over what is empty. */
static void a_patch_says_in_one_way_what_it_sets(void **state)
{
        (void)state;
        static const struct gathering cases[] = {
                {ITEM_7, STEP("/fields/System.Title", "\"t\""),
                        "organizations=c projects=p workItems=7 projects? workItemTypes?"},
                {ITEM_7, STEP("/relations/0/attributes/comment", "\"t\""),
                        "organizations=c projects=p workItems=7 projects? workItemTypes?"},
                {ITEM_7, STEP("/relations/0/url", "\"https://x/_apis/wit/workItems/8\""),
                        "organizations=c projects=p workItems=7 projects? workItems? "
                        "workItemTypes?"},
                {ITEM_7, STEP("/relations/0/attributesOf/8", "\"t\""),
                        "organizations=c projects=p workItems=7 projects? workItems? "
                        "workItemTypes?"},
                {ITEM_7, STEP("/rev", "3"),
                        "organizations=c projects=p workItems=7 projects? workItemTypes?"},
                {ITEM_7, STEP("//fields/System.TeamProject", "\"q\""), "refused"},
                {ITEM_7, STEP("/fields//System.TeamProject", "\"q\""), "refused"},
                {ITEM_7, STEP("/fields/System.TeamProject/", "\"q\""), "refused"},
                {ITEM_7, STEP("fields/System.TeamProject", "\"q\""), "refused"},
                {ITEM_7, STEP("/fields~1System.TeamProject", "\"q\""), "refused"},
                {ITEM_7, STEP("/fields/System.TeamProject/x", "\"q\""), "refused"},
                {ITEM_7, STEP("/Fields", "{\"System.TeamProject\":\"q\"}"), "refused"},
                {ITEM_7, STEP("/", "{\"fields\":{\"System.TeamProject\":\"q\"}}"), "refused"},
                {ITEM_7, STEP("", "{\"fields\":{\"System.TeamProject\":\"q\"}}"), "refused"},
                {ITEM_7, STEP("/fields/System.TeamProject\xc2\xa0", "\"q\""), "refused"},
                {ITEM_7, STEP("/fields/ System.TeamProject", "\"q\""), "refused"},
                {ITEM_7, STEP("/relations", "[]"), "refused"},
                {ITEM_7, STEP("/fields/Team Project", "\"q\""), "refused"},
                {ITEM_7, STEP("/fields/System.Title", "\"t\",\"from\":null"),
                        "organizations=c projects=p workItems=7 projects? workItemTypes?"},
                {ITEM_7, STEP("/fields/System.Title", "\"t\",\"from\":\"/fields/System.State\""),
                        "refused"},
        };
        CHECK(cases);
}

#define LINK(rel, url) STEP("/relations/-", "{\"rel\":\"" rel "\",\"url\":\"" url "\"}")
#define TYPED " workItemTypes?"

static void a_work_item_is_of_its_own_project_wherever_it_is_named(void **state)
{
        (void)state;
        static const struct gathering cases[] = {
                {"DELETE /c/p/_apis/wit/workitems/7", NULL, OF_P "workItems=7 projects?" TYPED},
                {"PATCH /c/_apis/wit/workitems/7", STEP("/fields/System.TeamProject", "\"p\""),
                        OF_P "workItems=7 projects?" TYPED},
                {"POST /c/p/_apis/wit/workItems/7/comments", NULL,
                        OF_P "workItems=7 projects?" TYPED},
                {"GET /c/p/_apis/wit/workItems/7/revisions/2", NULL, OF_P "workItems=7 projects?"},
                {"GET /c/p/_apis/wit/workItems/7/updates", NULL, OF_P "workItems=7 projects?"},
                {"PATCH /c/p/_apis/wit/recyclebin/7", NULL, OF_P "workItems=7 projects?" TYPED},
                {"GET /c/p/_apis/wit/recyclebin", NULL, OF_P "workItemTypes?"},
                {"PATCH /c/p/t/_apis/work/taskboardworkitems/" GUID "/7", NULL,
                        OF_P "teams=t workItems=7 projects?"},
                {"DELETE /c/p/_apis/test/testcases/7", NULL, OF_P "workItems=7 projects?"},
                {"GET /c/p/_apis/wit/workitems?ids=7,8", NULL,
                        OF_P "workItems=7 workItems=8 projects?" TYPED},
                {"POST /c/p/_apis/wit/workitemsbatch", "{\"ids\":[7,8]}",
                        OF_P "workItems=7 workItems=8 projects?" TYPED},
                {"POST /c/p/_apis/wit/workitemsbatch", NULL,
                        OF_P "projects? workItems? workItemTypes?"},
                {"POST /c/p/_apis/wit/workitemsdelete", "{\"IDS\":[7]}",
                        OF_P "workItems=7 projects?" TYPED},
                {"POST /c/p/_apis/wit/sendmail", "{\"ids\":[7]}", OF_P "workItems=7 projects?"},
                {"POST /~vstmr/c/p/_apis/testresults/testmethods/workitems",
                        "{\"workItem\":{\"id\":\"7\"}}", OF_P "workItems=7 projects?"},
                {"DELETE /~vstmr/c/p/_apis/testresults/testmethods/workitems?workItemId=7", NULL,
                        OF_P "workItems=7 projects?"},
                {ITEM_7, LINK("System.LinkTypes.Related", "https://x/c/_apis/wit/workItems/8"),
                        OF_P "workItems=7 workItems=8 projects?" TYPED},
                {ITEM_7, LINK("System.LinkTypes.Related", "https://x/c/_apis/wit/workItems/8?x"),
                        OF_P "workItems=7 projects? workItems?" TYPED},
                {ITEM_7, LINK("Hyperlink", "https://x/8"), OF_P "workItems=7 projects?" TYPED},
                {"POST /c/p/_apis/wit/workitems/$Bug", LINK("Hyperlink", "https://x/8"),
                        OF_P "workItemTypes=Bug"},
                {"POST /c/p/_apis/wit/workitems/$Bug",
                        LINK("System.LinkTypes.Related", "https://x/c/_apis/wit/workItems/8"),
                        OF_P "workItems=8 workItemTypes=Bug projects?"},
                /* How older clients create one. */
                {"PATCH /c/p/_apis/wit/workitems/$Bug", STEP("/fields/System.Title", "\"t\""),
                        OF_P "workItemTypes=Bug"},
                {"PATCH /c/p/_apis/wit/workitems/$Bug", STEP("/fields/System.TeamProject", "\"q\""),
                        OF_P "projects=q workItemTypes=Bug"},
                {"DELETE /c/p/_apis/build/builds/7", NULL, OF_P "builds=7 projects? pipelines?"},
                {"PATCH /c/p/_apis/build/builds", "[{\"id\":7}]",
                        OF_P "builds=7 projects? pipelines?"},
                {"PATCH /c/p/_apis/build/builds/7/stages/s", "{}",
                        OF_P "builds=7 projects? pipelines? refs?"},
                {"PUT /c/p/_apis/build/builds/7/tags/x", NULL,
                        OF_P "builds=7 projects? pipelines?"},
                {"GET /c/p/_apis/build/builds/7/timeline", NULL, OF_P "builds=7 pipelines?"},
                {"GET /c/p/_apis/wit/attachments/" GUID, NULL, OF_P "projects?"},
                {"GET /c/p/_apis/git/pullrequests/7", NULL, OF_P "projects? repositories?"},
        };
        CHECK(cases);

        struct resources resources = {.implied = 1U << RESOURCE_PROJECT};
        assert_true(
                resources_implied_by(&resources, 1U << RESOURCE_PROJECT) >> RESOURCE_WORK_ITEM & 1);
}

static void of_many_work_items_it_is_open_whose_they_are(void **state)
{
        (void)state;
        char line[1024] = "GET /c/p/_apis/wit/workitems?ids=1";
        size_t n = strlen(line);
        for (int i = 2; i <= WORK_ITEMS_MOST; i++)
                n += (size_t)sprintf(line + n, ",%d", i);
        assert_non_null(strstr(gathered(line, NULL), "workItems=32 projects? workItemTypes?"));
        for (int i = WORK_ITEMS_MOST + 1; i <= 200; i++)
                n += (size_t)sprintf(line + n, ",%d", i);
        assert_non_null(
                strstr(gathered(line, NULL), "workItems=32 projects? workItems? workItemTypes?"));
}

static void a_quick_look_never_misses_what_veils(void **state)
{
        (void)state;
        const struct operation *run = catalogue_find(STR("pipelines.runs.run"));
        assert_int_equal(operation_veiled_kinds(run), 1U << RESOURCE_PIPELINE | BODY_GUARDED_FACTS);
        assert_false(body_may_veil(run, STR("{\"templateParameters\":{\"a\":\"b\"}}")));
        assert_false(body_may_veil(run, STR("")));
        assert_true(body_may_veil(run, STR("{\"yamlOverride\":1}")));
        assert_true(body_may_veil(run, STR("{ \n\"YAMLOVERRIDE\" :1}")));
        assert_true(body_may_veil(run, STR("{\"\\u0079amlOverride\":1}")));
        assert_true(body_may_veil(run, str_view("{\0\"\0y\0", 6)));
        /* What Json.NET reads beside JSON. */
        static const char *const loose[] = {"{'yamlOverride':1}", "{yamlOverride:1}",
                "{/*\"*/yamlOverride/*\"*/:1}", "{//\"\nyamlOverride//\"\n:1}",
                "{\"a\":'\"',yamlOverride:'\"'}", "{trueyamlOverride:1}", "{\"a\":NaN}", "{\"a"};
        for (size_t i = 0; i < sizeof(loose) / sizeof(loose[0]); i++)
                assert_true(body_may_veil(run, str_of(loose[i])));
        /* A ref that is set to nothing goes. */
        const struct operation *refs = catalogue_find(STR("git.refs.updateMany"));
        assert_true(body_may_veil(refs, STR("[{\"name\":\"refs/heads/a\"}]")));
        assert_false(body_may_veil(refs, STR("")));
        assert_false(body_may_veil(
                run, STR("\xEF\xBB\xBF[true, false,\tnull,\r\n-1.5E+3, {\"a\": \"'y/*\"}]")));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_kind_is_found_in_the_path),
                cmocka_unit_test(what_a_request_leaves_open_is_unresolved),
                cmocka_unit_test(a_query_that_upstream_does_not_know_settles_nothing),
                cmocka_unit_test(the_query_names_resources_too),
                cmocka_unit_test(a_queued_build_is_found_in_body_query_or_source),
                cmocka_unit_test(other_bodies_are_rows_of_the_table),
                cmocka_unit_test(what_is_not_the_paths_is_touched_too),
                cmocka_unit_test(what_lies_upstream_of_a_feed_is_touched),
                cmocka_unit_test(what_a_repository_takes_from_elsewhere_is_touched),
                cmocka_unit_test(what_a_pull_request_links_and_a_policy_runs_is_touched),
                cmocka_unit_test(a_ref_to_lock_has_no_blanks_around_it),
                cmocka_unit_test(bodies_are_asked_for_only_where_rows_read_them),
                cmocka_unit_test(what_no_request_says_is_left_open),
                cmocka_unit_test(more_resources_than_fit_are_refused),
                cmocka_unit_test(what_runs_is_more_than_its_number),
                cmocka_unit_test(what_a_body_moves_or_merges_is_touched),
                cmocka_unit_test(a_patch_says_in_one_way_what_it_sets),
                cmocka_unit_test(a_work_item_is_of_its_own_project_wherever_it_is_named),
                cmocka_unit_test(of_many_work_items_it_is_open_whose_they_are),
                cmocka_unit_test(a_quick_look_never_misses_what_veils),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
