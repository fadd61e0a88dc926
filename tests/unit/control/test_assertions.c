/* What Entra gives for callers' own tokens. */
#include "control_kit.h"

#include "../../../src/control/assertions.h"
#include "dagward/base/buf.h"
#include "dagward/token/base64.h"

#define TOKEN_PATH "/t/oauth2/v2.0/token"
#define JSON_TYPE "Content-Type: application/json; charset=utf-8\r\n"
#define ANSWER(token, expires)                                                                     \
        "{\"token_type\":\"Bearer\",\"expires_in\":" expires ",\"access_token\":\"" token "\"}"

struct rig {
        struct event_base *base;
        struct fetcher *fetcher;
        struct stub *stub;
        char origin[64];
        uint64_t generations;
        struct config_credential credential;
        struct config config;
        struct told told;
        struct assertions *assertions;
        struct ask last; /* filled by the last result */
};

static void on_settled(void *owner, const struct assertion_result *result)
{
        struct rig *rig = owner;

        credential_unref(rig->last.assertion.credential);
        rig->last = (struct ask){0};
        assertion_answer(&rig->last, result);
        rig->told.settled++;
}

static void on_event(void *owner, const char *name, const struct pair *detail, size_t n)
{
        told_event(&((struct rig *)owner)->told, name, detail, n);
}

static void rig_start(struct rig *rig)
{
        *rig = (struct rig){.base = event_base_new(), .stub = stub_start()};
        rig->fetcher = fetcher_new(rig->base);
        snprintf(rig->origin, sizeof(rig->origin), "http://127.0.0.1:%u", rig->stub->port);
        rig->credential = (struct config_credential){
                .name = STR("own"),
                .type = CREDENTIAL_FEDERATED,
                .assertion_is_callers = true,
                .tenant = STR("t"),
                .client_id = STR("app"),
                .scope = STR("r/.default"),
                .authority = {.text = str_of(rig->origin), .loopback = true},
        };
        rig->config.credentials = &rig->credential;
        rig->config.n_credentials = 1;
        const struct assertions_hooks hooks = {on_settled, on_event, rig};
        rig->assertions = assertions_new(&rig->config, rig->fetcher, &rig->generations, &hooks);
}

static void rig_stop(struct rig *rig)
{
        credential_unref(rig->last.assertion.credential);
        assertions_free(rig->assertions);
        fetcher_free(rig->fetcher);
        event_base_free(rig->base);
        stub_stop(rig->stub);
}

/* A caller's ask; its token names `subject` and has `left_s` to live. */
static struct ask ask_of(const char *subject, const char *alg, int64_t left_s)
{
        char head[64], claims[160];
        int64_t expires = clock_wall_ms() / 1000 + left_s;
        struct ask ask = {.kind = ASK_ASSERTION, .assertion = {.expires_s = expires}};
        struct buf token;

        snprintf(head, sizeof(head), "{\"alg\":\"%s\"}", alg);
        snprintf(claims, sizeof(claims),
                "{\"iss\":\"https://i\",\"sub\":\"%s\",\"aud\":\"dagward\",\"exp\":%lld}", subject,
                (long long)expires);
        buf_init(&token, 1024);
        base64url_write(&token, head, strlen(head));
        buf_char(&token, '.');
        base64url_write(&token, claims, strlen(claims));
        BUF_LITERAL(&token, ".c2ln");
        secret_set(&ask.assertion.token, buf_str(&token));
        token_digest(buf_str(&token), ask.assertion.digest);
        buf_clear(&token);
        return ask;
}

/* Asks and waits for what comes of it: in the ask itself, or `rig->last`. */
static enum source_answer asked(struct rig *rig, struct ask *ask)
{
        unsigned before = rig->told.settled;
        enum source_answer answer = assertions_ask(rig->assertions, ask);

        assert_null(ask->assertion.token.bytes); /* taken or wiped, whatever the answer */
        if (answer == SOURCE_WAIT)
                assert_true(turn_until(rig->base, &rig->told.settled, before + 1, 5000));
        return answer;
}

static void each_caller_gets_its_own_and_all_workers_the_same(void **state)
{
        struct rig rig;
        struct ask one, two;

        (void)state;
        rig_start(&rig);
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        one = ask_of("a", "RS256", 600);
        struct ask again = one, meanwhile = one;
        again.assertion.token = meanwhile.assertion.token = (struct secret){0};
        secret_set(&meanwhile.assertion.token, STR("x"));
        assert_int_equal(assertions_ask(rig.assertions, &one), SOURCE_WAIT);
        assert_int_equal(asked(&rig, &meanwhile), SOURCE_WAIT);
        assert_true(str_eq(credential_token(rig.last.assertion.credential), STR("tok1")));
        /* No longer than the caller's token, and a tenth or 5 s less than its own life. */
        int64_t life = rig.last.assertion.credential->until_mono_ms - clock_mono_ms();
        assert_in_range(life, 590000, 600000);
        assert_int_equal(asked(&rig, &again), SOURCE_NEWER);
        assert_ptr_equal(again.assertion.credential, rig.last.assertion.credential);
        credential_unref(again.assertion.credential);
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 1);
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok2", "60"));
        two = ask_of("b", "RS256", 600);
        assert_int_equal(asked(&rig, &two), SOURCE_WAIT);
        assert_true(str_eq(credential_token(rig.last.assertion.credential), STR("tok2")));
        life = rig.last.assertion.credential->until_mono_ms - clock_mono_ms();
        assert_in_range(life, 52000, 55000);
        rig_stop(&rig);
}

