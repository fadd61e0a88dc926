#include "settings.h"

#include <stdlib.h>

/* In one list: far more than anybody needs, few enough to compare each with each. */
enum { MOST_ITEMS = 500 };

void *config_alloc(struct reader *r, size_t bytes)
{
        void *memory = arena_alloc(&r->doc->arena, bytes);

        if (!memory)
                abort(); /* bounded by the tree, which takes most of its ceiling only on purpose */
        return memory;
}

void config_place_add(struct reader *r, const void *field, struct mark at)
{
        struct config *c = r->config;

        if (at.line == 0)
                return;
        if (c->n_places == r->place_cap) {
                r->place_cap = r->place_cap ? 2 * r->place_cap : 64;
                c->places = realloc(c->places, r->place_cap * sizeof(*c->places));
                if (!c->places)
                        abort();
        }
        c->places[c->n_places++] = (struct config_place){field, at};
}

static const char *quoted_key(const struct setting *s)
{
        static _Thread_local char text[80];

        snprintf(text, sizeof(text), "`%s`", s->key);
        return text;
}

static struct str joined(struct reader *r, struct str path)
{
        if (str_starts(path, STR("/")) || !r->folder[0])
                return path;
        struct str full = arena_printf(&r->doc->arena, "%s/%.*s", r->folder, STR_FMT(path));
        if (!full.ptr)
                abort();
        return full;
}

static bool name_ok(struct str name)
{
        for (size_t i = 0; i < name.len; i++) {
                char c = char_lower(name.ptr[i]);
                if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                            (i > 0 && strchr("._-", c))))
                        return false;
        }
        return name.len <= 64;
}

static void read_text(
        struct reader *r, const struct setting *s, const struct yaml_node *node, struct str *out)
{
        struct str text;

        if (!yaml_str(node, quoted_key(s), &text, r->errors))
                return;
        if (s->type == SETTING_NAME && !name_ok(text)) {
                error_list_add(r->errors, node->at,
                        "%s must be at most 64 letters, digits, `.`, `_` and `-`, not `%s`",
                        quoted_key(s), yaml_shown(text));
                return;
        }
        *out = s->type == SETTING_PATH ? joined(r, text) : text;
}

/* The index of the choice that is named, or -1 after an error. */
static int choice_of(
        struct reader *r, const struct setting *s, const struct yaml_node *node, struct str text)
{
        enum { most = 16 };
        struct str names[most];
        size_t n = 0;
        char list[200];
        size_t len = 0;

        for (size_t i = 0; s->choices[i].name; i++) {
                if (!str_eq(text, str_of(s->choices[i].name)))
                        continue;
                if (!s->choices[i].later)
                        return (int)i;
                error_list_add(r->errors, node->at, "%s `%s` is not available yet", quoted_key(s),
                        s->choices[i].name);
                return -1;
        }
        for (size_t i = 0; s->choices[i].name && n < most && len < sizeof(list); i++) {
                if (s->choices[i].later)
                        continue;
                names[n++] = str_of(s->choices[i].name);
                len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", n > 1 ? ", " : "",
                        s->choices[i].name);
        }
        error_list_add(r->errors, node->at, "%s must be one of %s, not `%s`%s", quoted_key(s), list,
                yaml_shown(text), error_did_you_mean(str_head(text, 64), names, n));
        return -1;
}

static bool algorithm_refused(struct reader *r, const struct yaml_node *node, struct str text)
{
        const char *why = NULL;

        if (str_eq_fold(text, STR("none")))
                why = "a token without a signature proves nothing";
        else if (str_starts_fold(text, STR("HS")))
                why = "whoever can check a symmetric signature can also forge it";
        if (why)
                error_list_add(r->errors, node->at, "`algorithms`: `%s` is never accepted: %s",
                        yaml_shown(text), why);
        return why != NULL;
}

