/* `where` and `claimed`: conditions on what a request says, and on what its caller asserts. */
#include <stdlib.h>

#include "policy_internal.h"

/* --- reading --- */

static const struct str claim_names[] = {{"dag_id", 6}, {"run_id", 6}, {"task_id", 7},
        {"map_index", 9}, {"try_number", 10}, {"user_agent", 10}};
enum { N_CLAIMS = sizeof(claim_names) / sizeof(claim_names[0]) };

static bool patterns_read(struct loader *loader, const struct yaml_node *node, const char *what,
        struct pattern **out, size_t *n, struct str *shown)
{
        struct names names;
        struct mark *marks;
        bool good = true;

        *n = 0;
        *shown = STR("(none)");
        if (node->kind == YAML_SEQUENCE && node->n == 0)
                return true;
        if (!names_read(loader, node, what, &names, &marks))
                return false;
        *out = keep(loader, names.n * sizeof(**out));
        *shown = names.shown;
        for (size_t i = 0; i < names.n; i++) {
                if (pattern_parse(names.items[i], -1, &(*out)[(*n)++]))
                        continue;
                error_list_add(loader->errors, marks[i],
                        "`%s` in `%s`: `*` may only stand alone or at the end",
                        yaml_shown(names.items[i]), what);
                good = false;
        }
        return good;
}

static bool refuse_empty(struct loader *loader, enum effect effect, const struct yaml_node *node)
{
        if (effect == EFFECT_ALLOW)
                return true;
        error_list_add(loader->errors, node->at,
                "an empty list means \"may not be said\", which only an `allow` can ask for; on a "
                "`deny`, list what is refused (`*` is any value)");
        return false;
}

static bool values_read(struct loader *loader, const struct yaml_node *node, const char *what,
        enum effect effect, struct condition *out)
{
        out->keys = keep(loader, sizeof(*out->keys));
        out->n = 1;
        *out->keys = (struct keyed_values){.key = {.prefix = true}};
        return patterns_read(loader, node, what, &out->keys->values, &out->keys->n, &out->shown) &&
               (out->keys->n || refuse_empty(loader, effect, node));
}

/* A mapping of keys to values, or an empty list. */
static bool map_read(struct loader *loader, const struct yaml_node *node, const char *what,
        enum effect effect, struct condition *out)
{
        struct str *shown;
        bool good = true;

        out->shown = STR("(none)");
        if ((node->kind == YAML_SEQUENCE || node->kind == YAML_MAPPING) && node->n == 0)
                return refuse_empty(loader, effect, node);
        if (node->kind != YAML_MAPPING) {
                error_list_add(loader->errors, node->at,
                        "`%s` has values by name: {name: [values]}; or [] for none at all", what);
                return false;
        }
        out->keys = keep(loader, node->n * sizeof(*out->keys));
        shown = keep(loader, node->n * sizeof(*shown));
        for (size_t i = 0; i < node->n; i++) {
                const struct yaml_entry *pair = &node->entries[i];
                struct keyed_values *one = &out->keys[out->n++];
                struct str values, key = keep_str(loader, pair->key->text);
                *one = (struct keyed_values){.n = 0};
                if (!key.len || !pattern_parse(key, -1, &one->key)) {
                        error_list_add(loader->errors, pair->key->at,
                                "`%s` in `%s`: `*` may only stand alone or at the end",
                                yaml_shown(key), what);
                        good = false;
                }
                good &= patterns_read(loader, pair->value, what, &one->values, &one->n, &values) &&
                        (one->n || refuse_empty(loader, effect, pair->value));
                key = keep_shown(loader, &key, 1);
                shown[i] = arena_printf(
                        &loader->policy->arena, "%.*s: %.*s", STR_FMT(key), STR_FMT(values));
        }
        if (out->n)
                out->shown = keep_joined(loader, shown, out->n);
        return good;
}

static bool unknown_fact(struct loader *loader, const struct yaml_node *key)
{
        size_t n;
        const struct fact_kind *all = facts_all(&n);
        struct str *names = calloc(n + 2, sizeof(*names));

        if (!names)
                abort();
        for (size_t i = 0; i < n; i++)
                names[i] = str_of(all[i].name);
        names[n++] = STR("refs");
        names[n++] = STR("time");
        error_list_add(loader->errors, key->at, "`where` knows no `%s`%s", yaml_shown(key->text),
                error_did_you_mean(str_head(key->text, 100), names, n));
        free(names);
        return false;
}

