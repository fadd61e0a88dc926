#include "dagward/azdo/catalogue.h"

#include <assert.h>
#include <string.h>

#include "body.h"
#include "catalogue_table.h"
#include "dagward/azdo/resources.h"

enum { LITERAL_UNSOUGHT = 0xffff, LITERAL_NONE = 0xfffe };
_Static_assert(ROUTE_MAX_SEGMENTS <= 64, "encoded_slash has one bit a segment");

/* A step of the walk: the node reached, and what has been tried from there. */
struct step {
        uint16_t node;
        uint8_t tried; /* 0: nothing, 1: the literal, 2 + child: that child */
        bool has_leaf; /* an alternative tried so far leads to a template of this path */
        bool owned;    /* ... and that was through a literal */
};

struct walk {
        const struct route_query *query;
        struct str segments[ROUTE_MAX_SEGMENTS]; /* as they will be matched */
        uint16_t literals[ROUTE_MAX_SEGMENTS];   /* their numbers as literals, found when needed */
        size_t n;
        uint64_t encoded_slash;
        enum table_method method;
        struct step steps[ROUTE_MAX_SEGMENTS + 1];
        const char **why;
};

struct str route_query_value(const struct route_query *query, struct str name)
{
        for (size_t i = 0; i < query->n_query; i++) {
                if (str_eq_fold(query->query[i].name, name))
                        return query->query[i].value.ptr ? query->query[i].value : STR("");
        }
        return STR_NONE;
}

struct str route_param(const struct route *route, struct str name)
{
        for (size_t i = 0; i < route->n_params; i++) {
                if (str_eq_fold(route->params[i].name, name))
                        return route->params[i].value;
        }
        return STR_NONE;
}

void route_param_write(const struct route *route, size_t i, struct buf *out)
{
        if ((int)i != route->greedy_param) {
                buf_str_add(out, route->params[i].value);
                return;
        }
        for (size_t k = route->greedy_from; k < route->n_segments; k++) {
                if (k > route->greedy_from)
                        buf_char(out, '/');
                buf_str_add(out, route->segments[k]);
        }
}

static bool method_number(struct str method, enum table_method *number)
{
        static const struct str names[METHOD_ANY] = {{"GET", 3}, {"HEAD", 4}, {"POST", 4},
                {"PUT", 3}, {"PATCH", 5}, {"DELETE", 6}, {"OPTIONS", 7}};
        for (unsigned i = 0; i < METHOD_ANY; i++) {
                if (str_eq(method, names[i])) {
                        *number = (enum table_method)i;
                        return true;
                }
        }
        *number = METHOD_ANY;
        return !str_empty(method);
}

bool guid_valid(struct str s)
{
        if (s.len != 36)
                return false;
        for (size_t i = 0; i < 36; i++) {
                char c = char_lower(s.ptr[i]);
                if (i == 8 || i == 13 || i == 18 || i == 23
                                ? c != '-'
                                : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
                        return false;
        }
        return true;
}

bool guid_is_odd(struct str s)
{
        static const char others[] = "-{}()+xX, ";

        if (s.len < 32 || guid_valid(s))
                return false;
        for (size_t i = 0; i < s.len; i++) {
                char c = char_lower(s.ptr[i]);
                if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')) &&
                        !memchr(others, s.ptr[i], sizeof(others) - 1))
                        return false;
        }
        return true;
}

/* One spelling for each number: no sign but minus, no leading zeros, fits 64 bits. */
static bool integer_valid(struct str s)
{
        if (s.len > 1 && s.ptr[0] == '-' && s.ptr[1] != '0')
                s = str_from(s, 1);
        if (s.len == 0 || s.len > 18 || (s.len > 1 && s.ptr[0] == '0'))
                return false;
        for (size_t i = 0; i < s.len; i++) {
                if (s.ptr[i] < '0' || s.ptr[i] > '9')
                        return false;
        }
        return true;
}

static bool child_takes(enum child child, struct str segment)
{
        switch (child) {
        case CHILD_DOLLAR: return segment.len > 1 && segment.ptr[0] == '$';
        case CHILD_AT: return segment.len > 1 && segment.ptr[0] == '@';
        case CHILD_ASMX: return segment.len > 5 && str_ends_fold(segment, STR(".asmx"));
        case CHILD_UUID: return guid_valid(segment);
        case CHILD_INTEGER: return integer_valid(segment);
        case CHILD_NAME: return segment.len > 0 && segment.ptr[0] != '_';
        case CHILD_PAGE: return segment.len > 0 && segment.ptr[0] == '_';
        case CHILD_ANY:
        case CHILD_GREEDY:
        case CHILD_COUNT: return segment.len > 0;
        }
        return false;
}

