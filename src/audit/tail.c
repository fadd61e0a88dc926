#include "dagward/audit/tail.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dagward/audit/closed.h"
#include "dagward/audit/unzip.h"
#include "dagward/base/buf.h"

enum {
        PIECE = 64 * 1024,
        /* Of a packed file: it may unfold to a thousand times as much at once. */
        PACKED_PIECE = 4 * 1024,
        ROOM = 8 * 1024 * 1024,
        LOOKS_MOST = 3,   /* at the folder, while files change their names */
        ASTRAY_MOST = 64, /* files that are remembered */
};

struct astray {
        dev_t device;
        ino_t inode;
};

struct tail {
        char *log;
        uint64_t seq;         /* given or lost */
        int fd;               /* -1: no file */
        uint64_t closed_last; /* of a file that is closed: its last seq; 0: it is written */
        struct unzip *unzip;  /* NULL: a plain file */
        bool ended;           /* nothing more can be unfolded: damaged */
        uint64_t known;       /* records up to here were acknowledged when `bytes` was read */
        off_t offset;         /* of the file: where reading goes on */
        struct buf bytes;     /* read, and from `start` on not used */
        size_t start;
        size_t given;   /* bytes of the line that was given last; 0: none */
        unsigned looks; /* at this place, without a record from it */
        /* Of record `seq`, and of the one before it; "": not known. */
        char hash[CHAIN_HEX + 1], hash_before[CHAIN_HEX + 1];
        /* Closed files that did not lead on where they should: others are tried before them. */
        struct astray astray[ASTRAY_MOST];
        size_t n_astray;
        bool desperate;         /* there is no better file than this one */
        uint64_t gap;           /* no file has the records up to here; 0: there is no gap */
        bool gap_is_unreadable; /* a file that should have them is damaged */
};

struct tail *tail_new(const char *log)
{
        struct tail *tail = calloc(1, sizeof(*tail));

        if (!tail)
                abort();
        tail->log = str_dup(str_of(log));
        tail->fd = -1;
        buf_init(&tail->bytes, ROOM);
        return tail;
}

static void drop_file(struct tail *tail)
{
        if (tail->fd >= 0)
                close(tail->fd);
        tail->fd = -1;
        unzip_free(tail->unzip);
        tail->unzip = NULL;
        buf_reset(&tail->bytes);
        tail->start = 0;
        tail->offset = 0;
        tail->ended = false;
}

void tail_free(struct tail *tail)
{
        if (!tail)
                return;
        drop_file(tail);
        buf_clear(&tail->bytes);
        free(tail->log);
        free(tail);
}

void tail_seek(struct tail *tail, uint64_t seq)
{
        drop_file(tail);
        buf_clear(&tail->bytes);
        tail->seq = seq;
        tail->hash[0] = tail->hash_before[0] = '\0';
        tail->n_astray = 0;
        tail->looks = 0;
}

void tail_seek_behind(struct tail *tail, const struct chain_head *head)
{
        struct chain_head none;

        tail_seek(tail, head->seq);
        chain_head_init(&none);
        if (memcmp(head->hash, none.hash, CHAIN_HEX) != 0)
                memcpy(tail->hash, head->hash, sizeof(tail->hash));
}

uint64_t tail_seq(const struct tail *tail)
{
        return tail->seq;
}

uint64_t tail_line_seq(struct str line)
{
        struct str number;
        uint64_t seq;

        if (!str_starts(line, STR("{\"seq\":")))
                return 0;
        str_cut(str_head(str_from(line, 7), 24), ',', &number);
        return str_to_u64(number, &seq) ? seq : 0;
}

/* --- finding the place --- */

static ssize_t read_at(int fd, char *out, size_t len, off_t at)
{
        ssize_t n;

        do {
                n = pread(fd, out, len, at);
        } while (n < 0 && errno == EINTR);
        return n;
}

/* The first whole record behind `*at`: its seq, and where it begins; 0: none in this piece. */
static uint64_t record_after(int fd, char *piece, off_t *at)
{
        ssize_t n = read_at(fd, piece, PIECE, *at);
        struct str rest = str_view(piece, n > 0 ? (size_t)n : 0), line;

        rest = str_cut(rest, '\n', &line);
        while (rest.ptr) {
                off_t begins = *at + (rest.ptr - piece);
                rest = str_cut(rest, '\n', &line);
                uint64_t seq = rest.ptr ? tail_line_seq(line) : 0;
                if (seq) {
                        *at = begins;
                        return seq;
                }
        }
        return 0;
}

