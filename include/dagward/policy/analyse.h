/*
 * policy analysis: what a policy gives, and what in it looks like a mistake.
 *
 * Looks at the rules alone, not at a request. Slow and thorough; nothing is decided here.
 */
#ifndef DAGWARD_POLICY_ANALYSE_H
#define DAGWARD_POLICY_ANALYSE_H

#include "dagward/policy/policy.h"

struct policy_finding {
        bool is_error;     /* it cannot be meant so; else it may be */
        const char *check; /* "never-allows", "adds-nothing", ... */
        struct str place;  /* file:line */
        unsigned column;   /* of the entry, role or binding there; from 1 */
        char text[400];    /* one line */
};

typedef void policy_found(void *owner, const struct policy_finding *finding);

/*
 * Tells what looks like a mistake; the number of findings.
 *
 *   never-allows    (error) denials of the same role, or of roles that it includes, cover all that
 *                   the entry allows
 *   never-matches   (error) no request can be all that the entry asks for
 *   impossible-value  a path, ref or value of `where` that no request can have
 *   unused-role     no binding gives the role
 *   look-alike      a name of which a reader sees another: several alphabets in a word,
 *                   characters not seen, blanks at its ends, a role that differs in 0 and o
 *   adds-nothing    an entry of the same role allows all of it already
 *   every-project   changes something, and names no organization, project or other resource
 *   credentials     grants what mints or shows credentials that go round the proxy
 *   tunnels         grants what carries requests that nobody judges
 *   everybody       a binding for every caller of an issuer
 *   break-glass     a break-glass binding for every caller of an issuer, to everything, or for more
 *                   than 90 days
 *   expired         a binding that gives nothing any more at `now_ms`
 *   expires-soon    a binding that will within POLICY_EXPIRES_SOON_MS
 */
size_t policy_lint(const struct policy *policy, int64_t now_ms, policy_found *found, void *owner);

/* One way to be allowed something. Views; texts are good during the callback only. */
struct policy_way {
        struct str binding, callers, credential; /* "issuer airflow, subject system:*" */
        struct str role, rule;                   /* rule: file:line of the allow entry */
        struct str limits; /* what else the request has to be: "pipelines 42; where.refs ...";
                              of a break-glass binding also "break-glass: needs a reason ..." */
        struct str except; /* denials that apply to some of it, or "" */
};

typedef void policy_way_found(void *owner, const struct policy_way *way);

/* Everybody who may do request->op at request->now_ms to the resources it names: one way for each
 * allow entry of each binding that is not ruled out by them, or denied whatever else it is. The
 * number of ways. */
size_t policy_who_can(const struct policy *policy, const struct policy_request *request,
        policy_way_found *found, void *owner);

/* One entry of a role that a caller has. Views; texts are good during the callback only. */
struct policy_right {
        enum effect effect;
        struct str binding, role, rule;
        struct str what;     /* "operations pipelines.runs.run", "access read; areas build" */
        size_t n_operations; /* of the catalogue, that it is about */
        struct str limits;   /* what else the request has to be */
};

typedef void policy_right_found(void *owner, const struct policy_right *right);

/* Everything that `caller` may and may not do at `now_ms`, entry by entry: denials first, then what
 * is allowed; each once, by the first binding that gives its role, ordinary ones first. What a
 * break-glass binding gives has that among its limits. The number of entries. */
size_t policy_can(const struct policy *policy, const struct policy_caller *caller, int64_t now_ms,
        policy_right_found *found, void *owner);
/* All entries of all roles, in file order; `binding` is empty. The number of entries. */
size_t policy_rights(const struct policy *policy, policy_right_found *found, void *owner);

#endif
