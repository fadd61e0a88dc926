#include "dagward/azdo/example.h"

#include <jansson.h>
#include <stdlib.h>

#include "catalogue_table.h"
#include "facts.h"
#include "resource_rows.h"
#include "walk.h"

enum { MOST_BYTES = 64 * 1024 };

struct making {
        const struct operation *op;
        const struct operation_extra *extra;
        const struct wish *wishes;
        size_t n;
        struct buf *path, *query;
        json_t *body; /* NULL: nothing is in it yet */
};

/* RFC 3986 2.3: everything but the unreserved characters is encoded. */
static void add_encoded(struct buf *out, struct str text)
{
        for (size_t i = 0; i < text.len; i++) {
                unsigned char c = (unsigned char)text.ptr[i];
                if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                        c == '-' || c == '.' || c == '_' || c == '~')
                        buf_char(out, (char)c);
                else
                        buf_printf(out, "%%%02X", c);
        }
}

static const struct wish *resource_wish(const struct making *m, unsigned kind)
{
        for (size_t i = 0; i < m->n; i++)
                if (!m->wishes[i].is_fact && m->wishes[i].kind == kind)
                        return &m->wishes[i];
        return NULL;
}

/* The kind of resource that a path parameter names, or -1. */
static int param_kind(const struct operation *op, struct str name)
{
        const struct operation_extra *extra = &table_extras[op->index];

        for (size_t i = 0; i < extra->n_rows; i++) {
                const struct gather_row *row = gather_row(extra->rows[i]);
                if (row->source == SOURCE_PATH && !(row->flags & ROW_NAMES_NONE) &&
                        str_eq_fold(row->where, name))
                        return row->kind;
        }
        return -1;
}

/* The row by which a request is to name one of the kind; a place in the path before any other. */
static const struct gather_row *row_for(const struct operation *op, unsigned kind)
{
        const struct operation_extra *extra = &table_extras[op->index];
        const struct gather_row *best = NULL;

        for (size_t i = 0; i < extra->n_rows; i++) {
                const struct gather_row *row = gather_row(extra->rows[i]);
                if (row->kind != kind || row->flags & ROW_NAMES_NONE)
                        continue;
                if (row->source == SOURCE_PATH) {
                        char param[80];
                        snprintf(param, sizeof(param), "{%.*s}", STR_FMT(row->where));
                        if (!strstr(op->path, param) && !strstr(op->path, "{*"))
                                continue;
                        return row;
                }
                if (!best || row->source > best->source)
                        best = row;
        }
        return best;
}

enum takes operation_takes(const struct operation *op, enum resource_kind kind)
{
        const struct gather_row *row = row_for(op, kind);

        if (!row)
                return TAKES_NONE;
        bool may_be_left_out = kind == RESOURCE_PROJECT || kind == RESOURCE_TEAM;
        return row->source == SOURCE_PATH && !may_be_left_out ? TAKES_ALWAYS : TAKES_MAYBE;
}

bool operation_touches(const struct operation *op, enum resource_kind kind)
{
        const struct operation_extra *extra = &table_extras[op->index];

        if ((extra->touches | extra->body_kinds) >> kind & 1)
                return true;
        for (size_t i = 0; i < extra->n_rows; i++)
                if (gather_row(extra->rows[i])->kind == kind)
                        return true;
        return false;
}

/* A parameter that no wish is about: anything of its type. */
static struct str free_value(struct str name, char type)
{
        if (str_eq(name, STR("organization")))
                return STR("contoso");
        if (str_eq(name, STR("project")) && type == 't')
                return STR("analytics");
        if (str_eq(name, STR("page"))) /* that is how a page is told from a team */
                return STR("_x1");
        return type == 'i'   ? STR("7")
               : type == 'u' ? STR("6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c")
                             : STR("x1");
}

