/*
 * What can never be: entries that no request matches, or whose every request is denied, and values
 * that no request has. An error is told only where it follows from how requests are decided.
 */
#include <stdlib.h>

#include "dagward/azdo/example.h"
#include "policy_internal.h"

/* --- no operation is all that the entry asks for --- */

static bool touches(const struct operation *op, enum resource_kind kind)
{
        const struct operation *whole = *op->part_of ? catalogue_find(str_of(op->part_of)) : NULL;

        return operation_touches(op, kind) || (whole && operation_touches(whole, kind));
}

static bool has_method(const struct operation *op, const struct entry *entry)
{
        struct str method = str_of(op->method);

        return !entry->methods.n || str_eq(method, STR("*")) || methods_match(entry, method) ||
               (str_eq(method, STR("GET")) && methods_match(entry, STR("HEAD")));
}

/* What was asked of all operations of the entry, one by one and all at once. */
struct asked_of_all {
        bool method, together;
        unsigned touched; /* kinds that some operation touches */
        unsigned told;    /* and of which some request may say what an allow asks for */
};

static void ask_operation(
        const struct operation *op, const struct entry *entry, struct asked_of_all *asked)
{
        bool method = has_method(op, entry), all = method;

        for (size_t i = 0; i < entry->n_selectors; i++) {
                const struct selector *selector = &entry->selectors[i];
                bool one = touches(op, selector->kind);
                asked->touched |= (unsigned)one << selector->kind;
                if (entry->effect == EFFECT_ALLOW && !selector_any(selector))
                        one = one && !(operation_open_kinds(op) >> selector->kind & 1);
                asked->told |= (unsigned)one << selector->kind;
                all &= one;
        }
        asked->method |= method;
        asked->together |= all;
}

/* Whether one was told of. What the catalogue does not know may be anything. */
static bool lint_operations(
        struct linting *l, const struct entry *entry, const struct operation_set *set)
{
        struct asked_of_all asked = {0};
        size_t n, before = l->n;
        const struct operation *all = catalogue_all(&n);
        bool any = false;

        if (operation_set_has(set, UNKNOWN_OPERATION))
                return false;
        for (size_t i = 0; i < n && !asked.together; i++) {
                if (!operation_set_has(set, all[i].index))
                        continue;
                any = true;
                ask_operation(&all[i], entry, &asked);
        }
        if (asked.together)
                return false;
        if (!any) {
                lint_tell(l, true, "never-matches", entry->rule,
                        "no operation is all that this asks for: it can never match");
                return true;
        }
        for (size_t i = 0; i < entry->n_selectors; i++) {
                enum resource_kind kind = entry->selectors[i].kind;
                if (!(asked.touched >> kind & 1))
                        lint_tell(l, true, "never-matches", entry->rule,
                                "no operation of this entry touches any %s: it can never match",
                                resource_kind_selector(kind));
                else if (!(asked.told >> kind & 1))
                        lint_tell(l, true, "never-matches", entry->rule,
                                "no request of this entry's operations says which %s it is about: "
                                "only `*` can match",
                                resource_kind_name(kind));
        }
        if (!asked.method)
                lint_tell(l, true, "never-matches", entry->rule,
                        "no operation of this entry has the method %.*s: it can never match",
                        STR_FMT(entry->methods.shown));
        if (l->n == before)
                lint_tell(l, true, "never-matches", entry->rule,
                        "each operation of this entry lacks something that it asks for (a kind of "
                        "resource, or the method): it can never match");
        return true;
}

/* --- paths: what target_parse lets through --- */

