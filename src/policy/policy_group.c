/*
 * Groups: lists of resources under a name, for selectors that write `group:NAME`. No resource of
 * Azure DevOps has a colon in its name, so that the two cannot be taken for each other.
 */
#include <stdlib.h>

#include "policy_internal.h"

#define PREFIX "group:"

struct group {
        struct str name;
        struct mark at; /* the file's name is kept */
        struct str *items;
        size_t n;
        bool used;
};

static struct group *group_named(struct loader *loader, struct str name)
{
        for (size_t i = 0; i < loader->n_groups; i++)
                if (str_eq(loader->groups[i].name, name))
                        return &loader->groups[i];
        return NULL;
}

static void group_read(struct loader *loader, const struct yaml_entry *pair)
{
        struct str name = pair->key->text;
        const struct group *before = group_named(loader, name);
        struct names names;

        if (before) {
                error_list_add(loader->errors, pair->key->at,
                        "group `%s` is already defined at %s:%u", yaml_shown(name), before->at.file,
                        before->at.line);
                return;
        }
        if (!name_ok(loader, name, pair->key->at, "the group's name") ||
                !names_read(loader, pair->value, "groups", &names, NULL))
                return;
        for (size_t i = 0; i < names.n; i++)
                if (str_starts(names.items[i], STR(PREFIX)))
                        error_list_add(loader->errors, pair->value->at,
                                "a group holds resources, no other groups: `%s`",
                                yaml_shown(names.items[i]));
        loader->groups =
                grow(loader->groups, loader->n_groups, &loader->cap_groups, sizeof(struct group));
        loader->groups[loader->n_groups++] = (struct group){.name = keep_str(loader, name),
                .at = keep_mark(loader, pair->key->at),
                .items = names.items,
                .n = names.n};
}

void groups_read(struct loader *loader, struct yaml_document *doc)
{
        const struct yaml_node *groups = yaml_get(doc->root, "groups");

        loader->doc = doc;
        if (!groups || !yaml_is_mapping(groups, "`groups`", loader->errors))
                return;
        for (size_t i = 0; i < groups->n; i++)
                group_read(loader, &groups->entries[i]);
}

static void report_unknown(struct loader *loader, struct str name, struct mark at)
{
        struct str *names = calloc(loader->n_groups + 1, sizeof(*names));

        if (!names)
                abort();
        for (size_t i = 0; i < loader->n_groups; i++)
                names[i] = loader->groups[i].name;
        error_list_add(loader->errors, at, "no group `%s`%s", yaml_shown(name),
                error_did_you_mean(str_head(name, 100), names, loader->n_groups));
        free(names);
}

bool groups_expand(struct loader *loader, struct names *names, struct mark **marks)
{
        size_t n = 0, filled = 0;
        bool good = true, any = false;

        for (size_t i = 0; i < names->n; i++) {
                if (!str_starts(names->items[i], STR(PREFIX))) {
                        n++;
                        continue;
                }
                struct str name = str_from(names->items[i], sizeof(PREFIX) - 1);
                struct group *group = group_named(loader, name);
                any = true;
                if (!group) {
                        report_unknown(loader, name, (*marks)[i]);
                        good = false;
                        continue;
                }
                group->used = true;
                n += group->n;
        }
        if (!good)
                return false;
        if (!any)
                return true;
        loader->n_grouped += n;
        struct mark *places = loader->n_grouped > POLICY_MOST_GROUPED
                                      ? NULL
                                      : arena_alloc(&loader->doc->arena, (n + 1) * sizeof(*places));
        if (!places) {
                error_list_add(loader->errors, (*marks)[0],
                        "the selectors that name groups have more than %d values in all",
                        POLICY_MOST_GROUPED);
                return false;
        }
        struct str *items = keep(loader, n * sizeof(*items));
        for (size_t i = 0; i < names->n; i++) {
                struct group *group = NULL;
                if (str_starts(names->items[i], STR(PREFIX)))
                        group = group_named(loader, str_from(names->items[i], sizeof(PREFIX) - 1));
                for (size_t k = 0; k < (group ? group->n : 1); k++, filled++) {
                        items[filled] = group ? group->items[k] : names->items[i];
                        places[filled] = (*marks)[i];
                }
        }
        names->items = items;
        names->n = n;
        names->shown = keep_shown(loader, items, n);
        *marks = places;
        return true;
}

void groups_review(struct loader *loader)
{
        for (size_t i = 0; i < loader->n_groups; i++)
                if (!loader->groups[i].used)
                        error_list_warn(loader->errors, loader->groups[i].at,
                                "no selector uses the group `%s`",
                                yaml_shown(loader->groups[i].name));
        free(loader->groups);
}
