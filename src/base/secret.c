#include "dagward/base/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "dagward/base/reach.h"

void secret_wipe(void *memory, size_t len)
{
        if (len)
                explicit_bzero(memory, len);
}

/* AddressSanitizer sees an overrun only in memory of malloc. */
#ifdef __SANITIZE_ADDRESS__
static char *pages_new(size_t bytes)
{
        char *pages = malloc(bytes);

        if (!pages)
                abort();
        return pages;
}

static void pages_free(char *pages, size_t bytes)
{
        (void)bytes;
        free(pages);
}
#else
static char *pages_new(size_t bytes)
{
        char *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (pages == MAP_FAILED)
                abort();
        /* Each as far as it is allowed: a secret that might be swapped out is still needed. */
        (void)!madvise(pages, bytes, MADV_DONTDUMP);
        (void)!madvise(pages, bytes, MADV_WIPEONFORK);
        (void)!mlock(pages, bytes);
        return pages;
}

static void pages_free(char *pages, size_t bytes)
{
        munmap(pages, bytes);
}
#endif

size_t secret_lockable(void)
{
        struct rlimit limit;
        long page = sysconf(_SC_PAGESIZE);
        void *probe = mmap(
                NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (probe == MAP_FAILED)
                return 0;
        bool allowed = mlock(probe, (size_t)page) == 0;
        munmap(probe, (size_t)page);
        if (!allowed || getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
                return 0;
        return limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : limit.rlim_cur;
}

char *secret_room(struct secret *secret, size_t len)
{
        secret->bytes = pages_new(len + 1);
        secret->bytes[len] = '\0';
        secret->len = len;
        return secret->bytes;
}

void secret_set(struct secret *secret, struct str s)
{
        char *bytes = secret_room(secret, s.len);

        if (s.len)
                memcpy(bytes, s.ptr, s.len);
}

bool secret_read(struct secret *secret, const char *path, size_t most, struct error *err)
{
        const char *why;
        int fd = file_open(path, &why);

        if (fd < 0)
                return error_set(err, "%s: %s", path, why);
        char *bytes = malloc(most + 1);
        if (!bytes)
                abort();
        size_t len = 0;
        ssize_t n = 0;
        while (len <= most && (n = read(fd, bytes + len, most + 1 - len)) > 0)
                len += (size_t)n;
        int saved = errno;
        close(fd);
        struct str text = str_trim(str_view(bytes, len));
        bool ok = false;
        if (n < 0)
                error_set(err, "%s: %s", path, strerror(saved));
        else if (len > most)
                error_set(err, "%s: longer than %zu bytes", path, most);
        else if (text.len == 0)
                error_set(err, "%s: is empty", path);
        else
                ok = true;
        if (ok)
                secret_set(secret, text);
        secret_wipe(bytes, len);
        free(bytes);
        return ok;
}

void secret_drop(struct secret *secret)
{
        if (secret->bytes) {
                secret_wipe(secret->bytes, secret->len);
                pages_free(secret->bytes, secret->len + 1);
        }
        *secret = (struct secret){0};
}
