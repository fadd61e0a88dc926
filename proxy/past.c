#include "past.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit_files.h"
#include "dagward/audit/read.h"
#include "dagward/audit/signing.h"
#include "dagward/azdo/batch.h"
#include "dagward/azdo/facts.h"
#include "dagward/azdo/identity.h"
#include "dagward/azdo/push.h"
#include "dagward/world/reasons.h"

enum {
        MOST_CLAIMED = 6,
        MOST_SAID = 64,
        ARENA_BYTES = 64 * 1024,
        LINE_MOST_BYTES = 1 << 20,
        KEPT = 4096, /* callers whose bindings are remembered */
        HELD_MOST_BYTES = 256 << 20,
};

/* The memory of one record. */
struct past_reader {
        struct arena arena;
        struct audit_line line;
        struct past past;
        struct resources resources;
        struct identity identities[RESOURCES_MAX];
        struct facts said;
        struct fact facts[MOST_SAID];
        struct pair claimed[MOST_CLAIMED];
};

/* "pipeline", "pipeline.id", "pipeline.name": the kind; `*part` what stands behind the dot. */
static int kind_of(struct str name, struct str *part)
{
        struct str kind;

        *part = str_cut(name, '.', &kind);
        for (int k = 0; k < RESOURCE_KINDS; k++)
                if (str_eq(kind, str_of(resource_kind_name((enum resource_kind)k))))
                        return k;
        return -1;
}

/* What upstream knew of the last resource of that kind: the other one of name and id. */
static void add_known(struct past_reader *r, int kind, struct str part, struct str value)
{
        size_t i = r->resources.n;

        while (i && r->resources.items[i - 1].kind != (enum resource_kind)kind)
                i--;
        if (!i)
                return;
        struct resource *item = &r->resources.items[i - 1];
        struct identity *known = &r->identities[i - 1];
        if (!item->known)
                *known = (struct identity){.id = item->value, .name = item->value};
        if (str_eq(part, STR("id")))
                known->id = value;
        else
                known->name = value;
        if (part.len == 4 && value.len && value.ptr[0] == '\\') {
                known->path = value;
                for (size_t k = 0; k < value.len; k++)
                        if (value.ptr[k] == '\\')
                                known->name = str_from(value, k + 1);
        }
        item->known = known;
}

/* What is known belongs to the project of the request: another one would have been refused. */
static void add_projects(struct past_reader *r)
{
        struct str id = STR_NONE, name = STR_NONE;

        for (size_t i = 0; i < r->resources.n && !id.ptr; i++) {
                const struct resource *item = &r->resources.items[i];
                if (item->kind != RESOURCE_PROJECT)
                        continue;
                id = item->known ? item->known->id : item->value;
                name = item->known ? item->known->name : item->value;
        }
        for (size_t i = 0; i < r->resources.n; i++) {
                r->identities[i].project_id = id;
                r->identities[i].project_name = name;
        }
}

static void read_resources(struct past_reader *r)
{
        const struct audit_fields *f = &r->line.fields;
        struct str project = f->request.project, organization = f->request.organization;
        struct resources *out = &r->resources;
        bool whole = true;

        out->n = 0;
        out->implied = out->deferred = out->aside = 0;
        memset(out->unresolved, 0, sizeof(out->unresolved));
        if (organization.len)
                whole = resources_add(out, RESOURCE_ORGANIZATION, organization, NULL);
        if (project.len)
                whole = resources_add(out, RESOURCE_PROJECT, project, NULL) && whole;
        for (size_t i = 0; i < f->request.n_resources; i++) {
                struct str part, value = f->request.resources[i].value;
                int kind = kind_of(f->request.resources[i].name, &part);
                if (kind < 0)
                        whole = false;
                else if (str_eq(value, STR("?")))
                        out->unresolved[kind] = true;
                else if (kind == RESOURCE_REF && str_eq(value, STR("~")))
                        out->deferred |= 1U << kind;
                else if (part.ptr)
                        add_known(r, kind, part, value);
                else if (value.len)
                        whole = resources_add(out, (enum resource_kind)kind, value, NULL) && whole;
        }
        add_projects(r);
        r->past.incomplete = r->line.cut || !whole;
}

