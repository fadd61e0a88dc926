#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "messages.h"

/* Refusals that are not this module's: they need the policy, the catalogue or a token. */
static bool decided_elsewhere(const char *name)
{
        static const char *const names[] = {"method-denied-delete", "method-denied-put",
                "method-denied-patch", "absolute-denied", "network-path", "path-denied-plain",
                "path-denied-query", "path-root", "path-allowed-suffix",
                "path-allowed-in-the-middle", "absolute-denied-allowed-authority"};

        for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
                if (strcmp(name, names[i]) == 0)
                        return true;
        return false;
}

static void hostile_messages_are_refused_and_honest_ones_are_read(void **state)
{
        static struct reading reading;
        static struct message_case message;
        unsigned refused = 0, accepted = 0, wrong = 0;
        FILE *file = fopen(TEST_DATA "/messages.txt", "r");

        (void)state;
        assert_non_null(file);
        while (message_next(file, &message)) {
                reading_run(&reading, message.raw, message.len);
                bool no = reading.refused || (reading.n && !reading.seen[reading.n - 1].complete);
                refused += no;
                accepted += !no && reading.n;
                if (strcmp(message.expect, "accept") == 0 ? no || !reading.n
                        : strcmp(message.expect, "refuse") == 0
                                ? !no && reading.n && !decided_elsewhere(message.name)
                                : false) {
                        print_error("%s: %s, %zu read, %s\n", message.name, message.expect,
                                reading.n, no ? reading.fault.why : "");
                        wrong++;
                }
        }
        fclose(file);
        assert_int_equal(wrong, 0);
        assert_true(refused > 300 && accepted > 50);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(hostile_messages_are_refused_and_honest_ones_are_read),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