static void a_refusal_is_kept_for_its_caller_and_tells_what_was_sent(void **state)
{
        struct rig rig;
        struct assertions_counts counts;
        /* One token, whose digest does not change with the second in which it is asked with. */
        struct ask shape = ask_of("a\\u000ab", "RS256", 600);

        (void)state;
        rig_start(&rig);
        stub_set(rig.stub, TOKEN_PATH, 401, JSON_TYPE,
                "{\"error\":\"invalid_client\",\"error_codes\":[700213]}");
        for (int i = 0; i < 3; i++) {
                struct ask ask = shape;
                ask.assertion.token = (struct secret){0};
                secret_set(&ask.assertion.token, secret_reveal(&shape.assertion.token));
                enum source_answer answer = asked(&rig, &ask);
                struct assertion_ask *got =
                        answer == SOURCE_WAIT ? &rig.last.assertion : &ask.assertion;
                assert_int_equal(answer, i ? SOURCE_NO : SOURCE_WAIT);
                assert_int_equal(got->refusal, ASSERTION_REFUSED);
                assert_in_range(got->retry_after_s, 25, 30);
                assert_true(holds(got->why, "AADSTS700213"));
                assert_true(holds(got->why, "iss \"https://i\" sub \"a?b\" aud \"dagward\""));
        }
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 1);
        assert_string_equal(rig.told.events, "");
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok2", "60"));
        struct ask other = ask_of("c", "RS256", 600);
        asked(&rig, &other);
        assert_non_null(rig.last.assertion.credential);
        assertions_count(rig.assertions, &counts);
        assert_int_equal(counts.obtained, 1);
        assert_int_equal(counts.failed, 1);
        assert_int_equal(counts.kept, 1);
        assert_int_equal(counts.running, 0);
        secret_drop(&shape.assertion.token);
        rig_stop(&rig);
}

static void what_cannot_be_an_assertion_is_not_sent(void **state)
{
        struct rig rig;
        struct ask elliptic = ask_of("a", "ES256", 600), late = ask_of("a", "RS256", 0);

        (void)state;
        rig_start(&rig);
        assert_int_equal(asked(&rig, &elliptic), SOURCE_NO);
        assert_int_equal(elliptic.assertion.refusal, ASSERTION_REFUSED);
        assert_true(holds(elliptic.assertion.why, "ES256"));
        assert_int_equal(asked(&rig, &late), SOURCE_NO);
        assert_int_equal(late.assertion.refusal, ASSERTION_EXPIRED);
        assert_int_equal(rig.stub->requests, 0);
        rig_stop(&rig);
}

static void a_rejected_one_is_replaced_once_a_minute(void **state)
{
        struct rig rig;
        struct ask ask = ask_of("a", "RS256", 600);
        const struct ask shape = ask;

        (void)state;
        rig_start(&rig);
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        asked(&rig, &ask);
        uint64_t first = rig.last.assertion.credential->generation;
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok2", "3600"));
        for (int i = 0; i < 3; i++) {
                ask = shape;
                ask.seen = first;
                struct ask fresh = ask_of("a", "RS256", 600);
                ask.assertion.token = fresh.assertion.token;
                enum source_answer answer = asked(&rig, &ask);
                /* Another worker that still has the first gets the second, without a request. */
                assert_int_equal(answer, i ? SOURCE_NEWER : SOURCE_WAIT);
                credential_unref(ask.assertion.credential);
        }
        assert_true(str_eq(credential_token(rig.last.assertion.credential), STR("tok2")));
        ask = shape;
        ask.assertion.token = (struct secret){0};
        ask.seen = rig.last.assertion.credential->generation;
        assert_int_equal(asked(&rig, &ask), SOURCE_NO);
        assert_int_equal(ask.assertion.refusal, ASSERTION_REJECTED);
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 2);
        rig_stop(&rig);
}

