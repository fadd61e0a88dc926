#include "audit_points.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

enum {
        WINDOW_BYTES = 32768,  /* how far back deflate refers (RFC 1951 2) */
        APART_BYTES = 4 << 20, /* of text, between two places */
        POINTS_MOST = 1 << 16, /* 256 GiB of text */
        INPUT_BYTES = 256 * 1024,
        TRAILER_BYTES = 8, /* of a gzip member (RFC 1952 2.3) */
        RAW = -15,
        GZIP = 31, /* inflateInit2's names for the formats */
};

struct point {
        uint64_t text, packed; /* offsets; `packed`: of the first whole byte */
        uint32_t bits;         /* of the byte before, that belong to what follows */
        uint32_t window;       /* how many bytes of its window are there */
};

struct head {
        char magic[8];
        uint64_t size, mtime_ns, n;
};

static const char magic[8] = "DWPOINT1";

/* The packed bytes, in order. */
struct input {
        int fd;
        uint64_t offset;
        unsigned char bytes[INPUT_BYTES];
};

/* More input when there is none; false at the end. */
static bool feed(struct input *input, z_stream *z)
{
        if (z->avail_in)
                return true;
        ssize_t got = pread(input->fd, input->bytes, sizeof(input->bytes), (off_t)input->offset);
        if (got <= 0)
                return false;
        input->offset += (uint64_t)got;
        z->next_in = input->bytes;
        z->avail_in = (unsigned)got;
        return true;
}

/* --- making them --- */

struct making {
        struct input input;
        struct point all[POINTS_MOST];
        size_t n;
        unsigned char window[WINDOW_BYTES];
        unsigned char text[WINDOW_BYTES];
};

/* The stream stands between two blocks. */
static bool add_point(struct making *m, z_stream *z, uint64_t text, FILE *out)
{
        unsigned len = 0;

        if (m->n == POINTS_MOST)
                return true; /* further ones are reached from the last */
        memset(m->window, 0, sizeof(m->window));
        if (inflateGetDictionary(z, m->window, &len) != Z_OK)
                return false;
        m->all[m->n++] = (struct point){
                .text = text,
                .packed = m->input.offset - z->avail_in,
                .bits = (uint32_t)z->data_type & 7,
                .window = len,
        };
        return fwrite(m->window, 1, sizeof(m->window), out) == sizeof(m->window);
}

static bool find_points(struct making *m, z_stream *z, FILE *out)
{
        uint64_t text = 0;

        while (feed(&m->input, z)) {
                z->next_out = m->text;
                z->avail_out = sizeof(m->text);
                int code = inflate(z, Z_BLOCK);
                text += sizeof(m->text) - z->avail_out;
                if (code == Z_STREAM_END) {
                        if (inflateReset(z) != Z_OK)
                                return false;
                        continue;
                }
                if (code != Z_OK && code != Z_BUF_ERROR)
                        return m->n > 0; /* what is behind the last member is not ours */
                bool between = (z->data_type & 128) && !(z->data_type & 64);
                if (between && (!m->n || text >= m->all[m->n - 1].text + APART_BYTES) &&
                        !add_point(m, z, text, out))
                        return false;
        }
        return m->n > 0;
}

static uint64_t mtime_of(const struct stat *info)
{
        return (uint64_t)info->st_mtim.tv_sec * 1000000000u + (uint64_t)info->st_mtim.tv_nsec;
}

/* Windows first, then the table, then the head: its size is known in the end. */
static bool write_points(struct making *m, const struct stat *info, FILE *out)
{
        struct head head = {.size = (uint64_t)info->st_size, .mtime_ns = mtime_of(info)};
        z_stream z = {0};

        memcpy(head.magic, magic, sizeof(magic));
        if (inflateInit2(&z, GZIP) != Z_OK)
                return false;
        bool good = find_points(m, &z, out);
        inflateEnd(&z);
        head.n = m->n;
        return good && fwrite(m->all, sizeof(m->all[0]), m->n, out) == m->n &&
               fwrite(&head, sizeof(head), 1, out) == 1 && fflush(out) == 0 &&
               fdatasync(fileno(out)) == 0;
}

static bool make(const char *path, int fd, const struct stat *info)
{
        struct making *m = calloc(1, sizeof(*m));
        char part[4200];
        bool good = false;

        if (!m)
                abort();
        m->input.fd = fd;
        snprintf(part, sizeof(part), "%s.XXXXXX", path);
        int made = mkostemp(part, O_CLOEXEC);
        FILE *out = made < 0 ? NULL : fdopen(made, "w");
        if (out) {
                good = write_points(m, info, out);
                good = fclose(out) == 0 && good && rename(part, path) == 0;
                if (!good)
                        unlink(part);
        }
        free(m);
        return good;
}

