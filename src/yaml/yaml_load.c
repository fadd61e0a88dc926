#include "dagward/yaml/yaml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "dagward/base/reach.h"

/* A mapping or list that is still open. */
struct frame {
        struct yaml_node *node;
        struct yaml_node *first, *last; /* its children; in a mapping key, value, key, value */
};

struct loader {
        struct yaml_document *doc;
        struct error_list *errors;
        struct frame frames[YAML_MAX_DEPTH];
        size_t depth;
        struct yaml_node *latest; /* the end of the chain of `following` */
        unsigned documents;
};

static struct mark place(const struct loader *l, yaml_mark_t mark)
{
        return (struct mark){l->doc->file, (unsigned)mark.line + 1, (unsigned)mark.column + 1};
}

/* The place of a byte, columns counted in characters as libyaml does. */
static struct mark place_of_byte(const char *file, struct str text, size_t offset)
{
        struct mark at = {file, 1, 1};

        for (size_t i = 0; i < offset && i < text.len; i++) {
                if (text.ptr[i] == '\n') {
                        at.line++;
                        at.column = 1;
                } else if (((unsigned char)text.ptr[i] & 0xc0) != 0x80) {
                        at.column++;
                }
        }
        return at;
}

static size_t first_bad_utf8(struct str text)
{
        size_t at = 0;

        while (at < text.len) {
                size_t len = 1;
                while (len <= 4 && !str_utf8_valid(str_head(str_from(text, at), len)))
                        len++;
                if (len > 4)
                        break;
                at += len;
        }
        return at;
}

/* What YAML takes for the end of a line, and with it of a comment, and many editors do not. */
static bool is_hidden_break(struct str text, size_t i)
{
        const unsigned char *p = (const unsigned char *)text.ptr + i;
        size_t left = text.len - i;

        return (p[0] == '\r' && (left < 2 || p[1] != '\n')) ||
               (left > 1 && p[0] == 0xC2 && p[1] == 0x85) ||
               (left > 2 && p[0] == 0xE2 && p[1] == 0x80 && (p[2] == 0xA8 || p[2] == 0xA9));
}

/* A reviewer has to see what is read: a line that hides in a comment, a name that differs from
 * another by nothing that is shown, and text that runs backwards are refused, wherever they stand.
 */
static bool nothing_hides(struct loader *l, const char *name, struct str text)
{
        for (size_t i = 0; i < text.len; i++) {
                bool hidden = is_hidden_break(text, i);
                if (!hidden && !str_invisible_at(text, i))
                        continue;
                error_list_add(l->errors, place_of_byte(name, text, i),
                        hidden ? "a line ends here that many editors do not show: end lines with "
                                 "LF "
                                 "or CR LF"
                               : "an invisible character, or one that turns the direction of text "
                                 "around: leave it out, or write it as an escape in quotes");
                return false;
        }
        return true;
}

static bool too_much(struct loader *l, struct mark at)
{
        error_list_add(l->errors, at,
                "the file holds too many values (its tree needs more than %d MiB)",
                YAML_MAX_MEMORY >> 20);
        return false;
}

static struct yaml_node *node_new(struct loader *l, enum yaml_kind kind, yaml_mark_t mark)
{
        struct yaml_node *node = arena_alloc(&l->doc->arena, sizeof(*node));

        if (!node) {
                too_much(l, place(l, mark));
                return NULL;
        }
        node->kind = kind;
        node->at = place(l, mark);
        if (l->latest)
                l->latest->following = node;
        l->latest = node;
        return node;
}

/* Puts a finished or just opened node where it belongs. */
static bool attach(struct loader *l, struct yaml_node *node)
{
        if (l->depth == 0) {
                l->doc->root = node;
                return true;
        }
        struct frame *frame = &l->frames[l->depth - 1];
        if (frame->node->kind == YAML_MAPPING && frame->node->n % 2 == 0) {
                if (node->kind != YAML_SCALAR) {
                        error_list_add(l->errors, node->at,
                                "a key must be text (write it in quotes), not %s",
                                yaml_describe(node));
                        return false;
                }
                if (!node->quoted && str_eq(node->text, STR("<<")))
                        error_list_add(l->errors, node->at, "merge keys (`<<`) are not supported");
        }
        if (frame->last)
                frame->last->sibling = node;
        else
                frame->first = node;
        frame->last = node;
        frame->node->n++;
        return true;
}

static bool open_collection(struct loader *l, enum yaml_kind kind, yaml_mark_t mark)
{
        struct yaml_node *node = node_new(l, kind, mark);

        if (!node || !attach(l, node))
                return false;
        if (l->depth == YAML_MAX_DEPTH) {
                error_list_add(l->errors, node->at, "nested deeper than %d levels", YAML_MAX_DEPTH);
                return false;
        }
        l->frames[l->depth++] = (struct frame){.node = node};
        return true;
}

