/*
 * batch: a request that carries others is as good as the worst of them.
 *
 * Each is named and decided like a request of its own; one that is refused refuses all. What goes
 * upstream is the list written anew, with the addresses that were judged.
 */
#include "inside.h"

#include "dagward/azdo/batch.h"

enum {
        SCRATCH_BLOCK = 16 * 1024,
        SCRATCH_CEILING = 512 * 1024,
        GROWS_BY = 6, /* the list written anew: 0.1 becomes 0.10000000000000001 */
};

/* What is known of one request of the list while it is judged. */
struct carried {
        struct target target;
        struct named named;
        struct batch_item item;
};

static enum next malformed(struct exchange *x, size_t i, const char *why)
{
        return refuse(
                x, 400, REFUSED_MALFORMED, "request %zu of the batch: %s", i + 1, why ? why : "");
}

/* From the item's text to an operation and what it touches. */
static enum next name_item(
        struct exchange *x, size_t i, struct arena *scratch, struct carried *carried)
{
        struct h1_fault fault = {0};
        const char *why = "";
        struct str raw = arena_printf(
                scratch, "/%.*s%.*s", STR_FMT(x->named.organization), STR_FMT(carried->item.uri));

        if (!raw.ptr)
                return malformed(x, i, "it is too large to be judged");
        if (!target_parse(raw, STR_NONE, scratch, &carried->target, &fault))
                return malformed(x, i, fault.why);
        if (head_overrides_method(&carried->target).ptr)
                return malformed(x, i, "it asks for another method than its own");
        struct naming_input input = {.method = carried->item.method,
                .target = &carried->target,
                .service = x->named.service,
                .organization = STR_NONE,
                .body = carried->item.body};
        switch (request_name(&input, scratch, &carried->named, &why)) {
        case NAMING_FOUND: break;
        case NAMING_UNKNOWN: return NEXT; /* the policy denies what it cannot name */
        case NAMING_NEEDS_BODY:
        case NAMING_REFUSED: return malformed(x, i, why);
        case NAMING_FULL: return malformed(x, i, "it is too large to be judged");
        }
        if (carried->named.op->risks & RISK_TUNNELS_REQUESTS)
                return malformed(x, i, "it carries requests itself");
        return NEXT;
}

static enum next deny(struct exchange *x, size_t i, const struct batch_item *item)
{
        char reason[POLICY_REASON_BYTES];

        snprintf(reason, sizeof(reason), "%s", x->decision.reason);
        snprintf(x->decision.reason, sizeof(x->decision.reason),
                "request %zu of the batch (%.*s %.*s): %s", i + 1,
                STR_FMT(str_head(item->method, 16)), STR_FMT(str_head(item->uri, 80)), reason);
        return exchange_deny(x);
}

/* The record names what all of them touch. */
static void note_resources(struct exchange *x, const struct resources *more)
{
        struct resources *all = &x->named.resources;

        for (size_t i = 0; i < more->n; i++) {
                bool there = false;
                for (size_t k = 0; k < all->n && !there; k++)
                        there = all->items[k].kind == more->items[i].kind &&
                                str_eq(all->items[k].value, more->items[i].value);
                struct str value = there ? STR_NONE : arena_copy(&x->arena, more->items[i].value);
                if (value.ptr && all->n < RESOURCES_MAX)
                        all->items[all->n++] =
                                (struct resource){.kind = more->items[i].kind, .value = value};
        }
}

/* `credential`: what the whole list is going to be sent with. */
static enum next judge_item(struct exchange *x, size_t i, struct str credential,
        struct arena *scratch, struct carried *carried)
{
        enum next next = name_item(x, i, scratch, carried);

        if (next != NEXT)
                return next;
        next = exchange_decide(x, &carried->named, carried->item.method);
        if (next != NEXT)
                return next;
        if (x->decision.effect == EFFECT_DENY)
                return deny(x, i, &carried->item);
        if (!str_eq(x->decision.credential, credential)) {
                x->decision.effect = EFFECT_DENY;
                snprintf(x->decision.reason, sizeof(x->decision.reason),
                        "its binding lends another credential than the batch is sent with; send it "
                        "by itself");
                return deny(x, i, &carried->item);
        }
        note_resources(x, &carried->named.resources);
        return NEXT;
}

/* What the whole list is recorded with: of what was decided, one that breaks glass. */
static void keep_decision(struct exchange *x, struct decision *outer)
{
        if (x->decision.breaks_glass && !outer->breaks_glass)
                *outer = x->decision;
}

/* The address that was judged, relative to the organization. */
static bool readdress(
        struct batch *batch, size_t i, const struct carried *carried, struct arena *scratch)
{
        const struct route *route = &carried->named.route;
        size_t most = 3 * (carried->item.uri.len + 64) + 64;
        char *memory = arena_alloc(scratch, most);
        struct buf uri;

        if (!memory)
                return false;
        buf_init_fixed(&uri, memory, most);
        for (size_t s = 1; s < route->n_segments; s++) {
                buf_char(&uri, '/');
                segment_write(route->segments[s], &uri);
        }
        target_write_query(&carried->target, &uri);
        if (!uri.overflow)
                batch_readdress(batch, i, buf_str(&uri));
        return !uri.overflow;
}

static enum next write_anew(struct exchange *x, const struct batch *batch)
{
        struct buf written;

        buf_init(&written, GROWS_BY * x->held.len + 4096);
        batch_write(batch, &written);
        if (!written.overflow)
                return hold_instead(x, &written);
        buf_clear(&written);
        return refuse(x, 413, REFUSED_TOO_LARGE, "the batch is too large when it is written anew");
}

enum next batch_decide(struct exchange *x)
{
        struct arena scratch;
        struct carried carried;
        const char *why = "";
        struct decision outer = x->decision;
        struct batch *batch = batch_open(x->held, &why);
        enum next next = NEXT;

        if (!batch)
                return refuse(x, 400, REFUSED_MALFORMED, "%s", why);
        arena_init(&scratch, SCRATCH_BLOCK, SCRATCH_CEILING);
        for (size_t i = 0; i < batch_count(batch) && next == NEXT; i++) {
                arena_reset(&scratch);
                if (!batch_item(batch, i, &scratch, &carried.item, &why))
                        next = malformed(x, i, why);
                else
                        next = judge_item(x, i, outer.credential, &scratch, &carried);
                if (next == NEXT)
                        keep_decision(x, &outer);
                if (next == NEXT && !readdress(batch, i, &carried, &scratch))
                        next = malformed(x, i, "it is too large to be judged");
        }
        arena_clear(&scratch);
        if (next == NEXT) {
                x->decision = outer;
                next = write_anew(x, batch);
        }
        batch_free(batch);
        return next;
}
