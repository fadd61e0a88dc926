/* Which requests of unknown callers have a record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../../src/worker/inside.h"

/* How many of `n` requests at `now_ms` have one. */
static unsigned written(
        struct strangers *strangers, uint64_t address, unsigned reason, unsigned n, int64_t now_ms)
{
        unsigned records = 0;

        for (unsigned i = 0; i < n; i++)
                records += !strangers_count(strangers, address, "192.0.2.1", reason, now_ms);
        return records;
}

static void the_first_have_one_and_then_one_a_second(void **state)
{
        struct strangers *strangers = strangers_new();
        unsigned later = 0;

        (void)state;
        assert_int_equal(written(strangers, 7, REFUSED_NO_TOKEN, 5000, 1000), 100);
        for (int64_t now_ms = 2000; now_ms < 62000; now_ms += 100)
                later += written(strangers, 7, REFUSED_NO_TOKEN, 50, now_ms);
        assert_int_equal(later, 60);
        /* Who says nothing for as long as it takes has all of them again. */
        assert_int_equal(written(strangers, 7, REFUSED_NO_TOKEN, 5000, 1000000), 100);
        strangers_free(strangers);
}

static void another_reason_and_another_address_have_their_own(void **state)
{
        struct strangers *strangers = strangers_new();

        (void)state;
        assert_int_equal(written(strangers, 7, REFUSED_NO_TOKEN, 200, 1000), 100);
        assert_int_equal(written(strangers, 7, REFUSED_BAD_TOKEN, 200, 1000), 100);
        assert_int_equal(written(strangers, 77777, REFUSED_NO_TOKEN, 200, 1000), 100);
        assert_int_equal(written(strangers, 7, REFUSED_NO_TOKEN, 200, 1000), 0);
        strangers_free(strangers);
}

static void all_together_have_so_many_records(void **state)
{
        struct strangers *strangers = strangers_new();
        unsigned records = 0;

        (void)state;
        for (uint64_t address = 100; address < 2100; address += 100)
                records += written(strangers, address, REFUSED_MALFORMED, 100, 1000);
        assert_int_equal(records, 1000);
        records = 0;
        for (uint64_t address = 100; address < 2100; address += 100)
                records += written(strangers, address, REFUSED_MALFORMED, 100, 2000);
        assert_int_equal(records, 20);
        strangers_free(strangers);
}

static void more_addresses_than_are_told_apart_share_what_one_has(void **state)
{
        struct strangers *strangers = strangers_new();
        unsigned records = 0;

        (void)state;
        for (uint64_t address = 1; address < 100000; address++)
                records += written(strangers, address * 16, REFUSED_MALFORMED, 1, 1000);
        assert_in_range(records, 100, 100 + 256);
        strangers_free(strangers);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_first_have_one_and_then_one_a_second),
                cmocka_unit_test(another_reason_and_another_address_have_their_own),
                cmocka_unit_test(all_together_have_so_many_records),
                cmocka_unit_test(more_addresses_than_are_told_apart_share_what_one_has),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
