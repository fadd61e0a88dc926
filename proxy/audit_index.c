#include "audit_index.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "dagward/base/id.h"

#ifndef AUDIT_INDEX_SEGMENT_ENTRIES /* who fuzzes this builds many, each of less memory */
#define AUDIT_INDEX_SEGMENT_ENTRIES (4 << 20)
#endif

enum {
        SEGMENT_ENTRIES = AUDIT_INDEX_SEGMENT_ENTRIES,
        SEGMENTS_MOST = sizeof(((struct audit_index *)0)->sizes) / sizeof(uint64_t),
        TAIL_BYTES = 8 << 20, /* so much new text is read rather than indexed */
        CHECK_BYTES = 4096,
        ARENA_BYTES = 64 * 1024,
        ARENA_MOST = 1 << 20,
        UNUSED_S = 60 * 24 * 3600, /* an index that nobody asked for so long is removed */
        TORN_S = 24 * 3600,        /* what a build that died has left */
};

/* What stands in front of the entries; of this machine, so in its byte order. */
struct head {
        char magic[8];
        uint64_t device, inode, begin; /* of the log; begin: hash of its first bytes */
        uint64_t size, mtime_ns;       /* when it was read */
        uint64_t covered, end;         /* end: hash of the last bytes in front of `covered` */
        uint64_t n_segments;
        uint64_t sizes[SEGMENTS_MOST];
};

static const char magic[8] = "DWTRACE1";

/* --- keys --- */

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t len)
{
        const unsigned char *p = bytes;

        for (size_t i = 0; i < len; i++)
                hash = (hash ^ p[i]) * 0x100000001B3u;
        return hash;
}

static uint64_t hash_end(uint64_t hash)
{
        hash = (hash ^ hash >> 33) * 0xFF51AFD7ED558CCDu;
        return hash ^ hash >> 33;
}

uint32_t audit_key(enum audit_key_kind kind, struct str text)
{
        uint64_t hash = (0xCBF29CE484222325u ^ (uint64_t)kind) * 0x100000001B3u;

        return (uint32_t)(hash_end(hash_bytes(hash, text.ptr, text.len)) >> 32);
}

bool audit_trace_id(struct str traceparent, char out[37])
{
        return traceparent.len >= 35 && traceparent.ptr[2] == '-' &&
               id_uuid_canonical(str_view(traceparent.ptr + 3, 32), out);
}

bool audit_run_named(const struct audit_line *line, size_t *i, struct str *run)
{
        const struct audit_fields *f = &line->fields;

        for (; *i < f->request.n_resources; ++*i)
                if (str_eq(f->request.resources[*i].name, STR("build"))) {
                        *run = f->request.resources[(*i)++].value;
                        return true;
                }
        for (; *i < f->request.n_resources + f->event.n_detail; ++*i) {
                const struct pair *one = &f->event.detail[*i - f->request.n_resources];
                if (str_eq(one->name, STR("run")) || str_eq(one->name, STR("run_id")) ||
                        str_eq(one->name, STR("build"))) {
                        *run = one->value;
                        ++*i;
                        return true;
                }
        }
        return false;
}

static void add_key(
        uint32_t out[AUDIT_INDEX_KEYS], size_t *n, enum audit_key_kind kind, struct str text)
{
        if (!text.len || *n == AUDIT_INDEX_KEYS)
                return;
        uint32_t key = audit_key(kind, text);
        for (size_t i = 0; i < *n; i++)
                if (out[i] == key)
                        return;
        out[(*n)++] = key;
}

static void add_id(uint32_t out[AUDIT_INDEX_KEYS], size_t *n, struct str text)
{
        char id[ID_UUID_LEN + 1];

        add_key(out, n, AUDIT_KEY_ID, id_uuid_canonical(text, id) ? str_of(id) : text);
}

size_t audit_keys(const struct audit_line *line, uint32_t out[AUDIT_INDEX_KEYS])
{
        const struct audit_fields *f = &line->fields;
        char text[2048];
        struct str run;
        size_t n = 0, i = 0;

        add_id(out, &n, f->correlation_id);
        add_id(out, &n, f->request_id);
        add_id(out, &n, f->upstream.activity_id);
        if (audit_trace_id(f->traceparent, text))
                add_key(out, &n, AUDIT_KEY_ID, str_of(text));
        if (f->claimed.dag_id.len && f->claimed.run_id.len) {
                struct buf both;
                buf_init_fixed(&both, text, sizeof(text));
                BUF_ALL(&both, f->claimed.dag_id, STR("/"), f->claimed.run_id);
                if (!both.overflow)
                        add_key(out, &n, AUDIT_KEY_DAG, buf_str(&both));
        }
        add_key(out, &n, AUDIT_KEY_RUN, f->run.id);
        while (audit_run_named(line, &i, &run))
                add_key(out, &n, AUDIT_KEY_RUN, run);
        return n;
}

