#include "sound.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "dagward/audit/unzip.h"
#include "dagward/audit/verify.h"
#include "dagward/base/clock.h"

enum { PIECE = 16 * 1024 }; /* a packed one may unfold to a thousand times as much */

int sound_open(int folder, const char *name)
{
        struct stat info;
        int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);

        if (fd >= 0 && (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))) {
                close(fd);
                errno = EINVAL;
                return -1;
        }
        return fd;
}

static ssize_t read_at(int fd, char *piece, off_t at)
{
        ssize_t n;

        do {
                n = pread(fd, piece, PIECE, at);
        } while (n < 0 && errno == EINTR);
        return n;
}

static bool judge(
        const struct verify *verify, uint64_t last_seq, struct sound *out, struct error *err)
{
        if (!verify_good(verify))
                return error_set(err, "line %llu: %s", (unsigned long long)verify->first.line,
                        verify->first.text);
        if (verify->too_long || !verify->records)
                return error_set(err, "it holds no record");
        if (verify->head.seq != last_seq)
                return error_set(
                        err, "it ends with seq %llu", (unsigned long long)verify->head.seq);
        if (!clock_parse(str_of(verify->head_time), &out->last_wall_ms))
                return error_set(err, "its last record has no time");
        out->first_seq = verify->first_seq;
        out->last_seq = last_seq;
        memcpy(out->before, verify->before, sizeof(out->before));
        memcpy(out->last_hash, verify->head.hash, sizeof(out->last_hash));
        if (verify->signed_seq == last_seq)
                memcpy(out->key, verify->file_key, sizeof(out->key));
        return true;
}

bool sound_read(int fd, const char *path, uint64_t last_seq, sound_going_on *going_on, void *owner,
        struct sound *out, struct error *err)
{
        struct verify verify;
        char piece[PIECE];
        ssize_t n = 0;
        off_t at = 0;
        bool ended = false;

        *out = (struct sound){.good = false};
        if (fstat(fd, &out->info) != 0)
                return error_set(err, "%s: %s", path, strerror(errno));
        verify_init(&verify);
        verify_file(&verify, path);
        /* Of what is none, no more than it takes to know. */
        while (!ended && verify_good(&verify) && !verify.too_long) {
                n = read_at(fd, piece, at);
                if (n <= 0)
                        break;
                at += n;
                verify_feed(&verify, piece, (size_t)n);
                ended = !going_on(owner);
        }
        if (n < 0)
                error_set(err, "%s: %s", path, strerror(errno));
        if (n == 0)
                verify_file_end(&verify);
        out->good = n >= 0 && !ended && judge(&verify, last_seq, out, err);
        verify_clear(&verify);
        return n >= 0 && !ended;
}

bool sound_same(const struct sound *sound, const struct stat *info)
{
        const struct stat *ours = &sound->info;

        return ours->st_dev == info->st_dev && ours->st_ino == info->st_ino &&
               ours->st_size == info->st_size && ours->st_mtim.tv_sec == info->st_mtim.tv_sec &&
               ours->st_mtim.tv_nsec == info->st_mtim.tv_nsec &&
               ours->st_ctim.tv_sec == info->st_ctim.tv_sec &&
               ours->st_ctim.tv_nsec == info->st_ctim.tv_nsec;
}

/* --- a packed copy --- */

struct comparing {
        int plain;
        off_t at;
};

static bool compare(void *owner, const char *bytes, size_t len)
{
        struct comparing *c = owner;
        char piece[PIECE];

        while (len) {
                ssize_t n = read_at(c->plain, piece, c->at);
                if (n <= 0)
                        return false;
                size_t least = (size_t)n < len ? (size_t)n : len;
                if (memcmp(piece, bytes, least) != 0)
                        return false;
                c->at += (off_t)least;
                bytes += least;
                len -= least;
        }
        return true;
}

bool sound_copy(int plain, int packed, sound_going_on *going_on, void *owner)
{
        struct comparing c = {.plain = plain};
        struct unzip *unzip = unzip_new();
        char piece[PIECE];
        bool good = true;
        ssize_t n = 0;
        off_t at = 0;

        while (good && (n = read_at(packed, piece, at)) > 0) {
                at += n;
                good = unzip_feed(unzip, piece, (size_t)n, compare, &c) == UNZIP_GOOD &&
                       going_on(owner);
        }
        /* And nothing more in the plain one. */
        good = good && n == 0 && unzip_whole(unzip) && read_at(plain, piece, c.at) == 0;
        unzip_free(unzip);
        return good;
}
