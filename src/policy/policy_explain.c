/* Why, condition by condition, and what would have to change. */
#include <limits.h>
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "policy_internal.h"

enum { SHOWN_BYTES = 400, CLAIM_SHOWN_MOST_BYTES = 64 * 1024 };

struct explaining {
        const struct policy *policy;
        const struct policy_caller *caller;
        const struct policy_request *request;
        struct arena *arena;
        struct policy_explanation *out;
        unsigned doubts;      /* policy_doubts */
        bool full;            /* the arena's ceiling was met */
        unsigned *failed;     /* by binding: how many of its conditions fail */
        unsigned *nearest_of; /* by role: the binding that gives it, or comes nearest to */
        bool *given;          /* by role: some binding lists it */
};

static void *get(struct explaining *e, size_t bytes)
{
        void *memory = arena_alloc(e->arena, bytes ? bytes : 1);

        e->full |= !memory;
        return memory;
}

static struct str kept(struct explaining *e, const char *text)
{
        struct str copy = arena_copy(e->arena, str_of(text));

        e->full |= !copy.ptr;
        return copy;
}

/* A condition with its texts cut to a readable length. */
static struct policy_condition condition(struct explaining *e, const char *selector,
        struct str wanted, struct str actual, enum policy_state state)
{
        char text[SHOWN_BYTES + 8];
        struct policy_condition made = {.selector = kept(e, selector), .state = state};
        struct line line = line_over(text, sizeof(text));

        line_add_most(&line, wanted, SHOWN_BYTES);
        made.wanted = kept(e, text);
        line = line_over(text, sizeof(text));
        line_add_most(&line, actual, SHOWN_BYTES);
        made.actual = kept(e, text);
        return made;
}

static struct str joined(struct explaining *e, const struct str *items, size_t n)
{
        char text[SHOWN_BYTES];
        struct line line = line_over(text, sizeof(text));

        for (size_t i = 0; i < n; i++) {
                if (i)
                        line_add(&line, STR(", "));
                line_add_most(&line, items[i], 80);
        }
        return kept(e, n ? text : "none");
}

static enum policy_state met(bool yes)
{
        return yes ? STATE_MET : STATE_FAILED;
}

static struct str claim_shown(struct explaining *e, const struct tree *claim)
{
        struct buf text;

        if (!claim)
                return STR("no such claim");
        buf_init(&text, CLAIM_SHOWN_MOST_BYTES);
        tree_write(claim, &text);
        struct str copy = text.overflow ? STR("?") : arena_copy(e->arena, buf_str(&text));
        buf_clear(&text);
        return copy.ptr ? copy : STR("?");
}

static struct str time_shown(struct explaining *e, int64_t ms)
{
        char text[CLOCK_RFC3339_LEN + 1];

        clock_rfc3339(ms < 0 ? 0 : ms, text);
        return kept(e, text);
}

static struct str reason_wanted(struct explaining *e, unsigned chars)
{
        char text[80];
        struct line line = line_over(text, sizeof(text));

        glass_want_write(chars, &line);
        return kept(e, text);
}

static struct str reason_shown(struct explaining *e)
{
        unsigned chars = e->request->reason_chars;
        char text[40];

        snprintf(text, sizeof(text), "one of %u", chars);
        return kept(e, chars ? text : "none");
}

/* The binding's conditions against the caller; `view` NULL: only count those that fail. */
static unsigned check_binding(
        struct explaining *e, const struct binding *binding, struct policy_binding_view *view)
{
        const struct policy_caller *caller = e->caller;
        int64_t now = e->request->now_ms;
        bool issuer = str_eq(binding->issuer, caller->issuer);
        bool subject = binding_subject_matches(binding, caller->subject);
        bool roles = binding_roles_match(binding, caller);
        bool begun = now >= binding->not_before_ms, lasts = now < binding->expires_ms;
        bool reason = e->request->reason_chars >= binding->glass_chars;
        unsigned failed = (unsigned)(!issuer + !subject + !roles + !begun + !lasts + !reason);

