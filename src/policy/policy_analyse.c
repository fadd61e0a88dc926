/* What a policy gives, and what in it looks like a mistake. */
#include "dagward/policy/analyse.h"

#include <stdlib.h>

#include "dagward/azdo/example.h"
#include "policy_internal.h"

enum { TEXT_BYTES = 2000 };

/* --- the operations of each entry, from the compiled lists --- */

static struct operation_set *sets_of(const struct policy *policy)
{
        struct operation_set *sets = calloc(policy->n_entries + 1, sizeof(*sets));
        size_t n_ops;

        if (!sets)
                abort();
        (void)catalogue_all(&n_ops);
        for (size_t r = 0; r < policy->n_roles; r++) {
                const struct role *role = &policy->roles[r];
                for (unsigned slot = 0; slot < OPERATIONS_MAX; slot++) {
                        if (slot >= n_ops && slot != UNKNOWN_OPERATION)
                                continue;
                        const struct op_class *class = &role->classes[role->class_of[slot]];
                        for (unsigned k = class->start; k < class->end; k++)
                                operation_set_add(&sets[role->list[k]], slot);
                }
        }
        return sets;
}

static bool within(const struct operation_set *part, const struct operation_set *whole)
{
        for (size_t i = 0; i < OPERATIONS_MAX / 64; i++)
                if (part->words[i] & ~whole->words[i])
                        return false;
        return true;
}

static bool is_empty(const struct operation_set *set)
{
        static const struct operation_set none;

        return within(set, &none);
}

/* --- mistakes --- */

void lint_tell(struct linting *l, bool is_error, const char *check, struct str place,
        const char *format, ...)
{
        struct policy_finding finding = {
                .is_error = is_error, .check = check, .place = place, .column = l->column};
        va_list args;

        va_start(args, format);
        vsnprintf(finding.text, sizeof(finding.text), format, args);
        va_end(args);
        l->n++;
        l->found(l->owner, &finding);
}

/* Whether the entry holds for whatever request is about one of its operations. */
static bool is_unconditional(const struct entry *entry)
{
        return !entry->n_selectors && !entry->methods.n && !entry->n_paths &&
               !entry->n_conditions && !entry->n_claimed && !entry->n_windows;
}

static bool same_selector(const struct selector *selector, const struct entry *other)
{
        for (size_t i = 0; i < other->n_selectors; i++)
                if (other->selectors[i].kind == selector->kind &&
                        str_eq(other->selectors[i].shown, selector->shown))
                        return true;
        return false;
}

static bool same_condition(const struct condition *condition, const struct entry *other)
{
        for (size_t i = 0; i < other->n_conditions; i++)
                if (other->conditions[i].fact == condition->fact &&
                        str_eq(other->conditions[i].shown, condition->shown))
                        return true;
        return false;
}

/* Whether all that `a` insists on, `b` insists on in the same words: then whatever `b` lets pass,
 * `a` does. Facts that only `b` names may be ones that have to be named. */
static bool asks_no_more(const struct entry *a, const struct entry *b)
{
        for (size_t i = 0; i < a->n_selectors; i++)
                if (!same_selector(&a->selectors[i], b))
                        return false;
        for (size_t i = 0; i < a->n_conditions; i++)
                if (!same_condition(&a->conditions[i], b))
                        return false;
        return !a->n_claimed && b->n_conditions == a->n_conditions &&
               (!a->n_windows || str_eq(a->windows_shown, b->windows_shown)) &&
               (!a->methods.n || str_eq(a->methods.shown, b->methods.shown)) &&
               (!a->n_paths || str_eq(a->paths_shown, b->paths_shown));
}

/* What the role denies whatever else the request is. */
static void always_denied(
        const struct linting *l, const struct role *role, struct operation_set *denied)
{
        *denied = (struct operation_set){{0}};
        for (size_t i = role->first; i < role->first + role->n; i++) {
                const struct entry *deny = &l->policy->entries[i];
                if (deny->effect != EFFECT_DENY || !is_unconditional(deny))
                        continue;
                for (size_t w = 0; w < OPERATIONS_MAX / 64; w++)
                        denied->words[w] |= l->sets[i].words[w];
        }
}

