/* What addresses have taken of a worker's time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../../src/worker/inside.h"

static void who_took_nothing_is_never_overdrawn(void **state)
{
        struct accounts accounts = {0};

        (void)state;
        assert_false(account_is_overdrawn(&accounts, 1, 0));
        assert_false(account_is_overdrawn(&accounts, 1, INT64_MAX / 2));
}

static void an_address_gets_its_share_of_a_second_and_no_more(void **state)
{
        struct accounts accounts = {0};
        int64_t spent_us = 0;

        (void)state;
        for (int64_t now_ms = 1000; now_ms < 11000; now_ms++)
                while (!account_is_overdrawn(&accounts, 1, now_ms)) {
                        account_charge(&accounts, 1, now_ms, 1500);
                        spent_us += 1500;
                }
        assert_in_range(spent_us, 10 * 40000, 10 * 60000); /* 5 % of ten seconds, about */
}

static void one_address_does_not_pay_for_another(void **state)
{
        struct accounts accounts = {0};

        (void)state;
        account_charge(&accounts, 1, 5, 900000000);
        assert_true(account_is_overdrawn(&accounts, 1, 5));
        assert_false(account_is_overdrawn(&accounts, 2, 5));
}

static void every_debt_is_forgiven_in_the_end(void **state)
{
        struct accounts accounts = {0};

        (void)state;
        account_charge(&accounts, 1, 100, INT64_MAX / 4);
        assert_true(account_is_overdrawn(&accounts, 1, 10000));
        assert_false(account_is_overdrawn(&accounts, 1, 100 + 20000));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(who_took_nothing_is_never_overdrawn),
                cmocka_unit_test(an_address_gets_its_share_of_a_second_and_no_more),
                cmocka_unit_test(one_address_does_not_pay_for_another),
                cmocka_unit_test(every_debt_is_forgiven_in_the_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
