/*
 * record: one audit record, from fields to JSON members.
 *
 * The names and their order are fixed (docs/audit.md lists them). What is written here has no seq,
 * prev or hash yet: those are the chain's. Knows no parser, no policy and no secret: the caller
 * hands over views, and nothing of them is kept.
 *
 * Any byte may come in; what goes out is valid JSON on one line, at most AUDIT_RECORD_MOST bytes:
 * a long value is cut and ends in `[+N bytes]`. Query values are written only where they are known
 * to be harmless, else as `***`; so is whatever has the shape of a JWT or of a personal access
 * token, wherever a caller put it.
 */
#ifndef DAGWARD_AUDIT_RECORD_H
#define DAGWARD_AUDIT_RECORD_H

#include "dagward/base/buf.h"

enum { AUDIT_RECORD_MOST = 18 * 1024 };

enum audit_kind { AUDIT_INTENT, AUDIT_OUTCOME, AUDIT_EVENT };
/* AUDIT_UNDECIDED is left out of the record. */
enum audit_effect { AUDIT_UNDECIDED, AUDIT_ALLOW, AUDIT_DENY, AUDIT_ERROR };
enum { AUDIT_KINDS = AUDIT_EVENT + 1, AUDIT_EFFECTS = AUDIT_ERROR + 1 };
/* As they stand in a record; that of AUDIT_UNDECIDED is empty. */
extern const struct str audit_kind_names[AUDIT_KINDS];
extern const struct str audit_effect_names[AUDIT_EFFECTS];

/* Starts as all zeros. An empty view, an empty list and an effect of AUDIT_UNDECIDED leave their
 * member out; an object none of whose members is there is left out too. Views are the caller's. */
struct audit_fields {
        int64_t time_ms; /* wall clock; always written */
        enum audit_kind kind;
        struct str request_id;
        struct str correlation_id;
        struct str traceparent;
        struct {
                struct str issuer; /* name in the configuration */
                struct str subject;
                const struct str *roles;
                size_t n_roles;
                struct str token_id; /* jti, or a prefix of the token's digest; never the token */
                struct str via;      /* bearer, basic or header */
                struct str address;  /* of the peer, without port */
        } caller;
        struct {
                struct str dag_id, run_id, task_id, map_index, try_number, user_agent;
        } claimed; /* decoded; taken on nobody's word */
        struct {
                struct str method, host, path; /* path: canonical where there is one */
                const struct pair *query;      /* decoded; redacted here */
                size_t n_query;
                struct str operation, access, organization, project;
                const struct pair *resources; /* kind and value: {pipeline, 42} */
                size_t n_resources;
                const struct str *says; /* what it says beside them, without values: variables.x */
                size_t n_says;
                uint64_t bytes; /* of the body received; written in outcomes with a method */
        } request;
        struct {
                enum audit_effect effect;
                struct str binding, role;
                struct str rule;        /* file:line */
                struct str reason;      /* for people */
                struct str policy;      /* digest */
                struct str shadow;      /* what the candidate policy says, where it disagrees */
                struct str break_glass; /* the caller's reason to break glass */
        } decision;
        struct {
                struct str name, type;
                struct str assertion; /* "caller": obtained with the caller's own token */
        } credential;
        struct {
                struct str host;
                int status; /* 0: no answer, left out */
                struct str activity_id, e2eid;
                unsigned attempts;
                int64_t duration_us; /* written, as ms, when attempts > 0 */
        } upstream;                  /* there only when attempts > 0 or the host is known */
        struct {
                int status; /* 0: nothing was answered; leaves `response` out */
                uint64_t bytes;
        } response;
        int64_t duration_us; /* of the whole exchange; outcomes only, written as `ms` */
        struct {
                struct str id, url;
        } run;
        struct {
                struct str key;   /* what tells the same triggers: the digest's beginning, hex */
                struct str by;    /* key, or task */
                struct str state; /* first, replayed, found, ... (docs/audit.md) */
                struct str first; /* request_id of the first one, when this is another */
        } trigger;
        struct {
                struct str name;           /* token.refresh_failed */
                const struct pair *detail; /* names: literals of ours, each once */
                size_t n_detail;
        } event;
};

/* Whether it failed before a policy judged it (its caller left, for instance): what was allowed and
 * failed names the rule that allowed it. */
static inline bool audit_failed_unjudged(const struct audit_fields *fields)
{
        return fields->decision.effect == AUDIT_ERROR && !fields->decision.rule.len;
}

/* Appends the record's members (no braces, no newline); false, and nothing appended, when `out` has
 * no room for AUDIT_RECORD_MOST bytes more (`out` is not marked as overflown). */
bool audit_record_write(struct buf *out, const struct audit_fields *fields)
        __attribute__((warn_unused_result));

#endif