/* An entry in a few words: what keeps it from containing another is mostly seen in them already,
 * which is what makes comparing each with each of ten thousand bearable. */
struct outline {
        uint64_t operations; /* all words of its set, laid over each other */
        uint64_t asks;       /* two bits for each selector, method or path, as it is written */
        uint32_t conditions; /* how many, and which */
        bool contains;       /* it may contain others: an allow entry without `claimed` */
};

static uint64_t two_bits(unsigned what, struct str shown)
{
        uint32_t hash = str_hash_fold(shown) * 31u + what;

        return UINT64_C(1) << (hash >> 26) | UINT64_C(1) << (hash >> 20 & 63);
}

static struct outline outline_of(const struct entry *entry, const struct operation_set *set)
{
        struct outline out = {.conditions = (uint32_t)entry->n_conditions,
                .contains = entry->effect == EFFECT_ALLOW && !entry->n_claimed};

        for (size_t w = 0; w < OPERATIONS_MAX / 64; w++)
                out.operations |= set->words[w];
        for (size_t i = 0; i < entry->n_selectors; i++)
                out.asks |= two_bits(entry->selectors[i].kind, entry->selectors[i].shown);
        if (entry->methods.n)
                out.asks |= two_bits(RESOURCE_KINDS, entry->methods.shown);
        if (entry->n_paths)
                out.asks |= two_bits(RESOURCE_KINDS + 1, entry->paths_shown);
        /* in whatever order */
        for (size_t i = 0; i < entry->n_conditions; i++)
                out.conditions += 64u * (str_hash_fold(entry->conditions[i].shown) +
                                                entry->conditions[i].fact);
        return out;
}

static bool may_contain(const struct outline *whole, const struct outline *part)
{
        return whole->contains && !(part->operations & ~whole->operations) &&
               !(whole->asks & ~part->asks) && whole->conditions == part->conditions;
}

static void lint_redundant(
        struct linting *l, const struct role *role, size_t index, const struct outline *outlines)
{
        const struct entry *entry = &l->policy->entries[index];

        for (size_t i = role->first; i < role->first + role->n; i++) {
                const struct entry *other = &l->policy->entries[i];
                if (!may_contain(&outlines[i], &outlines[index]) || i == index ||
                        !within(&l->sets[index], &l->sets[i]) || !asks_no_more(other, entry))
                        continue;
                /* Of two that say the same, the later one is told of. */
                if (i > index && within(&l->sets[i], &l->sets[index]) && asks_no_more(entry, other))
                        continue;
                lint_tell(l, false, "adds-nothing", entry->rule,
                        "role %.*s allows all of this at %.*s already", STR_FMT(role->name),
                        STR_FMT(other->rule));
                return;
        }
}

/* --- names --- */

static void lint_name(struct linting *l, struct str place, const char *what, struct str text)
{
        char why[160], shown[160];

        if (!looks_deceptive(text, why, sizeof(why)))
                return;
        struct line line = line_over(shown, sizeof(shown));
        line_add_most(&line, text, 100);
        lint_tell(l, false, "look-alike", place, "the %s `%s` %s", what, shown, why);
}

static void lint_patterns(struct linting *l, struct str place, const char *what,
        const struct pattern *patterns, size_t n)
{
        for (size_t i = 0; i < n; i++)
                lint_name(l, place, what, patterns[i].text);
}

static void lint_entry_names(struct linting *l, const struct entry *entry)
{
        for (size_t i = 0; i < entry->n_selectors; i++)
                for (size_t v = 0; v < entry->selectors[i].n; v++) {
                        const struct value *value = &entry->selectors[i].values[v];
                        const char *what = resource_kind_name(entry->selectors[i].kind);
                        lint_name(l, entry->rule, what, value->name.text);
                        if (value->has_project)
                                lint_name(l, entry->rule, "project", value->project.text);
                }
        for (size_t c = 0; c < entry->n_conditions; c++)
                for (size_t k = 0; k < entry->conditions[c].n; k++) {
                        const struct keyed_values *keyed = &entry->conditions[c].keys[k];
                        lint_name(l, entry->rule, "name", keyed->key.text);
                        lint_patterns(l, entry->rule, "value", keyed->values, keyed->n);
                }
}

