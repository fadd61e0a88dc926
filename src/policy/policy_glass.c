/* Break-glass bindings: what one looks like, what counts as a reason, and which one would help. */
#include "policy_internal.h"

static const int64_t DAY_MS = 24 * 60 * 60 * 1000;

static bool options_read(
        struct loader *loader, const struct yaml_node *node, struct binding *binding)
{
        static const struct str keys[] = {{"reason_at_least", 15}};
        const struct yaml_node *least = yaml_get(node, "reason_at_least");
        uint64_t chars = POLICY_GLASS_CHARS;

        if (!yaml_known_keys(node, keys, 1, loader->errors))
                return false;
        if (!least) {
                error_list_add(loader->errors, node->at,
                        "`break_glass` without `reason_at_least`: write `break_glass: true`");
                return false;
        }
        if (!yaml_u64(least, "`reason_at_least`", POLICY_GLASS_CHARS, POLICY_GLASS_MOST_BYTES,
                    &chars, loader->errors))
                return false;
        binding->glass_chars = (unsigned)chars;
        return true;
}

void glass_read(struct loader *loader, const struct yaml_node *node, struct binding *binding)
{
        const struct yaml_entry *glass = yaml_entry_of(node, STR("break_glass"));
        bool on = true;

        if (!glass)
                return;
        if (glass->value->kind == YAML_MAPPING) {
                if (!options_read(loader, glass->value, binding))
                        return;
        } else if (!yaml_bool(glass->value, "`break_glass`", &on, loader->errors)) {
                return;
        } else if (on) {
                binding->glass_chars = POLICY_GLASS_CHARS;
        }
        if (binding->glass_chars && !yaml_get(node, "expires"))
                error_list_add(loader->errors, glass->key->at,
                        "a break-glass binding needs `expires`: whoever it is for is asked again "
                        "then; at most %d days after it begins are advised",
                        GLASS_MOST_DAYS);
}

bool glass_lasts_long(const struct binding *binding, int64_t now_ms)
{
        int64_t from = binding->not_before_ms > now_ms ? binding->not_before_ms : now_ms;

        return binding->glass_chars && binding->expires_ms > from &&
               binding->expires_ms - from > GLASS_MOST_DAYS * DAY_MS;
}

void glass_want_write(unsigned chars, struct line *line)
{
        char text[64];

        snprintf(text, sizeof(text), "a reason of %u characters or more", chars);
        line_add(line, str_of(text));
}

/* --- reasons --- */

void glass_reason_read(
        struct loader *loader, const struct yaml_node *node, struct policy_test *test)
{
        const struct yaml_node *at = yaml_get(node, "reason");
        struct str text, reason;
        const char *why = "";

        if (at && yaml_str(at, "`reason`", &text, loader->errors) &&
                !policy_reason_read(text, &reason, &test->reason_chars, &why))
                error_list_add(loader->errors, at->at, "the `reason` %s", why);
}

/* What would make a line of a log read as something else than it says. */
static bool misleads(unsigned point)
{
        return point < 0x20 || (point >= 0x7F && point < 0xA0) || point == 0x2028 ||
               point == 0x2029 || (point >= 0x202A && point <= 0x202E) ||
               (point >= 0x2066 && point <= 0x2069);
}

bool policy_reason_read(struct str text, struct str *reason, unsigned *chars, const char **why)
{
        *reason = str_trim(text);
        *chars = 0;
        *why = NULL;
        if (reason->len > POLICY_GLASS_MOST_BYTES)
                *why = "is longer than 500 bytes";
        else if (!str_utf8_valid(*reason))
                *why = "is not UTF-8";
        for (size_t i = 0; !*why && i < reason->len; (*chars)++)
                if (misleads(str_code_point(*reason, &i)))
                        *why = "has control characters";
        if (*why)
                *chars = 0;
        return !*why;
}

/* --- the one that would help --- */

/* The fewest characters beyond those given that open another binding; 0: no more bindings. */
static unsigned next_chars(
        const struct policy_grants *grants, const struct policy_request *request, unsigned given)
{
        unsigned least = 0;

        for (size_t i = 0; i < grants->n; i++) {
                const struct binding *binding = grants->grants[i].binding;
                if (binding->glass_chars > given && (!least || binding->glass_chars < least) &&
                        binding_live(binding, request->now_ms))
                        least = binding->glass_chars;
        }
        return least;
}

void glass_find(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, struct decision *out)
{
        struct policy_request with = *request;
        const struct grant *by = NULL;

        while ((with.reason_chars = next_chars(grants, request, with.reason_chars))) {
                if (first_match(policy, grants, &with, EFFECT_DENY, &by))
                        return; /* a longer reason would not take that back */
                if (!first_match(policy, grants, &with, EFFECT_ALLOW, &by))
                        continue;
                out->glass_binding = by->binding->name;
                out->glass_chars = with.reason_chars;
                return;
        }
}