static void read_list(struct reader *r, const struct setting *s, const struct yaml_node *node,
        struct str **out, size_t *n)
{
        struct str *list;
        size_t len;

        if (!yaml_str_list(r->doc, node, quoted_key(s), &list, &len, r->errors))
                return;
        if (len < s->least || len > MOST_ITEMS) {
                error_list_add(r->errors, node->at,
                        len ? "%s has too many values" : "%s must not be empty", quoted_key(s));
                return;
        }
        for (size_t i = 0; i < len; i++) {
                const struct yaml_node *item = node->kind == YAML_SEQUENCE ? node->items[i] : node;
                for (size_t before = 0; before < i; before++)
                        if (str_eq(list[before], list[i]) && !config_expand_failed(item))
                                error_list_add(r->errors, item->at, "%s: `%s` is there twice",
                                        quoted_key(s), yaml_shown(list[i]));
        }
        for (size_t i = 0; i < len; i++) {
                const struct yaml_node *item = node->kind == YAML_SEQUENCE ? node->items[i] : node;
                if (s->type == SETTING_PATHS)
                        list[i] = joined(r, list[i]);
                if (s->type == SETTING_CHOICES && !algorithm_refused(r, item, list[i]))
                        (void)choice_of(r, s, item, list[i]);
                config_place_add(r, &list[i], item->at);
        }
        *out = list;
        *n = len;
}

static void read_pairs(struct reader *r, const struct setting *s, const struct yaml_node *node,
        struct pair **out, size_t *n)
{
        if (!yaml_is_mapping(node, quoted_key(s), r->errors))
                return;
        *out = config_alloc(r, (node->n + 1) * sizeof(**out));
        *n = node->n;
        for (size_t i = 0; i < node->n; i++) {
                char what[80];
                (*out)[i].name = node->entries[i].key->text;
                snprintf(what, sizeof(what), "`%s`", yaml_shown((*out)[i].name));
                (void)yaml_str(node->entries[i].value, what, &(*out)[i].value, r->errors);
        }
}

static void read_url(struct reader *r, const struct setting *s, const struct yaml_node *node,
        struct config_url *out)
{
        struct config_url url;
        struct error err;
        struct str text;

        if (!yaml_str(node, quoted_key(s), &text, r->errors))
                return;
        if (s->type != SETTING_URL && str_ends(text, STR("/")))
                while (str_ends(text, STR("/")) && !str_ends(text, STR("://")))
                        text = arena_copy(&r->doc->arena, str_head(text, text.len - 1));
        if (!text.ptr)
                abort();
        if (!config_url_parse(&r->doc->arena, text, &url, &err))
                error_list_add(r->errors, node->at, "%s %s", quoted_key(s), err.text);
        else if (s->type != SETTING_URL && str_find(url.path, '?') >= 0)
                error_list_add(r->errors, node->at, "%s must not have a query", quoted_key(s));
        else if ((s->type == SETTING_ORIGIN || s->type == SETTING_HOSTS) && url.path.len)
                error_list_add(r->errors, node->at,
                        "%s must be scheme, host and port only, without the path `%s`",
                        quoted_key(s), yaml_shown(url.path));
        else
                *out = url;
}

static bool host_pattern_ok(struct str pattern)
{
        if (str_eq(pattern, STR("*")))
                return true;
        if (str_starts(pattern, STR("*.")))
                pattern = str_from(pattern, 2);
        for (size_t i = 0; i < pattern.len; i++) {
                char c = char_lower(pattern.ptr[i]);
                if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.'))
                        return false;
        }
        return pattern.len > 0 && pattern.len <= 253;
}