static void lint_binding_names(struct linting *l, const struct binding *binding)
{
        lint_name(l, binding->place, "binding", binding->name);
        lint_name(l, binding->place, "issuer", binding->issuer);
        lint_name(l, binding->place, "credential", binding->credential);
        lint_patterns(l, binding->place, "subject", binding->subjects, binding->n_subjects);
        lint_patterns(l, binding->place, "role", binding->token_roles, binding->n_token_roles);
        for (size_t i = 0; i < binding->n_claims; i++) {
                lint_name(l, binding->place, "claim", binding->claims[i].path);
                lint_patterns(l, binding->place, "claim's value", binding->claims[i].values,
                        binding->claims[i].n);
        }
}

static void lint_role_names(struct linting *l)
{
        const struct policy *policy = l->policy;
        uint32_t *hashes = calloc(policy->n_roles + 1, sizeof(*hashes));

        if (!hashes)
                abort();
        for (size_t i = 0; i < policy->n_roles; i++) {
                const struct role *role = &policy->roles[i];
                hashes[i] = looks_hash(role->name);
                l->column = role->at.column;
                lint_name(l, role->place, "role", role->name);
                for (size_t k = 0; k < i; k++)
                        if (hashes[k] == hashes[i] &&
                                looks_alike(role->name, policy->roles[k].name))
                                lint_tell(l, false, "look-alike", role->place,
                                        "the role `%.*s` is easily read as `%.*s` (%.*s)",
                                        STR_FMT(role->name), STR_FMT(policy->roles[k].name),
                                        STR_FMT(policy->roles[k].place));
        }
        free(hashes);
}

static bool names_a_resource(const struct entry *entry)
{
        for (size_t i = 0; i < entry->n_selectors; i++)
                for (size_t v = 0; v < entry->selectors[i].n; v++)
                        if (!pattern_any(&entry->selectors[i].values[v].name))
                                return true;
        return entry->n_paths > 0;
}

static void lint_what(struct linting *l, size_t index, const struct operation_set *denied)
{
        const struct entry *entry = &l->policy->entries[index];
        const struct operation *changes = NULL, *mints = NULL, *tunnels = NULL;
        size_t n;
        const struct operation *all = catalogue_all(&n);

        for (size_t i = 0; i < n; i++) {
                if (!operation_set_has(&l->sets[index], all[i].index) ||
                        operation_set_has(denied, all[i].index))
                        continue;
                if (all[i].access != ACCESS_READ && !changes)
                        changes = &all[i];
                if (all[i].risks & (RISK_MINTS_CREDENTIAL | RISK_RETURNS_CREDENTIAL) && !mints)
                        mints = &all[i];
                if (all[i].risks & RISK_TUNNELS_REQUESTS && operation_by_name_only(&all[i]) &&
                        !tunnels)
                        tunnels = &all[i];
        }
        if (changes && !names_a_resource(entry))
                lint_tell(l, false, "every-project", entry->rule,
                        "%s and the like are allowed on everything that the credential reaches: "
                        "no selector names a resource",
                        changes->id);
        if (mints)
                lint_tell(l, false, "credentials", entry->rule,
                        "%s is granted: it makes or shows a credential that goes round the proxy",
                        mints->id);
        if (tunnels)
                lint_tell(l, false, "tunnels", entry->rule,
                        "%s is granted: it carries requests that nobody judges", tunnels->id);
}

/* An allow entry of the binding's roles that gives every operation, on whatever there is. */
static const struct entry *gives_everything(
        const struct policy *policy, const struct binding *binding)
{
        for (size_t k = 0; k < binding->n_roles; k++) {
                const struct role *role = &policy->roles[binding->roles[k]];
                for (size_t i = role->first; i < role->first + role->n; i++) {
                        const struct entry *entry = &policy->entries[i];
                        const struct names *operations = &entry->choices[CHOICE_OPERATIONS];
                        if (entry->effect != EFFECT_ALLOW || names_a_resource(entry))
                                continue;
                        for (size_t n = 0; n < operations->n; n++)
                                if (str_eq(operations->items[n], STR("*")))
                                        return entry;
                }
        }
        return NULL;
}

