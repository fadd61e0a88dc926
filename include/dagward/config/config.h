/*
 * config: what the operator wrote, checked and typed.
 *
 * One YAML file becomes one immutable, counted `struct config`. A table of settings
 * (src/config/settings.c) is the single source: reading, defaults, the JSON Schema and the
 * reference in docs/configuration.md all come from it. The module reads the configuration file and
 * the environment only: no certificate, key set, policy or secret is opened here, no name is
 * resolved.
 *
 * Every `struct str` in here has a NUL behind it (use `.ptr` as a C string) and a NULL `ptr` when
 * the setting was left out and has no default. Paths are already joined to the folder of the
 * configuration file. Durations are in milliseconds, sizes in bytes.
 */
#ifndef DAGWARD_CONFIG_CONFIG_H
#define DAGWARD_CONFIG_CONFIG_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "dagward/base/arena.h"
#include "dagward/base/buf.h"
#include "dagward/base/error.h"
#include "dagward/base/log.h"
#include "dagward/base/snapshot.h"
#include "dagward/base/str.h"

/* `ip:port`, `[v6]:port` or `localhost:port` (which is 127.0.0.1), ready for bind. */
struct config_address {
        struct str text; /* as written */
        struct sockaddr_storage socket;
        socklen_t socket_len;
        bool loopback;
};

/* An http or https URL without user, password and fragment. */
struct config_url {
        struct str text; /* as written; base URLs and origins without the slash at the end */
        bool https;
        bool loopback;   /* host is localhost, 127.0.0.0/8 or ::1 */
        struct str host; /* lower case, IPv6 without brackets */
        uint16_t port;   /* written or 443, 80 */
        struct str path; /* with query; "" when there is none */
};

struct config_tls {
        struct str certificate; /* PEM file: chain, own certificate first */
        struct str key;         /* PEM file */
        struct str client_ca;   /* PEM file; when set, clients must show a certificate */
};

struct config_listener {
        struct config_address address;
        bool has_tls;
        struct config_tls tls;
        bool insecure; /* plain HTTP beyond loopback is wanted */
};

struct config_admin {
        struct config_address address; /* default 127.0.0.1:9901 */
        bool insecure;                 /* beyond loopback is wanted */
};

/* Where an issuer's keys come from: exactly one of discovery, url, file. */
struct config_keys {
        bool discovery;         /* `issuers[0]`/.well-known/openid-configuration */
        struct config_url url;  /* a JWKS */
        struct str file;        /* a JWKS or PEM file */
        struct str ca;          /* PEM bundle for discovery and url; default: the system's */
        struct str bearer_file; /* token sent with the fetch (Kubernetes), re-read each time */
        int64_t refresh_ms;     /* when the issuer's answer has no cache lifetime of its own */
        int64_t cooldown_ms;    /* at most one fetch for unknown kids in this time */
        int64_t keep_ms;        /* keys of an unreachable issuer are used this long */
        int64_t timeout_ms;     /* one fetch */
};

struct config_issuer {
        struct str name;
        struct str *issuers; /* exact `iss` values, at least one */
        size_t n_issuers;
        struct str *audiences; /* at least one */
        size_t n_audiences;
        struct config_keys keys;
        struct str *algorithms; /* "RS256" ...: known names only, never HS* or none */
        size_t n_algorithms;
        int64_t clock_skew_ms;
        int64_t max_lifetime_ms;
        struct pair *require; /* claim name, exact value */
        size_t n_require;
        struct str *roles_paths; /* dotted: realm_access.roles */
        size_t n_roles_paths;
};

/* `hosts:` of upstream: where connections for a catalogue host go instead. */
struct config_host {
        struct str pattern; /* lower-case host, or "*" for every host without a line of its own */
        struct config_url url; /* an origin: no path */
};

enum config_redirects {
        REDIRECTS_FOLLOW, /* the proxy goes there itself */
        REDIRECTS_RELAY,  /* the client is told to */
};

enum config_links {
        LINKS_REWRITE, /* to the URL that the client used */
        LINKS_KEEP,    /* as upstream wrote them */
};

enum config_names {
        NAMES_RESOLVE, /* asked for, where a rule depends on it */
        NAMES_LITERAL, /* a name and an id are never taken for one */
};