static void read_hosts(struct reader *r, const struct setting *s, const struct yaml_node *node,
        struct config_host **out, size_t *n)
{
        if (!yaml_is_mapping(node, quoted_key(s), r->errors))
                return;
        if (node->n > MOST_ITEMS) {
                error_list_add(r->errors, node->at, "%s has too many values", quoted_key(s));
                return;
        }
        *out = config_alloc(r, (node->n + 1) * sizeof(**out));
        *n = node->n;
        for (size_t i = 0; i < node->n; i++) {
                struct config_host *host = &(*out)[i];
                const struct yaml_node *key = node->entries[i].key;
                host->pattern = key->text;
                if (!host_pattern_ok(host->pattern))
                        error_list_add(r->errors, key->at,
                                "%s: `%s` is not a host name (without scheme and port) or `*`",
                                quoted_key(s), yaml_shown(host->pattern));
                for (size_t c = 0; c < host->pattern.len; c++)
                        ((char *)host->pattern.ptr)[c] = char_lower(host->pattern.ptr[c]);
                for (size_t before = 0; before < i; before++)
                        if (str_eq((*out)[before].pattern, host->pattern))
                                error_list_add(r->errors, key->at, "%s: `%s` is there twice",
                                        quoted_key(s), yaml_shown(host->pattern));
                read_url(r, s, node->entries[i].value, &host->url);
                config_place_add(r, host, key->at);
                config_place_add(r, &host->url, node->entries[i].value->at);
        }
}

static void read_number(
        struct reader *r, const struct setting *s, const struct yaml_node *node, uint64_t *out)
{
        if (s->type == SETTING_AUTO && node->kind == YAML_SCALAR &&
                str_eq(node->text, STR("auto"))) {
                *out = 0;
                return;
        }
        (void)yaml_u64(node, quoted_key(s), s->least, s->most, out, r->errors);
}

static void read_duration(
        struct reader *r, const struct setting *s, const struct yaml_node *node, int64_t *out)
{
        int64_t ms;
        char least[32], most[32];

        if (!yaml_duration_ms(node, quoted_key(s), &ms, r->errors))
                return;
        if ((uint64_t)ms < s->least || (uint64_t)ms > s->most) {
                config_duration_text(s->least, least);
                config_duration_text(s->most, most);
                error_list_add(r->errors, node->at, "%s must be from %s to %s, not `%s`",
                        quoted_key(s), least, most, yaml_shown(node->text));
                return;
        }
        *out = ms;
}

static void read_size(
        struct reader *r, const struct setting *s, const struct yaml_node *node, uint64_t *out)
{
        uint64_t bytes;
        char least[32], most[32];

        if (!yaml_size_bytes(node, quoted_key(s), &bytes, r->errors))
                return;
        if (bytes < s->least || bytes > s->most) {
                config_size_text(s->least, least);
                config_size_text(s->most, most);
                error_list_add(r->errors, node->at, "%s must be from %s to %s, not `%s`",
                        quoted_key(s), least, most, yaml_shown(node->text));
                return;
        }
        *out = bytes;
}

static void read_choice(
        struct reader *r, const struct setting *s, const struct yaml_node *node, void *out)
{
        struct str text;

        if (!yaml_str(node, quoted_key(s), &text, r->errors))
                return;
        int choice = choice_of(r, s, node, text);
        /* every enum here has unsigned for its type */
        if (choice >= 0)
                memcpy(out, &s->choices[choice].value, sizeof(unsigned));
}

static void read_address(struct reader *r, const struct setting *s, const struct yaml_node *node,
        struct config_address *out)
{
        struct config_address address;
        struct error err;
        struct str text;

        if (!yaml_str(node, quoted_key(s), &text, r->errors))
                return;
        if (config_address_parse(text, &address, &err))
                *out = address;
        else
                error_list_add(r->errors, node->at, "%s %s", quoted_key(s), err.text);
}

/* A setting that is not a section. */
static void read_leaf(
        struct reader *r, const struct setting *s, const struct yaml_node *node, char *base)
{
        void *field = base + s->offset;
        size_t *count = (size_t *)(void *)(base + s->count_offset);

