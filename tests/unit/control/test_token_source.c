#include "control_kit.h"

#include "../../../src/control/token_source.h"

#define TOKEN_PATH "/11111111-1111/oauth2/v2.0/token"
#define ANSWER(token, expires)                                                                     \
        "{\"token_type\":\"Bearer\",\"expires_in\":" expires ",\"access_token\":\"" token "\"}"
#define JSON_TYPE "Content-Type: application/json; charset=utf-8\r\n"

struct rig {
        struct event_base *base;
        struct fetcher *fetcher;
        struct stub *stub;
        char origin[64];
        char file[64];
        uint64_t generations;
        struct config_credential config;
        struct told told;
        struct token_source *source;
};

static void rig_init(struct rig *rig, enum config_credential_type type, const char *secret)
{
        *rig = (struct rig){.base = event_base_new(), .stub = stub_start()};
        rig->fetcher = fetcher_new(rig->base);
        snprintf(rig->origin, sizeof(rig->origin), "http://127.0.0.1:%u", rig->stub->port);
        snprintf(rig->file, sizeof(rig->file), "/tmp/dagward-secret-XXXXXX");
        close(mkstemp(rig->file));
        file_write(rig->file, secret);
        rig->config = (struct config_credential){
                .name = STR("etl"),
                .type = type,
                .tenant = STR("11111111-1111"),
                .client_id = STR("22222222-2222"),
                .scope = STR("499b84ac-1321-427f-aa17-267ca6975798/.default"),
                .authority = {.text = str_of(rig->origin), .loopback = true},
        };
        if (type == CREDENTIAL_STATIC_FILE)
                rig->config.file = str_of(rig->file);
        else if (type == CREDENTIAL_CLIENT_SECRET)
                rig->config.secret_file = str_of(rig->file);
        else
                rig->config.assertion_file = str_of(rig->file);
}

static void rig_start(struct rig *rig)
{
        struct source_hooks hooks = {told_changed, told_settled, told_event, &rig->told};

        rig->source = token_source_new(
                &rig->config, 0, rig->base, rig->fetcher, &rig->generations, &hooks);
        token_source_start(rig->source);
        assert_true(turn_until(rig->base, &rig->told.settled, 1, 5000));
}

static void rig_stop(struct rig *rig)
{
        token_source_free(rig->source);
        fetcher_free(rig->fetcher);
        event_base_free(rig->base);
        stub_stop(rig->stub);
        unlink(rig->file);
}

static bool lends(const struct rig *rig, const char *token)
{
        char line[300];

        snprintf(line, sizeof(line), "Authorization: Bearer %s\r\n", token);
        return rig->source->credential &&
               clock_mono_ms() < rig->source->credential->until_mono_ms &&
               str_eq(secret_reveal(&rig->source->credential->line), str_of(line));
}

static void a_client_secret_becomes_a_token(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s~e+c/r=e t\n");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3599"));
        rig_start(&rig);
        assert_true(rig.told.ok);
        assert_true(lends(&rig, "tok1"));
        assert_true(stub_saw(rig.stub, TOKEN_PATH,
                "\r\n\r\ngrant_type=client_credentials&client_id=22222222-2222&scope="
                "499b84ac-1321-427f-aa17-267ca6975798%2F.default&client_secret="
                "s~e%2Bc%2Fr%3De%20t"));
        assert_true(stub_saw(
                rig.stub, TOKEN_PATH, "Content-Type: application/x-www-form-urlencoded\r\n"));
        assert_true(stub_saw(rig.stub, TOKEN_PATH, "client-request-id: "));
        int64_t life = rig.source->credential->until_mono_ms - clock_mono_ms();
        assert_in_range(life, 3599000 - 5000 - 3000, 3599000 - 5000);
        /* Half of its life, give or take a tenth. */
        assert_in_range(rig.source->next_mono_ms - clock_mono_ms(), 1600000, 1990000);
        rig_stop(&rig);
}

