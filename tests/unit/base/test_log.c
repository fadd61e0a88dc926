#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "dagward/base/log.h"

enum { THREADS = 4, LINES = 2000 };

static void *write_lines(void *argument)
{
        for (int i = 0; i < LINES; i++)
                log_info("thread=%d line=%d %0*d", *(int *)argument, i, i % 1500, 0);
        return NULL;
}

/* The lines in the pipe, each whole; adds what they say was left out. */
static size_t read_lines(int fd, unsigned long *left_out)
{
        static char text[1 << 20];
        size_t lines = 0;
        ssize_t n = read(fd, text, sizeof(text) - 1);

        assert_true(n > 0);
        text[n] = '\0';
        assert_int_equal(text[n - 1], '\n');
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
                const char *told = strstr(line, "log lines left out: ");
                assert_true(told || strstr(line, " info thread=") || strstr(line, " info then"));
                if (told)
                        *left_out += strtoul(strchr(told, ':') + 1, NULL, 10);
                else
                        lines++;
        }
        return lines;
}

/* Stderr is a pipe that nobody reads, and then somebody does. */
static void who_does_not_read_holds_nobody_up_and_hears_how_much_was_lost(void **state)
{
        int ends[2], own = dup(STDERR_FILENO), numbers[THREADS];
        pthread_t threads[THREADS];
        unsigned long left_out = 0;

        (void)state;
        assert_int_equal(pipe(ends), 0);
        dup2(ends[1], STDERR_FILENO);
        log_wait_for_nobody();
        alarm(60); /* it would stand still */
        for (int i = 0; i < THREADS; i++) {
                numbers[i] = i;
                assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &numbers[i]), 0);
        }
        for (int i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        size_t lines = read_lines(ends[0], &left_out);
        assert_int_equal(left_out, 0);
        assert_in_range(lines, 1, THREADS * LINES - 1);
        log_info("then");
        log_info("then");
        lines += read_lines(ends[0], &left_out);
        assert_int_equal(lines + left_out, THREADS * LINES + 2);
        alarm(0);
        dup2(own, STDERR_FILENO);
        close(own);
        close(ends[0]);
        close(ends[1]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(who_does_not_read_holds_nobody_up_and_hears_how_much_was_lost),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
