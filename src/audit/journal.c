#include "dagward/audit/journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dagward/audit/closed.h"
#include "dagward/base/clock.h"
#include "dagward/base/log.h"

/* --- writing --- */

void journal_chain(struct journal *journal, struct str body, struct buf *lines)
{
        bool written = chain_write(journal->chain, &journal->head, body, lines);

        assert(written);
        (void)written;
}

/* Not with audit_record_write: what looks like a secret there may be a part of a public key here.
 */
void journal_chain_event(struct journal *journal, struct str name, const struct pair *detail,
        size_t n, struct buf *lines)
{
        struct buf *body = &journal->scratch;
        char now[CLOCK_RFC3339_LEN + 1];

        clock_rfc3339(clock_wall_ms(), now);
        buf_reset(body);
        buf_printf(body, "\"time\":\"%s\",\"kind\":\"event\",\"event\":{\"name\":", now);
        buf_json_str(body, name);
        BUF_LITERAL(body, ",\"detail\":{");
        for (size_t i = 0; i < n; i++) {
                if (i)
                        buf_char(body, ',');
                buf_json_str(body, detail[i].name);
                buf_char(body, ':');
                buf_json_str(body, str_empty(detail[i].value) ? STR("") : detail[i].value);
        }
        BUF_LITERAL(body, "}}");
        journal_chain(journal, buf_str(body), lines);
}

void journal_chain_checkpoint(struct journal *journal, struct str reason, struct buf *lines)
{
        buf_reset(&journal->scratch);
        checkpoint_write(journal->key, &journal->head, clock_wall_ms(), reason, &journal->scratch);
        journal_chain(journal, buf_str(&journal->scratch), lines);
}

static bool write_all(int fd, struct str bytes)
{
        while (bytes.len) {
                ssize_t n = write(fd, bytes.ptr, bytes.len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0) {
                        if (n == 0)
                                errno = ENOSPC;
                        return false;
                }
                bytes = str_from(bytes, (size_t)n);
        }
        return true;
}

void journal_cut(struct journal *journal, uint64_t size)
{
        journal->size = size;
        journal->ragged = ftruncate(journal->fd, (off_t)size) != 0;
        if (journal->ragged)
                log_errno("audit: cannot cut %s back to %llu bytes; trying again before the next "
                          "write",
                        journal->path, (unsigned long long)size);
}

bool journal_append(struct journal *journal, struct str lines, struct error *err)
{
        if (journal->ragged) {
                journal_cut(journal, journal->size);
                if (journal->ragged)
                        return error_set(err, "the file cannot be cut back: %s", strerror(errno));
        }
        if (!write_all(journal->fd, lines)) {
                error_set(err, "write: %s", strerror(errno));
                journal_cut(journal, journal->size);
                return false;
        }
        journal->size += lines.len;
        return true;
}

bool journal_sync(struct journal *journal, struct error *err)
{
        if (fdatasync(journal->fd) == 0)
                return true;
        return error_set(err, "fdatasync: %s", strerror(errno));
}

enum journal_state journal_look(struct journal *journal, uint64_t *found)
{
        struct stat info;
        char last = '\n';

        *found = journal->size;
        if (journal->ragged || fstat(journal->fd, &info) != 0)
                return JOURNAL_SAME; /* the write will say what is wrong */
        if (info.st_nlink == 0)
                return JOURNAL_REMOVED;
        *found = (uint64_t)info.st_size;
        if (*found == journal->size)
                return JOURNAL_SAME;
        journal->size = *found;
        if (*found == 0)
                return JOURNAL_EMPTIED;
        /* Whatever was put there: our next record begins on a line of its own. */
        if (pread(journal->fd, &last, 1, (off_t)*found - 1) == 1 && last != '\n' &&
                write_all(journal->fd, STR("\n")))
                journal->size++;
        return JOURNAL_CHANGED;
}

/* --- opening --- */

