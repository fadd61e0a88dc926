#include "dagward/azdo/resources.h"

#include <jansson.h>

#include "body.h"
#include "catalogue_table.h"
#include "facts.h"
#include "resource_rows.h"
#include "row_flags.h"
#include "walk.h"

#define ROW(operations, source, where, kind, flags)                                                \
        {operations, {where, sizeof(where) - 1}, SOURCE_##source, RESOURCE_##kind, flags},
#define TOUCHES(operations, kind)
static const struct gather_row rows[] = {
#include "resources.def"
};

static const struct {
        const char *name, *selector;
} kinds[RESOURCE_KINDS] = {
        [RESOURCE_ORGANIZATION] = {"organization", "organizations"},
        [RESOURCE_PROJECT] = {"project", "projects"},
        [RESOURCE_TEAM] = {"team", "teams"},
        [RESOURCE_PIPELINE] = {"pipeline", "pipelines"},
        [RESOURCE_BUILD] = {"build", "builds"},
        [RESOURCE_RELEASE] = {"release", "releases"},
        [RESOURCE_REPOSITORY] = {"repository", "repositories"},
        [RESOURCE_FEED] = {"feed", "feeds"},
        [RESOURCE_ENVIRONMENT] = {"environment", "environments"},
        [RESOURCE_WORK_ITEM] = {"work item", "workItems"},
        [RESOURCE_WORK_ITEM_TYPE] = {"work item type", "workItemTypes"},
        [RESOURCE_REF] = {"ref", "refs"},
};

/* What kind of name a value is: only values of one class can be compared. */
enum value_class { VALUE_NAME, VALUE_NUMBER, VALUE_GUID, VALUE_CLASSES };

struct gatherer {
        const struct route *route;
        const struct route_query *query;
        struct arena *arena;
        struct resources *out;
        const char **why;
        struct str single[RESOURCE_KINDS][VALUE_CLASSES]; /* from rows without ALSO */
        unsigned hidden;  /* bit k: kind k is touched beyond what is named */
        unsigned told;    /* bit k: and which one, others that are named tell */
        unsigned follows; /* bit k: the same, whatever else names one */
        unsigned main;    /* bit k: a row with MAIN gave one */
        unsigned aside;   /* bit k: a row with ASIDE gave one */
        unsigned named;   /* bit k: a row without it did */
        unsigned n_work_items;
};

const struct gather_row *gather_row(size_t place)
{
        return &rows[place];
}

const char *resource_kind_name(enum resource_kind kind)
{
        return kinds[kind].name;
}

const char *resource_kind_selector(enum resource_kind kind)
{
        return kinds[kind].selector;
}

unsigned operation_body_kinds(const struct operation *op)
{
        return table_extras[op->index].body_kinds;
}

bool operation_reads_body(const struct operation *op)
{
        return operation_body_kinds(op) != 0;
}

unsigned operation_veiled_kinds(const struct operation *op)
{
        const struct operation_extra *extra = &table_extras[op->index];
        unsigned named = 0;

        for (size_t i = 0; i < extra->n_rows; i++) {
                const struct gather_row *row = &rows[extra->rows[i]];
                if (row->source < SOURCE_BODY || (row->flags & ROW_VEILS))
                        continue;
                named |= 1U << row->kind;
                if (row->kind == RESOURCE_REPOSITORY) /* its id says of which project it is */
                        named |= 1U << RESOURCE_PROJECT;
        }
        /* A quick look at the text finds guarded facts too. */
        return extra->body_kinds & ~named & ~(unsigned)BODY_FACTS;
}

unsigned operation_open_kinds(const struct operation *op)
{
        const struct operation_extra *extra = &table_extras[op->index];
        unsigned open = 0;

        for (size_t i = 0; i < extra->n_rows; i++) {
                const struct gather_row *row = &rows[extra->rows[i]];
                if (row->source == SOURCE_PATH && (row->flags & ROW_VEILS))
                        open |= 1U << row->kind;
        }
        return open;
}

/* Moves `*text` to the next text in double quotes, or to its end. False: something stands before it
 * that is no JSON, and that Json.NET may read all the same: a name in single quotes or in none, a
 * comment. */
static bool skip_to_text(struct str *text)
{
        static const char plain[] = " \t\r\n{}[]:,+-.0123456789eE";
        static const struct str words[] = {{"true", 4}, {"false", 5}, {"null", 4}};

        while (text->len && text->ptr[0] != '"') {
                size_t n = memchr(plain, text->ptr[0], sizeof(plain) - 1) ? 1 : 0;
                for (size_t i = 0; !n && i < sizeof(words) / sizeof(words[0]); i++)
                        if (str_starts(*text, words[i]))
                                n = words[i].len;
                if (!n)
                        return false;
                *text = str_from(*text, n);
        }
        return true;
}

/* Whether a text that begins so may be the name of something that veils. */
static bool begins_veil(const struct operation *op, struct str text)
{
        const struct operation_extra *extra = &table_extras[op->index];

        if (!text.len || !(extra->veil_letters >> (text.ptr[0] & 0x1f) & 1))
                return false;
        for (size_t i = 0; i < extra->n_rows; i++) {
                const struct gather_row *row = &rows[extra->rows[i]];
                if (row->source == SOURCE_BODY && (row->flags & ROW_VEILS) &&
                        str_starts_fold(text, walk_leaf(row->where)))
                        return true;
        }
        return facts_may_begin(op, text);
}

bool body_may_veil(const struct operation *op, struct str body)
{
        if (facts_say_by_silence(op))
                return body.len > 0;
        /* An escape, or an encoding of more than one byte a letter, could hide a name. */
        if (str_find(body, '\\') >= 0 || str_find(body, '\0') >= 0)
                return true;
        if (str_starts(body, STR("\xEF\xBB\xBF"))) /* the mark of UTF-8 */
                body = str_from(body, 3);
        while (skip_to_text(&body)) {
                if (!body.len)
                        return false;
                body = str_from(body, 1);
                ssize_t end = str_find(body, '"');
                if (end < 0 || begins_veil(op, body))
                        return true;
                body = str_from(body, (size_t)end + 1);
        }
        return true;
}

unsigned resources_implied_by(const struct resources *resources, unsigned wanted)
{
        static const unsigned from[RESOURCE_KINDS] = {
                [RESOURCE_PIPELINE] = 1U << RESOURCE_BUILD,
                [RESOURCE_REF] = 1U << RESOURCE_BUILD,
                [RESOURCE_PROJECT] = 1U << RESOURCE_REPOSITORY | 1U << RESOURCE_PIPELINE |
                                     1U << RESOURCE_BUILD | 1U << RESOURCE_FEED |
                                     1U << RESOURCE_ENVIRONMENT | 1U << RESOURCE_TEAM |
                                     1U << RESOURCE_WORK_ITEM,
        };
        unsigned sources = 0;

        for (unsigned k = 0; k < RESOURCE_KINDS; k++)
                if ((wanted & resources->implied) >> k & 1)
                        sources |= from[k];
        return sources & ~resources->aside;
}

struct str resources_first(const struct resources *resources, enum resource_kind kind)
{
        for (size_t i = 0; i < resources->n; i++) {
                if (resources->items[i].kind == kind)
                        return resources->items[i].value;
        }
        return STR_NONE;
}

static bool refuse(struct gatherer *gatherer, const char *why)
{
        *gatherer->why = why;
        return false;
}

static enum value_class class_of(struct str value, bool number)
{
        if (guid_valid(value))
                return VALUE_GUID;
        if (!number)
                return VALUE_NAME;
        for (size_t i = 0; i < value.len; i++) {
                if (value.ptr[i] < '0' || value.ptr[i] > '9')
                        return VALUE_NAME;
        }
        return VALUE_NUMBER;
}

/* Spellings that upstream may read as a number that is spelt otherwise in a rule. */
static bool number_is_odd(struct str value)
{
        bool digits = false;

        /* .NET's converters take hexadecimal numbers behind any of these. */
        if (value.ptr[0] == '#' || str_starts_fold(value, STR("0x")) ||
                str_starts_fold(value, STR("&h")))
                return true;
        for (size_t i = 0; i < value.len; i++) {
                char c = value.ptr[i];
                if (c >= '0' && c <= '9')
                        digits = true;
                else if (i > 0 || (c != '+' && c != '-'))
                        return false; /* a name */
        }
        return digits &&
               (value.ptr[0] < '0' || value.len > 18 || (value.len > 1 && value.ptr[0] == '0'));
}

bool resources_add(struct resources *resources, enum resource_kind kind, struct str value,
        const struct identity *known)
{
        for (size_t i = 0; i < resources->n; i++) {
                struct resource *item = &resources->items[i];
                if (item->kind == kind && str_eq_fold(item->value, value)) {
                        if (!item->known)
                                item->known = known;
                        /* Refs differ in case. */
                        if (kind != RESOURCE_REF || str_eq(item->value, value))
                                return true;
                }
        }
        if (resources->n == RESOURCES_MAX)
                return false;
        resources->items[resources->n++] =
                (struct resource){.kind = kind, .value = value, .known = known};
        return true;
}

static bool add_item(struct gatherer *gatherer, const struct gather_row *row, struct str value)
{
        struct resources *out = gatherer->out;
        size_t n = out->n;

        if (!resources_add(out, (enum resource_kind)row->kind, value, NULL))
                return refuse(gatherer, "the request names too many resources");
        if (out->n > n)
                out->items[n].beside_path = row->source != SOURCE_PATH || (row->flags & ROW_PAIR);
        return true;
}

static bool is_some_guid(struct str value)
{
        return guid_valid(value) || guid_is_odd(value);
}

/* Leaves the repository of a pair of project and repository. False: it is no pair. */
static bool cut_pair(struct str *value)
{
        struct str project, repository = str_cut(str_trim_wide(*value), '.', &project);

        if (!repository.ptr || !is_some_guid(project) || !is_some_guid(repository))
                return false;
        *value = repository;
        return true;
}

/* Whether the value is an id of a repository, in any form that .NET reads: enough to find it,
 * whatever project stands in front. */
static bool finds_repository(const struct gather_row *row, struct str value)
{
        value = str_trim_wide(value);
        return row->kind == RESOURCE_REPOSITORY && !(row->flags & ROW_ASIDE) &&
               (row->source != SOURCE_QUERY || (row->flags & ROW_FINDS)) && is_some_guid(value);
}

/* It stays open which work items are touched, and whose. */
static bool leave_open(struct gatherer *gatherer)
{
        gatherer->hidden |= 1U << RESOURCE_WORK_ITEM | 1U << RESOURCE_PROJECT;
        return true;
}

/* Takes one value as the row says. */
static bool add_value(struct gatherer *gatherer, const struct gather_row *row, struct str value)
{
        enum resource_kind kind = (enum resource_kind)row->kind;
        value = str_trim(value);
        if (row->flags & ROW_FEED)
                str_cut(value, '@', &value);
        if (str_empty(value))
                return true;
        if ((row->flags & ROW_NUMBER) && number_is_odd(value))
                return refuse(gatherer, "an id is not written as a plain number");
        if ((row->flags & ROW_REF) && str_trim_wide(value).len != value.len)
                return refuse(gatherer, "the name of a ref has a blank at an end");
        if ((row->flags & ROW_REF) && !str_starts(value, STR("refs/"))) {
                value = arena_printf(gatherer->arena, "refs/%.*s", STR_FMT(value));
                if (!value.ptr)
                        return refuse(gatherer, "the request names too much");
        }
        if (!(row->flags & ROW_ALSO)) {
                enum value_class class = class_of(value, row->flags & ROW_NUMBER);
                struct str *single = &gatherer->single[kind][class];
                bool same =
                        kind == RESOURCE_REF ? str_eq(*single, value) : str_eq_fold(*single, value);
                if (single->ptr && !same)
                        return refuse(
                                gatherer, "two parts of the request name different resources");
                *single = value;
        }
        *(row->flags & ROW_ASIDE ? &gatherer->aside : &gatherer->named) |= 1U << kind;
        if (kind == RESOURCE_WORK_ITEM && ++gatherer->n_work_items > WORK_ITEMS_MOST)
                return leave_open(gatherer);
        return add_item(gatherer, row, value);
}

static bool add_values(struct gatherer *gatherer, const struct gather_row *row, struct str value)
{
        if ((row->flags & ROW_PAIR) && !cut_pair(&value))
                return true;
        if ((row->flags & ROW_VEILS) && !str_empty(str_trim(value)))
                gatherer->hidden |= 1U << row->kind;
        if (row->flags & ROW_DEFERS)
                gatherer->out->deferred |= 1U << row->kind;
        if ((row->flags & ROW_FOLLOWS) && !str_empty(str_trim(value)))
                gatherer->follows |= 1U << row->kind;
        if (row->flags & (ROW_VEILS | ROW_DEFERS | ROW_FOLLOWS))
                return true;
        if (finds_repository(row, value))
                gatherer->follows |= 1U << RESOURCE_PROJECT;
        if ((row->flags & ROW_MAIN) && !str_empty(str_trim(value)))
                gatherer->main |= 1U << row->kind;
        if (row->flags & ROW_HIDES)
                gatherer->told |= 1U << RESOURCE_PIPELINE;
        if (!(row->flags & ROW_LIST))
                return add_value(gatherer, row, value);
        while (value.ptr) {
                struct str item;
                value = str_cut(value, ',', &item);
                if (!add_value(gatherer, row, item))
                        return false;
        }
        return true;
}

static bool add_fallback(struct gatherer *gatherer, const struct gather_row *row, struct str value)
{
        enum resource_kind kind = (enum resource_kind)row->kind;
        /* A GUID is not the name that the two share. */
        if ((gatherer->named >> kind & 1) || guid_valid(value))
                return true;
        return add_value(gatherer, row, value);
}

static bool gather_path(struct gatherer *gatherer, const struct gather_row *row)
{
        const struct route *route = gatherer->route;
        for (size_t i = 0; i < route->n_params; i++) {
                if (!str_eq_fold(route->params[i].name, row->where))
                        continue;
                struct str value = route->params[i].value;
                if ((int)i == route->greedy_param) {
                        struct buf whole;
                        buf_init(&whole, 8192);
                        route_param_write(route, i, &whole);
                        value = whole.overflow ? STR_NONE
                                               : arena_copy(gatherer->arena, buf_str(&whole));
                        buf_clear(&whole);
                        if (!value.ptr)
                                return refuse(gatherer, "the request names too much");
                }
                if (row->flags & ROW_FALLBACK)
                        return add_fallback(gatherer, row, value);
                return add_values(gatherer, row, value);
        }
        return true;
}

/* A scalar that stands where a row of the table looks. */
static bool add_json(struct gatherer *gatherer, const struct gather_row *row, const json_t *json)
{
        struct str value;

        if (json_is_null(json))
                return true;
        if ((row->flags & ROW_VEILS) && !json_is_string(json)) {
                gatherer->hidden |= 1U << row->kind;
                return true;
        }
        if (json_is_string(json))
                value = arena_copy(gatherer->arena,
                        str_view(json_string_value(json), json_string_length(json)));
        else if (json_is_integer(json))
                value = arena_printf(
                        gatherer->arena, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
        else
                return refuse(gatherer, "a resource in the body is neither text nor an integer");
        if (!value.ptr)
                return refuse(gatherer, "the request names too much");
        if (!str_utf8_valid(value) || memchr(value.ptr, '\0', value.len))
                return refuse(gatherer, "a resource in the body is not plain text");
        return add_values(gatherer, row, value);
}

static bool names_guid(const json_t *json)
{
        return json_is_string(json) && guid_valid(str_of(json_string_value(json)));
}

/* What lies upstream of a feed. Where an id is missing, Azure DevOps looks for the feed by its
 * address, whatever the other ids are. */
static bool gather_upstream(
        struct gatherer *gatherer, const struct gather_row *row, const json_t *source)
{
        static const char *const ids[] = {
                "internalUpstreamCollectionId", "internalUpstreamFeedId", "internalUpstreamViewId"};
        size_t n = 0;

        *gatherer->why = NULL;
        const json_t *location = body_member(source, STR("location"), gatherer->why);
        for (size_t i = 0; !*gatherer->why && i < sizeof(ids) / sizeof(ids[0]); i++)
                n += names_guid(body_member(source, str_of(ids[i]), gatherer->why));
        if (*gatherer->why)
                return false;
        struct str text = json_is_string(location) ? str_of(json_string_value(location)) : STR("");
        if (n < sizeof(ids) / sizeof(ids[0]) && location && !json_is_null(location) &&
                !str_starts_fold(text, STR("https://")) && !str_starts_fold(text, STR("http://")))
                gatherer->hidden |= 1U << row->kind;
        return true;
}

/* Takes every scalar that stands at the row's place. */
static bool gather_body(struct gatherer *gatherer, const struct gather_row *row, const json_t *body)
{
        const json_t *found;
        struct walk walk;

        walk_begin(&walk, body, row->where, gatherer->why);
        while (walk_next(&walk, &found)) {
                if (!found)
                        return true;
                if (row->flags & ROW_UPSTREAM ? !gather_upstream(gatherer, row, found)
                                              : !add_json(gatherer, row, found))
                        return false;
        }
        return false;
}

/* A link of a work item. One to another work item shows there, too. `below`: the rest of the path.
 */
static bool gather_link(struct gatherer *gatherer, const struct gather_row *row, const json_t *step,
        struct str below)
{
        static const char *const others[] = {"AttachedFile", "Hyperlink", "ArtifactLink"};
        uint64_t number;

        /* What reaches into a link may turn it to another. */
        struct str place, part, inside = str_cut(below, '/', &place);
        if (inside.ptr) {
                str_cut(inside, '/', &part);
                return str_eq_fold(part, STR("attributes")) || leave_open(gatherer);
        }
        *gatherer->why = NULL;
        const json_t *value = body_member(step, STR("value"), gatherer->why);
        const json_t *rel = *gatherer->why ? NULL : body_member(value, STR("rel"), gatherer->why);
        const json_t *url = *gatherer->why ? NULL : body_member(value, STR("url"), gatherer->why);
        if (*gatherer->why)
                return false;
        for (size_t i = 0; json_is_string(rel) && i < sizeof(others) / sizeof(others[0]); i++)
                if (str_eq_fold(str_of(json_string_value(rel)), str_of(others[i])))
                        return true;
        if (json_is_null(url) || (!rel && !url))
                return true;
        struct str id = json_is_string(url) ? str_of(json_string_value(url)) : STR("");
        for (ssize_t slash; (slash = str_find(id, '/')) >= 0;)
                id = str_from(id, (size_t)slash + 1);
        if (!str_to_u64(id, &number))
                return leave_open(gatherer);
        gatherer->follows |= 1U << RESOURCE_PROJECT;
        id = arena_copy(gatherer->arena, id);
        return id.ptr ? add_value(gatherer, row, id)
                      : refuse(gatherer, "the request names too much");
}

#define FIELDS "/fields/"

/* What a JSON Patch sets at the row's path. */
static bool gather_patch(
        struct gatherer *gatherer, const struct gather_row *row, const json_t *body)
{
        const json_t *step;
        struct str path;

        for (size_t i = 0; (step = body_patch_step(body, i, &path, gatherer->why)); i++) {
                if (body_patch_overlaps(path, row->where))
                        return refuse(
                                gatherer, "a step of the patch sets more, or less, than one field");
                if (str_starts_fold(path, STR(FIELDS)) && str_find(path, '.') < 0)
                        return refuse(gatherer,
                                "a step of the patch names a field otherwise than by its reference "
                                "name (such as System.Title)");
                if (row->flags & ROW_LINK) {
                        struct str above = str_head(row->where, row->where.len - 1);
                        struct str below = str_from(path, above.len);
                        if (str_starts_fold(path, above) &&
                                !gather_link(gatherer, row, step, below))
                                return false;
                        continue;
                }
                if (!str_eq_fold(path, row->where))
                        continue;
                const json_t *value = body_member(step, STR("value"), gatherer->why);
                if (!value)
                        return refuse(gatherer, "a step of the patch has no value of its own");
                if (!add_json(gatherer, row, value))
                        return false;
        }
        return !*gatherer->why;
}

/* The kinds whose main row gave nothing. */
static unsigned kinds_without_main(const struct gatherer *gatherer)
{
        const struct operation_extra *extra = &table_extras[gatherer->route->op->index];
        unsigned missing = 0;

        for (size_t i = 0; i < extra->n_rows; i++)
                if (rows[extra->rows[i]].flags & ROW_MAIN)
                        missing |= 1U << rows[extra->rows[i]].kind;
        return missing & ~gatherer->main;
}

static bool gather_rows(struct gatherer *gatherer, const json_t *body)
{
        const struct operation_extra *extra = &table_extras[gatherer->route->op->index];
        for (size_t i = 0; i < extra->n_rows; i++) {
                const struct gather_row *row = &rows[extra->rows[i]];
                struct str value;
                switch ((enum source)row->source) {
                case SOURCE_PATH:
                        if (!gather_path(gatherer, row))
                                return false;
                        break;
                case SOURCE_QUERY:
                        value = route_query_value(gatherer->query, row->where);
                        if (value.ptr && !add_values(gatherer, row, value))
                                return false;
                        break;
                case SOURCE_BODY:
                        if (body && !gather_body(gatherer, row, body))
                                return false;
                        break;
                case SOURCE_PATCH:
                        if (body && !gather_patch(gatherer, row, body))
                                return false;
                        break;
                }
        }
        return true;
}

bool resources_gather(const struct route *route, const struct route_query *query, struct str body,
        struct arena *arena, struct resources *resources, struct facts **facts, const char **why)
{
        const struct operation_extra *extra = &table_extras[route->op->index];
        struct gatherer gatherer = {
                .route = route, .query = query, .arena = arena, .out = resources, .why = why};
        resources->n = 0;
        resources->deferred = resources->implied = 0;
        json_t *json = NULL;
        if (extra->body_kinds && body.ptr && str_trim(body).len > 0) {
                json = body_parse(body, why);
                if (!json)
                        return false;
        }
        bool gathered = gather_rows(&gatherer, json) &&
                        facts_gather(route, query, body.ptr != NULL, json, arena, facts, why);
        json_decref(json);
        if (!gathered)
                return false;
        gatherer.hidden |= kinds_without_main(&gatherer);
        resources->aside = gatherer.aside & ~gatherer.named;
        for (unsigned k = 0; k < RESOURCE_KINDS; k++) {
                bool aside = resources->aside >> k & 1;
                bool named = gatherer.named >> k & 1;
                bool unread = !body.ptr && (extra->body_kinds >> k & 1);
                bool hidden = unread || (gatherer.hidden >> k & 1);
                bool told = (gatherer.told >> k & 1) || (!named && (extra->touches >> k & 1));
                bool follows = !hidden && !aside && (gatherer.follows >> k & 1);
                resources->unresolved[k] = hidden || told || aside || follows;
                if (follows || (told && !hidden))
                        resources->implied |= 1U << k;
        }
        return true;
}