static void a_federated_assertion_becomes_a_token(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig, CREDENTIAL_FEDERATED, "eyJh.eyJi.c2ln\n");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE,
                "{\"token_type\":\"bearer\",\"expires_in\":\"86399\",\"refresh_in\":\"4000\","
                "\"access_token\":\"tok1\"}");
        rig_start(&rig);
        assert_true(lends(&rig, "tok1"));
        assert_true(stub_saw(rig.stub, TOKEN_PATH,
                "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3A"
                "jwt-bearer&client_assertion=eyJh.eyJi.c2ln"));
        assert_in_range(rig.source->next_mono_ms - clock_mono_ms(), 3500000, 4400000);
        rig_stop(&rig);
}

static void a_token_is_renewed_at_half_of_its_life_with_the_secret_of_that_moment(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "old");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "2"));
        rig_start(&rig);
        uint64_t first = rig.source->credential->generation;
        int64_t start = clock_mono_ms();
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok2", "3600"));
        file_write(rig.file, "new");
        assert_true(turn_until(rig.base, &rig.told.changed, 2, 5000));
        assert_in_range(clock_mono_ms() - start, 800, 4000); /* of 2 s, not of 3600 */
        assert_true(lends(&rig, "tok2"));
        assert_true(rig.source->credential->generation > first);
        assert_true(stub_saw(rig.stub, TOKEN_PATH, "client_secret=new"));
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 2);
        rig_stop(&rig);
}

static void the_old_token_serves_while_renewals_fail(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "4"));
        rig_start(&rig);
        stub_set(rig.stub, TOKEN_PATH, 503, "", "down");
        assert_true(turn_until(rig.base, &rig.told.settled, 2, 5000));
        assert_false(rig.told.ok);
        assert_true(lends(&rig, "tok1"));
        turn(rig.base, 2200);
        assert_false(lends(&rig, "tok1")); /* a tenth of a short life before its end */
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok2", "3600"));
        assert_true(turn_until(rig.base, &rig.told.changed, 2, 8000));
        assert_true(lends(&rig, "tok2"));
        assert_string_equal(
                rig.told.events, "credential.refresh_failed credential.refresh_recovered ");
        rig_stop(&rig);
}

static void retry_after_is_obeyed_and_asks_meanwhile_cost_no_request(void **state)
{
        struct rig rig;
        struct error why;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        stub_set(rig.stub, TOKEN_PATH, 429, "Retry-After: 120\r\n", "{}");
        rig_start(&rig);
        assert_in_range(rig.source->next_mono_ms - clock_mono_ms(), 119000, 151000);
        for (int i = 0; i < 20; i++)
                assert_int_equal(token_source_ask(rig.source, 0, &why), SOURCE_NO);
        turn(rig.base, 50);
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 1);
        rig_stop(&rig);

        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        stub_set(rig.stub, TOKEN_PATH, 429, "", "{}");
        rig_start(&rig);
        assert_in_range(rig.source->next_mono_ms - clock_mono_ms(), 45000, 67000);
        rig_stop(&rig);
}

static void many_asks_share_one_request(void **state)
{
        struct rig rig;
        struct error why;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        stub_delay(rig.stub, TOKEN_PATH, 100);
        struct source_hooks hooks = {told_changed, told_settled, told_event, &rig.told};
        rig.source =
                token_source_new(&rig.config, 0, rig.base, rig.fetcher, &rig.generations, &hooks);
        for (int i = 0; i < 50; i++)
                assert_int_equal(token_source_ask(rig.source, 0, &why), SOURCE_WAIT);
        assert_true(turn_until(rig.base, &rig.told.settled, 1, 5000));
        assert_int_equal(token_source_ask(rig.source, 0, &why), SOURCE_NEWER);
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 1);
        rig_stop(&rig);
}

