#include "dagward/base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void secret_wipe(void *memory, size_t len)
{
        if (len)
                explicit_bzero(memory, len);
}

void secret_set(struct secret *secret, struct str s)
{
        secret->bytes = str_dup(s);
        secret->len = s.len;
}

bool secret_read(struct secret *secret, const char *path, size_t most, struct error *err)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return error_set(err, "%s: %s", path, strerror(errno));
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
                free(secret->bytes);
        }
        *secret = (struct secret){0};
}
