/*
 * supply: the sources that other sources need. Private to control.
 *
 * A credential whose secret or key is in a vault needs a token for that vault from another
 * credential; a federated one may need its assertion from an issuer. Each such token has one source
 * on demand, however many credentials need it, so that there is one request for all of them.
 */
#ifndef DAGWARD_CONTROL_SUPPLY_H
#define DAGWARD_CONTROL_SUPPLY_H

#include "token_source.h"

struct supply;

/* Makes what the `n` sources of `config`, in its order, need, and names it to them. */
struct supply *supply_new(const struct config *config, struct token_source *const *sources,
        size_t n, struct event_base *base, struct fetcher *fetcher, uint64_t *generations,
        const struct source_hooks *hooks);
/* After the sources. Harmless on NULL. */
void supply_free(struct supply *supply);

#endif