/* Glass is for an emergency: for somebody, for something, and not for long. */
static void lint_glass(struct linting *l, const struct binding *binding, int64_t now_ms)
{
        const struct entry *all = gives_everything(l->policy, binding);

        if (!binding->n_subjects && !binding->n_token_roles && !binding->n_claims)
                lint_tell(l, false, "break-glass", binding->place,
                        "every caller of the issuer %.*s may break the glass of the binding `%.*s`",
                        STR_FMT(binding->issuer), STR_FMT(binding->name));
        if (all)
                lint_tell(l, false, "break-glass", binding->place,
                        "who breaks the glass of the binding `%.*s` may do everything, everywhere "
                        "(%.*s)",
                        STR_FMT(binding->name), STR_FMT(all->rule));
        if (glass_lasts_long(binding, now_ms))
                lint_tell(l, false, "break-glass", binding->place,
                        "the break-glass binding `%.*s` lasts for more than %d days",
                        STR_FMT(binding->name), GLASS_MOST_DAYS);
}

static void lint_binding(struct linting *l, const struct binding *binding, int64_t now_ms)
{
        char when[TIME_TEXT_BYTES];

        if (binding->glass_chars)
                lint_glass(l, binding, now_ms);
        else if (!binding->n_subjects && !binding->n_token_roles && !binding->n_claims)
                lint_tell(l, false, "everybody", binding->place,
                        "the binding `%.*s` is for every caller of the issuer %.*s",
                        STR_FMT(binding->name), STR_FMT(binding->issuer));
        if (binding->expires_ms <= now_ms)
                lint_tell(l, false, "expired", binding->place,
                        "the binding `%.*s` has expired and gives nothing any more",
                        STR_FMT(binding->name));
        else if (binding_ends_soon(binding, now_ms))
                lint_tell(l, false, "expires-soon", binding->place,
                        "the binding `%.*s` expires at %s, within 7 days", STR_FMT(binding->name),
                        time_text(binding->expires_ms, when));
}

size_t policy_lint(const struct policy *policy, int64_t now_ms, policy_found *found, void *owner)
{
        struct operation_set *sets = sets_of(policy);
        struct linting l = {.policy = policy, .sets = sets, .found = found, .owner = owner};
        struct denials denials = {0};
        struct outline *outlines = calloc(policy->n_entries + 1, sizeof(*outlines));

        if (!outlines)
                abort();
        for (size_t i = 0; i < policy->n_entries; i++)
                outlines[i] = outline_of(&policy->entries[i], &sets[i]);
        for (size_t r = 0; r < policy->n_roles; r++) {
                const struct role *role = &policy->roles[r];
                struct operation_set denied;
                always_denied(&l, role, &denied);
                denials_gather(policy, role, &denials);
                if (!role->used) {
                        l.column = role->at.column;
                        lint_tell(&l, false, "unused-role", role->place,
                                "no binding gives anybody the role `%.*s`", STR_FMT(role->name));
                }
                for (size_t i = role->first; i < role->first + role->n; i++) {
                        l.column = policy->entries[i].column;
                        lint_never(&l, role, i, &denials);
                        lint_entry_names(&l, &policy->entries[i]);
                        if (policy->entries[i].effect != EFFECT_ALLOW || is_empty(&sets[i]))
                                continue;
                        lint_redundant(&l, role, i, outlines);
                        lint_what(&l, i, &denied);
                }
        }
        free(denials.items);
        free(outlines);
        lint_role_names(&l);
        for (size_t i = 0; i < policy->n_bindings; i++) {
                l.column = policy->bindings[i].at.column;
                lint_binding_names(&l, &policy->bindings[i]);
        }
        for (size_t i = 0; i < policy->n_bindings; i++) {
                l.column = policy->bindings[i].at.column;
                lint_binding(&l, &policy->bindings[i], now_ms);
        }
        free(sets);
        return l.n;
}

/* --- who can --- */

static void add_part(struct line *line, const char *name, struct str value, bool *first)
{
        line_add(line, *first ? STR("") : STR("; "));
        line_add(line, str_of(name));
        line_add(line, STR(" "));
        line_add_most(line, value, 300);
        *first = false;
}

/* Whether no request for the operation says which one of that kind it is about, and the selector
 * does not admit all: an allow never holds then, a deny always. */
