#include <stdlib.h>

#include "make_catalogue.h"

enum { TEXT_SLOTS = 1 << 13, LITERAL_SLOTS = 1 << 12 };

/* A set of texts, numbered in the order of their coming. */
struct texts {
        const char **items;
        size_t n;
        uint16_t slots[TEXT_SLOTS]; /* number + 1 */
};

static struct texts texts, literals;
static uint16_t *forms;
static size_t n_forms;
static struct build_node *nodes;
static size_t n_nodes;
static unsigned roots[SERVICE_COUNT];

static unsigned intern(struct texts *set, const char *text)
{
        uint32_t slot = str_hash_fold(str_of(text)) % TEXT_SLOTS;
        for (; set->slots[slot]; slot = (slot + 1) % TEXT_SLOTS) {
                unsigned number = set->slots[slot] - 1U;
                if (strcmp(set->items[number], text) == 0)
                        return number;
        }
        if (set->n + 1 >= TEXT_SLOTS)
                fail("too many texts");
        set->items = grow(set->items, set->n, sizeof(set->items[0]));
        set->items[set->n++] = str_dup(str_of(text));
        set->slots[slot] = (uint16_t)set->n;
        return (unsigned)set->n - 1;
}

static unsigned intern_folded(const char *text)
{
        char folded[128];
        size_t length = strlen(text);
        if (length >= sizeof(folded))
                fail("the literal \"%s\" is too long", text);
        for (size_t i = 0; i <= length; i++)
                folded[i] = char_lower(text[i]);
        return intern(&literals, folded);
}

static unsigned node_new(void)
{
        nodes = grow(nodes, n_nodes, sizeof(nodes[0]));
        memset(&nodes[n_nodes], 0, sizeof(nodes[0]));
        return (unsigned)n_nodes++;
}

static unsigned node_by_literal(unsigned node, unsigned literal)
{
        for (size_t i = 0; i < nodes[node].n_edges; i++) {
                if (nodes[node].edges[i].literal == literal)
                        return nodes[node].edges[i].node;
        }
        unsigned added = node_new();
        struct build_node *from = &nodes[node];
        from->edges = grow(from->edges, from->n_edges, sizeof(from->edges[0]));
        from->edges[from->n_edges++] = (struct build_edge){literal, added};
        return added;
}

static unsigned node_by_child(unsigned node, enum child child)
{
        if (!nodes[node].children[child]) {
                unsigned added = node_new();
                nodes[node].children[child] = added;
        }
        return nodes[node].children[child];
}

/* One template, taken apart. */
struct form {
        const struct source_operation *op;
        char *segments[MOST_SEGMENTS];
        size_t n;
        enum rank rank;
};

static void form_split(struct form *form, const char *path)
{
        form->n = 0;
        struct str rest = str_of(path);
        while (rest.ptr) {
                struct str segment;
                rest = str_cut(rest, '/', &segment);
                if (str_empty(segment))
                        continue;
                if (form->n == MOST_SEGMENTS)
                        fail("%s: too many segments", form->op->id);
                form->segments[form->n++] = str_dup(segment);
        }
}

/* The name of the parameter that a segment is, and what stands before and behind the braces; false
 * for a literal. */
static bool parameter_of(const char *segment, char name[64], char *before, const char **behind)
{
        const char *open = strchr(segment, '{');
        if (!open)
                return false;
        const char *close = strchr(open, '}');
        if (!close || open - segment > 1 || close - open > 60)
                fail("the segment \"%s\" is not understood", segment);
        snprintf(name, 64, "%.*s", (int)(close - open - 1), open + 1);
        *before = open > segment ? segment[0] : '\0';
        *behind = close + 1;
        return true;
}

static bool is_greedy(const struct source_operation *op, const char *name)
{
        /* A resource's name spans no segments, whatever the template upstream would swallow. */
        return strcmp(text_of(op->json, "greedy"), name) == 0 && strcmp(name, "projectId") != 0;
}

