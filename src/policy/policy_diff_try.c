/* The requests that policy diff tries: every combination of what the entries in play name. */
#include "dagward/azdo/example.h"
#include "policy_diff_internal.h"

/* --- dimensions --- */

static void add_spoken(struct diffing *d, struct dimension *dim, struct str key, struct str value)
{
        for (size_t i = 0; i < dim->n; i++)
                if (str_eq(dim->values[i].key, key) && str_eq(dim->values[i].value, value) &&
                        !dim->values[i].value.ptr == !value.ptr)
                        return;
        if (dim->n >= MOST_SPOKEN && !d->adding_others) {
                d->cut = true;
                return;
        }
        dim->values = grow(dim->values, dim->n, &dim->cap, sizeof(*dim->values));
        dim->values[dim->n++] = (struct spoken){key, value, 0};
}

/* The literal, or something that the pattern matches. */
static struct str sample_of(struct diffing *d, const struct pattern *pattern)
{
        if (!pattern->prefix)
                return pattern->text;
        struct str sample = arena_printf(&d->kept, "%.*s%s", STR_FMT(pattern->text), d->rest);
        (void)must((void *)sample.ptr);
        return sample;
}

static struct dimension *add_dimension(struct diffing *d, int of, unsigned kind, struct str name)
{
        for (size_t i = 0; i < d->n_dims; i++) {
                struct dimension *dim = &d->dims[i];
                if ((int)dim->of == of && dim->kind == kind && str_eq(dim->name, name))
                        return dim;
        }
        if (d->n_dims == MOST_DIMENSIONS)
                return NULL;
        struct dimension *dim = &d->dims[d->n_dims++];
        struct spoken *values = dim->values;
        size_t cap = dim->cap;
        *dim = (struct dimension){.kind = kind, .name = name, .values = values, .cap = cap};
        dim->of = of == OF_RESOURCE ? OF_RESOURCE
                  : of == OF_FACT   ? OF_FACT
                  : of == OF_CLAIM  ? OF_CLAIM
                                    : OF_TIME;
        return dim;
}

static bool is_push(const struct operation *op)
{
        return op && (str_eq(str_of(op->id), STR("gitHttp.pack.push")) ||
                             str_eq(str_of(op->part_of), STR("gitHttp.pack.push")));
}

static enum takes takes(const struct operation *op, enum resource_kind kind)
{
        /* Refs come in the pack, not in the URL. */
        if (is_push(op) && kind == RESOURCE_REF)
                return TAKES_ALWAYS;
        return operation_takes(*op->part_of ? catalogue_find(str_of(op->part_of)) : op, kind);
}

bool diff_hinges(const struct operation *op, const struct entry *entry, unsigned doubts)
{
        for (size_t i = 0; i < entry->n_selectors; i++) {
                const struct selector *selector = &entry->selectors[i];
                bool numbered = selector->kind == RESOURCE_PIPELINE ||
                                selector->kind == RESOURCE_ENVIRONMENT;
                if (!(doubts >> selector->kind & 1))
                        continue;
                if (takes(op, selector->kind) == TAKES_NONE)
                        return true;
                for (size_t v = 0; numbered && v < selector->n; v++)
                        if (!selector->values[v].name.id && !pattern_any(&selector->values[v].name))
                                return true;
        }
        return false;
}

static void add_resource_values(
        struct diffing *d, const struct operation *op, const struct selector *selector)
{
        struct dimension *projects = NULL, *dim = NULL;

        if (takes(op, selector->kind) != TAKES_NONE)
                dim = add_dimension(d, OF_RESOURCE, selector->kind, STR_NONE);
        for (size_t v = 0; v < selector->n; v++) {
                const struct value *value = &selector->values[v];
                if (dim && !pattern_any(&value->name))
                        add_spoken(d, dim, STR_NONE, sample_of(d, &value->name));
                if (!value->has_project || takes(op, RESOURCE_PROJECT) == TAKES_NONE)
                        continue;
                projects = add_dimension(d, OF_RESOURCE, RESOURCE_PROJECT, STR_NONE);
                if (projects && !pattern_any(&value->project))
                        add_spoken(d, projects, STR_NONE, sample_of(d, &value->project));
        }
}

