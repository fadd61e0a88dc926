/* Several files into one policy: merging, references between them, what no single file can know. */
#include <stdlib.h>

#include "policy_internal.h"

static void drop(struct snapshot *self)
{
        struct policy *policy = (struct policy *)self;

        for (size_t i = 0; i < policy->n_entries; i++)
                free(policy->entries[i].set);
        free(policy->entries);
        free(policy->roles);
        free(policy->bindings);
        free(policy->tests);
        free(policy->known);
        arena_clear(&policy->arena);
        free(policy);
}

struct policy *policy_ref(struct policy *policy)
{
        snapshot_ref(&policy->snap);
        return policy;
}

void policy_unref(struct policy *policy)
{
        if (policy)
                snapshot_unref(&policy->snap);
}

struct named_index {
        struct str name;
        size_t index;
};

static int by_name(const void *a, const void *b)
{
        const struct named_index *x = a, *y = b;
        int order = str_cmp_fold(x->name, y->name);

        return order ? order : (x->index > y->index) - (x->index < y->index);
}

static struct named_index *index_roles(const struct policy *policy)
{
        struct named_index *index = calloc(policy->n_roles + 1, sizeof(*index));

        if (!index)
                abort();
        for (size_t i = 0; i < policy->n_roles; i++)
                index[i] = (struct named_index){policy->roles[i].name, i};
        qsort(index, policy->n_roles, sizeof(*index), by_name);
        return index;
}

static void report_roles_twice(
        const struct loader *loader, const struct named_index *index, size_t n)
{
        const struct role *roles = loader->policy->roles;

        for (size_t i = 1; i < n; i++) {
                if (!str_eq_fold(index[i - 1].name, index[i].name))
                        continue;
                const struct role *first = &roles[index[i - 1].index];
                error_list_add(loader->errors, roles[index[i].index].at,
                        "role `%s` is already defined at %s:%u", yaml_shown(index[i].name),
                        first->at.file, first->at.line);
        }
}

