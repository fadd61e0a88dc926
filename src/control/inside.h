/* The inside of `struct control`, for the files of this module only. */
#ifndef DAGWARD_CONTROL_INSIDE_H
#define DAGWARD_CONTROL_INSIDE_H

#include <event2/event_struct.h>

#include "assertions.h"
#include "supply.h"
#include "dagward/control/control.h"
#include "dagward/net/fetch.h"
#include "discovery.h"
#include "handover.h"
#include "heart.h"
#include "lookup.h"
#include "runs.h"
#include "tags.h"
#include "names.h"
#include "sinks.h"
#include "token_source.h"
#include "watch.h"

/* What a reload replaces as one. */
struct parts {
        struct config *config;
        struct policy *policy;
        char policy_digest[65];
        struct policy *shadow; /* NULL: none */
        char shadow_digest[65];
        struct egress *egress; /* NULL: none */
        struct tls_context *upstream_tls;
        struct tls_context **listener_tls; /* per listener; NULL: plain */
};

/* Reads and checks everything; NULL with all findings. `watch` becomes what was read, good or bad:
 * a change of that is worth another attempt. */
struct parts *parts_load(const char *config_path, struct watch *watch, struct error_list *errors);
/* Harmless on NULL. */
void parts_free(struct parts *parts);

/* An ask that is not answered yet. */
struct waiter {
        struct waiter *next;
        struct ask *ask;
        int64_t deadline_mono_ms;
};

struct admin;

struct control {
        char *path; /* of the configuration */
        struct event_base *base;
        struct fetcher *fetcher;
        struct mailbox *box;
        struct event box_event;
        struct event terminate, interrupt, hangup, reopen; /* signals */
        struct event ask_timer, watch_timer, drain_timer;
        struct event reload_due; /* pending: a reload that was asked for has not begun */

        struct parts *parts;
        struct watch watch;            /* what was read last, whether it could be used or not */
        struct config *first_config;   /* what control_config answers */
        struct issuer **issuers;       /* parts->config->n_issuers */
        struct token_source **sources; /* parts->config->n_credentials */
        struct supply *supply;         /* what these need of each other */
        struct sink_tokens *sink_tokens;
        struct names *names;
        names_lookup *lookup; /* tests have their own */
        struct lookups *lookups;
        struct runs *runs;
        struct tags *tags;
        struct assertions *assertions;
        uint64_t names_changed; /* how often names have changed upstream */
        uint64_t credential_generations;

        struct world *world; /* published last */
        uint64_t generation, reload, policy_generation;
        bool booted; /* sources run, worlds are mailed */

        struct worker_port *ports;
        size_t n_ports;
        struct scribe *scribe; /* NULL: none */
        struct scribe_watch audit_watch;
        bool audit_failing;             /* records cannot be written: nothing is changed upstream */
        struct sinks *sinks;            /* NULL: none */
        struct sink_state *sink_states; /* first_config->audit.n_sinks; NULL: none */

        struct waiter *waiters, **last_waiter;

        const struct notifier *notifier; /* NULL: nobody is told */
        struct heart *heart;

        bool draining;    /* not ready any more */
        bool ends_later;  /* it was told to end, and does when its heir serves, or has failed */
        bool workers_end; /* they have been told to */
        bool has_heir;    /* another process has the sockets */
        bool stopped;
        struct handover *handover; /* NULL: nobody may take over */
        struct drain_mail *drains; /* n_ports of them */
        size_t n_drained;

        struct admin *admin;
        int admin_fd; /* for it, bound by another; -1: none */
        int64_t started_mono_ms, started_wall_ms, loaded_wall_ms;
        uint64_t n_reloads, n_reloads_failed, n_asks, n_asks_refused;
        int64_t clock_moved_ms; /* the wall clock has been set by so much since the start */
        bool change_seen;       /* a file has changed: reload when it has been still for a moment */
};

/* --- publish.c --- */

/* Makes a world of what is known now and mails it to every worker. */
void control_publish(struct control *control);
void control_event(struct control *control, const char *name, const struct pair *detail, size_t n);
struct source_hooks control_hooks(struct control *control);
struct assertions_hooks control_assertions_hooks(struct control *control);
/* Makes the sources of `parts`, taking over what those of before know. */
void control_sources_make(struct control *control);
void control_sources_start(struct control *control);
void control_sources_free(struct issuer **issuers, size_t n_issuers, struct token_source **sources,
        size_t n_sources, struct supply *supply, struct names *names);

/* --- asks.c --- */

/* A worker's ask, on the control thread. */
void control_asked(struct mail *mail, void *receiver);
/* Answers one. */
void control_reply(struct control *control, struct ask *ask, bool ok, const char *why);
/* One request to Azure DevOps with credential `index`, of whatever scheme, or with `lent`, a
 * caller's own (NULL: none); `request` says the rest: method, body, limits. NULL: there is no
 * usable credential. */
struct fetch *control_fetch(struct control *control, unsigned index, const struct credential *lent,
        enum service service, const char *path, struct fetch_request request, fetch_done *done,
        void *arg);
/* Answers those that wait for a key set (ASK_KEYS) or a credential. */
void control_answer(struct control *control, bool keys, unsigned index, bool ok, const char *why);
/* Answers those that wait for the addresses of `host`; `endpoint` NULL: there are none. */
void control_found(void *owner, const char *host, const struct endpoint *endpoint, const char *why);
/* Answers those that wait for what a caller's token is exchanged for. */
void control_exchanged(void *owner, const struct assertion_result *result);
/* Answers those that asked what a name is. */
void control_named(void *owner, const struct lookup_result *result);
/* Answers all of them. */
void control_answer_all(struct control *control, bool ok, const char *why);
void on_ask_timer(evutil_socket_t fd, short what, void *arg);

/* --- control.c --- */

/* Another process serves: this one finishes what it has. */
void control_leave_to_heir(struct control *control);
/* No heir will: if this process was told to end meanwhile, it does now. */
void control_is_left_alone(struct control *control);

/* --- reload.c --- */

/* Takes up what asked for one before, and has not begun. */
void control_reload(struct control *control, const char *cause);
/* Logs which outgoing proxy is used, if one was asked for. */
void control_tell_way_out(const struct parts *parts);
/* Records which bindings have expired, or will soon. */
void control_tell_expiries(struct control *control);
/* Reloads when a file has changed and been still since the look before. */
void on_watch_timer(evutil_socket_t fd, short what, void *arg);

/* --- jumps.c --- */

/* Now and then: notices a wall clock that was set. */
void control_look_for_jumps(struct control *control);

/* --- admin.c --- */

/* NULL with a reason when the address cannot be bound. */
struct admin *admin_new(struct control *control, struct error *err);
void admin_free(struct admin *admin);
uint16_t admin_port(const struct admin *admin);
int admin_socket(const struct admin *admin);
/* Accepts nobody any more; who is there is answered. */
void admin_retire(struct admin *admin);

/* --- state.c: what the admin listener says --- */

struct control_counts {
        struct metrics workers; /* sum of what each told last */
        size_t n_silent;        /* workers that did not answer in time */
        bool has_scribe, scribe_answered;
        struct scribe_stats scribe;
};

/* One line per check; whether all are good. `out` may be NULL. */
bool control_ready(struct control *control, const struct control_counts *counts, struct buf *out);
/* Prometheus text format 0.0.4. */
void control_metrics_write(
        struct control *control, const struct control_counts *counts, struct buf *out);

#endif
