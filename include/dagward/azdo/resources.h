/*
 * resources: which projects, pipelines, repositories, ... a named request touches.
 *
 * Gathered from path parameters, query and body by the rows of src/azdo/resources.def. Values
 * are as the caller gave them, names or ids: whether two of them are the same thing is for others
 * to find out. Knows no policy and asks nobody.
 */
#ifndef DAGWARD_AZDO_RESOURCES_H
#define DAGWARD_AZDO_RESOURCES_H

#include "dagward/azdo/catalogue.h"
#include "dagward/azdo/facts.h"
#include "dagward/base/arena.h"

enum resource_kind {
        RESOURCE_ORGANIZATION,
        RESOURCE_PROJECT,
        RESOURCE_TEAM,
        RESOURCE_PIPELINE,   /* pipelines and build definitions are one kind with one set of ids */
        RESOURCE_BUILD,      /* builds and pipeline runs likewise */
        RESOURCE_RELEASE,    /* a classic release, not its definition */
        RESOURCE_REPOSITORY, /* bare name or GUID; its project is RESOURCE_PROJECT */
        RESOURCE_FEED,       /* without "@view" */
        RESOURCE_ENVIRONMENT,
        RESOURCE_WORK_ITEM, /* its number, which the whole organization counts */
        RESOURCE_WORK_ITEM_TYPE,
        RESOURCE_REF, /* full name: refs/heads/main */
};
enum { RESOURCE_KINDS = RESOURCE_REF + 1 };

/* For people: "organization", "work item type". */
const char *resource_kind_name(enum resource_kind kind);
/* As in policies and records: "organizations", "workItemTypes". */
const char *resource_kind_selector(enum resource_kind kind);

struct identity;

struct resource {
        enum resource_kind kind;
        struct str value; /* in the request, the body's copy in the arena, or static; not empty */
        const struct identity *known; /* what upstream knows it as; NULL: nobody has asked */
        bool beside_path;             /* it need not be of the project in the path */
};

enum {
        RESOURCES_MAX = 64,
        /* Of one request: of more it stays open which ones they are, and whose. */
        WORK_ITEMS_MOST = 32,
};

struct resources {
        size_t n; /* of `items` */
        /* The operation touches one (or more) of that kind that the request does not name. Can be
         * true beside items of the same kind. */
        bool unresolved[RESOURCE_KINDS];
        /* Bit k: that follows from others which the request does name: its pipeline from its build,
         * its project from its repository, its work item or its build. */
        unsigned implied;
        /* Bit k: those of kind k are named only where upstream may not look (a query parameter that
         * the operation does not have): they have to be allowed too, and tell nothing. */
        unsigned aside;
        /* Bit k: selectors of kind k neither admit nor refuse this request, because it moves none
         * and another one that does will be judged (a push is announced before it says what it
         * pushes). */
        unsigned deferred;
        struct resource items[RESOURCES_MAX]; /* no two equal ones */
};

/*
 * Gathers what `route` touches.
 *
 * `body` with ptr NULL has not been read: what only it could tell is unresolved. A body of length 0
 * names nothing. Values that the body gives are copied into `arena`. Several items of one kind mean
 * that all of them are touched: the caller has to be allowed each. A name and a GUID beside each
 * other may be the same thing and are both listed; two different names, two different GUIDs or
 * two different numbers for what must be one thing are refused. `*facts` becomes what the request
 * says beside them (in the arena), or NULL when that is nothing.
 *
 * False with `*why` (static text): 400, because two sources disagree, a needed body is not JSON,
 * has duplicate members or is nested too deeply, a value is malformed, or there are too many.
 */
__attribute__((warn_unused_result)) bool resources_gather(const struct route *route,
        const struct route_query *query, struct str body, struct arena *arena,
        struct resources *resources, struct facts **facts, const char **why);

/* Bit k: resources of kind k may be named by the body of `op`: worth reading when a rule that could
 * apply has a selector of that kind. Also BODY_FACTS and BODY_GUARDED_FACTS (facts.h). */
unsigned operation_body_kinds(const struct operation *op);
/* Of these, the ones that a body can not name, only veil: `yamlOverride` makes another pipeline of
 * the one that is named elsewhere. */
unsigned operation_veiled_kinds(const struct operation *op);
/* The kinds of which every request for `op` leaves open which one it is about (a pull request that
 * is updated is told by its number, which says nothing of its branch): only `*` ever admits it. */
unsigned operation_open_kinds(const struct operation *op);
/* Whether a body may veil a kind: a quick look at the text, never wrong when it says no. Then,
 * where only veiled kinds matter, an empty body says the same. */
bool body_may_veil(const struct operation *op, struct str body);
/* Whether operation_body_kinds names any. */
bool operation_reads_body(const struct operation *op);

/* One more that is touched, known as `known`; nothing if it is there. False when there are too
 * many.
 */
__attribute__((warn_unused_result)) bool resources_add(struct resources *resources,
        enum resource_kind kind, struct str value, const struct identity *known);

/* From which kinds (a bit each) those of `wanted` follow that the request leaves to be implied. */
unsigned resources_implied_by(const struct resources *resources, unsigned wanted);

/* The first item of that kind, or STR_NONE. */
struct str resources_first(const struct resources *resources, enum resource_kind kind);
/* 8-4-4-4-12 hexadecimal digits. */
bool guid_valid(struct str s);
/* Not that, but what a server may read as a GUID: .NET takes it without dashes, in braces or in
 * parentheses, as a list of hexadecimal numbers, and with signs. It may be any of them. */
bool guid_is_odd(struct str s);

#endif
