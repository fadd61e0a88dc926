/*
 * Finding the few of many entries that a request's resources leave.
 *
 * Of the entries that are about an operation, those that insist on a resource of one kind are put
 * into buckets by the values they name; the start of a value that ends in `*` is as good as a whole
 * one. What is found is always enough and may be too much: entry_matches has the last word.
 */
#include <assert.h>
#include <stdlib.h>

#include "dagward/azdo/identity.h"
#include "policy_internal.h"

enum { WORTH_IT = 8, LONGEST_PREFIX = 255, SAMPLED = 512 };

/* FNV-1a over lower case, byte by byte, so that one walk over a name passes by all its starts. */
static const uint32_t hash_start = 2166136261u;

static uint32_t hash_more(uint32_t hash, char c)
{
        return (hash ^ (unsigned char)char_lower(c)) * 16777619u;
}

static uint32_t hash_on(uint32_t hash, struct str text)
{
        for (size_t i = 0; i < text.len; i++)
                hash = hash_more(hash, text.ptr[i]);
        return hash;
}

static uint32_t hash_of(struct str text)
{
        return hash_on(hash_start, text);
}

static void prepare_keyed(struct policy *policy, struct keyed_values *keyed)
{
        uint32_t hash = hash_of(keyed->key.text);

        keyed->key_hash = hash_more(hash, '\0');
        keyed->hashes = policy_take(policy, keyed->n * sizeof(*keyed->hashes));
        for (size_t v = 0; v < keyed->n; v++)
                keyed->hashes[v] = hash_on(keyed->key_hash, keyed->values[v].text);
}

static void prepare(struct policy *policy)
{
        for (size_t i = 0; i < policy->n_entries; i++) {
                struct entry *entry = &policy->entries[i];
                for (size_t s = 0; s < entry->n_selectors; s++) {
                        const struct selector *selector = &entry->selectors[s];
                        for (size_t v = 0; v < selector->n; v++)
                                selector->values[v].hash = hash_of(selector->values[v].name.text);
                }
                for (size_t c = 0; c < entry->n_conditions; c++)
                        for (size_t k = 0; k < entry->conditions[c].n; k++)
                                prepare_keyed(policy, &entry->conditions[c].keys[k]);
        }
}

/* What entries are told apart by. */
struct aspect {
        bool by_fact;
        unsigned fact;
        enum resource_kind kind;
};

static bool can_be_found(const struct pattern *name)
{
        return !name->prefix || (name->text.len && name->text.len <= LONGEST_PREFIX);
}

/* The entry's selector of that kind, if each of its values can be found by what it begins with. */
static const struct selector *telling_selector(const struct entry *entry, enum resource_kind kind)
{
        for (size_t i = 0; i < entry->n_selectors; i++) {
                const struct selector *selector = &entry->selectors[i];
                if (selector->kind != kind)
                        continue;
                for (size_t v = 0; v < selector->n; v++)
                        if (!can_be_found(&selector->values[v].name))
                                return NULL;
                return selector;
        }
        return NULL;
}

/* Likewise of its conditions. Keys have to be whole. */
static const struct condition *telling_condition(const struct entry *entry, unsigned fact)
{
        size_t n;
        bool is_map = facts_all(&n)[fact].is_map;

        for (size_t i = 0; i < entry->n_conditions; i++) {
                const struct condition *condition = &entry->conditions[i];
                if (condition->fact != fact)
                        continue;
                for (size_t k = 0; k < condition->n; k++) {
                        const struct keyed_values *keyed = &condition->keys[k];
                        if (is_map && keyed->key.prefix)
                                return NULL;
                        for (size_t v = 0; v < keyed->n; v++)
                                if (!can_be_found(&keyed->values[v]))
                                        return NULL;
                }
                return condition;
        }
        return NULL;
}

/* The values by which an entry is found, one by one. */
struct teller {
        const struct selector *selector; /* one of these; or neither: it is never told apart */
        const struct condition *condition;
        size_t key, value;
};

static struct teller teller_of(const struct entry *entry, const struct aspect *aspect)
{
        struct teller teller = {0};

        if (aspect->by_fact)
                teller.condition = telling_condition(entry, aspect->fact);
        else
                teller.selector = telling_selector(entry, aspect->kind);
        return teller;
}

static bool tells(const struct teller *teller)
{
        return teller->selector || teller->condition;
}

