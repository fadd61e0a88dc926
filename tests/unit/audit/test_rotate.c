/* Rotation, checkpoints, retention, the anchor, and disks that fail. */
#include "scribe_kit.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "dagward/audit/closed.h"

/* --- a disk that fails: these are called instead of libc's, by the scribe as well --- */

static struct {
        atomic_int write_error, sync_error, cut_error; /* errno; 0: none */
        atomic_long whole_bytes; /* so many are still written before write_error */
        atomic_int slow_ms;      /* each sync */
} disk;

static bool on_the_log(int fd)
{
        char link[64], target[256];

        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof(target) - 1);
        if (n < 0)
                return false;
        target[n] = '\0';
        return strcmp(target, path) == 0;
}

ssize_t write(int fd, const void *bytes, size_t n)
{
        if (disk.write_error && on_the_log(fd)) {
                if (disk.whole_bytes <= 0) {
                        errno = disk.write_error;
                        return -1;
                }
                if (n > (size_t)disk.whole_bytes)
                        n = (size_t)disk.whole_bytes;
                disk.whole_bytes -= (long)n;
        }
        return syscall(SYS_write, fd, bytes, n);
}

int fdatasync(int fd)
{
        if (disk.slow_ms && on_the_log(fd))
                poll(NULL, 0, disk.slow_ms);
        if (disk.sync_error && on_the_log(fd)) {
                errno = disk.sync_error;
                return -1;
        }
        return (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t size)
{
        if (disk.cut_error && on_the_log(fd)) {
                errno = disk.cut_error;
                return -1;
        }
        return (int)syscall(SYS_ftruncate, fd, size);
}

/* --- a closed file in both of its forms: what a thread reads between the one and the other --- */

static _Thread_local bool both_there;
static atomic_int packed_files, reads_meanwhile;

int renameat(int from_dir, const char *from, int dir, const char *to)
{
        int result = (int)syscall(SYS_renameat, from_dir, from, dir, to);

        if (result == 0 && strlen(to) > 3 && strcmp(to + strlen(to) - 3, ".gz") == 0) {
                both_there = true;
                packed_files++;
        }
        return result;
}

int unlinkat(int dir, const char *name, int flags)
{
        both_there = false;
        return (int)syscall(SYS_unlinkat, dir, name, flags);
}

static ssize_t count_read(int fd, void *bytes, size_t n, off_t at)
{
        reads_meanwhile += both_there;
        return syscall(SYS_pread64, fd, bytes, n, at);
}

ssize_t pread(int fd, void *bytes, size_t n, off_t at)
{
        return count_read(fd, bytes, n, at);
}

/* What pread() becomes where the compiler knows the size of the buffer. */
ssize_t __pread_chk(int fd, void *bytes, size_t n, off_t at, size_t size);
ssize_t __pread_chk(int fd, void *bytes, size_t n, off_t at, size_t size)
{
        if (n > size)
                abort();
        return count_read(fd, bytes, n, at);
}

/* --- helpers --- */

static struct scribe *open_with(struct scribe_settings settings)
{
        struct error err = {""};

        settings.path = path;
        struct scribe *scribe = scribe_open(&settings, &err);
        if (!scribe)
                fail_msg("%s", err.text);
        return scribe;
}

/* All files of the log as one closed chain, every signature checked against the log's own key. */
static struct verify check_all(bool closed)
{
        static struct closed_list list;
        struct verify verify;
        struct error err;
        char name[128], public[SIGNING_KEY_LEN + 1];

        closed_list_clear(&list); /* of the last time: names must stay */
        assert_true(closed_list_read(path, &list, &err));
        verify_init(&verify);
        snprintf(name, sizeof(name), "%s.key", path);
        assert_true(signing_public_load(name, public, &err));
        assert_true(verify_pin(&verify, public));
        for (size_t i = 0; i <= list.n; i++) {
                const char *file = i < list.n ? list.items[i].path : path;
                struct buf bytes = read_file(file);
                verify_file(&verify, file);
                verify_feed(&verify, bytes.data, bytes.len);
                verify_file_end(&verify);
                buf_clear(&bytes);
        }
        verify_end(&verify, closed);
        if (!verify_good(&verify))
                fail_msg("%s:%llu: %s", verify.first.file, (unsigned long long)verify.first.line,
                        verify.first.text);
        struct verify told = verify;
        verify_clear(&verify);
        return told;
}

static size_t closed_files(bool gzip_only)
{
        struct closed_list list;
        struct error err;
        size_t n = 0;

        assert_true(closed_list_read(path, &list, &err));
        for (size_t i = 0; i < list.n; i++)
                n += !gzip_only || list.items[i].gzip;
        closed_list_clear(&list);
        return n;
}

#define SOON(condition)                                                                            \
        do {                                                                                       \
                for (int tries_ = 0; !(condition) && tries_ < 1000; tries_++)                      \
                        poll(NULL, 0, 20);                                                         \
                assert_true(condition);                                                            \
        } while (0)

static char *newest_closed(void)
{
        struct closed_list list;
        struct error err;

        assert_true(closed_list_read(path, &list, &err));
        assert_true(list.n > 0);
        char *name = strdup(list.items[list.n - 1].path);
        closed_list_clear(&list);
        return name;
}

/* --- checkpoints --- */

static void a_checkpoint_stands_behind_so_many_records_and_at_the_stop(void **state)
{
        struct scribe *scribe = open_with((struct scribe_settings){.checkpoint_records = 10});
        struct client client;

        (void)state;
        client_open(&client);
        for (int i = 0; i < 25; i++)
                assert_true(post_one(&client, scribe, "x", false));
        struct scribe_stats stats = stats_of(&client, scribe);
        assert_int_equal(stats.checkpoints, 2);
        assert_int_equal(stats.unsigned_records, 25 + 1 - 20);
        assert_int_equal(count(path, "\"reason\":\"interval\""), 2);
        scribe_close(scribe);
        struct verify verify = check_all(true);
        assert_int_equal(verify.checkpoints, 3);
        assert_int_equal(verify.records, 1 + 25 + 3);
        /* Opened and closed again: what stands there is signed already, and said to be. */
        scribe_close(open_with((struct scribe_settings){.checkpoint_records = 10}));
        check_all(true);
        mailbox_free(client.box);
}

static void a_record_waits_for_a_signature_only_so_long(void **state)
{
        struct scribe *scribe = open_with(
                (struct scribe_settings){.checkpoint_records = 1000, .checkpoint_ms = 100});
        struct client client;

        (void)state;
        client_open(&client);
        assert_true(post_one(&client, scribe, "x", false));
        SOON(count(path, "log.checkpoint") == 1);
        poll(NULL, 0, 300); /* nothing new, nothing to sign */
        assert_int_equal(count(path, "log.checkpoint"), 1);
        assert_true(post_one(&client, scribe, "y", false));
        SOON(count(path, "log.checkpoint") == 2);
        scribe_close(scribe);
        check_all(true);
        mailbox_free(client.box);
}

static void what_a_checkpoint_signs_is_on_disk(void **state)
{
        struct scribe *scribe = open_with((struct scribe_settings){
                .durability = SCRIBE_SYNC_WRITES, .checkpoint_records = 5});
        struct client client;

        (void)state;
        client_open(&client);
        for (int i = 0; i < 3; i++)
                assert_true(post_one(&client, scribe, "x", false));
        assert_int_equal(stats_of(&client, scribe).syncs, 0);
        assert_true(post_one(&client, scribe, "x", false));
        assert_int_equal(stats_of(&client, scribe).syncs, 1);
        scribe_close(scribe);
        mailbox_free(client.box);
}

static void the_anchor_gets_every_checkpoint_and_a_torn_line_there_does_no_harm(void **state)
{
        struct client client;
        char anchor[128];

        (void)state;
        snprintf(anchor, sizeof(anchor), "%s/anchor", folder);
        client_open(&client);
        write_file(anchor, STR("torn"));
        for (int i = 0; i < 2; i++) {
                struct scribe *scribe = open_with(
                        (struct scribe_settings){.checkpoint_records = 3, .anchor = anchor});
                for (int j = 0; j < 8; j++)
                        assert_true(post_one(&client, scribe, "x", false));
                scribe_reopen(scribe);
                assert_true(stats_of(&client, scribe).anchor_ok);
                scribe_close(scribe);
        }
        struct verify verify = check_all(true);
        assert_int_equal(count(anchor, "log.checkpoint"), verify.checkpoints);
        struct buf bytes = read_file(anchor);
        assert_true(str_starts(buf_str(&bytes), STR("torn\n{")));
        /* The same bytes, in the same order. */
        struct str line, rest = str_cut(buf_str(&bytes), '\n', &line);
        verify_init(&verify);
        while (rest.len) {
                rest = str_cut(rest, '\n', &line);
                assert_true(verify_anchor(&verify, line));
        }
        verify_clear(&verify);
        buf_clear(&bytes);
        mailbox_free(client.box);
}

static void an_anchor_that_is_away_is_told_of_and_caught_up_with(void **state)
{
        struct client client;
        char pipe[128], lines[8192];

        (void)state;
        snprintf(pipe, sizeof(pipe), "%s/pipe", folder);
        assert_int_equal(mkfifo(pipe, 0600), 0);
        client_open(&client);
        struct scribe *scribe =
                open_with((struct scribe_settings){.checkpoint_records = 2, .anchor = pipe});
        for (int i = 0; i < 6; i++)
                assert_true(post_one(&client, scribe, "x", false)); /* nobody is held up */
        SOON(count(path, "log.anchor_failed") == 1);
        assert_false(stats_of(&client, scribe).anchor_ok);
        int reader = open(pipe, O_RDONLY | O_NONBLOCK);
        SOON(count(path, "log.anchor_recovered") == 1);
        assert_true(stats_of(&client, scribe).anchor_ok);
        scribe_close(scribe);
        ssize_t n = read(reader, lines, sizeof(lines) - 1);
        assert_true(n > 0);
        lines[n] = '\0';
        unsigned found = 0;
        for (const char *at = lines; (at = strstr(at, "log.checkpoint")); at++)
                found++;
        assert_int_equal(found, check_all(true).checkpoints);
        close(reader);
        mailbox_free(client.box);
}

/* --- rotation --- */

static void a_file_is_closed_when_it_is_large_and_becomes_gzip(void **state)
{
        struct scribe *scribe = open_with((struct scribe_settings){
                .checkpoint_records = 50, .rotate_bytes = 16 * 1024, .compress = true});
        struct client client;

        (void)state;
        client_open(&client);
        for (int i = 0; i < 400; i++)
                assert_true(post_one(&client, scribe, "x", i % 10 == 0));
        SOON(closed_files(true) >= 4 && closed_files(true) == closed_files(false));
        uint64_t reopens = stats_of(&client, scribe).reopens;
        scribe_close(scribe);
        assert_int_equal(closed_files(false), reopens);
        struct verify verify = check_all(true);
        assert_int_equal(verify.first_seq, 1);
        assert_int_equal(verify.records, 1 + 400 + reopens + verify.checkpoints);
        mailbox_free(client.box);
}

static void a_file_is_closed_when_it_is_old_but_not_while_nothing_is_in_it(void **state)
{
        struct scribe *scribe = open_with((struct scribe_settings){.rotate_ms = 150});
        struct client client;

        (void)state;
        client_open(&client);
        poll(NULL, 0, 400);
        assert_int_equal(closed_files(false), 0);
        assert_true(post_one(&client, scribe, "x", false));
        SOON(closed_files(false) == 1);
        poll(NULL, 0, 400);
        assert_int_equal(closed_files(false), 1);
        scribe_close(scribe);
        mailbox_free(client.box);
}

static void a_file_is_closed_when_that_is_asked_for(void **state)
{
        struct scribe *scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
        struct client client;

        (void)state;
        client_open(&client);
        scribe_reopen(scribe); /* nothing is in it */
        assert_true(post_one(&client, scribe, "first", false));
        assert_int_equal(closed_files(false), 0);
        scribe_reopen(scribe);
        assert_true(post_one(&client, scribe, "second", false));
        assert_int_equal(closed_files(false), 1);
        assert_int_equal(count(path, "\"reason\":\"rotated\",\"previous_seq\":\"3\""), 1);
        assert_int_equal(count(path, "second"), 1);
        char *old = newest_closed();
        assert_int_equal(count(old, "first"), 1);
        assert_non_null(strstr(old, "Z-000000000003"));
        free(old);
        scribe_close(scribe);
        check_all(true);
        mailbox_free(client.box);
}

static void a_rotation_that_fails_leaves_all_as_it_was_and_is_tried_again(void **state)
{
        struct scribe *scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
        struct client client;
        char next[128];

        (void)state;
        client_open(&client);
        assert_true(post_one(&client, scribe, "first", false));
        snprintf(next, sizeof(next), "%s.next", path);
        assert_int_equal(mkdir(next, 0700), 0); /* no file can be made there */
        scribe_reopen(scribe);
        assert_true(post_one(&client, scribe, "second", true));
        assert_int_equal(closed_files(false), 0);
        assert_int_equal(count(path, "second"), 1);
        assert_true(stats_of(&client, scribe).ok);
        assert_int_equal(rmdir(next), 0);
        scribe_reopen(scribe);
        assert_true(post_one(&client, scribe, "third", true));
        assert_int_equal(closed_files(false), 1);
        scribe_close(scribe);
        check_all(true);
        mailbox_free(client.box);
}

/* --- what a crash leaves --- */

static void a_crash_within_a_rotation_is_mended(void **state)
{
        struct client client;
        char closed[128], next[128];

        (void)state;
        client_open(&client);
        struct scribe *scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
        assert_true(post_one(&client, scribe, "x", false));
        scribe_close(scribe);
        /* The old file has its second name, and the new one is not in its place yet. */
        snprintf(next, sizeof(next), "%s.next", path);
        write_file(next, STR("{\"seq\":"));
        snprintf(closed, sizeof(closed), "%s.20261127T000000Z-000000000003", path);
        assert_int_equal(link(path, closed), 0);
        scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
        assert_int_equal(closed_files(false), 0);
        assert_int_equal(access(next, F_OK), -1);
        scribe_close(scribe);
        check_all(true);
        mailbox_free(client.box);
}

static void a_log_whose_newest_file_is_gone_goes_on_after_the_one_before(void **state)
{
        struct client client;

        (void)state;
        client_open(&client);
        for (int packed = 0; packed < 2; packed++) {
                struct scribe *scribe = open_with(
                        (struct scribe_settings){.checkpoint_records = 100, .compress = packed});
                assert_true(post_one(&client, scribe, "x", false));
                scribe_reopen(scribe);
                assert_true(post_one(&client, scribe, "lost", false));
                if (packed)
                        SOON(closed_files(true) == 2);
                scribe_close(scribe);
                assert_int_equal(unlink(path), 0);
                scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
                scribe_close(scribe);
                assert_int_equal(count(path, "\"reason\":\"continued\""), 1);
                check_all(true);
        }
        mailbox_free(client.box);
}

static void half_of_a_compression_is_no_harm(void **state)
{
        struct client client;
        char name[256];

        (void)state;
        client_open(&client);
        struct scribe *scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
        assert_true(post_one(&client, scribe, "x", false));
        scribe_reopen(scribe);
        assert_true(post_one(&client, scribe, "y", false));
        scribe_close(scribe);
        char *old = newest_closed();
        struct buf bytes = read_file(old);
        snprintf(name, sizeof(name), "%s.gz.part", old);
        write_file(name, STR("\x1F\x8B half"));
        scribe = open_with((struct scribe_settings){.checkpoint_records = 100, .compress = true});
        SOON(closed_files(true) == 1 && closed_files(false) == 1);
        assert_int_equal(access(name, F_OK), -1);
        scribe_close(scribe);
        check_all(true);
        /* Both forms: the plain one goes, unless the packed one is damaged. */
        snprintf(name, sizeof(name), "%s.gz", old);
        struct buf packed = read_file(name);
        write_file(old, buf_str(&bytes));
        write_file(name, str_head(buf_str(&packed), packed.len - 3));
        scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
        poll(NULL, 0, 200);
        scribe_close(scribe);
        assert_int_equal(closed_files(false), 2);
        write_file(name, buf_str(&packed));
        buf_clear(&packed);
        scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
        SOON(closed_files(false) == 1 && closed_files(true) == 1);
        scribe_close(scribe);
        check_all(true);
        buf_clear(&bytes);
        free(old);
        mailbox_free(client.box);
}

static void another_key_begins_another_file(void **state)
{
        struct client client;
        char name[128], kept[128];
        struct verify verify;

        (void)state;
        client_open(&client);
        struct scribe *scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
        assert_true(post_one(&client, scribe, "x", false));
        scribe_close(scribe);
        snprintf(name, sizeof(name), "%s.key", path);
        snprintf(kept, sizeof(kept), "%s.key.old", path);
        assert_int_equal(rename(name, kept), 0);
        scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
        scribe_close(scribe);
        assert_int_equal(count(path, "\"reason\":\"key\""), 1);
        char *old = newest_closed();
        const char *files[] = {old, path};
        verify_init(&verify);
        for (int i = 0; i < 2; i++) {
                struct buf bytes = read_file(files[i]);
                verify_file(&verify, files[i]);
                verify_feed(&verify, bytes.data, bytes.len);
                verify_file_end(&verify);
                buf_clear(&bytes);
        }
        verify_end(&verify, true);
        assert_true(verify_good(&verify));
        assert_int_equal(verify.n_keys, 2);
        verify_clear(&verify);
        free(old);
        mailbox_free(client.box);
}

/* --- retention --- */

static void make_closed(struct client *client, struct scribe *scribe, int n)
{
        for (int i = 0; i < n; i++) {
                assert_true(post_one(client, scribe, "x", false));
                scribe_reopen(scribe);
        }
        assert_true(post_one(client, scribe, "last", false));
}

static void old_files_are_deleted_after_the_log_has_said_so(void **state)
{
        struct scribe *scribe = open_with(
                (struct scribe_settings){.checkpoint_records = 100, .keep = 2, .compress = true});
        struct client client;

        (void)state;
        client_open(&client);
        make_closed(&client, scribe, 6);
        SOON(closed_files(false) == 2 && closed_files(true) == 2);
        scribe_close(scribe);
        struct verify verify = check_all(true);
        assert_true(verify.first_seq > 1);
        assert_int_equal(verify.deleted_seq, verify.first_seq - 1);
        mailbox_free(client.box);
}

static void a_file_that_both_limits_spare_stays(void **state)
{
        struct scribe *scribe = open_with((struct scribe_settings){
                .checkpoint_records = 100, .keep = 1, .keep_ms = 3600 * 1000});
        struct client client;

        (void)state;
        client_open(&client);
        make_closed(&client, scribe, 3);
        poll(NULL, 0, 300);
        assert_int_equal(closed_files(false), 3);
        scribe_close(scribe);
        /* The same with the age alone, which is over. */
        poll(NULL, 0, 1100); /* names have whole seconds */
        scribe = open_with((struct scribe_settings){.checkpoint_records = 100, .keep_ms = 500});
        SOON(closed_files(false) == 0);
        scribe_close(scribe);
        assert_int_equal(count(path, "log.deleted"), 3);
        struct verify verify = check_all(true);
        assert_int_equal(verify.deleted_seq, verify.first_seq - 1);
        mailbox_free(client.box);
}

static void nothing_is_deleted_that_the_log_cannot_tell_of(void **state)
{
        struct client client;
        struct scribe *scribe = open_with((struct scribe_settings){.checkpoint_records = 100});

        (void)state;
        client_open(&client);
        make_closed(&client, scribe, 3);
        scribe_close(scribe);
        disk.write_error = ENOSPC;
        scribe = open_with((struct scribe_settings){.checkpoint_records = 100, .keep = 1});
        SOON(!stats_of(&client, scribe).ok);
        poll(NULL, 0, 200);
        assert_int_equal(closed_files(false), 3);
        disk.write_error = 0;
        SOON(stats_of(&client, scribe).ok);
        scribe_reopen(scribe); /* the keeper looks again */
        SOON(closed_files(false) == 1);
        scribe_close(scribe);
        check_all(true);
        mailbox_free(client.box);
}

/* --- what somebody puts beside the log under the name of a closed file --- */

static char *beside(const char *ending)
{
        static char names[8][256];
        static int n;
        char *name = names[n++ % 8];

        snprintf(name, sizeof(names[0]), "%s%s", path, ending);
        return name;
}

/* Closed files of seq 1 to 3, 4 to 6 and so on, plain. */
static void make_three(struct client *client)
{
        client_open(client);
        struct scribe *scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
        make_closed(client, scribe, 3);
        scribe_close(scribe);
        assert_int_equal(closed_files(false), 3);
}

static bool is_there(const char *name)
{
        struct stat info;

        return lstat(name, &info) == 0;
}

static void links_and_what_is_no_log_are_not_packed(void **state)
{
        char *outside = beside("-elsewhere"), *link = beside(".20200101T000000Z-000000000001");
        char *foreign = beside(".20200101T000000Z-000000000002");
        char *pipe = beside(".20200101T000000Z-000000000003");
        char *edited = beside(".20200101T000000Z-000000000004");
        char name[300];
        struct client client;

        (void)state;
        make_three(&client);
        char *old = newest_closed();
        struct buf bytes = read_file(old);
        write_file(outside, buf_str(&bytes)); /* even though that is a log */
        assert_int_equal(symlink(outside, link), 0);
        write_file(foreign, STR("a text of somebody\n"));
        assert_int_equal(mkfifo(pipe, 0600), 0);
        bytes.data[bytes.len / 2] ^= 1;
        write_file(edited, buf_str(&bytes));
        struct scribe *scribe =
                open_with((struct scribe_settings){.checkpoint_records = 100, .compress = true});
        SOON(closed_files(true) == 3);
        scribe_close(scribe);
        const char *const others[] = {link, foreign, pipe, edited};
        for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
                snprintf(name, sizeof(name), "%s.gz", others[i]);
                assert_true(is_there(others[i]));
                assert_false(is_there(name));
        }
        assert_true(is_there(outside));
        for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
                unlink(others[i]);
        check_all(true);
        buf_clear(&bytes);
        free(old);
        mailbox_free(client.box);
}

