/* Asking upstream what a name or an id is, and reading what it says. */
#include "dagward/azdo/identity.h"

#include <jansson.h>
#include <stdlib.h>

#include "body.h"

#define API "?api-version=7.1"

/* Where each kind is asked for: behind organization and project, in front of the value. */
static const struct place {
        enum service service;
        const char *with_project;    /* NULL: it belongs to none */
        const char *without_project; /* NULL: not without one */
        const char *behind;
        bool by_number; /* only ids lead anywhere */
} places[RESOURCE_KINDS] = {
        [RESOURCE_PROJECT] = {SERVICE_DEV, NULL, "/_apis/projects/", API, false},
        [RESOURCE_TEAM] = {SERVICE_DEV, "/teams/", NULL, API, false},
        [RESOURCE_REPOSITORY] = {SERVICE_DEV, "/_apis/git/repositories/",
                "/_apis/git/repositories/", API, false},
        /* A list of short forms: the definition itself may be as large as its YAML. */
        [RESOURCE_PIPELINE] = {SERVICE_DEV, "/_apis/build/definitions" API "&definitionIds=",
                "/_apis/build/definitions/", "", true},
        [RESOURCE_BUILD] = {SERVICE_DEV, "/_apis/build/builds/", "/_apis/build/builds/", API, true},
        [RESOURCE_FEED] = {SERVICE_FEEDS, "/_apis/packaging/feeds/", "/_apis/packaging/feeds/", API,
                false},
        [RESOURCE_ENVIRONMENT] = {SERVICE_DEV, "/_apis/pipelines/environments/", NULL, API, true},
        /* Below no project: whose it is, is what is asked. */
        [RESOURCE_WORK_ITEM] = {SERVICE_DEV, NULL, "/_apis/wit/workitems/",
                API "&fields=System.TeamProject", true},
};

bool identity_kind(enum resource_kind kind)
{
        return places[kind].with_project || places[kind].without_project;
}

/* --- the question --- */

/* What upstream allows in no name, or what a path could be changed with. */
static bool can_be_asked(struct str value)
{
        if (!value.len || value.len > 256 || !str_utf8_valid(value) || str_eq(value, STR(".")) ||
                str_eq(value, STR("..")))
                return false;
        for (size_t i = 0; i < value.len; i++) {
                unsigned char c = (unsigned char)value.ptr[i];
                if (c < 0x20 || c == 0x7f || strchr("/\\%?#<>*:&\"|;", c))
                        return false;
        }
        return true;
}

static void add_segment(struct buf *out, struct str text)
{
        for (size_t i = 0; i < text.len; i++) {
                unsigned char c = (unsigned char)text.ptr[i];
                bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                             (c >= '0' && c <= '9') || strchr("-._~", c);
                if (plain)
                        buf_char(out, (char)c);
                else
                        buf_printf(out, "%%%02X", c);
        }
}

static bool is_number(struct str value)
{
        uint64_t number;

        return str_to_u64(value, &number);
}

bool identity_question(enum resource_kind kind, struct str organization, struct str project,
        struct str value, struct buf *out, enum service *service)
{
        const struct place *place = &places[kind];
        bool with = project.len && place->with_project;

        if (!identity_kind(kind) || !can_be_asked(organization) || !can_be_asked(value))
                return false;
        if (with ? !can_be_asked(project) : !place->without_project)
                return false;
        if (place->by_number && !is_number(value))
                return false;
        /* Names are unique in a project only. */
        if (!with && kind == RESOURCE_REPOSITORY && !guid_valid(value))
                return false;
        *service = place->service;
        buf_char(out, '/');
        add_segment(out, organization);
        if (kind == RESOURCE_TEAM)
                BUF_LITERAL(out, "/_apis/projects");
        if (with) {
                buf_char(out, '/');
                add_segment(out, project);
        }
        buf_str_add(out, str_of(with ? place->with_project : place->without_project));
        add_segment(out, value);
        buf_str_add(out, str_of(with || kind != RESOURCE_PIPELINE ? place->behind : API));
        return !out->overflow;
}

/* --- the answer --- */

/* A text of the answer, or a number as text over `digits`; ptr NULL: none, or none that is safe to
 * show and compare. */
static struct str text_of(const json_t *object, const char *name, char digits[24])
{
        const json_t *member = json_object_get(object, name);
        struct str text = STR_NONE;

