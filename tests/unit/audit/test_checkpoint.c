#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dagward/audit/checkpoint.h"

static char folder[64];
static char path[96];

/* Of RFC 8032 7.1, test 1: the private key in PKCS #8, as RFC 8410 writes it. */
#define KNOWN_KEY                                                                                  \
        "-----BEGIN PRIVATE KEY-----\n"                                                            \
        "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"                       \
        "-----END PRIVATE KEY-----\n"
#define KNOWN_PUBLIC "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
/* And its signature of nothing. */
#define KNOWN_SIGNATURE                                                                            \
        "5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc+bRr0lv18FlbviRlUUFDjnoQCw=="

static int setup(void **state)
{
        (void)state;
        snprintf(folder, sizeof(folder), "/tmp/dagward-signing-XXXXXX");
        assert_non_null(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/key", folder);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        unlink(path);
        return rmdir(folder);
}

static void put(const char *text)
{
        FILE *file = fopen(path, "w");

        assert_non_null(file);
        fputs(text, file);
        assert_int_equal(fclose(file), 0);
}

static struct signing_key *known(void)
{
        struct error err = {""};

        put(KNOWN_KEY);
        struct signing_key *key = signing_key_load(path, &err);
        if (!key)
                fail_msg("%s", err.text);
        return key;
}

static void a_signature_is_that_of_the_standard(void **state)
{
        struct signing_key *key = known();
        char signature[SIGNING_LEN + 1], public[SIGNING_KEY_LEN + 1];
        struct error err;

        (void)state;
        assert_string_equal(signing_key_text(key), KNOWN_PUBLIC);
        assert_string_equal(signing_key_pem(key),
                "-----BEGIN PUBLIC KEY-----\n" KNOWN_PUBLIC "\n-----END PUBLIC KEY-----\n");
        signing_sign(key, STR(""), signature);
        assert_string_equal(signature, KNOWN_SIGNATURE);
        assert_true(signing_verify(STR(KNOWN_PUBLIC), STR(""), STR(KNOWN_SIGNATURE)));
        assert_true(signing_public_load(path, public, &err));
        assert_string_equal(public, KNOWN_PUBLIC);
        put(signing_key_pem(key));
        assert_true(signing_public_load(path, public, &err));
        assert_string_equal(public, KNOWN_PUBLIC);
        assert_null(signing_key_load(path, &err)); /* the private half is needed */
        signing_key_free(key);
}

static void a_key_is_made_once_and_nobody_else_may_read_it(void **state)
{
        struct error err;
        struct stat info;

        (void)state;
        struct signing_key *made = signing_key_load_or_make(path, &err);
        assert_non_null(made);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 07777, 0600);
        struct signing_key *again = signing_key_load_or_make(path, &err);
        assert_non_null(again);
        assert_string_equal(signing_key_text(made), signing_key_text(again));
        unlink(path);
        struct signing_key *other = signing_key_load_or_make(path, &err);
        assert_non_null(other);
        assert_string_not_equal(signing_key_text(made), signing_key_text(other));
        signing_key_free(made);
        signing_key_free(again);
        signing_key_free(other);
}

static void what_is_no_such_key_is_refused(void **state)
{
        static const char *const cases[] = {"", "hello",
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                /* an EC key */
                "-----BEGIN PRIVATE KEY-----\n"
                "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAQEBAQEBAQEBAQEB\n"
                "AQEBAQEBAQEBAQEBAQEBAQEBAQGhRANCAARv8DuUkkHnHa1K5EnPT1SxY8FDVR0h\n"
                "kY2uxFm4CTCdtbx5IyTkFTKk1m1pcXEdZ0sPrJ0WEsg9JYl4Yp0cBrxF\n"
                "-----END PRIVATE KEY-----\n",
                /* with a passphrase */
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
                "MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAh0oSXwzI0vUwICCAAw\n"
                "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEP0Zl9Fk8r1cVYBg7q1uSlMEQE8N\n"
                "-----END ENCRYPTED PRIVATE KEY-----\n"};
        struct error err;

        (void)state;
        assert_null(signing_key_load(path, &err));
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                put(cases[i]);
                err.text[0] = '\0';
                assert_null(signing_key_load(path, &err));
                assert_non_null(strstr(err.text, path));
                /* What is there is never written over. */
                assert_null(signing_key_load_or_make(path, &err));
        }
        assert_null(signing_key_load_or_make("/nonexistent/key", &err));
        assert_non_null(strstr(err.text, "/nonexistent/key"));
}

