/*
 * names: where the services of Azure DevOps are. Private to control.
 *
 * Each service has the catalogue's host or the configuration's override. Literal addresses and
 * `localhost` need nobody; other names are looked up by a thread of its own, because getaddrinfo
 * may wait for seconds and keys must not wait with it. Looked up anew every `upstream.resolve`, as
 * getaddrinfo tells no lifetime, and soon after an address could not be reached; what was found is
 * kept while look-ups fail. Families take turns in the order of addresses (RFC 8305 4), so that one
 * that leads nowhere costs one attempt. Storage that downloads are redirected to is looked up when
 * somebody asks, and kept for a minute; what
 * cannot be found any more is kept as well.
 */
#ifndef DAGWARD_CONTROL_NAMES_H
#define DAGWARD_CONTROL_NAMES_H

#include <event2/event_struct.h>

#include "dagward/config/config.h"
#include "dagward/world/world.h"
#include "source.h"

enum {
        NAMES_MOST_ADDRESSES = sizeof(((struct endpoint *)0)->addresses) /
                               sizeof(((struct endpoint *)0)->addresses[0])
};

struct resolver; /* the thread */

/* As getaddrinfo for a TCP port, at most NAMES_MOST_ADDRESSES; runs on the resolver's thread. False
 * with a reason. */
typedef bool names_lookup(const char *host, uint16_t port, struct endpoint *out, struct error *err);
bool names_getaddrinfo(const char *host, uint16_t port, struct endpoint *out, struct error *err);

enum { NAMES_PLACES = 64, NAMES_PLACE_KEPT_MS = 60 * 1000 };

/* Storage that somebody asked for. */
struct place {
        char host[256]; /* as asked; empty: a free slot */
        struct endpoint endpoint;
        int64_t found_mono_ms; /* 0: never */
        bool pending;
};

struct names {
        struct event_base *base;
        struct egress *egress;                  /* one reference */
        const struct config_upstream *upstream; /* the configuration's, which outlives this */
        struct place places[NAMES_PLACES];
        /* An attempt to find `host` has ended; NULL with a reason: in vain. */
        void (*found)(
                void *owner, const char *host, const struct endpoint *endpoint, const char *why);
        struct source_hooks hooks; /* only `changed` and `owner` are used */
        names_lookup *lookup;
        struct resolver *resolver; /* NULL until a name has to be looked up */
        struct endpoint endpoints[SERVICE_COUNT];
        bool literal[SERVICE_COUNT]; /* needs no look-up */
        bool failing[SERVICE_COUNT]; /* the last look-up failed */
        bool pending[SERVICE_COUNT]; /* a look-up is under way */
        struct event timer;          /* next round */
        struct event soon;           /* publishes several answers together */
        int64_t round_mono_ms;       /* when the last round began; 0: never */
        uint64_t n_failed;
};

/* `egress` NULL: no outgoing proxy; what goes through one is found at its address. */
struct names *names_new(const struct config *config, struct egress *egress, struct event_base *base,
        names_lookup *lookup, const struct source_hooks *hooks);
void names_free(struct names *names);
/* Takes over the thread, and the addresses of equal hosts; before names_start. */
void names_adopt(struct names *names, struct names *old);
void names_start(struct names *names);
/* Somebody could not reach an address: another round, a moment after the last one at the soonest.
 */
void names_again(struct names *names);
/* Where storage `host` (lower case) is: port 443, or its override. SOURCE_NEWER: `out` is filled;
 * SOURCE_WAIT: `found` will tell; SOURCE_NO: not now, with a reason. */
enum source_answer names_place(
        struct names *names, const char *host, struct endpoint *out, struct error *err);

#endif
