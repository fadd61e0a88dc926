/*
 * The decision as docs/policy.md and policy.h state it, written to be read: it walks a model from
 * the first binding to the last entry (policy_reference_entry.h). It shares nothing with the module
 * that it is held against.
 */
#ifndef DAGWARD_TESTS_POLICY_REFERENCE_H
#define DAGWARD_TESTS_POLICY_REFERENCE_H

#include "policy_reference_entry.h"

/* --- one binding --- */

/* The longest name that there is at every level. */
static inline const struct tree *claim_of(const struct tree *claims, const char *path)
{
        char name[64];

        for (size_t len = strlen(path); len > 0; len--) {
                if (path[len] != '.' && path[len] != '\0')
                        continue;
                snprintf(name, sizeof(name), "%.*s", (int)len, path);
                const struct tree *found = tree_member(claims, str_of(name));
                if (found)
                        return path[len] ? claim_of(found, path + len + 1) : found;
        }
        return NULL;
}

/* `written` as in YAML: quotes make it a text, which no number or boolean is; `*` is anything. */
static inline bool claim_is(const char *written, const struct tree *claim)
{
        bool quoted = written[0] == '\'';
        bool plain = !quoted && (is_number(written) || strcmp(written, "true") == 0 ||
                                        strcmp(written, "false") == 0);
        char value[64], text[64];

        snprintf(value, sizeof(value), "%.*s", (int)strlen(written) - 2 * quoted, written + quoted);
        if (claim->kind == TREE_TEXT) {
                snprintf(text, sizeof(text), "%.*s", STR_FMT(claim->text));
                return fits(value, text, false);
        }
        if (claim->kind == TREE_WHOLE)
                snprintf(text, sizeof(text), "%d", (int)claim->whole);
        else if (claim->kind == TREE_TRUE || claim->kind == TREE_FALSE)
                snprintf(text, sizeof(text), "%s", claim->kind == TREE_TRUE ? "true" : "false");
        else
                return false;
        return is_any(value) || (plain && fits(value, text, false));
}

static inline bool claim_holds(const struct model_claim *claim, const struct tree *claims)
{
        const struct tree *found = claim_of(claims, claim->path);

        for (size_t v = 0; found && v < claim->values.n; v++) {
                bool list = found->kind == TREE_ARRAY;
                if (!list && claim_is(claim->values.items[v], found))
                        return true;
                for (const struct tree *one = list ? found->first : NULL; one; one = one->next)
                        if (claim_is(claim->values.items[v], one))
                                return true;
        }
        return false;
}

static inline int64_t time_of(const char *text)
{
        for (size_t i = 0; i < COUNT(times); i++)
                if (strcmp(times[i], text) == 0)
                        return time_items[i + 2];
        return 0;
}

static inline bool binding_applies(
        const struct model_binding *binding, const struct policy_caller *caller, int64_t now_ms)
{
        bool subject = !binding->subjects.given, role = !binding->roles_of_token.given;

        if (!str_eq(str_of(binding->issuer), caller->issuer))
                return false;
        for (size_t v = 0; v < binding->subjects.n; v++)
                subject |= fits(binding->subjects.items[v], caller->subject.ptr, false);
        for (size_t v = 0; v < binding->roles_of_token.n; v++)
                for (size_t i = 0; i < caller->n_roles; i++)
                        role |= fits(binding->roles_of_token.items[v], caller->roles[i].ptr, false);
        for (size_t i = 0; i < binding->n_claims; i++)
                if (!claim_holds(&binding->claims[i], caller->claims))
                        return false;
        return subject && role &&
               (!binding->not_before || now_ms >= time_of(binding->not_before)) &&
               (!binding->expires || now_ms < time_of(binding->expires));
}

/* The binding's roles with those they include, each once, in the order in which they are reached.
 */
static inline size_t roles_of(
        const struct model *model, const struct model_binding *binding, size_t list[MOST_ROLES])
{
        bool reached[MOST_ROLES] = {false};
        size_t n = 0;

        for (size_t r = 0; r < binding->n_roles; r++) {
                if (reached[binding->roles[r]])
                        continue;
                size_t next = n;
                reached[binding->roles[r]] = true;
                list[n++] = binding->roles[r];
                for (; next < n; next++) {
                        const struct model_role *role = &model->roles[list[next]];
                        for (size_t i = 0; i < role->n_includes; i++) {
                                if (reached[role->includes[i]])
                                        continue;
                                reached[role->includes[i]] = true;
                                list[n++] = role->includes[i];
                        }
                }
        }
        return n;
}

