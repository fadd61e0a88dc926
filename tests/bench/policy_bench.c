/*
 * policy_bench: what a policy of 10,000 rules costs to load, to look a caller up in, to decide by
 * and to lint.
 *
 * Usage: policy_bench [SHAPE...] [-n RULES] [-r ROUNDS]. Without SHAPE, all of them. Each prints
 * one line: load and compile, policy_grants_new, then each decision timed by itself (median, p99,
 * ROUNDS times, default 100000, over 512 requests of which some are allowed), policy_doubts after
 * the denials among them, and lint. The clock's own cost is in the figures of decisions; the others
 * are CPU time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dagward/azdo/identity.h"
#include "dagward/base/buf.h"
#include "dagward/policy/analyse.h"

enum { REQUESTS = 512, MOST_ROUNDS = 1000000 };

static unsigned rules = 10000;
static size_t rounds = 100000;
static uint64_t seed = 1;

static unsigned any(unsigned n)
{
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        return (unsigned)(seed >> 33) % n;
}

static double now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* --- policies --- */

static const char *const mixed_operations[] = {"pipelines.runs.run", "pipelines.runs.get",
        "build.builds.queue", "build.builds.list", "git.repositories.get",
        "git.pullRequests.create", "packages.fetch", "wit.workItems.update"};

static void head(struct buf *out)
{
        BUF_LITERAL(out, "version: 1\n");
}

static void bind(struct buf *out, const char *subject, unsigned role, unsigned roles)
{
        buf_printf(out, "- {callers: {issuer: airflow, subject: '%s'}, roles: [", subject);
        for (unsigned i = 0; i < roles; i++)
                buf_printf(out, "%sr%u", i ? ", " : "", role + i);
        buf_printf(out, "], credential: c}\n");
}

static void one_role(struct buf *out)
{
        head(out);
        BUF_LITERAL(out, "bindings:\n");
        bind(out, "worker", 0, 1);
        BUF_LITERAL(out, "roles:\n  r0:\n    allow:\n");
}

/* 500 roles of twenty entries, 400 bindings; the caller has three roles. */
static void shape_mix(struct buf *out)
{
        unsigned roles = rules / 20;

        head(out);
        BUF_LITERAL(out, "bindings:\n");
        for (unsigned i = 0; i < roles * 4 / 5; i++) {
                char subject[40];
                snprintf(subject, sizeof(subject), i % 3 ? "team-%u" : "team-%u-*", i);
                bind(out, subject, any(roles - 2), 2);
        }
        bind(out, "worker", 0, 3);
        BUF_LITERAL(out, "roles:\n");
        for (unsigned r = 0; r < roles; r++) {
                buf_printf(out, "  r%u:\n    allow:\n", r);
                for (unsigned i = 0; i < 18; i++) {
                        if (i == 0)
                                buf_printf(out,
                                        "    - {access: [read], areas: [build, pipelines], "
                                        "projects: [p%u]}\n",
                                        r);
                        else if (i % 6 == 1)
                                buf_printf(out,
                                        "    - {operations: [git.fetch, git.push], "
                                        "repositories: [p%u/repo-%u], refs: "
                                        "['refs/heads/team-%u/*']}\n",
                                        r, i, r);
                        else if (i % 6 == 2)
                                buf_printf(out,
                                        "    - {operations: [pipelines.runs.run], projects: "
                                        "[p%u], pipelines: [%u], where: {refs: "
                                        "[refs/heads/main], templateParameters: "
                                        "{environment: [staging]}, variables: []}}\n",
                                        r, r * 20 + i);
                        else
                                buf_printf(out, "    - {operations: [%s], projects: [p%u]}\n",
                                        mixed_operations[any(8)], r);
                }
                buf_printf(out,
                        "    deny:\n    - {operations: [pipelines.runs.run], pipelines: "
                        "[%u]}\n    - {access: [delete], projects: [p%u]}\n",
                        r * 20 + 19, r);
        }
}

static void shape_ids(struct buf *out)
{
        one_role(out);
        for (unsigned i = 0; i < rules; i++)
                buf_printf(out,
                        "    - {operations: [pipelines.runs.run], projects: [analytics], "
                        "pipelines: [%u]}\n",
                        i + 1);
}

static void shape_names(struct buf *out)
{
        one_role(out);
        for (unsigned i = 0; i < rules; i++)
                buf_printf(out,
                        "    - {operations: [pipelines.runs.run], projects: [analytics], "
                        "pipelines: [etl-%u]}\n",
                        i + 1);
}