/* A place from which reading lines leads to the record behind `seq`: numbers grow with offsets. */
static off_t find_place(int fd, off_t size, uint64_t seq)
{
        char *piece = malloc(PIECE);
        off_t low = 0, high = size;

        if (!piece)
                abort();
        while (high - low > 2 * PIECE) {
                off_t middle = low + (high - low) / 2, at = middle;
                uint64_t found = record_after(fd, piece, &at);
                if (!found)
                        break;
                if (found <= seq)
                        low = at;
                else
                        high = middle;
        }
        free(piece);
        return low;
}

static bool open_path(struct tail *tail, const char *path, struct error *err)
{
        struct stat info;
        char first;

        tail->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
                                      (path == tail->log ? 0 : O_NOFOLLOW));
        if (tail->fd < 0 || fstat(tail->fd, &info) != 0)
                return error_set(err, "%s: %s", path, strerror(errno));
        if (read_at(tail->fd, &first, 1, 0) == 1 && (unsigned char)first == 0x1F)
                tail->unzip = unzip_new();
        else
                tail->offset = find_place(tail->fd, info.st_size, tail->seq);
        return true;
}

/* --- which file --- */

static bool is_astray(const struct tail *tail, const char *path)
{
        struct stat info;

        if (lstat(path, &info) != 0)
                return false;
        for (size_t i = 0; i < tail->n_astray && i < ASTRAY_MOST; i++)
                if (tail->astray[i].device == info.st_dev && tail->astray[i].inode == info.st_ino)
                        return true;
        return false;
}

/* The closed file that is read turned out not to have what is due. */
static void leave_astray(struct tail *tail)
{
        struct stat info;

        if (fstat(tail->fd, &info) == 0)
                tail->astray[tail->n_astray++ % ASTRAY_MOST] =
                        (struct astray){info.st_dev, info.st_ino};
        drop_file(tail);
}

/* What the first record of a file says of it. */
enum fit {
        FIT,       /* the record that is due may be in it */
        FIT_OTHER, /* it has that number, and does not follow the last one */
        FIT_LATER, /* it begins behind that */
        FIT_NOT,   /* it is no file of a log, or damaged */
        FIT_MOVED, /* it has another name by now */
};

static enum fit judge_file(struct tail *tail, const char *path, char *memory, uint64_t *first)
{
        struct chain *chain = chain_new();
        struct chain_line line;
        struct error err;
        enum fit fit = FIT;

        *first = 0;
        if (!closed_first(chain, path, memory, &line, &err)) {
                fit = access(path, F_OK) != 0 ? FIT_MOVED : FIT_NOT;
        } else {
                *first = line.seq;
                if (line.seq > tail->seq + 1)
                        fit = FIT_LATER;
                else if (line.seq == tail->seq + 1 && tail->hash[0] &&
                         !str_eq(line.prev, str_of(tail->hash)))
                        fit = FIT_OTHER;
        }
        chain_free(chain);
        return fit;
}

/* Among files with the form of a name, in which anything may stand. */
struct choice {
        const struct closed_file *file; /* NULL: the one that is written */
        const struct closed_file *astray;
        uint64_t later;   /* the first record that there is behind a gap; 0: none */
        uint64_t damaged; /* the last of the files that are none */
        bool moved;
};

static void choose(struct tail *tail, const struct closed_list *closed, struct choice *out)
{
        char *memory = malloc(CHAIN_LINE_MOST);
        uint64_t first;

        if (!memory)
                abort();
        *out = (struct choice){.file = NULL};
        for (size_t i = 0; i < closed->n && !out->file && !out->moved; i++) {
                const struct closed_file *file = &closed->items[i];
                if (file->last_seq <= tail->seq)
                        continue;
                switch (judge_file(tail, file->path, memory, &first)) {
                case FIT:
                        if (!is_astray(tail, file->path))
                                out->file = file;
                        else if (!out->astray)
                                out->astray = file;
                        break;
                case FIT_OTHER:
                        if (!out->astray)
                                out->astray = file;
                        break;
                case FIT_LATER:
                        if (first <= file->last_seq && (!out->later || first < out->later))
                                out->later = first;
                        break;
                case FIT_NOT: out->damaged = file->last_seq; break;
                case FIT_MOVED: out->moved = true; break;
                }
        }
        if (!out->file && !out->moved) {
                enum fit fit = judge_file(tail, tail->log, memory, &first);
                if (fit == FIT_LATER && (!out->later || first < out->later))
                        out->later = first;
                /* What is written is read whatever it is, when there is nothing else. */
                if (fit == FIT)
                        out->later = 0;
                if (fit != FIT)
                        out->file = out->astray;
        }
        free(memory);
}

/* Opens the file that has the record behind `seq`. False with errno ENOENT: it was renamed or
 * packed just now. */
