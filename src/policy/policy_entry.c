/* One entry of `allow` or `deny`: from YAML to selectors, with every error at its place. */
#include <stdlib.h>

#include "policy_internal.h"

enum { CACHE_BUCKETS = 1024 };

/* Sets of operations by the value that chose them: policies repeat few values many times. */
struct choice_cache {
        struct cached {
                struct cached *next;
                enum choice choice;
                enum effect effect;
                bool found;
                char *value;
                struct operation_set set;
        } * buckets[CACHE_BUCKETS];
};

struct choice_cache *choice_cache_new(void)
{
        struct choice_cache *cache = calloc(1, sizeof(*cache));

        if (!cache)
                abort();
        return cache;
}

void choice_cache_free(struct choice_cache *cache)
{
        for (size_t i = 0; i < CACHE_BUCKETS; i++)
                for (struct cached *one = cache->buckets[i], *next; one; one = next) {
                        next = one->next;
                        free(one->value);
                        free(one);
                }
        free(cache);
}

static const struct cached *select_cached(
        struct choice_cache *cache, enum choice choice, struct str value, enum effect effect)
{
        struct cached **bucket = &cache->buckets[str_hash_fold(value) % CACHE_BUCKETS];

        for (struct cached *one = *bucket; one; one = one->next)
                if (one->choice == choice && one->effect == effect &&
                        str_eq_fold(str_of(one->value), value))
                        return one;
        struct cached *fresh = calloc(1, sizeof(*fresh));
        if (!fresh)
                abort();
        *fresh = (struct cached){
                .next = *bucket, .choice = choice, .effect = effect, .value = str_dup(value)};
        fresh->found = choice_select(choice, value, effect, &fresh->set);
        *bucket = fresh;
        return fresh;
}

static const struct str access_names[] = {
        {"read", 4}, {"write", 5}, {"execute", 7}, {"manage", 6}, {"delete", 6}};
static const struct str method_names[] = {{"GET", 3}, {"HEAD", 4}, {"POST", 4}, {"PUT", 3},
        {"PATCH", 5}, {"DELETE", 6}, {"OPTIONS", 7}};
enum {
        N_ACCESS = sizeof(access_names) / sizeof(access_names[0]),
        N_METHODS = sizeof(method_names) / sizeof(method_names[0]),
};

/* Every id and alias, area or scope, for "did you mean"; free with free(). */
static struct str *known_names(enum choice choice, size_t *n)
{
        size_t n_ops, n_aliases, most = 0;
        const struct operation *ops = catalogue_all(&n_ops);
        const struct operation_alias *aliases = catalogue_aliases(&n_aliases);

        for (size_t i = 0; i < n_ops; i++)
                most += 1u + ops[i].n_scopes;
        struct str *names = calloc(most + n_aliases, sizeof(*names));
        if (!names)
                abort();
        *n = 0;
        for (size_t i = 0; i < n_ops; i++) {
                if (choice == CHOICE_OPERATIONS)
                        names[(*n)++] = str_of(ops[i].id);
                else if (choice == CHOICE_AREAS)
                        names[(*n)++] = str_of(ops[i].area);
                for (size_t k = 0; choice == CHOICE_SCOPES && k < ops[i].n_scopes; k++)
                        names[(*n)++] = str_of(ops[i].scopes[k]);
        }
        for (size_t i = 0; choice == CHOICE_OPERATIONS && i < n_aliases; i++)
                names[(*n)++] = str_of(aliases[i].name);
        return names;
}

static void report_unknown(
        struct loader *loader, enum choice choice, struct str value, struct mark at)
{
        if (choice == CHOICE_ACCESS) {
                error_list_add(loader->errors, at,
                        "no access class `%s`: read, write, execute, manage or delete%s",
                        yaml_shown(value),
                        error_did_you_mean(str_head(value, 100), access_names, N_ACCESS));
                return;
        }
        const char *what = choice == CHOICE_OPERATIONS ? "operation"
                           : choice == CHOICE_AREAS    ? "area"
                                                       : "scope";
        if (str_find(value, '*') >= 0) {
                error_list_add(loader->errors, at, "`%s` matches no %s", yaml_shown(value), what);
                return;
        }
        size_t n;
        struct str *names = known_names(choice, &n);
        error_list_add(loader->errors, at, "no %s `%s` in the catalogue%s", what, yaml_shown(value),
                error_did_you_mean(str_head(value, 100), names, n));
        free(names);
}

