#include "request.h"

#include "dagward/base/buf.h"

static enum route_result match(struct request *request, const char *line, struct route *route)
{
        const char *why = NULL;
        request_read(request, line);
        enum route_result result = catalogue_match(&request->query, route, &why);
        if (result == ROUTE_REFUSED)
                assert_non_null(why);
        return result;
}

/* "id", or "unknown", "refused", "body?". */
static const char *named(const char *line)
{
        static const char *const others[] = {"", "unknown", "refused", "body?"};
        struct request request;
        struct route route;
        enum route_result result = match(&request, line, &route);
        return result == ROUTE_FOUND ? route.op->id : others[result];
}

struct naming {
        const char *line, *id;
};

static void check(const struct naming *cases, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                const char *id = named(cases[i].line);
                if (strcmp(id, cases[i].id) != 0)
                        fail_msg("%s is %s, not %s", cases[i].line, id, cases[i].id);
        }
}
#define CHECK(cases) check(cases, sizeof(cases) / sizeof(cases[0]))

#define GUID "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c"

static void colliding_templates_are_told_apart(void **state)
{
        (void)state;
        static const struct naming cases[] = {
                {"POST /c/p/_apis/pipelines/checks/runs",
                        "approvalsAndChecks.checkEvaluations.evaluate"},
                {"POST /c/p/_apis/pipelines/42/runs", "pipelines.runs.run"},
                {"POST /c/p/_apis/pipelines/nightly/runs", "unknown"},
                {"GET /c/p/_apis/pipelines/approvals", "approvalsAndChecks.approvals.query"},
                {"GET /c/p/_apis/pipelines/environments", "environments.environments.list"},
                {"GET /c/p/_apis/pipelines/42", "pipelines.pipelines.get"},
                {"GET /c/p/_apis/pipelines/nightly", "unknown"},
                {"GET /c/p/_apis/build/definitions/templates", "build.templates.list"},
                {"GET /c/p/_apis/build/definitions/7", "build.definitions.get"},
                {"PATCH /~pkgs/c/_apis/packaging/feeds/f/npm/packages/x/upstreaming",
                        "artifactsPackageTypes.npm.setUpstreamingBehavior"},
                {"PATCH /~pkgs/c/_apis/packaging/feeds/f/npm/x/versions/1.0.0",
                        "artifactsPackageTypes.npm.updatePackage"},
                {"PATCH /~pkgs/c/_apis/packaging/feeds/f/npm/@s/x/versions/1.0.0",
                        "artifactsPackageTypes.npm.updateScopedPackage"},
                {"PATCH /~pkgs/c/_apis/packaging/feeds/f/npm/@s%2fx/versions/1.0.0",
                        "artifactsPackageTypes.npm.updateScopedPackage"},
                {"POST /c/p/_apis/wit/workitems/$Bug", "wit.workItems.create"},
                {"PATCH /c/p/_apis/wit/workitems/$Bug", "wit.workItems.createByPatch"},
                {"PATCH /c/p/_apis/wit/workitems/12", "wit.workItems.update"},
                {"GET /c/p/_apis/wit/workitems/$Bug", "wit.workItems.getWorkItemTemplate"},
                {"GET /c/p/_apis/wit/workitems/12", "wit.workItems.get"},
                {"GET /c/p/_apis/wit/workitems/Bug", "unknown"},
                {"GET /c/p/_apis/git/repositories/r/refs/refs/heads/master", "git.refs.list"},
                {"GET /c/p/_apis/git/repositories/r/refs?filter=heads/", "git.refs.list"},
                {"GET /c/_apis/projects/a", "core.projects.get"},
                {"GET /c/_apis/projects/a/b", "unknown"},
                {"GET /c/_apis/projects/a/teams", "core.teams.list"},
                {"DELETE /c/_apis/projects/" GUID "/teams", "unknown"},
                {"GET /c/_apis/work/processes/lists", "processes.lists.list"},
                {"GET /c/_apis/work/processes/" GUID, "processes.processes.get"},
                {"GET /c/_apis/work/processes/scrum", "unknown"},
                {"GET /c/_apis/accounts", "unknown"},
                {"GET /~app/_apis/accounts", "account.accounts.list"},
                {"OPTIONS /c/_apis", "discovery.locations.listAll"},
                {"OPTIONS /~vsrm/c/_apis/Release", "discovery.locations.listArea"},
                {"OPTIONS /_apis", "discovery.locations.listDeployment"},
        };
        CHECK(cases);
}