static void write_path(struct making *m)
{
        const char *path = m->op->path, *type = m->extra->types;

        if (m->op->service != SERVICE_DEV)
                buf_printf(m->path, "/~%s", service_name(m->op->service));
        while (*path) {
                if (*path != '{') {
                        buf_char(m->path, *path++);
                        continue;
                }
                size_t len = strcspn(path, "}");
                const char *from = path + 1 + (path[1] == '*');
                struct str name = str_view(from, (size_t)(path + len - from));
                path += len + (path[len] == '}');
                char one = *type++;
                int kind = param_kind(m->op, name);
                const struct wish *wish = kind < 0 ? NULL : resource_wish(m, (unsigned)kind);
                if (wish && wish->value.ptr) {
                        add_encoded(m->path, wish->value);
                } else if (wish && m->path->len && m->path->data[m->path->len - 1] == '/') {
                        m->path->len--; /* the part of the path is left out */
                } else {
                        buf_str_add(m->path, free_value(name, one));
                }
        }
}

static void add_query(struct making *m, struct str name, struct str value)
{
        buf_char(m->query, m->query->len ? '&' : '?');
        add_encoded(m->query, name);
        buf_char(m->query, '=');
        add_encoded(m->query, value);
}

/* Puts `leaf` (taken over) where `place` says, below *at; see walk.h for places. */
static void put(json_t **at, struct str place, struct str key, json_t *leaf)
{
        struct str step, rest;

        if (!place.len) {
                json_decref(*at);
                *at = leaf;
                return;
        }
        if (str_starts(place, STR("[]"))) {
                rest = str_from(place, 2);
                if (rest.len && rest.ptr[0] == '.')
                        rest = str_from(rest, 1);
                if (!json_is_array(*at)) {
                        json_decref(*at);
                        *at = json_array();
                }
                json_t *item = json_incref(json_array_get(*at, 0));
                put(&item, rest, key, leaf);
                if (json_array_size(*at))
                        json_array_set_new(*at, 0, item);
                else
                        json_array_append_new(*at, item);
                return;
        }
        size_t n = 0;
        while (n < place.len && place.ptr[n] != '.' && place.ptr[n] != '[')
                n++;
        step = str_head(place, n);
        rest = str_from(place, n < place.len && place.ptr[n] == '.' ? n + 1 : n);
        if (str_eq(step, STR("*")))
                step = key.len ? key : STR("x");
        if (!json_is_object(*at)) {
                json_decref(*at);
                *at = json_object();
        }
        json_t *member = json_incref(json_object_getn(*at, step.ptr, step.len));
        put(&member, rest, key, leaf);
        json_object_setn_new(*at, step.ptr, step.len, member);
}

static json_t *scalar(struct str value, bool number)
{
        uint64_t n;

        if (number && str_to_u64(value, &n))
                return json_integer((json_int_t)n);
        return json_stringn(value.ptr, value.len);
}

static void add_step(struct making *m, struct str where, struct str key, struct str value)
{
        bool open = where.len && where.ptr[where.len - 1] == '*';
        struct buf path;

        buf_init(&path, MOST_BYTES);
        buf_str_add(&path, open ? str_head(where, where.len - 1) : where);
        if (open)
                buf_str_add(&path, key.len ? key : STR("x"));
        if (!json_is_array(m->body)) {
                json_decref(m->body);
                m->body = json_array();
        }
        json_array_append_new(m->body, json_pack("{s:s, s:s%, s:s%}", "op", "add", "path",
                                               path.data, path.len, "value", value.ptr, value.len));
        buf_clear(&path);
}

static void add_resource(struct making *m, const struct gather_row *row, struct str value)
{
        switch ((enum source)row->source) {
        case SOURCE_PATH: break; /* written already */
        case SOURCE_QUERY: add_query(m, row->where, value); break;
        case SOURCE_PATCH: add_step(m, row->where, STR_NONE, value); break;
        case SOURCE_BODY:
                put(&m->body, row->where, STR_NONE, scalar(value, row->flags & ROW_NUMBER));
                break;
        }
}

