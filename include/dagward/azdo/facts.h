/*
 * facts: what a request says beside the resources it touches.
 *
 * Run parameters, vote, status, "bypass the policies": parts of body and query that a policy may
 * put conditions on. The rows of src/azdo/facts.def say which part of which operation is which
 * fact; the names are stable, policies are written with them (`where:` in docs/policy.md).
 */
#ifndef DAGWARD_AZDO_FACTS_H
#define DAGWARD_AZDO_FACTS_H

#include "dagward/azdo/catalogue.h"

struct fact_kind {
        const char *name; /* "templateParameters": as in policies */
        bool is_map;      /* each fact has a key: the parameter's name */
        bool is_guarded;  /* raises the stakes: an allow entry that does not name it does not cover
                           * it
                           */
        const char *summary;
};

/* All kinds. A fact's `kind` is a place in it. */
const struct fact_kind *facts_all(size_t *n);
/* The kind of that name (letter case counts). */
bool fact_named(struct str name, unsigned *kind);
/* Whether requests for `op` can say it. */
bool operation_has_fact(const struct operation *op, unsigned kind);

struct fact {
        unsigned kind;
        struct str key;   /* "" unless the kind is a map */
        struct str value; /* text as it is; numbers, booleans and structures as compact JSON. ptr
                             NULL: nobody knows it, only a record that it was said is left */
};

enum { FACTS_MAX = 128 };

struct facts {
        struct fact *items;
        size_t n, cap; /* at most FACTS_MAX */
        bool unread;   /* the body, which could say more, has not been read */
};

/* Whether the fact is one that has to be named, and says more than "no". */
bool fact_is_grave(const struct fact *fact);

/* Bits beside those of enum resource_kind in operation_body_kinds: the body may say facts, and
 * guarded ones. Such bodies are worth reading when a rule has conditions on facts, or always. */
enum { BODY_FACTS = 1 << 14, BODY_GUARDED_FACTS = 1 << 15 };

#endif
