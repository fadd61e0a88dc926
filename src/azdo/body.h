/*
 * body: JSON bodies as far as they decide what a request is and touches (private to azdo).
 *
 * Member names are compared with ASCII case ignored, as upstream does; so two members whose names
 * differ only in case are as ambiguous as duplicates.
 */
#ifndef DAGWARD_AZDO_BODY_H
#define DAGWARD_AZDO_BODY_H

#include <jansson.h>

#include "dagward/base/str.h"

enum { BODY_MOST_DEPTH = 64 };

/* The parsed text (free with json_decref), or NULL with `*why`: not JSON, duplicate members,
 * members that Json.NET takes for references ($ref, $values), nested more than BODY_MOST_DEPTH
 * deep. */
json_t *body_parse(struct str text, const char **why);
/* The member of that name: NULL when there is none, or with `*why` set when there are two. */
json_t *body_member(const json_t *object, struct str name, const char **why);
/* Step `i` of a JSON Patch (RFC 6902) and its path, a view into it. NULL: there are no more steps,
 * or with `*why` set, it is no patch, one whose path may be read in two ways, or one
 * whose value stands elsewhere (copy, move). */
const json_t *body_patch_step(const json_t *patch, size_t i, struct str *path, const char **why);
/* Whether one of the two paths leads to something within the other. */
bool body_patch_overlaps(struct str a, struct str b);

#endif
