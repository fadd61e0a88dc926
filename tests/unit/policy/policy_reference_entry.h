/*
 * What one entry says of a request, as docs/policy.md and policy.h state it: by looking at words.
 */
#ifndef DAGWARD_TESTS_POLICY_REFERENCE_ENTRY_H
#define DAGWARD_TESTS_POLICY_REFERENCE_ENTRY_H

#include "policy_model.h"

#include <ctype.h>
#include <strings.h>
#include <time.h>

#include "dagward/azdo/identity.h"

enum answer { NO, MAYBE, YES };

static inline enum answer least(enum answer a, enum answer b)
{
        return a < b ? a : b;
}

static inline enum answer most(enum answer a, enum answer b)
{
        return a > b ? a : b;
}

/* --- words --- */

static inline bool is_any(const char *value)
{
        return strcmp(value, "*") == 0;
}

static inline bool has_star(const char *value)
{
        return *value && value[strlen(value) - 1] == '*';
}

static inline bool is_ascii(const char *text)
{
        for (; *text; text++)
                if ((unsigned char)*text >= 0x80)
                        return false;
        return true;
}

/* The text, or what it begins with where the value ends in a star. */
static inline bool fits(const char *value, const char *text, bool fold)
{
        size_t n = has_star(value) ? strlen(value) - 1 : strlen(value) + 1;

        return (fold ? strncasecmp(value, text, n) : strncmp(value, text, n)) == 0;
}

/* As fits, but letters beyond ASCII that upstream might fold leave it open. The Kelvin sign is one
 * that folds to ASCII. */
static inline enum answer may_fit(const char *value, const char *text, bool fold)
{
        if (fits(value, text, fold))
                return YES;
        if (!is_ascii(text) && (!is_ascii(value) || strstr(text, "\xe2\x84\xaa")))
                return MAYBE;
        return NO;
}

static inline bool is_digits(const char *text)
{
        return *text && strspn(text, "0123456789") == strlen(text);
}

static inline bool is_guid(const char *text)
{
        return strlen(text) == 36 && strspn(text, "0123456789abcdefABCDEF-") == 36;
}

/* A GUID or a number, and not a name. */
static inline bool is_id(enum resource_kind kind, const char *text)
{
        if (kind == RESOURCE_REF)
                return strncmp(text, "refs/", 5) != 0;
        if (kind == RESOURCE_WORK_ITEM_TYPE)
                return strchr(text, '.') != NULL;
        if (kind == RESOURCE_ORGANIZATION && strlen(text) == 37)
                return (text[0] | 32) == 'a' && is_guid(text + 1);
        if (kind == RESOURCE_PIPELINE || kind == RESOURCE_BUILD || kind == RESOURCE_RELEASE ||
                kind == RESOURCE_ENVIRONMENT || kind == RESOURCE_WORK_ITEM)
                return is_digits(text) || is_guid(text);
        return is_guid(text);
}

/* --- resources --- */

/* A blank at an end, of which upstream may take no notice: of the many that .NET knows, those that
 * the model has. */
static inline bool is_padded(const char *text)
{
        size_t n = strlen(text);

        return strncmp(text, "\xc2\xa0", 2) == 0 ||
               (n > 3 && strcmp(text + n - 3, "\xe3\x80\x80") == 0);
}

/* What upstream calls it: the value tells by which of its names it goes. */
static inline enum answer known_by(
        const char *value, enum resource_kind kind, struct str id, struct str name, struct str path)
{
        bool by_id = !has_star(value) && is_id(kind, value);
        struct str called = by_id ? id : value[0] == '\\' ? path : name;

        if (is_any(value))
                return YES;
        return called.len ? may_fit(value, called.ptr, true) : MAYBE;
}