        struct policy_condition *next = NULL;
        if (view)
                view->conditions = next = get(e, (6 + binding->n_claims) * sizeof(*next));
        for (size_t i = 0; i < binding->n_claims; i++) {
                const struct claim_condition *claim = &binding->claims[i];
                bool good = claim_matches(claim, caller->claims);
                failed += !good;
                if (!next)
                        continue;
                struct str name = arena_printf(e->arena, "claims.%.*s", STR_FMT(claim->path));
                *next++ = condition(e, name.ptr ? name.ptr : "claims", claim->shown,
                        claim_shown(e, tree_at(caller->claims, claim->path)), met(good));
        }
        if (!next)
                return failed;
        *next++ = condition(e, "issuer", binding->issuer, caller->issuer, met(issuer));
        if (binding->n_subjects)
                *next++ = condition(
                        e, "subject", binding->subjects_shown, caller->subject, met(subject));
        if (binding->n_token_roles)
                *next++ = condition(e, "roles", binding->token_roles_shown,
                        joined(e, caller->roles, caller->n_roles), met(roles));
        if (binding->not_before_ms != INT64_MIN)
                *next++ = condition(e, "not_before", time_shown(e, binding->not_before_ms),
                        time_shown(e, now), met(begun));
        if (binding->expires_ms != INT64_MAX)
                *next++ = condition(e, "expires", time_shown(e, binding->expires_ms),
                        time_shown(e, now), met(lasts));
        if (binding->glass_chars)
                *next++ = condition(e, "break_glass", reason_wanted(e, binding->glass_chars),
                        reason_shown(e), met(reason));
        view->n_conditions = (size_t)(next - view->conditions);
        return failed;
}

static void fill_binding(
        struct explaining *e, const struct binding *binding, struct policy_binding_view *view)
{
        *view = (struct policy_binding_view){
                .name = binding->name,
                .place = binding->place,
                .credential = binding->credential,
        };
        view->n_failed = check_binding(e, binding, view);
        view->applies = view->n_failed == 0;
}

struct ranked {
        size_t index;
        size_t cost;
};

static int by_cost(const void *a, const void *b)
{
        const struct ranked *x = a, *y = b;

        if (x->cost != y->cost)
                return x->cost < y->cost ? -1 : 1;
        return (x->index > y->index) - (x->index < y->index);
}

static void explain_bindings(struct explaining *e)
{
        const struct policy *policy = e->policy;
        struct ranked *order = get(e, policy->n_bindings * sizeof(*order));

        e->failed = get(e, policy->n_bindings * sizeof(*e->failed));
        e->nearest_of = get(e, policy->n_roles * sizeof(*e->nearest_of));
        e->given = get(e, policy->n_roles * sizeof(*e->given));
        e->out->bindings = get(e, POLICY_EXPLAIN_BINDINGS * sizeof(*e->out->bindings));
        if (e->full)
                return;
        for (unsigned i = 0; i < policy->n_bindings; i++) {
                const struct binding *binding = &policy->bindings[i];
                e->failed[i] = check_binding(e, binding, NULL);
                order[i] = (struct ranked){i, e->failed[i]};
                for (size_t k = 0; k < binding->n_roles; k++) {
                        unsigned role = binding->roles[k];
                        if (e->given[role] && e->failed[e->nearest_of[role]] <= e->failed[i])
                                continue;
                        e->given[role] = true;
                        e->nearest_of[role] = i;
                }
        }
        qsort(order, policy->n_bindings, sizeof(*order), by_cost);
        for (size_t i = 0; i < policy->n_bindings && i < POLICY_EXPLAIN_BINDINGS; i++)
                fill_binding(e, &policy->bindings[order[i].index],
                        &e->out->bindings[e->out->n_bindings++]);
}

static struct str choice_actual(struct explaining *e, enum choice choice)
{
        const struct operation *op = e->request->op;
        struct str scopes[32];
        size_t n = 0;

        if (!op)
                return STR("unknown to the catalogue");
        switch (choice) {
        case CHOICE_OPERATIONS: return str_of(op->id);
        case CHOICE_ACCESS: return str_of(access_name(op->access));
        case CHOICE_AREAS: return str_of(op->area);
        case CHOICE_SCOPES: break;
        }
        for (; n < op->n_scopes && n < 32; n++)
                scopes[n] = str_of(op->scopes[n]);
        return joined(e, scopes, n);
}

static struct str kind_actual(struct explaining *e, enum resource_kind kind)
{
        const struct resources *resources = e->request->resources;
        char text[SHOWN_BYTES];
        struct line line = line_over(text, sizeof(text));
        size_t n = 0;

        for (size_t i = 0; resources && i < resources->n; i++) {
                if (resources->items[i].kind != kind)
                        continue;
                if (n++)
                        line_add(&line, STR(", "));
                line_add_most(&line, resources->items[i].value, 80);
        }
        bool unnamed = !resources || resources->unresolved[kind] || (!e->request->op && !n);
        if (unnamed)
                line_add(&line, n ? STR(", and one that the request does not name")
                                  : STR("one that the request does not name"));
        return kept(e, n || unnamed ? text : "none");
}