/* --- building --- */

struct building {
        struct head head;
        FILE *out;
        uint64_t *entries, *scratch;
        size_t n;
        struct arena arena;
};

/* By the hash, which is the upper half; stable, so that blocks of one hash stay ascending. */
static void sort_entries(uint64_t *entries, uint64_t *scratch, size_t n)
{
        static const unsigned shifts[] = {32, 43, 54};
        uint64_t *from = entries, *to = scratch;

        for (size_t pass = 0; pass < 3; pass++) {
                size_t counts[2049] = {0};
                for (size_t i = 0; i < n; i++)
                        counts[(from[i] >> shifts[pass] & 2047) + 1]++;
                for (size_t i = 1; i < 2049; i++)
                        counts[i] += counts[i - 1];
                for (size_t i = 0; i < n; i++)
                        to[counts[from[i] >> shifts[pass] & 2047]++] = from[i];
                uint64_t *swap = from;
                from = to;
                to = swap;
        }
        memcpy(entries, from, n * sizeof(*entries)); /* an odd number of passes */
}

static bool end_segment(struct building *b)
{
        size_t n = 0;

        if (!b->n)
                return true;
        if (b->head.n_segments == SEGMENTS_MOST)
                return false;
        sort_entries(b->entries, b->scratch, b->n);
        for (size_t i = 0; i < b->n; i++)
                if (!n || b->entries[n - 1] != b->entries[i])
                        b->entries[n++] = b->entries[i];
        b->head.sizes[b->head.n_segments++] = n;
        b->n = 0;
        return fwrite(b->entries, sizeof(*b->entries), n, b->out) == n;
}

static bool add_line(struct building *b, struct str line, uint64_t at)
{
        uint32_t keys[AUDIT_INDEX_KEYS];
        struct audit_line record;

        arena_reset(&b->arena);
        if (!audit_line_read(line, &b->arena, &record))
                return true;
        if (b->n + AUDIT_INDEX_KEYS > SEGMENT_ENTRIES && !end_segment(b))
                return false;
        size_t n = audit_keys(&record, keys);
        for (size_t i = 0; i < n; i++)
                b->entries[b->n++] = (uint64_t)keys[i] << 32 | at / AUDIT_INDEX_BLOCK;
        return true;
}

/* The bytes that end at `end`, at most CHECK_BYTES of them. */
static uint64_t hash_before(int fd, uint64_t end)
{
        char bytes[CHECK_BYTES];
        size_t len = end < sizeof(bytes) ? (size_t)end : sizeof(bytes);
        ssize_t got = pread(fd, bytes, len, (off_t)(end - len));

        return got == (ssize_t)len ? hash_end(hash_bytes(1, bytes, len)) : 0;
}

static uint64_t mtime_of(const struct stat *info)
{
        return (uint64_t)info->st_mtim.tv_sec * 1000000000u + (uint64_t)info->st_mtim.tv_nsec;
}

/* From head.covered to the last whole line. */
static bool read_log(struct building *b, struct audit_file *log, bool plain, int fd)
{
        struct str line;
        uint64_t covered = b->head.covered;

        if (!audit_file_seek(log, covered))
                return false;
        while (audit_file_line(log, &line) && !log->torn) {
                if (!add_line(b, line, log->line_at))
                        return false;
                covered = log->offset;
        }
        b->head.covered = covered;
        b->head.end = plain ? hash_before(fd, covered) : 0;
        return !log->why[0] && end_segment(b);
}

/* Segments that are there are taken over as they are. */
static bool take_over(struct building *b, int old)
{
        char block[65536];
        ssize_t got;

        if (lseek(old, sizeof(struct head), SEEK_SET) < 0)
                return false;
        while ((got = read(old, block, sizeof(block))) > 0)
                if (fwrite(block, 1, (size_t)got, b->out) != (size_t)got)
                        return false;
        return got == 0;
}

static bool write_all(struct building *b, struct audit_file *log, int fd, int old)
{
        struct audit_file copy;
        bool good = fwrite(&b->head, sizeof(b->head), 1, b->out) == 1;

        if (good && b->head.n_segments)
                good = take_over(b, old);
        int again = good && lseek(fd, 0, SEEK_SET) == 0 ? dup(fd) : -1;
        if (again < 0 || !audit_file_open_fd(&copy, log->name, again))
                return false;
        good = read_log(b, &copy, log->plain, fd);
        memcpy(log->why, copy.why, sizeof(log->why));
        audit_file_close(&copy);
        return good && fseek(b->out, 0, SEEK_SET) == 0 &&
               fwrite(&b->head, sizeof(b->head), 1, b->out) == 1 && fflush(b->out) == 0 &&
               fdatasync(fileno(b->out)) == 0;
}