static void the_query_tells_operations_of_one_template_apart(void **state)
{
        (void)state;
        static const struct naming cases[] = {
                {"GET /c/p/_apis/build/builds/5/artifacts", "build.artifacts.list"},
                {"GET /c/p/_apis/build/builds/5/artifacts?ARTIFACTNAME=drop",
                        "build.artifacts.get"},
                {"GET /c/p/_apis/build/builds/5/artifacts?artifactName=d&fileId=1&fileName=x",
                        "build.artifacts.getFile"},
                {"GET /c/p/_apis/build/builds/5/artifacts?artifactName=d&fileId=1",
                        "build.artifacts.get"},
                {"POST /c/p/_apis/distributedtask/securefiles",
                        "distributedTask.securefiles.query"},
                {"POST /c/p/_apis/distributedtask/securefiles?name=key",
                        "distributedTask.securefiles.uploadSecureFile"},
                {"POST /c/p/_apis/distributedtask/securefiles?name=", "refused"},
                {"GET /c/p/_apis/distributedtask/securefiles/" GUID "?ticket=t",
                        "distributedTask.securefiles.downloadSecureFile"},
                {"POST /~vstmr/c/p/_apis/testresults/testmethods/workitems",
                        "testResults.workitems.add"},
                {"POST /~vstmr/c/p/_apis/testresults/testmethods/workitems?testName=t",
                        "testResults.workitems.queryTestMethodLinkedWorkItems"},
                {"GET /c/p/_apis/distributedtask/queues?poolIds=1&queueIds=2", "refused"},
                {"GET /c/_apis/favorite/favorites/1", "unknown"},
                {"GET /c/p/_apis/tfvc/items/$/p/file.c", "tfvc.items.get"},
                {"GET /c/p/_apis/tfvc/items", "tfvc.items.list"},
                {"GET /c/p/_git/r/info/refs?service=git-upload-pack",
                        "gitHttp.refs.advertiseFetch"},
                {"GET /c/p/_git/r/info/refs?service=git-receive-pack",
                        "gitHttp.refs.advertisePush"},
                {"GET /c/p/_git/r/info/refs", "unknown"},
                {"GET /c/p/_git/r/info/refs?service=git-upload-archive", "unknown"},
                {"POST /c/p/_apis/serviceendpoint/endpoints", "serviceEndpoint.endpoints.create"},
                {"POST /c/p/_apis/serviceendpoint/endpoints?endpointIds=" GUID,
                        "serviceEndpoint.endpoints.getServiceEndpointsWithRefreshedAuthentication"},
        };
        CHECK(cases);
}