bool where_read(struct loader *loader, const struct yaml_node *node, struct entry *entry)
{
        size_t n;
        const struct fact_kind *all = facts_all(&n);
        bool good = true;

        if (!yaml_is_mapping(node, "`where`", loader->errors))
                return false;
        if (!node->n) {
                error_list_add(loader->errors, node->at, "`where` without a condition");
                return false;
        }
        entry->conditions = keep(loader, node->n * sizeof(*entry->conditions));
        for (size_t i = 0; i < node->n; i++) {
                const struct yaml_entry *pair = &node->entries[i];
                struct condition *one = &entry->conditions[entry->n_conditions];
                *one = (struct condition){.fact = 0};
                if (str_eq(pair->key->text, STR("refs"))) {
                        good &= selector_read(loader, pair->value, RESOURCE_REF,
                                &entry->selectors[entry->n_selectors++]);
                        continue;
                }
                if (str_eq(pair->key->text, STR("time"))) {
                        good &= time_read(loader, pair->value, entry);
                        continue;
                }
                if (!fact_named(pair->key->text, &one->fact)) {
                        good = unknown_fact(loader, pair->key);
                        continue;
                }
                const struct fact_kind *kind = &all[one->fact];
                good &= kind->is_map
                                ? map_read(loader, pair->value, kind->name, entry->effect, one)
                                : values_read(loader, pair->value, kind->name, entry->effect, one);
                entry->n_conditions++;
        }
        return good;
}

bool where_fits(struct loader *loader, const struct yaml_node *node, const struct entry *entry)
{
        const struct yaml_entry *where = yaml_entry_of(node, STR("where"));
        size_t n, n_facts;
        const struct operation *ops = catalogue_all(&n);
        const struct fact_kind *all = facts_all(&n_facts);
        bool good = true;

        for (size_t i = 0; i < entry->n_conditions; i++) {
                bool found = false;
                for (size_t k = 0; k < n && !found; k++)
                        found = operation_set_has(entry->set, ops[k].index) &&
                                operation_has_fact(&ops[k], entry->conditions[i].fact);
                if (found)
                        continue;
                const char *name = all[entry->conditions[i].fact].name;
                error_list_add(loader->errors, yaml_entry_of(where->value, str_of(name))->key->at,
                        "no operation of this entry says `%s`", name);
                good = false;
        }
        return good;
}

static bool is_claim_name(struct loader *loader, const struct yaml_node *key)
{
        for (size_t i = 0; i < N_CLAIMS; i++)
                if (str_eq(key->text, claim_names[i]))
                        return true;
        error_list_add(loader->errors, key->at, "callers claim no `%s`%s", yaml_shown(key->text),
                error_did_you_mean(str_head(key->text, 100), claim_names, N_CLAIMS));
        return false;
}

bool claimed_read(struct loader *loader, const struct yaml_node *node, struct entry *entry)
{
        bool good = true;

        if (entry->effect == EFFECT_DENY) {
                error_list_add(loader->errors, node->at,
                        "what a caller claims about itself nobody has verified: `claimed` can "
                        "narrow an `allow`, and a `deny` by it would be gone with the claim");
                return false;
        }
        if (!yaml_is_mapping(node, "`claimed`", loader->errors))
                return false;
        if (!node->n) {
                error_list_add(loader->errors, node->at, "`claimed` without a condition");
                return false;
        }
        entry->claimed = keep(loader, node->n * sizeof(*entry->claimed));
        for (size_t i = 0; i < node->n; i++) {
                const struct yaml_entry *pair = &node->entries[i];
                struct claimed *one = &entry->claimed[entry->n_claimed++];
                *one = (struct claimed){.name = keep_str(loader, pair->key->text)};
                good &= is_claim_name(loader, pair->key) &&
                        patterns_read(
                                loader, pair->value, "claimed", &one->values, &one->n, &one->shown);
                if (good && !one->n) {
                        error_list_add(loader->errors, pair->value->at, "an empty list");
                        good = false;
                }
        }
        return good;
}

