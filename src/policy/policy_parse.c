/* Policy files: from YAML to roles, bindings and tests, with every error at its place. */
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "policy_internal.h"

void *keep(struct loader *loader, size_t bytes)
{
        void *memory = arena_alloc(&loader->policy->arena, bytes ? bytes : 1);

        if (!memory)
                abort();
        return memory;
}

struct str keep_str(struct loader *loader, struct str text)
{
        struct str copy = arena_copy(&loader->policy->arena, text);

        if (!copy.ptr)
                abort();
        return copy;
}

struct str keep_place(struct loader *loader, struct mark at)
{
        struct str place =
                arena_printf(&loader->policy->arena, "%.*s:%u", STR_FMT(loader->file), at.line);

        if (!place.ptr)
                abort();
        return place;
}

/* Whether a list that is shown would read as another one, or hide where a value ends. */
static bool needs_quotes(struct str text)
{
        if (!text.len || text.ptr[0] == ' ' || text.ptr[text.len - 1] == ' ' || text.ptr[0] == '(')
                return true;
        for (size_t i = 0; i < text.len; i++)
                if (text.ptr[i] == ',' || (i && text.ptr[i] == ' ' && text.ptr[i - 1] == ':') ||
                        text.ptr[i] == '"' || (unsigned char)text.ptr[i] < 0x20)
                        return true;
        return false;
}

static struct str keep_quoted(struct loader *loader, struct str text)
{
        char *out = keep(loader, 2 * text.len + 2);
        size_t len = 0;

        out[len++] = '"';
        for (size_t i = 0; i < text.len; i++) {
                if (text.ptr[i] == '"' || text.ptr[i] == '\\')
                        out[len++] = '\\';
                out[len++] = text.ptr[i];
        }
        out[len++] = '"';
        return str_view(out, len);
}

struct str keep_shown(struct loader *loader, const struct str *items, size_t n)
{
        struct str *shown = calloc(n + 1, sizeof(*shown));

        if (!shown)
                abort();
        for (size_t i = 0; i < n; i++)
                shown[i] = needs_quotes(items[i]) ? keep_quoted(loader, items[i]) : items[i];
        struct str joined = keep_joined(loader, shown, n);
        free(shown);
        return joined;
}

struct str keep_joined(struct loader *loader, const struct str *items, size_t n)
{
        size_t len = 0;

        for (size_t i = 0; i < n; i++)
                len += items[i].len + 2;
        char *text = keep(loader, len + 1);
        len = 0;
        for (size_t i = 0; i < n; i++) {
                if (i) {
                        memcpy(text + len, ", ", 2);
                        len += 2;
                }
                memcpy(text + len, items[i].ptr, items[i].len);
                len += items[i].len;
        }
        return str_view(text, len);
}

static const struct yaml_node *item_of(const struct yaml_node *node, size_t i)
{
        return node->kind == YAML_SEQUENCE ? node->items[i] : node;
}

bool names_read(struct loader *loader, const struct yaml_node *node, const char *selector,
        struct names *out, struct mark **marks)
{
        char what[80];
        struct str *items;
        size_t n;

        snprintf(what, sizeof(what), "`%s`", selector);
        if (!yaml_str_list(loader->doc, node, what, &items, &n, loader->errors))
                return false;
        if (!n) {
                error_list_add(loader->errors, node->at,
                        "%s is empty and would match nothing: leave it out, or name something",
                        what);
                return false;
        }
        *out = (struct names){.items = keep(loader, n * sizeof(*items)), .n = n};
        struct mark *places = arena_alloc(&loader->doc->arena, n * sizeof(**marks));
        if (!places) {
                error_list_add(loader->errors, node->at, "the file holds too many values");
                return false;
        }
        for (size_t i = 0; i < n; i++) {
                out->items[i] = keep_str(loader, items[i]);
                places[i] = item_of(node, i)->at;
        }
        out->shown = keep_shown(loader, out->items, n);
        if (marks)
                *marks = places;
        return true;
}

void *grow(void *array, size_t n, size_t *cap, size_t bytes)
{
        if (n < *cap)
                return array;
        *cap = *cap ? *cap * 2 : 16;
        array = realloc(array, *cap * bytes);
        if (!array)
                abort();
        return array;
}

struct mark keep_mark(struct loader *loader, struct mark at)
{
        /* one copy of the path per file would do; places are few */
        at.file = keep_str(loader, str_of(at.file ? at.file : "")).ptr;
        return at;
}

