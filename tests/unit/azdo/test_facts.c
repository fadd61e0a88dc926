/* What requests say beside their resources, and that every name of the table can be said. */
#include "request.h"

#include "dagward/azdo/resources.h"
#include "dagward/base/buf.h"

struct fact_case {
        const char *request, *body;
        const char *said; /* "name=value name[key]=value", "400", or "unread" */
};

static void write_facts(const struct facts *facts, struct buf *out)
{
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);

        for (size_t i = 0; facts && i < facts->n; i++) {
                const struct fact *fact = &facts->items[i];
                if (out->len)
                        buf_char(out, ' ');
                buf_str_add(out, str_of(kinds[fact->kind].name));
                if (kinds[fact->kind].is_map)
                        buf_printf(out, "[%.*s]", STR_FMT(fact->key));
                buf_printf(out, "=%.*s", STR_FMT(fact->value));
        }
        if (facts && facts->unread)
                BUF_LITERAL(out, "unread");
}

static void check(const struct fact_case *one)
{
        struct arena arena;
        struct request request;
        struct route route;
        struct resources resources;
        struct facts *facts;
        const char *why = NULL;
        struct buf said;

        arena_init(&arena, 16384, 1 << 20);
        buf_init(&said, 1 << 16);
        request_read(&request, one->request);
        assert_int_equal(catalogue_match(&request.query, &route, &why), ROUTE_FOUND);
        if (!resources_gather(
                    &route, &request.query, str_of(one->body), &arena, &resources, &facts, &why))
                BUF_LITERAL(&said, "400");
        else
                write_facts(facts, &said);
        if (!str_eq(buf_str(&said), str_of(one->said)))
                fail_msg("%s %s: %.*s (%s)", one->request, one->body ? one->body : "-",
                        STR_FMT(buf_str(&said)), why ? why : "");
        buf_clear(&said);
        arena_clear(&arena);
}

#define RUN "POST /c/p/_apis/pipelines/42/runs"
#define BUILD "POST /c/p/_apis/build/builds"
#define REPOSITORY "POST /c/p/_apis/git/repositories/r"
#define FEED "POST /~pkgs/c/p/_apis/packaging/feeds/f"
#define PULL "PATCH /c/p/_apis/git/repositories/r/pullrequests/7"