static bool next_value(struct teller *teller, const struct pattern **name, uint32_t *hash)
{
        if (teller->selector) {
                if (teller->value == teller->selector->n)
                        return false;
                const struct value *value = &teller->selector->values[teller->value++];
                *name = &value->name;
                *hash = value->hash;
                return true;
        }
        while (teller->condition && teller->key < teller->condition->n) {
                const struct keyed_values *keyed = &teller->condition->keys[teller->key];
                if (teller->value < keyed->n) {
                        *name = &keyed->values[teller->value];
                        *hash = keyed->hashes[teller->value++];
                        return true;
                }
                teller->key++;
                teller->value = 0;
        }
        return false;
}

/* One value by which an entry is found. */
struct told {
        uint32_t hash;
        uint8_t prefix_bytes;
        bool prefix, id, path;
};

/* How all entries are told apart by one aspect. The lists of hundreds of classes may hold the same
 * thousands of entries, so their values are gathered once. */
struct telling {
        bool made;
        bool *tells;      /* by entry; false: it is never told apart */
        unsigned *starts; /* by entry, and one behind the last, into values */
        struct told *values;
};

struct index_maker {
        struct policy *policy;
        struct telling kinds[RESOURCE_KINDS];
        struct telling *facts;
        size_t n_facts;
};

struct index_maker *index_maker_new(struct policy *policy)
{
        struct index_maker *maker = calloc(1, sizeof(*maker));

        if (!maker)
                abort();
        prepare(policy);
        maker->policy = policy;
        (void)facts_all(&maker->n_facts);
        maker->facts = calloc(maker->n_facts, sizeof(*maker->facts));
        if (!maker->facts)
                abort();
        return maker;
}

static void telling_clear(struct telling *telling)
{
        free(telling->tells);
        free(telling->starts);
        free(telling->values);
}

void index_maker_free(struct index_maker *maker)
{
        for (size_t k = 0; k < RESOURCE_KINDS; k++)
                telling_clear(&maker->kinds[k]);
        for (size_t f = 0; f < maker->n_facts; f++)
                telling_clear(&maker->facts[f]);
        free(maker->facts);
        free(maker);
}

static struct told told_of(const struct pattern *name, uint32_t hash)
{
        return (struct told){
                .hash = hash,
                .prefix_bytes = name->prefix ? (uint8_t)name->text.len : 0,
                .prefix = name->prefix,
                .id = name->id,
                .path = name->text.len && name->text.ptr[0] == '\\',
        };
}

static void gather(
        const struct policy *policy, const struct aspect *aspect, struct telling *telling)
{
        const struct pattern *name;
        size_t n = 0, cap = 0;
        uint32_t hash;

        telling->made = true;
        telling->tells = calloc(policy->n_entries + 1, sizeof(*telling->tells));
        telling->starts = calloc(policy->n_entries + 1, sizeof(*telling->starts));
        if (!telling->tells || !telling->starts)
                abort();
        for (size_t i = 0; i < policy->n_entries; i++) {
                struct teller teller = teller_of(&policy->entries[i], aspect);
                telling->tells[i] = tells(&teller);
                while (next_value(&teller, &name, &hash)) {
                        telling->values = grow(telling->values, n, &cap, sizeof(*telling->values));
                        telling->values[n++] = told_of(name, hash);
                }
                telling->starts[i + 1] = (unsigned)n;
        }
}

static const struct telling *telling_by(struct index_maker *maker, const struct aspect *aspect)
{
        struct telling *telling =
                aspect->by_fact ? &maker->facts[aspect->fact] : &maker->kinds[aspect->kind];

        if (!telling->made)
                gather(maker->policy, aspect, telling);
        return telling;
}

/* How many entries a look-up by that aspect leaves on the average: those that it does not tell
 * apart, and a bucket. Of very many, some stand for all. */
static double left_by(
        const struct telling *telling, const unsigned *entries, unsigned n, unsigned mask)
{
        unsigned counts[2 * SAMPLED] = {0}, step = n / SAMPLED + 1, seen = 0, others = 0;
        double values = 0, squares = 0;

        while (mask / 2 > n / step)
                mask /= 2;
        assert(mask < 2 * SAMPLED);
        for (unsigned i = 0; i < n; i += step, seen++) {
                unsigned entry = entries[i];
                others += !telling->tells[entry];
                for (unsigned v = telling->starts[entry]; v < telling->starts[entry + 1]; v++) {
                        unsigned *count = &counts[telling->values[v].hash & mask];
                        squares += 2.0 * *count + 1;
                        ++*count;
                        values++;
                }
        }
        double each = (double)n / seen; /* how many one stands for */
        return values > 0 ? others * each + 1 + (squares / values - 1) * each : n;
}

