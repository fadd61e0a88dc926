/*
 * Finding the few of many entries that a request's resources leave.
 *
 * Of the entries that are about an operation, those that insist on a resource of one kind are put
 * into buckets by the values they name; the start of a value that ends in `*` is as good as a whole
 * one. What is found is always enough and may be too much: entry_matches has the last word.
 */
#include <stdlib.h>

#include "dagward/azdo/identity.h"
#include "policy_internal.h"

enum { WORTH_IT = 8, LONGEST_PREFIX = 255 };

/* FNV-1a over lower case, byte by byte, so that one walk over a name passes by all its starts. */
static const uint32_t hash_start = 2166136261u;

static uint32_t hash_more(uint32_t hash, char c)
{
        return (hash ^ (unsigned char)char_lower(c)) * 16777619u;
}

static uint32_t hash_of(struct str text)
{
        uint32_t hash = hash_start;

        for (size_t i = 0; i < text.len; i++)
                hash = hash_more(hash, text.ptr[i]);
        return hash;
}

void index_prepare(struct policy *policy)
{
        for (size_t i = 0; i < policy->n_entries; i++) {
                struct entry *entry = &policy->entries[i];
                for (size_t s = 0; s < entry->n_selectors; s++) {
                        const struct selector *selector = &entry->selectors[s];
                        for (size_t v = 0; v < selector->n; v++)
                                selector->values[v].hash = hash_of(selector->values[v].name.text);
                }
        }
}

/* The entry's selector of that kind, if each of its values can be found by what it begins with. */
static const struct selector *telling_selector(const struct entry *entry, enum resource_kind kind)
{
        for (size_t i = 0; i < entry->n_selectors; i++) {
                const struct selector *selector = &entry->selectors[i];
                if (selector->kind != kind)
                        continue;
                for (size_t v = 0; v < selector->n; v++) {
                        const struct pattern *name = &selector->values[v].name;
                        if (name->prefix && (!name->text.len || name->text.len > LONGEST_PREFIX))
                                return NULL;
                }
                return selector;
        }
        return NULL;
}

/* How many entries a look-up by that kind leaves on the average: those without a telling selector,
 * and a bucket. */
static double left_by(const struct policy *policy, const unsigned *entries, unsigned n,
        enum resource_kind kind, unsigned mask, unsigned *counts)
{
        double values = 0, squares = 0;
        unsigned others = 0;

        memset(counts, 0, (mask + 1u) * sizeof(*counts));
        for (unsigned i = 0; i < n; i++) {
                const struct selector *selector =
                        telling_selector(&policy->entries[entries[i]], kind);
                others += !selector;
                for (size_t v = 0; selector && v < selector->n; v++) {
                        unsigned *count = &counts[selector->values[v].hash & mask];
                        squares += 2.0 * *count + 1;
                        ++*count;
                        values++;
                }
        }
        return values > 0 ? others + squares / values : n;
}

static void add_once(struct entry_list *list, unsigned entry)
{
        if (list->last == entry + 1u)
                return;
        list->last = entry + 1u;
        if (list->items)
                list->items[list->n] = entry;
        list->n++;
}

static void note_value(struct op_index *index, const struct pattern *name, unsigned entry)
{
        add_once(name->id ? &index->ids : &index->names, entry);
        if (name->prefix)
                index->starts_at[name->text.len / 64] |= UINT64_C(1) << name->text.len % 64;
        index->has_paths |= name->text.len && name->text.ptr[0] == '\\';
}

/* Counts (items NULL) or places the entries of each bucket; `last` keeps an entry from being put
 * into one bucket twice. */