enum config_discovery {
        DISCOVERY_SINGLE, /* one base URL for all services */
        DISCOVERY_MIRROR, /* one for each, below ours */
};

/* When Azure DevOps says that a credential asks too much. */
enum config_throttle {
        THROTTLE_SHED,  /* requests with it are refused here until then */
        THROTTLE_RELAY, /* the caller is told, and nothing else */
};

struct config_upstream {
        struct str *organizations; /* as written; compare with letter case folded; at least one */
        size_t n_organizations;
        struct str ca; /* PEM bundle; default: the system's */
        struct config_host *hosts;
        size_t n_hosts;
        enum config_redirects redirects; /* to storage, with a signed URL */
        enum config_links links;         /* in the bodies of answers, and back in requests */
        enum config_discovery discovery; /* what SDKs are told about where services are */
        enum config_names names;         /* of projects, repositories, pipelines, ... */
        struct str *storage;             /* ends of host names that such a redirect may lead to */
        size_t n_storage;
        bool insecure;                   /* http:// override beyond loopback is wanted */
        int64_t connect_ms;              /* TCP and TLS together, of all addresses */
        int64_t attempt_ms;              /* of that, for one address while there are others */
        int64_t first_byte_ms;           /* from the request's last byte to the answer's first */
        int64_t idle_ms;                 /* no byte moved in an exchange */
        int64_t keep_alive_ms;           /* an unused pooled connection is closed after this */
        uint64_t connections;            /* most connections per worker, all hosts together */
        int64_t resolve_ms;              /* host names are looked up anew after this */
        uint64_t retries;                /* per cent of requests that may be sent again */
        uint64_t eject_failures;         /* in a row; 0: no address is ejected */
        int64_t eject_ms, eject_most_ms; /* for how long, doubling */
        enum config_throttle throttle;
};

enum config_credential_type {
        CREDENTIAL_STATIC_FILE = 1,
        CREDENTIAL_PAT_FILE,
        CREDENTIAL_CLIENT_SECRET,
        CREDENTIAL_FEDERATED,
        CREDENTIAL_CERTIFICATE,
        CREDENTIAL_MANAGED_IDENTITY,
        CREDENTIAL_KEY_VAULT_SECRET,
        CREDENTIAL_DEFAULT,
        CREDENTIAL_ISSUER, /* in no file: what obtains the assertion of a federated credential */
};

/* How an assertion of our own is signed and names its certificate. */
enum config_signature {
        SIGNATURE_PS256, /* PS256 and x5t#S256 */
        SIGNATURE_RS256, /* RS256 and x5t (SHA-1) */
};

/* What a secret of a key vault is. */
enum config_holds {
        HOLDS_CLIENT_SECRET,
        HOLDS_PAT,
};

enum config_identity_source {
        IDENTITY_AUTO, /* Azure Arc if its agent is here, else the machine's metadata service */
        IDENTITY_IMDS,
        IDENTITY_APP_SERVICE,
        IDENTITY_ARC,
};

/* Where the assertion of a federated credential is asked for (RFC 6749 4.4). */
struct config_assertion {
        struct config_url token_endpoint;
        struct str client_id;
        struct str secret_file;
        struct str scope;    /* or NULL */
        struct str audience; /* or NULL */
        struct str resource; /* or NULL (RFC 8707) */
        struct str ca;       /* PEM bundle for token_endpoint; default: the system's */
};