static void read_said(struct past_reader *r)
{
        const struct audit_fields *f = &r->line.fields;

        r->said = (struct facts){.items = r->facts};
        for (size_t i = 0; i < f->request.n_says; i++) {
                struct str name, key = str_cut(f->request.says[i], '.', &name);
                unsigned kind;
                if (r->said.n == MOST_SAID || !fact_named(name, &kind))
                        r->past.incomplete = true;
                else
                        r->facts[r->said.n++] =
                                (struct fact){kind, key.ptr ? key : STR(""), STR_NONE};
        }
        r->past.said = f->request.n_says ? &r->said : NULL;
}

static size_t read_claimed(struct past_reader *r)
{
        const struct audit_fields *f = &r->line.fields;
        const struct pair all[MOST_CLAIMED] = {
                {STR("dag_id"), f->claimed.dag_id},
                {STR("run_id"), f->claimed.run_id},
                {STR("task_id"), f->claimed.task_id},
                {STR("map_index"), f->claimed.map_index},
                {STR("try_number"), f->claimed.try_number},
                {STR("user_agent"), f->claimed.user_agent},
        };
        size_t n = 0;

        for (size_t i = 0; i < MOST_CLAIMED; i++)
                if (all[i].value.len)
                        r->claimed[n++] = all[i];
        return n;
}

/* "/~pkgs/contoso/..." */
static enum service service_of(struct str path)
{
        enum service service = SERVICE_DEV;
        struct str name;

        if (path.len > 1 && path.ptr[1] == '~') {
                (void)str_cut(str_from(path, 2), '/', &name);
                if (!service_named(name, &service))
                        service = SERVICE_DEV;
        }
        return service;
}

/* The record may have less of it than was said, where it looked like a secret. */
static void read_reason(struct past *past, struct str text)
{
        unsigned chars = 0;
        const char *why;

        past->broke_glass = text.len > 0;
        (void)!policy_reason_read(text, &text, &chars, &why);
        past->request.reason_chars =
                past->broke_glass && chars < POLICY_GLASS_CHARS ? POLICY_GLASS_CHARS : chars;
}

/* False: not a request that a policy decided. */
static bool is_decided(const struct audit_fields *f)
{
        if (f->kind != AUDIT_OUTCOME || !f->caller.issuer.len || !f->request.method.len)
                return false;
        switch (f->decision.effect) {
        case AUDIT_UNDECIDED: return false;
        case AUDIT_ERROR: return !audit_failed_unjudged(f);
        case AUDIT_ALLOW: return f->decision.rule.len > 0;
        /* So has a denial by one; others were refused because nothing allows them (403), or before
         * a policy was asked (400, 401, 413, ...). */
        case AUDIT_DENY:
                return f->decision.rule.len > 0 ||
                       (f->response.status == 403 &&
                               !str_eq(f->decision.reason, STR(REASON_ORGANIZATION)) &&
                               !str_eq(f->decision.reason, STR(REASON_NOT_SPELT_OUT)));
        }
        return false;
}

static void read_record(struct past_reader *r)
{
        const struct audit_fields *f = &r->line.fields;
        struct past *past = &r->past;

        past->rule = f->decision.rule;
        past->binding = f->decision.binding;
        past->role = f->decision.role;
        past->operation = f->request.operation;
        past->credential = f->credential.name;
        past->time = r->line.time;
        past->correlation_id = f->correlation_id;
        past->effect = f->decision.effect == AUDIT_DENY ? EFFECT_DENY : EFFECT_ALLOW;
        past->caller = (struct policy_caller){.issuer = f->caller.issuer,
                .subject = f->caller.subject,
                .roles = f->caller.roles,
                .n_roles = f->caller.n_roles};
        read_resources(r);
        read_said(r);
        past->request = (struct policy_request){
                .op = catalogue_find(f->request.operation),
                .method = f->request.method,
                .path = f->request.path,
                .service = service_of(f->request.path),
                .resources = &r->resources,
                .claimed = r->claimed,
                .n_claimed = read_claimed(r),
                .now_ms = f->time_ms,
        };
        read_reason(past, f->decision.break_glass);
}

