/*
 * throttle: Azure DevOps says that a credential asks too much.
 *
 * 429, or 503, with Retry-After: the answer is passed on as it is, and until that time is over
 * further requests with the same credential get the same status here, with what is left of it. To
 * go on asking makes the block longer, for everybody who shares the credential. A 429 is about an
 * identity, whatever it asks; a 503 is about one service. An answer that was only delayed
 * (X-RateLimit-Delay) is counted: who is delayed gets the answer all the same.
 *
 * Each worker knows what its own requests were told.
 */
#include "inside.h"

#include <time.h>

enum { THROTTLED_MOST_S = 300 }; /* Azure DevOps looks at five minutes */

static unsigned slot_of(unsigned index)
{
        return index < METRICS_CREDENTIALS ? index : METRICS_CREDENTIALS - 1;
}

/* The credential that the exchange uses, and whose it is. False: it is gone. */
static bool key_of(struct exchange *x, struct throttle *key)
{
        const struct world *world = x->worker->lease->world;

        if (!credential_find(world->credentials, x->decision.credential, &key->index))
                return false;
        key->service = x->named.service;
        if (lend_is_callers(world, key->index))
                token_digest(x->token, key->digest);
        return true;
}

/* What holds `key` back, or, when that has a status, what it takes the place of: that one service
 * is not there for a moment says nothing about an identity that asks too much. */
static struct throttle *find(struct worker *worker, const struct throttle *key)
{
        for (size_t i = 0; i < THROTTLES; i++) {
                struct throttle *one = &worker->throttles[i];
                if (worker->now_ms < one->until_ms && one->index == key->index &&
                        (one->status == 429 || one->service == key->service) &&
                        (!key->status || key->status == 429 || key->status == one->status) &&
                        memcmp(one->digest, key->digest, sizeof(key->digest)) == 0)
                        return one;
        }
        return NULL;
}

enum next throttle_step(struct exchange *x)
{
        struct worker *worker = x->worker;
        struct throttle key = {0}, *found = NULL;

        if (worker->now_ms >= worker->throttled_until_ms ||
                x->world->config->upstream.throttle != THROTTLE_SHED)
                return NEXT;
        if (key_of(x, &key))
                found = find(worker, &key);
        if (!found)
                return NEXT;
        worker->metrics.throttle_shed[slot_of(key.index)]++;
        x->refusal.retry_after_s = (int)((found->until_ms - worker->now_ms + 999) / 1000);
        return refuse(x, found->status, REFUSED_THROTTLED,
                "Azure DevOps takes no more requests with the credential of your binding for now "
                "(it said so to somebody who uses it too); this one was not sent, try again in "
                "%d s",
                x->refusal.retry_after_s);
}

/* --- what Azure DevOps says --- */

/* "17", "17.250" (X-RateLimit-Delay), or a date (RFC 9110 10.2.3, the form that is to be sent);
 * -1: nothing that is understood. */
static int64_t wait_ms(struct str value, int64_t wall_ms)
{
        struct str whole, fraction = str_cut(value, '.', &whole);
        struct tm date = {0};
        uint64_t seconds;
        char text[32];

        if (str_to_u64(whole, &seconds) && seconds < INT32_MAX)
                return (int64_t)seconds * 1000 + (fraction.len ? 999 : 0);
        if (value.len != 29) /* Sun, 06 Nov 1994 08:49:37 GMT */
                return -1;
        snprintf(text, sizeof(text), "%.*s", STR_FMT(value));
        const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &date);
        if (!end || *end)
                return -1;
        int64_t ms = (int64_t)timegm(&date) * 1000 - wall_ms;
        return ms > 0 ? ms : 0;
}

static int64_t wait_of(const struct exchange *x)
{
        struct str after = h1_response_value(&x->response, H1_RETRY_AFTER);
        struct str delay = h1_response_value(&x->response, H1_X_RATELIMIT_DELAY);
        int64_t ms = after.len ? wait_ms(after, x->worker->wall_ms) : -1;

        if (ms < 0 && delay.len && x->response.status == 429)
                ms = wait_ms(delay, x->worker->wall_ms);
        return ms < THROTTLED_MOST_S * 1000 ? ms : THROTTLED_MOST_S * 1000;
}

static void tell(struct exchange *x, int64_t ms)
{
        struct worker *worker = x->worker;
        struct str resource = h1_response_value(&x->response, H1_X_RATELIMIT_RESOURCE);
        char status[8], seconds[24], number[16];

        snprintf(status, sizeof(status), "%d", x->response.status);
        snprintf(seconds, sizeof(seconds), "%lld", (long long)(ms + 999) / 1000);
        snprintf(number, sizeof(number), "%u", worker->number);
        log_error("correlation=%s credential=%.*s is throttled: %s for %s s", x->correlation_id,
                STR_FMT(x->decision.credential), status, seconds);
        const struct pair detail[] = {{STR("credential"), x->decision.credential},
                {STR("status"), str_of(status)}, {STR("seconds"), str_of(seconds)},
                {STR("service"), str_of(service_name(x->named.service))},
                {STR("worker"), str_of(number)}, {STR("correlation_id"), str_of(x->correlation_id)},
                {STR("resource"), str_head(resource, 100)}};
        address_event(worker, "upstream.throttled", detail, resource.len ? 7 : 6);
}

/* The slot for one more: of the same, or of what ends first. */
static struct throttle *take(struct worker *worker, const struct throttle *key)
{
        struct throttle *found = find(worker, key), *slot = &worker->throttles[0];

        if (found)
                return found;
        for (size_t i = 1; i < THROTTLES; i++)
                if (worker->throttles[i].until_ms < slot->until_ms)
                        slot = &worker->throttles[i];
        return slot;
}

void throttle_answered(struct exchange *x)
{
        const struct h1_response *response = &x->response;
        struct worker *worker = x->worker;
        bool refused = response->status == 429 || response->status == 503;
        struct throttle key = {.status = response->status};
        int64_t ms = -1;

        if (response->first[H1_RETRY_AFTER] < 0 && response->first[H1_X_RATELIMIT_DELAY] < 0 &&
                response->status != 429)
                return;
        if (!key_of(x, &key))
                return;
        if (!refused) {
                worker->metrics.throttle_delayed[slot_of(key.index)]++;
                return;
        }
        ms = wait_of(x);
        worker->metrics.throttled[slot_of(key.index)]++;
        if (ms <= 0)
                return;
        struct throttle *slot = take(worker, &key);
        bool news = worker->now_ms >= slot->until_ms;
        key.until_ms = worker->now_ms + ms;
        *slot = key;
        if (key.until_ms > worker->throttled_until_ms)
                worker->throttled_until_ms = key.until_ms;
        if (news)
                tell(x, ms);
}

void throttle_forget(struct worker *worker)
{
        memset(worker->throttles, 0, sizeof(worker->throttles));
        worker->throttled_until_ms = 0;
}

void throttle_count(struct worker *worker)
{
        struct metrics *metrics = &worker->metrics;

        memset(metrics->throttle_now, 0, sizeof(metrics->throttle_now));
        for (size_t i = 0; i < THROTTLES; i++)
                if (worker->now_ms < worker->throttles[i].until_ms)
                        metrics->throttle_now[slot_of(worker->throttles[i].index)] = 1;
}
