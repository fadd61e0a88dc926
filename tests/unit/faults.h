/*
 * faults: the n-th call to the file system fails. Defined in a test program, these are called
 * instead of the C library's, by the module under test as well; one program, one include.
 *
 * A test runs its story for n = 1, 2, ... until no call is left to fail, and looks each time at
 * what is left: every path on which something can go wrong is taken, the rare ones included.
 */
#ifndef TESTS_UNIT_FAULTS_H
#define TESTS_UNIT_FAULTS_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
        atomic_bool armed;
        atomic_bool hit;   /* one has failed */
        atomic_bool halve; /* a write takes a half of what it was given, instead of failing */
        atomic_int error;
        atomic_long left; /* calls until then */
} faults;

static inline void faults_arm(long n, int error, bool halve)
{
        faults.hit = false;
        faults.error = error;
        faults.halve = halve;
        faults.left = n;
        faults.armed = true;
}

static inline void faults_disarm(void)
{
        faults.armed = false;
}

static inline bool faults_now(void)
{
        if (!faults.armed || atomic_fetch_sub(&faults.left, 1) != 1)
                return false;
        faults.hit = true;
        errno = faults.error;
        return true;
}

/* What wakes a thread is no file, and never fails. */
static inline bool faults_on(int fd)
{
        struct stat status;

        return faults.armed && fstatat(fd, "", &status, AT_EMPTY_PATH) == 0 &&
               (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) && faults_now();
}

#define FAULTS_FAIL(condition)                                                                     \
        do {                                                                                       \
                if (condition)                                                                     \
                        return -1;                                                                 \
        } while (0)

int open(const char *path, int flags, ...)
{
        mode_t mode = 0;

        if (flags & O_CREAT) {
                va_list args;
                va_start(args, flags);
                mode = va_arg(args, mode_t);
                va_end(args);
        }
        FAULTS_FAIL(faults_now());
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
        if (faults_on(fd)) {
                if (!faults.halve || n < 2)
                        return -1;
                n /= 2;
        }
        return syscall(SYS_write, fd, bytes, n);
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset)
{
        if (faults_on(fd)) {
                if (!faults.halve || n < 2)
                        return -1;
                n /= 2;
        }
        return syscall(SYS_pwrite64, fd, bytes, n, offset);
}

ssize_t pread(int fd, void *bytes, size_t n, off_t offset)
{
        FAULTS_FAIL(faults_on(fd));
        return syscall(SYS_pread64, fd, bytes, n, offset);
}

ssize_t read(int fd, void *bytes, size_t n)
{
        FAULTS_FAIL(faults_on(fd));
        return syscall(SYS_read, fd, bytes, n);
}

int fstat(int fd, struct stat *status)
{
        FAULTS_FAIL(faults_on(fd));
        return fstatat(fd, "", status, AT_EMPTY_PATH);
}

int fsync(int fd)
{
        FAULTS_FAIL(faults_on(fd));
        return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
        FAULTS_FAIL(faults_on(fd));
        return (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t size)
{
        FAULTS_FAIL(faults_on(fd));
        return (int)syscall(SYS_ftruncate, fd, size);
}

int rename(const char *from, const char *to)
{
        FAULTS_FAIL(faults_now());
        return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int link(const char *from, const char *to)
{
        FAULTS_FAIL(faults_now());
        return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *path)
{
        FAULTS_FAIL(faults_now());
        return unlinkat(AT_FDCWD, path, 0);
}

int flock(int fd, int how)
{
        FAULTS_FAIL(faults_on(fd));
        return (int)syscall(SYS_flock, fd, how);
}

#endif