        switch (s->type) {
        case SETTING_TEXT:
        case SETTING_NAME:
        case SETTING_PATH: read_text(r, s, node, field); break;
        case SETTING_TEXTS:
        case SETTING_PATHS:
        case SETTING_CHOICES: read_list(r, s, node, field, count); break;
        case SETTING_PAIRS: read_pairs(r, s, node, field, count); break;
        case SETTING_HOSTS: read_hosts(r, s, node, field, count); break;
        case SETTING_BOOL: (void)yaml_bool(node, quoted_key(s), field, r->errors); break;
        case SETTING_COUNT:
        case SETTING_AUTO: read_number(r, s, node, field); break;
        case SETTING_DURATION: read_duration(r, s, node, field); break;
        case SETTING_SIZE: read_size(r, s, node, field); break;
        case SETTING_CHOICE: read_choice(r, s, node, field); break;
        case SETTING_ADDRESS: read_address(r, s, node, field); break;
        case SETTING_URL:
        case SETTING_BASE_URL:
        case SETTING_ORIGIN: read_url(r, s, node, field); break;
        case SETTING_SECTION:
        case SETTING_SECTIONS: break;
        }
}

/* A default as if it had been written, so that one way of reading serves both. */
static const struct yaml_node *fallback_node(struct reader *r, const struct setting *s)
{
        struct yaml_node *node = config_alloc(r, sizeof(*node));
        struct str rest = str_of(s->fallback);

        node->at.file = r->doc->file;
        if (s->type != SETTING_TEXTS && s->type != SETTING_PATHS && s->type != SETTING_CHOICES) {
                node->kind = YAML_SCALAR;
                node->text = rest;
                return node;
        }
        node->kind = YAML_SEQUENCE;
        node->items = config_alloc(r, 8 * sizeof(struct yaml_node *));
        while (rest.ptr) {
                struct str item;
                rest = str_trim(str_cut(rest, ',', &item));
                struct yaml_node *child = config_alloc(r, sizeof(*child));
                child->kind = YAML_SCALAR;
                child->at = node->at;
                child->text = arena_copy(&r->doc->arena, item);
                node->items[node->n++] = child;
        }
        return node;
}

/* `path=value`, a tab, and its place, for config_restart_needed. */
static void note_boot(struct reader *r, const char *path, const struct yaml_node *node)
{
        buf_printf(&r->boot, "%s=", path);
        if (node->kind == YAML_SCALAR)
                buf_json_str(&r->boot, node->text);
        buf_printf(&r->boot, "\t%u:%u\n", node->at.line, node->at.column);
}

static bool names_a_secret(struct str key)
{
        static const char *const names[] = {"secret", "client_secret", "clientsecret", "password",
                "passwd", "passphrase", "token", "access_token", "pat", "api_key", "apikey",
                "bearer", "bearer_token", "private_key", "secret_key", "secret_value",
                "client_assertion", "personal_access_token"};

        for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
                if (str_eq_fold(key, str_of(names[i])))
                        return true;
        return false;
}

static void refuse_unknown(
        struct reader *r, const struct settings *table, const struct yaml_node *node)
{
        enum { most = 32 };
        struct str names[most];
        size_t n = 0;

        for (; n < table->n && n < most; n++)
                names[n] = str_of(table->rows[n].key);
        for (size_t i = 0; i < node->n; i++) {
                const struct yaml_node *key = node->entries[i].key;
                size_t known = 0;
                while (known < n && !str_eq(names[known], key->text))
                        known++;
                if (known < n)
                        continue;
                if (names_a_secret(key->text))
                        error_list_add(r->errors, key->at,
                                "`%s`: secrets do not belong in the configuration; write it into "
                                "a file of its own and name that file, with `secret_file` for a "
                                "client secret or `file` for a token",
                                yaml_shown(key->text));
                else
                        error_list_add(r->errors, key->at, "unknown key `%s`%s",
                                yaml_shown(key->text),
                                error_did_you_mean(str_head(key->text, 64), names, n));
        }
}

