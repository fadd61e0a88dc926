#include "dagward/azdo/catalogue.h"
#include "dagward/azdo/resources.h"
#include "dagward/world/preflight.h"

/* Parts that are the same in every build; the names of operations come from the catalogue. */
static const char before[] =
        "{\n"
        "  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
        "  \"title\": \"Dagward policy\",\n"
        "  \"type\": \"object\", \"additionalProperties\": false, \"required\": [\"version\"],\n"
        "  \"properties\": {\n"
        "    \"version\": {\"const\": 1},\n"
        "    \"groups\": {\"type\": \"object\", \"description\": \"Resources under a name; "
        "selectors write "
        "group:NAME.\",\n"
        "      \"additionalProperties\": {\"$ref\": \"#/$defs/texts\"}},\n"
        "    \"roles\": {\"type\": \"object\", \"description\": \"What may be done, by name.\",\n"
        "      \"additionalProperties\": {\"$ref\": \"#/$defs/role\"}},\n"
        "    \"bindings\": {\"type\": \"array\", \"description\": \"Who has which roles.\",\n"
        "      \"items\": {\"$ref\": \"#/$defs/binding\"}},\n"
        "    \"tests\": {\"type\": \"array\", \"description\": \"What must stay allowed and "
        "denied.\",\n"
        "      \"items\": {\"$ref\": \"#/$defs/test\"}}\n"
        "  },\n"
        "  \"$defs\": {\n"
        "    \"text\": {\"type\": [\"string\", \"integer\"], \"minLength\": 1},\n"
        "    \"texts\": {\"anyOf\": [{\"$ref\": \"#/$defs/text\"},\n"
        "      {\"type\": \"array\", \"minItems\": 1, \"items\": {\"$ref\": \"#/$defs/text\"}}]},\n"
        "    \"claim\": {\"type\": [\"string\", \"number\", \"boolean\"]},\n"
        "    \"role\": {\"type\": \"object\", \"additionalProperties\": false,\n"
        "      \"anyOf\": [{\"required\": [\"allow\"]}, {\"required\": [\"deny\"]}, {\"required\": "
        "[\"includes\"]}],\n"
        "      \"properties\": {\n"
        "        \"description\": {\"type\": \"string\"},\n"
        "        \"includes\": {\"$ref\": \"#/$defs/texts\",\n"
        "          \"description\": \"Roles whose entries, deny included, this one has as "
        "well.\"},\n"
        "        \"allow\": {\"type\": \"array\", \"minItems\": 1, \"items\": {\"$ref\": "
        "\"#/$defs/entry\"},\n"
        "          \"description\": \"One matching entry suffices, unless a deny matches too.\"},\n"
        "        \"deny\": {\"type\": \"array\", \"minItems\": 1, \"items\": {\"$ref\": "
        "\"#/$defs/entry\"},\n"
        "          \"description\": \"One matching entry wins over every allow.\"}}},\n"
        "    \"binding\": {\"type\": \"object\", \"additionalProperties\": false,\n"
        "      \"required\": [\"callers\", \"roles\"],\n"
        "      \"properties\": {\n"
        "        \"name\": {\"$ref\": \"#/$defs/text\"},\n"
        "        \"callers\": {\"type\": \"object\", \"additionalProperties\": false,\n"
        "          \"required\": [\"issuer\"],\n"
        "          \"properties\": {\n"
        "            \"issuer\": {\"type\": \"string\", \"description\": \"The name of an issuer "
        "of the "
        "configuration.\"},\n"
        "            \"subject\": {\"$ref\": \"#/$defs/texts\"},\n"
        "            \"roles\": {\"$ref\": \"#/$defs/texts\"},\n"
        "            \"claims\": {\"type\": \"object\", \"additionalProperties\": {\"anyOf\": [\n"
        "              {\"$ref\": \"#/$defs/claim\"},\n"
        "              {\"type\": \"array\", \"minItems\": 1, \"items\": {\"$ref\": "
        "\"#/$defs/claim\"}}]}}}},\n"
        "        \"roles\": {\"$ref\": \"#/$defs/texts\"},\n"
        "        \"credential\": {\"type\": \"string\", \"description\": \"The name of a "
        "credential of "
        "the configuration.\"},\n"
        "        \"not_before\": {\"type\": \"string\"},\n"
        "        \"expires\": {\"type\": \"string\", \"description\": \"2027-03-31, or with a "
        "time: "
        "2027-03-31T18:00:00Z\"}}},\n"
        "    \"test\": {\"type\": \"object\", \"additionalProperties\": false,\n"
        "      \"required\": [\"caller\", \"request\", \"expect\"],\n"
        "      \"properties\": {\n"
        "        \"name\": {\"$ref\": \"#/$defs/text\"},\n"
        "        \"caller\": {\"type\": \"object\", \"additionalProperties\": false,\n"
        "          \"required\": [\"issuer\"],\n"
        "          \"properties\": {\"issuer\": {\"type\": \"string\"}, \"subject\": {\"type\": "
        "\"string\"},\n"
        "            \"roles\": {\"$ref\": \"#/$defs/texts\"}, \"claims\": {\"type\": "
        "\"object\"},\n"
        "            \"claimed\": {\"type\": \"object\"}}},\n"
        "        \"request\": {\"type\": \"string\", \"pattern\": \"^[A-Z]+ +(/|http)\"},\n"
        "        \"body\": {},\n"
        "        \"at\": {\"type\": \"string\"},\n"
        "        \"expect\": {\"enum\": [\"allow\", \"deny\"]},\n"
        "        \"rule\": {\"type\": \"string\", \"description\": \"The entry that must decide: "
        "file:line.\"}}},\n"
        "    \"entry\": {\"type\": \"object\", \"additionalProperties\": false, \"minProperties\": "
        "1,\n"
        "      \"description\": \"All selectors must hold; of a list, one value.\",\n"
        "      \"properties\": {\n"
        "        \"access\": {\"anyOf\": [{\"$ref\": \"#/$defs/access\"},\n"
        "          {\"type\": \"array\", \"minItems\": 1, \"items\": {\"$ref\": "
        "\"#/$defs/access\"}}]},\n"
        "        \"scopes\": {\"$ref\": \"#/$defs/texts\"},\n"
        "        \"areas\": {\"$ref\": \"#/$defs/texts\"},\n"
        "        \"method\": {\"$ref\": \"#/$defs/texts\"},\n"
        "        \"path\": {\"$ref\": \"#/$defs/texts\"},\n"
        "        \"claimed\": {\"type\": \"object\", \"minProperties\": 1,\n"
        "          \"description\": \"What the caller asserts about itself; only narrows.\",\n"
        "          \"propertyNames\": {\"enum\": [\"dag_id\", \"run_id\", \"task_id\", "
        "\"map_index\", \"try_number\", \"user_agent\"]},\n"
        "          \"additionalProperties\": {\"$ref\": \"#/$defs/texts\"}},\n"
        "        \"where\": {\"$ref\": \"#/$defs/where\"},\n";

