#include "control_kit.h"

#include "../../../src/control/discovery.h"

struct rig {
        struct event_base *base;
        struct fetcher *fetcher;
        struct stub *stub;
        char origin[64], url[128];
        struct str issuers[1];
        struct config_issuer config;
        struct told told;
        struct issuer *issuer;
};

/* Keys by discovery at a stub; nothing runs yet. */
static void rig_init(struct rig *rig)
{
        *rig = (struct rig){.base = event_base_new(), .stub = stub_start()};
        rig->fetcher = fetcher_new(rig->base);
        snprintf(rig->origin, sizeof(rig->origin), "http://127.0.0.1:%u", rig->stub->port);
        rig->issuers[0] = str_of(rig->origin);
        rig->config = (struct config_issuer){
                .name = STR("airflow"),
                .issuers = rig->issuers,
                .n_issuers = 1,
                .keys = {.discovery = true,
                        .refresh_ms = 900 * 1000,
                        .cooldown_ms = 30 * 1000,
                        .keep_ms = 3600 * 1000,
                        .timeout_ms = 2000},
        };
        char document[300];
        snprintf(document, sizeof(document), "{\"issuer\":\"%s\",\"jwks_uri\":\"%s/keys\"}",
                rig->origin, rig->origin);
        stub_set(rig->stub, "/.well-known/openid-configuration", 200, "", document);
        stub_set(rig->stub, "/keys", 200, "", KEYS(KEY_1));
}

static void rig_by_url(struct rig *rig)
{
        snprintf(rig->url, sizeof(rig->url), "%s/keys", rig->origin);
        rig->config.keys.discovery = false;
        rig->config.keys.url.text = str_of(rig->url);
}

static void rig_start(struct rig *rig)
{
        struct source_hooks hooks = {told_changed, told_settled, told_event, &rig->told};

        rig->issuer = issuer_new(&rig->config, 0, rig->base, rig->fetcher, &hooks);
        issuer_start(rig->issuer);
        assert_true(turn_until(rig->base, &rig->told.settled, 1, 5000));
}

static void rig_stop(struct rig *rig)
{
        issuer_free(rig->issuer);
        fetcher_free(rig->fetcher);
        event_base_free(rig->base);
        stub_stop(rig->stub);
}

static void keys_are_found_by_discovery(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig);
        rig_start(&rig);
        assert_true(rig.told.ok);
        assert_int_equal(rig.told.changed, 1);
        assert_int_equal(rig.issuer->keys->n, 1);
        assert_string_equal(rig.told.events, "keys.changed ");
        assert_true(holds(rig.told.details, "added=k1;removed=;"));
        rig_stop(&rig);
}

