#include "dagward/audit/closed.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "dagward/audit/unzip.h"

/* --- names --- */

const char *closed_base(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

bool closed_name(const char *log, uint64_t last_seq, int64_t wall_ms, char *out, size_t size)
{
        time_t seconds = (time_t)(wall_ms / 1000);
        char when[32];
        struct tm tm;

        gmtime_r(&seconds, &tm);
        strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm);
        int n = snprintf(out, size, "%s.%s-%012llu", log, when, (unsigned long long)last_seq);
        return n > 0 && (size_t)n < size;
}

/* `20261127T234512Z-000000123456`, perhaps with `.gz`. */
static bool parse_suffix(const char *suffix, struct closed_file *out)
{
        struct tm tm = {0};
        struct str rest, number;

        for (int i = 0; i < 16; i++) {
                bool digit = suffix[i] >= '0' && suffix[i] <= '9';
                if (i == 8 ? suffix[i] != 'T' : i == 15 ? suffix[i] != 'Z' : !digit)
                        return false;
        }
        const char *end = strptime(suffix, "%Y%m%dT%H%M%SZ", &tm);
        if (!end || end != suffix + 16 || *end != '-')
                return false;
        rest = str_cut(str_of(end + 1), '.', &number);
        out->gzip = rest.ptr != NULL;
        out->closed_wall_ms = (int64_t)timegm(&tm) * 1000;
        while (number.len > 1 && number.ptr[0] == '0')
                number = str_from(number, 1);
        return (!out->gzip || str_eq(rest, STR("gz"))) && str_to_u64(number, &out->last_seq);
}

static int by_seq(const void *a, const void *b)
{
        const struct closed_file *x = a, *y = b;

        if (x->last_seq != y->last_seq)
                return x->last_seq < y->last_seq ? -1 : 1;
        return strcmp(x->path, y->path);
}

/* A link leads to what somebody wants to be taken for a file of the log. */
static bool is_regular(int folder, const char *name)
{
        struct stat info;

        return fstatat(folder, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode);
}

bool closed_list_read(const char *log, struct closed_list *out, struct error *err)
{
        char *copy = str_dup(str_of(log)), path[4096];
        const char *folder = dirname(copy), *base = closed_base(log);
        size_t len = strlen(base);
        DIR *dir = opendir(folder);

        *out = (struct closed_list){0};
        if (!dir)
                error_set(err, "%s: %s", folder, strerror(errno));
        for (struct dirent *entry; dir && (entry = readdir(dir));) {
                struct closed_file file;
                if (strncmp(entry->d_name, base, len) != 0 || entry->d_name[len] != '.' ||
                        !parse_suffix(entry->d_name + len + 1, &file) ||
                        !is_regular(dirfd(dir), entry->d_name))
                        continue;
                snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
                file.path = str_dup(str_of(path));
                out->items = realloc(out->items, (out->n + 1) * sizeof(*out->items));
                if (!out->items)
                        abort();
                out->items[out->n++] = file;
        }
        if (out->n)
                qsort(out->items, out->n, sizeof(*out->items), by_seq);
        if (dir)
                closedir(dir);
        free(copy);
        return dir != NULL;
}

void closed_list_clear(struct closed_list *list)
{
        for (size_t i = 0; i < list->n; i++)
                free(list->items[i].path);
        free(list->items);
        *list = (struct closed_list){0};
}

/* --- contents --- */

struct line_reader {
        char *memory; /* the line; CHAIN_LINE_MOST bytes */
        size_t len;
        bool first; /* only the first one is wanted */
        bool ended; /* the line is whole: the next byte begins another one */
        bool too_long;
};

static bool take_bytes(void *owner, const char *bytes, size_t len)
{
        struct line_reader *r = owner;

        while (len) {
                if (r->ended) {
                        r->len = 0;
                        r->ended = r->too_long = false;
                }
                const char *newline = memchr(bytes, '\n', len);
                size_t n = newline ? (size_t)(newline - bytes) : len;
                if (n > CHAIN_LINE_MOST - r->len)
                        r->too_long = true;
                if (!r->too_long) {
                        memcpy(r->memory + r->len, bytes, n);
                        r->len += n;
                }
                r->ended = newline != NULL;
                if (r->first && (r->ended || r->too_long))
                        return false;
                n += r->ended;
                bytes += n;
                len -= n;
        }
        return true;
}

static bool read_line(struct chain *chain, const char *path, struct line_reader *r,
        struct chain_line *out, struct error *err)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        enum unzip_state state = UNZIP_GOOD;
        char chunk[16 * 1024];
        ssize_t n = 0;

        if (fd < 0)
                return error_set(err, "%s: %s", path, strerror(errno));
        struct unzip *unzip = unzip_new();
        while (state == UNZIP_GOOD) {
                n = read(fd, chunk, sizeof(chunk));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                state = unzip_feed(unzip, chunk, (size_t)n, take_bytes, r);
        }
        bool good = n >= 0 && !r->too_long && state != UNZIP_DAMAGED &&
                    (r->first || unzip_whole(unzip)) &&
                    chain_read(chain, str_view(r->memory, r->len), out) == CHAIN_GOOD;
        if (n < 0)
                error_set(err, "%s: %s", path, strerror(errno));
        else if (!good)
                error_set(err, "%s: its %s record is not whole", path, r->first ? "first" : "last");
        unzip_free(unzip);
        close(fd);
        return good;
}

bool closed_first(struct chain *chain, const char *path, char *memory, struct chain_line *out,
        struct error *err)
{
        struct line_reader r = {.memory = memory, .first = true};

        return read_line(chain, path, &r, out, err);
}

bool closed_last(struct chain *chain, const char *path, char *memory, struct chain_line *out,
        struct error *err)
{
        struct line_reader r = {.memory = memory};

        return read_line(chain, path, &r, out, err);
}