/* Is `item` what the policy calls `value`? */
static inline enum answer same(const char *value, const struct resource *item, bool deny)
{
        enum resource_kind kind = item->kind;
        const char *text = item->value.ptr;
        const struct identity *known = item->known;

        if (is_any(value))
                return YES;
        if (known && kind != RESOURCE_REF)
                return known_by(value, kind, known->id, known->name, known->path);
        if (has_star(value) && is_id(kind, text))
                return MAYBE;
        enum answer answer = may_fit(value, text, kind != RESOURCE_REF || deny);
        bool value_is_id = !has_star(value) && is_id(kind, value);
        bool another = (kind != RESOURCE_REF && strcmp(text, GUID_ODD) == 0) || is_padded(text) ||
                       (kind == RESOURCE_REPOSITORY && strcmp(text, "dags.git") == 0);
        return answer == NO && (another || value_is_id != is_id(kind, text)) ? MAYBE : answer;
}

static inline bool is_unnamed(
        const struct policy_request *request, enum resource_kind kind, size_t n)
{
        if (!request->resources)
                return true;
        return request->resources->unresolved[kind] || (!request->op && n == 0);
}

/* The project of `project/name`: the one the repository is known to be in, or the request's. */
static inline enum answer project_answer(const char *value, const struct resource *repository,
        const struct policy_request *request, bool deny)
{
        const struct resources *resources = request->resources;
        enum answer all = YES, any = NO;
        size_t n = 0;

        if (is_any(value))
                return YES;
        if (repository->known)
                return known_by(value, RESOURCE_PROJECT, repository->known->project_id,
                        repository->known->project_name, STR_NONE);
        for (size_t i = 0; i < resources->n; i++) {
                if (resources->items[i].kind != RESOURCE_PROJECT)
                        continue;
                all = least(all, same(value, &resources->items[i], deny));
                any = most(any, same(value, &resources->items[i], deny));
                n++;
        }
        if (n == 0)
                return MAYBE;
        if (is_unnamed(request, RESOURCE_PROJECT, n)) {
                all = least(all, MAYBE);
                any = most(any, MAYBE);
        }
        return deny ? any : all;
}

static inline enum answer value_answer(const char *value, const struct resource *item,
        const struct policy_request *request, bool deny)
{
        const char *slash = item->kind == RESOURCE_REPOSITORY ? strchr(value, '/') : NULL;
        char project[64];

        if (!slash)
                return same(value, item, deny);
        snprintf(project, sizeof(project), "%.*s", (int)(slash - value), value);
        return least(same(slash + 1, item, deny), project_answer(project, item, request, deny));
}

/* The values that a list stands for: `group:NAME` is what the group holds. */
struct values {
        const char *items[MOST_VALUES * MOST_VALUES];
        size_t n;
};

static inline struct values values_of(const struct model *model, const struct words *words)
{
        struct values out = {.n = 0};

        for (size_t i = 0; i < words->n; i++) {
                bool group = false;
                for (size_t g = 0; g < MOST_GROUPS; g++) {
                        char name[40];
                        snprintf(name, sizeof(name), "group:%s", model->groups[g]);
                        if (strcmp(words->items[i], name) != 0)
                                continue;
                        group = true;
                        for (size_t k = 0; k < model->group_values[g].n; k++)
                                out.items[out.n++] = model->group_values[g].items[k];
                }
                if (!group)
                        out.items[out.n++] = words->items[i];
        }
        return out;
}

/* A selector of resources: an allow needs all that the request touches of the kind, a deny one. */
static inline enum answer kind_answer(const struct model *model, const struct words *words,
        enum resource_kind kind, const struct policy_request *request, bool deny)
{
        const struct resources *resources = request->resources;
        struct values values = values_of(model, words);
        enum answer all = YES, any = NO, unnamed = MAYBE;
        size_t n = 0;