void past_reader_line(struct past_reader *r, struct str line, struct str place, past_seen *seen,
        void *owner, struct past_counts *counts)
{
        arena_reset(&r->arena);
        r->past.place = place;
        if (!audit_line_read(line, &r->arena, &r->line)) {
                counts->damaged++;
        } else if (is_decided(&r->line.fields)) {
                counts->records++;
                read_record(r);
                seen(owner, &r->past);
        } else {
                counts->others++;
        }
}

struct past_reader *past_reader_new(void)
{
        struct past_reader *r = calloc(1, sizeof(*r));

        if (!r)
                abort();
        arena_init(&r->arena, ARENA_BYTES, 4 * LINE_MOST_BYTES);
        return r;
}

void past_reader_free(struct past_reader *r)
{
        if (r)
                arena_clear(&r->arena);
        free(r);
}

/* --- files --- */

static bool pin(struct verify *verify, const struct past_log *log)
{
        char key[SIGNING_KEY_LEN + 1];
        struct error error;

        verify_init(verify);
        for (size_t i = 0; i < log->n_keys; i++)
                if (!signing_public_load(log->keys[i], key, &error) || !verify_pin(verify, key)) {
                        fprintf(stderr, "dagward policy: %s: no key to check a log with\n",
                                log->keys[i]);
                        return false;
                }
        return true;
}

/* Whether the file is what was written. */
static bool is_genuine(struct verify *verify, const struct audit_file *file)
{
        verify_file_end(verify);
        verify_end(verify, false);
        if (verify_good(verify) && !file->too_long)
                return true;
        if (verify_good(verify))
                fprintf(stderr, "dagward policy: %s: a line that is too long for a record",
                        audit_shown(file->name));
        else
                fprintf(stderr, "dagward policy: %s:%llu: %s: %s", audit_shown(verify->first.file),
                        (unsigned long long)verify->first.line,
                        verify_fault_name(verify->first.fault), audit_shown(verify->first.text));
        fprintf(stderr, "; nothing is concluded from it. `dagward audit verify` says more, "
                        "--unverified takes the log as it is\n");
        return false;
}

static void see_line(struct past_reader *r, const struct audit_file *file, struct str line,
        uint64_t number, past_seen *seen, void *owner, struct past_counts *counts)
{
        char place[4200];

        snprintf(place, sizeof(place), "%s:%llu", file->name, (unsigned long long)number);
        past_reader_line(r, line, str_of(place), seen, owner, counts);
}

/* Lines whose signature has not come yet. */
struct held {
        struct buf lines;
        uint64_t first; /* number of the first one */
        size_t n;
};

static void see_held(struct past_reader *r, const struct audit_file *file, struct held *held,
        past_seen *seen, void *owner, struct past_counts *counts)
{
        struct str line, rest = buf_str(&held->lines);

        for (size_t i = 0; i < held->n; i++) {
                rest = str_cut(rest, '\n', &line);
                see_line(r, file, line, held->first + i, seen, owner, counts);
        }
        buf_reset(&held->lines);
        held->n = 0;
}

static bool hold(struct held *held, const struct audit_file *file, struct str line)
{
        if (!held->n++)
                held->first = file->number;
        buf_str_add(&held->lines, line);
        buf_char(&held->lines, '\n');
        if (held->lines.overflow)
                fprintf(stderr,
                        "dagward policy: %s:%llu: %d MiB without a signature are too many\n",
                        audit_shown(file->name), (unsigned long long)held->first,
                        HELD_MOST_BYTES >> 20);
        return !held->lines.overflow;
}

