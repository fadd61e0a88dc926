/* Any bytes: a tree that hangs together, or at least one error. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "dagward/yaml/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_as_everything(struct yaml_document *doc, const struct yaml_node *node)
{
        struct error_list errors;
        struct str text, *list;
        uint64_t number;
        int64_t ms;
        size_t n;
        bool truth;

        error_list_init(&errors);
        if (yaml_bool(node, "`v`", &truth, &errors))
                assert(!node->quoted);
        if (yaml_u64(node, "`v`", 3, 7, &number, &errors))
                assert(number >= 3 && number <= 7);
        if (yaml_duration_ms(node, "`v`", &ms, &errors))
                assert(ms >= 0);
        if (yaml_str(node, "`v`", &text, &errors))
                assert(text.len > 0 && text.ptr[text.len] == '\0');
        if (node->n < 8)
                (void)!yaml_str_list(doc, node, "`v`", &list, &n, &errors);
        (void)!yaml_size_bytes(node, "`v`", &number, &errors);
        (void)yaml_known_keys(node, &(struct str){"key", 3}, 1, &errors);
        (void)yaml_describe(node);
        error_list_clear(&errors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct yaml_document doc;
        struct error_list errors;
        size_t nodes = 0;

        error_list_init(&errors);
        if (!yaml_load_text("fuzz", str_view((const char *)data, size), &doc, &errors)) {
                assert(errors.errors > 0);
                error_list_clear(&errors);
                return 0;
        }
        for (const struct yaml_node *node = doc.root; node; node = node->following) {
                assert(node->at.line >= 1 && node->at.column >= 1);
                assert(str_utf8_valid(node->text));
                for (size_t i = 0; node->kind == YAML_SEQUENCE && i < node->n; i++)
                        assert(node->items[i]);
                for (size_t i = 0; node->kind == YAML_MAPPING && i < node->n; i++) {
                        assert(node->entries[i].key->kind == YAML_SCALAR);
                        assert(node->entries[i].value);
                        for (size_t k = 0; k < i && i < 8; k++)
                                assert(!str_eq(
                                        node->entries[i].key->text, node->entries[k].key->text));
                }
                if (nodes++ < 100)
                        read_as_everything(&doc, node);
        }
        yaml_clear(&doc);
        error_list_clear(&errors);
        return 0;
}