void claimed_given_read(
        struct loader *loader, const struct yaml_node *node, struct policy_test *test)
{
        struct str text;

        if (!yaml_is_mapping(node, "`claimed`", loader->errors))
                return;
        test->claimed = keep(loader, node->n * sizeof(*test->claimed));
        for (size_t i = 0; i < node->n; i++) {
                const struct yaml_entry *pair = &node->entries[i];
                if (is_claim_name(loader, pair->key) &&
                        yaml_str(pair->value, "a claim", &text, loader->errors))
                        test->claimed[test->n_claimed++] = (struct pair){
                                keep_str(loader, pair->key->text), keep_str(loader, text)};
        }
}

/* --- deciding --- */

static bool is_number(struct str text)
{
        size_t i = text.len && (text.ptr[0] == '-' || text.ptr[0] == '+');

        for (; i < text.len; i++)
                if (text.ptr[i] < '0' || text.ptr[i] > '9')
                        return false;
        return text.len > 0;
}

/* A path that begins as listed and leads elsewhere. */
static bool climbs(struct str value)
{
        return str_find_str(value, STR("..")) >= 0 || str_find(value, '\\') >= 0;
}

/* Digits that may be a number which is written otherwise: 010, +10. */
static bool is_odd_number(struct str text)
{
        size_t sign = text.len && (text.ptr[0] == '-' || text.ptr[0] == '+');

        return text.len > 1 && (text.ptr[0] == '+' || text.ptr[sign] == '0');
}

/* Upstream knows many words by a number too, and some in any case of letters. */
static enum policy_state word_state(
        const struct pattern *pattern, struct str word, enum effect effect)
{
        enum policy_state state = pattern_state(pattern, word, effect == EFFECT_DENY);
        bool number = is_number(word);

        if (state == STATE_FAILED &&
                (number != is_number(pattern->text) || (number && is_odd_number(word))))
                return STATE_UNSURE;
        return state;
}

static bool is_odd_path(struct str path)
{
        return climbs(path) || str_starts(path, STR("./")) || str_find_str(path, STR("//")) >= 0 ||
               str_find_str(path, STR("/./")) >= 0;
}

/* What may be a path that a deny lists: Azure Repos takes paths with and without a slash in front,
 * and what is done to a folder is done to all that is in it. */
static enum policy_state denied_path_state(const struct pattern *pattern, struct str value)
{
        struct pattern bare = *pattern;
        bool rooted = str_starts(value, STR("/"));

        if (str_find(pattern->text, '/') < 0 || str_find_str(value, STR("://")) >= 0)
                return STATE_FAILED;
        if (is_odd_path(value))
                return STATE_UNSURE;
        value = str_from(value, rooted);
        bare.text = str_from(bare.text, str_starts(bare.text, STR("/")));
        if (str_ends(value, STR("/")))
                value = str_head(value, value.len - 1);
        if (value.len ? str_starts_fold(bare.text, value) && bare.text.len > value.len &&
                                bare.text.ptr[value.len] == '/'
                      : rooted)
                return STATE_UNSURE;
        return pattern_state(&bare, value, true);
}

/* One value that the request says, against one that is listed. An allow takes the word as written,
 * a deny what may be it: .NET passes over blanks around a word, and where it knows the words by
 * name it takes several of them with commas between. */
static enum policy_state value_state(
        const struct pattern *pattern, struct str value, enum effect effect)
{
        if (pattern_any(pattern))
                return STATE_MET;
        if (!value.ptr)
                return STATE_UNSURE;
        if (pattern->prefix && effect == EFFECT_ALLOW && climbs(value))
                return STATE_FAILED;
        enum policy_state state = word_state(pattern, value, effect);
        if (effect == EFFECT_ALLOW)
                return state;
        state = better(state, denied_path_state(pattern, value));
        while (value.ptr) {
                struct str word;
                value = str_cut(value, ',', &word);
                state = better(state, word_state(pattern, str_trim_wide(word), effect));
        }
        return state;
}

static char as_in_environment(char c)
{
        return c == '.' || c == ' ' ? '_' : char_lower(c);
}