/* --- opening --- */

static bool load(struct audit_points *points, const char *path, const struct stat *info)
{
        struct stat found;
        struct head head;

        points->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (points->fd < 0 || fstat(points->fd, &found) != 0 || !S_ISREG(found.st_mode) ||
                (found.st_uid != geteuid() && found.st_uid != 0) ||
                found.st_size < (off_t)sizeof(head) ||
                pread(points->fd, &head, sizeof(head), found.st_size - (off_t)sizeof(head)) !=
                        (ssize_t)sizeof(head) ||
                memcmp(head.magic, magic, sizeof(magic)) != 0 || !head.n || head.n > POINTS_MOST ||
                head.size != (uint64_t)info->st_size || head.mtime_ns != mtime_of(info) ||
                (uint64_t)found.st_size !=
                        sizeof(head) + head.n * (sizeof(struct point) + WINDOW_BYTES))
                return false;
        size_t bytes = head.n * sizeof(struct point);
        points->all = malloc(bytes);
        if (!points->all)
                abort();
        points->n = head.n;
        return pread(points->fd, points->all, bytes, (off_t)(head.n * WINDOW_BYTES)) ==
               (ssize_t)bytes;
}

bool audit_points_open(
        struct audit_points *points, const char *path, int fd, const struct stat *info)
{
        *points = (struct audit_points){.fd = -1};
        if (load(points, path, info)) {
                (void)futimens(points->fd, NULL);
                return true;
        }
        audit_points_close(points);
        return make(path, fd, info) && load(points, path, info);
}

void audit_points_close(struct audit_points *points)
{
        if (points->fd >= 0)
                close(points->fd);
        free(points->all);
        *points = (struct audit_points){.fd = -1};
}

/* --- reading --- */

/* Puts the stream where a point is. */
static bool go_to(const struct audit_points *points, size_t i, struct input *input, z_stream *z)
{
        const struct point *at = &points->all[i];
        unsigned char window[WINDOW_BYTES], before;

        if (at->window > WINDOW_BYTES || at->bits > 7 ||
                pread(points->fd, window, sizeof(window), (off_t)(i * WINDOW_BYTES)) !=
                        (ssize_t)sizeof(window))
                return false;
        input->offset = at->packed;
        if (at->bits && (pread(input->fd, &before, 1, (off_t)at->packed - 1) != 1 ||
                                inflatePrime(z, (int)at->bits, before >> (8 - at->bits)) != Z_OK))
                return false;
        return !at->window || inflateSetDictionary(z, window, at->window) == Z_OK;
}

/* The next member; the first one is read without its frame, so its trailer is still there. */
static bool next_member(struct input *input, z_stream *z, bool *raw)
{
        for (int i = 0; *raw && i < TRAILER_BYTES; i++) {
                if (!feed(input, z))
                        return false;
                z->next_in++;
                z->avail_in--;
        }
        *raw = false;
        return feed(input, z) && inflateReset2(z, GZIP) == Z_OK;
}

static ssize_t unpack(
        struct input *input, z_stream *z, uint64_t skip, unsigned char *out, size_t len)
{
        unsigned char passed[WINDOW_BYTES];
        size_t got = 0;
        bool raw = true;

        while (got < len && feed(input, z)) {
                size_t room = skip ? (skip < sizeof(passed) ? skip : sizeof(passed)) : len - got;
                z->next_out = skip ? passed : out + got;
                z->avail_out = (unsigned)room;
                int code = inflate(z, Z_NO_FLUSH);
                size_t made = room - z->avail_out;
                if (skip)
                        skip -= made;
                else
                        got += made;
                if (code == Z_STREAM_END && !next_member(input, z, &raw))
                        break;
                if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
                        return raw ? -1 : (ssize_t)got;
        }
        return (ssize_t)got;
}

ssize_t audit_points_read(
        const struct audit_points *points, int fd, uint64_t offset, char *out, size_t len)
{
        struct input *input = malloc(sizeof(*input));
        z_stream z = {0};
        size_t low = 0, high = points->n;
        ssize_t got = -1;

        if (!input)
                abort();
        input->fd = fd;
        while (high - low > 1) {
                size_t middle = low + (high - low) / 2;
                if (points->all[middle].text <= offset)
                        low = middle;
                else
                        high = middle;
        }
        if (points->all[low].text <= offset && inflateInit2(&z, RAW) == Z_OK) {
                if (go_to(points, low, input, &z))
                        got = unpack(input, &z, offset - points->all[low].text,
                                (unsigned char *)out, len);
                inflateEnd(&z);
        }
        free(input);
        return got;
}
