#include "audit_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include "dagward/audit/chain.h"
#include "dagward/base/report.h"

enum { CHUNK_BYTES = 1 << 20, GZIP_BYTES = 256 * 1024 };

_Static_assert(CHUNK_BYTES > 2 * CHAIN_LINE_MOST, "a line fits into a chunk");

int audit_open(const char *name)
{
        struct stat info;
        int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        bool meant = strncmp(name, "/dev/", 5) == 0 || strncmp(name, "/proc/", 6) == 0;

        if (fd < 0)
                return -1;
        if (fstat(fd, &info) == 0 && (meant || !S_ISFIFO(info.st_mode)) &&
                fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) == 0)
                return fd;
        close(fd);
        errno = ENXIO; /* as of a socket */
        return -1;
}

const char *audit_why(void)
{
        return errno == ENXIO ? "it is no file; a pipe is given as `-`" : strerror(errno);
}

const char *audit_shown(const char *text)
{
        static struct buf shown[4];
        static unsigned n;
        struct buf *out = &shown[n++ % 4];

        if (!out->cap)
                buf_init(out, 1 << 20);
        buf_reset(out);
        report_text(out, str_of(text));
        buf_char(out, '\0');
        return out->data;
}

bool audit_file_open_fd(struct audit_file *file, const char *name, int fd)
{
        *file = (struct audit_file){.name = name};
        if (fstat(fd, &file->info) != 0 || S_ISDIR(file->info.st_mode)) {
                int why = S_ISDIR(file->info.st_mode) ? EISDIR : errno;
                close(fd);
                errno = why;
                return false;
        }
        file->gz = gzdopen(fd, "rb");
        file->chunk = malloc(CHUNK_BYTES);
        if (!file->gz || !file->chunk)
                abort();
        gzbuffer(file->gz, GZIP_BYTES);
        file->plain = gzdirect(file->gz) && S_ISREG(file->info.st_mode);
        return true;
}

bool audit_file_open(struct audit_file *file, const char *name)
{
        bool standard = strcmp(name, "-") == 0;
        int fd = standard ? dup(STDIN_FILENO) : audit_open(name);

        if (fd < 0) {
                *file = (struct audit_file){.name = name};
                return false;
        }
        return audit_file_open_fd(file, standard ? "<stdin>" : name, fd);
}

void audit_file_close(struct audit_file *file)
{
        if (file->gz)
                gzclose_r(file->gz);
        free(file->chunk);
        file->gz = NULL;
        file->chunk = NULL;
}

/* More bytes behind those that are there; false when there are none. */
static bool refill(struct audit_file *file)
{
        int code = Z_OK;

        if (file->end)
                return false;
        memmove(file->chunk, file->chunk + file->at, file->len - file->at);
        file->len -= file->at;
        file->at = 0;
        int n = gzread(file->gz, file->chunk + file->len, (unsigned)(CHUNK_BYTES - file->len));
        if (n < (int)(CHUNK_BYTES - file->len)) {
                const char *text = gzerror(file->gz, &code);
                file->end = n <= 0 || code != Z_OK;
                if (n < 0 || code == Z_BUF_ERROR)
                        snprintf(file->why, sizeof(file->why), "%s",
                                code == Z_ERRNO       ? strerror(errno)
                                : code == Z_BUF_ERROR ? "the gzip file ends too early"
                                                      : text);
        }
        if (n > 0)
                file->len += (size_t)n;
        return n > 0;
}

bool audit_file_line(struct audit_file *file, struct str *line)
{
        bool skip = false;

        for (;;) {
                const char *begin = file->chunk + file->at;
                size_t there = file->len - file->at;
                const char *newline = there ? memchr(begin, '\n', there) : NULL;

                if (!newline && there > CHAIN_LINE_MOST) {
                        skip = true; /* its end is not in sight */
                        file->at += there;
                        file->offset += there;
                        continue;
                }
                if (!newline && refill(file))
                        continue;
                if (!there) {
                        file->too_long += skip;
                        return false;
                }
                size_t len = newline ? (size_t)(newline - begin) : there;
                file->torn = !newline;
                file->line_at = file->offset;
                file->at += len + (newline != NULL);
                file->offset += len + (newline != NULL);
                file->number++;
                if (!skip && len <= CHAIN_LINE_MOST) {
                        *line = str_view(begin, len);
                        return true;
                }
                file->too_long++;
                skip = false;
        }
}

