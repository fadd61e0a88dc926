/*
 * entra: the token of one credential, kept fresh. Private to control.
 *
 * From a file (static_file), or from the token endpoint of the configured authority, and only from
 * there, with a client secret or a federated assertion that is read from its file each time. One
 * request at a time; renewed at `refresh_in`, else at half of its life; the old token serves until
 * shortly before its end while renewals fail.
 */
#ifndef DAGWARD_CONTROL_ENTRA_H
#define DAGWARD_CONTROL_ENTRA_H

#include <event2/event_struct.h>

#include "dagward/config/config.h"
#include "dagward/credential/credential.h"
#include "dagward/net/fetch.h"
#include "source.h"

struct token_source {
        const struct config_credential *config;
        unsigned index;
        struct source_hooks hooks;
        struct event_base *base;
        struct fetcher *fetcher;
        uint64_t *generations;         /* the last one given out, by any source */
        struct credential *credential; /* what may be lent; NULL: none */
        struct credential *rejected;   /* taken back when its replacement cannot be had */
        int64_t obtained_mono_ms;
        struct event timer;       /* next attempt, or next look at a file */
        int64_t next_mono_ms;     /* when the next attempt is due */
        struct fetch *fetch;      /* under way */
        int64_t started_mono_ms;  /* of what is under way */
        char assertion[400];      /* who the assertion that was sent last is for: iss, sub, aud */
        int64_t replaced_mono_ms; /* last renewal that a rejection started; INT64_MIN: never */
        struct file_stamp stamp;  /* of the file that was read last */
        unsigned failures;        /* in a row */
        struct error last_error;
        uint64_t n_obtained, n_failed, n_replaced; /* for metrics */
};

struct token_source *token_source_new(const struct config_credential *config, unsigned index,
        struct event_base *base, struct fetcher *fetcher, uint64_t *generations,
        const struct source_hooks *hooks);
void token_source_free(struct token_source *source);
/* Takes over the token of `old` if both are the same credential; before token_source_start. */
void token_source_adopt(struct token_source *source, const struct token_source *old);
void token_source_start(struct token_source *source);
/* Somebody needs a token newer than generation `seen` (0: any). */
enum source_answer token_source_ask(struct token_source *source, uint64_t seen, struct error *why);
/* Upstream rejected generation `seen`: it is not lent any more, a new one is fetched. At most once
 * in a minute, else a principal that is not in the organization would hammer the authority. */
enum source_answer token_source_replace(
        struct token_source *source, uint64_t seen, struct error *why);
/* "federated" */
struct str token_source_type(enum config_credential_type type);

#endif
