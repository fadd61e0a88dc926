/*
 * What the files of this module share: a policy as it is kept after loading.
 */
#ifndef DAGWARD_SRC_POLICY_INTERNAL_H
#define DAGWARD_SRC_POLICY_INTERNAL_H

#include <limits.h>

#include "dagward/azdo/facts.h"
#include "dagward/azdo/identity.h"
#include "dagward/base/buf.h"
#include "dagward/policy/analyse.h"
#include "dagward/policy/explain.h"
#include "dagward/policy/policy.h"
#include "dagward/policy/tests.h"
#include "dagward/yaml/yaml.h"

/* The slot of operation sets that stands for "unknown to the catalogue". */
enum { UNKNOWN_OPERATION = OPERATIONS_MAX - 1 };

static inline unsigned operation_slot(const struct operation *op)
{
        return op ? op->index : UNKNOWN_OPERATION;
}

/* Of two things that both have to hold, and of two of which one has to. */
static inline enum policy_state worse(enum policy_state a, enum policy_state b)
{
        if (a == STATE_FAILED || b == STATE_FAILED)
                return STATE_FAILED;
        return a == STATE_MET ? b : a;
}
static inline enum policy_state better(enum policy_state a, enum policy_state b)
{
        if (a == STATE_MET || b == STATE_MET)
                return STATE_MET;
        return a == STATE_FAILED ? b : a;
}

/* A literal, or what stands before the `*` at its end. */
struct pattern {
        struct str text;
        bool prefix;
        bool id; /* the literal is a GUID or number rather than a name */
};

static inline bool pattern_any(const struct pattern *pattern)
{
        return pattern->prefix && pattern->text.len == 0;
}

/* One value of a resource selector. */
struct value {
        struct pattern name;
        struct pattern project; /* repositories written `project/name` */
        bool has_project;
        uint32_t hash; /* of name.text, for the index */
};

/* One resource selector of an entry. */
struct selector {
        enum resource_kind kind;
        struct value *values;
        size_t n;
        struct str shown;
};

struct path_pattern {
        struct pattern *segments;
        size_t n;
        bool rest; /* ended in `**`: any number of further segments */
};

/* The selectors that choose operations, as written; compiled into sets. */
enum choice { CHOICE_OPERATIONS, CHOICE_ACCESS, CHOICE_SCOPES, CHOICE_AREAS };
enum { CHOICES = CHOICE_AREAS + 1 };

struct names {
        struct str *items;
        size_t n;
        struct str shown; /* joined with ", " */
};

/* Values for facts with one key. */
struct keyed_values {
        struct pattern key;
        struct pattern *values;
        size_t n;                   /* 0: it may not be said */
        uint32_t key_hash, *hashes; /* of the key, and of it and each value, for the index */
};

/* One condition of `where`. */
struct condition {
        unsigned fact;
        struct keyed_values *keys; /* one, with the key `*`, unless the fact is a map */
        size_t n;                  /* 0: none may be said */
        struct str shown;
};

/* One value of `where.time`: from `begin` until before `end` of each of the days, or of the next
 * morning when it does not end after it begins. */
struct window {
        int first, last; /* days, 0 is Monday; first > last: over the weekend */
        int begin, end;  /* minutes of the day, end at most 24 * 60 */
        int offset;      /* minutes east of UTC */
};

/* One condition of `claimed`. */
struct claimed {
        struct str name;
        struct pattern *values;
        size_t n;
        struct str shown;
};

struct entry {
        enum effect effect;
        unsigned role;
        struct str rule; /* file:line */
        unsigned column;
        struct names choices[CHOICES];
        struct names methods;
        struct path_pattern *paths;
        size_t n_paths;
        struct str paths_shown;
        struct selector *selectors;
        size_t n_selectors;
        struct condition *conditions;
        size_t n_conditions;
        struct claimed *claimed;
        size_t n_claimed;
        struct window *windows; /* none: at any time */
        size_t n_windows;
        struct str windows_shown;
        unsigned kinds;            /* bit per resource kind that it looks at; BODY_FACTS */
        struct operation_set *set; /* only while compiling */
};

struct entry_list {
        unsigned *items; /* ascending */
        unsigned n;
        unsigned last; /* while it is made: 1 + the last one */
};

