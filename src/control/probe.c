#include "dagward/control/probe.h"

#include <stdlib.h>

#include "entra_answer.h"
#include "supply.h"
#include "token_source.h"

struct credential_probe {
        struct token_source *source;
        struct supply *supply; /* NULL: nobody else is needed */
        credential_probed *done;
        void *owner;
        uint64_t generations;
        bool ended;
};

static void on_changed(void *owner)
{
        (void)owner;
}

static void on_event(void *owner, const char *name, const struct pair *detail, size_t n)
{
        (void)owner;
        (void)name;
        (void)detail;
        (void)n;
}

static void on_settled(void *owner, unsigned index, bool ok, const char *why)
{
        struct credential_probe *probe = owner;

        (void)index;
        if (probe->ended)
                return; /* the source goes on renewing until it is freed */
        probe->ended = true;
        probe->done(probe->owner, ok ? probe->source->credential : NULL, why);
}

struct credential_probe *credential_probe_start(const struct config *all,
        const struct config_credential *config, struct event_base *base, struct fetcher *fetcher,
        credential_probed *done, void *owner)
{
        struct credential_probe *probe = calloc(1, sizeof(*probe));

        if (!probe)
                abort();
        const struct source_hooks hooks = {on_changed, on_settled, on_event, probe};
        probe->done = done;
        probe->owner = owner;
        probe->source = token_source_new(config, 0, base, fetcher, &probe->generations, &hooks);
        probe->source->on_demand = false;
        if (all)
                probe->supply = supply_new(
                        all, &probe->source, 1, base, fetcher, &probe->generations, &hooks);
        token_source_start(probe->source);
        return probe;
}

void credential_probe_free(struct credential_probe *probe)
{
        if (!probe)
                return;
        token_source_free(probe->source);
        supply_free(probe->supply);
        free(probe);
}

const char *credential_remedy(int64_t aadsts)
{
        return entra_remedy(aadsts);
}
