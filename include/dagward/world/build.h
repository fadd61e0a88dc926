/*
 * build: how the control thread makes a world out of its parts.
 */
#ifndef DAGWARD_WORLD_BUILD_H
#define DAGWARD_WORLD_BUILD_H

#include "dagward/world/world.h"

/* Everything is referenced or copied by world_new; the caller keeps its own references. */
struct world_parts {
        uint64_t generation, reload, names, policy_generation;
        struct config *config;
        struct policy *policy;
        const char *policy_digest;     /* hex, at most 64 digits */
        struct policy *shadow;         /* NULL: none */
        struct keyset *const *keysets; /* config->n_issuers; NULL where there are none yet */
        struct credential_store *credentials;
        const struct endpoint *endpoints; /* SERVICE_COUNT */
        struct egress *egress;            /* NULL: none */
        struct tls_context *upstream_tls;
        struct tls_context *const *listener_tls; /* config->n_listeners; NULL: plain */
        bool draining;
};

/* With one reference. */
struct world *world_new(const struct world_parts *parts);
/* The rules for tokens of one issuer: views into `config`, which must outlive them. */
struct token_rules world_token_rules(const struct config_issuer *issuer);
/* A world mail, malloc'd, with its own reference of `world`. */
struct world_mail *world_mail_new(
        struct world *world, void (*deliver)(struct mail *mail, void *receiver));

#endif
