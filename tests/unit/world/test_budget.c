/* What all workers count together: connections of addresses, requests and buckets of identities. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>

#include "dagward/world/budget.h"

enum { SECOND_US = 1000000 };

static struct budget *make(void)
{
        return budget_new(1000);
}

static void address(const char *text, unsigned char out[16])
{
        assert_true(config_address_bytes(text, out));
}

static uint64_t number(struct budget *budget, const char *text)
{
        unsigned char bytes[16];

        address(text, bytes);
        return budget_address(budget, bytes);
}

static bool connects(struct budget *budget, const char *text, uint64_t most, budget_place *place)
{
        unsigned char bytes[16];

        address(text, bytes);
        return budget_connect(budget, bytes, most, place);
}

static void an_address_has_so_many_connections_and_no_more(void **state)
{
        struct budget *budget = make();
        budget_place places[3], more;

        (void)state;
        for (int i = 0; i < 3; i++)
                assert_true(connects(budget, "192.0.2.1", 3, &places[i]));
        assert_false(connects(budget, "192.0.2.1", 3, &more));
        assert_int_equal(more, 0);
        assert_true(connects(budget, "192.0.2.2", 3, &more));
        budget_disconnect(budget, places[1]);
        assert_true(connects(budget, "192.0.2.1", 3, &places[1]));
        assert_false(connects(budget, "192.0.2.1", 3, &more));
        budget_free(budget);
}

static void of_IPv6_a_64_is_one_address_and_IPv4_is_never_a_part_of_one(void **state)
{
        struct budget *budget = make();
        budget_place place;

        (void)state;
        assert_true(connects(budget, "2001:db8:0:1::1", 1, &place));
        assert_false(connects(budget, "2001:db8:0:1:ffff::2", 1, &place));
        assert_true(connects(budget, "2001:db8:0:2::1", 1, &place));
        assert_true(connects(budget, "10.0.0.1", 1, &place));
        assert_true(connects(budget, "10.0.0.2", 1, &place));
        assert_false(connects(budget, "::ffff:10.0.0.2", 1, &place));
        assert_int_equal(number(budget, "2001:db8:0:1::1"), number(budget, "2001:db8:0:1:f::2"));
        assert_int_not_equal(number(budget, "2001:db8:0:1::1"), number(budget, "2001:db8:0:2::1"));
        assert_int_not_equal(number(budget, "10.0.0.1"), number(budget, "10.0.0.2"));
        budget_free(budget);
}

static void addresses_that_are_gone_leave_room_for_others(void **state)
{
        struct budget *budget = make();
        char text[32];
        int counted = 0;

        (void)state;
        for (int round = 0; round < 50; round++) {
                budget_place places[1000], more;
                for (int i = 0; i < 1000; i++) {
                        snprintf(text, sizeof(text), "10.%d.%d.%d", round, i >> 8, i & 255);
                        assert_true(connects(budget, text, 1, &places[i]));
                        counted += places[i] != 0;
                }
                for (int i = 0; i < 1000; i++) {
                        snprintf(text, sizeof(text), "10.%d.%d.%d", round, i >> 8, i & 255);
                        assert_int_equal(connects(budget, text, 1, &more), places[i] == 0);
                        budget_disconnect(budget, places[i]);
                        budget_disconnect(budget, more);
                }
        }
        assert_true(counted > 49500); /* a line that is full of others is a rare thing */
        budget_free(budget);
}

static void identities_are_told_apart_wherever_a_name_ends(void **state)
{
        struct budget *budget = make(), *other = make();

        (void)state;
        uint64_t n = budget_identity(budget, STR("ab"), STR("c"));
        assert_int_equal(n, budget_identity(budget, STR("ab"), STR("c")));
        assert_int_not_equal(n, budget_identity(budget, STR("a"), STR("bc")));
        assert_int_not_equal(n, budget_identity(budget, STR("c"), STR("ab")));
        assert_int_not_equal(
                budget_identity(budget, STR("r"), STR("")), budget_role(budget, STR("r")));
        assert_int_not_equal(n, budget_identity(other, STR("ab"), STR("c"))); /* its key is new */
        budget_free(other);
        budget_free(budget);
}

