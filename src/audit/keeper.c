#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "dagward/audit/checkpoint.h"
#include "dagward/audit/closed.h"
#include "dagward/audit/position.h"
#include "dagward/base/clock.h"
#include "dagward/base/log.h"

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

/* Reads a packed file to its end, check included: does it end as the plain one did? */
static bool good_copy(const char *name, uint64_t last_seq)
{
        struct chain *chain = chain_new();
        char *memory = malloc(CHAIN_LINE_MOST);
        struct chain_line line;
        struct error err;

        if (!memory)
                abort();
        bool good = closed_last(chain, name, memory, &line, &err) && line.seq == last_seq;
        if (!good)
                log_error("audit: %s is no copy of the plain file, which stays", name);
        free(memory);
        chain_free(chain);
        return good;
}

/* The plain file goes only when the other is on disk, whole and under its name. */
static void compress_file(struct keeper *keeper, const struct closed_file *file)
{
        const char *path = file->path;
        char name[4096 + 8], part[4096 + 16];

        snprintf(name, sizeof(name), "%s.gz", path);
        snprintf(part, sizeof(part), "%s.gz.part", path);
        int in = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        unlink(part);
        int out = in < 0 ? -1 : open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
        bool ok = out >= 0 && deflate_file(keeper, in, out) && fsync(out) == 0 &&
                  rename(part, name) == 0;
        int why = errno;
        if (in >= 0)
                close(in);
        if (out >= 0)
                close(out);
        if (ok) {
                if (good_copy(name, file->last_seq))
                        unlink(path);
                return;
        }
        unlink(part);
        errno = why;
        if (!keeper->stop)
                log_errno("audit: %s is not compressed", path);
}

/* --- deleting --- */

/* What the log will say of `files[0]`: its end is told by the beginning of the file behind it. */
static bool describe(const struct closed_file *file, const char *next, struct expired_file *out)
{
        struct chain *chain = chain_new();
        char *memory = malloc(CHAIN_LINE_MOST);
        struct chain_line line;
        struct str detail;
        struct error err;

        if (!memory)
                abort();
        *out = (struct expired_file){.last_seq = file->last_seq};
        bool ok = closed_first(chain, file->path, memory, &line, &err);
        if (ok)
                out->first_seq = line.seq;
        if (closed_first(chain, next, memory, &line, &err) && line.seq == file->last_seq + 1 &&
                log_event_read(&line, STR("opened"), &detail))
                memcpy(out->last_hash, line.prev.ptr, CHAIN_HEX);
        /* A damaged file is evidence of its own: people decide. */
        if (!ok)
                log_error("audit: %s is due to be deleted and is kept, because %s", file->path,
                        err.text);
        else
                out->path = str_dup(str_of(file->path));
        free(memory);
        chain_free(chain);
        return ok;
}

static void delete_files(struct expire *expire, void *receiver)
{
        struct keeper *keeper = receiver;

        for (size_t i = 0; i < expire->n; i++) {
                if (expire->ok && unlink(expire->files[i].path) != 0)
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
        const uint64_t read = read_by_all(keeper);
        for (size_t i = 0; i < closed->n && expire->n < EXPIRE_MOST; i++) {
                const struct closed_file *file = &closed->items[i];
                /* Where both are set, a file goes when it is over both. */
                if ((keeper->keep && closed->n - i <= keeper->keep) ||
                        (keeper->keep_ms && now - file->closed_wall_ms < keeper->keep_ms) ||
                        file->last_seq > read)
                        break;
                const char *next = i + 1 < closed->n ? closed->items[i + 1].path : keeper->log;
                if (!describe(file, next, &expire->files[expire->n]))
                        break;
                expire->n++;
        }
        if (!expire->n)
                return;
        keeper->asked = true;
        scribe_expire(keeper->scribe, expire);
}

/* --- the thread --- */

/* A file that is there in both forms was about to lose the plain one. */
static bool has_twin(const struct closed_file *file)
{
        char name[4096 + 8];

        snprintf(name, sizeof(name), "%s.gz", file->path);
        if (file->gzip || access(name, F_OK) != 0)
                return false;
        if (good_copy(name, file->last_seq))
                unlink(file->path);
        return true;
}

static void look(struct keeper *keeper)
{
        struct closed_list closed;
        struct error err;

        keeper->look = false;
        if (!closed_list_read(keeper->log, &closed, &err)) {
                log_error("audit: closed files are not looked after: %s", err.text);
                return;
        }
        for (size_t i = 0; i < closed.n && !keeper->stop; i++)
                if (!has_twin(&closed.items[i]) && keeper->compress && !closed.items[i].gzip)
                        compress_file(keeper, &closed.items[i]);
        closed_list_clear(&closed);
        if (!keeper->stop && closed_list_read(keeper->log, &closed, &err)) {
                ask_to_delete(keeper, &closed);
                closed_list_clear(&closed);
        }
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
        free(keeper->log);
        free(keeper->anchor);
        free(keeper);
}

struct keeper *keeper_new(
        struct scribe *scribe, const struct scribe_settings *settings, struct error *err)
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
        };
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
        for (size_t i = 0; keeper->asked && i < keeper->expire.n; i++)
                free(keeper->expire.files[i].path);
        clear(keeper);
}