static bool is_left_open(const struct selector *selector, const struct operation *op)
{
        return op && (operation_open_kinds(op) >> selector->kind & 1) && !selector_any(selector);
}

/* What the entry insists on that the request does not settle; false: the request rules it out. */
static bool limits_of(const struct entry *entry, const struct policy_request *request,
        struct line *line, bool *unconditional)
{
        const struct fact_kind *kinds;
        bool first = true;
        char name[80];
        size_t n;

        kinds = facts_all(&n);
        for (size_t i = 0; i < entry->n_selectors; i++) {
                const struct selector *selector = &entry->selectors[i];
                if (is_left_open(selector, request->op)) {
                        if (entry->effect == EFFECT_ALLOW)
                                return false;
                        continue;
                }
                bool named = resources_first(request->resources, selector->kind).ptr != NULL;
                enum policy_state state = selector_state(selector, request, entry->effect);
                if (named && state == STATE_FAILED)
                        return false;
                if (!named || state != STATE_MET)
                        add_part(line, resource_kind_selector(selector->kind), selector->shown,
                                &first);
        }
        if (entry->methods.n)
                add_part(line, "method", entry->methods.shown, &first);
        if (entry->n_paths)
                add_part(line, "path", entry->paths_shown, &first);
        for (size_t i = 0; i < entry->n_conditions; i++) {
                snprintf(name, sizeof(name), "where.%s", kinds[entry->conditions[i].fact].name);
                add_part(line, name, entry->conditions[i].shown, &first);
        }
        for (size_t i = 0; i < entry->n_claimed; i++) {
                snprintf(name, sizeof(name), "claimed.%.*s", STR_FMT(entry->claimed[i].name));
                add_part(line, name, entry->claimed[i].shown, &first);
        }
        if (entry->n_windows)
                add_part(line, "where.time", entry->windows_shown, &first);
        *unconditional = first;
        return true;
}

/* What the binding asks of a request, behind what its entry does. */
static void add_glass(struct line *line, const struct binding *binding, bool first)
{
        if (!binding->glass_chars)
                return;
        line_add(line, first ? STR("break-glass: needs ") : STR("; break-glass: needs "));
        glass_want_write(binding->glass_chars, line);
}

void callers_write(const struct binding *binding, struct line *line)
{
        bool first = true;
        char name[120];

        add_part(line, "issuer", binding->issuer, &first);
        if (binding->n_subjects)
                add_part(line, "subject", binding->subjects_shown, &first);
        if (binding->n_token_roles)
                add_part(line, "roles", binding->token_roles_shown, &first);
        for (size_t i = 0; i < binding->n_claims; i++) {
                snprintf(name, sizeof(name), "claims.%.*s", STR_FMT(binding->claims[i].path));
                add_part(line, name, binding->claims[i].shown, &first);
        }
}

/* What the binding's roles deny of it; false: all of it. */
static bool exceptions_of(const struct policy *policy, const struct binding *binding,
        const struct policy_request *request, struct line *line)
{
        bool any = false;

        for (size_t k = 0; k < binding->n_roles; k++) {
                const struct role *role = &policy->roles[binding->roles[k]];
                const struct op_class *class =
                        &role->classes[role->class_of[operation_slot(request->op)]];
                for (unsigned i = class->start; i < class->middle; i++) {
                        const struct entry *deny = &policy->entries[role->list[i]];
                        char text[TEXT_BYTES];
                        struct line limits = line_over(text, sizeof(text));
                        bool all = false;
                        if (!limits_of(deny, request, &limits, &all))
                                continue;
                        if (all)
                                return false;
                        line_add(line, any ? STR(" | ") : STR(""));
                        line_add(line, deny->rule);
                        line_add(line, STR(" "));
                        line_add_most(line, str_of(text), 300);
                        any = true;
                }
        }
        return true;
}

