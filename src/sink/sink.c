/* What one sink does whatever its kind. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "dagward/audit/position.h"
#include "dagward/base/clock.h"
#include "dagward/base/id.h"
#include "dagward/base/log.h"
#include "inside.h"

enum {
        GATHER_MS = 50, /* between two questions to the scribe: records come in groups */
        SAVE_MS = 1000, /* a crash repeats what was handed on since */
        TELL_MS = 500,
        QUIET_MS = 60 * 1000, /* between two events, or words in the log, about one thing */
        REREAD_MS = 200,      /* something that should be there is not yet */
        BACKOFF_MOST_MS = 60 * 1000,
        WAIT_MOST_MS = 3600 * 1000,
};

static const char *type_name(const struct sink *sink)
{
        switch (sink->settings->type) {
        case SINK_STDOUT: return "stdout";
        case SINK_SYSLOG: return "syslog";
        case SINK_MONITOR: return "azure_monitor";
        }
        return "";
}

bool sink_over(const struct sink *sink)
{
        return sink->stop && clock_mono_ms() >= sink->stop_by_mono_ms;
}

/* While something is tried that may be in vain, a stop ends it. */
bool sink_cancelled(void *owner)
{
        struct sink *sink = owner;

        sink_attend(sink);
        return sink->stop && (sink->failures || sink_over(sink));
}

static bool quiet(int64_t *said_mono_ms)
{
        int64_t now = clock_mono_ms();

        if (*said_mono_ms && now < *said_mono_ms + QUIET_MS)
                return true;
        *said_mono_ms = now;
        return false;
}

/* Of files here, which are looked at several times a second. */
static void complain(struct sink *sink, const char *what, const struct error *err)
{
        if (!quiet(&sink->complained_mono_ms))
                log_error("audit sink %s: %s%s", sink->settings->name, what, err->text);
}

/* --- positions --- */

static const char no_hash[CHAIN_HEX + 1] =
        "0000000000000000000000000000000000000000000000000000000000000000";

static void place_at(struct sink *sink, uint64_t seq)
{
        sink->position.seq = seq;
        memcpy(sink->position.hash, no_hash, sizeof(no_hash));
        sink->check_position = false;
        sink->position_moved = true;
        sink->stats.seq = seq;
        tail_seek(sink->tail, seq);
}

/* The log is another than the one that was read: an older copy, or one that lost its end. From the
 * beginning of its file on, all is handed on (again). */
static void start_over(struct sink *sink, const char *why)
{
        uint64_t first = tail_first_seq(sink->all->settings.log), was = sink->position.seq;
        char before[24], from[24];

        place_at(sink, first ? first - 1 : scribe_opened_seq(sink->all->scribe));
        snprintf(before, sizeof(before), "%llu", (unsigned long long)was);
        snprintf(from, sizeof(from), "%llu", (unsigned long long)sink->position.seq + 1);
        log_error("audit sink %s: %s, so that it begins anew at seq %s (was at %s)",
                sink->settings->name, why, from, before);
        struct pair detail[] = {
                {STR("sink"), str_of(sink->settings->name)},
                {STR("reason"), str_of(why)},
                {STR("position"), str_of(before)},
                {STR("from_seq"), str_of(from)},
        };
        scribe_event(sink->all->scribe, STR("sink.restarted"), detail, 4);
}

/* Nobody was here before. */
static void begin(struct sink *sink)
{
        const char *log = sink->all->settings.log;
        uint64_t seq = scribe_opened_seq(sink->all->scribe);

        if (sink->settings->from_start) {
                uint64_t oldest = tail_oldest_seq(log);
                seq = oldest ? oldest - 1 : seq;
        } else if (seq && tail_first_seq(log) == seq) {
                seq--; /* the file was begun by this very start */
        }
        place_at(sink, seq);
}

/* Records are handed on all the same; a restart would repeat them. */
static void position_fails(struct sink *sink, const struct error *err)
{
        bool first = !sink->stats.position_failing;

        sink->position_moved = true;
        sink->stats.position_failing = true;
        sink->stats.positions_failed++;
        sink->stats_changed = true;
        complain(sink, "its position is not kept: ", err);
        if (!first)
                return;
        struct pair detail[] = {
                {STR("sink"), str_of(sink->settings->name)},
                {STR("error"), str_of(err->text)},
        };
        scribe_event(sink->all->scribe, STR("sink.position_failed"), detail, 2);
}