/* An agent hands variables to scripts with `_` in place of dots and blanks: two names may be one.
 */
static bool keys_meet(const struct pattern *key, struct str name)
{
        struct str head = key->prefix ? str_head(name, key->text.len) : name;

        for (size_t i = 0; i < head.len && i < key->text.len; i++)
                if (as_in_environment(head.ptr[i]) != as_in_environment(key->text.ptr[i]))
                        return false;
        return head.len == key->text.len;
}

static enum policy_state values_state(
        const struct keyed_values *keyed, const struct fact *fact, enum effect effect)
{
        enum policy_state key =
                pattern_any(&keyed->key) ? STATE_MET : pattern_state(&keyed->key, fact->key, true);
        enum policy_state state = STATE_FAILED;

        if (key == STATE_FAILED && keys_meet(&keyed->key, fact->key))
                key = STATE_UNSURE;
        if (key == STATE_FAILED)
                return STATE_FAILED;
        for (size_t i = 0; i < keyed->n && state != STATE_MET; i++)
                state = better(state, value_state(&keyed->values[i], fact->value, effect));
        return worse(key, state);
}

static enum policy_state fact_state(
        const struct condition *condition, const struct fact *fact, enum effect effect)
{
        enum policy_state state = STATE_FAILED;

        for (size_t i = 0; i < condition->n && state != STATE_MET; i++)
                state = better(state, values_state(&condition->keys[i], fact, effect));
        return state;
}

/* An exact key is judged by its own values alone, whatever a key with `*` beside it admits. */
static enum policy_state map_state(
        const struct condition *condition, const struct fact *fact, enum effect effect)
{
        for (size_t i = 0; effect == EFFECT_ALLOW && i < condition->n; i++) {
                const struct keyed_values *keyed = &condition->keys[i];
                if (!keyed->key.prefix && str_eq_fold(keyed->key.text, fact->key))
                        return values_state(keyed, fact, effect);
        }
        for (size_t i = 0; effect == EFFECT_ALLOW && i < condition->n; i++) {
                const struct keyed_values *keyed = &condition->keys[i];
                if (!keyed->key.prefix && keys_meet(&keyed->key, fact->key))
                        return STATE_UNSURE;
        }
        return fact_state(condition, fact, effect);
}

enum policy_state condition_state(
        const struct condition *condition, const struct policy_request *request, enum effect effect)
{
        const struct facts *facts = request->facts;
        enum policy_state all = STATE_MET, any = STATE_FAILED;

        for (size_t i = 0; facts && i < facts->n; i++) {
                if (facts->items[i].kind != condition->fact)
                        continue;
                enum policy_state one = map_state(condition, &facts->items[i], effect);
                all = worse(all, one);
                any = better(any, one);
        }
        if (facts && facts->unread) {
                all = worse(all, STATE_UNSURE);
                any = better(any, STATE_UNSURE);
        }
        /* What the catalogue does not know may say anything. */
        if (!request->op) {
                all = worse(all, STATE_UNSURE);
                any = better(any, STATE_UNSURE);
        }
        return effect == EFFECT_ALLOW ? all : any;
}

struct str claimed_value(const struct policy_request *request, struct str name)
{
        for (size_t i = 0; i < request->n_claimed; i++)
                if (str_eq(request->claimed[i].name, name))
                        return request->claimed[i].value;
        return STR_NONE;
}

enum policy_state claimed_state(const struct claimed *claimed, const struct policy_request *request)
{
        struct str value = claimed_value(request, claimed->name);

        for (size_t i = 0; value.len && i < claimed->n; i++)
                if (pattern_matches(&claimed->values[i], value))
                        return STATE_MET;
        return STATE_FAILED;
}

const struct fact *unnamed_grave_fact(
        const struct entry *entry, const struct policy_request *request)
{
        const struct facts *facts = request->facts;

        if (entry->effect == EFFECT_DENY)
                return NULL;
        for (size_t i = 0; facts && i < facts->n; i++) {
                bool named = !fact_is_grave(&facts->items[i]);
                for (size_t k = 0; k < entry->n_conditions && !named; k++)
                        named = entry->conditions[k].fact == facts->items[i].kind;
                if (!named)
                        return &facts->items[i];
        }
        return NULL;
}