static enum child child_of(
        const struct source_operation *op, const char *name, char before, const char *behind)
{
        const char *type = text_of(json_object_get(op->json, "param_types"), name);
        if (before)
                return before == '$'   ? CHILD_DOLLAR
                       : before == '@' ? CHILD_AT
                                       : (fail("%s: prefix %c", op->id, before), CHILD_ANY);
        if (*behind) {
                if (strcmp(behind, ".asmx") != 0)
                        fail("%s: suffix %s", op->id, behind);
                return CHILD_ASMX;
        }
        if (strcmp(type, "uuid") == 0)
                return CHILD_UUID;
        if (strcmp(type, "integer") == 0)
                return CHILD_INTEGER;
        if (strcmp(name, "organization") == 0 || strcmp(name, "project") == 0 ||
                strcmp(name, "team") == 0)
                return CHILD_NAME;
        if (strncmp(op->id, "portal.", 7) == 0)
                return CHILD_PAGE;
        return CHILD_ANY;
}

/* Whether two operations that end at one node are told apart by their discriminators. */
static bool told_apart(unsigned a, unsigned b)
{
        const json_t *da = json_object_get(operations[a].json, "discriminator");
        const json_t *db = json_object_get(operations[b].json, "discriminator");
        if (!da || !db)
                return false;
        static const char *const keys[] = {"query_present", "query_equals", "body_equals"};
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
                json_t *va = json_object_get(da, keys[i]), *vb = json_object_get(db, keys[i]);
                if (!va != !vb || (va && !json_equal(va, vb)))
                        return true;
        }
        return false;
}

static void bind(unsigned node, const struct build_binding *binding)
{
        struct build_node *at = &nodes[node];
        for (size_t i = 0; i < at->n_bindings; i++) {
                struct build_binding *old = &at->bindings[i];
                if (old->operation == binding->operation) {
                        if (binding->rank < old->rank)
                                *old = *binding;
                        return;
                }
                if (old->method == binding->method &&
                        !told_apart(old->operation, binding->operation))
                        fail("%s and %s cannot be told apart", operations[old->operation].id,
                                operations[binding->operation].id);
        }
        at->bindings = grow(at->bindings, at->n_bindings, sizeof(at->bindings[0]));
        at->bindings[at->n_bindings++] = *binding;
}

static void add_form_word(unsigned text, unsigned how)
{
        if (text > FORM_TEXT)
                fail("too many texts");
        forms = grow(forms, n_forms, sizeof(forms[0]));
        forms[n_forms++] = (uint16_t)(text | how);
}

static void form_insert(const struct form *form)
{
        struct build_binding binding = {.operation = form->op->index,
                .form = (unsigned)n_forms,
                .n_segments = (unsigned)form->n,
                .method = form->op->method,
                .rank = form->rank};
        size_t first = form->op->any_service ? 0 : form->op->service;
        size_t last = form->op->any_service ? SERVICE_COUNT - 1 : form->op->service;
        for (size_t service = first; service <= last; service++) {
                unsigned node = roots[service];
                for (size_t i = 0; i < form->n; i++) {
                        char name[64], before;
                        const char *behind;
                        unsigned how = FORM_LITERAL;
                        if (!parameter_of(form->segments[i], name, &before, &behind)) {
                                node = node_by_literal(node, intern_folded(form->segments[i]));
                        } else if (is_greedy(form->op, name) ||
                                   strcmp(text_of(form->op->json, "tail"), name) == 0) {
                                node = node_by_child(node, CHILD_GREEDY);
                                how = FORM_GREEDY;
                        } else {
                                node = node_by_child(
                                        node, child_of(form->op, name, before, behind));
                                how = before ? FORM_PREFIXED : FORM_PARAM;
                                if (strcmp(name, "repository") == 0 &&
                                        strncmp(form->op->id, "gitHttp.", 8) == 0)
                                        binding.repository = (unsigned)i;
                        }
                        if (service == first)
                                add_form_word(intern(&texts, how == FORM_LITERAL ? form->segments[i]
                                                                                 : name),
                                        how);
                }
                bind(node, &binding);
        }
}

