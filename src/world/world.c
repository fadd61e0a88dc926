#include <stdlib.h>

#include "dagward/token/alg.h"
#include "dagward/world/build.h"

struct token_rules world_token_rules(const struct config_issuer *issuer)
{
        struct token_rules rules = {
                .name = issuer->name,
                .issuers = issuer->issuers,
                .n_issuers = issuer->n_issuers,
                .audiences = issuer->audiences,
                .n_audiences = issuer->n_audiences,
                .clock_skew_s = issuer->clock_skew_ms / 1000,
                .max_lifetime_s = issuer->max_lifetime_ms / 1000,
                .require = issuer->require,
                .n_require = issuer->n_require,
                .roles_paths = issuer->roles_paths,
                .n_roles_paths = issuer->n_roles_paths,
        };

        for (size_t i = 0; i < issuer->n_algorithms; i++) {
                enum token_alg alg;
                if (token_alg_named(issuer->algorithms[i], &alg))
                        rules.algorithms |= TOKEN_ALG_BIT(alg);
        }
        return rules;
}

static void *take(size_t n, size_t bytes)
{
        void *memory = calloc(n ? n : 1, bytes);

        if (!memory)
                abort();
        return memory;
}

static void world_drop(struct snapshot *self)
{
        struct world *world = (struct world *)self;

        for (size_t i = 0; i < world->config->n_issuers; i++)
                keyset_unref((struct keyset *)world->issuers[i].keys);
        if (world->config->n_issuers)
                free((void *)world->issuers[0].rules); /* one block for all of them */
        free(world->issuers);
        for (size_t i = 0; i < world->config->n_listeners; i++)
                tls_unref(world->listener_tls[i]);
        free(world->listener_tls);
        tls_unref(world->upstream_tls);
        egress_unref(world->egress);
        free(world->endpoints);
        credential_store_unref(world->credentials);
        policy_unref(world->policy);
        policy_unref(world->shadow);
        config_unref(world->config);
        free(world);
}

struct world *world_new(const struct world_parts *parts)
{
        const struct config *config = parts->config;
        struct world *world = take(1, sizeof(*world));
        struct token_rules *rules = take(config->n_issuers, sizeof(*rules));

        snapshot_init(&world->snap, world_drop);
        world->generation = parts->generation;
        world->reload = parts->reload;
        world->names = parts->names;
        world->config = config_ref(parts->config);
        world->policy = policy_ref(parts->policy);
        world->shadow = parts->shadow ? policy_ref(parts->shadow) : NULL;
        world->policy_generation = parts->policy_generation;
        snprintf(world->policy_digest, sizeof(world->policy_digest), "%s", parts->policy_digest);
        world->issuers = take(config->n_issuers, sizeof(*world->issuers));
        for (size_t i = 0; i < config->n_issuers; i++) {
                rules[i] = world_token_rules(&config->issuers[i]);
                world->issuers[i].rules = &rules[i];
                world->issuers[i].keys = parts->keysets[i] ? keyset_ref(parts->keysets[i]) : NULL;
        }
        if (config->n_issuers == 0)
                free(rules);
        world->credentials = credential_store_ref(parts->credentials);
        world->endpoints = take(SERVICE_COUNT, sizeof(*world->endpoints));
        memcpy(world->endpoints, parts->endpoints, SERVICE_COUNT * sizeof(*world->endpoints));
        world->upstream_tls = tls_ref(parts->upstream_tls);
        world->egress = egress_ref(parts->egress);
        world->listener_tls = take(config->n_listeners, sizeof(struct tls_context *));
        for (size_t i = 0; i < config->n_listeners; i++)
                world->listener_tls[i] = tls_ref(parts->listener_tls[i]);
        world->draining = parts->draining;
        return world;
}

struct world_mail *world_mail_new(
        struct world *world, void (*deliver)(struct mail *mail, void *receiver))
{
        struct world_mail *mail = take(1, sizeof(*mail));

        mail->mail.deliver = deliver;
        mail->world = world_ref(world);
        return mail;
}
