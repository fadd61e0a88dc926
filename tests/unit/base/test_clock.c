/* Clocks that are not the wall's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "dagward/base/clock.h"

static void the_clock_of_a_thread_stands_while_it_does_not_run(void **state)
{
        const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
        int64_t began_us = clock_thread_us();

        (void)state;
        nanosleep(&pause, NULL);
        assert_in_range(clock_thread_us() - began_us, 0, 50 * 1000);
        while (clock_thread_us() - began_us < 60 * 1000)
                ;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_clock_of_a_thread_stands_while_it_does_not_run),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
