/*
 * inside: what the files of the worker share.
 *
 *      worker  1 --- n  client  1 --- 0..1  exchange  0..1 --- 0..1  upstream (lent by the pool)
 *
 * Nothing is freed inside a callback: client_drop and upstream_drop close at once and put the
 * object on a list that the end of the loop turn empties. An exchange that has ended goes back to
 * a list of spare ones; who called what may end it, asks `client->exchange == x` before going on.
 */
#ifndef DAGWARD_WORKER_INSIDE_H
#define DAGWARD_WORKER_INSIDE_H

#include <pthread.h>

#include "dagward/audit/scribe.h"
#include "dagward/azdo/identity.h"
#include "dagward/azdo/resources.h"
#include "dagward/base/clock.h"
#include "dagward/base/id.h"
#include "dagward/base/log.h"
#include "dagward/http/h1_parse.h"
#include "dagward/http/target.h"
#include "dagward/net/listener.h"
#include "dagward/net/stream.h"
#include "dagward/net/tls.h"
#include "dagward/token/carrier.h"
#include "dagward/token/verdicts.h"
#include "dagward/trigger/ledger.h"
#include "dagward/worker/worker.h"
#include "dagward/world/budget.h"
#include "dagward/world/naming.h"
#include "dagward/world/ports.h"
#include "dagward/world/world.h"
#include "health.h"
#include "pipe.h"

/* A doubly linked list through its members; the list's head is a link itself. */
struct link {
        struct link *before, *after;
};

static inline void link_init(struct link *list)
{
        list->before = list->after = list;
}

static inline bool link_empty(const struct link *list)
{
        return list->after == list;
}

static inline void link_add(struct link *list, struct link *link)
{
        link->after = list->after;
        link->before = list;
        list->after->before = link;
        list->after = link;
}

static inline void link_remove(struct link *link)
{
        link->before->after = link->after;
        link->after->before = link->before;
        link_init(link);
}

/* The object that holds `link` as its member. */
#define LINK_OF(type, member, link) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* Time that was spent on addresses; see accounts.c. Zeros: none. */
enum { ACCOUNTS = 1024 };

struct accounts {
        struct {
                int64_t debt_us, at_ms;
        } slots[ACCOUNTS];
};

/* Whose handshake it is: an address with its account overdrawn, or not. */
enum shaker { SHAKER_GOOD, SHAKER_OVERDRAWN, SHAKERS };

/* Lines that addresses wait in, one taken from each in turn; as many as a uint64_t has bits. */
enum { SHAKE_LINES = 64 };

/* A world, and how many exchanges of this worker began with it. One counted reference. */
struct lease {
        struct world *world;
        unsigned users; /* exchanges, plus one while it is the newest */
};

/* A credential that upstream wants less of; see throttle.c. */
enum { THROTTLES = 64 };

struct throttle {
        unsigned index; /* of the credential in the configuration */
        enum service service;
        int status;                               /* 429: all services */
        unsigned char digest[TOKEN_DIGEST_BYTES]; /* whose own it is; zeros: everybody's */
        int64_t until_ms;                         /* monotonic */
};

struct worker_listener {
        struct worker *worker;
        unsigned index; /* in the configuration */
        int fd;
        bool paused;      /* descriptors had run out; the next tick tries again */
        bool outlives_us; /* others hold the socket, too: who waits in its queue is theirs */
        struct event event;
};

struct worker {
        unsigned number;
        pthread_t thread;
        bool started, stopping;
        struct event_base *base;
        struct mailbox *box;
        struct event box_event, tick_event, audit_event, turn_event;
        struct control_port control;
        struct scribe *scribe;
        struct ledger *ledger; /* NULL: every trigger is sent */
        struct worker_listener *listeners;
        size_t n_listeners;
        /* budgets; see admit.c */
        struct budget *budget;                 /* what all workers count together */
        unsigned n_workers;                    /* that share the limits */
        uint64_t descriptors;                  /* of the process; UINT64_MAX: without end */
        uint64_t most_clients, most_upstreams; /* this worker's share */
        struct link strangers; /* clients that never showed a valid token: the newest first */
        struct link resting;   /* those that did, and are not being served */
        struct link waiting;   /* either, with a request that is not let in, and holds a block */
        uint64_t admitted;     /* requests under way */
        uint64_t held_bytes;   /* by exchanges, beside stream blocks */
        uint64_t turned_away_told[8];
        int64_t turned_away_told_ms;
        int64_t accept_failed_ms; /* when a lack of descriptors was last logged */
        struct lease *lease;      /* the newest */
        struct stream_pool pool;
        int64_t now_ms; /* monotonic, of this turn */
        int64_t wall_ms;
        struct link clients, dropped_clients;
        struct link *next_client; /* of a walk over the clients; NULL: there was none yet */
        struct link upstreams, dropped_upstreams; /* all that are open; those to be freed */
        struct link idle[SERVICE_COUNT];          /* pooled: the last returned first */
        struct tls_session tls_sessions[SERVICE_COUNT];
        struct exchange *spare; /* finished exchanges, to be used again */
        unsigned n_spare;
        /* for when nothing happens; see give_back in worker.c */
        bool served; /* an exchange began since the last tick */
        bool spent;  /* and since memory was given back */
        unsigned quiet_ticks;
        int64_t give_back_after_ms;
        struct verdicts *verdicts;
        unsigned rotation; /* which of an endpoint's addresses is tried first */
        struct health health;
        int64_t next_event_ms, next_resolve_ms; /* not before: see addresses.c */
        int64_t retries_left;                   /* hundredths; see upstream_may_retry */
        int64_t throttled_until_ms;             /* the last of: */
        struct throttle throttles[THROTTLES];
        /* evidence */
        struct evidence_batch *batch; /* being filled; NULL: none */
        struct evidence_batch *spare_batches;
        unsigned n_spare_batches;
        struct evidence_batch *failed_batches; /* to be posted again */
        size_t batches_out;                    /* posted, not answered */
        unsigned audit_waiting;                /* exchanges whose record is to be on disk first */
        bool audit_hurried;                    /* the scribe was told not to wait for more */
        bool audit_failing;                    /* the last answer was no, or none came in time */
        struct scribe_watch audit_watch;       /* what others' batches have shown */
        struct grants_table *grants;           /* bindings of callers met before */
        struct directory *directory;           /* names and ids learnt from upstream */
        struct buf locations[SERVICE_COUNT];   /* all of a service, for clients that discover */
        struct accounts forgers;               /* for tokens that turned out to be worthless */
        struct link turns;   /* exchanges whose tokens wait to be looked at: the newest first */
        struct link holding; /* those that hold bytes */
        struct strangers *strangers_met; /* who they were, and how much is written of them */
        /* handshakes; see shakes.c */
        struct accounts shakers;
        struct link shakes[SHAKERS][SHAKE_LINES]; /* clients that wait: the newest first */
        uint64_t shake_lines[SHAKERS];            /* bits: somebody waits there, or did */
        unsigned shake_next[SHAKERS];             /* index of the line whose turn it is */
        int64_t shaken_us[SHAKERS];               /* what handshakes took in this turn */
        enum shaker shaking;                      /* whose time is taken since: */
        int64_t shake_began_us;                   /* 0: no step is being taken */
        struct event shake_event;
        struct lent *lent; /* callers' own credentials; NULL: none was needed yet */
        struct metrics metrics;
        struct drain_mail *drain;
};