        if (json_is_integer(member) && digits && json_integer_value(member) >= 0) {
                snprintf(digits, 24, "%" JSON_INTEGER_FORMAT, json_integer_value(member));
                text = str_of(digits);
        } else if (json_is_string(member)) {
                text = str_view(json_string_value(member), json_string_length(member));
        }
        if (!text.len || text.len > IDENTITY_TEXT_MOST_BYTES)
                return STR_NONE;
        for (size_t i = 0; i < text.len; i++)
                if ((unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7f)
                        return STR_NONE;
        return text;
}

/* `\` and `\etl` are folders; `\nightly` and `\etl\nightly` what stands in them. */
static struct str full_path(struct str folder, struct str name, struct arena *arena)
{
        if (!name.len || !folder.len || folder.ptr[0] != '\\')
                return STR_NONE;
        return arena_printf(arena, "%.*s\\%.*s", folder.len == 1 ? 0 : (int)folder.len, folder.ptr,
                STR_FMT(name));
}

/* The one the question was about: the object itself, or one of a list of them. */
static const json_t *one_of(const json_t *body, struct str value)
{
        const json_t *list = json_object_get(body, "value");
        char digits[24];

        if (!json_is_array(list))
                return json_is_object(body) ? body : NULL;
        for (size_t i = 0; i < json_array_size(list); i++) {
                const json_t *one = json_array_get(list, i);
                if (str_eq(text_of(one, "id", digits), value))
                        return one;
        }
        return NULL;
}

struct digits {
        char id[24], pipeline[24];
};

static enum identity_answer understand(enum resource_kind kind, struct str value,
        const json_t *body, struct arena *arena, struct digits *digits, struct identity *out,
        const char **why)
{
        const json_t *one = one_of(body, value);

        if (!one)
                return IDENTITY_NOBODY;
        const json_t *project = json_object_get(one, "project");
        const json_t *definition = json_object_get(one, "definition");
        out->id = text_of(one, "id", digits->id);
        out->name = text_of(one, kind == RESOURCE_BUILD ? "buildNumber" : "name", NULL);
        out->project_id = text_of(project, "id", NULL);
        out->project_name = text_of(project, "name", NULL);
        if (kind == RESOURCE_TEAM) {
                out->project_id = text_of(one, "projectId", NULL);
                out->project_name = text_of(one, "projectName", NULL);
        } else if (kind == RESOURCE_WORK_ITEM) {
                out->project_name =
                        text_of(json_object_get(one, "fields"), "System.TeamProject", NULL);
        } else if (kind == RESOURCE_PIPELINE) {
                out->path = full_path(text_of(one, "path", NULL), out->name, arena);
        } else if (kind == RESOURCE_BUILD) {
                out->pipeline_id = text_of(definition, "id", digits->pipeline);
                out->pipeline_name = text_of(definition, "name", NULL);
                out->pipeline_path =
                        full_path(text_of(definition, "path", NULL), out->pipeline_name, arena);
                out->ref = text_of(one, "sourceBranch", NULL);
        }
        *why = "Azure DevOps' answer has no id";
        if (!out->id.len || (!is_number(out->id) && !guid_valid(out->id)))
                return IDENTITY_BAD;
        *why = "Azure DevOps' answer is about another one";
        if ((is_number(value) || guid_valid(value)) && places[kind].by_number == is_number(value) &&
                !str_eq_fold(value, out->id))
                return IDENTITY_BAD;
        *why = "Azure DevOps' answer names no project";
        bool in_project =
                out->project_id.len || (kind == RESOURCE_WORK_ITEM && out->project_name.len);
        if (kind != RESOURCE_PROJECT && kind != RESOURCE_FEED && !in_project)
                return IDENTITY_BAD;
        return IDENTITY_KNOWN;
}

enum identity_answer identity_read(enum resource_kind kind, struct str value, struct str text,
        struct identity **identity, const char **why)
{
        struct identity found = {0};
        struct digits digits;
        struct arena arena;
        json_t *body = body_parse(text, why);

        if (!body)
                return IDENTITY_BAD;
        arena_init(&arena, 1024, 64 * 1024);
        enum identity_answer answer = understand(kind, value, body, &arena, &digits, &found, why);
        if (answer == IDENTITY_KNOWN)
                *identity = identity_dup(&found);
        arena_clear(&arena);
        json_decref(body);
        return answer;
}

/* --- copies --- */

/* All texts, for going through them. */
enum { TEXTS = sizeof(struct identity) / sizeof(struct str) };

static size_t bytes_of(const struct identity *identity)
{
        const struct str *texts = &identity->id;
        size_t bytes = sizeof(*identity);

        for (size_t i = 0; i < TEXTS; i++)
                bytes += texts[i].len;
        return bytes;
}

static struct identity *pack(const struct identity *identity, void *memory)
{
        struct identity *copy = memory;
        const struct str *from = &identity->id;
        struct str *to = &copy->id;
        char *next = (char *)(copy + 1);

        for (size_t i = 0; i < TEXTS; i++) {
                to[i] = from[i].len ? str_view(next, from[i].len) : STR_NONE;
                if (from[i].len)
                        memcpy(next, from[i].ptr, from[i].len);
                next += from[i].len;
        }
        return copy;
}

struct identity *identity_dup(const struct identity *identity)
{
        void *memory = malloc(bytes_of(identity));

        if (!memory)
                abort();
        return pack(identity, memory);
}

const struct identity *identity_keep(const struct identity *identity, struct arena *arena)
{
        void *memory = arena_alloc(arena, bytes_of(identity));

        return memory ? pack(identity, memory) : NULL;
}

bool identity_eq(const struct identity *a, const struct identity *b)
{
        const struct str *of_a = &a->id, *of_b = &b->id;

        for (size_t i = 0; i < TEXTS; i++)
                if (!str_eq(of_a[i], of_b[i]))
                        return false;
        return true;
}

bool identity_is_project(const struct identity *identity, struct str value)
{
        return str_eq_fold(value, identity->project_id) ||
               str_eq_fold(value, identity->project_name) ||
               (!str_is_ascii(value) && !str_is_ascii(identity->project_name));
}
