/* Policies, callers and requests in few words, for the tests of this module. */
#ifndef DAGWARD_TESTS_POLICY_KIT_H
#define DAGWARD_TESTS_POLICY_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "dagward/policy/policy.h"

/* A binding of everybody of issuer `i` to role `r`, and the role's body. */
#define ONE_ROLE(body)                                                                             \
        "version: 1\n"                                                                             \
        "bindings: [{name: b, callers: {issuer: i}, roles: [r], credential: c}]\n"                 \
        "roles:\n"                                                                                 \
        "  r:\n" body

static inline struct policy *kit_policy(const char *text)
{
        struct error_list errors;

        error_list_init(&errors);
        struct policy *policy = policy_load_text("p.yaml", str_of(text), &errors);
        if (!policy)
                error_list_print(&errors, stderr);
        error_list_clear(&errors);
        assert_non_null(policy);
        return policy;
}

/* "project=analytics pipeline=42 ?ref" (a question mark: one of the kind that is not named). */
/* Claims as a token states them, in the arena, which is set up here; NULL: none. */
static inline const struct tree *kit_claims(const char *text, struct arena *arena)
{
        static const struct tree_bounds most = {16, 1000};

        arena_init(arena, 4096, 1 << 20);
        if (!text)
                return NULL;
        const struct tree *claims = tree_read(str_of(text), &most, arena);
        assert_true(claims && claims->kind == TREE_OBJECT);
        return claims;
}

static inline void kit_resources(const char *text, struct resources *out)
{
        struct str rest = str_of(text);

        *out = (struct resources){0};
        while (rest.len) {
                struct str word, name, value;
                rest = str_cut(rest, ' ', &word);
                bool unnamed = word.len && word.ptr[0] == '?';
                value = str_cut(unnamed ? str_from(word, 1) : word, '=', &name);
                int kind = 0;
                while (kind < RESOURCE_KINDS &&
                        !str_eq(name, str_of(resource_kind_selector((enum resource_kind)kind))))
                        kind++;
                assert_true(kind < RESOURCE_KINDS);
                if (unnamed)
                        out->unresolved[kind] = true;
                else
                        out->items[out->n++] =
                                (struct resource){.kind = (enum resource_kind)kind, .value = value};
        }
}

/* `what` is an operation's id, or "METHOD /path" for one that the catalogue does not know. */
static inline void kit_request(
        const char *what, const struct resources *resources, struct policy_request *out)
{
        struct str method, path = str_cut(str_of(what), ' ', &method);

        *out = (struct policy_request){.resources = resources, .now_ms = 1000};
        if (path.ptr) {
                out->method = method;
                out->path = path;
                return;
        }
        out->op = catalogue_find(method);
        assert_non_null(out->op);
        out->method = str_of(out->op->method);
        out->path = STR("/contoso/somewhere");
}

/* Decides for a caller of issuer `i`. */
static inline struct decision kit_decide_saying(const struct policy *policy, const char *what,
        const char *resources_text, const struct facts *facts)
{
        const struct policy_caller caller = {.issuer = STR("i"), .subject = STR("worker")};
        struct policy_grants *grants = policy_grants_new(policy, &caller);
        struct resources resources;
        struct policy_request request;
        struct decision decision;

        kit_resources(resources_text, &resources);
        kit_request(what, &resources, &request);
        request.facts = facts;
        policy_decide(policy, grants, &request, &decision);
        policy_grants_free(grants);
        return decision;
}

static inline struct decision kit_decide(
        const struct policy *policy, const char *what, const char *resources_text)
{
        return kit_decide_saying(policy, what, resources_text, NULL);
}

#endif