static void a_rejected_token_is_replaced_once(void **state)
{
        struct rig rig;
        struct error why;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        rig_start(&rig);
        uint64_t first = rig.source->credential->generation;
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok2", "3600"));
        assert_int_equal(token_source_replace(rig.source, first, NULL, &why), SOURCE_WAIT);
        assert_null(rig.source->credential); /* nobody else is lent what was rejected */
        assert_int_equal(token_source_replace(rig.source, first, NULL, &why), SOURCE_WAIT);
        assert_true(turn_until(rig.base, &rig.told.settled, 2, 5000));
        assert_true(lends(&rig, "tok2"));
        assert_int_equal(token_source_replace(rig.source, first, NULL, &why), SOURCE_NEWER);
        /* The new one is rejected as well: that is no matter of tokens. */
        uint64_t second = rig.source->credential->generation;
        assert_int_equal(token_source_replace(rig.source, second, NULL, &why), SOURCE_NO);
        assert_true(holds(why.text, "member of the organization"));
        assert_true(lends(&rig, "tok2"));
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 2);
        assert_string_equal(rig.told.events, "credential.replaced ");
        rig_stop(&rig);
}

static void a_replacement_that_fails_brings_the_old_token_back(void **state)
{
        struct rig rig;
        struct error why;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        rig_start(&rig);
        stub_set(rig.stub, TOKEN_PATH, 500, "", "");
        assert_int_equal(
                token_source_replace(rig.source, rig.source->credential->generation, NULL, &why),
                SOURCE_WAIT);
        assert_true(turn_until(rig.base, &rig.told.settled, 2, 5000));
        assert_false(rig.told.ok);
        assert_true(lends(&rig, "tok1"));
        rig_stop(&rig);
}

static void errors_say_what_the_operator_must_do_and_hold_no_secret(void **state)
{
        static const struct {
                int status;
                const char *fields, *body, *why;
                int64_t least_ms; /* until the next attempt */
        } cases[] = {
                {401, JSON_TYPE,
                        "{\"error\":\"invalid_client\",\"error_codes\":[7000215],\"trace_id\":"
                        "\"33-33\",\"error_description\":\"AADSTS7000215: hunter2\"}",
                        "AADSTS7000215 invalid_client: wrong client secret", 50000},
                {400, JSON_TYPE, "{\"error\":\"unauthorized_client\",\"error_codes\":[700016]}",
                        "check `client_id` and `tenant`", 50000},
                {400, JSON_TYPE, "{\"error\":\"invalid_request\",\"error_codes\":[90061]}",
                        "discovery document and key set must be public", 500},
                {400, JSON_TYPE, "{\"error\":\"x\",\"error_codes\":[123456]}",
                        "AADSTS123456 x: see the sign-in log", 50000},
                {400, JSON_TYPE, "{\"error\":\"invalid_scope\"}", "400 invalid_scope", 50000},
                {503, "Content-Type: text/html\r\n", "<html>hunter2", "an HTML page", 500},
                {200, "Content-Type: text/html\r\n", "<html>hunter2",
                        "is a proxy of the network in between?", 500},
                {200, JSON_TYPE, "{}", "no access_token", 500},
                {200, JSON_TYPE, ANSWER("hunter2", "0"), "no usable expires_in", 500},
                {200, JSON_TYPE, ANSWER("hunter2", "null"), "no usable expires_in", 500},
                {200, JSON_TYPE, ANSWER("hunter2\\r\\nX: y", "3600"), "cannot stand in a header",
                        500},
                {200, JSON_TYPE,
                        "{\"token_type\":\"pop\",\"expires_in\":1,\"access_token\":\"hunter2\"}",
                        "not a bearer token", 500},
                {302, "Location: https://evil.example/\r\n", "", "302", 500},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct rig rig;
                rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "hunter2");
                stub_set(rig.stub, TOKEN_PATH, cases[i].status, cases[i].fields, cases[i].body);
                rig_start(&rig);
                assert_false(rig.told.ok);
                assert_null(rig.source->credential);
                if (!holds(rig.told.why, cases[i].why))
                        fail_msg("case %zu: %s", i, rig.told.why);
                assert_false(holds(rig.told.why, "hunter2"));
                assert_false(holds(rig.told.details, "hunter2"));
                assert_true(rig.source->next_mono_ms - clock_mono_ms() >= cases[i].least_ms - 100);
                rig_stop(&rig);
        }
}

