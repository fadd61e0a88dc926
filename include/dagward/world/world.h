/*
 * world: everything a worker needs to answer a request, as it is at one moment.
 *
 * Built by the control thread from parts that change at different speeds (configuration, policy,
 * key sets, credentials, addresses), published to every worker by mail, never changed afterwards.
 * An exchange finishes on the world it was decided with. The parts are counted themselves: a new
 * world after a key rotation shares all the other parts with the one before.
 */
#ifndef DAGWARD_WORLD_WORLD_H
#define DAGWARD_WORLD_WORLD_H

#include <sys/socket.h>

#include "dagward/azdo/catalogue.h"
#include "dagward/base/mailbox.h"
#include "dagward/base/snapshot.h"
#include "dagward/config/config.h"
#include "dagward/credential/credential.h"
#include "dagward/net/egress.h"
#include "dagward/net/tls.h"
#include "dagward/policy/policy.h"
#include "dagward/token/keyset.h"
#include "dagward/token/token.h"

/* Where one service of Azure DevOps is reached: the catalogue's host, or its override. */
struct endpoint {
        char host[256];      /* without port; what the certificate must name */
        char authority[270]; /* the Host field: host, and the port unless it is the scheme's */
        uint16_t port;
        bool tls;
        struct sockaddr_storage addresses[8];
        socklen_t address_lens[8];
        size_t n_addresses; /* 0: not resolved (yet) */
        /* Through the outgoing proxy: a tunnel to host and port has to be asked for first, and
         * `addresses` are the proxy's. */
        uint64_t via; /* its egress.number; 0: directly */
        char via_host[256];
        uint16_t via_port;
};

struct world {
        struct snapshot snap;
        uint64_t generation; /* grows by one with each world published */
        uint64_t reload;     /* grows with each reload: pools and listeners of an older one end */
        uint64_t names; /* grows when names upstream have changed: what was learnt is forgotten */
        struct config *config;
        struct policy *policy;
        uint64_t policy_generation;  /* grows when `policy` or `shadow` is another one */
        char policy_digest[65];      /* SHA-256 of the policy files, hex */
        struct policy *shadow;       /* asked beside `policy`, decides nothing; NULL: none */
        struct issuer_view *issuers; /* config->n_issuers of them, rules and keys */
        struct credential_store *credentials;
        struct endpoint *endpoints;        /* SERVICE_COUNT of them, by enum service */
        struct egress *egress;             /* the outgoing proxy; NULL: none */
        struct tls_context *upstream_tls;  /* verifies against config->upstream.ca */
        struct tls_context **listener_tls; /* per listener of the configuration; NULL: plain */
        bool draining;                     /* the process is about to end: answers are the last */
};

/* A mail that carries a world: the receiver owns one reference. */
struct world_mail {
        struct mail mail;
        struct world *world;
};

static inline struct world *world_ref(struct world *world)
{
        snapshot_ref(&world->snap);
        return world;
}

static inline void world_unref(struct world *world)
{
        if (world)
                snapshot_unref(&world->snap);
}

#endif
