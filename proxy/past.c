#include "past.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dagward/azdo/facts.h"
#include "dagward/azdo/identity.h"
#include "dagward/base/clock.h"

enum { MOST_ROLES = 256, MOST_CLAIMED = 8, MOST_SAID = 64 };

/* The memory of one record. */
struct reading {
        struct past past;
        struct resources resources;
        struct identity identities[RESOURCES_MAX];
        struct facts said;
        struct fact facts[MOST_SAID];
        struct str roles[MOST_ROLES];
        struct pair claimed[MOST_CLAIMED];
        json_t *claims;
};

static struct str text_of(const json_t *value)
{
        return json_is_string(value) ? str_view(json_string_value(value), json_string_length(value))
                                     : STR_NONE;
}

static struct str member(const json_t *object, const char *name)
{
        return text_of(json_object_get(object, name));
}

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

/* What upstream knew of the resource before it in the list: the other one of name and id. */
static void add_known(struct reading *r, struct str part, struct str value, struct str project)
{
        if (!r->resources.n)
                return;
        struct resource *item = &r->resources.items[r->resources.n - 1];
        struct identity *known = &r->identities[r->resources.n - 1];
        if (!item->known)
                *known = (struct identity){
                        .id = item->value, .name = item->value, .project_name = project};
        if (str_eq(part, STR("id")))
                known->id = value;
        else
                known->name = value;
        if (value.len && value.ptr[0] == '\\')
                known->path = value;
        item->known = known;
}

static void read_resources(struct reading *r, const json_t *request)
{
        struct str project = member(request, "project");
        struct str organization = member(request, "organization");
        struct resources *out = &r->resources;
        const json_t *list = json_object_get(request, "resources");
        size_t i;
        json_t *item;

        out->n = 0;
        out->implied = out->deferred = out->aside = 0;
        memset(out->unresolved, 0, sizeof(out->unresolved));
        if (organization.len)
                (void)!resources_add(out, RESOURCE_ORGANIZATION, organization, NULL);
        if (project.len)
                (void)!resources_add(out, RESOURCE_PROJECT, project, NULL);
        json_array_foreach((json_t *)list, i, item)
        {
                struct str name, part, value = str_cut(text_of(item), ':', &name);
                int kind = kind_of(name, &part);
                if (kind < 0)
                        continue;
                if (str_eq(value, STR("?")))
                        out->unresolved[kind] = true;
                else if (part.ptr)
                        add_known(r, part, value, project);
                else if (value.len)
                        (void)!resources_add(out, (enum resource_kind)kind, value, NULL);
        }
}

static void read_said(struct reading *r, const json_t *request)
{
        const json_t *list = json_object_get(request, "says");
        size_t i;
        json_t *item;

        r->said = (struct facts){.items = r->facts, .unread = true};
        json_array_foreach((json_t *)list, i, item)
        {
                struct str name, key = str_cut(text_of(item), '.', &name);
                unsigned kind;
                if (r->said.n < MOST_SAID && fact_named(name, &kind))
                        r->facts[r->said.n++] =
                                (struct fact){kind, key.ptr ? key : STR(""), STR("?")};
        }
        r->past.said = json_array_size(list) ? &r->said : NULL;
}

/* Subject and roles are claims that the record tells. */
static void read_caller(struct reading *r, const json_t *caller)
{
        const json_t *list = json_object_get(caller, "roles");
        size_t i, n = 0;
        json_t *item;

        json_array_foreach((json_t *)list, i, item) if (n < MOST_ROLES && json_is_string(item))
                r->roles[n++] = text_of(item);
        json_object_clear(r->claims);
        if (list)
                json_object_set(r->claims, "roles", (json_t *)list);
        if (json_object_get(caller, "subject"))
                json_object_set(r->claims, "sub", json_object_get(caller, "subject"));
        r->past.caller = (struct policy_caller){.issuer = member(caller, "issuer"),
                .subject = member(caller, "subject"),
                .roles = r->roles,
                .n_roles = n,
                .claims = r->claims};
}