static void shape_prefixes(struct buf *out)
{
        one_role(out);
        for (unsigned i = 0; i < rules; i++)
                buf_printf(out,
                        "    - {operations: [git.repositories.get], projects: [analytics], "
                        "repositories: [team-%u-*]}\n",
                        i + 1);
}

static void shape_refs(struct buf *out)
{
        one_role(out);
        for (unsigned i = 0; i < rules; i++)
                buf_printf(out,
                        "    - {operations: [pipelines.runs.run], projects: [analytics], "
                        "refs: ['refs/heads/team-%u/*']}\n",
                        i + 1);
}

static void shape_where(struct buf *out)
{
        one_role(out);
        for (unsigned i = 0; i < rules; i++)
                buf_printf(out,
                        "    - {operations: [pipelines.runs.run], projects: [analytics], "
                        "where: {templateParameters: {team: ['-%u']}}}\n",
                        i + 1);
}

static void shape_denies(struct buf *out)
{
        one_role(out);
        BUF_LITERAL(out, "    - {operations: [pipelines.runs.run], projects: [analytics]}\n"
                         "    deny:\n");
        for (unsigned i = 1; i < rules; i++)
                buf_printf(
                        out, "    - {operations: [pipelines.runs.run], pipelines: [%u]}\n", i * 2);
}

/* One role of entries about many operations, and of entries about one. */
static void shape_classes(struct buf *out)
{
        size_t n;
        const struct operation *all = catalogue_all(&n);

        one_role(out);
        for (unsigned i = 0; i < rules; i++) {
                if (i % 2)
                        buf_printf(out, "    - {access: [read], projects: [p%u]}\n", i);
                else
                        buf_printf(out, "    - {operations: [%s], projects: [p%u]}\n",
                                all[any((unsigned)n)].id, i);
        }
}

/* As many bindings as rules, each to a role of its own; one is the caller's. */
static void shape_bindings(struct buf *out)
{
        head(out);
        BUF_LITERAL(out, "bindings:\n");
        for (unsigned i = 0; i < rules; i++) {
                char subject[40];
                snprintf(subject, sizeof(subject), "team-%u", i);
                bind(out, i == rules / 2 ? "worker" : subject, i, 1);
        }
        BUF_LITERAL(out, "roles:\n");
        for (unsigned i = 0; i < rules; i++)
                buf_printf(out,
                        "  r%u: {allow: [{operations: [pipelines.runs.run], projects: "
                        "[analytics], pipelines: [%u, %u]}]}\n",
                        i, i == rules / 2 ? 7 : i, i == rules / 2 ? 8 : i);
}

static void shape_few_bindings(struct buf *out)
{
        unsigned before = rules;

        rules = 10;
        shape_bindings(out);
        rules = before;
}

/* --- requests --- */

struct asked {
        struct policy_request request;
        struct resources resources;
        struct facts facts;
        struct fact fact;
        struct identity identity;
        char project[32], repository[40], ref[64], team[32], name[40];
};

static struct asked asked[REQUESTS];

enum asking { BY_NUMBER = 0, KNOWN = 1 };

static void add(struct asked *one, enum resource_kind kind, const char *value)
{
        if (!resources_add(&one->resources, kind, str_of(value), NULL))
                abort();
}

static void ask(struct asked *one, bool known)
{
        static const char *const ops[] = {"pipelines.runs.run", "git.repositories.get",
                "pipelines.runs.get", "build.builds.list"};
        unsigned which = any(8), team = 1 + any(rules * 5 / 4);

        *one = (struct asked){0};
        one->request = (struct policy_request){
                .op = catalogue_find(str_of(ops[which < 5 ? 0 : which - 4])),
                .method = STR("POST"),
                .path = STR("/contoso/analytics/_apis/x"),
                .resources = &one->resources,
                .facts = &one->facts,
                .now_ms = 1000,
        };
        snprintf(one->project, sizeof(one->project), any(2) ? "analytics" : "p%u", any(4));
        snprintf(one->repository, sizeof(one->repository), "team-%u-dags", team);
        snprintf(one->ref, sizeof(one->ref), "refs/heads/team-%u/x", team);
        snprintf(one->team, sizeof(one->team), "%u", team);
        snprintf(one->name, sizeof(one->name), "etl-%u", team);
        add(one, RESOURCE_ORGANIZATION, "contoso");
        add(one, RESOURCE_PROJECT, one->project);
        if (which != 5 && which != 7) {
                add(one, RESOURCE_PIPELINE, one->team);
                add(one, RESOURCE_REF, one->ref);
                struct resource *pipeline = &one->resources.items[2];
                one->identity = (struct identity){
                        .id = pipeline->value, .name = str_of(one->name), .path = STR("\\etl\\x")};
                pipeline->known = known ? &one->identity : NULL;
        } else {
                add(one, RESOURCE_REPOSITORY, one->repository);
        }
        unsigned kind;
        if (!fact_named(STR("templateParameters"), &kind))
                abort();
        one->fact = (struct fact){kind, STR("team"), str_of(one->repository)};
        one->fact.value.len -= 5;
        one->fact.value = str_from(one->fact.value, 4);
        one->facts = (struct facts){.items = &one->fact, .n = 1, .cap = 1};
}

