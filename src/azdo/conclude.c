#include "dagward/azdo/conclude.h"

#include <string.h>

static bool is_doubted(unsigned doubts, enum resource_kind kind)
{
        return doubts >> kind & 1;
}

/* Whether the kind is in doubt because it follows from others. */
static bool follows(const struct operation *op, const struct resources *resources, unsigned doubts,
        enum resource_kind kind)
{
        if (!is_doubted(doubts, kind) || !resources->unresolved[kind] ||
                !(resources->implied >> kind & 1))
                return false;
        /* Beside a project that the path may leave out; not where anything at all may be meant. */
        return kind != RESOURCE_PROJECT || strstr(op->path, "{project}");
}

/* Whether something may follow from items of the kind: upstream looks at them. */
static bool is_looked_at(const struct resources *resources, enum resource_kind kind)
{
        return !(resources->aside >> kind & 1);
}

bool conclude_helps(const struct operation *op, const struct resources *resources, unsigned doubts,
        const struct resource *item)
{
        if (item->known || !identity_kind(item->kind))
                return false;
        if (is_doubted(doubts, item->kind))
                return true;
        if (!is_looked_at(resources, item->kind))
                return false;
        if (item->kind == RESOURCE_BUILD && (follows(op, resources, doubts, RESOURCE_PIPELINE) ||
                                                    follows(op, resources, doubts, RESOURCE_REF)))
                return true;
        return item->kind != RESOURCE_PROJECT && follows(op, resources, doubts, RESOURCE_PROJECT);
}

bool conclude_is_elsewhere(const struct resources *resources, const struct resource *item,
        const struct identity *identity)
{
        bool named_any = false;

        /* A work item may be about to move, and a repository to be taken from: each of the projects
         * counts. */
        if (item->kind == RESOURCE_WORK_ITEM ||
                (item->kind == RESOURCE_REPOSITORY && item->beside_path))
                return false;
        for (size_t i = 0; i < resources->n; i++) {
                const struct resource *one = &resources->items[i];
                if (one->kind != RESOURCE_PROJECT)
                        continue;
                if (identity_is_project(identity, one->value) ||
                        (one->known && str_eq_fold(one->known->id, identity->project_id)))
                        return false;
                named_any = true;
        }
        return named_any && identity->project_id.len;
}

/* An identity of its own for what one says about another. */
static bool add_other(struct resources *resources, struct arena *arena, enum resource_kind kind,
        const struct identity *other)
{
        const struct identity *kept = identity_keep(other, arena);

        return kept && resources_add(resources, kind, kept->id, kept);
}

/* The pipeline of a build. */
static bool add_pipeline(
        struct resources *resources, struct arena *arena, const struct identity *build)
{
        const struct identity pipeline = {.id = build->pipeline_id,
                .name = build->pipeline_name,
                .path = build->pipeline_path,
                .project_id = build->project_id,
                .project_name = build->project_name};

        return add_other(resources, arena, RESOURCE_PIPELINE, &pipeline);
}

static void from_builds(struct resources *resources, struct arena *arena, enum resource_kind kind)
{
        size_t n = resources->n, builds = 0;

        if (!is_looked_at(resources, RESOURCE_BUILD))
                return;
        for (size_t i = 0; i < n; i++) {
                const struct identity *known = resources->items[i].known;
                if (resources->items[i].kind != RESOURCE_BUILD)
                        continue;
                builds++;
                if (!known || !(kind == RESOURCE_REF ? known->ref : known->pipeline_id).len)
                        return;
        }
        for (size_t i = 0; i < n; i++) {
                const struct identity *known = resources->items[i].known;
                if (resources->items[i].kind != RESOURCE_BUILD)
                        continue;
                if (kind == RESOURCE_REF ? !resources_add(resources, kind, known->ref, NULL)
                                         : !add_pipeline(resources, arena, known))
                        return;
        }
        resources->unresolved[kind] = resources->unresolved[kind] && !builds;
}

static bool add_project(struct resources *resources, struct arena *arena, const struct identity *of)
{
        const struct identity project = {.id = of->project_id, .name = of->project_name};

        if (project.id.len)
                return add_other(resources, arena, RESOURCE_PROJECT, &project);
        /* Only its name: whoever has a rule by id asks on. */
        return of->project_name.len &&
               resources_add(resources, RESOURCE_PROJECT, of->project_name, NULL);
}

static void project(struct resources *resources, struct arena *arena)
{
        size_t n = resources->n, found = 0;

        for (size_t i = 0; i < n; i++) {
                const struct resource *item = &resources->items[i];
                if (item->kind == RESOURCE_PROJECT || !identity_kind(item->kind) ||
                        !is_looked_at(resources, item->kind))
                        continue;
                if (!item->known || !add_project(resources, arena, item->known))
                        return;
                found++;
        }
        resources->unresolved[RESOURCE_PROJECT] = !found;
}

void conclude(const struct operation *op, struct resources *resources, unsigned doubts,
        struct arena *arena)
{
        if (follows(op, resources, doubts, RESOURCE_PIPELINE))
                from_builds(resources, arena, RESOURCE_PIPELINE);
        if (follows(op, resources, doubts, RESOURCE_REF))
                from_builds(resources, arena, RESOURCE_REF);
        if (follows(op, resources, doubts, RESOURCE_PROJECT))
                project(resources, arena);
}