static bool segment_possible(const struct pattern *segment)
{
        static const char never[] = "<>%&:\\;";
        struct str text = segment->text;

        for (size_t i = 0; i < text.len; i++)
                if ((unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7f ||
                        strchr(never, text.ptr[i]))
                        return false;
        if (!text.len)
                return segment->prefix;
        if (text.ptr[0] == ' ')
                return false;
        return segment->prefix || (text.ptr[text.len - 1] != ' ' && text.ptr[text.len - 1] != '.');
}

static const struct pattern *impossible_segment(const struct path_pattern *path)
{
        for (size_t i = 0; i < path->n; i++)
                if (!segment_possible(&path->segments[i]))
                        return &path->segments[i];
        return NULL;
}

static bool path_is_ascii(const struct path_pattern *path)
{
        for (size_t i = 0; i < path->n; i++)
                if (!str_is_ascii(path->segments[i].text))
                        return false;
        return true;
}

/* A deny may also match what has letters that upstream folds, so of it no more is said than what
 * its values are. */
static void lint_paths(struct linting *l, const struct entry *entry)
{
        size_t impossible = 0;

        for (size_t i = 0; i < entry->n_paths; i++) {
                const struct pattern *segment = impossible_segment(&entry->paths[i]);
                if (!segment)
                        continue;
                impossible += entry->effect == EFFECT_ALLOW || path_is_ascii(&entry->paths[i]);
                lint_tell(l, false, "impossible-value", entry->rule,
                        "no request has a path with a segment `%.*s%s`: the path is the decoded "
                        "one, without `.` and `..`, and bytes such as %% : \\ are refused",
                        STR_FMT(str_head(segment->text, 80)), segment->prefix ? "*" : "");
        }
        if (entry->n_paths && impossible == entry->n_paths && entry->effect == EFFECT_ALLOW)
                lint_tell(l, true, "never-matches", entry->rule,
                        "no request has a path like this (%.*s): it can never match",
                        STR_FMT(str_head(entry->paths_shown, 100)));
}

/* --- refs --- */

static bool disjoint(const struct pattern *a, const struct pattern *b)
{
        if (!a->prefix && !b->prefix)
                return !str_eq(a->text, b->text);
        if (a->prefix && str_starts(b->text, a->text))
                return false;
        return !(b->prefix && str_starts(a->text, b->text));
}

static bool all_disjoint(const struct selector *a, const struct selector *b)
{
        for (size_t i = 0; i < a->n; i++)
                for (size_t k = 0; k < b->n; k++)
                        if (!disjoint(&a->values[i].name, &b->values[k].name))
                                return false;
        return true;
}

/* A push is announced before it says which refs it moves, and there selectors of refs hold. */
static bool may_defer_refs(const struct operation_set *set)
{
        size_t n;
        const struct operation *all = catalogue_all(&n);

        for (size_t i = 0; i < n; i++)
                if (operation_set_has(set, all[i].index) &&
                        str_starts(str_of(all[i].id), STR("gitHttp.")))
                        return true;
        return operation_set_has(set, UNKNOWN_OPERATION);
}

/* `refs` beside `where.refs`: every ref of a request has to be in both. A deny needs one in each.
 */
static void lint_two_refs(
        struct linting *l, const struct entry *entry, const struct operation_set *set)
{
        const struct selector *first = NULL;

        for (size_t i = 0; i < entry->n_selectors; i++) {
                const struct selector *selector = &entry->selectors[i];
                if (selector->kind != RESOURCE_REF || entry->effect == EFFECT_DENY)
                        continue;
                if (first && all_disjoint(first, selector) && !may_defer_refs(set))
                        lint_tell(l, true, "never-matches", entry->rule,
                                "no ref is in `refs` and in `where.refs` at once (%.*s; %.*s): it "
                                "can never match",
                                STR_FMT(str_head(first->shown, 80)),
                                STR_FMT(str_head(selector->shown, 80)));
                first = selector;
        }
}

/* git check-ref-format */
static bool ref_possible(const struct pattern *pattern)
{
        struct str text = pattern->text;

        for (size_t i = 0; i < text.len; i++)
                if ((unsigned char)text.ptr[i] <= 0x20 || text.ptr[i] == 0x7f ||
                        strchr("~^:?[\\", text.ptr[i]))
                        return false;
        if (str_find_str(text, STR("..")) >= 0 || str_find_str(text, STR("//")) >= 0 ||
                str_find_str(text, STR("@{")) >= 0 || str_find_str(text, STR("/.")) >= 0 ||
                str_find_str(text, STR(".lock/")) >= 0)
                return false;
        return pattern->prefix || (!str_ends(text, STR("/")) && !str_ends(text, STR(".")) &&
                                          !str_ends(text, STR(".lock")));
}

static void lint_refs(struct linting *l, const struct entry *entry)
{
        for (size_t i = 0; i < entry->n_selectors; i++) {
                const struct selector *selector = &entry->selectors[i];
                for (size_t v = 0; selector->kind == RESOURCE_REF && v < selector->n; v++) {
                        const struct pattern *name = &selector->values[v].name;
                        if (!pattern_any(name) && !ref_possible(name))
                                lint_tell(l, false, "impossible-value", entry->rule,
                                        "git allows no ref `%.*s%s`",
                                        STR_FMT(str_head(name->text, 100)),
                                        name->prefix ? "*" : "");
                }
        }
}

/* --- values of `where` --- */

/* What Azure DevOps takes, by any case of letters; of words that have one also their number. */
static const struct {
        const char *fact, *values[6];
        bool numbers;
} known_values[] = {
        {"previewRun", {"true", "false"}, false},
        {"retry", {"true", "false"}, false},
        {"keep", {"true", "false"}, false},
        {"forceRetryAllJobs", {"true", "false"}, false},
        {"protectPipeline", {"true", "false"}, false},
        {"isDraft", {"true", "false"}, false},
        {"authorized", {"true", "false"}, false},
        {"allPipelines", {"true", "false"}, false},
        {"authorizePipelines", {"true", "false"}, false},
        {"isLocked", {"true", "false"}, false},
        {"bypassPolicy", {"true", "false"}, false},
        {"deleteSourceBranch", {"true", "false"}, false},
        {"isDisabled", {"true", "false"}, false},
        {"isEnabled", {"true", "false"}, false},
        {"isBlocking", {"true", "false"}, false},
        {"bypassRules", {"true", "false"}, false},
        {"suppressNotifications", {"true", "false"}, false},
        {"validateOnly", {"true", "false"}, false},
        {"destroy", {"true", "false"}, false},
        {"vote", {"10", "5", "0", "-5", "-10"}, false},
        {"mergeStrategy", {"noFastForward", "squash", "rebase", "rebaseMerge"}, true},
};

static bool value_possible(const struct pattern *value, size_t which)
{
        const char *const *known = known_values[which].values;
        uint64_t number;

        if (pattern_any(value) || (known_values[which].numbers && str_to_u64(value->text, &number)))
                return true;
        for (size_t i = 0; i < 6 && known[i]; i++)
                if (value->prefix ? str_starts_fold(str_of(known[i]), value->text)
                                  : str_eq_fold(str_of(known[i]), value->text))
                        return true;
        return false;
}

static void lint_value(
        struct linting *l, const struct entry *entry, const struct pattern *value, size_t which)
{
        char list[120];
        struct line line = line_over(list, sizeof(list));

        if (value_possible(value, which))
                return;
        for (size_t i = 0; i < 6 && known_values[which].values[i]; i++) {
                line_add(&line, i ? STR(", ") : STR(""));
                line_add(&line, str_of(known_values[which].values[i]));
        }
        lint_tell(l, false, "impossible-value", entry->rule,
                "`where.%s` is never `%.*s%s`: Azure DevOps knows %s", known_values[which].fact,
                STR_FMT(str_head(value->text, 80)), value->prefix ? "*" : "", list);
}

static void lint_conditions(struct linting *l, const struct entry *entry)
{
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);

        for (size_t c = 0; c < entry->n_conditions; c++) {
                const struct condition *condition = &entry->conditions[c];
                for (size_t w = 0; w < sizeof(known_values) / sizeof(known_values[0]); w++) {
                        if (strcmp(known_values[w].fact, kinds[condition->fact].name) != 0)
                                continue;
                        for (size_t k = 0; k < condition->n; k++)
                                for (size_t v = 0; v < condition->keys[k].n; v++)
                                        lint_value(l, entry, &condition->keys[k].values[v], w);
                }
        }
}