static void entries_read(struct loader *loader, const struct yaml_node *role, const char *key,
        enum effect effect, unsigned index)
{
        const struct yaml_node *list = yaml_get(role, key);
        struct policy *policy = loader->policy;

        if (!list || !yaml_is_sequence(list, key, loader->errors))
                return;
        if (!list->n)
                error_list_add(loader->errors, list->at, "`%s` is empty: leave it out", key);
        for (size_t i = 0; i < list->n; i++) {
                if (policy->n_entries == POLICY_MOST_ENTRIES) {
                        error_list_add(loader->errors, list->items[i]->at,
                                "more than %d entries in all", POLICY_MOST_ENTRIES);
                        return;
                }
                policy->entries = grow(policy->entries, policy->n_entries, &loader->cap_entries,
                        sizeof(*policy->entries));
                struct entry *entry = &policy->entries[policy->n_entries++];
                (void)entry_read(loader, list->items[i], effect, entry);
                entry->role = index;
        }
}

bool name_ok(struct loader *loader, struct str name, struct mark at, const char *what)
{
        if (name.len > 100) {
                error_list_add(loader->errors, at, "%s is longer than 100 bytes", what);
                return false;
        }
        for (size_t i = 0; i < name.len; i++)
                if ((unsigned char)name.ptr[i] < 0x20 || name.ptr[i] == 0x7f) {
                        error_list_add(loader->errors, at, "%s holds a control character", what);
                        return false;
                }
        for (size_t i = 0; i < name.len; i++)
                if (str_invisible_at(name, i)) {
                        error_list_add(loader->errors, at, "%s holds an invisible character", what);
                        return false;
                }
        if (!name.len)
                error_list_add(loader->errors, at, "%s is empty", what);
        return name.len > 0;
}

/* Names and their places, of roles that are looked up when all files have been read. */
static void role_names_read(struct loader *loader, const struct yaml_node *list, const char *key,
        struct str **out, struct mark **out_marks, size_t *n)
{
        struct names names;
        struct mark *marks;

        if (!names_read(loader, list, key, &names, &marks))
                return;
        *out = names.items;
        *n = names.n;
        *out_marks = keep(loader, names.n * sizeof(**out_marks));
        for (size_t i = 0; i < names.n; i++)
                (*out_marks)[i] = keep_mark(loader, marks[i]);
}

static void includes_read(struct loader *loader, const struct yaml_node *list, struct role *role)
{
        if (list)
                role_names_read(loader, list, "includes", &role->include_names,
                        &role->include_marks, &role->n_includes);
}

static void role_read(struct loader *loader, const struct yaml_entry *pair)
{
        static const struct str keys[] = {
                {"description", 11}, {"includes", 8}, {"allow", 5}, {"deny", 4}};
        struct policy *policy = loader->policy;
        struct str description;

        if (!name_ok(loader, pair->key->text, pair->key->at, "the role's name"))
                return;
        policy->roles =
                grow(policy->roles, policy->n_roles, &loader->cap_roles, sizeof(*policy->roles));
        unsigned index = (unsigned)policy->n_roles++;
        policy->roles[index] = (struct role){
                .name = keep_str(loader, pair->key->text),
                .place = keep_place(loader, pair->key->at),
                .at = keep_mark(loader, pair->key->at),
                .first = policy->n_entries,
        };
        if (!yaml_is_mapping(pair->value, "a role", loader->errors))
                return;
        (void)yaml_known_keys(pair->value, keys, 4, loader->errors);
        const struct yaml_node *text = yaml_get(pair->value, "description");
        if (text)
                (void)yaml_str(text, "`description`", &description, loader->errors);
        entries_read(loader, pair->value, "allow", EFFECT_ALLOW, index);
        entries_read(loader, pair->value, "deny", EFFECT_DENY, index);
        policy->roles[index].n = policy->n_entries - policy->roles[index].first;
        includes_read(loader, yaml_get(pair->value, "includes"), &policy->roles[index]);
        if (!yaml_get(pair->value, "allow") && !yaml_get(pair->value, "deny") &&
                !yaml_get(pair->value, "includes"))
                error_list_add(loader->errors, pair->key->at,
                        "role `%s` has neither `allow` nor `deny`, and includes no other",
                        yaml_shown(pair->key->text));
}