static void git_has_many_addresses(void **state)
{
        (void)state;
        static const struct {
                const char *path, *project, *repository, *sent;
        } cases[] = {
                {"/c/p/_git/r", "p", "r", "/c/p/_git/r"},
                {"/c/_git/r", NULL, "r", "/c/_git/r"},
                {"/c/p/_git/r.git", "p", "r", "/c/p/_git/r"},
                {"/c/p/_GIT/r.git.git", "p", "r.git", "/c/p/_git/r.git"},
                {"/c/p/_git/.git", "p", ".git", "/c/p/_git/.git"},
                {"/c/DefaultCollection/p/_git/r", "p", "r", "/c/p/_git/r"},
                {"/c/defaultcollection/_git/r", NULL, "r", "/c/_git/r"},
                {"/c/p/_git/_full/r", "p", "r", "/c/p/_git/_full/r"},
                {"/c/_git/_Optimized/r.git", NULL, "r", "/c/_git/_optimized/r"},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char line[256], sent[256];
                struct request request;
                struct route route;
                snprintf(line, sizeof(line), "POST %s/git-upload-pack", cases[i].path);
                assert_int_equal(match(&request, line, &route), ROUTE_FOUND);
                assert_string_equal(route.op->id, "gitHttp.pack.fetch");
                assert_true(str_eq(
                        route_param(&route, STR("repository")), str_of(cases[i].repository)));
                struct str project = route_param(&route, STR("project"));
                assert_true(str_eq(project, str_of(cases[i].project)));
                size_t n = 0;
                for (size_t k = 0; k + 1 < route.n_segments; k++)
                        n += (size_t)snprintf(
                                sent + n, sizeof(sent) - n, "/%.*s", STR_FMT(route.segments[k]));
                assert_string_equal(sent, cases[i].sent);
        }
        static const struct naming pages[] = {
                {"GET /c/p/_git/r", "unknown"},
                {"GET /c/p/_git/r?version=GBmain", "unknown"},
                {"GET /c/p/_build", "portal.pages.any"},
                {"GET /c/p/build", "unknown"},
                {"GET /c/_git/p/_git/r", "unknown"},
                {"DELETE /c/Service.asmx", "legacy.soap.any"},
        };
        CHECK(pages);
}

static void literals_fold_and_come_back_in_the_catalogues_spelling(void **state)
{
        (void)state;
        struct request request;
        struct route route;
        assert_int_equal(
                match(&request, "GET /Contoso/My Project/_APIS/Git/REPOSITORIES/Repo/pullRequests",
                        &route),
                ROUTE_FOUND);
        assert_string_equal(route.op->id, "git.pullRequests.list");
        static const char *const expected[] = {
                "Contoso", "My Project", "_apis", "git", "repositories", "Repo", "pullrequests"};
        assert_int_equal(route.n_segments, 7);
        for (size_t i = 0; i < 7; i++)
                assert_true(str_eq(route.segments[i], str_of(expected[i])));
        assert_int_equal(route.n_params, 3);
        assert_true(str_eq(route_param(&route, STR("REPOSITORYID")), STR("Repo")));
        assert_null(route_param(&route, STR("nothing")).ptr);
}

static void typed_parameters_reject(void **state)
{
        (void)state;
        static const struct {
                const char *id;
                bool taken;
        } cases[] = {
                {"42", true},
                {"0", true},
                {"042", false},
                {"+42", false},
                {"-0", false},
                {"42 ", false},
                {"4 2", false},
                {"42a", false},
                {"0x2a", false},
                {"999999999999999999", true},
                {"9999999999999999999999", false},
                {GUID, false},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char line[256];
                snprintf(line, sizeof(line), "GET /c/p/_apis/build/builds/%s", cases[i].id);
                assert_string_equal(named(line), cases[i].taken ? "build.builds.get" : "unknown");
        }
        static const struct naming uuids[] = {
                {"GET /c/_apis/work/processes/6CE954B1-CE1F-45D1-B94D-E6BF2464BA2C",
                        "processes.processes.get"},
                {"GET /c/_apis/work/processes/{" GUID "}", "unknown"},
                {"GET /c/_apis/work/processes/6ce954b1ce1f45d1b94de6bf2464ba2c", "unknown"},
                {"DELETE /c/p/_apis/git/repositories/name", "unknown"},
                {"DELETE /c/p/_apis/git/repositories/" GUID, "git.repositories.delete"},
                {"GET /c/p/_apis/git/repositories/" GUID, "git.repositories.get"},
        };
        CHECK(uuids);
}