/* The entries of a class and effect, by the values they name of one kind of resource, or of what
 * requests say: of many, only those in the buckets of the request's own value can match, and those
 * that do not insist on one. */
struct op_index {
        enum resource_kind kind;
        bool by_fact; /* by a condition of `where` on `fact` instead */
        unsigned fact;
        bool has_paths;           /* a value is a pipeline's folder */
        unsigned mask;            /* of the value's hash */
        uint64_t starts_at[4];    /* bit n: a value is n bytes and `*` */
        unsigned *starts;         /* mask + 2 of them, into items */
        unsigned *items;          /* entries, ascending in each bucket */
        struct entry_list others; /* without such a selector, or with one that is not indexed */
        struct entry_list names;  /* with a value that is not an id */
        struct entry_list ids;    /* with one that is */
};

/* Which entries are about one operation: list[start..middle) deny, list[middle..end) allow. */
struct op_class {
        unsigned start, middle, end;
        unsigned kinds; /* bit per resource kind that these entries look at; BODY_FACTS */
        struct op_index *denies, *allows; /* NULL: too few to be worth it */
        struct op_index *says;            /* allows, by what requests say; NULL likewise */
};

struct role {
        struct str name;
        struct str place; /* file:line */
        struct mark at;
        size_t first, n;           /* its entries */
        struct str *include_names; /* roles whose entries it has as well; while loading */
        struct mark *include_marks;
        unsigned *includes;
        size_t n_includes;
        bool used;
        unsigned short *class_of; /* by operation slot; operations alike share a class */
        struct op_class *classes;
        size_t n_classes;
        unsigned *list; /* indexes of entries */
};

struct claim_condition {
        struct str path;
        struct pattern *values;
        bool *bare; /* the value was written without quotes: numbers and booleans match too */
        size_t n;
        struct str shown;
};

struct binding {
        struct str name;  /* as written, or the place */
        struct str place; /* file:line */
        struct mark at;
        bool named;
        struct str issuer;
        struct mark issuer_at;
        struct pattern *subjects;
        size_t n_subjects;
        struct str subjects_shown;
        struct pattern *token_roles;
        size_t n_token_roles;
        struct str token_roles_shown;
        struct claim_condition *claims;
        size_t n_claims;
        struct str *role_names; /* while loading */
        struct mark *role_marks;
        unsigned *roles;
        size_t n_roles;
        struct str credential;
        struct mark credential_at;
        int64_t not_before_ms, expires_ms; /* INT64_MIN, INT64_MAX: no bound */
        unsigned glass_chars; /* a reason of at least so many characters is needed; 0: none */
};

struct policy_test {
        struct str name;
        struct mark at;
        struct str issuer, subject;
        struct str *roles;
        size_t n_roles;
        struct str claims; /* JSON text, or ptr NULL */
        struct str method, url;
        struct str body; /* JSON text, or ptr NULL */
        struct pair *claimed;
        size_t n_claimed;
        unsigned reason_chars;
        bool has_at;
        int64_t at_ms;
        enum effect expect;
        struct str rule; /* file:line or a role's name; empty: any */
};

/* What the files say that upstream would answer. */
struct known {
        enum resource_kind kind;
        struct identity identity;
};

struct policy {
        struct snapshot snap; /* first */
        struct arena arena;
        size_t n_files;
        struct role *roles;
        size_t n_roles;
        struct entry *entries;
        size_t n_entries;
        struct binding *bindings;
        size_t n_bindings;
        struct policy_test *tests;
        size_t n_tests;
        struct known *known;
        size_t n_known;
};

struct grant {
        const struct binding *binding;
        const struct role *role;
};

struct policy_grants {
        char caller[160]; /* "subject (issuer x)", printable, for reasons */
        size_t n;
        struct grant *grants;
};

/* policy_pattern.c */

/* Reads a literal or `text*`; false: a `*` elsewhere. `kind` < 0: no resource. */
bool pattern_parse(struct str text, int kind, struct pattern *out);
/* Whether `text` satisfies the pattern; letter case of ASCII ignored if `fold`. STATE_UNSURE: other
 * letters that upstream might fold are involved. */