/* `*` alone or at the end of a dot-separated part. */
static bool operation_stars_ok(struct str value)
{
        for (size_t i = 0; i + 1 < value.len; i++)
                if (value.ptr[i] == '*' && value.ptr[i + 1] != '.')
                        return false;
        return true;
}

static bool choice_read(struct loader *loader, const struct yaml_node *node, enum choice choice,
        enum effect effect, struct entry *entry)
{
        struct operation_set any = {0};
        struct mark *marks;
        struct pattern pattern;
        bool good = true;
        struct names *names = &entry->choices[choice];

        if (!names_read(loader, node, choice_name(choice), names, &marks))
                return false;
        for (size_t i = 0; i < names->n; i++) {
                struct str value = names->items[i];
                if (choice == CHOICE_OPERATIONS ? !operation_stars_ok(value)
                                                : !pattern_parse(value, -1, &pattern)) {
                        error_list_add(loader->errors, marks[i],
                                "`%s`: `*` may only stand alone or at the end%s", yaml_shown(value),
                                choice == CHOICE_OPERATIONS ? " of a part between dots" : "");
                        good = false;
                        continue;
                }
                const struct cached *found = select_cached(loader->cache, choice, value, effect);
                if (!found->found) {
                        report_unknown(loader, choice, value, marks[i]);
                        good = false;
                }
                for (size_t w = 0; w < sizeof(any.words) / sizeof(any.words[0]); w++)
                        any.words[w] |= found->set.words[w];
        }
        for (size_t w = 0; w < sizeof(any.words) / sizeof(any.words[0]); w++)
                entry->set->words[w] &= any.words[w];
        return good;
}

static bool bad_value(struct loader *loader, struct mark at, struct str value, const char *selector,
        const char *why)
{
        error_list_add(loader->errors, at, "`%s` in `%s`: %s", yaml_shown(value), selector, why);
        return false;
}

/* A number that is written in more than one way would be compared as text. */
static bool odd_number(struct str text)
{
        uint64_t number;

        return text.len > 1 && text.ptr[0] == '0' && str_to_u64(text, &number);
}

static bool goes_by_number(enum resource_kind kind)
{
        return kind == RESOURCE_BUILD || kind == RESOURCE_RELEASE || kind == RESOURCE_WORK_ITEM;
}

static bool value_read(struct loader *loader, enum resource_kind kind, struct str text,
        struct mark at, struct value *out)
{
        const char *selector = resource_kind_selector(kind);
        uint64_t number;
        struct str name = text, project = STR_NONE;

        if (kind == RESOURCE_REPOSITORY && str_find(text, '/') >= 0) {
                name = str_cut(text, '/', &project);
                out->has_project = true;
                if (!name.len || !project.len)
                        return bad_value(loader, at, text, selector,
                                "a repository is `name` or `project/name`");
                if (!pattern_parse(project, RESOURCE_PROJECT, &out->project))
                        return bad_value(loader, at, text, selector,
                                "`*` may only stand alone or at the end of a part");
        }
        if (!pattern_parse(name, (int)kind, &out->name))
                return bad_value(loader, at, text, selector,
                        "`*` may only stand alone or at the end; write the values one by one");
        if (pattern_any(&out->name))
                return true;
        if (kind != RESOURCE_REF && str_find(name, '/') >= 0)
                return bad_value(loader, at, text, selector, "a name has no `/`");
        if (kind == RESOURCE_REF && !str_starts(name, STR("refs/")))
                return bad_value(loader, at, text, selector,
                        "a ref is written in full: refs/heads/main, refs/tags/v1, refs/heads/*");
        if (goes_by_number(kind) && !str_to_u64(name, &number))
                return bad_value(loader, at, text, selector, "these are known by number, or `*`");
        if (out->name.id && odd_number(name))
                return bad_value(loader, at, text, selector, "a number has no leading zero");
        return true;
}