/* --- what is allowed is denied, too --- */

static bool is_path(struct str text)
{
        return text.len && text.ptr[0] == '\\';
}

/* Whether whatever is surely `part` is `whole`, or may be. */
static bool pattern_covers(const struct pattern *whole, const struct pattern *part)
{
        if (pattern_any(whole))
                return true;
        if (whole->id != part->id || is_path(whole->text) != is_path(part->text))
                return false;
        if (!whole->prefix)
                return !part->prefix && str_eq_fold(whole->text, part->text);
        return str_starts_fold(part->text, whole->text);
}

static bool value_covers(const struct value *whole, const struct value *part)
{
        if (whole->has_project &&
                !(part->has_project && pattern_covers(&whole->project, &part->project)))
                return false;
        return pattern_covers(&whole->name, &part->name);
}

static bool selector_covers(const struct selector *whole, const struct selector *part)
{
        for (size_t p = 0; p < part->n; p++) {
                bool covered = false;
                for (size_t w = 0; w < whole->n && !covered; w++)
                        covered = value_covers(&whole->values[w], &part->values[p]);
                if (!covered)
                        return false;
        }
        return true;
}

static bool some_selector_within(const struct selector *whole, const struct entry *allow)
{
        for (size_t i = 0; i < allow->n_selectors; i++)
                if (allow->selectors[i].kind == whole->kind &&
                        selector_covers(whole, &allow->selectors[i]))
                        return true;
        return false;
}

