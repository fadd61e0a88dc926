#include "dagward/base/reach.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
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

static bool is_given(const char *path)
{
        static const char *const places[] = {"/dev/fd/", "/dev/stdin", "/proc/self/fd/"};

        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
                if (strncmp(path, places[i], strlen(places[i])) == 0)
                        return true;
        return false;
}

bool file_waits(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 && S_ISFIFO(st.st_mode) && !is_given(path);
}

int file_open(const char *path, const char **why)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;

        if (fd < 0) {
                int error = errno;
                *why = file_out_of_reach(path) ? FILE_OUT_OF_REACH : strerror(error);
                return -1;
        }
        /* Looked at when it is open: what stands there may change between two looks. */
        if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode)) {
                if (is_given(path) && fcntl(fd, F_SETFL, 0) == 0)
                        return fd;
                close(fd);
                *why = FILE_WAITS;
                return -1;
        }
        return fd;
}
