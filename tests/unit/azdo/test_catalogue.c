#include "request.h"

#include <jansson.h>

static const char *const data_files[] = {"operations.json", "operations-extra.json"};

typedef void visit(const json_t *op, void *context);

static void each_operation(visit *function, void *context)
{
        for (size_t i = 0; i < 2; i++) {
                char path[512];
                json_error_t error;
                snprintf(path, sizeof(path), "%s/src/azdo/data/%s", SOURCE_DIR, data_files[i]);
                json_t *all = json_load_file(path, 0, &error), *op;
                assert_non_null(all);
                size_t k;
                json_array_foreach(all, k, op) function(op, context);
                json_decref(all);
        }
}

static const char *text_of(const json_t *op, const char *name)
{
        const char *text = json_string_value(json_object_get(op, name));
        return text ? text : "";
}

static const struct operation *known(const json_t *op)
{
        const struct operation *found = catalogue_find(str_of(text_of(op, "id")));
        assert_non_null(found);
        return found;
}

static void check_entry(const json_t *op, void *context)
{
        const struct operation *found = known(op);
        assert_string_equal(found->id, text_of(op, "id"));
        assert_string_equal(found->path, text_of(op, "path"));
        assert_string_equal(found->method, text_of(op, "method"));
        assert_string_equal(access_name(found->access), text_of(op, "access"));
        assert_string_equal(found->location_id, text_of(op, "location_id"));
        const json_t *scopes = json_object_get(op, "scopes");
        assert_int_equal(found->n_scopes, json_array_size(scopes));
        for (size_t i = 0; i < found->n_scopes; i++)
                assert_string_equal(found->scopes[i], json_string_value(json_array_get(scopes, i)));
        assert_null(found->scopes[found->n_scopes]);
        const char *host = text_of(op, "host");
        if (strcmp(host, "*") == 0)
                assert_true(found->any_service);
        else
                assert_string_equal(service_host(found->service), host);
        assert_int_equal(found->anonymous, json_is_true(json_object_get(op, "anonymous")));
        ++*(size_t *)context;
}

static void every_entry_of_the_data_is_in_the_table_as_it_stands(void **state)
{
        (void)state;
        size_t n, seen = 0;
        const struct operation *all = catalogue_all(&n);
        each_operation(check_entry, &seen);
        assert_int_equal(n, seen);
        assert_int_equal(n, 1194 + 69 + 9 /* parts of gitHttp.pack.push */);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(all[i].index, i);
}

/* What a parameter is given in the test below. */
static const char *sample(const json_t *op, const char *name)
{
        const char *type = text_of(json_object_get(op, "param_types"), name);
        if (strcmp(type, "integer") == 0)
                return "42";
        if (strcmp(type, "uuid") == 0)
                return "0a1b2c3d-0000-4000-8000-00000000beef";
        if (strcmp(name, "page") == 0)
                return "_build";
        if (strcmp(name, text_of(op, "greedy")) == 0 && strcmp(name, "projectId") != 0)
                return "deep/er/value";
        return "some value";
}

static void fill(const json_t *op, const char *path, unsigned absent, char out[1024])
{
        size_t n = 0, optional = 0;
        for (const char *c = path; *c;) {
                const char *close = *c == '{' ? strchr(c, '}') : NULL;
                if (!close) {
                        out[n++] = *c++;
                        continue;
                }
                char name[64];
                snprintf(name, sizeof(name), "%.*s", (int)(close - c - 1), c + 1);
                bool may = false;
                size_t i;
                json_t *item;
                json_array_foreach(json_object_get(op, "optional"), i, item) may |=
                        strcmp(json_string_value(item), name) == 0;
                if (may && (absent >> optional++ & 1))
                        n--; /* the slash too */
                else
                        n += (size_t)sprintf(out + n, "%s", sample(op, name));
                c = close + 1;
        }
        out[n] = '\0';
}

