/*
 * who-can against brute force, on random policies. What a question leaves open may be anything, so:
 *
 *   whoever may send some request is told of, with the entry that allows it, for every question
 *   that names less of what it touches;
 *   who is told of without limit or exception may send what the question says; with no limit but
 *   glass: with a reason as long as it says, and not with a shorter one;
 *
 *   windows of time and glass are told wherever they are.
 *
 * Who may is the reference's word, not the module's. DAGWARD_WHO_CAN_RUNS is the number of
 * policies, DAGWARD_PROPERTY_SEED where chance begins.
 */
#include "policy_reference.h"

#include "dagward/policy/analyse.h"

static const char *const operations[] = {"pipelines.runs.run", "pipelines.runs.get",
        "build.builds.queue", "build.builds.list", "git.pullRequests.update", "gitHttp.pack.fetch",
        "gitHttp.pack.push", "gitHttp.push.createBranch", "legacy.soap.any",
        "git.repositories.list", "tokens.pats.create", "build.builds.delete"};

static const char *const subjects_by_binding[MOST_BINDINGS] = {"s0", "s1", "s2", "s3", "s4"};
static const char *const names_by_binding[MOST_BINDINGS] = {"b0", "b1", "b2", "b3", "b4"};

/* One caller for each binding. */
static void one_each(struct model *model)
{
        for (size_t b = 0; b < model->n_bindings; b++) {
                struct model_binding *binding = &model->bindings[b];
                binding->name = names_by_binding[b];
                binding->issuer = "i";
                binding->subjects =
                        (struct words){.items = {subjects_by_binding[b]}, .n = 1, .given = true};
                binding->roles_of_token = (struct words){.n = 0};
                binding->n_claims = 0;
        }
}

static void random_resources(struct resources *resources)
{
        *resources = (struct resources){.n = 0};
        for (size_t k = 0; k < COUNT(vocabularies); k++) {
                const struct vocabulary *words = &vocabularies[k];
                size_t n = k < 4 ? (chance(4) ? 1 : chance(3)) : chance(3) == 0;
                for (; n > 0; n--)
                        (void)!resources_add(
                                resources, words->kind, str_of(ANY(words->items)), NULL);
                resources->unresolved[words->kind] = chance(12) == 0;
        }
}

/* Some kinds are left out of the question; what it does name it names in full. */
static void leave_out(const struct resources *all, struct resources *some_of_it)
{
        *some_of_it = (struct resources){.n = 0};
        for (int kind = 0; kind < RESOURCE_KINDS; kind++) {
                if (chance(3) == 0 || all->unresolved[kind])
                        continue;
                for (size_t i = 0; i < all->n; i++)
                        if ((int)all->items[i].kind == kind)
                                some_of_it->items[some_of_it->n++] = all->items[i];
        }
}

struct told {
        size_t n;
        struct {
                size_t binding, line;
                bool open;      /* neither limits, but maybe glass, nor exceptions */
                unsigned glass; /* characters of a reason */
                bool timed;
        } ways[MOST_BINDINGS * MOST_ROLES * MOST_ENTRIES];
};

static void take_way(void *owner, const struct policy_way *way)
{
        static const char glass[] = "break-glass: needs a reason of ";
        struct told *told = owner;
        uint64_t line = 0;
        char limits[4000];

        snprintf(limits, sizeof(limits), "%.*s", STR_FMT(way->limits));
        const char *needs = strstr(limits, glass);
        assert_true(str_to_u64(str_from(way->rule, strlen("p.yaml:")), &line));
        told->ways[told->n].binding = (size_t)(way->binding.ptr[1] - '0');
        told->ways[told->n].line = line;
        told->ways[told->n].glass = needs ? (unsigned)atoi(needs + strlen(glass)) : 0;
        told->ways[told->n].timed = strstr(limits, "where.time ") != NULL;
        told->ways[told->n++].open =
                !way->except.len && (!way->limits.len || (needs == limits && !strchr(needs, ';')));
}

static bool is_told(const struct told *told, size_t binding, size_t line)
{
        for (size_t i = 0; i < told->n; i++)
                if (told->ways[i].binding == binding && told->ways[i].line == line)
                        return true;
        return false;
}

static void fail_with(const char *what, const struct buf *text,
        const struct policy_request *request, const struct resources *question, size_t binding)
{
        print_error("%s: %s, binding b%zu\nthe request touches\n", what, request->op->id, binding);
        for (size_t i = 0; i < request->resources->n; i++)
                print_error("  %s %s\n", resource_kind_name(request->resources->items[i].kind),
                        request->resources->items[i].value.ptr);
        print_error("the question names\n");
        for (size_t i = 0; i < question->n; i++)
                print_error("  %s %s\n", resource_kind_name(question->items[i].kind),
                        question->items[i].value.ptr);
        fprintf(stderr, "%s", text->data);
        fail();
}

