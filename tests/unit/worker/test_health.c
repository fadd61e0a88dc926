/* Which addresses are worth a try. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "../../../src/worker/health.h"

static const struct health_rule rule = {.failures = 3, .time_ms = 1000, .most_ms = 8000};

static struct health_key key_of(const char *ip, uint16_t port)
{
        struct sockaddr_storage address = {0};

        if (strchr(ip, ':')) {
                struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
                *v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
                assert_int_equal(inet_pton(AF_INET6, ip, &v6->sin6_addr), 1);
        } else {
                struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
                *v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
                assert_int_equal(inet_pton(AF_INET, ip, &v4->sin_addr), 1);
        }
        return health_key_of(&address);
}

static enum health_state look(
        const struct health *health, const struct health_key *key, int64_t now_ms)
{
        return health_look(health_find(health, key), now_ms);
}

static bool fail_at(struct health *health, const struct health_key *key, int64_t now_ms)
{
        return health_failed(health, key, FAULT_UNREACHABLE, &rule, now_ms, 0);
}

static void an_address_is_ejected_after_failures_in_a_row(void **state)
{
        struct health health = {0};
        struct health_key a = key_of("192.0.2.1", 443), b = key_of("2001:db8::1", 443);

        (void)state;
        assert_int_equal(look(&health, &a, 0), HEALTH_GOOD);
        assert_false(fail_at(&health, &a, 100));
        assert_false(fail_at(&health, &a, 100));
        assert_false(health_worked(&health, &a, FAULT_ANSWER, 100));
        assert_int_equal(health.n, 0); /* nothing is remembered of what is well */
        assert_false(fail_at(&health, &a, 100));
        assert_false(fail_at(&health, &a, 100));
        assert_int_equal(look(&health, &a, 100), HEALTH_GOOD);
        assert_true(fail_at(&health, &a, 100));
        assert_int_equal(look(&health, &a, 100), HEALTH_OUT);
        assert_int_equal(look(&health, &b, 100), HEALTH_GOOD);
        a.port = htons(80);
        assert_int_equal(look(&health, &a, 100), HEALTH_GOOD);
}

static void one_may_try_when_the_time_is_over(void **state)
{
        struct health health = {0};
        struct health_key a = key_of("192.0.2.1", 443);

        (void)state;
        for (int i = 0; i < 3; i++)
                (void)fail_at(&health, &a, 0);
        assert_int_equal(look(&health, &a, 999), HEALTH_OUT);
        assert_int_equal(look(&health, &a, 1000), HEALTH_PROBE);
        health_probe(&health, &a);
        assert_int_equal(look(&health, &a, 1000), HEALTH_OUT);
        health_probe_end(&health, &a); /* its client left */
        assert_int_equal(look(&health, &a, 1000), HEALTH_PROBE);
        health_probe(&health, &a);
        assert_true(health_worked(&health, &a, FAULT_UNREACHABLE, 1010));
        assert_int_equal(look(&health, &a, 1010), HEALTH_GOOD);
}

static void each_ejection_is_twice_as_long_up_to_the_most(void **state)
{
        struct health health = {0};
        struct health_key a = key_of("192.0.2.1", 443);
        int64_t now_ms = 0, spans[] = {1000, 2000, 4000, 8000, 8000, 8000};

        (void)state;
        for (int i = 0; i < 2; i++)
                (void)fail_at(&health, &a, now_ms);
        for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
                assert_true(fail_at(&health, &a, now_ms));
                assert_int_equal(look(&health, &a, now_ms + spans[i] - 1), HEALTH_OUT);
                now_ms += spans[i];
                assert_int_equal(look(&health, &a, now_ms), HEALTH_PROBE);
                health_probe(&health, &a);
        }
        /* What works for a moment and fails again goes on where it was; what is well for long does
         * not. */
        assert_true(health_worked(&health, &a, FAULT_ANSWER, now_ms));
        for (int i = 0; i < 3; i++)
                (void)fail_at(&health, &a, now_ms + 10);
        assert_int_equal(look(&health, &a, now_ms + 10 + 7999), HEALTH_OUT);
        now_ms += 20000;
        assert_true(health_worked(&health, &a, FAULT_ANSWER, now_ms));
        now_ms += HEALTH_FORGET_MS + 1;
        for (int i = 0; i < 3; i++)
                (void)fail_at(&health, &a, now_ms);
        assert_int_equal(look(&health, &a, now_ms + 1000), HEALTH_PROBE);
}

static void those_under_way_when_it_was_ejected_make_it_no_longer(void **state)
{
        struct health health = {0};
        struct health_key a = key_of("192.0.2.1", 443);

        (void)state;
        for (int i = 0; i < 3; i++)
                (void)fail_at(&health, &a, 0);
        for (int i = 0; i < 100; i++)
                assert_false(fail_at(&health, &a, 500));
        assert_int_equal(look(&health, &a, 1000), HEALTH_PROBE);
}

