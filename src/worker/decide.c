/*
 * decide: may this caller do this.
 *
 * The policy is asked about the named request; a denial that hinges on what a name is waits for
 * resolve.c. Pushes and batches are asked about part by part.
 */
#include "inside.h"

#include "dagward/azdo/batch.h"
#include "dagward/azdo/push.h"
#include "dagward/world/reasons.h"

/* Routes of no organization (`/_apis/...`; no organization's name begins so) reach what the
 * credential may do everywhere: its profile, its tokens, its organizations. A rule about classes or
 * areas did not mean those. Only one that spells out method and path does, as it would have to for
 * a request that the catalogue does not know; so that is what the policy is asked about. */
struct policy_request exchange_spelt_out(const struct exchange *x)
{
        return (struct policy_request){.method = x->request.method,
                .path = x->named.path,
                .service = x->named.service,
                .resources = &x->named.resources,
                .reason_chars = x->reason_chars,
                .now_ms = x->worker->wall_ms};
}

static bool is_spelt_out(struct exchange *x)
{
        struct policy_request request = exchange_spelt_out(x);

        policy_decide(x->world->policy, x->grants, &request, &x->decision);
        return x->decision.effect == EFFECT_ALLOW;
}

bool organization_is_served(const struct exchange *x)
{
        const struct config_upstream *upstream = &x->world->config->upstream;

        for (size_t i = 0; i < upstream->n_organizations; i++)
                if (str_eq_fold(upstream->organizations[i], x->named.organization))
                        return true;
        return false;
}

struct policy_request exchange_question(
        struct exchange *x, const struct named *named, struct str method)
{
        claims_read(x);
        return (struct policy_request){
                .op = named->op,
                .method = method,
                .path = named->path,
                .service = named->service,
                .resources = &named->resources,
                .facts = named->facts,
                .claimed = x->claims,
                .n_claimed = CLAIMS,
                .reason_chars = x->reason_chars,
                .now_ms = x->worker->wall_ms,
        };
}

static enum next decide_live(struct exchange *x, struct named *named, struct str method)
{
        for (;;) {
                struct policy_request request = exchange_question(x, named, method);
                bool learnt = false;

                policy_decide(x->world->policy, x->grants, &request, &x->decision);
                bool broken = x->decision.breaks_glass;
                if (x->decision.effect == EFFECT_ALLOW && !broken)
                        return NEXT;
                enum next next = resolve(x, named, method, &learnt);
                /* What glass is there for is that the ordinary way does not work. */
                if (next == REFUSE && broken && x->refusal.status == 503) {
                        x->refusal = (struct refusal_answer){0};
                        return NEXT;
                }
                if (next == NEXT && !learnt)
                        glass_tell(x);
                if (next != NEXT || !learnt)
                        return next;
        }
}

enum next exchange_decide(struct exchange *x, struct named *named, struct str method)
{
        enum next next = decide_live(x, named, method);

        if (x->shadow_grants && next == NEXT)
                shadow_ask(x, named, method);
        return next;
}

enum next exchange_deny(struct exchange *x)
{
        snprintf(x->refusal.rule, sizeof(x->refusal.rule), "%.*s", STR_FMT(x->decision.rule));
        return refuse(x, 403, REFUSED_POLICY, "%s", x->decision.reason);
}

static enum next judge(struct exchange *x)
{
        if (operation_is_push(x->named.op) &&
                push_is_judged_by_ref(x, x->world->policy, x->grants)) {
                enum next next = push_decide(x);
                x->decided = next == NEXT || (next == REFUSE && x->decision.reason[0]);
                return next;
        }
        enum next next = exchange_decide(x, &x->named, x->request.method);
        if (next != NEXT)
                return next;
        x->decided = true;
        if (x->decision.effect == EFFECT_DENY)
                return exchange_deny(x);
        return operation_is_batch(x->named.op) ? batch_decide(x) : NEXT;
}

static enum next decide_all(struct exchange *x)
{
        enum next next = judge(x);
        if (next == NEXT)
                next = answer_locally(x);
        if (next == ANSWER && x->decision.breaks_glass)
                evidence_glass(x);
        if (next != NEXT)
                return next; /* no credential leaves for that */
        if (x->named.organization.len ? !organization_is_served(x) : !is_spelt_out(x)) {
                x->decision = (struct decision){.effect = EFFECT_DENY};
                snprintf(x->decision.reason, sizeof(x->decision.reason), "%s",
                        x->named.organization.len ? REASON_ORGANIZATION : REASON_NOT_SPELT_OUT);
                return refuse(x, 403, REFUSED_POLICY, "%s", x->decision.reason);
        }
        return NEXT;
}

enum next decide_step(struct exchange *x)
{
        /* Bytes or an answer may have been waited for since: others have used the table. */
        x->grants = grants_find(x->worker->grants, x->caller, x->world, &x->shadow_grants);
        if (!x->shadow_grants)
                return decide_all(x);
        x->shadow = (struct shadow_says){.answer = SHADOW_NOT_ASKED};
        enum next next = decide_all(x);
        shadow_settle(x, next);
        return next;
}

bool decide_same_now(struct exchange *x)
{
        x->grants = grants_find(x->worker->grants, x->caller, x->world, &x->shadow_grants);
        struct policy_request request = x->named.organization.len
                                                ? exchange_question(x, &x->named, x->request.method)
                                                : exchange_spelt_out(x);
        struct decision now;

        policy_decide(x->world->policy, x->grants, &request, &now);
        return now.effect == EFFECT_ALLOW && str_eq(now.binding, x->decision.binding);
}