struct client {
        struct link link;
        struct link standing; /* among strangers or resting ones; alone: being served */
        struct link waiting;  /* in a list of the worker: its request is not let in and waits for
                                 something (`waiting`), or its handshake does (`shakes`) */
        struct worker *worker;
        struct stream stream;
        struct exchange *exchange;  /* NULL: idle */
        int64_t deadline_ms;        /* INT64_MAX: none */
        budget_place address_place; /* where it was counted */
        unsigned requests;          /* served on this connection */
        unsigned listener;          /* index */
        bool known;                 /* it has shown a valid token */
        bool tls;
        bool last;       /* it has served its last request */
        bool closing;    /* half-closed: what still arrives is thrown away until `deadline_ms` */
        uint64_t reload; /* of the world in which the listener let it in */
        char peer[];     /* its address; memory is taken for what it is long */
};

struct upstream {
        struct link link;      /* among all */
        struct link idle_link; /* in the pool */
        struct worker *worker;
        struct stream stream;
        struct exchange *exchange; /* NULL: idle */
        enum service service;
        bool once;            /* to storage: not pooled */
        uint64_t reload;      /* of the world it was opened in */
        unsigned served;      /* answers so far: 0 = fresh */
        uint64_t sent_before; /* stream.sent when it was lent */
        struct health_key key;
        bool connected;      /* with TLS, if that is used */
        bool probe;          /* of an address that was ejected */
        uint64_t generation; /* of the world that was looked at last */
        int64_t idle_until_ms;
        char host[256]; /* for logs */
        /* see tunnel.c */
        bool by_proxy;   /* it leads, or is to lead, through the outgoing proxy */
        bool tunnelling; /* which has not opened the way yet: nothing else may be sent */
        size_t tunnel_scanned;
};

/* What a step answers. */
enum next {
        NEXT,    /* go on */
        AGAIN,   /* more bytes of the client are needed */
        PENDING, /* a mail will call exchange_go_on */
        REFUSE,  /* x->refusal is set: answer it */
        ANSWER,  /* an answer of our own has been composed */
        RELAY,   /* bytes flow; the relay has the rest */
};

enum phase {
        PHASE_STEPS,  /* in exchange.c's table */
        PHASE_RELAY,  /* forwarding */
        PHASE_ANSWER, /* our own answer is being sent */
        PHASE_DRAIN,  /* what is left of the request's body is thrown away */
};

/* What callers assert about themselves. */
enum claim {
        CLAIM_DAG_ID,
        CLAIM_RUN_ID,
        CLAIM_TASK_ID,
        CLAIM_MAP_INDEX,
        CLAIM_TRY_NUMBER,
        CLAIM_USER_AGENT,
};
enum { CLAIMS = CLAIM_USER_AGENT + 1 };

/* What the exchange waits for; what a deadline that passes means. */
enum waits_for {
        WAIT_NOTHING,
        WAIT_HEAD,
        WAIT_TURN, /* for its token to be looked at; see forgers.c */
        WAIT_BODY, /* the client's */
        WAIT_CONTROL,
        WAIT_AUDIT,
        WAIT_TRIGGER, /* for what became of the same trigger before */
        WAIT_CONNECT,
        WAIT_FIRST_BYTE,
        WAIT_UPSTREAM, /* the rest of its answer */
        WAIT_CLIENT,   /* to take the answer */
};

/* A download that is fetched from storage; see detour.c. */
struct detour {
        char host[256];
        struct str target; /* path and query, which is signed: a secret, in the arena */
        struct endpoint endpoint;
        bool known; /* `endpoint` is there */
        unsigned hops;
};

/* What the shadow policy says, the graver the higher: of several parts, the gravest counts. */
enum shadow_answer { SHADOW_NOT_ASKED, SHADOW_ALLOW, SHADOW_UNCLEAR, SHADOW_DENY };