static const char after[] =
        "        \"operations\": {\"anyOf\": [{\"$ref\": \"#/$defs/operation\"},\n"
        "          {\"type\": \"array\", \"minItems\": 1, \"items\": {\"$ref\": "
        "\"#/$defs/operation\"}}]}}},\n"
        "    \"values\": {\"description\": \"[] is: may not be said.\", \"anyOf\": [\n"
        "      {\"$ref\": \"#/$defs/scalar\"},\n"
        "      {\"type\": \"array\", \"items\": {\"$ref\": \"#/$defs/scalar\"}}]},\n"
        "    \"scalar\": {\"type\": [\"string\", \"number\", \"boolean\"]},\n"
        "    \"valuesByName\": {\"anyOf\": [{\"type\": \"array\", \"maxItems\": 0},\n"
        "      {\"type\": \"object\", \"additionalProperties\": {\"$ref\": "
        "\"#/$defs/values\"}}]},\n"
        "    \"access\": {\"enum\": [\"read\", \"write\", \"execute\", \"manage\", \"delete\"]},\n"
        "    \"operation\": {\"anyOf\": [{\"type\": \"string\", \"pattern\": \"[*]\"}, {\"enum\": "
        "[";

static void where_write(struct buf *out)
{
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);

        BUF_LITERAL(out, "    \"where\": {\"type\": \"object\", \"additionalProperties\": false, "
                         "\"minProperties\": 1,\n"
                         "      \"description\": \"Conditions on what a request says.\",\n"
                         "      \"properties\": {\n"
                         "        \"refs\": {\"$ref\": \"#/$defs/texts\"}");
        for (size_t i = 0; i < n; i++) {
                buf_printf(out, ",\n        \"%s\": {\"$ref\": \"#/$defs/%s\", \"description\": ",
                        kinds[i].name, kinds[i].is_map ? "valuesByName" : "values");
                buf_json_str(out, str_of(kinds[i].summary));
                buf_char(out, '}');
        }
        BUF_LITERAL(out, "}}\n");
}

void policy_schema_write(struct buf *out)
{
        size_t n, n_aliases;
        const struct operation *operations = catalogue_all(&n);
        const struct operation_alias *aliases = catalogue_aliases(&n_aliases);

        buf_add(out, before, sizeof(before) - 1);
        for (int kind = 0; kind < RESOURCE_KINDS; kind++)
                buf_printf(out, "        \"%s\": {\"$ref\": \"#/$defs/texts\"},\n",
                        resource_kind_selector((enum resource_kind)kind));
        buf_add(out, after, sizeof(after) - 1);
        for (size_t i = 0; i < n_aliases; i++)
                buf_printf(out, "%s\n      \"%s\"", i ? "," : "", aliases[i].name);
        for (size_t i = 0; i < n; i++)
                buf_printf(out, "%s\n      \"%s\"", i || n_aliases ? "," : "", operations[i].id);
        BUF_LITERAL(out, "]}]},\n");
        where_write(out);
        BUF_LITERAL(out, "  }\n}\n");
}