/* A new name in a folder is only sure to be found after a crash once the folder is synced. */
static void sync_folder(const char *path)
{
        char *copy = str_dup(str_of(path));
        int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0 || fsync(fd) != 0)
                log_errno("audit: cannot sync the folder of %s", path);
        if (fd >= 0)
                close(fd);
        free(copy);
}

/* Opens and locks what is at the path now; -1 with the reason. `skip` is a descriptor whose file is
 * not wanted: -2 when the path leads there. */
static int open_locked(const char *path, int skip, struct stat *info, struct error *err)
{
        struct stat named, known;

        /* Between opening and locking, a rotation may give the name to another file. */
        for (int attempt = 0; attempt < 10; attempt++) {
                int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                        0640);
                if (fd < 0) {
                        error_set(err, "%s: cannot be opened for appending: %s", path,
                                strerror(errno));
                        return -1;
                }
                if (fstat(fd, info) != 0 || !S_ISREG(info->st_mode)) {
                        error_set(err, "%s: is not a regular file", path);
                        close(fd);
                        return -1;
                }
                if (skip >= 0 && fstat(skip, &known) == 0 && known.st_dev == info->st_dev &&
                        known.st_ino == info->st_ino) {
                        close(fd);
                        return -2;
                }
                if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
                        error_set(err,
                                errno == EWOULDBLOCK
                                        ? "%s: another process writes it; each needs a file of its "
                                          "own"
                                        : "%s: cannot be locked",
                                path);
                        close(fd);
                        return -1;
                }
                if (stat(path, &named) == 0 && named.st_dev == info->st_dev &&
                        named.st_ino == info->st_ino && fstat(fd, info) == 0)
                        return fd;
                close(fd);
        }
        error_set(err, "%s: is renamed again and again while it is being opened", path);
        return -1;
}

/* Writes what begins a file, or tells what was mended, and makes it durable. */
static bool write_event(struct journal *journal, struct str name, const struct pair *detail,
        size_t n, struct error *err)
{
        struct chain_head before = journal->head;
        uint64_t size = journal->size;
        struct buf lines;

        buf_init(&lines, CHAIN_LINE_MOST);
        journal_chain_event(journal, name, detail, n, &lines);
        bool ok = journal_append(journal, buf_str(&lines), err) && journal_sync(journal, err);
        buf_clear(&lines);
        if (ok)
                return true;
        journal_cut(journal, size);
        journal->head = before;
        return error_wrap(err, "%s", journal->path);
}

static bool write_opened(struct journal *journal, struct str reason, struct error *err)
{
        char seq[24];
        struct pair detail[] = {
                {STR("reason"), reason},
                {STR("previous_seq"), STR_NONE},
                {STR("previous_hash"), str_of(journal->head.hash)},
                {STR("public_key"), str_of(signing_key_text(journal->key))},
                {STR("version"), STR(DAGWARD_VERSION)},
        };
        char hash[CHAIN_HEX + 1];

        memcpy(hash, journal->head.hash, sizeof(hash)); /* the head moves on while it is written */
        detail[2].value = str_of(hash);
        snprintf(seq, sizeof(seq), "%llu", (unsigned long long)journal->head.seq);
        detail[1].value = str_of(seq);
        if (!write_event(journal, STR("log.opened"), detail, 5, err))
                return false;
        journal->first_seq = journal->head.seq;
        journal->opened_wall_ms = clock_wall_ms();
        return true;
}

/* A new file beside closed ones: the chain goes on after the newest, from which a crash, or whoever
 * took the file away, has parted it. */
static bool begin(struct journal *journal, struct error *err)
{
        struct closed_list closed;
        struct chain_line line;
        struct str reason = STR("new");
        char memory[CHAIN_LINE_MOST];

        if (!closed_list_read(journal->path, &closed, err))
                return false;
        if (closed.n) {
                const char *newest = closed.items[closed.n - 1].path;
                if (closed_last(journal->chain, newest, memory, &line, err)) {
                        journal->head.seq = line.seq;
                        memcpy(journal->head.hash, line.hash.ptr, CHAIN_HEX);
                        reason = STR("continued");
                } else {
                        log_error("audit: a new chain is begun, because the end of the old one is "
                                  "damaged: %s",
                                err->text);
                }
        }
        closed_list_clear(&closed);
        return write_opened(journal, reason, err);
}

