/*
 * error: why something failed, in words for a person, with the place in a file when there is one.
 *
 * `struct error` is the last parameter of what can fail, written only on failure, wrapped once on
 * the way up and printed once. `struct error_list` collects what is wrong with a whole file, so
 * that one run shows all of it.
 */
#ifndef DAGWARD_BASE_ERROR_H
#define DAGWARD_BASE_ERROR_H

#include <stdio.h>

#include "dagward/base/str.h"

struct error {
        char text[512]; /* terminated; never holds a secret */
};

/* No words, for who asks afterwards whether there are some. */
static inline void error_none(struct error *err)
{
        err->text[0] = '\0';
}
/* Writes the text; `err` may be NULL. Always false, for `return error_set(...)`. */
bool error_set(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Puts words in front of what `err` says, and ": " between. Always false. */
bool error_wrap(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Where something stands: 1-based; line 0 = the file as a whole. `file` is not owned. */
struct mark {
        const char *file;
        unsigned line;
        unsigned column;
};

struct finding {
        char *file; /* owned */
        unsigned line, column;
        bool warning;
        char *text; /* owned */
};

struct error_list {
        struct finding *findings;
        size_t n;
        size_t errors; /* those that are not warnings */
};

void error_list_init(struct error_list *list);
void error_list_clear(struct error_list *list);
/* At most 200 findings are kept; later ones only count. */
void error_list_add(struct error_list *list, struct mark at, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
void error_list_warn(struct error_list *list, struct mark at, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* Prints `file:line:column: message`, one a line, in the order of file and place. */
void error_list_print(struct error_list *list, FILE *out);
/* "; did you mean `x`?" when one of `n` names is near `word`, else "". Static storage per thread.
 */
const char *error_did_you_mean(struct str word, const struct str *names, size_t n);

#endif
