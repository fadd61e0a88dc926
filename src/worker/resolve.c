/*
 * resolve: a denial that hinges on what a name or an id is, is not one yet.
 *
 * The policy says which kinds of resource it is in doubt about. What the request names of those, or
 * of others that they follow from (its pipeline from its build), is looked up: in the directory, or
 * upstream with the credential of the binding whose rule is in doubt. A request that is allowed as
 * it stands, or denied whatever its names mean, asks nobody. Nor does one whose binding lends each
 * caller's own credential: what one caller may see there says nothing about another.
 */
#include "dagward/azdo/batch.h"
#include "dagward/azdo/conclude.h"
#include "inside.h"

/* All work items of one request, and what else it names. */
enum { ASKS_MOST = WORK_ITEMS_MOST + 8 };

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
        const struct identity *identity;
};

static bool is_same_answer(const struct name_used *used, const struct name_question *question,
        const struct identity *identity)
{
        return used->question.kind == question->kind &&
               used->question.service == question->service &&
               used->question.credential == question->credential &&
               str_eq_fold(used->question.path, question->path) &&
               identity_eq(used->identity, identity);
}

/* Notes it; the copy that the exchange keeps, or NULL. There is one of each, however often it is
 * decided: the parts of a batch are looked at anew with every name that was waited for. */
static const struct identity *note_used(
        struct exchange *x, const struct name_question *question, const struct identity *identity)
{
        for (struct name_used *used = x->names_used; used; used = used->next)
                if (is_same_answer(used, question, identity))
                        return used->identity;
        struct name_used *used = arena_alloc(&x->arena, sizeof(*used));
        struct str path = arena_copy(&x->arena, question->path);
        const struct identity *kept = identity_keep(identity, &x->arena);
        if (!used || !path.ptr || !kept)
                return NULL;
        *used = (struct name_used){x->names_used, *question, kept};
        used->question.value = STR_NONE; /* it may live shorter, and is not what finds the answer */
        used->question.path = path;
        x->names_used = used;
        return kept;
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
        if (conclude_is_elsewhere(&named->resources, item, identity))
                return refuse(x, 400, REFUSED_MALFORMED,
                        "the %s does not belong to the project that the request names",
                        resource_kind_name(item->kind));
        item->known = note_used(x, &question, identity);
        if (item->known) {
                pin(named, item);
                *learnt = true;
        }
        return NEXT;
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
        if (!doubts || !credential_find(x->worker->lease->world->credentials, credential, &index) ||
                lend_is_callers(x->worker->lease->world, index))
                return NEXT;
        for (size_t i = 0; i < resources->n; i++) {
                struct resource *item = &resources->items[i];
                if (!conclude_helps(named->op, resources, doubts, item))
                        continue;
                enum next next = look_up(x, named, item, index, learnt);
                if (next != NEXT)
                        return next;
        }
        if (*learnt)
                conclude(named->op, resources, doubts, &x->arena);
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
                !credential_find(x->worker->lease->world->credentials, credential, &index) ||
                lend_is_callers(x->worker->lease->world, index))
                return false;
        for (size_t i = 0; i < named->resources.n; i++) {
                const struct resource *item = &named->resources.items[i];
                buf_init_fixed(&path, memory, sizeof(memory));
                if (conclude_helps(named->op, &named->resources, doubts, item) &&
                        write_question(x, named, item, index, &path, &question) &&
                        directory_find(x->worker->directory, &question, x->worker->now_ms,
                                &identity) != DIRECTORY_NOBODY)
                        return true;
        }
        return false;
}

/* --- what becomes of it --- */

/* Whether a work item is put into another project, or may be by a part of a batch. */
static bool moves_work_items(const struct named *named)
{
        const struct facts *facts = named->facts;

        for (size_t i = 0; facts && i < facts->n; i++)
                if (str_eq_fold(facts->items[i].key, STR("System.TeamProject")))
                        return true;
        return operation_is_batch(named->op);
}

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
        if (status >= 200 && status < 300 &&
                (changes_names(x->named.op) || moves_work_items(&x->named))) {
                directory_clear(x->worker->directory);
                ask_forget_names(x->worker);
        }
        /* It may be there no more: whoever comes next should not be told from memory. */
        for (struct name_used *used = x->names_used; status == 404 && used; used = used->next)
                directory_tell(x->worker->directory, &used->question, DIRECTORY_ASK, NULL, 0);
}