/* Copies the bytes to a new file beside the journal; `name` gets its path. */
static bool save_torn(
        struct journal *journal, struct str torn, char *name, size_t name_len, struct error *err)
{
        char now[CLOCK_RFC3339_LEN + 1];
        int fd = -1;

        clock_rfc3339(clock_wall_ms(), now);
        for (int i = 0; fd < 0 && i < 100; i++) {
                int len = snprintf(name, name_len, "%s.torn-%llu-%.10s%s%.0d", journal->path,
                        (unsigned long long)journal->head.seq, now, i ? "-" : "", i);
                if (len < 0 || (size_t)len >= name_len)
                        return error_set(err, "%s: the path is too long", journal->path);
                fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
                if (fd < 0 && errno != EEXIST)
                        break;
        }
        if (fd < 0)
                return error_set(err,
                        "%s: ends in a record that was cut off, and %s, where its "
                        "bytes are to be kept, cannot be made: %s",
                        journal->path, name, strerror(errno));
        bool ok = write_all(fd, torn) && fsync(fd) == 0;
        if (!ok) {
                error_set(err, "%s: %s", name, strerror(errno));
                unlink(name);
        }
        close(fd);
        return ok;
}

/* Moves everything behind the last good record away and says so in the chain. */
static bool move_torn(
        struct journal *journal, struct str torn, uint64_t good_end, struct error *err)
{
        char name[4096], hash[CHAIN_HEX + 1], bytes[24];

        if (!save_torn(journal, torn, name, sizeof(name), err))
                return false;
        sync_folder(name);
        journal_cut(journal, good_end);
        if (journal->ragged)
                return error_set(err, "%s: cannot be cut back", journal->path);
        log_error("audit: %s ended in %zu bytes that are no whole record; they are in %s",
                journal->path, torn.len, name);
        chain_digest(journal->chain, torn, hash);
        snprintf(bytes, sizeof(bytes), "%zu", torn.len);
        const char *base = strrchr(name, '/');
        struct pair detail[] = {
                {STR("torn_bytes"), str_of(bytes)},
                {STR("torn_sha256"), str_of(hash)},
                {STR("kept_in"), str_of(base ? base + 1 : name)},
        };
        if (journal->size == 0 && !begin(journal, err))
                return false;
        return write_event(journal, STR("log.recovered"), detail, 3, err);
}

/* The end of the last good record in `bytes`, which is the file's tail; 0: there is none. Its seq
 * and hash become the head. `*whole` is false when only its newline is missing. */
static size_t last_good(struct journal *journal, struct str bytes, bool *whole)
{
        struct chain_line line;
        size_t end = bytes.len; /* of the line that is looked at */

        *whole = false;
        while (end) {
                const char *before = memrchr(bytes.ptr, '\n', end);
                size_t start = before ? (size_t)(before - bytes.ptr) + 1 : 0;
                if (chain_read(journal->chain, str_view(bytes.ptr + start, end - start), &line) ==
                        CHAIN_GOOD) {
                        journal->head.seq = line.seq;
                        memcpy(journal->head.hash, line.hash.ptr, CHAIN_HEX);
                        return end + *whole;
                }
                if (!before)
                        return 0;
                end = start - 1;
                *whole = true; /* all earlier lines end in a newline */
        }
        return 0;
}

/* A file that holds nothing but the beginning of its first record. */
static bool torn_beginning(struct str bytes)
{
        static const char begin[] = "{\"seq\":";
        size_t n = bytes.len < sizeof(begin) - 1 ? bytes.len : sizeof(begin) - 1;

        return bytes.len <= CHAIN_LINE_MOST && memcmp(bytes.ptr, begin, n) == 0 &&
               !memchr(bytes.ptr, '\n', bytes.len);
}

