/* From selectors to tables: which entries of a role are about which operation. */
#include <assert.h>
#include <stdlib.h>

#include "policy_internal.h"

const char *choice_name(enum choice choice)
{
        switch (choice) {
        case CHOICE_OPERATIONS: return "operations";
        case CHOICE_ACCESS: return "access";
        case CHOICE_SCOPES: return "scopes";
        case CHOICE_AREAS: return "areas";
        }
        return "";
}

static bool has_star(struct str value)
{
        return str_find(value, '*') >= 0;
}

/* Adds what the aliases that the value names stand for; whether there is one. */
static bool add_aliases(struct str value, enum effect effect, struct operation_set *set)
{
        size_t n;
        const struct operation_alias *aliases = catalogue_aliases(&n);
        bool found = false;

        for (size_t i = 0; i < n; i++) {
                struct str name = str_of(aliases[i].name);
                if (!(has_star(value) ? operation_pattern_matches(value, name)
                                      : str_eq_fold(value, name)))
                        continue;
                found = catalogue_alias(name, set);
                if (effect == EFFECT_ALLOW)
                        alias_add_needs(&aliases[i], set);
        }
        return found;
}

static bool operation_value_matches(
        struct str value, enum effect effect, const struct operation *op)
{
        struct operation_set set = {0};

        if (has_star(value) ? operation_pattern_matches(value, str_of(op->id))
                            : catalogue_named(value, &set) && operation_set_has(&set, op->index))
                return true;
        return add_aliases(value, effect, &set) && operation_set_has(&set, op->index);
}

static bool choice_matches(
        enum choice choice, struct str value, enum effect effect, const struct operation *op)
{
        struct pattern pattern;

        if (choice == CHOICE_OPERATIONS)
                return operation_value_matches(value, effect, op);
        if (choice == CHOICE_ACCESS)
                return str_eq(value, str_of(access_name(op->access)));
        if (!pattern_parse(value, -1, &pattern))
                return false;
        if (choice == CHOICE_AREAS)
                return pattern_state(&pattern, str_of(op->area), true) == STATE_MET;
        for (size_t i = 0; i < op->n_scopes; i++)
                if (pattern_state(&pattern, str_of(op->scopes[i]), true) == STATE_MET)
                        return true;
        return false;
}

/* Some operations are opened only by a grant that names their id. */
static bool opens(enum choice choice, struct str value, const struct operation *op)
{
        return !operation_by_name_only(op) ||
               (choice == CHOICE_OPERATIONS && str_eq_fold(value, str_of(op->id)));
}

bool choice_select(
        enum choice choice, struct str value, enum effect effect, struct operation_set *set)
{
        size_t n;
        const struct operation *all = catalogue_all(&n);
        struct operation_set by_alias = {0};
        bool found = false;

        assert(n < UNKNOWN_OPERATION);
        if (choice == CHOICE_OPERATIONS && !has_star(value))
                return catalogue_named(value, set) || add_aliases(value, effect, set);
        /* Once, and not for each operation: a policy may hold thousands of patterns. */
        if (choice == CHOICE_OPERATIONS)
                (void)add_aliases(value, effect, &by_alias);
        for (size_t i = 0; i < n; i++) {
                if (choice == CHOICE_OPERATIONS
                                ? !operation_pattern_matches(value, str_of(all[i].id)) &&
                                          !operation_set_has(&by_alias, all[i].index)
                                : !choice_matches(choice, value, effect, &all[i]))
                        continue;
                found = true;
                if (effect == EFFECT_DENY || opens(choice, value, &all[i]))
                        operation_set_add(set, all[i].index);
        }
        /* Nobody knows the class, scope or area of an unknown request. */
        if (effect == EFFECT_DENY && (choice != CHOICE_OPERATIONS || str_eq(value, STR("*"))))
                operation_set_add(set, UNKNOWN_OPERATION);
        return found;
}

enum policy_state choice_state(
        const struct entry *entry, enum choice choice, const struct operation *op)
{
        const struct names *names = &entry->choices[choice];

        for (size_t i = 0; i < names->n; i++) {
                struct str value = names->items[i];
                if (!op && choice == CHOICE_OPERATIONS && str_eq(value, STR("*")))
                        return STATE_UNSURE;
                if (op && choice_matches(choice, value, entry->effect, op) &&
                        (entry->effect == EFFECT_DENY || opens(choice, value, op)))
                        return STATE_MET;
        }
        return op || choice == CHOICE_OPERATIONS ? STATE_FAILED : STATE_UNSURE;
}