static void a_corrected_secret_file_is_tried_at_once(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "wrong");
        stub_set(rig.stub, TOKEN_PATH, 401, JSON_TYPE,
                "{\"error\":\"invalid_client\",\"error_codes\":[7000215]}");
        rig_start(&rig);
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        file_write(rig.file, "right");
        assert_true(turn_until(rig.base, &rig.told.settled, 2, SOURCE_FILE_POLL_MS + 3000));
        assert_true(lends(&rig, "tok1"));
        assert_true(stub_saw(rig.stub, TOKEN_PATH, "client_secret=right"));
        rig_stop(&rig);
}

static void a_missing_assertion_file_is_waited_for(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig, CREDENTIAL_FEDERATED, "");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        rig_start(&rig);
        assert_false(rig.told.ok);
        assert_true(holds(rig.told.why, rig.file));
        file_write(rig.file, "eyJh.eyJi.c2ln");
        assert_true(turn_until(rig.base, &rig.told.changed, 1, SOURCE_FILE_POLL_MS + 3000));
        assert_true(lends(&rig, "tok1"));
        rig_stop(&rig);
}

static void a_refused_assertion_is_shown_beside_the_advice(void **state)
{
        struct rig rig;

        (void)state;
        /* {"iss":"https://i.example/","sub":"system:serviceaccount:a:b","aud":["x"]} */
        rig_init(&rig, CREDENTIAL_FEDERATED,
                "eyJhIjoxfQ.eyJpc3MiOiJodHRwczovL2kuZXhhbXBsZS8iLCJzdWIiOiJzeXN0ZW06c2VydmljZWFjY2"
                "91bnQ6YTpiIiwiYXVkIjpbIngiXX0.c2ln");
        stub_set(rig.stub, TOKEN_PATH, 400, JSON_TYPE,
                "{\"error\":\"invalid_request\",\"error_codes\":[700213]}");
        rig_start(&rig);
        assert_true(holds(rig.told.why, "check namespace, service account"));
        assert_true(holds(rig.told.why,
                "iss \"https://i.example/\" sub \"system:serviceaccount:a:b\" aud \"x\""));
        assert_false(holds(rig.told.why, "c2ln"));
        rig_stop(&rig);
}

static void a_static_file_is_read_again_when_it_changes(void **state)
{
        struct rig rig;
        struct error why;

        (void)state;
        rig_init(&rig, CREDENTIAL_STATIC_FILE, "tok1\n");
        rig_start(&rig);
        assert_true(lends(&rig, "tok1"));
        uint64_t first = rig.source->credential->generation;
        assert_int_equal(token_source_replace(rig.source, first, NULL, &why), SOURCE_NO);
        assert_true(lends(&rig, "tok1"));
        file_write(rig.file, "tok2\n");
        assert_true(turn_until(rig.base, &rig.told.changed, 2, SOURCE_FILE_POLL_MS + 3000));
        assert_true(lends(&rig, "tok2"));
        /* A broken one does not take the good one away. */
        rig.told.settled = 0;
        file_write(rig.file, "two words\n");
        assert_true(turn_until(rig.base, &rig.told.settled, 1, SOURCE_FILE_POLL_MS + 3000));
        assert_false(rig.told.ok);
        assert_true(lends(&rig, "tok2"));
        assert_int_equal(stub_requests(rig.stub), 0);
        rig_stop(&rig);
}