static void a_plain_file_goes_only_for_a_copy_of_every_byte(void **state)
{
        struct client client;
        char name[300];

        (void)state;
        make_three(&client);
        char *old = newest_closed();
        struct buf bytes = read_file(old), packed;
        struct scribe *scribe =
                open_with((struct scribe_settings){.checkpoint_records = 100, .compress = true});
        snprintf(name, sizeof(name), "%s.gz", old);
        SOON(closed_files(true) == 3);
        scribe_close(scribe);
        packed = read_file(name);
        /* A link to a good copy, which may be taken away later. */
        write_file(old, buf_str(&bytes));
        write_file(beside("-elsewhere"), buf_str(&packed));
        unlink(name);
        assert_int_equal(symlink(beside("-elsewhere"), name), 0);
        scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
        poll(NULL, 0, 300);
        scribe_close(scribe);
        assert_true(is_there(old));
        /* Only the end of it. */
        unlink(name);
        const char *last = memrchr(bytes.data, '\n', bytes.len - 1);
        write_file(name, str_from(buf_str(&bytes), (size_t)(last + 1 - bytes.data)));
        scribe = open_with((struct scribe_settings){.checkpoint_records = 100, .compress = true});
        poll(NULL, 0, 300);
        scribe_close(scribe);
        assert_true(is_there(old));
        unlink(name);
        check_all(true);
        buf_clear(&bytes);
        buf_clear(&packed);
        free(old);
        mailbox_free(client.box);
}