static bool fails(const struct policy_condition *condition, enum effect effect)
{
        return condition->state == STATE_FAILED ||
               (condition->state == STATE_UNSURE && effect == EFFECT_ALLOW);
}

/* What the request says of one kind: "staging" or "environment: staging, region: eu". */
static struct str fact_actual(struct explaining *e, unsigned kind)
{
        const struct facts *facts = e->request->facts;
        char text[SHOWN_BYTES];
        struct line line = line_over(text, sizeof(text));
        size_t n = 0;

        for (size_t i = 0; facts && i < facts->n; i++) {
                const struct fact *fact = &facts->items[i];
                if (fact->kind != kind)
                        continue;
                if (n++)
                        line_add(&line, STR(", "));
                line_add_most(&line, fact->key, 60);
                if (fact->key.len)
                        line_add(&line, STR(": "));
                line_add_most(&line, fact->value, 80);
        }
        return kept(e, n ? text : "none");
}

/* The conditions of `where` and `claimed`; behind the last one. */
static struct policy_condition *fill_where(
        struct explaining *e, const struct entry *entry, struct policy_condition *next)
{
        const struct policy_request *request = e->request;
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);
        char name[80];

        for (size_t i = 0; i < entry->n_conditions; i++) {
                const struct condition *one = &entry->conditions[i];
                snprintf(name, sizeof(name), "where.%s", kinds[one->fact].name);
                *next++ = condition(e, name, one->shown, fact_actual(e, one->fact),
                        condition_state(one, request, entry->effect));
        }
        const struct fact *grave = unnamed_grave_fact(entry, request);
        if (grave) {
                snprintf(name, sizeof(name), "where.%s", kinds[grave->kind].name);
                *next++ = condition(e, name, STR("(not named, so it may not be said)"),
                        fact_actual(e, grave->kind), STATE_FAILED);
        }
        for (size_t i = 0; i < entry->n_claimed; i++) {
                const struct claimed *one = &entry->claimed[i];
                struct str value = claimed_value(request, one->name);
                snprintf(name, sizeof(name), "claimed.%.*s", STR_FMT(one->name));
                *next++ = condition(e, name, one->shown, value.len ? value : STR("none"),
                        claimed_state(one, request));
        }
        if (entry->n_windows) {
                char now[60];
                struct line line = line_over(now, sizeof(now));
                time_write(request->now_ms, &line);
                *next++ = condition(e, "where.time", entry->windows_shown, str_of(now),
                        met(windows_hold(entry, request->now_ms)));
        }
        return next;
}

static void fill_entry(
        struct explaining *e, const struct entry *entry, struct policy_entry_view *view)
{
        const struct policy_request *request = e->request;
        struct policy_condition *next =
                get(e, (CHOICES + 4 + entry->n_selectors + entry->n_conditions + entry->n_claimed) *
                                sizeof(*next));
        unsigned by = e->nearest_of[entry->role];
        bool given = e->given[entry->role];

        *view = (struct policy_entry_view){
                .rule = entry->rule,
                .role = e->policy->roles[entry->role].name,
                .binding = given ? e->policy->bindings[by].name : STR_NONE,
                .effect = entry->effect,
                .held = given && e->failed[by] == 0,
                .conditions = next,
        };
        if (!next)
                return;
        for (int i = 0; i < CHOICES; i++)
                if (entry->choices[i].n)
                        *next++ = condition(e, choice_name((enum choice)i), entry->choices[i].shown,
                                choice_actual(e, (enum choice)i),
                                choice_state(entry, (enum choice)i, request->op));
        if (entry->methods.n)
                *next++ = condition(e, "method", entry->methods.shown, request->method,
                        met(methods_match(entry, request->method)));
        if (entry->n_paths)
                *next++ = condition(e, "path", entry->paths_shown, request->path,
                        paths_state(entry, request->path));
        for (size_t i = 0; i < entry->n_selectors; i++) {
                const struct selector *selector = &entry->selectors[i];
                *next++ = condition(e, resource_kind_selector(selector->kind), selector->shown,
                        kind_actual(e, selector->kind),
                        selector_state(selector, request, entry->effect));
        }
        next = fill_where(e, entry, next);
        view->n_conditions = (size_t)(next - view->conditions);
        for (size_t i = 0; i < view->n_conditions; i++)
                view->n_failed += fails(&view->conditions[i], entry->effect);
        view->matches = view->n_failed == 0;
}

