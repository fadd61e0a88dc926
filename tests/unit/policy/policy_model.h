/*
 * Random policies as plain lists, and the text of the file that says the same. Everything is in
 * words (C strings), nothing is compiled: what a word means is for policy_reference_entry.h to say.
 */
#ifndef DAGWARD_TESTS_POLICY_MODEL_H
#define DAGWARD_TESTS_POLICY_MODEL_H

#include "policy_kit.h"

#include "dagward/base/buf.h"

enum {
        MOST_VALUES = 4,
        MOST_WHERE = 3,
        MOST_KEYS = 3,
        MOST_ENTRIES = 44,
        MOST_ROLES = 5,
        MOST_BINDINGS = 5,
        MOST_GROUPS = 3,
};

/* A list that is not there (given false) asks for nothing. */
struct words {
        const char *items[MOST_VALUES];
        size_t n;
        bool given;
};

/* One condition of `where`; a map has values by key, others one list without a key. Without keys:
 * the empty list. */
struct model_where {
        const char *fact;
        bool is_map;
        const char *keys[MOST_KEYS];
        struct words values[MOST_KEYS];
        size_t n;
};

struct model_claimed {
        const char *name;
        struct words values;
};

struct model_entry {
        bool deny;
        struct words operations, access, scopes, areas, method, path;
        struct words kinds[RESOURCE_KINDS];
        struct words where_refs; /* `where: {refs: ...}`, a second selector of refs */
        struct words windows;    /* `where: {time: ...}` */
        struct model_where where[MOST_WHERE];
        size_t n_where;
        struct model_claimed claimed[2];
        size_t n_claimed;
        size_t line; /* once printed */
};

struct model_role {
        struct model_entry entries[MOST_ENTRIES]; /* allow entries first, as they are printed */
        size_t n;
        size_t includes[2], n_includes;
};

struct model_claim {
        const char *path;
        struct words values; /* as in YAML: with quotes or without */
};

struct model_binding {
        const char *name; /* NULL: none */
        const char *issuer;
        struct words subjects, roles_of_token;
        struct model_claim claims[2];
        size_t n_claims;
        size_t roles[2], n_roles;
        const char *not_before, *expires; /* NULL: none; as "2026-01-01" */
        unsigned glass;                   /* break_glass: characters of a reason; 0: ordinary */
        size_t line;
};

struct model {
        const char *groups[MOST_GROUPS]; /* names; NULL: not there */
        struct words group_values[MOST_GROUPS];
        struct model_role roles[MOST_ROLES];
        size_t n_roles;
        struct model_binding bindings[MOST_BINDINGS];
        size_t n_bindings;
};

/* --- chance --- */

static uint64_t state_of_chance = 88172645463325252u;

static inline size_t chance(size_t n)
{
        state_of_chance ^= state_of_chance << 13;
        state_of_chance ^= state_of_chance >> 7;
        state_of_chance ^= state_of_chance << 17;
        return (size_t)((state_of_chance >> 11) % n);
}

/* Sanitizers make it a few times slower, and find nothing that takes many runs. */
#ifdef __SANITIZE_ADDRESS__
enum { SLOWER = 5 };
#else
enum { SLOWER = 1 };
#endif

/* From the environment, so that a failure can be had again and a night can be spent on it. */
static inline uint64_t chance_begin(const char *what, const char *runs_name, uint64_t runs)
{
        const char *seed = getenv("DAGWARD_PROPERTY_SEED"), *text = getenv(runs_name);
        uint64_t from = seed ? strtoull(seed, NULL, 10) : 1;

        runs /= SLOWER;
        if (text)
                runs = strtoull(text, NULL, 10);
        state_of_chance = (from + 1) * 0x9e3779b97f4a7c15u;
        print_message("%s: DAGWARD_PROPERTY_SEED=%llu %s=%llu\n", what, (unsigned long long)from,
                runs_name, (unsigned long long)runs);
        return runs;
}

#define ANY(list) (list)[chance(sizeof(list) / sizeof((list)[0]))]
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/* --- what there is to choose from --- */

#define GUID "a1111111-1111-1111-1111-111111111111"
#define GUID_2 "b2222222-2222-2222-2222-222222222222"
#define GUID_ODD "a1111111111111111111111111111111" /* .NET takes it for GUID */