/* Under another name first: two that build at once each put a whole one in place. Without a path it
 * has no name at all. The descriptor of what was built, or -1 with errno. */
static int place(struct building *b, const char *path, struct audit_file *log, int fd, int old)
{
        char part[4200];
        int out;

        if (path) {
                snprintf(part, sizeof(part), "%s.XXXXXX", path);
                out = mkostemp(part, O_CLOEXEC);
                b->out = out < 0 ? NULL : fdopen(out, "w+");
        } else {
                b->out = tmpfile();
        }
        if (!b->out)
                return -1;
        bool good = write_all(b, log, fd, old) && (!path || rename(part, path) == 0);
        int why = errno;
        out = good ? dup(fileno(b->out)) : -1;
        fclose(b->out);
        if (!good && path)
                unlink(part);
        errno = why;
        return out;
}

static int build(const char *path, const struct head *head, struct audit_file *log, int fd, int old)
{
        struct building *b = calloc(1, sizeof(*b));

        if (!b)
                abort();
        b->head = *head;
        b->entries = malloc((size_t)SEGMENT_ENTRIES * sizeof(*b->entries));
        b->scratch = malloc((size_t)SEGMENT_ENTRIES * sizeof(*b->scratch));
        if (!b->entries || !b->scratch)
                abort();
        arena_init(&b->arena, ARENA_BYTES, ARENA_MOST);
        int built = place(b, path, log, fd, old);
        int why = errno;
        arena_clear(&b->arena);
        free(b->entries);
        free(b->scratch);
        free(b);
        errno = why;
        return built;
}

/* --- opening --- */

/* Of a file of nothing else than a whole index. */
static bool read_head(int fd, struct head *head)
{
        struct stat info;
        uint64_t entries = 0;

        if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) ||
                (info.st_uid != geteuid() && info.st_uid != 0) ||
                pread(fd, head, sizeof(*head), 0) != (ssize_t)sizeof(*head) ||
                memcmp(head->magic, magic, sizeof(magic)) != 0 || head->n_segments > SEGMENTS_MOST)
                return false;
        for (uint64_t i = 0; i < head->n_segments; i++) {
                if (head->sizes[i] > SEGMENT_ENTRIES)
                        return false;
                entries += head->sizes[i];
        }
        return (uint64_t)info.st_size == sizeof(*head) + entries * sizeof(uint64_t);
}

/* What is in `have` is still so in the log. */
static bool still_true(const struct head *have, const struct head *now, bool plain, int fd)
{
        if (have->device != now->device || have->inode != now->inode || have->begin != now->begin ||
                have->size > now->size)
                return false;
        if (have->size == now->size)
                return have->mtime_ns == now->mtime_ns;
        return plain && have->covered <= now->size && have->end == hash_before(fd, have->covered);
}