        for (size_t i = 0; resources && i < resources->n; i++) {
                enum answer one = NO;
                if (resources->items[i].kind != kind)
                        continue;
                for (size_t v = 0; v < values.n; v++)
                        one = most(one,
                                value_answer(values.items[v], &resources->items[i], request, deny));
                all = least(all, one);
                any = most(any, one);
                n++;
        }
        if (n == 0 && resources && resources->deferred >> kind & 1)
                return deny ? NO : YES; /* judged when it says which */
        if (n == 0 && !is_unnamed(request, kind, n))
                return NO;
        for (size_t v = 0; v < values.n; v++)
                if (is_any(values.items[v]) || strcmp(values.items[v], "*/*") == 0)
                        unnamed = YES;
        if (is_unnamed(request, kind, n)) {
                all = least(all, unnamed);
                any = most(any, unnamed);
        }
        return deny ? any : all;
}

/* --- operations --- */

/* The dot-separated parts of an id against those of a pattern, in which `*` ends a part; one at the
 * very end stands for all that follows. */
static inline bool parts_fit(const char *pattern, const char *id)
{
        for (;;) {
                size_t a = strcspn(pattern, "."), b = strcspn(id, ".");
                bool star = a > 0 && pattern[a - 1] == '*';
                if (star ? b < a - 1 || strncasecmp(pattern, id, a - 1) != 0
                         : a != b || strncasecmp(pattern, id, a) != 0)
                        return false;
                if (!pattern[a])
                        return star || !id[b];
                if (!id[b])
                        return false;
                pattern += a + 1;
                id += b + 1;
        }
}

static inline bool named(const char *value, const char *id)
{
        return strchr(value, '*') ? parts_fit(value, id) : strcasecmp(value, id) == 0;
}

/* What a push does is a part of it: who names the push, with no star, names its parts. */
static inline bool id_means(const char *id, const struct operation *op)
{
        return strcasecmp(id, op->id) == 0 ||
               (strcmp(op->part_of, "gitHttp.pack.push") == 0 && strcasecmp(id, op->part_of) == 0);
}

static inline bool alias_means(const char *value, const struct operation *op, bool deny)
{
        size_t n;
        const struct operation_alias *aliases = catalogue_aliases(&n);

        for (size_t i = 0; i < n; i++) {
                if (!named(value, aliases[i].name))
                        continue;
                for (const char *const *id = aliases[i].ids; *id; id++)
                        if (id_means(*id, op))
                                return true;
                for (const char *const *id = aliases[i].needs; !deny && id && *id; id++)
                        if (strcasecmp(*id, op->id) == 0)
                                return true;
        }
        return false;
}

static inline bool lists_operation(const char *value, const struct operation *op, bool deny)
{
        if (alias_means(value, op, deny))
                return true;
        return strchr(value, '*') ? parts_fit(value, op->id) : id_means(value, op);
}

static inline bool lists_scope(const char *value, const struct operation *op, bool deny)
{
        (void)deny;
        for (size_t i = 0; i < op->n_scopes; i++)
                if (fits(value, op->scopes[i], true))
                        return true;
        return false;
}

static inline bool lists_area(const char *value, const struct operation *op, bool deny)
{
        (void)deny;
        return fits(value, op->area, true);
}

static inline bool lists_access(const char *value, const struct operation *op, bool deny)
{
        (void)deny;
        return strcmp(value, access_name(op->access)) == 0;
}

/* Whether the four selectors that choose operations choose this one; NULL: unknown. */
static inline bool chooses_operation(const struct model_entry *entry, const struct operation *op)
{
        const struct {
                const struct words *words;
                bool (*lists)(const char *value, const struct operation *op, bool deny);
        } choices[] = {{&entry->operations, lists_operation}, {&entry->access, lists_access},
                {&entry->scopes, lists_scope}, {&entry->areas, lists_area}};
        bool any = false;

        for (size_t c = 0; c < COUNT(choices); c++) {
                const struct words *words = choices[c].words;
                bool found = false;
                any |= words->given;
                for (size_t v = 0; v < words->n; v++) {
                        const char *value = words->items[v];
                        bool exact = c == 0 && !strchr(value, '*');
                        if (!op)
                                found |= entry->deny && (c != 0 || is_any(value));
                        else if (choices[c].lists(value, op, entry->deny))
                                found |= entry->deny || exact || !operation_by_name_only(op);
                }
                if (words->given && !found)
                        return false;
        }
        if (any || entry->deny)
                return true;
        return op ? !operation_by_name_only(op) : entry->method.given && entry->path.given;
}

