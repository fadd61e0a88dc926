/* Why something was denied, in one line that a person can act on. */
#include "dagward/base/clock.h"
#include "policy_internal.h"

struct line line_over(char *memory, size_t bytes)
{
        memory[0] = '\0';
        return (struct line){.at = memory, .left = bytes - 1};
}

/* How many of the first `most` bytes are whole characters. */
static size_t whole(struct str text, size_t most)
{
        if (text.len <= most)
                return text.len;
        while (most > 0 && ((unsigned char)text.ptr[most] & 0xc0) == 0x80)
                most--;
        return most;
}

void line_add(struct line *line, struct str text)
{
        size_t len = whole(text, line->left);

        for (size_t i = 0, hidden = 0; i < len; i++) {
                unsigned char c = (unsigned char)text.ptr[i];
                if (!hidden)
                        hidden = c < 0x20 || c == 0x7f ? 1 : str_invisible_at(text, i);
                line->at[i] = (char)(hidden ? '?' : c);
                hidden -= hidden > 0;
        }
        line->at += len;
        *line->at = '\0';
        /* what follows a cut would read as if it belonged to it */
        line->left = len < text.len ? 0 : line->left - len;
}

void line_add_most(struct line *line, struct str text, size_t most)
{
        if (!str_utf8_valid(text))
                text = STR("(not UTF-8)");
        line_add(line, str_head(text, whole(text, most)));
        if (text.len > most)
                line_add(line, STR("..."));
}

void line_break(struct line *line)
{
        if (!line->left)
                return;
        *line->at++ = '\n';
        *line->at = '\0';
        line->left--;
}

const char *time_text(int64_t wall_ms, char out[TIME_TEXT_BYTES])
{
        clock_rfc3339(wall_ms < 0 ? 0 : wall_ms, out);
        memcpy(strchr(out, '.'), "Z", 2);
        return out;
}

void caller_describe(const struct policy_caller *caller, char *memory, size_t bytes)
{
        struct line line = line_over(memory, bytes);

        line_add_most(&line, caller->subject.len ? caller->subject : STR("(no subject)"), 100);
        line_add(&line, STR(" (issuer "));
        line_add_most(&line, caller->issuer, 40);
        line_add(&line, STR(")"));
}

void line_resources(struct line *line, const struct policy_request *request, unsigned unnamed_kinds,
        size_t most)
{
        const struct resources *resources = request->resources;
        size_t before = line->left;
        bool first = true;

        for (size_t i = 0; resources && i < resources->n; i++) {
                const struct resource *item = &resources->items[i];
                if (before - line->left > most) {
                        line_add(line, STR(", ..."));
                        return;
                }
                if (!first)
                        line_add(line, STR(", "));
                first = false;
                line_add(line, str_of(resource_kind_name(item->kind)));
                line_add(line, STR(" "));
                line_add_most(line, item->value, 60);
        }
        for (int kind = 0; resources && kind < RESOURCE_KINDS; kind++) {
                if (!(unnamed_kinds >> kind & 1) || !resources->unresolved[kind] ||
                        before - line->left > most)
                        continue;
                line_add(line, first ? STR("an unnamed ") : STR(", an unnamed "));
                first = false;
                line_add(line, str_of(resource_kind_name((enum resource_kind)kind)));
        }
}

/* `kinds`: those that could have mattered; the others are told only if the request names them. */
static void add_request(struct line *line, const struct policy_request *request, unsigned kinds)
{
        if (request->op) {
                line_add(line, str_of(request->op->id));
                if (!request->resources || !request->resources->n)
                        return;
                line_add(line, STR(" on "));
                line_resources(line, request, kinds, 90);
                return;
        }
        line_add_most(line, request->method, 20);
        line_add(line, STR(" "));
        line_add_most(line, request->path, 120);
}

/* The names of the roles that the caller has now, each once; false: there is none. */
static bool add_roles(
        struct line *line, const struct policy_grants *grants, const struct policy_request *request)
{
        enum { most = 5 };
        const struct role *seen[most];
        size_t n = 0;

        for (size_t i = 0; i < grants->n; i++) {
                const struct grant *grant = &grants->grants[i];
                bool again = !binding_gives(grant->binding, request);
                for (size_t k = 0; k < n && !again; k++)
                        again = seen[k] == grant->role;
                if (again)
                        continue;
                if (n == most) {
                        line_add(line, STR(", ..."));
                        break;
                }
                line_add(line, n ? STR(", ") : STR("your roles: "));
                line_add_most(line, grant->role->name, 40);
                seen[n++] = grant->role;
        }
        return n > 0;
}

