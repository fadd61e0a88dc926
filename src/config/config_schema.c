#include "settings.h"

/* The schema and the reference, both from the table. */

static void indent(struct buf *out, unsigned depth)
{
        buf_char(out, '\n');
        for (unsigned i = 0; i < depth; i++)
                BUF_LITERAL(out, "  ");
}

static void member(struct buf *out, const char *name, struct str value)
{
        buf_json_str(out, str_of(name));
        BUF_LITERAL(out, ": ");
        buf_json_str(out, value);
}

/* A setting's words, with the range and default that a schema cannot say. */
static void description(struct buf *out, const struct setting *s)
{
        struct buf text;
        char least[32], most[32];

        buf_init(&text, 4096);
        buf_printf(&text, "%s", s->help);
        if (s->type == SETTING_DURATION || s->type == SETTING_SIZE) {
                if (s->type == SETTING_DURATION) {
                        config_duration_text(s->least, least);
                        config_duration_text(s->most, most);
                } else {
                        config_size_text(s->least, least);
                        config_size_text(s->most, most);
                }
                buf_printf(&text, " From %s to %s.", least, most);
        }
        if (s->without)
                buf_printf(&text, " Default: %s.", s->without);
        BUF_LITERAL(out, ", ");
        member(out, "description", buf_str(&text));
        buf_clear(&text);
}

static void fallback(struct buf *out, const struct setting *s)
{
        struct str rest = str_of(s->fallback);
        bool bare = s->type == SETTING_BOOL || s->type == SETTING_COUNT;
        bool list = s->type == SETTING_TEXTS || s->type == SETTING_CHOICES;

        if (!rest.ptr)
                return;
        buf_printf(out, ", \"default\": %s", list ? "[" : "");
        while (rest.ptr) {
                struct str item = rest;
                rest = list ? str_trim(str_cut(rest, ',', &item)) : STR_NONE;
                if (bare)
                        buf_str_add(out, item);
                else
                        buf_json_str(out, item);
                if (rest.ptr)
                        BUF_LITERAL(out, ", ");
        }
        if (list)
                buf_char(out, ']');
}

static void choices(struct buf *out, const struct setting *s)
{
        bool first = true;

        BUF_LITERAL(out, "\"enum\": [");
        for (const struct choice *c = s->choices; c->name; c++) {
                if (c->later)
                        continue;
                if (!first)
                        BUF_LITERAL(out, ", ");
                buf_json_str(out, str_of(c->name));
                first = false;
        }
        buf_char(out, ']');
}

/* The type of one value, without braces. */
static void leaf_type(struct buf *out, const struct setting *s)
{
        switch (s->type) {
        case SETTING_TEXT:
        case SETTING_PATH:
        case SETTING_ADDRESS:
        case SETTING_URL:
        case SETTING_BASE_URL:
        case SETTING_ORIGIN: BUF_LITERAL(out, "\"type\": \"string\", \"minLength\": 1"); break;
        case SETTING_NAME: BUF_LITERAL(out, "\"$ref\": \"#/$defs/name\""); break;
        case SETTING_TEXTS:
        case SETTING_PATHS:
                buf_printf(out, "\"$ref\": \"#/$defs/%s\"", s->least ? "texts" : "textsOrNone");
                break;
        case SETTING_CHOICES:
                BUF_LITERAL(out, "\"type\": \"array\", \"minItems\": 1, \"items\": {");
                choices(out, s);
                buf_char(out, '}');
                break;
        case SETTING_PAIRS:
                BUF_LITERAL(out, "\"type\": \"object\", \"additionalProperties\": {\"type\": "
                                 "[\"string\", \"number\", \"boolean\"]}");
                break;
        case SETTING_HOSTS:
                BUF_LITERAL(out, "\"type\": \"object\", \"additionalProperties\": {\"type\": "
                                 "\"string\"}");
                break;
        case SETTING_BOOL:
                BUF_LITERAL(out, "\"anyOf\": [{\"type\": \"boolean\"}, {\"$ref\": "
                                 "\"#/$defs/variable\"}]");
                break;
        case SETTING_COUNT:
        case SETTING_AUTO:
                buf_printf(out,
                        "\"anyOf\": [{\"type\": \"integer\", \"minimum\": %llu, \"maximum\": "
                        "%llu}, %s{\"$ref\": \"#/$defs/variable\"}]",
                        (unsigned long long)s->least, (unsigned long long)s->most,
                        s->type == SETTING_AUTO ? "{\"const\": \"auto\"}, " : "");
                break;
        case SETTING_DURATION: BUF_LITERAL(out, "\"$ref\": \"#/$defs/duration\""); break;
        case SETTING_SIZE: BUF_LITERAL(out, "\"$ref\": \"#/$defs/size\""); break;
        case SETTING_CHOICE: choices(out, s); break;
        case SETTING_SECTION:
        case SETTING_SECTIONS: break;
        }
}

