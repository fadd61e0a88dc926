#include "claims.h"

#include <inttypes.h>
#include <stdio.h>

/* Where a double still tells seconds apart; also far from every overflow of later arithmetic. */
static const int64_t latest_date = INT64_C(1) << 53;

enum claims_date claims_date(const struct tree *claims, struct str name, bool up, int64_t *seconds)
{
        const struct tree *value = tree_member(claims, name);

        if (!value)
                return DATE_ABSENT;
        if (value->kind == TREE_WHOLE) {
                if (value->whole > latest_date || value->whole < -latest_date)
                        return DATE_BAD;
                *seconds = value->whole;
                return DATE_OK;
        }
        if (value->kind != TREE_REAL || value->real < -(double)latest_date ||
                value->real > (double)latest_date)
                return DATE_BAD;
        int64_t cut = (int64_t)value->real; /* towards zero */
        *seconds = cut + (up && (double)cut < value->real) - (!up && (double)cut > value->real);
        return DATE_OK;
}

static bool one_of(struct str s, const struct str *list, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (str_eq(s, list[i]))
                        return true;
        return false;
}

bool claims_audience(const struct tree *claims, const struct str *audiences, size_t n)
{
        const struct tree *aud = tree_member(claims, STR("aud"));
        bool found = false;

        if (!aud || aud->kind != TREE_ARRAY)
                return aud && aud->kind == TREE_TEXT && one_of(aud->text, audiences, n);
        for (const struct tree *one = aud->first; one; one = one->next) {
                if (one->kind != TREE_TEXT)
                        return false;
                found = found || one_of(one->text, audiences, n);
        }
        return found;
}

static bool is_exactly(const struct tree *value, struct str wanted)
{
        char number[24];

        switch (value ? value->kind : TREE_NULL) {
        case TREE_TEXT: return str_eq(value->text, wanted);
        case TREE_TRUE: return str_eq(wanted, STR("true"));
        case TREE_FALSE: return str_eq(wanted, STR("false"));
        case TREE_WHOLE:
                snprintf(number, sizeof(number), "%" PRId64, value->whole);
                return str_eq(wanted, str_of(number));
        case TREE_OBJECT:
        case TREE_ARRAY:
        case TREE_REAL:
        case TREE_NULL: break;
        }
        return false;
}

const struct pair *claims_unmet(const struct tree *claims, const struct pair *require, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (!is_exactly(tree_at(claims, require[i].name), require[i].value))
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

static void add_roles_of(struct roles *roles, const struct tree *value)
{
        struct str rest = tree_text(value);
        bool list = value && value->kind == TREE_ARRAY;

        for (const struct tree *one = list ? value->first : NULL; one && !roles->overflow;
                one = one->next)
                add_role(roles, tree_text(one));
        while (rest.len && !roles->overflow) {
                struct str name;
                rest = str_cut(rest, ' ', &name);
                add_role(roles, name);
        }
}

bool claims_roles(
        const struct tree *claims, const struct str *paths, size_t n, struct caller *caller)
{
        struct roles roles;

        roles.n = 0;
        roles.overflow = false;
        for (size_t i = 0; i < n; i++)
                add_roles_of(&roles, tree_at(claims, paths[i]));
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

bool claims_groups_unknown(const struct tree *claims)
{
        const struct tree *has = tree_member(claims, STR("hasgroups"));

        return tree_member(tree_member(claims, STR("_claim_names")), STR("groups")) ||
               (has && has->kind == TREE_TRUE);
}
