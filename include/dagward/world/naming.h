/*
 * naming: which operation a request is, and what it touches.
 *
 * Introduces the request target (http) to the catalogue (azdo). Used by the worker for requests
 * that arrive and by the policy commands for requests that somebody asks about, so that both are
 * understood in the same way.
 */
#ifndef DAGWARD_WORLD_NAMING_H
#define DAGWARD_WORLD_NAMING_H

#include "dagward/azdo/catalogue.h"
#include "dagward/azdo/resources.h"
#include "dagward/base/arena.h"
#include "dagward/http/target.h"
#include "dagward/policy/tests.h"

/* Views; all must live as long as the `struct named` made from them. */
struct naming_input {
        struct str method;           /* upper case, as received */
        const struct target *target; /* parsed */
        enum service service;        /* of the Host field; SERVICE_DEV when that is our own name */
        struct str organization;     /* of the Host field (old host names), or STR_NONE */
        struct str body;             /* ptr NULL: not read */
};

/* A named request. Views into the input, the catalogue and the arena. */
struct named {
        const struct operation *op; /* NULL: unknown to the catalogue */
        enum service service;       /* after "~service", else the one that has the route */
        bool service_found;         /* the request did not name it */
        struct route route;         /* op NULL: only segments, n_segments and encoded_slash */
        struct route_query query;
        struct resources resources; /* op NULL: the organization at most */
        struct facts *facts;        /* what it says beside them; NULL: nothing */
        struct str organization;    /* first segment, or STR_NONE on routes without one */
        struct str path; /* canonical, as policy and audit show it: see struct policy_request */
        struct str segments[TARGET_MAX_SEGMENTS]; /* what query.segments points to */
};

enum naming_result {
        NAMING_FOUND,
        NAMING_UNKNOWN,    /* named.op is NULL; may still be granted by method and path */
        NAMING_NEEDS_BODY, /* the operation depends on the body: read it, call again. named.op is
                              the gravest candidate, resources are not gathered, `*why` is set */
        NAMING_REFUSED,    /* 400, `*why` says what is ambiguous or malformed (static text) */
        NAMING_FULL,       /* the arena's ceiling was met: 431 */
};

/* Names the request. A first segment "~service" picks the service (refused if `input->service` is
 * not SERVICE_DEV, or if there is no such service). With body not read, resources that only the
 * body could tell are unresolved; operation_body_kinds(op) says which. A body of length 0 is an
 * empty one. */
enum naming_result request_name(const struct naming_input *input, struct arena *arena,
        struct named *out, const char **why) __attribute__((warn_unused_result));

/* Cuts a URL that somebody asks about, in origin form or absolute, into its origin form (a view)
 * and what its host says: a catalogue host is its service, any other counts as our own. */
bool naming_split_url(struct str url, struct str *origin, enum service *service,
        struct str *organization, struct error *err) __attribute__((warn_unused_result));

/* A policy_namer: parses `url` (origin form, or absolute with any catalogue host or any other host,
 * which then counts as our own) and names the request. */
bool naming_for_policy(void *unused, const struct policy_question *question, struct arena *arena,
        struct policy_request *out, struct error *err) __attribute__((warn_unused_result));

#endif
