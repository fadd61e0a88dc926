#include "dagward/token/carrier.h"

#include "dagward/base/block.h"
#include "dagward/token/base64.h"
#include "dagward/token/token.h"

enum {
        USER_MOST_BYTES = 4 * 1024,
        PAIR_MOST_BYTES = USER_MOST_BYTES + 1 + TOKEN_MOST_BYTES,
        PAIR_MOST_CHARS = (PAIR_MOST_BYTES + 2) / 3 * 4,
};

struct finding_place {
        struct arena *arena;
        struct str *token;
        enum token_via *via;
        struct str *claimed_user;
};

static struct str trim_end(struct str s)
{
        while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t' ||
                                s.ptr[s.len - 1] == '\r' || s.ptr[s.len - 1] == '\n'))
                s.len--;
        return s;
}

static block not_visible(const char *p)
{
        block b = block_load(p);

        return (block)((b < 0x21) | (b > 0x7E));
}

/* How many bytes at the front are visible ASCII, by pairs of blocks: tokens are nothing else. */
static size_t visible_front(struct str s)
{
        enum { PAIR = 2 * BLOCK_BYTES };
        size_t i = 0;

        for (; i + PAIR <= s.len; i += PAIR)
                if (block_holds(not_visible(s.ptr + i) | not_visible(s.ptr + i + BLOCK_BYTES)))
                        break;
        return i;
}

/* Neither token nor user name may hold these; in a Basic pair they came past the field parser. */
static bool has_controls(struct str s)
{
        for (size_t i = visible_front(s); i < s.len; i++)
                if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
                        return true;
        return false;
}

static enum carrier_result judge_secret(struct str secret)
{
        if (str_empty(secret))
                return CARRIER_NONE;
        if (secret.len > TOKEN_MOST_BYTES)
                return CARRIER_LARGE;
        if (has_controls(secret) || str_find(secret, ' ') >= 0)
                return CARRIER_BAD;
        return token_looks_like_pat(secret) ? CARRIER_PAT : CARRIER_TOKEN;
}

static enum carrier_result found(struct finding_place *place, struct str secret, enum token_via via)
{
        enum carrier_result result = judge_secret(secret);

        *place->via = via;
        if (result == CARRIER_TOKEN)
                *place->token = secret;
        return result;
}

/* The claimed user goes to the log, so what could be a secret put in the wrong place must not be
 * one. People with long names have an @ in them; PATs, client secrets and tokens do not. */
static bool could_be_secret(struct str user)
{
        return token_looks_like_jwt(user) || (user.len >= 40 && str_find(user, '@') < 0);
}

static enum carrier_result find_basic(struct finding_place *place, struct str text)
{
        if (text.len > PAIR_MOST_CHARS)
                return CARRIER_LARGE;
        char *bytes = arena_alloc(place->arena, BASE64_DECODED(text.len) + 1);
        if (!bytes)
                return CARRIER_LARGE;
        ssize_t len = base64_decode(text, bytes);
        if (len < 0)
                return CARRIER_BAD;
        struct str user, password = str_cut(str_view(bytes, (size_t)len), ':', &user);
        if (!password.ptr) /* no colon (RFC 7617 2) */
                return CARRIER_BAD;
        password = trim_end(password);
        user = trim_end(user);
        if (has_controls(user))
                return CARRIER_BAD;
        if (str_empty(password))
                return found(place, user, VIA_BASIC_USER);
        if (token_looks_like_jwt(user))
                return CARRIER_SEVERAL;
        if (!str_empty(user) && !could_be_secret(user))
                *place->claimed_user = str_head(user, CARRIER_CLAIMED_MOST_BYTES);
        return found(place, password, VIA_BASIC_PASSWORD);
}

static enum carrier_result find_authorization(struct finding_place *place, struct str value)
{
        struct str scheme, rest = str_cut(str_trim(value), ' ', &scheme);

        while (rest.len && *rest.ptr == ' ')
                rest = str_from(rest, 1);
        if (str_eq_fold(scheme, STR("Bearer")))
                return found(place, rest, VIA_BEARER);
        if (str_eq_fold(scheme, STR("Basic")))
                return find_basic(place, rest);
        return CARRIER_NONE;
}

enum carrier_result carrier_find(const struct str *authorization, size_t n_authorization,
        const struct str *x_dagward_token, size_t n_x_dagward_token, struct arena *arena,
        struct str *token, enum token_via *via, struct str *claimed_user)
{
        struct finding_place place = {arena, token, via, claimed_user};

        *token = *claimed_user = STR_NONE;
        *via = VIA_BEARER;
        if (n_authorization + n_x_dagward_token > 1)
                return CARRIER_SEVERAL;
        if (n_authorization)
                return find_authorization(&place, authorization[0]);
        if (n_x_dagward_token)
                return found(&place, str_trim(x_dagward_token[0]), VIA_HEADER);
        return CARRIER_NONE;
}

const char *token_via_name(enum token_via via)
{
        switch (via) {
        case VIA_BEARER: return "bearer";
        case VIA_BASIC_PASSWORD:
        case VIA_BASIC_USER: return "basic";
        case VIA_HEADER: break;
        }
        return "header";
}
