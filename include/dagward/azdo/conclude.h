/*
 * conclude: what follows about a request when it is known what its names and ids are.
 *
 * A build tells its pipeline and ref, a repository its project. Somebody else asks, or has been
 * told (policy tests); here it is only said whether asking would help, and what an answer means for
 * the resources that are gathered.
 */
#ifndef DAGWARD_AZDO_CONCLUDE_H
#define DAGWARD_AZDO_CONCLUDE_H

#include "dagward/azdo/identity.h"

/* Whether knowing more of `item`, which is one of `resources`, could settle a doubt. `doubts`: a
 * bit for each kind (policy_doubts). `op` is not NULL. */
bool conclude_helps(const struct operation *op, const struct resources *resources, unsigned doubts,
        const struct resource *item);
/* A request whose parts say that it is in one project and in another: 400. `identity`: what the
 * item is known as. */
bool conclude_is_elsewhere(const struct resources *resources, const struct resource *item,
        const struct identity *identity);
/* Adds what follows from the items that are known by now, copied into `arena`. What does not fit
 * stays in doubt. */
void conclude(const struct operation *op, struct resources *resources, unsigned doubts,
        struct arena *arena);

#endif
