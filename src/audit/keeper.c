#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "dagward/audit/closed.h"
#include "dagward/audit/position.h"
#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "sound.h"

enum {
        LOOK_MS = 3600 * 1000,      /* what is too old is looked for so often */
        ANCHOR_RETRY_MS = 1000,     /* an anchor that failed */
        ANCHOR_BYTES = 1024 * 1024, /* checkpoints that wait for it, at most */
        CHUNK = 256 * 1024,         /* read between two looks into the mailbox */
        LEVEL = 4,                  /* of zlib: twice as fast as 6 for 5 % more bytes */
        WINDOW_GZIP = 15 + 16,
        MEMORY_LEVEL = 8,
};

struct keeper {
        struct scribe *scribe;
        struct mailbox *box;
        pthread_t thread;
        char *log, *anchor; /* paths; anchor NULL: none */
        bool compress;
        uint64_t keep;   /* closed files; 0: all */
        int64_t keep_ms; /* 0: for ever */
        char **readers;  /* paths of positions that must be behind a file before it goes */
        size_t n_readers;
        bool stop, look;
        struct buf waiting; /* checkpoints for the anchor */
        size_t lost;        /* of them, because the anchor was away for too long */
        bool anchor_failing;
        struct expire expire;
        bool asked; /* the scribe has `expire` */
        char key[SIGNING_KEY_LEN + 1];
        struct sound *known; /* what was read, so that it is read once */
        size_t n_known;
        int folder; /* while it looks */
};

/* --- the anchor --- */

/* Whole lines only, even after somebody else's torn one. */
static bool begin_line(int fd, const struct stat *info)
{
        char last = '\n';

        if (!S_ISREG(info->st_mode) || info->st_size == 0)
                return true;
        if (pread(fd, &last, 1, info->st_size - 1) != 1)
                return false;
        return last == '\n' || write(fd, "\n", 1) == 1;
}

static bool write_lines(int fd, struct buf *lines)
{
        while (lines->len) {
                /* A line at a time: in a pipe it is whole or not there at all (POSIX, PIPE_BUF). */
                const char *newline = memchr(lines->data, '\n', lines->len);
                size_t n = (size_t)(newline - lines->data) + 1;
                ssize_t put = write(fd, lines->data, n);
                if (put < 0 && errno == EINTR)
                        continue;
                if (put != (ssize_t)n) {
                        if (put >= 0)
                                errno = ENOSPC;
                        return false;
                }
                memmove(lines->data, lines->data + n, lines->len - n);
                lines->len -= n;
        }
        return true;
}

/* Opened for each write: the file may be rotated, the volume be mounted again, the reader of a pipe
 * come and go. */
static bool write_anchor(struct keeper *keeper)
{
        struct stat info;
        /* Open for reading as well, a pipe would take lines that nobody reads. */
        bool pipe = stat(keeper->anchor, &info) == 0 && S_ISFIFO(info.st_mode);
        int fd = open(keeper->anchor,
                (pipe ? O_WRONLY : O_RDWR | O_CREAT) | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                0640);

        if (fd < 0)
                return false;
        bool ok = fstat(fd, &info) == 0 && begin_line(fd, &info) &&
                  write_lines(fd, &keeper->waiting) && (!S_ISREG(info.st_mode) || fsync(fd) == 0);
        int why = errno;
        close(fd);
        errno = why;
        return ok;
}

static void serve_anchor(struct keeper *keeper)
{
        if (!keeper->waiting.len)
                return;
        bool ok = write_anchor(keeper);
        const char *why = ok ? "" : strerror(errno);
        if (ok != keeper->anchor_failing)
                return;
        keeper->anchor_failing = !ok;
        if (ok)
                log_info("audit: the anchor %s takes checkpoints again, %zu were lost",
                        keeper->anchor, keeper->lost);
        else
                log_error("audit: the anchor %s takes no checkpoint: %s", keeper->anchor, why);
        keeper->lost = 0;
        scribe_anchored(keeper->scribe, str_of(why));
}

struct line_mail {
        struct mail mail;
        size_t len;
        char line[];
};