static void remove_old(const char *directory)
{
        DIR *dir = opendir(directory);
        struct dirent *entry;
        struct stat info;
        int64_t now_s = clock_wall_ms() / 1000;

        while (dir && (entry = readdir(dir)) != NULL) {
                struct str name = str_of(entry->d_name);
                if (!str_starts(name, STR("trace-")) || str_find_str(name, STR(".idx")) < 0 ||
                        fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
                        continue;
                if (info.st_mtime <
                        now_s - (str_ends(name, STR(".idx")) || str_ends(name, STR(".gz"))
                                                ? UNUSED_S
                                                : TORN_S))
                        unlinkat(dirfd(dir), entry->d_name, 0);
        }
        if (dir)
                closedir(dir);
}

/* Of the first line, which says when and where the log begins, and stays. */
static uint64_t hash_first(const struct audit_file *log, int fd)
{
        struct audit_file copy;
        struct str line;
        uint64_t hash = 0;
        int again = lseek(fd, 0, SEEK_SET) == 0 ? dup(fd) : -1;

        if (again < 0 || !audit_file_open_fd(&copy, log->name, again))
                return 0;
        if (audit_file_seek(&copy, 0) && audit_file_line(&copy, &line) && !copy.torn)
                hash = hash_end(hash_bytes(7, line.ptr, line.len));
        audit_file_close(&copy);
        return hash;
}

static bool use(
        struct audit_index *index, int fd, const struct head *head, bool plain, uint64_t size)
{
        index->fd = fd;
        index->covered = head->covered;
        index->whole = !plain || head->covered == size;
        index->n_segments = head->n_segments;
        memcpy(index->sizes, head->sizes, sizeof(index->sizes));
        return true;
}

/* The one that is kept, if it still holds; `*fd` is its file in any case, or -1. */
static bool look_up(const char *path, const struct head *now, const struct audit_file *log,
        int log_fd, struct head *have, int *fd)
{
        *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        return *fd >= 0 && read_head(*fd, have) && still_true(have, now, log->plain, log_fd);
}

static bool open_with(struct audit_index *index, const char *directory, struct audit_file *log,
        int log_fd, char *path, size_t path_bytes)
{
        struct head now = {.device = (uint64_t)log->info.st_dev,
                .inode = (uint64_t)log->info.st_ino,
                .size = (uint64_t)log->info.st_size,
                .mtime_ns = mtime_of(&log->info),
                .begin = hash_first(log, log_fd)};
        struct head have;
        int fd = -1;
        bool good = false;

        memcpy(now.magic, magic, sizeof(magic));
        if (directory) {
                snprintf(path, path_bytes, "%s/trace-%016llx-%llx.idx", directory,
                        (unsigned long long)now.begin, (unsigned long long)now.inode);
                good = look_up(path, &now, log, log_fd, &have, &fd);
        }
        if (good && now.size - have.size < TAIL_BYTES) {
                (void)futimens(fd, NULL);
                return use(index, fd, &have, log->plain, now.size);
        }
        if (good && have.n_segments < SEGMENTS_MOST / 2) {
                now.covered = have.covered;
                now.n_segments = have.n_segments;
                memcpy(now.sizes, have.sizes, sizeof(now.sizes));
        }
        int built = build(directory ? path : NULL, &now, log, log_fd, fd);
        int why = errno;
        if (fd >= 0)
                close(fd);
        errno = why;
        if (built < 0 || !read_head(built, &have)) {
                if (built >= 0)
                        close(built);
                return false;
        }
        if (directory)
                remove_old(directory);
        index->built = true;
        return use(index, built, &have, log->plain, now.size);
}

bool audit_index_open(
        struct audit_index *index, const char *directory, struct audit_file *log, int log_fd)
{
        *index = (struct audit_index){.fd = -1, .points.fd = -1};
        errno = 0;
        char path[4096];

        if (!open_with(index, directory, log, log_fd, path, sizeof(path)))
                return false;
        if (directory && !log->plain) {
                /* Without them it is unpacked from its begin. */
                snprintf(path + strlen(path), sizeof(path) - strlen(path), ".gz");
                if (!audit_points_open(&index->points, path, log_fd, &log->info))
                        audit_points_close(&index->points);
        }
        return true;
}

void audit_index_close(struct audit_index *index)
{
        if (index->fd >= 0)
                close(index->fd);
        index->fd = -1;
        audit_points_close(&index->points);
}

/* --- asking --- */

static uint64_t entry_at(const struct audit_index *index, uint64_t i)
{
        uint64_t entry = UINT64_MAX;

        if (pread(index->fd, &entry, sizeof(entry),
                    (off_t)(sizeof(struct head) + i * sizeof(entry))) != (ssize_t)sizeof(entry))
                return UINT64_MAX;
        return entry;
}

size_t audit_index_find(
        const struct audit_index *index, uint32_t key, uint32_t *blocks, size_t n, size_t most)
{
        uint64_t begin = 0;

        for (uint64_t s = 0; s < index->n_segments; begin += index->sizes[s++]) {
                uint64_t low = begin, high = begin + index->sizes[s];
                uint64_t end = high, entry;
                while (low < high) {
                        uint64_t middle = low + (high - low) / 2;
                        if (entry_at(index, middle) >> 32 < key)
                                low = middle + 1;
                        else
                                high = middle;
                }
                for (; low < end && n < most; low++) {
                        entry = entry_at(index, low);
                        if (entry >> 32 != key)
                                break;
                        blocks[n++] = (uint32_t)entry;
                }
        }
        return n;
}

bool audit_index_directory(const char *given, char *out, size_t bytes, const char **why)
{
        const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
        struct stat info;

        *why = "neither XDG_CACHE_HOME nor HOME is set";
        if (given) {
                snprintf(out, bytes, "%s", given);
        } else if (cache && *cache == '/') {
                mkdir(cache, 0700);
                snprintf(out, bytes, "%s/dagward", cache);
        } else if (home && *home == '/') {
                snprintf(out, bytes, "%s/.cache", home);
                mkdir(out, 0700);
                snprintf(out, bytes, "%s/.cache/dagward", home);
        } else {
                return false;
        }
        if (mkdir(out, 0700) != 0 && errno != EEXIST) {
                *why = strerror(errno);
                return false;
        }
        *why = "it is no directory of yours";
        return stat(out, &info) == 0 && S_ISDIR(info.st_mode) &&
               (given || info.st_uid == geteuid());
}
