/* facts, inside azdo: gathered beside the resources of a request. */
#ifndef DAGWARD_AZDO_FACTS_INSIDE_H
#define DAGWARD_AZDO_FACTS_INSIDE_H

#include <jansson.h>

#include "dagward/azdo/facts.h"
#include "dagward/base/arena.h"

/* Gathers what the request says: `*facts` in the arena, or NULL when that is nothing. `body_read`:
 * the body has been read, and is `body`, or empty if that is NULL. False with `*why`: 400. */
bool facts_gather(const struct route *route, const struct route_query *query, bool body_read,
        const json_t *body, struct arena *arena, struct facts **facts, const char **why)
        __attribute__((warn_unused_result));
/* Where requests for an operation say a fact. */
struct fact_place {
        struct str where;
        unsigned source; /* enum source of catalogue_table.h */
        bool is_text;    /* a text there holds the object whose members are meant */
        bool in_value;   /* the value stands in a member `value` */
        bool is_zeros;   /* zeros say `true` */
};
/* The first place; false: it cannot say it. */
bool fact_place(const struct operation *op, unsigned kind, struct fact_place *out);
/* Whether a guarded fact is said by leaving a member out. */
bool facts_say_by_silence(const struct operation *op);
/* Whether `text` begins with the name of a member that says a guarded fact. */
bool facts_may_begin(const struct operation *op, struct str text);

#endif