static void read_section(struct reader *r, const struct settings *table,
        const struct yaml_node *node, char *base, const char *path);

static void read_sections(struct reader *r, const struct setting *s, const struct yaml_node *node,
        char *base, const char *path)
{
        char *list, item_path[160];

        if (!yaml_is_sequence(node, quoted_key(s), r->errors))
                return;
        if (node->n < s->least || node->n > MOST_ITEMS) {
                error_list_add(r->errors, node->at, "%s must have %s", quoted_key(s),
                        node->n ? "fewer items" : "at least one item");
                return;
        }
        list = config_alloc(r, node->n * s->section->bytes);
        memcpy(base + s->offset, &list, sizeof(list));
        memcpy(base + s->count_offset, &node->n, sizeof(node->n));
        for (size_t i = 0; i < node->n; i++) {
                char *item = list + i * s->section->bytes;
                char what[80];
                snprintf(what, sizeof(what), "an item of `%s`", s->key);
                snprintf(item_path, sizeof(item_path), "%s[%zu].", path, i);
                config_place_add(r, item, node->items[i]->at);
                if (yaml_is_mapping(node->items[i], what, r->errors))
                        read_section(r, s->section, node->items[i], item, item_path);
        }
}

/* `node` is NULL when the file does not have the setting. */
static void read_setting(struct reader *r, const struct setting *s, const struct yaml_node *node,
        char *base, const char *path)
{
        if (s->type == SETTING_SECTIONS) {
                if (node)
                        read_sections(r, s, node, base, path);
                return;
        }
        if (s->type == SETTING_SECTION) {
                char below[160];
                snprintf(below, sizeof(below), "%s.", path);
                if (node && s->word && node->kind == YAML_SCALAR &&
                        str_eq(node->text, str_of(s->word))) {
                        *(bool *)(base + s->word_offset) = true;
                        config_place_add(r, base + s->offset, node->at);
                        read_section(r, s->section, NULL, base + s->offset, below);
                        return;
                }
                if (node && !yaml_is_mapping(node, quoted_key(s), r->errors))
                        return;
                if (s->count_offset)
                        *(bool *)(base + s->count_offset) = node != NULL;
                read_section(r, s->section, node, base + s->offset, below);
                return;
        }
        if (node) {
                if (!config_expand_failed(node))
                        read_leaf(r, s, node, base);
                config_place_add(r, base + s->offset, node->at);
        } else if (s->fallback) {
                node = fallback_node(r, s);
                read_leaf(r, s, node, base);
        }
        if (node && s->restart)
                note_boot(r, path, node);
}

/* Goes down the tables, whose depth is ours and not the file's. `node` NULL: only defaults. */
static void read_section(struct reader *r, const struct settings *table,
        const struct yaml_node *node, char *base, const char *path)
{
        if (node)
                refuse_unknown(r, table, node);
        for (size_t i = 0; i < table->n; i++) {
                const struct setting *s = &table->rows[i];
                const struct yaml_node *value = yaml_get(node, s->key);
                char below[160];
                snprintf(below, sizeof(below), "%s%s", path, s->key);
                if (value && value->kind == YAML_NULL) {
                        error_list_add(r->errors, value->at,
                                "`%s` has no value; leave it out to have the default", s->key);
                        value = NULL;
                } else if (!value && node && s->required) {
                        error_list_add(r->errors, node->at, "`%s` is missing", s->key);
                }
                read_setting(r, s, value, base, below);
        }
}

void config_read(struct reader *r)
{
        struct yaml_node *root = r->doc->root;

        buf_init(&r->boot, 1 << 20);
        if (root->kind == YAML_NULL) {
                error_list_add(r->errors, root->at, "the file is empty");
                return;
        }
        if (yaml_is_mapping(root, "the configuration", r->errors))
                read_section(r, &settings_root, root, (char *)r->config, "");
}
