/*
 * json: the one way this module reads JSON from outside.
 *
 * One object in UTF-8, no duplicate members, no NUL in strings, nothing behind it; depth and number
 * of values are bounded before the parser runs, because the parser recurses.
 */
#ifndef DAGWARD_SRC_TOKEN_JSON_H
#define DAGWARD_SRC_TOKEN_JSON_H

#include <jansson.h>

#include "dagward/base/str.h"

/* The object, or NULL. Never says why: a reason would quote the input. */
json_t *json_read_object(struct str text, size_t most_depth, size_t most_values);
/* A string member's bytes; ptr NULL when it is absent or no string. */
struct str json_str_member(const json_t *object, const char *name);
/* The bytes of a JSON string; ptr NULL when `value` is NULL or no string. */
struct str json_str(const json_t *value);

#endif
