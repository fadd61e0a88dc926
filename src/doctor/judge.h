/*
 * judge: what an observation means. Private to doctor.
 *
 * Pure: no socket, no file, no clock. Each function adds at least one diagnosis to the list: what
 * is fine is said too.
 */
#ifndef DAGWARD_DOCTOR_JUDGE_H
#define DAGWARD_DOCTOR_JUDGE_H

#include "dagward/config/config.h"
#include "dagward/doctor/doctor.h"
#include "dagward/net/certificate.h"
#include "dagward/net/listener.h"
#include "dagward/token/keyset.h"
#include "dagward/token/token.h"

/* Whom a diagnosis is about. `prefix` is what its name begins with. */
struct about {
        enum doctor_part part;
        unsigned order;
        const char *subject;
        const char *prefix;
};

/* Adds a diagnosis "<prefix>-<name>". The result stays valid until the next one. */
struct diagnosis *diagnose(struct diagnoses *out, const struct about *about,
        enum doctor_level level, const char *name, const char *format, ...)
        __attribute__((format(printf, 5, 6)));
void diagnosis_cause(struct diagnosis *diagnosis, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
void diagnosis_remedy(struct diagnosis *diagnosis, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
/* "3 days", "2 hours": of the larger unit only, rounded down. */
const char *span_text(int64_t seconds, char out[32]);
/* "2026-11-27" */
const char *day_text(int64_t seconds, char out[32]);

/* --- files --- */

struct file_seen {
        const char *path;
        int error; /* errno of opening it for reading; 0 */
        bool regular, empty;
        unsigned mode; /* permission bits */
        unsigned owner;
};

/* What a file that others can read would give away. */
enum file_care {
        CARE_NONE,  /* certificates, key sets */
        CARE_WORLD, /* a secret; a group may share it, as in a pod */
        CARE_GROUP, /* a private key: nobody but its user */
};

/* Whether it can be used. `setting` names it ("secret_file"), `uid` is whose run this is. */
bool judge_file(struct diagnoses *out, const struct about *about, const char *setting,
        const struct file_seen *seen, enum file_care care, unsigned uid);

/* --- reaching a host --- */

enum reach_stage {
        REACH_PENDING, /* the deadline came first: only the name service can be to blame */
        REACH_NO_NAME,
        REACH_REFUSED,
        REACH_SILENT,
        REACH_NO_ROUTE,
        REACH_PROXY_NO,     /* the outgoing proxy answered something else than yes */
        REACH_PROXY_BROKEN, /* it answered nothing, or nothing that is HTTP */
        REACH_NO_CA,        /* the `ca` file cannot be used */
        REACH_TCP,          /* reached; no TLS was asked for */
        REACH_TLS,          /* reached, `tls` tells more */
};

struct reach_seen {
        char host[256];
        unsigned port;
        char ca[512]; /* "" the system's */
        enum reach_stage stage;
        char why[256];
        char address[LISTENER_PEER]; /* that was tried last, numeric */
        char proxy[288];             /* the outgoing proxy on the way there; "": none. Stages before
                                        REACH_NO_CA are about it then */
        char proxy_from[64];
        int proxy_status; /* REACH_PROXY_NO */
        struct tls_seen tls;
};

/* Whether requests can be sent there. `proxy_set`: the environment names a proxy, which is not
 * used. `severity` is what a failure counts as. */
bool judge_reach(struct diagnoses *out, const struct about *about, const struct reach_seen *seen,
        enum doctor_level severity, bool proxy_set, int64_t now_s);

/* --- answers --- */

struct http_seen {
        const char *url;
        bool tried, answered;
        char error[256]; /* when it was not answered */
        int status;
        char type[64];
        char location[256];
        bool html, json;
        bool azure;             /* has one of the fields that Azure DevOps puts into every answer */
        int64_t date_ms, at_ms; /* what it said, and what our clock said; -1 */
};

/* Whether `seen` is a JSON object with status 200, as it should be. */
bool judge_json_answer(
        struct diagnoses *out, const struct about *about, const struct http_seen *seen);
/* Whether it is Azure DevOps that answered, with whatever status. */
bool judge_upstream(struct diagnoses *out, const struct about *about, const struct http_seen *seen);
/* Says nothing when there is no Date. */
void judge_clock(struct diagnoses *out, const struct about *about, const struct http_seen *seen);

/* --- issuers --- */

enum issuer_difference {
        ISSUER_SAME,
        ISSUER_SLASH,       /* at the end */
        ISSUER_ENTRA_FORM,  /* v1 against v2 of one tenant */
        ISSUER_PLACEHOLDER, /* {tenantid}: metadata of `common` */
        ISSUER_CASE,
        ISSUER_SCHEME,
        ISSUER_OTHER,
};
enum issuer_difference issuer_compare(struct str configured, struct str found);
void judge_document(struct diagnoses *out, const struct about *about,
        const struct config_issuer *issuer, const char *found_issuer, const char *jwks_uri);
/* `keys` NULL: none, because of `why`. `dropped` are the texts about keys that were left out. */
void judge_keys(struct diagnoses *out, const struct about *about,
        const struct config_issuer *issuer, const char *source, const struct keyset *keys,
        const struct error_list *dropped, const char *why);

/* --- tokens --- */

/* What a token says of itself, unverified. */
struct token_claims {
        bool jwt;
        char alg[32], kid[128], iss[400], sub[256], aud[400], tid[64], version[8];
        int64_t exp_s; /* INT64_MIN: none */
};

struct token_seen {
        struct token_claims claims;
        enum token_verdict verdict;
        char why[512];
        const struct config_issuer *issuer; /* whose it is; NULL: nobody's */
        const struct config_issuer *near;   /* whose issuer differs a little only; NULL */
        enum issuer_difference difference;  /* from `near` */
        char kids[256];                     /* that the issuer has */
        char bindings[512];                 /* "workers (etl-operator), ..." that apply */
        size_t n_bindings;
        bool no_policy; /* it could not be loaded: nothing is known of bindings */
        char subject[256];
        char roles[256]; /* that the token names */
};
void judge_token(struct diagnoses *out, const struct about *about, const struct token_seen *seen,
        int64_t now_s);

/* --- credentials --- */

struct credential_seen {
        const struct config_credential *config;
        bool settled, obtained;
        const char *why;            /* when it was not */
        bool looks_like_id;         /* the secret has the shape of a GUID */
        struct token_claims claims; /* of an assertion or a token in a file */
};
/* What can be known before anything is asked; says nothing when there is nothing to say. */
void judge_proof(struct diagnoses *out, const struct about *about,
        const struct credential_seen *seen, int64_t now_s);
/* `fallback` is what is known of the code in general; NULL: nothing. */
bool judge_obtained(struct diagnoses *out, const struct about *about,
        const struct credential_seen *seen, const char *fallback);
/* The number behind "AADSTS" in a text; 0: none. */
int64_t aadsts_of(const char *text);

/* What Azure DevOps said about whose credential it is. */
struct organization_seen {
        const char *organization, *credential;
        struct http_seen http; /* of connectionData */
        bool anonymous;        /* 200, but for nobody */
        bool recognized;       /* refused, but it knew whom it refused */
        bool sign_in;          /* answered with, or redirected to, a sign-in page */
        char identity[128];    /* display name or id */
        char code[16];         /* TF400813 of a refusal */
        char tenant[64];       /* X-VSS-ResourceTenant */
        const char *own_tenant;
        int projects_status, repositories_status; /* 0: not asked */
        int64_t projects, repositories;           /* -1: not said */
};
/* The code in a refusal's message ("TF400813: The user 'x' is not authorized ..."), and whether it
 * names somebody, who then is `identity`. */
bool refusal_read(struct str message, char code[16], char identity[128]);
void judge_organization(
        struct diagnoses *out, const struct about *about, const struct organization_seen *seen);

/* --- listeners --- */

struct port_seen {
        const char *address;
        int error;    /* errno of bind; 0: it is free */
        bool running; /* there is a dagward with this configuration */
};
void judge_port(struct diagnoses *out, const struct about *about, const struct port_seen *seen);
struct certificate_seen {
        const char *path, *key;
        const struct certificate_file *file;
        enum key_fit fit;
        const char *public_host; /* NULL: not configured */
        bool covers;
};
void judge_certificate(struct diagnoses *out, const struct about *about,
        const struct certificate_seen *seen, int64_t now_s);

/* --- audit log --- */

struct audit_seen {
        const char *path, *folder;
        bool there, regular, foreign; /* foreign: no record of ours at its end */
        int folder_error;             /* errno of making and removing a file there */
        int file_error;               /* errno of opening it for writing */
        unsigned owner, uid;
        uint64_t free_bytes, total_bytes;
        bool locked;
        int64_t holder; /* process id, 0: not known */
        char holder_name[64];
        uint64_t seq;
        bool torn; /* behind the last good record there is something else */
};
void judge_audit(struct diagnoses *out, const struct about *about, const struct audit_seen *seen);

/* --- sinks --- */

struct sink_seen {
        const struct config_sink *config;
        int socket_error;      /* errno of connecting to a socket of this machine; 0 */
        bool tried, obtained;  /* azure_monitor: a token */
        const char *why;       /* when none was */
        struct http_seen http; /* of an empty call */
        char said[256];        /* in its answer */
        bool has_position;
        uint64_t position, oldest, last; /* seq: of the sink, and the ends of the log */
};
/* What is beyond reaching its host. */
void judge_sink(struct diagnoses *out, const struct about *about, const struct sink_seen *seen);
/* How far it is; says nothing of one that has not run. */
void judge_position(struct diagnoses *out, const struct about *about, const struct sink_seen *seen);

/* --- limits --- */

struct limits_seen {
        uint64_t descriptors;           /* hard limit, which serve raises itself to */
        uint64_t connections, upstream; /* clients, and upstream's of all workers */
        const char *proxies[8];         /* names of variables that are set and not used */
        size_t n_proxies;
        const char *admin;
        bool admin_open; /* reachable from other machines */
};
void judge_limits(struct diagnoses *out, const struct about *about, const struct limits_seen *seen);

#endif
