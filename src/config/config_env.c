#include "settings.h"

#define REFERENCE "${env:"

/* Stands for a value that cannot be used or must not be shown; known by its address. */
static const char unusable[] = "(unusable)";

static bool name_char(char c, bool first)
{
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
               (!first && c >= '0' && c <= '9');
}

static bool name_ok(struct str name)
{
        for (size_t i = 0; i < name.len; i++)
                if (!name_char(name.ptr[i], i == 0))
                        return false;
        return name.len > 0;
}

/* What stands for one `${env:NAME}`, whose `${` is the start of `text`; NULL after an error. */
static const char *look_up(
        struct reader *r, const struct yaml_node *node, struct str text, size_t *consumed)
{
        struct str name, rest = str_cut(text, '}', &name);
        char terminated[128];

        if (!str_starts(text, STR(REFERENCE)) || !rest.ptr) {
                error_list_add(r->errors, node->at,
                        "`${` must be the start of `${env:NAME}`, the only reference there is");
                return NULL;
        }
        *consumed = name.len + 1;
        name = str_from(name, sizeof(REFERENCE) - 1);
        if (!name_ok(name) || name.len >= sizeof(terminated)) {
                error_list_add(r->errors, node->at,
                        "`%s` is not the name of an environment variable", yaml_shown(name));
                return NULL;
        }
        memcpy(terminated, name.ptr, name.len);
        terminated[name.len] = '\0';
        const char *value = r->environment(terminated);
        if (!value || !value[0]) {
                error_list_add(r->errors, node->at, "the environment variable `%s` is %s",
                        terminated, value ? "empty" : "not set");
                return NULL;
        }
        if (!str_utf8_valid(str_of(value))) {
                error_list_add(r->errors, node->at,
                        "the environment variable `%s` is not valid UTF-8", terminated);
                return NULL;
        }
        return value;
}

static void expand(struct reader *r, struct yaml_node *node)
{
        struct str text = node->text;
        struct buf out;
        ssize_t at = str_find_str(text, STR("${"));

        if (at < 0)
                return;
        /* `{workers: "${env:N}"}` needs its quotes and still means a number */
        if (at == 0 && str_find(text, '}') == (ssize_t)text.len - 1)
                node->quoted = false;
        buf_init(&out, 64 << 10);
        while (at >= 0) {
                size_t consumed = 0;
                buf_str_add(&out, str_head(text, (size_t)at));
                text = str_from(text, (size_t)at);
                const char *value = look_up(r, node, text, &consumed);
                if (!value) {
                        buf_clear(&out);
                        node->text = str_of(unusable);
                        return;
                }
                buf_str_add(&out, str_of(value));
                text = str_from(text, consumed);
                at = str_find_str(text, STR("${"));
        }
        buf_str_add(&out, text);
        struct str result = out.overflow ? STR_NONE : arena_copy(&r->doc->arena, buf_str(&out));
        if (!result.ptr)
                error_list_add(r->errors, node->at, "longer than 64 KiB with its variables");
        node->text = result.ptr ? result : str_of(unusable);
        buf_clear(&out);
}

static bool all_of(struct str s, bool (*ok)(char))
{
        for (size_t i = 0; i < s.len; i++)
                if (!ok(s.ptr[i]))
                        return false;
        return true;
}

static bool alphanumeric(char c)
{
        c = char_lower(c);
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool token_char(char c)
{
        return alphanumeric(c) || c == '-' || c == '_' || c == '.' || c == '~' || c == '=';
}

static bool base32_char(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= '2' && c <= '7');
}

/* What kind of secret a value has the form of, or NULL. Better one false alarm, which a file of its
 * own ends, than a secret in a configuration that gets committed. */
static const char *secret_form(struct str s)
{
        ssize_t mark = str_find_str(s, STR("Q~"));

        if (str_starts_fold(s, STR("Bearer ")))
                s = str_from(s, 7);
        if (s.len > 40 && str_starts(s, STR("eyJ")) && str_find(s, '.') > 0 &&
                all_of(s, token_char))
                return "a token (JWT)";
        if (s.len == 52 && all_of(s, base32_char))
                return "a personal access token";
        if (s.len == 84 && all_of(s, alphanumeric) &&
                str_eq(str_head(str_from(s, 76), 4), STR("AZDO")))
                return "a personal access token";
        if ((s.len >= 37 && s.len <= 40) && mark == 4 && all_of(s, token_char))
                return "an Entra client secret";
        if (str_find_str(s, STR("-----BEGIN ")) >= 0 &&
                str_find_str(s, STR("PRIVATE KEY-----")) >= 0)
                return "a private key";
        return NULL;
}

void config_expand(struct reader *r)
{
        for (struct yaml_node *node = r->doc->root; node; node = node->following) {
                if (node->kind != YAML_SEQUENCE && node->kind != YAML_MAPPING)
                        continue;
                for (size_t i = 0; i < node->n; i++) {
                        struct yaml_node *value = node->kind == YAML_SEQUENCE
                                                          ? node->items[i]
                                                          : node->entries[i].value;
                        if (value->kind != YAML_SCALAR)
                                continue;
                        expand(r, value);
                        const char *form = secret_form(value->text);
                        if (!form)
                                continue;
                        error_list_add(r->errors, value->at,
                                "this looks like %s; secrets do not belong in the configuration: "
                                "write it into a file of its own and name that file",
                                form);
                        value->text = str_of(unusable);
                }
        }
}

bool config_expand_failed(const struct yaml_node *node)
{
        return node->text.ptr == unusable;
}
