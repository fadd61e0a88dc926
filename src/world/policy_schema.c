#include "dagward/azdo/catalogue.h"
#include "dagward/azdo/resources.h"
#include "dagward/world/preflight.h"

/* Parts that are the same in every build; the names of operations come from the catalogue. */
static const char before[] =
        "{\n"
        "  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
        "  \"title\": \"Dagward policy\",\n"
        "  \"type\": \"object\", \"additionalProperties\": false,\n"
        "  \"required\": [\"version\"],\n"
        "  \"properties\": {\n"
        "    \"version\": {\"const\": 1},\n"
        "    \"groups\": {\"type\": \"object\",\n"
        "      \"description\": \"Resources by a name; selectors write group:NAME.\",\n"
        "      \"propertyNames\": {\"$ref\": \"#/$defs/name\"},\n"
        "      \"additionalProperties\": {\"$ref\": \"#/$defs/members\"}},\n"
        "    \"roles\": {\"type\": \"object\",\n"
        "      \"description\": \"What may be done, by name.\",\n"
        "      \"propertyNames\": {\"$ref\": \"#/$defs/name\"},\n"
        "      \"additionalProperties\": {\"$ref\": \"#/$defs/role\"}},\n"
        "    \"bindings\": {\"type\": \"array\", \"description\": \"Who has which roles.\",\n"
        "      \"items\": {\"$ref\": \"#/$defs/binding\"}},\n"
        "    \"known\": {\"type\": \"array\",\n"
        "      \"description\": \"What Azure DevOps would say of names and ids, for tests.\",\n"
        "      \"items\": {\"$ref\": \"#/$defs/known\"}},\n"
        "    \"tests\": {\"type\": \"array\",\n"
        "      \"description\": \"What must stay allowed and denied.\",\n"
        "      \"items\": {\"$ref\": \"#/$defs/test\"}}\n"
        "  },\n"
        "  \"$defs\": {\n"
        "    \"text\": {\"type\": [\"string\", \"number\", \"boolean\"], \"minLength\": 1},\n"
        "    \"texts\": {\"anyOf\": [{\"$ref\": \"#/$defs/text\"},\n"
        "      {\"type\": \"array\", \"minItems\": 1,\n"
        "        \"items\": {\"$ref\": \"#/$defs/text\"}}]},\n"
        "    \"name\": {\"type\": [\"string\", \"number\", \"boolean\"], \"minLength\": 1,\n"
        "      \"maxLength\": 100, \"pattern\": \"^[^\\\\u0000-\\\\u001f\\\\u007f]*$\"},\n"
        "    \"member\": {\"allOf\": [{\"$ref\": \"#/$defs/text\"},\n"
        "      {\"pattern\": \"^(?!group:)\"}]},\n"
        "    \"members\": {\"anyOf\": [{\"$ref\": \"#/$defs/member\"},\n"
        "      {\"type\": \"array\", \"minItems\": 1,\n"
        "        \"items\": {\"$ref\": \"#/$defs/member\"}}]},\n"
        "    \"pattern\": {\"allOf\": [{\"$ref\": \"#/$defs/text\"},\n"
        "      {\"pattern\": \"^[^*]*[*]?$\"}]},\n"
        "    \"patterns\": {\"anyOf\": [{\"$ref\": \"#/$defs/pattern\"},\n"
        "      {\"type\": \"array\", \"minItems\": 1,\n"
        "        \"items\": {\"$ref\": \"#/$defs/pattern\"}}]},\n"
        "    \"date\": {\"type\": \"string\",\n"
        "      \"description\": \"2027-03-31, or with a time: 2027-03-31T18:00:00Z\",\n"
        "      \"pattern\": \"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])(T([01][0-9]|"
        "2[0-3]):[0-5][0-9]:([0-5][0-9]|60)([.][0-9]*)?(Z|[+-][0-9]{2}:[0-9]{2}))?$\"},\n"
        "    \"role\": {\"type\": \"object\", \"additionalProperties\": false,\n"
        "      \"anyOf\": [{\"required\": [\"allow\"]}, {\"required\": [\"deny\"]},\n"
        "        {\"required\": [\"includes\"]}],\n"
        "      \"properties\": {\n"
        "        \"description\": {\"$ref\": \"#/$defs/text\"},\n"
        "        \"includes\": {\"$ref\": \"#/$defs/texts\",\n"
        "          \"description\": \"Roles whose entries this one has as well.\"},\n"
        "        \"allow\": {\"type\": \"array\", \"minItems\": 1,\n"
        "          \"items\": {\"$ref\": \"#/$defs/allow\"},\n"
        "          \"description\": \"One suffices, unless a deny matches too.\"},\n"
        "        \"deny\": {\"type\": \"array\", \"minItems\": 1,\n"
        "          \"items\": {\"$ref\": \"#/$defs/deny\"},\n"
        "          \"description\": \"One that matches wins over every allow.\"}}},\n"
        "    \"binding\": {\"type\": \"object\", \"additionalProperties\": false,\n"
        "      \"required\": [\"callers\", \"roles\"],\n"
        "      \"properties\": {\n"
        "        \"name\": {\"$ref\": \"#/$defs/name\"},\n"
        "        \"callers\": {\"type\": \"object\", \"additionalProperties\": false,\n"
        "          \"required\": [\"issuer\"],\n"
        "          \"properties\": {\n"
        "            \"issuer\": {\"allOf\": [{\"$ref\": \"#/$defs/text\"},\n"
        "              {\"pattern\": \"^[^*]*$\"}],\n"
        "              \"description\": \"An issuer's name in the configuration.\"},\n"
        "            \"subject\": {\"$ref\": \"#/$defs/patterns\"},\n"
        "            \"roles\": {\"$ref\": \"#/$defs/patterns\"},\n"
        "            \"claims\": {\"type\": \"object\", \"minProperties\": 1,\n"
        "              \"additionalProperties\": {\"$ref\": \"#/$defs/patterns\"}}}},\n"
        "        \"roles\": {\"$ref\": \"#/$defs/texts\"},\n"
        "        \"credential\": {\"$ref\": \"#/$defs/text\",\n"
        "          \"description\": \"A credential's name in the configuration.\"},\n"
        "        \"not_before\": {\"$ref\": \"#/$defs/date\"},\n"
        "        \"expires\": {\"$ref\": \"#/$defs/date\"},\n"
        "        \"break_glass\": {\n"
        "          \"description\": \"Only for requests that give a reason.\",\n"
        "          \"anyOf\": [{\"type\": \"boolean\"},\n"
        "            {\"type\": \"object\", \"additionalProperties\": false,\n"
        "              \"required\": [\"reason_at_least\"],\n"
        "              \"properties\": {\"reason_at_least\": {\"type\": \"integer\",\n"
        "                \"description\": \"Characters of the reason.\",\n"
        "                \"minimum\": 10, \"maximum\": 500}}}]}},\n"
        "      \"if\": {\"required\": [\"break_glass\"],\n"
        "        \"properties\": {\"break_glass\": {\"not\": {\"const\": false}}}},\n"
        "      \"then\": {\"required\": [\"expires\"]}},\n"
        "    \"guid\": {\"type\": \"string\", \"pattern\":\n"
        "      \"^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$\"},\n"
        "    \"number\": {\"anyOf\": [{\"type\": \"integer\", \"minimum\": 0},\n"
        "      {\"type\": \"string\", \"pattern\": \"^[0-9]{1,19}$\"}, {\"$ref\": "
        "\"#/$defs/guid\"}]},\n"
        "    \"known\": {\"anyOf\": [\n"
        "      {\"type\": \"object\", \"additionalProperties\": false,\n"
        "        \"required\": [\"build\"],\n"
        "        \"properties\": {\"build\": {\"$ref\": \"#/$defs/number\"}, \"name\": {\"$ref\": "
        "\"#/$defs/text\"}, \"project\": {\"$ref\": \"#/$defs/text\"}, \"pipeline\": {\"$ref\": "
        "\"#/$defs/number\"}, \"ref\": {\"$ref\": \"#/$defs/text\"}}},\n"
        "      {\"type\": \"object\", \"additionalProperties\": false,\n"
        "        \"required\": [\"pipeline\"],\n"
        "        \"properties\": {\"pipeline\": {\"$ref\": \"#/$defs/number\"}, \"name\": "
        "{\"$ref\": \"#/$defs/text\"}, \"project\": {\"$ref\": \"#/$defs/text\"}}},\n"
        "      {\"type\": \"object\", \"additionalProperties\": false,\n"
        "        \"required\": [\"repository\"],\n"
        "        \"properties\": {\"repository\": {\"$ref\": \"#/$defs/guid\"}, \"name\": "
        "{\"$ref\": \"#/$defs/text\"}, \"project\": {\"$ref\": \"#/$defs/text\"}}},\n"
        "      {\"type\": \"object\", \"additionalProperties\": false,\n"
        "        \"required\": [\"team\"],\n"
        "        \"properties\": {\"team\": {\"$ref\": \"#/$defs/guid\"}, \"name\": {\"$ref\": "
        "\"#/$defs/text\"}, \"project\": {\"$ref\": \"#/$defs/text\"}}},\n"
        "      {\"type\": \"object\", \"additionalProperties\": false,\n"
        "        \"required\": [\"feed\"],\n"
        "        \"properties\": {\"feed\": {\"$ref\": \"#/$defs/guid\"}, \"name\": {\"$ref\": "
        "\"#/$defs/text\"}, \"project\": {\"$ref\": \"#/$defs/text\"}}},\n"
        "      {\"type\": \"object\", \"additionalProperties\": false,\n"
        "        \"required\": [\"environment\"],\n"
        "        \"properties\": {\"environment\": {\"$ref\": \"#/$defs/number\"}, \"name\": "
        "{\"$ref\": \"#/$defs/text\"}, \"project\": {\"$ref\": \"#/$defs/text\"}}},\n"
        "      {\"type\": \"object\", \"additionalProperties\": false,\n"
        "        \"required\": [\"workItem\"],\n"
        "        \"properties\": {\"workItem\": {\"$ref\": \"#/$defs/number\"}, \"project\": "
        "{\"$ref\": \"#/$defs/text\"}}},\n"
        "      {\"type\": \"object\", \"additionalProperties\": false,\n"
        "        \"required\": [\"project\"],\n"
        "        \"properties\": {\"project\": {\"$ref\": \"#/$defs/guid\"}, \"name\": {\"$ref\": "
        "\"#/$defs/text\"}}}]},\n"
        "    \"test\": {\"type\": \"object\", \"additionalProperties\": false,\n"
        "      \"required\": [\"caller\", \"request\", \"expect\"],\n"
        "      \"properties\": {\n"
        "        \"name\": {\"$ref\": \"#/$defs/text\"},\n"
        "        \"caller\": {\"type\": \"object\", \"additionalProperties\": false,\n"
        "          \"required\": [\"issuer\"],\n"
        "          \"properties\": {\n"
        "            \"issuer\": {\"$ref\": \"#/$defs/text\"},\n"
        "            \"subject\": {\"$ref\": \"#/$defs/text\"},\n"
        "            \"roles\": {\"$ref\": \"#/$defs/texts\"},\n"
        "            \"claims\": {\"type\": \"object\"},\n"
        "            \"claimed\": {\"type\": \"object\",\n"
        "              \"propertyNames\": {\"$ref\": \"#/$defs/claimed\"},\n"
        "              \"additionalProperties\": {\"$ref\": \"#/$defs/text\"}}}},\n"
        "        \"request\": {\"type\": \"string\",\n"
        "          \"pattern\": \"^\\\\s*[A-Z]+ +(/|http)[^ ]*\\\\s*$\"},\n"
        "        \"body\": {},\n"
        "        \"at\": {\"$ref\": \"#/$defs/date\"},\n"
        "        \"reason\": {\"type\": [\"string\", \"number\", \"boolean\"],\n"
        "          \"description\": \"As given to break glass.\",\n"
        "          \"minLength\": 1, \"maxLength\": 500,\n"
        "          \"pattern\": \"^[^\\\\u0000-\\\\u001f\\\\u007f-\\\\u009f\\\\u2028-"
        "\\\\u202e\\\\u2066-\\\\u2069]*$\"},\n"
        "        \"expect\": {\"enum\": [\"allow\", \"deny\"]},\n"
        "        \"rule\": {\"$ref\": \"#/$defs/text\",\n"
        "          \"description\": \"What must decide: file:line, or a role.\"}}},\n"
        "    \"claimed\": {\"enum\": [\"dag_id\", \"run_id\", \"task_id\", \"map_index\",\n"
        "      \"try_number\", \"user_agent\"]},\n"
        "    \"allow\": {\"allOf\": [{\"$ref\": \"#/$defs/entry\"},\n"
        "      {\"anyOf\": [{\"required\": [\"operations\"]}, {\"required\": [\"access\"]},\n"
        "        {\"required\": [\"scopes\"]}, {\"required\": [\"areas\"]},\n"
        "        {\"required\": [\"path\"]}]}]},\n"
        "    \"deny\": {\"allOf\": [{\"$ref\": \"#/$defs/entry\"},\n"
        "      {\"not\": {\"required\": [\"claimed\"]},\n"
        "        \"properties\": {\"where\": {\"additionalProperties\": {\n"
        "          \"$ref\": \"#/$defs/said\"}}}}]},\n"
        "    \"said\": {\"not\": {\"$ref\": \"#/$defs/nothing\"},\n"
        "      \"additionalProperties\": {\"not\": {\"$ref\": \"#/$defs/nothing\"}}},\n"
        "    \"nothing\": {\"type\": [\"array\", \"object\"], \"maxItems\": 0,\n"
        "      \"maxProperties\": 0},\n"
        "    \"entry\": {\"type\": \"object\", \"additionalProperties\": false,\n"
        "      \"minProperties\": 1,\n"
        "      \"description\": \"All selectors must hold; of a list, one value.\",\n"
        "      \"properties\": {\n"
        "        \"access\": {\"anyOf\": [{\"$ref\": \"#/$defs/access\"},\n"
        "          {\"type\": \"array\", \"minItems\": 1,\n"
        "            \"items\": {\"$ref\": \"#/$defs/access\"}}]},\n"
        "        \"scopes\": {\"anyOf\": [{\"$ref\": \"#/$defs/scope\"},\n"
        "          {\"type\": \"array\", \"minItems\": 1,\n"
        "            \"items\": {\"$ref\": \"#/$defs/scope\"}}]},\n"
        "        \"areas\": {\"anyOf\": [{\"$ref\": \"#/$defs/area\"},\n"
        "          {\"type\": \"array\", \"minItems\": 1,\n"
        "            \"items\": {\"$ref\": \"#/$defs/area\"}}]},\n"
        "        \"method\": {\"anyOf\": [{\"$ref\": \"#/$defs/method\"},\n"
        "          {\"type\": \"array\", \"minItems\": 1,\n"
        "            \"items\": {\"$ref\": \"#/$defs/method\"}}]},\n"
        "        \"path\": {\"anyOf\": [{\"$ref\": \"#/$defs/path\"},\n"
        "          {\"type\": \"array\", \"minItems\": 1,\n"
        "            \"items\": {\"$ref\": \"#/$defs/path\"}}]},\n"
        "        \"claimed\": {\"type\": \"object\", \"minProperties\": 1,\n"
        "          \"description\": \"What the caller asserts; only narrows.\",\n"
        "          \"propertyNames\": {\"$ref\": \"#/$defs/claimed\"},\n"
        "          \"additionalProperties\": {\"$ref\": \"#/$defs/patterns\"}},\n"
        "        \"where\": {\"$ref\": \"#/$defs/where\"},\n";