/*
 * Classes of operations that the role's entries do not tell apart: begin with one class, and let
 * each entry split those of which it holds some but not all.
 */
struct classes {
        unsigned short of[OPERATIONS_MAX];
        unsigned short members[OPERATIONS_MAX], moved[OPERATIONS_MAX], target[OPERATIONS_MAX];
        unsigned first[OPERATIONS_MAX]; /* a slot of each class */
        size_t n;
        /* Sets of several operations that were met last: many entries may be about the same
         * hundreds, such as those of one access class. */
        struct recent_set {
                const struct operation_set *set;
                unsigned short classes[OPERATIONS_MAX], n;
        } recent[8];
        size_t n_recent;
};

static const struct recent_set *recent_find(
        const struct classes *classes, const struct operation_set *set)
{
        for (size_t i = 0; i < sizeof(classes->recent) / sizeof(classes->recent[0]); i++)
                if (classes->recent[i].set &&
                        memcmp(classes->recent[i].set, set, sizeof(*set)) == 0)
                        return &classes->recent[i];
        return NULL;
}

static struct recent_set *recent_add(struct classes *classes, const struct operation_set *set)
{
        struct recent_set *recent =
                &classes->recent[classes->n_recent++ %
                                 (sizeof(classes->recent) / sizeof(classes->recent[0]))];

        recent->set = set;
        recent->n = 0;
        return recent;
}

static void recent_clear(struct classes *classes)
{
        for (size_t i = 0; i < sizeof(classes->recent) / sizeof(classes->recent[0]); i++)
                classes->recent[i].set = NULL;
}

static int next_slot(const struct operation_set *set, int slot)
{
        size_t word = (size_t)(slot + 1) / 64;

        if (word >= OPERATIONS_MAX / 64)
                return -1;
        uint64_t bits = set->words[word] & (~UINT64_C(0) << (slot + 1) % 64);
        while (!bits) {
                if (++word == OPERATIONS_MAX / 64)
                        return -1;
                bits = set->words[word];
        }
        return (int)word * 64 + __builtin_ctzll(bits);
}

static void split(struct classes *classes, const struct operation_set *set)
{
        size_t before = classes->n;

        memset(classes->moved, 0, before * sizeof(classes->moved[0]));
        memset(classes->target, 0, before * sizeof(classes->target[0]));
        for (int slot = next_slot(set, -1); slot >= 0; slot = next_slot(set, slot))
                classes->moved[classes->of[slot]]++;
        for (int slot = next_slot(set, -1); slot >= 0; slot = next_slot(set, slot)) {
                unsigned short old = classes->of[slot];
                if (old < before && classes->moved[old] == classes->members[old] &&
                        !classes->target[old])
                        continue;
                if (!classes->target[old]) {
                        classes->target[old] = (unsigned short)classes->n;
                        classes->members[classes->n++] = 0;
                }
                unsigned short fresh = classes->target[old];
                classes->of[slot] = fresh;
                classes->members[old]--;
                classes->members[fresh]++;
        }
}

static size_t slots_of_all(unsigned short slots[OPERATIONS_MAX])
{
        size_t n;

        (void)catalogue_all(&n);
        for (size_t i = 0; i < n; i++)
                slots[i] = (unsigned short)i;
        slots[n] = UNKNOWN_OPERATION;
        return n + 1;
}

static unsigned entry_kinds(const struct entry *entry)
{
        unsigned kinds = entry->n_conditions ? BODY_FACTS : 0;

        for (size_t i = 0; i < entry->n_selectors; i++) {
                kinds |= 1u << entry->selectors[i].kind;
                if (entry->selectors[i].kind == RESOURCE_REPOSITORY)
                        kinds |= 1u << RESOURCE_PROJECT;
        }
        return kinds;
}

void *policy_take(struct policy *policy, size_t bytes)
{
        void *memory = arena_alloc(&policy->arena, bytes ? bytes : 1);

        if (!memory)
                abort();
        return memory;
}