static void add_fact_values(
        struct diffing *d, const struct operation *op, const struct condition *condition)
{
        size_t n;

        if (!operation_has_fact(op, condition->fact))
                return;
        struct dimension *dim = add_dimension(d, OF_FACT, condition->fact, STR_NONE);
        for (size_t i = 0; dim && i < condition->n; i++) {
                const struct keyed_values *keyed = &condition->keys[i];
                struct str key = sample_of(d, &keyed->key);
                for (size_t v = 0; v < keyed->n; v++)
                        add_spoken(d, dim, key, sample_of(d, &keyed->values[v]));
                add_spoken(d, dim, key, str_of(d->other));
        }
        if (dim) {
                add_spoken(d, dim, STR("anything"), str_of(d->other));
                add_spoken(d, dim, STR("anything"), STR("true"));
                /* A guarded fact that says no need not be named; a deny may catch it all the same.
                 */
                if (facts_all(&n)[condition->fact].is_guarded)
                        add_spoken(d, dim, STR("anything"), STR("false"));
        }
}

static void add_claim_values(struct diffing *d, const struct claimed *claimed)
{
        struct dimension *dim = add_dimension(d, OF_CLAIM, 0, claimed->name);

        for (size_t v = 0; dim && v < claimed->n; v++)
                add_spoken(d, dim, STR_NONE, sample_of(d, &claimed->values[v]));
        if (dim)
                add_spoken(d, dim, STR_NONE, str_of(d->other));
}

static void add_entry_values(
        struct diffing *d, const struct operation *op, const struct entry *entry)
{
        for (size_t i = 0; i < entry->n_selectors; i++)
                add_resource_values(d, op, &entry->selectors[i]);
        for (size_t i = 0; i < entry->n_conditions; i++)
                add_fact_values(d, op, &entry->conditions[i]);
        for (size_t i = 0; i < entry->n_claimed; i++)
                add_claim_values(d, &entry->claimed[i]);
}

/* A moment for each way in which the windows in play hold or do not. */
void diff_moments(struct diffing *d)
{
        size_t n = 0, most = d->sides[0].n + d->sides[1].n;
        const struct entry **all = must(calloc(most + 1, sizeof(*all)));

        d->n_dims = 0;
        for (int s = 0; s < 2; s++)
                for (size_t i = 0; i < d->sides[s].n; i++)
                        all[n++] = d->sides[s].in_play[i];
        int64_t *moments = windows_moments(all, n, &n);
        struct dimension *dim = n ? add_dimension(d, OF_TIME, 0, STR_NONE) : NULL;
        for (size_t i = 0; dim && i < n; i++) {
                dim->values = grow(dim->values, dim->n, &dim->cap, sizeof(*dim->values));
                dim->values[dim->n++] = (struct spoken){.at_ms = moments[i]};
        }
        free(moments);
        free(all);
}

static struct str other_ref(struct diffing *d, const char *of)
{
        struct str ref = arena_printf(&d->kept, "refs/%s/%s", of, d->other);

        (void)must((void *)ref.ptr);
        return ref;
}

/* What nobody names, and nothing at all. */
static void add_others(struct diffing *d, const struct operation *op)
{
        for (size_t i = 0; i < d->n_dims; i++) {
                struct dimension *dim = &d->dims[i];
                if (dim->of == OF_RESOURCE) {
                        if (dim->kind == RESOURCE_REF) {
                                add_spoken(d, dim, STR_NONE, other_ref(d, "heads"));
                                add_spoken(d, dim, STR_NONE, other_ref(d, "tags"));
                        } else {
                                add_spoken(d, dim, STR_NONE, str_of(d->other));
                                add_spoken(d, dim, STR_NONE, STR("2147480001"));
                                add_spoken(d, dim, STR_NONE,
                                        STR("0e15e8e1-5e4e-4e15-8e1e-e15e8e15e8e1"));
                        }
                }
                if (dim->of != OF_TIME &&
                        (dim->of != OF_RESOURCE ||
                                takes(op, (enum resource_kind)dim->kind) == TAKES_MAYBE))
                        add_spoken(d, dim, STR_NONE, STR_NONE);
                dim->at = 0;
        }
}