struct shadow_says {
        enum shadow_answer answer;
        struct str rule, role, credential; /* of the deciding entry; views into the policy */
};

/* A request that starts something; see trigger.c. In the arena. */
struct trigger {
        bool starts; /* a run, which has a number, tags and a mark */
        enum trigger_keyed keyed;
        struct trigger_key key;
        struct str definition;       /* what is started; empty: not known */
        struct pending_trigger *ask; /* not NULL while the ledger is asked */
        bool asked, answered;        /* the ledger; `verdict` is there */
        enum trigger_verdict verdict;
        bool in_hand;   /* the ledger has to be told what comes of it */
        bool sent;      /* upstream may have seen it */
        bool looked_up; /* control has said what became of it: */
        bool look_ok;
        enum run_found found;
        char maybe[160], look_why[120];
        int64_t look_steady_ms; /* when it was asked */
        bool renewed;           /* it was not there, and is sent after all */
        bool settled;
        int64_t until_ms;              /* monotonic: others are waited for so long */
        int64_t look_ms;               /* monotonic: not looked for again before; 0: at once */
        char first_id[TRIGGER_ID + 1]; /* of the first request with that key */
        char first_correlation_id[TRIGGER_ID + 1];
        int64_t begun_ms, lost_ms;         /* wall clock, of the first one */
        int64_t lost_steady_ms;            /* as lost_ms, by clock_steady_ms */
        struct trigger_answer *answer;     /* the first one, to be given again; malloc'd */
        const char *state;                 /* for the record; NULL: none */
        struct buf body;                   /* of upstream's answer, as it came */
        struct str content_type, location; /* of that answer; copies */
        bool encoded;                      /* it has a Content-Encoding after all */
        struct str run_id, run_url;
};

struct refusal_answer {
        int status;
        enum refusal kind;
        char message[POLICY_REASON_BYTES + 256]; /* with what to do about it */
        char rule[160];
        bool challenge;    /* WWW-Authenticate */
        int retry_after_s; /* 0: none */
};

struct exchange {
        struct exchange *next_spare;
        struct client *client;
        struct worker *worker;
        struct lease *lease;
        struct world *world; /* lease->world */
        struct arena arena;
        enum phase phase;
        enum waits_for waits;
        unsigned step;
        int64_t begun_ms, begun_us;
        char request_id[ID_UUID_LEN + 1];
        char correlation_id[ID_UUID_LEN + 1];
        bool correlation_replaced; /* the client's was malformed */

        /* parse */
        size_t scanned;
        bool parsed;          /* `request` is valid */
        struct pipe in;       /* the request's body: client -> upstream */
        struct buf inspected; /* the body as far as it was read to decide; `held` views it */
        struct buf rewritten; /* a body that leaves otherwise than it came; `held` views it */
        bool decoded_body;    /* `held` is without the Content-Encoding it came in */
        bool holds_body;      /* the whole body is in `held`: it can be sent, and sent again */
        struct str held;
        size_t held_sent;
        bool continued; /* 100 Continue has been sent */

        struct str reason;     /* to break glass; below the stream's floor, empty: none given */
        unsigned reason_chars; /* of it */

        /* identify */
        struct link turn_link; /* among those whose tokens wait to be looked at */
        enum token_via via;
        struct str claimed_user;
        struct caller *caller; /* one reference */
        struct str token;      /* of the caller, verified: a secret, in the head or the arena */
        const struct policy_grants *grants; /* the table's, good for this turn of steps */
        bool asked_keys;
        bool issuer_unheard; /* it was asked for keys and gave no usable answer */

        /* admit */
        uint64_t identity; /* its caller's number, once admitted */
        budget_place identity_place;
        bool admitted, rated;
        uint64_t held_bytes;
        size_t arena_counted; /* of the arena, in them or usual */
        struct link holding;  /* of the worker, if there are any */

        /* name */
        bool has_target, has_name;
        bool is_git, is_lfs;
        struct pair claims[CLAIMS]; /* by enum claim, names as in policies; once claims_known */
        bool claims_known;

        struct str understood; /* the body that it was named with; ptr NULL: it was not read */

        /* decide */
        bool decided;
        const struct policy_grants *shadow_grants; /* as `grants`; NULL: no shadow policy */
        struct shadow_says shadow;
        bool shadow_disagrees; /* `shadow_text` says how */

        /* record */
        struct link audit_link; /* among those that wait for a batch */
        bool intent_recorded, audit_answered, audit_ok;

        /* ask of control: not NULL while one is under way */
        struct pending_ask *ask;
        unsigned names_asked;         /* by this exchange */
        struct name_used *names_used; /* what it was decided with; in the arena */
        char ask_why[200];            /* why the last one was answered with no; "": it was not */
        struct str challenge;         /* upstream's, for the next token; in the arena */
        struct str ask_cause;         /* the same as far as callers may know; in the arena */

        struct trigger *trigger; /* in the arena; NULL: it starts nothing */
        bool orphan;             /* its client is gone, and it goes on all the same */

        /* lend */
        struct credential *credential; /* one reference */
        struct str credential_type;    /* in the arena */
        bool asked_credential, replaced_credential;
        bool credential_is_callers; /* its own, and nobody else's; see lend.c */
        uint8_t reloads_met; /* while it waited for keys, or for a credential that all share */
        unsigned lend_asks;  /* for such a one */
        unsigned char token_digest[TOKEN_DIGEST_BYTES]; /* once lend_asks > 0 */
        bool lend_refused;                              /* by the last of them, */
        enum assertion_refusal lend_refusal;            /* for this reason, */
        struct str lend_why;                            /* in words; in the arena */
        struct str lend_cause;                          /* as any caller may know it; likewise */

