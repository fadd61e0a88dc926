/*
 * metrics: what a worker counts. Plain numbers, each worker its own; the control thread asks for
 * copies and adds them up when somebody reads /metrics. No labels that a caller can make up.
 */
#ifndef DAGWARD_WORLD_METRICS_H
#define DAGWARD_WORLD_METRICS_H

#include <stdint.h>

enum { METRICS_ACCESS = 6 };       /* read write execute manage delete, and not in the catalogue */
enum { METRICS_EFFECT = 3 };       /* allow deny error */
enum { METRICS_STATUS = 6 };       /* 1xx..5xx by first digit; 0: no answer was sent */
enum { METRICS_SHADOW_LIVE = 2 };  /* allow deny */
enum { METRICS_SHADOW = 3 };       /* allow deny unclear */
enum { METRICS_LATENCY = 14 };     /* upper bounds in metrics_latency_ms, the last is +Inf */
enum { METRICS_SERVICES = 15 };    /* of Azure DevOps, by enum service */
enum { METRICS_CREDENTIALS = 33 }; /* by their place in the configuration; the last: all others */

extern const int metrics_latency_ms[METRICS_LATENCY - 1];

/* Why a request was not forwarded. */
enum refusal {
        REFUSED_MALFORMED, /* not HTTP, or ambiguous */
        REFUSED_NO_TOKEN,
        REFUSED_BAD_TOKEN,
        REFUSED_PAT,
        REFUSED_POLICY,
        REFUSED_TOO_LARGE,
        REFUSED_NO_CREDENTIAL,
        REFUSED_AUDIT,
        REFUSED_UPSTREAM_CREDENTIAL, /* upstream turned our credential away */
        REFUSED_UPSTREAM,            /* unreachable, nonsense, silent */
        REFUSED_DUPLICATE,           /* a trigger that was sent before, and cannot be answered */
        REFUSED_TRIGGERS,            /* no room to keep another trigger, or none for the caller */
        REFUSED_RATE,                /* more requests in a time than the caller may send */
        REFUSED_CONCURRENCY,         /* more at once than the caller may have under way */
        REFUSED_OVERLOAD,            /* there is no room for more, whoever asks */
        REFUSED_THROTTLED,           /* upstream wants no more of this credential for now */
        REFUSAL_COUNT,
};

extern const char *const metrics_refusal_names[REFUSAL_COUNT];

struct metrics {
        uint64_t requests[METRICS_ACCESS][METRICS_EFFECT][METRICS_STATUS];
        uint64_t refusals[REFUSAL_COUNT];
        uint64_t shadow[METRICS_SHADOW_LIVE][METRICS_SHADOW]; /* what both policies said */
        uint64_t shadow_disagreements;
        uint64_t latency[METRICS_LATENCY]; /* whole exchange, not cumulative */
        uint64_t latency_sum_ms;
        uint64_t upstream_latency[METRICS_LATENCY]; /* until the first byte */
        uint64_t upstream_latency_sum_ms;
        uint64_t verdict_hits, verdict_misses; /* token cache */
        uint64_t challenges;                   /* requests without a token that got a 401 */
        uint64_t clients_accepted, clients_now;
        uint64_t clients_refused_full, clients_refused_address; /* closed when they came */
        uint64_t strangers_counted; /* requests of unknown callers without a record each */
        uint64_t clients_evicted_strangers, clients_evicted_idle;
        uint64_t handshakes_delayed; /* to a later turn of the loop */
        uint64_t identities_crowded; /* requests counted in an account that others share */
        uint64_t memory_bytes;       /* held of requests and answers */
        uint64_t exchanges_now;
        uint64_t upstream_opened, upstream_reused, upstream_failed, upstream_now, upstream_idle;
        uint64_t upstream_bad_answers, upstream_shed;
        uint64_t upstream_ejections, upstream_probes;
        uint64_t addresses_ejected[METRICS_SERVICES]; /* now */
        uint64_t retries, retries_refused;
        uint64_t throttled[METRICS_CREDENTIALS], throttle_shed[METRICS_CREDENTIALS];
        uint64_t throttle_delayed[METRICS_CREDENTIALS];
        uint64_t throttle_now[METRICS_CREDENTIALS]; /* workers that hold back */
        uint64_t credential_rejected;               /* by upstream */
        uint64_t lent_hits, lent_misses, lent_held; /* callers' own credentials */
        uint64_t bytes_from_clients, bytes_to_clients;
        uint64_t audit_waits;                       /* exchanges that waited for a durable record */
        uint64_t break_glass;                       /* requests allowed by a break-glass binding */
        uint64_t triggers_first, triggers_replayed; /* sent; answered with a first answer */
        uint64_t triggers_found, triggers_renewed;  /* looked for: were there, were not */
        uint64_t triggers_lost;                     /* sent, and the answer did not come */
};

/* Adds every field of `more` to `sum`. */
void metrics_add(struct metrics *sum, const struct metrics *more);

#endif