void diff_dimensions(struct diffing *d, const struct operation *op)
{
        d->cut = false;
        diff_moments(d);
        for (int s = 0; s < 2; s++)
                for (size_t i = 0; i < d->sides[s].n; i++)
                        add_entry_values(d, op, d->sides[s].in_play[i]);
        d->adding_others = true;
        add_others(d, op);
        d->adding_others = false;
}

size_t diff_combinations(const struct diffing *d)
{
        size_t n = 1;

        for (size_t i = 0; i < d->n_dims; i++)
                n = n > SIZE_MAX / 4096 ? SIZE_MAX : n * d->dims[i].n;
        return n;
}

void diff_take(struct diffing *d, size_t which)
{
        for (size_t i = 0; i < d->n_dims; i++) {
                d->dims[i].at = which % d->dims[i].n;
                which /= d->dims[i].n;
        }
}

/* --- one request --- */

/* Work items and builds are taken to be in the project below which they are asked for. */
static void put_into_project(struct diffing *d, struct policy_request *request)
{
        const struct resources *from = request->resources;

        if (!(from->implied >> RESOURCE_PROJECT & 1) ||
                !resources_first(from, RESOURCE_PROJECT).ptr ||
                (!resources_first(from, RESOURCE_WORK_ITEM).ptr &&
                        !resources_first(from, RESOURCE_BUILD).ptr))
                return;
        struct resources *own = must(arena_alloc(&d->scratch, sizeof(*own)));
        *own = *from;
        own->unresolved[RESOURCE_PROJECT] = false;
        request->resources = own;
}

bool diff_spell(struct diffing *d, const struct operation *op, struct policy_question *question,
        struct policy_request *request)
{
        const struct operation *sent = *op->part_of ? catalogue_find(str_of(op->part_of)) : op;
        struct wish wishes[MOST_DIMENSIONS];
        struct pair *claimed = must(arena_alloc(&d->scratch, sizeof(*claimed) * MOST_DIMENSIONS));
        struct example example;
        struct error error;
        struct str ref = STR_NONE;
        size_t n = 0, n_claimed = 0;
        int64_t at_ms = 0;

        for (size_t i = 0; i < d->n_dims; i++) {
                const struct dimension *dim = &d->dims[i];
                const struct spoken *spoken = &dim->values[dim->at];
                if (dim->of == OF_TIME)
                        at_ms = spoken->at_ms;
                else if (dim->of == OF_CLAIM && spoken->value.ptr)
                        claimed[n_claimed++] = (struct pair){dim->name, spoken->value};
                else if (dim->of == OF_RESOURCE && dim->kind == RESOURCE_REF && is_push(op))
                        ref = spoken->value;
                else if (dim->of != OF_CLAIM)
                        wishes[n++] = (struct wish){
                                dim->of == OF_FACT, dim->kind, spoken->key, spoken->value};
        }
        if (!operation_example(sent, wishes, n, &d->scratch, &example))
                return false;
        *question = (struct policy_question){
                example.method, example.url, example.body, claimed, n_claimed, at_ms};
        *request = (struct policy_request){0};
        if (!d->options->namer(d->options->context, question, &d->scratch, request, &error) ||
                request->op != sent)
                return false;
        request->now_ms = at_ms;
        put_into_project(d, request);
        if (is_push(op)) {
                struct resources *own = must(arena_alloc(&d->scratch, sizeof(*own)));
                *own = *request->resources;
                own->unresolved[RESOURCE_REF] = !ref.ptr;
                if (ref.ptr && !resources_add(own, RESOURCE_REF, ref, NULL))
                        return false;
                request->resources = own;
        }
        request->op = op;
        return true;
}

struct str diff_path(struct diffing *d, const struct path_pattern *pattern, bool longer)
{
        struct buf out;

        buf_init(&out, 64 * 1024);
        for (size_t i = 0; i < pattern->n; i++) {
                buf_char(&out, '/');
                buf_str_add(&out, pattern->segments[i].text);
                if (pattern->segments[i].prefix)
                        buf_str_add(&out, str_of(d->rest));
        }
        if (longer)
                buf_printf(&out, "/%s", d->rest);
        if (!out.len)
                buf_char(&out, '/');
        struct str sample = keep_text(&d->kept, buf_str(&out));
        buf_clear(&out);
        return sample;
}
