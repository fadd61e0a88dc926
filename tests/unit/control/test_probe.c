/* One attempt to obtain a token, as doctor makes it. */
#include "control_kit.h"

#include "dagward/control/probe.h"

#define TOKEN_PATH "/11111111-1111/oauth2/v2.0/token"
#define JSON_TYPE "Content-Type: application/json\r\n"

struct outcome {
        unsigned calls;
        bool obtained;
        char why[512];
};

static void on_probed(void *owner, const struct credential *credential, const char *why)
{
        struct outcome *outcome = owner;

        outcome->calls++;
        outcome->obtained = credential != NULL;
        snprintf(outcome->why, sizeof(outcome->why), "%s", why);
}

struct rig {
        struct event_base *base;
        struct fetcher *fetcher;
        struct stub *stub;
        char origin[64], file[64];
        struct config_credential config;
        struct outcome outcome;
        struct credential_probe *probe;
};

static void rig_run(struct rig *rig, enum config_credential_type type, const char *content,
        int status, const char *answer)
{
        *rig = (struct rig){.base = event_base_new(), .stub = stub_start()};
        rig->fetcher = fetcher_new(rig->base);
        snprintf(rig->origin, sizeof(rig->origin), "http://127.0.0.1:%u", rig->stub->port);
        snprintf(rig->file, sizeof(rig->file), "/tmp/dagward-probe-XXXXXX");
        close(mkstemp(rig->file));
        file_write(rig->file, content);
        rig->config = (struct config_credential){
                .name = STR("etl"),
                .type = type,
                .tenant = STR("11111111-1111"),
                .client_id = STR("22222222-2222"),
                .scope = STR("s/.default"),
                .authority = {.text = str_of(rig->origin), .loopback = true},
        };
        if (type == CREDENTIAL_STATIC_FILE)
                rig->config.file = str_of(rig->file);
        else
                rig->config.secret_file = str_of(rig->file);
        stub_set(rig->stub, TOKEN_PATH, status, JSON_TYPE, answer);
        log_set_level(LOG_LEVEL_NONE);
        rig->probe = credential_probe_start(
                NULL, &rig->config, rig->base, rig->fetcher, on_probed, &rig->outcome);
        assert_true(turn_until(rig->base, &rig->outcome.calls, 1, 5000));
}

static void rig_stop(struct rig *rig)
{
        credential_probe_free(rig->probe);
        fetcher_free(rig->fetcher);
        event_base_free(rig->base);
        stub_stop(rig->stub);
        unlink(rig->file);
}

static void a_token_that_can_be_had_is_handed_over(void **state)
{
        struct rig rig;

        (void)state;
        rig_run(&rig, CREDENTIAL_CLIENT_SECRET, "secret", 200,
                "{\"token_type\":\"Bearer\",\"expires_in\":3599,\"access_token\":\"tok1\"}");
        assert_true(rig.outcome.obtained);
        rig_stop(&rig);
}

static void a_refusal_is_told_with_its_code_and_once(void **state)
{
        struct rig rig;

        (void)state;
        rig_run(&rig, CREDENTIAL_CLIENT_SECRET, "s3cr3t-canary", 401,
                "{\"error\":\"invalid_client\",\"error_codes\":[7000222]}");
        assert_false(rig.outcome.obtained);
        assert_non_null(strstr(rig.outcome.why, "AADSTS7000222"));
        assert_null(strstr(rig.outcome.why, "canary"));
        turn_until(rig.base, &rig.outcome.calls, 2, 300);
        assert_int_equal(rig.outcome.calls, 1);
        rig_stop(&rig);
}

static void a_token_in_a_file_is_told_at_once(void **state)
{
        struct rig rig;

        (void)state;
        rig_run(&rig, CREDENTIAL_STATIC_FILE, "tok-in-a-file", 200, "{}");
        assert_true(rig.outcome.obtained);
        rig_stop(&rig);
        rig_run(&rig, CREDENTIAL_STATIC_FILE, " \n", 200, "{}");
        assert_false(rig.outcome.obtained);
        assert_non_null(strstr(rig.outcome.why, "empty"));
        rig_stop(&rig);
}

static void a_code_has_its_remedy(void **state)
{
        (void)state;
        assert_non_null(strstr(credential_remedy(7000215), "value"));
        assert_null(credential_remedy(0));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_token_that_can_be_had_is_handed_over),
                cmocka_unit_test(a_refusal_is_told_with_its_code_and_once),
                cmocka_unit_test(a_token_in_a_file_is_told_at_once),
                cmocka_unit_test(a_code_has_its_remedy),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
