/*
 * policy: may this caller do this.
 *
 * Reads policy files (docs/policy.md), compiles them, and decides. Deny is the default; a `deny`
 * that matches wins over every `allow`; order never changes the answer, only which of several
 * allowing rules is named. It is pure: it knows no socket, no clock and no header name; the time is
 * part of the request. A loaded policy is an immutable counted snapshot.
 *
 * A caller has roles through bindings; a role has entries; an entry has selectors. All selectors of
 * an entry must hold, one value of each list suffices. What a selector does:
 *
 *   selector          on an `allow`                           on a `deny`
 *   operations        the operation is one of these           same; `*` alone also catches
 *                                                             requests unknown to the catalogue
 *   access scopes     the operation is known and of this      same, or the request is unknown to
 *   areas             class / lists this scope / is of        the catalogue
 *                     this area
 *   method path       the request's method / canonical path   same
 *   a resource kind   the request touches one or more of      one that it touches matches, or it
 *   (projects, ...)   the kind, every one of them matches a   touches one it does not name
 *                     value, and none is left unnamed         (unresolved), or it names one by id
 *                                                             where the value is a name (or the
 *                                                             reverse), so that they might be the
 *                                                             same
 *   `*` as value      any, also one the request leaves        same
 *                     unnamed; but the request must touch
 *                     one of the kind
 *   where             each fact of that name that the         one that it says matches, or the body
 *                     request says has a value listed;        has not been read
 *                     saying none is fine
 *   where.time        now_ms is inside one of the windows     same
 *   claimed           the caller asserts one of the values    (not on a deny)
 *
 * Facts that raise the stakes (guarded, see azdo/facts.h) have to be named by `where` of an allow
 * entry, or it does not cover a request that says them.
 *
 * A request the catalogue does not know is granted only by an allow entry that has both `method`
 * and `path` and none of operations, access, scopes, areas; every resource kind it does not name
 * counts as unresolved. What a deny cannot know counts as a match; what an allow cannot know counts
 * as none.
 *
 * A binding gives its roles to the callers it is for, from `not_before` until before `expires`. One
 * with `break_glass` gives them only to a request with a reason of at least as many characters as
 * it asks for (`reason_chars`). What a request is decided by:
 *
 *   1. a deny entry of any role that it has now, through whichever binding: denied
 *   2. else an allow entry of a role that it has through an ordinary binding: allowed
 *   3. else an allow entry of a role that it has through a break-glass binding: allowed, and glass
 *      is broken
 *   4. else denied
 *
 * So a reason never changes what ordinary bindings allow, unless a break-glass role denies it.
 */
#ifndef DAGWARD_POLICY_POLICY_H
#define DAGWARD_POLICY_POLICY_H

#include "dagward/azdo/catalogue.h"
#include "dagward/azdo/resources.h"
#include "dagward/base/arena.h"
#include "dagward/base/error.h"
#include "dagward/base/snapshot.h"
#include "dagward/base/str.h"
#include "dagward/base/tree.h"

enum {
        POLICY_MOST_ENTRIES = 100000, /* of all files together */
        POLICY_MOST_FILES = 1000,
        POLICY_MOST_TOGETHER = 256,    /* roles of one binding, included ones among them */
        POLICY_MOST_GROUPED = 1000000, /* values that selectors have from groups, in all */
        POLICY_REASON_BYTES = 512,
        POLICY_GLASS_CHARS = 10,       /* the least that a break-glass binding may ask for */
        POLICY_GLASS_MOST_BYTES = 500, /* of a caller's reason */
};

/* Defined in the module; embeds `struct snapshot` first. */
struct policy;
/* Which bindings apply to one caller, time apart. */
struct policy_grants;

/* Who asks. Views; policy_grants_new keeps nothing but a short copy of issuer and subject. */
struct policy_caller {
        struct str issuer; /* the configured name of the issuer, not `iss` */
        struct str subject;
        const struct str *roles; /* the names found where the issuer's `roles` setting looks */
        size_t n_roles;
        const struct tree *claims; /* an object, or NULL: no claims */
};

/* What is asked. Views. */
struct policy_request {
        const struct operation *op; /* NULL: unknown to the catalogue */
        struct str method;
        /* Canonical: decoded segments behind slashes, without a slash at the end; `/` and `%`
         * inside a segment are written %2F and %25; "/~service" in front unless the service is
         * dev.azure.com (see naming.h of world, which writes it). */
        struct str path;
        enum service service;
        const struct resources *resources; /* NULL: nothing is known */
        const struct facts *facts;         /* NULL: it says nothing beside them */
        /* What the caller asserts about itself, by name: dag_id, run_id, ... Nobody has verified
         * it. */
        const struct pair *claimed;
        size_t n_claimed;
        /* Of the caller's reason for breaking glass, as policy_reason_read counts; 0: it gave none.
         */
        unsigned reason_chars;
        int64_t now_ms; /* wall time, for `not_before`, `expires` and `where.time` */
        bool no_reason; /* leaves `reason` of a denial empty, where nobody would read it */
};

enum effect { EFFECT_ALLOW, EFFECT_DENY };

/* The answer. The views live as long as the policy. */
struct decision {
        enum effect effect;
        struct str role;       /* of the deciding entry; empty: nothing matched */
        struct str binding;    /* its name, or `file:line` of one without a name */
        struct str credential; /* only on allow: never empty then */
        /* `file:line` of the deciding entry; `file` is the base name, or the path as given if two
         * files of the policy share one. Empty: nothing matched. */
        struct str rule;
        bool breaks_glass; /* on allow: `binding` is a break-glass one, and no ordinary one allows
                            * it
                            */
        /* On deny where a longer reason is all that is missing: the break-glass binding (its name,
         * or `file:line`) that asks for the fewest characters, the first of these, and how many.
         * Else empty and 0. */
        struct str glass_binding;
        unsigned glass_chars;
        /* On deny: what was refused, for whom, and what to ask for; printable UTF-8, one line, no
         * secret. On allow: empty. */
        char reason[POLICY_REASON_BYTES];
};

