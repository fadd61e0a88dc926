#include "walk.h"

#include <assert.h>

#include "body.h"

void walk_begin(struct walk *walk, const json_t *body, struct str place, const char **why)
{
        walk->steps[0] = (struct walk_step){.json = body, .rest = place};
        walk->depth = 0;
        walk->ended = false;
        walk->key = STR("");
        walk->why = why;
}

static bool refuse_shape(struct walk *walk, const json_t *json, const char *why)
{
        if (json_is_null(json))
                return true;
        *walk->why = why;
        return false;
}

/* The next part of the body below the step, NULL: none is left; `rest` becomes what follows. */
static bool step_next(
        struct walk *walk, struct walk_step *at, const json_t **next, struct str *rest)
{
        *next = NULL;
        *rest = at->rest;
        if (str_starts(*rest, STR("[]"))) {
                *rest = str_from(*rest, str_starts(*rest, STR("[].")) ? 3 : 2);
                if (!json_is_array(at->json))
                        return at->next++ > 0 || refuse_shape(walk, at->json,
                                                         "the body is not the list it should be");
                *next = json_array_get(at->json, at->next++);
                return true;
        }
        if (at->next > 0 && !at->member)
                return true;
        ssize_t dot = str_find(*rest, '.'), bracket = str_find(*rest, '[');
        size_t end = dot < 0 ? rest->len : (size_t)dot;
        if (bracket >= 0 && (size_t)bracket < end)
                end = (size_t)bracket;
        struct str name = str_head(*rest, end);
        *rest = str_from(*rest, end + (dot >= 0 && (size_t)dot == end));
        if (!json_is_object(at->json))
                return at->next++ > 0 ||
                       refuse_shape(walk, at->json, "the body is not the object it should be");
        if (str_eq(name, STR("*"))) {
                json_t *object = (json_t *)at->json;
                at->member = at->next++ ? json_object_iter_next(object, at->member)
                                        : json_object_iter(object);
                *next = at->member ? json_object_iter_value(at->member) : NULL;
                if (at->member)
                        walk->key = str_of(json_object_iter_key(at->member));
                return true;
        }
        at->next++;
        *walk->why = NULL;
        *next = body_member(at->json, name, walk->why);
        return *walk->why == NULL;
}

bool walk_next(struct walk *walk, const json_t **found)
{
        *found = NULL;
        while (!walk->ended) {
                const json_t *next;
                struct str rest;
                if (!step_next(walk, &walk->steps[walk->depth], &next, &rest))
                        return false;
                if (next && str_empty(rest)) {
                        *found = next;
                        return true;
                }
                if (next) {
                        assert(walk->depth + 1 < WALK_MOST_STEPS);
                        walk->steps[++walk->depth] = (struct walk_step){.json = next, .rest = rest};
                } else if (walk->depth-- == 0) {
                        walk->ended = true;
                }
        }
        return true;
}

struct str walk_leaf(struct str place)
{
        while (str_ends(place, STR("[]")) || str_ends(place, STR(".*")))
                place = str_head(place, place.len - 2);
        for (size_t i = place.len; i > 0; i--)
                if (place.ptr[i - 1] == '.')
                        return str_from(place, i);
        return place;
}