struct seen {
        size_t allowed, open, by_glass_alone;
};

static const struct model_entry *entry_at(const struct model *model, size_t line)
{
        for (size_t r = 0; r < model->n_roles; r++)
                for (size_t i = 0; i < model->roles[r].n; i++)
                        if (model->roles[r].entries[i].line == line)
                                return &model->roles[r].entries[i];
        fail_msg("nothing stands in line %zu", line);
        return NULL;
}

/* What is told of one binding, against what its caller may do with what the question says. */
static void compare_ways(const struct model *model, const struct buf *text,
        const struct policy_request *question, size_t b, const struct told *told, struct seen *seen)
{
        const struct policy_caller caller = {
                .issuer = STR("i"), .subject = str_of(subjects_by_binding[b])};
        struct policy_request with = *question;

        for (size_t i = 0; i < told->n; i++) {
                if (told->ways[i].binding != b)
                        continue;
                if (told->ways[i].timed != entry_at(model, told->ways[i].line)->windows.given ||
                        told->ways[i].glass != model->bindings[b].glass)
                        fail_with("its windows or its glass are not told", text, question,
                                question->resources, b);
                if (!told->ways[i].open)
                        continue;
                seen->open++;
                with.reason_chars = told->ways[i].glass;
                if (!reference_decide(model, &caller, &with).allowed)
                        fail_with(
                                "is told of, and may not", text, question, question->resources, b);
                if (!told->ways[i].glass)
                        continue;
                seen->by_glass_alone++;
                with.reason_chars--;
                if (reference_decide(model, &caller, &with).allowed)
                        fail_with("may, with a shorter reason than is told", text, question,
                                question->resources, b);
        }
}

static void compare(const struct model *model, const struct policy *policy, const struct buf *text,
        const struct operation *op, struct seen *seen)
{
        static struct told told;
        struct resources touched, named;
        struct fact said = {.key = STR(""), .value = STR("staging")};
        struct facts facts = {.items = &said, .n = chance(3) == 0, .cap = 1};
        struct pair claimed[] = {{STR("dag_id"), STR("etl")}, {STR("task_id"), STR("etl")}};

        random_resources(&touched);
        leave_open(op, &touched);
        leave_out(&touched, &named);
        assert_true(fact_named(STR("stagesToSkip"), &said.kind));
        struct policy_request request = {.op = op,
                .method = str_of(ANY(method_values)),
                .path = STR("/contoso/a"),
                .resources = &touched,
                .facts = &facts,
                .claimed = claimed,
                .n_claimed = 2,
                .reason_chars = ANY(reason_items),
                .now_ms = random_time(model)};
        struct policy_request question = {.op = op,
                .method = request.method,
                .path = request.path,
                .resources = &named,
                .now_ms = request.now_ms};
        told.n = 0;
        size_t n = policy_who_can(policy, &question, take_way, &told);
        assert_int_equal(n, told.n);
        for (size_t b = 0; b < model->n_bindings; b++) {
                const struct policy_caller caller = {
                        .issuer = STR("i"), .subject = str_of(subjects_by_binding[b])};
                struct reference may = reference_decide(model, &caller, &request);
                seen->allowed += may.allowed;
                if (may.allowed && !is_told(&told, b, may.entry->line))
                        fail_with("may, and is not told of", text, &request, &named, b);
                compare_ways(model, text, &question, b, &told, seen);
        }
}

static void who_can_agrees_with_brute_force(void **state)
{
        enum { REQUESTS = 10 };
        uint64_t runs = chance_begin("policies", "DAGWARD_WHO_CAN_RUNS", 200), total = 0;
        struct model *model = malloc(sizeof(*model));
        struct seen seen = {0};
        struct buf text;

        (void)state;
        assert_non_null(model);
        buf_init(&text, 1 << 20);
        for (uint64_t run = 0; run < runs; run++) {
                random_model(model);
                one_each(model);
                print_model(&text, model);
                struct policy *policy = load_model(&text, stderr);
                assert_non_null(policy);
                for (size_t i = 0; i < COUNT(operations) * REQUESTS; i++, total++)
                        compare(model, policy, &text,
                                catalogue_find(str_of(operations[i % COUNT(operations)])), &seen);
                policy_unref(policy);
        }
        buf_clear(&text);
        free(model);
        print_message("%llu questions: %zu allowed requests, %zu ways without limit, %zu of them "
                      "by glass alone\n",
                (unsigned long long)total, seen.allowed, seen.open, seen.by_glass_alone);
        assert_true(seen.allowed > total / 50);
        assert_true(seen.open > total / 50);
        assert_true(seen.by_glass_alone > total / 200);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(who_can_agrees_with_brute_force),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
