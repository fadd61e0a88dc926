/*
 * The compiled decision against a reference that is written to be read: random policies, callers
 * and requests, the same answer each time, also of what is in doubt. What differs is made as small
 * as it gets and printed.
 *
 * DAGWARD_PROPERTY_RUNS is the number of decisions, DAGWARD_PROPERTY_SEED where chance begins.
 */
#include "dagward/policy/analyse.h"
#include "policy_reference.h"

/* --- random callers and requests --- */

struct asked {
        struct policy_caller caller;
        struct str roles[2];
        struct arena claims;
        struct policy_request request;
        struct resources resources;
        struct facts facts;
        struct fact said[5];
        struct pair claimed[2];
};

static const char *const operations[] = {"pipelines.runs.run", "pipelines.runs.get",
        "build.builds.queue", "build.builds.list", "git.pullRequests.update", "gitHttp.pack.fetch",
        "gitHttp.pack.push", "gitHttp.push.createBranch", "gitHttp.push.deleteTag",
        "gitHttp.refs.advertisePush", "legacy.soap.any", "git.repositories.list",
        "tokens.pats.create", "wit.batch.post", "build.builds.delete"};
static const char *const crowded[] = {
        "pipelines.runs.run", "build.builds.queue", "git.pullRequests.update"};
static const char *const paths[] = {"/contoso", "/contoso/a", "/Contoso/b/c", "/fabrikam/a", "/",
        "/contoso/bb/c/d", "/contoso/caf\xc3\x89", "/contoso/x/c"};

static const struct identity identities[] = {
        {.id = {"42", 2}, .name = {"nightly", 7}, .path = {"\\etl\\nightly", 12}},
        {.id = {"7", 1}, .name = {"other", 5}, .path = {"\\nightly", 8}},
        {.id = {GUID, 36}, .name = {"a", 1}},
        {.id = {GUID_2, 36},
                .name = {"dags", 4},
                .project_id = {GUID, 36},
                .project_name = {"a", 1}},
        {.id = {GUID, 36},
                .name = {"etl", 3},
                .project_id = {GUID_2, 36},
                .project_name = {"b", 1}},
        {.id = {"99", 2}},
        {.name = {"caf\xc3\x89", 5}, .path = {"\\caf\xc3\xa9", 6}},
        {.id = {"421", 3}, .name = {"night", 5}, .path = {"\\ETL\\x", 6}},
};

static void random_caller(struct asked *asked)
{
        const char *claims = ANY(claims_of_callers);

        arena_clear(&asked->claims);
        const struct tree *tree = kit_claims(claims, &asked->claims);
        asked->caller = (struct policy_caller){.issuer = str_of(ANY(issuers)),
                .subject = str_of(ANY(subjects)),
                .roles = asked->roles,
                .n_roles = chance(3),
                .claims = tree};
        for (size_t i = 0; i < 2; i++)
                asked->roles[i] = str_of(chance(2) ? "Op" : ANY(token_roles));
}

static void random_resources(struct resources *resources)
{
        *resources = (struct resources){.n = 0};
        for (size_t k = 0; k < COUNT(vocabularies); k++) {
                const struct vocabulary *words = &vocabularies[k];
                size_t n = k < 4 ? (chance(4) ? 1 : chance(3)) : chance(4) == 0;
                for (; n > 0; n--) {
                        const struct identity *known = chance(4) == 0 ? &ANY(identities) : NULL;
                        (void)!resources_add(
                                resources, words->kind, str_of(ANY(words->items)), known);
                }
                resources->unresolved[words->kind] = chance(12) == 0;
        }
        if (chance(20) == 0)
                resources->deferred = 1u << RESOURCE_REF;
}

static void random_facts(struct asked *asked)
{
        asked->facts = (struct facts){.items = asked->said, .cap = COUNT(asked->said)};
        for (size_t n = chance(2) ? 0 : chance(COUNT(asked->said)); n > 0; n--) {
                size_t which = chance(COUNT(fact_words));
                struct fact *fact = &asked->said[asked->facts.n++];
                *fact = (struct fact){.key = STR(""), .value = str_of(ANY(fact_items))};
                assert_true(fact_named(str_of(fact_words[which].name), &fact->kind));
                if (fact_words[which].is_map)
                        fact->key = str_of(ANY(fact_key_items));
        }
        asked->facts.unread = chance(20) == 0;
}

