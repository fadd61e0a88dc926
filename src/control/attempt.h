/*
 * attempt: one attempt at one token, and the ways in which it is made. Private to control.
 *
 * A way is a chain of steps. A step asks for one thing (a file, an HTTP answer, the token of
 * another source) and names the step that goes on with it; the last one ends the attempt with an
 * outcome. The life cycle (token_source.h) starts attempts and judges outcomes: no way knows a
 * timer, a back-off or who waits. What a step calls last may have ended the attempt: it returns at
 * once.
 */
#ifndef DAGWARD_CONTROL_ATTEMPT_H
#define DAGWARD_CONTROL_ATTEMPT_H

#include "dagward/config/config.h"
#include "challenge.h"
#include "dagward/net/fetch.h"
#include "entra_answer.h"
#include "source.h"
#include "vault_answer.h"

enum outcome_kind {
        OUTCOME_TOKEN,    /* `token`, `life_ms` */
        OUTCOME_SAME,     /* what there is stays: nothing new was due */
        OUTCOME_RETRY,    /* passes by itself */
        OUTCOME_OPERATOR, /* somebody has to change something */
        OUTCOME_GONE,     /* and what is lent as it is was taken away where it stands */
        OUTCOME_ABSENT,   /* this way is not there: OUTCOME_RETRY, unless there is another */
};

struct outcome {
        enum outcome_kind kind;
        struct str token;        /* during the call only */
        bool is_pat;             /* `token` goes into Basic, not Bearer */
        int64_t asked_mono_ms;   /* from then on `life_ms` counts */
        int64_t life_ms;         /* INT64_MAX: not known to end */
        int64_t refresh_ms;      /* from now; -1: half of the life */
        int64_t wait_least_ms;   /* failures: not sooner than this */
        bool throttled;          /* 429 without Retry-After */
        const struct error *why; /* for operators: names files, settings and what to do */
        const char *cause;       /* failures: the same for callers, without any of that */
};

/* What ways remember of a source from one attempt to the next. */
struct memory {
        bool chosen;                 /* default: one has worked, */
        size_t candidate;            /* this one; before, the one to be tried */
        char version[VAULT_VERSION]; /* of the vault's secret that worked last */
        int64_t due_mono_ms;         /* a token is wanted from then on, even of the same version */
        char claims[CLAIMS_MOST];    /* that the next token has to have; sent once. "": none */
        int64_t proof_until_s; /* when certificate or vault secret end, Unix time; 0: unknown */
};

struct token_source;
struct attempt;
typedef void attempt_step(struct attempt *attempt);
typedef void attempt_answer(struct attempt *attempt, const struct fetch_result *result);
typedef void attempt_refused(struct attempt *attempt, const struct error *why);

/* Somebody who waits for a token of another source. */
struct need {
        struct need *next, **link; /* link NULL: does not wait */
        void (*settled)(void *owner, bool ok, const char *why);
        void *owner;
};

struct attempt {
        const struct config_credential *config; /* of `default`: the candidate */
        struct fetcher *fetcher;
        struct token_source *other; /* whose token a step may need; NULL: none */
        struct memory *memory;
        void (*done)(void *owner, const struct outcome *outcome);
        void *owner;
        bool running, again; /* again: whoever waits wants a new token, not a check of versions */
        int64_t asked_mono_ms, deadline_mono_ms;
        struct fetch *fetch;
        attempt_answer *on_answer;
        struct need need;
        attempt_step *on_need;
        attempt_refused *on_refused;
        const char *step;   /* the words in front of what goes wrong; NULL: none */
        struct secret kept; /* for a later step: what is to be signed; or a caller's own token */
        int64_t aadsts;     /* of the authority's last refusal; 0: none */
        const char *asked;  /* whom it asks: "Microsoft Entra"; NULL: nobody yet */
        char cause[160];    /* see attempt_cause */
        char sent[400];     /* what was shown to the authority, for its refusal; no secret */
        char version[VAULT_VERSION]; /* of the vault's secret or key in use */
        char vault[160];             /* its host */
};

