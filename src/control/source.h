/* What the sources of keys, credentials and addresses have in common. Private to control. */
#ifndef DAGWARD_CONTROL_SOURCE_H
#define DAGWARD_CONTROL_SOURCE_H

#include <sys/stat.h>

#include "dagward/base/error.h"
#include "dagward/base/str.h"

/* How a source tells its owner. `changed` comes before `settled`, so that what is new has been
 * published when those who wait for it are answered. */
struct source_hooks {
        void (*changed)(void *owner); /* there is something new to publish */
        void (*settled)(
                void *owner, unsigned index, bool ok, const char *why); /* an attempt ended */
        void (*event)(void *owner, const char *name, const struct pair *detail, size_t n);
        void *owner;
};

/* The answer to an ask. */
enum source_answer {
        SOURCE_NEWER, /* something newer than what the asker has is published already */
        SOURCE_WAIT,  /* an attempt runs: `settled` will tell */
        SOURCE_NO,    /* not now; the reason is for people */
};

enum { SOURCE_FILE_POLL_MS = 2000 }; /* how soon a changed file is seen */

/* What tells one version of a file from another. */
struct file_stamp {
        dev_t device;
        ino_t inode;
        off_t bytes;
        struct timespec modified;
        bool there;
};

struct file_stamp file_stamp_of(const char *path);
bool file_stamp_same(const struct file_stamp *a, const struct file_stamp *b);

/* Delay before attempt `failures` + 1: 1 s doubled each time up to `most_ms`, and of that between a
 * half and all, by chance, so that many proxies do not come back together. */
int64_t backoff_ms(unsigned failures, int64_t most_ms);
/* `ms` moved by chance by at most a tenth in either direction. */
int64_t jitter_ms(int64_t ms);
/* `ms` and by chance up to a quarter more: for what a peer asked not to be disturbed for. */
int64_t later_ms(int64_t ms);

#endif
