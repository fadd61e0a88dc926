/*
 * sinks: where copies of the audit log go.
 *
 * Each sink is a thread of its own that reads the log's files behind the scribe and hands the
 * records on, as they are: the file is its buffer, however far behind it is. How far it has got is
 * kept beside the log (position.h, `<log>.sink-<name>`), so that it goes on there after a restart
 * or a crash: every record at least once, in order, with `seq` and `hash` to know repetitions by.
 * Nobody waits for a sink; what is deleted before it was handed on is counted as lost.
 */
#ifndef DAGWARD_SINK_SINKS_H
#define DAGWARD_SINK_SINKS_H

#include "dagward/audit/scribe.h"
#include "dagward/credential/credential.h"
#include "dagward/net/egress.h"

enum sink_type { SINK_STDOUT, SINK_SYSLOG, SINK_MONITOR };
enum sink_transport { SINK_TCP, SINK_TLS, SINK_UNIX };

/* What a record is about, as far as its severity goes. */
enum sink_gravity { SINK_ROUTINE, SINK_DENIED, SINK_FAILED, SINK_GRAVITIES };

struct sink_syslog {
        enum sink_transport transport;
        const char *host; /* SINK_UNIX: the path of the socket */
        uint16_t port;
        const char *ca;                /* NULL: the system's */
        const char *certificate, *key; /* shown to the server; NULL: none */
        unsigned facility;             /* RFC 5424 6.2.1: 0 to 23 */
        unsigned severity[SINK_GRAVITIES];
        const char *hostname; /* NULL: this machine's */
        const char *app_name;
        uint64_t enterprise; /* private enterprise number of the structured data */
};

/* Logs Ingestion API of Azure Monitor. */
struct sink_monitor {
        const char *endpoint;   /* https://<...>.ingest.monitor.azure.com, no slash at the end */
        const char *rule;       /* immutable id of the data collection rule */
        const char *stream;     /* Custom-<...> */
        const char *credential; /* name, for messages */
        const char *ca;         /* NULL: the system's */
        int64_t interval_ms;    /* records are gathered for so long */
        struct egress *egress;  /* the outgoing proxy at first; NULL: none */
};

/* Strings are the caller's and outlive the sinks. */
struct sink_settings {
        const char *name;
        enum sink_type type;
        bool from_start; /* without a position: from the oldest record there is, not from now on */
        struct sink_syslog syslog;
        struct sink_monitor monitor;
};

enum sink_loss {
        SINK_LOST_DELETED,    /* its file was gone before it could be read */
        SINK_LOST_UNREADABLE, /* its file is damaged */
        SINK_LOST_REJECTED,   /* the receiver does not take it */
        SINK_LOST_TOO_LARGE,  /* likewise, for its size */
        SINK_LOSSES,
};
extern const char *const sink_loss_names[SINK_LOSSES];

struct sink_stats {
        bool ok;            /* what was tried last worked */
        char error[256];    /* why not */
        int64_t oldest_ms;  /* `time` of the oldest record that waits, about; 0: none does */
        uint64_t seq;       /* the last record that the other side has taken */
        uint64_t delivered; /* records, repeated ones each time */
        uint64_t bytes;     /* of these records as they are in the file */
        uint64_t attempts_failed;
        uint64_t positions_failed; /* times that its position could not be kept */
        bool position_failing;     /* the last time */
        uint64_t unconfirmed;      /* sent again, because a connection broke with them in it */
        uint64_t lost[SINK_LOSSES];
};

struct sinks;

struct sinks_settings {
        const char *log; /* path of the audit log */
        bool sync;       /* records are on disk before they are handed on */
        bool patient;    /* begins also where positions cannot be written; tries on */
        const struct sink_settings *items;
        size_t n; /* at least one */
};

/* Reads positions, makes those that are not there. `scribe` outlives their threads, and they it.
 * NULL with a reason. Settings are not copied. */
struct sinks *sinks_new(const struct sinks_settings *settings, struct scribe *scribe,
        struct error *err) __attribute__((warn_unused_result));

/* Who wants to know; the mailbox outlives the sinks. Both run on its thread. Before sinks_start. */
struct sinks_watch {
        struct mailbox *box;
        /* From time to time while something changes. */
        void (*told)(void *receiver, unsigned index, const struct sink_stats *stats);
        /* The receiver rejected the credential of that generation; it wants another. */
        void (*rejected)(void *receiver, unsigned index, uint64_t generation);
};
void sinks_watch(struct sinks *sinks, const struct sinks_watch *watch);
/* Gives a sink what it shows to its receiver; takes a reference. From any thread. */
void sinks_lend(struct sinks *sinks, unsigned index, struct credential *credential);

/* From now on the outgoing proxy is that one (NULL: none), and connections and authorities of
 * before are not used again. Takes a reference. From any thread. */
void sinks_reloaded(struct sinks *sinks, struct egress *egress);

/* Starts a thread for each sink. False when one cannot be started: that sink has failed, as it
 * tells and records; the others run, and sinks_start_rest tries again. */
bool sinks_start(struct sinks *sinks, struct error *err) __attribute__((warn_unused_result));
/* To be called now and then, on the thread that called sinks_start. Harmless on NULL, before
 * sinks_start and after sinks_stop. */
void sinks_start_rest(struct sinks *sinks);
/* After scribe_stop: hands on what is there still, for a few seconds at most, and ends the threads.
 * False: a thread cannot be ended, because the name service does not answer; what it uses must stay
 * as it is. Harmless on NULL. */
bool sinks_stop(struct sinks *sinks) __attribute__((warn_unused_result));
/* After that and after scribe_close, whose mailbox may hold a question of a sink to the last.
 * Harmless on NULL. */
void sinks_free(struct sinks *sinks);

/* `<log>.sink-<name>`; false when it is too long. */
bool sink_position_path(const char *log, const char *name, char *out, size_t size)
        __attribute__((warn_unused_result));

#endif
