/*
 * A disk that fails, for one file of one program: preloaded, it stands before libc's write,
 * fdatasync and ftruncate. DAGWARD_FAULTS_FILE is the file's path; the first byte of the file
 * DAGWARD_FAULTS_CONTROL says what happens from that moment on:
 *
 *     0  nothing            n  writes: ENOSPC       p  half of a write, then ENOSPC
 *     e  writes: EIO        s  fdatasync: EIO       r  all three: EROFS
 *     d  fdatasync takes 200 ms                     h  fdatasync hangs until that changes
 *     t  no thread can be started
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile char *control;
static const char *file;

__attribute__((constructor)) static void begin(void)
{
        const char *name = getenv("DAGWARD_FAULTS_CONTROL");
        int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;

        file = getenv("DAGWARD_FAULTS_FILE");
        if (fd < 0 || !file)
                return;
        void *page = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
        if (page != MAP_FAILED)
                control = page;
        close(fd);
}

/* What happens to this descriptor now. */
static char fault(int fd)
{
        char link[64], target[4096];

        if (!control || *control == '0')
                return '0';
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof(target) - 1);
        if (n < 0)
                return '0';
        target[n] = '\0';
        return strcmp(target, file) == 0 ? *control : '0';
}

static int failed(int why)
{
        errno = why;
        return -1;
}

int pthread_create(
        pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *it)
{
        int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = NULL;
        void *found = dlsym(RTLD_NEXT, "pthread_create");

        memcpy(&real, &found, sizeof(real)); /* ISO C knows no such cast */
        return control && *control == 't' ? EAGAIN : real(thread, attributes, run, it);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
        switch (fault(fd)) {
        case 'n': return failed(ENOSPC);
        case 'e': return failed(EIO);
        case 'r': return failed(EROFS);
        case 'p':
                if (n < 2)
                        return failed(ENOSPC);
                n /= 2;
                break;
        }
        return syscall(SYS_write, fd, bytes, n);
}

static void pause_ms(long ms)
{
        struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

        nanosleep(&t, NULL);
}

int fdatasync(int fd)
{
        switch (fault(fd)) {
        case 's': return failed(EIO);
        case 'r': return failed(EROFS);
        case 'd': pause_ms(200); break;
        case 'h':
                while (*control == 'h')
                        pause_ms(10);
                break;
        }
        return (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t size)
{
        if (fault(fd) == 'r')
                return failed(EROFS);
        return (int)syscall(SYS_ftruncate, fd, size);
}