static void patterns_read(struct loader *loader, const struct yaml_node *node, const char *key,
        struct pattern **out, size_t *n, struct str *shown)
{
        struct names names;
        struct mark *marks;

        if (!node || !names_read(loader, node, key, &names, &marks))
                return;
        *out = keep(loader, names.n * sizeof(**out));
        *n = names.n;
        *shown = names.shown;
        for (size_t i = 0; i < names.n; i++)
                if (!pattern_parse(names.items[i], -1, &(*out)[i]))
                        error_list_add(loader->errors, marks[i],
                                "`%s`: `*` may only stand alone or at the end",
                                yaml_shown(names.items[i]));
}

/* A text that could stand without quotes as a number or boolean is another condition than those. */
static struct str claim_shown(
        struct loader *loader, const struct yaml_node *node, const struct claim_condition *claim)
{
        struct str *shown = calloc(claim->n + 1, sizeof(*shown));

        if (!shown)
                abort();
        for (size_t i = 0; i < claim->n; i++) {
                struct yaml_node plain = *item_of(node, i);
                plain.quoted = false;
                bool quote = needs_quotes(plain.text) ||
                             (!claim->bare[i] && yaml_scalar_of(&plain) != YAML_TEXT);
                shown[i] = quote ? keep_quoted(loader, plain.text) : plain.text;
        }
        struct str joined = keep_joined(loader, shown, claim->n);
        free(shown);
        return joined;
}

static void claims_read(
        struct loader *loader, const struct yaml_node *node, struct binding *binding)
{
        if (!node || !yaml_is_mapping(node, "`claims`", loader->errors))
                return;
        if (!node->n)
                error_list_add(loader->errors, node->at, "`claims` is empty: leave it out");
        binding->claims = keep(loader, node->n * sizeof(*binding->claims));
        for (size_t i = 0; i < node->n; i++) {
                const struct yaml_entry *pair = &node->entries[i];
                struct claim_condition *claim = &binding->claims[binding->n_claims++];
                claim->path = keep_str(loader, pair->key->text);
                patterns_read(loader, pair->value, claim->path.ptr, &claim->values, &claim->n,
                        &claim->shown);
                claim->bare = keep(loader, claim->n * sizeof(*claim->bare));
                for (size_t k = 0; k < claim->n; k++)
                        claim->bare[k] = yaml_scalar_of(item_of(pair->value, k)) != YAML_TEXT;
                if (claim->n)
                        claim->shown = claim_shown(loader, pair->value, claim);
        }
}

static void callers_read(
        struct loader *loader, const struct yaml_node *binding_node, struct binding *binding)
{
        static const struct str keys[] = {
                {"issuer", 6}, {"subject", 7}, {"claims", 6}, {"roles", 5}};
        const struct yaml_node *node = yaml_get(binding_node, "callers");
        struct str issuer;

        if (!node) {
                error_list_add(loader->errors, binding_node->at,
                        "a binding needs `callers`, with at least an `issuer`");
                return;
        }
        if (!yaml_is_mapping(node, "`callers`", loader->errors))
                return;
        (void)yaml_known_keys(node, keys, 4, loader->errors);
        const struct yaml_node *at = yaml_get(node, "issuer");
        if (!at) {
                error_list_add(loader->errors, node->at,
                        "`callers` needs an `issuer`: a subject means nothing without it");
        } else if (yaml_str(at, "`issuer`", &issuer, loader->errors)) {
                binding->issuer = keep_str(loader, issuer);
                binding->issuer_at = keep_mark(loader, at->at);
                if (str_find(issuer, '*') >= 0)
                        error_list_add(loader->errors, at->at,
                                "an `issuer` is one name from the configuration, without `*`");
        }
        patterns_read(loader, yaml_get(node, "subject"), "subject", &binding->subjects,
                &binding->n_subjects, &binding->subjects_shown);
        patterns_read(loader, yaml_get(node, "roles"), "roles", &binding->token_roles,
                &binding->n_token_roles, &binding->token_roles_shown);
        claims_read(loader, yaml_get(node, "claims"), binding);
}

static void date_read(
        struct loader *loader, const struct yaml_node *node, const char *key, int64_t *out)
{
        const struct yaml_node *at = yaml_get(node, key);
        struct str text;

        if (!at || !yaml_str(at, key, &text, loader->errors))
                return;
        if (!clock_parse(text, out))
                error_list_add(loader->errors, at->at,
                        "`%s`: not a date (2027-03-31) or time (2027-03-31T18:00:00Z)", key);
}