/* --- method and path --- */

static inline enum answer path_answer(const char *pattern, const char *path)
{
        enum answer answer = YES;

        for (;;) {
                char want[64], have[64];
                if (strcmp(pattern, "/**") == 0)
                        return answer;
                if (!*pattern || !*path)
                        return *pattern || *path ? NO : answer;
                size_t a = strcspn(pattern + 1, "/"), b = strcspn(path + 1, "/");
                snprintf(want, sizeof(want), "%.*s", (int)a, pattern + 1);
                snprintf(have, sizeof(have), "%.*s", (int)b, path + 1);
                answer = least(answer, may_fit(want, have, true));
                pattern += a + 1;
                path += b + 1;
        }
}

/* --- what the request says, and its caller claims --- */

static inline bool is_number(const char *text)
{
        return is_digits(text[0] == '-' || text[0] == '+' ? text + 1 : text);
}

static inline enum answer word_answer(const char *value, const char *said, bool deny)
{
        enum answer answer = may_fit(value, said, deny);
        char start[64], plain[32];

        snprintf(start, sizeof(start), "%.*s", (int)strlen(value) - has_star(value), value);
        snprintf(plain, sizeof(plain), "%lld", strtoll(said, NULL, 10));
        if (answer != NO)
                return answer;
        if (is_number(start) != is_number(said))
                return MAYBE;
        return is_number(said) && strcmp(plain, said) != 0 ? MAYBE : NO;
}

/* A path with or without its first slash, or a folder that it is in. */
static inline enum answer path_answer_of_value(const char *value, const char *said)
{
        char listed[128], path[128];

        if (!strchr(value, '/'))
                return NO;
        if (strstr(said, "..") || strchr(said, '\\') || strstr(said, "//") || strstr(said, "./"))
                return MAYBE;
        snprintf(listed, sizeof(listed), "%s%s", value[0] == '/' ? "" : "/", value);
        snprintf(path, sizeof(path), "%s%s", said[0] == '/' ? "" : "/", said);
        size_t n = strlen(path);
        if (strcmp(said, "/") == 0)
                return MAYBE;
        if (said[0] && strncasecmp(listed, path, n) == 0 && listed[n] == '/')
                return MAYBE;
        return may_fit(listed, path, true);
}

static inline enum answer said_answer(const char *value, const char *said, bool deny)
{
        if (is_any(value))
                return YES;
        if (has_star(value) && !deny && (strstr(said, "..") || strchr(said, '\\')))
                return NO;
        enum answer answer = word_answer(value, said, deny);
        char words[128];

        if (deny)
                answer = most(answer, path_answer_of_value(value, said));

        /* A deny looks at each word of a list, without what is blank around it. */
        snprintf(words, sizeof(words), "%s", said);
        for (char *at = words, *next; deny && at; at = next) {
                next = strchr(at, ',');
                if (next)
                        *next++ = '\0';
                at += strspn(at, " \t");
                for (size_t n = strlen(at); n && strchr(" \t", at[n - 1]); n--)
                        at[n - 1] = '\0';
                answer = most(answer, word_answer(value, at, true));
        }
        return answer;
}

static inline void as_variable(const char *name, char *out)
{
        for (; *name && *name != '*'; name++)
                *out++ = (char)(strchr(". ", *name) ? '_' : tolower((unsigned char)*name));
        *out = '\0';
}

/* As may_fit, and MAYBE where an agent makes the same of both names. */
static inline enum answer key_answer(const char *listed, const char *name)
{
        enum answer answer = may_fit(listed, name, true);
        char a[64], b[64];

        as_variable(listed, a);
        as_variable(name, b);
        bool same = has_star(listed) ? strncmp(a, b, strlen(a)) == 0 : strcmp(a, b) == 0;
        return answer == NO && same ? MAYBE : answer;
}