struct config_credential {
        struct str name;
        enum config_credential_type type;
        struct str tenant;            /* or AZURE_TENANT_ID */
        struct str client_id;         /* or AZURE_CLIENT_ID */
        struct str secret_file;       /* client_secret */
        bool secret_from_environment; /* client_secret: AZURE_CLIENT_SECRET, as there is no file */
        struct str assertion_file;    /* federated; or AZURE_FEDERATED_TOKEN_FILE */
        bool has_assertion;           /* federated: `assertion` in place of `assertion_file` */
        bool assertion_is_callers;    /* federated: `assertion: caller`, each caller's own token */
        struct config_assertion assertion;
        struct str certificate_file; /* certificate; or AZURE_CLIENT_CERTIFICATE_PATH */
        struct str key_file;         /* certificate: the key, when it is not in certificate_file */
        enum config_signature algorithm;
        struct config_url key_vault_key;    /* certificate: path is /keys/NAME[/VERSION] */
        struct config_url key_vault_secret; /* path is /secrets/NAME[/VERSION] */
        enum config_holds holds;
        int64_t poll_ms;             /* how often the vault is asked for a new version */
        struct str vault_credential; /* name of the credential that opens the vault */
        unsigned vault_index;        /* its place in `credentials` */
        struct str vault_scope;      /* what it is asked for, by the cloud of the vault's host */
        struct config_url vault_endpoint;   /* where to connect in place of the vault's host */
        enum config_identity_source source; /* managed_identity */
        struct config_url endpoint;         /* managed_identity; or IDENTITY_ENDPOINT */
        struct str object_id, resource_id;  /* managed_identity: user-assigned, or client_id */
        struct str file;                    /* static_file: an access token; pat_file: a PAT */
        struct config_url authority;        /* or AZURE_AUTHORITY_HOST; no slash at the end */
        struct str scope;
        struct str ca; /* PEM bundle for the authority; default: the system's */
        /* A token is obtained when somebody needs one: it opens a vault for others, or
         * `assertion_is_callers`. */
        bool on_demand;
        bool only_for_sinks; /* no binding lends it, as the policy says: on demand as well */
        struct config_credential *candidates; /* default: what is tried, in this order */
        size_t n_candidates;
};

/* "federated" */
struct str config_credential_type_name(enum config_credential_type type);
/* Whether the type is for emergencies: something long-lived in a file that is lent as it is. */
bool config_credential_is_emergency(const struct config_credential *credential);
/* The files that a token is obtained with, at most CONFIG_CREDENTIAL_FILES; their number. */
enum { CONFIG_CREDENTIAL_FILES = 12 };
size_t config_credential_files(const struct config_credential *credential,
        const struct str *files[CONFIG_CREDENTIAL_FILES]);
/* Whether two credentials obtain the same token in the same way. */
bool config_credential_same(const struct config_credential *a, const struct config_credential *b);

/* The outgoing proxy of the network: for TLS only, and none unless it is asked for. */
struct config_outgoing_proxy {
        struct config_url url; /* of the proxy; text.ptr NULL: none. Its user is not in here */
        bool environment;      /* `url` is what `variable` says */
        const char *variable;  /* NULL: none of them is set */
        struct str *except;    /* reached directly, as egress_except reads it */
        size_t n_except;
        struct str no_proxy;         /* the same, as the environment has it; ptr NULL: nothing */
        struct str credentials_file; /* "user:password" */
};

struct config_policy {
        struct str *files; /* paths or glob(7) patterns, at least one, not expanded */
        size_t n_files;
        struct str *shadow; /* likewise: of the shadow policy; may be none */
        size_t n_shadow;
};

enum config_confine {
        CONFIG_CONFINE_AUTO,    /* what the kernel has */
        CONFIG_CONFINE_OFF,     /* nothing */
        CONFIG_CONFINE_REQUIRE, /* all of it, or no start */
};

enum config_durability {
        DURABILITY_WRITES, /* requests that may change something wait for their record on disk */
        DURABILITY_ALL,    /* every request does */
        DURABILITY_NONE,   /* none does; records are written soon after */
};
enum config_on_failure {
        ON_FAILURE_REFUSE,      /* no record, no request */
        ON_FAILURE_ALLOW_READS, /* requests of access class read go on */
};

enum config_strangers {
        STRANGERS_COUNTED, /* a flood of them is counted */
        STRANGERS_EACH,    /* each request has a record */
};

/* A signed record stands behind at most so many records, and at most so long after one. */
struct config_checkpoints {
        uint64_t records;
        int64_t interval_ms;
};

struct config_rotate {
        uint64_t size_bytes; /* a file is closed when it has so many */
        int64_t age_ms;      /* or is so old; 0: for ever */
        uint64_t keep;       /* closed files that stay; 0: all */
        int64_t keep_ms;     /* how long they do; 0: for ever */
        bool wait_for_sinks; /* and until all sinks have what is in them */
        bool compress;
};