static void a_document_that_is_not_exactly_the_issuers_is_refused(void **state)
{
        static const struct {
                const char *format; /* %s: the origin */
                const char *why;
        } cases[] = {
                {"{\"issuer\":\"%s/\",\"jwks_uri\":\"%s/keys\"}", "equal to the last slash"},
                {"{\"issuer\":\"https://evil.example\",\"jwks_uri\":\"%s/keys\"}", "evil.example"},
                {"{\"issuer\":\"%s\"}", "lacks"},
                {"{\"issuer\":[\"%s\"],\"jwks_uri\":\"%s/keys\"}", "lacks"},
                {"[\"%s\"]", "not a JSON object"},
                {"<html>%s", "not a JSON object"},
                {"{\"issuer\":\"%s\",\"issuer\":\"x\",\"jwks_uri\":\"%s/keys\"}", "JSON object"},
                {"{\"issuer\":\"%s\",\"jwks_uri\":\"file:///etc/passwd\"}", "not an http"},
                {"{\"issuer\":\"%s\",\"jwks_uri\":\"http://10.0.0.1/keys\"}", "loopback"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct rig rig;
                char document[400];
                rig_init(&rig);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                snprintf(document, sizeof(document), cases[i].format, rig.origin, rig.origin);
#pragma GCC diagnostic pop
                stub_set(rig.stub, "/.well-known/openid-configuration", 200, "", document);
                rig_start(&rig);
                assert_false(rig.told.ok);
                assert_null(rig.issuer->keys);
                assert_true(holds(rig.told.why, cases[i].why));
                assert_int_equal(stub_hits(rig.stub, "/keys"), 0);
                assert_string_equal(rig.told.events, "keys.refresh_failed ");
                rig_stop(&rig);
        }
}

static void however_many_unknown_kids_come_the_issuer_is_asked_once(void **state)
{
        struct rig rig;
        struct error why;

        (void)state;
        rig_init(&rig);
        rig_by_url(&rig);
        rig_start(&rig);
        uint64_t seen = rig.issuer->keys->generation;
        for (int i = 0; i < 100; i++)
                assert_int_equal(issuer_ask(rig.issuer, seen, &why), SOURCE_WAIT);
        assert_true(turn_until(rig.base, &rig.told.settled, 2, 5000));
        assert_false(rig.told.ok); /* no other keys there */
        for (int i = 0; i < 100; i++)
                assert_int_equal(issuer_ask(rig.issuer, seen, &why), SOURCE_NO);
        assert_true(holds(why.text, "airflow"));
        turn(rig.base, 50);
        assert_int_equal(stub_hits(rig.stub, "/keys"), 2); /* at start, and for all of them */
        rig_stop(&rig);
}

static void the_first_request_after_a_rotation_finds_the_new_key(void **state)
{
        struct rig rig;
        struct error why;

        (void)state;
        rig_init(&rig);
        rig_start(&rig);
        uint64_t seen = rig.issuer->keys->generation;
        stub_set(rig.stub, "/keys", 200, "", KEYS(KEY_2 "," KEY_3));
        assert_int_equal(issuer_ask(rig.issuer, seen, &why), SOURCE_WAIT);
        assert_true(turn_until(rig.base, &rig.told.settled, 2, 5000));
        assert_true(rig.told.ok);
        assert_int_equal(rig.told.changed, 2);
        assert_int_equal(rig.issuer->keys->n, 2);
        assert_true(rig.issuer->keys->generation != seen);
        assert_true(holds(rig.told.details, "added=k2 k3;removed=k1;"));
        /* Who still has the old set is told that there is a newer one, without a fetch. */
        assert_int_equal(issuer_ask(rig.issuer, seen, &why), SOURCE_NEWER);
        assert_int_equal(stub_hits(rig.stub, "/keys"), 2);
        rig_stop(&rig);
}

static void an_ask_during_an_older_refresh_gets_one_of_its_own(void **state)
{
        struct rig rig;
        struct error why;

        (void)state;
        rig_init(&rig);
        rig_by_url(&rig);
        rig_start(&rig);
        uint64_t seen = rig.issuer->keys->generation;
        /* A scheduled refresh is under way and has been answered with the old keys already... */
        stub_delay(rig.stub, "/keys", 700);
        issuer_start(rig.issuer);
        for (int i = 0; i < 60 && stub_hits(rig.stub, "/keys") < 2; i++)
                turn(rig.base, 10);
        assert_int_equal(stub_hits(rig.stub, "/keys"), 2);
        stub_delay(rig.stub, "/keys", 0);
        stub_set(rig.stub, "/keys", 200, "", KEYS(KEY_2));
        /* ...when the first token of the new key arrives. */
        assert_int_equal(issuer_ask(rig.issuer, seen, &why), SOURCE_WAIT);
        assert_true(turn_until(rig.base, &rig.told.settled, 2, 5000));
        assert_true(rig.told.ok);
        assert_int_equal(stub_hits(rig.stub, "/keys"), 3);
        assert_true(rig.issuer->keys->generation != seen);
        rig_stop(&rig);
}

static void keys_survive_an_issuer_that_is_down_until_their_bound(void **state)
{
        struct rig rig;

        (void)state;
        rig_init(&rig);
        rig_by_url(&rig);
        rig.config.keys.refresh_ms = 200;
        rig.config.keys.keep_ms = 3000;
        rig_start(&rig);
        stub_set(rig.stub, "/keys", 503, "", "down");
        assert_true(turn_until(rig.base, &rig.told.settled, 3, 5000));
        assert_false(rig.told.ok);
        assert_non_null(rig.issuer->keys);
        assert_int_equal(rig.told.changed, 1);
        /* Fail closed. */
        assert_true(turn_until(rig.base, &rig.told.changed, 2, 5000));
        assert_null(rig.issuer->keys);
        assert_string_equal(rig.told.events, "keys.changed keys.refresh_failed keys.dropped ");
        /* And it comes back by itself. */
        stub_set(rig.stub, "/keys", 200, "", KEYS(KEY_1));
        assert_true(turn_until(rig.base, &rig.told.changed, 3, 15000));
        assert_non_null(rig.issuer->keys);
        assert_true(holds(rig.told.events, "keys.refresh_recovered "));
        rig_stop(&rig);
}

static void an_empty_or_broken_set_does_not_replace_a_good_one(void **state)
{
        static const char *const bodies[] = {"", "{}", "{\"keys\":[]}", "<html>", "{\"keys\":[",
                KEYS("{\"kty\":\"oct\",\"k\":\"c2VjcmV0\",\"kid\":\"k1\"}")};

        (void)state;
        for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
                struct rig rig;
                struct error why;
                rig_init(&rig);
                rig_by_url(&rig);
                rig_start(&rig);
                stub_set(rig.stub, "/keys", 200, "", bodies[i]);
                assert_int_equal(
                        issuer_ask(rig.issuer, rig.issuer->keys->generation, &why), SOURCE_WAIT);
                assert_true(turn_until(rig.base, &rig.told.settled, 2, 5000));
                assert_false(rig.told.ok);
                assert_int_equal(rig.issuer->keys->n, 1);
                rig_stop(&rig);
        }
}