static uint16_t literal_number(struct walk *walk, size_t i)
{
        if (walk->literals[i] != LITERAL_UNSOUGHT)
                return walk->literals[i];
        struct str segment = walk->segments[i];
        uint32_t slot = str_hash_fold(segment) & table_literal_mask;
        uint16_t number = LITERAL_NONE;
        for (; table_literal_slots[slot]; slot = (slot + 1) & table_literal_mask) {
                uint16_t candidate = (uint16_t)(table_literal_slots[slot] - 1);
                if (str_eq_fold(segment, table_literals[candidate])) {
                        number = candidate;
                        break;
                }
        }
        walk->literals[i] = number;
        return number;
}

static uint16_t node_by_literal(struct walk *walk, const struct trie_node *node, size_t i)
{
        if (node->n_edges == 0)
                return NO_NODE;
        uint16_t number = literal_number(walk, i);
        size_t low = node->first_edge, high = low + node->n_edges;
        while (low < high) {
                size_t middle = (low + high) / 2;
                if (table_edges[middle].literal == number)
                        return table_edges[middle].node;
                if (table_edges[middle].literal < number)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NO_NODE;
}

/* Whether the request or the form's own path gives that query parameter. */
static bool is_given(
        const struct walk *walk, const struct trie_binding *binding, struct str name, bool *empty)
{
        for (size_t i = 0; i < binding->n_segments; i++) {
                uint16_t word = table_forms[binding->form + i];
                if ((word & ~FORM_TEXT) != FORM_LITERAL &&
                        str_eq_fold(table_texts[word & FORM_TEXT], name))
                        return true;
        }
        struct str value = route_query_value(walk->query, name);
        if (value.ptr && value.len == 0)
                *empty = true;
        return value.ptr != NULL;
}

/* How many of its names a discriminator finds, -1 when one is missing. */
static int discriminator_score(const struct walk *walk, const struct trie_binding *binding,
        const struct discriminator *discriminator, bool *empty)
{
        size_t n = 0;
        for (size_t i = 0; i < discriminator->n_present; i++)
                n += is_given(walk, binding, discriminator->present[i], empty);
        if (n < discriminator->n_present)
                return -1;
        if (!discriminator->in_body && discriminator->equals.name.ptr) {
                struct str value = route_query_value(walk->query, discriminator->equals.name);
                return str_eq(value, discriminator->equals.value) ? (int)n : -1;
        }
        return (int)n;
}

/* Of the bindings that the body tells apart, the one that it names. */
static enum route_result choose_by_body(const struct walk *walk,
        const struct trie_binding *const *candidates, size_t n, const struct trie_binding **chosen)
{
        *chosen = candidates[0];
        for (size_t i = 1; i < n; i++) {
                if (table_operations[candidates[i]->operation].access >
                        table_operations[(*chosen)->operation].access)
                        *chosen = candidates[i];
        }
        struct str body = walk->query->body;
        if (!body.ptr)
                return ROUTE_NEEDS_BODY;
        json_t *json = body_parse(body, walk->why);
        if (!json)
                return ROUTE_REFUSED;
        *walk->why = "the body does not say which operation it is";
        enum route_result result = ROUTE_REFUSED;
        for (size_t i = 0; i < n && result == ROUTE_REFUSED; i++) {
                const struct pair *equals =
                        &table_extras[candidates[i]->operation].discriminator->equals;
                const char *value = json_string_value(body_member(json, equals->name, walk->why));
                if (value && str_eq_fold(str_of(value), equals->value)) {
                        *chosen = candidates[i];
                        result = ROUTE_FOUND;
                }
        }
        json_decref(json);
        return result;
}

/* Of bindings of one method on one node, the one that the query or the body means. */
static enum route_result choose(const struct walk *walk,
        const struct trie_binding *const *candidates, size_t n, const struct trie_binding **chosen)
{
        const struct trie_binding *by_body[8];
        size_t n_by_body = 0;
        int best = -1;
        bool tie = false, empty = false;
        for (size_t i = 0; i < n; i++) {
                const struct discriminator *discriminator =
                        table_extras[candidates[i]->operation].discriminator;
                int score = 0;
                if (discriminator)
                        score = discriminator_score(walk, candidates[i], discriminator, &empty);
                if (discriminator && discriminator->in_body && n_by_body < 8)
                        by_body[n_by_body++] = candidates[i];
                if (score > best) {
                        best = score;
                        *chosen = candidates[i];
                        tie = false;
                } else if (score == best && score >= 0) {
                        tie = true;
                }
        }
        if (n_by_body > 0)
                return choose_by_body(walk, by_body, n_by_body, chosen);
        if (empty) {
                *walk->why = "a query parameter that decides the operation is empty";
                return ROUTE_REFUSED;
        }
        if (tie) {
                *walk->why = "the query parameters name two operations at once";
                return ROUTE_REFUSED;
        }
        return best >= 0 ? ROUTE_FOUND : ROUTE_UNKNOWN;
}

/* Of the bindings of a node, the one for the request's method; ROUTE_UNKNOWN when there is none. */
static enum route_result choose_binding(
        const struct walk *walk, const struct trie_node *node, const struct trie_binding **chosen)
{
        enum table_method methods[3] = {walk->method, METHOD_ANY, METHOD_ANY};
        if (walk->method == METHOD_HEAD)
                methods[1] = METHOD_GET;
        const struct trie_binding *candidates[32];
        for (size_t i = 0; i < 3; i++) {
                size_t n = 0;
                for (size_t k = 0; k < node->n_bindings; k++) {
                        const struct trie_binding *binding =
                                &table_bindings[node->first_binding + k];
                        if (binding->method != methods[i])
                                continue;
                        assert(n < 32);
                        candidates[n++] = binding;
                }
                if (n == 1 && !table_extras[candidates[0]->operation].discriminator) {
                        *chosen = candidates[0];
                        return ROUTE_FOUND;
                }
                if (n > 0)
                        return choose(walk, candidates, n, chosen);
        }
        return ROUTE_UNKNOWN;
}

/* Tries what ends here; true: the walk is over. */
static bool try_leaf(struct walk *walk, const struct trie_node *node, size_t depth,
        const struct trie_binding **binding, enum route_result *result)
{
        if (node->n_bindings == 0)
                return false;
        walk->steps[depth].has_leaf = true;
        *result = choose_binding(walk, node, binding);
        return *result != ROUTE_UNKNOWN;
}

/* Moves to the next alternative of the step at `depth`; the node, or NO_NODE. */
static uint16_t next_node(struct walk *walk, size_t depth)
{
        struct step *step = &walk->steps[depth];
        const struct trie_node *node = &table_nodes[step->node];
        if (step->tried == 0) {
                step->tried = 1;
                uint16_t next = node_by_literal(walk, node, depth);
                if (next != NO_NODE)
                        return next;
        }
        /* A template that has this segment as a literal owns the path, whatever its methods. */
        if (step->has_leaf && step->tried <= 2 + CHILD_ASMX)
                step->owned = true;
        while (!step->owned && step->tried <= CHILD_GREEDY) {
                enum child child = (enum child)(step->tried - 1);
                step->tried++;
                if (node->children[child] != NO_NODE && child_takes(child, walk->segments[depth]))
                        return node->children[child];
        }
        return NO_NODE;
}

/* Walks the trie depth first in the order of preference. */
static enum route_result walk_trie(struct walk *walk, const struct trie_binding **binding)
{
        enum route_result result = ROUTE_UNKNOWN;
        size_t depth = 0;
        walk->steps[0] = (struct step){.node = table_roots[walk->query->service]};
        for (;;) {
                if (depth == walk->n) {
                        if (try_leaf(walk, &table_nodes[walk->steps[depth].node], depth, binding,
                                    &result))
                                return result;
                } else {
                        uint16_t next = next_node(walk, depth);
                        if (next != NO_NODE) {
                                walk->steps[++depth] = (struct step){.node = next};
                                continue;
                        }
                        /* Nothing finer fits: what swallows the rest, if it is there. */
                        uint16_t greedy =
                                table_nodes[walk->steps[depth].node].children[CHILD_GREEDY];
                        if (greedy != NO_NODE && !walk->steps[depth].owned &&
                                try_leaf(walk, &table_nodes[greedy], depth, binding, &result))
                                return result;
                }
                if (depth == 0)
                        return ROUTE_UNKNOWN;
                bool has_leaf = walk->steps[depth].has_leaf;
                walk->steps[--depth].has_leaf |= has_leaf;
        }
}

/* npm's scoped names: "@scope/name". */
static bool is_scoped_name(struct str s)
{
        ssize_t slash = str_find(s, '/');
        return s.len > 2 && s.ptr[0] == '@' && slash > 1 && (size_t)slash + 1 < s.len &&
               s.ptr[slash + 1] != '.' && str_find(str_from(s, (size_t)slash + 1), '/') < 0;
}

/* What an encoded slash means in segment `i`: 0: nothing good, 1: it is part of an npm registry's
 * name, 2: the catalogue has two segments there. */
static int encoded_slash_means(const struct route_query *query, size_t i)
{
        if (!is_scoped_name(query->segments[i]))
                return 0;
        for (size_t k = 0; k < i; k++) {
                if (str_eq_fold(query->segments[k], STR("npm")))
                        return k + 1 < i && str_eq_fold(query->segments[k + 1], STR("registry"))
                                       ? 1
                                       : 2;
        }
        return 0;
}

static bool segment_add(struct walk *walk, struct str segment)
{
        if (walk->n == ROUTE_MAX_SEGMENTS)
                return false;
        walk->literals[walk->n] = LITERAL_UNSOUGHT;
        walk->segments[walk->n++] = segment;
        return true;
}

/* Fills the walk's segments; ROUTE_FOUND: go on. */
static enum route_result walk_prepare(struct walk *walk, const struct route_query *query)
{
        size_t n = query->n_segments;
        for (size_t i = 0; i < n && i < ROUTE_MAX_SEGMENTS; i++) {
                struct str segment = query->segments[i];
                if (i == 1 && n > 2 && str_eq_fold(segment, STR("DefaultCollection")))
                        continue;
                if (query->encoded_slash >> i & 1) {
                        int means = encoded_slash_means(query, i);
                        if (means == 0) {
                                *walk->why = "an encoded slash stands where none may";
                                return ROUTE_REFUSED;
                        }
                        if (means == 1) {
                                if (walk->n < ROUTE_MAX_SEGMENTS)
                                        walk->encoded_slash |= UINT64_C(1) << walk->n;
                        } else {
                                struct str scope;
                                segment = str_cut(segment, '/', &scope);
                                if (!segment_add(walk, scope))
                                        return ROUTE_UNKNOWN;
                        }
                }
                if (!segment_add(walk, segment))
                        return ROUTE_UNKNOWN;
        }
        return n > ROUTE_MAX_SEGMENTS ? ROUTE_UNKNOWN : ROUTE_FOUND;
}

/* Reads the path back by the binding's form. */
static void route_fill(
        const struct walk *walk, const struct trie_binding *binding, struct route *route)
{
        route->op = &table_operations[binding->operation];
        route->n_params = 0;
        route->n_segments = walk->n;
        route->encoded_slash = walk->encoded_slash;
        route->greedy_param = -1;
        route->greedy_from = walk->n;
        memcpy(route->segments, walk->segments, walk->n * sizeof(walk->segments[0]));
        for (size_t i = 0; i < binding->n_segments; i++) {
                uint16_t word = table_forms[binding->form + i];
                struct str text = table_texts[word & FORM_TEXT], value = walk->segments[i];
                if ((word & ~FORM_TEXT) == FORM_LITERAL) {
                        route->segments[i] = text;
                        continue;
                }
                if ((word & ~FORM_TEXT) == FORM_PREFIXED)
                        value = str_from(value, 1);
                if ((word & ~FORM_TEXT) == FORM_GREEDY) {
                        route->greedy_param = (int)route->n_params;
                        route->greedy_from = i;
                }
                if (binding->repository && i == binding->repository && value.len > 4 &&
                        str_ends_fold(value, STR(".git"))) {
                        value = str_head(value, value.len - 4);
                        route->segments[i] = value;
                }
                assert(route->n_params < ROUTE_MAX_PARAMS);
                route->params[route->n_params++] = (struct pair){text, value};
        }
}

enum route_result catalogue_match(
        const struct route_query *query, struct route *route, const char **why)
{
        struct walk walk; /* not zeroed as a whole: it is large and this is the fast path */
        walk.query = query;
        walk.n = 0;
        walk.encoded_slash = 0;
        walk.why = why;
        if (!method_number(query->method, &walk.method))
                return ROUTE_UNKNOWN;
        enum route_result result = walk_prepare(&walk, query);
        if (result != ROUTE_FOUND)
                return result;
        const struct trie_binding *binding = NULL;
        result = walk_trie(&walk, &binding);
        if (result == ROUTE_UNKNOWN && query->encoded_slash) {
                *why = "an encoded slash stands where none may";
                return ROUTE_REFUSED;
        }
        if (result != ROUTE_FOUND && result != ROUTE_NEEDS_BODY)
                return result;
        if (walk.encoded_slash && !table_extras[binding->operation].encoded_slash) {
                *why = "an encoded slash stands where none may";
                return ROUTE_REFUSED;
        }
        route_fill(&walk, binding, route);
        return result;
}

enum route_result catalogue_match_anywhere(
        struct route_query *query, struct route *route, const char **why)
{
        enum route_result result = catalogue_match(query, route, why);
        /* Of an encoded slash, that nothing has a place for it is all that is known yet. */
        bool open = result == ROUTE_UNKNOWN || (result == ROUTE_REFUSED && query->encoded_slash);

        for (unsigned s = 0; open && s < SERVICE_COUNT; s++) {
                struct route_query other = *query;
                struct route found;
                const char *why_there = NULL;
                if (s == SERVICE_DEV)
                        continue;
                other.service = (enum service)s;
                enum route_result there = catalogue_match(&other, &found, &why_there);
                if (there != ROUTE_FOUND && there != ROUTE_NEEDS_BODY)
                        continue;
                query->service = other.service;
                *route = found;
                *why = why_there;
                return there;
        }
        return result;
}
