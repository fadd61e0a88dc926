#include "facts.h"

#include <stdlib.h>

#include "body.h"
#include "catalogue_table.h"
#include "walk.h"

#define VALUES false
#define MAP true
#define OPEN false
#define GUARDED true
#define NAME(name, shape, guard, summary) {#name, shape, guard, summary},
#define FACT(operations, source, where, name, flags)
static const struct fact_kind kinds[] = {
#include "facts.def"
};
#undef NAME
#undef FACT
#define NAME(name, shape, guard, summary) FACT_##name,
#define FACT(operations, source, where, name, flags)
enum {
#include "facts.def"
        FACT_KINDS
};
#undef NAME
#undef FACT
enum fact_flags { TEXT = 1, VALUE = 2, ZEROS = 4, SQUASH = 8 };
#define NAME(name, shape, guard, summary)
#define FACT(operations, source, where, name, flags)                                               \
        {{where, sizeof(where) - 1}, SOURCE_##source, FACT_##name, flags},
static const struct fact_row {
        struct str where;
        unsigned char source, kind, flags;
} rows[] = {
#include "facts.def"
};

const struct fact_kind *facts_all(size_t *n)
{
        *n = FACT_KINDS;
        return kinds;
}

bool fact_named(struct str name, unsigned *kind)
{
        for (unsigned i = 0; i < FACT_KINDS; i++) {
                if (str_eq(name, str_of(kinds[i].name))) {
                        *kind = i;
                        return true;
                }
        }
        return false;
}

bool operation_has_fact(const struct operation *op, unsigned kind)
{
        const struct operation_extra *extra = &table_extras[op->index];

        for (size_t i = 0; i < extra->n_facts; i++)
                if (rows[extra->facts[i]].kind == kind)
                        return true;
        return false;
}

bool fact_place(const struct operation *op, unsigned kind, struct fact_place *out)
{
        const struct operation_extra *extra = &table_extras[op->index];

        for (size_t i = 0; i < extra->n_facts; i++) {
                const struct fact_row *row = &rows[extra->facts[i]];
                if (row->kind != kind)
                        continue;
                *out = (struct fact_place){row->where, row->source, row->flags & TEXT,
                        row->flags & VALUE, row->flags & ZEROS};
                return true;
        }
        return false;
}

bool fact_is_grave(const struct fact *fact)
{
        return kinds[fact->kind].is_guarded && !str_eq_fold(fact->value, STR("false")) &&
               !str_eq_fold(fact->value, STR("none"));
}

bool facts_say_by_silence(const struct operation *op)
{
        const struct operation_extra *extra = &table_extras[op->index];

        for (size_t i = 0; i < extra->n_facts; i++)
                if (rows[extra->facts[i]].flags & ZEROS)
                        return true;
        return false;
}

bool facts_may_begin(const struct operation *op, struct str text)
{
        const struct operation_extra *extra = &table_extras[op->index];

        for (size_t i = 0; i < extra->n_facts; i++) {
                const struct fact_row *row = &rows[extra->facts[i]];
                if (row->source == SOURCE_BODY && kinds[row->kind].is_guarded &&
                        str_starts_fold(text, walk_leaf(row->where)))
                        return true;
        }
        return false;
}

struct gatherer {
        struct arena *arena;
        struct facts **facts;
        const char **why;
};

static bool refuse(struct gatherer *gatherer, const char *why)
{
        *gatherer->why = why;
        return false;
}

enum { FEW = 8 };

/* The list, as soon as there is something to say. */
static struct facts *list(struct gatherer *gatherer)
{
        if (!*gatherer->facts)
                *gatherer->facts = arena_alloc(gatherer->arena, sizeof(struct facts));
        return *gatherer->facts;
}

static bool make_room(struct gatherer *gatherer, struct facts *facts)
{
        size_t cap = facts->cap ? facts->cap * 2 : FEW;

        if (facts->n < facts->cap)
                return true;
        struct fact *items =
                cap > FACTS_MAX ? NULL : arena_alloc(gatherer->arena, cap * sizeof(*items));
        if (!items)
                return false;
        if (facts->n)
                memcpy(items, facts->items, facts->n * sizeof(*items));
        facts->items = items;
        facts->cap = cap;
        return true;
}

static bool add(struct gatherer *gatherer, unsigned kind, struct str key, struct str value)
{
        struct facts *facts = list(gatherer);

        if (!facts || !key.ptr || !value.ptr || !make_room(gatherer, facts))
                return refuse(gatherer, "the request says too much to be judged");
        facts->items[facts->n++] = (struct fact){kind, key, value};
        return true;
}

/* Text as it is, anything else as compact JSON. */
static struct str shown(struct gatherer *gatherer, const json_t *json)
{
        if (!json)
                return STR("");
        if (json_is_string(json))
                return arena_copy(gatherer->arena,
                        str_view(json_string_value(json), json_string_length(json)));
        char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
        struct str copy = text ? arena_copy(gatherer->arena, str_of(text)) : STR_NONE;
        free(text);
        return copy;
}

/* No object: zeros, or nothing at all. */
static bool is_zeros(const json_t *json)
{
        if (!json_is_string(json))
                return json_is_null(json) ||
                       (json_is_integer(json) && json_integer_value(json) == 0);
        struct str text = str_trim(str_of(json_string_value(json)));
        while (str_starts(text, STR("0")))
                text = str_from(text, 1);
        return text.len == 0;
}

/* What upstream converts to false. */
static bool is_no(const json_t *json)
{
        return json_is_null(json) || json_is_false(json) ||
               (json_is_integer(json) && json_integer_value(json) == 0) ||
               (json_is_string(json) &&
                       str_eq_fold(str_trim_wide(str_of(json_string_value(json))), STR("false")));
}

static bool add_json(
        struct gatherer *gatherer, const struct fact_row *row, struct str key, const json_t *json)
{
        if (row->flags & ZEROS)
                return !is_zeros(json) || add(gatherer, row->kind, STR(""), STR("true"));
        if (row->flags & SQUASH)
                return is_no(json) || add(gatherer, row->kind, STR(""), STR("squash"));
        if ((row->flags & VALUE) && json_is_object(json)) {
                *gatherer->why = NULL;
                json = body_member(json, STR("value"), gatherer->why);
                if (*gatherer->why)
                        return false;
        }
        if (json_is_null(json) && !kinds[row->kind].is_map)
                return true; /* as if it were not there */
        return add(gatherer, row->kind, kinds[row->kind].is_map ? key : STR(""),
                shown(gatherer, json));
}

/* The members of an object that is written as text. */
static bool add_text(struct gatherer *gatherer, const struct fact_row *row, const json_t *json)
{
        struct str text = json_is_string(json) ? str_of(json_string_value(json)) : STR("");
        json_t *parsed = NULL;
        bool good = true;
        const char *key;
        json_t *value;

        if (json_is_null(json) || (json_is_string(json) && !str_trim(text).len))
                return true;
        if (json_is_string(json) && !(parsed = body_parse(text, gatherer->why)))
                return false;
        const json_t *object = parsed ? parsed : json;
        if (!json_is_object(object) && !json_is_null(object))
                good = refuse(
                        gatherer, "a text in the body does not hold the JSON object it should");
        json_object_foreach((json_t *)object, key, value)
        {
                struct str copy = arena_copy(gatherer->arena, str_of(key));
                good = good && add_json(gatherer, row, copy, value);
        }
        json_decref(parsed);
        return good;
}

static bool gather_body(struct gatherer *gatherer, const struct fact_row *row, const json_t *body)
{
        const json_t *found;
        struct walk walk;
        size_t n = 0;

        walk_begin(&walk, body, row->where, gatherer->why);
        for (; walk_next(&walk, &found); n++) {
                /* To Json.NET what is left out is what is null. */
                if (!found)
                        return !(row->flags & ZEROS) || n == json_array_size(body) ||
                               add(gatherer, row->kind, STR(""), STR("true"));
                struct str key = arena_copy(gatherer->arena, walk.key);
                if (row->flags & TEXT ? !add_text(gatherer, row, found)
                                      : !add_json(gatherer, row, key, found))
                        return false;
        }
        return false;
}

/* What the steps of a JSON Patch (RFC 6902) are about, below the row's path. */
static bool gather_patch(struct gatherer *gatherer, const struct fact_row *row, const json_t *body)
{
        struct str above = str_head(row->where, row->where.len - 1); /* without the `*` */
        const json_t *step;
        struct str path;

        for (size_t i = 0; (step = body_patch_step(body, i, &path, gatherer->why)); i++) {
                if (str_eq_fold(path, str_head(above, above.len - 1)))
                        return refuse(gatherer, "a step of the patch sets several things at once");
                if (!str_starts_fold(path, above))
                        continue;
                const json_t *value = body_member(step, STR("value"), gatherer->why);
                if (*gatherer->why)
                        return false;
                struct str key = arena_copy(gatherer->arena, str_from(path, above.len));
                if (!add_json(gatherer, row, key, value))
                        return false;
        }
        return !*gatherer->why;
}

bool facts_gather(const struct route *route, const struct route_query *query, bool body_read,
        const json_t *body, struct arena *arena, struct facts **facts, const char **why)
{
        const struct operation_extra *extra = &table_extras[route->op->index];
        struct gatherer gatherer = {arena, facts, why};

        *facts = NULL;
        for (size_t i = 0; i < extra->n_facts; i++) {
                const struct fact_row *row = &rows[extra->facts[i]];
                if (row->source == SOURCE_QUERY) {
                        struct str value = route_query_value(query, row->where);
                        if (value.ptr && !add(&gatherer, row->kind, STR(""), value))
                                return false;
                } else if (!body_read) {
                        if (!list(&gatherer))
                                return refuse(&gatherer, "the request says too much to be judged");
                        (*facts)->unread = true;
                } else if (body &&
                           (row->source == SOURCE_PATCH ? !gather_patch(&gatherer, row, body)
                                                        : !gather_body(&gatherer, row, body))) {
                        return false;
                }
        }
        return true;
}