static int by_key(const void *left, const void *right)
{
        const struct yaml_node *a = (*(struct yaml_entry *const *)left)->key;
        const struct yaml_node *b = (*(struct yaml_entry *const *)right)->key;
        int order = str_cmp(a->text, b->text);

        if (order)
                return order;
        if (a->at.line != b->at.line)
                return a->at.line < b->at.line ? -1 : 1;
        return a->at.column < b->at.column ? -1 : a->at.column > b->at.column;
}

/* Reports keys that are given again and takes them out: who reads the tree may count on a key
 * standing there once. Sorting keeps this fast for a mapping of a million keys. */
static void drop_duplicates(struct loader *l, struct yaml_node *mapping)
{
        size_t first = 0, kept = 0;

        if (mapping->n < 2)
                return;
        struct yaml_entry **order = calloc(mapping->n, sizeof(struct yaml_entry *));
        if (!order)
                abort();
        for (size_t i = 0; i < mapping->n; i++)
                order[i] = &mapping->entries[i];
        qsort(order, mapping->n, sizeof(struct yaml_entry *), by_key);
        for (size_t i = 1; i < mapping->n; i++) {
                const struct yaml_node *key = order[i]->key, *before = order[first]->key;
                if (!str_eq(key->text, before->text)) {
                        first = i;
                        continue;
                }
                error_list_add(l->errors, key->at, "duplicate key `%s`, already given in line %u",
                        yaml_shown(key->text), before->at.line);
                order[i]->key = NULL;
        }
        free(order);
        for (size_t i = 0; i < mapping->n; i++)
                if (mapping->entries[i].key)
                        mapping->entries[kept++] = mapping->entries[i];
        mapping->n = kept;
}

static bool close_collection(struct loader *l)
{
        struct frame *frame = &l->frames[--l->depth];
        struct yaml_node *node = frame->node, *child = frame->first;

        if (node->kind == YAML_SEQUENCE) {
                node->items =
                        arena_alloc(&l->doc->arena, (node->n + 1) * sizeof(struct yaml_node *));
                if (!node->items)
                        return too_much(l, node->at);
                for (size_t i = 0; i < node->n; i++, child = child->sibling)
                        node->items[i] = child;
                return true;
        }
        node->n /= 2;
        node->entries = arena_alloc(&l->doc->arena, (node->n + 1) * sizeof(*node->entries));
        if (!node->entries)
                return too_much(l, node->at);
        for (size_t i = 0; i < node->n; i++, child = child->sibling->sibling)
                node->entries[i] = (struct yaml_entry){child, child->sibling};
        drop_duplicates(l, node);
        return true;
}

/* Anchors and tags are reported, then read as if they were not there. */
static void refuse_decorations(
        struct loader *l, const yaml_char_t *anchor, const yaml_char_t *tag, yaml_mark_t mark)
{
        if (anchor)
                error_list_add(l->errors, place(l, mark), "anchors (`&%s`) are not supported",
                        yaml_shown(str_of((const char *)anchor)));
        if (tag)
                error_list_add(l->errors, place(l, mark), "tags (`%s`) are not supported",
                        yaml_shown(str_of((const char *)tag)));
}

static bool scalar(struct loader *l, const yaml_event_t *event)
{
        struct str text =
                str_view((const char *)event->data.scalar.value, event->data.scalar.length);
        bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        bool null =
                plain && (str_empty(text) || str_eq(text, STR("~")) || str_eq(text, STR("null")));
        struct yaml_node *node = node_new(l, null ? YAML_NULL : YAML_SCALAR, event->start_mark);

        if (!node)
                return false;
        refuse_decorations(l, event->data.scalar.anchor, event->data.scalar.tag, event->start_mark);
        node->quoted = !plain;
        node->text = arena_copy(&l->doc->arena, text);
        if (!node->text.ptr)
                return too_much(l, node->at);
        return attach(l, node);
}

static bool document_start(struct loader *l, const yaml_event_t *event)
{
        if (event->data.document_start.tag_directives.start !=
                event->data.document_start.tag_directives.end)
                error_list_add(l->errors, place(l, event->start_mark),
                        "`%%TAG` directives are not supported");
        if (l->documents++ == 0)
                return true;
        error_list_add(l->errors, place(l, event->start_mark),
                "a second document begins here; a file holds one");
        return false;
}

static bool alias(struct loader *l, const yaml_event_t *event)
{
        struct yaml_node *node = node_new(l, YAML_NULL, event->start_mark);

        error_list_add(l->errors, place(l, event->start_mark), "aliases (`*%s`) are not supported",
                yaml_shown(str_of((const char *)event->data.alias.anchor)));
        return node && attach(l, node);
}