static const char after[] =
        "        \"operations\": {\"anyOf\": [{\"$ref\": \"#/$defs/operation\"},\n"
        "          {\"type\": \"array\", \"minItems\": 1,\n"
        "            \"items\": {\"$ref\": \"#/$defs/operation\"}}]}}},\n"
        "    \"values\": {\"description\": \"[] is: may not be said.\", \"anyOf\": [\n"
        "      {\"$ref\": \"#/$defs/pattern\"},\n"
        "      {\"type\": \"array\", \"items\": {\"$ref\": \"#/$defs/pattern\"}}]},\n"
        "    \"valuesByName\": {\"anyOf\": [{\"type\": \"array\", \"maxItems\": 0},\n"
        "      {\"type\": \"object\",\n"
        "        \"propertyNames\": {\"pattern\": \"^(?!$)[^*]*[*]?$\"},\n"
        "        \"additionalProperties\": {\"$ref\": \"#/$defs/values\"}}]},\n"
        "    \"window\": {\"type\": \"string\",\n"
        "      \"description\": \"Mon-Fri 06:00-20:00 +01:00; days and offset may be left out"
        ".\",\n"
        "      \"pattern\": \"^((Mon|Tue|Wed|Thu|Fri|Sat|Sun)(-(Mon|Tue|Wed|Thu|Fri|Sat|Sun))"
        "? )?(?!(.{5})-\\\\5)([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:"
        "00)( ?[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))?$\"},\n"
        "    \"windows\": {\"anyOf\": [{\"$ref\": \"#/$defs/window\"},\n"
        "      {\"type\": \"array\", \"minItems\": 1,\n"
        "        \"items\": {\"$ref\": \"#/$defs/window\"}}]},\n"
        "    \"method\": {\"enum\": [\"GET\", \"HEAD\", \"POST\", \"PUT\", \"PATCH\", \"DELET"
        "E\",\n"
        "      \"OPTIONS\"]},\n"
        "    \"path\": {\"type\": \"string\",\n"
        "      \"pattern\": \"^(/|(/([^/*?#]+[*]?|[*]))+/?|(/([^/*?#]+[*]?|[*]))*/[*][*])$\"}"
        ",\n"
        "    \"access\": {\"enum\": [\"read\", \"write\", \"execute\", \"manage\", \"delete\""
        "]},\n";

