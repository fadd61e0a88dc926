/* An explanation as text and as JSON. */
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

static void member(struct buf *out, const char *name, struct str value)
{
        if (out->len && out->data[out->len - 1] != '{')
                buf_char(out, ',');
        buf_json_str(out, str_of(name));
        buf_char(out, ':');
        buf_json_str(out, value);
}

static void flag(struct buf *out, const char *name, bool value)
{
        if (out->len && out->data[out->len - 1] != '{')
                buf_char(out, ',');
        buf_printf(out, "\"%s\":%s", name, value ? "true" : "false");
}

static void conditions_json(const struct policy_condition *conditions, size_t n, struct buf *out)
{
        static const char *const names[] = {"met", "failed", "unsure"};

        BUF_LITERAL(out, ",\"conditions\":[");
        for (size_t i = 0; i < n; i++) {
                if (i)
                        buf_char(out, ',');
                buf_char(out, '{');
                member(out, "selector", conditions[i].selector);
                member(out, "wanted", conditions[i].wanted);
                member(out, "actual", conditions[i].actual);
                member(out, "state", str_of(names[conditions[i].state]));
                buf_char(out, '}');
        }
        buf_char(out, ']');
}

static void decision_json(const struct policy_explanation *e, struct buf *out)
{
        const struct decision *decision = &e->decision;

        member(out, "effect", decision->effect == EFFECT_ALLOW ? STR("allow") : STR("deny"));
        member(out, "request", e->request);
        member(out, "resources", e->resources);
        member(out, "caller", e->caller);
        member(out, "rule", decision->rule);
        member(out, "role", decision->role);
        member(out, "binding", decision->binding);
        member(out, "credential", decision->credential);
        flag(out, "breaks_glass", decision->breaks_glass);
        member(out, "reason", str_of(decision->reason));
        member(out, "change", e->change);
}

void policy_explanation_json(const struct policy_explanation *e, struct buf *out)
{
        buf_char(out, '{');
        decision_json(e, out);
        BUF_LITERAL(out, ",\"bindings\":[");
        for (size_t i = 0; i < e->n_bindings; i++) {
                const struct policy_binding_view *binding = &e->bindings[i];
                buf_str_add(out, i ? STR(",{") : STR("{"));
                member(out, "name", binding->name);
                member(out, "place", binding->place);
                member(out, "credential", binding->credential);
                flag(out, "applies", binding->applies);
                conditions_json(binding->conditions, binding->n_conditions, out);
                buf_char(out, '}');
        }
        BUF_LITERAL(out, "],\"entries\":[");
        for (size_t i = 0; i < e->n_entries; i++) {
                const struct policy_entry_view *entry = &e->entries[i];
                buf_str_add(out, i ? STR(",{") : STR("{"));
                member(out, "rule", entry->rule);
                member(out, "role", entry->role);
                member(out, "binding", entry->binding);
                member(out, "effect", entry->effect == EFFECT_ALLOW ? STR("allow") : STR("deny"));
                flag(out, "held", entry->held);
                flag(out, "matches", entry->matches);
                conditions_json(entry->conditions, entry->n_conditions, out);
                buf_char(out, '}');
        }
        buf_printf(out, "],\"entries_left_out\":%zu}\n", e->entries_left_out);
}
