/* watch: the files that a change of reloads. Private to control. */
#ifndef DAGWARD_CONTROL_WATCH_H
#define DAGWARD_CONTROL_WATCH_H

#include "dagward/world/preflight.h"
#include "source.h"

/* Zeros: nothing is watched. */
struct watch {
        char **paths;
        struct file_stamp *stamps; /* of each path */
        size_t n;
        struct config *config;     /* whose policy patterns are expanded again; NULL: none */
        struct file_list policies; /* what they stood for */
};

/* From now on; NULL is no path. Call it before the file is read: what is written while it is read
 * is a change. */
void watch_add(struct watch *watch, const char *path);
/* The files of live and shadow policy; also those that come to match later. */
void watch_add_policies(struct watch *watch, struct config *config);
/* The first that is another one than when it was added, or NULL; the configuration file, when the
 * policy patterns stand for other files. */
const char *watch_moved(const struct watch *watch);
/* Whether there is any; what is there now is what is compared with from now on. */
bool watch_changed(struct watch *watch);
void watch_clear(struct watch *watch);

#endif