static inline enum answer fact_answer(
        const struct model_where *where, const struct fact *fact, bool deny)
{
        enum answer answer = NO;

        /* On an allow, an exact key goes before any other. */
        for (size_t k = 0; k < where->n; k++) {
                if (deny || !where->is_map || has_star(where->keys[k]) ||
                        strcasecmp(where->keys[k], fact->key.ptr) != 0)
                        continue;
                for (size_t v = 0; v < where->values[k].n; v++)
                        answer = most(answer,
                                said_answer(where->values[k].items[v], fact->value.ptr, deny));
                return answer;
        }
        for (size_t k = 0; k < where->n; k++)
                if (!deny && where->is_map && !has_star(where->keys[k]) &&
                        key_answer(where->keys[k], fact->key.ptr) == MAYBE)
                        return MAYBE;
        for (size_t k = 0; k < where->n; k++) {
                enum answer key = where->is_map ? key_answer(where->keys[k], fact->key.ptr) : YES;
                for (size_t v = 0; v < where->values[k].n; v++)
                        answer = most(answer, least(key, said_answer(where->values[k].items[v],
                                                                 fact->value.ptr, deny)));
        }
        return answer;
}

static inline enum answer where_answer(
        const struct model_where *where, const struct policy_request *request, bool deny)
{
        const struct facts *facts = request->facts;
        enum answer all = YES, any = NO;
        unsigned kind = 0;

        assert_true(fact_named(str_of(where->fact), &kind));
        for (size_t i = 0; facts && i < facts->n; i++) {
                if (facts->items[i].kind != kind)
                        continue;
                all = least(all, fact_answer(where, &facts->items[i], deny));
                any = most(any, fact_answer(where, &facts->items[i], deny));
        }
        if (!request->op || (facts && facts->unread)) {
                all = least(all, MAYBE);
                any = most(any, MAYBE);
        }
        return deny ? any : all;
}

/* Every fact that raises the stakes is named by the entry. */
static inline bool names_what_is_guarded(
        const struct model_entry *entry, const struct policy_request *request)
{
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);

        for (size_t i = 0; request->facts && i < request->facts->n; i++) {
                const struct fact *fact = &request->facts->items[i];
                bool named = !kinds[fact->kind].is_guarded ||
                             strcasecmp(fact->value.ptr, "false") == 0 ||
                             strcasecmp(fact->value.ptr, "none") == 0;
                for (size_t w = 0; w < entry->n_where; w++)
                        named |= strcmp(entry->where[w].fact, kinds[fact->kind].name) == 0;
                if (!named)
                        return false;
        }
        return true;
}

static inline bool claims_it(
        const struct model_claimed *claimed, const struct policy_request *request)
{
        for (size_t i = 0; i < request->n_claimed; i++) {
                if (!str_eq(request->claimed[i].name, str_of(claimed->name)))
                        continue;
                for (size_t v = 0; v < claimed->values.n; v++)
                        if (request->claimed[i].value.len &&
                                fits(claimed->values.items[v], request->claimed[i].value.ptr,
                                        false))
                                return true;
        }
        return false;
}

/* --- what time it is --- */

