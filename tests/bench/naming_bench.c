/*
 * naming_bench: what it costs to name one request, over every operation of the catalogue.
 *
 * Usage: naming_bench [ROUNDS]. Each operation's own path is parsed once; then request_name (route,
 * resources, facts, canonical path) is timed ROUNDS times (default 2000) on an arena that is reset.
 * Prints the median over the operations, the 99th percentile and the dearest, in nanoseconds; once
 * as written, once without the service in front.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dagward/world/naming.h"

static long rounds = 2000;

static double now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The path with `value` for each parameter. */
static void fill(const struct operation *op, const char *value, bool service, struct buf *out)
{
        if (service && !op->any_service && op->service != SERVICE_DEV)
                buf_printf(out, "/~%s", service_name(op->service));
        for (const char *p = op->path; *p;) {
                if (*p != '{') {
                        buf_char(out, *p++);
                        continue;
                }
                buf_str_add(out, str_of(value));
                while (*p++ != '}')
                        ;
        }
        buf_char(out, '\0');
}

/* Nanoseconds for one naming; negative when the path names something unknown. */
static double time_one(const struct operation *op, const char *value, bool service)
{
        static struct target target;
        static struct named named;
        struct arena target_arena, arena;
        struct h1_fault fault;
        const char *why = "";
        struct buf path;
        double spent = -1;

        buf_init(&path, 4096);
        arena_init(&target_arena, 16 * 1024, 256 * 1024);
        arena_init(&arena, 16 * 1024, 256 * 1024);
        fill(op, value, service, &path);
        struct naming_input input = {.method = str_of(op->method[0] == '*' ? "GET" : op->method),
                .target = &target,
                .body = STR("")};
        if (target_parse(str_of(path.data), STR_NONE, &target_arena, &target, &fault) &&
                request_name(&input, &arena, &named, &why) == NAMING_FOUND) {
                double began = now_ns();
                for (long i = 0; i < rounds; i++) {
                        arena_reset(&arena);
                        if (request_name(&input, &arena, &named, &why) != NAMING_FOUND)
                                abort();
                }
                spent = (now_ns() - began) / (double)rounds;
        }
        arena_clear(&arena);
        arena_clear(&target_arena);
        buf_clear(&path);
        return spent;
}

static int by_size(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void report(const char *what, bool service)
{
        static const char *const values[] = {
                "7", "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c", "analytics"};
        static double times[OPERATIONS_MAX];
        const struct operation *ops;
        const char *dearest = "";
        double most = 0;
        size_t n, timed = 0;

        ops = catalogue_all(&n);
        for (size_t i = 0; i < n; i++) {
                double spent = -1;
                for (size_t v = 0; v < 3 && spent < 0; v++)
                        spent = time_one(&ops[i], values[v], service);
                if (spent < 0)
                        continue; /* mixed types, or told apart by a query */
                if (spent > most)
                        dearest = ops[i].id;
                most = spent > most ? spent : most;
                times[timed++] = spent;
        }
        qsort(times, timed, sizeof(times[0]), by_size);
        printf("%s: %zu of %zu paths, median %.0f ns, p99 %.0f ns, dearest %.0f ns (%s)\n", what,
                timed, n, times[timed / 2], times[timed * 99 / 100], most, dearest);
}

int main(int argc, char **argv)
{
        if (argc > 1)
                rounds = strtol(argv[1], NULL, 10);
        report("as written", true);
        report("without its service", false);
        return 0;
}