static bool open_file(struct tail *tail, struct error *err)
{
        struct closed_list closed;
        struct choice choice;

        drop_file(tail);
        tail->closed_last = tail->gap = 0;
        tail->desperate = false;
        if (!closed_list_read(tail->log, &closed, err)) {
                errno = EIO;
                return false;
        }
        choose(tail, &closed, &choice);
        bool ok = true;
        if (choice.moved) {
                ok = error_set(err, "%s: its closed files change their names", tail->log);
                errno = ENOENT;
        } else if (choice.file) {
                tail->desperate = choice.file == choice.astray;
                tail->closed_last = choice.file->last_seq;
                ok = open_path(tail, choice.file->path, err);
        } else if (choice.later) {
                tail->gap = choice.later - 1;
                tail->gap_is_unreadable = choice.damaged && choice.damaged < choice.later;
        } else {
                ok = open_path(tail, tail->log, err);
        }
        int why = errno;
        closed_list_clear(&closed);
        errno = why;
        return ok;
}

/* --- reading --- */

static bool take_bytes(void *owner, const char *bytes, size_t len)
{
        struct tail *tail = owner;

        buf_add(&tail->bytes, bytes, len);
        return !tail->bytes.overflow;
}

enum filled { FILLED, FILLED_NOT, FILLED_DAMAGED };

/* Reads one piece more. */
static enum filled fill(struct tail *tail, uint64_t until)
{
        char piece[PACKED_PIECE];

        if (tail->start) {
                memmove(tail->bytes.data, tail->bytes.data + tail->start,
                        tail->bytes.len - tail->start);
                tail->bytes.len -= tail->start;
                tail->start = 0;
        }
        if (!tail->bytes.len)
                tail->known = until;
        if (!tail->unzip) {
                if (!buf_reserve(&tail->bytes, PIECE))
                        return FILLED_DAMAGED;
                ssize_t n =
                        read_at(tail->fd, tail->bytes.data + tail->bytes.len, PIECE, tail->offset);
                if (n <= 0)
                        return n < 0 ? FILLED_DAMAGED : FILLED_NOT;
                tail->bytes.len += (size_t)n;
                tail->offset += n;
                return FILLED;
        }
        tail->known = UINT64_MAX; /* closed: nothing of it is taken back */
        ssize_t n = tail->ended ? -1 : read_at(tail->fd, piece, sizeof(piece), tail->offset);
        if (n <= 0)
                return n == 0 && unzip_whole(tail->unzip) ? FILLED_NOT : FILLED_DAMAGED;
        tail->offset += n;
        /* What came out before the damage is used. */
        tail->ended = unzip_feed(tail->unzip, piece, (size_t)n, take_bytes, tail) != UNZIP_GOOD;
        return FILLED;
}

/* Forgets what was read ahead and is not used. */
static void unread(struct tail *tail)
{
        if (tail->unzip)
                return;
        tail->offset -= (off_t)(tail->bytes.len - tail->start);
        buf_reset(&tail->bytes);
        tail->start = 0;
}

/* A whole line that is there already; `*len` with its newline. */
static bool line_there(const struct tail *tail, struct str *line, size_t *len)
{
        struct str rest = str_from(buf_str(&tail->bytes), tail->start);
        ssize_t newline = rest.len ? str_find(rest, '\n') : -1;

        if (newline < 0)
                return false;
        *line = str_head(rest, (size_t)newline);
        *len = (size_t)newline + 1;
        return true;
}

/* `...,"prev":"<64 hex>","hash":"<64 hex>"}` */
static void find_hashes(struct tail_record *record)
{
        enum { END = 9 + CHAIN_HEX + 2, BOTH = 9 + CHAIN_HEX + 1 + END };
        struct str line = record->line;

        record->prev = record->hash = STR_NONE;
        if (line.len < BOTH || !str_starts(str_from(line, line.len - END), STR(",\"hash\":\"")) ||
                !str_starts(str_from(line, line.len - BOTH), STR(",\"prev\":\"")))
                return;
        record->hash = str_head(str_from(line, line.len - END + 9), CHAIN_HEX);
        record->prev = str_head(str_from(line, line.len - BOTH + 9), CHAIN_HEX);
}

static enum tail_state lost(
        struct tail *tail, uint64_t last, bool unreadable, struct tail_record *out)
{
        *out = (struct tail_record){.first = tail->seq + 1, .last = last, .unreadable = unreadable};
        tail->seq = last;
        tail->hash[0] = tail->hash_before[0] = '\0';
        tail->looks = 0;
        return TAIL_LOST;
}

/* What a line that was read means. TAIL_END: it is not for now; TAIL_ERROR: it is none. */
static enum tail_state judge_line(
        struct tail *tail, struct str line, size_t len, uint64_t until, struct tail_record *out)
{
        uint64_t seq = tail_line_seq(line);