static void must_match(const json_t *op, const char *path, unsigned absent)
{
        if (*text_of(op, "part_of")) /* what requests of another one turn out to be */
                return;
        char filled[1024], line[2000], body[256] = "";
        const struct operation *expected = known(op);
        fill(op, path, absent, filled);
        const json_t *discriminator = json_object_get(op, "discriminator");
        const char *method = text_of(op, "method");
        int n = snprintf(line, sizeof(line), "%s /~%s%s?api-version=7.1",
                strcmp(method, "*") == 0 ? "POST" : method, service_name(expected->service),
                filled);
        size_t i;
        json_t *value;
        const char *name;
        json_array_foreach(json_object_get(discriminator, "query_present"), i, value) n +=
                snprintf(line + n, sizeof(line) - (size_t)n, "&%s=1", json_string_value(value));
        json_object_foreach(json_object_get(discriminator, "query_equals"), name, value) n +=
                snprintf(line + n, sizeof(line) - (size_t)n, "&%s=%s", name,
                        json_string_value(value));
        json_object_foreach(json_object_get(discriminator, "body_equals"), name, value)
                snprintf(body, sizeof(body), "{\"%s\":\"%s\"}", name, json_string_value(value));
        struct request request;
        request_read(&request, line);
        struct route route;
        const char *why = "";
        if (*body) {
                assert_int_equal(catalogue_match(&request.query, &route, &why), ROUTE_NEEDS_BODY);
                request.query.body = str_of(body);
        }
        enum route_result result = catalogue_match(&request.query, &route, &why);
        if (result != ROUTE_FOUND || route.op != expected)
                fail_msg("%s: %s is result %d, %s %s", expected->id, line, (int)result,
                        result == ROUTE_FOUND ? route.op->id : "", why);
        assert_int_equal(route.n_segments, request.query.n_segments);
}

static void match_forms(const json_t *op, const char *path)
{
        size_t n = json_array_size(json_object_get(op, "optional"));
        must_match(op, path, 0);
        if (n > 0)
                must_match(op, path, (1U << n) - 1);
        if (n > 1)
                must_match(op, path, 1U << (n - 1));
}

static void check_templates(const json_t *op, void *context)
{
        (void)context;
        match_forms(op, text_of(op, "path"));
        size_t i;
        json_t *path;
        json_array_foreach(json_object_get(op, "older_paths"), i, path)
                match_forms(op, json_string_value(path));
        json_array_foreach(json_object_get(op, "variants"), i, path)
        {
                char whole[512];
                snprintf(whole, sizeof(whole), "%s%s", json_string_value(path),
                        strchr(strstr(text_of(op, "path"), "{repository}"), '}') + 1);
                match_forms(op, whole);
        }
        if (*text_of(op, "tail")) {
                char whole[512];
                snprintf(whole, sizeof(whole), "%s/extra/segments", text_of(op, "path"));
                const char *only = text_of(op, "id");
                /* The tail stands for the query parameter, so it chooses among siblings. */
                if (strcmp(only, "tfvc.branches.list") != 0 &&
                        strcmp(only, "tfvc.branches.getBranchRefs") != 0 &&
                        strcmp(only, "tfvc.items.list") != 0)
                        must_match(op, whole, 0);
        }
}

static void every_operation_matches_itself_in_all_its_forms(void **state)
{
        (void)state;
        each_operation(check_templates, NULL);
}

static void every_alias_stands_for_operations_that_exist(void **state)
{
        (void)state;
        size_t n;
        const struct operation_alias *aliases = catalogue_aliases(&n);
        for (size_t i = 0; i < n; i++) {
                struct operation_set set = {{0}};
                assert_true(catalogue_alias(str_of(aliases[i].name), &set));
                for (const char *const *id = aliases[i].ids; *id; id++) {
                        const struct operation *op = catalogue_find(str_of(*id));
                        assert_non_null(op);
                        assert_true(operation_set_has(&set, op->index));
                }
                assert_null(catalogue_find(str_of(aliases[i].name)));
        }
        struct operation_set none = {{0}};
        assert_false(catalogue_alias(STR("git.nothing"), &none));
}

