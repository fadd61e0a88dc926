/* The audit file, its key and its rotation while any one call to the file system fails: what was
 * said to be on disk is there, and files and chain are whole at the next start. */
#include "../faults.h"

#include "scribe_kit.h"

#include "dagward/audit/closed.h"
#include "dagward/audit/journal.h"
#include "dagward/base/log.h"

enum { MOST_CALLS = 400 };

struct story {
        uint64_t promised; /* seq of the last record that was synced */
        bool opened;
};

static bool put(struct journal *journal, struct story *story, const char *name)
{
        struct chain_head before = journal->head;
        struct error err = {{0}};
        struct buf lines;

        buf_init(&lines, 1 << 16);
        journal_chain_event(journal, str_of(name), NULL, 0, &lines);
        uint64_t size = journal->size;
        bool ok = journal_append(journal, buf_str(&lines), &err);
        if (ok && !journal_sync(journal, &err)) {
                journal_cut(journal, size);
                ok = false;
        }
        buf_clear(&lines);
        if (ok) {
                story->promised = journal->head.seq;
        } else {
                assert_true(err.text[0] != 0);
                journal->head = before;
        }
        return ok;
}

static void tell(struct story *story)
{
        struct journal journal;
        struct error err = {{0}};
        char key_path[128];
        bool moved;

        snprintf(key_path, sizeof(key_path), "%s.key", path);
        struct signing_key *key = signing_key_load_or_make(key_path, &err);
        if (!key) {
                assert_true(err.text[0] != 0);
                return;
        }
        story->opened = journal_open(&journal, path, key, &err);
        if (!story->opened) {
                assert_true(err.text[0] != 0);
                signing_key_free(key);
                return;
        }
        story->promised = journal.head.seq;
        for (int round = 0; round < 2; round++) {
                uint64_t found;
                put(&journal, story, "test.first");
                put(&journal, story, "test.second");
                if (journal_rotate(&journal, STR("rotated"), &err))
                        story->promised = journal.head.seq;
                put(&journal, story, "test.third");
                (void)journal_look(&journal, &found);
        }
        if (journal_reopen(&journal, STR("moved"), &moved, &err))
                assert_false(moved);
        put(&journal, story, "test.last");
        journal_close(&journal);
        signing_key_free(key);
}

static void check(const struct story *story)
{
        struct closed_list list;
        struct journal journal;
        struct verify verify;
        struct error err = {{0}};
        char key_path[128];

        snprintf(key_path, sizeof(key_path), "%s.key", path);
        struct signing_key *key = signing_key_load_or_make(key_path, &err);
        if (!key || !journal_open(&journal, path, key, &err))
                fail_msg("%s", err.text);
        assert_true(journal.head.seq >= story->promised);
        journal_close(&journal);
        signing_key_free(key);
        assert_true(closed_list_read(path, &list, &err));
        verify_init(&verify);
        for (size_t i = 0; i <= list.n; i++) {
                const char *file = i < list.n ? list.items[i].path : path;
                struct buf bytes = read_file(file);
                verify_file(&verify, file);
                verify_feed(&verify, bytes.data, bytes.len);
                verify_file_end(&verify);
                buf_clear(&bytes);
        }
        verify_end(&verify, false);
        if (!verify_good(&verify))
                fail_msg("%s:%llu: %s", verify.first.file, (unsigned long long)verify.first.line,
                        verify.first.text);
        assert_int_equal(verify.first_seq, 1);
        verify_clear(&verify);
        closed_list_clear(&list);
}

/* `torn`: a crash has left half a line. */
static long fail_each(int error, bool halve, bool torn)
{
        for (long n = 1; n < MOST_CALLS; n++) {
                struct story story = {0};
                setup(NULL);
                if (torn) {
                        tell(&story);
                        int fd = open(path, O_WRONLY | O_APPEND);
                        assert_int_equal(write(fd, "{\"seq\":", 7), 7);
                        close(fd);
                }
                faults_arm(n, error, halve);
                tell(&story);
                bool hit = faults.hit;
                faults_disarm();
                check(&story);
                teardown(NULL);
                if (!hit) {
                        assert_true(story.opened && story.promised > 8);
                        return n;
                }
        }
        fail_msg("the story does not end");
        return 0;
}

static void whatever_call_fails_the_log_is_whole(void **state)
{
        (void)state;
        log_set_level(LOG_LEVEL_NONE);
        assert_true(fail_each(EIO, false, false) > 60);
        assert_true(fail_each(ENOSPC, true, false) > 60);
        assert_true(fail_each(EIO, false, true) > 60);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(whatever_call_fails_the_log_is_whole),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
