#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "dagward/trigger/ledger.h"

enum { TIDY_BYTES = 16 * 1024 * 1024 }; /* growth that is worth writing the file anew */

static bool fails(struct error *err, const char *what)
{
        return error_set(err, "%s: %s", what, strerror(errno));
}

static bool write_all(int fd, struct str bytes, uint64_t offset, struct error *err)
{
        while (bytes.len) {
                ssize_t n = pwrite(fd, bytes.ptr, bytes.len, (off_t)offset);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return fails(err, "cannot write");
                bytes = str_from(bytes, (size_t)n);
                offset += (uint64_t)n;
        }
        return true;
}

/* The folder has to know the file's name after a power failure, too. */
static bool sync_folder(const char *path, struct error *err)
{
        char *copy = str_dup(str_of(path));
        int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        bool ok = fd >= 0 && fsync(fd) == 0;

        if (!ok)
                fails(err, "cannot sync the folder");
        if (fd >= 0)
                close(fd);
        free(copy);
        return ok;
}

/* --- opening --- */

static bool replay_all(
        struct store *store, struct str bytes, struct trigger_table *table, struct error *err)
{
        struct trigger_record record;
        size_t at = 0, before = 0;

        for (;;) {
                before = at;
                switch (trigger_record_read(bytes, &at, &record)) {
                case TRIGGER_READ_RECORD:
                        if (before == 0)
                                before = sizeof(TRIGGER_JOURNAL_HEAD) - 1;
                        /* What does not fit is about keys that were forgotten since. */
                        (void)trigger_table_replay(table, &record, before, at - before);
                        continue;
                case TRIGGER_READ_END: store->size = at; return true;
                case TRIGGER_READ_TORN:
                        if (at == 0 && !str_starts(STR(TRIGGER_JOURNAL_HEAD), bytes))
                                return error_set(err, "this is no journal of triggers");
                        log_info("triggers: %s ended in %zu bytes that are no record; they are cut "
                                 "off",
                                store->path, bytes.len - at);
                        store->size = at;
                        return true;
                case TRIGGER_READ_DAMAGED:
                        return error_set(err,
                                "the record at byte %zu is damaged; move the file away to go on "
                                "without what it says: triggers sent before may then be sent again",
                                at);
                }
        }
}

/* `*before`: it is of the form of before. */
static bool read_all(
        struct store *store, struct trigger_table *table, bool *before, struct error *err)
{
        struct stat status;
        bool ok;

        if (fstat(store->fd, &status) < 0)
                return fails(err, "cannot stat");
        if (!S_ISREG(status.st_mode))
                return error_set(err, "not a regular file");
        size_t bytes = (size_t)status.st_size;
        if (!bytes)
                return true;
        void *memory = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, store->fd, 0);
        if (memory == MAP_FAILED)
                return fails(err, "cannot read");
        *before = str_starts(str_view(memory, bytes), STR(TRIGGER_JOURNAL_HEAD_BEFORE));
        ok = replay_all(store, str_view(memory, bytes), table, err);
        munmap(memory, bytes);
        if (ok && store->size < bytes && ftruncate(store->fd, (off_t)store->size) < 0)
                return fails(err, "cannot cut what a crash left at its end");
        return ok;
}

bool store_open(
        struct store *store, const char *path, struct trigger_table *table, struct error *err)
{
        bool before = false;

        *store = (struct store){.path = str_dup(str_of(path))};
        store->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
        bool ok = store->fd >= 0 || fails(err, "cannot open");
        if (ok && flock(store->fd, LOCK_EX | LOCK_NB) < 0)
                ok = errno == EWOULDBLOCK ? error_set(err, "another process has it")
                                          : fails(err, "cannot lock");
        ok = ok && read_all(store, table, &before, err);
        if (ok && store->size == 0) {
                ok = write_all(store->fd, STR(TRIGGER_JOURNAL_HEAD), 0, err) &&
                     (fsync(store->fd) == 0 || fails(err, "cannot sync")) && sync_folder(path, err);
                store->size = sizeof(TRIGGER_JOURNAL_HEAD) - 1;
        }
        if (ok)
                trigger_table_recover(table, clock_steady_ms());
        if (ok && before)
                ok = store_tidy(store, table, err) || error_wrap(err, "cannot be written anew");
        if (ok)
                return true;
        error_wrap(err, "triggers: %s", path);
        store_close(store);
        return false;
}

void store_close(struct store *store)
{
        if (store->fd >= 0)
                close(store->fd);
        free(store->path);
        *store = (struct store){.fd = -1};
}

/* --- use --- */

bool store_append(struct store *store, const struct trigger_record *record, struct store_place *at,
        struct error *err)
{
        struct buf bytes;

        buf_init(&bytes, TRIGGER_RECORD_MOST);
        trigger_record_write(&bytes, record);
        bool ok = write_all(store->fd, buf_str(&bytes), store->size, err);
        if (ok && at)
                *at = (struct store_place){store->size, bytes.len};
        if (ok)
                store->size += bytes.len;
        else if (ftruncate(store->fd, (off_t)store->size) < 0)
                store->failed = true; /* a part of it may have stayed */
        buf_clear(&bytes);
        return ok;
}

bool store_sync(struct store *store, struct error *err)
{
        if (store->failed)
                return error_set(err, "an earlier write failed; it is about to be written anew");
        if (fdatasync(store->fd) == 0)
                return true;
        /* What the kernel has dropped by now it would not write at the next try either. */
        store->failed = true;
        return fails(err, "cannot sync");
}

static bool read_at(struct store *store, const struct store_place *at, char *out, struct error *err)
{
        size_t have = 0;

        while (have < at->bytes) {
                ssize_t n =
                        pread(store->fd, out + have, at->bytes - have, (off_t)(at->offset + have));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return fails(err, "cannot read");
                if (n == 0)
                        return error_set(err, "it is shorter than it was");
                have += (size_t)n;
        }
        return true;
}