enum policy_state pattern_state(const struct pattern *pattern, struct str text, bool fold);
/* Case-sensitive, nothing unsure: for subjects, roles and claims. */
bool pattern_matches(const struct pattern *pattern, struct str text);
/* A GUID, a number where things of the kind have numbers, ...: not a name. */
bool is_resource_id(int kind, struct str text);
/* Whether upstream may read it as the name or id of another one: a GUID in another form, or a
 * repository's name with `.git` behind it. */
bool may_be_another(enum resource_kind kind, struct str text);
/* `*` per dot-separated part, whole or at its end; one at the very end stands for all that
 * follows. Letter case ignored. */
bool operation_pattern_matches(struct str pattern, struct str id);
bool path_pattern_parse(struct arena *arena, struct str text, struct path_pattern *out);
enum policy_state path_pattern_state(const struct path_pattern *pattern, struct str path);

/* policy_match.c: one selector, and one entry, against a request */

bool selector_any(const struct selector *selector); /* `*` is among its values */
enum policy_state selector_state(
        const struct selector *selector, const struct policy_request *request, enum effect effect);
enum policy_state paths_state(const struct entry *entry, struct str path);
bool methods_match(const struct entry *entry, struct str method);
/* Whether the entry's selectors other than those that choose operations hold; "unsure" has been
 * decided by the effect. */
bool entry_matches(const struct entry *entry, const struct policy_request *request);
/* Which kinds of resource keep the entry from being decided (bit k); 0: it is, or it fails whatever
 * they turn out to be. */
unsigned entry_doubts(const struct entry *entry, const struct policy_request *request);
bool binding_live(const struct binding *binding, int64_t now_ms);
/* Has expired, or will within POLICY_EXPIRES_SOON_MS. */
bool binding_ends_soon(const struct binding *binding, int64_t now_ms);
/* Whether the request has the roles of a binding that is for its caller. */
static inline bool binding_gives(
        const struct binding *binding, const struct policy_request *request)
{
        return binding_live(binding, request->now_ms) &&
               request->reason_chars >= binding->glass_chars;
}
bool binding_subject_matches(const struct binding *binding, struct str subject);
bool binding_roles_match(const struct binding *binding, const struct policy_caller *caller);
bool claim_matches(const struct claim_condition *condition, const struct tree *claims);

struct loader;
struct line;
/* policy_glass.c: break-glass bindings */

/* `break_glass` of a binding whose times have been read. */
void glass_read(struct loader *loader, const struct yaml_node *node, struct binding *binding);
/* `reason` of a test. */
void glass_reason_read(
        struct loader *loader, const struct yaml_node *node, struct policy_test *test);
/* After a denial by no entry: fills glass_binding and glass_chars. */
void glass_find(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, struct decision *out);
enum { GLASS_MOST_DAYS = 90 };
bool glass_lasts_long(const struct binding *binding, int64_t now_ms);
/* "a reason of 20 characters or more" */
void glass_want_write(unsigned chars, struct line *line);

/* policy_time.c: windows of time */

bool time_read(struct loader *loader, const struct yaml_node *node, struct entry *entry);
/* Whether `now_ms` is inside one of the windows. */
bool windows_hold(const struct entry *entry, int64_t now_ms);
/* A moment for each way in which the windows of the entries hold or do not; none if there are no
 * windows. Free with free(). */
int64_t *windows_moments(const struct entry *const *entries, size_t n, size_t *n_moments);
/* "Fri 2026-11-27T23:42:00.000Z" */
void time_write(int64_t ms, struct line *line);

/* policy_where.c: conditions on what a request says and on what its caller claims */

bool where_read(struct loader *loader, const struct yaml_node *node, struct entry *entry);
bool claimed_read(struct loader *loader, const struct yaml_node *node, struct entry *entry);
/* `claimed` of a test's caller. */
void claimed_given_read(
        struct loader *loader, const struct yaml_node *node, struct policy_test *test);
/* Complains about conditions that no operation of the entry could meet; once its set is known. */
bool where_fits(struct loader *loader, const struct yaml_node *node, const struct entry *entry);
enum policy_state condition_state(const struct condition *condition,
        const struct policy_request *request, enum effect effect);
enum policy_state claimed_state(
        const struct claimed *claimed, const struct policy_request *request);
/* A fact that an allow entry would have to name and does not; NULL: none. */
const struct fact *unnamed_grave_fact(
        const struct entry *entry, const struct policy_request *request);