static void an_identity_has_so_many_requests_and_a_quarter_is_not_for_streams(void **state)
{
        struct budget *budget = make();
        uint64_t me = budget_identity(budget, STR("i"), STR("me"));
        budget_place streams[6], requests[2], place;

        (void)state;
        for (int i = 0; i < 6; i++)
                assert_true(budget_begin(budget, me, 8, true, 0, &streams[i]));
        assert_false(budget_begin(budget, me, 8, true, 0, &place));
        assert_int_equal(place, 0);
        for (int i = 0; i < 2; i++)
                assert_true(budget_begin(budget, me, 8, false, 0, &requests[i]));
        assert_false(budget_begin(budget, me, 8, false, 0, &place));
        assert_true(budget_begin(
                budget, budget_identity(budget, STR("i"), STR("you")), 8, true, 0, &place));
        budget_end(budget, requests[0], false);
        assert_false(budget_begin(budget, me, 8, true, 0, &place)); /* six are streams already */
        budget_end(budget, streams[0], true);
        assert_true(budget_begin(budget, me, 8, true, 0, &streams[0]));
        assert_true(budget_begin(budget, me, 8, false, 0, &requests[0]));
        assert_false(budget_begin(budget, me, 8, false, 0, &place));
        budget_free(budget);
}

static void a_bucket_gives_its_burst_and_then_its_rate(void **state)
{
        static const struct config_bucket bucket = {.requests = 10, .per_ms = 1000, .burst = 5};
        struct budget *budget = make();
        uint64_t me = budget_identity(budget, STR("i"), STR("me"));
        int64_t now_us = 77 * (int64_t)SECOND_US;
        int given = 0;

        (void)state;
        for (int i = 0; i < 20; i++)
                given += budget_spend(budget, me, BUDGET_READS, &bucket, now_us) == 0;
        assert_int_equal(given, 5);
        assert_int_equal(budget_spend(budget, me, BUDGET_READS, &bucket, now_us), 100000);
        assert_int_equal(budget_spend(budget, me, BUDGET_READS, &bucket, now_us + 99999), 1);
        assert_int_equal(budget_spend(budget, me, BUDGET_READS, &bucket, now_us + 100000), 0);
        assert_int_equal(budget_spend(budget, me, BUDGET_WRITES, &bucket, now_us), 0);
        for (given = 0, now_us += 10 * (int64_t)SECOND_US; given < 5; given++)
                assert_int_equal(budget_spend(budget, me, BUDGET_READS, &bucket, now_us), 0);
        assert_true(budget_spend(budget, me, BUDGET_READS, &bucket, now_us) > 0); /* not saved up */
        budget_free(budget);
}

/* Somebody who may call himself anything, and comes back as who he was. */
static void who_is_given_more_does_not_wait_for_what_was_owed_under_another_rate(void **state)
{
        const struct config_bucket hourly = {.requests = 1, .per_ms = 3600 * 1000, .burst = 10};
        const struct config_bucket fast = {.requests = 10, .per_ms = 1000, .burst = 10};
        struct budget *budget = budget_new(1000);
        uint64_t me = budget_identity(budget, STR("airflow"), STR("worker"));
        int64_t now_us = 1000000;

        (void)state;
        for (int i = 0; i < 10; i++)
                assert_int_equal(budget_spend(budget, me, BUDGET_READS, &hourly, now_us), 0);
        assert_true(budget_spend(budget, me, BUDGET_READS, &hourly, now_us) > 3500000000);
        assert_int_equal(budget_spend(budget, me, BUDGET_READS, &fast, now_us), 100000);
        assert_int_equal(budget_spend(budget, me, BUDGET_READS, &fast, now_us + 99999), 1);
        assert_int_equal(budget_spend(budget, me, BUDGET_READS, &fast, now_us + 100000), 0);
        /* A worker whose clock is behind gives nothing back. */
        assert_true(budget_spend(budget, me, BUDGET_READS, &fast, now_us - 400000) > 0);
        assert_true(budget_spend(budget, me, BUDGET_READS, &fast, now_us + 100000) > 0);
        budget_free(budget);
}

static void nobody_is_forgotten_by_being_others_in_between(void **state)
{
        static const struct config_bucket bucket = {.requests = 1, .per_ms = 60000, .burst = 1};
        struct budget *budget = make();
        uint64_t me = budget_identity(budget, STR("i"), STR("me"));
        char text[32];
        int given = 0;

        (void)state;
        assert_int_equal(budget_spend(budget, me, BUDGET_READS, &bucket, 0), 0);
        for (int i = 0; i < 100000; i++) {
                snprintf(text, sizeof(text), "other-%d", i);
                given += budget_spend(budget, budget_identity(budget, STR("i"), str_of(text)),
                                 BUDGET_READS, &bucket, 1 + i) == 0;
        }
        assert_true(budget_spend(budget, me, BUDGET_READS, &bucket, 200000) > 0);
        assert_true(given <= 16 * 1024); /* the rest share one account, and that is empty, too */
        assert_true(budget_crowded(budget) > 0);
        int64_t later_us = 61 * (int64_t)SECOND_US; /* all buckets are full: slots are given anew */
        uint64_t crowded = budget_crowded(budget);
        assert_int_equal(budget_spend(budget, budget_identity(budget, STR("i"), STR("new")),
                                 BUDGET_READS, &bucket, later_us),
                0);
        assert_int_equal(budget_crowded(budget), crowded);
        budget_free(budget);
}

