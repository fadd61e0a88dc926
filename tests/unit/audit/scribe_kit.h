/* What tests of the scribe share: a folder with a log in it, and a worker that posts batches. */
#ifndef SCRIBE_KIT_H
#define SCRIBE_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dagward/audit/scribe.h"
#include "dagward/audit/verify.h"

static char folder[64];
static char path[96];

static inline int setup(void **state)
{
        (void)state;
        snprintf(folder, sizeof(folder), "/tmp/dagward-scribe-XXXXXX");
        assert_non_null(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/audit.jsonl", folder);
        return 0;
}

static inline int teardown(void **state)
{
        DIR *dir = opendir(folder);
        char name[512];

        (void)state;
        for (struct dirent *entry; dir && (entry = readdir(dir));) {
                snprintf(name, sizeof(name), "%s/%s", folder, entry->d_name);
                unlink(name);
        }
        closedir(dir);
        return rmdir(folder);
}

static inline struct buf read_file(const char *name)
{
        struct buf out;
        char chunk[65536];
        int fd = open(name, O_RDONLY);
        ssize_t n;

        buf_init(&out, (size_t)1 << 30);
        assert_true(fd >= 0);
        while ((n = read(fd, chunk, sizeof(chunk))) > 0)
                buf_add(&out, chunk, (size_t)n);
        close(fd);
        return out;
}

static inline void write_file(const char *name, struct str bytes)
{
        int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, bytes.ptr, bytes.len), bytes.len);
        close(fd);
}

/* Verifies files, given up to NULL, as one chain; how many records it has. */
static inline uint64_t whole(const char *first, ...)
{
        struct verify verify;
        va_list args;

        verify_init(&verify);
        va_start(args, first);
        for (const char *name = first; name; name = va_arg(args, const char *)) {
                struct buf bytes = read_file(name);
                verify_file(&verify, name);
                verify_feed(&verify, bytes.data, bytes.len);
                verify_file_end(&verify);
                buf_clear(&bytes);
        }
        va_end(args);
        if (!verify_good(&verify))
                fail_msg("%s:%llu: %s", verify.first.file, (unsigned long long)verify.first.line,
                        verify.first.text);
        uint64_t records = verify.records;
        verify_clear(&verify);
        return records;
}

static inline unsigned count(const char *name, const char *what)
{
        struct buf bytes = read_file(name);
        struct str rest = buf_str(&bytes);
        unsigned n = 0;
        ssize_t at;

        while ((at = str_find_str(rest, str_of(what))) >= 0) {
                n++;
                rest = str_from(rest, (size_t)at + 1);
        }
        buf_clear(&bytes);
        return n;
}

static inline struct scribe *open_scribe(enum scribe_durability durability)
{
        struct scribe_settings settings = {.path = path, .durability = durability};
        struct error err;
        struct scribe *scribe = scribe_open(&settings, &err);

        if (!scribe)
                fail_msg("%s", err.text);
        return scribe;
}

/* --- a worker, for the scribe --- */

struct client {
        struct mailbox *box;
        unsigned answers, ok;
        struct scribe_stats stats;
};

static inline void client_open(struct client *client)
{
        *client = (struct client){0};
        client->box = mailbox_new(client);
}

static inline void answered(struct audit_batch *batch, void *receiver)
{
        struct client *client = receiver;

        assert_ptr_equal(batch->owner, client);
        client->answers++;
        client->ok += batch->ok;
}

static inline void asked(struct scribe_ask *ask, void *receiver)
{
        struct client *client = receiver;

        client->answers++;
        client->stats = ask->stats;
}

static inline void wait_answers(struct client *client, unsigned n)
{
        while (client->answers < n) {
                struct pollfd fd = {.fd = mailbox_fd(client->box), .events = POLLIN};
                assert_int_equal(poll(&fd, 1, 20000), 1);
                mailbox_drain(client->box);
        }
        assert_int_equal(client->answers, n);
        client->answers = 0;
}

static inline void add(struct audit_batch *batch, const char *id, bool durable)
{
        struct audit_fields fields = {
                .time_ms = 1795425153123,
                .kind = durable ? AUDIT_INTENT : AUDIT_OUTCOME,
                .request_id = str_of(id),
        };

        assert_true(audit_batch_add(batch, &fields, durable));
}

/* One record: was it written? */
static inline bool post_one(
        struct client *client, struct scribe *scribe, const char *id, bool durable)
{
        struct audit_batch batch;

        client->ok = 0;
        audit_batch_init(&batch, client->box, answered, client);
        add(&batch, id, durable);
        scribe_post(scribe, &batch);
        wait_answers(client, 1);
        audit_batch_clear(&batch);
        return client->ok == 1;
}

static inline struct scribe_stats stats_of(struct client *client, struct scribe *scribe)
{
        struct scribe_ask ask = {.reply_to = client->box, .done = asked};

        scribe_ask(scribe, &ask);
        wait_answers(client, 1);
        return client->stats;
}

#endif
