/*
 * ports: what the threads may say to each other.
 *
 * worker -> control: an ask. control -> worker: a world, a count, a drain. Each port is a mailbox
 * and the function that runs on the receiver's side; neither floor knows the other's insides. A
 * sender posts in order: the world that answers an ask arrives before the answer does.
 */
#ifndef DAGWARD_WORLD_PORTS_H
#define DAGWARD_WORLD_PORTS_H

#include "dagward/azdo/identity.h"
#include "dagward/azdo/started.h"
#include "dagward/base/mailbox.h"
#include "dagward/base/secret.h"
#include "dagward/base/str.h"
#include "dagward/token/token.h"
#include "dagward/world/metrics.h"
#include "dagward/world/world.h"

enum ask_kind {
        ASK_KEYS,               /* a token names a key that issuer `index` does not have */
        ASK_CREDENTIAL,         /* credential `index` is needed and there is no usable one */
        ASK_CREDENTIAL_REPLACE, /* upstream rejected generation `seen` of credential `index` */
        ASK_ADDRESS,            /* where storage `host` is; ok: `endpoint` has addresses */
        ASK_NAME,               /* what upstream knows a resource as; ok: `name` has the answer */
        ASK_FORGET,             /* names have changed upstream: all workers should ask anew */
        ASK_ASSERTION, /* credential `index` for one caller; not the rejected generation `seen` */
        ASK_RUN,       /* whether a run that was asked for is there; ok: `run` says */
        ASK_TAG,       /* put tags on a run; answered at once, done when it can be */
        ASK_RESOLVE,   /* an address does not work: look host names up anew, soon */
};

enum run_found {
        RUN_ABSENT, /* none that could be it */
        RUN_FOUND,
        RUN_UNSURE, /* there are some that could be it, or not all could be seen */
};

/* A run that is looked for with credential `index`, or that is to be tagged with it. */
struct run_ask {
        struct started_wanted wanted;
        struct credential *lent; /* a caller's own to ask with, one reference; NULL: the ask's */
        /* the answer */
        enum run_found found;
        char id[24];
        char *body; /* RUN_FOUND: what upstream says of it; malloc'd, the asker's */
        size_t body_bytes;
        char maybe[160]; /* RUN_UNSURE: numbers, for people */
        /* ASK_TAG only: a run `id`, its tags, and whose request it was; malloc'd, go to control */
        char *path, *tags; /* of the PATCH, and its JSON */
        enum service service;
        char request_id[40], correlation_id[40];
};

/* Why a caller's own token got no credential. */
enum assertion_refusal {
        ASSERTION_LATER,         /* passes by itself */
        ASSERTION_REFUSED,       /* Entra does not take this caller's token */
        ASSERTION_MISCONFIGURED, /* nor anybody's, before somebody changes something */
        ASSERTION_EXPIRED,       /* the caller's token has ended */
        ASSERTION_REJECTED,      /* upstream rejects what is obtained */
};

/* A caller's own token to be exchanged, and what came of it. */
struct assertion_ask {
        struct secret token;                      /* taken out and wiped by who is asked */
        unsigned char digest[TOKEN_DIGEST_BYTES]; /* of the token */
        int64_t expires_s;                        /* its `exp` */
        bool ahead; /* nobody waits: generation `seen` is good, and the one after it is wanted */
        struct credential *credential;  /* a reference, the asker's; NULL though ok: ask again */
        enum assertion_refusal refusal; /* when not ok */
        int retry_after_s;              /* likewise; 0: not known */
        char cause[160]; /* likewise: for callers, whoever they are; "": nothing to say */
        char why[512];   /* likewise: for people; quotes the caller's issuer, subject, audience */
};

/* A question that identity_question wrote, and its answer. */
struct name_ask {
        enum resource_kind kind;
        char *value; /* malloc'd, the asker's, as are `path` and what `identity` becomes */
        char *path;
        enum service service;
        struct identity *identity; /* NULL when `answered`: there is no such thing */
        bool answered;             /* false though ok: ask again, in the newest world */
};

/* Sent by a worker, sent back by control when there is an answer: something newer than `seen` has
 * been published (ok), or cannot be had now (not ok). Control coalesces asks, keeps cooldowns, and
 * answers every one within a bound (10 s), also when it stops. */
struct ask {
        struct mail mail;
        enum ask_kind kind;
        unsigned index;        /* of the issuer or the credential in the configuration */
        uint64_t seen;         /* generation the asker has: of the key set, of the credential */
        uint64_t world_reload; /* `reload` of the asker's world: indexes are of that one */
        struct mailbox *reply_to;
        void (*answered)(struct mail *mail, void *worker); /* set as mail.deliver on the way back */
        bool ok;
        char why[200]; /* when not ok: for operators, no secrets */
        /* ASK_KEYS, when not ok: the issuer gave no usable answer when it was asked last, so that
         * nobody can say whether a key that is not known is one of its */
        bool unheard;
        /* ASK_CREDENTIAL and ASK_CREDENTIAL_REPLACE, when not ok: for callers; "": nothing to say
         */
        char cause[240];
        /* ASK_CREDENTIAL_REPLACE and ASK_ASSERTION only: upstream's WWW-Authenticate, when it wants
         * certain claims in the next token; malloc'd, the asker's. NULL: it does not */
        char *challenge;
        /* ASK_ADDRESS only */
        char host[256]; /* lower case */
        struct endpoint endpoint;
        /* ASK_NAME only; `index` is the credential to ask with */
        struct name_ask name;
        /* ASK_RUN and ASK_TAG only; malloc'd, the asker's */
        struct run_ask *run;
        /* ASK_ASSERTION only */
        struct assertion_ask assertion;
};

/* Asks a worker for its counters; comes back with them added to `sum`. */
struct count_mail {
        struct mail mail;
        struct mailbox *reply_to;
        void (*answered)(struct mail *mail, void *control);
        struct metrics sum;
};

/* Asks a worker to finish; comes back when its last exchange has ended or `deadline` is over. */
struct drain_mail {
        struct mail mail;
        int64_t deadline_mono_ms;
        bool has_heir; /* another process accepts on the same sockets */
        struct mailbox *reply_to;
        void (*answered)(struct mail *mail, void *control);
};

struct worker_port {
        struct mailbox *box;
        void (*take_world)(struct mail *mail, void *worker); /* struct world_mail */
        void (*count)(struct mail *mail, void *worker);      /* struct count_mail */
        void (*drain)(struct mail *mail, void *worker);      /* struct drain_mail */
};

struct control_port {
        struct mailbox *box;
        void (*asked)(struct mail *mail, void *control); /* struct ask */
};

#endif