static const char *why_without_roles(
        const struct policy_grants *grants, const struct policy_request *request)
{
        for (size_t i = 0; i < grants->n; i++)
                if (binding_live(grants->grants[i].binding, request->now_ms))
                        return "every binding for this caller that is in its time is a break-glass "
                               "one";
        return grants->n ? "every binding for this caller has expired or has not begun"
                         : "no binding applies to this caller";
}

/* What only a rule that names it would cover. */
static void add_grave_facts(struct line *line, const struct policy_request *request)
{
        bool first = true;
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);

        for (size_t i = 0; request->facts && i < request->facts->n; i++) {
                const struct fact *fact = &request->facts->items[i];
                if (!fact_is_grave(fact))
                        continue;
                line_add(line, first ? STR("; a rule for it has to name ") : STR(" and "));
                line_add(line, str_of(kinds[fact->kind].name));
                first = false;
        }
        if (!first)
                line_add(line, STR(" in `where`"));
}

static bool any_matches(const struct policy *policy, const unsigned *entries, const unsigned *end,
        const struct policy_request *request)
{
        for (; entries < end; entries++)
                if (entry_matches(&policy->entries[*entries], request))
                        return true;
        return false;
}

/* The first binding that would allow it if its time were now; NULL: that is not what is missing. */
static const struct binding *out_of_time(const struct policy *policy,
        const struct policy_grants *grants, const struct policy_request *request)
{
        const struct binding *found = NULL;

        for (size_t i = 0; i < grants->n; i++) {
                const struct grant *grant = &grants->grants[i];
                const struct role *role = grant->role;
                const struct op_class *class =
                        &role->classes[role->class_of[operation_slot(request->op)]];
                const unsigned *list = role->list;
                if (binding_live(grant->binding, request->now_ms))
                        continue;
                if (any_matches(policy, list + class->start, list + class->middle, request))
                        return NULL;
                if (!found && any_matches(policy, list + class->middle, list + class->end, request))
                        found = grant->binding;
        }
        return found;
}

/* When that binding was, or will be, in force. */
static void add_time(struct line *line, const struct binding *binding, int64_t now_ms)
{
        bool over = binding->expires_ms <= now_ms;
        char when[TIME_TEXT_BYTES];

        line_add(line, STR("; the binding "));
        line_add_most(line, binding->name, 80);
        line_add(line, over ? STR(", which allowed it, expired at ")
                            : STR(", which will allow it, begins at "));
        line_add(
                line, str_of(time_text(over ? binding->expires_ms : binding->not_before_ms, when)));
        line_add(line, over ? STR("; ask whoever keeps it to renew it") : STR(""));
}

void reason_write(const struct policy_grants *grants, const struct policy_request *request,
        const struct entry *denied_by, const struct decision *decision, char *out, size_t bytes,
        const struct policy *policy)
{
        struct line line = line_over(out, bytes);
        unsigned kinds = policy_kinds(policy, grants, request->op);

        if (denied_by) {
                line_add(&line, STR("role "));
                line_add_most(&line, decision->role, 60);
                line_add(&line, STR(" denies "));
                add_request(&line, request, kinds);
                line_add(&line, STR(" for "));
                line_add(&line, str_of(grants->caller));
                line_add(&line, STR(", whatever else allows it; ask whoever keeps "));
                line_add_most(&line, denied_by->rule, 80);
                return;
        }
        if (!request->op)
                line_add(&line, STR("not an operation that is known here, and no rule names it by "
                                    "method and path: "));
        else
                line_add(&line, STR("no role allows "));
        add_request(&line, request, kinds);
        line_add(&line, STR(" for "));
        line_add(&line, str_of(grants->caller));
        const struct binding *late = out_of_time(policy, grants, request);
        if (late) {
                add_time(&line, late, request->now_ms);
                return;
        }
        line_add(&line, STR("; "));
        if (decision->glass_chars) {
                line_add(&line, STR("binding "));
                line_add_most(&line, decision->glass_binding, 60);
                line_add(&line, STR(" would allow it with "));
                glass_want_write(decision->glass_chars, &line);
                return;
        }
        if (!add_roles(&line, grants, request)) {
                line_add(&line, str_of(why_without_roles(grants, request)));
                line_add(&line, STR("; ask for a binding to a role that allows it"));
                return;
        }
        add_grave_facts(&line, request);
        line_add(&line, STR("; ask for a role that allows it"));
}