bool sink_init(struct sink *sink, struct error *err)
{
        const char *log = sink->all->settings.log;

        sink->known = scribe_opened_seq(sink->all->scribe);
        sink->tail = tail_new(log);
        sink->stats.ok = true;
        sink->stats_changed = true;
        if (!sink_position_path(
                    log, sink->settings->name, sink->position_path, sizeof(sink->position_path)))
                return error_set(err, "%s: the path is too long", log);
        switch (position_read(sink->position_path, &sink->position)) {
        case POSITION_NONE: begin(sink); break;
        case POSITION_BROKEN: start_over(sink, "its position cannot be read"); break;
        case POSITION_GOOD:
                if (sink->position.seq > sink->known) {
                        start_over(sink, "the log ends before its position");
                        break;
                }
                sink->check_position = memcmp(sink->position.hash, no_hash, CHAIN_HEX) != 0;
                sink->stats.seq = sink->position.seq;
                tail_seek_behind(sink->tail, &sink->position);
        }
        /* At once: else a crash would make another place the beginning. */
        if (position_write(sink->position_path, &sink->position, err))
                return true;
        position_fails(sink, err);
        return sink->all->settings.patient;
}

static void save(struct sink *sink)
{
        struct error err;

        sink->saved_mono_ms = clock_mono_ms();
        if (!position_write(sink->position_path, &sink->position, &err)) {
                position_fails(sink, &err);
                return;
        }
        sink->position_moved = false;
        if (!sink->stats.position_failing)
                return;
        sink->stats.position_failing = false;
        sink->stats_changed = true;
        log_info("audit sink %s: its position is kept again", sink->settings->name);
        struct pair detail[] = {{STR("sink"), str_of(sink->settings->name)}};
        scribe_event(sink->all->scribe, STR("sink.position_recovered"), detail, 1);
}

void sink_clear(struct sink *sink)
{
        mailbox_drain(sink->box); /* credentials that came too late */
        mailbox_free(sink->box);
        credential_unref(sink->credential);
        egress_unref(sink->egress);
        tail_free(sink->tail);
        close(sink->ended_fd);
}

/* --- losses --- */

static void tell_loss(struct sink *sink, enum sink_loss why)
{
        struct sink_losing *losing = &sink->losing[why];
        char first[24], last[24], records[24];

        snprintf(first, sizeof(first), "%llu", (unsigned long long)losing->first);
        snprintf(last, sizeof(last), "%llu", (unsigned long long)losing->last);
        snprintf(records, sizeof(records), "%llu", (unsigned long long)losing->records);
        struct pair detail[] = {
                {STR("sink"), str_of(sink->settings->name)},
                {STR("reason"), str_of(sink_loss_names[why])},
                {STR("first_seq"), str_of(first)},
                {STR("last_seq"), str_of(last)},
                {STR("records"), str_of(records)},
        };
        log_error("audit sink %s: %s records were lost, between seq %s and %s: %s",
                sink->settings->name, records, first, last, sink_loss_names[why]);
        scribe_event(sink->all->scribe, STR("sink.lost"), detail, 5);
        *losing = (struct sink_losing){.told_mono_ms = clock_mono_ms()};
}

void sink_lose(
        struct sink *sink, enum sink_loss why, uint64_t first, uint64_t last, uint64_t records)
{
        struct sink_losing *losing = &sink->losing[why];

        if (!losing->records)
                losing->first = first;
        losing->last = last;
        losing->records += records;
        sink->stats.lost[why] += records;
        sink->stats_changed = true;
        /* The event is a record as well, which may be lost in the same way: not for each one. */
        if (!losing->told_mono_ms || clock_mono_ms() >= losing->told_mono_ms + QUIET_MS)
                tell_loss(sink, why);
}

static void tell_losses(struct sink *sink, bool all)
{
        for (int why = 0; why < SINK_LOSSES; why++) {
                const struct sink_losing *losing = &sink->losing[why];
                if (losing->records && (all || clock_mono_ms() >= losing->told_mono_ms + QUIET_MS))
                        tell_loss(sink, (enum sink_loss)why);
        }
}

