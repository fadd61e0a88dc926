/*
 * confine: what a running process can no longer do, even if somebody else steers it.
 *
 * A process that has read its configuration and holds its sockets needs little: to read a few
 * folders again, to write one, and the network. This module takes the rest away, for good: it
 * becomes another user, drops capabilities, forbids new privileges, restricts the file system with
 * Landlock and filters system calls with seccomp. It knows paths and numbers, no setting.
 *
 * All of it is inherited by threads that are started later, and holds for no thread that was there
 * before (the user and the filter apart): call it while there is one thread.
 */
#ifndef DAGWARD_CONFINE_CONFINE_H
#define DAGWARD_CONFINE_CONFINE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dagward/base/error.h"

/* --- the plan: what stays reachable --- */

/* What may be done beneath a path. */
enum {
        CONFINE_READ = 1,   /* files are read */
        CONFINE_LIST = 2,   /* folders are listed */
        CONFINE_WRITE = 4,  /* files are made, written, cut, renamed within and removed */
        CONFINE_REMOVE = 8, /* files (and sockets) are removed */
};

struct confine_rule {
        char *path; /* owned */
        unsigned may;
};

/* Zeros: nothing is reachable. */
struct confine_plan {
        struct confine_rule *rules;
        size_t n;
        bool listens;         /* one more TCP port may be bound, */
        uint16_t listen_port; /* this one; 0: any free one */
};

/* This path as it is: a file (its inode, so that one that replaces it is another) or a folder with
 * all beneath. What is not there is left out when it is applied. Copied; "" and NULL are none. */
void confine_allow(struct confine_plan *plan, const char *path, unsigned may);
/*
 * A file that may be replaced: its folder, and for each symbolic link on the way the folder of the
 * link and of what it leads to. So a file that is renamed over it stays reachable, and a folder
 * that Kubernetes swaps. Folders that hold everybody's files (/, /etc, /tmp, /home, ...) are not
 * opened: there it is the file itself.
 */
void confine_allow_file(struct confine_plan *plan, const char *path, unsigned may);
/* As confine_allow_file for a pattern of glob(7); its folder may be listed. */
void confine_allow_pattern(struct confine_plan *plan, const char *pattern);
/* What the C library, TLS and curl read by themselves: resolver, authorities, time zones, modules.
 */
void confine_allow_system(struct confine_plan *plan);
void confine_plan_clear(struct confine_plan *plan);

/* --- the user --- */

struct confine_user {
        uid_t uid;
        gid_t gid;
        char name[64]; /* "" when it was given as a number that has no name */
};

/* `name`, `uid`, `name:group` or `uid:gid`; a number without a group is one the system knows. False
 * with a reason when there is no such user or group, or when it is root. */
bool confine_user_find(const char *text, struct confine_user *out, struct error *err)
        __attribute__((warn_unused_result));
/* Becomes that user, with its groups; harmless when it already is. False with a reason when that is
 * not allowed, or could be undone. All threads. */
bool confine_become(const struct confine_user *user, struct error *err)
        __attribute__((warn_unused_result));

/* --- what is taken away --- */

enum confine_mode {
        CONFINE_AUTO,    /* what the kernel has */
        CONFINE_OFF,     /* nothing */
        CONFINE_REQUIRE, /* all, or an error */
};

struct confine_state {
        bool no_new_privileges;
        bool capabilities; /* those that are not needed are gone */
        int landlock;      /* version of its interface, 0: not active */
        size_t reachable;  /* rules of the plan that were there */
        bool seccomp;
        char missing[120]; /* what is not active and why; "" when all is, or the mode is off */
};

/* Applies the plan; fills `state`. False with a reason when the mode is to require and something is
 * missing, or when what the kernel has cannot be set up (half a confinement is not started). */
bool confine_apply(const struct confine_plan *plan, enum confine_mode mode,
        struct confine_state *state, struct error *err) __attribute__((warn_unused_result));
/* Core dumps and debuggers of the same user see nothing of this process. Independent of the rest.
 */
void confine_no_dumps(void);

/* --- the parts, for tests --- */

/* The filter of system calls alone, for all threads. False with a reason. Needs no_new_privs. */
bool confine_filter_calls(struct error *err) __attribute__((warn_unused_result));
/* The file system alone, for this thread. The version, 0 when the kernel has none, -1 with a reason
 * when it failed. Needs no_new_privs. */
int confine_restrict_files(const struct confine_plan *plan, size_t *reachable, struct error *err)
        __attribute__((warn_unused_result));

#endif