static size_t read_claimed(struct reading *r, const json_t *claimed)
{
        const char *name;
        json_t *value;
        size_t n = 0;

        json_object_foreach((json_t *)claimed, name, value) if (n < MOST_CLAIMED) r->claimed[n++] =
                (struct pair){str_of(name), text_of(value)};
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
static bool read_record(struct reading *r, const json_t *record)
{
        const json_t *request = json_object_get(record, "request");
        const json_t *caller = json_object_get(record, "caller");
        const json_t *decision = json_object_get(record, "decision");
        struct past *past = &r->past;
        struct str effect = member(decision, "effect");

        if (!str_eq(member(record, "kind"), STR("outcome")) || !member(caller, "issuer").len ||
                !member(request, "method").len || !effect.len)
                return false;
        past->rule = member(decision, "rule");
        past->binding = member(decision, "binding");
        past->role = member(decision, "role");
        past->operation = member(request, "operation");
        past->credential = member(json_object_get(record, "credential"), "name");
        past->time = member(record, "time");
        past->correlation_id = member(record, "correlation_id");
        past->effect = str_eq(effect, STR("deny")) ? EFFECT_DENY : EFFECT_ALLOW;
        /* Allowed requests have a rule; one that failed without was never judged. */
        if (past->effect == EFFECT_ALLOW && !past->rule.len)
                return false;
        /* So has a denial by one; others were refused by nothing that allows them (403), or before
         * a policy was asked (400, 401, 413, ...). */
        const json_t *status = json_object_get(json_object_get(record, "response"), "status");
        if (past->effect == EFFECT_DENY && !past->rule.len && json_integer_value(status) != 403)
                return false;
        read_caller(r, caller);
        read_resources(r, request);
        read_said(r, request);
        past->request = (struct policy_request){
                .op = catalogue_find(past->operation),
                .method = member(request, "method"),
                .path = member(request, "path"),
                .resources = &r->resources,
                .claimed = r->claimed,
                .n_claimed = read_claimed(r, json_object_get(record, "claimed")),
        };
        past->request.service = service_of(past->request.path);
        read_reason(past, member(decision, "break_glass"));
        return clock_parse(past->time, &past->request.now_ms);
}

static void read_line(struct reading *r, struct str line, past_seen *seen, void *owner,
        struct past_counts *counts)
{
        /* Most lines that are no outcome are known by their beginning: no parser is needed. */
        struct str head = str_head(line, 120);
        if (str_find_str(head, STR("\"kind\":\"intent\"")) >= 0 ||
                str_find_str(head, STR("\"kind\":\"event\"")) >= 0) {
                counts->others++;
                return;
        }
        json_t *record = json_loadb(line.ptr, line.len, JSON_ALLOW_NUL, NULL);
        if (!json_is_object(record)) {
                counts->damaged++;
        } else if (read_record(r, record)) {
                counts->records++;
                seen(owner, &r->past);
        } else {
                counts->others++;
        }
        json_object_clear(r->claims);
        json_decref(record);
}

static bool read_one(struct reading *r, const char *name, past_seen *seen, void *owner,
        struct past_counts *counts)
{
        FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
        char *line = NULL, place[4200];
        size_t cap = 0, number = 0;
        ssize_t len;

        if (!file) {
                fprintf(stderr, "dagward policy: %s: %s\n", name, strerror(errno));
                return false;
        }
        while ((len = getline(&line, &cap, file)) > 0) {
                if (line[len - 1] == '\n')
                        len--;
                snprintf(place, sizeof(place), "%s:%zu", name, ++number);
                r->past.place = str_of(place);
                read_line(r, str_view(line, (size_t)len), seen, owner, counts);
        }
        bool good = !ferror(file);
        if (!good)
                fprintf(stderr, "dagward policy: %s: cannot be read\n", name);
        if (file != stdin)
                fclose(file);
        free(line);
        return good;
}

bool past_read(const char *const *files, size_t n, past_seen *seen, void *owner,
        struct past_counts *counts)
{
        struct reading *r = calloc(1, sizeof(*r));
        bool good = true;

        if (!r)
                abort();
        r->claims = json_object();
        *counts = (struct past_counts){0};
        for (size_t i = 0; i < n && good; i++)
                good = read_one(r, files[i], seen, owner, counts);
        json_decref(r->claims);
        free(r);
        return good;
}

static enum effect decide_as(const struct policy *policy, const struct policy_grants *grants,
        const struct past *past, const struct facts *facts, struct decision *decision)
{
        struct policy_request request = past->request;

        request.facts = facts;
        policy_decide(policy, grants, &request, decision);
        return decision->effect;
}

enum past_answer past_decide(
        const struct policy *policy, const struct past *past, struct decision *decision)
{
        struct policy_grants *grants = policy_grants_recalled(policy, &past->caller, past->binding);
        /* What it said is unknown: the most that it can get, and the least. */
        enum effect most = decide_as(policy, grants, past, NULL, decision), least = most;

        if (past->said)
                least = decide_as(policy, grants, past, past->said, decision);
        policy_grants_free(grants);
        return most != least ? PAST_UNCLEAR : most == EFFECT_ALLOW ? PAST_ALLOWED : PAST_DENIED;
}