/* Reads and merges `n` files. NULL when any of them has an error; all errors of all files are
 * added, with their places. Warnings (an unused role) may be added on success as well. The result
 * has one reference, the caller's. */
struct policy *policy_load(const char *const *files, size_t n, struct error_list *errors)
        __attribute__((warn_unused_result));
/* As policy_load, one file from memory; `name` stands for its path. */
struct policy *policy_load_text(const char *name, struct str text, struct error_list *errors)
        __attribute__((warn_unused_result));
struct policy *policy_ref(struct policy *policy);
/* Harmless on NULL. */
void policy_unref(struct policy *policy);

/* Checks what a policy alone cannot know: adds an error for each binding whose issuer or credential
 * is not one of those configured (with "did you mean"), and a warning for each that policy_expiries
 * tells of, or that is a break-glass one and lasts for more than 90 days. False if an error was
 * added. */
bool policy_review(const struct policy *policy, const struct str *issuers, size_t n_issuers,
        const struct str *credentials, size_t n_credentials, int64_t now_ms,
        struct error_list *errors);
/* Whether a binding lends the credential of that name. */
bool policy_lends(const struct policy *policy, struct str credential);

enum { POLICY_EXPIRES_SOON_MS = 7 * 24 * 60 * 60 * 1000 };

/* A binding that has an end. Views, good as long as the policy. */
struct policy_expiry {
        struct str binding; /* its name, or `file:line` of one without a name */
        struct str place;   /* file:line */
        int64_t expires_ms; /* wall time */
        bool expired;       /* else: within POLICY_EXPIRES_SOON_MS */
};
typedef void policy_expiry_found(void *owner, const struct policy_expiry *expiry);
/* Tells of each binding that has expired at `now_ms` or will soon, in file order. */
void policy_expiries(
        const struct policy *policy, int64_t now_ms, policy_expiry_found *found, void *owner);

/* Finds the bindings that apply to the caller: the slow part of a decision, worth keeping as long
 * as both the policy and the caller's token are the same. Free with policy_grants_free. */
struct policy_grants *policy_grants_new(const struct policy *policy,
        const struct policy_caller *caller) __attribute__((warn_unused_result));
/* As policy_grants_new for a caller of whom only a record is left: of the claims that bindings ask
 * for, those that `caller` has not are taken as met by the binding of that name (or place), which
 * applied then, and by no other. */
struct policy_grants *policy_grants_recalled(const struct policy *policy,
        const struct policy_caller *caller, struct str binding) __attribute__((warn_unused_result));
/* Harmless on NULL. */
void policy_grants_free(struct policy_grants *grants);
/* How many bindings apply, time and reasons apart. */
size_t policy_grants_count(const struct policy_grants *grants);

/* One role through one binding, for telling callers who they are. */
struct policy_grant {
        struct str binding, role;
        unsigned glass_chars; /* of the reason that it is given for; 0: an ordinary binding */
};
/* Writes up to `most` of them, ordinary bindings first, in file order, without those outside their
 * time; the number there are. */
size_t policy_grants_list(const struct policy *policy, const struct policy_grants *grants,
        int64_t now_ms, struct policy_grant *out, size_t most);

/* What a caller gives as its reason for breaking glass: `*reason` is `text` without white space at
 * both ends, `*chars` how many characters (code points) that is. False with `*why` (a literal):
 * more than POLICY_GLASS_MOST_BYTES, not UTF-8, or with control characters, line separators or what
 * turns the direction of text. An empty text is no reason: true and 0. */
bool policy_reason_read(struct str text, struct str *reason, unsigned *chars, const char **why)
        __attribute__((warn_unused_result));

/* Decides. `grants` must come from the same policy. If several entries deny, or none does and
 * several allow, the first is named: ordinary bindings before break-glass ones, each in file order,
 * then roles in the order the binding lists them, then entries in file order. The binding of an
 * allow also chooses the credential. Never allocates. */
void policy_decide(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, struct decision *out);
/* What upstream knows of a resource (`known` in struct resource) settles what is said above of
 * names and ids: it then is compared by the one or the other.
 *
 * After a denial (or, with reason_chars 0, after an allow that breaks glass: whether it has to):
 * the kinds of resource (bit 1 << enum resource_kind) of which more would have to be known (struct
 * resource's `known`, or which one it is that the request leaves unnamed) for every entry to be
 * decided, and the credential of the first binding with such an entry; 0: the answer stands. */
unsigned policy_doubts(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, struct str *credential);
/* Which kinds of resource (bit 1 << enum resource_kind) the entries that could decide `op` for this
 * caller look at. BODY_FACTS: or at facts.
 * When the body of a request may name one of these (operation_body_kinds), or says guarded facts,
 * it must be read before policy_decide. */
unsigned policy_kinds(const struct policy *policy, const struct policy_grants *grants,
        const struct operation *op);

/* Whether some entry that could decide for this caller is about one of the two operations and not
 * about the other. */
bool policy_tells_apart(const struct policy *policy, const struct policy_grants *grants,
        const struct operation *a, const struct operation *b);

/* Numbers for logs, metrics and `check`. */
struct policy_size {
        size_t files, roles, entries, bindings, tests;
};
struct policy_size policy_size(const struct policy *policy);

#endif
