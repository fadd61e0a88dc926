/*
 * reach: can a file be read, and read at once?
 *
 * It may be hidden from this process by its own confinement. It may be a FIFO, put where a file
 * was: whoever opens that waits until somebody writes.
 */
#ifndef DAGWARD_BASE_REACH_H
#define DAGWARD_BASE_REACH_H

#include <stdbool.h>

/* What to say then. */
#define FILE_OUT_OF_REACH "is outside of what was kept at the start: it takes a restart to read it"

/* Whether the file (or folder) is there and its permissions would allow it to be read, but opening
 * it is forbidden all the same. */
bool file_out_of_reach(const char *path);

#define FILE_WAITS "is a FIFO, which is not read: whoever opens it waits for who writes it"

/* Whether it is a FIFO, other than a descriptor that this process was given (`/dev/fd/N`, as shells
 * make of `<(...)`). For what takes a path and opens it by itself. */
bool file_waits(const char *path);
/* Opens it for reading, without waiting; -1 with the reason in `*why`. */
int file_open(const char *path, const char **why) __attribute__((warn_unused_result));

#endif
