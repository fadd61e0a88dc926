/*
 * identity: that a name and an id are one resource, and what else upstream knows about it.
 *
 * A rule says `analytics`, a request says the project's GUID; a rule says pipeline 42, a request
 * names one of its builds. This module writes the question that settles it, one small GET to the
 * API, and reads the answer. It asks nobody itself and keeps nothing.
 */
#ifndef DAGWARD_AZDO_IDENTITY_H
#define DAGWARD_AZDO_IDENTITY_H

#include "dagward/azdo/resources.h"
#include "dagward/base/buf.h"

/* What upstream knows a resource as. Views; ptr NULL: it has none. */
struct identity {
        struct str id;   /* GUID, or digits */
        struct str name; /* as upstream spells it; of a build: its number, "20260302.1" */
        struct str path; /* of a pipeline: its folder and name, "\etl\nightly" */
        struct str project_id, project_name; /* that it belongs to; of a work item: the name only */
        /* of a build: what it ran, from which ref */
        struct str pipeline_id, pipeline_name, pipeline_path, ref;
};

enum {
        IDENTITY_ANSWER_MOST_BYTES = 1024 * 1024, /* of JSON */
        IDENTITY_TEXT_MOST_BYTES = 1024,          /* of each text */
        IDENTITY_QUESTION_MOST_BYTES = 2048,
};

/* Which kinds can be asked about: projects, teams, repositories, pipelines, builds, feeds,
 * environments, work items. */
bool identity_kind(enum resource_kind kind);

/*
 * Writes path and query of the GET that asks for `value`, a name or an id of `kind`, in
 * `organization` and `project` (name or id; ptr NULL: the request names none), and the service it
 * goes to. False when it cannot be asked: not such a kind, a name without the project it would be
 * looked for in, or no name that upstream would take.
 */
bool identity_question(enum resource_kind kind, struct str organization, struct str project,
        struct str value, struct buf *out, enum service *service)
        __attribute__((warn_unused_result));

enum identity_answer {
        IDENTITY_KNOWN,
        IDENTITY_NOBODY, /* upstream has no such thing, or shows it to nobody */
        IDENTITY_BAD,    /* with a reason: not the answer to this question */
};

/* Reads the body of a 200. `*identity` is one malloc'd block (free with free()) when it is known.
 * The reason is static text. */
enum identity_answer identity_read(enum resource_kind kind, struct str value, struct str text,
        struct identity **identity, const char **why) __attribute__((warn_unused_result));

/* A copy, malloc'd as one block. */
struct identity *identity_dup(const struct identity *identity);
/* A copy in the arena; NULL when its ceiling does not allow it. */
const struct identity *identity_keep(const struct identity *identity, struct arena *arena);
/* Whether they say the same in all. */
bool identity_eq(const struct identity *a, const struct identity *b);

/* Whether `value`, as a request gives it, is the project `id` or `name`. Letters beyond ASCII,
 * which upstream may fold, are given the benefit of the doubt. */
bool identity_is_project(const struct identity *identity, struct str value);

#endif