bool audit_file_seek(struct audit_file *file, uint64_t offset)
{
        struct str rest;
        uint64_t from = offset ? offset - 1 : 0; /* whose newline says that a line begins here */

        if (gzseek(file->gz, (z_off_t)from, SEEK_SET) < 0)
                return false;
        file->at = file->len = 0;
        file->end = false;
        file->offset = from;
        if (offset && audit_file_line(file, &rest) && file->line_at != from) {
                /* The one before was too long: this is already the one that is meant. */
                file->at = (size_t)(rest.ptr - file->chunk);
                file->offset = file->line_at;
        }
        if (file->why[0])
                return false;
        file->number = 0;
        return true;
}

struct first {
        const char *name;
        uint64_t seq;
        size_t place;
};

static int by_seq(const void *left, const void *right)
{
        const struct first *a = left, *b = right;

        if (a->seq != b->seq)
                return a->seq < b->seq ? -1 : 1;
        return a->place < b->place ? -1 : 1;
}

/* {"seq":17,... */
static uint64_t first_seq(const char *name)
{
        struct audit_file file;
        struct str line, digits;
        uint64_t seq = 0;

        if (strcmp(name, "-") == 0 || !audit_file_open(&file, name))
                return 0;
        if (audit_file_line(&file, &line) && str_starts(line, STR("{\"seq\":"))) {
                (void)str_cut(str_from(line, 7), ',', &digits);
                if (!str_to_u64(digits, &seq))
                        seq = 0;
        }
        audit_file_close(&file);
        return seq;
}

void audit_files_sort(const char **names, size_t n)
{
        struct first *all = calloc(n ? n : 1, sizeof(*all));

        if (!all)
                abort();
        for (size_t i = 0; i < n; i++)
                all[i] = (struct first){names[i], first_seq(names[i]), i};
        qsort(all, n, sizeof(*all), by_seq);
        for (size_t i = 0; i < n; i++)
                names[i] = all[i].name;
        free(all);
}

static bool is_beside(const char *name, const char *log)
{
        static const struct str exact[] = {{".key", 4}, {".key.tmp", 8}, {".triggers", 9},
                {".triggers.new", 13}, {".gz.part", 8}};
        size_t len = strlen(log);

        if (strncmp(name, log, len) != 0)
                return false;
        struct str rest = str_of(name + len);
        for (size_t i = 0; i < sizeof(exact) / sizeof(exact[0]); i++)
                if (str_eq(rest, exact[i]))
                        return true;
        return str_starts(rest, STR(".sink-")) || str_starts(rest, STR(".torn-"));
}

static bool is_packed_form(const char *name, const char *log)
{
        size_t len = strlen(log);

        return strncmp(name, log, len) == 0 && strcmp(name + len, ".gz") == 0;
}

/* A stop in the moment between making the one and removing the other leaves both until the next
 * start: no record is missing or forged, each is there twice. */
static void tell_of_twins(const char *command, char **names, size_t n)
{
        for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < n; j++)
                        if (is_packed_form(names[i], names[j]))
                                fprintf(stderr,
                                        "dagward audit %s: %s is given, and packed as well: the "
                                        "same records twice, if one is a copy of the other; give "
                                        "only one of them\n",
                                        command, audit_shown(names[j]));
}

size_t audit_files_logs(const char *command, char **names, size_t n)
{
        size_t left = 0, out = 0;
        char **logs = calloc(n ? n : 1, sizeof(*logs));

        if (!logs)
                abort();
        for (size_t i = 0; i < n; i++) {
                bool beside = false;
                for (size_t j = 0; j < n && !beside; j++)
                        beside = is_beside(names[i], names[j]);
                if (!beside)
                        logs[left++] = names[i];
                else if (out++ == 0)
                        fprintf(stderr, "dagward audit %s: left out, being no logs: %s", command,
                                audit_shown(names[i]));
                else
                        fprintf(stderr, " %s", audit_shown(names[i]));
        }
        if (out)
                fputc('\n', stderr);
        memcpy(names, logs, left * sizeof(*names));
        free(logs);
        tell_of_twins(command, names, left);
        return left;
}

int audit_complain(const char *command, const char *format, ...)
{
        va_list args;

        fprintf(stderr, "dagward audit %s: ", command);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fprintf(stderr, "; see `dagward audit %s --help`\n", command);
        return 2;
}

void audit_file_complain(const char *command, const struct audit_file *file)
{
        fprintf(stderr, "dagward audit %s: %s: %s\n", command, audit_shown(file->name),
                file->why[0] ? file->why : audit_why());
}
