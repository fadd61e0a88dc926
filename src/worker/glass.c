/*
 * glass: what a request says to have a break-glass binding count.
 *
 * The policy knows how long a reason has to be, and nothing of fields; what the field is called is
 * known here alone.
 */
#include "inside.h"

static const char field[] = "X-Dagward-Reason";

enum next glass_read_reason(struct exchange *x)
{
        struct str given[2] = {STR_NONE, STR_NONE};
        size_t n = h1_field_values(&x->request, H1_X_DAGWARD_REASON, given, 2);
        const char *why = "";

        if (n > 1)
                return refuse(x, 400, REFUSED_MALFORMED, "more than one %s", field);
        if (!policy_reason_read(given[0], &x->reason, &x->reason_chars, &why))
                return refuse(x, 400, REFUSED_MALFORMED, "%s %s", field, why);
        return NEXT;
}

void glass_tell(struct exchange *x)
{
        struct decision *decision = &x->decision;
        size_t len = strlen(decision->reason);

        if (decision->effect == EFFECT_DENY && decision->glass_chars)
                snprintf(decision->reason + len, sizeof(decision->reason) - len, " in %s", field);
}

void glass_count(struct exchange *x)
{
        if (!x->decision.breaks_glass)
                return;
        x->worker->metrics.break_glass++;
        log_info("correlation=%s glass is broken binding=\"%.*s\" operation=%s", x->correlation_id,
                STR_FMT(x->decision.binding), x->named.op ? x->named.op->id : "(unknown)");
}