static void object(struct buf *out, const struct settings *table, unsigned depth);

static void property(struct buf *out, const struct setting *s, unsigned depth)
{
        indent(out, depth);
        buf_json_str(out, str_of(s->key));
        BUF_LITERAL(out, ": {");
        if (s->type == SETTING_SECTIONS) {
                buf_printf(out, "\"type\": \"array\", \"minItems\": %llu",
                        (unsigned long long)s->least);
                description(out, s);
                BUF_LITERAL(out, ", \"items\": {");
                object(out, s->section, depth + 1);
                buf_char(out, '}');
        } else if (s->type == SETTING_SECTION) {
                if (s->word)
                        buf_printf(out, "\"anyOf\": [{\"const\": \"%s\"}, {", s->word);
                object(out, s->section, depth + 1);
                if (s->word)
                        BUF_LITERAL(out, "}]");
                description(out, s);
        } else {
                leaf_type(out, s);
                fallback(out, s);
                description(out, s);
        }
        buf_char(out, '}');
}

/* Goes down the tables, whose depth is ours. Writes the members of an object schema. */
static void object(struct buf *out, const struct settings *table, unsigned depth)
{
        bool first = true;

        BUF_LITERAL(out, "\"type\": \"object\", \"additionalProperties\": false");
        for (size_t i = 0; i < table->n; i++) {
                if (!table->rows[i].required)
                        continue;
                buf_str_add(out, first ? STR(", \"required\": [") : STR(", "));
                buf_json_str(out, str_of(table->rows[i].key));
                first = false;
        }
        buf_str_add(out, first ? STR("") : STR("]"));
        BUF_LITERAL(out, ", \"properties\": {");
        first = true;
        for (size_t i = 0; i < table->n; i++) {
                if (!first)
                        buf_char(out, ',');
                property(out, &table->rows[i], depth + 1);
                first = false;
        }
        indent(out, depth);
        buf_char(out, '}');
}

void config_schema_write(struct buf *out)
{
        BUF_LITERAL(out,
                "{\n"
                "  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
                "  \"title\": \"Dagward configuration\",\n"
                "  \"$defs\": {\n"
                "    \"name\": {\"type\": \"string\", \"pattern\": "
                "\"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$|^\\\\$\\\\{env:\"},\n"
                "    \"texts\": {\"anyOf\": [{\"type\": \"string\", \"minLength\": 1}, {\"type\": "
                "\"array\", \"minItems\": 1, \"items\": {\"type\": \"string\", \"minLength\": "
                "1}}]},\n"
                "    \"textsOrNone\": {\"anyOf\": [{\"type\": \"string\", \"minLength\": 1}, "
                "{\"type\": \"array\", \"items\": {\"type\": \"string\", \"minLength\": 1}}]},\n"
                "    \"duration\": {\"type\": \"string\", \"pattern\": "
                "\"^(0|[1-9][0-9]*)(ms|s|m|h|d)$|^\\\\$\\\\{env:\"},\n"
                "    \"size\": {\"type\": \"string\", \"pattern\": "
                "\"^(0|[1-9][0-9]*)(B|KiB|MiB|GiB)$|^\\\\$\\\\{env:\"},\n"
                "    \"variable\": {\"type\": \"string\", \"pattern\": "
                "\"^\\\\$\\\\{env:[A-Za-z_][A-Za-z0-9_]*\\\\}$\"}\n"
                "  },\n"
                "  ");
        object(out, &settings_root, 1);
        BUF_LITERAL(out, "\n}\n");
}