struct str claimed_value(const struct policy_request *request, struct str name);

/* policy_compile.c */

/* What one value of a choosing selector stands for; false: nothing (unknown name). */
bool choice_select(
        enum choice choice, struct str value, enum effect effect, struct operation_set *set);
enum policy_state choice_state(
        const struct entry *entry, enum choice choice, const struct operation *op);
const char *choice_name(enum choice choice);
/* Memory of the policy's arena. */
void *policy_take(struct policy *policy, size_t bytes);
/* Fills roles' tables from entries' sets and forgets the sets. */
void policy_compile(struct policy *policy);

/* policy_index.c */

/* Hashes all values of the policy's entries, and keeps what indexes are made of until it is freed.
 */
struct index_maker;
struct index_maker *index_maker_new(struct policy *policy);
void index_maker_free(struct index_maker *maker);
/* Makes indexes of the entries of a class, deny and allow, where it is worth it. */
void index_class(struct index_maker *maker, const struct role *role, struct op_class *class);

enum { CANDIDATE_RUNS = 8 };
/* Entries that may matter: ascending runs, in which one may stand twice. */
struct candidates {
        struct candidate_run {
                const unsigned *at, *end;
        } runs[CANDIDATE_RUNS];
        unsigned n;
};
enum search_for {
        SEARCH_DENY,  /* deny entries that match, or may be in doubt */
        SEARCH_ALLOW, /* allow entries that match */
        SEARCH_DOUBT  /* allow entries that match, or may be in doubt */
};
/* `all`: those the index was made of. */
struct candidates index_candidates(const struct op_index *index,
        const struct policy_request *request, enum search_for what, const unsigned *all,
        const unsigned *all_end);
/* Of allow entries, those that may matter to what the request says; false: it does not say what
 * they are told apart by, so that any of them may. */
bool index_says(
        const struct op_index *index, const struct policy_request *request, struct candidates *out);
/* The next in ascending order, each once. */
static inline bool candidates_next(struct candidates *from, unsigned *entry)
{
        unsigned least = UINT_MAX;

        for (unsigned i = 0; i < from->n; i++)
                if (from->runs[i].at < from->runs[i].end && *from->runs[i].at < least)
                        least = *from->runs[i].at;
        for (unsigned i = 0; i < from->n; i++)
                if (from->runs[i].at < from->runs[i].end && *from->runs[i].at == least)
                        from->runs[i].at++;
        *entry = least;
        return least != UINT_MAX;
}

/* policy_reason.c */

/* A line that is cut, never overrun: printable, ends with NUL, whole UTF-8 characters. */
struct line {
        char *at;
        size_t left; /* bytes that may still be written, without the NUL */
};
struct line line_over(char *memory, size_t bytes);
void line_add(struct line *line, struct str text);
/* At most `most` bytes of `text`, "..." behind if there were more. */
void line_add_most(struct line *line, struct str text, size_t most);
void line_break(struct line *line);
/* RFC 3339, UTC, whole seconds; `out`. */
enum { TIME_TEXT_BYTES = 32 };
const char *time_text(int64_t wall_ms, char out[TIME_TEXT_BYTES]);
/* What the request touches; of what it leaves unnamed, only these kinds (a bit each). */
void line_resources(struct line *line, const struct policy_request *request, unsigned unnamed_kinds,
        size_t most);
void caller_describe(const struct policy_caller *caller, char *memory, size_t bytes);
void reason_write(const struct policy_grants *grants, const struct policy_request *request,
        const struct entry *denied_by, const struct decision *decision, char *out, size_t bytes,
        const struct policy *policy);

/* policy_decide.c */

/* The first entry of that effect that matches, in the order that policy_decide promises, and the
 * grant of its role. */
const struct entry *first_match(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, enum effect effect, const struct grant **by);
/* As policy_decide; also the deciding entry, or NULL. */
const struct entry *decide(const struct policy *policy, const struct policy_grants *grants,
        const struct policy_request *request, struct decision *out);

/* policy_load.c */

/* Adds `role` and the roles it includes to `list`, each once, in the order in which they are
 * reached; `list` has room for all roles. How many it holds then: no more than one over
 * POLICY_MOST_TOGETHER, which no policy that was loaded has. */