        if (!seq || seq <= tail->seq) {
                tail->start += len;
                return TAIL_ERROR;
        }
        if (seq > tail->known || seq > until) {
                unread(tail); /* it may have been read before it was final */
                return seq > until ? TAIL_END : TAIL_ERROR;
        }
        *out = (struct tail_record){.seq = seq, .line = line};
        find_hashes(out);
        if (tail->closed_last && !tail->desperate &&
                (seq > tail->seq + 1 ||
                        (tail->hash[0] && !str_eq(out->prev, str_of(tail->hash))))) {
                leave_astray(tail);
                return TAIL_ERROR;
        }
        if (seq > tail->seq + 1) {
                /* It may stand in a file that was closed between two looks. */
                if (!tail->closed_last && ++tail->looks < LOOKS_MOST) {
                        drop_file(tail);
                        return TAIL_ERROR;
                }
                return lost(tail, seq - 1, false, out);
        }
        tail->start += len;
        tail->given = len;
        tail->seq = seq;
        tail->looks = 0;
        memcpy(tail->hash_before, tail->hash, sizeof(tail->hash));
        snprintf(tail->hash, sizeof(tail->hash), "%.*s", STR_FMT(out->hash));
        return TAIL_RECORD;
}

/* At the end of a file with records still due. True: there is another file to look at. */
static bool leave_file(struct tail *tail)
{
        struct stat ours, named;

        if (tail->closed_last)
                return true;
        bool same = stat(tail->log, &named) == 0 && fstat(tail->fd, &ours) == 0 &&
                    named.st_ino == ours.st_ino && named.st_dev == ours.st_dev;
        /* Cut by somebody else. */
        return !same || named.st_size < tail->offset;
}

enum tail_state tail_next(
        struct tail *tail, uint64_t until, struct tail_record *out, struct error *err)
{
        struct str line;
        size_t len;

        tail->given = 0;
        while (tail->seq < until) {
                if (tail->fd < 0 && !open_file(tail, err)) {
                        bool moved = errno == ENOENT;
                        drop_file(tail);
                        if (!moved || ++tail->looks > LOOKS_MOST)
                                return TAIL_ERROR;
                        continue;
                }
                if (tail->gap) {
                        /* It may stand in a file that was closed between two looks. */
                        if (++tail->looks < LOOKS_MOST)
                                continue;
                        return lost(tail, tail->gap < until ? tail->gap : until,
                                tail->gap_is_unreadable, out);
                }
                if (line_there(tail, &line, &len)) {
                        enum tail_state state = judge_line(tail, line, len, until, out);
                        if (state != TAIL_ERROR)
                                return state;
                        continue;
                }
                enum filled filled = fill(tail, until);
                if (filled == FILLED)
                        continue;
                uint64_t closed_last = tail->closed_last;
                if (filled == FILLED_DAMAGED && !closed_last) {
                        drop_file(tail);
                        error_set(err, "%s: cannot be read", tail->log);
                        return TAIL_ERROR;
                }
                unread(tail);
                if (!leave_file(tail))
                        break;
                if (closed_last > tail->seq && !tail->desperate) {
                        leave_astray(tail);
                        continue;
                }
                drop_file(tail);
                if (closed_last > tail->seq)
                        return lost(tail, closed_last, true, out);
                if (!closed_last && ++tail->looks > LOOKS_MOST)
                        break;
        }
        if (tail->fd >= 0)
                unread(tail);
        return TAIL_END;
}

void tail_back(struct tail *tail)
{
        assert(tail->given);
        tail->start -= tail->given;
        tail->given = 0;
        tail->seq--;
        memcpy(tail->hash, tail->hash_before, sizeof(tail->hash));
        tail->hash_before[0] = '\0';
}

/* --- the ends of a log --- */

uint64_t tail_first_seq(const char *log)
{
        struct chain *chain = chain_new();
        char *memory = malloc(CHAIN_LINE_MOST);
        struct chain_line line;
        struct error err;

        if (!memory)
                abort();
        uint64_t seq = closed_first(chain, log, memory, &line, &err) ? line.seq : 0;
        free(memory);
        chain_free(chain);
        return seq;
}

uint64_t tail_oldest_seq(const char *log)
{
        struct closed_list closed;
        struct error err;
        uint64_t seq = 0;

        if (!closed_list_read(log, &closed, &err))
                return 0;
        for (size_t i = 0; i < closed.n && !seq; i++)
                seq = tail_first_seq(closed.items[i].path);
        closed_list_clear(&closed);
        return seq ? seq : tail_first_seq(log);
}

bool tail_sync(const char *log, struct error *err)
{
        int fd = open(log, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        bool ok = fd >= 0 && fdatasync(fd) == 0;

        if (!ok)
                error_set(err, "%s: %s", log, strerror(errno));
        if (fd >= 0)
                close(fd);
        return ok;
}
