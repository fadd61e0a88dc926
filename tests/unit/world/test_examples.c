/* The policies that people copy: each loads without a warning, its tests pass, and they reach every
 * entry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dagward/base/clock.h"
#include "dagward/world/naming.h"

static void check_example(const char *path)
{
        const struct policy_test_options options = {
                .namer = naming_for_policy, .now_ms = clock_wall_ms(), .out = stderr};
        struct error_list errors;

        error_list_init(&errors);
        struct policy *policy = policy_load(&path, 1, &errors);
        error_list_print(&errors, stderr);
        assert_non_null(policy);
        assert_int_equal(errors.n, 0);
        struct policy_test_counts counts = policy_run_tests(policy, &options);
        print_message("%s: %zu passed, %zu failed, %zu of %zu entries reached\n", path,
                counts.passed, counts.failed, counts.reached, counts.entries);
        assert_true(counts.passed > 0);
        assert_int_equal(counts.failed, 0);
        assert_int_equal(counts.reached, counts.entries);
        policy_unref(policy);
        error_list_clear(&errors);
}

static void every_example_policy_passes_its_own_tests(void **state)
{
        static const char *const names[] = {"trigger-only", "read-only", "dag-sync",
                "artifact-publisher", "teams", "run-parameters", "airflow-roles", "break-glass",
                "example.policy"};
        char path[512];

        (void)state;
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                snprintf(path, sizeof(path), "%s/policies/%s.yaml", SOURCE_DIR, names[i]);
                check_example(path);
        }
}

static void the_examples_can_be_loaded_together(void **state)
{
        struct error_list errors;
        const char *files[] = {SOURCE_DIR "/policies/trigger-only.yaml",
                SOURCE_DIR "/policies/read-only.yaml", SOURCE_DIR "/policies/dag-sync.yaml",
                SOURCE_DIR "/policies/artifact-publisher.yaml", SOURCE_DIR "/policies/teams.yaml"};

        (void)state;
        error_list_init(&errors);
        struct policy *policy = policy_load(files, 5, &errors);
        error_list_print(&errors, stderr);
        assert_non_null(policy);
        policy_unref(policy);
        error_list_clear(&errors);
}

static void the_guide_names_every_condition(void **state)
{
        size_t n, len;
        const struct fact_kind *kinds = facts_all(&n);
        FILE *file = fopen(SOURCE_DIR "/docs/policy.md", "r");
        static char text[1 << 18];

        (void)state;
        assert_non_null(file);
        len = fread(text, 1, sizeof(text) - 1, file);
        fclose(file);
        for (size_t i = 0; i < n; i++) {
                char row[512];
                snprintf(row, sizeof(row), "| `%s` | %s | %s | ", kinds[i].name,
                        kinds[i].is_map ? "by name" : "values", kinds[i].summary);
                if (str_find_str(str_view(text, len), str_of(row)) < 0)
                        fail_msg("docs/policy.md lacks: %s", row);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_example_policy_passes_its_own_tests),
                cmocka_unit_test(the_examples_can_be_loaded_together),
                cmocka_unit_test(the_guide_names_every_condition),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