static void a_key_file_is_read_again_when_it_changes(void **state)
{
        struct rig rig;
        struct error why;
        char path[] = "/tmp/dagward-keys-XXXXXX";

        (void)state;
        close(mkstemp(path));
        file_write(path, KEYS(KEY_1));
        rig_init(&rig);
        rig.config.keys.discovery = false;
        rig.config.keys.file = str_of(path);
        rig_start(&rig);
        assert_true(rig.told.ok);
        uint64_t first = rig.issuer->keys->generation;
        file_write(path, KEYS(KEY_1 "," KEY_2));
        assert_true(turn_until(rig.base, &rig.told.changed, 2, SOURCE_FILE_POLL_MS + 3000));
        assert_int_equal(rig.issuer->keys->n, 2);
        /* An ask does not wait for the next look. */
        file_write(path, KEYS(KEY_3));
        assert_int_equal(issuer_ask(rig.issuer, rig.issuer->keys->generation, &why), SOURCE_NEWER);
        assert_int_equal(rig.issuer->keys->n, 1);
        assert_true(rig.issuer->keys->generation != first);
        /* A file that is gone leaves the keys alone. */
        unlink(path);
        unsigned settled = rig.told.settled;
        assert_true(
                turn_until(rig.base, &rig.told.settled, settled + 1, SOURCE_FILE_POLL_MS + 3000));
        assert_false(rig.told.ok);
        assert_non_null(rig.issuer->keys);
        assert_int_equal(stub_requests(rig.stub), 0);
        rig_stop(&rig);
}

static void the_bearer_goes_only_to_the_origin_that_was_configured(void **state)
{
        struct rig rig;
        struct stub *other = stub_start();
        char path[] = "/tmp/dagward-bearer-XXXXXX";
        char document[300];

        (void)state;
        close(mkstemp(path));
        file_write(path, "service-account-token\n");
        stub_set(other, "/keys", 200, "", KEYS(KEY_1));
        rig_init(&rig);
        rig.config.keys.bearer_file = str_of(path);
        snprintf(document, sizeof(document),
                "{\"issuer\":\"%s\",\"jwks_uri\":\"http://127.0.0.1:%u/keys\"}", rig.origin,
                other->port);
        stub_set(rig.stub, "/.well-known/openid-configuration", 200, "", document);
        rig_start(&rig);
        assert_true(rig.told.ok);
        assert_true(stub_saw(rig.stub, "/.well-known/openid-configuration",
                "Authorization: Bearer service-account-token\r\n"));
        assert_false(stub_saw(other, "/keys", "Authorization"));
        unlink(path);
        stub_stop(other);
        rig_stop(&rig);
}

