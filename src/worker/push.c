/*
 * push: a git push is as good as each of the refs it moves.
 *
 * The commands stand in front of the pack. They are read where they are, in the client's stream,
 * and nothing is taken from it: what is forwarded is what came, pack and all, and streams.
 */
#include "inside.h"

#include <string.h>

#include "dagward/azdo/push.h"
#include "dagward/http/h1_body.h"

/* What a refused push is answered with. */
struct push_refusal {
        struct push push;
        const char *reasons[PUSH_REFS_MOST];
};

enum { SCRATCH_MOST = STREAM_BLOCK };

/* The payload that has come so far, out of its framing; whether that is all of it. */
static struct str payload_so_far(struct exchange *x, struct buf *scratch, bool *ended)
{
        struct h1_body body = x->in.body; /* a copy: nothing is consumed */
        struct str in = stream_in(&x->client->stream), payload;
        struct h1_fault fault = {0};

        buf_reset(scratch);
        *ended = true;
        if (x->holds_body) /* it is decided anew */
                return x->held;
        while (in.len && !body.done) {
                ssize_t n = h1_body_next(&body, in.ptr, in.len, &payload, &fault);
                if (n <= 0)
                        break; /* more is needed; a fault is found again by who forwards it */
                buf_str_add(scratch, payload);
                in = str_from(in, (size_t)n);
        }
        *ended = body.done || x->request.framing == H1_NO_BODY;
        return scratch->data ? buf_str(scratch) : STR("");
}

static enum next read_commands(struct exchange *x, struct push *push)
{
        struct str encoding = h1_field_value(&x->request, H1_CONTENT_ENCODING);
        struct buf scratch;
        const char *why = "";
        enum next next = NEXT;
        bool ended = false;

        if (encoding.len && !str_eq_fold(encoding, STR("identity")))
                return refuse(x, 400, REFUSED_MALFORMED,
                        "the refs of a push decide whether it is allowed, and they come in a "
                        "Content-Encoding");
        buf_init(&scratch, SCRATCH_MOST);
        while (next == NEXT) {
                enum push_result result =
                        push_read(payload_so_far(x, &scratch, &ended), &x->arena, push, &why);
                if (result == PUSH_READ)
                        break;
                if (result == PUSH_BAD)
                        next = refuse(x, 400, REFUSED_MALFORMED, "%s", why);
                else if (ended)
                        next = refuse(x, 400, REFUSED_MALFORMED, "the push ends in its commands");
                else
                        next = hold_wait(x);
        }
        buf_clear(&scratch);
        return next;
}

/* The decision about one ref; `*why`: its reason in the arena when it is denied, else NULL. */
static enum next judge_ref(struct exchange *x, const struct push *push, size_t i,
        struct str credential, const char **why)
{
        struct resources *resources = &x->named.resources;
        const struct operation *whole = x->named.op;
        size_t at = resources->n++;

        resources->items[at] = (struct resource){.kind = RESOURCE_REF, .value = push->refs[i]};
        x->named.op = push_operation(push->changes[i], push->refs[i]);
        enum next next = exchange_decide(x, &x->named, x->request.method);
        x->named.op = whole;
        /* What was learnt meanwhile stands behind it, and stays. */
        resources->n--;
        memmove(&resources->items[at], &resources->items[at + 1],
                (resources->n - at) * sizeof(resources->items[0]));
        *why = NULL;
        if (next != NEXT ||
                (x->decision.effect == EFFECT_ALLOW &&
                        (!credential.len || str_eq(credential, x->decision.credential))))
                return next;
        const char *reason = x->decision.effect == EFFECT_ALLOW
                                     ? "its binding lends another credential than that of the "
                                       "push's first ref; push it by itself"
                                     : x->decision.reason;
        struct str copy = arena_printf(&x->arena, "%s", reason);
        *why = copy.ptr ? copy.ptr : "denied";
        return NEXT;
}

/* The record names the refs, as far as there is room. */
static void note_refs(struct exchange *x, const struct push *push)
{
        struct resources *resources = &x->named.resources;

        for (size_t i = 0; i < push->n && resources->n < RESOURCES_MAX; i++)
                resources->items[resources->n++] =
                        (struct resource){.kind = RESOURCE_REF, .value = push->refs[i]};
}

bool push_is_judged_by_ref(
        const struct exchange *x, const struct policy *policy, const struct policy_grants *grants)
{
        size_t n;
        const char *const *ids = push_operation_ids(&n);

        if (policy_kinds(policy, grants, x->named.op) & 1U << RESOURCE_REF)
                return true;
        for (size_t i = 0; i < n; i++)
                if (policy_tells_apart(policy, grants, x->named.op, catalogue_find(str_of(ids[i]))))
                        return true;
        return false;
}

enum next push_decide(struct exchange *x)
{
        struct push_refusal *refusal = arena_alloc(&x->arena, sizeof(*refusal));
        struct decision first = {0}, denied = {0};
        bool refused = false;

        if (!refusal)
                return refuse(x, 431, REFUSED_TOO_LARGE, "the request names too much");
        enum next next = read_commands(x, &refusal->push);
        if (next != NEXT)
                return next;
        if (refusal->push.n == 0) { /* a probe, whether we would take a push */
                x->named.resources.unresolved[RESOURCE_REF] = false;
                x->named.resources.deferred |= 1U << RESOURCE_REF;
                next = exchange_decide(x, &x->named, x->request.method);
                if (next != NEXT)
                        return next;
                return x->decision.effect == EFFECT_ALLOW ? NEXT : exchange_deny(x);
        }
        x->named.resources.unresolved[RESOURCE_REF] = false;
        for (size_t i = 0; i < refusal->push.n; i++) {
                next = judge_ref(x, &refusal->push, i, first.credential, &refusal->reasons[i]);
                if (next != NEXT)
                        return next;
                if (refusal->reasons[i] && !refused)
                        denied = x->decision;
                refused |= refusal->reasons[i] != NULL;
                /* Of the refs that are allowed, one that breaks glass is told of. */
                if (!refusal->reasons[i] && (!first.credential.len || (x->decision.breaks_glass &&
                                                                              !first.breaks_glass)))
                        first = x->decision;
        }
        note_refs(x, &refusal->push);
        if (!refused) {
                x->decision = first;
                return NEXT;
        }
        for (size_t i = 0; i < refusal->push.n; i++)
                if (!refusal->reasons[i])
                        refusal->reasons[i] = "not pushed: another ref of this push is refused";
        x->decision = denied;
        x->decision.effect = EFFECT_DENY;
        x->push = refusal;
        return exchange_deny(x);
}

struct str push_report(struct exchange *x)
{
        struct buf out;

        buf_init(&out, 64 * 1024);
        push_refusal_write(&x->push->push, x->push->reasons, &out);
        struct str report = out.overflow ? STR("") : arena_copy(&x->arena, buf_str(&out));
        buf_clear(&out);
        return report.ptr ? report : STR("");
}