/* Whether the segment is a parameter that may be left out. */
static bool may_be_absent(const struct source_operation *op, const char *segment)
{
        char name[64], before;
        const char *behind;
        if (!parameter_of(segment, name, &before, &behind))
                return false;
        if (listed(op->json, "optional", name))
                return true;
        /* The root of a package index or of OData. */
        return strcmp(name, "rest") == 0 && is_greedy(op, name) &&
               strcmp(text_of(op->json, "access"), "read") == 0;
}

/* Inserts the template with every legal choice of absent parameters. */
static void insert_choices(const struct form *full)
{
        size_t optional[MOST_SEGMENTS], n = 0;
        for (size_t i = 0; i < full->n; i++) {
                if (may_be_absent(full->op, full->segments[i]))
                        optional[n++] = i;
        }
        if (n > 4)
                fail("%s: too many optional parameters", full->op->id);
        for (unsigned absent = 0; absent < 1U << n; absent++) {
                struct form form = {.op = full->op, .rank = full->rank};
                bool legal = true;
                for (size_t i = 0, k = 0; i < full->n; i++) {
                        bool gone = k < n && optional[k] == i && (absent >> k & 1);
                        /* Of neighbours the right one goes first: /{project}/{team}. */
                        if (gone && k + 1 < n && optional[k + 1] == i + 1 &&
                                !(absent >> (k + 1) & 1))
                                legal = false;
                        if (k < n && optional[k] == i)
                                k++;
                        if (!gone)
                                form.segments[form.n++] = full->segments[i];
                }
                if (!legal)
                        continue;
                if (absent && form.rank == RANK_OWN)
                        form.rank = RANK_OPTIONAL;
                form_insert(&form);
        }
}

static void insert_template(const struct source_operation *op, const char *path, enum rank rank)
{
        struct form form = {.op = op, .rank = rank};
        form_split(&form, path);
        insert_choices(&form);
        const char *tail = text_of(op->json, "tail");
        if (*tail) {
                char segment[64];
                snprintf(segment, sizeof(segment), "{%s}", tail);
                form.segments[form.n++] = segment;
                insert_choices(&form);
        }
}

static void insert_operation(const struct source_operation *op)
{
        static const char git[] = "/{organization}/{project}/_git/{repository}";
        insert_template(op, op->path, RANK_OWN);
        size_t i;
        json_t *path;
        json_array_foreach(json_object_get(op->json, "older_paths"), i, path)
                insert_template(op, json_string_value(path), RANK_OLDER);
        json_array_foreach(json_object_get(op->json, "variants"), i, path)
        {
                const char *start = json_string_value(path);
                if (strncmp(op->path, git, sizeof(git) - 1) != 0)
                        fail("%s: variants are for git routes", op->id);
                char whole[512];
                snprintf(whole, sizeof(whole), "%s%s", start, op->path + sizeof(git) - 1);
                insert_template(op, whole, RANK_OLDER);
        }
}

void trie_build(void)
{
        node_new(); /* NO_NODE */
        for (size_t i = 0; i < SERVICE_COUNT; i++)
                roots[i] = node_new();
        for (size_t i = 0; i < n_operations; i++)
                if (!*text_of(operations[i].json, "part_of")) /* that is what the route reaches */
                        insert_operation(&operations[i]);
        if (n_nodes > UINT16_MAX || n_forms > UINT16_MAX || literals.n >= LITERAL_SLOTS / 2)
                fail("the tables have outgrown their types");
}

