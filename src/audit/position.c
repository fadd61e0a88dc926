#include "dagward/audit/position.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WORDS "dagward position 1 "

enum { DIGITS = 20, LINE = sizeof(WORDS) - 1 + DIGITS + 1 + CHAIN_HEX + 1 };

static bool parse(struct str line, struct chain_head *out)
{
        struct str number, hash;

        if (line.len != LINE || !str_starts(line, STR(WORDS)) || line.ptr[LINE - 1] != '\n')
                return false;
        number = str_head(str_from(line, sizeof(WORDS) - 1), DIGITS);
        hash = str_head(str_from(line, sizeof(WORDS) + DIGITS), CHAIN_HEX);
        for (size_t i = 0; i < CHAIN_HEX; i++) {
                char c = hash.ptr[i];
                if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
                        return false;
        }
        memcpy(out->hash, hash.ptr, CHAIN_HEX);
        out->hash[CHAIN_HEX] = '\0';
        return str_to_u64(number, &out->seq);
}

enum position_state position_read(const char *path, struct chain_head *out)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        char line[LINE + 1];

        if (fd < 0)
                return errno == ENOENT ? POSITION_NONE : POSITION_BROKEN;
        ssize_t n = pread(fd, line, sizeof(line), 0);
        close(fd);
        return n == LINE && parse(str_view(line, LINE), out) ? POSITION_GOOD : POSITION_BROKEN;
}

static void sync_folder(const char *path)
{
        char *copy = str_dup(str_of(path));
        int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0) {
                (void)!fsync(fd);
                close(fd);
        }
        free(copy);
}

bool position_write(const char *path, const struct chain_head *head, struct error *err)
{
        char line[LINE + 1];
        bool fresh = access(path, F_OK) != 0;
        int fd = open(
                path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0640);

        snprintf(line, sizeof(line), WORDS "%020llu %s\n", (unsigned long long)head->seq,
                head->hash);
        bool ok = fd >= 0 && pwrite(fd, line, LINE, 0) == LINE && (!fresh || fsync(fd) == 0);
        if (!ok)
                error_set(err, "%s: %s", path, strerror(errno));
        if (fd >= 0)
                close(fd);
        if (ok && fresh)
                sync_folder(path);
        return ok;
}
