#include "claims.h"

#include <stdio.h>

#include "json.h"

/* Where a double still tells seconds apart; also far from every overflow of later arithmetic. */
static const double latest_date = 9007199254740992.0; /* 2^53 */

enum claims_date claims_date(const json_t *claims, const char *name, bool up, int64_t *seconds)
{
        const json_t *value = json_object_get(claims, name);

        if (!value)
                return DATE_ABSENT;
        if (json_is_integer(value)) {
                json_int_t whole = json_integer_value(value);
                if (whole > (json_int_t)latest_date || whole < -(json_int_t)latest_date)
                        return DATE_BAD;
                *seconds = whole;
                return DATE_OK;
        }
        double real = json_real_value(value);
        if (!json_is_real(value) || !(real >= -latest_date && real <= latest_date)) /* nor NaN */
                return DATE_BAD;
        int64_t cut = (int64_t)real; /* towards zero */
        *seconds = cut + (up && (double)cut < real) - (!up && (double)cut > real);
        return DATE_OK;
}

static bool one_of(struct str s, const struct str *list, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (str_eq(s, list[i]))
                        return true;
        return false;
}

bool claims_audience(const json_t *claims, const struct str *audiences, size_t n)
{
        const json_t *aud = json_object_get(claims, "aud");
        bool found = false;

        if (json_is_string(aud))
                return one_of(json_str(aud), audiences, n);
        for (size_t i = 0; i < json_array_size(aud); i++) {
                const json_t *one = json_array_get(aud, i);
                if (!json_is_string(one))
                        return false;
                found = found || one_of(json_str(one), audiences, n);
        }
        return found;
}

const struct json_t *token_claim(const struct json_t *claims, struct str path)
{
        const json_t *value = claims;

        while (path.len) {
                const json_t *next = NULL;
                size_t taken = path.len;
                /* The longest name first: `https://example.com/roles` holds dots of its own. */
                while (taken && !(next = json_object_getn(value, path.ptr, taken))) {
                        taken--;
                        while (taken && path.ptr[taken] != '.')
                                taken--;
                }
                if (!next)
                        return NULL;
                value = next;
                path = str_from(path, taken + 1);
        }
        return value == claims ? NULL : value;
}

static bool is_exactly(const json_t *value, struct str wanted)
{
        char number[32];

        switch (value ? json_typeof(value) : JSON_NULL) {
        case JSON_STRING: return str_eq(json_str(value), wanted);
        case JSON_TRUE: return str_eq(wanted, STR("true"));
        case JSON_FALSE: return str_eq(wanted, STR("false"));
        case JSON_INTEGER:
                snprintf(
                        number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
                return str_eq(wanted, str_of(number));
        case JSON_OBJECT:
        case JSON_ARRAY:
        case JSON_REAL:
        case JSON_NULL: break;
        }
        return false;
}

const struct pair *claims_unmet(const json_t *claims, const struct pair *require, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (!is_exactly(token_claim(claims, require[i].name), require[i].value))
                        return &require[i];
        return NULL;
}

struct roles {
        struct str names[TOKEN_MOST_ROLES];
        size_t n;
        bool overflow;
};

static void add_role(struct roles *roles, struct str name)
{
        if (str_empty(name))
                return;
        if (roles->n == TOKEN_MOST_ROLES)
                roles->overflow = true;
        else
                roles->names[roles->n++] = name;
}

static void add_roles_of(struct roles *roles, const json_t *value)
{
        struct str rest = json_str(value);

        for (size_t i = 0; i < json_array_size(value) && !roles->overflow; i++)
                add_role(roles, json_str(json_array_get(value, i)));
        while (rest.len && !roles->overflow) {
                struct str name;
                rest = str_cut(rest, ' ', &name);
                add_role(roles, name);
        }
}

bool claims_roles(const json_t *claims, const struct str *paths, size_t n, struct caller *caller)
{
        struct roles roles;

        roles.n = 0;
        roles.overflow = false;
        for (size_t i = 0; i < n; i++)
                add_roles_of(&roles, token_claim(claims, paths[i]));
        if (roles.overflow)
                return false;
        /* The names are views into the claims, which live as long as the caller. */
        struct str *names = arena_alloc(&caller->arena, roles.n * sizeof(*names) + 1);
        if (!names)
                return false;
        if (roles.n)
                memcpy(names, roles.names, roles.n * sizeof(*names));
        caller->roles = names;
        caller->n_roles = roles.n;
        return true;
}

bool claims_groups_unknown(const json_t *claims)
{
        return json_object_get(json_object_get(claims, "_claim_names"), "groups") ||
               json_is_true(json_object_get(claims, "hasgroups"));
}