static void a_static_token_that_says_when_it_ends_is_not_lent_beyond(void **state)
{
        struct rig rig;

        (void)state;
        /* {"exp":1000000000} */
        rig_init(&rig, CREDENTIAL_STATIC_FILE, "eyJhIjoxfQ.eyJleHAiOjEwMDAwMDAwMDB9.c2ln");
        rig_start(&rig);
        assert_false(rig.told.ok);
        assert_true(holds(rig.told.why, "has expired"));
        assert_null(rig.source->credential);
        rig_stop(&rig);
        /* {"exp":32503680000} */
        rig_init(&rig, CREDENTIAL_STATIC_FILE, "eyJhIjoxfQ.eyJleHAiOjMyNTAzNjgwMDAwfQ.c2ln");
        rig_start(&rig);
        assert_true(rig.told.ok);
        assert_true(rig.source->credential->until_mono_ms < INT64_MAX);
        rig_stop(&rig);
}

static void a_file_that_is_gone_takes_its_token_with_it(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig, CREDENTIAL_STATIC_FILE, "tok1");
        rig_start(&rig);
        assert_true(lends(&rig, "tok1"));
        /* Not there for a moment, as when it is replaced; and then empty. */
        unsigned settled = rig.told.settled;
        unlink(rig.file);
        assert_true(turn_until(rig.base, &rig.told.settled, settled + 1, 5000));
        assert_false(rig.told.ok);
        assert_true(lends(&rig, "tok1"));
        file_write(rig.file, "");
        assert_true(turn_until(rig.base, &rig.told.settled, settled + 2, 10000));
        assert_false(rig.told.ok);
        assert_true(lends(&rig, "tok1"));
        assert_null(strstr(rig.told.events, "withdrawn"));
        /* Gone. */
        unsigned changed = rig.told.changed;
        unlink(rig.file);
        assert_true(turn_until(rig.base, &rig.told.changed, changed + 1, 20000));
        assert_null(rig.source->credential);
        assert_non_null(strstr(rig.told.events, "credential.withdrawn "));
        /* And here again. */
        changed = rig.told.changed;
        file_write(rig.file, "tok1");
        assert_true(turn_until(rig.base, &rig.told.changed, changed + 1, 10000));
        assert_true(lends(&rig, "tok1"));
        rig_stop(&rig);
}

static void a_reload_keeps_the_token_of_a_credential_that_did_not_change(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        rig_start(&rig);
        struct token_source *same = token_source_new(
                &rig.config, 0, rig.base, rig.fetcher, &rig.generations, &rig.source->hooks);
        token_source_adopt(same, rig.source);
        assert_ptr_equal(same->credential, rig.source->credential);
        token_source_start(same);
        turn(rig.base, 100);
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 1);
        struct config_credential changed = rig.config;
        changed.client_id = STR("another");
        struct token_source *other = token_source_new(
                &changed, 0, rig.base, rig.fetcher, &rig.generations, &rig.source->hooks);
        token_source_adopt(other, rig.source);
        assert_null(other->credential);
        token_source_free(other);
        token_source_free(same);
        rig_stop(&rig);
}

static void a_reload_has_a_vault_polled_as_it_says(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        rig_start(&rig);
        rig.config.type = CREDENTIAL_KEY_VAULT_SECRET; /* which is obtained in the same way */
        const struct {
                int64_t poll_ms, least_ms, most_ms;
        } cases[] = {{60 * 1000, 59 * 1000, 60 * 1000}, {86400 * 1000, 1600 * 1000, 2000 * 1000}};
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct config_credential changed = rig.config;
                changed.poll_ms = cases[i].poll_ms;
                struct token_source *fresh = token_source_new(
                        &changed, 0, rig.base, rig.fetcher, &rig.generations, &rig.source->hooks);
                token_source_adopt(fresh, rig.source);
                token_source_start(fresh);
                assert_ptr_equal(fresh->credential, rig.source->credential);
                assert_in_range(
                        fresh->next_mono_ms - clock_mono_ms(), cases[i].least_ms, cases[i].most_ms);
                token_source_free(fresh);
        }
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 1);
        rig_stop(&rig);
}