static void encoded_slashes_stand_only_in_scoped_package_names(void **state)
{
        (void)state;
        static const struct naming cases[] = {
                {"GET /c/a%2fb/_apis/build/builds", "refused"},
                {"GET /c/p/_apis/git/repositories/r/refs/heads%2fmain", "refused"},
                {"GET /c/nothing/that/is%2fknown", "refused"},
                {"GET /~pkgs/c/p/_packaging/f/npm/registry/@s%2fn", "packages.npm.get"},
                {"GET /~pkgs/c/p/_packaging/f/npm/registry/s%2fn", "refused"},
                {"GET /~pkgs/c/p/_packaging/f/npm/registry/@s%2f..", "refused"},
                {"GET /~pkgs/c/p/_packaging/f/npm/registry/@%2fn", "refused"},
                {"GET /~pkgs/c/p/_packaging/f/npm/registry/@s%2fn%2fm", "refused"},
                {"GET /~pkgs/c/@s%2fn/_packaging/f/npm/registry/x", "refused"},
                {"GET /~pkgs/c/p/_packaging/f/nuget/v3/@s%2fn", "refused"},
                {"GET /npm/registry/@s%2fn/_apis/build/builds", "refused"},
        };
        CHECK(cases);
        struct request request;
        struct route route;
        assert_int_equal(
                match(&request, "GET /~pkgs/c/_packaging/f@Local/npm/registry/@s%2fn/-/n.tgz",
                        &route),
                ROUTE_FOUND);
        assert_int_equal(route.encoded_slash, 1 << 5);
        assert_true(str_eq(route.segments[5], STR("@s/n")));
        assert_int_equal(route.greedy_from, 5);
        struct buf whole;
        char memory[64];
        buf_init_fixed(&whole, memory, sizeof(memory));
        route_param_write(&route, (size_t)route.greedy_param, &whole);
        assert_true(str_eq(buf_str(&whole), STR("@s/n/-/n.tgz")));
        assert_int_equal(
                match(&request, "DELETE /~pkgs/c/_apis/packaging/feeds/f/npm/@s%2fn/versions/1",
                        &route),
                ROUTE_FOUND);
        assert_int_equal(route.encoded_slash, 0);
        assert_true(str_eq(route_param(&route, STR("packageScope")), STR("s")));
        assert_true(str_eq(route_param(&route, STR("unscopedPackageName")), STR("n")));
        assert_int_equal(route.n_segments, request.query.n_segments + 1);
}

#define NPM(method, rest) method " /~pkgs/c/p/_packaging/f/npm/registry/" rest

/* What is put there is what is left: versions that it leaves out are deleted. */
static void a_revision_of_an_npm_package_that_is_put_removes_versions(void **state)
{
        (void)state;
        static const struct naming cases[] = {
                {NPM("PUT", "x"), "packages.npm.publish"},
                {NPM("PUT", "@s%2fx"), "packages.npm.publish"},
                {NPM("PUT", "-/package/x/dist-tags/latest"), "packages.npm.publish"},
                {NPM("PUT", "x/-rev/3"), "packages.npm.unpublishVersions"},
                {NPM("PUT", "x/-REV/3"), "packages.npm.unpublishVersions"},
                {NPM("PUT", "@s/x/-rev/3"), "packages.npm.unpublishVersions"},
                {NPM("PUT", "@s%2fx/-rev/3"), "packages.npm.unpublishVersions"},
                {NPM("PUT", "s%2fx/-rev/3"), "refused"},
                {"PUT /~pkgs/c/_packaging/f/npm/registry/x/-rev/3",
                        "packages.npm.unpublishVersions"},
                {"PUT /~pkgs/c/_packaging/f/npm/registry/@s/x/-rev/3",
                        "packages.npm.unpublishVersions"},
                {NPM("DELETE", "x/-rev/3"), "packages.npm.unpublish"},
                {NPM("DELETE", "@s/x/-rev/3"), "packages.npm.unpublish"},
                {NPM("DELETE", "@s%2fx/-rev/3"), "packages.npm.unpublish"},
                {NPM("DELETE", "x/-/x-1.0.0.tgz/-rev/3"), "packages.npm.unpublish"},
                {NPM("GET", "@s/x/-rev/3"), "packages.npm.get"},
        };
        CHECK(cases);
        const struct operation *op = catalogue_find(STR("packages.npm.unpublishVersions"));
        assert_non_null(op);
        assert_int_equal(op->access, ACCESS_DELETE);
}