/* Starts from the configuration's type. May be done before it returns. `budget_ms` is what all
 * steps that fetch may take together. */
void attempt_start(struct attempt *attempt, int64_t budget_ms);
/* Forgets whatever is under way; harmless when nothing is. */
void attempt_cancel(struct attempt *attempt);

/* --- for ways --- */

/* Reads the file at `path`; false when the attempt has ended because of it. */
bool attempt_read(struct attempt *attempt, struct str path, struct secret *out)
        __attribute__((warn_unused_result));
/* Sends `request`, whose deadlines and limits are set here. No redirect is followed. */
void attempt_fetch(struct attempt *attempt, struct fetch_request *request, attempt_answer *then);
/* Goes on when `other` has a usable token. `what` names the step when it has not. */
void attempt_need(struct attempt *attempt, const char *what, attempt_step *then);
/* What callers will be told if it fails now: whose fault it is, and which; no name of a file, a
 * setting or a host. Before it fails. */
void attempt_cause(struct attempt *attempt, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
/* Ends it. `refresh_ms` -1: at half of its life. */
void attempt_token(struct attempt *attempt, struct str token, int64_t life_ms, int64_t refresh_ms);
void attempt_pat(struct attempt *attempt, struct str pat, int64_t life_ms, int64_t refresh_ms);
void attempt_same(struct attempt *attempt, int64_t again_ms);
void attempt_fail(struct attempt *attempt, enum outcome_kind kind, const struct error *why);
void attempt_failf(struct attempt *attempt, enum outcome_kind kind, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* The same with what an HTTP answer says about when to come back. */
void attempt_fail_answer(struct attempt *attempt, enum outcome_kind kind,
        const struct fetch_result *result, const struct error *why);

/* `exp` of a token that is a JWT (unverified), Unix seconds; INT64_MAX: it says none. */
int64_t attempt_jwt_expires_s(struct str token);
/* `alg` of its header: letters, digits and dashes; "nothing" when there is none. */
void attempt_jwt_alg(struct str token, char out[16]);
/* Writes iss, sub and aud of an assertion for a message, or that it is no JWT. */
void attempt_describe(struct str token, char *out, size_t size);
/* application/x-www-form-urlencoded, which is also right in a path segment or a query. */
void form_write(struct buf *buf, struct str value);

/* --- the ways --- */

attempt_step way_static_file, way_pat_file;                   /* way_file.c */
attempt_step way_client_secret, way_federated, way_assertion; /* way_entra.c, way_assertion.c */
attempt_step way_certificate;                                 /* way_certificate.c */
attempt_step way_managed_identity;                            /* way_managed.c */
attempt_step way_key_vault_secret;                            /* way_vault.c */

/* way_entra.c: asks Entra with a proof; the last step of all ways that end there. */
enum entra_proof { PROOF_SECRET, PROOF_ASSERTION };
void entra_ask(struct attempt *attempt, enum entra_proof kind, struct str proof);
/* The same, but a refusal that is not retryable goes to `refused`. */
void entra_ask_or(
        struct attempt *attempt, enum entra_proof kind, struct str proof, attempt_refused *refused);
/* `{authority}/{tenant}/oauth2/v2.0/token`, terminated; the caller clears `url`. */
void entra_url(const struct config_credential *config, struct buf *url);

/* way_vault.c: asks the vault of `url` for `path` with the other source's token (which is there).
 * POST when `body` has one. */
void vault_ask(struct attempt *attempt, const struct config_url *url, const char *path,
        struct str body, attempt_answer *then);
/* Reads the answer; false: the attempt has ended because of it. */
bool vault_answered(struct attempt *attempt, enum vault_kind kind,
        const struct fetch_result *result, struct vault_answer *answer)
        __attribute__((warn_unused_result));

#endif
