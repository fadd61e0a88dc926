/* The claims of a token whose signature was good: an issuer that serves many tenants signs what its
 * tenants say. Nothing here reads beyond them, and dates stay in a range that can be added to. */
#include <assert.h>
#include <stdlib.h>

#include "../../../src/token/claims.h"
#include "../../../src/token/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct tree_bounds bounds = {8, 512};

static void dates(const struct tree *claims)
{
        static const struct str names[] = {{"exp", 3}, {"nbf", 3}, {"iat", 3}};
        int64_t down = 0, up = 0;

        for (size_t i = 0; i < 3; i++) {
                enum claims_date one = claims_date(claims, names[i], false, &down);
                assert(one == claims_date(claims, names[i], true, &up));
                if (one != DATE_OK)
                        continue;
                assert(up == down || up == down + 1);
                assert(llabs(down) <= (1LL << 53) && llabs(up) <= (1LL << 53));
        }
}

static void roles(const struct tree *claims)
{
        static const struct str paths[] = {
                {"roles", 5}, {"realm_access.roles", 18}, {"https://a.example/x", 19}, {"", 0}};
        struct caller caller = {0};

        arena_init(&caller.arena, 1024, 1 << 20);
        if (claims_roles(claims, paths, 4, &caller)) {
                assert(caller.n_roles <= TOKEN_MOST_ROLES);
                for (size_t i = 0; i < caller.n_roles; i++)
                        assert(caller.roles[i].len > 0 && str_utf8_valid(caller.roles[i]));
        }
        arena_clear(&caller.arena);
}

/* The same as jansson reads it, number for number and member for member. */
static void same(const struct tree *value, const json_t *json)
{
        size_t n = 0;

        switch (value->kind) {
        case TREE_NULL: assert(json_is_null(json)); return;
        case TREE_FALSE: assert(json_is_false(json)); return;
        case TREE_TRUE: assert(json_is_true(json)); return;
        case TREE_WHOLE:
                assert(json_is_integer(json) && json_integer_value(json) == value->whole);
                return;
        case TREE_REAL: assert(json_is_real(json) && json_real_value(json) == value->real); return;
        case TREE_TEXT: assert(str_eq(json_str(json), value->text)); return;
        case TREE_ARRAY:
                for (const struct tree *one = value->first; one; one = one->next)
                        same(one, json_array_get(json, n++));
                assert(json_is_array(json) && json_array_size(json) == n);
                return;
        case TREE_OBJECT:
                for (const struct tree *one = value->first; one; one = one->next, n++)
                        same(one, json_object_getn(json, one->name.ptr, one->name.len));
                assert(json_is_object(json) && json_object_size(json) == n);
                return;
        }
        abort();
}

/* What is read, and what is refused, are what jansson reads and refuses; and what is written is
 * read as the same again. */
static void as_jansson(const struct tree *value, struct str text, struct arena *arena)
{
        json_t *json = json_read_object(text, bounds.depth, bounds.values);
        struct buf again;

        /* It passes over NUL behind a word or number, which is no JSON. */
        assert(!json == !value || (!value && str_find(text, '\0') >= 0));
        if (!value) {
                json_decref(json);
                return;
        }
        same(value, json);
        buf_init(&again, 1 << 24);
        tree_write(value, &again);
        const struct tree *second = tree_read(buf_str(&again), &bounds, arena);
        assert(second);
        same(second, json);
        buf_clear(&again);
        json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct str audiences[] = {{"dagward", 7}, {"api://dagward", 13}};
        static const struct pair require[] = {{{"tid", 3}, {"t", 1}}, {{"a.b", 3}, {"1", 1}}};
        struct str text = str_view((const char *)data, size);
        struct arena arena;

        arena_init(&arena, 4096, 64 << 20);
        const struct tree *claims = tree_read(text, &bounds, &arena);
        if (claims && claims->kind != TREE_OBJECT)
                claims = NULL;
        as_jansson(claims, text, &arena);
        if (claims) {
                dates(claims);
                const struct tree *aud = tree_member(claims, STR("aud"));
                if (claims_audience(claims, audiences, 2))
                        assert(aud->kind == TREE_TEXT || (aud->kind == TREE_ARRAY && aud->first));
                const struct pair *unmet = claims_unmet(claims, require, 2);
                assert(!unmet || unmet == &require[0] || unmet == &require[1]);
                if (!unmet)
                        assert(tree_text(tree_member(claims, STR("tid"))).ptr);
                roles(claims);
                (void)claims_groups_unknown(claims);
                for (size_t len = 0; len <= 12 && len <= size; len++)
                        (void)tree_at(claims, str_head(text, len));
        }
        arena_clear(&arena);
        return 0;
}
