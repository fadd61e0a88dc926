/*
 * tags: puts tags on runs that were started through the proxy, after their answers. Private to
 * control.
 *
 * What fails for a reason that may pass is tried again, with growing pauses; how each came out is
 * an event in the audit log. What has not been done when the process ends is not done.
 */
#ifndef DAGWARD_CONTROL_TAGS_H
#define DAGWARD_CONTROL_TAGS_H

#include "dagward/world/ports.h"

struct control;
struct tags;

enum {
        TAGS_MOST = 4096, /* that wait; more are given up at once */
        TAGS_AT_ONCE = 8,
        TAGS_TIMEOUT_MS = 10000,
        TAGS_ATTEMPTS = 6,
        TAGS_PAUSE_MS = 1000, /* before the second attempt; five times as long before each next */
};

struct tags *tags_new(struct control *control);
/* Takes path and tags out of an ASK_TAG. */
void tags_add(struct tags *tags, struct ask *ask);
/* Records for each that is not done that it will not be. */
void tags_give_up(struct tags *tags);
/* Harmless on NULL. */
void tags_free(struct tags *tags);

#endif
