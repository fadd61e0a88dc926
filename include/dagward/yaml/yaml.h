/*
 * yaml: a strict subset of YAML 1.1 as a tree whose every node knows its place in the file.
 *
 * What configuration and policy are read from. JSON is YAML, so JSON works too. Refused, with the
 * place: anchors, aliases, tags, merge keys, several documents, duplicate keys, keys that are not
 * text, nesting deeper than YAML_MAX_DEPTH, files over YAML_MAX_BYTES, text that is not UTF-8.
 * Scalars stay text until a typed reader is asked: `yes`, `on` and `0x10` are just words; only
 * an unquoted `true` or `false` is a boolean, only an unquoted `null`, `~` or nothing is null.
 * The reader does not know what the keys mean.
 */
#ifndef DAGWARD_YAML_YAML_H
#define DAGWARD_YAML_YAML_H

#include "dagward/base/arena.h"
#include "dagward/base/error.h"
#include "dagward/base/str.h"

enum {
        YAML_MAX_DEPTH = 32,        /* mappings and lists inside each other */
        YAML_MAX_BYTES = 4 << 20,   /* one file */
        YAML_MAX_MEMORY = 64 << 20, /* one tree; a file that needs more is refused */
};

enum yaml_kind { YAML_NULL, YAML_SCALAR, YAML_SEQUENCE, YAML_MAPPING };

struct yaml_entry;

struct yaml_node {
        enum yaml_kind kind;
        bool quoted;     /* scalar written in quotes or as a block (`|`, `>`): always text */
        struct str text; /* scalar: its value, with a NUL behind it (not counted) */
        struct mark at;  /* where it begins; `file` lives as long as the document */
        size_t n;        /* how many items or entries */
        struct yaml_node **items;    /* sequence */
        struct yaml_entry *entries;  /* mapping, in the order of the file */
        struct yaml_node *following; /* the next node of the document, keys included */
        struct yaml_node *sibling;   /* used while the tree is built */
};

struct yaml_entry {
        struct yaml_node *key; /* a scalar */
        struct yaml_node *value;
};

struct yaml_document {
        struct arena arena;     /* all nodes and texts; readers may put more into it */
        struct yaml_node *root; /* YAML_NULL for an empty file; also the first by `following` */
        const char *file;       /* the name that marks carry, in the arena */
};

/* Reads a file into a tree. True: there is a tree, which the caller must yaml_clear; `errors` may
 * still have grown (duplicate keys, of which the first stays in the tree, anchors and the like), so
 * that the meaning of the rest can be checked in the same run: look at errors->errors before using
 * the result. False: no tree, nothing
 * to clear, at least one error added. */
bool yaml_load_file(const char *path, struct yaml_document *doc, struct error_list *errors)
        __attribute__((warn_unused_result));
/* As yaml_load_file, from memory, which is not needed afterwards. `name` stands in the marks. */
bool yaml_load_text(const char *name, struct str text, struct yaml_document *doc,
        struct error_list *errors) __attribute__((warn_unused_result));
/* Frees the tree with all its texts and marks; harmless on a zeroed document. */
void yaml_clear(struct yaml_document *doc);

/* The value of `key`, or NULL: no such key, or `node` is NULL or not a mapping. */
struct yaml_node *yaml_get(const struct yaml_node *node, const char *key);
/* The entry of `key`, or NULL, as yaml_get. */
const struct yaml_entry *yaml_entry_of(const struct yaml_node *node, struct str key);
/* "nothing", "text", "a number", "true or false", "a list" or "a mapping": what `node` is. */
const char *yaml_describe(const struct yaml_node *node);
/* `text` for a message: at most 60 bytes of it, on one line, unprintable bytes as `?`. In static
 * storage per thread; valid until the next call but three. */
const char *yaml_shown(struct str text);
/* Reports every key of the mapping that is not one of `names`, with "did you mean"; false if there
 * was one. `node` that is not a mapping has no keys. */
bool yaml_known_keys(
        const struct yaml_node *node, const struct str *names, size_t n, struct error_list *errors);

/* What a scalar looks like; quoted ones are always YAML_TEXT. Numbers as JSON writes them. */
enum yaml_scalar { YAML_TEXT, YAML_TRUE, YAML_FALSE, YAML_INTEGER, YAML_REAL };
enum yaml_scalar yaml_scalar_of(const struct yaml_node *node);

/*
 * Typed readers: on success write `*out` and return true; otherwise add one error at the node's
 * place that begins with `what` (for example "`workers`"), leave `*out` alone and return false.
 */

/* A mapping. */
bool yaml_is_mapping(const struct yaml_node *node, const char *what, struct error_list *errors);
/* A list. */
bool yaml_is_sequence(const struct yaml_node *node, const char *what, struct error_list *errors);
/* Text that is not empty (numbers and booleans are text too). The view lives as the document. */
bool yaml_str(
        const struct yaml_node *node, const char *what, struct str *out, struct error_list *errors);
/* One text, or a list of texts, none empty; the array is in the document's arena. An empty list is
 * accepted (n = 0). */
bool yaml_str_list(struct yaml_document *doc, const struct yaml_node *node, const char *what,
        struct str **out, size_t *n, struct error_list *errors);
/* `true` or `false`, unquoted. */
bool yaml_bool(
        const struct yaml_node *node, const char *what, bool *out, struct error_list *errors);
/* A whole number, unquoted, from `least` to `most`. */
bool yaml_u64(const struct yaml_node *node, const char *what, uint64_t least, uint64_t most,
        uint64_t *out, struct error_list *errors);
/* `250ms`, `30s`, `5m`, `24h`, `7d`; one number and one unit, at most 100 years. Milliseconds. */
bool yaml_duration_ms(
        const struct yaml_node *node, const char *what, int64_t *out, struct error_list *errors);
/* `512B`, `64KiB`, `1MiB`, `2GiB`, at most 1024 GiB. Bytes. */
bool yaml_size_bytes(
        const struct yaml_node *node, const char *what, uint64_t *out, struct error_list *errors);
/* As the two above without a node: for values that come from elsewhere. */
bool yaml_parse_duration(struct str text, int64_t *out_ms);
bool yaml_parse_size(struct str text, uint64_t *out_bytes);

#endif