/* Whether the deny matches whatever the allow does, of the operations that both hold. Refs that are
 * yet to be said are allowed and not denied, and a condition has to be met by what is said. */
static bool covers(const struct entry *deny, const struct entry *allow)
{
        if (deny->n_conditions || deny->n_selectors > allow->n_selectors)
                return false;
        for (size_t i = 0; i < deny->n_selectors; i++)
                if (deny->selectors[i].kind == RESOURCE_REF ||
                        !some_selector_within(&deny->selectors[i], allow))
                        return false;
        return (!deny->methods.n || str_eq(deny->methods.shown, allow->methods.shown)) &&
               (!deny->n_paths || str_eq(deny->paths_shown, allow->paths_shown)) &&
               (!deny->n_windows || str_eq(deny->windows_shown, allow->windows_shown));
}

void denials_gather(const struct policy *policy, const struct role *role, struct denials *out)
{
        unsigned *roles = calloc(policy->n_roles + 1, sizeof(*roles));

        if (!roles)
                abort();
        out->n = 0;
        size_t n = role_with_included(policy, (unsigned)(role - policy->roles), roles, 0);
        for (size_t i = 0; i < n && i < policy->n_roles; i++) {
                const struct role *one = &policy->roles[roles[i]];
                for (size_t k = one->first; k < one->first + one->n; k++) {
                        if (policy->entries[k].effect != EFFECT_DENY)
                                continue;
                        out->items = grow(out->items, out->n, &out->cap, sizeof(*out->items));
                        out->items[out->n++] = (unsigned)k;
                }
        }
        free(roles);
}

static void lint_denied(
        struct linting *l, const struct role *role, size_t index, const struct denials *denials)
{
        const struct entry *allow = &l->policy->entries[index];
        struct operation_set left = l->sets[index];

        for (size_t i = 0; i < denials->n; i++) {
                const struct entry *deny = &l->policy->entries[denials->items[i]];
                const struct operation_set *set = &l->sets[denials->items[i]];
                uint64_t some = 0, rest = 0;
                for (size_t w = 0; w < OPERATIONS_MAX / 64; w++)
                        some |= left.words[w] & set->words[w];
                if (!some || !covers(deny, allow))
                        continue;
                for (size_t w = 0; w < OPERATIONS_MAX / 64; w++)
                        rest |= left.words[w] &= ~set->words[w];
                if (rest)
                        continue;
                lint_tell(l, true, "never-allows", allow->rule,
                        "role %.*s denies all that this allows (%.*s)", STR_FMT(role->name),
                        STR_FMT(deny->rule));
                return;
        }
}

void lint_never(
        struct linting *l, const struct role *role, size_t index, const struct denials *denials)
{
        const struct entry *entry = &l->policy->entries[index];
        const struct operation_set *set = &l->sets[index];

        if (lint_operations(l, entry, set))
                return;
        lint_paths(l, entry);
        lint_two_refs(l, entry, set);
        lint_refs(l, entry);
        lint_conditions(l, entry);
        if (entry->effect == EFFECT_ALLOW)
                lint_denied(l, role, index, denials);
}