/* --- records --- */

static int64_t time_of(struct str line)
{
        ssize_t at = str_find_str(str_head(line, 64), STR(",\"time\":\""));
        int64_t ms;

        if (at < 0 ||
                !clock_parse(str_head(str_from(line, (size_t)at + 9), CLOCK_RFC3339_LEN), &ms))
                return clock_wall_ms();
        return ms;
}

bool sink_next(struct sink *sink, struct tail_record *out)
{
        struct error err;

        for (;;) {
                switch (tail_next(sink->tail, sink->known, out, &err)) {
                case TAIL_END: return false;
                case TAIL_ERROR: complain(sink, "", &err); return false;
                case TAIL_LOST:
                        sink->check_position = false;
                        sink_lose(sink, out->unreadable ? SINK_LOST_UNREADABLE : SINK_LOST_DELETED,
                                out->first, out->last, out->last - out->first + 1);
                        continue;
                case TAIL_RECORD: break;
                }
                if (sink->check_position &&
                        !str_eq(out->prev, str_view(sink->position.hash, CHAIN_HEX))) {
                        start_over(sink, "the log is another than the one it has read");
                        continue;
                }
                sink->check_position = false;
                sink->read_ms = time_of(out->line);
                if (!sink->stats.oldest_ms)
                        sink->stats.oldest_ms = sink->read_ms;
                return true;
        }
}

static void works_again(struct sink *sink)
{
        char since[CLOCK_RFC3339_LEN + 1];

        sink->failures = 0;
        sink->stats.ok = true;
        sink->stats.error[0] = '\0';
        if (!sink->failing_wall_ms)
                return;
        clock_rfc3339(sink->failing_wall_ms, since);
        sink->failing_wall_ms = 0;
        if (!sink->failure_told)
                return;
        sink->failure_told = false;
        log_info("audit sink %s: works again", sink->settings->name);
        struct pair detail[] = {
                {STR("sink"), str_of(sink->settings->name)},
                {STR("since"), str_of(since)},
        };
        scribe_event(sink->all->scribe, STR("sink.recovered"), detail, 2);
}

void sink_delivered(struct sink *sink, uint64_t seq, uint64_t records, uint64_t bytes)
{
        sink->stats.seq = seq;
        sink->stats.delivered += records;
        sink->stats.bytes += bytes;
        sink->stats.oldest_ms = tail_seq(sink->tail) > seq ? sink->read_ms : 0;
        sink->stats_changed = true;
        works_again(sink);
}

void sink_confirm(struct sink *sink, uint64_t seq, const char *hash)
{
        sink->position.seq = seq;
        memcpy(sink->position.hash, hash ? hash : no_hash, CHAIN_HEX);
        sink->position_moved = true;
}

/* --- waiting --- */

static void await_answered(struct scribe_await *await, void *receiver)
{
        struct sink *sink = receiver;
        struct error err;

        sink->awaiting = false;
        sink->answered_mono_ms = clock_mono_ms();
        if (sink->stop)
                return;
        /* What a power failure could take back is nobody else's yet. */
        if (!sink->all->settings.sync || await->synced_seq >= await->seq ||
                tail_sync(sink->all->settings.log, &err))
                sink->known = await->seq;
        else
                complain(sink, "", &err);
}

static void ask(struct sink *sink)
{
        sink->awaiting = true;
        sink->await = (struct scribe_await){
                .after = sink->known,
                .reply_to = sink->box,
                .done = await_answered,
        };
        scribe_await(sink->all->scribe, &sink->await);
}

/* Does what is due; how long nothing else is. */
static int64_t housekeep(struct sink *sink)
{
        int64_t now = clock_mono_ms(), wait = QUIET_MS;

        if (!sink->awaiting && !sink->stop) {
                int64_t left = sink->answered_mono_ms + GATHER_MS - now;
                if (left <= 0)
                        ask(sink);
                else
                        wait = left;
        }
        if (sink->position_moved) {
                int64_t left = sink->saved_mono_ms + SAVE_MS - now;
                if (left <= 0)
                        save(sink);
                else if (left < wait)
                        wait = left;
        }
        if (sink->stats_changed) {
                int64_t left = sink->told_mono_ms + TELL_MS - now;
                if (left <= 0) {
                        sink_tell(sink);
                        sink->told_mono_ms = now;
                        sink->stats_changed = false;
                } else if (left < wait) {
                        wait = left;
                }
        }
        tell_losses(sink, false);
        /* Records that were told of and not found are looked for again. */
        if (!sink->stop && tail_seq(sink->tail) < sink->known && wait > REREAD_MS)
                wait = REREAD_MS;
        return wait;
}

