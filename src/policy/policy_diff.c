/* What a change of policy makes possible, and what it stops: by trying it. */
#include "dagward/azdo/conclude.h"
#include "dagward/base/clock.h"
#include "policy_diff_internal.h"

enum {
        MOST_COMBINATIONS = 20000, /* of one operation for one subject */
        ARENA_BLOCK = 64 * 1024,
        ARENA_CEILING = 256 << 20,
};

/* Changes of one operation that are alike. */
struct alike {
        const struct entry *old, *new_one;
        bool now_allowed;
        struct policy_question example;
        struct str touches;
        size_t n;
};

/* --- one request --- */

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

/* Whether anything that the request names tells more of what is in doubt. */
static bool can_be_asked(const struct policy_request *request, unsigned doubts)
{
        const struct resources *resources = request->resources;

        for (size_t i = 0; resources && i < resources->n; i++)
                if (conclude_helps(request->op, resources, doubts, &resources->items[i]))
                        return true;
        return false;
}

/* Entries that are in one policy only and that this request leaves in doubt. */
static void note_unsure(struct diffing *d, const struct policy_request *request)
{
        for (int s = 0; request->op && s < 2; s++) {
                struct side *side = &d->sides[s];
                for (size_t i = 0; i < side->n; i++) {
                        const struct entry *entry = side->in_play[i];
                        size_t index = (size_t)(entry - side->policy->entries);
                        unsigned doubts = entry_doubts(entry, request);
                        if (doubts && !side->unsure[index].now &&
                                diff_hinges(request->op, entry, doubts) &&
                                can_be_asked(request, doubts) &&
                                !diff_has_text(&d->sides[!s], side->texts[index]))
                                side->unsure[index].now = true;
                }
        }
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
        if (decision[0].effect == decision[1].effect) {
                note_unsure(d, request);
                return;
        }
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

/* Of an entry that made a difference, that is enough to say. */
static void keep_unsure(struct diffing *d, const struct operation *op)
{
        for (int s = 0; s < 2; s++) {
                struct side *side = &d->sides[s];
                for (size_t i = 0; i < side->n; i++) {
                        const struct entry *entry = side->in_play[i];
                        struct unsure *one = &side->unsure[entry - side->policy->entries];
                        for (size_t k = 0; one->now && k < d->n_found; k++)
                                one->now = d->found[k].old != entry && d->found[k].new_one != entry;
                        if (one->now && !one->n++)
                                one->first = op;
                        one->now = false;
                }
        }
}

static void report_unsure(struct diffing *d)
{
        for (int s = 0; s < 2; s++)
                for (size_t i = 0; i < d->sides[s].policy->n_entries; i++) {
                        struct unsure *one = &d->sides[s].unsure[i];
                        const struct policy_unsure unsure = {.subject = d->subject,
                                .rule = d->sides[s].policy->entries[i].rule,
                                .is_new = s == 1,
                                .op = one->first,
                                .n = one->n};
                        if (one->n) {
                                d->counts.unsure++;
                                d->options->unsure(d->options->owner, &unsure);
                        }
                        *one = (struct unsure){0};
                }
}

static void report(struct diffing *d, const struct operation *op)
{
        keep_unsure(d, op);
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

static void try_combinations(struct diffing *d, const struct operation *op)
{
        size_t n = diff_combinations(d), step = 1, most = d->left;
        struct policy_question question;
        struct policy_request request;

        if (most > MOST_COMBINATIONS)
                most = MOST_COMBINATIONS;
        if (n > most || d->cut) {
                d->counts.unfinished++;
                step = most ? n / most | 1 : 1;
        }
        size_t before = d->counts.requests;
        for (size_t i = 0, tried = 0; i < n && tried < most; i += step, tried++) {
                d->left--;
                diff_take(d, i);
                if (diff_spell(d, op, &question, &request))
                        compare(d, &question, &request);
                arena_reset(&d->scratch);
        }
        d->counts.untried += most && d->counts.requests == before;
}

static void diff_operation(struct diffing *d, const struct operation *op)
{
        diff_put_in_play(&d->sides[0], op->index);
        diff_put_in_play(&d->sides[1], op->index);
        if (diff_all_in(&d->sides[0], &d->sides[1]) && diff_all_in(&d->sides[1], &d->sides[0]))
                return;
        if (!d->left) {
                d->counts.unfinished++;
                return;
        }
        diff_keep_relevant(&d->sides[0]);
        diff_keep_relevant(&d->sides[1]);
        diff_dimensions(d, op);
        try_combinations(d, op);
        report(d, op);
}

/* --- requests that entries name by method and path --- */

/* The request at each of the times that matter to it. */
static void compare_over_time(
        struct diffing *d, struct policy_question *question, struct policy_request *request)
{
        diff_put_in_play(&d->sides[0], operation_slot(request->op));
        diff_put_in_play(&d->sides[1], operation_slot(request->op));
        diff_moments(d);
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
                        .method = str_of(methods[i]), .url = diff_path(d, pattern, longer)};
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
        diff_find_relevant(d);
        for (size_t i = 0; i < n; i++)
                diff_operation(d, &all[i]);
        diff_paths(d);
        report_unsure(d);
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

/* Whole, however many subjects there are: who is added at the end is added. */
static void describe_callers(const struct binding *binding, struct line *line)
{
        line_add(line, STR("issuer "));
        line_add(line, binding->issuer);
        if (binding->n_subjects) {
                line_add(line, STR("; subject "));
                line_add(line, binding->subjects_shown);
        }
        if (binding->n_token_roles) {
                line_add(line, STR("; roles "));
                line_add(line, binding->token_roles_shown);
        }
        for (size_t i = 0; i < binding->n_claims; i++) {
                line_add(line, STR("; claims."));
                line_add(line, binding->claims[i].path);
                line_add(line, STR(" "));
                line_add(line, binding->claims[i].shown);
        }
}

/* Room for all that describe() says. */
static size_t description_bytes(const struct policy *policy, const struct binding *binding)
{
        size_t bytes = 1000 + binding->issuer.len + binding->credential.len +
                       binding->subjects_shown.len + binding->token_roles_shown.len;

        for (size_t i = 0; i < binding->n_claims; i++)
                bytes += 20 + binding->claims[i].path.len + binding->claims[i].shown.len;
        for (size_t i = 0; i < binding->n_roles; i++)
                bytes += 2 + policy->roles[binding->roles[i]].name.len;
        return bytes;
}

/* What there is to say of a binding beside what its roles allow. Free with free(). */
static char *describe(const struct policy *policy, const struct binding *binding)
{
        size_t bytes = description_bytes(policy, binding);
        char *memory = must(malloc(bytes));
        struct line line = line_over(memory, bytes);
        char time[CLOCK_RFC3339_LEN + 1];

        describe_callers(binding, &line);
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
        return memory;
}

static bool same_callers(const struct binding *a, const struct binding *b)
{
        bool same = str_eq(a->issuer, b->issuer) && str_eq(a->subjects_shown, b->subjects_shown) &&
                    str_eq(a->token_roles_shown, b->token_roles_shown) &&
                    a->n_claims == b->n_claims;

        for (size_t i = 0; same && i < a->n_claims; i++)
                same = str_eq(a->claims[i].path, b->claims[i].path) &&
                       str_eq(a->claims[i].shown, b->claims[i].shown);
        return same;
}

/* The binding that is the same one in another policy: of the same name, or without one for the same
 * callers, the first for the first and so on. */
static const struct binding *counterpart(
        const struct policy *own, const struct binding *binding, const struct policy *policy)
{
        size_t before = 0;

        for (const struct binding *one = own->bindings; !binding->named && one < binding; one++)
                before += !one->named && same_callers(binding, one);
        for (size_t i = 0; i < policy->n_bindings; i++) {
                const struct binding *one = &policy->bindings[i];
                if (binding->named != one->named)
                        continue;
                if (binding->named ? str_eq(binding->name, one->name)
                                   : same_callers(binding, one) && before-- == 0)
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
        char *text[2] = {NULL, NULL};
        bool several = false;

        for (int s = 0; s < 2; s++) {
                text[s] = both[s] ? describe(d->sides[s].policy, both[s]) : must(calloc(1, 1));
                several |= gives_several(d->sides[s].policy, both[s]);
        }
        if (strcmp(text[0], text[1]) != 0) {
                d->counts.bindings++;
                d->options->binding_changed(
                        d->options->owner, name, str_of(text[0]), str_of(text[1]));
        }
        free(text[0]);
        free(text[1]);
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
        diff_number_texts(d);
        d->left = options->most ? options->most : SIZE_MAX;
        for (int s = 0; s < 2; s++) {
                struct side *side = &d->sides[s];
                size_t n = side->policy->n_entries + 1;
                side->unsure = must(calloc(n, sizeof(*side->unsure)));
                side->stamps = must(calloc(n, sizeof(*side->stamps)));
                side->text_stamps = must(calloc(
                        old->n_entries + new_one->n_entries + 1, sizeof(*side->text_stamps)));
                side->relevant = must(calloc(n, sizeof(*side->relevant)));
        }
        for (size_t i = 0; i < new_one->n_bindings; i++)
                diff_binding(
                        d, counterpart(new_one, &new_one->bindings[i], old), &new_one->bindings[i]);
        for (size_t i = 0; i < old->n_bindings; i++)
                if (!counterpart(old, &old->bindings[i], new_one))
                        diff_binding(d, &old->bindings[i], NULL);
        diff_roles(d);
        for (int s = 0; s < 2; s++) {
                free(d->sides[s].texts);
                free(d->sides[s].unsure);
                free(d->sides[s].stamps);
                free(d->sides[s].text_stamps);
                free(d->sides[s].relevant);
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