static void line_arrived(struct mail *mail, void *receiver)
{
        struct keeper *keeper = receiver;
        struct line_mail *line = (struct line_mail *)mail;

        /* The newest says most: the oldest go. */
        while (keeper->waiting.len + line->len > ANCHOR_BYTES) {
                const char *newline = memchr(keeper->waiting.data, '\n', keeper->waiting.len);
                size_t n = (size_t)(newline - keeper->waiting.data) + 1;
                memmove(keeper->waiting.data, keeper->waiting.data + n, keeper->waiting.len - n);
                keeper->waiting.len -= n;
                keeper->lost++;
        }
        buf_add(&keeper->waiting, line->line, line->len);
        free(line);
        if (!keeper->anchor_failing)
                serve_anchor(keeper);
}

void keeper_anchor(struct keeper *keeper, struct str line)
{
        if (!keeper->anchor)
                return;
        struct line_mail *mail = malloc(sizeof(*mail) + line.len);
        if (!mail)
                abort();
        mail->mail.deliver = line_arrived;
        mail->len = line.len;
        memcpy(mail->line, line.ptr, line.len);
        mailbox_post(keeper->box, &mail->mail);
}

/* --- compressing --- */

static bool write_all(int fd, const unsigned char *bytes, size_t len)
{
        while (len) {
                ssize_t n = write(fd, bytes, len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return false;
                bytes += n;
                len -= (size_t)n;
        }
        return true;
}

static bool deflate_piece(z_stream *z, unsigned char *piece, size_t len, int flush, int out)
{
        unsigned char packed[64 * 1024];

        z->next_in = piece;
        z->avail_in = (unsigned)len;
        do {
                z->next_out = packed;
                z->avail_out = sizeof(packed);
                deflate(z, flush);
                if (!write_all(out, packed, sizeof(packed) - z->avail_out))
                        return false;
        } while (z->avail_out == 0);
        return true;
}

/* Other mail is served meanwhile; a stop ends it. */
static bool deflate_file(struct keeper *keeper, int in, int out)
{
        unsigned char *piece = malloc(CHUNK);
        z_stream z = {0};
        ssize_t n = -1;

        if (!piece || deflateInit2(&z, LEVEL, Z_DEFLATED, WINDOW_GZIP, MEMORY_LEVEL,
                              Z_DEFAULT_STRATEGY) != Z_OK)
                abort();
        while (!keeper->stop) {
                n = read(in, piece, CHUNK);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 || !deflate_piece(&z, piece, (size_t)n, n ? Z_NO_FLUSH : Z_FINISH, out)) {
                        n = -1;
                        break;
                }
                if (n == 0)
                        break;
                mailbox_drain(keeper->box);
        }
        deflateEnd(&z);
        free(piece);
        return n == 0;
}

/* --- what stands in closed files --- */

static bool going_on(void *owner)
{
        struct keeper *keeper = owner;

        mailbox_drain(keeper->box);
        return !keeper->stop;
}

static struct sound *known(const struct keeper *keeper, const struct stat *info)
{
        for (size_t i = 0; i < keeper->n_known; i++)
                if (sound_same(&keeper->known[i], info))
                        return &keeper->known[i];
        return NULL;
}

static void remember(struct keeper *keeper, const struct sound *sound)
{
        keeper->known = realloc(keeper->known, (keeper->n_known + 1) * sizeof(*keeper->known));
        if (!keeper->known)
                abort();
        keeper->known[keeper->n_known++] = *sound;
}

/* What is not there any more, or has changed. */
static void forget(struct keeper *keeper)
{
        size_t kept = 0;

        for (size_t i = 0; i < keeper->n_known; i++)
                if (keeper->known[i].seen)
                        keeper->known[kept++] = keeper->known[i];
        keeper->n_known = kept;
        for (size_t i = 0; i < kept; i++)
                keeper->known[i].seen = false;
}

/* Whether the open file is a sound part of a log that ends as its name says; said once of one that
 * is not. */
static bool is_sound(
        struct keeper *keeper, const struct closed_file *file, int fd, struct sound *out)
{
        struct stat info;
        struct error err = {""};

        if (fstat(fd, &info) != 0)
                return false;
        struct sound *before = known(keeper, &info);
        if (before) {
                before->seen = true;
                *out = *before;
                return out->good && out->last_seq == file->last_seq;
        }
        if (!sound_read(fd, file->path, file->last_seq, going_on, keeper, out, &err)) {
                if (!keeper->stop)
                        log_error("audit: %s", err.text);
                return false;
        }
        if (!out->good)
                log_error("audit: %s is no sound closed file and is left as it is: %s", file->path,
                        err.text);
        out->seen = true;
        remember(keeper, out);
        return out->good;
}

