/* What a change of policy makes possible, and what it stops: by trying it. */
#include "dagward/policy/diff.h"

#include <stdlib.h>

#include "dagward/azdo/example.h"
#include "dagward/base/clock.h"
#include "policy_internal.h"

enum {
        MOST_COMBINATIONS = 20000, /* of one operation for one subject */
        MOST_DIMENSIONS = 40,
        ARENA_BLOCK = 64 * 1024,
        ARENA_CEILING = 256 << 20,
};

/* What a request may have in one place. */
struct dimension {
        enum { OF_RESOURCE, OF_FACT, OF_CLAIM, OF_TIME } of;
        unsigned kind;   /* of resource or fact */
        struct str name; /* of the claim */
        struct spoken {
                struct str key, value; /* value.ptr NULL: nothing */
                int64_t at_ms;         /* of the time */
        } * values;
        size_t n, cap, at;
};

/* One of the two policies, as one subject meets it. */
struct side {
        const struct policy *policy;
        struct policy_grants *grants; /* NULL: the subject is not in it */
        unsigned *texts;              /* by entry: equal numbers, equal entries in either policy */
        const struct entry **in_play; /* for the operation at hand */
        size_t n, cap;
};

/* Changes of one operation that are alike. */
struct alike {
        const struct entry *old, *new_one;
        bool now_allowed;
        struct policy_question example;
        struct str touches;
        size_t n;
};

struct diffing {
        const struct policy_diff_options *options;
        struct policy_diff_counts counts;
        struct side sides[2]; /* old, new */
        struct str subject;
        struct arena scratch; /* of one request */
        struct arena kept;    /* of one operation */
        struct dimension dims[MOST_DIMENSIONS];
        size_t n_dims;
        struct alike *found;
        size_t n_found, cap_found;
};

static void *must(void *memory)
{
        if (!memory)
                abort();
        return memory;
}

static struct str keep_text(struct arena *arena, struct str text)
{
        if (!text.ptr)
                return text;
        struct str copy = arena_copy(arena, text);
        (void)must((void *)copy.ptr);
        return copy;
}

/* --- entries that say the same --- */

struct entry_text {
        char *text;
        unsigned *number;
};

static void add_part(struct buf *out, const char *name, unsigned kind, struct str shown)
{
        buf_printf(out, "\x1f%s %u\x1e", name, kind);
        buf_str_add(out, shown);
}

static char *text_of(const struct entry *entry)
{
        struct buf out;

        buf_init(&out, 64 << 20);
        buf_char(&out, entry->effect == EFFECT_ALLOW ? 'a' : 'd');
        for (unsigned i = 0; i < CHOICES; i++)
                if (entry->choices[i].n)
                        add_part(&out, "choice", i, entry->choices[i].shown);
        if (entry->methods.n)
                add_part(&out, "method", 0, entry->methods.shown);
        if (entry->n_paths)
                add_part(&out, "path", 0, entry->paths_shown);
        for (size_t i = 0; i < entry->n_selectors; i++)
                add_part(&out, "resource", entry->selectors[i].kind, entry->selectors[i].shown);
        for (size_t i = 0; i < entry->n_conditions; i++)
                add_part(&out, "where", entry->conditions[i].fact, entry->conditions[i].shown);
        for (size_t i = 0; i < entry->n_claimed; i++) {
                add_part(&out, "claimed", 0, entry->claimed[i].name);
                buf_str_add(&out, entry->claimed[i].shown);
        }
        if (entry->n_windows)
                add_part(&out, "time", 0, entry->windows_shown);
        char *text = str_dup(buf_str(&out));
        buf_clear(&out);
        return must(text);
}

static int by_text(const void *a, const void *b)
{
        return strcmp(((const struct entry_text *)a)->text, ((const struct entry_text *)b)->text);
}

