#include "dagward/world/metrics.h"

#include <stddef.h>

const int metrics_latency_ms[METRICS_LATENCY - 1] = {
        1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10000, 60000};

const char *const metrics_refusal_names[REFUSAL_COUNT] = {
        [REFUSED_MALFORMED] = "malformed",
        [REFUSED_NO_TOKEN] = "no-token",
        [REFUSED_BAD_TOKEN] = "bad-token",
        [REFUSED_PAT] = "pat",
        [REFUSED_POLICY] = "policy",
        [REFUSED_TOO_LARGE] = "too-large",
        [REFUSED_NO_CREDENTIAL] = "no-credential",
        [REFUSED_AUDIT] = "audit",
        [REFUSED_UPSTREAM_CREDENTIAL] = "upstream-credential",
        [REFUSED_UPSTREAM] = "upstream",
        [REFUSED_DUPLICATE] = "duplicate",
        [REFUSED_TRIGGERS] = "triggers",
        [REFUSED_RATE] = "rate",
        [REFUSED_CONCURRENCY] = "concurrency",
        [REFUSED_OVERLOAD] = "overload",
        [REFUSED_THROTTLED] = "throttled",
};

void metrics_add(struct metrics *sum, const struct metrics *more)
{
        /* The struct is nothing but uint64_t. */
        uint64_t *to = (uint64_t *)sum;
        const uint64_t *from = (const uint64_t *)more;

        for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
                to[i] += from[i];
}