/* --- compressing, file by file --- */

/* Unfolds a packed file to its end: does it have every byte of the plain one? Said if not. */
static bool is_copy(struct keeper *keeper, int plain, const char *packed)
{
        int fd = sound_open(keeper->folder, packed);
        bool same = fd >= 0 && sound_copy(plain, fd, going_on, keeper);

        if (fd >= 0)
                close(fd);
        if (!same && !keeper->stop)
                log_error("audit: %s is no copy of the plain file, which stays", packed);
        return same;
}

/* The plain file goes when the other is on disk, whole, and at once when that has its name: with
 * both of them there, whoever verifies all files finds the same records twice. */
static void compress_file(struct keeper *keeper, const struct closed_file *file, int in)
{
        const char *base = closed_base(file->path);
        char name[4096 + 8], part[4096 + 16];
        const int folder = keeper->folder;

        snprintf(name, sizeof(name), "%s.gz", base);
        snprintf(part, sizeof(part), "%s.gz.part", base);
        unlinkat(folder, part, 0);
        int out = openat(folder, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
        bool written = out >= 0 && deflate_file(keeper, in, out) && fsync(out) == 0;
        if (!written && !keeper->stop)
                log_errno("audit: %s is not compressed", file->path);
        if (out >= 0)
                close(out);
        if (written && is_copy(keeper, in, part)) {
                /* The new name is on disk before the old one goes. */
                if (renameat(folder, part, folder, name) == 0 && fsync(folder) == 0) {
                        unlinkat(folder, base, 0);
                        return;
                }
                log_errno("audit: %s is not compressed", file->path);
        }
        unlinkat(folder, part, 0);
}

/* One that is there in both forms was about to lose the plain one. */
static void pack(struct keeper *keeper, const struct closed_file *file)
{
        char name[4096 + 8];
        struct sound sound;
        struct stat info;
        int fd = sound_open(keeper->folder, closed_base(file->path));

        if (fd < 0) {
                if (errno != ENOENT)
                        log_errno("audit: %s", file->path);
                return;
        }
        snprintf(name, sizeof(name), "%s.gz", closed_base(file->path));
        bool twin = fstatat(keeper->folder, name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
                    S_ISREG(info.st_mode);
        if ((twin || keeper->compress) && is_sound(keeper, file, fd, &sound)) {
                if (!twin)
                        compress_file(keeper, file, fd);
                else if (is_copy(keeper, fd, name))
                        unlinkat(keeper->folder, closed_base(file->path), 0);
        }
        close(fd);
}

/* --- deleting --- */

/* The files of the log that is written, the newest first: each is followed by the one behind it, or
 * signed by this log's key as a whole. No two have the same records. */
struct chained {
        struct sound *items;
        const struct closed_file **files;
        size_t n;
};

static bool follows(const struct keeper *keeper, const struct sound *one, uint64_t next_seq,
        const char *next_prev)
{
        if (one->last_seq >= next_seq)
                return false;
        return (one->last_seq + 1 == next_seq && strcmp(one->last_hash, next_prev) == 0) ||
               (one->key[0] && strcmp(one->key, keeper->key) == 0);
}

static bool begin_of_log(const struct keeper *keeper, uint64_t *seq, char prev[CHAIN_HEX + 1])
{
        struct chain *chain = chain_new();
        char *memory = malloc(CHAIN_LINE_MOST);
        struct chain_line line;
        struct error err;

        if (!memory)
                abort();
        bool ok = closed_first(chain, keeper->log, memory, &line, &err);
        if (ok) {
                *seq = line.seq;
                memcpy(prev, line.prev.ptr, CHAIN_HEX);
                prev[CHAIN_HEX] = '\0';
        }
        free(memory);
        chain_free(chain);
        return ok;
}

static void find_chained(
        struct keeper *keeper, const struct closed_list *closed, struct chained *out)
{
        char prev[CHAIN_HEX + 1];
        uint64_t seq;

        if (!begin_of_log(keeper, &seq, prev))
                return;
        for (size_t i = closed->n; i-- > 0 && !keeper->stop;) {
                const struct closed_file *file = &closed->items[i];
                struct sound *one = &out->items[out->n];
                int fd = sound_open(keeper->folder, closed_base(file->path));
                bool good = fd >= 0 && is_sound(keeper, file, fd, one) &&
                            follows(keeper, one, seq, prev);
                if (fd >= 0)
                        close(fd);
                if (!good)
                        continue;
                seq = one->first_seq;
                memcpy(prev, one->before, sizeof(prev));
                out->files[out->n++] = file;
        }
}

static bool is_still(const struct expired_file *file)
{
        struct stat info;

        return lstat(file->path, &info) == 0 && info.st_dev == file->device &&
               info.st_ino == file->inode;
}

static void drop_expired(struct expire *expire)
{
        for (size_t i = 0; i < expire->n; i++)
                free(expire->files[i].path);
        expire->n = 0;
}

static void delete_files(struct expire *expire, void *receiver)
{
        struct keeper *keeper = receiver;

        for (size_t i = 0; i < expire->n; i++) {
                if (expire->ok && !is_still(&expire->files[i]))
                        log_error("audit: %s is another file now, and is left",
                                expire->files[i].path);
                else if (expire->ok && unlink(expire->files[i].path) != 0)
                        log_errno("audit: %s cannot be deleted", expire->files[i].path);
                else if (expire->ok)
                        log_info("audit: %s was deleted, seq %llu to %llu", expire->files[i].path,
                                (unsigned long long)expire->files[i].first_seq,
                                (unsigned long long)expire->files[i].last_seq);
                free(expire->files[i].path);
        }
        keeper->asked = false;
        /* More than one question could hold, and files that were closed meanwhile. */
        keeper->look |= expire->ok;
}

/* The last record that all who read the log have read; one who has not begun has read nothing. */
static uint64_t read_by_all(const struct keeper *keeper)
{
        uint64_t least = UINT64_MAX;
        struct chain_head head;

        for (size_t i = 0; i < keeper->n_readers; i++) {
                if (position_read(keeper->readers[i], &head) != POSITION_GOOD)
                        return 0;
                least = head.seq < least ? head.seq : least;
        }
        return least;
}

static void ask_to_delete(struct keeper *keeper, const struct closed_list *closed)
{
        struct expire *expire = &keeper->expire;
        /* A clock that is set forward makes no evidence old. */
        int64_t wall = clock_wall_ms(), steady = clock_steady_ms();
        int64_t now = wall < steady ? wall : steady;

        if (keeper->asked || (!keeper->keep && !keeper->keep_ms))
                return;
        *expire = (struct expire){.reply_to = keeper->box, .done = delete_files};
        struct chained chained = {
                .items = calloc(closed->n + 1, sizeof(*chained.items)),
                .files = calloc(closed->n + 1, sizeof(*chained.files)),
        };
        if (!chained.items || !chained.files)
                abort();
        find_chained(keeper, closed, &chained);
        const uint64_t read = read_by_all(keeper);
        for (size_t i = chained.n; i-- > 0 && expire->n < EXPIRE_MOST && !keeper->stop;) {
                const struct sound *one = &chained.items[i];
                /* Where both are set, a file goes when it is over both. */
                if ((keeper->keep && i < keeper->keep) ||
                        (keeper->keep_ms && now - one->last_wall_ms < keeper->keep_ms) ||
                        one->last_seq > read)
                        break;
                struct expired_file *file = &expire->files[expire->n++];
                *file = (struct expired_file){
                        .path = str_dup(str_of(chained.files[i]->path)),
                        .device = one->info.st_dev,
                        .inode = one->info.st_ino,
                        .first_seq = one->first_seq,
                        .last_seq = one->last_seq,
                };
                memcpy(file->last_hash, one->last_hash, sizeof(file->last_hash));
        }
        free(chained.items);
        free(chained.files);
        if (keeper->stop)
                drop_expired(expire);
        if (!expire->n)
                return;
        keeper->asked = true;
        scribe_expire(keeper->scribe, expire);
}

/* --- the thread --- */

static bool list_closed(struct keeper *keeper, struct closed_list *closed)
{
        struct error err;

        if (closed_list_read(keeper->log, closed, &err))
                return true;
        log_error("audit: closed files are not looked after: %s", err.text);
        return false;
}

static void look(struct keeper *keeper)
{
        struct closed_list closed;
        char *copy = str_dup(str_of(keeper->log));

        keeper->look = false;
        keeper->folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (keeper->folder < 0)
                log_errno("audit: closed files are not looked after: %s", copy);
        else if (list_closed(keeper, &closed)) {
                for (size_t i = 0; i < closed.n && !keeper->stop; i++)
                        if (!closed.items[i].gzip)
                                pack(keeper, &closed.items[i]);
                closed_list_clear(&closed);
                if (!keeper->stop && list_closed(keeper, &closed)) {
                        ask_to_delete(keeper, &closed);
                        closed_list_clear(&closed);
                }
                if (!keeper->stop)
                        forget(keeper);
        }
        if (keeper->folder >= 0)
                close(keeper->folder);
        keeper->folder = -1;
        free(copy);
}

static void *run(void *argument)
{
        struct keeper *keeper = argument;

        setpriority(PRIO_PROCESS, 0, 10); /* of this thread */
        while (!keeper->stop) {
                struct pollfd fd = {.fd = mailbox_fd(keeper->box), .events = POLLIN};
                if (keeper->look)
                        look(keeper);
                else if (poll(&fd, 1, keeper->waiting.len ? ANCHOR_RETRY_MS : LOOK_MS) == 0)
                        keeper->look = !keeper->waiting.len;
                mailbox_drain(keeper->box);
                serve_anchor(keeper);
        }
        return NULL;
}

static void closed_arrived(struct mail *mail, void *receiver)
{
        ((struct keeper *)receiver)->look = true;
        free(mail);
}

static void stop_arrived(struct mail *mail, void *receiver)
{
        ((struct keeper *)receiver)->stop = true;
        free(mail);
}

static void post_word(struct keeper *keeper, void (*deliver)(struct mail *mail, void *receiver))
{
        struct mail *mail = calloc(1, sizeof(*mail));

        if (!mail)
                abort();
        mail->deliver = deliver;
        mailbox_post(keeper->box, mail);
}

void keeper_closed(struct keeper *keeper)
{
        post_word(keeper, closed_arrived);
}

static void clear(struct keeper *keeper)
{
        mailbox_free(keeper->box);
        buf_clear(&keeper->waiting);
        for (size_t i = 0; i < keeper->n_readers; i++)
                free(keeper->readers[i]);
        free(keeper->readers);
        free(keeper->known);
        free(keeper->log);
        free(keeper->anchor);
        free(keeper);
}

struct keeper *keeper_new(struct scribe *scribe, const struct scribe_settings *settings,
        const char *key, struct error *err)
{
        struct keeper *keeper = calloc(1, sizeof(*keeper));
        sigset_t all, before;

        if (!keeper)
                abort();
        *keeper = (struct keeper){
                .scribe = scribe,
                .log = str_dup(str_of(settings->path)),
                .anchor = settings->anchor ? str_dup(str_of(settings->anchor)) : NULL,
                .compress = settings->compress,
                .keep = settings->keep,
                .keep_ms = settings->keep_ms,
                .look = true,
                .folder = -1,
        };
        snprintf(keeper->key, sizeof(keeper->key), "%s", key);
        keeper->readers = calloc(settings->n_readers + 1, sizeof(*keeper->readers));
        if (!keeper->readers)
                abort();
        while (keeper->n_readers < settings->n_readers) {
                keeper->readers[keeper->n_readers] =
                        str_dup(str_of(settings->readers[keeper->n_readers]));
                keeper->n_readers++;
        }
        keeper->box = mailbox_new(keeper);
        buf_init(&keeper->waiting, 2 * ANCHOR_BYTES);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        bool ok = pthread_create(&keeper->thread, NULL, run, keeper) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (ok)
                return keeper;
        clear(keeper);
        error_set(err, "the thread for closed audit files cannot be started");
        return NULL;
}

void keeper_stop(struct keeper *keeper)
{
        if (!keeper)
                return;
        post_word(keeper, stop_arrived);
        pthread_join(keeper->thread, NULL);
        if (keeper->waiting.len)
                log_error("audit: checkpoints were not written to the anchor %s", keeper->anchor);
}

void keeper_free(struct keeper *keeper)
{
        if (!keeper)
                return;
        if (keeper->asked)
                drop_expired(&keeper->expire);
        clear(keeper);
}
