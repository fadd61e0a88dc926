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

/* The entries that may matter, in file order. */
static struct candidates candidates_of(const struct role *role, const struct op_class *class,
        const struct policy_request *request, enum search_for what)
{
        bool deny = what == SEARCH_DENY;
        const struct op_index *index = deny ? class->denies : class->allows;
        const unsigned *from = role->list + (deny ? class->start : class->middle);
        const unsigned *to = role->list + (deny ? class->middle : class->end);

        struct candidates found;

        if (!deny && class->says && index_says(class->says, request, &found))
                return found;
        if (index)
                return index_candidates(index, request, what, from, to);
        return (struct candidates){.n = 1, .runs = {{from, to}}};
}

const struct entry *first_match(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, enum effect effect, const struct grant **by)
{
        unsigned slot = operation_slot(request->op), index;

        for (size_t i = 0; i < grants->n; i++) {
                const struct grant *grant = &grants->grants[i];
                const struct op_class *class = class_of(grant->role, slot);
                if (!binding_gives(grant->binding, request))
                        continue;
                struct candidates from = candidates_of(grant->role, class, request,
                        effect == EFFECT_DENY ? SEARCH_DENY : SEARCH_ALLOW);
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
        if (out->effect == EFFECT_DENY && !request->no_reason)
                reason_write(grants, request, entry, out, out->reason, sizeof(out->reason), policy);
        return entry;
}

void policy_decide(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, struct decision *out)
{
        (void)decide(policy, grants, request, out);
}

/* Adds what keeps the role's entries from being decided; false: it denies the request, whatever
 * else there is to know. */
static bool role_doubts(const struct policy *policy, const struct grant *grant,
        const struct policy_request *request, unsigned *doubts, struct str *credential)
{
        const struct op_class *class = class_of(grant->role, operation_slot(request->op));
        const unsigned all_kinds = (1u << RESOURCE_KINDS) - 1;

        for (int pass = SEARCH_DENY; pass <= SEARCH_DOUBT; pass++) {
                if (pass == SEARCH_ALLOW)
                        continue;
                struct candidates from =
                        candidates_of(grant->role, class, request, (enum search_for)pass);
                unsigned index;
                while (candidates_next(&from, &index)) {
                        const struct entry *entry = &policy->entries[index];
                        /* Nothing that it could add is new: of ten thousand rules by name, the
                         * first says all there is to say. */
                        if (entry->effect == EFFECT_ALLOW && !(entry->kinds & all_kinds & ~*doubts))
                                continue;
                        unsigned one = entry_doubts(entry, request);
                        if (!one && entry->effect == EFFECT_DENY && entry_matches(entry, request))
                                return false;
                        if (one && !*doubts)
                                *credential = grant->binding->credential;
                        *doubts |= one;
                }
        }
        return true;
}

unsigned policy_doubts(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, struct str *credential)
{
        unsigned doubts = 0;

        for (size_t i = 0; request->op && i < grants->n; i++) {
                const struct grant *grant = &grants->grants[i];
                if (binding_gives(grant->binding, request) &&
                        !role_doubts(policy, grant, request, &doubts, credential))
                        return 0;
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