static struct token_source *reloaded(struct rig *rig, struct token_source *old)
{
        struct token_source *fresh = token_source_new(
                &rig->config, 0, rig->base, rig->fetcher, &rig->generations, &old->hooks);

        token_source_adopt(fresh, old);
        token_source_free(old);
        token_source_start(fresh);
        return fresh;
}

static void a_reload_asks_anew_where_other_authorities_vouch(void **state)
{
        char path[] = "/tmp/dagward-ca-XXXXXX";
        struct rig rig;

        (void)state;
        close(mkstemp(path));
        file_write(path, "one authority");
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        rig.config.ca = str_of(path); /* nobody reads it: the stub is no TLS server */
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        rig_start(&rig);
        rig.source = reloaded(&rig, rig.source);
        turn(rig.base, 100);
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 1);
        file_write(path, "another authority");
        stub_set(rig.stub, TOKEN_PATH, 500, "", "");
        unsigned settled = rig.told.settled;
        rig.source = reloaded(&rig, rig.source);
        assert_true(lends(&rig, "tok1")); /* nobody waits for it */
        assert_true(turn_until(rig.base, &rig.told.settled, settled + 1, 5000));
        assert_true(lends(&rig, "tok1"));
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok2", "3600"));
        settled = rig.told.settled;
        rig.source = reloaded(&rig, rig.source);
        assert_true(turn_until(rig.base, &rig.told.settled, settled + 1, 5000));
        assert_true(lends(&rig, "tok2"));
        unsigned hits = stub_hits(rig.stub, TOKEN_PATH);
        rig.source = reloaded(&rig, rig.source);
        turn(rig.base, 100);
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), hits);
        unlink(path);
        rig_stop(&rig);
}

static void a_reload_while_a_rejected_token_is_replaced_goes_on_with_that(void **state)
{
        struct rig rig;
        struct error why;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        rig_start(&rig);
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok2", "3600"));
        assert_int_equal(
                token_source_replace(rig.source, rig.source->credential->generation, NULL, &why),
                SOURCE_WAIT);
        rig.source = reloaded(&rig, rig.source);
        assert_true(turn_until(rig.base, &rig.told.settled, 2, 5000));
        assert_true(lends(&rig, "tok2"));
        rig_stop(&rig);
}

/* A look at a vault that began before finds the secret of before. */
static void that_nothing_has_changed_is_no_answer_when_the_token_was_rejected_meanwhile(
        void **state)
{
        const struct outcome same = {.kind = OUTCOME_SAME, .refresh_ms = 3600000};
        struct rig rig;
        struct error why;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        rig_start(&rig);
        rig.source->attempt.running = true;
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok2", "3600"));
        assert_int_equal(
                token_source_replace(rig.source, rig.source->credential->generation, NULL, &why),
                SOURCE_WAIT);
        rig.source->attempt.running = false;
        rig.source->attempt.done(rig.source->attempt.owner, &same);
        assert_true(turn_until(rig.base, &rig.told.settled, 2, 5000));
        assert_true(rig.told.ok && lends(&rig, "tok2"));
        rig_stop(&rig);
}

/* With a poll of nearly half of the token's life the next look would come after its end. */
static void a_look_at_a_vault_that_finds_nothing_new_puts_off_no_renewal(void **state)
{
        const struct outcome same = {.kind = OUTCOME_SAME, .refresh_ms = 1790 * 1000};
        struct rig rig;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        rig_start(&rig);
        rig.source->memory.due_mono_ms = clock_mono_ms() + 20 * 1000;
        rig.source->attempt.done(rig.source->attempt.owner, &same);
        assert_true(rig.told.ok && lends(&rig, "tok1"));
        assert_in_range(rig.source->next_mono_ms - clock_mono_ms(), 10 * 1000, 20 * 1000);
        rig.source->memory.due_mono_ms = clock_mono_ms() + 3000 * 1000;
        rig.source->attempt.done(rig.source->attempt.owner, &same);
        assert_in_range(rig.source->next_mono_ms - clock_mono_ms(), 1780 * 1000, 1790 * 1000);
        rig_stop(&rig);
}