/* Where copies of the audit log go. */
enum config_sink_type { CONFIG_SINK_STDOUT = 1, CONFIG_SINK_SYSLOG, CONFIG_SINK_MONITOR };
enum config_sink_from { CONFIG_SINK_NOW, CONFIG_SINK_START };
enum config_sink_transport { CONFIG_SINK_TCP = 1, CONFIG_SINK_TLS, CONFIG_SINK_UNIX };

/* RFC 5424 severities. */
struct config_severity {
        unsigned routine, denied, failed;
};

struct config_sink {
        struct str name;
        enum config_sink_type type;
        enum config_sink_from from; /* where a new sink begins */
        struct str server;          /* syslog; as written */
        enum config_sink_transport transport;
        struct str host; /* of `server`; unix: the path of the socket */
        uint16_t port;
        bool insecure; /* tcp:// beyond loopback is wanted */
        unsigned facility;
        struct config_severity severity;
        struct str hostname; /* default: the machine's */
        struct str app_name;
        uint64_t enterprise;
        struct str certificate, key; /* shown to the server */
        struct config_url endpoint;  /* azure_monitor, without slash at the end */
        struct str rule, stream;
        struct str credential;     /* its name, */
        unsigned credential_index; /* and its place in `credentials` */
        struct str scope;          /* default: by the cloud of the endpoint */
        int64_t interval_ms;
        struct str ca; /* PEM bundle; default: the system's */
};

struct config_audit {
        struct str file;
        enum config_durability durability;
        enum config_on_failure on_failure;
        enum config_strangers strangers; /* what is written of unknown callers' requests */
        struct str signing_key;          /* PEM, Ed25519; default: beside the file */
        struct config_checkpoints checkpoints;
        struct str anchor; /* checkpoints go there as well; default: nowhere */
        struct config_rotate rotate;
        struct config_sink *sinks;
        size_t n_sinks;
};

/* Triggers that are sent once; see docs/triggers.md. */
struct config_idempotency {
        bool enabled;
        int64_t window_ms; /* how long a first answer is kept */
        uint64_t entries;  /* how many */
        int64_t wait_ms;   /* a duplicate waits so long for the first one's answer */
        int64_t settle_ms; /* after this, what is not there upstream was not started */
        struct str file;   /* the journal; default: audit.file with ".triggers" behind it */
};

/* What started runs carry. */
struct config_correlation {
        struct str *tags; /* with placeholders; may be none */
        size_t n_tags;
        struct str variable;  /* set in each run; ptr NULL: none */
        struct str parameter; /* of its template, likewise */
};

/* A token bucket: `requests` come back in `per_ms`, `burst` of them can be saved up. */
struct config_bucket {
        uint64_t requests;
        int64_t per_ms;
        uint64_t burst; /* never 0 once loaded */
};

enum config_rate_by {
        RATE_BY_SUBJECT, /* issuer and subject */
        RATE_BY_ROLE,    /* the role that allows the request */
};

struct config_rate {
        struct config_bucket reads; /* without `has_writes`: of all requests */
        enum config_rate_by by;
        bool has_writes;
        struct config_bucket writes;
};

/* Addresses whose first `bits` are those of `address`; IPv4 stands as ::ffff:a.b.c.d. */
struct config_network {
        unsigned char address[16];
        unsigned bits;
};

struct config_limits {
        uint64_t connections; /* client connections, all workers together */
        uint64_t connections_per_address;
        struct str *trusted_addresses; /* that this is not for; may be none */
        size_t n_trusted_addresses;
        struct config_network *trusted; /* the same, read */
        uint64_t requests_per_identity; /* being served, all workers together */
        bool has_rate;
        struct config_rate rate;
        uint64_t memory_bytes;  /* held of requests and answers, all workers together */
        uint64_t headers_bytes; /* a request's head */
        uint64_t header_bytes;  /* one field line of it */
        uint64_t inspect_bytes; /* a body that is read to decide */
        uint64_t token_bytes;
};

/* Deadlines on the client's side. */
struct config_timeouts {
        int64_t headers_ms;     /* from the first byte of a head (or of TLS) to its end */
        int64_t body_ms;        /* no byte of a body moved */
        int64_t keep_alive_ms;  /* between two requests */
        int64_t drain_ms;       /* after SIGTERM, for exchanges in flight */
        int64_t drain_delay_ms; /* before that: not ready, but serving */
        int64_t handover_ms; /* how long a process that takes over, or is taken over, is silent */
};

