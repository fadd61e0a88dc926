/*
 * resolve: a denial that hinges on what a name or an id is, is not one yet.
 *
 * The policy says which kinds of resource it is in doubt about. What the request names of those, or
 * of others that they follow from (its pipeline from its build), is looked up: in the directory, or
 * upstream with the credential of the binding whose rule is in doubt. A request that is allowed as
 * it stands, or denied whatever its names mean, asks nobody.
 */
#include "inside.h"

enum { ASKS_MOST = 32 };

static bool is_doubted(unsigned doubts, enum resource_kind kind)
{
        return doubts >> kind & 1;
}

/* Whether the kind is in doubt because it follows from others. */
static bool follows(const struct named *named, unsigned doubts, enum resource_kind kind)
{
        if (!is_doubted(doubts, kind) || !named->resources.unresolved[kind] ||
                !(named->resources.implied >> kind & 1))
                return false;
        /* Beside a project that the path may leave out; not where anything at all may be meant. */
        return kind != RESOURCE_PROJECT || strstr(named->op->path, "{project}");
}

/* Whether something may follow from items of the kind: upstream looks at them. */
static bool is_looked_at(const struct resources *resources, enum resource_kind kind)
{
        return !(resources->aside >> kind & 1);
}

/* Whether knowing more of `item` helps. */
static bool helps(const struct named *named, unsigned doubts, const struct resource *item)
{
        if (item->known || !identity_kind(item->kind))
                return false;
        if (is_doubted(doubts, item->kind))
                return true;
        if (!is_looked_at(&named->resources, item->kind))
                return false;
        if (item->kind == RESOURCE_BUILD &&
                (follows(named, doubts, RESOURCE_PIPELINE) || follows(named, doubts, RESOURCE_REF)))
                return true;
        return item->kind != RESOURCE_PROJECT && follows(named, doubts, RESOURCE_PROJECT);
}

/* Writes the question about `item`; false when there is no way to ask it. */
static bool write_question(struct exchange *x, const struct named *named,
        const struct resource *item, unsigned credential, struct buf *memory,
        struct name_question *out)
{
        struct str project = resources_first(&named->resources, RESOURCE_PROJECT);

        *out = (struct name_question){
                .kind = item->kind, .value = item->value, .credential = credential};
        if (!identity_question(
                    item->kind, x->named.organization, project, item->value, memory, &out->service))
                return false;
        out->path = buf_str(memory);
        return true;
}

/* A request whose parts say that it is in one project and in another. */
static bool is_elsewhere(const struct named *named, const struct identity *identity)
{
        const struct resources *resources = &named->resources;
        bool named_any = false;

        for (size_t i = 0; i < resources->n; i++) {
                const struct resource *item = &resources->items[i];
                if (item->kind != RESOURCE_PROJECT)
                        continue;
                if (identity_is_project(identity, item->value) ||
                        (item->known && str_eq_fold(item->known->id, identity->project_id)))
                        return false;
                named_any = true;
        }
        return named_any && identity->project_id.len;
}

static enum next ask_again_later(struct exchange *x, const struct resource *item)
{
        x->refusal.retry_after_s = 2;
        return refuse(x, 503, REFUSED_UPSTREAM,
                "whether you may do this depends on which %s is meant, and Azure DevOps could not "
                "be asked; try again",
                resource_kind_name(item->kind));
}

/* A name of the path, judged by its id, leaves as that id: were it given to another one meanwhile,
 * this request would not follow it there. */
static void pin(struct named *named, const struct resource *item)
{
        struct route *route = &named->route;
        bool pinned = item->kind == RESOURCE_PROJECT || item->kind == RESOURCE_REPOSITORY;

        if (!pinned || guid_valid(item->value))
                return;
        for (size_t i = 0; i < route->n_params; i++) {
                const struct pair *param = &route->params[i];
                /* A repository of its project's name gives that too, but is not its place. */
                if (param->value.ptr != item->value.ptr ||
                        !str_starts_fold(param->name, str_of(resource_kind_name(item->kind))))
                        continue;
                for (size_t k = 0; k < route->n_segments; k++)
                        if (route->segments[k].ptr == param->value.ptr)
                                route->segments[k] = item->known->id;
        }
}

/* An answer of the directory that a decision was made with. */
struct name_used {
        struct name_used *next;
        struct name_question question;
};

static bool note_used(struct exchange *x, const struct name_question *question)
{
        struct name_used *used = arena_alloc(&x->arena, sizeof(*used));

        if (!used)
                return false;
        *used = (struct name_used){.next = x->names_used, .question = *question};
        used->question.value = STR_NONE; /* it may live shorter, and is not what finds the answer */
        used->question.path = arena_copy(&x->arena, question->path);
        x->names_used = used;
        return used->question.path.ptr != NULL;
}

/* Learns about one resource. */
static enum next look_up(struct exchange *x, struct named *named, struct resource *item,
        unsigned credential, bool *learnt)
{
        const struct identity *identity = NULL;
        char memory[IDENTITY_QUESTION_MOST_BYTES];
        struct name_question question;
        struct buf path;

        buf_init_fixed(&path, memory, sizeof(memory));
        if (!write_question(x, named, item, credential, &path, &question))
                return NEXT;
        switch (directory_find(x->worker->directory, &question, x->worker->now_ms, &identity)) {
        case DIRECTORY_KNOWN: break;
        case DIRECTORY_NOBODY: return NEXT;
        case DIRECTORY_FAILED: return ask_again_later(x, item);
        case DIRECTORY_ASK: return x->names_asked++ < ASKS_MOST ? ask_name(x, &question) : NEXT;
        }
        if (is_elsewhere(named, identity))
                return refuse(x, 400, REFUSED_MALFORMED,
                        "the %s does not belong to the project that the request names",
                        resource_kind_name(item->kind));
        item->known = identity_keep(identity, &x->arena);
        if (item->known && note_used(x, &question)) {
                pin(named, item);
                *learnt = true;
        }
        return NEXT;
}

