/* The journal of triggers while any one call to the file system fails: what was promised to be on
 * disk is there at the next start, and the next start works. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../../src/trigger/store.h"
#include "../faults.h"
#include "dagward/base/log.h"

enum { KEYS = 6, MOST_CALLS = 400 };

struct story {
        char folder[64], path[96];
        bool begun[KEYS], answered[KEYS]; /* promised */
        bool opened;
};

static struct trigger_record record_of(unsigned i, enum trigger_record_kind kind)
{
        struct trigger_record record = {.kind = kind,
                .time_ms = 1700000000000 + i,
                .id = STR("019ab1c2-0000-7000-8000-000000000001"),
                .correlation_id = STR("019ab1c2-0000-7000-8000-000000000002"),
                .answer = {.status = 200,
                        .whole = true,
                        .run_id = STR("1001"),
                        .content_type = STR("application/json"),
                        .body = STR("{\"id\":1001}")}};

        memset(record.key.key, (int)i + 1, TRIGGER_DIGEST);
        return record;
}

/* Appends and syncs; whether it is promised. After a failure the file is written anew, as the
 * ledger does. */
static bool put(struct store *store, struct trigger_table *table, unsigned i,
        enum trigger_record_kind kind, struct store_place *at)
{
        struct trigger_record record = record_of(i, kind);
        struct error err = {{0}};
        bool ok = store_append(store, &record, at, &err) && store_sync(store, &err);

        assert_true(ok || err.text[0]);
        if (!ok && store_wants_tidying(store, table) && !store_tidy(store, table, &err))
                assert_true(err.text[0] != 0);
        return ok;
}

static void tell(struct story *story)
{
        struct trigger_table *table = trigger_table_new();
        struct store store;
        struct error err = {{0}};

        story->opened = store_open(&store, story->path, table, &err);
        if (!story->opened) {
                assert_true(err.text[0] != 0 && store.fd == -1);
                trigger_table_free(table);
                return;
        }
        for (unsigned i = 0; i < KEYS; i++) {
                struct trigger_record record = record_of(i, TRIGGER_RECORD_BEGUN);
                struct store_place at = {0};
                if (trigger_table_find(table, record.key.key))
                        continue; /* told before */
                story->begun[i] = put(&store, table, i, TRIGGER_RECORD_BEGUN, NULL);
                if (!story->begun[i])
                        continue;
                struct trigger_entry *entry = trigger_table_add(table, &record.key, 1700000000000);
                memcpy(entry->id, record.id.ptr, record.id.len);
                memcpy(entry->correlation_id, record.correlation_id.ptr, record.correlation_id.len);
                if (i % 3 == 2)
                        continue;
                if (!put(&store, table, i, TRIGGER_RECORD_ANSWERED, &at)) {
                        entry->state = TRIGGER_LOST;
                        continue;
                }
                entry->state = TRIGGER_ANSWERED;
                entry->answer_at = at.offset;
                entry->answer_bytes = at.bytes;
                story->answered[i] = true;
                struct trigger_answer *answer = store_answer(&store, &at, &err);
                assert_true(answer ? answer->status == 200 : err.text[0] != 0);
                free(answer);
                if (i == 3)
                        (void)!store_tidy(&store, table, &err);
        }
        store_close(&store);
        trigger_table_free(table);
}

static void check(const struct story *story)
{
        struct trigger_table *table = trigger_table_new();
        struct store store;
        struct error err = {{0}};

        if (!store_open(&store, story->path, table, &err))
                fail_msg("%s", err.text);
        for (unsigned i = 0; i < KEYS; i++) {
                struct trigger_record record = record_of(i, TRIGGER_RECORD_BEGUN);
                struct trigger_entry *entry = trigger_table_find(table, record.key.key);
                assert_true(entry || !story->begun[i]);
                if (!story->answered[i])
                        continue;
                assert_int_equal(entry->state, TRIGGER_ANSWERED);
                struct store_place at = {entry->answer_at, entry->answer_bytes};
                struct trigger_answer *answer = store_answer(&store, &at, &err);
                assert_non_null(answer);
                assert_true(str_eq(answer->run_id, STR("1001")));
                free(answer);
        }
        store_close(&store);
        trigger_table_free(table);
}

static void clean_up(const struct story *story)
{
        char fresh[112];

        unlink(story->path);
        snprintf(fresh, sizeof(fresh), "%s.new", story->path);
        unlink(fresh);
        assert_int_equal(rmdir(story->folder), 0);
}

/* `before`: the file has been there, with half of the story. */
static long fail_each(int error, bool halve, bool before)
{
        for (long n = 1; n < MOST_CALLS; n++) {
                struct story story = {.folder = "/tmp/dagward-store-XXXXXX"};
                assert_non_null(mkdtemp(story.folder));
                snprintf(story.path, sizeof(story.path), "%s/triggers", story.folder);
                if (before) {
                        int torn = open(story.path, O_WRONLY | O_CREAT, 0600);
                        assert_true(torn >= 0);
                        assert_true(write(torn, TRIGGER_JOURNAL_HEAD "DwT", 22) == 22);
                        close(torn);
                }
                faults_arm(n, error, halve);
                tell(&story);
                bool hit = faults.hit;
                faults_disarm();
                check(&story);
                clean_up(&story);
                if (!hit) {
                        assert_true(story.opened && story.answered[0]);
                        return n;
                }
        }
        fail_msg("the story does not end");
        return 0;
}

static void whatever_call_fails_no_promise_is_broken(void **state)
{
        static const int errors[] = {EIO, ENOSPC, EINTR};
        (void)state;

        log_set_level(LOG_LEVEL_NONE);
        for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
                assert_true(fail_each(errors[i], false, i == 0) > 40);
        assert_true(fail_each(EIO, true, true) > 40);
}

static void what_is_no_journal_is_not_opened(void **state)
{
        struct trigger_table *table = trigger_table_new();
        char path[] = "/tmp/dagward-store-XXXXXX";
        struct store store, other;
        struct error err = {{0}};
        int fd = mkstemp(path);

        (void)state;
        assert_true(write(fd, "something else", 14) == 14);
        assert_false(store_open(&store, path, table, &err));
        assert_non_null(strstr(err.text, "no journal"));
        assert_false(store_open(&store, "/tmp", table, &err));
        assert_false(store_open(&store, "/dev/null", table, &err));
        assert_non_null(strstr(err.text, "not a regular file"));
        assert_true(ftruncate(fd, 0) == 0);
        close(fd);
        assert_true(store_open(&store, path, table, &err));
        assert_false(store_open(&other, path, table, &err));
        assert_non_null(strstr(err.text, "another process"));
        store_close(&store);
        trigger_table_free(table);
        unlink(path);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(whatever_call_fails_no_promise_is_broken),
                cmocka_unit_test(what_is_no_journal_is_not_opened),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
