#include "dagward/yaml/yaml.h"

#include <stdio.h>
#include <stdlib.h>

const struct yaml_entry *yaml_entry_of(const struct yaml_node *node, struct str key)
{
        if (!node || node->kind != YAML_MAPPING)
                return NULL;
        for (size_t i = 0; i < node->n; i++)
                if (str_eq(node->entries[i].key->text, key))
                        return &node->entries[i];
        return NULL;
}

struct yaml_node *yaml_get(const struct yaml_node *node, const char *key)
{
        const struct yaml_entry *entry = yaml_entry_of(node, str_of(key));

        return entry ? entry->value : NULL;
}

const char *yaml_shown(struct str text)
{
        enum { most = 60, copies = 4 };
        static _Thread_local char shown[copies][most + 4];
        static _Thread_local unsigned turn;
        char *out = shown[turn++ % copies];
        size_t n = 0;

        for (; n < text.len && n < most; n++) {
                unsigned char c = (unsigned char)text.ptr[n];
                out[n] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
        }
        if (n == text.len) {
                out[n] = '\0';
                return out;
        }
        /* do not end inside a character */
        while (n > 0 && ((unsigned char)text.ptr[n] & 0xc0) == 0x80)
                n--;
        memcpy(out + n, "...", 4);
        return out;
}

bool yaml_known_keys(
        const struct yaml_node *node, const struct str *names, size_t n, struct error_list *errors)
{
        bool good = true;

        if (!node || node->kind != YAML_MAPPING)
                return true;
        for (size_t i = 0; i < node->n; i++) {
                const struct yaml_node *key = node->entries[i].key;
                size_t known = 0;
                while (known < n && !str_eq(names[known], key->text))
                        known++;
                if (known < n)
                        continue;
                error_list_add(errors, key->at, "unknown key `%s`%s", yaml_shown(key->text),
                        error_did_you_mean(str_head(key->text, 64), names, n));
                good = false;
        }
        return good;
}

/* Digits only, without a leading zero: `007` is a word to a person and octal to some parsers. */
static bool is_natural(struct str text)
{
        for (size_t i = 0; i < text.len; i++)
                if (text.ptr[i] < '0' || text.ptr[i] > '9')
                        return false;
        return text.len > 0 && (text.len == 1 || text.ptr[0] != '0');
}