static bool take_event(struct loader *l, const yaml_event_t *event)
{
        switch (event->type) {
        case YAML_NO_EVENT:
        case YAML_STREAM_START_EVENT:
        case YAML_STREAM_END_EVENT:
        case YAML_DOCUMENT_END_EVENT: return true;
        case YAML_DOCUMENT_START_EVENT: return document_start(l, event);
        case YAML_ALIAS_EVENT: return alias(l, event);
        case YAML_SCALAR_EVENT: return scalar(l, event);
        case YAML_SEQUENCE_START_EVENT:
                refuse_decorations(l, event->data.sequence_start.anchor,
                        event->data.sequence_start.tag, event->start_mark);
                return open_collection(l, YAML_SEQUENCE, event->start_mark);
        case YAML_MAPPING_START_EVENT:
                refuse_decorations(l, event->data.mapping_start.anchor,
                        event->data.mapping_start.tag, event->start_mark);
                return open_collection(l, YAML_MAPPING, event->start_mark);
        case YAML_SEQUENCE_END_EVENT:
        case YAML_MAPPING_END_EVENT: return close_collection(l);
        }
        return false;
}

static void parser_failed(struct loader *l, const yaml_parser_t *parser, struct str text)
{
        if (parser->error == YAML_MEMORY_ERROR)
                abort();
        if (parser->error == YAML_READER_ERROR) {
                error_list_add(l->errors, place_of_byte(l->doc->file, text, parser->problem_offset),
                        "%s", parser->problem ? parser->problem : "unreadable character");
                return;
        }
        error_list_add(l->errors, place(l, parser->problem_mark), "not valid YAML: %s%s%s%s",
                parser->problem ? parser->problem : "syntax error", parser->context ? " (" : "",
                parser->context ? parser->context : "", parser->context ? ")" : "");
}

static bool load(struct loader *l, struct str text)
{
        yaml_parser_t parser;
        bool good = true, done = false;

        if (!yaml_parser_initialize(&parser))
                abort();
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&parser, (const unsigned char *)text.ptr, text.len);
        while (good && !done) {
                yaml_event_t event;
                if (!yaml_parser_parse(&parser, &event)) {
                        parser_failed(l, &parser, text);
                        good = false;
                        break;
                }
                done = event.type == YAML_STREAM_END_EVENT;
                good = take_event(l, &event);
                yaml_event_delete(&event);
        }
        yaml_parser_delete(&parser);
        if (good && !l->doc->root) {
                l->doc->root = node_new(l, YAML_NULL, (yaml_mark_t){0});
                good = l->doc->root != NULL;
        }
        return good;
}

bool yaml_load_text(
        const char *name, struct str text, struct yaml_document *doc, struct error_list *errors)
{
        struct loader l = {.doc = doc, .errors = errors};
        bool good = false;

        *doc = (struct yaml_document){0};
        if (text.len > YAML_MAX_BYTES) {
                error_list_add(errors, (struct mark){name, 0, 0}, "is larger than %d MiB",
                        YAML_MAX_BYTES >> 20);
                return false;
        }
        arena_init(&doc->arena, 64 << 10, YAML_MAX_MEMORY);
        if (str_starts(text, STR("\xEF\xBB\xBF"))) /* some editors begin files so */
                text = str_from(text, 3);
        doc->file = arena_copy(&doc->arena, str_of(name)).ptr;
        if (!str_utf8_valid(text))
                error_list_add(
                        errors, place_of_byte(name, text, first_bad_utf8(text)), "not valid UTF-8");
        else if (nothing_hides(&l, name, text))
                good = load(&l, text);
        if (!good)
                yaml_clear(doc);
        return good;
}

/* At most one byte more than is allowed; NULL with a reason when it cannot be read. */
static char *read_file(const char *path, size_t *len, const char **why)
{
        enum { most = YAML_MAX_BYTES + 1 };
        int fd = file_open(path, why);
        char *bytes = fd < 0 ? NULL : malloc(most);
        ssize_t got = 0;

        *len = 0;
        if (fd < 0)
                return NULL;
        if (!bytes)
                abort();
        while (*len < most) {
                got = read(fd, bytes + *len, most - *len);
                if (got <= 0 && !(got < 0 && errno == EINTR))
                        break;
                if (got > 0)
                        *len += (size_t)got;
        }
        if (got < 0)
                *why = strerror(errno);
        close(fd);
        if (got >= 0)
                return bytes;
        free(bytes);
        return NULL;
}

bool yaml_load_file(const char *path, struct yaml_document *doc, struct error_list *errors)
{
        const char *why = "";
        size_t len;
        char *bytes = read_file(path, &len, &why);

        *doc = (struct yaml_document){0};
        if (!bytes) {
                error_list_add(errors, (struct mark){path, 0, 0}, "cannot be read: %s", why);
                return false;
        }
        bool good = yaml_load_text(path, str_view(bytes, len), doc, errors);
        free(bytes);
        return good;
}

void yaml_clear(struct yaml_document *doc)
{
        arena_clear(&doc->arena);
        *doc = (struct yaml_document){0};
}
