/*
 * directory: what upstream said that names and ids are, for a while.
 *
 * A table of few ways: whoever asks for many names pushes out some others, never more, and finding
 * one costs the same however they were chosen.
 */
#include "inside.h"

#include <stdlib.h>

enum { SETS = 512, WAYS = 8 };
/* How long an answer is good: what was renamed by others than us is noticed after that time. */
enum { KNOWN_MS = 5 * 60 * 1000, NOBODY_MS = 30 * 1000, FAILED_MS = 2 * 1000 };

struct known_name {
        char *path; /* NULL: free */
        unsigned credential;
        enum service service;
        enum directory_answer answer;
        struct identity *identity;
        int64_t until_ms;
};

struct directory {
        struct known_name names[SETS][WAYS];
};

struct directory *directory_new(void)
{
        struct directory *directory = calloc(1, sizeof(*directory));

        if (!directory)
                abort();
        return directory;
}

static void drop(struct known_name *name)
{
        free(name->path);
        free(name->identity);
        *name = (struct known_name){0};
}

void directory_clear(struct directory *directory)
{
        for (size_t s = 0; s < SETS; s++)
                for (size_t w = 0; w < WAYS; w++)
                        drop(&directory->names[s][w]);
}

void directory_free(struct directory *directory)
{
        if (!directory)
                return;
        directory_clear(directory);
        free(directory);
}

/* The place of that question, or the one of its set that is worth least. */
static struct known_name *place_of(
        struct directory *directory, const struct name_question *question, bool *found)
{
        struct known_name *set = directory->names[str_hash_fold(question->path) % SETS];
        struct known_name *worst = &set[0];

        for (size_t w = 0; w < WAYS; w++) {
                struct known_name *name = &set[w];
                if (name->path && name->credential == question->credential &&
                        name->service == question->service &&
                        str_eq_fold(str_of(name->path), question->path)) {
                        *found = true;
                        return name;
                }
                if (name->until_ms < worst->until_ms)
                        worst = name;
        }
        *found = false;
        return worst;
}

enum directory_answer directory_find(struct directory *directory,
        const struct name_question *question, int64_t now_ms, const struct identity **identity)
{
        bool found;
        struct known_name *name = place_of(directory, question, &found);

        if (!found || now_ms >= name->until_ms)
                return DIRECTORY_ASK;
        *identity = name->identity;
        return name->answer;
}

void directory_tell(struct directory *directory, const struct name_question *question,
        enum directory_answer answer, struct identity *identity, int64_t now_ms)
{
        static const int64_t kept_ms[] = {[DIRECTORY_ASK] = 0,
                [DIRECTORY_KNOWN] = KNOWN_MS,
                [DIRECTORY_NOBODY] = NOBODY_MS,
                [DIRECTORY_FAILED] = FAILED_MS};
        bool found;
        struct known_name *name = place_of(directory, question, &found);

        if (found || answer != DIRECTORY_ASK)
                drop(name);
        if (answer == DIRECTORY_ASK)
                return;
        *name = (struct known_name){.path = str_dup(question->path),
                .credential = question->credential,
                .service = question->service,
                .answer = answer,
                .identity = identity,
                .until_ms = now_ms + kept_ms[answer]};
}
