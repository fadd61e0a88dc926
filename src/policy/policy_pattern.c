/* Patterns: what `*` means, and when two names may be the same thing upstream. */
#include <stdlib.h>

#include "policy_internal.h"

static bool has_star(struct str text)
{
        return str_find(text, '*') >= 0;
}

bool is_resource_id(int kind, struct str text)
{
        uint64_t number;

        if (kind < 0)
                return false;
        switch ((enum resource_kind)kind) {
        case RESOURCE_ORGANIZATION:
                /* Some hosts address an organization as A{guid}. */
                return guid_valid(text) || (text.len == 37 && char_lower(text.ptr[0]) == 'a' &&
                                                   guid_valid(str_from(text, 1)));
        case RESOURCE_PROJECT:
        case RESOURCE_TEAM:
        case RESOURCE_REPOSITORY:
        case RESOURCE_FEED: return guid_valid(text);
        case RESOURCE_PIPELINE:
        case RESOURCE_BUILD:
        case RESOURCE_RELEASE:
        case RESOURCE_WORK_ITEM:
        case RESOURCE_ENVIRONMENT: return str_to_u64(text, &number) || guid_valid(text);
        case RESOURCE_WORK_ITEM_TYPE: return str_find(text, '.') >= 0; /* a reference name */
        case RESOURCE_REF: return !str_starts(text, STR("refs/"));     /* a short or other name */
        }
        return false;
}

bool may_be_another(enum resource_kind kind, struct str text)
{
        if (kind == RESOURCE_REPOSITORY && str_ends_fold(text, STR(".git")))
                return true;
        /* .NET trims more than ASCII. */
        if (str_trim_wide(text).len != text.len)
                return true;
        return kind != RESOURCE_REF && guid_is_odd(text);
}

bool pattern_parse(struct str text, int kind, struct pattern *out)
{
        *out = (struct pattern){.text = text};
        if (text.len && text.ptr[text.len - 1] == '*') {
                out->prefix = true;
                out->text.len--;
        }
        out->id = !out->prefix && is_resource_id(kind, text);
        return !has_star(out->text);
}

/* Characters that case or width folding turns into ASCII: long s, dotted and dotless i, the Kelvin
 * sign, and the full-width forms. */
static bool folds_to_ascii(struct str text)
{
        for (size_t i = 0; i + 1 < text.len; i++) {
                unsigned char a = (unsigned char)text.ptr[i];
                unsigned char b = (unsigned char)text.ptr[i + 1];
                if ((a == 0xc5 && b == 0xbf) || (a == 0xc4 && (b == 0xb0 || b == 0xb1)) ||
                        (a == 0xe2 && b == 0x84) || (a == 0xef && b >= 0xbc))
                        return true;
        }
        return false;
}

enum policy_state pattern_state(const struct pattern *pattern, struct str text, bool fold)
{
        struct str head = pattern->prefix ? str_head(text, pattern->text.len) : text;

        if (fold ? str_eq_fold(pattern->text, head) : str_eq(pattern->text, head))
                return STATE_MET;
        /* Upstream folds more letters than ASCII: such names may still be one. */
        if (!str_is_ascii(text) && (!str_is_ascii(pattern->text) || folds_to_ascii(text)))
                return STATE_UNSURE;
        return STATE_FAILED;
}

bool pattern_matches(const struct pattern *pattern, struct str text)
{
        return pattern->prefix ? str_starts(text, pattern->text) : str_eq(pattern->text, text);
}

/* One dot-separated part: `*`, `x*` or a literal. */
static bool part_matches(struct str pattern, struct str part)
{
        if (pattern.len && pattern.ptr[pattern.len - 1] == '*')
                return str_starts_fold(part, str_head(pattern, pattern.len - 1));
        return str_eq_fold(pattern, part);
}

bool operation_pattern_matches(struct str pattern, struct str id)
{
        while (pattern.ptr && id.ptr) {
                struct str want, have;

                pattern = str_cut(pattern, '.', &want);
                id = str_cut(id, '.', &have);
                if (!part_matches(want, have))
                        return false;
                if (!pattern.ptr && want.len && want.ptr[want.len - 1] == '*')
                        return true;
        }
        return !pattern.ptr && !id.ptr;
}

bool path_pattern_parse(struct arena *arena, struct str text, struct path_pattern *out)
{
        size_t most = 0;

        if (!text.len || text.ptr[0] != '/')
                return false;
        for (size_t i = 0; i < text.len; i++)
                most += text.ptr[i] == '/';
        *out = (struct path_pattern){.segments = arena_alloc(arena, most * sizeof(struct pattern))};
        if (!out->segments)
                abort();
        for (struct str rest = str_from(text, 1); rest.ptr && rest.len;) {
                struct str segment;

                rest = str_cut(rest, '/', &segment);
                if (str_eq(segment, STR("**"))) {
                        out->rest = true;
                        return !rest.ptr;
                }
                if (!segment.len || !pattern_parse(segment, -1, &out->segments[out->n]))
                        return false;
                out->n++;
        }
        return true;
}

enum policy_state path_pattern_state(const struct path_pattern *pattern, struct str path)
{
        enum policy_state state = STATE_MET;
        struct str rest = path.len > 1 ? str_from(path, 1) : STR_NONE;

        for (size_t i = 0; i < pattern->n; i++) {
                struct str segment;

                if (!rest.ptr)
                        return STATE_FAILED;
                rest = str_cut(rest, '/', &segment);
                enum policy_state one = pattern_state(&pattern->segments[i], segment, true);
                if (one == STATE_FAILED)
                        return one;
                if (one == STATE_UNSURE)
                        state = one;
        }
        return rest.ptr && !pattern->rest ? STATE_FAILED : state;
}
