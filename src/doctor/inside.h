/* What a run of the doctor holds. Private to doctor. */
#ifndef DAGWARD_DOCTOR_INSIDE_H
#define DAGWARD_DOCTOR_INSIDE_H

#include <event2/event.h>
#include <jansson.h>
#include <pthread.h>

#include "dagward/base/mailbox.h"
#include "dagward/control/probe.h"
#include "dagward/net/fetch.h"
#include "dagward/world/preflight.h"
#include "judge.h"

/* --- reach.c: hosts, each on a thread of its own --- */

struct reach {
        struct mail mail; /* the thread's, until it is delivered */
        struct mailbox *done_box;
        struct reach_seen seen;
        struct egress *egress; /* what leads there; NULL: nothing. One reference */
        bool tls, done;
        bool threaded; /* `thread` is to be joined */
        pthread_t thread;
        int64_t deadline_mono_ms;
};

struct reaches {
        struct reach **all;
        size_t n, n_done;
        struct mailbox *box;
        struct egress *egress; /* the outgoing proxy; NULL: none */
};

void reaches_init(struct reaches *reaches, struct egress *egress);
/* What a thread still holds, because its name service does not answer, is not freed. */
void reaches_clear(struct reaches *reaches);
/* The look at that place; the same one for equal places. */
struct reach *reach_want(
        struct reaches *reaches, struct str host, unsigned port, bool tls, const char *ca);
/* Runs all of them and waits, until the deadline at most. */
void reaches_run(struct reaches *reaches, int64_t deadline_mono_ms);
/* A copy of what was seen; of one whose thread still runs, only what was asked. */
struct reach_seen reach_view(const struct reach *reach);
/* Whether requests may be sent there. */
bool reach_good(const struct reach *reach);

/* --- ask.c: HTTP --- */

struct doctor;

struct ask_once {
        struct doctor *doctor;
        struct fetch *fetch; /* under way */
        char url[1024];
        struct secret sent; /* what an answer must not have shown */
        struct http_seen seen;
        json_t *json; /* the answer, when it is an object */
        /* May start others. NULL: nothing more to do. `body` is valid during the call. */
        void (*done)(struct ask_once *ask, const struct fetch_result *result);
        void *owner;
};

struct ask_settings {
        const struct secret *bearer, *secret_field; /* as in struct fetch_request */
        struct str body;                            /* JSON to POST; ptr NULL: a GET */
        const char *ca;
        bool plain; /* http:// is configured: allowed to loopback */
        int64_t timeout_ms;
        size_t most_bytes;
        bool suppress_sign_in; /* asks Azure DevOps for a 401 instead of its sign-in page */
};

/* `ask->url`, `done` and `owner` are set. */
void ask_start(struct doctor *doctor, struct ask_once *ask, const struct ask_settings *settings);
void ask_clear(struct ask_once *ask);

/* --- issuers.c --- */

struct issuer_check {
        struct doctor *doctor;
        const struct config_issuer *config;
        unsigned index;
        struct arena arena;
        struct config_url url; /* where keys begin to be looked for */
        struct reach *reach;   /* NULL: a file, or no URL */
        struct ask_once document, jwks;
        char found_issuer[512], jwks_uri[1024];
        struct keyset *keys;
        struct error_list dropped;
        struct error why;
        struct file_seen file, bearer_file;
};

void issuer_check_prepare(struct issuer_check *check);
void issuer_check_start(struct issuer_check *check);
void issuer_check_judge(struct issuer_check *check);
void issuer_check_clear(struct issuer_check *check);

/* --- credentials.c --- */

struct organization_check {
        struct credential_check *credential;
        const char *name;
        struct ask_once connection, projects, repositories;
        char identity[128];
        bool anonymous, recognized; /* as in struct organization_seen */
        char tenant[64];
};

struct credential_check {
        struct doctor *doctor;
        const struct config_credential *config;
        unsigned index;
        struct reach *reach; /* of the authority; NULL: none is asked */
        struct file_seen file;
        const char *file_setting; /* NULL: the type has no file */
        bool file_good, started;
        struct credential_seen seen;
        char why[512];
        struct secret field; /* the header line */
        struct credential_probe *probe;
        struct organization_check *organizations;
};

void credential_check_prepare(struct credential_check *check);
void credential_check_start(struct credential_check *check);
void credential_check_judge(struct credential_check *check);
void credential_check_clear(struct credential_check *check);

/* --- upstream.c --- */

struct upstream_check {
        struct doctor *doctor;
        struct reach *services[SERVICE_COUNT];
        struct ask_once anonymous;
        char base[512]; /* "https://dev.azure.com" or its override */
        bool plain;
};

void upstream_check_prepare(struct upstream_check *check);
void upstream_check_start(struct upstream_check *check);
void upstream_check_judge(struct upstream_check *check);

/* --- sinks.c --- */

struct sink_check {
        struct doctor *doctor;
        const struct config_sink *config;
        unsigned index;
        struct reach *reach;                 /* NULL: no other machine */
        struct config_credential credential; /* a copy with the sink's scope */
        struct credential_probe *probe;
        bool started;
        char why[512];
        struct secret field; /* the header line */
        struct ask_once call;
        struct sink_seen seen;
};

void sink_check_prepare(struct sink_check *check);
void sink_check_start(struct sink_check *check);
void sink_check_judge(struct sink_check *check);
void sink_check_clear(struct sink_check *check);

/* --- machine.c: what needs no network --- */

struct machine {
        struct port_seen *ports; /* of config->listeners, then of admin */
        struct audit_seen audit;
        char folder[512];
        struct limits_seen limits;
        struct ask_once health; /* of the admin listener */
        bool answers;           /* a dagward does, there */
};

void machine_look(struct doctor *doctor);
void machine_judge(struct doctor *doctor);
void machine_clear(struct doctor *doctor);
void file_look(const char *path, struct file_seen *seen);

/* --- claims.c --- */

/* Reads what a token says of itself; verifies nothing. */
void token_claims_read(struct str token, struct token_claims *out);

/* --- caller.c --- */

/* What would become of the token in request->token_file. After the issuers have been asked. */
void caller_judge(struct doctor *doctor);

/* --- run.c --- */

struct doctor {
        const struct doctor_request *request;
        struct diagnoses *out;
        struct preflight p;
        int64_t now_s, deadline_mono_ms;
        unsigned uid;
        struct event_base *base;
        struct egress *egress; /* the outgoing proxy; NULL: none */
        struct fetcher *fetcher;
        unsigned n_pending; /* asks and probes that have not ended */
        struct reaches reaches;
        struct issuer_check *issuers;
        struct credential_check *credentials;
        struct upstream_check upstream;
        struct sink_check *sinks;
        struct machine machine;
};

static inline bool doctor_wants(const struct doctor *doctor, enum doctor_part part)
{
        return doctor->request->parts & 1u << part;
}
void doctor_pending(struct doctor *doctor);
/* One of them has ended: the loop ends with the last one. */
void doctor_settled(struct doctor *doctor);

#endif