static bool add_fact(struct making *m, const struct wish *wish)
{
        struct fact_place place;

        if (!fact_place(m->op, wish->kind, &place))
                return false;
        switch (place.source) {
        case SOURCE_PATH: return false;
        case SOURCE_QUERY: add_query(m, place.where, wish->value); return true;
        case SOURCE_PATCH: add_step(m, place.where, wish->key, wish->value); return true;
        case SOURCE_BODY: break;
        }
        if (place.is_zeros && str_eq(wish->value, STR("false")))
                return true;
        json_t *value = place.is_zeros ? json_string("0000000000000000000000000000000000000000")
                                       : json_stringn(wish->value.ptr, wish->value.len);
        if (place.is_text) {
                json_t *object = json_object();
                json_object_setn_new(object, wish->key.ptr, wish->key.len, value);
                char *text = json_dumps(object, JSON_COMPACT);
                value = json_string(text ? text : "");
                free(text);
                json_decref(object);
        } else if (place.in_value) {
                value = json_pack("{s:o}", "value", value);
        }
        put(&m->body, place.where, wish->key, value);
        return true;
}

static void add_discriminator(struct making *m)
{
        const struct discriminator *d = m->extra->discriminator;

        if (!d)
                return;
        for (size_t i = 0; i < d->n_present; i++)
                add_query(m, d->present[i], STR("1"));
        if (d->equals.name.ptr && d->in_body)
                put(&m->body, d->equals.name, STR_NONE, scalar(d->equals.value, false));
        else if (d->equals.name.ptr)
                add_query(m, d->equals.name, d->equals.value);
}

/* What is not in the path. */
static bool add_wishes(struct making *m)
{
        for (size_t i = 0; i < m->n; i++) {
                const struct wish *wish = &m->wishes[i];
                if (!wish->value.ptr)
                        continue;
                if (wish->is_fact) {
                        if (!add_fact(m, wish))
                                return false;
                        continue;
                }
                const struct gather_row *row = row_for(m->op, wish->kind);
                if (!row)
                        return false;
                add_resource(m, row, wish->value);
        }
        return true;
}

/* A ref that is named is set to something, unless a wish says otherwise: without it, it goes. */
static void add_object(struct making *m)
{
        struct fact_place place;
        size_t n;

        (void)facts_all(&n);
        for (unsigned kind = 0; m->body && kind < n; kind++) {
                const json_t *found = NULL;
                const char *why = "";
                struct walk walk;
                if (!fact_place(m->op, kind, &place) || !place.is_zeros)
                        continue;
                walk_begin(&walk, m->body, place.where, &why);
                if (walk_next(&walk, &found) && !found)
                        put(&m->body, place.where, STR_NONE,
                                json_string("1111111111111111111111111111111111111111"));
        }
}

static bool finish(struct making *m, struct arena *arena, struct example *out)
{
        char *body = m->body ? json_dumps(m->body, JSON_COMPACT) : NULL;

        out->method = str_eq(str_of(m->op->method), STR("*")) ? STR("GET") : str_of(m->op->method);
        out->url = arena_printf(arena, "%.*s%.*s", (int)m->path->len, m->path->data,
                (int)m->query->len, m->query->len ? m->query->data : "");
        out->body = body ? arena_copy(arena, str_of(body)) : STR_NONE;
        bool good = out->url.ptr && (!body || out->body.ptr);
        free(body);
        return good && !m->path->overflow && !m->query->overflow;
}

bool operation_example(const struct operation *op, const struct wish *wishes, size_t n,
        struct arena *arena, struct example *out)
{
        struct buf path, query;
        struct making m = {.op = op,
                .extra = &table_extras[op->index],
                .wishes = wishes,
                .n = n,
                .path = &path,
                .query = &query};

        buf_init(&path, MOST_BYTES);
        buf_init(&query, MOST_BYTES);
        write_path(&m);
        add_discriminator(&m);
        bool good = add_wishes(&m);
        add_object(&m);
        good = good && finish(&m, arena, out);
        json_decref(m.body);
        buf_clear(&path);
        buf_clear(&query);
        return good;
}
