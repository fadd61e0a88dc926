/*
 * key: when two requests are the same trigger.
 *
 * The caller's verified identity is always part of the key, so that nobody can meet the answer of
 * another. Beside it stands either the Idempotency-Key that the caller chose, or which task of
 * which Airflow run asks (the try number is left out: it is what differs between retries) together
 * with what it asks. docs/triggers.md has the table for people.
 */
#ifndef DAGWARD_TRIGGER_KEY_H
#define DAGWARD_TRIGGER_KEY_H

#include "dagward/base/str.h"

enum { TRIGGER_DIGEST = 32 };
enum { TRIGGER_CHOSEN_MOST = 255 }; /* characters of an Idempotency-Key */

/* Views; nothing is kept. */
struct trigger_parts {
        struct str issuer, subject; /* verified */
        struct str chosen;          /* the Idempotency-Key; ptr NULL: none */
        struct str dag_id, run_id, task_id, map_index, max_tries; /* claimed; may be empty */
        struct str method, service, operation, path;
        const struct pair *query; /* decoded, as sent */
        size_t n_query;
        struct str body; /* without its Content-Encoding */
};

/* SHA-256 digests. */
struct trigger_key {
        unsigned char key[TRIGGER_DIGEST];     /* what finds the first request */
        unsigned char request[TRIGGER_DIGEST]; /* of method, target and body: must agree, too */
        unsigned char caller[TRIGGER_DIGEST]; /* of issuer and subject: whose share it is of; zeros:
                                                 not known */
};

bool trigger_caller_known(const struct trigger_key *key);

enum trigger_keyed {
        TRIGGER_UNKEYED,   /* neither an Idempotency-Key nor a whole Airflow task: never the same */
        TRIGGER_BY_CHOICE, /* of the caller */
        TRIGGER_BY_TASK,
};

/* Fills `out` unless the request has no key. Aborts when SHA-256 is not to be had. */
enum trigger_keyed trigger_key_make(const struct trigger_parts *parts, struct trigger_key *out);

/* The key in a field value: a quoted string (RFC 8941 3.3.3) or the same characters without quotes;
 * a view. False: empty, too long, or with characters other than visible ASCII. */
bool trigger_chosen_read(struct str field, struct str *chosen) __attribute__((warn_unused_result));

#endif
