/*
 * Memory that is out, once: preloaded, it stands before libc's allocator, and the n-th allocation
 * after it was armed fails. DAGWARD_MEMORY_CONTROL is a file of two int64, in the byte order of the
 * machine: how many more are given (negative: all are), and how many were refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t n);

static struct {
        _Atomic int64_t left, refused;
} * control;

__attribute__((constructor)) static void begin(void)
{
        const char *name = getenv("DAGWARD_MEMORY_CONTROL");
        int fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;

        if (fd < 0)
                return;
        void *page = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page != MAP_FAILED)
                control = page;
        close(fd);
}

static int refuse(void)
{
        if (!control || atomic_load(&control->left) < 0 || atomic_fetch_sub(&control->left, 1) != 0)
                return 0;
        atomic_fetch_add(&control->refused, 1);
        errno = ENOMEM;
        return 1;
}

void *malloc(size_t n)
{
        return refuse() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
        return refuse() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t n)
{
        return refuse() ? NULL : __libc_realloc(old, n);
}
