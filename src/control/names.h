/*
 * names: where the services of Azure DevOps are. Private to control.
 *
 * Each service has the catalogue's host or the configuration's override. Literal addresses and
 * `localhost` need nobody; other names are looked up by a thread of its own, because getaddrinfo
 * may wait for seconds and keys must not wait with it. Looked up anew every minute; what was found
 * is kept while look-ups fail.
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

struct names {
        struct event_base *base;
        struct source_hooks hooks; /* only `changed` and `owner` are used */
        names_lookup *lookup;
        struct resolver *resolver; /* NULL until a name has to be looked up */
        struct endpoint endpoints[SERVICE_COUNT];
        bool literal[SERVICE_COUNT]; /* needs no look-up */
        bool failing[SERVICE_COUNT]; /* the last look-up failed */
        bool pending[SERVICE_COUNT]; /* a look-up is under way */
        struct event timer;          /* next round */
        struct event soon;           /* publishes several answers together */
        uint64_t n_failed;
};

struct names *names_new(const struct config *config, struct event_base *base, names_lookup *lookup,
        const struct source_hooks *hooks);
void names_free(struct names *names);
/* Takes over the thread, and the addresses of equal hosts; before names_start. */
void names_adopt(struct names *names, struct names *old);
void names_start(struct names *names);

#endif
