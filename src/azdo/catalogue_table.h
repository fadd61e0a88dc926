/*
 * The layout of the generated tables (private to azdo and to generate/make_catalogue.c).
 *
 * The matcher walks a trie per service. Edges are literals (by number, found once per segment in a
 * hash table) or one of a few classes of parameter. A node where a template ends holds bindings:
 * the operations that end there, by method. A binding's form says how to read the path back: the
 * spelling of each literal, the name of each parameter.
 */
#ifndef DAGWARD_AZDO_CATALOGUE_TABLE_H
#define DAGWARD_AZDO_CATALOGUE_TABLE_H

#include "dagward/azdo/catalogue.h"
#include "dagward/azdo/facts.h"

/* What can leave a node beside literals, in the order in which it is tried. */
enum child {
        CHILD_DOLLAR,  /* "$" and a value */
        CHILD_AT,      /* "@" and a value */
        CHILD_ASMX,    /* a value ending in ".asmx" */
        CHILD_UUID,    /* 8-4-4-4-12 hexadecimal digits */
        CHILD_INTEGER, /* decimal digits, no leading zero, perhaps a minus sign */
        CHILD_NAME,    /* an organization, project or team: does not begin with "_" */
        CHILD_PAGE,    /* begins with "_" */
        CHILD_ANY,
        CHILD_GREEDY, /* this segment and all that follow */
        CHILD_COUNT
};

enum { NO_NODE = 0 }; /* node 0 is nobody's child */

struct trie_edge {
        uint16_t literal; /* number of the folded literal */
        uint16_t node;
};

struct trie_node {
        uint16_t first_edge, n_edges; /* sorted by literal */
        uint16_t first_binding, n_bindings;
        uint16_t children[CHILD_COUNT];
};

enum table_method {
        METHOD_GET,
        METHOD_HEAD,
        METHOD_POST,
        METHOD_PUT,
        METHOD_PATCH,
        METHOD_DELETE,
        METHOD_OPTIONS,
        METHOD_ANY,
        METHOD_COUNT
};

struct trie_binding {
        uint16_t operation;
        uint16_t form; /* first element in table_forms */
        uint8_t n_segments;
        uint8_t method;     /* enum table_method */
        uint8_t repository; /* segment that may end in ".git", 0: none */
};

/* An element of a form: a text, and in the top bits how it is meant. */
enum {
        FORM_LITERAL = 0 << 14,
        FORM_PARAM = 1 << 14,
        FORM_PREFIXED = 2 << 14, /* a parameter behind one literal character */
        FORM_GREEDY = 3 << 14,
        FORM_TEXT = (1 << 14) - 1,
};

struct discriminator {
        const struct str *present; /* query names that have to be there */
        size_t n_present;
        struct pair equals; /* a query parameter and its value; or a body member and its value */
        bool in_body;
};

enum source { SOURCE_PATH, SOURCE_QUERY, SOURCE_BODY, SOURCE_PATCH };

enum {
        ROW_LIST = 1 << 0,
        ROW_NUMBER = 1 << 1,
        ROW_ALSO = 1 << 2,
        ROW_FALLBACK = 1 << 3,
        ROW_REF = 1 << 4,
        ROW_HIDES = 1 << 5,
        ROW_FEED = 1 << 6,
        ROW_VEILS = 1 << 7,
        ROW_MAIN = 1 << 8,
        ROW_DEFERS = 1 << 9,
        ROW_ASIDE = 1 << 10,
        ROW_FOLLOWS = 1 << 11,
        ROW_LINK = 1 << 12,
        ROW_FINDS = 1 << 13,
        ROW_UPSTREAM = 1 << 14,
        ROW_PAIR = 1 << 15,
        /* It is none by which a request is to name one. */
        ROW_NAMES_NONE = ROW_VEILS | ROW_DEFERS | ROW_ASIDE | ROW_FOLLOWS | ROW_LINK | ROW_PAIR,
};

/* A row of resources.def. */
struct gather_row {
        const char *operations; /* pattern */
        struct str where;
        uint8_t source;
        uint8_t kind;
        uint16_t flags;
};

/* What belongs to an operation beside the public part. */
struct operation_extra {
        const struct discriminator *discriminator; /* NULL: none */
        const uint8_t *rows;                       /* places in resources.def, from 0 */
        const uint8_t *facts;                      /* places in facts.def, likewise */
        uint8_t n_rows, n_facts;
        /* Bit c & 0x1f: a member that veils, or says a guarded fact, begins with c. */
        uint32_t veil_letters;
        uint16_t touches;    /* bit k: resources of kind k */
        uint16_t body_kinds; /* bit k: rows of kind k that read the body; BODY_FACTS and more */
        const char *types;   /* of the path's parameters: 'i' integer, 'u' uuid, 't' text */
        bool encoded_slash;  /* a parameter of it may hold npm's @scope%2fname */
};

extern const struct operation table_operations[];
extern const struct operation_extra table_extras[];
extern const size_t table_n_operations;

extern const struct str table_texts[];
extern const uint16_t table_forms[];

extern const struct str table_literals[];    /* folded */
extern const uint16_t table_literal_slots[]; /* by str_hash_fold; number + 1, 0: free */
extern const uint32_t table_literal_mask;

extern const struct trie_node table_nodes[];
extern const struct trie_edge table_edges[];
extern const struct trie_binding table_bindings[];
extern const uint16_t table_roots[SERVICE_COUNT];

/* One operation of each location: the one whose path has all of its optional parts. */
extern const uint16_t table_locations[];
extern const size_t table_n_locations;

extern const struct resource_area table_areas[];
extern const size_t table_n_areas;

#endif
