/* Finding the few of many allow entries that a request's resources leave. */
#include <stdlib.h>

#include "policy_internal.h"

enum { WORTH_IT = 4 };

/* The entry's selector of that kind, if it holds for names that it spells out and no others. */
static const struct selector *exact_selector(const struct entry *entry, enum resource_kind kind)
{
        for (size_t i = 0; i < entry->n_selectors; i++) {
                const struct selector *selector = &entry->selectors[i];
                if (selector->kind != kind)
                        continue;
                for (size_t v = 0; v < selector->n; v++)
                        if (selector->values[v].name.prefix)
                                return NULL;
                return selector;
        }
        return NULL;
}

static unsigned bucket_of(struct str name, unsigned mask)
{
        return str_hash_fold(name) & mask;
}

/* How many buckets the entries would spread over: the more, the better they are told apart. */
static unsigned spread(const struct policy *policy, const unsigned *entries, unsigned n,
        enum resource_kind kind, unsigned mask, bool *seen)
{
        unsigned count = 0;

        memset(seen, 0, mask + 1u);
        for (unsigned i = 0; i < n; i++) {
                const struct selector *selector =
                        exact_selector(&policy->entries[entries[i]], kind);
                for (size_t v = 0; selector && v < selector->n; v++) {
                        bool *one = &seen[bucket_of(selector->values[v].name.text, mask)];
                        count += !*one;
                        *one = true;
                }
        }
        return count;
}

/* Counts (items NULL) or places the entries of each bucket; `last` keeps an entry from being put
 * into one bucket twice. */
static void place(const struct policy *policy, struct op_index *index, const unsigned *entries,
        unsigned n, unsigned *at, unsigned *last)
{
        memset(last, 0xff, (index->mask + 1u) * sizeof(*last));
        index->n_others = 0;
        for (unsigned i = 0; i < n; i++) {
                const struct selector *selector =
                        exact_selector(&policy->entries[entries[i]], index->kind);
                if (!selector) {
                        if (index->others)
                                index->others[index->n_others] = entries[i];
                        index->n_others++;
                }
                for (size_t v = 0; selector && v < selector->n; v++) {
                        unsigned bucket = bucket_of(selector->values[v].name.text, index->mask);
                        if (last[bucket] == entries[i])
                                continue;
                        last[bucket] = entries[i];
                        if (index->items)
                                index->items[at[bucket]] = entries[i];
                        at[bucket]++;
                }
        }
}

static void fill(struct policy *policy, struct op_index *index, const unsigned *entries, unsigned n)
{
        unsigned buckets = index->mask + 1;
        unsigned *at = calloc(buckets, sizeof(*at)), *last = calloc(buckets, sizeof(*last));

        if (!at || !last)
                abort();
        place(policy, index, entries, n, at, last);
        index->starts = policy_take(policy, (buckets + 1) * sizeof(*index->starts));
        for (unsigned i = 0; i < buckets; i++)
                index->starts[i + 1] = index->starts[i] + at[i];
        index->items = policy_take(policy, index->starts[buckets] * sizeof(*index->items));
        index->others = policy_take(policy, index->n_others * sizeof(*index->others));
        memcpy(at, index->starts, buckets * sizeof(*at));
        place(policy, index, entries, n, at, last);
        free(at);
        free(last);
}

struct op_index *index_build(struct policy *policy, const unsigned *entries, unsigned n)
{
        unsigned mask = 1, best = 0;
        enum resource_kind kind = RESOURCE_PROJECT;

        if (n < WORTH_IT)
                return NULL;
        while (mask < n)
                mask = mask * 2 + 1;
        bool *seen = calloc(mask + 1u, sizeof(*seen));
        if (!seen)
                abort();
        /* not by refs: their letter case counts */
        for (int k = 0; k < RESOURCE_KINDS; k++) {
                if (k == RESOURCE_REF)
                        continue;
                unsigned one = spread(policy, entries, n, (enum resource_kind)k, mask, seen);
                if (one <= best)
                        continue;
                best = one;
                kind = (enum resource_kind)k;
        }
        free(seen);
        if (best < 2)
                return NULL;
        struct op_index *index = policy_take(policy, sizeof(*index));
        *index = (struct op_index){.kind = kind, .mask = mask};
        fill(policy, index, entries, n);
        return index;
}

struct candidates index_candidates(const struct op_index *index, const struct resources *resources,
        const unsigned *all, const unsigned *all_end)
{
        struct candidates found = {.b = index->others, .b_end = index->others + index->n_others};

        /* An allow entry has to hold for each resource of the kind, so for the first; without one,
         * only a wildcard can hold. */
        for (size_t i = 0; resources && i < resources->n; i++) {
                if (resources->items[i].kind != index->kind)
                        continue;
                /* A rule may mean it by any of its names. */
                if (resources->items[i].known)
                        return (struct candidates){.a = all, .a_end = all_end};
                unsigned bucket = bucket_of(resources->items[i].value, index->mask);
                found.a = index->items + index->starts[bucket];
                found.a_end = index->items + index->starts[bucket + 1];
                break;
        }
        return found;
}