static void a_token_that_comes_too_late_is_not_asked_for_in_a_loop(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "1"));
        stub_delay(rig.stub, TOKEN_PATH, 1100);
        rig_start(&rig);
        assert_false(rig.told.ok);
        assert_true(holds(rig.told.why, "had ended when it came"));
        assert_null(rig.source->credential);
        assert_in_range(rig.source->next_mono_ms - clock_mono_ms(), 300, 1000);
        rig_stop(&rig);
}

static void the_same_token_again_is_no_new_one(void **state)
{
        struct rig rig;
        struct error why;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        rig_start(&rig);
        uint64_t first = rig.source->credential->generation;
        assert_int_equal(token_source_replace(rig.source, first, NULL, &why), SOURCE_WAIT);
        assert_true(turn_until(rig.base, &rig.told.settled, 2, 5000));
        /* Sending the request again would be refused again. */
        assert_false(rig.told.ok);
        assert_true(holds(rig.told.why, "no other token"));
        assert_true(lends(&rig, "tok1"));
        assert_int_equal(rig.source->credential->generation, first);
        assert_int_equal(rig.source->n_obtained, 1);
        rig_stop(&rig);
}

struct needer {
        struct need need;
        unsigned settled;
        bool ok;
        char why[512];
};

static void needer_settled(void *owner, bool ok, const char *why)
{
        struct needer *needer = owner;

        needer->settled++;
        needer->ok = ok;
        snprintf(needer->why, sizeof(needer->why), "%s", why);
}

static enum source_answer need(struct rig *rig, struct needer *needer, struct error *why)
{
        *needer = (struct needer){.need = {.settled = needer_settled, .owner = needer}};
        return token_source_need(rig->source, &needer->need, why);
}

static void who_needs_the_same_token_shares_one_request(void **state)
{
        struct source_hooks hooks;
        struct needer one, other, gone;
        struct rig rig;
        struct error why;

        (void)state;
        rig_init(&rig, CREDENTIAL_CLIENT_SECRET, "s");
        rig.config.on_demand = true;
        hooks = (struct source_hooks){told_changed, told_settled, told_event, &rig.told};
        rig.source =
                token_source_new(&rig.config, 0, rig.base, rig.fetcher, &rig.generations, &hooks);
        token_source_start(rig.source);
        turn(rig.base, 50);
        assert_int_equal(stub_requests(rig.stub), 0); /* nobody needs it yet */
        stub_set(rig.stub, TOKEN_PATH, 503, "", "down");
        assert_int_equal(need(&rig, &one, &why), SOURCE_WAIT);
        assert_int_equal(need(&rig, &other, &why), SOURCE_WAIT);
        assert_int_equal(need(&rig, &gone, &why), SOURCE_WAIT);
        token_source_unneed(&gone.need);
        assert_true(turn_until(rig.base, &one.settled, 1, 5000));
        assert_int_equal(other.settled, 1);
        assert_int_equal(gone.settled, 0);
        assert_false(one.ok);
        assert_true(holds(other.why, "503"));
        /* Whoever comes meanwhile gets the same answer without a request. */
        assert_int_equal(need(&rig, &gone, &why), SOURCE_NO);
        assert_true(holds(why.text, "503"));
        assert_in_range(token_source_wait_ms(rig.source), 1, 1000);
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 1);
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        turn(rig.base, token_source_wait_ms(rig.source) + 20);
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 1); /* on demand, not by itself */
        assert_int_equal(need(&rig, &one, &why), SOURCE_WAIT);
        assert_true(turn_until(rig.base, &one.settled, 1, 5000));
        assert_true(one.ok);
        assert_int_equal(need(&rig, &one, &why), SOURCE_NEWER);
        assert_true(str_eq(token_source_token(rig.source), STR("tok1")));
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 2);
        /* One that was turned away is not shown again, and not asked for again and again. */
        token_source_reject(rig.source);
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok2", "3600"));
        assert_int_equal(need(&rig, &one, &why), SOURCE_WAIT);
        assert_true(turn_until(rig.base, &one.settled, 1, 5000));
        token_source_reject(rig.source);
        assert_int_equal(need(&rig, &one, &why), SOURCE_NEWER);
        assert_true(str_eq(token_source_token(rig.source), STR("tok2")));
        rig_stop(&rig);
}

