/* YAML as JSON text: bodies and claims of tests. */
#include <stdlib.h>

#include "policy_internal.h"

static void scalar_add(struct buf *out, const struct yaml_node *node)
{
        if (node->kind == YAML_NULL) {
                BUF_LITERAL(out, "null");
                return;
        }
        switch (yaml_scalar_of(node)) {
        case YAML_TEXT: buf_json_str(out, node->text); return;
        case YAML_TRUE:
        case YAML_FALSE:
        case YAML_INTEGER:
        case YAML_REAL: buf_str_add(out, node->text); return;
        }
}

/* Where the writer is inside one list or mapping. */
struct level {
        const struct yaml_node *node;
        size_t next;
};

static const struct yaml_node *open_next(struct buf *out, struct level *level)
{
        const struct yaml_node *node = level->node;

        if (level->next)
                buf_char(out, ',');
        size_t i = level->next++;
        if (node->kind == YAML_SEQUENCE)
                return node->items[i];
        buf_json_str(out, node->entries[i].key->text);
        buf_char(out, ':');
        return node->entries[i].value;
}

struct str yaml_to_json(const struct yaml_node *node, struct arena *arena)
{
        struct level levels[YAML_MAX_DEPTH + 2];
        size_t depth = 0;
        struct buf out;

        buf_init(&out, YAML_MAX_MEMORY);
        for (const struct yaml_node *at = node; at;) {
                bool nested = at->kind == YAML_SEQUENCE || at->kind == YAML_MAPPING;
                if (nested && depth < YAML_MAX_DEPTH + 2) {
                        buf_char(&out, at->kind == YAML_SEQUENCE ? '[' : '{');
                        levels[depth++] = (struct level){at, 0};
                } else {
                        scalar_add(&out, at);
                }
                while (depth && levels[depth - 1].next == levels[depth - 1].node->n)
                        buf_char(&out, levels[--depth].node->kind == YAML_SEQUENCE ? ']' : '}');
                at = depth ? open_next(&out, &levels[depth - 1]) : NULL;
        }
        struct str text = arena_copy(arena, buf_str(&out));
        buf_clear(&out);
        if (!text.ptr)
                abort();
        return text;
}