static void tell_held(const struct audit_file *file, const struct verify *verify,
        const struct held *held, struct past_counts *counts)
{
        if (!held->n || !verify_good(verify))
                return;
        counts->unvouched += held->n;
        fprintf(stderr,
                "dagward policy: %s: %zu record(s) behind seq %llu are left out: no key that was "
                "given has signed them\n",
                audit_shown(file->name), held->n, (unsigned long long)verify->signed_seq);
}

/* `verify`: NULL when nothing is to be checked. */
static bool read_lines(struct past_reader *r, struct audit_file *file, struct verify *verify,
        past_seen *seen, void *owner, struct past_counts *counts)
{
        struct held held = {.n = 0};
        const bool holds = verify && verify->pinned;
        struct str line;
        bool good = true;

        buf_init(&held.lines, HELD_MOST_BYTES);
        while (good && audit_file_line(file, &line)) {
                uint64_t before = verify ? verify->checkpoints : 0;
                if (holds)
                        good = hold(&held, file, line);
                else
                        see_line(r, file, line, file->number, seen, owner, counts);
                if (verify) /* with its newline, which stands behind the view */
                        verify_feed(verify, line.ptr, line.len + !file->torn);
                if (holds && good && verify->checkpoints != before)
                        see_held(r, file, &held, seen, owner, counts);
        }
        if (file->why[0])
                fprintf(stderr, "dagward policy: %s: %s\n", audit_shown(file->name), file->why);
        else if (holds && good)
                tell_held(file, verify, &held, counts);
        buf_clear(&held.lines);
        counts->damaged += file->too_long;
        return good && !file->why[0];
}

static bool read_one(struct past_reader *r, const char *name, const struct past_log *log,
        past_seen *seen, void *owner, struct past_counts *counts)
{
        struct audit_file file;
        struct verify verify;

        if (!audit_file_open(&file, name)) {
                fprintf(stderr, "dagward policy: %s: %s\n", audit_shown(name), audit_why());
                return false;
        }
        bool good = pin(&verify, log);
        verify_file(&verify, file.name);
        good = good && read_lines(r, &file, log->unverified ? NULL : &verify, seen, owner, counts);
        good = good && (log->unverified || is_genuine(&verify, &file));
        verify_clear(&verify);
        audit_file_close(&file);
        return good;
}

bool past_read(const struct past_log *log, past_seen *seen, void *owner, struct past_counts *counts)
{
        struct past_reader *r = past_reader_new();
        struct past_log sorted = *log;
        bool good = true;

        *counts = (struct past_counts){0};
        audit_files_sort(sorted.files, sorted.n_files);
        for (size_t i = 0; i < sorted.n_files && good; i++)
                good = read_one(r, sorted.files[i], log, seen, owner, counts);
        past_reader_free(r);
        return good;
}

/* --- deciding again --- */

/* The bindings of a caller, in the slot that its name hashes to: a log has few callers and many
 * records of each. */
struct kept {
        char *key;
        struct policy_grants *grants;
};

struct past_judge {
        const struct policy *policy;
        struct buf key;
        struct kept kept[KEPT];
};

struct past_judge *past_judge_new(const struct policy *policy)
{
        struct past_judge *judge = calloc(1, sizeof(*judge));

        if (!judge)
                abort();
        judge->policy = policy;
        buf_init(&judge->key, 8 * LINE_MOST_BYTES);
        return judge;
}

void past_judge_free(struct past_judge *judge)
{
        if (!judge)
                return;
        for (size_t i = 0; i < KEPT; i++) {
                free(judge->kept[i].key);
                policy_grants_free(judge->kept[i].grants);
        }
        buf_clear(&judge->key);
        free(judge);
}

/* Subject and roles are claims that the record tells. */
static struct policy_grants *grants_of(const struct policy *policy, const struct past *past)
{
        struct policy_caller caller = past->caller;
        struct tree *items = calloc(caller.n_roles + 1, sizeof(*items));
        struct tree roles = {.kind = TREE_ARRAY, .name = STR("roles"), .first = items};
        struct tree sub = {.kind = TREE_TEXT, .name = STR("sub"), .text = caller.subject};
        struct tree claims = {.kind = TREE_OBJECT};

