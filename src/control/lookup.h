/*
 * lookup: asks Azure DevOps what a name or an id is. Private to control.
 *
 * One small GET for each question, with the credential that the asker's rule lends; who asks the
 * same meanwhile waits for the same answer. Nothing is kept here: workers do that.
 */
#ifndef DAGWARD_CONTROL_LOOKUP_H
#define DAGWARD_CONTROL_LOOKUP_H

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

struct control;

/* `control_named` will be told. */
struct lookups *lookups_new(struct control *control);
/* Cancels what is under way, without a word. */
void lookups_cancel(struct lookups *lookups);
void lookups_free(struct lookups *lookups);
/* SOURCE_WAIT: control_named will be told, never at once; SOURCE_NO with a reason. */
enum source_answer lookups_ask(
        struct lookups *lookups, const struct name_ask *name, unsigned index, struct error *why);

#endif