static void place(const struct policy *policy, struct op_index *index, const unsigned *entries,
        unsigned n, unsigned *at, unsigned *last)
{
        struct entry_list *lists[] = {&index->others, &index->names, &index->ids};

        memset(last, 0xff, (index->mask + 1u) * sizeof(*last));
        for (size_t i = 0; i < 3; i++)
                lists[i]->n = lists[i]->last = 0;
        for (unsigned i = 0; i < n; i++) {
                const struct selector *selector =
                        telling_selector(&policy->entries[entries[i]], index->kind);
                if (!selector)
                        add_once(&index->others, entries[i]);
                for (size_t v = 0; selector && v < selector->n; v++) {
                        const struct value *value = &selector->values[v];
                        unsigned bucket = value->hash & index->mask;
                        note_value(index, &value->name, entries[i]);
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
        struct entry_list *lists[] = {&index->others, &index->names, &index->ids};
        unsigned buckets = index->mask + 1;
        unsigned *at = calloc(buckets, sizeof(*at)), *last = calloc(buckets, sizeof(*last));

        if (!at || !last)
                abort();
        place(policy, index, entries, n, at, last);
        index->starts = policy_take(policy, (buckets + 1) * sizeof(*index->starts));
        for (unsigned i = 0; i < buckets; i++)
                index->starts[i + 1] = index->starts[i] + at[i];
        index->items = policy_take(policy, index->starts[buckets] * sizeof(*index->items));
        for (size_t i = 0; i < 3; i++)
                lists[i]->items = policy_take(policy, lists[i]->n * sizeof(*lists[i]->items));
        memcpy(at, index->starts, buckets * sizeof(*at));
        place(policy, index, entries, n, at, last);
        free(at);
        free(last);
}

struct op_index *index_build(
        struct policy *policy, const unsigned *entries, unsigned n, unsigned kinds)
{
        unsigned mask = 1;
        double best = n;
        enum resource_kind kind = RESOURCE_PROJECT;

        if (n < WORTH_IT)
                return NULL;
        while (mask < n)
                mask = mask * 2 + 1;
        unsigned *counts = calloc(mask + 1u, sizeof(*counts));
        if (!counts)
                abort();
        for (int k = 0; k < RESOURCE_KINDS; k++) {
                if (!(kinds >> k & 1))
                        continue;
                double one = left_by(policy, entries, n, (enum resource_kind)k, mask, counts);
                if (one >= best)
                        continue;
                best = one;
                kind = (enum resource_kind)k;
        }
        free(counts);
        if (best * 2 > n)
                return NULL;
        struct op_index *index = policy_take(policy, sizeof(*index));
        *index = (struct op_index){.kind = kind, .mask = mask};
        fill(policy, index, entries, n);
        return index;
}

/* --- looking up --- */

struct search {
        const struct op_index *index;
        struct candidates found;
        bool possible; /* also those of which one cannot be sure */
        bool all;      /* it would take all entries */
};

static void add_run(struct search *search, const unsigned *from, const unsigned *to)
{
        struct candidates *found = &search->found;

        if (from == to)
                return;
        if (found->n == CANDIDATE_RUNS)
                search->all = true;
        else
                found->runs[found->n++] = (struct candidate_run){from, to};
}

static void add_list(struct search *search, const struct entry_list *list)
{
        add_run(search, list->items, list->items + list->n);
}

static void add_bucket(struct search *search, uint32_t hash)
{
        const struct op_index *index = search->index;
        unsigned bucket = hash & index->mask;

        add_run(search, index->items + index->starts[bucket],
                index->items + index->starts[bucket + 1]);
}

/* Entries with a value that the text is, or begins with. */
static void add_text(struct search *search, struct str text)
{
        const uint64_t *starts_at = search->index->starts_at;
        uint32_t hash = hash_start;

        for (size_t i = 0; i < text.len; i++) {
                if (i <= LONGEST_PREFIX && starts_at[i / 64] >> i % 64 & 1)
                        add_bucket(search, hash);
                hash = hash_more(hash, text.ptr[i]);
        }
        add_bucket(search, hash);
        /* Upstream may fold such letters: see pattern_state. */
        search->all |= search->possible && !str_is_ascii(text);
}

/* As known_state: a rule may mean it by any of its names. */
static void add_known(struct search *search, const struct identity *known)
{
        const struct op_index *index = search->index;

        if (known->id.len)
                add_text(search, known->id);
        else if (search->possible)
                add_list(search, &index->ids);
        if (known->name.len)
                add_text(search, known->name);
        else if (search->possible)
                add_list(search, &index->names);
        if (!index->has_paths)
                return;
        if (known->path.len)
                add_text(search, known->path);
        else if (search->possible)
                add_list(search, &index->names);
}

static void add_item(struct search *search, const struct resource *item)
{
        const struct op_index *index = search->index;

        if (item->known && item->kind != RESOURCE_REF) {
                add_known(search, item->known);
                return;
        }
        add_text(search, item->value);
        /* A name and an id may be the same thing. */
        if (search->possible)
                add_list(search,
                        is_resource_id((int)item->kind, item->value) ? &index->names : &index->ids);
}

/* Without an item of the kind: what selector_state says of an entry that asks for one. */
static bool holds_without(
        const struct op_index *index, const struct policy_request *request, enum search_for what)
{
        const struct resources *resources = request->resources;

        if (resources && resources->deferred >> index->kind & 1)
                return what != SEARCH_DENY;
        if (what == SEARCH_ALLOW)
                return false; /* only `*` holds for what is not named */
        return !resources || !request->op || resources->unresolved[index->kind];
}

struct candidates index_candidates(const struct op_index *index,
        const struct policy_request *request, enum search_for what, const unsigned *all,
        const unsigned *all_end)
{
        const struct resources *resources = request->resources;
        struct search search = {.index = index, .possible = what != SEARCH_ALLOW};
        bool any = false;

        add_list(&search, &index->others);
        for (size_t i = 0; resources && i < resources->n && !search.all; i++) {
                if (resources->items[i].kind != index->kind)
                        continue;
                any = true;
                add_item(&search, &resources->items[i]);
                /* An allow has to hold for each of them, so for the first. */
                if (what != SEARCH_DENY)
                        break;
                search.all |= resources->unresolved[index->kind];
        }
        if (search.all || (!any && holds_without(index, request, what)))
                return (struct candidates){.n = 1, .runs = {{all, all_end}}};
        return search.found;
}