/* How far an entry is from deciding: roles that are held first, then fewest failed conditions. */
static size_t entry_cost(const struct explaining *e, const struct entry *entry)
{
        const struct policy_request *request = e->request;
        unsigned by = e->nearest_of[entry->role];
        size_t cost = 0;

        if (!e->given[entry->role])
                cost += 1000;
        else if (e->failed[by])
                cost += 100 + e->failed[by];
        cost += entry->methods.n && !methods_match(entry, request->method);
        cost += entry->n_paths && paths_state(entry, request->path) == STATE_FAILED;
        for (size_t i = 0; i < entry->n_selectors; i++) {
                struct policy_condition one = {
                        .state = selector_state(&entry->selectors[i], request, entry->effect)};
                cost += fails(&one, entry->effect);
        }
        for (size_t i = 0; i < entry->n_conditions; i++) {
                struct policy_condition one = {
                        .state = condition_state(&entry->conditions[i], request, entry->effect)};
                cost += fails(&one, entry->effect);
        }
        for (size_t i = 0; i < entry->n_claimed; i++)
                cost += claimed_state(&entry->claimed[i], request) != STATE_MET;
        cost += entry->n_windows && !windows_hold(entry, request->now_ms);
        return cost + (unnamed_grave_fact(entry, request) != NULL);
}

static void explain_entries(struct explaining *e)
{
        const struct policy *policy = e->policy;
        struct ranked *order = get(e, policy->n_entries * sizeof(*order));
        struct policy_explanation *out = e->out;
        unsigned slot = operation_slot(e->request->op);
        size_t n = 0;

        out->entries = get(e, POLICY_EXPLAIN_ENTRIES * sizeof(*out->entries));
        if (e->full)
                return;
        for (size_t r = 0; r < policy->n_roles; r++) {
                const struct role *role = &policy->roles[r];
                const struct op_class *class = &role->classes[role->class_of[slot]];
                for (unsigned k = class->start; k < class->end; k++) {
                        size_t index = role->list[k];
                        order[n++] = (struct ranked){index, entry_cost(e, &policy->entries[index])};
                }
        }
        qsort(order, n, sizeof(*order), by_cost);
        for (size_t i = 0; i < n && i < POLICY_EXPLAIN_ENTRIES; i++)
                fill_entry(e, &policy->entries[order[i].index], &out->entries[out->n_entries++]);
        out->entries_left_out = n - out->n_entries;
}

static const struct policy_condition *first_failed(
        const struct policy_condition *conditions, size_t n, enum effect effect)
{
        for (size_t i = 0; i < n; i++)
                if (fails(&conditions[i], effect))
                        return &conditions[i];
        return NULL;
}

static void change_binding(struct explaining *e, struct line *line, struct str binding_name)
{
        struct policy_binding_view view;
        const struct policy_condition *failed = NULL;

        for (size_t i = 0; i < e->policy->n_bindings && !failed; i++) {
                const struct binding *binding = &e->policy->bindings[i];
                if (!str_eq(binding->name, binding_name))
                        continue;
                fill_binding(e, binding, &view);
                failed = e->full ? NULL
                                 : first_failed(view.conditions, view.n_conditions, EFFECT_ALLOW);
        }
        if (!failed)
                return;
        line_add(line, STR("binding \""));
        line_add_most(line, view.name, 60);
        line_add(line, STR("\" ("));
        line_add_most(line, view.place, 80);
        line_add(line, STR(") would have to apply: its `"));
        line_add(line, failed->selector);
        line_add(line, STR("` wants "));
        line_add_most(line, failed->wanted, 100);
        line_add(line, STR(", the caller has "));
        line_add_most(line, failed->actual, 100);
        line_break(line);
}

static void change_entry(struct line *line, const struct policy_entry_view *entry)
{
        const struct policy_condition *failed =
                first_failed(entry->conditions, entry->n_conditions, entry->effect);

        if (!failed)
                return;
        line_add_most(line, entry->rule, 80);
        line_add(line, STR(" (role "));
        line_add_most(line, entry->role, 60);
        line_add(line, STR(") would have to accept "));
        line_add_most(line, failed->actual, 100);
        line_add(line, STR(" in `"));
        line_add(line, failed->selector);
        line_add(line, STR("`, which now wants "));
        line_add_most(line, failed->wanted, 100);
        if (entry->n_failed > 1)
                line_add(line, STR("; and more of it fails, see above"));
        line_break(line);
}

/* The allow entry that needs the fewest changes; entries are in that order already, but an entry
 * that a caller holds and that fails twice is farther than a binding that fails once. */
