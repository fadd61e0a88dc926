/* Tokens that somebody put into a file: for emergencies and tests. */
#include "attempt.h"
#include "dagward/base/clock.h"

enum { AGAIN_MS = 60 * 1000 }; /* a changed file is seen sooner */

void way_static_file(struct attempt *a)
{
        struct secret token = {0};
        int64_t life_ms = INT64_MAX;

        if (!attempt_read(a, a->config->file, &token))
                return;
        int64_t expires_s = attempt_jwt_expires_s(secret_reveal(&token));
        if (expires_s != INT64_MAX)
                life_ms = expires_s * 1000 - clock_wall_ms();
        if (life_ms <= 0) {
                attempt_cause(a, "it has expired");
                attempt_failf(a, OUTCOME_OPERATOR,
                        "the token in %s has expired: put a new one there", a->config->file.ptr);
        } else {
                attempt_token(a, secret_reveal(&token), life_ms, AGAIN_MS);
        }
        secret_drop(&token);
}

void way_pat_file(struct attempt *a)
{
        struct secret pat = {0};

        if (!attempt_read(a, a->config->file, &pat))
                return;
        attempt_pat(a, secret_reveal(&pat), INT64_MAX, AGAIN_MS);
        secret_drop(&pat);
}