static void where_write(struct buf *out)
{
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);

        BUF_LITERAL(out, "    \"where\": {\"type\": \"object\", \"additionalProperties\": false, "
                         "\"minProperties\": 1,\n"
                         "      \"description\": \"Conditions on what a request says.\",\n"
                         "      \"properties\": {\n"
                         "        \"refs\": {\"$ref\": \"#/$defs/refs\"},\n"
                         "        \"time\": {\"$ref\": \"#/$defs/windows\", \"description\": "
                         "\"when it is asked\"}");
        for (size_t i = 0; i < n; i++) {
                buf_printf(out, ",\n        \"%s\": {\"$ref\": \"#/$defs/%s\", \"description\": ",
                        kinds[i].name, kinds[i].is_map ? "valuesByName" : "values");
                buf_json_str(out, str_of(kinds[i].summary));
                buf_char(out, '}');
        }
        BUF_LITERAL(out, "}}\n");
}

/* What one value of a resource selector looks like, and what a list of them. */
static void kinds_write(struct buf *out)
{
        static const char *const patterns[RESOURCE_KINDS] = {
                [RESOURCE_PIPELINE] = "(?!0[0-9]+$)[^*/]*[*]?",
                [RESOURCE_ENVIRONMENT] = "(?!0[0-9]+$)[^*/]*[*]?",
                [RESOURCE_BUILD] = "(0|[1-9][0-9]*|[*])",
                [RESOURCE_RELEASE] = "(0|[1-9][0-9]*|[*])",
                [RESOURCE_WORK_ITEM] = "(0|[1-9][0-9]*|[*])",
                [RESOURCE_REPOSITORY] = "([^*/]*[*]?|([^*/]+[*]?|[*])/([^*/]+[*]?|[*]))",
                [RESOURCE_REF] = "(refs/[^*]*[*]?|[*])",
        };

        for (int kind = 0; kind < RESOURCE_KINDS; kind++) {
                const char *name = resource_kind_selector((enum resource_kind)kind);
                const char *pattern = patterns[kind] ? patterns[kind] : "[^*/]*[*]?";
                buf_printf(out,
                        "    \"%s\": {\"anyOf\": [{\"$ref\": \"#/$defs/%s.one\"},\n"
                        "      {\"type\": \"array\", \"minItems\": 1,\n"
                        "        \"items\": {\"$ref\": \"#/$defs/%s.one\"}}]},\n"
                        "    \"%s.one\": {\"allOf\": [{\"$ref\": \"#/$defs/text\"},\n"
                        "      {\"pattern\": \"^(group:.+|(?!group:)%s)$\"}]},\n",
                        name, name, name, name, pattern);
        }
}