static void a_pause_that_Entra_asks_for_is_for_all(void **state)
{
        struct rig rig;
        struct ask one = ask_of("a", "RS256", 600), two = ask_of("b", "RS256", 600);

        (void)state;
        rig_start(&rig);
        stub_set(rig.stub, TOKEN_PATH, 429, JSON_TYPE "Retry-After: 40\r\n", "{}");
        asked(&rig, &one);
        assert_int_equal(rig.last.assertion.refusal, ASSERTION_LATER);
        assert_int_equal(rig.last.assertion.retry_after_s, 40);
        assert_int_equal(asked(&rig, &two), SOURCE_NO);
        assert_in_range(two.assertion.retry_after_s, 35, 50);
        assert_int_equal(stub_hits(rig.stub, TOKEN_PATH), 1);
        assert_string_equal(rig.told.events, "credential.refresh_failed ");
        rig_stop(&rig);
}

static void a_reload_keeps_what_is_the_same(void **state)
{
        struct rig rig;
        struct ask ask = ask_of("a", "RS256", 600), running = ask_of("b", "RS256", 600);
        struct ask again = ask;
        struct assertions_counts counts;

        (void)state;
        again.assertion.token = (struct secret){0};
        rig_start(&rig);
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        asked(&rig, &ask);
        assert_int_equal(assertions_ask(rig.assertions, &running), SOURCE_WAIT);
        struct config_credential more[2] = {rig.credential, rig.credential};
        more[0].name = STR("another");
        struct config fresh = {.credentials = more, .n_credentials = 2};
        assertions_reconfigure(rig.assertions, &fresh);
        assertions_count(rig.assertions, &counts);
        assert_int_equal(counts.running, 0);
        assert_int_equal(counts.kept, 1);
        again.index = 1;
        assert_int_equal(asked(&rig, &again), SOURCE_NEWER);
        credential_unref(again.assertion.credential);
        more[1].client_id = STR("other");
        struct config_credential others[1] = {more[1]};
        struct config last = {.credentials = others, .n_credentials = 1};
        more[1].client_id = STR("app");
        assertions_reconfigure(rig.assertions, &last);
        assertions_count(rig.assertions, &counts);
        assert_int_equal(counts.kept, 0);
        rig_stop(&rig);
}

static void a_reload_makes_due_what_other_authorities_vouched_for(void **state)
{
        char path[] = "/tmp/dagward-ca-XXXXXX";
        struct rig rig;
        struct ask ask = ask_of("a", "RS256", 7200);

        (void)state;
        close(mkstemp(path));
        file_write(path, "one authority");
        rig_start(&rig);
        stub_set(rig.stub, TOKEN_PATH, 200, JSON_TYPE, ANSWER("tok1", "3600"));
        struct config_credential with_ca = rig.credential;
        with_ca.ca = str_of(path); /* nobody reads it: the stub is no TLS server */
        struct config config = {.credentials = &with_ca, .n_credentials = 1};
        assertions_reconfigure(rig.assertions, &config);
        asked(&rig, &ask);
        struct ask again = ask;
        for (int round = 0; round < 3; round++) {
                /* The same, another, and this one again. */
                file_write(path, round ? "another authority" : "one authority");
                assertions_reconfigure(rig.assertions, &config);
                again = ask;
                assert_int_equal(asked(&rig, &again), SOURCE_NEWER);
                const struct credential *lent = again.assertion.credential;
                assert_true(str_eq(credential_token(lent), STR("tok1")));
                assert_true((lent->refresh_mono_ms == 0) == (round > 0));
                again.seen = lent->generation;
                credential_unref(again.assertion.credential);
        }
        /* Renewed in vain, it is lent on. */
        stub_set(rig.stub, TOKEN_PATH, 500, "", "");
        struct ask ahead = ask_of("a", "RS256", 7200);
        memcpy(ahead.assertion.digest, ask.assertion.digest, sizeof(ask.assertion.digest));
        ahead.seen = again.seen;
        ahead.assertion.ahead = true;
        assert_int_equal(asked(&rig, &ahead), SOURCE_WAIT);
        again = ask;
        assert_int_equal(asked(&rig, &again), SOURCE_NEWER);
        assert_true(str_eq(credential_token(again.assertion.credential), STR("tok1")));
        credential_unref(again.assertion.credential);
        unlink(path);
        rig_stop(&rig);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_caller_gets_its_own_and_all_workers_the_same),
                cmocka_unit_test(a_refusal_is_kept_for_its_caller_and_tells_what_was_sent),
                cmocka_unit_test(what_cannot_be_an_assertion_is_not_sent),
                cmocka_unit_test(a_rejected_one_is_replaced_once_a_minute),
                cmocka_unit_test(a_pause_that_Entra_asks_for_is_for_all),
                cmocka_unit_test(a_reload_keeps_what_is_the_same),
                cmocka_unit_test(a_reload_makes_due_what_other_authorities_vouched_for),
        };

        log_set_level(LOG_LEVEL_NONE);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
