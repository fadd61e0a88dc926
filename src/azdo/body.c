#include "body.h"

#include <string.h>

/* jansson parses by recursion: what is nested too deeply is refused before. */
static bool depth_fits(struct str text)
{
        unsigned depth = 0;
        bool quoted = false;
        for (size_t i = 0; i < text.len; i++) {
                char c = text.ptr[i];
                if (quoted) {
                        if (c == '\\')
                                i++;
                        else if (c == '"')
                                quoted = false;
                } else if (c == '"') {
                        quoted = true;
                } else if (c == '{' || c == '[') {
                        if (++depth > BODY_MOST_DEPTH)
                                return false;
                } else if ((c == '}' || c == ']') && depth > 0) {
                        depth--;
                }
        }
        return true;
}

/* Json.NET, which reads bodies upstream, puts in place of {"$ref": ...} an object that stands
 * elsewhere, and takes {"$values": ...} for the list in it, whatever its settings for writing. */
static bool has_metadata(const json_t *json)
{
        const char *key;
        json_t *value;
        size_t i;

        json_array_foreach((json_t *)json, i, value) if (has_metadata(value)) return true;
        json_object_foreach((json_t *)json, key, value)
        {
                if (strcmp(key, "$ref") == 0 || strcmp(key, "$values") == 0 || has_metadata(value))
                        return true;
        }
        return false;
}

/* An escape could hide the `$`. */
static bool may_have_metadata(struct str text)
{
        return str_find(text, '$') >= 0 || str_find(text, '\\') >= 0;
}

json_t *body_parse(struct str text, const char **why)
{
        if (!depth_fits(text)) {
                *why = "the JSON body is nested too deeply";
                return NULL;
        }
        json_error_t error;
        json_t *json =
                json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
        if (!json)
                *why = json_error_code(&error) == json_error_duplicate_key
                               ? "the JSON body has a member twice"
                               : "the body is not valid JSON";
        if (json && may_have_metadata(text) && has_metadata(json)) {
                *why = "the JSON body has a member $ref or $values, in place of which upstream may "
                       "read something else";
                json_decref(json);
                return NULL;
        }
        return json;
}

json_t *body_member(const json_t *object, struct str name, const char **why)
{
        json_t *found = NULL;
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)object, key, value)
        {
                if (!str_eq_fold(str_of(key), name))
                        continue;
                if (found) {
                        *why = "the JSON body has a member in two spellings of case";
                        return NULL;
                }
                found = value;
        }
        return found;
}

/* Whether a blank stands at an end of a part, which upstream may trim. */
static bool has_padded_part(struct str path)
{
        struct str part;

        while (path.ptr) {
                path = str_cut(path, '/', &part);
                if (str_trim_wide(part).len != part.len)
                        return true;
        }
        return false;
}

/* Azure DevOps passes over empty parts. An escape stands for a slash or for itself, and no name
 * that is meant has either. */
static bool patch_path_is_plain(struct str path)
{
        return path.len > 1 && path.ptr[0] == '/' && path.ptr[path.len - 1] != '/' &&
               str_find_str(path, STR("//")) < 0 && str_find(path, '~') < 0 &&
               !has_padded_part(path);
}

const json_t *body_patch_step(const json_t *patch, size_t i, struct str *path, const char **why)
{
        *why = NULL;
        if (!json_is_array(patch)) {
                *why = "the body is not the list it should be";
                return NULL;
        }
        const json_t *step = json_array_get(patch, i);
        if (!step)
                return NULL;
        const json_t *at = json_is_object(step) ? body_member(step, STR("path"), why) : NULL;
        if (!json_is_string(at)) {
                *why = "a step of the patch has no path";
                return NULL;
        }
        *path = str_of(json_string_value(at));
        if (!patch_path_is_plain(*path)) {
                *why = "a step of the patch has a path that is not `/` and names between slashes";
                return NULL;
        }
        /* What it sets is told by no value, and to move is to remove as well. */
        const json_t *from = body_member(step, STR("from"), why);
        if (from && !json_is_null(from))
                *why = "a step of the patch copies or moves what stands elsewhere";
        return *why ? NULL : step;
}

bool body_patch_overlaps(struct str a, struct str b)
{
        struct str outer = a.len < b.len ? a : b, inner = a.len < b.len ? b : a;

        return outer.len < inner.len && inner.ptr[outer.len] == '/' &&
               str_starts_fold(inner, outer);
}