static void random_request(const struct model *model, struct asked *asked)
{
        const char *op = chance(2) ? ANY(crowded) : ANY(operations);

        random_resources(&asked->resources);
        random_facts(asked);
        for (size_t i = 0; i < 2; i++)
                asked->claimed[i] =
                        (struct pair){str_of(claimed_names[i]), str_of(ANY(claimed_items))};
        asked->request = (struct policy_request){
                .op = chance(8) ? catalogue_find(str_of(op)) : NULL,
                .method = str_of(ANY(method_values)),
                .path = str_of(ANY(paths)),
                .resources = chance(50) ? &asked->resources : NULL,
                .facts = chance(10) ? &asked->facts : NULL,
                .claimed = asked->claimed,
                .n_claimed = chance(3),
                .reason_chars = ANY(reason_items),
                .now_ms = random_time(model),
        };
        leave_open(asked->request.op, &asked->resources);
}

/* --- comparing --- */

struct seen {
        size_t total, allowed, denied_by_rule, doubted;
        size_t broken, would_help; /* glass */
};

static void name_binding(const struct model_binding *binding, char *name, size_t bytes)
{
        if (binding->name)
                snprintf(name, bytes, "%s", binding->name);
        else
                snprintf(name, bytes, "p.yaml:%zu", binding->line);
}

/* Whether both say the same, down to who is named for it. */
static bool agree(const struct model *model, const struct policy *policy, const struct asked *asked,
        struct seen *seen, char *what, size_t bytes)
{
        struct policy_grants *grants = policy_grants_new(policy, &asked->caller);
        struct reference want = reference_decide(model, &asked->caller, &asked->request);
        char rule[40] = "", role[40] = "", credential[40] = "", binding[40] = "", asking[40] = "";
        char helps[40] = "";
        struct policy_request doubtful = asked->request;
        unsigned doubts = 0, open = 0, chars = 0;
        struct str asking_with = STR("");
        struct decision decision;
        size_t by = 0, helper = 0;

        policy_decide(policy, grants, &asked->request, &decision);
        if (want.breaks_glass) /* whether it has to */
                doubtful.reason_chars = 0;
        if ((!want.allowed || want.breaks_glass) && asked->request.op) {
                open = reference_doubts(model, &asked->caller, &doubtful, &by);
                doubts = policy_doubts(policy, grants, &doubtful, &asking_with);
        }
        if (!want.allowed)
                chars = reference_glass(model, &asked->caller, &asked->request, &helper);
        if (chars)
                name_binding(&model->bindings[helper], helps, sizeof(helps));
        if (open)
                snprintf(asking, sizeof(asking), "c%zu", by);
        if (!doubts)
                asking_with = STR("");
        if (want.entry) {
                snprintf(rule, sizeof(rule), "p.yaml:%zu", want.entry->line);
                snprintf(role, sizeof(role), "r%zu", want.role);
                name_binding(&model->bindings[want.binding], binding, sizeof(binding));
                if (want.allowed)
                        snprintf(credential, sizeof(credential), "c%zu", want.binding);
        }
        policy_grants_free(grants);
        if (seen) {
                seen->total++;
                seen->allowed += want.allowed;
                seen->denied_by_rule += !want.allowed && want.entry;
                seen->doubted += open != 0;
                seen->broken += want.breaks_glass;
                seen->would_help += chars != 0;
        }
        if (what)
                snprintf(what, bytes,
                        "reference: %s by %s, role %s, binding %s, credential %s, in doubt %x "
                        "to be asked with %s; breaks glass: %d, helped by %u characters for %s\n"
                        "policy_decide: %s by %.*s, role %.*s, binding %.*s, credential %.*s, in "
                        "doubt %x to be asked with %.*s; breaks glass: %d, helped by %u characters "
                        "for %.*s\n",
                        want.allowed ? "allow" : "deny", rule, role, binding, credential, open,
                        asking, want.breaks_glass, chars, helps,
                        decision.effect == EFFECT_ALLOW ? "allow" : "deny", STR_FMT(decision.rule),
                        STR_FMT(decision.role), STR_FMT(decision.binding),
                        STR_FMT(decision.credential), doubts, STR_FMT(asking_with),
                        decision.breaks_glass, decision.glass_chars,
                        STR_FMT(decision.glass_binding));
        return (decision.effect == EFFECT_ALLOW) == want.allowed && doubts == open &&
               str_eq(asking_with, str_of(asking)) && str_eq(decision.rule, str_of(rule)) &&
               str_eq(decision.role, str_of(role)) && str_eq(decision.binding, str_of(binding)) &&
               str_eq(decision.credential, str_of(credential)) &&
               decision.breaks_glass == want.breaks_glass && decision.glass_chars == chars &&
               str_eq(decision.glass_binding, str_of(helps));
}