static void another_text_key_or_signature_is_not_good(void **state)
{
        struct signing_key *key = known();
        char signature[SIGNING_LEN + 1], text[] = "what is signed";

        (void)state;
        signing_sign(key, str_of(text), signature);
        assert_true(signing_verify(STR(KNOWN_PUBLIC), str_of(text), str_of(signature)));
        for (size_t i = 0; i < sizeof(text) - 1; i++) {
                text[i] ^= 1;
                assert_false(signing_verify(STR(KNOWN_PUBLIC), str_of(text), str_of(signature)));
                text[i] ^= 1;
        }
        /* Each character, and for the last ones also bits that base64 leaves unused. */
        for (size_t i = 0; i < SIGNING_LEN; i++) {
                for (int c = 1; c < 256; c++) {
                        char was = signature[i];
                        if (c == (unsigned char)was)
                                continue;
                        signature[i] = (char)c;
                        assert_false(
                                signing_verify(STR(KNOWN_PUBLIC), str_of(text), str_of(signature)));
                        signature[i] = was;
                        if (i < SIGNING_LEN - 4)
                                c += 50; /* a few are enough where all bits count */
                }
        }
        char other[SIGNING_KEY_LEN + 1];
        memcpy(other, KNOWN_PUBLIC, sizeof(other));
        for (size_t i = 0; i < SIGNING_KEY_LEN; i++) {
                char was = other[i];
                other[i] = was == 'A' ? 'B' : 'A';
                assert_false(signing_verify(str_of(other), str_of(text), str_of(signature)));
                other[i] = was;
        }
        assert_false(signing_verify(STR(""), str_of(text), str_of(signature)));
        assert_false(signing_verify(STR(KNOWN_PUBLIC), str_of(text), STR("")));
        assert_false(signing_verify(
                STR(KNOWN_PUBLIC), str_of(text), str_view(signature, SIGNING_LEN - 1)));
        signing_key_free(key);
}

/* The line of a checkpoint behind seq 41. */
static struct str line_of(struct signing_key *key, struct chain *chain, struct buf *out)
{
        struct chain_head head;
        struct buf members;

        chain_head_init(&head);
        head.seq = 41;
        buf_init(&members, CHECKPOINT_LINE_MOST);
        checkpoint_write(key, &head, 1795425153123, STR("rotated"), &members);
        buf_reset(out);
        assert_true(chain_write(chain, &head, buf_str(&members), out));
        buf_clear(&members);
        assert_in_range(out->len, 300, CHECKPOINT_LINE_MOST);
        return str_head(buf_str(out), out->len - 1);
}

static void a_checkpoint_signs_its_place_time_reason_and_what_is_before_it(void **state)
{
        struct signing_key *key = known();
        struct chain *chain = chain_new();
        struct checkpoint checkpoint;
        struct chain_line line;
        struct buf out;

        (void)state;
        buf_init(&out, 4096);
        struct str text = line_of(key, chain, &out);
        assert_int_equal(chain_read(chain, text, &line), CHAIN_GOOD);
        assert_true(checkpoint_read(&line, &checkpoint));
        assert_true(str_eq(checkpoint.time, STR("2026-11-23T09:12:33.123Z")));
        assert_true(str_eq(checkpoint.reason, STR("rotated")));
        assert_true(str_eq(checkpoint.key, STR(KNOWN_PUBLIC)));
        assert_true(checkpoint_good(&line, &checkpoint));
        assert_true(checkpoint_closes(&checkpoint));
        /* As docs/audit.md says, with the public half alone. */
        assert_true(signing_verify(STR(KNOWN_PUBLIC),
                STR("dagward audit checkpoint 1\n42\n2026-11-23T09:12:33.123Z\nrotated\n"
                    "0000000000000000000000000000000000000000000000000000000000000000\n"),
                checkpoint.signature));
        struct chain_line changed = line;
        changed.seq++;
        assert_false(checkpoint_good(&changed, &checkpoint));
        changed = line;
        changed.prev = line.hash;
        assert_false(checkpoint_good(&changed, &checkpoint));
        struct checkpoint other = checkpoint;
        other.time = STR("2026-11-23T09:12:33.124Z");
        assert_false(checkpoint_good(&line, &other));
        other = checkpoint;
        other.reason = STR("stopped");
        assert_false(checkpoint_good(&line, &other));
        buf_clear(&out);
        chain_free(chain);
        signing_key_free(key);
}

