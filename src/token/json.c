#include "json.h"

/* Counts brackets and separators outside strings; what is wrong otherwise is the parser's matter.
 */
static bool within_bounds(struct str text, size_t most_depth, size_t most_values)
{
        size_t depth = 0, values = 0;
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
                } else if (c == '[' || c == '{') {
                        if (++depth > most_depth || ++values > most_values)
                                return false;
                } else if (c == ']' || c == '}') {
                        if (depth-- == 0)
                                return false;
                } else if (c == ',') {
                        if (++values > most_values)
                                return false;
                }
        }
        return depth == 0;
}

json_t *json_read_object(struct str text, size_t most_depth, size_t most_values)
{
        if (text.len == 0 || !within_bounds(text, most_depth, most_values))
                return NULL;
        json_t *value = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
        if (value && !json_is_object(value)) {
                json_decref(value);
                return NULL;
        }
        return value;
}

struct str json_str(const json_t *value)
{
        return json_is_string(value) ? str_view(json_string_value(value), json_string_length(value))
                                     : STR_NONE;
}

struct str json_str_member(const json_t *object, const char *name)
{
        return json_str(json_object_get(object, name));
}