static const char *type_text(const struct setting *s)
{
        switch (s->type) {
        case SETTING_TEXT: return "text";
        case SETTING_NAME: return "name";
        case SETTING_PATH: return "path";
        case SETTING_TEXTS: return "text or list of texts";
        case SETTING_PATHS: return "path or list of paths";
        case SETTING_PAIRS: return "mapping of claim to text";
        case SETTING_HOSTS: return "mapping of host to URL";
        case SETTING_BOOL: return "true or false";
        case SETTING_COUNT: return "number";
        case SETTING_AUTO: return "number or `auto`";
        case SETTING_DURATION: return "duration";
        case SETTING_SIZE: return "size";
        case SETTING_CHOICE: return "one of";
        case SETTING_CHOICES: return "list of";
        case SETTING_ADDRESS: return "address";
        case SETTING_URL:
        case SETTING_BASE_URL: return "URL";
        case SETTING_ORIGIN: return "URL without path";
        case SETTING_SECTION: return "mapping";
        case SETTING_SECTIONS: return "list of mappings";
        }
        return "";
}

static void type_cell(struct buf *out, const struct setting *s)
{
        char least[32], most[32];
        bool first = true;

        buf_printf(out, "%s", type_text(s));
        if (s->type == SETTING_DURATION || s->type == SETTING_SIZE) {
                if (s->type == SETTING_DURATION) {
                        config_duration_text(s->least, least);
                        config_duration_text(s->most, most);
                } else {
                        config_size_text(s->least, least);
                        config_size_text(s->most, most);
                }
                buf_printf(out, ", %s to %s", least, most);
        }
        if (s->type == SETTING_COUNT || s->type == SETTING_AUTO)
                buf_printf(out, ", %llu to %llu", (unsigned long long)s->least,
                        (unsigned long long)s->most);
        if (s->word)
                buf_printf(out, " or `%s`", s->word);
        for (const struct choice *c = s->choices; c && c->name; c++) {
                if (c->later)
                        continue;
                buf_printf(out, "%s `%s`", first ? "" : ",", c->name);
                if (c->help)
                        buf_printf(out, " (%s)", c->help);
                first = false;
        }
}

static void default_cell(struct buf *out, const struct setting *s)
{
        bool list = s->type == SETTING_TEXTS || s->type == SETTING_CHOICES;

        if (s->required)
                BUF_LITERAL(out, "**required**");
        else if (s->fallback)
                buf_printf(out, list ? "`[%s]`" : "`%s`", s->fallback);
        else
                buf_printf(out, "%s", s->without ? s->without : "");
}

static bool is_section(const struct setting *s)
{
        return s->type == SETTING_SECTION || s->type == SETTING_SECTIONS;
}

static void reference(struct buf *out, const struct settings *table, const char *path)
{
        BUF_LITERAL(out, "\n| setting | type | default | reload | meaning |\n"
                         "|---|---|---|---|---|\n");
        for (size_t i = 0; i < table->n; i++) {
                const struct setting *s = &table->rows[i];
                buf_printf(out, "| `%s` | ", s->key);
                type_cell(out, s);
                BUF_LITERAL(out, " | ");
                default_cell(out, s);
                buf_printf(out, " | %s | %s |\n",
                        is_section(s) ? "" : (s->restart ? "restart" : "yes"), s->help);
        }
        for (size_t i = 0; i < table->n; i++) {
                const struct setting *s = &table->rows[i];
                char below[160];
                if (!is_section(s))
                        continue;
                snprintf(below, sizeof(below), "%s%s%s", path, path[0] ? "." : "", s->key);
                if (s->type == SETTING_SECTIONS)
                        snprintf(below + strlen(below), sizeof(below) - strlen(below), "[]");
                buf_printf(out, "\n### `%s`\n", below);
                reference(out, s->section, below);
        }
}

void config_reference_write(struct buf *out)
{
        reference(out, &settings_root, "");
}