bool selector_read(struct loader *loader, const struct yaml_node *node, enum resource_kind kind,
        struct selector *out)
{
        struct names names;
        struct mark *marks;
        bool good = true;

        *out = (struct selector){.kind = kind};
        if (!names_read(loader, node, resource_kind_selector(kind), &names, &marks) ||
                !groups_expand(loader, &names, &marks))
                return false;
        out->shown = names.shown;
        out->values = keep(loader, names.n * sizeof(*out->values));
        for (size_t i = 0; i < names.n; i++)
                if (!value_read(loader, kind, names.items[i], marks[i], &out->values[out->n++]))
                        good = false;
        return good;
}

static bool methods_read(struct loader *loader, const struct yaml_node *node, struct entry *entry)
{
        struct mark *marks;
        bool good = true;

        if (!names_read(loader, node, "method", &entry->methods, &marks))
                return false;
        for (size_t i = 0; i < entry->methods.n; i++) {
                bool known = false;
                for (size_t k = 0; k < N_METHODS; k++)
                        known |= str_eq(method_names[k], entry->methods.items[i]);
                if (known)
                        continue;
                error_list_add(loader->errors, marks[i], "no method `%s`%s",
                        yaml_shown(entry->methods.items[i]),
                        error_did_you_mean(
                                str_head(entry->methods.items[i], 100), method_names, N_METHODS));
                good = false;
        }
        return good;
}

static bool paths_read(struct loader *loader, const struct yaml_node *node, struct entry *entry)
{
        struct names names;
        struct mark *marks;
        bool good = true;

        if (!names_read(loader, node, "path", &names, &marks))
                return false;
        entry->paths_shown = names.shown;
        entry->paths = keep(loader, names.n * sizeof(*entry->paths));
        for (size_t i = 0; i < names.n; i++) {
                struct path_pattern *path = &entry->paths[entry->n_paths++];
                if (str_find(names.items[i], '?') >= 0 || str_find(names.items[i], '#') >= 0)
                        good = bad_value(loader, marks[i], names.items[i], "path",
                                "a path pattern has no query");
                else if (!path_pattern_parse(&loader->policy->arena, names.items[i], path))
                        good = bad_value(loader, marks[i], names.items[i], "path",
                                "begins with `/`; a segment is text, `text*` or `*`; the last one "
                                "may be `**`");
        }
        return good;
}

static int kind_named(struct str key)
{
        for (int kind = 0; kind < RESOURCE_KINDS; kind++)
                if (str_eq(key, str_of(resource_kind_selector((enum resource_kind)kind))))
                        return kind;
        return -1;
}

static int choice_named(struct str key)
{
        for (int choice = 0; choice < CHOICES; choice++)
                if (str_eq(key, str_of(choice_name((enum choice)choice))))
                        return choice;
        return -1;
}

static bool unknown_selector(struct loader *loader, const struct yaml_node *key)
{
        struct str names[CHOICES + RESOURCE_KINDS + 4];
        size_t n = 0;

        for (int i = 0; i < CHOICES; i++)
                names[n++] = str_of(choice_name((enum choice)i));
        for (int i = 0; i < RESOURCE_KINDS; i++)
                names[n++] = str_of(resource_kind_selector((enum resource_kind)i));
        names[n++] = STR("method");
        names[n++] = STR("path");
        names[n++] = STR("where");
        names[n++] = STR("claimed");
        error_list_add(loader->errors, key->at, "no selector `%s`%s", yaml_shown(key->text),
                error_did_you_mean(str_head(key->text, 100), names, n));
        return false;
}