/* The classes that a set holds; until the next call. */
static const struct recent_set *classes_of(struct classes *classes, const struct operation_set *set)
{
        const struct recent_set *known = recent_find(classes, set);

        if (known)
                return known;
        struct recent_set *recent = recent_add(classes, set);
        for (int slot = next_slot(set, -1); slot >= 0; slot = next_slot(set, slot)) {
                unsigned short class = classes->of[slot];
                if (classes->first[class] == (unsigned)slot)
                        recent->classes[recent->n++] = class;
        }
        return recent;
}

/* Goes through the role's entries of one effect and adds each to the classes that it holds: counts
 * (list NULL) or places. `at`: by class. */
static void list_entries(const struct policy *policy, const struct role *role,
        struct classes *classes, enum effect effect, unsigned *list, unsigned *at)
{
        for (size_t i = role->first; i < role->first + role->n; i++) {
                const struct entry *entry = &policy->entries[i];
                if (entry->effect != effect)
                        continue;
                const struct recent_set *held = classes_of(classes, entry->set);
                for (unsigned k = 0; k < held->n; k++) {
                        unsigned class = held->classes[k];
                        if (list)
                                list[at[class]] = (unsigned)i;
                        at[class]++;
                        role->classes[class].kinds |= entry->kinds;
                }
        }
}

static void fill_classes(struct policy *policy, struct role *role, struct classes *classes)
{
        unsigned *denies = calloc(classes->n, sizeof(*denies));
        unsigned *allows = calloc(classes->n, sizeof(*allows)), n = 0;

        if (!denies || !allows)
                abort();
        list_entries(policy, role, classes, EFFECT_DENY, NULL, denies);
        list_entries(policy, role, classes, EFFECT_ALLOW, NULL, allows);
        for (size_t i = 0; i < classes->n; i++) {
                struct op_class *class = &role->classes[i];
                class->start = n;
                class->middle = class->start + denies[i];
                class->end = n = class->middle + allows[i];
                denies[i] = class->start;
                allows[i] = class->middle;
        }
        role->list = policy_take(policy, n * sizeof(*role->list));
        list_entries(policy, role, classes, EFFECT_DENY, role->list, denies);
        list_entries(policy, role, classes, EFFECT_ALLOW, role->list, allows);
        free(denies);
        free(allows);
}

static void compile_role(struct policy *policy, struct index_maker *maker, struct role *role,
        struct classes *classes, const unsigned short *slots, size_t n_slots)
{
        memset(classes->of, 0, sizeof(classes->of));
        classes->members[0] = (unsigned short)n_slots;
        classes->n = 1;
        recent_clear(classes);
        for (size_t i = role->first; i < role->first + role->n; i++) {
                /* What has split the classes once finds nothing to split. */
                if (recent_find(classes, policy->entries[i].set))
                        continue;
                split(classes, policy->entries[i].set);
                (void)recent_add(classes, policy->entries[i].set);
        }
        recent_clear(classes);
        for (size_t i = 0; i < n_slots; i++)
                classes->first[classes->of[slots[i]]] = slots[i];

        role->n_classes = classes->n;
        role->classes = policy_take(policy, classes->n * sizeof(*role->classes));
        role->class_of = policy_take(policy, sizeof(classes->of));
        memcpy(role->class_of, classes->of, sizeof(classes->of));
        fill_classes(policy, role, classes);
        for (size_t i = 0; i < classes->n; i++)
                index_class(maker, role, &role->classes[i]);
}

void policy_compile(struct policy *policy)
{
        unsigned short slots[OPERATIONS_MAX];
        size_t n_slots = slots_of_all(slots);
        struct classes *classes = calloc(1, sizeof(*classes));

        if (!classes)
                abort();
        for (size_t i = 0; i < policy->n_entries; i++)
                policy->entries[i].kinds = entry_kinds(&policy->entries[i]);
        struct index_maker *maker = index_maker_new(policy);
        for (size_t i = 0; i < policy->n_roles; i++)
                compile_role(policy, maker, &policy->roles[i], classes, slots, n_slots);
        index_maker_free(maker);
        free(classes);
        for (size_t i = 0; i < policy->n_entries; i++) {
                free(policy->entries[i].set);
                policy->entries[i].set = NULL;
        }
}
