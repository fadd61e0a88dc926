#include "dagward/azdo/catalogue.h"

#include "dagward/azdo/batch.h"
#include "dagward/azdo/push.h"

#include "catalogue_table.h"

#define IDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* What a push needs before it says what it does: to be announced, and to be asked whether it may
 * come. */
#define PUSH IDS("gitHttp.refs.advertisePush", "gitHttp.pack.push")

static const struct operation_alias aliases[] = {
        {"git.fetch", IDS("gitHttp.refs.advertiseFetch", "gitHttp.pack.fetch"),
                "clone, fetch and pull over HTTP", NULL},
        {"git.push", IDS("gitHttp.refs.advertisePush", "gitHttp.pack.push"), "push over HTTP",
                NULL},
        {"git.lfs.fetch", IDS("gitHttp.lfs.batchDownload", "gitHttp.lfs.getObject"),
                "download of LFS objects", NULL},
        {"git.lfs.push",
                IDS("gitHttp.lfs.batch", "gitHttp.lfs.putObject", "gitHttp.lfs.verifyLocks"),
                "upload of LFS objects", NULL},
        {"git.lfs.lock",
                IDS("gitHttp.lfs.createLock", "gitHttp.lfs.unlock", "gitHttp.lfs.listLocks",
                        "gitHttp.lfs.verifyLocks"),
                "LFS locks", NULL},
        {"git.gvfs",
                IDS("gitHttp.gvfs.config", "gitHttp.gvfs.object", "gitHttp.gvfs.objects",
                        "gitHttp.gvfs.prefetch", "gitHttp.gvfs.sizes"),
                "reading as Scalar does", NULL},
        {"git.branch.create", IDS("gitHttp.push.createBranch"), "pushes that make branches", PUSH},
        {"git.branch.update", IDS("gitHttp.push.updateBranch"), "pushes that move branches", PUSH},
        {"git.branch.delete", IDS("gitHttp.push.deleteBranch"), "pushes that remove branches",
                PUSH},
        {"git.tag.create", IDS("gitHttp.push.createTag"), "pushes that make tags", PUSH},
        {"git.tag.move", IDS("gitHttp.push.moveTag"), "pushes that move tags", PUSH},
        {"git.tag.delete", IDS("gitHttp.push.deleteTag"), "pushes that remove tags", PUSH},
        {"packages.fetch",
                IDS("packages.cargo.download", "packages.cargo.index", "packages.maven.get",
                        "packages.maven.head", "packages.npm.get", "packages.npm.query",
                        "packages.nuget.get", "packages.nuget.getV2", "packages.nuget.serviceIndex",
                        "packages.pypi.download", "packages.pypi.simple", "packages.universal.get"),
                "package managers, download", NULL},
        {"packages.publish",
                IDS("packages.cargo.publish", "packages.maven.put", "packages.npm.publish",
                        "packages.nuget.push", "packages.pypi.upload", "packages.universal.put"),
                "package managers, upload", NULL},
        {"discovery",
                IDS("discovery.connectionData.get", "discovery.connectionData.head",
                        "discovery.locations.listAll", "discovery.locations.listArea",
                        "discovery.locations.listDeployment", "discovery.resourceAreas.get",
                        "discovery.resourceAreas.getDeployment", "discovery.resourceAreas.list",
                        "discovery.serviceDefinitions.get"),
                "what SDKs ask before anything else", NULL},
};
enum { N_ALIASES = sizeof(aliases) / sizeof(aliases[0]) };

const struct operation *catalogue_all(size_t *n)
{
        *n = table_n_operations;
        return table_operations;
}

const struct operation *catalogue_find(struct str id)
{
        size_t low = 0, high = table_n_operations;
        while (low < high) {
                size_t middle = (low + high) / 2;
                int order = str_cmp_fold(id, str_of(table_operations[middle].id));
                if (order == 0)
                        return &table_operations[middle];
                if (order < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        return NULL;
}

const struct operation_alias *catalogue_aliases(size_t *n)
{
        *n = N_ALIASES;
        return aliases;
}

/* Who names an operation names what it does. */
static void add_with_parts(const struct operation *op, struct operation_set *set)
{
        operation_set_add(set, op->index);
        for (size_t i = 0; operation_is_push(op) && i < table_n_operations; i++)
                if (strcmp(table_operations[i].part_of, op->id) == 0)
                        operation_set_add(set, table_operations[i].index);
}

static void alias_add(const struct operation_alias *alias, struct operation_set *set)
{
        for (const char *const *id = alias->ids; *id; id++) {
                const struct operation *op = catalogue_find(str_of(*id));
                if (op)
                        add_with_parts(op, set);
        }
}

void alias_add_needs(const struct operation_alias *alias, struct operation_set *set)
{
        for (const char *const *id = alias->needs; id && *id; id++) {
                const struct operation *op = catalogue_find(str_of(*id));
                if (op)
                        operation_set_add(set, op->index);
        }
}

bool catalogue_named(struct str id, struct operation_set *set)
{
        const struct operation *op = catalogue_find(id);

        if (op)
                add_with_parts(op, set);
        return op != NULL;
}

bool catalogue_alias(struct str name, struct operation_set *set)
{
        for (size_t i = 0; i < N_ALIASES; i++) {
                if (str_eq_fold(name, str_of(aliases[i].name))) {
                        alias_add(&aliases[i], set);
                        return true;
                }
        }
        return false;
}

size_t catalogue_select(struct str pattern, struct operation_set *set)
{
        struct operation_set found = {{0}};
        const struct operation *op = catalogue_find(pattern);
        if (op) {
                add_with_parts(op, &found);
        } else if (str_find(pattern, '*') < 0) {
                catalogue_alias(pattern, &found);
        } else {
                for (size_t i = 0; i < N_ALIASES; i++) {
                        if (str_glob(pattern, str_of(aliases[i].name), true))
                                alias_add(&aliases[i], &found);
                }
                for (size_t i = 0; i < table_n_operations; i++) {
                        op = &table_operations[i];
                        if (!(op->risks & RISK_BY_NAME_ONLY) &&
                                str_glob(pattern, str_of(op->id), true))
                                operation_set_add(&found, op->index);
                }
        }
        size_t n = 0;
        for (size_t i = 0; i < OPERATIONS_MAX / 64; i++) {
                n += (size_t)__builtin_popcountll(found.words[i]);
                set->words[i] |= found.words[i];
        }
        return n;
}

const struct resource_area *catalogue_resource_areas(size_t *n)
{
        *n = table_n_areas;
        return table_areas;
}

bool operation_by_name_only(const struct operation *op)
{
        if (operation_is_batch(op)) /* what it carries is judged */
                return false;
        return (op->risks & (RISK_BY_NAME_ONLY | RISK_MINTS_CREDENTIAL | RISK_TUNNELS_REQUESTS)) !=
               0;
}