static void binding_roles_read(
        struct loader *loader, const struct yaml_node *node, struct binding *binding)
{
        const struct yaml_node *list = yaml_get(node, "roles");

        if (list)
                role_names_read(loader, list, "roles", &binding->role_names, &binding->role_marks,
                        &binding->n_roles);
        else
                error_list_add(loader->errors, node->at, "a binding needs `roles`");
}

static void binding_read(struct loader *loader, const struct yaml_node *node)
{
        static const struct str keys[] = {{"name", 4}, {"callers", 7}, {"roles", 5},
                {"credential", 10}, {"not_before", 10}, {"expires", 7}, {"break_glass", 11}};
        struct policy *policy = loader->policy;
        struct str text;

        if (!yaml_is_mapping(node, "a binding", loader->errors))
                return;
        (void)yaml_known_keys(node, keys, 7, loader->errors);
        policy->bindings = grow(policy->bindings, policy->n_bindings, &loader->cap_bindings,
                sizeof(*policy->bindings));
        struct binding *binding = &policy->bindings[policy->n_bindings++];
        *binding = (struct binding){
                .place = keep_place(loader, node->at),
                .at = keep_mark(loader, node->at),
                .not_before_ms = INT64_MIN,
                .expires_ms = INT64_MAX,
        };
        binding->name = binding->place;
        const struct yaml_node *name = yaml_get(node, "name");
        if (name && yaml_str(name, "`name`", &text, loader->errors) &&
                name_ok(loader, text, name->at, "the binding's name")) {
                binding->name = keep_str(loader, text);
                binding->named = true;
        }
        const struct yaml_node *credential = yaml_get(node, "credential");
        if (credential && yaml_str(credential, "`credential`", &text, loader->errors)) {
                binding->credential = keep_str(loader, text);
                binding->credential_at = keep_mark(loader, credential->at);
        }
        callers_read(loader, node, binding);
        binding_roles_read(loader, node, binding);
        date_read(loader, node, "not_before", &binding->not_before_ms);
        date_read(loader, node, "expires", &binding->expires_ms);
        glass_read(loader, node, binding);
        if (binding->expires_ms <= binding->not_before_ms)
                error_list_add(loader->errors, node->at, "the binding expires before it begins");
}

static void test_request_read(
        struct loader *loader, const struct yaml_node *node, struct policy_test *test)
{
        const struct yaml_node *at = yaml_get(node, "request");
        struct str text, method, url;

        if (!at) {
                error_list_add(loader->errors, node->at, "a test needs `request: METHOD PATH`");
                return;
        }
        if (!yaml_str(at, "`request`", &text, loader->errors))
                return;
        url = str_trim(str_cut(str_trim(text), ' ', &method));
        if (!url.len || !(url.ptr[0] == '/' || str_starts(url, STR("http"))) ||
                str_find(url, ' ') >= 0) {
                error_list_add(loader->errors, at->at,
                        "`request` is a method, a blank and a path or URL: GET /contoso/...");
                return;
        }
        for (size_t i = 0; i < method.len; i++)
                if (method.ptr[i] < 'A' || method.ptr[i] > 'Z') {
                        error_list_add(
                                loader->errors, at->at, "`%s` is not a method", yaml_shown(method));
                        return;
                }
        test->method = keep_str(loader, method);
        test->url = keep_str(loader, url);
}

static void test_caller_read(
        struct loader *loader, const struct yaml_node *node, struct policy_test *test)
{
        static const struct str keys[] = {
                {"issuer", 6}, {"subject", 7}, {"claims", 6}, {"roles", 5}, {"claimed", 7}};
        const struct yaml_node *caller = yaml_get(node, "caller");
        const struct yaml_node *at;
        struct names names;
        struct str text;

