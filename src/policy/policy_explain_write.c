/* An explanation as text and as JSON. */
#include "dagward/base/report.h"
#include "policy_internal.h"

static const char *state_mark(enum policy_state state, enum effect effect)
{
        switch (state) {
        case STATE_MET: return "yes";
        case STATE_FAILED: return "NO";
        case STATE_UNSURE:
                return effect == EFFECT_DENY ? "cannot tell, so yes" : "cannot tell, so NO";
        }
        return "";
}

static void conditions_text(
        const struct policy_condition *conditions, size_t n, enum effect effect, struct buf *out)
{
        for (size_t i = 0; i < n; i++)
                buf_printf(out, "      %-14.*s %.*s; has %.*s: %s\n",
                        STR_FMT(conditions[i].selector), STR_FMT(conditions[i].wanted),
                        STR_FMT(conditions[i].actual), state_mark(conditions[i].state, effect));
}

static void change_text(struct str change, struct buf *out)
{
        while (change.len) {
                struct str one;
                change = str_cut(change, '\n', &one);
                if (one.len)
                        buf_printf(out, "  %.*s\n", STR_FMT(one));
        }
}

static void entry_text(const struct policy_entry_view *entry, struct buf *out)
{
        buf_printf(out, "  %.*s %s, role %.*s, %s", STR_FMT(entry->rule),
                entry->effect == EFFECT_ALLOW ? "allow" : "deny", STR_FMT(entry->role),
                entry->matches ? "matches" : "does not match");
        if (entry->held)
                buf_printf(out, " (through binding %.*s)\n", STR_FMT(entry->binding));
        else
                buf_printf(out, ", but the caller does not have this role\n");
        conditions_text(entry->conditions, entry->n_conditions, entry->effect, out);
}

void policy_explanation_text(const struct policy_explanation *e, struct buf *out)
{
        const struct decision *decision = &e->decision;

        buf_printf(out, "%s\n", decision->effect == EFFECT_ALLOW ? "ALLOWED" : "DENIED");
        buf_printf(out, "  request   %.*s\n", STR_FMT(e->request));
        buf_printf(out, "  touches   %.*s\n", STR_FMT(e->resources));
        buf_printf(out, "  caller    %.*s\n", STR_FMT(e->caller));
        if (decision->rule.len)
                buf_printf(out, "  rule      %.*s (role %.*s, binding %.*s%s)\n",
                        STR_FMT(decision->rule), STR_FMT(decision->role),
                        STR_FMT(decision->binding), decision->breaks_glass ? ", break-glass" : "");
        else
                buf_printf(out, "  rule      none: what nothing allows is denied\n");
        if (decision->credential.len)
                buf_printf(out, "  credential %.*s\n", STR_FMT(decision->credential));
        if (decision->reason[0])
                buf_printf(out, "  reason    %s\n", decision->reason);
        buf_printf(out, "\nbindings%s\n", e->n_bindings ? "" : ": there are none");
        for (size_t i = 0; i < e->n_bindings; i++) {
                const struct policy_binding_view *binding = &e->bindings[i];
                buf_printf(out, "  %.*s (%.*s) %s\n", STR_FMT(binding->name),
                        STR_FMT(binding->place), binding->applies ? "applies" : "does not apply");
                conditions_text(binding->conditions, binding->n_conditions, EFFECT_ALLOW, out);
        }
        buf_printf(out, "\nentries about this operation%s\n",
                e->n_entries ? "" : ": there are none, in any role");
        for (size_t i = 0; i < e->n_entries; i++)
                entry_text(&e->entries[i], out);
        if (e->entries_left_out)
                buf_printf(out, "  and %zu more\n", e->entries_left_out);
        buf_printf(out, "\nwhat would have to change\n");
        change_text(e->change, out);
}

static void conditions_json(const struct policy_condition *conditions, size_t n, struct buf *out)
{
        static const char *const names[] = {"met", "failed", "unsure"};

        BUF_LITERAL(out, ",\"conditions\":[");
        for (size_t i = 0; i < n; i++) {
                if (i)
                        buf_char(out, ',');
                buf_char(out, '{');
                report_member(out, "selector", conditions[i].selector);
                report_member(out, "wanted", conditions[i].wanted);
                report_member(out, "actual", conditions[i].actual);
                report_member(out, "state", str_of(names[conditions[i].state]));
                buf_char(out, '}');
        }
        buf_char(out, ']');
}

static void decision_json(const struct policy_explanation *e, struct buf *out)
{
        const struct decision *decision = &e->decision;

        report_member(out, "effect", decision->effect == EFFECT_ALLOW ? STR("allow") : STR("deny"));
        report_member(out, "request", e->request);
        report_member(out, "resources", e->resources);
        report_member(out, "caller", e->caller);
        report_member(out, "rule", decision->rule);
        report_member(out, "role", decision->role);
        report_member(out, "binding", decision->binding);
        report_member(out, "credential", decision->credential);
        report_flag(out, "breaks_glass", decision->breaks_glass);
        report_member(out, "reason", str_of(decision->reason));
        report_member(out, "change", e->change);
}