size_t policy_who_can(const struct policy *policy, const struct policy_request *request,
        policy_way_found *found, void *owner)
{
        char callers[TEXT_BYTES], limits[TEXT_BYTES], except[TEXT_BYTES];
        size_t n = 0;

        for (size_t b = 0; b < policy->n_bindings; b++) {
                const struct binding *binding = &policy->bindings[b];
                struct line denied = line_over(except, sizeof(except));
                if (!binding_live(binding, request->now_ms) ||
                        !exceptions_of(policy, binding, request, &denied))
                        continue;
                for (size_t k = 0; k < binding->n_roles; k++) {
                        const struct role *role = &policy->roles[binding->roles[k]];
                        const struct op_class *class =
                                &role->classes[role->class_of[operation_slot(request->op)]];
                        for (unsigned i = class->middle; i < class->end; i++) {
                                const struct entry *entry = &policy->entries[role->list[i]];
                                struct line line = line_over(limits, sizeof(limits));
                                bool unconditional;
                                if (!limits_of(entry, request, &line, &unconditional))
                                        continue;
                                add_glass(&line, binding, unconditional);
                                line = line_over(callers, sizeof(callers));
                                callers_write(binding, &line);
                                struct policy_way way = {
                                        .binding = binding->name,
                                        .callers = str_of(callers),
                                        .credential = binding->credential,
                                        .role = role->name,
                                        .rule = entry->rule,
                                        .limits = str_of(limits),
                                        .except = str_of(except),
                                };
                                n++;
                                found(owner, &way);
                        }
                }
        }
        return n;
}

/* --- can --- */

static size_t count(const struct operation_set *set)
{
        size_t n = 0;

        for (size_t i = 0; i < OPERATIONS_MAX / 64; i++)
                n += (size_t)__builtin_popcountll(set->words[i]);
        return n - operation_set_has(set, UNKNOWN_OPERATION);
}

/* `binding`: NULL if the entry is told of as the role's alone. */
static void tell_right(const struct binding *binding, const struct role *role,
        const struct entry *entry, const struct operation_set *set, policy_right_found *found,
        void *owner)
{
        const struct resources nothing = {0};
        const struct policy_request request = {.resources = &nothing};
        char what[TEXT_BYTES], limits[TEXT_BYTES];
        struct line line = line_over(what, sizeof(what));
        struct line rest = line_over(limits, sizeof(limits));
        bool first = true, all;

        for (int i = 0; i < CHOICES; i++)
                if (entry->choices[i].n)
                        add_part(&line, choice_name((enum choice)i), entry->choices[i].shown,
                                &first);
        (void)limits_of(entry, &request, &rest, &all);
        if (binding)
                add_glass(&rest, binding, all);
        found(owner, &(struct policy_right){.effect = entry->effect,
                             .binding = binding ? binding->name : STR_NONE,
                             .role = role->name,
                             .rule = entry->rule,
                             .what = str_of(first ? "everything" : what),
                             .n_operations = count(set),
                             .limits = str_of(limits)});
}

size_t policy_can(const struct policy *policy, const struct policy_caller *caller, int64_t now_ms,
        policy_right_found *found, void *owner)
{
        static const enum effect order[] = {EFFECT_DENY, EFFECT_ALLOW};
        struct policy_grants *grants = policy_grants_new(policy, caller);
        struct operation_set *sets = sets_of(policy);
        size_t n = 0;

        for (size_t pass = 0; pass < 2; pass++) {
                bool *told = calloc(policy->n_roles + 1, sizeof(*told));
                if (!told)
                        abort();
                for (size_t i = 0; i < grants->n; i++) {
                        const struct grant *grant = &grants->grants[i];
                        bool *one = &told[grant->role - policy->roles];
                        if (!binding_live(grant->binding, now_ms) || *one)
                                continue;
                        *one = true;
                        const struct role *role = grant->role;
                        for (size_t k = role->first; k < role->first + role->n; k++) {
                                if (policy->entries[k].effect != order[pass])
                                        continue;
                                tell_right(grant->binding, role, &policy->entries[k], &sets[k],
                                        found, owner);
                                n++;
                        }
                }
                free(told);
        }
        free(sets);
        policy_grants_free(grants);
        return n;
}

size_t policy_rights(const struct policy *policy, policy_right_found *found, void *owner)
{
        struct operation_set *sets = sets_of(policy);

        for (size_t i = 0; i < policy->n_entries; i++) {
                const struct entry *entry = &policy->entries[i];
                tell_right(NULL, &policy->roles[entry->role], entry, &sets[i], found, owner);
        }
        free(sets);
        return policy->n_entries;
}
