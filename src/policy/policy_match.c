/* One selector, one entry, one binding against a request or caller. */
#include <inttypes.h>

#include "dagward/azdo/identity.h"
#include "policy_internal.h"

/* What upstream knows of it settles which of the two a rule means. */
static enum policy_state known_state(
        const struct pattern *pattern, struct str id, struct str name, struct str path)
{
        bool by_path = pattern->text.len && pattern->text.ptr[0] == '\\';
        struct str text = pattern->id ? id : by_path ? path : name;

        return text.len ? pattern_state(pattern, text, true) : STATE_UNSURE;
}

/* A name and an id may be the same thing; unless somebody has asked, nobody here knows. */
static enum policy_state name_state(
        const struct pattern *pattern, const struct resource *resource, enum effect effect)
{
        enum resource_kind kind = resource->kind;
        struct str item = resource->value;

        if (pattern_any(pattern))
                return STATE_MET;
        if (resource->known && kind != RESOURCE_REF)
                return known_state(
                        pattern, resource->known->id, resource->known->name, resource->known->path);
        bool id = is_resource_id((int)kind, item);
        if (pattern->prefix && id)
                return STATE_UNSURE;
        /* Git tells letter case in refs apart, but not every store beneath it does. */
        bool fold = kind != RESOURCE_REF || effect == EFFECT_DENY;
        enum policy_state state = pattern_state(pattern, item, fold);
        bool either = id != pattern->id || may_be_another(kind, item);
        return state == STATE_FAILED && either ? STATE_UNSURE : state;
}

static bool kind_unresolved(const struct policy_request *request, enum resource_kind kind, size_t n)
{
        if (!request->resources)
                return true;
        return request->resources->unresolved[kind] || (!request->op && n == 0);
}

/* The project part of `project/name`: the one that `item` is known to be in, else every project
 * that the request names. */
static enum policy_state project_state(const struct pattern *pattern, const struct resource *item,
        const struct policy_request *request, enum effect effect)
{
        const struct resources *resources = request->resources;
        enum policy_state all = STATE_MET, any = STATE_FAILED;
        size_t n = 0;

        if (pattern_any(pattern))
                return STATE_MET;
        if (item->known)
                return known_state(
                        pattern, item->known->project_id, item->known->project_name, STR_NONE);
        for (size_t i = 0; resources && i < resources->n; i++) {
                if (resources->items[i].kind != RESOURCE_PROJECT)
                        continue;
                enum policy_state one = name_state(pattern, &resources->items[i], effect);
                all = worse(all, one);
                any = better(any, one);
                n++;
        }
        if (!n)
                return STATE_UNSURE;
        if (kind_unresolved(request, RESOURCE_PROJECT, n)) {
                all = worse(all, STATE_UNSURE);
                any = better(any, STATE_UNSURE);
        }
        return effect == EFFECT_ALLOW ? all : any;
}

static enum policy_state item_state(const struct selector *selector, const struct resource *item,
        const struct policy_request *request, enum effect effect)
{
        enum policy_state state = STATE_FAILED;

        for (size_t i = 0; i < selector->n && state != STATE_MET; i++) {
                const struct value *value = &selector->values[i];
                enum policy_state one = name_state(&value->name, item, effect);
                if (value->has_project && one != STATE_FAILED)
                        one = worse(one, project_state(&value->project, item, request, effect));
                state = better(state, one);
        }
        return state;
}

bool selector_any(const struct selector *selector)
{
        for (size_t i = 0; i < selector->n; i++)
                if (pattern_any(&selector->values[i].name) &&
                        (!selector->values[i].has_project ||
                                pattern_any(&selector->values[i].project)))
                        return true;
        return false;
}

enum policy_state selector_state(
        const struct selector *selector, const struct policy_request *request, enum effect effect)
{
        const struct resources *resources = request->resources;
        enum policy_state all = STATE_MET, any = STATE_FAILED;
        size_t n = 0;

        for (size_t i = 0; resources && i < resources->n; i++) {
                if (resources->items[i].kind != selector->kind)
                        continue;
                enum policy_state one = item_state(selector, &resources->items[i], request, effect);
                all = worse(all, one);
                any = better(any, one);
                n++;
        }
        if (!n && resources && resources->deferred >> selector->kind & 1)
                return effect == EFFECT_ALLOW ? STATE_MET : STATE_FAILED;
        bool unresolved = kind_unresolved(request, selector->kind, n);
        if (!n && !unresolved)
                return STATE_FAILED;
        if (unresolved && !selector_any(selector)) {
                all = worse(all, STATE_UNSURE);
                any = better(any, STATE_UNSURE);
        } else if (unresolved) {
                any = STATE_MET;
        }
        return effect == EFFECT_ALLOW ? all : any;
}

enum policy_state paths_state(const struct entry *entry, struct str path)
{
        enum policy_state state = STATE_FAILED;

        for (size_t i = 0; i < entry->n_paths && state != STATE_MET; i++)
                state = better(state, path_pattern_state(&entry->paths[i], path));
        return state;
}

