/*
 * example: a request for an operation, made of what it should touch and say.
 *
 * The catalogue read backwards, for proofs about policies: whoever claims that something is
 * possible shows the request that does it. What is made has to be named again (world/naming.h)
 * before it is believed: not every wish can be spelt.
 */
#ifndef DAGWARD_AZDO_EXAMPLE_H
#define DAGWARD_AZDO_EXAMPLE_H

#include "dagward/azdo/resources.h"

/* Something that the request should name or say. */
struct wish {
        bool is_fact;
        unsigned kind;    /* enum resource_kind; of a fact its kind */
        struct str key;   /* of a fact whose kind is a map */
        struct str value; /* ptr NULL: the request should not name one of that kind */
};

struct example {
        struct str method;
        struct str url;  /* origin form, "/~service" in front unless it is dev.azure.com's */
        struct str body; /* JSON; ptr NULL: none */
};

enum takes {
        TAKES_NONE,
        TAKES_MAYBE,  /* in query or body, or in a part of the path that may be left out */
        TAKES_ALWAYS, /* in its path */
};
/* Whether requests for `op` can name a resource of that kind. */
enum takes operation_takes(const struct operation *op, enum resource_kind kind);
/* Whether they can touch one, named or not: if not, no selector of the kind ever holds for them. */
bool operation_touches(const struct operation *op, enum resource_kind kind);

/* Writes the request into the arena; parameters that no wish is about get any value that fits.
 * False when a wish has no place in requests for `op`, or the arena's ceiling was met. */
bool operation_example(const struct operation *op, const struct wish *wishes, size_t n,
        struct arena *arena, struct example *out) __attribute__((warn_unused_result));

#endif