static void services_and_methods_bound_what_exists(void **state)
{
        (void)state;
        static const struct naming cases[] = {
                {"GET /~vsrm/c/p/_apis/release/releases", "release.releases.list"},
                {"GET /c/p/_apis/release/releases", "unknown"},
                {"HEAD /c/p/_apis/build/builds", "build.builds.list"},
                {"HEAD /c/_apis/connectionData", "discovery.connectionData.head"},
                {"HEAD /c/p/_apis/pipelines/42/runs/", "pipelines.runs.list"},
                {"get /c/p/_apis/build/builds", "unknown"},
                {"DELETE /c/p/_apis/build/builds", "unknown"},
                {"PROPFIND /c/_apis/sbs/x", "legacy.sbs.any"},
                {"GET /", "unknown"},
                {"GET /c", "unknown"},
                {"GET /c/p", "unknown"},
                {"GET /_apis/_apis/projects", "unknown"},
                {"GET /c/_private/_apis/build/builds", "unknown"},
                {"GET /~pkgs/c/_packaging/f/pypi/simple", "packages.pypi.simple"},
                {"GET /~pkgs/c/_packaging/f/nuget/v3/index.json", "packages.nuget.serviceIndex"},
                {"GET /~pkgs/c/_packaging/f/nuget/v2/a/b", "packages.nuget.getV2"},
                {"PUT /~pkgs/c/_packaging/f/maven/v1", "unknown"},
                {"GET /a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u/v/w/x/y/z/1/2/3/4/5/6/7/8/9/0/a/b/"
                 "c/d/e/f/g",
                        "unknown"},
        };
        CHECK(cases);
}

static void lfs_batch_is_named_by_its_body(void **state)
{
        (void)state;
        static const struct {
                const char *body;
                enum route_result result;
                const char *id;
        } cases[] = {
                {NULL, ROUTE_NEEDS_BODY, "gitHttp.lfs.batch"},
                {"{\"operation\":\"download\"}", ROUTE_FOUND, "gitHttp.lfs.batchDownload"},
                {"{\"operation\":\"upload\",\"objects\":[]}", ROUTE_FOUND, "gitHttp.lfs.batch"},
                {"{\"Operation\":\"Upload\"}", ROUTE_FOUND, "gitHttp.lfs.batch"},
                {"{\"operation\":\"verify\"}", ROUTE_REFUSED, NULL},
                {"{\"operation\":\"download\",\"OPERATION\":\"upload\"}", ROUTE_REFUSED, NULL},
                {"{\"operation\":\"download\",\"operation\":\"upload\"}", ROUTE_REFUSED, NULL},
                {"{\"operation\":1}", ROUTE_REFUSED, NULL},
                {"[]", ROUTE_REFUSED, NULL},
                {"", ROUTE_REFUSED, NULL},
                {"{\"operation\":\"download\"} x", ROUTE_REFUSED, NULL},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct request request;
                struct route route;
                const char *why = NULL;
                request_read(&request, "POST /c/p/_git/r.git/info/lfs/objects/batch");
                request.query.body = str_of(cases[i].body);
                assert_int_equal(catalogue_match(&request.query, &route, &why), cases[i].result);
                if (cases[i].id)
                        assert_string_equal(route.op->id, cases[i].id);
                else
                        assert_non_null(why);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(colliding_templates_are_told_apart),
                cmocka_unit_test(the_query_tells_operations_of_one_template_apart),
                cmocka_unit_test(git_has_many_addresses),
                cmocka_unit_test(literals_fold_and_come_back_in_the_catalogues_spelling),
                cmocka_unit_test(typed_parameters_reject),
                cmocka_unit_test(encoded_slashes_stand_only_in_scoped_package_names),
                cmocka_unit_test(a_revision_of_an_npm_package_that_is_put_removes_versions),
                cmocka_unit_test(services_and_methods_bound_what_exists),
                cmocka_unit_test(lfs_batch_is_named_by_its_body),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