        if (!items)
                abort();
        for (size_t i = 0; i < caller.n_roles; i++)
                items[i] = (struct tree){.kind = TREE_TEXT,
                        .text = caller.roles[i],
                        .next = i + 1 < caller.n_roles ? &items[i + 1] : NULL};
        if (caller.subject.len)
                claims.first = &sub;
        if (caller.n_roles) {
                roles.next = claims.first;
                claims.first = &roles;
        }
        caller.claims = &claims;
        struct policy_grants *grants = policy_grants_recalled(policy, &caller, past->binding);
        free(items);
        return grants;
}

static const struct policy_grants *kept_grants(struct past_judge *judge, const struct past *past)
{
        struct buf *key = &judge->key;
        const struct policy_caller *caller = &past->caller;

        buf_reset(key);
        buf_json_str(key, caller->issuer);
        buf_json_str(key, caller->subject);
        buf_json_str(key, past->binding);
        for (size_t i = 0; i < caller->n_roles; i++)
                buf_json_str(key, caller->roles[i]);
        struct kept *kept = &judge->kept[str_hash_fold(buf_str(key)) % KEPT];
        if (!kept->key || !str_eq(str_of(kept->key), buf_str(key))) {
                free(kept->key);
                policy_grants_free(kept->grants);
                kept->key = str_dup(buf_str(key));
                kept->grants = grants_of(judge->policy, past);
        }
        return kept->grants;
}

static enum effect decide_as(const struct past_judge *judge, const struct policy_grants *grants,
        const struct past *past, const struct facts *facts, struct decision *decision)
{
        struct policy_request request = past->request;

        request.facts = facts;
        policy_decide(judge->policy, grants, &request, decision);
        return decision->effect;
}

/* What it said is unknown: the most that it can get, and the least. */
static enum past_answer decide_whole(const struct past_judge *judge,
        const struct policy_grants *grants, const struct past *past, struct decision *decision)
{
        enum effect most = decide_as(judge, grants, past, NULL, decision), least = most;

        if (past->said)
                least = decide_as(judge, grants, past, past->said, decision);
        return most != least ? PAST_UNCLEAR : most == EFFECT_ALLOW ? PAST_ALLOWED : PAST_DENIED;
}

/* A push is judged ref by ref; what happened to each, the record does not tell. */
static enum past_answer decide_push(const struct past_judge *judge,
        const struct policy_grants *grants, const struct past *past, struct decision *decision)
{
        struct resources one = *past->request.resources;
        struct past part = *past;
        enum past_answer all = PAST_ALLOWED;
        size_t n_ids, n = 0;
        const char *const *ids = push_operation_ids(&n_ids);

        for (size_t i = 0; i < n_ids; i++)
                if (policy_tells_apart(judge->policy, grants, past->request.op,
                            catalogue_find(str_of(ids[i]))))
                        return PAST_UNCLEAR;
        for (size_t i = 0; i < one.n; i++)
                if (one.items[i].kind != RESOURCE_REF)
                        one.items[n++] = one.items[i];
        part.request.resources = &one;
        one.n = n + 1;
        for (size_t i = n; i < past->request.resources->n && all == PAST_ALLOWED; i++) {
                one.items[n] = past->request.resources->items[i]; /* refs are the last */
                all = decide_whole(judge, grants, &part, decision);
        }
        return all;
}

enum past_answer past_decide(
        struct past_judge *judge, const struct past *past, bool reasons, struct decision *decision)
{
        struct past asked = *past;
        asked.request.no_reason = !reasons;
        past = &asked;
        const struct policy_grants *grants = kept_grants(judge, past);
        const struct operation *op = past->request.op;
        bool by_ref = op && operation_is_push(op) &&
                      resources_first(past->request.resources, RESOURCE_REF).len;
        enum past_answer answer = by_ref ? decide_push(judge, grants, past, decision)
                                         : decide_whole(judge, grants, past, decision);

        /* The items of a batch were judged as well, and are not in its record. */
        return past->incomplete || (op && operation_is_batch(op)) ? PAST_UNCLEAR : answer;
}