/* RFC 8259 6. */
static bool is_real(struct str text)
{
        size_t i = 0, start;

        while (i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9')
                i++;
        if (!is_natural(str_head(text, i)))
                return false;
        if (i < text.len && text.ptr[i] == '.') {
                start = ++i;
                while (i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9')
                        i++;
                if (i == start)
                        return false;
        }
        if (i < text.len && (text.ptr[i] == 'e' || text.ptr[i] == 'E')) {
                i++;
                if (i < text.len && (text.ptr[i] == '+' || text.ptr[i] == '-'))
                        i++;
                start = i;
                while (i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9')
                        i++;
                if (i == start)
                        return false;
        }
        return i == text.len;
}

enum yaml_scalar yaml_scalar_of(const struct yaml_node *node)
{
        if (node->kind != YAML_SCALAR || node->quoted)
                return YAML_TEXT;
        if (str_eq(node->text, STR("true")))
                return YAML_TRUE;
        if (str_eq(node->text, STR("false")))
                return YAML_FALSE;
        struct str digits = str_from(node->text, str_starts(node->text, STR("-")) ? 1 : 0);
        if (is_natural(digits))
                return YAML_INTEGER;
        return is_real(digits) ? YAML_REAL : YAML_TEXT;
}

const char *yaml_describe(const struct yaml_node *node)
{
        if (!node)
                return "nothing";
        switch (node->kind) {
        case YAML_NULL: return "nothing";
        case YAML_SEQUENCE: return "a list";
        case YAML_MAPPING: return "a mapping";
        case YAML_SCALAR: break;
        }
        switch (yaml_scalar_of(node)) {
        case YAML_TRUE:
        case YAML_FALSE: return "true or false";
        case YAML_INTEGER:
        case YAML_REAL: return "a number";
        case YAML_TEXT: break;
        }
        return node->quoted && !str_empty(node->text) ? "text in quotes" : "text";
}

/* `what` must be `wanted`, but it is something else. */
static bool mismatch(const struct yaml_node *node, const char *what, const char *wanted,
        struct error_list *errors)
{
        if (node->kind == YAML_SCALAR)
                error_list_add(errors, node->at, "%s must be %s, not `%s`", what, wanted,
                        yaml_shown(node->text));
        else
                error_list_add(errors, node->at, "%s must be %s, not %s", what, wanted,
                        yaml_describe(node));
        return false;
}

bool yaml_is_mapping(const struct yaml_node *node, const char *what, struct error_list *errors)
{
        return node->kind == YAML_MAPPING || mismatch(node, what, "a mapping", errors);
}

bool yaml_is_sequence(const struct yaml_node *node, const char *what, struct error_list *errors)
{
        return node->kind == YAML_SEQUENCE || mismatch(node, what, "a list", errors);
}

bool yaml_str(
        const struct yaml_node *node, const char *what, struct str *out, struct error_list *errors)
{
        if (node->kind != YAML_SCALAR)
                return mismatch(node, what, "text", errors);
        if (str_empty(node->text)) {
                error_list_add(errors, node->at, "%s must not be empty", what);
                return false;
        }
        if (memchr(node->text.ptr, '\0', node->text.len)) {
                error_list_add(errors, node->at, "%s must not hold a NUL character", what);
                return false;
        }
        *out = node->text;
        return true;
}

bool yaml_str_list(struct yaml_document *doc, const struct yaml_node *node, const char *what,
        struct str **out, size_t *n, struct error_list *errors)
{
        size_t wanted = node->kind == YAML_SEQUENCE ? node->n : 1;
        struct str *list = NULL;
        bool good = true;

        if (node->kind != YAML_SEQUENCE && node->kind != YAML_SCALAR)
                return mismatch(node, what, "text or a list of texts", errors);
        list = arena_alloc(&doc->arena, (wanted + 1) * sizeof(*list));
        if (!list) {
                error_list_add(errors, node->at, "%s is too long a list", what);
                return false;
        }
        for (size_t i = 0; i < wanted; i++)
                if (!yaml_str(node->kind == YAML_SEQUENCE ? node->items[i] : node, what, &list[i],
                            errors))
                        good = false;
        if (good) {
                *out = list;
                *n = wanted;
        }
        return good;
}

bool yaml_bool(const struct yaml_node *node, const char *what, bool *out, struct error_list *errors)
{
        enum yaml_scalar scalar = yaml_scalar_of(node);

        if (scalar != YAML_TRUE && scalar != YAML_FALSE)
                return mismatch(node, what,
                        node->quoted ? "true or false without quotes" : "true or false", errors);
        *out = scalar == YAML_TRUE;
        return true;
}

bool yaml_u64(const struct yaml_node *node, const char *what, uint64_t least, uint64_t most,
        uint64_t *out, struct error_list *errors)
{
        uint64_t value;

        if (yaml_scalar_of(node) != YAML_INTEGER || !str_to_u64(node->text, &value) ||
                value < least || value > most) {
                char wanted[96];
                snprintf(wanted, sizeof(wanted), "a whole number from %llu to %llu%s",
                        (unsigned long long)least, (unsigned long long)most,
                        node->quoted ? " without quotes" : "");
                return mismatch(node, what, wanted, errors);
        }
        *out = value;
        return true;
}

struct unit {
        struct str name;
        uint64_t times;
};

/* A number and one of the units; at most `most` of what the units count in. */
static bool with_unit(
        struct str text, const struct unit *units, size_t n, uint64_t most, uint64_t *out)
{
        size_t digits = 0;
        uint64_t number;

        while (digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9')
                digits++;
        if (!is_natural(str_head(text, digits)) || !str_to_u64(str_head(text, digits), &number))
                return false;
        for (size_t i = 0; i < n; i++) {
                if (!str_eq(str_from(text, digits), units[i].name))
                        continue;
                if (number > most / units[i].times)
                        return false;
                *out = number * units[i].times;
                return true;
        }
        return false;
}

bool yaml_parse_duration(struct str text, int64_t *out_ms)
{
        static const struct unit units[] = {
                {STR("ms"), 1},
                {STR("s"), 1000},
                {STR("m"), 60 * 1000},
                {STR("h"), 3600 * 1000},
                {STR("d"), 86400 * 1000},
        };
        uint64_t ms;

        if (!with_unit(text, units, sizeof(units) / sizeof(*units), 36600ull * 86400 * 1000, &ms))
                return false;
        *out_ms = (int64_t)ms;
        return true;
}

bool yaml_parse_size(struct str text, uint64_t *out_bytes)
{
        static const struct unit units[] = {
                {STR("B"), 1},
                {STR("KiB"), 1ull << 10},
                {STR("MiB"), 1ull << 20},
                {STR("GiB"), 1ull << 30},
        };

        return with_unit(text, units, sizeof(units) / sizeof(*units), 1ull << 40, out_bytes);
}

bool yaml_duration_ms(
        const struct yaml_node *node, const char *what, int64_t *out, struct error_list *errors)
{
        if (node->kind == YAML_SCALAR && yaml_parse_duration(node->text, out))
                return true;
        return mismatch(node, what, "a duration such as 250ms, 30s, 5m, 24h or 7d", errors);
}

bool yaml_size_bytes(
        const struct yaml_node *node, const char *what, uint64_t *out, struct error_list *errors)
{
        if (node->kind == YAML_SCALAR && yaml_parse_size(node->text, out))
                return true;
        return mismatch(node, what, "a size such as 512B, 64KiB or 1MiB", errors);
}
