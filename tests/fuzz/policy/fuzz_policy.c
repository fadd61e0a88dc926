/*
 * Any bytes as a policy file: it is refused with errors, or it decides, explains and runs its tests
 * without harm, and can be looked through. A policy that loads must deny a caller that no binding
 * is about; what is allowed is in no doubt, and somebody can do it.
 */
#include <assert.h>
#include <stdlib.h>

#include "dagward/policy/analyse.h"
#include "dagward/policy/explain.h"
#include "dagward/policy/tests.h"

static struct resources resources = {
        .items =
                {
                        {RESOURCE_ORGANIZATION, {"contoso", 7}},
                        {RESOURCE_PROJECT, {"analytics", 9}},
                        {RESOURCE_PIPELINE, {"42", 2}},
                        {RESOURCE_REPOSITORY, {"dags", 4}},
                        {RESOURCE_REF, {"refs/heads/main", 15}},
                },
        .n = 5,
};
static struct fact fact_items[] = {{.key = {"environment", 11}, .value = {"staging", 7}},
        {.value = {"prod", 4}}, {.value = {"true", 4}}};
static struct facts facts = {.items = fact_items, .n = 3, .cap = 3};
static const struct pair claimed[] = {{{"dag_id", 6}, {"analytics.daily", 15}}};

/* What is said beside the resources; a guarded fact only now and then. */
static void say(size_t which)
{
        if (!fact_named(STR("templateParameters"), &fact_items[0].kind) ||
                !fact_named(STR("stagesToSkip"), &fact_items[1].kind) ||
                !fact_named(STR("yamlOverride"), &fact_items[2].kind))
                abort();
        facts.n = which % 4;
}

static void ignore_finding(void *owner, const struct policy_finding *finding)
{
        (void)owner;
        assert(finding->text[0]);
}

static void ignore_way(void *owner, const struct policy_way *way)
{
        (void)owner;
        assert(way->rule.len && way->binding.len);
}

static void ignore_right(void *owner, const struct policy_right *right)
{
        (void)owner;
        assert(right->rule.len);
}

static bool name_anything(void *context, const struct policy_question *question,
        struct arena *arena, struct policy_request *out, struct error *err)
{
        (void)context;
        (void)arena;
        if (question->url.len % 5 == 0)
                return error_set(err, "malformed");
        *out = (struct policy_request){
                .op = question->url.len % 2 ? catalogue_find(STR("pipelines.runs.run")) : NULL,
                .method = question->method,
                .path = question->url,
                .resources = &resources,
        };
        return true;
}

static void ask(const struct policy *policy, struct str issuer)
{
        const struct policy_caller caller = {.issuer = issuer, .subject = STR("worker")};
        struct policy_grants *grants = policy_grants_new(policy, &caller);
        static const char *const operations[] = {
                "pipelines.runs.run", "build.builds.list", "gitHttp.pack.push"};

        for (size_t i = 0; i < 4; i++) {
                struct policy_request request = {
                        .op = i < 3 ? catalogue_find(str_of(operations[i])) : NULL,
                        .method = STR("POST"),
                        .path = STR("/contoso/analytics/_apis/x"),
                        .resources = &resources,
                        .facts = &facts,
                        .claimed = claimed,
                        .n_claimed = 1,
                };
                struct policy_explanation explanation;
                struct decision decision;
                struct str credential;
                struct arena arena;
                struct buf text;

                say(i + issuer.len);
                policy_decide(policy, grants, &request, &decision);
                assert(decision.effect == EFFECT_DENY || decision.rule.len > 0);
                assert(decision.effect == EFFECT_ALLOW || decision.reason[0]);
                assert(policy_grants_count(grants) > 0 || decision.effect == EFFECT_DENY);
                assert(str_utf8_valid(str_of(decision.reason)));
                assert(!decision.breaks_glass);
                if (decision.glass_chars) {
                        struct decision with;
                        request.reason_chars = decision.glass_chars;
                        policy_decide(policy, grants, &request, &with);
                        assert(with.effect == EFFECT_ALLOW && with.breaks_glass);
                        assert(str_eq(with.binding, decision.glass_binding));
                        request.reason_chars--;
                        policy_decide(policy, grants, &request, &with);
                        assert(with.effect == EFFECT_DENY);
                        request.reason_chars = 0;
                }
                if (decision.effect == EFFECT_ALLOW && request.op)
                        assert(policy_who_can(policy, &request, ignore_way, NULL) > 0);
                else if (request.op)
                        (void)policy_doubts(policy, grants, &request, &credential);
                arena_init(&arena, 4096, 1 << 20);
                buf_init(&text, 1 << 20);
                if (policy_explain(policy, &caller, &request, &arena, &explanation)) {
                        assert(explanation.decision.effect == decision.effect);
                        policy_explanation_text(&explanation, &text);
                        policy_explanation_json(&explanation, &text);
                }
                buf_clear(&text);
                arena_clear(&arena);
        }
        policy_grants_free(grants);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const struct policy_test_options options = {.namer = name_anything};
        struct error_list errors;

        error_list_init(&errors);
        struct policy *policy =
                policy_load_text("fuzz.yaml", str_view((const char *)data, size), &errors);
        assert(policy ? errors.errors == 0 : errors.errors > 0);
        error_list_clear(&errors);
        if (!policy)
                return 0;
        ask(policy, STR("airflow"));
        ask(policy, STR("nobody knows this one"));
        (void)policy_run_tests(policy, &options);
        (void)policy_lint(policy, 1000, ignore_finding, NULL);
        (void)policy_can(policy, &(struct policy_caller){.issuer = STR("airflow")}, 1000,
                ignore_right, NULL);
        policy_unref(policy);
        return 0;
}