/* --- making what differs small --- */

/* Of all things that could be left out, the one whose turn it is. */
struct turn {
        size_t left;
};

static bool taken(struct turn *turn)
{
        return turn->left-- == 0;
}

#define DROP(array, n, i)                                                                          \
        (memmove(&(array)[i], &(array)[(i) + 1], ((n) - (i)-1) * sizeof((array)[0])), (n)--)

static bool drop_from_words(struct turn *turn, struct words *words)
{
        if (!words->given)
                return false;
        if (taken(turn)) {
                *words = (struct words){.n = 0};
                return true;
        }
        for (size_t i = 0; words->n > 1 && i < words->n; i++)
                if (taken(turn)) {
                        DROP(words->items, words->n, i);
                        return true;
                }
        return false;
}

static bool drop_from_entry(struct turn *turn, struct model_entry *entry)
{
        struct words *lists[] = {&entry->operations, &entry->access, &entry->scopes, &entry->areas,
                &entry->method, &entry->path, &entry->where_refs, &entry->windows};

        for (size_t i = 0; i < COUNT(lists); i++)
                if (drop_from_words(turn, lists[i]))
                        return true;
        for (size_t i = 0; i < RESOURCE_KINDS; i++)
                if (drop_from_words(turn, &entry->kinds[i]))
                        return true;
        for (size_t i = 0; i < entry->n_where; i++) {
                if (taken(turn)) {
                        DROP(entry->where, entry->n_where, i);
                        return true;
                }
                for (size_t k = 0; k < entry->where[i].n; k++)
                        if (drop_from_words(turn, &entry->where[i].values[k]))
                                return true;
        }
        for (size_t i = 0; i < entry->n_claimed; i++)
                if (taken(turn)) {
                        DROP(entry->claimed, entry->n_claimed, i);
                        return true;
                }
        return false;
}

static bool drop_from_model(struct turn *turn, struct model *model)
{
        for (size_t b = 0; b < model->n_bindings; b++) {
                struct model_binding *binding = &model->bindings[b];
                if (taken(turn)) {
                        DROP(model->bindings, model->n_bindings, b);
                        return true;
                }
                if (drop_from_words(turn, &binding->subjects) ||
                        drop_from_words(turn, &binding->roles_of_token))
                        return true;
                if (binding->glass && taken(turn)) {
                        binding->glass = 0;
                        return true;
                }
                if (binding->n_claims && taken(turn))
                        return binding->n_claims--;
                if (binding->n_roles > 1 && taken(turn))
                        return binding->n_roles--;
        }
        for (size_t r = 0; r < model->n_roles; r++) {
                struct model_role *role = &model->roles[r];
                if (role->n_includes && taken(turn))
                        return role->n_includes--;
                for (size_t i = 0; i < role->n; i++) {
                        if (taken(turn)) {
                                DROP(role->entries, role->n, i);
                                return true;
                        }
                        if (drop_from_entry(turn, &role->entries[i]))
                                return true;
                }
        }
        return false;
}

static bool drop_from_request(struct turn *turn, struct asked *asked)
{
        struct resources *resources = &asked->resources;

        for (size_t i = 0; i < resources->n; i++) {
                if (resources->items[i].known && taken(turn)) {
                        resources->items[i].known = NULL;
                        return true;
                }
                if (taken(turn)) {
                        DROP(resources->items, resources->n, i);
                        return true;
                }
        }
        for (size_t k = 0; k < RESOURCE_KINDS; k++)
                if (resources->unresolved[k] && taken(turn)) {
                        resources->unresolved[k] = false;
                        return true;
                }
        for (size_t i = 0; i < asked->facts.n; i++)
                if (taken(turn)) {
                        DROP(asked->said, asked->facts.n, i);
                        return true;
                }
        if (asked->request.reason_chars && taken(turn)) {
                asked->request.reason_chars = 0;
                return true;
        }
        if (asked->request.n_claimed && taken(turn))
                return asked->request.n_claimed--;
        if (asked->caller.n_roles && taken(turn))
                return asked->caller.n_roles--;
        return false;
}

static bool differs(struct model *model, const struct asked *asked, struct buf *text)
{
        print_model(text, model);
        struct policy *policy = load_model(text, NULL);
        bool same = !policy || agree(model, policy, asked, NULL, NULL, 0);

        policy_unref(policy);
        return !same;
}