static bool mend(struct journal *journal, struct str tail, struct error *err)
{
        bool whole;
        size_t end = last_good(journal, tail, &whole);
        uint64_t at = journal->size - tail.len; /* where the tail begins */

        if (end == tail.len && whole)
                return true;
        if (end == tail.len) {
                if (!journal_append(journal, STR("\n"), err))
                        return error_wrap(err, "%s", journal->path);
                struct pair detail = {STR("completed"), STR("newline")};
                return write_event(journal, STR("log.recovered"), &detail, 1, err);
        }
        if (end == 0 && !(at == 0 && torn_beginning(tail)))
                return error_set(err,
                        "%s: holds no audit record in its last %d MiB; it is damaged or another "
                        "kind of file: keep it under another name, a new one will be begun",
                        journal->path, JOURNAL_SEARCH >> 20);
        return move_torn(journal, str_from(tail, end), at + end, err);
}

/* Reads the end of the file and finds the head there. */
static bool recover(struct journal *journal, struct error *err)
{
        size_t len = journal->size < JOURNAL_SEARCH ? (size_t)journal->size : JOURNAL_SEARCH;
        char *tail = malloc(len);
        size_t have = 0;

        if (!tail)
                abort();
        while (have < len) {
                ssize_t n = pread(
                        journal->fd, tail + have, len - have, (off_t)(journal->size - len + have));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                have += (size_t)n;
        }
        bool ok = have == len ? mend(journal, str_view(tail, len), err)
                              : error_set(err, "%s: cannot be read: %s", journal->path,
                                        strerror(errno));
        free(tail);
        return ok;
}

/* What the first record of a file that is gone on with says. One that is no log.opened is a
 * question for `verify`. */
static bool read_beginning(struct journal *journal, bool *same_key, struct error *err)
{
        char memory[CHAIN_LINE_MOST], time[CLOCK_RFC3339_LEN + 1];
        struct chain_line line;
        struct str detail = STR_NONE;

        *same_key = false;
        journal->first_seq = journal->head.seq;
        journal->opened_wall_ms = clock_wall_ms();
        if (!closed_first(journal->chain, journal->path, memory, &line, err)) {
                log_error("audit: %s", err->text);
                return true;
        }
        journal->first_seq = line.seq;
        if (!log_event_read(&line, STR("opened"), &detail))
                return true;
        memcpy(time, line.members.ptr + sizeof("\"time\":\"") - 1, CLOCK_RFC3339_LEN);
        (void)clock_parse(str_view(time, CLOCK_RFC3339_LEN), &journal->opened_wall_ms);
        *same_key = str_eq(log_event_detail(detail, STR("public_key")),
                str_of(signing_key_text(journal->key)));
        return true;
}

/* The name of a file that is being made. */
static void next_name(const struct journal *journal, char *out, size_t size)
{
        snprintf(out, size, "%s.next", journal->path);
}

/* What a rotation left that was interrupted: a second name of this very file. */
static void tidy(struct journal *journal)
{
        struct closed_list closed;
        struct stat ours, info;
        struct error err;
        char next[4096];

        next_name(journal, next, sizeof(next));
        unlink(next);
        if (fstat(journal->fd, &ours) != 0 || ours.st_nlink < 2 ||
                !closed_list_read(journal->path, &closed, &err))
                return;
        for (size_t i = 0; i < closed.n; i++) {
                if (stat(closed.items[i].path, &info) == 0 && info.st_ino == ours.st_ino &&
                        info.st_dev == ours.st_dev)
                        unlink(closed.items[i].path);
        }
        closed_list_clear(&closed);
}

static bool go_on(struct journal *journal, struct error *err)
{
        bool same_key;

        if (!recover(journal, err) || !read_beginning(journal, &same_key, err))
                return false;
        /* All checkpoints of a file are made with the key that its first record names. */
        return same_key || journal_rotate(journal, STR("key"), err);
}

bool journal_open(
        struct journal *journal, const char *path, const struct signing_key *key, struct error *err)
{
        struct stat info;
        int fd = open_locked(path, -1, &info, err);