/* Whether the request has the roles of the binding: it is for its caller, holds now, and the reason
 * is long enough. */
static inline bool binding_gives(const struct model_binding *binding,
        const struct policy_caller *caller, const struct policy_request *request)
{
        return binding_applies(binding, caller, request->now_ms) &&
               request->reason_chars >= binding->glass;
}

/* Ordinary bindings, then break-glass ones, each in file order: the model's numbers of them. */
static inline void binding_order(const struct model *model, size_t order[MOST_BINDINGS])
{
        size_t n = 0;

        for (size_t b = 0; b < model->n_bindings; b++)
                if (!model->bindings[b].glass)
                        order[n++] = b;
        for (size_t b = 0; b < model->n_bindings; b++)
                if (model->bindings[b].glass)
                        order[n++] = b;
}

/* --- the decision --- */

struct reference {
        bool allowed, breaks_glass;
        const struct model_entry *entry; /* NULL: denied because nothing allows it */
        size_t role, binding;
};

static inline struct reference reference_decide(const struct model *model,
        const struct policy_caller *caller, const struct policy_request *request)
{
        size_t order[MOST_BINDINGS];

        binding_order(model, order);
        for (int deny = 1; deny >= 0; deny--) {
                for (size_t o = 0; o < model->n_bindings; o++) {
                        const struct model_binding *binding = &model->bindings[order[o]];
                        size_t list[MOST_ROLES];
                        size_t n = roles_of(model, binding, list);
                        if (!binding_gives(binding, caller, request))
                                continue;
                        for (size_t r = 0; r < n; r++) {
                                const struct model_role *role = &model->roles[list[r]];
                                for (size_t i = 0; i < role->n; i++)
                                        if (role->entries[i].deny == deny &&
                                                entry_decides(model, &role->entries[i], request))
                                                return (struct reference){!deny,
                                                        !deny && binding->glass, &role->entries[i],
                                                        list[r], order[o]};
                        }
                }
        }
        return (struct reference){.allowed = false};
}

/* Of a request that is denied: how many characters of a reason would have it allowed, and by which
 * binding; 0: none would. Lengths at which no binding begins to hold change nothing. */
static inline unsigned reference_glass(const struct model *model,
        const struct policy_caller *caller, const struct policy_request *request, size_t *binding)
{
        struct policy_request with = *request;

        while (++with.reason_chars <= POLICY_GLASS_MOST_BYTES) {
                bool asked_for = false;
                for (size_t b = 0; b < model->n_bindings; b++)
                        asked_for |= model->bindings[b].glass == with.reason_chars;
                if (!asked_for)
                        continue;
                struct reference then = reference_decide(model, caller, &with);
                *binding = then.binding;
                if (then.allowed)
                        return with.reason_chars;
        }
        return 0;
}

/* What policy_doubts says; `credential`: which binding's it is to be asked with. */
static inline unsigned reference_doubts(const struct model *model,
        const struct policy_caller *caller, const struct policy_request *request,
        size_t *credential)
{
        size_t order[MOST_BINDINGS];
        unsigned doubts = 0;

        binding_order(model, order);
        for (size_t o = 0; o < model->n_bindings; o++) {
                const struct model_binding *binding = &model->bindings[order[o]];
                size_t list[MOST_ROLES];
                size_t n = roles_of(model, binding, list);
                if (!binding_gives(binding, caller, request))
                        continue;
                for (size_t r = 0; r < n; r++) {
                        const struct model_role *role = &model->roles[list[r]];
                        for (size_t i = 0; i < role->n; i++) {
                                const struct model_entry *entry = &role->entries[i];
                                unsigned one = entry_leaves_open(model, entry, request);
                                if (entry->deny && !one && entry_decides(model, entry, request))
                                        return 0;
                                if (one && !doubts)
                                        *credential = order[o];
                                doubts |= one;
                        }
                }
        }
        return doubts;
}

#endif