static bool key_read(struct loader *loader, const struct yaml_entry *pair, struct entry *entry)
{
        struct str key = pair->key->text;
        int choice = choice_named(key), kind = kind_named(key);

        if (choice >= 0)
                return choice_read(loader, pair->value, (enum choice)choice, entry->effect, entry);
        if (kind >= 0)
                return selector_read(loader, pair->value, (enum resource_kind)kind,
                        &entry->selectors[entry->n_selectors++]);
        if (str_eq(key, STR("method")))
                return methods_read(loader, pair->value, entry);
        if (str_eq(key, STR("path")))
                return paths_read(loader, pair->value, entry);
        if (str_eq(key, STR("where")))
                return where_read(loader, pair->value, entry);
        if (str_eq(key, STR("claimed")))
                return claimed_read(loader, pair->value, entry);
        return unknown_selector(loader, pair->key);
}

static bool chooses(const struct entry *entry)
{
        for (int i = 0; i < CHOICES; i++)
                if (entry->choices[i].n)
                        return true;
        return false;
}

/* What an entry without choosing selectors is about. */
static void set_all(struct entry *entry)
{
        size_t n;
        const struct operation *all = catalogue_all(&n);
        bool deny = entry->effect == EFFECT_DENY;

        for (size_t i = 0; i < n; i++)
                if (deny || !operation_by_name_only(&all[i]))
                        operation_set_add(entry->set, all[i].index);
        if (deny || (entry->methods.n && entry->n_paths))
                operation_set_add(entry->set, UNKNOWN_OPERATION);
}

/* Whether everything that the entry's set holds of git over HTTP is about fetching. */
static bool only_fetches(const struct entry *entry)
{
        struct operation_set fetch = {0};
        bool any = false;
        size_t n;
        const struct operation *all = catalogue_all(&n);

        (void)catalogue_alias(STR("git.fetch"), &fetch);
        for (size_t i = 0; i < n; i++) {
                if (!operation_set_has(entry->set, all[i].index))
                        continue;
                if (!operation_set_has(&fetch, all[i].index))
                        return false;
                any = true;
        }
        return any;
}

static void warn_git_refs(struct loader *loader, const struct yaml_node *node, struct entry *entry)
{
        const struct yaml_entry *refs = yaml_entry_of(node, STR("refs"));

        if (refs && only_fetches(entry))
                error_list_warn(loader->errors, refs->key->at,
                        "a fetch reads what is reachable from any ref: `refs` does not limit it%s",
                        entry->effect == EFFECT_ALLOW ? "" : ", and this entry denies nothing");
}

bool entry_read(
        struct loader *loader, const struct yaml_node *node, enum effect effect, struct entry *out)
{
        bool good = true;
        const char *what = effect == EFFECT_ALLOW ? "an `allow` entry" : "a `deny` entry";

        *out = (struct entry){.effect = effect};
        if (!yaml_is_mapping(node, what, loader->errors))
                return false;
        out->rule = keep_place(loader, node->at);
        out->column = node->at.column;
        out->selectors = keep(loader, (node->n + 1) * sizeof(*out->selectors));
        out->set = malloc(sizeof(*out->set));
        if (!out->set)
                abort();
        memset(out->set, 0xff, sizeof(*out->set));
        for (size_t i = 0; i < node->n; i++)
                good &= key_read(loader, &node->entries[i], out);
        if (!node->n) {
                error_list_add(loader->errors, node->at,
                        "%s without selectors; for everything write operations: [\"*\"]", what);
                good = false;
        } else if (good && effect == EFFECT_ALLOW && !chooses(out) && !out->n_paths) {
                error_list_add(loader->errors, node->at,
                        "%s needs one of `operations`, `access`, `scopes`, `areas` or `path`",
                        what);
                good = false;
        }
        if (!chooses(out)) {
                memset(out->set, 0, sizeof(*out->set));
                set_all(out);
        }
        if (good)
                warn_git_refs(loader, node, out);
        return good && where_fits(loader, node, out);
}
