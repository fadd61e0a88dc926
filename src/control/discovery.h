/*
 * discovery: the keys of one issuer, kept fresh. Private to control.
 *
 * From a discovery document (whose `issuer` must be the configured one, to the byte), a URL or a
 * file. Fetched at start and ahead of the end of the answer's cache lifetime; kept while the issuer
 * is down, for `keep_ms` at most, then dropped: without keys nobody gets in.
 */
#ifndef DAGWARD_CONTROL_DISCOVERY_H
#define DAGWARD_CONTROL_DISCOVERY_H

#include <event2/event_struct.h>

#include "dagward/config/config.h"
#include "dagward/net/fetch.h"
#include "dagward/token/keyset.h"
#include "authorities.h"
#include "source.h"

struct issuer {
        const struct config_issuer *config;
        unsigned index;
        struct source_hooks hooks;
        struct event_base *base;
        struct fetcher *fetcher;
        struct keyset *keys;       /* NULL: none */
        int64_t refreshed_mono_ms; /* last success; 0: never */
        struct event timer;        /* next attempt, or next look at the file */
        struct event stale;        /* the keys are too old to be used */
        struct event prepare;      /* time to look at which of them are used much */
        struct fetch *fetch;       /* under way */
        int64_t started_mono_ms;   /* of what is under way */
        char *jwks_url;            /* owned; from the discovery document */
        int64_t jwks_url_until_mono_ms;
        struct file_stamp stamp; /* of the version of the file that was read */
        /* Digests of the authorities (empty: the system's, or no file that can be read): of those
         * that vouched for `keys`, and when what is under way began. */
        char keys_ca[AUTHORITIES_DIGEST], asked_ca[AUTHORITIES_DIGEST];
        unsigned failures; /* in a row */
        struct error last_error;
        int64_t asked_mono_ms; /* when an ask last started a refresh; INT64_MIN: never */
        bool again;            /* an ask came while a refresh of older origin was under way */
        uint64_t n_refreshed, n_failed, n_asked, n_cooled; /* for metrics */
};

struct issuer *issuer_new(const struct config_issuer *config, unsigned index,
        struct event_base *base, struct fetcher *fetcher, const struct source_hooks *hooks);
void issuer_free(struct issuer *issuer);
/* Takes over what `old` knows if both get their keys in the same way, and the same authorities
 * vouch for where they come from; before issuer_start. */
void issuer_adopt(struct issuer *issuer, const struct issuer *old);
void issuer_start(struct issuer *issuer);
/* A token names a key that the set of generation `seen` (0: no set) does not have. However many
 * come, at most one refresh per cooldown is started for them. */
enum source_answer issuer_ask(struct issuer *issuer, uint64_t seen, struct error *why);
/* Whether it gave no usable answer when it was asked last, or none yet: whether a key that is not
 * known is one of its keys cannot be said. */
bool issuer_unheard(const struct issuer *issuer);
/* How long an answer may be used: Cache-Control's max-age between one minute and a day, or what is
 * configured when there is none (-1). */
int64_t issuer_lifetime_ms(int64_t max_age_s, int64_t configured_ms);

#endif