        if (fd < 0)
                return false;
        *journal = (struct journal){
                .fd = fd,
                .path = str_dup(str_of(path)),
                .size = (uint64_t)info.st_size,
                .chain = chain_new(),
                .key = key,
        };
        chain_head_init(&journal->head);
        buf_init(&journal->scratch, CHAIN_LINE_MOST);
        tidy(journal);
        if (!(info.st_size ? go_on(journal, err) : begin(journal, err))) {
                journal_close(journal);
                return false;
        }
        sync_folder(path);
        return true;
}

void journal_close(struct journal *journal)
{
        close(journal->fd);
        free(journal->path);
        chain_free(journal->chain);
        buf_clear(&journal->scratch);
        *journal = (struct journal){.fd = -1};
}

bool journal_reopen(struct journal *journal, struct str reason, bool *moved, struct error *err)
{
        struct journal next = *journal;
        struct stat info;

        *moved = false;
        next.fd = open_locked(journal->path, journal->fd, &info, err);
        if (next.fd == -2)
                return true;
        if (next.fd < 0)
                return false;
        next.size = (uint64_t)info.st_size;
        next.ragged = false;
        /* The old file may be what is broken: a rotation is a way out of that. */
        if (!journal_sync(journal, err))
                log_error("audit: the file before %s: %s", journal->path, err->text);
        bool ok = next.size == 0 ? write_opened(&next, reason, err)
                                 : error_set(err, "%s: holds something already; move it away",
                                           journal->path);
        journal->scratch = next.scratch; /* its memory may have moved */
        if (!ok) {
                close(next.fd);
                return false;
        }
        sync_folder(journal->path);
        close(journal->fd);
        *journal = next;
        *moved = true;
        return true;
}

/* A locked file with nothing but its first record, under another name. */
static bool make_next(const struct journal *journal, const char *name, struct str reason,
        struct journal *next, struct error *err)
{
        struct stat info;

        unlink(name);
        *next = *journal;
        next->fd = open_locked(name, -1, &info, err);
        if (next->fd < 0)
                return false;
        next->size = (uint64_t)info.st_size;
        next->ragged = false;
        bool ok = next->size == 0 ? write_opened(next, reason, err)
                                  : error_set(err, "%s: holds something already", name);
        if (!ok)
                close(next->fd);
        return ok;
}

/* A second name for the old file, then the new file in its place. Where there are no second names,
 * the path leads nowhere for a moment. */
static bool exchange(const char *path, const char *next, const char *closed, struct error *err)
{
        bool linked = link(path, closed) == 0;

        if (!linked && (errno == EEXIST || rename(path, closed) != 0))
                return error_set(err, "%s: %s", closed, strerror(errno));
        if (rename(next, path) == 0)
                return true;
        error_set(err, "%s: %s", path, strerror(errno));
        if (linked ? unlink(closed) : rename(closed, path))
                log_errno("audit: %s", closed);
        return false;
}

bool journal_rotate(struct journal *journal, struct str reason, struct error *err)
{
        struct journal next;
        char name[4096], closed[4096];
        struct stat named, ours;

        /* The old file may be what is broken: a rotation is a way out of that. */
        if (!journal_sync(journal, err))
                log_error("audit: %s: %s", journal->path, err->text);
        next_name(journal, name, sizeof(name));
        if (!closed_name(journal->path, journal->head.seq, clock_wall_ms(), closed, sizeof(closed)))
                return error_set(err, "%s: the path is too long", journal->path);
        if (stat(journal->path, &named) != 0 || fstat(journal->fd, &ours) != 0 ||
                named.st_ino != ours.st_ino || named.st_dev != ours.st_dev)
                return error_set(
                        err, "%s: is another file than the one that is written", journal->path);
        bool made = make_next(journal, name, reason, &next, err);
        journal->scratch = next.scratch; /* its memory may have moved */
        if (!made)
                return false;
        if (!exchange(journal->path, name, closed, err)) {
                close(next.fd);
                unlink(name);
                return false;
        }
        sync_folder(journal->path);
        close(journal->fd);
        *journal = next;
        return true;
}
