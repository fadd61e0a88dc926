/* The claims of a token whose signature was good: an issuer that serves many tenants signs what its
 * tenants say. Nothing here reads beyond them, and dates stay in a range that can be added to. */
#include <assert.h>
#include <stdlib.h>

#include "../../../src/token/claims.h"
#include "../../../src/token/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void dates(const json_t *claims)
{
        static const char *const names[] = {"exp", "nbf", "iat"};
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

static void roles(const json_t *claims)
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct str audiences[] = {{"dagward", 7}, {"api://dagward", 13}};
        static const struct pair require[] = {{{"tid", 3}, {"t", 1}}, {{"a.b", 3}, {"1", 1}}};
        json_t *claims = json_read_object(str_view((const char *)data, size), 8, 512);

        if (!claims)
                return 0;
        dates(claims);
        const json_t *aud = json_object_get(claims, "aud");
        if (claims_audience(claims, audiences, 2))
                assert(json_is_string(aud) || json_array_size(aud) > 0);
        const struct pair *unmet = claims_unmet(claims, require, 2);
        assert(!unmet || unmet == &require[0] || unmet == &require[1]);
        if (!unmet)
                assert(json_is_string(json_object_get(claims, "tid")));
        roles(claims);
        (void)claims_groups_unknown(claims);
        for (size_t len = 0; len <= 12 && len <= size; len++)
                (void)token_claim(claims, str_view((const char *)data, len));
        json_decref(claims);
        return 0;
}