static void a_record_of_another_shape_is_no_checkpoint(void **state)
{
        static const char *const cases[] = {
                "\"kind\":\"event\"",
                "\"time\":\"2026-11-23T09:12:33.123Z\",\"kind\":\"event\",\"event\":{\"name\":"
                "\"log.opened\",\"detail\":{}}",
                "\"time\":\"2026-11-23T09:12:33.123Z\",\"kind\":\"event\",\"event\":{\"name\":"
                "\"log.checkpoint\",\"detail\":{\"reason\":\"r\",\"public_key\":\"k\"}}",
                "\"time\":\"2026-11-23T09:12:33.123Z\",\"kind\":\"event\",\"event\":{\"name\":"
                "\"log.checkpoint\",\"detail\":{\"reason\":\"\",\"public_key\":\"k\","
                "\"signature\":\"s\"}}",
                "\"time\":\"2026-11-23T09:12:33.123Z\",\"kind\":\"event\",\"event\":{\"name\":"
                "\"log.checkpoint\",\"detail\":{\"reason\":\"r\",\"public_key\":\"k\","
                "\"signature\":\"s\",\"more\":\"m\"}}",
                "\"time\":\"2026-11-23T09:12:33.123Z\",\"kind\":\"intent\",\"event\":{\"name\":"
                "\"log.checkpoint\",\"detail\":{\"reason\":\"r\",\"public_key\":\"k\","
                "\"signature\":\"s\"}}",
        };
        struct checkpoint checkpoint;

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct chain_line line = {.members = str_of(cases[i])};
                assert_false(checkpoint_read(&line, &checkpoint));
                for (size_t len = 0; len < line.members.len; len++) {
                        struct chain_line cut = {.members = str_head(str_of(cases[i]), len)};
                        assert_false(checkpoint_read(&cut, &checkpoint));
                }
        }
}

/* Signed as it stands there: whoever has a key can sign what is no time, and have it shown. */
static void what_is_no_time_makes_no_checkpoint(void **state)
{
        static const struct {
                const char *time;
                bool good;
        } cases[] = {
                {"2026-11-23T09:12:33.123Z", true},
                {"2028-02-29T23:59:59.999Z", true},
                {"\x1b]0;owned\x07\x1b[31m all", false},
                {"all is well. Trust me!!!", false},
                {"", false},
                {"noon", false},
                {"a\\\"b", false},
                {"2026-11-23T09:12:33Z", false},
                {"2026-11-23 09:12:33.123Z", false},
                {"2026-11-23T09:12:33,123Z", false},
                {"2026-11-23T09:12:33.123z", false},
                {"2026-11-23T09:12+00:00Z ", false},
                {"2026-11-23T09:12:3+01:00", false},
                {"2026-11-23T09:12:33.1234", false},
                {"2026-11-2309:12:33.12345", false},
                {"2026-13-23T09:12:33.123Z", false},
                {"2026-02-30T09:12:33.123Z", false},
                {"2026-11-23T24:12:33.123Z", false},
                {"2026-11-23T09:12:60.123Z", false},
                {"1969-11-23T09:12:33.123Z", false},
                {"                        ", false},
        };
        struct signing_key *key = known();
        struct chain *chain = chain_new();

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                char text[512], members[1024], signature[SIGNING_LEN + 1];
                struct checkpoint checkpoint;
                struct chain_head head;
                struct chain_line line;
                struct buf out;

                chain_head_init(&head);
                snprintf(text, sizeof(text), "dagward audit checkpoint 1\n1\n%s\nstopped\n%s\n",
                        cases[i].time, head.hash);
                signing_sign(key, str_of(text), signature);
                snprintf(members, sizeof(members),
                        "\"time\":\"%s\",\"kind\":\"event\",\"event\":{\"name\":\"log.checkpoint\","
                        "\"detail\":{\"reason\":\"stopped\",\"public_key\":\"%s\",\"signature\":\"%"
                        "s\"}}",
                        cases[i].time, signing_key_text(key), signature);
                buf_init(&out, 4096);
                assert_true(chain_write(chain, &head, str_of(members), &out));
                assert_int_equal(
                        chain_read(chain, str_head(buf_str(&out), out.len - 1), &line), CHAIN_GOOD);
                bool good =
                        checkpoint_read(&line, &checkpoint) && checkpoint_good(&line, &checkpoint);
                if (good != cases[i].good)
                        fail_msg("%s: %d", cases[i].time, good);
                buf_clear(&out);
        }
        chain_free(chain);
        signing_key_free(key);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(
                        a_signature_is_that_of_the_standard, setup, teardown),
                cmocka_unit_test_setup_teardown(
                        a_key_is_made_once_and_nobody_else_may_read_it, setup, teardown),
                cmocka_unit_test_setup_teardown(what_is_no_such_key_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(
                        another_text_key_or_signature_is_not_good, setup, teardown),
                cmocka_unit_test_setup_teardown(
                        a_checkpoint_signs_its_place_time_reason_and_what_is_before_it, setup,
                        teardown),
                cmocka_unit_test_setup_teardown(
                        a_record_of_another_shape_is_no_checkpoint, setup, teardown),
                cmocka_unit_test_setup_teardown(
                        what_is_no_time_makes_no_checkpoint, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