/* Leaves out one thing after the other for as long as the difference stays. */
static void shrink(struct model *model, struct asked *asked, struct buf *text)
{
        struct model *smaller = malloc(sizeof(*smaller));
        bool again = true;

        assert_non_null(smaller);
        while (again) {
                again = false;
                for (size_t at = 0;;) {
                        struct asked other = *asked;
                        struct turn turn = {at};
                        *smaller = *model;
                        other.facts.items = other.said;
                        other.caller.roles = other.roles;
                        other.request.claimed = other.claimed;
                        other.request.facts = other.request.facts ? &other.facts : NULL;
                        other.request.resources = other.request.resources ? &other.resources : NULL;
                        if (!drop_from_model(&turn, smaller) && !drop_from_request(&turn, &other))
                                break;
                        if (!differs(smaller, &other, text)) {
                                at++;
                                continue;
                        }
                        again = true;
                        *model = *smaller;
                        /* Its own pointers stay; what they point at is taken over. */
                        asked->resources = other.resources;
                        memcpy(asked->said, other.said, sizeof(asked->said));
                        asked->facts.n = other.facts.n;
                        asked->request.n_claimed = other.request.n_claimed;
                        asked->request.reason_chars = other.request.reason_chars;
                        asked->caller.n_roles = other.caller.n_roles;
                }
        }
        free(smaller);
        print_model(text, model);
}

static void print_asked(const struct asked *asked)
{
        const struct policy_caller *caller = &asked->caller;
        const struct policy_request *request = &asked->request;
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);
        struct buf claims;

        buf_init(&claims, 64 * 1024);
        if (caller->claims)
                tree_write(caller->claims, &claims);
        print_error("caller: issuer %s, subject %s, claims %.*s, roles", caller->issuer.ptr,
                caller->subject.ptr, STR_FMT(buf_str(&claims)));
        buf_clear(&claims);
        for (size_t i = 0; i < caller->n_roles; i++)
                print_error(" %s", caller->roles[i].ptr);
        print_error("\nrequest: %s, %s %s, at %lld, reason of %u characters\n",
                request->op ? request->op->id : "(unknown)", request->method.ptr, request->path.ptr,
                (long long)request->now_ms, request->reason_chars);
        for (size_t i = 0; request->resources && i < request->resources->n; i++) {
                const struct resource *item = &request->resources->items[i];
                print_error("  %s %s", resource_kind_name(item->kind), item->value.ptr);
                if (item->known)
                        print_error(" (known: id %.*s, name %.*s, path %.*s, in %.*s %.*s)",
                                STR_FMT(item->known->id), STR_FMT(item->known->name),
                                STR_FMT(item->known->path), STR_FMT(item->known->project_id),
                                STR_FMT(item->known->project_name));
                print_error("\n");
        }
        for (int k = 0; request->resources && k < RESOURCE_KINDS; k++)
                if (request->resources->unresolved[k])
                        print_error("  an unnamed %s\n", resource_kind_name((enum resource_kind)k));
        if (!request->resources)
                print_error("  resources: NULL\n");
        else if (request->resources->deferred)
                print_error("  deferred: %x\n", request->resources->deferred);
        for (size_t i = 0; request->facts && i < request->facts->n; i++)
                print_error("  says %s %s: %s\n", kinds[request->facts->items[i].kind].name,
                        request->facts->items[i].key.ptr, request->facts->items[i].value.ptr);
        if (request->facts && request->facts->unread)
                print_error("  body not read\n");
        for (size_t i = 0; i < request->n_claimed; i++)
                print_error("  claims %s: %s\n", request->claimed[i].name.ptr,
                        request->claimed[i].value.ptr);
}

static void report(struct model *model, struct asked *asked, struct buf *text)
{
        char what[1000] = "";

        shrink(model, asked, text);
        struct policy *policy = load_model(text, stderr);
        assert_non_null(policy);
        (void)agree(model, policy, asked, NULL, what, sizeof(what));
        policy_unref(policy);
        fprintf(stderr, "%s%s", what, text->data); /* cmocka cuts what is long */
        print_asked(asked);
        fail_msg("the decision is not the reference's");
}