/* --- figures --- */

/* Of this process: what else the machine does is not in it. */
static double cpu_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
        float x = *(const float *)a, y = *(const float *)b;

        return (x > y) - (x < y);
}

static void decide_all(const struct policy *policy, const struct policy_grants *grants,
        const char *what, bool known)
{
        static float times[MOST_ROUNDS];
        struct decision decision;
        struct str credential;
        double doubting = 0;
        size_t allowed = 0, denied = 0;

        for (size_t i = 0; i < REQUESTS; i++)
                ask(&asked[i], known);
        for (size_t i = 0; i < rounds; i++) {
                const struct policy_request *request = &asked[i % REQUESTS].request;
                double began = now_ns();
                policy_decide(policy, grants, request, &decision);
                double ended = now_ns();
                times[i] = (float)(ended - began);
                allowed += decision.effect == EFFECT_ALLOW;
                if (decision.effect == EFFECT_ALLOW)
                        continue;
                (void)policy_doubts(policy, grants, request, &credential);
                doubting += now_ns() - ended;
                denied++;
        }
        qsort(times, rounds, sizeof(times[0]), by_size);
        printf(" | %s: median %.0f ns, p99 %.0f ns, %zu%% allowed, doubts %.0f ns", what,
                (double)times[rounds / 2], (double)times[rounds * 99 / 100], allowed * 100 / rounds,
                denied ? doubting / (double)denied : 0);
}

static void count_one(void *owner, const struct policy_finding *finding)
{
        (void)finding;
        ++*(size_t *)owner;
}

static void measure(const char *name, void (*shape)(struct buf *))
{
        const struct policy_caller caller = {.issuer = STR("airflow"), .subject = STR("worker")};
        struct error_list errors;
        struct buf text;
        size_t findings = 0;

        seed = 1;
        buf_init(&text, 64 << 20);
        shape(&text);
        error_list_init(&errors);
        double began = cpu_ns();
        struct policy *policy = policy_load_text("bench.yaml", buf_str(&text), &errors);
        double loaded = cpu_ns();
        if (!policy) {
                error_list_print(&errors, stderr);
                exit(1);
        }
        printf("%-12s load %.0f ms", name, (loaded - began) / 1e6);
        began = cpu_ns();
        for (int i = 0; i < 20; i++)
                policy_grants_free(policy_grants_new(policy, &caller));
        printf(", grants %.1f us", (cpu_ns() - began) / 20e3);
        struct policy_grants *grants = policy_grants_new(policy, &caller);
        decide_all(policy, grants, "as asked", false);
        decide_all(policy, grants, "known", true);
        began = cpu_ns();
        (void)policy_lint(policy, 1000, count_one, &findings);
        printf(" | lint %.0f ms (%zu)\n", (cpu_ns() - began) / 1e6, findings);
        fflush(stdout);
        policy_grants_free(grants);
        policy_unref(policy);
        error_list_clear(&errors);
        buf_clear(&text);
}

int main(int argc, char **argv)
{
        static const struct {
                const char *name;
                void (*shape)(struct buf *);
        } shapes[] = {{"mix", shape_mix}, {"ids", shape_ids}, {"names", shape_names},
                {"prefixes", shape_prefixes}, {"refs", shape_refs}, {"where", shape_where},
                {"denies", shape_denies}, {"classes", shape_classes}, {"bindings", shape_bindings},
                {"10 bindings", shape_few_bindings}};
        bool chosen = false;

        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "-n") == 0 && i + 1 < argc)
                        rules = (unsigned)strtoul(argv[++i], NULL, 10);
                else if (strcmp(argv[i], "-r") == 0 && i + 1 < argc)
                        rounds = strtoul(argv[++i], NULL, 10) % (MOST_ROUNDS + 1);
                else
                        chosen = true;
        }
        for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
                bool wanted = !chosen;
                for (int i = 1; i < argc && !wanted; i++)
                        wanted = strcmp(argv[i], shapes[s].name) == 0;
                if (wanted)
                        measure(shapes[s].name, shapes[s].shape);
        }
        return 0;
}