static void a_reload_keeps_the_keys_of_an_issuer_that_did_not_change(void **state)
{
        struct rig rig;
        struct source_hooks hooks;

        (void)state;
        rig_init(&rig);
        rig_start(&rig);
        hooks = rig.issuer->hooks;
        struct issuer *same = issuer_new(&rig.config, 0, rig.base, rig.fetcher, &hooks);
        issuer_adopt(same, rig.issuer);
        assert_ptr_equal(same->keys, rig.issuer->keys);
        struct config_issuer moved = rig.config;
        struct str elsewhere[] = {STR("http://127.0.0.1:1/other")};
        moved.issuers = elsewhere;
        struct issuer *other = issuer_new(&moved, 0, rig.base, rig.fetcher, &hooks);
        issuer_adopt(other, rig.issuer);
        assert_null(other->keys);
        issuer_free(other);
        issuer_free(same);
        rig_stop(&rig);
}

static bool adopts(struct rig *rig)
{
        struct issuer *fresh =
                issuer_new(&rig->config, 0, rig->base, rig->fetcher, &rig->issuer->hooks);

        issuer_adopt(fresh, rig->issuer);
        bool has = fresh->keys != NULL;
        issuer_free(fresh);
        return has;
}

static void a_reload_keeps_no_keys_that_other_authorities_vouched_for(void **state)
{
        char path[] = "/tmp/dagward-ca-XXXXXX";
        struct rig rig;

        (void)state;
        close(mkstemp(path));
        file_write(path, "one authority");
        rig_init(&rig);
        rig.config.keys.ca = str_of(path); /* nobody reads it: the stub is no TLS server */
        rig_start(&rig);
        assert_non_null(rig.issuer->keys);
        assert_true(adopts(&rig));
        file_write(path, "another authority");
        assert_false(adopts(&rig));
        /* Keys that were confirmed when this one was there already are as good as new ones. */
        unsigned before = rig.told.settled;
        issuer_start(rig.issuer);
        assert_true(turn_until(rig.base, &rig.told.settled, before + 1, 5000));
        assert_true(adopts(&rig));
        unlink(path);
        assert_false(adopts(&rig));
        rig_stop(&rig);
}

static void lifetimes_are_bounded(void **state)
{
        static const struct {
                int64_t max_age_s, configured_ms, want_ms;
        } cases[] = {
                {-1, 900000, 900000},
                {0, 900000, 60000},
                {59, 900000, 60000},
                {60, 900000, 60000},
                {3600, 900000, 3600000},
                {86400, 900000, 86400000},
                {1000000000, 900000, 86400000},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
                assert_int_equal(issuer_lifetime_ms(cases[i].max_age_s, cases[i].configured_ms),
                        cases[i].want_ms);
        for (unsigned failures = 0; failures < 70; failures++)
                assert_in_range(backoff_ms(failures, 60000), 500, 60000);
        for (int i = 0; i < 100; i++) {
                assert_in_range(backoff_ms(2, 60000), 2000, 4000);
                assert_in_range(jitter_ms(1000), 900, 1100);
                assert_in_range(later_ms(1000), 1000, 1250);
        }
        /* By chance: a hundred that are all the same would be none. */
        unsigned backoffs = 0, jitters = 0, laters = 0;
        for (int i = 0; i < 100; i++) {
                backoffs += backoff_ms(5, 60000) != backoff_ms(5, 60000);
                jitters += jitter_ms(100000) != jitter_ms(100000);
                laters += later_ms(100000) != later_ms(100000);
        }
        assert_true(backoffs > 50 && jitters > 50 && laters > 50);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(keys_are_found_by_discovery),
                cmocka_unit_test(a_document_that_is_not_exactly_the_issuers_is_refused),
                cmocka_unit_test(however_many_unknown_kids_come_the_issuer_is_asked_once),
                cmocka_unit_test(the_first_request_after_a_rotation_finds_the_new_key),
                cmocka_unit_test(an_ask_during_an_older_refresh_gets_one_of_its_own),
                cmocka_unit_test(keys_survive_an_issuer_that_is_down_until_their_bound),
                cmocka_unit_test(an_empty_or_broken_set_does_not_replace_a_good_one),
                cmocka_unit_test(a_key_file_is_read_again_when_it_changes),
                cmocka_unit_test(the_bearer_goes_only_to_the_origin_that_was_configured),
                cmocka_unit_test(a_reload_keeps_the_keys_of_an_issuer_that_did_not_change),
                cmocka_unit_test(a_reload_keeps_no_keys_that_other_authorities_vouched_for),
                cmocka_unit_test(lifetimes_are_bounded),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
