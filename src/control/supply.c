#include "supply.h"

#include <stdlib.h>

enum { LINKS_MOST = 1024 }; /* far more than credentials may be configured */

struct link {
        struct config_credential config; /* a copy: for whom the token is differs */
        struct token_source *source;
};

struct supply {
        struct link *links[LINKS_MOST];
        size_t n;
};

/* Nobody lends these, and whoever needs them is told by itself. */
static void on_changed(void *owner)
{
        (void)owner;
}

static void on_settled(void *owner, unsigned index, bool ok, const char *why)
{
        (void)owner, (void)index, (void)ok, (void)why;
}

/* The configuration of what `config` needs; false: it needs nobody. */
static bool wanted(const struct config *all, const struct config_credential *config,
        struct config_credential *out)
{
        if (config->vault_credential.ptr) {
                *out = all->credentials[config->vault_index];
                out->scope = config->vault_scope;
        } else if (config->type == CREDENTIAL_FEDERATED && config->has_assertion) {
                *out = *config;
                out->type = CREDENTIAL_ISSUER;
        } else {
                return false;
        }
        out->on_demand = true;
        return true;
}

static void candidates_copy(struct config_credential *config)
{
        if (!config->n_candidates)
                return;
        struct config_credential *copy = calloc(config->n_candidates, sizeof(*copy));
        if (!copy)
                abort();
        for (size_t i = 0; i < config->n_candidates; i++) {
                copy[i] = config->candidates[i];
                copy[i].scope = config->scope;
        }
        config->candidates = copy;
}

static struct link *find(const struct supply *supply, const struct config_credential *config)
{
        for (size_t i = 0; i < supply->n; i++) {
                const struct config_credential *known = &supply->links[i]->config;
                if (known->type == config->type && str_eq(known->name, config->name) &&
                        str_eq(known->scope, config->scope))
                        return supply->links[i];
        }
        return NULL;
}

struct supply *supply_new(const struct config *config, struct token_source *const *sources,
        size_t n, struct event_base *base, struct fetcher *fetcher, uint64_t *generations,
        const struct source_hooks *hooks)
{
        struct source_hooks quiet = {on_changed, on_settled, hooks->event, hooks->owner};
        struct supply *supply = calloc(1, sizeof(*supply));

        if (!supply)
                abort();
        /* What is made here may need somebody as well. */
        for (size_t i = 0; i < n + supply->n; i++) {
                struct token_source *source = i < n ? sources[i] : supply->links[i - n]->source;
                struct config_credential other;
                if (!wanted(config, source->config, &other))
                        continue;
                struct link *link = find(supply, &other);
                if (!link) {
                        link = calloc(1, sizeof(*link));
                        if (!link || supply->n == LINKS_MOST)
                                abort();
                        link->config = other;
                        candidates_copy(&link->config);
                        link->source = token_source_new(
                                &link->config, 0, base, fetcher, generations, &quiet);
                        supply->links[supply->n++] = link;
                }
                token_source_depend(source, link->source);
        }
        return supply;
}

void supply_free(struct supply *supply)
{
        if (!supply)
                return;
        /* Those made later are needed by those made before. */
        for (size_t i = 0; i < supply->n; i++) {
                struct link *link = supply->links[i];
                token_source_free(link->source);
                if (link->config.n_candidates)
                        free(link->config.candidates);
                free(link);
        }
        free(supply);
}