static ssize_t find_role(const struct named_index *index, size_t n, struct str name)
{
        size_t low = 0, high = n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (str_cmp_fold(index[middle].name, name) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        for (; low < n && str_eq_fold(index[low].name, name); low++)
                if (str_eq(index[low].name, name))
                        return (ssize_t)index[low].index;
        return -1;
}

static void report_unknown_role(const struct loader *loader, struct str name, struct mark at)
{
        const struct policy *policy = loader->policy;
        struct str *names = calloc(policy->n_roles + 1, sizeof(*names));

        if (!names)
                abort();
        for (size_t i = 0; i < policy->n_roles; i++)
                names[i] = policy->roles[i].name;
        error_list_add(loader->errors, at, "no role `%s`%s", yaml_shown(name),
                error_did_you_mean(str_head(name, 100), names, policy->n_roles));
        free(names);
}

static bool role_allows(const struct policy *policy, const struct role *role)
{
        for (size_t i = role->first; i < role->first + role->n; i++)
                if (policy->entries[i].effect == EFFECT_ALLOW)
                        return true;
        return false;
}

static void resolve_includes(
        struct loader *loader, struct role *role, const struct named_index *index)
{
        struct policy *policy = loader->policy;
        size_t n = 0;

        role->includes = keep(loader, role->n_includes * sizeof(*role->includes));
        for (size_t i = 0; i < role->n_includes; i++) {
                ssize_t found = find_role(index, policy->n_roles, role->include_names[i]);
                if (found < 0)
                        report_unknown_role(loader, role->include_names[i], role->include_marks[i]);
                else
                        role->includes[n++] = (unsigned)found;
        }
        role->n_includes = n;
}

size_t role_with_included(const struct policy *policy, unsigned role, unsigned *list, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (list[i] == role)
                        return n;
        if (n > POLICY_MOST_TOGETHER)
                return n;
        size_t next = n;
        list[n++] = role;
        /* The list is also what is still to be gone through: no recursion on what a file says. */
        for (; next < n; next++) {
                const struct role *one = &policy->roles[list[next]];
                for (size_t k = 0; k < one->n_includes; k++) {
                        bool there = n > POLICY_MOST_TOGETHER;
                        for (size_t i = 0; i < n && !there; i++)
                                there = list[i] == one->includes[k];
                        if (!there)
                                list[n++] = one->includes[k];
                }
        }
        return n;
}

/* A role that includes itself, through whatever others, says nothing that it does not say anyway;
 * whoever wrote it meant something else. */
static void report_circles(struct loader *loader)
{
        const struct policy *policy = loader->policy;
        unsigned *list = calloc(policy->n_roles + 1, sizeof(*list));

        if (!list)
                abort();
        for (unsigned r = 0; r < policy->n_roles; r++) {
                size_t n = role_with_included(policy, r, list, 0);
                bool circle = false;
                for (size_t i = 0; i < n && !circle; i++) {
                        const struct role *one = &policy->roles[list[i]];
                        for (size_t k = 0; k < one->n_includes; k++)
                                circle |= one->includes[k] == r;
                }
                if (n > POLICY_MOST_TOGETHER)
                        error_list_add(loader->errors, policy->roles[r].at,
                                "role `%s` includes %d roles or more",
                                yaml_shown(policy->roles[r].name), POLICY_MOST_TOGETHER);
                if (circle)
                        error_list_add(loader->errors, policy->roles[r].at,
                                "role `%s` includes itself", yaml_shown(policy->roles[r].name));
        }
        free(list);
}

static void resolve_binding(
        struct loader *loader, struct binding *binding, const struct named_index *index)
{
        struct policy *policy = loader->policy;
        unsigned *list = calloc(policy->n_roles + 1, sizeof(*list));
        bool allows = false;
        size_t n = 0;

        if (!list)
                abort();
        for (size_t i = 0; i < binding->n_roles; i++) {
                ssize_t found = find_role(index, policy->n_roles, binding->role_names[i]);
                if (found < 0) {
                        report_unknown_role(loader, binding->role_names[i], binding->role_marks[i]);
                        continue;
                }
                n = role_with_included(policy, (unsigned)found, list, n);
        }
        if (n > POLICY_MOST_TOGETHER)
                error_list_add(loader->errors, binding->at,
                        "the binding gives more than %d roles, included ones among them",
                        POLICY_MOST_TOGETHER);
        for (size_t i = 0; i < n; i++) {
                policy->roles[list[i]].used = true;
                allows |= role_allows(policy, &policy->roles[list[i]]);
        }
        binding->roles = keep(loader, n * sizeof(*binding->roles));
        if (n)
                memcpy(binding->roles, list, n * sizeof(*list));
        binding->n_roles = n;
        free(list);
        if (allows && !binding->credential.len)
                error_list_add(loader->errors, binding->at,
                        "the binding's roles allow requests, so it needs a `credential` for them");
}

static void report_bindings_twice(const struct loader *loader)
{
        const struct policy *policy = loader->policy;
        struct named_index *index = calloc(policy->n_bindings + 1, sizeof(*index));
        size_t n = 0;

        if (!index)
                abort();
        for (size_t i = 0; i < policy->n_bindings; i++)
                if (policy->bindings[i].named)
                        index[n++] = (struct named_index){policy->bindings[i].name, i};
        qsort(index, n, sizeof(*index), by_name);
        for (size_t i = 1; i < n; i++) {
                if (!str_eq_fold(index[i - 1].name, index[i].name))
                        continue;
                const struct binding *first = &policy->bindings[index[i - 1].index];
                error_list_add(loader->errors, policy->bindings[index[i].index].at,
                        "a binding named `%s` is already at %s:%u", yaml_shown(index[i].name),
                        first->at.file, first->at.line);
        }
        free(index);
}

/* What only all files together can tell. */
static void link_parts(struct loader *loader)
{
        struct policy *policy = loader->policy;
        struct named_index *index = index_roles(policy);

        report_roles_twice(loader, index, policy->n_roles);
        for (size_t i = 0; i < policy->n_roles; i++)
                resolve_includes(loader, &policy->roles[i], index);
        report_circles(loader);
        for (size_t i = 0; i < policy->n_bindings; i++)
                resolve_binding(loader, &policy->bindings[i], index);
        free(index);
        report_bindings_twice(loader);
        for (size_t i = 0; i < policy->n_roles; i++)
                if (!policy->roles[i].used)
                        error_list_warn(loader->errors, policy->roles[i].at,
                                "no binding gives anybody the role `%s`",
                                yaml_shown(policy->roles[i].name));
}

static struct str base_name(const char *path)
{
        const char *slash = strrchr(path, '/');

        return str_of(slash ? slash + 1 : path);
}

static struct str file_label(const char *const *files, size_t n, size_t which)
{
        struct str base = base_name(files[which]);

        for (size_t i = 0; i < n; i++)
                if (i != which && str_eq(base_name(files[i]), base))
                        return str_of(files[which]);
        return base;
}

static struct loader loader_new(struct error_list *errors)
{
        struct policy *policy = calloc(1, sizeof(*policy));

        if (!policy)
                abort();
        snapshot_init(&policy->snap, drop);
        /* The files bound it: each is small, and so is their number. */
        arena_init(&policy->arena, 64 * 1024, SIZE_MAX);
        return (struct loader){.policy = policy, .errors = errors, .cache = choice_cache_new()};
}

static struct policy *loader_finish(struct loader *loader, size_t errors_before)
{
        struct policy *policy = loader->policy;

        if (policy->n_files)
                link_parts(loader);
        choice_cache_free(loader->cache);
        groups_review(loader);
        if (loader->errors->errors != errors_before) {
                policy_unref(policy);
                return NULL;
        }
        known_join(policy);
        policy_compile(policy);
        return policy;
}

static void read_document(struct loader *loader, struct yaml_document *doc, struct str label)
{
        loader->file = keep_str(loader, label);
        loader->policy->n_files++;
        policy_file_read(loader, doc);
        yaml_clear(doc);
}

struct policy *policy_load(const char *const *files, size_t n, struct error_list *errors)
{
        size_t before = errors->errors;

        if (n == 0 || n > POLICY_MOST_FILES) {
                error_list_add(errors, (struct mark){0},
                        n ? "more than %d policy files" : "no policy file (0 to %d)",
                        POLICY_MOST_FILES);
                return NULL;
        }
        struct loader loader = loader_new(errors);
        struct yaml_document *docs = calloc(n, sizeof(*docs));
        if (!docs)
                abort();
        /* Groups of one file are for the selectors of all. */
        for (size_t i = 0; i < n; i++)
                if (yaml_load_file(files[i], &docs[i], errors))
                        groups_read(&loader, &docs[i]);
        for (size_t i = 0; i < n; i++)
                if (docs[i].root)
                        read_document(&loader, &docs[i], file_label(files, n, i));
        free(docs);
        return loader_finish(&loader, before);
}

struct policy *policy_load_text(const char *name, struct str text, struct error_list *errors)
{
        size_t before = errors->errors;
        struct loader loader = loader_new(errors);
        struct yaml_document doc = {0};

        if (yaml_load_text(name, text, &doc, errors)) {
                groups_read(&loader, &doc);
                read_document(&loader, &doc, base_name(name));
        }
        return loader_finish(&loader, before);
}

static bool known(struct str name, const struct str *names, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (str_eq(name, names[i]))
                        return true;
        return false;
}

static void warn_of_expiry(const struct binding *binding, int64_t now_ms, struct error_list *errors)
{
        char when[TIME_TEXT_BYTES];

        if (binding->expires_ms <= now_ms)
                error_list_warn(errors, binding->at,
                        "the binding `%s` has expired and gives nothing any more",
                        yaml_shown(binding->name));
        else if (binding_ends_soon(binding, now_ms))
                error_list_warn(errors, binding->at,
                        "the binding `%s` expires at %s, within 7 days", yaml_shown(binding->name),
                        time_text(binding->expires_ms, when));
}

bool policy_lends(const struct policy *policy, struct str credential)
{
        for (size_t i = 0; i < policy->n_bindings; i++)
                if (str_eq(policy->bindings[i].credential, credential))
                        return true;
        return false;
}

bool policy_review(const struct policy *policy, const struct str *issuers, size_t n_issuers,
        const struct str *credentials, size_t n_credentials, int64_t now_ms,
        struct error_list *errors)
{
        size_t before = errors->errors;

        for (size_t i = 0; i < policy->n_bindings; i++) {
                const struct binding *binding = &policy->bindings[i];
                if (!known(binding->issuer, issuers, n_issuers))
                        error_list_add(errors, binding->issuer_at,
                                "no issuer `%s` in the configuration%s",
                                yaml_shown(binding->issuer),
                                error_did_you_mean(
                                        str_head(binding->issuer, 100), issuers, n_issuers));
                if (binding->credential.len &&
                        !known(binding->credential, credentials, n_credentials))
                        error_list_add(errors, binding->credential_at,
                                "no credential `%s` in the configuration%s",
                                yaml_shown(binding->credential),
                                error_did_you_mean(str_head(binding->credential, 100), credentials,
                                        n_credentials));
                warn_of_expiry(binding, now_ms, errors);
                if (glass_lasts_long(binding, now_ms))
                        error_list_warn(errors, binding->at,
                                "the break-glass binding `%s` lasts for more than %d days",
                                yaml_shown(binding->name), GLASS_MOST_DAYS);
        }
        return errors->errors == before;
}

void policy_expiries(
        const struct policy *policy, int64_t now_ms, policy_expiry_found *found, void *owner)
{
        for (size_t i = 0; i < policy->n_bindings; i++) {
                const struct binding *binding = &policy->bindings[i];
                const struct policy_expiry expiry = {.binding = binding->name,
                        .place = binding->place,
                        .expires_ms = binding->expires_ms,
                        .expired = binding->expires_ms <= now_ms};
                if (binding_ends_soon(binding, now_ms))
                        found(owner, &expiry);
        }
}

struct policy_size policy_size(const struct policy *policy)
{
        return (struct policy_size){
                .files = policy->n_files,
                .roles = policy->n_roles,
                .entries = policy->n_entries,
                .bindings = policy->n_bindings,
                .tests = policy->n_tests,
        };
}
