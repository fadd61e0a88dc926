/*
 * lookup: asks Azure DevOps what a name or an id is. Private to control.
 *
 * One small GET for each question, with the credential that the asker's rule lends; who asks the
 * same meanwhile waits for the same answer. Nothing is kept here: workers do that.
 */
#ifndef DAGWARD_CONTROL_LOOKUP_H
#define DAGWARD_CONTROL_LOOKUP_H

#include "dagward/net/fetch.h"
#include "dagward/world/ports.h"
#include "source.h"

enum { LOOKUPS_MOST = 32, LOOKUP_TIMEOUT_MS = 8000 };

struct lookups;

/* How an answer came out; views for the callback only. */
struct lookup_result {
        unsigned credential;
        const char *path;
        enum service service;
        bool ok;
        const struct identity *identity; /* NULL: there is no such thing */
        const char *why;                 /* when not ok: for people */
};

struct lookups *lookups_new(struct fetcher *fetcher, void *owner,
        void (*found)(void *owner, const struct lookup_result *result));
/* Cancels what is under way, without a word. */
void lookups_cancel(struct lookups *lookups);
void lookups_free(struct lookups *lookups);
/* SOURCE_WAIT: `found` will tell, never at once; SOURCE_NO with a reason. */
enum source_answer lookups_ask(struct lookups *lookups, const struct name_ask *name, unsigned index,
        const struct credential *credential, const struct endpoint *endpoint, const char *ca,
        struct error *why);

#endif
