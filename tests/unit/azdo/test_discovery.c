/* What SDKs are told: every location once, with the template that has all of its parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>

#include "dagward/azdo/discovery.h"

static json_t *locations(const char *area, enum service service, bool anywhere, bool organization)
{
        struct buf out;
        json_error_t error;

        buf_init(&out, 4 << 20);
        discovery_locations_write(str_of(area), service, anywhere, organization, &out);
        assert_false(out.overflow);
        json_t *json = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, &error);
        assert_non_null(json);
        buf_clear(&out);
        assert_int_equal(json_integer_value(json_object_get(json, "count")),
                json_array_size(json_object_get(json, "value")));
        return json;
}

static const json_t *location(const json_t *json, const char *id)
{
        const json_t *found = NULL;
        json_t *one;
        size_t i;

        json_array_foreach(json_object_get(json, "value"), i, one)
        {
                if (strcmp(json_string_value(json_object_get(one, "id")), id) != 0)
                        continue;
                assert_null(found); /* once */
                found = one;
        }
        return found;
}

static void one_base_has_the_locations_of_all_services(void **state)
{
        json_t *all = locations("", SERVICE_DEV, true, true);
        const json_t *runs = location(all, "7859261e-d2e9-4a68-b820-a5d84cc5bb3d");
        const struct operation *ops;
        size_t n;

        (void)state;
        assert_non_null(runs);
        assert_string_equal(json_string_value(json_object_get(runs, "routeTemplate")),
                "{project}/_apis/pipelines/{pipelineId}/runs/{runId}");
        ops = catalogue_all(&n);
        for (size_t i = 0; i < n; i++)
                if (ops[i].location_id[0] &&
                        str_starts(str_of(ops[i].path), STR("/{organization}/")))
                        assert_non_null(location(all, ops[i].location_id));
        json_decref(all);
}

static void a_service_has_its_own(void **state)
{
        json_t *vsrm = locations("", SERVICE_VSRM, false, true);
        json_t *release = locations("Release", SERVICE_DEV, true, true);
        json_t *builds = locations("build", SERVICE_VSRM, false, true);

        (void)state;
        assert_true(json_array_size(json_object_get(vsrm, "value")) >= 10);
        assert_null(location(vsrm, "7859261e-d2e9-4a68-b820-a5d84cc5bb3d"));
        assert_true(json_array_size(json_object_get(release, "value")) >= 10);
        assert_int_equal(json_array_size(json_object_get(builds, "value")), 0);
        json_decref(vsrm);
        json_decref(release);
        json_decref(builds);
}

static void what_belongs_to_no_organization_is_listed_apart(void **state)
{
        json_t *none = locations("", SERVICE_APP, true, false);
        json_t *one;
        size_t i;

        (void)state;
        assert_true(json_array_size(json_object_get(none, "value")) > 0);
        json_array_foreach(json_object_get(none, "value"), i, one) assert_null(
                strstr(json_string_value(json_object_get(one, "routeTemplate")), "{organization}"));
        json_decref(none);
}

static void place(void *owner, enum service service, struct buf *out)
{
        (void)owner;
        buf_printf(out, "https://p/~%s/\"o", service_name(service));
}

static void areas_lead_where_they_are_told_to(void **state)
{
        struct buf out;

        (void)state;
        buf_init(&out, 1 << 20);
        discovery_areas_write(STR_NONE, place, NULL, &out);
        json_t *json = json_loadb(out.data, out.len, 0, NULL);
        assert_true(json_array_size(json_object_get(json, "value")) >= 45);
        json_decref(json);
        /* The two that the Python SDK would look for elsewhere, with the caller's credential. */
        static const char *const sought[] = {
                "0d55247a-1c47-4462-9b1f-5e2125590ee6", "8ccfef3d-2b87-4e99-8ccb-66e343d2daa8"};
        for (size_t i = 0; i < 2; i++) {
                buf_reset(&out);
                discovery_areas_write(str_of(sought[i]), place, NULL, &out);
                assert_true(str_find_str(buf_str(&out), STR("https://p/~")) > 0);
        }
        buf_reset(&out);
        discovery_areas_write(STR("x"), place, NULL, &out);
        assert_true(str_eq(buf_str(&out), STR("null")));
        buf_clear(&out);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(one_base_has_the_locations_of_all_services),
                cmocka_unit_test(a_service_has_its_own),
                cmocka_unit_test(what_belongs_to_no_organization_is_listed_apart),
                cmocka_unit_test(areas_lead_where_they_are_told_to),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
