/*
 * catalogue: what can be asked of Azure DevOps, and which of it a request is.
 *
 * The table of operations (REST, git, LFS, packages, discovery) is generated at build time from
 * src/azdo/data/; it is constant and shared by all threads. The matcher names a request by service
 * (upstream host), method, path segments and query; it allocates nothing (but see
 * ROUTE_NEEDS_BODY). It knows no socket, no header field and no policy.
 */
#ifndef DAGWARD_AZDO_CATALOGUE_H
#define DAGWARD_AZDO_CATALOGUE_H

#include "dagward/base/buf.h"
#include "dagward/base/str.h"

/* What an operation does, from harmless to grave; `manage` decides who may do what. */
enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXECUTE, ACCESS_MANAGE, ACCESS_DELETE };
enum { ACCESS_COUNT = ACCESS_DELETE + 1 };

/* "read", "write", "execute", "manage", "delete". */
const char *access_name(enum access access);
/* The class of that name, case ignored; false when there is none. */
__attribute__((warn_unused_result)) bool access_named(struct str name, enum access *access);

/* One per upstream host of the catalogue. */
enum service {
        SERVICE_DEV,          /* dev.azure.com */
        SERVICE_VSRM,         /* vsrm.dev.azure.com: classic releases */
        SERVICE_VSSPS,        /* vssps.dev.azure.com: graph, identities, tokens */
        SERVICE_VSAEX,        /* vsaex.dev.azure.com: entitlements */
        SERVICE_FEEDS,        /* feeds.dev.azure.com */
        SERVICE_PKGS,         /* pkgs.dev.azure.com */
        SERVICE_ALMSEARCH,    /* almsearch.dev.azure.com */
        SERVICE_VSTMR,        /* vstmr.dev.azure.com: test results */
        SERVICE_EXTMGMT,      /* extmgmt.dev.azure.com */
        SERVICE_AUDITSERVICE, /* auditservice.dev.azure.com */
        SERVICE_ADVSEC,       /* advsec.dev.azure.com */
        SERVICE_ARTIFACTS,    /* artifacts.dev.azure.com: symbols */
        SERVICE_ANALYTICS,    /* analytics.dev.azure.com */
        SERVICE_STATUS,       /* status.dev.azure.com */
        SERVICE_APP,          /* app.vssps.visualstudio.com: accounts and profiles */
};
enum { SERVICE_COUNT = SERVICE_APP + 1 };

/* The short name that stands behind "~" in proxy paths: "dev", "vsrm", ..., "app". */
const char *service_name(enum service service);
/* The upstream host name, without a port. */
const char *service_host(enum service service);
/* The service of a short name, case ignored. */
__attribute__((warn_unused_result)) bool service_named(struct str name, enum service *service);
/* The service of a host name, case and a port ignored. The old names {org}.visualstudio.com and
 * {org}.{service}.visualstudio.com are known too: then `*organization` is the view of {org} in
 * `host`, which has to be put in front of the path; else it is STR_NONE. */
__attribute__((warn_unused_result)) bool service_of_host(
        struct str host, enum service *service, struct str *organization);

/* Hand-made warnings about an operation. */
enum risk {
        RISK_MINTS_CREDENTIAL = 1 << 0,
        RISK_RETURNS_CREDENTIAL = 1 << 1,
        RISK_TUNNELS_REQUESTS = 1 << 2,
        RISK_SENDS_DATA_OUT = 1 << 3,
        RISK_CHANGES_PERMISSIONS = 1 << 4,
        RISK_DEFINES_WHAT_RUNS = 1 << 5,
        RISK_BODY_DECIDES_TARGET = 1 << 6,
        RISK_BODY_DECIDES_ACTION = 1 << 7,
        RISK_PROJECT_NOT_IN_PATH = 1 << 8,
        /* Not an API (portal pages, SOAP, undocumented areas): a rule has to name it by its id; an
         * access class, an area, a scope or a wildcard should not open it. */
        RISK_BY_NAME_ONLY = 1 << 9,
};
enum { RISK_COUNT = 10 };