        /* forward */
        struct upstream *upstream;
        struct pipe out; /* the answer's body: upstream -> client */
        size_t response_scanned;
        bool response_begun;  /* the head has been given to the client */
        bool request_sent;    /* all of it */
        bool request_blocked; /* upstream takes no more of its body for now */
        bool retried;         /* on another connection */
        unsigned attempts;
        unsigned addresses_tried; /* bits, by their index */
        int64_t connect_until_ms; /* whichever address it is */
        struct str tls_why;       /* why TLS failed with one of them; in the arena */
        unsigned interims;        /* 1xx answers of this connection */
        int64_t upstream_begun_us, first_byte_us;
        uint64_t moved_before; /* body bytes both ways when a deadline was last set */
        int upstream_status;
        struct str activity_id, upstream_e2eid;
        struct push_refusal *push; /* in the arena; NULL: no refs were refused */
        struct detour *detour;     /* in the arena; NULL: the answer is Azure DevOps' own */
        struct rewrite *rewrite;   /* kept for the next one; NULL: there was no use for it yet */
        bool rewrites;             /* the answer's body goes through `rewrite` */

        /* answer */
        struct refusal_answer refusal;
        bool refused;
        int status;             /* what the client was told; 0: nothing */
        struct buf own;         /* an answer of our own that may be large */
        struct str answer_left; /* what is still to be queued of it */
        bool keep_alive;        /* the client's connection can be used again */
        uint64_t response_bytes;

        /* Large, and not cleared between requests: each is written whole before it is read. */
        struct h1_request request;   /* once `parsed`; views below the stream's floor */
        struct target target;        /* once `parsed` */
        struct named named;          /* once `has_name` */
        struct decision decision;    /* once `decided` */
        char shadow_text[256];       /* once `shadow_disagrees` */
        struct h1_response response; /* once `response_begun` */
};

/* --- worker.c --- */
void worker_defer_client(struct client *client);
void worker_defer_upstream(struct upstream *upstream);
struct lease *lease_take(struct worker *worker);
/* The process is about to end: an answer is the last on its connection. */
static inline bool worker_leaves(const struct worker *worker)
{
        return worker->drain || worker->lease->world->draining;
}
void lease_return(struct lease *lease);
/* Accepts nothing until the next tick: what accept lacks is not there before somebody hangs up. */
void listener_pause(struct worker_listener *listener);

/* --- admit.c --- */
/* Before the first share: how many share, and how many descriptors there are. */
void admit_begin(struct worker *worker, unsigned n_workers);
/* What this worker may have of what is configured now, and of the descriptors. */
void admit_share_out(struct worker *worker, const struct config *config);
/* Upstream connections, and requests under way, of this worker at most. */
uint64_t admit_upstreams(const struct worker *worker, const struct config *config);
/* Whether a connection from `peer` may stay; others may have had to go for it. */
bool admit_connection(struct worker *worker, const char *peer, budget_place *place);
/* A new client; one that is not being served any more; one whose connection is closed. */
void admit_meet(struct client *client);
void admit_rest(struct client *client);
void admit_gone(struct client *client);
/* It waits. Who is not let in makes room by that when memory is used up. */
void admit_stranger_waits(struct exchange *x);
/* Its caller is known and nothing of its body has been read: NEXT, or REFUSE. */
enum next admit_request(struct exchange *x);
/* Counts it as a request of operation `op` (NULL: not known), once: NEXT, or REFUSE. */
enum next admit_rate(struct exchange *x, const struct operation *op);
/* The same once it has been allowed, if rates are by role. */
enum next admit_rate_of_role(struct exchange *x);
/* Sets bytes aside until the exchange ends; false: there are not enough, or its caller holds as
 * much already as is left to all others. */