static void write_texts(FILE *out, const char *name, const struct texts *set)
{
        fprintf(out, "const struct str %s[] = {\n", name);
        for (size_t i = 0; i < set->n; i++) {
                fputs("\t{", out);
                write_text(out, set->items[i]);
                fprintf(out, ", %zu},\n", strlen(set->items[i]));
        }
        fputs("};\n", out);
}

static void write_numbers(FILE *out, const char *name, const uint16_t *numbers, size_t n)
{
        fprintf(out, "const uint16_t %s[] = {", name);
        for (size_t i = 0; i < n; i++)
                fprintf(out, i % 16 ? "%u, " : "\n\t%u, ", numbers[i]);
        fputs("\n};\n", out);
}

static int by_literal(const void *a, const void *b)
{
        return (int)((const struct build_edge *)a)->literal -
               (int)((const struct build_edge *)b)->literal;
}

static int by_method(const void *a, const void *b)
{
        const struct build_binding *x = a, *y = b;
        return x->method != y->method ? (int)x->method - (int)y->method
                                      : (int)x->operation - (int)y->operation;
}

static void write_nodes(FILE *out)
{
        unsigned n_edges = 0, n_bindings = 0;
        fputs("const struct trie_edge table_edges[] = {\n", out);
        for (size_t i = 0; i < n_nodes; i++) {
                struct build_node *node = &nodes[i];
                node->first_edge = n_edges;
                if (node->n_edges)
                        qsort(node->edges, node->n_edges, sizeof(node->edges[0]), by_literal);
                for (size_t k = 0; k < node->n_edges; k++, n_edges++)
                        fprintf(out, "\t{%u, %u},\n", node->edges[k].literal, node->edges[k].node);
        }
        fputs("};\nconst struct trie_binding table_bindings[] = {\n", out);
        for (size_t i = 0; i < n_nodes; i++) {
                struct build_node *node = &nodes[i];
                node->first_binding = n_bindings;
                if (node->n_bindings)
                        qsort(node->bindings, node->n_bindings, sizeof(node->bindings[0]),
                                by_method);
                for (size_t k = 0; k < node->n_bindings; k++, n_bindings++) {
                        const struct build_binding *b = &node->bindings[k];
                        fprintf(out, "\t{%u, %u, %u, %u, %u},\n", b->operation, b->form,
                                b->n_segments, b->method, b->repository);
                }
        }
        fputs("};\nconst struct trie_node table_nodes[] = {\n", out);
        for (size_t i = 0; i < n_nodes; i++) {
                const struct build_node *node = &nodes[i];
                fprintf(out, "\t{%u, %zu, %u, %zu, {", node->first_edge, node->n_edges,
                        node->first_binding, node->n_bindings);
                for (size_t k = 0; k < CHILD_COUNT; k++)
                        fprintf(out, "%u, ", node->children[k]);
                fputs("}},\n", out);
        }
        fputs("};\n", out);
        if (n_edges > UINT16_MAX || n_bindings > UINT16_MAX)
                fail("the tables have outgrown their types");
}

void trie_write(FILE *out)
{
        static uint16_t slots[LITERAL_SLOTS];
        for (size_t i = 0; i < literals.n; i++) {
                uint32_t slot = str_hash_fold(str_of(literals.items[i])) % LITERAL_SLOTS;
                while (slots[slot])
                        slot = (slot + 1) % LITERAL_SLOTS;
                slots[slot] = (uint16_t)(i + 1);
        }
        write_texts(out, "table_texts", &texts);
        write_texts(out, "table_literals", &literals);
        write_numbers(out, "table_forms", forms, n_forms);
        write_numbers(out, "table_literal_slots", slots, LITERAL_SLOTS);
        fprintf(out, "const uint32_t table_literal_mask = %d;\n", LITERAL_SLOTS - 1);
        write_nodes(out);
        uint16_t written[SERVICE_COUNT];
        for (size_t i = 0; i < SERVICE_COUNT; i++)
                written[i] = (uint16_t)roots[i];
        write_numbers(out, "table_roots", written, SERVICE_COUNT);
}