static const char *const day_names[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

/* By the names from the first on until the last has come. */
static inline bool day_in_range(const char *first, const char *last, int weekday)
{
        int day = 0;

        while (strcmp(day_names[day], first) != 0)
                day++;
        while (day != weekday && strcmp(day_names[day], last) != 0)
                day = (day + 1) % 7;
        return day == weekday;
}

/* By what begins on the day there, or on the day before and goes past midnight. */
static inline bool window_holds(const char *window, int64_t now_ms)
{
        struct model_window clock = window_minutes(window);
        char first[4] = "Sun", last[4] = "Sat";
        struct tm there;

        if (sscanf(window, "%3[A-Za-z]", first) == 1) {
                strcpy(last, first);
                sscanf(window, "%*3[A-Za-z]-%3[A-Za-z]", last);
        }
        /* Rounded down, before 1970 as well. */
        time_t seconds = (time_t)(now_ms / 1000 - (now_ms % 1000 < 0));
        seconds += clock.offset * 60;
        assert_non_null(gmtime_r(&seconds, &there));
        int now = there.tm_hour * 60 + there.tm_min, yesterday = (there.tm_wday + 6) % 7;
        int end = clock.end < clock.begin ? clock.end + 24 * 60 : clock.end;
        return (day_in_range(first, last, there.tm_wday) && clock.begin <= now && now < end) ||
               (day_in_range(first, last, yesterday) && now + 24 * 60 < end);
}

static inline bool some_window_holds(const struct words *windows, int64_t now_ms)
{
        for (size_t v = 0; v < windows->n; v++)
                if (window_holds(windows->items[v], now_ms))
                        return true;
        return !windows->given;
}

/* --- one entry --- */

static inline bool entry_decides(const struct model *model, const struct model_entry *entry,
        const struct policy_request *request)
{
        bool deny = entry->deny, found = !entry->method.given;
        enum answer enough = deny ? MAYBE : YES, path = entry->path.given ? NO : YES;

        if (!chooses_operation(entry, request->op))
                return false;
        for (size_t v = 0; v < entry->method.n; v++)
                found |= str_eq(str_of(entry->method.items[v]), request->method);
        for (size_t v = 0; v < entry->path.n; v++)
                path = most(path, path_answer(entry->path.items[v], request->path.ptr));
        if (!found || path < enough)
                return false;
        for (int k = 0; k < RESOURCE_KINDS; k++)
                if (entry->kinds[k].given && kind_answer(model, &entry->kinds[k],
                                                     (enum resource_kind)k, request, deny) < enough)
                        return false;
        if (entry->where_refs.given &&
                kind_answer(model, &entry->where_refs, RESOURCE_REF, request, deny) < enough)
                return false;
        for (size_t w = 0; w < entry->n_where; w++)
                if (where_answer(&entry->where[w], request, deny) < enough)
                        return false;
        for (size_t c = 0; c < entry->n_claimed; c++)
                if (!claims_it(&entry->claimed[c], request))
                        return false;
        if (!some_window_holds(&entry->windows, request->now_ms))
                return false;
        return deny || names_what_is_guarded(entry, request);
}

/* Of which kinds more would have to be known to decide by the entry (bit k); 0: it is decided. */
static inline unsigned entry_leaves_open(const struct model *model, const struct model_entry *entry,
        const struct policy_request *request)
{
        enum answer enough = entry->deny ? MAYBE : YES;
        struct model_entry rest = *entry;
        unsigned open = 0;

        for (int k = 0; k <= RESOURCE_KINDS; k++) {
                enum resource_kind kind =
                        k == RESOURCE_KINDS ? RESOURCE_REF : (enum resource_kind)k;
                const struct words *words =
                        k == RESOURCE_KINDS ? &entry->where_refs : &entry->kinds[k];
                if (!words->given)
                        continue;
                enum answer answer = kind_answer(model, words, kind, request, entry->deny);
                if (answer == NO)
                        return 0;
                if (answer == YES)
                        continue;
                struct values values = values_of(model, words);
                open |= 1u << kind;
                for (size_t v = 0; v < values.n; v++)
                        if (kind == RESOURCE_REPOSITORY && strchr(values.items[v], '/'))
                                open |= 1u << RESOURCE_PROJECT;
        }
        /* All the rest of it has to hold. */
        memset(rest.kinds, 0, sizeof(rest.kinds));
        rest.where_refs.given = false;
        for (size_t w = 0; w < rest.n_where; w++)
                if (where_answer(&rest.where[w], request, entry->deny) < enough)
                        return 0;
        return entry_decides(model, &rest, request) ? open : 0;
}

#endif
