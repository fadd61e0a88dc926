/*
 * pull: JSON (RFC 8259) read from front to back, piece by piece, where a tree would cost more than
 * what is looked for in it.
 *
 * Who pulls says what must come next; each function moves behind what it took. After a false the
 * place is undefined and the text is not what was expected, or no JSON; pull_char and pull_name
 * alone leave the place where it is. Duplicate members are up to who pulls.
 */
#ifndef DAGWARD_BASE_PULL_H
#define DAGWARD_BASE_PULL_H

#include "dagward/base/arena.h"
#include "dagward/base/str.h"

enum { PULL_MOST_DEPTH = 32 }; /* arrays and objects in each other that pull_skip follows */

struct pull {
        const char *p, *end;
        struct arena *arena; /* for strings that hold escapes; others are views of the text */
};

static inline void pull_blanks(struct pull *r)
{
        const char *p = r->p, *end = r->end;

        /* Most text has none: one comparison says so. */
        while (p < end && (unsigned char)*p <= ' ' &&
                (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
                p++;
        r->p = p;
}
/* That punctuation mark, blanks before it skipped. */
static inline bool pull_char(struct pull *r, char c)
{
        if (r->p < r->end && (unsigned char)*r->p <= ' ')
                pull_blanks(r);
        if (r->p == r->end || *r->p != c)
                return false;
        r->p++;
        return true;
}
/* The member of that name, which has nothing to escape, and its colon, without a blank: a quick way
 * where one knows what will come. False leaves the place where it is, and says nothing. */
bool pull_name(struct pull *r, struct str name);
/* A string without its quotes, unescaped; valid UTF-8. False also when the arena is full. */
bool pull_text(struct pull *r, struct str *out);
/* The characters of a number, whose form is not checked. */
bool pull_number(struct pull *r, struct str *out);
/* true, false or null. */
bool pull_literal(struct pull *r);
/* Any value. */
bool pull_skip(struct pull *r);

#endif