bool methods_match(const struct entry *entry, struct str method)
{
        for (size_t i = 0; i < entry->methods.n; i++)
                if (str_eq(entry->methods.items[i], method))
                        return true;
        return false;
}

static bool counts(enum policy_state state, enum effect effect)
{
        return state == STATE_MET || (state == STATE_UNSURE && effect == EFFECT_DENY);
}

bool entry_matches(const struct entry *entry, const struct policy_request *request)
{
        if (entry->methods.n && !methods_match(entry, request->method))
                return false;
        if (entry->n_paths && !counts(paths_state(entry, request->path), entry->effect))
                return false;
        if (entry->n_windows && !windows_hold(entry, request->now_ms))
                return false;
        for (size_t i = 0; i < entry->n_selectors; i++)
                if (!counts(selector_state(&entry->selectors[i], request, entry->effect),
                            entry->effect))
                        return false;
        for (size_t i = 0; i < entry->n_conditions; i++)
                if (!counts(condition_state(&entry->conditions[i], request, entry->effect),
                            entry->effect))
                        return false;
        for (size_t i = 0; i < entry->n_claimed; i++)
                if (claimed_state(&entry->claimed[i], request) != STATE_MET)
                        return false;
        return !unnamed_grave_fact(entry, request);
}

unsigned entry_doubts(const struct entry *entry, const struct policy_request *request)
{
        unsigned doubts = 0;

        if (entry->methods.n && !methods_match(entry, request->method))
                return 0;
        if (entry->n_paths && !counts(paths_state(entry, request->path), entry->effect))
                return 0;
        if (entry->n_windows && !windows_hold(entry, request->now_ms))
                return 0;
        for (size_t i = 0; i < entry->n_selectors; i++) {
                const struct selector *selector = &entry->selectors[i];
                enum policy_state state = selector_state(selector, request, entry->effect);
                if (state == STATE_FAILED)
                        return 0;
                if (state == STATE_UNSURE)
                        doubts |= 1U << selector->kind;
                for (size_t v = 0; state == STATE_UNSURE && v < selector->n; v++)
                        if (selector->values[v].has_project)
                                doubts |= 1U << RESOURCE_PROJECT;
        }
        for (size_t i = 0; doubts && i < entry->n_conditions; i++)
                if (!counts(condition_state(&entry->conditions[i], request, entry->effect),
                            entry->effect))
                        return 0;
        for (size_t i = 0; doubts && i < entry->n_claimed; i++)
                if (claimed_state(&entry->claimed[i], request) != STATE_MET)
                        return 0;
        return unnamed_grave_fact(entry, request) ? 0 : doubts;
}

bool binding_live(const struct binding *binding, int64_t now_ms)
{
        return now_ms >= binding->not_before_ms && now_ms < binding->expires_ms;
}

bool binding_ends_soon(const struct binding *binding, int64_t now_ms)
{
        return binding->expires_ms < INT64_MAX &&
               binding->expires_ms <= now_ms + POLICY_EXPIRES_SOON_MS;
}

bool binding_subject_matches(const struct binding *binding, struct str subject)
{
        for (size_t i = 0; i < binding->n_subjects; i++)
                if (pattern_matches(&binding->subjects[i], subject))
                        return true;
        return binding->n_subjects == 0;
}

bool binding_roles_match(const struct binding *binding, const struct policy_caller *caller)
{
        for (size_t i = 0; i < binding->n_token_roles; i++)
                for (size_t k = 0; k < caller->n_roles; k++)
                        if (pattern_matches(&binding->token_roles[i], caller->roles[k]))
                                return true;
        return binding->n_token_roles == 0;
}

static bool scalar_matches(const struct claim_condition *condition, const struct tree *scalar)
{
        char number[32];
        struct str text;
        bool bare_only = true;

        switch (scalar->kind) {
        case TREE_TEXT:
                text = scalar->text;
                bare_only = false;
                break;
        case TREE_WHOLE:
                snprintf(number, sizeof(number), "%" PRId64, scalar->whole);
                text = str_of(number);
                break;
        case TREE_TRUE: text = STR("true"); break;
        case TREE_FALSE: text = STR("false"); break;
        case TREE_OBJECT:
        case TREE_ARRAY:
        case TREE_REAL:
        case TREE_NULL:
        default: return false;
        }
        for (size_t i = 0; i < condition->n; i++) {
                const struct pattern *value = &condition->values[i];
                if (bare_only && !condition->bare[i] && !pattern_any(value))
                        continue;
                if (pattern_matches(value, text))
                        return true;
        }
        return false;
}

bool claim_matches(const struct claim_condition *condition, const struct tree *claims)
{
        const struct tree *claim = tree_at(claims, condition->path);

        if (!claim)
                return false;
        if (claim->kind != TREE_ARRAY)
                return scalar_matches(condition, claim);
        for (const struct tree *one = claim->first; one; one = one->next)
                if (scalar_matches(condition, one))
                        return true;
        return false;
}