struct config {
        struct snapshot snap;              /* first */
        struct arena arena;                /* everything below that is pointed to */
        struct str file;                   /* the configuration file, as given */
        struct config_listener *listeners; /* at least one */
        size_t n_listeners;
        struct config_url public_url; /* text.ptr NULL: use what the client used */
        struct config_admin admin;
        uint64_t workers;              /* 0: one per CPU */
        struct config_issuer *issuers; /* at least one */
        size_t n_issuers;
        struct config_upstream upstream;
        struct config_outgoing_proxy outgoing_proxy;
        struct config_credential *credentials; /* at least one */
        size_t n_credentials;
        struct config_policy policy;
        struct config_audit audit;
        struct config_idempotency idempotency;
        struct config_correlation correlation;
        struct config_limits limits;
        struct config_timeouts timeouts;
        enum log_level log_level;
        enum config_confine confine;
        struct str user; /* as confine_user_find reads it; ptr NULL: whoever started it */
        struct str boot; /* settings that a reload cannot change, one line each */
        struct config_place *places; /* for config_place; grows only while loading */
        size_t n_places;
};

/* Reads and checks a file. NULL when anything is wrong, with all of it in `errors`; warnings may be
 * added on success too. The caller owns one reference. Opens only `path`. */
struct config *config_load(const char *path, struct error_list *errors)
        __attribute__((warn_unused_result));

/* As config_load, from memory. `folder` is what relative paths are joined to ("" or NULL: nothing);
 * `environment` answers like getenv (NULL: getenv itself). */
struct config_source {
        const char *name; /* stands in the messages */
        struct str text;
        const char *folder;
        const char *(*environment)(const char *name);
};
struct config *config_load_text(const struct config_source *source, struct error_list *errors)
        __attribute__((warn_unused_result));

static inline struct config *config_ref(struct config *config)
{
        snapshot_ref(&config->snap);
        return config;
}
/* Harmless on NULL. */
void config_unref(struct config *config);

/* Where the setting stands that is stored at `field` (an address inside `config` or what it points
 * to); line 0 when the file does not have it. Items of lists have a place too. */
struct mark config_place(const struct config *config, const void *field);

/* Names of changed settings that only a restart can apply ("listen, workers"), "" when there are
 * none; the text is written to `out`. `at` becomes the place in `fresh` of the first that stands
 * there, line 0 if none does (they were left out). */
void config_restart_needed(const struct config *running, const struct config *fresh,
        struct mark *at, char *out, size_t size);

/* Where connections for a host of the catalogue go instead: its own line of `upstream.hosts`, else
 * that of "*"; NULL: to the host itself. */
const struct config_url *config_host_override(
        const struct config_upstream *upstream, const char *host);

/* Tells each path that is set, in the order of the settings: one for all settings of a path, so
 * that a new one is not forgotten. `pattern`: it may be a glob(7) pattern. */
typedef void config_tell_path(void *owner, const struct str *path, bool pattern);
void config_paths(const struct config *config, config_tell_path *tell, void *owner);

/* Whether `address` (IPv4 as ::ffff:a.b.c.d) is in one of `limits.trusted_addresses`. */
bool config_trusts_address(const struct config_limits *limits, const unsigned char address[16]);
/* Reads a numeric address, IPv4 as ::ffff:a.b.c.d; false if it is none. */
bool config_address_bytes(const char *text, unsigned char out[16]);

/* The JSON Schema (draft 2020-12) of the configuration file. */
void config_schema_write(struct buf *out);
/* The reference of all settings, in Markdown, as in docs/configuration.md. */
void config_reference_write(struct buf *out);

/* Cuts what a variable such as HTTPS_PROXY says into a user ("user:password", percent-encoded;
 * empty: none) and an origin. False with a reason: no http proxy that could be used. */
bool config_proxy_cut(
        struct str value, struct str *user, struct str *host, uint16_t *port, struct error *err);

/* Parts that others need too. Text must have a NUL behind it and live as long as the result. */
bool config_address_parse(struct str text, struct config_address *out, struct error *err);
bool config_url_parse(
        struct arena *arena, struct str text, struct config_url *out, struct error *err);

#endif