/* One that begins a list of names each once. */
static bool is_first(struct str name, const struct str *seen, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (str_eq(seen[i], name))
                        return false;
        return true;
}

enum { MOST_NAMES = 512 };

static void names_end(struct buf *out, const struct str *names, size_t n)
{
        BUF_LITERAL(out, "{\"enum\": [");
        for (size_t i = 0; i < n; i++)
                buf_printf(out, "%s\n      \"%.*s\"", i ? "," : "", STR_FMT(names[i]));
        BUF_LITERAL(out, "]},\n      {\"type\": \"string\", \"pattern\": \"^[^*]*[*]$\"}]},\n");
}

static void areas_write(struct buf *out, const struct operation *operations, size_t n)
{
        struct str names[MOST_NAMES];
        size_t found = 0;

        for (size_t i = 0; i < n && found < MOST_NAMES; i++)
                if (is_first(str_of(operations[i].area), names, found))
                        names[found++] = str_of(operations[i].area);
        names_end(out, names, found);
}

static void scopes_write(struct buf *out, const struct operation *operations, size_t n)
{
        struct str names[MOST_NAMES];
        size_t found = 0;

        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < operations[i].n_scopes && found < MOST_NAMES; k++)
                        if (is_first(str_of(operations[i].scopes[k]), names, found))
                                names[found++] = str_of(operations[i].scopes[k]);
        names_end(out, names, found);
}