static void add_once(struct entry_list *list, unsigned entry)
{
        if (list->last == entry + 1u)
                return;
        list->last = entry + 1u;
        list->items[list->n++] = entry;
}

static void note_value(struct op_index *index, const struct told *told, unsigned entry)
{
        add_once(told->id ? &index->ids : &index->names, entry);
        if (told->prefix)
                index->starts_at[told->prefix_bytes / 64] |= UINT64_C(1) << told->prefix_bytes % 64;
        index->has_paths |= told->path;
}

/* Which entry belongs into which bucket, in the order of entries. */
struct placing {
        struct placed {
                unsigned bucket, entry;
        } * items;
        size_t n, room;
        unsigned *counts; /* of each bucket */
        unsigned *last;   /* entry of each bucket, so that none is there twice */
};

static void place_in(struct placing *placing, unsigned bucket, unsigned entry)
{
        if (placing->last[bucket] == entry)
                return;
        placing->last[bucket] = entry;
        placing->counts[bucket]++;
        if (placing->n == placing->room) {
                placing->room = placing->room ? placing->room * 2 : 64;
                placing->items = realloc(placing->items, placing->room * sizeof(*placing->items));
                if (!placing->items)
                        abort();
        }
        placing->items[placing->n++] = (struct placed){bucket, entry};
}

/* The index's lists have room for all entries. */
static void place(const struct telling *telling, struct op_index *index, const unsigned *entries,
        unsigned n, struct placing *placing)
{
        for (unsigned i = 0; i < n; i++) {
                unsigned entry = entries[i];
                if (!telling->tells[entry])
                        add_once(&index->others, entry);
                for (unsigned v = telling->starts[entry]; v < telling->starts[entry + 1]; v++) {
                        note_value(index, &telling->values[v], entry);
                        place_in(placing, telling->values[v].hash & index->mask, entry);
                }
        }
}

static void fill(struct policy *policy, const struct telling *telling, struct op_index *index,
        const unsigned *entries, unsigned n)
{
        struct entry_list *lists[] = {&index->others, &index->names, &index->ids};
        unsigned buckets = index->mask + 1;
        struct placing placing = {.counts = calloc(buckets, sizeof(*placing.counts)),
                .last = malloc(buckets * sizeof(*placing.last))};
        unsigned *room = malloc(3u * n * sizeof(*room));

        if (!placing.counts || !placing.last || !room)
                abort();
        memset(placing.last, 0xff, buckets * sizeof(*placing.last));
        for (size_t i = 0; i < 3; i++)
                *lists[i] = (struct entry_list){.items = room + i * n};
        place(telling, index, entries, n, &placing);
        index->starts = policy_take(policy, (buckets + 1) * sizeof(*index->starts));
        for (unsigned i = 0; i < buckets; i++)
                index->starts[i + 1] = index->starts[i] + placing.counts[i];
        index->items = policy_take(policy, placing.n * sizeof(*index->items));
        memcpy(placing.counts, index->starts, buckets * sizeof(*placing.counts));
        for (size_t i = 0; i < placing.n; i++)
                index->items[placing.counts[placing.items[i].bucket]++] = placing.items[i].entry;
        for (size_t i = 0; i < 3; i++) {
                unsigned *items = policy_take(policy, lists[i]->n * sizeof(*items));
                if (lists[i]->n)
                        memcpy(items, lists[i]->items, lists[i]->n * sizeof(*items));
                lists[i]->items = items;
        }
        free(room);
        free(placing.items);
        free(placing.counts);
        free(placing.last);
}

static struct op_index *build(struct index_maker *maker, const unsigned *entries, unsigned n,
        const struct aspect *aspect, unsigned mask)
{
        struct op_index *index = policy_take(maker->policy, sizeof(*index));

        *index = (struct op_index){.kind = aspect->kind,
                .by_fact = aspect->by_fact,
                .fact = aspect->fact,
                .mask = mask};
        fill(maker->policy, telling_by(maker, aspect), index, entries, n);
        return index;
}

/* The aspect that tells the entries apart best, of those taken into account so far. */
struct best {
        struct aspect aspect;
        double left; /* by left_by */
};

