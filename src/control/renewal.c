#include "renewal.h"

#include "dagward/base/clock.h"
#include "source.h"

enum {
        MARGIN_MOST_MS = 5 * 1000,
        BACKOFF_MOST_MS = 60 * 1000,
        OPERATOR_LEAST_MS = 60 * 1000, /* what somebody has to change does not change in seconds */
        OPERATOR_MOST_MS = 300 * 1000,
        THROTTLED_MS = 60 * 1000, /* 429 without Retry-After */
        WAIT_MOST_MS = 3600 * 1000,
};

int64_t renewal_after_failure_ms(const struct outcome *outcome, unsigned failures)
{
        int64_t wait = backoff_ms(failures, BACKOFF_MOST_MS);

        if (outcome->kind == OUTCOME_OPERATOR || outcome->kind == OUTCOME_GONE) {
                wait = OPERATOR_LEAST_MS * (1 + (int64_t)failures);
                wait = jitter_ms(wait < OPERATOR_MOST_MS ? wait : OPERATOR_MOST_MS);
        }
        if (outcome->throttled)
                wait = jitter_ms(THROTTLED_MS);
        if (outcome->wait_least_ms > wait)
                wait = later_ms(outcome->wait_least_ms < WAIT_MOST_MS ? outcome->wait_least_ms
                                                                      : WAIT_MOST_MS);
        return wait;
}

int64_t renewal_after_token_ms(const struct outcome *outcome, bool exact)
{
        int64_t left = outcome->life_ms == INT64_MAX
                               ? INT64_MAX
                               : outcome->asked_mono_ms + outcome->life_ms - clock_mono_ms();
        int64_t refresh = outcome->refresh_ms >= 0 ? outcome->refresh_ms : left / 2;

        if (exact)
                return refresh;
        if (refresh > left / 10 * 8)
                refresh = left / 10 * 8; /* and a tenth by chance: before it is not lent any more */
        return jitter_ms(refresh);
}

int64_t renewal_margin_ms(int64_t life_ms)
{
        return life_ms / 10 < MARGIN_MOST_MS ? life_ms / 10 : MARGIN_MOST_MS;
}