size_t role_with_included(const struct policy *policy, unsigned role, unsigned *list, size_t n);

/* policy_looks.c */

/* Whether the text is not what it seems to be: letters of several alphabets in one word, characters
 * that are not seen, blanks at its ends. `why`: "has ...: U+0430". */
bool looks_deceptive(struct str text, char *why, size_t bytes);
/* Whether two different texts are read as one: o and 0, l and 1. */
bool looks_alike(struct str a, struct str b);
/* The same for two that are. */
uint32_t looks_hash(struct str text);

/* policy_analyse.c */

struct linting {
        const struct policy *policy;
        const struct operation_set *sets; /* by entry: its operations */
        policy_found *found;
        void *owner;
        size_t n;
        unsigned column; /* of what is looked at */
};
void lint_tell(struct linting *l, bool is_error, const char *check, struct str place,
        const char *format, ...) __attribute__((format(printf, 5, 6)));
/* "issuer airflow; subject system:*" */
void callers_write(const struct binding *binding, struct line *line);

/* policy_never.c */

/* The deny entries of a role and of those that it includes; free items with free(), once for all
 * roles. */
struct denials {
        unsigned *items;
        size_t n, cap;
};
void denials_gather(const struct policy *policy, const struct role *role, struct denials *out);
/* Tells if no request can be what an entry of the role asks for, if the role denies all that it
 * allows, and which of its values no request has. */
void lint_never(
        struct linting *l, const struct role *role, size_t index, const struct denials *denials);

/* policy_json.c */

/* The node as JSON text in the arena. Plain words true, false, null and numbers keep their kind,
 * all other scalars are strings. */
struct str yaml_to_json(const struct yaml_node *node, struct arena *arena);

/* policy_parse.c and policy_entry.c */

struct loader {
        struct policy *policy;
        struct error_list *errors;
        struct yaml_document *doc; /* the one being read */
        struct str file;           /* how rules name it */
        struct choice_cache *cache;
        size_t cap_roles, cap_entries, cap_bindings, cap_tests, cap_known;
        struct group *groups;
        size_t n_groups, cap_groups;
        size_t n_grouped; /* values that came from them */
};
/* Room for one more in a growing array. */
void *grow(void *array, size_t n, size_t *cap, size_t bytes);
/* A mark that outlives the document. */
struct mark keep_mark(struct loader *loader, struct mark at);
bool name_ok(struct loader *loader, struct str name, struct mark at, const char *what);

/* policy_known.c */

/* Reads one entry of `known`. */
void known_read(struct loader *loader, const struct yaml_node *node);
/* Joins the entries of all files: builds with their pipelines, everything with its project. */
void known_join(struct policy *policy);

/* policy_group.c */

/* Reads the groups of one file; of all files before any selector. */
void groups_read(struct loader *loader, struct yaml_document *doc);
/* Puts what groups stand for in place of `group:NAME`; false: errors were added. */
bool groups_expand(struct loader *loader, struct names *names, struct mark **marks);
/* Warns of those that nobody uses, and forgets them. */
void groups_review(struct loader *loader);

/* Reads one file into the policy. */
void policy_file_read(struct loader *loader, struct yaml_document *doc);
struct choice_cache *choice_cache_new(void);
void choice_cache_free(struct choice_cache *cache);
/* Reads one entry of `allow` or `deny` into *out; false: errors were added. */
bool entry_read(
        struct loader *loader, const struct yaml_node *node, enum effect effect, struct entry *out);
bool selector_read(struct loader *loader, const struct yaml_node *node, enum resource_kind kind,
        struct selector *out);
void *keep(struct loader *loader, size_t bytes);
struct str keep_str(struct loader *loader, struct str text);
struct str keep_place(struct loader *loader, struct mark at);
/* "a, b, c" */
/* With ", " between, as they are. */
struct str keep_joined(struct loader *loader, const struct str *items, size_t n);
/* Likewise, values in quotes where the list could be read as another: equal texts, equal lists. */
struct str keep_shown(struct loader *loader, const struct str *items, size_t n);
/* A text or a list of texts, not empty, kept; false: errors were added. */
bool names_read(struct loader *loader, const struct yaml_node *node, const char *what,
        struct names *out, struct mark **marks);

#endif
