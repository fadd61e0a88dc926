/*
 * shadow: what a second policy would have said.
 *
 * It is asked after the live one, about the same question, part by part where a request has parts.
 * Nothing that it says, or needs, may change what happens to the request: nobody is asked what a
 * name is, no body is read and nothing is refused for its sake. What it cannot tell for that reason
 * is `unclear`. A live policy and its own copy as a shadow never disagree.
 */
#include "inside.h"

#include "dagward/azdo/batch.h"
#include "dagward/azdo/push.h"

enum { SCRATCH_BLOCK = 16 * 1024, SCRATCH_CEILING = 256 * 1024 };

/* All parts have to be allowed, and with one credential: one that is denied denies all. */
static void note(struct exchange *x, enum shadow_answer answer, const struct decision *decision)
{
        struct shadow_says *says = &x->shadow;

        if (says->answer == SHADOW_ALLOW && answer == SHADOW_ALLOW &&
                !str_eq(says->credential, decision->credential)) {
                *says = (struct shadow_says){.answer = SHADOW_DENY};
                return;
        }
        if (answer <= says->answer)
                return;
        *says = (struct shadow_says){.answer = answer};
        if (answer == SHADOW_UNCLEAR)
                return;
        says->rule = decision->rule;
        says->role = decision->role;
        says->credential = decision->credential;
}

static void ask(struct exchange *x, const struct named *named, const struct policy_request *request)
{
        const struct policy *policy = x->world->shadow;
        struct str credential = STR_NONE;
        struct decision decision;

        policy_decide(policy, x->shadow_grants, request, &decision);
        if (decision.effect == EFFECT_ALLOW) {
                note(x, SHADOW_ALLOW, &decision);
                return;
        }
        unsigned doubts = policy_doubts(policy, x->shadow_grants, request, &credential);
        bool open = doubts && resolve_is_open(x, named, doubts, credential);
        note(x, open ? SHADOW_UNCLEAR : SHADOW_DENY, &decision);
}

/* --- requests whose body was not looked at, because the live policy has no use for it --- */

/* What the live policy has learnt holds here too. */
static void carry_over(struct named *to, const struct named *from)
{
        for (size_t i = 0; i < to->resources.n; i++) {
                struct resource *item = &to->resources.items[i];
                for (size_t k = 0; k < from->resources.n && !item->known; k++) {
                        const struct resource *other = &from->resources.items[k];
                        if (other->kind == item->kind && str_eq(other->value, item->value))
                                item->known = other->known;
                }
        }
}

/* Understands the request anew with all of its body, apart from what the live policy was asked. */
static void ask_with_body(struct exchange *x, struct str body, struct str method)
{
        struct arena scratch;
        struct named named;
        const char *why;

        arena_init(&scratch, SCRATCH_BLOCK, SCRATCH_CEILING);
        if (exchange_name(x, body, &scratch, &named, &why) == NAMING_FOUND &&
                named.op == x->named.op) {
                carry_over(&named, &x->named);
                struct policy_request request = exchange_question(x, &named, method);
                ask(x, &named, &request);
        } else {
                note(x, SHADOW_UNCLEAR, NULL);
        }
        arena_clear(&scratch);
}

/* Whether it looks at something that only the body tells and nobody has read there. */
static bool misses_body(const struct exchange *x)
{
        if (!x->named.op || !exchange_body_kinds(&x->named, x->world->shadow, x->shadow_grants))
                return false;
        return !x->understood.ptr || x->understood.len < x->held.len;
}

/* Whether it is asked about a push as a whole and tells its refs apart. */
static bool misses_refs(const struct exchange *x)
{
        return operation_is_push(x->named.op) && x->named.resources.unresolved[RESOURCE_REF] &&
               push_is_judged_by_ref(x, x->world->shadow, x->shadow_grants);
}

void shadow_ask(struct exchange *x, const struct named *named, struct str method)
{
        bool whole = named == &x->named; /* else a request of a batch, which was read */

        if (whole && misses_refs(x)) {
                note(x, SHADOW_UNCLEAR, NULL);
        } else if (whole && misses_body(x)) {
                if (x->understood.ptr)
                        ask_with_body(x, x->held, method);
                else if (x->request.framing == H1_NO_BODY)
                        ask_with_body(x, STR(""), method);
                else
                        note(x, SHADOW_UNCLEAR, NULL);
        } else {
                struct policy_request request = exchange_question(x, named, method);
                ask(x, named, &request);
        }
}

/* --- the answer --- */

/* What holds whatever a policy says; see decide_step. */
static void apply_bounds(struct exchange *x)
{
        bool local = x->named.op && str_starts(str_of(x->named.op->id), STR("discovery."));

        if (local || x->shadow.answer == SHADOW_DENY)
                return;
        if (x->named.organization.len) {
                if (!organization_is_served(x))
                        x->shadow = (struct shadow_says){.answer = SHADOW_DENY};
                return;
        }
        /* There the second answer is the one that counts. */
        struct policy_request request = exchange_spelt_out(x);
        if (x->shadow.answer == SHADOW_ALLOW)
                x->shadow = (struct shadow_says){.answer = SHADOW_NOT_ASKED};
        ask(x, &x->named, &request);
}

static void write_text(struct exchange *x, bool allowed)
{
        static const char *const words[] = {
                [SHADOW_ALLOW] = "allow", [SHADOW_UNCLEAR] = "unclear", [SHADOW_DENY] = "deny"};
        const struct shadow_says *says = &x->shadow;
        bool allows = says->answer == SHADOW_ALLOW;
        struct str role = allows ? says->role : STR_NONE;
        struct str credential = allows && allowed ? says->credential : STR_NONE;

        snprintf(x->shadow_text, sizeof(x->shadow_text), "%s%s%.*s%s%.*s%s%.*s",
                words[says->answer], says->rule.len ? " by " : "", STR_FMT(says->rule),
                role.len ? ", role " : "", STR_FMT(role), credential.len ? ", credential " : "",
                STR_FMT(credential));
}

void shadow_settle(struct exchange *x, enum next next)
{
        bool allowed = x->decision.effect == EFFECT_ALLOW;
        bool settled = next == NEXT || next == ANSWER || (next == REFUSE && !allowed);
        struct shadow_says *says = &x->shadow;

        if (!settled || !x->decided || says->answer == SHADOW_NOT_ASKED)
                return;
        if (next != ANSWER)
                apply_bounds(x);
        /* What follows the request that was refused has not been looked at. */
        if (!allowed && says->answer == SHADOW_ALLOW && x->named.op &&
                operation_is_batch(x->named.op))
                *says = (struct shadow_says){.answer = SHADOW_UNCLEAR};
        x->shadow_disagrees = allowed ? says->answer != SHADOW_ALLOW ||
                                                !str_eq(says->credential, x->decision.credential)
                                      : says->answer != SHADOW_DENY;
        if (x->shadow_disagrees)
                write_text(x, allowed);
        unsigned column = says->answer == SHADOW_ALLOW ? 0 : says->answer == SHADOW_DENY ? 1 : 2;
        x->worker->metrics.shadow[!allowed][column]++;
        x->worker->metrics.shadow_disagreements += x->shadow_disagrees;
}