struct thread {
        pthread_t id;
        struct budget *budget;
        unsigned number;
        int given;
};

static void *hammer(void *arg)
{
        static const struct config_bucket bucket = {
                .requests = 1000, .per_ms = 86400000, .burst = 1000};
        struct thread *t = arg;
        unsigned char bytes[16] = {0x20, 1, [7] = 9};

        for (int i = 0; i < 20000; i++) {
                budget_place connection, request;
                uint64_t me = budget_identity(t->budget, STR("i"), STR("me"));
                if (budget_connect(t->budget, bytes, 3, &connection) &&
                        budget_begin(t->budget, me, 3, i % 2, 0, &request)) {
                        t->given += budget_spend(t->budget, me, BUDGET_READS, &bucket, 0) == 0;
                        budget_end(t->budget, request, i % 2);
                }
                budget_disconnect(t->budget, connection);
        }
        return NULL;
}

static void threads_lose_nothing(void **state)
{
        struct budget *budget = make();
        struct thread threads[4];
        unsigned char bytes[16] = {0x20, 1, [7] = 9};
        budget_place place;
        int given = 0;

        (void)state;
        for (unsigned i = 0; i < 4; i++) {
                threads[i] = (struct thread){.budget = budget, .number = i};
                assert_int_equal(pthread_create(&threads[i].id, NULL, hammer, &threads[i]), 0);
        }
        for (unsigned i = 0; i < 4; i++) {
                pthread_join(threads[i].id, NULL);
                given += threads[i].given;
        }
        assert_int_equal(given, 1000); /* of 80,000 that were asked for */
        for (int i = 0; i < 3; i++)
                assert_true(budget_connect(budget, bytes, 3, &place));
        assert_false(budget_connect(budget, bytes, 3, &place));
        uint64_t me = budget_identity(budget, STR("i"), STR("me"));
        for (int i = 0; i < 3; i++)
                assert_true(budget_begin(budget, me, 4, true, 0, &place));
        assert_false(budget_begin(budget, me, 4, true, 0, &place));
        assert_true(budget_begin(budget, me, 4, false, 0, &place));
        budget_free(budget);
}

struct meeting {
        struct budget *budget;
        pthread_barrier_t *barrier;
        unsigned got[5000]; /* by round */
};

static void *meet(void *arg)
{
        struct meeting *m = arg;

        for (unsigned i = 0; i < sizeof(m->got) / sizeof(m->got[0]); i++) {
                budget_place place;
                char name[16];
                snprintf(name, sizeof(name), "caller %u", i);
                uint64_t who = budget_identity(m->budget, STR("i"), str_of(name));
                pthread_barrier_wait(m->barrier);
                m->got[i] = budget_begin(m->budget, who, 1, false, 0, &place);
                pthread_barrier_wait(m->barrier);
                if (m->got[i])
                        budget_end(m->budget, place, false);
        }
        return NULL;
}

/* Who is met for the first time by several workers at once is one caller to all of them. */
static void a_new_identity_is_one_to_whoever_meets_it(void **state)
{
        struct budget *budget = make();
        static struct meeting meetings[2];
        pthread_barrier_t barrier;
        pthread_t threads[2];

        (void)state;
        pthread_barrier_init(&barrier, NULL, 2);
        for (unsigned i = 0; i < 2; i++) {
                meetings[i] = (struct meeting){.budget = budget, .barrier = &barrier};
                assert_int_equal(pthread_create(&threads[i], NULL, meet, &meetings[i]), 0);
        }
        for (unsigned i = 0; i < 2; i++)
                pthread_join(threads[i], NULL);
        for (unsigned i = 0; i < sizeof(meetings[0].got) / sizeof(meetings[0].got[0]); i++)
                assert_int_equal(meetings[0].got[i] + meetings[1].got[i], 1);
        pthread_barrier_destroy(&barrier);
        budget_free(budget);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_address_has_so_many_connections_and_no_more),
                cmocka_unit_test(of_IPv6_a_64_is_one_address_and_IPv4_is_never_a_part_of_one),
                cmocka_unit_test(addresses_that_are_gone_leave_room_for_others),
                cmocka_unit_test(identities_are_told_apart_wherever_a_name_ends),
                cmocka_unit_test(an_identity_has_so_many_requests_and_a_quarter_is_not_for_streams),
                cmocka_unit_test(a_bucket_gives_its_burst_and_then_its_rate),
                cmocka_unit_test(
                        who_is_given_more_does_not_wait_for_what_was_owed_under_another_rate),
                cmocka_unit_test(nobody_is_forgotten_by_being_others_in_between),
                cmocka_unit_test(threads_lose_nothing),
                cmocka_unit_test(a_new_identity_is_one_to_whoever_meets_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
