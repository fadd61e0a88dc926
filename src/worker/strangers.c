/*
 * strangers: a request whose caller never became known has a record, a flood of them has not.
 *
 * Whoever reaches the port could fill the disk otherwise, without a token, and push what others did
 * out of the files that are kept. So the first requests of an address that end for the same reason
 * have a record each, and later ones so many in a time; the others are counted, and told in an
 * event `strangers.refused` once a minute. None of them was forwarded. All strangers of a worker
 * together have so many records, too, as one may have many addresses.
 */
#include "inside.h"

#include <stdlib.h>

#include "dagward/net/listener.h"

enum { SLOTS = 256, NEAR = 4 };
enum { BURST = 100, EVERY_MS = 1000 };        /* of an address, for a reason */
enum { BURST_ALL = 1000, EVERY_ALL_MS = 50 }; /* of a worker */
enum { TOLD_MS = 60 * 1000 };
/* Reasons beside enum refusal: it was not refused, but went away; more than one. */
enum { LEFT = REFUSAL_COUNT, ANY };

struct stranger {
        uint64_t who;     /* address and reason */
        int64_t full_ms;  /* monotonic: when it may have its burst of records again */
        uint64_t counted; /* without a record, and not told yet */
        int64_t since_ms; /* the first of them */
        unsigned reason;  /* enum refusal, LEFT or ANY */
        char address[LISTENER_PEER];
};

struct strangers {
        struct stranger slots[SLOTS];
        struct stranger others; /* of those that find no slot */
        int64_t full_ms;
        int64_t told_ms;
};

struct strangers *strangers_new(void)
{
        struct strangers *strangers = calloc(1, sizeof(*strangers));

        if (!strangers)
                abort();
        snprintf(strangers->others.address, sizeof(strangers->others.address), "others");
        strangers->others.reason = ANY;
        return strangers;
}

void strangers_free(struct strangers *strangers)
{
        free(strangers);
}

/* One more out of a bucket, which is full at `*full_ms`; false: it is empty. */
static bool take(int64_t *full_ms, int burst, int every_ms, int64_t now_ms)
{
        int64_t from_ms = *full_ms > now_ms ? *full_ms : now_ms;

        if (from_ms + every_ms - now_ms > (int64_t)burst * every_ms)
                return false;
        *full_ms = from_ms + every_ms;
        return true;
}

/* A slot is given to another when it says nothing any more, so that being forgotten is no gain. */
static struct stranger *slot_of(struct strangers *strangers, uint64_t address, const char *text,
        unsigned reason, int64_t now_ms)
{
        uint64_t who = address + reason;
        struct stranger *near = &strangers->slots[who % (SLOTS / NEAR) * NEAR];

        for (size_t i = 0; i < NEAR; i++)
                if (near[i].who == who)
                        return &near[i];
        for (size_t i = 0; i < NEAR; i++) {
                if (near[i].counted || near[i].full_ms > now_ms)
                        continue;
                near[i] = (struct stranger){.who = who, .reason = reason};
                snprintf(near[i].address, sizeof(near[i].address), "%s", text);
                return &near[i];
        }
        return &strangers->others;
}

bool strangers_count(struct strangers *strangers, uint64_t address, const char *text,
        unsigned reason, int64_t now_ms)
{
        struct stranger *slot = slot_of(strangers, address, text, reason, now_ms);

        if (take(&slot->full_ms, BURST, EVERY_MS, now_ms) &&
                take(&strangers->full_ms, BURST_ALL, EVERY_ALL_MS, now_ms))
                return false;
        if (!slot->counted++)
                slot->since_ms = now_ms;
        return true;
}

static struct str reason_name(unsigned reason)
{
        switch (reason) {
        case LEFT: return STR("left");
        case ANY: return STR("any");
        default: return str_of(metrics_refusal_names[reason]);
        }
}

static void tell(struct worker *worker, struct stranger *slot)
{
        char requests[24], seconds[24], number[24];

        if (!slot->counted)
                return;
        snprintf(requests, sizeof(requests), "%llu", (unsigned long long)slot->counted);
        snprintf(seconds, sizeof(seconds), "%lld",
                (long long)(worker->now_ms - slot->since_ms + 999) / 1000);
        snprintf(number, sizeof(number), "%u", worker->number);
        const struct pair detail[] = {
                {STR("address"), str_of(slot->address)},
                {STR("reason"), reason_name(slot->reason)},
                {STR("requests"), str_of(requests)},
                {STR("seconds"), str_of(seconds)},
                {STR("worker"), str_of(number)},
        };
        slot->counted = 0;
        evidence_event(
                worker, STR("strangers.refused"), detail, sizeof(detail) / sizeof(detail[0]));
        log_info("client=%s %s requests in %s s without a record each, reason=%.*s", slot->address,
                requests, seconds, STR_FMT(reason_name(slot->reason)));
}

void strangers_tell(struct worker *worker, bool at_once)
{
        struct strangers *strangers = worker->strangers_met;
        bool later = worker->now_ms - strangers->told_ms < TOLD_MS || evidence_is_behind(worker);

        if (later && !at_once)
                return;
        strangers->told_ms = worker->now_ms;
        for (size_t i = 0; i < SLOTS; i++)
                tell(worker, &strangers->slots[i]);
        tell(worker, &strangers->others);
}