static void bodies_and_queries_say_facts(void **state)
{
        static const struct fact_case cases[] = {
                {RUN, "", ""},
                {RUN, NULL, "unread"},
                {RUN,
                        "{\"templateParameters\":{\"env\":\"a "
                        "b\",\"n\":7,\"on\":true,\"list\":[1,{\"b\":2,\"a\":1}]}}",
                        "templateParameters[env]=a b templateParameters[n]=7 "
                        "templateParameters[on]=true "
                        "templateParameters[list]=[1,{\"a\":1,\"b\":2}]"},
                {RUN,
                        "{\"variables\":{\"a\":{\"value\":\"1\",\"isSecret\":true},\"b\":\"2\","
                        "\"c\":{\"isSecret\":true}}}",
                        "variables[a]=1 variables[b]=2 variables[c]="},
                {RUN, "{\"StagesToSkip\":[\"a\",\"b\"],\"previewRun\":false,\"yamlOverride\":null}",
                        "stagesToSkip=a stagesToSkip=b previewRun=false"},
                {RUN,
                        "{\"resources\":{\"repositories\":{\"self\":{\"token\":\"t\",\"version\":"
                        "\"v\"}},\"pipelines\":{\"up\":{\"version\":\"9\"}}}}",
                        "repositoryVersions[self]=v repositoryTokens[self]=t "
                        "pipelineVersions[up]=9"},
                {RUN, "{\"stagesToSkip\":\"a\"}", "400"},
                {RUN, "{\"templateParameters\":[]}", "400"},
                {RUN, "{\"variables\":{\"a\":{\"value\":1,\"Value\":2}}}", "400"},
                {BUILD,
                        "{\"definition\":{\"id\":1},\"parameters\":\"{\\\"a\\\":\\\"1\\\","
                        "\\\"b\\\":2}\",\"queue\":{\"id\":3}}",
                        "parameters[a]=1 parameters[b]=2 queue=3"},
                {BUILD, "{\"parameters\":\"\",\"reason\":null}", ""},
                {BUILD, "{\"parameters\":\"{\\\"a\\\":1,\\\"a\\\":2}\"}", "400"},
                {BUILD, "{\"parameters\":\"[1]\"}", "400"},
                {BUILD, "{\"parameters\":\"{\"}", "400"},
                {BUILD "?sourceBuildId=7", "", "sourceBuildId=7"},
                {PULL,
                        "{\"status\":\"completed\",\"completionOptions\":{\"bypassPolicy\":true,"
                        "\"autoCompleteIgnoreConfigIds\":[1,2]}}",
                        "status=completed bypassPolicy=true autoCompleteIgnoreConfigIds=1 "
                        "autoCompleteIgnoreConfigIds=2"},
                {PULL, "{\"completionOptions\":{\"squashMerge\":true}}", "mergeStrategy=squash"},
                {PULL, "{\"completionOptions\":{\"SquashMerge\":\"True\"}}",
                        "mergeStrategy=squash"},
                {PULL, "{\"completionOptions\":{\"squashMerge\":1}}", "mergeStrategy=squash"},
                {PULL, "{\"completionOptions\":{\"squashMerge\":false}}", ""},
                {PULL, "{\"completionOptions\":{\"squashMerge\":null}}", ""},
                {PULL,
                        "{\"completionOptions\":{\"mergeStrategy\":\"rebase\",\"squashMerge\":true}"
                        "}",
                        "mergeStrategy=rebase mergeStrategy=squash"},
                {PULL,
                        "{\"completionOptions\":{\"mergeStrategy\":\"squash\",\"squashMerge\":"
                        "false}}",
                        "mergeStrategy=squash"},
                {"PATCH /c/p/_apis/wit/workitems/7?bypassRules=true",
                        "[{\"op\":\"add\",\"path\":\"/Fields/System.State\",\"value\":\"Done\"},"
                        "{\"op\":\"remove\",\"path\":\"/relations/0\"}]",
                        "fields[System.State]=Done relations[0]= bypassRules=true"},
                {"DELETE /c/p/_apis/wit/workitems/7?destroy=true", "", "destroy=true"},
                {"GET /c/p/_apis/pipelines/42/runs/7/logs?$expand=signedContent", "",
                        "expand=signedContent"},
                {"GET /c/_apis/resources/Containers/9?itemPath=drop&includeDownloadTickets=true",
                        "", "includeDownloadTickets=true"},
                {"GET /c/p/_apis/build/builds/7/artifacts?IncludeDownloadTickets=true", "",
                        "includeDownloadTickets=true"},
                {"GET /~vsrm/c/p/_apis/release/releases/7?includeDownloadTicket=1", "",
                        "includeDownloadTickets=1"},
                {"GET /c/p/_apis/build/builds", "", ""},
                /* A file that is moved is gone where it was. */
                {REPOSITORY "/pushes",
                        "{\"commits\":[{\"changes\":[{\"changeType\":\"rename\","
                        "\"sourceServerItem\":"
                        "\"/a\",\"item\":{\"path\":\"/b\"}},{\"originalPath\":\"/c\"}]}]}",
                        "paths=/b paths=/a paths=/c changeTypes=rename"},
                {REPOSITORY "/refs",
                        "[{\"name\":\"refs/heads/"
                        "a\",\"newObjectId\":\"00\"},{\"newObjectId\":\"0a\"},"
                        "{\"newObjectId\":null,\"isLocked\":true}]",
                        "newObjectIds=00 newObjectIds=0a deletesRef=true deletesRef=true "
                        "isLocked=true"},
                {REPOSITORY "/refs", "[{\"newObjectId\":\" \"}]", "newObjectIds=  deletesRef=true"},
                {REPOSITORY "/refs", "[{\"name\":\"refs/heads/a\"},{\"newObjectId\":\"0a\"}]",
                        "newObjectIds=0a deletesRef=true"},
                {REPOSITORY "/refs", "[]", ""},
                {REPOSITORY "/importRequests",
                        "{\"parameters\":{\"deleteServiceEndpointAfterImportIsDone\":true,"
                        "\"gitSource\":{\"url\":\"u\",\"overwrite\":true},\"tfvcSource\":{\"path\":"
                        "\"$/q\"}}}",
                        "sourceUrl=u sourcePath=$/q overwrite=true deletesServiceEndpoint=true"},
                {REPOSITORY "/pullrequests",
                        "{\"completionOptions\":{\"deleteSourceBranch\":true},\"reviewers\":[{"
                        "\"vote\":"
                        "10}]}",
                        "deleteSourceBranch=true vote=10"},
                {REPOSITORY "/pullRequests/7/iterations/1/statuses",
                        "{\"state\":\"succeeded\",\"context\":{\"genre\":\"g\",\"name\":\"n\"}}",
                        "contextGenre=g contextName=n state=succeeded"},
                {"POST /~vsrm/c/p/_apis/release/releases",
                        "{\"environmentsMetadata\":[{\"variables\":{\"a\":{\"value\":\"1\"}}}]}",
                        "variables[a]=1"},
                {"PUT /~vsrm/c/p/_apis/release/releases/7",
                        "{\"variables\":{\"a\":{\"value\":\"1\"}},\"environments\":[{\"variables\":"
                        "{"
                        "\"b\":{\"value\":\"2\"}}}]}",
                        "variables[a]=1 variables[b]=2"},
                {"PATCH /c/p/_apis/build/builds/7", "{\"deleted\":true}", "deleted=true"},
                {"PATCH /c/p/_apis/build/definitions/7?deleted=true", "", "deleted=true"},
                /* Each phase of a designed process may have a queue of its own. */
                {"PUT /c/p/_apis/build/definitions/7",
                        "{\"queue\":{\"id\":2},\"process\":{\"type\":1,\"phases\":[{\"target\":{"
                        "\"queue\":{\"id\":3}}},{}]}}",
                        "queue=2 queue=3"},
                {RUN, "{\"resources\":{\"pipelines\":{\"up\":{\"runId\":7}}}}",
                        "pipelineVersions[up]=7"},
                /* Each kind of package calls its batches otherwise. */
                {FEED "/nuget/packagesbatch", "{\"operation\":\"delete\"}", "packageAction=delete"},
                {FEED "/npm/packagesbatch", "{\"operation\":\"delete\"}", "packageAction=delete"},
                {FEED "/npm/RecycleBin/PackagesBatch", "{\"Operation\":\"permanentDelete\"}",
                        "packageAction=permanentDelete"},
                {FEED "/maven/RecycleBin/packagesBatch", "{\"operation\":\"permanentDelete\"}",
                        "packageAction=permanentDelete"},
                {FEED "/pypi/RecycleBin/packagesBatch", "{\"operation\":\"restoreToFeed\"}",
                        "packageAction=restoreToFeed"},
                /* What a reader upstream puts another object in place of. */
                {RUN,
                        "{\"variables\":{\"a\":{\"$id\":\"1\",\"value\":\"x\"},\"b\":{\"$ref\":"
                        "\"1\"}}}",
                        "400"},
                {RUN, "{\"variables\":{\"b\":{\"\\u0024ref\":\"1\"}}}", "400"},
                {RUN, "{\"stagesToSkip\":{\"$values\":[\"a\"]}}", "400"},
                {RUN, "{\"variables\":{\"$a\":{\"$id\":\"1\",\"value\":\"$ref\"}}}",
                        "variables[$a]=$ref"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                check(&cases[i]);
}

static void more_than_can_be_judged_is_refused(void **state)
{
        char body[8192] = "{\"stagesToSkip\":[0";

        (void)state;
        for (int i = 1; i < FACTS_MAX; i++)
                strcat(body, ",1");
        struct fact_case one = {RUN, body, "400"};
        strcat(body, ",1]}");
        check(&one);
}

static void every_name_is_said_by_some_operation(void **state)
{
        size_t n, n_ops;
        const struct fact_kind *kinds = facts_all(&n);
        const struct operation *ops = catalogue_all(&n_ops);

        (void)state;
        for (unsigned i = 0; i < n; i++) {
                bool found = false;
                unsigned kind;
                assert_true(fact_named(str_of(kinds[i].name), &kind) && kind == i);
                for (size_t k = 0; k < n_ops && !found; k++)
                        found = operation_has_fact(&ops[k], i);
                if (!found)
                        fail_msg("%s", kinds[i].name);
        }
}

static void grave_is_what_is_guarded_and_not_denied(void **state)
{
        unsigned bypass, expand, status;

        (void)state;
        assert_true(fact_named(STR("bypassPolicy"), &bypass) &&
                    fact_named(STR("expand"), &expand) && fact_named(STR("status"), &status));
        assert_true(fact_is_grave(&(struct fact){bypass, STR(""), STR("true")}));
        assert_true(fact_is_grave(&(struct fact){bypass, STR(""), STR("1")}));
        assert_true(fact_is_grave(&(struct fact){bypass, STR(""), STR("")}));
        assert_false(fact_is_grave(&(struct fact){bypass, STR(""), STR("False")}));
        assert_false(fact_is_grave(&(struct fact){expand, STR(""), STR("none")}));
        assert_true(fact_is_grave(&(struct fact){expand, STR(""), STR("signedContent")}));
        assert_false(fact_is_grave(&(struct fact){status, STR(""), STR("completed")}));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bodies_and_queries_say_facts),
                cmocka_unit_test(more_than_can_be_judged_is_refused),
                cmocka_unit_test(every_name_is_said_by_some_operation),
                cmocka_unit_test(grave_is_what_is_guarded_and_not_denied),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
