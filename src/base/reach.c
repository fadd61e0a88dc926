#include "dagward/base/reach.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

bool file_out_of_reach(const char *path)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd >= 0) {
                close(fd);
                return false;
        }
        /* Landlock judges what is opened; permissions are all that access() looks at. */
        return errno == EACCES && access(path, R_OK) == 0;
}
