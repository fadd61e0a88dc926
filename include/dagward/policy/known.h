/*
 * policy known: the `known:` of policy files, for tests and explanations.
 *
 * What Azure DevOps would answer when it is asked what a name or an id is. The proxy never looks at
 * it: there, Azure DevOps itself is asked.
 */
#ifndef DAGWARD_POLICY_KNOWN_H
#define DAGWARD_POLICY_KNOWN_H

#include "dagward/azdo/identity.h"
#include "dagward/policy/policy.h"

/*
 * Learns what the proxy would learn before it denies the request: while a denial hinges on what a
 * name or an id is, what the policy's files say about it is added to `resources`, which have to be
 * those of `request`; what follows from it is kept in `arena`. False with `err` when the proxy
 * would refuse the request, because what it names is in another project.
 */
bool policy_learn(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, struct resources *resources, struct arena *arena,
        struct error *err) __attribute__((warn_unused_result));

#endif
