/*
 * inside: what the kinds of sinks share. Private to sink.
 *
 * A kind is one function that hands records on until it is told to stop or something fails; it
 * takes them with sink_next, waits with sink_wait and says how far it is with sink_delivered and
 * sink_confirm. What is the same for all (positions, back-off, events, statistics) is in sink.c.
 */
#ifndef DAGWARD_SINK_INSIDE_H
#define DAGWARD_SINK_INSIDE_H

#include <pthread.h>

#include "dagward/audit/tail.h"
#include "dagward/sink/sinks.h"

/* Losses that are not told of yet. */
struct sink_losing {
        uint64_t first, last, records;
        int64_t told_mono_ms; /* 0: never */
};

struct sink {
        const struct sink_settings *settings;
        struct sinks *all;
        unsigned index;
        struct mailbox *box;
        pthread_t thread;
        bool started;
        int ended_fd; /* an eventfd: the thread is at its end */

        struct tail *tail;
        char position_path[4096];
        struct chain_head position; /* what a restart goes on behind; hash zeros: not known */
        bool check_position;        /* the next record's prev must be its hash */
        bool position_moved;
        int64_t saved_mono_ms;

        struct scribe_await await;
        bool awaiting;
        int64_t answered_mono_ms;
        uint64_t known; /* the last record that may be read */

        bool stop;
        int64_t stop_by_mono_ms;
        struct credential *credential; /* NULL: none yet */
        struct egress *egress;         /* the outgoing proxy, a reference; NULL: none */
        uint64_t reloads;              /* so many have been told of */
        bool torn;                     /* stdout: a line was begun and not ended */
        unsigned failures;             /* in a row */
        int64_t failing_wall_ms;       /* 0: works */
        bool failure_told;             /* by an event, so that its end is told as well */
        int64_t failure_mono_ms;       /* when that was last; 0: never */
        int64_t complained_mono_ms;    /* of what goes wrong here; 0: never */
        int64_t wait_least_ms;         /* the receiver said so, for the next attempt */
        int64_t read_ms;               /* `time` of the record that was read last */
        struct sink_losing losing[SINK_LOSSES];
        struct sink_stats stats;
        bool stats_changed;
        int64_t told_mono_ms;
};

struct sinks {
        struct sinks_settings settings;
        struct scribe *scribe;
        struct sinks_watch watch;
        struct sink *items;
        bool begun, stopping; /* sinks_start, sinks_stop was called */
};

/* --- sink.c, on the sink's thread --- */

void *sink_run(void *sink);
bool sink_init(struct sink *sink, struct error *err);
void sink_clear(struct sink *sink);
/* An attempt did not work: the next one begins behind what was confirmed. */
void sink_failed(struct sink *sink, const struct error *why);
/* The next record; false: none now. */
bool sink_next(struct sink *sink, struct tail_record *out);
/* The other side has taken the records up to `seq`: so many since it was told last. */
void sink_delivered(struct sink *sink, uint64_t seq, uint64_t records, uint64_t bytes);
/* And will not lose them: a restart goes on behind. `hash` has CHAIN_HEX digits, or is NULL. */
void sink_confirm(struct sink *sink, uint64_t seq, const char *hash);
/* They will not be handed on. */
void sink_lose(
        struct sink *sink, enum sink_loss why, uint64_t first, uint64_t last, uint64_t records);
/* Waits for `events` of `fd` (-1: of nothing), for mail, or for so long; what is due beside is
 * done. Returns what poll found. */
short sink_wait(struct sink *sink, int fd, short events, int64_t timeout_ms);
/* The same without waiting. */
void sink_attend(struct sink *sink);
/* Whether to end what it does, whatever is left. */
bool sink_over(const struct sink *sink);
bool sink_cancelled(void *sink);

/* --- the kinds --- */

/* True: it was told to stop, and has handed on what there was. False: it failed. */
typedef bool sink_deliver(struct sink *sink, struct error *err);
sink_deliver stdout_deliver, syslog_deliver, monitor_deliver;

/* --- sinks.c --- */

/* Mails the statistics to who watches. */
void sink_tell(struct sink *sink);
void sink_reject(struct sink *sink);

#endif