void policy_schema_write(struct buf *out)
{
        size_t n, n_aliases;
        const struct operation *operations = catalogue_all(&n);
        const struct operation_alias *aliases = catalogue_aliases(&n_aliases);

        buf_add(out, before, sizeof(before) - 1);
        for (int kind = 0; kind < RESOURCE_KINDS; kind++)
                buf_printf(out, "        \"%s\": {\"$ref\": \"#/$defs/%s\"},\n",
                        resource_kind_selector((enum resource_kind)kind),
                        resource_kind_selector((enum resource_kind)kind));
        buf_add(out, after, sizeof(after) - 1);
        kinds_write(out);
        BUF_LITERAL(out, "    \"area\": {\"anyOf\": [");
        areas_write(out, operations, n);
        BUF_LITERAL(out, "    \"scope\": {\"anyOf\": [");
        scopes_write(out, operations, n);
        BUF_LITERAL(out, "    \"operation\": {\"anyOf\": [{\"type\": \"string\",\n"
                         "      \"pattern\": \"^(?=.*[*])[^.*]*[*]?([.][^.*]*[*]?)*$\"}, "
                         "{\"enum\": [");
        for (size_t i = 0; i < n_aliases; i++)
                buf_printf(out, "%s\n      \"%s\"", i ? "," : "", aliases[i].name);
        for (size_t i = 0; i < n; i++)
                buf_printf(out, "%s\n      \"%s\"", i || n_aliases ? "," : "", operations[i].id);
        BUF_LITERAL(out, "]}]},\n");
        where_write(out);
        BUF_LITERAL(out, "  }\n}\n");
}