        if (!caller) {
                error_list_add(loader->errors, node->at, "a test needs a `caller`");
                return;
        }
        if (!yaml_is_mapping(caller, "`caller`", loader->errors))
                return;
        (void)yaml_known_keys(caller, keys, 5, loader->errors);
        if (!(at = yaml_get(caller, "issuer")))
                error_list_add(loader->errors, caller->at, "the `caller` needs an `issuer`");
        else if (yaml_str(at, "`issuer`", &text, loader->errors))
                test->issuer = keep_str(loader, text);
        if ((at = yaml_get(caller, "subject")) && yaml_str(at, "`subject`", &text, loader->errors))
                test->subject = keep_str(loader, text);
        if ((at = yaml_get(caller, "claims")) && yaml_is_mapping(at, "`claims`", loader->errors))
                test->claims = yaml_to_json(at, &loader->policy->arena);
        if ((at = yaml_get(caller, "roles")) && names_read(loader, at, "roles", &names, NULL)) {
                test->roles = names.items;
                test->n_roles = names.n;
        }
        if ((at = yaml_get(caller, "claimed")))
                claimed_given_read(loader, at, test);
}

static void test_expect_read(
        struct loader *loader, const struct yaml_node *node, struct policy_test *test)
{
        const struct yaml_node *at = yaml_get(node, "expect");
        struct str text;

        if (!at)
                error_list_add(loader->errors, node->at, "a test needs `expect: allow` or `deny`");
        else if (yaml_str(at, "`expect`", &text, loader->errors)) {
                test->expect = str_eq(text, STR("allow")) ? EFFECT_ALLOW : EFFECT_DENY;
                if (!str_eq(text, STR("allow")) && !str_eq(text, STR("deny")))
                        error_list_add(loader->errors, at->at, "`expect` is `allow` or `deny`");
        }
}

static void test_read(struct loader *loader, const struct yaml_node *node)
{
        static const struct str keys[] = {{"name", 4}, {"caller", 6}, {"request", 7}, {"body", 4},
                {"at", 2}, {"expect", 6}, {"rule", 4}, {"reason", 6}};
        struct policy *policy = loader->policy;
        const struct yaml_node *at;
        struct str text;

        if (!yaml_is_mapping(node, "a test", loader->errors))
                return;
        (void)yaml_known_keys(node, keys, 8, loader->errors);
        policy->tests =
                grow(policy->tests, policy->n_tests, &loader->cap_tests, sizeof(*policy->tests));
        struct policy_test *test = &policy->tests[policy->n_tests++];
        *test = (struct policy_test){.at = keep_mark(loader, node->at)};
        test->name = keep_place(loader, node->at);
        if ((at = yaml_get(node, "name")) && yaml_str(at, "`name`", &text, loader->errors))
                test->name = keep_str(loader, text);
        test_caller_read(loader, node, test);
        test_request_read(loader, node, test);
        test_expect_read(loader, node, test);
        if ((at = yaml_get(node, "body")))
                test->body = yaml_to_json(at, &policy->arena);
        test->has_at = yaml_get(node, "at") != NULL;
        date_read(loader, node, "at", &test->at_ms);
        glass_reason_read(loader, node, test);
        if ((at = yaml_get(node, "rule")) && yaml_str(at, "`rule`", &text, loader->errors))
                test->rule = keep_str(loader, text);
}

static void list_read(struct loader *loader, const struct yaml_node *root, const char *key,
        void (*one)(struct loader *loader, const struct yaml_node *node))
{
        const struct yaml_node *list = yaml_get(root, key);
        char what[40];

        snprintf(what, sizeof(what), "`%s`", key);
        if (!list || !yaml_is_sequence(list, what, loader->errors))
                return;
        for (size_t i = 0; i < list->n; i++)
                one(loader, list->items[i]);
}

void policy_file_read(struct loader *loader, struct yaml_document *doc)
{
        static const struct str keys[] = {{"version", 7}, {"groups", 6}, {"roles", 5},
                {"bindings", 8}, {"known", 5}, {"tests", 5}};
        const struct yaml_node *root = doc->root;
        uint64_t number;

        loader->doc = doc;
        if (!yaml_is_mapping(root, "a policy file", loader->errors))
                return;
        (void)yaml_known_keys(root, keys, 6, loader->errors);
        const struct yaml_node *version = yaml_get(root, "version");
        if (!version)
                error_list_add(loader->errors, root->at, "a policy file begins with `version: 1`");
        else
                (void)yaml_u64(version, "`version`", 1, 1, &number, loader->errors);
        const struct yaml_node *roles = yaml_get(root, "roles");
        if (roles && yaml_is_mapping(roles, "`roles`", loader->errors))
                for (size_t i = 0; i < roles->n; i++)
                        role_read(loader, &roles->entries[i]);
        list_read(loader, root, "bindings", binding_read);
        list_read(loader, root, "known", known_read);
        list_read(loader, root, "tests", test_read);
}
