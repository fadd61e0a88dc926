/*
 * make_catalogue: the host tool that turns src/azdo/data/ into the tables of catalogue_table.h.
 *
 * It runs at build time only: memory is never given back, and every doubt about the data ends the
 * build with a message.
 */
#ifndef DAGWARD_AZDO_MAKE_CATALOGUE_H
#define DAGWARD_AZDO_MAKE_CATALOGUE_H

#include <jansson.h>
#include <stdio.h>

#include "../catalogue_table.h"

enum { MOST_OPERATIONS = OPERATIONS_MAX, MOST_SEGMENTS = 24 };

/* An operation as the data has it. */
struct source_operation {
        json_t *json;
        const char *id, *path;
        enum service service;
        bool any_service;
        enum table_method method;
        unsigned index;
};

/* How near a form is to the operation's own path: whose spelling of the literals is taken. */
enum rank { RANK_OWN, RANK_OPTIONAL, RANK_OLDER };

struct build_edge {
        unsigned literal, node;
};

struct build_binding {
        unsigned operation, form, n_segments, method, rank, repository;
};

struct build_node {
        struct build_edge *edges;
        size_t n_edges;
        unsigned children[CHILD_COUNT];
        struct build_binding *bindings;
        size_t n_bindings;
        unsigned first_edge, first_binding; /* set when it is written */
};

extern struct source_operation operations[MOST_OPERATIONS];
extern size_t n_operations;

__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...);
void *grow(void *array, size_t n, size_t size);
/* A text member, or "" when there is none. */
const char *text_of(const json_t *object, const char *name);
/* Whether the array member `name` has the text `value`. */
bool listed(const json_t *object, const char *name, const char *value);
void write_text(FILE *out, const char *text);

/* Puts every form of every operation into the tries; fails when two operations cannot be told
 * apart. */
void trie_build(void);
/* Writes texts, forms, literals, nodes, edges, bindings and roots. */
void trie_write(FILE *out);

#endif