/* The name of the flag `1 << bit`: "mints-credential". */
const char *risk_name(unsigned bit);

struct operation {
        const char *id;          /* "build.builds.queue"; unique, also when case is folded */
        const char *area;        /* first part of the id */
        const char *resource;    /* the resource's own name, "" when unknown */
        const char *method;      /* "GET"; "*" stands for any */
        const char *path;        /* "/{organization}/{project}/_apis/build/builds" */
        const char *summary;     /* one line for people */
        const char *note;        /* a remark, or "" */
        const char *api_version; /* newest documented one, or "" */
        const char *part_of; /* the id of the operation whose requests, read on, do this; or "" */
        const char *location_id;   /* GUID under which SDKs look the route up, or "" */
        const char *const *scopes; /* "vso.build_execute", ...; NULL ends it */
        unsigned short n_scopes;
        unsigned short index; /* place in catalogue_all */
        unsigned risks;       /* enum risk flags */
        enum service service;
        bool any_service; /* exists on every service; `service` is SERVICE_DEV then */
        bool anonymous;   /* upstream answers it without a credential */
        bool is_content; /* what it answers is somebody's file: not to be read as an API's answer */
        enum access access;
};

enum { OPERATIONS_MAX = 1536 };

/* All operations in the order of their ids (case folded). */
const struct operation *catalogue_all(size_t *n);
/* The operation of that id, case ignored; NULL when there is none. */
const struct operation *catalogue_find(struct str id);

/* Whether a grant has to name the operation by its id, because a class, a scope, an area or a
 * wildcard would give away more than they say: portal pages, what mints credentials that go round
 * the proxy, what carries requests that nobody judges. */
bool operation_by_name_only(const struct operation *op);

/* A set of operations, by index. */
struct operation_set {
        uint64_t words[OPERATIONS_MAX / 64];
};

static inline void operation_set_add(struct operation_set *set, unsigned index)
{
        set->words[index / 64] |= UINT64_C(1) << (index % 64);
}

static inline bool operation_set_has(const struct operation_set *set, unsigned index)
{
        return set->words[index / 64] >> (index % 64) & 1;
}

/*
 * Names for operations that belong together, for policies:
 *
 *   git.fetch       gitHttp.refs.advertiseFetch  gitHttp.pack.fetch
 *   git.push        gitHttp.refs.advertisePush   gitHttp.pack.push and its parts
 *   git.branch.*    create update delete: pushes that do that; with it, on an allow, what a push
 * needs git.tag.*       create move delete: likewise git.lfs.fetch   gitHttp.lfs.batchDownload
 * .getObject git.lfs.push    gitHttp.lfs.batch  .putObject  .verifyLocks git.lfs.lock
 * gitHttp.lfs.createLock  .unlock  .listLocks  .verifyLocks git.gvfs        gitHttp.gvfs.config
 * .object  .objects  .prefetch  .sizes packages.fetch  packages.{cargo.download cargo.index
 * maven.get maven.head npm.get npm.query nuget.get nuget.getV2 nuget.serviceIndex pypi.download
 * pypi.simple universal.get} packages.publish  packages.{cargo.publish maven.put npm.publish
 * nuget.push pypi.upload universal.put} discovery       every discovery.* operation that reads:
 * what SDKs ask before anything else
 */
struct operation_alias {
        const char *name;
        const char *const *ids; /* NULL ends it */
        const char *summary;
        const char *const
                *needs; /* ids that who is allowed it has to be allowed too; may be NULL */
};

/* All aliases. */
const struct operation_alias *catalogue_aliases(size_t *n);
/* Whether `name` is an alias (case ignored) and which operations it stands for (added to `set`). */
bool catalogue_alias(struct str name, struct operation_set *set);
/* Adds what the alias needs. */
void alias_add_needs(const struct operation_alias *alias, struct operation_set *set);
/* Whether there is an operation of that id; it and its parts are added. */
bool catalogue_named(struct str id, struct operation_set *set);
/* Adds what `pattern` names: an id, an alias, or a pattern with `*` over ids and aliases (case
 * ignored). Operations with RISK_BY_NAME_ONLY are added only for their exact id. The number of
 * operations that it names; 0: it names nothing. */