static const char *const operation_values[] = {"pipelines.runs.run", "build.builds.queue",
        "git.pullRequests.update", "git.fetch", "git.push", "git.branch.create", "git.tag.*",
        "gitHttp.pack.push", "pipelines.*", "*.runs.get", "build.builds.*", "*", "legacy.soap.any",
        "BUILD.builds.list", "git.*", "tokens.pats.create"};
static const char *const access_values[] = {"read", "write", "execute", "manage", "delete"};
static const char *const scope_values[] = {"vso.build", "vso.build_execute", "vso.code*", "*"};
static const char *const area_values[] = {"build", "pipelines", "git*", "legacy", "*"};
static const char *const method_values[] = {"GET", "POST", "PATCH"};
static const char *const path_values[] = {"/contoso/**", "/contoso/a", "/contoso/*/c", "/**",
        "/contoso/b*/**", "/contoso/caf\xc3\xa9"};

/* What policies name, and what requests do. */
struct vocabulary {
        enum resource_kind kind;
        const char *values[12], *items[10];
};
static const struct vocabulary vocabularies[] = {
        {RESOURCE_PROJECT,
                {"a", "b", "a*", "*", GUID, "A", "ab", "group:g0", "caf\xc3\xa9", "k", "caf*",
                        "b*"},
                {"a", "b", "AB", GUID, "c",
                        "\xc2\xa0"
                        "a",
                        "CAF\xc3\x89", "\xe2\x84\xaa", GUID_ODD, GUID_2}},
        {RESOURCE_PIPELINE,
                {"42", "99", "nightly", "night*", "*", "4*", "\\etl\\nightly", "\\etl\\*", "7",
                        "group:g1", "421", "NIGHTLY"},
                {"42", "99", "nightly", "7", "42", "421", "night", "\\etl\\nightly", GUID, "8"}},
        {RESOURCE_REPOSITORY,
                {"dags", "a/dags", "a/*", "*", "*/dags", "b/d*", "etl", GUID, "*/*", "group:g2",
                        GUID "/dags", "d*"},
                {"dags", "DAGS", "etl", GUID, "other", "dags", "d", "dags.git", GUID_ODD,
                        "dags\xe3\x80\x80"}},
        {RESOURCE_REF,
                {"refs/heads/main", "refs/heads/*", "*", "refs/tags/v1", "refs/heads/Main",
                        "refs/heads/r*", "refs/heads/x", "refs/heads/release/*", "refs/tags/*",
                        "refs/heads/y", "refs/heads/z", "refs/heads/\xc3\xa9"},
                {"refs/heads/main", "refs/heads/Main", "main", "refs/tags/v1", "refs/heads/r1",
                        "refs/heads/main\xe3\x80\x80", "refs/heads/release/1", "refs/heads/x",
                        "refs/heads/", "refs/heads/\xc3\x89"}},
        {RESOURCE_ORGANIZATION,
                {"contoso", "fabrikam", "con*", "*", "A" GUID, "contoso", "Contoso", "c*",
                        "contoso", "*", "x", "y"},
                {"contoso", "contoso", "fabrikam", "CONTOSO", GUID, "a" GUID, "contoso", "contoso",
                        "contoso", "conto"}},
        {RESOURCE_BUILD, {"1", "2", "*", "3", "4", "5", "6", "7", "8", "9", "10", "11"},
                {"1", "2", "3", "4", "5", "6", "7", "8", "12", "x"}},
        {RESOURCE_ENVIRONMENT,
                {"prod", "prod*", "12", "*", "stage", "13", "test*", "14", "x", "y", "z", "15"},
                {"prod", "production", "12", "13", "test", "TEST1", "stage", "x", "15", "16"}},
        {RESOURCE_WORK_ITEM, {"1", "2", "*", "3", "4", "5", "6", "7", "8", "9", "10", "11"},
                {"1", "2", "3", "4", "5", "6", "7", "8", "12", "13"}},
        {RESOURCE_WORK_ITEM_TYPE,
                {"Bug", "Task", "*", "B*", "Microsoft.VSTS.WorkItemTypes.Bug", "Epic", "Issue",
                        "T*", "Bug", "Task", "Test Case", "Test*"},
                {"Bug", "bug", "Task", "Microsoft.VSTS.WorkItemTypes.Bug", "Epic", "Issue", "Test",
                        "Test Case", "X", "Bug"}},
        {RESOURCE_FEED,
                {"models", "mod*", GUID, "*", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8"},
                {"models", "MODELS", GUID, "f1", "f2", "f3", "mod", "f5", GUID_2, "x"}},
        {RESOURCE_TEAM, {"t", "T2", "t*", "*", GUID, "t3", "t4", "t5", "t6", "t7", "t8", "t9"},
                {"t", "t2", GUID, "t3", "T", "t10", "u", "t4", "t5", "t6"}},
        {RESOURCE_RELEASE, {"1", "2", "*", "3", "4", "5", "6", "7", "8", "9", "10", "11"},
                {"1", "2", "3", "4", "5", "6", "7", "8", "12", "13"}},
};

static const char *const group_names[] = {"g0", "g1", "g2"};
static const char *const group_words[][6] = {{"a", "b*", GUID, "c", "zeta", "caf\xc3\xa9"},
        {"42", "nightly", "\\etl\\*", "7", "n*", "8"},
        {"dags", "a/d*", "*/etl", "other", GUID, "b/*"}};

/* Facts, and operations that can say them. */
static const struct {
        const char *name, *operation;
        bool is_map;
} fact_words[] = {{"templateParameters", "pipelines.runs.run", true},
        {"variables", "pipelines.runs.run", true}, {"stagesToSkip", "pipelines.runs.run", false},
        {"yamlOverride", "pipelines.runs.run", false},
        {"repositoryTokens", "pipelines.runs.run", true}, {"reason", "build.builds.queue", false},
        {"parameters", "build.builds.queue", true}, {"status", "git.pullRequests.update", false},
        {"bypassPolicy", "git.pullRequests.update", false}};
static const char *const fact_values[] = {"staging", "prod", "pr*", "*", "1", "-3", "s*", "/dags/*",
        "true", "\xc3\xa9", "Staging", "none"};
static const char *const plain_values[] = {
        "staging", "prod", "1", "-3", "true", "s*", "/dags/*", "none", "\xc3\xa9", "Staging"};
static const char *const fact_items[] = {"staging", "prod", "STAGING", "1", "-3", "/dags/x",
        "/dags/../x", "\\x", "true", "false", "\xc3\x89", "none", " prod", "x,\tstaging ", "+1",
        "/dags", "/", "dags/x", "./dags/x", "001", "1, -3"};
static const char *const fact_keys[] = {
        "environment", "env*", "*", "day", "Environment", "a.day", "a_*"};
static const char *const fact_key_items[] = {
        "environment", "ENVIRONMENT", "day", "env", "other", "A_day", "a day", "a.day"};

static const char *const issuers[] = {"i", "i", "i", "j"};
static const char *const subject_values[] = {"s", "t", "s*", "*", "sys:a:*"};
static const char *const subjects[] = {"s", "t", "s1", "sys:a:b", "S"};
static const char *const token_roles[] = {"Op", "User", "O*", "op"};
static const char *const claim_paths[] = {"a.b", "groups", "n", "t", "a.c.d", "x", "a"};
static const char *const claim_values[] = {
        "'y'", "'x'", "g1", "5", "'5'", "true", "'true'", "'g*'", "'*'", "-7", "'z'"};
static const char *const claims_of_callers[] = {NULL, "{}",
        "{\"a\": {\"b\": \"x\"}, \"groups\": [\"g1\", \"h\"], \"n\": 5, \"t\": true}",
        "{\"a.b\": \"y\", \"a\": {\"b\": \"z\"}, \"groups\": \"g2\", \"n\": \"5\"}",
        "{\"a\": {\"c.d\": [5, \"y\"]}, \"a.c\": {\"d\": \"z\"}, \"t\": \"true\", \"n\": -7}",
        "{\"a\": null, \"groups\": [[\"g1\"], {}, 5], \"x\": 1.5, \"t\": false}"};
static const char *const claimed_names[] = {"dag_id", "task_id"};
static const char *const claimed_values[] = {"etl", "analytics.*", "*", "e*"};
static const char *const claimed_items[] = {"etl", "analytics.daily", "Etl", ""};
static const char *const times[] = {"2026-01-01", "2026-06-01T12:00:00Z", "2027-01-01"};
static const int64_t time_items[] = {0, INT64_C(1767225599999), INT64_C(1767225600000),
        INT64_C(1780315200000), INT64_C(1798761600000), INT64_C(1800000000000)};

/* Nights, week-ends that go round, a minute at either end of a day, offsets of a day and more. */
static const char *const window_values[] = {"00:00-24:00", "06:00-20:00", "22:00-05:00 +01:00",
        "Mon-Fri 06:00-20:00 +01:00", "Sat 08:00-24:00 -05:30", "Fri-Mon 22:00-04:00",
        "Sun 23:59-00:01 +14:00", "Mon 00:00-00:01 -14:00", "Wed-Tue 12:00-11:59 +05:45",
        "Fri 22:00-04:00 -12:00", "Sun 00:01-23:59", "Mon-Thu 22:00-00:00", "Tue-Tue 05:00-06:00"};

/* Minutes of a day, and from UTC. */
struct model_window {
        int begin, end, offset;
};

static inline struct model_window window_minutes(const char *window)
{
        int begin_h, begin_m, end_h, end_m, offset_h = 0, offset_m = 0;
        char sign = '+';

        assert_true(sscanf(window + strcspn(window, "0123456789"), "%d:%d-%d:%d %c%d:%d", &begin_h,
                            &begin_m, &end_h, &end_m, &sign, &offset_h, &offset_m) >= 4);
        return (struct model_window){begin_h * 60 + begin_m, end_h * 60 + end_m,
                (offset_h * 60 + offset_m) * (sign == '-' ? -1 : 1)};
}

/* Of reasons; bindings ask for some of these. */
static const unsigned glass_values[] = {10, 11, 20, 20, 200};
static const unsigned reason_items[] = {0, 0, 9, 10, 11, 19, 20, 199, 200, 500};

/* --- random policies --- */

static inline void some(struct words *out, const char *const *list, size_t n, size_t one_in)
{
        if (chance(one_in) != 0)
                return;
        *out = (struct words){.n = 1 + (chance(2) ? 0 : chance(MOST_VALUES)), .given = true};
        for (size_t i = 0; i < out->n; i++)
                out->items[i] = list[chance(n)];
}
#define SOME(out, list, one_in) some(out, list, COUNT(list), one_in)

/* No operation in the list but one that says the fact, or loading would complain. */
static inline void random_where(struct model_entry *entry)
{
        for (size_t tries = 1 + chance(3); tries > 0 && entry->n_where < MOST_WHERE; tries--) {
                size_t which = chance(COUNT(fact_words));
                struct model_where *where = &entry->where[entry->n_where];
                bool again = false;
                for (size_t i = 0; i < entry->n_where; i++)
                        again |= entry->where[i].fact == fact_words[which].name;
                if (again || (entry->n_where && strcmp(entry->operations.items[0],
                                                        fact_words[which].operation) != 0))
                        continue;
                entry->operations.items[0] = fact_words[which].operation;
                entry->operations.n += entry->operations.n == 0;
                entry->operations.given = true;
                entry->access = entry->scopes = entry->areas = (struct words){.n = 0};
                *where = (struct model_where){
                        .fact = fact_words[which].name, .is_map = fact_words[which].is_map};
                entry->n_where++;
                if (!entry->deny && chance(5) == 0)
                        continue; /* none may be said */
                size_t keys = where->is_map ? 1 + chance(MOST_KEYS) : 1;
                size_t first = chance(COUNT(fact_keys));
                for (size_t k = 0; k < keys; k++) {
                        where->keys[k] = fact_keys[(first + k) % COUNT(fact_keys)];
                        SOME(&where->values[k], fact_values, 1);
                        if (!entry->deny && where->is_map && chance(6) == 0)
                                where->values[k] = (struct words){.given = true};
                }
                where->n = keys;
        }
        if (chance(3) == 0)
                SOME(&entry->where_refs, vocabularies[3].values, 1);
}

static inline void random_entry(struct model_entry *entry, bool deny)
{
        *entry = (struct model_entry){.deny = deny};
        SOME(&entry->operations, operation_values, 2);
        SOME(&entry->access, access_values, 4);
        SOME(&entry->scopes, scope_values, 8);
        SOME(&entry->areas, area_values, 6);
        SOME(&entry->method, method_values, 6);
        SOME(&entry->path, path_values, 6);
        for (size_t k = 0; k < COUNT(vocabularies); k++)
                SOME(&entry->kinds[vocabularies[k].kind], vocabularies[k].values,
                        (deny ? 3u : 5u) + (k > 3 ? 12u : 0));
        if (chance(4) == 0)
                random_where(entry);
        for (size_t i = 0; !deny && i < COUNT(claimed_names); i++) {
                struct words values = {.n = 0};
                SOME(&values, claimed_values, 8);
                if (values.given)
                        entry->claimed[entry->n_claimed++] =
                                (struct model_claimed){claimed_names[i], values};
        }
        SOME(&entry->windows, window_values, 6);
        if (!entry->operations.n && !entry->access.n && !entry->scopes.n && !entry->areas.n &&
                !entry->path.n)
                SOME(&entry->operations, operation_values, 1);
}

/* A condition on that fact, mostly with literal values. */
static inline void random_saying(struct model_entry *entry, size_t which)
{
        struct model_where *where = &entry->where[0];

        *where = (struct model_where){
                .fact = fact_words[which].name, .is_map = fact_words[which].is_map};
        entry->n_where = 1;
        where->n = where->is_map ? 1 + chance(2) : 1;
        for (size_t k = 0; k < where->n; k++) {
                where->keys[k] = chance(20) ? (k ? "day" : "environment") : k ? "d*" : "env*";
                SOME(&where->values[k], fact_values, 1);
                for (size_t v = 0; v < where->values[k].n && chance(10); v++)
                        where->values[k].items[v] = ANY(plain_values);
                if (!entry->deny && where->is_map && chance(8) == 0)
                        where->values[k] = (struct words){.given = true};
        }
}

/* Many entries about one operation, told apart by one kind of resource, or by what requests say:
 * what indexes are for. */
static inline void random_crowd(struct model_role *role, bool deny, size_t n)
{
        const struct vocabulary *words = &vocabularies[chance(4)];
        const char *operation = operation_values[chance(3)];
        size_t which = chance(COUNT(fact_words));
        bool says = chance(2);

        if (says)
                operation = fact_words[which].operation;

        for (size_t i = 0; i < n; i++) {
                struct model_entry *entry = &role->entries[role->n++];
                *entry = (struct model_entry){.deny = deny};
                entry->operations = (struct words){.items = {operation}, .n = 1, .given = true};
                if (says && chance(12))
                        random_saying(entry, which);
                if (!says || chance(4) == 0)
                        SOME(&entry->kinds[words->kind], words->values, 1);
                for (size_t k = 0; k < 4; k++)
                        SOME(&entry->kinds[vocabularies[k].kind], vocabularies[k].values, 6);
                SOME(&entry->windows, window_values, 10);
                if (chance(20) == 0)
                        random_entry(entry, deny);
        }
}

static inline void random_role(struct model *model, size_t r)
{
        struct model_role *role = &model->roles[r];
        bool crowd = chance(3) == 0;
        size_t allows = crowd ? 8 + chance(20) : chance(8);
        size_t denies = crowd && chance(2) ? 8 + chance(8) : chance(3);

        if (crowd)
                random_crowd(role, false, allows);
        for (size_t i = 0; !crowd && i < allows; i++)
                random_entry(&role->entries[role->n++], false);
        if (denies > 3)
                random_crowd(role, true, denies);
        for (size_t i = 0; denies <= 3 && i < denies; i++)
                random_entry(&role->entries[role->n++], true);
        while (r + 1 < model->n_roles && role->n_includes < 2 && chance(3) == 0) {
                size_t other = r + 1 + chance(model->n_roles - r - 1);
                if (!role->n_includes || role->includes[0] != other)
                        role->includes[role->n_includes++] = other;
        }
        if (!role->n && !role->n_includes)
                random_entry(&role->entries[role->n++], chance(2));
}

static inline void random_binding(struct model_binding *binding, size_t index, size_t n_roles)
{
        static const char *const names[MOST_BINDINGS] = {"b0", "b1", "b2", "b3", "b4"};

        *binding = (struct model_binding){
                .name = chance(3) ? names[index] : NULL, .issuer = ANY(issuers)};
        SOME(&binding->subjects, subject_values, 2);
        SOME(&binding->roles_of_token, token_roles, 5);
        for (size_t i = 0; i < 2; i++) {
                struct model_claim *claim = &binding->claims[binding->n_claims];
                claim->path = claim_paths[i * 3 + chance(3)];
                SOME(&claim->values, claim_values, 5);
                binding->n_claims += claim->values.given;
        }
        binding->n_roles = 1 + chance(2);
        for (size_t r = 0; r < binding->n_roles; r++)
                binding->roles[r] = chance(n_roles);
        size_t begin = chance(9), end = chance(9);
        binding->not_before = begin < COUNT(times) - 1 ? times[begin] : NULL;
        binding->expires = end > 0 && end < COUNT(times) ? times[end] : NULL;
        if (binding->not_before && binding->expires && end <= begin)
                binding->expires = NULL;
        if (chance(3) == 0) {
                binding->glass = ANY(glass_values);
                if (!binding->expires)
                        binding->expires = times[COUNT(times) - 1];
        }
}

static inline void random_model(struct model *model)
{
        *model = (struct model){.n_roles = 1 + chance(MOST_ROLES)};
        for (size_t g = 0; g < MOST_GROUPS; g++) {
                model->groups[g] = group_names[g];
                SOME(&model->group_values[g], group_words[g], 1);
        }
        for (size_t r = 0; r < model->n_roles; r++)
                random_role(model, r);
        model->n_bindings = 1 + chance(MOST_BINDINGS);
        for (size_t b = 0; b < model->n_bindings; b++)
                random_binding(&model->bindings[b], b, model->n_roles);
}

/* A moment at or beside one at which a window of the policy begins or ends; else at or beside one
 * at which a binding may. */
static inline int64_t random_time(const struct model *model)
{
        static const int64_t beside[] = {-60000, -1, 0, 59999, 60000};
        const struct words *windows = NULL;

        for (size_t tries = chance(3) ? 20 : 0; !windows && tries > 0; tries--) {
                const struct model_role *role = &model->roles[chance(model->n_roles)];
                const struct model_entry *entry = role->n ? &role->entries[chance(role->n)] : NULL;
                if (entry && entry->windows.given)
                        windows = &entry->windows;
        }
        if (!windows)
                return ANY(time_items);
        struct model_window window = window_minutes(windows->items[chance(windows->n)]);
        /* Mostly in 2026, when most bindings hold; now and then before 1970. */
        int64_t day = chance(8) ? 20454 + (int64_t)chance(365) : (int64_t)chance(30000) - 5000;
        int minute = (chance(2) ? window.begin : window.end) - window.offset;
        return (day * 24 * 60 + minute) * 60000 + ANY(beside);
}

/* --- the file --- */

static inline void print_words(
        struct buf *out, const char *before, const char *name, const struct words *words, bool raw)
{
        if (!words->given)
                return;
        buf_printf(out, "%s%s: [", before, name);
        for (size_t i = 0; i < words->n; i++)
                buf_printf(out, raw ? "%s%s" : "%s'%s'", i ? ", " : "", words->items[i]);
        buf_printf(out, "]");
}

static inline void print_where(struct buf *out, const struct model_entry *entry)
{
        const char *between = "";

        buf_printf(out, ", where: {");
        for (size_t i = 0; i < entry->n_where; i++, between = ", ") {
                const struct model_where *where = &entry->where[i];
                if (!where->n) {
                        buf_printf(out, "%s%s: []", between, where->fact);
                } else if (!where->is_map) {
                        print_words(out, between, where->fact, &where->values[0], false);
                } else {
                        buf_printf(out, "%s%s: {", between, where->fact);
                        for (size_t k = 0; k < where->n; k++) {
                                char key[40];
                                snprintf(key, sizeof(key), "'%s'", where->keys[k]);
                                print_words(out, k ? ", " : "", key, &where->values[k], false);
                        }
                        buf_printf(out, "}");
                }
        }
        print_words(out, between, "refs", &entry->where_refs, false);
        print_words(out, entry->where_refs.given ? ", " : between, "time", &entry->windows, false);
        buf_printf(out, "}");
}

static inline size_t next_line(const struct buf *out)
{
        size_t n = 1;

        for (size_t i = 0; i < out->len; i++)
                n += out->data[i] == '\n';
        return n;
}

static inline void print_entry(struct buf *out, struct model_entry *entry)
{
        const struct {
                const char *name;
                const struct words *words;
        } choices[] = {{"operations", &entry->operations}, {"access", &entry->access},
                {"scopes", &entry->scopes}, {"areas", &entry->areas}, {"method", &entry->method},
                {"path", &entry->path}};
        size_t before;

        entry->line = next_line(out);
        buf_printf(out, "      - {");
        before = out->len;
        for (size_t i = 0; i < COUNT(choices); i++)
                print_words(out, out->len == before ? "" : ", ", choices[i].name, choices[i].words,
                        false);
        for (int k = 0; k < RESOURCE_KINDS; k++)
                print_words(out, out->len == before ? "" : ", ",
                        resource_kind_selector((enum resource_kind)k), &entry->kinds[k], false);
        if (entry->n_where || entry->where_refs.given || entry->windows.given)
                print_where(out, entry);
        for (size_t i = 0; i < entry->n_claimed; i++)
                print_words(out, i ? ", " : ", claimed: {", entry->claimed[i].name,
                        &entry->claimed[i].values, false);
        buf_printf(out, "%s}\n", entry->n_claimed ? "}" : "");
}

static inline void print_role(struct buf *out, struct model_role *role, size_t r)
{
        buf_printf(out, "  r%zu:\n", r);
        for (size_t i = 0; i < role->n_includes; i++)
                buf_printf(out, i ? ", r%zu" : "    includes: [r%zu", role->includes[i]);
        if (role->n_includes)
                buf_printf(out, "]\n");
        for (size_t i = 0; i < role->n; i++) {
                if (i == 0 || role->entries[i].deny != role->entries[i - 1].deny)
                        buf_printf(out, "    %s:\n", role->entries[i].deny ? "deny" : "allow");
                print_entry(out, &role->entries[i]);
        }
}

static inline void print_binding(struct buf *out, struct model_binding *binding, size_t b)
{
        binding->line = next_line(out);
        buf_printf(out, "  - {credential: c%zu, ", b);
        if (binding->name)
                buf_printf(out, "name: %s, ", binding->name);
        buf_printf(out, "callers: {issuer: %s", binding->issuer);
        print_words(out, ", ", "subject", &binding->subjects, false);
        print_words(out, ", ", "roles", &binding->roles_of_token, false);
        for (size_t i = 0; i < binding->n_claims; i++)
                print_words(out, i ? ", " : ", claims: {", binding->claims[i].path,
                        &binding->claims[i].values, true);
        buf_printf(out, "%s}, roles: [r%zu", binding->n_claims ? "}" : "", binding->roles[0]);
        for (size_t r = 1; r < binding->n_roles; r++)
                buf_printf(out, ", r%zu", binding->roles[r]);
        buf_printf(out, "]");
        if (binding->not_before)
                buf_printf(out, ", not_before: %s", binding->not_before);
        if (binding->expires)
                buf_printf(out, ", expires: %s", binding->expires);
        if (binding->glass == POLICY_GLASS_CHARS)
                buf_printf(out, ", break_glass: true");
        else if (binding->glass)
                buf_printf(out, ", break_glass: {reason_at_least: %u}", binding->glass);
        buf_printf(out, "}\n");
}

/* Writes the file and notes where each entry stands; ends with NUL. */
static inline void print_model(struct buf *out, struct model *model)
{
        buf_reset(out);
        buf_printf(out, "version: 1\ngroups:\n");
        for (size_t g = 0; g < MOST_GROUPS; g++)
                print_words(
                        out, g ? "\n  " : "  ", model->groups[g], &model->group_values[g], false);
        buf_printf(out, "\nroles:\n");
        for (size_t r = 0; r < model->n_roles; r++)
                print_role(out, &model->roles[r], r);
        buf_printf(out, "bindings:\n");
        for (size_t b = 0; b < model->n_bindings; b++)
                print_binding(out, &model->bindings[b], b);
        buf_char(out, '\0');
}

/* NULL: it does not load; then `why` says so, if given. */
static inline struct policy *load_model(const struct buf *text, FILE *why)
{
        struct error_list errors;

        error_list_init(&errors);
        struct policy *policy = policy_load_text("p.yaml", str_of(text->data), &errors);
        if (!policy && why)
                error_list_print(&errors, why);
        error_list_clear(&errors);
        return policy;
}

/* As every request for the operation is. */
static inline void leave_open(const struct operation *op, struct resources *resources)
{
        for (unsigned k = 0; op && k < RESOURCE_KINDS; k++) {
                if (!(operation_open_kinds(op) >> k & 1))
                        continue;
                resources->unresolved[k] = true;
                resources->deferred &= ~(1U << k);
        }
}

#endif
