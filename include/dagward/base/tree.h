/*
 * tree: a JSON value (RFC 8259) held whole, for as long as its arena lives: what a token claims.
 *
 * Stricter than JSON has to be, since others may read the same bytes differently: no two members of
 * one object have the same name (once unescaped), no string holds NUL, whole numbers fit into 64
 * bits and others into a double, nothing stands behind the value. Depth and number of values are
 * bounded while reading. What is one of these is immutable, and views the text it was read from.
 */
#ifndef DAGWARD_BASE_TREE_H
#define DAGWARD_BASE_TREE_H

#include "dagward/base/arena.h"
#include "dagward/base/buf.h"
#include "dagward/base/str.h"

enum tree_kind {
        TREE_NULL,
        TREE_FALSE,
        TREE_TRUE,
        TREE_WHOLE, /* a number without fraction and exponent */
        TREE_REAL,
        TREE_TEXT,
        TREE_ARRAY,
        TREE_OBJECT,
};

struct tree {
        struct str name;         /* of a member; else empty */
        const struct tree *next; /* in the array or object that it stands in */
        union {
                struct str text; /* unescaped, valid UTF-8 */
                int64_t whole;
                double real;
                const struct tree *first; /* of an array or object; NULL: it is empty */
        };
        enum tree_kind kind;
};

struct tree_bounds {
        size_t depth;  /* of arrays and objects in each other */
        size_t values; /* arrays, objects and commas */
};

/* The value in `text`, which outlives it; NULL: it is no such value, or the arena is full. Never
 * says why: a reason would quote the input. */
const struct tree *tree_read(struct str text, const struct tree_bounds *most, struct arena *arena);
/* The object's member of that name, or NULL; also when `object` is NULL or no object. */
const struct tree *tree_member(const struct tree *object, struct str name);
/* The member of a member of ... at a dotted path. A name that holds dots of its own is found too:
 * at every level the longest one that exists is taken. */
const struct tree *tree_at(const struct tree *object, struct str path);
/* The string's bytes; ptr NULL when `value` is NULL or no string. */
struct str tree_text(const struct tree *value);
/* Without blanks; numbers and escapes may be written otherwise than they were read. */
void tree_write(const struct tree *value, struct buf *out);

#endif