/* Who verifies all files would find the same records twice; and a stop would leave it so. */
static void nothing_is_read_while_both_forms_are_there(void **state)
{
        struct client client;

        (void)state;
        make_three(&client);
        packed_files = reads_meanwhile = 0;
        struct scribe *scribe =
                open_with((struct scribe_settings){.checkpoint_records = 100, .compress = true});
        SOON(closed_files(false) == 3 && closed_files(true) == 3);
        scribe_close(scribe);
        assert_int_equal(packed_files, 3);
        assert_int_equal(reads_meanwhile, 0);
        check_all(true);
        mailbox_free(client.box);
}

/* A part of the oldest file, up to its first record, and a whole one once more: sound, and nothing
 * that is not there already. */
static void copy_what_is_there(void)
{
        struct closed_list list;
        struct error err;

        assert_true(closed_list_read(path, &list, &err));
        struct buf bytes = read_file(list.items[0].path);
        const char *first = memchr(bytes.data, '\n', bytes.len);
        write_file(beside(".20330101T000000Z-000000000001"),
                str_head(buf_str(&bytes), (size_t)(first + 1 - bytes.data)));
        for (int i = 0; i < 3; i++) {
                char ending[64];
                snprintf(ending, sizeof(ending), ".2033010%dT000000Z-%012llu", i + 1,
                        (unsigned long long)list.items[0].last_seq);
                write_file(beside(ending), buf_str(&bytes));
        }
        buf_clear(&bytes);
        closed_list_clear(&list);
}

