#include "dagward/audit/window.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WINDOW = 1024 * 1024 };

/* What the handler has to know. */
static struct {
        char *at;
        volatile sig_atomic_t struck;
} window;

/* mmap is a plain system call here; nothing else is touched. */
static void on_bus(int number, siginfo_t *info, void *context)
{
        uintptr_t at = (uintptr_t)window.at, where = (uintptr_t)info->si_addr;

        (void)context;
        if (at && info->si_code > 0 && where >= at && where - at < WINDOW &&
                mmap(window.at, WINDOW, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                        0) != MAP_FAILED)
                window.struck = 1;
        else
                signal(number, SIG_DFL); /* not ours: it comes again and ends the process */
}

static bool still_has(int fd, off_t end)
{
        struct stat info;

        return fstat(fd, &info) == 0 && info.st_size >= end;
}

struct looking {
        int fd;
        void (*take)(void *owner, const char *bytes, size_t len);
        void *owner;
};

/* The file from `at` to `end`, which stand in the same window. */
static bool look(const struct looking *it, off_t at, off_t end)
{
        off_t from = at - at % WINDOW;

        /* A file system that does not map has refused the first window, before anything was seen.
         */
        if (mmap(window.at, WINDOW, PROT_READ, MAP_SHARED | MAP_FIXED | MAP_POPULATE, it->fd,
                    from) == MAP_FAILED) {
                errno = at ? errno : EFBIG;
                return false;
        }
        posix_fadvise(it->fd, end, WINDOW, POSIX_FADV_WILLNEED); /* while this one is looked at */
        it->take(it->owner, window.at + (at - from), (size_t)(end - at));
        /* The page with the end of a file has zeros behind it, which strike nobody. */
        if (still_has(it->fd, end) && !window.struck)
                return true;
        errno = still_has(it->fd, end) ? EIO : ESTALE;
        return false;
}

static bool look_through(const struct looking *it)
{
        struct stat info;
        off_t at = 0, most = 0;

        for (;;) {
                if (fstat(it->fd, &info) != 0)
                        return false;
                if (info.st_size <= at || info.st_size < most)
                        break;
                most = info.st_size;
                off_t end = at - at % WINDOW + WINDOW;
                if (end > info.st_size)
                        end = info.st_size;
                if (!look(it, at, end))
                        return false;
                at = end;
        }
        errno = ESTALE;
        return info.st_size == at && at >= most;
}

bool window_feed(int fd, void (*take)(void *owner, const char *bytes, size_t len), void *owner)
{
        const struct sigaction mine = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
        const struct looking it = {fd, take, owner};
        struct sigaction before;
        struct stat info;

        if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || lseek(fd, 0, SEEK_CUR) != 0)
                goto unmappable;
        char *at = mmap(NULL, WINDOW, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
                goto unmappable;
        window.at = at;
        window.struck = 0;
        sigaction(SIGBUS, &mine, &before);
        bool ok = look_through(&it);
        int why = errno;
        sigaction(SIGBUS, &before, NULL);
        window.at = NULL;
        munmap(at, WINDOW);
        errno = why;
        return ok;
unmappable:
        errno = EFBIG;
        return false;
}
