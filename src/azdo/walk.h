/*
 * walk: the parts of a JSON body that stand at a place (private to azdo).
 *
 * A place is member names (case ignored) joined by dots; `[]` stands for each element of an array,
 * `*` for each member of an object. Depth first, in the order of the body.
 */
#ifndef DAGWARD_AZDO_WALK_H
#define DAGWARD_AZDO_WALK_H

#include <jansson.h>

#include "dagward/base/str.h"

enum { WALK_MOST_STEPS = 12 };

/* One step along the place: into a member, or over the elements of an array or object. */
struct walk_step {
        const json_t *json;
        struct str rest; /* of the place, from here on */
        size_t next;     /* element to visit, when json is to be walked as an array */
        void *member;    /* the one to visit, when json is to be walked as an object */
};

struct walk {
        struct walk_step steps[WALK_MOST_STEPS];
        size_t depth;
        bool ended;
        struct str key; /* of the member that `*` stood for last; a view into the body */
        const char **why;
};

void walk_begin(struct walk *walk, const json_t *body, struct str place, const char **why);
/* The next part that stands there, NULL: there is none left. False with `*why`: the body is not of
 * the shape that the place needs. */
bool walk_next(struct walk *walk, const json_t **found);
/* The last member of a place, without `[]`. */
struct str walk_leaf(struct str place);

#endif