bool admit_bytes(struct exchange *x, uint64_t bytes);
/* They are in use already. */
void admit_count_bytes(struct exchange *x, uint64_t bytes);
/* What its arena takes beyond the usual, by now. */
void admit_count_arena(struct exchange *x);
/* Refuses, to be tried again in `after_s`, without waiting for a body. Always REFUSE. */
enum next admit_turn_away(struct exchange *x, int status, enum refusal kind, int after_s,
        const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The exchange ends. */
void admit_leave(struct exchange *x);
void admit_tick(struct worker *worker);

/* --- client.c --- */
void client_accept(struct worker *worker, struct worker_listener *listener);
void client_drop(struct client *client);
/* Stands for its address, in accounts. */
uint64_t client_address(const struct client *client);
/* The worker drains: if the client has no exchange, answers what is here, or lets it go. */
void client_part(struct client *client);
/* The same in the middle of an answer: the client must not take the part for the whole. */
void client_cut(struct client *client);
/* Bytes moved, or somebody called: go on with whatever the client's state is. */
void client_go_on(struct client *client);
/* Looks at the deadline. */
void client_tick(struct client *client);

/* --- exchange.c --- */
struct exchange *exchange_new(struct client *client);
/* Runs steps, relay or answer as far as they go. */
void exchange_go_on(struct exchange *x);
/* The deadline has passed. */
void exchange_late(struct exchange *x);
/* The client is gone, or the connection cannot be used: record and end. */
void exchange_abandon(struct exchange *x);
/* Everything has been sent: record the outcome, give the exchange back. */
void exchange_end(struct exchange *x);
/* Ends the steps with a refusal; also from the relay as long as no byte of an answer went out. */
void exchange_refuse(struct exchange *x);
/* Goes back to the step that lends a credential, to send the whole request again. */
void exchange_lend_again(struct exchange *x);
/* Throws away what is left of the request's body, so that the connection can be used again. */
void exchange_drain(struct exchange *x);
void exchange_wait(struct exchange *x, enum waits_for what, int64_t ms);
/* Whether what it was decided by has ended, or is another by now: its token, keys, policy. */
bool exchange_is_overtaken(const struct exchange *x);
/* Whether bindings and windows of time may have ended since it was decided. */
bool exchange_is_old(const struct exchange *x);
/* What a caller says has been understood; what is known of it from now on finds room, however much
 * of the arena that took. */
void exchange_open_reserve(struct exchange *x);
/* Goes back to the step that looks at its token. Nothing may have been sent. Always NEXT. */
enum next exchange_begin_anew(struct exchange *x);
/* Names the request with `body` (ptr NULL: not read) into `named`, in `arena`. */
enum naming_result exchange_name(struct exchange *x, struct str body, struct arena *arena,
        struct named *named, const char **why);
/* The kinds that a rule looks at which could decide this, and that only the body can tell; what a
 * kind would be concluded from, if the body says otherwise than the path, included. */
unsigned exchange_body_kinds(
        const struct named *named, const struct policy *policy, const struct policy_grants *grants);

/* --- head.c --- */
/* The first step: the request's head, its target and correlation ID. AGAIN while it has not come
 * whole; a client that leaves before is abandoned. */
enum next head_read(struct exchange *x);
/* The parameter by which a query asks for another method than the request's, or STR_NONE. */
struct str head_overrides_method(const struct target *target);

/* --- decide.c --- */
/* The step; see exchange.c. */
enum next decide_step(struct exchange *x);
/* After it has allowed a request that is no push and no batch, and if nothing but time has passed
 * since: whether the same binding still allows it. */
bool decide_same_now(struct exchange *x);
/* Asks the policy about `named`: x->decision. NEXT: that is the answer. PENDING, until upstream has
 * told what it depends on; the step is run again then. Or REFUSE. */
enum next exchange_decide(struct exchange *x, struct named *named, struct str method);
/* What the policy is asked about `named`. */
struct policy_request exchange_question(
        struct exchange *x, const struct named *named, struct str method);
/* What it is asked in addition about a route of no organization. */
struct policy_request exchange_spelt_out(const struct exchange *x);
/* Whether it is one of those that are configured: a credential goes to no other. */
bool organization_is_served(const struct exchange *x);
/* Refuses what x->decision denies. */
enum next exchange_deny(struct exchange *x);

/* --- shadow.c --- */
/* Asks the shadow policy, too, what the live one has just decided. */
void shadow_ask(struct exchange *x, const struct named *named, struct str method);
/* The live decision has been made, and `next` is what comes of it: counts, and compares. */
void shadow_settle(struct exchange *x, enum next next);

/* --- hold.c --- */
/* Waits for more of the body: NEXT when there is some, AGAIN, REFUSE, or PENDING (it has ended). */
enum next hold_wait(struct exchange *x);
/* Reads the whole body into x->held, decoded, because what is asked depends on it; AGAIN as long as
 * it has not come. */
enum next hold_to_decide(struct exchange *x);
/* Reads the whole body into x->held, decoded, whatever it is. */
enum next hold_whole(struct exchange *x);
/* Reads a body of known and small length; any other is left where it is. */
enum next hold_small(struct exchange *x);
/* From now on the body is what is in `body`, which becomes the exchange's; REFUSE when memory for
 * it is spoken for. */
enum next hold_instead(struct exchange *x, struct buf *body);

/* --- refuse.c --- */
/* Fills x->refusal; always REFUSE, for `return refuse(...)`. */
enum next refuse(struct exchange *x, int status, enum refusal kind, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
enum next refuse_fault(struct exchange *x, const struct h1_fault *fault);
/* Composes the refusal in the shape that this route's clients show to people. */
void refusal_write(struct exchange *x);

/* --- trigger.c --- */
/* A step: a request that starts something is sent only if the ledger knows of no other like it. */
enum next trigger_step(struct exchange *x);
/* Whether all of its body has to be here before the step. */
bool trigger_wants_body(const struct exchange *x);
/* Whether it waits for somebody's answer, or for time to pass. */
bool trigger_waits(const struct exchange *x);
/* Its deadline has passed. True: it was a pause, and the step is to be run again. */
bool trigger_look_again(struct exchange *x);
/* It has waited long enough: always REFUSE. */
enum next trigger_late(struct exchange *x);
/* Refuses because of an earlier request with the same key: `status`, and what to do about it. */
enum next trigger_refuse(struct exchange *x, int status, const char *what, int retry_after_s);
/* Asks the ledger; `renew`: to send what was looked for and is not there. */
enum next trigger_ask_ledger(struct exchange *x, bool renew);
/* Answers with t->answer. */
enum next trigger_answer_again(struct exchange *x, const char *state);
/* `upstream` is given back or dropped: notes whether it can have seen anything of the request. */
void trigger_note_sent(const struct upstream *upstream);
/* The head of the answer is there, for as long as upstream's buffer holds it. */
void trigger_answered(struct exchange *x);
/* What is known to have been turned away has started nothing. */
void trigger_turned_away(struct exchange *x);
/* Whether it goes on without its client, so that its answer is known when it is asked for again. */
bool trigger_outlives_client(struct exchange *x);
/* The exchange ends: tells the ledger what came of it, and has the run tagged. */
void trigger_settle(struct exchange *x);
void trigger_clear(struct exchange *x);
/* The fields that an answer given again has beside its own. */
void trigger_write_fields(struct exchange *x, struct buf *out);

/* --- trigger_look.c --- */
/* What became of one that was sent and not answered: PENDING as long as control looks. */
enum next trigger_look(struct exchange *x);
/* Control has answered. */
void trigger_seen(struct exchange *x, struct run_ask *run, bool ok, const char *why);
/* Puts the mark into the body: NEXT or REFUSE. */
enum next trigger_mark(struct exchange *x);
/* Has the run tagged. */
void trigger_tag(struct exchange *x);

/* --- answer.c --- */
/* An answer of upstream's that was kept: told anew for this client. `large` as it is. */
enum next answer_kept(struct exchange *x, int status, struct str content_type, struct str body);
/* Composes a whole answer of our own and puts it into the client's output. The body has to be
 * small. */
void answer_write(struct exchange *x, int status, struct str content_type, struct str body);
/* The body of `GET /`: who you are and what applies to you. */
enum next answer_whoami(struct exchange *x);
/* An answer that is given here and not upstream; NEXT when this is not such a request. */
enum next answer_locally(struct exchange *x);

/* --- ask.c --- */
enum next ask_keys(struct exchange *x, unsigned issuer);
/* Something newer than generation `seen` of the credential `index` of the newest world. */
enum next ask_credential(struct exchange *x, unsigned index, uint64_t seen, enum ask_kind kind);
/* Where x->detour leads. */
enum next ask_address(struct exchange *x);
/* Credential `index` for x->token; not the generation `rejected` (0: any). */
enum next ask_assertion(struct exchange *x, unsigned index, uint64_t rejected);
/* The same while generation `seen` is still good, and without waiting. */
void ask_assertion_ahead(struct exchange *x, unsigned index, uint64_t seen);
void ask_forget(struct exchange *x);

/* What upstream knows the resource of `question` as; the answer goes into the directory. */
struct name_question;
enum next ask_name(struct exchange *x, const struct name_question *question);
/* Looks for the run that `run` wants, or has it tagged (then nobody waits); takes `run`. */
enum next ask_run(struct exchange *x, enum ask_kind kind, unsigned index, struct run_ask *run);
/* Tells everybody that names have changed upstream. */
void ask_forget_names(struct worker *worker);
/* Has host names looked up anew. */
void ask_resolve(struct worker *worker);

/* --- directory.c: what upstream said that names and ids are --- */
struct name_question {
        enum resource_kind kind;
        struct str value;
        enum service service;
        struct str path; /* of the GET that asks, by identity_question */
        unsigned credential;
};
enum directory_answer {
        DIRECTORY_ASK,    /* not known, or not any more */
        DIRECTORY_KNOWN,  /* `*identity`, good until the directory is told something */
        DIRECTORY_NOBODY, /* there is no such thing */
        DIRECTORY_FAILED, /* it could not be had a moment ago */
};
struct directory *directory_new(void);
/* Forgets everything. */
void directory_clear(struct directory *directory);
void directory_free(struct directory *directory);
enum directory_answer directory_find(struct directory *directory,
        const struct name_question *question, int64_t now_ms, const struct identity **identity);
/* Takes `identity` (malloc'd; NULL unless `answer` is DIRECTORY_KNOWN). */
void directory_tell(struct directory *directory, const struct name_question *question,
        enum directory_answer answer, struct identity *identity, int64_t now_ms);

/* --- resolve.c --- */
/* After a denial: learns what it hinges on. `*learnt`: something that is worth another decision. */
enum next resolve(struct exchange *x, struct named *named, struct str method, bool *learnt);
/* Whether upstream could be asked about what `named` leaves in doubt. Asks nobody. */
bool resolve_is_open(
        struct exchange *x, const struct named *named, unsigned doubts, struct str credential);
/* Upstream has answered: what it says about names that were learnt. */
void resolve_judge_answer(struct exchange *x);

/* --- identify.c --- */
/* NEXT with x->caller set, PENDING while keys are fetched or others have their turn, or REFUSE. */
enum next identify(struct exchange *x);
/* Refuses because the token has ended meanwhile. Always REFUSE. */
enum next identify_ended(struct exchange *x);

/* --- accounts.c --- */
/* `who` is a number of client_address. */
bool account_is_overdrawn(const struct accounts *accounts, uint64_t who, int64_t now_ms);
void account_charge(struct accounts *accounts, uint64_t who, int64_t now_ms, int64_t us);

/* --- shakes.c --- */
void shakes_init(struct worker *worker);
/* Whether the client's handshake may take a step now, or is over; shake_end after it. False: it
 * waits, and nothing of it is read; client_go_on runs when it is its turn. */
bool shake_begin(struct client *client);
void shake_end(struct client *client);
/* Those whose turn it is go on. */
void shakes_turn(struct worker *worker);
void shakes_turn_end(struct worker *worker);

/* --- strangers.c --- */
struct strangers *strangers_new(void);
/* Harmless on NULL. */
void strangers_free(struct strangers *strangers);
/* True: the request is counted and has no record. `address` is a number of client_address, `text`
 * the address itself; `reason` an enum refusal, REFUSAL_COUNT for who left. */
bool strangers_count(struct strangers *strangers, uint64_t address, const char *text,
        unsigned reason, int64_t now_ms);
/* Writes what was counted, once a minute or `at_once`. */
void strangers_tell(struct worker *worker, bool at_once);

/* --- forgers.c --- */
/* Whether a token that is not known yet may not be verified now. */
bool forger_must_wait(const struct exchange *x);
/* Its token was worthless, and has cost that much. */
void forger_charge(const struct exchange *x, int64_t us);
/* The exchange goes on when its address may try again, after those that wait already. */
void forgers_wait(struct exchange *x);
/* Whose turn it is goes on. */
void forgers_turn(struct worker *worker);

/* --- grants.c --- */
struct grants_table *grants_new(void);
/* Forgets everybody. */
void grants_clear(struct grants_table *table);
void grants_free(struct grants_table *table);
/* The bindings that apply to `caller` under the policy of `world`, and `*shadow` under its shadow
 * policy (NULL: it has none); the table's, until it is asked again. */
const struct policy_grants *grants_find(struct grants_table *table, struct caller *caller,
        const struct world *world, const struct policy_grants **shadow);
/* Room for the number of the caller that was found last: 0 at first. */
uint64_t *grants_number(struct grants_table *table, const struct caller *caller);

/* --- batch.c --- */
/* Decides each request that the body of an allowed batch carries; NEXT: all are allowed, and
 * x->held is the list that may go upstream. */
enum next batch_decide(struct exchange *x);

/* --- push.c --- */
/* Whether the policy tells refs of a push, or what happens to them, apart. */
bool push_is_judged_by_ref(
        const struct exchange *x, const struct policy *policy, const struct policy_grants *grants);
/* Decides a push ref by ref; NEXT: all are allowed. The commands stay in the stream. */
enum next push_decide(struct exchange *x);
/* The body that tells git, ref by ref, why the push was refused; empty: the client did not ask. */
struct str push_report(struct exchange *x);

/* --- claims.c --- */
/* Fills x->claims. */
void claims_read(struct exchange *x);

/* --- glass.c --- */
/* Reads the reason that the request gives for breaking glass: NEXT or REFUSE. */
enum next glass_read_reason(struct exchange *x);
/* After a denial that a reason could turn: says which field to give it in. */
void glass_tell(struct exchange *x);
/* Glass is broken, and the record of it is where it has to be: counts and logs. */
void glass_count(struct exchange *x);

/* --- evidence.c --- */
/* Records that glass was broken for an answer that is given here; nobody waits for it. */
void evidence_glass(struct exchange *x);
/* NEXT, PENDING until the record is on disk, or REFUSE. */
enum next evidence_intent(struct exchange *x);
/* An event that is kept with the records until it is written, however many there are: scribe_event
 * has room for some, and the rest is lost. */
void evidence_event(struct worker *worker, struct str name, const struct pair *detail, size_t n);
void evidence_outcome(struct exchange *x);
/* It waits for no record any more. */
void evidence_leave(struct exchange *x);
/* At the end of a turn: posts what has to go now. */
void evidence_flush(struct worker *worker, bool all);
/* At the end of a turn, after that. */
void evidence_hurry(struct worker *worker);
/* A batch has waited for BATCH_MS. */
void evidence_due(struct worker *worker);
/* So much waits to be written that no more requests may be read. */
bool evidence_is_full(const struct worker *worker);
/* So much does that requests that need a record would be refused. */
bool evidence_is_behind(const struct worker *worker);
/* Now and then: tries again what could not be written. */
void evidence_tick(struct worker *worker);
/* At once: tries again what could not be written. */
void evidence_post_failed(struct worker *worker);
/* Frees what is kept to be used again. */
void evidence_give_back(struct worker *worker);
void evidence_clear(struct worker *worker);
/* From now on the worker knows of a log that cannot be written before it has written itself. */
void evidence_watch(struct worker *worker);
/* A record was not acknowledged in time: until one is, the log counts as one that cannot be
 * written. */
void evidence_overdue(struct worker *worker);

/* --- lend.c --- */
/* For a caller whose own credential upstream rejects, whatever is done about it. */
extern const char lend_rejected_text[];
/* Whether the credential is one of each caller's own. */
bool lend_is_callers(const struct world *world, unsigned index);
/* Lends credential `index` of the newest world to x->caller: NEXT, PENDING, or REFUSE. */
enum next lend_to_caller(struct exchange *x, unsigned index);
/* Control has answered an ask_assertion; `x` NULL: who asked is gone. */
void lend_answered(struct worker *worker, struct exchange *x, struct ask *ask);

/* --- compose.c --- */
/* Writes the head that goes upstream; false when it does not fit. */
bool compose_request(struct exchange *x, struct buf *out);
/* Writes the head that goes to the client; false when upstream's cannot be passed on. */
bool compose_response(
        struct exchange *x, enum h1_framing leaves, struct buf *out, struct error *why);
/* Writes the Location of an answer in terms of our own URL; false with a reason: it leads nowhere
 * and has to. */
bool compose_location(
        struct exchange *x, int status, struct str value, struct buf *out, struct error *why);
/* Whether upstream turned our credential away instead of answering (203 page, sign-in, 401). */
bool response_is_sign_in(const struct h1_response *response);
/* The challenge of an answer that wants a token that was evaluated anew (Continuous Access
 * Evaluation: a 401 with error="insufficient_claims"); ptr NULL: it has none. */
struct str response_wants_claims(const struct h1_response *response);

/* --- place.c --- */
/* A service of Azure DevOps as one of its hosts names it. */
struct place {
        enum service service;
        struct str organization; /* that the host named and the path does not; ptr NULL: none */
};
/* Splits `https://host/path` into host and path; false if it is not an absolute http URL. */
bool place_split(struct str url, struct str *host, struct str *path);
/* The place whose host, or whose override, `host` is; false: none that is behind this proxy. */
bool place_of_host(struct exchange *x, struct str host, struct place *place);
/* Where it is found under the URL that the client used, to be put in front of a path. `relative`:
 * without scheme and host, where that will do. `user`: "name@" in front of the host, or "". */
void place_write(struct exchange *x, const struct place *place, struct str user, bool relative,
        struct buf *out);
/* Whether the answer may hold links that clients follow; then x->rewrite has been set up. */
bool place_answer_has_links(struct exchange *x);
/* Writes `body`, an answer of upstream's, with its links under the URL that the client used. */
void place_tell_client(
        struct exchange *x, struct str content_type, struct str body, struct buf *out);
/* A Link field with its targets under the URL that the client used. */
void place_write_links_field(struct exchange *x, struct str value, struct buf *out);
/* What a held JSON body says about the proxy's own addresses becomes what upstream knows them by. A
 * step; see exchange.c. */
enum next place_tell_upstream(struct exchange *x);

/* --- detour.c --- */
/* Whether `url` is one of the storage that a download may be redirected to, and its parts. */
bool detour_leads_to(
        const struct config *config, struct str url, struct str *host, struct str *target);
/* Whether the answer's head is a redirect that is followed here. */
bool detour_wanted(struct exchange *x);
/* Notes where the content is; false when this leads nowhere. The address is still to be asked. */
bool detour_begin(struct exchange *x);
/* The head that goes to storage. */
bool detour_compose(struct exchange *x, struct buf *out);
/* Whether a field of storage's answer is about the content. */
bool detour_passes(const struct h1_field *field);
/* The status to refuse with, and why, when storage did not give the content; 0: it did. */
int detour_refusal(struct exchange *x, const char **why);

/* --- tunnel.c --- */
/* Asks the outgoing proxy, to which `upstream` connects, for a way to `endpoint`; false with a
 * reason: it is another proxy than this exchange knows of. */
bool tunnel_begin(struct exchange *x, struct upstream *upstream, const struct endpoint *endpoint,
        struct error *why);
enum tunnel {
        TUNNEL_OPEN,   /* TLS with the host begins */
        TUNNEL_AGAIN,  /* on_ready will run */
        TUNNEL_LOST,   /* the connection is broken; see stream_why */
        TUNNEL_FAILED, /* `status` and `why` say what to refuse with */
        TUNNEL_SICK,   /* the same, of this address of the proxy: another one may do better */
};
enum tunnel tunnel_go_on(struct exchange *x, int *status, struct error *why);
/* " through the outgoing proxy", or "" when it leads there directly. */
const char *tunnel_words(const struct upstream *upstream);

/* --- relay.c --- */
enum next relay_begin(struct exchange *x);
void relay_go_on(struct exchange *x);
/* An address did not connect in time. True: another one is tried, or that is refused. */
bool relay_connect_late(struct exchange *x);

/* --- upstream.c --- */
/* Hundredths of a retry: one, what can be saved up, and what comes back by itself, one in a second.
 */
enum { UPSTREAM_RETRY = 100, UPSTREAM_RETRIES_MOST = 10000, UPSTREAM_RETRIES_QUIET = 1000 };
/* A connection to the exchange's service, from the pool or new; false with a reason. */
bool upstream_lend(struct exchange *x, bool fresh, struct error *why);
/* A TLS connection of ours on `fd`; the last session with that host is resumed. NULL: it cannot
 * begin. */
SSL *upstream_tls(struct exchange *x, int fd, const char *host);
/* Every new connection is verified in whole once: what that depends on is another now. */
void upstream_forget_sessions(struct worker *worker);
/* Where the exchange's request goes now: its service, or the storage it was redirected to. */
const struct endpoint *upstream_endpoint(const struct exchange *x);
/* Back into the pool, if it can be used again; the exchange has it no more. */
void upstream_return(struct exchange *x, bool reusable);
void upstream_drop(struct upstream *upstream);
void upstream_tick(struct worker *worker);
/* Whether one more request may be sent a second time. Each one that is sent earns a share of a
 * retry (`upstream.retries`), so that an upstream in trouble does not get more of it. */
bool upstream_may_retry(struct exchange *x);

/* --- addresses.c --- */
/* The address to be tried next by an exchange. False: there is none left, or, with
 * x->refusal.retry_after_s set, none that can be reached. */
bool address_choose(struct exchange *x, const struct endpoint *endpoint, unsigned *address);
/* Whether there would be one. */
bool address_is_left(const struct exchange *x);
void address_failed(struct worker *worker, const struct endpoint *endpoint, unsigned address,
        enum health_fault fault, const char *why);
/* The same for a connection that an exchange has. */
void address_failed_for(struct upstream *upstream, enum health_fault fault, const char *why);
void address_connected(struct upstream *upstream);
/* x->response is there. */
void address_answered(struct exchange *x);
/* Whether a connection may go back into the pool: its address is still the host's, and good. */
bool address_is_used(struct upstream *upstream);
/* The rule of ejections may be another one. */
void addresses_reloaded(struct worker *worker);
/* Fills the gauges of metrics. */
void addresses_count(struct worker *worker);
/* An event record; no more than one in a while, whoever makes upstream fail. */
void address_event(struct worker *worker, const char *name, const struct pair *detail, size_t n);

/* --- throttle.c --- */
/* A step: refuses what upstream has said it would not take. */
enum next throttle_step(struct exchange *x);
/* x->response is there. */
void throttle_answered(struct exchange *x);
/* The configuration is another one. */
void throttle_forget(struct worker *worker);
/* Fills the gauges of metrics. */
void throttle_count(struct worker *worker);

#endif