static void number_texts(struct side sides[2])
{
        size_t n = sides[0].policy->n_entries + sides[1].policy->n_entries, k = 0;
        struct entry_text *all = must(calloc(n + 1, sizeof(*all)));
        unsigned number = 0;

        for (int s = 0; s < 2; s++) {
                const struct policy *policy = sides[s].policy;
                sides[s].texts = must(calloc(policy->n_entries + 1, sizeof(unsigned)));
                for (size_t i = 0; i < policy->n_entries; i++)
                        all[k++] = (struct entry_text){
                                text_of(&policy->entries[i]), &sides[s].texts[i]};
        }
        qsort(all, n, sizeof(*all), by_text);
        for (size_t i = 0; i < n; i++) {
                if (i && strcmp(all[i - 1].text, all[i].text) != 0)
                        number++;
                *all[i].number = number;
        }
        for (size_t i = 0; i < n; i++)
                free(all[i].text);
        free(all);
}

/* --- what is in play for an operation --- */

static void add_in_play(struct side *side, const struct entry *entry)
{
        for (size_t i = 0; i < side->n; i++)
                if (side->in_play[i] == entry)
                        return;
        side->in_play = grow(side->in_play, side->n, &side->cap, sizeof(struct entry *));
        side->in_play[side->n++] = entry;
}

static void put_in_play(struct side *side, unsigned slot)
{
        side->n = 0;
        for (size_t g = 0; side->grants && g < side->grants->n; g++) {
                const struct role *role = side->grants->grants[g].role;
                const struct op_class *class = &role->classes[role->class_of[slot]];
                for (unsigned i = class->start; i < class->end; i++)
                        add_in_play(side, &side->policy->entries[role->list[i]]);
        }
}

static bool all_in(const struct side *part, const struct side *whole)
{
        for (size_t i = 0; i < part->n; i++) {
                unsigned text = part->texts[part->in_play[i] - part->policy->entries];
                bool there = false;
                for (size_t k = 0; k < whole->n && !there; k++)
                        there = whole->texts[whole->in_play[k] - whole->policy->entries] == text;
                if (!there)
                        return false;
        }
        return true;
}

/* --- dimensions --- */

static void add_spoken(struct dimension *dim, struct str key, struct str value)
{
        for (size_t i = 0; i < dim->n; i++)
                if (str_eq(dim->values[i].key, key) && str_eq(dim->values[i].value, value) &&
                        !dim->values[i].value.ptr == !value.ptr)
                        return;
        dim->values = grow(dim->values, dim->n, &dim->cap, sizeof(*dim->values));
        dim->values[dim->n++] = (struct spoken){key, value, 0};
}

/* The literal, or something that the pattern matches. */
static struct str sample_of(struct diffing *d, const struct pattern *pattern)
{
        if (!pattern->prefix)
                return pattern->text;
        struct str sample = arena_printf(&d->kept, "%.*sx1", STR_FMT(pattern->text));
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

static void add_resource_values(
        struct diffing *d, const struct operation *op, const struct selector *selector)
{
        struct dimension *projects = NULL, *dim = NULL;

