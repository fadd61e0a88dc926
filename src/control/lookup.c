#include "lookup.h"

#include <stdlib.h>

#include "inside.h"

struct lookup {
        struct lookups *all;
        struct fetch *fetch; /* NULL: a free slot */
        enum resource_kind kind;
        char *value, *path;
        enum service service;
        unsigned credential;
};

struct lookups {
        struct control *control;
        struct lookup slots[LOOKUPS_MOST];
};

struct lookups *lookups_new(struct control *control)
{
        struct lookups *lookups = calloc(1, sizeof(*lookups));

        if (!lookups)
                abort();
        lookups->control = control;
        return lookups;
}

static void drop(struct lookup *lookup)
{
        free(lookup->value);
        free(lookup->path);
        *lookup = (struct lookup){0};
}

void lookups_cancel(struct lookups *lookups)
{
        for (size_t i = 0; i < LOOKUPS_MOST; i++) {
                if (!lookups->slots[i].fetch)
                        continue;
                fetch_cancel(lookups->slots[i].fetch);
                drop(&lookups->slots[i]);
        }
}

void lookups_free(struct lookups *lookups)
{
        if (!lookups)
                return;
        lookups_cancel(lookups);
        free(lookups);
}

/* What upstream said, as far as it said anything. */
static void understand(
        struct lookup *lookup, const struct fetch_result *answer, struct lookup_result *result)
{
        struct identity *identity = NULL;

        if (!answer->answered) {
                result->why = answer->error.text;
                return;
        }
        /* 403: the credential may not see it, so it is nobody's through this proxy. */
        if (answer->status == 404 || answer->status == 403) {
                result->ok = true;
                return;
        }
        result->why = "Azure DevOps did not answer with 200";
        if (answer->status != 200)
                return;
        switch (identity_read(
                lookup->kind, str_of(lookup->value), answer->body, &identity, &result->why)) {
        case IDENTITY_KNOWN:
        case IDENTITY_NOBODY: result->ok = true; break;
        case IDENTITY_BAD: break;
        }
        result->identity = identity;
}

static void on_answer(const struct fetch_result *answer, void *arg)
{
        struct lookup *slot = arg, lookup = *slot;
        struct lookups *lookups = lookup.all;
        struct lookup_result result = {.credential = lookup.credential,
                .path = lookup.path,
                .service = lookup.service,
                .why = ""};

        *slot = (struct lookup){0}; /* who is told may ask again */
        understand(&lookup, answer, &result);
        control_named(lookups->control, &result);
        free((void *)result.identity);
        drop(&lookup);
}

enum source_answer lookups_ask(
        struct lookups *lookups, const struct name_ask *name, unsigned index, struct error *why)
{
        const struct fetch_request request = {
                .timeout_ms = LOOKUP_TIMEOUT_MS, .most_bytes = IDENTITY_ANSWER_MOST_BYTES};
        struct lookup *spare = NULL;

        for (size_t i = 0; i < LOOKUPS_MOST; i++) {
                struct lookup *one = &lookups->slots[i];
                if (!one->fetch)
                        spare = one;
                else if (one->credential == index && one->service == name->service &&
                         strcmp(one->path, name->path) == 0)
                        return SOURCE_WAIT;
        }
        if (!spare) {
                error_set(why, "too many names are being looked up");
                return SOURCE_NO;
        }
        spare->fetch = control_fetch(lookups->control, index, NULL, name->service, name->path,
                request, on_answer, spare);
        if (!spare->fetch) {
                error_set(why, "there is no usable credential to ask with");
                return SOURCE_NO;
        }
        spare->all = lookups;
        spare->kind = name->kind;
        spare->value = str_dup(str_of(name->value));
        spare->path = str_dup(str_of(name->path));
        spare->service = name->service;
        spare->credential = index;
        return SOURCE_WAIT;
}
