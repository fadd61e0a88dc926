/* The whole scribe, with rotation, compression, retention and an anchor, while any one call to the
 * file system fails, in whichever thread it is: nothing hangs, what was acknowledged is in the log,
 * and the log is whole at the next start. */
#include "../faults.h"

#include "scribe_kit.h"

#include "dagward/audit/closed.h"
#include "dagward/audit/unzip.h"
#include "dagward/base/log.h"

enum { RECORDS = 12, MOST_CALLS = 400 };

static unsigned acknowledged[RECORDS];

static struct scribe *open_all(struct error *err)
{
        char anchor[128];

        snprintf(anchor, sizeof(anchor), "%s/anchor", folder);
        struct scribe_settings settings = {.path = path,
                .durability = SCRIBE_SYNC_ALL,
                .anchor = anchor,
                .checkpoint_records = 3,
                .rotate_bytes = 2000,
                .keep = 100,
                .compress = true};
        return scribe_open(&settings, err);
}

static void tell(void)
{
        struct error err = {{0}};
        struct client client;
        struct scribe *scribe = open_all(&err);

        if (!scribe) {
                assert_true(err.text[0] != 0);
                return;
        }
        client_open(&client);
        for (int i = 0; i < RECORDS; i++) {
                char id[16];
                snprintf(id, sizeof(id), "record-%02d-", i);
                acknowledged[i] = post_one(&client, scribe, id, true);
                if (i == RECORDS / 2)
                        scribe_reopen(scribe);
        }
        scribe_close(scribe);
        mailbox_free(client.box);
}

static bool keep(void *owner, const char *bytes, size_t len)
{
        buf_add(owner, bytes, len);
        return true;
}

static void take_file(struct buf *all, const char *name)
{
        struct unzip *unzip = unzip_new();
        struct buf bytes = read_file(name);

        assert_int_equal(unzip_feed(unzip, bytes.data, bytes.len, keep, all), UNZIP_GOOD);
        assert_true(unzip_whole(unzip));
        buf_clear(&bytes);
        unzip_free(unzip);
}

/* Both a plain file and its compressed one may be left for the next start to clear up. */
static void check(void)
{
        struct closed_list list;
        struct verify verify;
        struct error err = {{0}};
        struct buf all;

        struct scribe *scribe = open_all(&err);
        if (!scribe)
                fail_msg("%s", err.text);
        scribe_close(scribe);
        assert_true(closed_list_read(path, &list, &err));
        buf_init(&all, 1 << 24);
        uint64_t last = 0;
        for (size_t i = 0; i < list.n; i++) {
                if (list.items[i].last_seq != last)
                        take_file(&all, list.items[i].path);
                last = list.items[i].last_seq;
        }
        take_file(&all, path);
        verify_init(&verify);
        verify_file(&verify, path);
        verify_feed(&verify, all.data, all.len);
        verify_file_end(&verify);
        verify_end(&verify, false);
        if (!verify_good(&verify))
                fail_msg("line %llu: %s", (unsigned long long)verify.first.line, verify.first.text);
        verify_clear(&verify);
        for (int i = 0; i < RECORDS; i++) {
                char id[16];
                snprintf(id, sizeof(id), "record-%02d-", i);
                if (acknowledged[i])
                        assert_true(str_find_str(buf_str(&all), str_of(id)) >= 0);
        }
        buf_clear(&all);
        closed_list_clear(&list);
}

static void whatever_call_fails_what_was_acknowledged_is_there(void **state)
{
        long n = 1;

        (void)state;
        log_set_level(LOG_LEVEL_NONE);
        for (bool hit = true; hit; n += 1 + n / 12) {
                assert_true(n < MOST_CALLS);
                setup(NULL);
                memset(acknowledged, 0, sizeof(acknowledged));
                faults_arm(n, n % 2 ? EIO : ENOSPC, n % 3 == 0);
                tell();
                hit = faults.hit;
                faults_disarm();
                check();
                teardown(NULL);
        }
        assert_true(n > 100);
        for (int i = 0; i < RECORDS; i++)
                assert_true(acknowledged[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(whatever_call_fails_what_was_acknowledged_is_there),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