size_t catalogue_select(struct str pattern, struct operation_set *set);

/* What `GET {organization}/_apis/ResourceAreas` lists. */
struct resource_area {
        const char *id; /* GUID */
        const char *name;
        const char *area; /* the catalogue's name */
        enum service service;
};
const struct resource_area *catalogue_resource_areas(size_t *n);

enum { ROUTE_MAX_SEGMENTS = 40, ROUTE_MAX_PARAMS = 16 };

/* A request in its decoded form. Nothing is owned. */
struct route_query {
        struct str method; /* upper case, as received */
        enum service service;
        const struct str *segments; /* decoded once, organization first, no "~service" */
        size_t n_segments;          /* at most ROUTE_MAX_SEGMENTS are looked at; more: unknown */
        uint64_t encoded_slash;     /* bit i: segment i holds a slash that came as %2f */
        const struct pair *query;   /* decoded; names are compared with case ignored */
        size_t n_query;
        struct str body; /* ptr NULL: not read. Looked at only when ROUTE_NEEDS_BODY was answered */
};

/* How a request was understood. Views point into the request or into the catalogue. */
struct route {
        const struct operation *op;
        size_t n_params, n_segments;
        uint64_t encoded_slash; /* as in route_query, for `segments` */
        /* Index in `params` of the one that swallows several segments, and its first segment; the
         * value in `params` is that first segment only. -1: none. */
        int greedy_param;
        size_t greedy_from;
        /* Path parameters by the names of op->path, values decoded and as given; but one ".git" is
         * taken off a git repository, and a literal prefix ("$", "@") off its parameter. */
        struct pair params[ROUTE_MAX_PARAMS];
        /* The path to be sent: literals in the catalogue's spelling, parameters as given (without
         * ".git"), "DefaultCollection" behind the organization dropped, the halves of an encoded
         * npm scope as two segments where the catalogue has two. */
        struct str segments[ROUTE_MAX_SEGMENTS];
};

enum route_result {
        ROUTE_FOUND,
        ROUTE_UNKNOWN,   /* not in the catalogue: denied unless a rule names method and path */
        ROUTE_REFUSED,   /* ambiguous or malformed: 400; `why` says what */
        ROUTE_NEEDS_BODY /* `op` is the gravest candidate; read the body, set it, call again */
};

/*
 * Names the operation of a request.
 *
 * Literals are compared with ASCII case ignored; a literal wins over a typed parameter, that over
 * an untyped one, that over one that swallows several segments, from left to right. Parameters of
 * type integer and uuid reject what is neither (also +1, 007, {guid}). A path that reaches a
 * template through literals is never reread with those literals as values because the template
 * lacks the method. HEAD is GET where the catalogue has no HEAD. Among operations of one template
 * the one with the largest set of discriminating query names that are all present is taken.
 *
 * `route` is filled on ROUTE_FOUND and ROUTE_NEEDS_BODY (then without certainty about `op`);
 * `*why` (static text) on ROUTE_REFUSED.
 */
__attribute__((warn_unused_result)) enum route_result catalogue_match(
        const struct route_query *query, struct route *route, const char **why);

/* The parameter of that name (case ignored), or STR_NONE (ptr NULL). */
struct str route_param(const struct route *route, struct str name);

/* As catalogue_match for a request that names no service (query->service is SERVICE_DEV): the route
 * of dev.azure.com if it has one, else that of the other service that has; then query->service is
 * that one. For clients that know one base URL for everything. */
enum route_result catalogue_match_anywhere(struct route_query *query, struct route *route,
        const char **why) __attribute__((warn_unused_result));

/* Parameter `i` in full: the segments of a greedy one with slashes between. */
void route_param_write(const struct route *route, size_t i, struct buf *out);
/* The query parameter of that name (case ignored), or STR_NONE (ptr NULL). */
struct str route_query_value(const struct route_query *query, struct str name);

#endif
