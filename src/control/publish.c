/* How what the control thread knows becomes a world. */
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "dagward/world/build.h"
#include "inside.h"

static void *take(size_t n, size_t bytes)
{
        void *memory = calloc(n ? n : 1, bytes);

        if (!memory)
                abort();
        return memory;
}

static struct credential_store *store_of(struct control *control)
{
        size_t n = control->parts->config->n_credentials;
        struct credential_slot *slots = take(n, sizeof(*slots));

        for (size_t i = 0; i < n; i++)
                slots[i] = (struct credential_slot){
                        .name = control->sources[i]->config->name,
                        .type = config_credential_type_name(control->sources[i]->config->type),
                        .credential = control->sources[i]->credential,
                };
        struct credential_store *store = credential_store_new(slots, n);
        free(slots);
        return store;
}

void control_publish(struct control *control)
{
        const struct parts *parts = control->parts;
        struct keyset **keysets = take(parts->config->n_issuers, sizeof(struct keyset *));
        struct credential_store *store = store_of(control);

        for (size_t i = 0; i < parts->config->n_issuers; i++)
                keysets[i] = control->issuers[i]->keys;
        struct world_parts all = {
                .generation = ++control->generation,
                .reload = control->reload,
                .names = control->names_changed,
                .policy_generation = control->policy_generation,
                .config = parts->config,
                .policy = parts->policy,
                .policy_digest = parts->policy_digest,
                .shadow = parts->shadow,
                .keysets = keysets,
                .credentials = store,
                .endpoints = control->names->endpoints,
                .egress = parts->egress,
                .upstream_tls = parts->upstream_tls,
                .listener_tls = parts->listener_tls,
                .draining = control->draining,
        };
        world_unref(control->world);
        control->world = world_new(&all);
        credential_store_unref(store);
        free(keysets);
        for (size_t i = 0; control->booted && i < control->n_ports; i++) {
                struct worker_port *port = &control->ports[i];
                mailbox_post(port->box, &world_mail_new(control->world, port->take_world)->mail);
        }
}

void control_event(struct control *control, const char *name, const struct pair *detail, size_t n)
{
        if (control->scribe)
                scribe_event(control->scribe, str_of(name), detail, n);
}

/* --- what the sources tell --- */

static void on_changed(void *owner)
{
        struct control *control = owner;

        /* Half-made sources of a reload tell too: the reload publishes at its end. */
        if (control->booted)
                control_publish(control);
}

static void on_keys_settled(void *owner, unsigned index, bool ok, const char *why)
{
        control_answer(owner, true, index, ok, why);
}

static void on_credential_settled(void *owner, unsigned index, bool ok, const char *why)
{
        control_answer(owner, false, index, ok, why);
}

static void on_event(void *owner, const char *name, const struct pair *detail, size_t n)
{
        control_event(owner, name, detail, n);
}

struct source_hooks control_hooks(struct control *control)
{
        return (struct source_hooks){.changed = on_changed, .event = on_event, .owner = control};
}

struct assertions_hooks control_assertions_hooks(struct control *control)
{
        return (struct assertions_hooks){
                .settled = control_exchanged, .event = on_event, .owner = control};
}

void control_sources_make(struct control *control)
{
        const struct config *config = control->parts->config;
        struct source_hooks hooks = control_hooks(control);

        fetcher_set_egress(control->fetcher, control->parts->egress);
        fetcher_forget(control->fetcher);
        control->issuers = take(config->n_issuers, sizeof(struct issuer *));
        control->sources = take(config->n_credentials, sizeof(struct token_source *));
        hooks.settled = on_keys_settled;
        for (size_t i = 0; i < config->n_issuers; i++)
                control->issuers[i] = issuer_new(
                        &config->issuers[i], (unsigned)i, control->base, control->fetcher, &hooks);
        hooks.settled = on_credential_settled;
        for (size_t i = 0; i < config->n_credentials; i++)
                control->sources[i] = token_source_new(&config->credentials[i], (unsigned)i,
                        control->base, control->fetcher, &control->credential_generations, &hooks);
        control->supply = supply_new(config, control->sources, config->n_credentials, control->base,
                control->fetcher, &control->credential_generations, &hooks);
        control->sink_tokens = sink_tokens_new(control);
        control->names =
                names_new(config, control->parts->egress, control->base, control->lookup, &hooks);
        control->names->found = control_found;
}

void control_sources_start(struct control *control)
{
        for (size_t i = 0; i < control->parts->config->n_issuers; i++)
                issuer_start(control->issuers[i]);
        for (size_t i = 0; i < control->parts->config->n_credentials; i++)
                token_source_start(control->sources[i]);
        sink_tokens_start(control->sink_tokens);
        names_start(control->names);
}

void control_sources_free(struct issuer **issuers, size_t n_issuers, struct token_source **sources,
        size_t n_sources, struct supply *supply, struct names *names)
{
        for (size_t i = 0; i < n_issuers; i++)
                issuer_free(issuers[i]);
        for (size_t i = 0; i < n_sources; i++)
                token_source_free(sources[i]);
        supply_free(supply);
        free(issuers);
        free(sources);
        names_free(names);
}