/* A whole log of somebody else's, signed with a key of its own, whose numbers are larger. */
static void make_foreign(struct client *client)
{
        char ours[sizeof(path)];

        memcpy(ours, path, sizeof(path));
        strcat(path, "-theirs");
        struct scribe *scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
        for (int i = 0; i < 20; i++)
                assert_true(post_one(client, scribe, "y", false));
        scribe_reopen(scribe);
        scribe_close(scribe);
        char *theirs = newest_closed();
        memcpy(path, ours, sizeof(path));
        assert_int_equal(rename(theirs, beside(strrchr(theirs, '.'))), 0);
        free(theirs);
}

static void what_only_has_a_name_drives_no_file_out(void **state)
{
        struct client client;
        char ending[64];

        (void)state;
        make_three(&client);
        struct closed_list ours;
        struct error err;
        assert_true(closed_list_read(path, &ours, &err));
        for (int i = 0; i < 20; i++) {
                snprintf(ending, sizeof(ending), ".20320101T000000Z-9%011d", i);
                write_file(beside(ending), i % 2 ? STR("") : STR("{\"seq\":1}\n"));
        }
        copy_what_is_there();
        make_foreign(&client);
        struct scribe *scribe =
                open_with((struct scribe_settings){.checkpoint_records = 100, .keep = 3});
        poll(NULL, 0, 500);
        for (size_t i = 0; i < ours.n; i++)
                assert_true(is_there(ours.items[i].path));
        /* One more is closed: then the oldest goes, and its copies. */
        assert_true(post_one(&client, scribe, "x", false));
        scribe_reopen(scribe);
        SOON(!is_there(ours.items[0].path));
        poll(NULL, 0, 300);
        for (size_t i = 1; i < ours.n; i++)
                assert_true(is_there(ours.items[i].path));
        assert_true(is_there(beside(".20320101T000000Z-900000000000")));
        scribe_close(scribe);
        closed_list_clear(&ours);
        mailbox_free(client.box);
}

