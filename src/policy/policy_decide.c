/* The decision, and what about it can be kept per caller. */
#include <stdlib.h>

#include "policy_internal.h"

/* `recalled`: a binding whose conditions on claims are known to have been met. */
static bool binding_applies(
        const struct binding *binding, const struct policy_caller *caller, struct str recalled)
{
        if (!str_eq(binding->issuer, caller->issuer) ||
                !binding_subject_matches(binding, caller->subject) ||
                !binding_roles_match(binding, caller))
                return false;
        if (recalled.len && str_eq(binding->name, recalled))
                return true;
        for (size_t i = 0; i < binding->n_claims; i++)
                if (!claim_matches(&binding->claims[i], caller->claims))
                        return false;
        return true;
}

struct policy_grants *policy_grants_new(
        const struct policy *policy, const struct policy_caller *caller)
{
        return policy_grants_recalled(policy, caller, STR_NONE);
}

static void grant_roles(const struct policy *policy, const struct binding *binding,
        struct policy_grants *grants, size_t *cap)
{
        for (size_t k = 0; k < binding->n_roles; k++) {
                if (grants->n == *cap) {
                        *cap = *cap ? *cap * 2 : 8;
                        grants->grants = realloc(grants->grants, *cap * sizeof(*grants->grants));
                        if (!grants->grants)
                                abort();
                }
                grants->grants[grants->n++] = (struct grant){
                        .binding = binding, .role = &policy->roles[binding->roles[k]]};
        }
}

struct policy_grants *policy_grants_recalled(
        const struct policy *policy, const struct policy_caller *caller, struct str recalled)
{
        struct policy_grants *grants = calloc(1, sizeof(*grants));
        size_t cap = 0;

        if (!grants)
                abort();
        caller_describe(caller, grants->caller, sizeof(grants->caller));
        /* Glass comes last, so that it is not broken for what an ordinary binding allows. */
        for (int glass = 0; glass < 2; glass++)
                for (size_t i = 0; i < policy->n_bindings; i++) {
                        const struct binding *binding = &policy->bindings[i];
                        if ((binding->glass_chars != 0) == glass &&
                                binding_applies(binding, caller, recalled))
                                grant_roles(policy, binding, grants, &cap);
                }
        return grants;
}

void policy_grants_free(struct policy_grants *grants)
{
        if (!grants)
                return;
        free(grants->grants);
        free(grants);
}

size_t policy_grants_count(const struct policy_grants *grants)
{
        size_t n = 0;

        for (size_t i = 0; i < grants->n; i++)
                n += i == 0 || grants->grants[i].binding != grants->grants[i - 1].binding;
        return n;
}

size_t policy_grants_list(const struct policy *policy, const struct policy_grants *grants,
        int64_t now_ms, struct policy_grant *out, size_t most)
{
        size_t n = 0;

        (void)policy;
        for (size_t i = 0; i < grants->n; i++) {
                const struct grant *grant = &grants->grants[i];
                if (!binding_live(grant->binding, now_ms))
                        continue;
                if (n < most)
                        out[n] = (struct policy_grant){grant->binding->name, grant->role->name,
                                grant->binding->glass_chars};
                n++;
        }
        return n;
}

static const struct op_class *class_of(const struct role *role, unsigned slot)
{
        return &role->classes[role->class_of[slot]];
}

/* The entries of that effect that may match, in file order. */
static struct candidates candidates_of(const struct role *role, const struct op_class *class,
        const struct policy_request *request, enum effect effect)
{
        if (effect == EFFECT_ALLOW && class->index)
                return index_candidates(class->index, request->resources,
                        role->list + class->middle, role->list + class->end);
        unsigned from = effect == EFFECT_DENY ? class->start : class->middle;
        unsigned to = effect == EFFECT_DENY ? class->middle : class->end;
        return (struct candidates){.a = role->list + from, .a_end = role->list + to};
}

const struct entry *first_match(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, enum effect effect, const struct grant **by)
{
        unsigned slot = operation_slot(request->op), index;

        for (size_t i = 0; i < grants->n; i++) {
                const struct grant *grant = &grants->grants[i];
                const struct op_class *class = class_of(grant->role, slot);
                struct candidates from = candidates_of(grant->role, class, request, effect);
                if (!binding_gives(grant->binding, request))
                        continue;
                while (candidates_next(&from, &index)) {
                        const struct entry *entry = &policy->entries[index];
                        if (entry_matches(entry, request)) {
                                *by = grant;
                                return entry;
                        }
                }
        }
        return NULL;
}

const struct entry *decide(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, struct decision *out)
{
        const struct grant *by = NULL;
        const struct entry *entry = first_match(policy, grants, request, EFFECT_DENY, &by);

        out->effect = EFFECT_DENY;
        if (!entry) {
                entry = first_match(policy, grants, request, EFFECT_ALLOW, &by);
                if (entry)
                        out->effect = EFFECT_ALLOW;
        }
        out->role = entry ? by->role->name : STR_NONE;
        out->binding = entry ? by->binding->name : STR_NONE;
        out->rule = entry ? entry->rule : STR_NONE;
        out->credential = out->effect == EFFECT_ALLOW ? by->binding->credential : STR_NONE;
        out->breaks_glass = out->effect == EFFECT_ALLOW && by->binding->glass_chars;
        out->glass_binding = STR_NONE;
        out->glass_chars = 0;
        out->reason[0] = '\0';
        if (!entry)
                glass_find(policy, grants, request, out);
        if (out->effect == EFFECT_DENY)
                reason_write(grants, request, entry, out, out->reason, sizeof(out->reason), policy);
        return entry;
}

void policy_decide(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, struct decision *out)
{
        (void)decide(policy, grants, request, out);
}

unsigned policy_doubts(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, struct str *credential)
{
        unsigned doubts = 0;

        for (size_t i = 0; request->op && i < grants->n; i++) {
                const struct grant *grant = &grants->grants[i];
                const struct op_class *class = class_of(grant->role, operation_slot(request->op));
                if (!binding_gives(grant->binding, request))
                        continue;
                for (unsigned k = class->start; k < class->end; k++) {
                        const struct entry *entry = &policy->entries[grant->role->list[k]];
                        unsigned one = entry_doubts(entry, request);
                        if (!one && k < class->middle && entry_matches(entry, request))
                                return 0; /* denied, whatever else there is to know */
                        if (one && !doubts)
                                *credential = grant->binding->credential;
                        doubts |= one;
                }
        }
        return doubts;
}

unsigned policy_kinds(
        const struct policy *policy, const struct policy_grants *grants, const struct operation *op)
{
        unsigned kinds = 0;

        (void)policy;
        for (size_t i = 0; i < grants->n; i++)
                kinds |= class_of(grants->grants[i].role, operation_slot(op))->kinds;
        return kinds;
}

bool policy_tells_apart(const struct policy *policy, const struct policy_grants *grants,
        const struct operation *a, const struct operation *b)
{
        (void)policy;
        for (size_t i = 0; i < grants->n; i++) {
                const struct role *role = grants->grants[i].role;
                if (role->class_of[operation_slot(a)] != role->class_of[operation_slot(b)])
                        return true;
        }
        return false;
}