static void a_pattern_selects_ids_and_aliases(void **state)
{
        (void)state;
        static const struct {
                const char *pattern;
                size_t n;
                const char *has, *lacks;
        } cases[] = {
                {"build.builds.queue", 1, "build.builds.queue", "build.builds.list"},
                {"BUILD.builds.QUEUE", 1, "build.builds.queue", "build.builds.list"},
                {"git.push", 11, "gitHttp.pack.push", "gitHttp.pack.fetch"},
                {"git.push", 11, "gitHttp.push.deleteTag", "gitHttp.pack.fetch"},
                {"gitHttp.pack.push", 10, "gitHttp.push.createRef", "gitHttp.pack.fetch"},
                {"git.branch.delete", 1, "gitHttp.push.deleteBranch", "gitHttp.pack.push"},
                {"git.lfs.*", 8, "gitHttp.lfs.putObject", "gitHttp.pack.push"},
                {"pipelines.runs.*", 3, "pipelines.runs.run", "pipelines.pipelines.get"},
                {"legacy.soap.any", 1, "legacy.soap.any", "portal.pages.any"},
                {"legacy.*", 0, NULL, "legacy.soap.any"},
                {"build.builds.que", 0, NULL, "build.builds.queue"},
                {"", 0, NULL, "build.builds.queue"},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct operation_set set = {{0}};
                assert_int_equal(catalogue_select(str_of(cases[i].pattern), &set), cases[i].n);
                if (cases[i].has)
                        assert_true(operation_set_has(
                                &set, catalogue_find(str_of(cases[i].has))->index));
                assert_false(
                        operation_set_has(&set, catalogue_find(str_of(cases[i].lacks))->index));
        }
        struct operation_set all = {{0}};
        size_t n, by_name = 0;
        const struct operation *operations = catalogue_all(&n);
        for (size_t i = 0; i < n; i++)
                by_name += (operations[i].risks & RISK_BY_NAME_ONLY) != 0;
        assert_int_equal(by_name, 14);
        assert_int_equal(catalogue_select(STR("*"), &all), n - by_name);
}

static void hosts_and_short_names_are_services(void **state)
{
        (void)state;
        static const struct {
                const char *host;
                int service; /* -1: none */
                const char *organization;
        } cases[] = {
                {"dev.azure.com", SERVICE_DEV, NULL},
                {"DEV.azure.com:443", SERVICE_DEV, NULL},
                {"vsrm.dev.azure.com", SERVICE_VSRM, NULL},
                {"app.vssps.visualstudio.com", SERVICE_APP, NULL},
                {"contoso.visualstudio.com", SERVICE_DEV, "contoso"},
                {"contoso.pkgs.visualstudio.com", SERVICE_PKGS, "contoso"},
                {"contoso.vsrm.visualstudio.com", SERVICE_VSRM, "contoso"},
                {"contoso.app.visualstudio.com", -1, NULL},
                {"marketplace.visualstudio.com", -1, NULL},
                {"spsprodweu1.vssps.visualstudio.com", -1, NULL},
                {"a.b.vsrm.visualstudio.com", -1, NULL},
                {".visualstudio.com", -1, NULL},
                {"visualstudio.com", -1, NULL},
                {"evil-dev.azure.com", -1, NULL},
                {"", -1, NULL},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                enum service service;
                struct str organization;
                bool found = service_of_host(str_of(cases[i].host), &service, &organization);
                assert_int_equal(found, cases[i].service >= 0);
                if (found) {
                        assert_int_equal((int)service, cases[i].service);
                        assert_true(str_eq(organization, str_of(cases[i].organization)));
                }
        }
        for (unsigned i = 0; i < SERVICE_COUNT; i++) {
                enum service service;
                assert_true(service_named(str_of(service_name((enum service)i)), &service));
                assert_int_equal(service, i);
        }
        enum access access;
        assert_true(access_named(STR("Execute"), &access));
        assert_int_equal(access, ACCESS_EXECUTE);
        assert_false(access_named(STR("exec"), &access));
}

static void resource_areas_name_services_of_the_catalogue(void **state)
{
        (void)state;
        size_t n;
        const struct resource_area *areas = catalogue_resource_areas(&n);
        assert_int_equal(n, 45); /* 46, and one on a host without operations */
        bool release = false;
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(strlen(areas[i].id), 36);
                release |= areas[i].service == SERVICE_VSRM;
        }
        assert_true(release);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_entry_of_the_data_is_in_the_table_as_it_stands),
                cmocka_unit_test(every_operation_matches_itself_in_all_its_forms),
                cmocka_unit_test(every_alias_stands_for_operations_that_exist),
                cmocka_unit_test(a_pattern_selects_ids_and_aliases),
                cmocka_unit_test(hosts_and_short_names_are_services),
                cmocka_unit_test(resource_areas_name_services_of_the_catalogue),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