static void conditions_markdown(struct buf *out, struct str of,
        const struct policy_condition *conditions, size_t n, enum effect effect)
{
        for (size_t i = 0; i < n; i++)
                report_row(out,
                        (const struct str[]){of, conditions[i].selector, conditions[i].wanted,
                                conditions[i].actual,
                                str_of(state_mark(conditions[i].state, effect))},
                        5);
}

void policy_explanation_markdown(const struct policy_explanation *e, struct buf *out)
{
        static const char *const headings[] = {"Of", "Condition", "Wanted", "Is", "Met"};
        const struct decision *decision = &e->decision;
        char text[700];
        struct str change = e->change;

        buf_printf(out, "## %s\n\n", decision->effect == EFFECT_ALLOW ? "Allowed" : "Denied");
        report_heading(out, (const char *const[]){"", ""}, 2);
        report_row(out, (const struct str[]){STR("request"), e->request}, 2);
        report_row(out, (const struct str[]){STR("touches"), e->resources}, 2);
        report_row(out, (const struct str[]){STR("caller"), e->caller}, 2);
        snprintf(text, sizeof(text), "%.*s (role %.*s, binding %.*s)", STR_FMT(decision->rule),
                STR_FMT(decision->role), STR_FMT(decision->binding));
        report_row(out,
                (const struct str[]){STR("rule"), decision->rule.len
                                                          ? str_of(text)
                                                          : STR("none: what nothing allows is "
                                                                "denied")},
                2);
        report_row(out, (const struct str[]){STR("credential"), decision->credential}, 2);
        report_row(out, (const struct str[]){STR("reason"), str_of(decision->reason)}, 2);
        buf_char(out, '\n');
        report_heading(out, headings, 5);
        for (size_t i = 0; i < e->n_bindings; i++) {
                const struct policy_binding_view *binding = &e->bindings[i];
                snprintf(text, sizeof(text), "binding %.*s, %s", STR_FMT(binding->name),
                        binding->applies ? "applies" : "does not apply");
                conditions_markdown(out, str_of(text), binding->conditions, binding->n_conditions,
                        EFFECT_ALLOW);
        }
        for (size_t i = 0; i < e->n_entries; i++) {
                const struct policy_entry_view *entry = &e->entries[i];
                snprintf(text, sizeof(text), "%s %.*s, role %.*s%s",
                        entry->effect == EFFECT_ALLOW ? "allow" : "deny", STR_FMT(entry->rule),
                        STR_FMT(entry->role), entry->held ? "" : " (not held)");
                conditions_markdown(
                        out, str_of(text), entry->conditions, entry->n_conditions, entry->effect);
        }
        if (e->entries_left_out)
                buf_printf(out, "\nand %zu more entries\n", e->entries_left_out);
        BUF_LITERAL(out, "\nWhat would have to change:\n\n");
        while (change.len) {
                struct str one;
                change = str_cut(change, '\n', &one);
                if (!one.len)
                        continue;
                BUF_LITERAL(out, "- ");
                report_cell(out, one);
                buf_char(out, '\n');
        }
}

void policy_explanation_json(const struct policy_explanation *e, struct buf *out)
{
        buf_char(out, '{');
        decision_json(e, out);
        BUF_LITERAL(out, ",\"bindings\":[");
        for (size_t i = 0; i < e->n_bindings; i++) {
                const struct policy_binding_view *binding = &e->bindings[i];
                buf_str_add(out, i ? STR(",{") : STR("{"));
                report_member(out, "name", binding->name);
                report_member(out, "place", binding->place);
                report_member(out, "credential", binding->credential);
                report_flag(out, "applies", binding->applies);
                conditions_json(binding->conditions, binding->n_conditions, out);
                buf_char(out, '}');
        }
        BUF_LITERAL(out, "],\"entries\":[");
        for (size_t i = 0; i < e->n_entries; i++) {
                const struct policy_entry_view *entry = &e->entries[i];
                buf_str_add(out, i ? STR(",{") : STR("{"));
                report_member(out, "rule", entry->rule);
                report_member(out, "role", entry->role);
                report_member(out, "binding", entry->binding);
                report_member(
                        out, "effect", entry->effect == EFFECT_ALLOW ? STR("allow") : STR("deny"));
                report_flag(out, "held", entry->held);
                report_flag(out, "matches", entry->matches);
                conditions_json(entry->conditions, entry->n_conditions, out);
                buf_char(out, '}');
        }
        buf_printf(out, "],\"entries_left_out\":%zu}\n", e->entries_left_out);
}