short sink_wait(struct sink *sink, int fd, short events, int64_t timeout_ms)
{
        int64_t due = housekeep(sink);
        struct pollfd fds[] = {
                {.fd = mailbox_fd(sink->box), .events = POLLIN},
                {.fd = fd, .events = events},
        };

        if (timeout_ms > due)
                timeout_ms = due;
        if (sink->stop && timeout_ms > REREAD_MS)
                timeout_ms = REREAD_MS; /* its end is near */
        int n = poll(fds, fd >= 0 ? 2 : 1, timeout_ms < 0 ? 0 : (int)timeout_ms);
        mailbox_drain(sink->box);
        return n > 0 && fd >= 0 ? fds[1].revents : 0;
}

void sink_attend(struct sink *sink)
{
        mailbox_drain(sink->box);
        (void)housekeep(sink);
}

/* --- failing --- */

static int64_t backoff_ms(unsigned failures)
{
        int64_t most = failures < 7 ? INT64_C(1000) << (failures - 1) : BACKOFF_MOST_MS;
        uint16_t random;

        id_random(&random, sizeof(random));
        return most / 2 + random % (most / 2 + 1);
}

void sink_failed(struct sink *sink, const struct error *why)
{
        snprintf(sink->stats.error, sizeof(sink->stats.error), "%s", why->text);
        sink->stats.ok = false;
        sink->stats.attempts_failed++;
        sink->stats_changed = true;
        sink->failures++;
        tail_seek_behind(sink->tail, &sink->position);
        sink->stats.seq = sink->position.seq;
        if (!sink->stats.oldest_ms && sink->known > sink->position.seq)
                sink->stats.oldest_ms = clock_wall_ms();
        if (sink->failing_wall_ms)
                return;
        sink->failing_wall_ms = clock_wall_ms();
        /* The event is a record, with which a receiver that breaks off after each one is served: it
         * must not become the cause of the next. */
        if (quiet(&sink->failure_mono_ms))
                return;
        sink->failure_told = true;
        log_error("audit sink %s: %s", sink->settings->name, why->text);
        struct pair detail[] = {
                {STR("sink"), str_of(sink->settings->name)},
                {STR("type"), str_of(type_name(sink))},
                {STR("error"), str_of(why->text)},
        };
        scribe_event(sink->all->scribe, STR("sink.failed"), detail, 3);
}

static void back_off(struct sink *sink)
{
        int64_t wait = backoff_ms(sink->failures);

        if (wait < sink->wait_least_ms)
                wait = sink->wait_least_ms < WAIT_MOST_MS ? sink->wait_least_ms : WAIT_MOST_MS;
        sink->wait_least_ms = 0;
        int64_t until = clock_mono_ms() + wait;
        for (int64_t left = wait; left > 0 && !sink->stop; left = until - clock_mono_ms())
                (void)sink_wait(sink, -1, 0, left);
}

void *sink_run(void *argument)
{
        static sink_deliver *const kinds[] = {
                [SINK_STDOUT] = stdout_deliver,
                [SINK_SYSLOG] = syslog_deliver,
                [SINK_MONITOR] = monitor_deliver,
        };
        struct sink *sink = argument;
        struct error err;

        setpriority(PRIO_PROCESS, 0, 5); /* of this thread */
        while (!kinds[sink->settings->type](sink, &err)) {
                sink_failed(sink, &err);
                /* At the end there is one attempt and no other. */
                if (sink->stop)
                        break;
                back_off(sink);
        }
        tell_losses(sink, true);
        if (sink->position_moved)
                save(sink);
        sink_tell(sink);
        eventfd_write(sink->ended_fd, 1);
        return NULL;
}