static void the_compiled_decision_equals_the_reference(void **state)
{
        enum { CALLERS = 4, REQUESTS = 40 };
        uint64_t runs = chance_begin("decisions", "DAGWARD_PROPERTY_RUNS", 150000);
        struct model *model = malloc(sizeof(*model));
        struct asked asked = {0};
        struct seen seen = {0};
        struct buf text;

        (void)state;
        assert_non_null(model);
        buf_init(&text, 1 << 20);
        while (seen.total < runs) {
                random_model(model);
                print_model(&text, model);
                struct policy *policy = load_model(&text, stderr);
                if (!policy)
                        fail_msg("it does not load:\n%s", text.data);
                for (size_t c = 0; c < CALLERS; c++) {
                        random_caller(&asked);
                        for (size_t q = 0; q < REQUESTS; q++) {
                                random_request(model, &asked);
                                if (!agree(model, policy, &asked, &seen, NULL, 0))
                                        report(model, &asked, &text);
                        }
                }
                policy_unref(policy);
        }
        arena_clear(&asked.claims);
        buf_clear(&text);
        free(model);
        print_message("%zu decisions: %zu allowed, %zu denied by a rule, %zu in doubt; %zu break "
                      "glass, %zu would with a longer reason\n",
                seen.total, seen.allowed, seen.denied_by_rule, seen.doubted, seen.broken,
                seen.would_help);
        /* all three answers have been compared often enough to mean something */
        assert_true(seen.allowed > seen.total / 25);
        assert_true(seen.denied_by_rule > seen.total / 25);
        assert_true(seen.total - seen.allowed - seen.denied_by_rule > seen.total / 25);
        assert_true(seen.doubted > seen.total / 50);
        assert_true(seen.broken > seen.total / 200);
        assert_true(seen.would_help > seen.total / 200);
}

/* --- what lint is sure of --- */

enum { MOST_LINES = 4000 };

struct never {
        bool lines[MOST_LINES];
        size_t n;
};

/* Random requests touch what their operation does not, so of those findings that rest on what
 * operations touch nothing is asked here: unit/world/test_policy_diff does. */
static void note_never(void *owner, const struct policy_finding *finding)
{
        struct never *never = owner;
        bool by_requests = strcmp(finding->check, "never-allows") == 0 ||
                           strstr(finding->text, "at once") || strstr(finding->text, "path like");
        uint64_t line;

        if (!finding->is_error || !by_requests)
                return;
        assert_true(str_to_u64(str_from(finding->place, strlen("p.yaml:")), &line));
        assert_true(line < MOST_LINES);
        never->lines[line] = true;
        never->n++;
}

static void what_lint_says_allows_nothing_allows_nothing(void **state)
{
        enum { CALLERS = 4, REQUESTS = 40 };
        uint64_t runs = chance_begin("policies", "DAGWARD_LINT_RUNS", 1500);
        struct model *model = malloc(sizeof(*model));
        struct asked asked = {0};
        struct buf text;
        size_t told = 0, allowed = 0;

        (void)state;
        assert_non_null(model);
        buf_init(&text, 1 << 20);
        for (uint64_t run = 0; run < runs; run++) {
                struct never never = {.n = 0};
                random_model(model);
                print_model(&text, model);
                struct policy *policy = load_model(&text, stderr);
                assert_non_null(policy);
                (void)policy_lint(policy, 1000, note_never, &never);
                told += never.n;
                for (size_t q = 0; never.n && q < CALLERS * REQUESTS; q++) {
                        struct decision decision;
                        uint64_t line;
                        if (q % REQUESTS == 0)
                                random_caller(&asked);
                        random_request(model, &asked);
                        /* Only git over HTTP puts its refs off. */
                        if (!asked.request.op ||
                                !str_starts(str_of(asked.request.op->id), STR("gitHttp.")))
                                asked.resources.deferred = 0;
                        struct policy_grants *grants = policy_grants_new(policy, &asked.caller);
                        policy_decide(policy, grants, &asked.request, &decision);
                        policy_grants_free(grants);
                        if (decision.effect != EFFECT_ALLOW)
                                continue;
                        allowed++;
                        assert_true(str_to_u64(str_from(decision.rule, strlen("p.yaml:")), &line));
                        if (!never.lines[line])
                                continue;
                        fprintf(stderr, "%s", text.data);
                        print_asked(&asked);
                        fail_msg("allowed by line %u", (unsigned)line);
                }
                policy_unref(policy);
        }
        arena_clear(&asked.claims);
        buf_clear(&text);
        free(model);
        print_message(
                "%zu entries never allow, beside which %zu requests were allowed\n", told, allowed);
        assert_true(told > runs / 50);
        assert_true(allowed > runs / 10);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_compiled_decision_equals_the_reference),
                cmocka_unit_test(what_lint_says_allows_nothing_allows_nothing),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
