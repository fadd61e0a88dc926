/*
 * health: which addresses of upstream are worth a try. Private to the worker, each worker its own.
 *
 * Only addresses that have failed are remembered, so that a healthy upstream costs one comparison.
 * After so many failures in a row an address is ejected for a time that doubles with each further
 * ejection; when it is over, one exchange may try (the probe), and what comes of it decides. The
 * module knows addresses and times; no sockets, no requests.
 */
#ifndef DAGWARD_WORKER_HEALTH_H
#define DAGWARD_WORKER_HEALTH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum { HEALTH_MOST = 64 };                 /* addresses remembered; the oldest makes room */
enum { HEALTH_FORGET_MS = 5 * 60 * 1000 }; /* in which no ejection makes the next one short again */

struct health_key {
        uint16_t family, port; /* network order */
        unsigned char ip[16];
};

enum health_fault {
        FAULT_UNREACHABLE, /* no connection, or no TLS: nothing was sent */
        FAULT_ANSWER,      /* a connection, and no answer that Azure DevOps would give */
};

enum health_state {
        HEALTH_GOOD,
        HEALTH_PROBE, /* ejected, and its time is over: one may try */
        HEALTH_OUT,
};

struct health_entry {
        struct health_key key;
        enum health_fault fault;      /* the last */
        unsigned failures, ejections; /* in a row */
        bool used, ejected, probed;   /* probed: somebody is trying */
        int64_t until_ms;             /* ejected: no one tries before */
        int64_t since_ms;             /* of the ejection, or of the last failure */
};

struct health {
        unsigned n; /* entries in use */
        struct health_entry entries[HEALTH_MOST];
};

struct health_rule {
        unsigned failures; /* 0: nothing is ejected */
        int64_t time_ms, most_ms;
};

struct health_key health_key_of(const struct sockaddr_storage *address);
bool health_key_eq(const struct health_key *a, const struct health_key *b);
/* NULL: nothing is known against it. */
const struct health_entry *health_find(const struct health *health, const struct health_key *key);
enum health_state health_look(const struct health_entry *entry, int64_t now_ms);
/* Somebody tries it. */
void health_probe(struct health *health, const struct health_key *key);
/* Who tried has found out nothing. */
void health_probe_end(struct health *health, const struct health_key *key);
/* True: that made it ejected. `random` spreads the times of several workers. */
bool health_failed(struct health *health, const struct health_key *key, enum health_fault fault,
        const struct health_rule *rule, int64_t now_ms, uint32_t random);
/* It can be reached (FAULT_UNREACHABLE), or has answered (FAULT_ANSWER). True: it was ejected. */
bool health_worked(struct health *health, const struct health_key *key, enum health_fault proved,
        int64_t now_ms);
/* The rule is another one: nothing is left alone for longer than it says; if it ejects nothing, all
 * is forgotten. */
void health_rule_changed(struct health *health, const struct health_rule *rule, int64_t now_ms);
/* Forgets what has been well for long. */
void health_expire(struct health *health, int64_t now_ms);

#endif