static void a_name_makes_no_file_old(void **state)
{
        struct client client;
        struct closed_list list;
        struct error err;
        char ending[64];

        (void)state;
        make_three(&client);
        assert_true(closed_list_read(path, &list, &err));
        for (size_t i = 0; i < list.n; i++) {
                snprintf(ending, sizeof(ending), ".20010101T000000Z-%012llu",
                        (unsigned long long)list.items[i].last_seq);
                assert_int_equal(rename(list.items[i].path, beside(ending)), 0);
        }
        closed_list_clear(&list);
        struct scribe *scribe = open_with(
                (struct scribe_settings){.checkpoint_records = 100, .keep_ms = 3600 * 1000});
        poll(NULL, 0, 500);
        scribe_close(scribe);
        assert_int_equal(closed_files(false), 3);
        check_all(true);
        /* Nor young: these are older than half a second. */
        poll(NULL, 0, 600);
        scribe = open_with((struct scribe_settings){.checkpoint_records = 100, .keep_ms = 500});
        SOON(closed_files(false) == 0);
        scribe_close(scribe);
        mailbox_free(client.box);
}

static void where_a_file_is_missing_the_older_ones_still_go(void **state)
{
        struct client client;
        struct closed_list list;
        struct error err;

        (void)state;
        make_three(&client);
        assert_true(closed_list_read(path, &list, &err));
        unlink(list.items[1].path);
        struct scribe *scribe =
                open_with((struct scribe_settings){.checkpoint_records = 100, .keep = 1});
        SOON(!is_there(list.items[0].path)); /* our key has signed it */
        assert_true(is_there(list.items[2].path));
        scribe_close(scribe);
        closed_list_clear(&list);
        mailbox_free(client.box);
}