static void consider(struct index_maker *maker, const unsigned *entries, unsigned n,
        const struct aspect *aspect, unsigned mask, struct best *best)
{
        double left = left_by(telling_by(maker, aspect), entries, n, mask);

        if (left < best->left)
                *best = (struct best){*aspect, left};
}

/* The kind of resource that does so. */
static struct best best_kind(struct index_maker *maker, const unsigned *entries, unsigned n,
        unsigned kinds, unsigned mask)
{
        struct best best = {.aspect = {.kind = RESOURCE_PROJECT}, .left = n};

        for (int k = 0; k < RESOURCE_KINDS; k++) {
                const struct aspect aspect = {.kind = (enum resource_kind)k};
                if (kinds >> k & 1)
                        consider(maker, entries, n, &aspect, mask, &best);
        }
        return best;
}

/* What requests say that does; it has to be asked for by most of them. */
static struct best best_fact(
        struct index_maker *maker, const unsigned *entries, unsigned n, unsigned mask)
{
        struct best best = {.aspect = {.by_fact = true}, .left = n};
        unsigned *asked = calloc(maker->n_facts, sizeof(*asked));

        if (!asked)
                abort();
        for (unsigned i = 0; i < n; i++) {
                const struct entry *entry = &maker->policy->entries[entries[i]];
                for (size_t c = 0; c < entry->n_conditions; c++)
                        asked[entry->conditions[c].fact]++;
        }
        for (unsigned fact = 0; fact < maker->n_facts; fact++) {
                const struct aspect aspect = {.by_fact = true, .fact = fact};
                if (asked[fact] * 2 >= n)
                        consider(maker, entries, n, &aspect, mask, &best);
        }
        free(asked);
        return best;
}

void index_class(struct index_maker *maker, const struct role *role, struct op_class *class)
{
        for (int allow = 0; allow < 2; allow++) {
                const unsigned *list = role->list + (allow ? class->middle : class->start);
                unsigned n = allow ? class->end - class->middle : class->middle - class->start;
                unsigned mask = 1;
                if (n < WORTH_IT)
                        continue;
                while (mask < n)
                        mask = mask * 2 + 1;
                struct best kind = best_kind(maker, list, n, class->kinds, mask);
                /* A deny may match what is not said quite as it is listed. */
                if (allow && class->kinds & BODY_FACTS) {
                        struct best fact = best_fact(maker, list, n, mask);
                        if (fact.left * 2 <= kind.left)
                                class->says = build(maker, list, n, &fact.aspect, mask);
                }
                /* What requests do not say holds of them, so then a project that is the same in all
                 * entries has to keep others out. */
                if (kind.left * 2 <= n || (allow && class->says && kind.left < n + 1))
                        *(allow ? &class->allows : &class->denies) =
                                build(maker, list, n, &kind.aspect, mask);
        }
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

/* Entries with a value that the text is, or begins with; `hash`: of what stands before it. */
static void add_buckets(struct search *search, uint32_t hash, struct str text)
{
        const uint64_t *starts_at = search->index->starts_at;

        for (size_t i = 0; i < text.len; i++) {
                if (i <= LONGEST_PREFIX && starts_at[i / 64] >> i % 64 & 1)
                        add_bucket(search, hash);
                hash = hash_more(hash, text.ptr[i]);
        }
        add_bucket(search, hash);
}

static void add_text(struct search *search, struct str text)
{
        add_buckets(search, hash_start, text);
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
        search->all |= search->possible && may_be_another(item->kind, item->value);
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

bool index_says(
        const struct op_index *index, const struct policy_request *request, struct candidates *out)
{
        const struct facts *facts = request->facts;
        struct search search = {.index = index};
        const struct fact *fact = NULL;
        size_t n;

        if (!facts || !request->op)
                return false;
        for (size_t i = 0; i < facts->n && !fact; i++)
                if (facts->items[i].kind == index->fact)
                        fact = &facts->items[i];
        if (!fact && !facts->unread)
                return false;
        /* Each that it says has to be listed, so the first; what nobody has read never is. */
        add_list(&search, &index->others);
        if (fact && fact->value.ptr && !facts->unread) {
                struct str key = facts_all(&n)[index->fact].is_map ? fact->key : STR("");
                add_buckets(&search, hash_more(hash_of(key), '\0'), fact->value);
        }
        *out = search.found;
        return !search.all;
}
