/*
 * grants: which bindings apply to callers this worker has met, so that a request of a known caller
 * costs no look at bindings. What a caller may do is decided anew for each request.
 */
#include "inside.h"

#include <stdlib.h>

enum { SLOTS = 1024 };

struct grants_slot {
        uint64_t number;       /* of `caller`, in budgets; see admit.c */
        struct caller *caller; /* a reference, so that its address means only this caller */
        struct policy *policy; /* likewise */
        struct policy_grants *grants;
        struct policy *shadow; /* likewise; NULL: none */
        struct policy_grants *shadow_grants;
};

struct grants_table {
        struct grants_slot slots[SLOTS];
};

struct grants_table *grants_new(void)
{
        struct grants_table *table = calloc(1, sizeof(*table));

        if (!table)
                abort();
        return table;
}

static void slot_clear(struct grants_slot *slot)
{
        policy_grants_free(slot->grants);
        policy_unref(slot->policy);
        policy_grants_free(slot->shadow_grants);
        policy_unref(slot->shadow);
        caller_unref(slot->caller);
        *slot = (struct grants_slot){0};
}

void grants_clear(struct grants_table *table)
{
        for (size_t i = 0; i < SLOTS; i++)
                slot_clear(&table->slots[i]);
}

void grants_free(struct grants_table *table)
{
        if (!table)
                return;
        grants_clear(table);
        free(table);
}

static struct grants_slot *slot_of(struct grants_table *table, const struct caller *caller)
{
        uintptr_t address = (uintptr_t)caller;

        return &table->slots[(address >> 5 ^ address >> 15) % SLOTS];
}

uint64_t *grants_number(struct grants_table *table, const struct caller *caller)
{
        return &slot_of(table, caller)->number;
}

const struct policy_grants *grants_find(struct grants_table *table, struct caller *caller,
        const struct world *world, const struct policy_grants **shadow)
{
        struct grants_slot *slot = slot_of(table, caller);

        if (slot->caller == caller && slot->policy == world->policy &&
                slot->shadow == world->shadow) {
                *shadow = slot->shadow_grants;
                return slot->grants;
        }
        slot_clear(slot);
        struct policy_caller who = {
                .issuer = caller->issuer,
                .subject = caller->subject,
                .roles = caller->roles,
                .n_roles = caller->n_roles,
                .claims = caller->claims,
        };
        slot->caller = caller_ref(caller);
        slot->policy = policy_ref(world->policy);
        slot->grants = policy_grants_new(world->policy, &who);
        if (world->shadow) {
                slot->shadow = policy_ref(world->shadow);
                slot->shadow_grants = policy_grants_new(world->shadow, &who);
        }
        *shadow = slot->shadow_grants;
        return slot->grants;
}