static void a_pat_is_lent_as_Basic_and_said_aloud(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig, CREDENTIAL_STATIC_FILE, "hunter2\n");
        rig.config.type = CREDENTIAL_PAT_FILE;
        rig_start(&rig);
        assert_true(str_eq(secret_reveal(&rig.source->credential->line),
                STR("Authorization: Basic Omh1bnRlcjI=\r\n")));
        assert_string_equal(rig.told.events, "credential.emergency ");
        assert_false(holds(rig.told.details, "hunter2"));
        rig.told.settled = 0;
        file_write(rig.file, "not a pat\n");
        assert_true(turn_until(rig.base, &rig.told.settled, 1, SOURCE_FILE_POLL_MS + 3000));
        assert_false(rig.told.ok);
        rig_stop(&rig);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_client_secret_becomes_a_token),
                cmocka_unit_test(a_federated_assertion_becomes_a_token),
                cmocka_unit_test(
                        a_token_is_renewed_at_half_of_its_life_with_the_secret_of_that_moment),
                cmocka_unit_test(the_old_token_serves_while_renewals_fail),
                cmocka_unit_test(retry_after_is_obeyed_and_asks_meanwhile_cost_no_request),
                cmocka_unit_test(many_asks_share_one_request),
                cmocka_unit_test(a_rejected_token_is_replaced_once),
                cmocka_unit_test(a_replacement_that_fails_brings_the_old_token_back),
                cmocka_unit_test(errors_say_what_the_operator_must_do_and_hold_no_secret),
                cmocka_unit_test(a_corrected_secret_file_is_tried_at_once),
                cmocka_unit_test(a_missing_assertion_file_is_waited_for),
                cmocka_unit_test(a_refused_assertion_is_shown_beside_the_advice),
                cmocka_unit_test(a_static_file_is_read_again_when_it_changes),
                cmocka_unit_test(a_static_token_that_says_when_it_ends_is_not_lent_beyond),
                cmocka_unit_test(a_look_at_a_vault_that_finds_nothing_new_puts_off_no_renewal),
                cmocka_unit_test(a_token_that_comes_too_late_is_not_asked_for_in_a_loop),
                cmocka_unit_test(the_same_token_again_is_no_new_one),
                cmocka_unit_test(who_needs_the_same_token_shares_one_request),
                cmocka_unit_test(a_pat_is_lent_as_Basic_and_said_aloud),
                cmocka_unit_test(a_file_that_is_gone_takes_its_token_with_it),
                cmocka_unit_test(a_reload_keeps_the_token_of_a_credential_that_did_not_change),
                cmocka_unit_test(a_reload_has_a_vault_polled_as_it_says),
                cmocka_unit_test(a_reload_asks_anew_where_other_authorities_vouch),
                cmocka_unit_test(a_reload_while_a_rejected_token_is_replaced_goes_on_with_that),
                cmocka_unit_test(
                        that_nothing_has_changed_is_no_answer_when_the_token_was_rejected_meanwhile),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
