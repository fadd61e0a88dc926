/*
 * policy diff: what a change of policy makes possible, and what it stops.
 *
 * Tries every operation with every combination of what the entries of either policy name: each
 * value, an example of each pattern, something that nobody names (a name, a number and a GUID), and
 * nothing where it may be left out; likewise for what `where` and `claimed` speak of, and a moment
 * for each way in which windows of time hold or do not. Each is
 * written as a request, named as the proxy names it, and decided by both policies: nothing is
 * reported that is not so decided. A request names one of each kind.
 *
 * Who asks is each role by itself (with those it includes), and each binding that gives several.
 * What else differs between bindings is told in words.
 */
#ifndef DAGWARD_POLICY_DIFF_H
#define DAGWARD_POLICY_DIFF_H

#include "dagward/policy/tests.h"

/* Requests of one operation that changed in the same way. Good during the callback only. */
struct policy_change {
        bool now_allowed;
        struct str subject;            /* "role etl-operator", "binding `production workers`" */
        const struct operation *op;    /* NULL: unknown to the catalogue */
        struct str old_rule, new_rule; /* the entries that decided, file:line; empty: none */
        const struct policy_question *example;
        struct str touches; /* by the example: "project analytics, pipeline 42" */
        size_t n;           /* how many were tried that changed so */
};

/* An entry that is in one policy only, and what it does to some operations hinges on what upstream
 * says of a name or an id: which pipeline a build ran, in which folder a pipeline is. */
struct policy_unsure {
        struct str subject, rule;
        bool is_new;                /* the entry is in the new policy */
        const struct operation *op; /* the first of them */
        size_t n;                   /* how many there are */
};

struct policy_diff_options {
        policy_namer namer;
        void *context;
        void (*changed)(void *owner, const struct policy_change *change);
        /* `old` or `new_one` empty: the binding is only in the other policy. */
        void (*binding_changed)(void *owner, struct str name, struct str old, struct str new_one);
        void (*unsure)(void *owner, const struct policy_unsure *unsure);
        void *owner;
        size_t most; /* requests are tried; 0: as many as there are */
};

struct policy_diff_counts {
        size_t allowed, denied; /* changes reported */
        size_t bindings;        /* likewise */
        size_t requests;        /* decided by both */
        size_t unfinished;      /* operations, of each subject, with combinations left untried */
        size_t unsure;          /* entries told of as such */
        size_t untried;         /* operations of which no request could be made */
};

struct policy_diff_counts policy_diff(const struct policy *old, const struct policy *new_one,
        const struct policy_diff_options *options);

#endif