/* --- disks that fail --- */

static struct {
        unsigned failed, worked;
} watched;

static void state_changed(bool ok, void *receiver)
{
        (void)receiver;
        if (ok)
                watched.worked++;
        else
                watched.failed++;
}

static void whatever_the_disk_does_nothing_acknowledged_is_lost(void **state)
{
        static const struct {
                int write_error, sync_error, cut_error;
                long whole_bytes;
        } cases[] = {
                {.write_error = ENOSPC},
                {.write_error = ENOSPC, .whole_bytes = 100},
                {.write_error = EIO},
                {.write_error = EIO, .whole_bytes = 37},
                {.sync_error = EIO},
                {.sync_error = ENOSPC},
                {.write_error = EROFS, .cut_error = EROFS},
                /* a part is there, and cannot be taken back before the disk works again */
                {.write_error = EIO, .cut_error = EIO, .whole_bytes = 200},
                {.sync_error = EIO, .cut_error = EIO},
                {.write_error = EDQUOT},
        };
        struct scribe *scribe = open_with((struct scribe_settings){
                .durability = SCRIBE_SYNC_WRITES, .checkpoint_records = 7});
        struct scribe_watch watch = {.changed = state_changed};
        struct client client;
        unsigned acknowledged = 0;
        char id[32];

        (void)state;
        client_open(&client);
        watch.reply_to = client.box;
        watched.failed = watched.worked = 0;
        scribe_watch(scribe, &watch);
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                for (int j = 0; j < 5; j++) {
                        snprintf(id, sizeof(id), "good-%zu-%d-", i, j);
                        assert_true(post_one(&client, scribe, id, true));
                        acknowledged++;
                }
                disk.whole_bytes = cases[i].whole_bytes;
                disk.cut_error = cases[i].cut_error;
                disk.sync_error = cases[i].sync_error;
                disk.write_error = cases[i].write_error;
                for (int j = 0; j < 3; j++)
                        assert_false(post_one(&client, scribe, "refused", true));
                assert_int_equal(watched.failed, i + 1); /* told before the batch came back */
                assert_int_equal(watched.worked, i);
                struct scribe_stats stats = stats_of(&client, scribe);
                assert_false(stats.ok);
                assert_int_equal(stats.refused_records, 3 * (i + 1));
                disk.write_error = disk.sync_error = disk.cut_error = 0;
                SOON(stats_of(&client, scribe).ok); /* by itself */
                assert_int_equal(watched.worked, i + 1);
        }
        scribe_close(scribe);
        check_all(true);
        assert_int_equal(count(path, "\"good-"), acknowledged);
        assert_int_equal(count(path, "\"refused\""), 0);
        assert_int_equal(count(path, "log.write_failed"), sizeof(cases) / sizeof(*cases));
        mailbox_free(client.box);
}