static void a_connection_does_not_excuse_answers(void **state)
{
        struct health health = {0};
        struct health_key a = key_of("192.0.2.1", 443);

        (void)state;
        for (int i = 0; i < 3; i++) {
                (void)health_failed(&health, &a, FAULT_ANSWER, &rule, 0, 0);
                assert_false(health_worked(&health, &a, FAULT_UNREACHABLE, 0));
        }
        assert_int_equal(look(&health, &a, 0), HEALTH_OUT);
        assert_true(health_worked(&health, &a, FAULT_ANSWER, 0));
}

static void nothing_is_ejected_when_that_is_switched_off(void **state)
{
        static const struct health_rule off = {.time_ms = 1000, .most_ms = 1000};
        struct health health = {0};
        struct health_key a = key_of("192.0.2.1", 443);

        (void)state;
        for (int i = 0; i < 100; i++)
                assert_false(health_failed(&health, &a, FAULT_UNREACHABLE, &off, 0, 0));
        assert_int_equal(health.n, 0);
}

static void another_rule_makes_no_ejection_longer_and_none_lasts_without_one(void **state)
{
        static const struct health_rule shorter = {.failures = 3, .time_ms = 100, .most_ms = 300};
        static const struct health_rule off = {.failures = 0, .time_ms = 1000, .most_ms = 8000};
        struct health_key a = key_of("192.0.2.1", 443);
        struct health health = {0};

        (void)state;
        for (int i = 0; i < 3; i++)
                (void)fail_at(&health, &a, 0);
        health_rule_changed(&health, &rule, 100);
        assert_int_equal(health_find(&health, &a)->until_ms, 1000);
        health_rule_changed(&health, &shorter, 100);
        assert_int_equal(look(&health, &a, 399), HEALTH_OUT);
        assert_int_equal(look(&health, &a, 400), HEALTH_PROBE);
        /* The one that tries it when there is no rule any more must not close it for good. */
        health_probe(&health, &a);
        health_rule_changed(&health, &off, 400);
        assert_int_equal(health.n, 0);
        assert_false(health_failed(&health, &a, FAULT_UNREACHABLE, &off, 500, 0));
        health_probe_end(&health, &a);
        assert_int_equal(look(&health, &a, 500), HEALTH_GOOD);
}

static void only_so_many_are_remembered(void **state)
{
        static struct health health;
        char ip[32];

        (void)state;
        for (int i = 0; i < 1000; i++) {
                snprintf(ip, sizeof(ip), "10.0.%d.%d", i / 250, i % 250);
                struct health_key key = key_of(ip, 443);
                for (int n = 0; n < 3; n++)
                        (void)fail_at(&health, &key, i);
                assert_int_equal(look(&health, &key, i), HEALTH_OUT);
        }
        assert_int_equal(health.n, HEALTH_MOST);
        for (unsigned i = 0; i < HEALTH_MOST; i++)
                (void)health_worked(&health, &health.entries[i].key, FAULT_ANSWER, 1000);
        health_expire(&health, 1000 + HEALTH_FORGET_MS);
        assert_int_equal(health.n, HEALTH_MOST);
        health_expire(&health, 1001 + HEALTH_FORGET_MS);
        assert_int_equal(health.n, 0);
}

static void times_are_spread_below_and_never_above(void **state)
{
        struct health_key a = key_of("192.0.2.1", 443);
        int64_t least = INT64_MAX, most = 0;

        (void)state;
        for (uint32_t random = 0; random < 1024; random += 31) {
                struct health health = {0};
                for (int i = 0; i < 3; i++)
                        (void)health_failed(&health, &a, FAULT_UNREACHABLE, &rule, 0, random);
                int64_t until_ms = health_find(&health, &a)->until_ms;
                least = until_ms < least ? until_ms : least;
                most = until_ms > most ? until_ms : most;
        }
        assert_in_range(least, 800, 820);
        assert_int_equal(most, 1000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_address_is_ejected_after_failures_in_a_row),
                cmocka_unit_test(one_may_try_when_the_time_is_over),
                cmocka_unit_test(each_ejection_is_twice_as_long_up_to_the_most),
                cmocka_unit_test(those_under_way_when_it_was_ejected_make_it_no_longer),
                cmocka_unit_test(a_connection_does_not_excuse_answers),
                cmocka_unit_test(nothing_is_ejected_when_that_is_switched_off),
                cmocka_unit_test(another_rule_makes_no_ejection_longer_and_none_lasts_without_one),
                cmocka_unit_test(only_so_many_are_remembered),
                cmocka_unit_test(times_are_spread_below_and_never_above),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