struct trigger_answer *store_answer(
        struct store *store, const struct store_place *at, struct error *err)
{
        size_t head = sizeof(TRIGGER_JOURNAL_HEAD) - 1, start = head;
        struct trigger_answer *answer = NULL;
        char *bytes = malloc(head + at->bytes);
        struct trigger_record record;

        if (!bytes)
                abort();
        memcpy(bytes, TRIGGER_JOURNAL_HEAD, head);
        if (!read_at(store, at, bytes + head, err))
                ;
        else if (trigger_record_read(str_view(bytes, head + at->bytes), &start, &record) !=
                         TRIGGER_READ_RECORD ||
                 record.kind != TRIGGER_RECORD_ANSWERED)
                error_set(err, "an answer in it is damaged");
        else
                answer = trigger_answer_keep(&record.answer);
        free(bytes);
        return answer;
}

/* --- tidying --- */

bool store_wants_tidying(const struct store *store, const struct trigger_table *table)
{
        return store->failed ||
               store->size > 2 * store->tidied + TIDY_BYTES + 256 * trigger_table_count(table);
}

/* Copies the answer's record; `at` becomes its new place. */
static bool copy_answer(
        struct store *from, struct store *to, struct store_place *at, struct error *err)
{
        char *bytes = malloc(at->bytes);

        if (!bytes)
                abort();
        bool ok = read_at(from, at, bytes, err) &&
                  write_all(to->fd, str_view(bytes, at->bytes), to->size, err);
        free(bytes);
        at->offset = to->size;
        to->size += at->bytes;
        return ok;
}

static bool copy_entry(struct store *from, struct store *to, const struct trigger_entry *entry,
        struct store_place *at, struct error *err)
{
        struct trigger_record begun = {.kind = TRIGGER_RECORD_BEGUN,
                .key = entry->key,
                .time_ms = entry->begun_ms,
                .id = str_of(entry->id),
                .correlation_id = str_of(entry->correlation_id)};
        struct trigger_record lost = {
                .kind = TRIGGER_RECORD_LOST, .key = entry->key, .time_ms = entry->lost_ms};

        *at = (struct store_place){entry->answer_at, entry->answer_bytes};
        if (!store_append(to, &begun, NULL, err))
                return false;
        if (entry->state == TRIGGER_ANSWERED)
                return copy_answer(from, to, at, err);
        return entry->state == TRIGGER_RUNNING || store_append(to, &lost, NULL, err);
}

/* Both files are whole until the name changes hands; only then the places of answers change. */
static bool copy_all(struct store *from, struct store *to, struct trigger_table *table,
        struct store_place *places, struct error *err)
{
        size_t i = 0;

        if (!write_all(to->fd, STR(TRIGGER_JOURNAL_HEAD), 0, err))
                return false;
        to->size = sizeof(TRIGGER_JOURNAL_HEAD) - 1;
        for (struct trigger_entry *entry = trigger_table_oldest(table); entry; entry = entry->newer)
                if (!copy_entry(from, to, entry, &places[i++], err))
                        return false;
        return (fdatasync(to->fd) == 0 || fails(err, "cannot sync")) &&
               (rename(to->path, from->path) == 0 || fails(err, "cannot rename"));
}

bool store_tidy(struct store *store, struct trigger_table *table, struct error *err)
{
        struct store fresh = {0};
        size_t n = trigger_table_count(table), i = 0;
        struct store_place *places = calloc(n + 1, sizeof(*places));
        char path[4096];

        if (!places)
                abort();
        snprintf(path, sizeof(path), "%s.new", store->path);
        fresh.path = str_dup(str_of(path));
        fresh.fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW, 0600);
        bool ok = fresh.fd >= 0 || fails(err, "cannot make the new file");
        ok = ok && (flock(fresh.fd, LOCK_EX | LOCK_NB) == 0 || fails(err, "cannot lock"));
        ok = ok && copy_all(store, &fresh, table, places, err);
        if (ok) {
                for (struct trigger_entry *entry = trigger_table_oldest(table); entry;
                        entry = entry->newer)
                        entry->answer_at = places[i++].offset;
                close(store->fd);
                store->fd = fresh.fd;
                store->size = store->tidied = fresh.size;
                fresh.fd = -1;
                /* The name leads to the new file by now: the old one must not be written any more.
                 * But a power failure might bring it back, so nothing is promised until another
                 * try has ended well. */
                ok = sync_folder(store->path, err);
                store->failed = !ok;
        } else {
                store->tidied = store->size; /* not again before it has grown */
        }
        store_close(&fresh);
        free(places);
        return ok;
}

/* --- answers in memory --- */

static struct str keep_text(char **to, struct str text)
{
        struct str kept = {*to, text.len};

        if (text.len)
                memcpy(*to, text.ptr, text.len);
        *to += text.len;
        return kept;
}

struct trigger_answer *trigger_answer_keep(const struct trigger_answer *answer)
{
        size_t bytes = answer->run_id.len + answer->run_url.len + answer->content_type.len +
                       answer->location.len + answer->activity_id.len + answer->body.len;
        struct trigger_answer *kept = malloc(sizeof(*kept) + bytes);

        if (!kept)
                abort();
        char *to = (char *)(kept + 1);
        *kept = *answer;
        kept->run_id = keep_text(&to, answer->run_id);
        kept->run_url = keep_text(&to, answer->run_url);
        kept->content_type = keep_text(&to, answer->content_type);
        kept->location = keep_text(&to, answer->location);
        kept->activity_id = keep_text(&to, answer->activity_id);
        kept->body = keep_text(&to, answer->body);
        return kept;
}
