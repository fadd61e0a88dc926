/*
 * token_source: the token of one credential, kept fresh. Private to control.
 *
 * The life of a token, whatever its type: one attempt at a time, however many ask; renewed at
 * `refresh_in`, else at half of its life, give or take a tenth; backed off while that fails
 * (Retry-After is obeyed); the old token serves until its end meanwhile. Times are monotonic, so
 * that a clock that is set does no harm. How a token is had is none of its business: see attempt.h.
 *
 * A source on demand obtains a token when somebody needs one and lets it lapse otherwise: those
 * that open a vault or make an assertion for another source.
 */
#ifndef DAGWARD_CONTROL_TOKEN_SOURCE_H
#define DAGWARD_CONTROL_TOKEN_SOURCE_H

#include <event2/event_struct.h>

#include "attempt.h"
#include "authorities.h"
#include "dagward/config/config.h"
#include "dagward/credential/credential.h"
#include "dagward/net/fetch.h"
#include "source.h"

struct token_source {
        const struct config_credential *config;
        unsigned index;
        struct source_hooks hooks;
        struct event_base *base;
        uint64_t *generations; /* the last one given out, by any source */
        bool on_demand;
        struct credential *credential; /* what may be lent; NULL: none */
        struct credential
                *first_seen;  /* a file's token, with the end it had when it was read first */
        int64_t gone_mono_ms; /* since when a token's own file is not there; INT64_MAX: it is */
        struct credential *rejected; /* taken back when its replacement cannot be had */
        int64_t obtained_mono_ms;
        /* Those that vouched for whom it was obtained from, and when what is under way began. */
        char token_ca[AUTHORITIES_DIGEST], asked_ca[AUTHORITIES_DIGEST];
        struct event timer;   /* next attempt, or next look at a file */
        struct event hourly;  /* emergencies are said again */
        int64_t next_mono_ms; /* when the next attempt is due */
        struct attempt attempt;
        struct memory memory;
        struct need *first_need;  /* who waits for the attempt's end */
        int64_t replaced_mono_ms; /* last renewal that a rejection started; INT64_MIN: never */
        struct file_stamp stamps[CONFIG_CREDENTIAL_FILES]; /* of the files that were read last */
        unsigned failures;                                 /* in a row */
        struct error last_error;
        char last_cause[160];                      /* the same for callers */
        int64_t failing_wall_ms;                   /* since when, while failures > 0 */
        uint64_t n_obtained, n_failed, n_replaced; /* for metrics */
};

struct token_source *token_source_new(const struct config_credential *config, unsigned index,
        struct event_base *base, struct fetcher *fetcher, uint64_t *generations,
        const struct source_hooks *hooks);
/* Sources that wait for this one must be gone. Harmless on NULL. */
void token_source_free(struct token_source *source);
/* Names the source whose token an attempt of this one may need. Before token_source_start. */
void token_source_depend(struct token_source *source, struct token_source *other);
/* Takes over the token of `old` if both are the same credential; before token_source_start. Where
 * other authorities vouch for its server by now, it is lent until there is another one, which is
 * asked for at once. */
void token_source_adopt(struct token_source *source, const struct token_source *old);
void token_source_start(struct token_source *source);
/* Somebody needs a token newer than generation `seen` (0: any). */
enum source_answer token_source_ask(struct token_source *source, uint64_t seen, struct error *why);
/* Upstream rejected generation `seen`: it is not lent any more, a new one is fetched. At most once
 * in a minute, else a principal that is not in the organization would hammer the authority.
 * `challenge`: what upstream wants the next one to have; NULL: nothing. */
enum source_answer token_source_replace(
        struct token_source *source, uint64_t seen, const char *challenge, struct error *why);
/* The wall clock was set forward, or the machine has slept: what may have ended is renewed now,
 * and lent meanwhile. */
void token_source_doubt(struct token_source *source);
/* Whether there is a token that may be lent now. */
bool token_source_usable(const struct token_source *source);
/* What a `default` credential has found to work; else the configuration's type. */
enum config_credential_type token_source_used(const struct token_source *source);

/* --- between sources --- */

/* SOURCE_NEWER: token_source_token has one. SOURCE_WAIT: `need->settled` will be called once,
 * unless token_source_unneed comes first. SOURCE_NO: `why`. */
enum source_answer token_source_need(
        struct token_source *source, struct need *need, struct error *why);
/* Harmless when it does not wait. */
void token_source_unneed(struct need *need);
/* What callers are told when there is nothing to lend: whose fault it is, and since when. Static
 * per thread. */
const char *token_source_cause(const struct token_source *source);
/* The token, until the loop's turn ends; empty when there is none. */
struct str token_source_token(const struct token_source *source);
/* Whoever was shown the token does not take it: the next one to need it gets another, once a minute
 * at most. */
void token_source_reject(struct token_source *source);
/* How long it will not try again; 0: it would at once. */
int64_t token_source_wait_ms(const struct token_source *source);

#endif