static void a_rotation_waits_for_a_disk_that_works(void **state)
{
        struct scribe *scribe = open_with((struct scribe_settings){.checkpoint_records = 100});
        struct client client;

        (void)state;
        client_open(&client);
        assert_true(post_one(&client, scribe, "x", true));
        disk.write_error = ENOSPC;
        scribe_reopen(scribe);
        assert_false(post_one(&client, scribe, "refused", true));
        assert_int_equal(closed_files(false), 0);
        disk.write_error = 0;
        SOON(stats_of(&client, scribe).ok);
        scribe_reopen(scribe);
        assert_true(post_one(&client, scribe, "y", true));
        assert_int_equal(closed_files(false), 1);
        scribe_close(scribe);
        check_all(true);
        mailbox_free(client.box);
}

static void a_slow_disk_holds_records_up_and_loses_none(void **state)
{
        struct scribe *scribe = open_with((struct scribe_settings){
                .durability = SCRIBE_SYNC_WRITES, .checkpoint_records = 100});
        struct audit_batch batches[10];
        struct client client;

        (void)state;
        client_open(&client);
        disk.slow_ms = 100;
        for (int i = 0; i < 10; i++) {
                audit_batch_init(&batches[i], client.box, answered, &client);
                add(&batches[i], "slow", true);
                scribe_post(scribe, &batches[i]);
        }
        wait_answers(&client, 10);
        assert_int_equal(client.ok, 10);
        assert_true(stats_of(&client, scribe).sync_most_us >= 100 * 1000);
        disk.slow_ms = 0;
        for (int i = 0; i < 10; i++)
                audit_batch_clear(&batches[i]);
        scribe_close(scribe);
        assert_int_equal(count(path, "\"slow\""), 10);
        check_all(true);
        mailbox_free(client.box);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(a_checkpoint_stands_behind_so_many_records_and_at_the_stop),
                TEST(a_record_waits_for_a_signature_only_so_long),
                TEST(what_a_checkpoint_signs_is_on_disk),
                TEST(the_anchor_gets_every_checkpoint_and_a_torn_line_there_does_no_harm),
                TEST(an_anchor_that_is_away_is_told_of_and_caught_up_with),
                TEST(a_file_is_closed_when_it_is_large_and_becomes_gzip),
                TEST(a_file_is_closed_when_it_is_old_but_not_while_nothing_is_in_it),
                TEST(a_file_is_closed_when_that_is_asked_for),
                TEST(a_rotation_that_fails_leaves_all_as_it_was_and_is_tried_again),
                TEST(a_crash_within_a_rotation_is_mended),
                TEST(a_log_whose_newest_file_is_gone_goes_on_after_the_one_before),
                TEST(half_of_a_compression_is_no_harm),
                TEST(nothing_is_read_while_both_forms_are_there),
                TEST(another_key_begins_another_file),
                TEST(old_files_are_deleted_after_the_log_has_said_so),
                TEST(a_file_that_both_limits_spare_stays),
                TEST(nothing_is_deleted_that_the_log_cannot_tell_of),
                cmocka_unit_test_setup_teardown(
                        links_and_what_is_no_log_are_not_packed, setup, teardown),
                cmocka_unit_test_setup_teardown(
                        a_plain_file_goes_only_for_a_copy_of_every_byte, setup, teardown),
                cmocka_unit_test_setup_teardown(
                        what_only_has_a_name_drives_no_file_out, setup, teardown),
                cmocka_unit_test_setup_teardown(a_name_makes_no_file_old, setup, teardown),
                cmocka_unit_test_setup_teardown(
                        where_a_file_is_missing_the_older_ones_still_go, setup, teardown),
                TEST(whatever_the_disk_does_nothing_acknowledged_is_lost),
                TEST(a_rotation_waits_for_a_disk_that_works),
                TEST(a_slow_disk_holds_records_up_and_loses_none),
        };

        signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