static const struct policy_entry_view *nearest_allow(const struct policy_explanation *out)
{
        const struct policy_entry_view *best = NULL;
        size_t best_cost = 0;

        for (size_t i = 0; i < out->n_entries; i++) {
                const struct policy_entry_view *entry = &out->entries[i];
                size_t cost = entry->n_failed + (entry->held ? 0 : 1);
                if (entry->effect != EFFECT_ALLOW || (best && cost >= best_cost))
                        continue;
                best = entry;
                best_cost = cost;
        }
        return best;
}

static bool allowed_but_for_denials(const struct policy_explanation *out)
{
        for (size_t i = 0; i < out->n_entries; i++)
                if (out->entries[i].effect == EFFECT_ALLOW && out->entries[i].held &&
                        out->entries[i].matches)
                        return true;
        return false;
}

static void explain_change(struct explaining *e)
{
        struct policy_explanation *out = e->out;
        char text[2048];
        struct line line = line_over(text, sizeof(text));
        size_t others = 0;

        for (size_t i = 0; i < out->n_entries; i++) {
                const struct policy_entry_view *entry = &out->entries[i];
                if (!entry->held || !entry->matches)
                        continue;
                if (entry->effect == EFFECT_DENY) {
                        line_add_most(&line, entry->rule, 80);
                        line_add(&line, STR(" (deny, role "));
                        line_add_most(&line, entry->role, 60);
                        line_add(&line, STR(") would have to stop matching"));
                        line_break(&line);
                } else if (out->decision.effect == EFFECT_ALLOW) {
                        line_add(&line, others++ ? STR("and ") : STR("to refuse it, remove "));
                        line_add_most(&line, entry->rule, 80);
                        line_add(&line, STR(" or add a deny"));
                        line_break(&line);
                }
        }
        if (out->decision.effect == EFFECT_DENY && !allowed_but_for_denials(out)) {
                const struct policy_entry_view *entry = nearest_allow(out);
                if (!entry) {
                        line_add(&line, STR("an allow entry for it would have to be written: no "
                                            "role has one for "));
                        line_add(&line, out->request);
                        line_break(&line);
                } else {
                        change_entry(&line, entry);
                        if (!entry->held && entry->binding.len)
                                change_binding(e, &line, entry->binding);
                        else if (!entry->held) {
                                line_add(&line, STR("a binding would have to give the role "));
                                line_add_most(&line, entry->role, 60);
                                line_add(&line, STR(" to this caller; none gives it to anybody"));
                                line_break(&line);
                        }
                }
        }
        if (out->decision.effect == EFFECT_DENY && e->doubts) {
                line_add(&line, STR("the proxy may still allow it: it asks Azure DevOps which"));
                for (int kind = 0; kind < RESOURCE_KINDS; kind++) {
                        if (!(e->doubts >> kind & 1))
                                continue;
                        line_add(&line, STR(" "));
                        line_add(&line, str_of(resource_kind_name((enum resource_kind)kind)));
                }
                line_add(&line, STR(" is meant"));
                line_break(&line);
        }
        out->change = kept(e, text);
}

static struct str request_shown(struct explaining *e)
{
        const struct policy_request *request = e->request;
        char text[512];
        struct line line = line_over(text, sizeof(text));

        line_add_most(&line, request->method, 20);
        line_add(&line, STR(" "));
        line_add_most(&line, request->path, 300);
        if (request->op) {
                line_add(&line, STR(" = "));
                line_add(&line, str_of(request->op->id));
                line_add(&line, STR(" ("));
                line_add(&line, str_of(access_name(request->op->access)));
                line_add(&line, STR(")"));
        } else {
                line_add(&line, STR(", unknown to the catalogue"));
        }
        return kept(e, text);
}

bool policy_explain(const struct policy *policy, const struct policy_caller *caller,
        const struct policy_request *request, struct arena *arena, struct policy_explanation *out)
{
        struct explaining e = {
                .policy = policy, .caller = caller, .request = request, .arena = arena, .out = out};
        struct str credential;
        struct policy_grants *grants = policy_grants_new(policy, caller);
        char text[SHOWN_BYTES];

        *out = (struct policy_explanation){0};
        policy_decide(policy, grants, request, &out->decision);
        if (out->decision.effect == EFFECT_DENY)
                e.doubts = policy_doubts(policy, grants, request, &credential);
        policy_grants_free(grants);
        caller_describe(caller, text, sizeof(text));
        out->caller = kept(&e, text);
        out->request = request_shown(&e);
        struct line line = line_over(text, sizeof(text));
        line_resources(&line, request, UINT_MAX, 300);
        out->resources = kept(&e, text[0] ? text : "nothing that policies can name");
        explain_bindings(&e);
        if (!e.full)
                explain_entries(&e);
        if (!e.full)
                explain_change(&e);
        return !e.full;
}
