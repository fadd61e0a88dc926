/* reach: is a file hidden from this process by its own confinement? */
#ifndef DAGWARD_BASE_REACH_H
#define DAGWARD_BASE_REACH_H

#include <stdbool.h>

/* What to say then. */
#define FILE_OUT_OF_REACH "is outside of what was kept at the start: it takes a restart to read it"

/* Whether the file (or folder) is there and its permissions would allow it to be read, but opening
 * it is forbidden all the same. */
bool file_out_of_reach(const char *path);

#endif
