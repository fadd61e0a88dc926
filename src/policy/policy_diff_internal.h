/* How policy diff is put together: policy_diff_play.c finds the entries that matter,
 * policy_diff_try.c makes up the requests, policy_diff.c has both policies decide them. */
#ifndef POLICY_DIFF_INTERNAL_H
#define POLICY_DIFF_INTERNAL_H

#include <stdlib.h>

#include "dagward/policy/diff.h"
#include "policy_internal.h"

enum { MOST_DIMENSIONS = 40, MOST_SPOKEN = 1024 };

/* What a request may have in one place. */
struct dimension {
        enum { OF_RESOURCE, OF_FACT, OF_CLAIM, OF_TIME } of;
        unsigned kind;   /* of resource or fact */
        struct str name; /* of the claim */
        struct spoken {
                struct str key, value; /* value.ptr NULL: nothing */
                int64_t at_ms;         /* of the time */
        } * values;
        size_t n, cap, at;
};

/* What hinges on what upstream says of a name or an id, and so cannot be tried. */
struct unsure {
        const struct operation *first; /* NULL: nothing */
        size_t n;                      /* operations of the subject at hand */
        bool now;                      /* the operation at hand */
};

/* One of the two policies, as one subject meets it. */
struct side {
        const struct policy *policy;
        struct policy_grants *grants; /* NULL: the subject is not in it */
        unsigned *texts;              /* by entry: equal numbers, equal entries in either policy */
        struct unsure *unsure;        /* by entry */
        bool *relevant;               /* by entry: it matters to the subject at hand */
        const struct entry **in_play; /* for the operation at hand */
        size_t n, cap;
        unsigned stamp, *stamps, *text_stamps; /* in play now: by entry, by its text's number */
};

struct alike;

struct diffing {
        const struct policy_diff_options *options;
        struct policy_diff_counts counts;
        struct side sides[2]; /* old, new */
        struct str subject;
        char rest[12], other[24]; /* "x1", "elsewhere": what no value of either policy has in it */
        struct arena scratch;     /* of one request */
        struct arena kept;        /* of one operation */
        struct dimension dims[MOST_DIMENSIONS];
        size_t n_dims;
        bool adding_others; /* what nobody names, which always has room */
        bool cut;           /* a dimension has more values than it may */
        size_t left;        /* requests that may still be tried */
        struct alike *found;
        size_t n_found, cap_found;
};

static inline void *must(void *memory)
{
        if (!memory)
                abort();
        return memory;
}

/* A copy in the arena; no text stays no text. */
static inline struct str keep_text(struct arena *arena, struct str text)
{
        if (!text.ptr)
                return text;
        struct str copy = arena_copy(arena, text);
        (void)must((void *)copy.ptr);
        return copy;
}

/* Gives entries that say the same the same number, and chooses values that none of them has. */
void diff_number_texts(struct diffing *d);
/* The side's entries that are about that operation. */
void diff_put_in_play(struct side *side, unsigned slot);
/* Whether an entry that says so is in play. */
bool diff_has_text(const struct side *side, unsigned text);
/* Whether all that is in play on one side is so on the other. */
bool diff_all_in(const struct side *part, const struct side *whole);
/* Of all entries of the subject at hand, those that a changed request can match. */
void diff_find_relevant(struct diffing *d);
/* Takes the others out of play. */
void diff_keep_relevant(struct side *side);

/* The dimensions in which requests of the operation differ for the entries in play. */
void diff_dimensions(struct diffing *d, const struct operation *op);
/* Only the moments that matter to the entries in play: one dimension, or none. */
void diff_moments(struct diffing *d);
/* How many requests the dimensions make; SIZE_MAX: at least so many. */
size_t diff_combinations(const struct diffing *d);
/* Has the dimensions stand for one of them. */
void diff_take(struct diffing *d, size_t which);
/* The request that the dimensions stand for now; false: it cannot be spelt, or it is another
 * operation's. */
bool diff_spell(struct diffing *d, const struct operation *op, struct policy_question *question,
        struct policy_request *request);
/* Whether what keeps the entry from being decided is something that no request of the operation can
 * name: the pipeline of a build, a folder where pipelines have numbers. `doubts`: a bit a kind. */
bool diff_hinges(const struct operation *op, const struct entry *entry, unsigned doubts);
/* A path that the pattern matches; `longer`: by its `**`. */
struct str diff_path(struct diffing *d, const struct path_pattern *pattern, bool longer);

#endif
