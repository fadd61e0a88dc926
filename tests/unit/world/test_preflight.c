#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "dagward/policy/tests.h"
#include "dagward/world/naming.h"
#include "dagward/world/preflight.h"

#define DATA TEST_DATA "/preflight/"

/* 2027-01-01 */
static const int64_t now_ms = 1798761600000;

/* What error_list_print prints, without the folder; the caller frees. */
static char *printed(struct error_list *errors)
{
        char *text = NULL, *at;
        size_t len = 0;
        FILE *file = open_memstream(&text, &len);

        assert_non_null(file);
        error_list_print(errors, file);
        fclose(file);
        while ((at = strstr(text, DATA)))
                memmove(at, at + strlen(DATA), strlen(at + strlen(DATA)) + 1);
        return text;
}

static void a_good_configuration_passes_with_its_policy_and_files(void **state)
{
        struct preflight p;
        struct error_list errors;

        (void)state;
        error_list_init(&errors);
        bool good = preflight_load(DATA "good.yaml", now_ms, &p, &errors);
        error_list_print(&errors, stderr);
        assert_true(good);
        assert_int_equal(p.policy_files.n, 1); /* named twice, read once */
        assert_string_equal(p.policy_files.names[0], DATA "policy.yaml");
        good = preflight_files(p.config, &errors);
        error_list_print(&errors, stderr);
        assert_true(good);
        const struct policy_test_options options = {.namer = naming_for_policy, .now_ms = now_ms};
        struct policy_test_counts counts = policy_run_tests(p.policy, &options);
        assert_int_equal(counts.passed, 1);
        assert_int_equal(counts.failed, 0);
        preflight_clear(&p);
        error_list_clear(&errors);
}

static void the_example_passes_but_for_files_that_are_not_here(void **state)
{
        struct preflight p;
        struct error_list errors;

        (void)state;
        error_list_init(&errors);
        bool good =
                preflight_load(SOURCE_DIR "/policies/dagward.example.yaml", now_ms, &p, &errors);
        error_list_print(&errors, stderr);
        assert_true(good);
        assert_int_equal(errors.n, 0);
        const struct policy_test_options options = {
                .namer = naming_for_policy, .now_ms = now_ms, .out = stderr};
        struct policy_test_counts counts = policy_run_tests(p.policy, &options);
        assert_true(counts.passed >= 5);
        assert_int_equal(counts.failed, 0);
        preflight_clear(&p);
        error_list_clear(&errors);
}

static void files_that_are_not_what_they_should_be_are_named(void **state)
{
        static const char *const expected[] = {
                "files.yaml:1:55: other.pem: ",
                "files.yaml:3:75: token: neither a JWK set",
                "files.yaml:4:97: none.pem: No such file",
                "files.yaml:4:120: none: No such file",
                "files.yaml:5:40: token: ",
                "files.yaml:6:52: empty: is empty",
                "files.yaml:8:15: no file can be made in the folder `none`: No such file",
        };
        struct preflight p;
        struct error_list errors;

        (void)state;
        error_list_init(&errors);
        assert_true(preflight_load(DATA "files.yaml", now_ms, &p, &errors));
        assert_false(preflight_files(p.config, &errors));
        char *text = printed(&errors);
        const char *at = text;
        assert_int_equal(errors.errors, sizeof(expected) / sizeof(*expected));
        for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
                const char *found = strstr(at, expected[i]);
                if (!found)
                        fail_msg("no `%s` in order in:\n%s", expected[i], text);
                at = found;
        }
        free(text);
        preflight_clear(&p);
        error_list_clear(&errors);
}

static void configuration_policy_and_catalogue_must_know_each_other(void **state)
{
        static const char *const expected[] = {
                "cross.yaml:3:44: `hosts`: `dev.azure.co` is not a host of Azure DevOps; did you "
                "mean `dev.azure.com`?\n",
                "cross.yaml:5:34: `none.yaml` cannot be read: No such file or directory\n",
                "cross.yaml:5:45: `none*.yaml` matches no file\n",
                "strangers.yaml:5:24: ",
                "did you mean `airflow`?\n",
                "strangers.yaml:5:61: ",
                "did you mean `etl`?\n",
        };
        struct preflight p;
        struct error_list errors;

        (void)state;
        error_list_init(&errors);
        assert_false(preflight_load(DATA "cross.yaml", now_ms, &p, &errors));
        char *text = printed(&errors);
        const char *at = text;
        for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
                const char *found = strstr(at, expected[i]);
                if (!found)
                        fail_msg("no `%s` in order in:\n%s", expected[i], text);
                at = found;
        }
        assert_int_equal(errors.errors, 5);
        free(text);
        preflight_clear(&p);
        error_list_clear(&errors);
}

