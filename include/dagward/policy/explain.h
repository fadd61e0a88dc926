/*
 * policy explain: why a request is allowed or denied, and what would have to change.
 *
 * Looks at every binding and every entry that could have mattered, with each selector's value and
 * what the request has there. Slow and thorough; the answer is policy_decide's own.
 */
#ifndef DAGWARD_POLICY_EXPLAIN_H
#define DAGWARD_POLICY_EXPLAIN_H

#include "dagward/base/buf.h"
#include "dagward/policy/policy.h"

enum policy_state { STATE_MET, STATE_FAILED, STATE_UNSURE };

/* One selector of an entry, or one condition of a binding. */
struct policy_condition {
        struct str selector;     /* "pipelines", "subject" */
        struct str wanted;       /* the values of the file: "42, nightly-load" */
        struct str actual;       /* what the request or caller has: "99", "nothing" */
        enum policy_state state; /* STATE_UNSURE: cannot be known; counts as met on a deny, as
                                    failed on an allow */
};

/* A binding as it is for this caller. */
struct policy_binding_view {
        struct str name;
        struct str place; /* file:line */
        struct str credential;
        bool applies; /* all conditions met, time included */
        struct policy_condition *conditions;
        size_t n_conditions;
        size_t n_failed;
};

/* An entry of a role. */
struct policy_entry_view {
        struct str rule; /* file:line */
        struct str role;
        struct str binding; /* the first that gives the role and applies; else the nearest one */
        enum effect effect;
        bool held;    /* the caller has the role now */
        bool matches; /* all selectors hold */
        struct policy_condition *conditions;
        size_t n_conditions;
        size_t n_failed;
};

/* Everything in it lives in the arena it was made with, or in the policy. */
struct policy_explanation {
        struct decision decision;
        struct str caller, request, resources; /* one line each */
        struct policy_binding_view *bindings;  /* those that apply first, then nearest first */
        size_t n_bindings;
        /* Entries that are about this operation, those of roles that are held first, then those
         * with fewest failed conditions; at most POLICY_EXPLAIN_ENTRIES. */
        struct policy_entry_view *entries;
        size_t n_entries;
        size_t entries_left_out;
        struct str change; /* what would have to change for the opposite answer; a few lines */
};

enum { POLICY_EXPLAIN_ENTRIES = 20, POLICY_EXPLAIN_BINDINGS = 20 };

/* Explains. False when the arena's ceiling was met. */
bool policy_explain(const struct policy *policy, const struct policy_caller *caller,
        const struct policy_request *request, struct arena *arena, struct policy_explanation *out)
        __attribute__((warn_unused_result));
/* The explanation for a terminal. */
void policy_explanation_text(const struct policy_explanation *explanation, struct buf *out);
/* For a comment on a pull request. */
void policy_explanation_markdown(const struct policy_explanation *explanation, struct buf *out);
/* As one JSON object. */
void policy_explanation_json(const struct policy_explanation *explanation, struct buf *out);

#endif