        if (takes(op, selector->kind) != TAKES_NONE)
                dim = add_dimension(d, OF_RESOURCE, selector->kind, STR_NONE);
        for (size_t v = 0; v < selector->n; v++) {
                const struct value *value = &selector->values[v];
                if (dim && !pattern_any(&value->name))
                        add_spoken(dim, STR_NONE, sample_of(d, &value->name));
                if (!value->has_project || takes(op, RESOURCE_PROJECT) == TAKES_NONE)
                        continue;
                projects = add_dimension(d, OF_RESOURCE, RESOURCE_PROJECT, STR_NONE);
                if (projects && !pattern_any(&value->project))
                        add_spoken(projects, STR_NONE, sample_of(d, &value->project));
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
                        add_spoken(dim, key, sample_of(d, &keyed->values[v]));
                add_spoken(dim, key, STR("elsewhere"));
        }
        if (dim) {
                add_spoken(dim, STR("anything"), STR("elsewhere"));
                add_spoken(dim, STR("anything"), STR("true"));
                /* A guarded fact that says no need not be named; a deny may catch it all the same.
                 */
                if (facts_all(&n)[condition->fact].is_guarded)
                        add_spoken(dim, STR("anything"), STR("false"));
        }
}

static void add_claim_values(struct diffing *d, const struct claimed *claimed)
{
        struct dimension *dim = add_dimension(d, OF_CLAIM, 0, claimed->name);

        for (size_t v = 0; dim && v < claimed->n; v++)
                add_spoken(dim, STR_NONE, sample_of(d, &claimed->values[v]));
        if (dim)
                add_spoken(dim, STR_NONE, STR("elsewhere"));
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
static void add_times(struct diffing *d)
{
        size_t n = 0, most = d->sides[0].n + d->sides[1].n;
        const struct entry **all = must(calloc(most + 1, sizeof(*all)));

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

/* What nobody names, and nothing at all. */
static void add_others(struct diffing *d, const struct operation *op)
{
        for (size_t i = 0; i < d->n_dims; i++) {
                struct dimension *dim = &d->dims[i];
                if (dim->of == OF_RESOURCE) {
                        if (dim->kind == RESOURCE_REF) {
                                add_spoken(dim, STR_NONE, STR("refs/heads/elsewhere"));
                                add_spoken(dim, STR_NONE, STR("refs/tags/elsewhere"));
                        } else {
                                add_spoken(dim, STR_NONE, STR("elsewhere"));
                                add_spoken(dim, STR_NONE, STR("2147480001"));
                                add_spoken(
                                        dim, STR_NONE, STR("0e15e8e1-5e4e-4e15-8e1e-e15e8e15e8e1"));
                        }
                }
                if (dim->of != OF_TIME &&
                        (dim->of != OF_RESOURCE ||
                                takes(op, (enum resource_kind)dim->kind) == TAKES_MAYBE))
                        add_spoken(dim, STR_NONE, STR_NONE);
                dim->at = 0;
        }
}

/* --- one request --- */

/* The request that the dimensions stand for now; false: it cannot be spelt, or it is another
 * operation's. */
static bool spell(struct diffing *d, const struct operation *op, struct policy_question *question,
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

static struct policy_question keep_question(struct diffing *d, const struct policy_question *from)
{
        struct pair *claimed =
                must(arena_alloc(&d->kept, sizeof(*claimed) * (from->n_claimed + 1)));

        for (size_t i = 0; i < from->n_claimed; i++)
                claimed[i] = (struct pair){keep_text(&d->kept, from->claimed[i].name),
                        keep_text(&d->kept, from->claimed[i].value)};
        return (struct policy_question){keep_text(&d->kept, from->method),
                keep_text(&d->kept, from->url), keep_text(&d->kept, from->body), claimed,
                from->n_claimed, from->at_ms};
}

static void compare(struct diffing *d, const struct policy_question *question,
        const struct policy_request *request)
{
        static const struct policy_grants nobody;
        const struct entry *by[2];
        struct decision decision[2];
        char touches[512];

        for (int s = 0; s < 2; s++) {
                const struct side *side = &d->sides[s];
                by[s] = decide(
                        side->policy, side->grants ? side->grants : &nobody, request, &decision[s]);
        }
        d->counts.requests++;
        if (decision[0].effect == decision[1].effect)
                return;
        for (size_t i = 0; i < d->n_found; i++)
                if (d->found[i].old == by[0] && d->found[i].new_one == by[1]) {
                        d->found[i].n++;
                        return;
                }
        struct line line = line_over(touches, sizeof(touches));
        line_resources(&line, request, 0, 400);
        d->found = grow(d->found, d->n_found, &d->cap_found, sizeof(*d->found));
        d->found[d->n_found++] = (struct alike){by[0], by[1], decision[1].effect == EFFECT_ALLOW,
                keep_question(d, question), keep_text(&d->kept, str_of(touches)), 1};
}

static void report(struct diffing *d, const struct operation *op)
{
        for (size_t i = 0; i < d->n_found; i++) {
                const struct alike *one = &d->found[i];
                const struct policy_change change = {
                        .now_allowed = one->now_allowed,
                        .subject = d->subject,
                        .op = op,
                        .old_rule = one->old ? one->old->rule : STR_NONE,
                        .new_rule = one->new_one ? one->new_one->rule : STR_NONE,
                        .example = &one->example,
                        .touches = one->touches,
                        .n = one->n,
                };
                d->options->changed(d->options->owner, &change);
                if (one->now_allowed)
                        d->counts.allowed++;
                else
                        d->counts.denied++;
        }
        d->n_found = 0;
        arena_reset(&d->kept);
}

/* --- all requests of an operation --- */

static size_t combinations(const struct diffing *d)
{
        size_t n = 1;

        for (size_t i = 0; i < d->n_dims; i++)
                n = n > SIZE_MAX / 4096 ? SIZE_MAX : n * d->dims[i].n;
        return n;
}

static void take_combination(struct diffing *d, size_t which)
{
        for (size_t i = 0; i < d->n_dims; i++) {
                d->dims[i].at = which % d->dims[i].n;
                which /= d->dims[i].n;
        }
}

static void try_combinations(struct diffing *d, const struct operation *op)
{
        size_t n = combinations(d), step = 1;
        struct policy_question question;
        struct policy_request request;

        if (n > MOST_COMBINATIONS) {
                d->counts.unfinished++;
                step = n / MOST_COMBINATIONS | 1;
        }
        size_t before = d->counts.requests;
        for (size_t i = 0, tried = 0; i < n && tried < MOST_COMBINATIONS; i += step, tried++) {
                take_combination(d, i);
                if (spell(d, op, &question, &request))
                        compare(d, &question, &request);
                arena_reset(&d->scratch);
        }
        d->counts.untried += d->counts.requests == before;
}

static void diff_operation(struct diffing *d, const struct operation *op)
{
        put_in_play(&d->sides[0], op->index);
        put_in_play(&d->sides[1], op->index);
        if (all_in(&d->sides[0], &d->sides[1]) && all_in(&d->sides[1], &d->sides[0]))
                return;
        d->n_dims = 0;
        add_times(d);
        for (int s = 0; s < 2; s++)
                for (size_t i = 0; i < d->sides[s].n; i++)
                        add_entry_values(d, op, d->sides[s].in_play[i]);
        add_others(d, op);
        try_combinations(d, op);
        report(d, op);
}

/* --- requests that entries name by method and path --- */

static struct str path_sample(struct diffing *d, const struct path_pattern *pattern, bool longer)
{
        struct buf out;

        buf_init(&out, 64 * 1024);
        for (size_t i = 0; i < pattern->n; i++) {
                buf_char(&out, '/');
                buf_str_add(&out, pattern->segments[i].text);
                if (pattern->segments[i].prefix)
                        BUF_LITERAL(&out, "x1");
        }
        if (longer)
                BUF_LITERAL(&out, "/x1");
        if (!out.len)
                buf_char(&out, '/');
        struct str sample = keep_text(&d->kept, buf_str(&out));
        buf_clear(&out);
        return sample;
}

/* The request at each of the times that matter to it. */
static void compare_over_time(
        struct diffing *d, struct policy_question *question, struct policy_request *request)
{
        put_in_play(&d->sides[0], operation_slot(request->op));
        put_in_play(&d->sides[1], operation_slot(request->op));
        d->n_dims = 0;
        add_times(d);
        if (!d->n_dims)
                compare(d, question, request);
        for (size_t i = 0; d->n_dims && i < d->dims[0].n; i++) {
                question->at_ms = request->now_ms = d->dims[0].values[i].at_ms;
                compare(d, question, request);
        }
}

static void try_path(struct diffing *d, const struct path_pattern *pattern, bool longer)
{
        static const char *const methods[] = {
                "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
        struct policy_request request;
        struct error error;

        for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
                struct policy_question question = {
                        .method = str_of(methods[i]), .url = path_sample(d, pattern, longer)};
                request = (struct policy_request){0};
                if (d->options->namer(
                            d->options->context, &question, &d->scratch, &request, &error)) {
                        compare_over_time(d, &question, &request);
                        report(d, request.op);
                }
                arena_reset(&d->scratch);
        }
}

static void diff_paths(struct diffing *d)
{
        for (int s = 0; s < 2; s++) {
                const struct side *side = &d->sides[s];
                for (size_t g = 0; side->grants && g < side->grants->n; g++) {
                        const struct role *role = side->grants->grants[g].role;
                        for (size_t i = role->first; i < role->first + role->n; i++) {
                                const struct entry *entry = &side->policy->entries[i];
                                for (size_t p = 0; p < entry->n_paths; p++) {
                                        try_path(d, &entry->paths[p], false);
                                        if (entry->paths[p].rest)
                                                try_path(d, &entry->paths[p], true);
                                }
                        }
                }
        }
}

/* --- subjects --- */

static void diff_subject(struct diffing *d, const char *what, struct str name)
{
        char subject[200];
        size_t n;
        const struct operation *all = catalogue_all(&n);

        snprintf(subject, sizeof(subject), "%s %.*s", what, STR_FMT(name));
        d->subject = str_of(subject);
        for (size_t i = 0; i < n; i++)
                diff_operation(d, &all[i]);
        diff_paths(d);
}

static ssize_t role_named(const struct policy *policy, struct str name)
{
        for (size_t i = 0; i < policy->n_roles; i++)
                if (str_eq(policy->roles[i].name, name))
                        return (ssize_t)i;
        return -1;
}

/* As if a binding gave these roles. */
static struct policy_grants *grants_of(const struct policy *policy, const unsigned *roles, size_t n)
{
        static const struct binding always = {.not_before_ms = INT64_MIN, .expires_ms = INT64_MAX};
        struct policy_grants *grants = must(calloc(1, sizeof(*grants)));

        grants->grants = must(calloc(n + 1, sizeof(*grants->grants)));
        for (size_t i = 0; i < n; i++)
                grants->grants[grants->n++] =
                        (struct grant){.binding = &always, .role = &policy->roles[roles[i]]};
        return grants;
}

static struct policy_grants *grants_of_role(const struct policy *policy, ssize_t role)
{
        if (role < 0)
                return NULL;
        unsigned *list = must(calloc(policy->n_roles + 1, sizeof(*list)));
        size_t n = role_with_included(policy, (unsigned)role, list, 0);
        struct policy_grants *grants = grants_of(policy, list, n);
        free(list);
        return grants;
}

static void forget_grants(struct diffing *d)
{
        for (int s = 0; s < 2; s++) {
                policy_grants_free(d->sides[s].grants);
                d->sides[s].grants = NULL;
        }
}

static void diff_roles(struct diffing *d)
{
        for (int s = 1; s >= 0; s--) {
                const struct policy *policy = d->sides[s].policy, *other = d->sides[!s].policy;
                for (size_t i = 0; i < policy->n_roles; i++) {
                        struct str name = policy->roles[i].name;
                        ssize_t there = role_named(other, name);
                        if (s == 0 && there >= 0)
                                continue; /* done from the other side */
                        d->sides[s].grants = grants_of_role(policy, (ssize_t)i);
                        d->sides[!s].grants = grants_of_role(other, there);
                        diff_subject(d, "role", name);
                        forget_grants(d);
                }
        }
}

/* What there is to say of a binding beside what its roles allow. */
static void describe(
        const struct policy *policy, const struct binding *binding, char *memory, size_t bytes)
{
        struct line line = line_over(memory, bytes);
        char time[CLOCK_RFC3339_LEN + 1];

        callers_write(binding, &line);
        line_add(&line, STR("; roles "));
        for (size_t i = 0; i < binding->n_roles; i++) {
                line_add(&line, i ? STR(", ") : STR(""));
                line_add(&line, policy->roles[binding->roles[i]].name);
        }
        if (binding->credential.len) {
                line_add(&line, STR("; credential "));
                line_add(&line, binding->credential);
        }
        if (binding->not_before_ms != INT64_MIN) {
                clock_rfc3339(binding->not_before_ms, time);
                line_add(&line, STR("; from "));
                line_add(&line, str_of(time));
        }
        if (binding->expires_ms != INT64_MAX) {
                clock_rfc3339(binding->expires_ms, time);
                line_add(&line, STR("; until "));
                line_add(&line, str_of(time));
        }
        if (binding->glass_chars) {
                line_add(&line, STR("; break-glass: needs "));
                glass_want_write(binding->glass_chars, &line);
        }
}

/* The binding that is the same one in another policy: of the same name, or without one for the same
 * callers. */
static const struct binding *counterpart(const struct policy *policy, const struct binding *binding)
{
        char own[2000], other[2000];
        struct line line = line_over(own, sizeof(own));

        callers_write(binding, &line);
        for (size_t i = 0; i < policy->n_bindings; i++) {
                const struct binding *one = &policy->bindings[i];
                if (binding->named != one->named)
                        continue;
                line = line_over(other, sizeof(other));
                callers_write(one, &line);
                if (binding->named ? str_eq(binding->name, one->name) : strcmp(own, other) == 0)
                        return one;
        }
        return NULL;
}

/* Roles that are judged together, and are not just one with those it includes. */
static bool gives_several(const struct policy *policy, const struct binding *binding)
{
        if (!binding || binding->n_roles < 2)
                return false;
        unsigned *list = must(calloc(policy->n_roles + 1, sizeof(*list)));
        size_t n = role_with_included(policy, binding->roles[0], list, 0);
        free(list);
        return n != binding->n_roles;
}

static void diff_binding(
        struct diffing *d, const struct binding *old, const struct binding *new_one)
{
        const struct binding *both[] = {old, new_one};
        struct str name = new_one ? new_one->name : old->name;
        char text[2][4000] = {"", ""};
        bool several = false;

        for (int s = 0; s < 2; s++) {
                if (!both[s])
                        continue;
                describe(d->sides[s].policy, both[s], text[s], sizeof(text[s]));
                several |= gives_several(d->sides[s].policy, both[s]);
        }
        if (strcmp(text[0], text[1]) != 0) {
                d->counts.bindings++;
                d->options->binding_changed(
                        d->options->owner, name, str_of(text[0]), str_of(text[1]));
        }
        if (!several || !old || !new_one)
                return; /* one that came or went gives or takes what its roles allow */
        for (int s = 0; s < 2; s++)
                d->sides[s].grants =
                        grants_of(d->sides[s].policy, both[s]->roles, both[s]->n_roles);
        diff_subject(d, "binding", name);
        forget_grants(d);
}

struct policy_diff_counts policy_diff(const struct policy *old, const struct policy *new_one,
        const struct policy_diff_options *options)
{
        struct diffing *d = must(calloc(1, sizeof(*d)));

        d->options = options;
        d->sides[0].policy = old;
        d->sides[1].policy = new_one;
        arena_init(&d->scratch, ARENA_BLOCK, ARENA_CEILING);
        arena_init(&d->kept, ARENA_BLOCK, SIZE_MAX);
        number_texts(d->sides);
        for (size_t i = 0; i < new_one->n_bindings; i++)
                diff_binding(d, counterpart(old, &new_one->bindings[i]), &new_one->bindings[i]);
        for (size_t i = 0; i < old->n_bindings; i++)
                if (!counterpart(new_one, &old->bindings[i]))
                        diff_binding(d, &old->bindings[i], NULL);
        diff_roles(d);
        for (int s = 0; s < 2; s++) {
                free(d->sides[s].texts);
                free(d->sides[s].in_play);
        }
        for (size_t i = 0; i < MOST_DIMENSIONS; i++)
                free(d->dims[i].values);
        free(d->found);
        arena_clear(&d->scratch);
        arena_clear(&d->kept);
        struct policy_diff_counts counts = d->counts;
        free(d);
        return counts;
}