/* --- what follows from what is known now --- */

/* An identity of its own for what one says about another. */
static bool add_other(struct exchange *x, struct named *named, enum resource_kind kind,
        struct str id, struct str name, struct str path)
{
        struct identity other = {.id = id, .name = name, .path = path};
        const struct identity *kept = identity_keep(&other, &x->arena);

        return kept && resources_add(&named->resources, kind, kept->id, kept);
}

static void conclude_from_builds(struct exchange *x, struct named *named, enum resource_kind kind)
{
        struct resources *resources = &named->resources;
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
                                         : !add_other(x, named, kind, known->pipeline_id,
                                                   known->pipeline_name, known->pipeline_path))
                        return;
        }
        resources->unresolved[kind] = resources->unresolved[kind] && !builds;
}

static void conclude_project(struct exchange *x, struct named *named)
{
        struct resources *resources = &named->resources;
        size_t n = resources->n, found = 0;

        for (size_t i = 0; i < n; i++) {
                const struct resource *item = &resources->items[i];
                if (item->kind == RESOURCE_PROJECT || !identity_kind(item->kind) ||
                        !is_looked_at(resources, item->kind))
                        continue;
                if (!item->known || !item->known->project_id.len ||
                        !add_other(x, named, RESOURCE_PROJECT, item->known->project_id,
                                item->known->project_name, STR_NONE))
                        return;
                found++;
        }
        resources->unresolved[RESOURCE_PROJECT] = !found;
}

enum next resolve(struct exchange *x, struct named *named, struct str method, bool *learnt)
{
        struct resources *resources = &named->resources;
        struct str credential = STR_NONE;
        unsigned index, doubts;

        *learnt = false;
        if (x->world->config->upstream.names == NAMES_LITERAL || !organization_is_served(x))
                return NEXT;
        struct policy_request request = exchange_question(x, named, method);
        /* Glass would be broken: whether it has to be. */
        if (x->decision.breaks_glass)
                request.reason_chars = 0;
        doubts = policy_doubts(x->world->policy, x->grants, &request, &credential);
        /* The newest world's, as control understands it. */
        if (!doubts || !credential_find(x->worker->lease->world->credentials, credential, &index))
                return NEXT;
        for (size_t i = 0; i < resources->n; i++) {
                struct resource *item = &resources->items[i];
                if (!helps(named, doubts, item))
                        continue;
                enum next next = look_up(x, named, item, index, learnt);
                if (next != NEXT)
                        return next;
        }
        if (*learnt && follows(named, doubts, RESOURCE_PIPELINE))
                conclude_from_builds(x, named, RESOURCE_PIPELINE);
        if (*learnt && follows(named, doubts, RESOURCE_REF))
                conclude_from_builds(x, named, RESOURCE_REF);
        if (*learnt && follows(named, doubts, RESOURCE_PROJECT))
                conclude_project(x, named);
        return NEXT;
}

bool resolve_is_open(
        struct exchange *x, const struct named *named, unsigned doubts, struct str credential)
{
        const struct identity *identity;
        char memory[IDENTITY_QUESTION_MOST_BYTES];
        struct name_question question;
        struct buf path;
        unsigned index;

        if (x->world->config->upstream.names == NAMES_LITERAL || !organization_is_served(x) ||
                !credential_find(x->worker->lease->world->credentials, credential, &index))
                return false;
        for (size_t i = 0; i < named->resources.n; i++) {
                const struct resource *item = &named->resources.items[i];
                buf_init_fixed(&path, memory, sizeof(memory));
                if (helps(named, doubts, item) &&
                        write_question(x, named, item, index, &path, &question) &&
                        directory_find(x->worker->directory, &question, x->worker->now_ms,
                                &identity) != DIRECTORY_NOBODY)
                        return true;
        }
        return false;
}

/* --- what becomes of it --- */

/* Whether the operation, done, makes a name mean something else. */
static bool changes_names(const struct operation *op)
{
        static const char *const which[] = {"core.projects.", "core.teams.", "git.repositories.",
                "build.definitions.", "build.folders.", "artifacts.feedManagement.",
                "artifacts.feedRecycleBin.", "environments.environments.",
                "distributedTask.environments."};

        for (size_t i = 0; op->access != ACCESS_READ && i < sizeof(which) / sizeof(which[0]); i++)
                if (str_starts_fold(str_of(op->id), str_of(which[i])))
                        return true;
        return false;
}

void resolve_judge_answer(struct exchange *x)
{
        int status = x->response.status;

        if (!x->named.op)
                return;
        if (status >= 200 && status < 300 && changes_names(x->named.op)) {
                directory_clear(x->worker->directory);
                ask_forget_names(x->worker);
        }
        /* It may be there no more: whoever comes next should not be told from memory. */
        for (struct name_used *used = x->names_used; status == 404 && used; used = used->next)
                directory_tell(x->worker->directory, &used->question, DIRECTORY_ASK, NULL, 0);
}