static void a_shadow_policy_is_checked_as_the_live_one_is(void **state)
{
        static const char *const expected[] = {
                "shadow.yaml:5:39: `none.yaml` cannot be read: No such file or directory\n",
                "strangers.yaml:5:24: ",
                "did you mean `airflow`?\n",
                "strangers.yaml:5:61: ",
                "did you mean `etl`?\n",
        };
        struct preflight p;
        struct error_list errors;

        (void)state;
        error_list_init(&errors);
        assert_false(preflight_load(DATA "shadow.yaml", now_ms, &p, &errors));
        assert_non_null(p.policy);
        char *text = printed(&errors);
        const char *at = text;
        for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
                const char *found = strstr(at, expected[i]);
                if (!found)
                        fail_msg("no `%s` in order in:\n%s", expected[i], text);
                at = found;
        }
        assert_int_equal(errors.errors, 3);
        free(text);
        preflight_clear(&p);
        error_list_clear(&errors);
}

static void what_is_wrong_with_a_file_of_both_policies_is_said_once(void **state)
{
        struct preflight p;
        struct error_list errors;

        (void)state;
        error_list_init(&errors);
        assert_true(preflight_load(DATA "both.yaml", now_ms, &p, &errors));
        assert_non_null(p.shadow);
        assert_ptr_not_equal(p.shadow, p.policy);
        assert_string_equal(p.shadow_digest, p.policy_digest);
        assert_int_equal(errors.n, 1);
        assert_non_null(strstr(errors.findings[0].text, "has expired"));
        struct file_list files;
        preflight_policy_files(p.config, &files);
        assert_int_equal(files.n, 1);
        assert_true(file_list_same(&files, &p.policy_files));
        file_list_clear(&files);
        assert_false(file_list_same(&files, &p.policy_files));
        preflight_clear(&p);
        error_list_clear(&errors);
}

static void a_configuration_that_cannot_be_read_leaves_nothing(void **state)
{
        struct preflight p;
        struct error_list errors;

        (void)state;
        error_list_init(&errors);
        assert_false(preflight_load(DATA "nowhere.yaml", now_ms, &p, &errors));
        assert_null(p.config);
        assert_null(p.policy);
        assert_int_equal(errors.errors, 1);
        preflight_clear(&p);
        error_list_clear(&errors);
}

static void the_digest_is_that_of_sha256sum(void **state)
{
        char *const one[] = {DATA "token"}, *const two[] = {DATA "token", DATA "empty"};
        char *const none[] = {DATA "token", DATA "nowhere"};
        char digest[65];
        struct error err;

        (void)state;
        assert_true(preflight_digest(one, 1, digest, &err));
        assert_string_equal(
                digest, "b37e50cedcd3e3f1ff64f4afc0422084ae694253cf399326868e07a35f4a45fb");
        assert_true(preflight_digest(two, 2, digest, &err));
        assert_string_equal(
                digest, "1e0af70c8a76038d0c1aef9072829b42b7c07341e6987c52403d716d9f237079");
        assert_false(preflight_digest(none, 2, digest, &err));
        assert_non_null(strstr(err.text, "nowhere"));
}

static void the_policy_schema_is_the_one_that_ships(void **state)
{
        static char text[1 << 19];
        struct buf out;
        FILE *file = fopen(SOURCE_DIR "/policies/policy.schema.json", "r");

        (void)state;
        assert_non_null(file);
        size_t len = fread(text, 1, sizeof(text), file);
        fclose(file);
        buf_init(&out, sizeof(text));
        policy_schema_write(&out);
        assert_false(out.overflow);
        assert_true(str_eq(buf_str(&out), str_view(text, len)));
        buf_clear(&out);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_good_configuration_passes_with_its_policy_and_files),
                cmocka_unit_test(the_example_passes_but_for_files_that_are_not_here),
                cmocka_unit_test(files_that_are_not_what_they_should_be_are_named),
                cmocka_unit_test(configuration_policy_and_catalogue_must_know_each_other),
                cmocka_unit_test(a_shadow_policy_is_checked_as_the_live_one_is),
                cmocka_unit_test(what_is_wrong_with_a_file_of_both_policies_is_said_once),
                cmocka_unit_test(a_configuration_that_cannot_be_read_leaves_nothing),
                cmocka_unit_test(the_digest_is_that_of_sha256sum),
                cmocka_unit_test(the_policy_schema_is_the_one_that_ships),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
