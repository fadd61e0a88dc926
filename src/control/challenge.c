#include "challenge.h"

#include <jansson.h>

#include "dagward/token/base64.h"

static struct str skip(struct str s, const char *these)
{
        while (s.len && s.ptr[0] && strchr(these, s.ptr[0]))
                s = str_from(s, 1);
        return s;
}

/* Up to the first of `ends`. */
static struct str word(struct str *s, const char *ends)
{
        size_t len = 0;

        while (len < s->len && !(s->ptr[len] && strchr(ends, s->ptr[len])))
                len++;
        struct str found = str_head(*s, len);
        *s = str_from(*s, len);
        return found;
}

struct target {
        char *out;
        size_t size, len;
        bool good;
};

static void put(struct target *t, char c)
{
        if (t->len + 1 >= t->size || c < ' ' || c > '~')
                t->good = false;
        else
                t->out[t->len++] = c;
}

/* Reads one value, quoted or not, to `t`; what follows. */
static struct str value(struct str s, struct target *t)
{
        if (!str_starts(s, STR("\""))) {
                struct str plain = word(&s, ", \t");
                for (size_t i = 0; i < plain.len; i++)
                        put(t, plain.ptr[i]);
                return s;
        }
        for (s = str_from(s, 1); s.len && s.ptr[0] != '"'; s = str_from(s, 1)) {
                if (s.ptr[0] == '\\' && s.len > 1)
                        s = str_from(s, 1);
                put(t, s.ptr[0]);
        }
        if (!s.len)
                t->good = false; /* no end */
        return str_from(s, 1);
}

bool challenge_param(
        struct str challenge, struct str scheme, struct str name, char *out, size_t size)
{
        struct str rest = skip(challenge, " \t");
        bool here = str_eq_fold(word(&rest, " \t,"), scheme);

        for (rest = skip(rest, " \t,"); rest.len; rest = skip(rest, " \t,")) {
                struct target t = {.out = out, .size = size, .good = true};
                struct str key = word(&rest, "= \t,");
                rest = skip(rest, " \t");
                if (!str_starts(rest, STR("="))) {
                        here = str_eq_fold(key, scheme); /* the scheme of a further challenge */
                        continue;
                }
                rest = value(skip(str_from(rest, 1), " \t"), &t);
                if (here && str_eq_fold(key, name)) {
                        out[t.good ? t.len : 0] = '\0';
                        return t.good && t.len > 0;
                }
        }
        return false;
}

bool challenge_claims(const char *challenge, char out[CLAIMS_MOST])
{
        char error[32], text[CLAIMS_MOST / 3 * 4 + 8];
        struct str bearer = STR("Bearer");

        out[0] = '\0';
        if (!challenge ||
                !challenge_param(str_of(challenge), bearer, STR("error"), error, sizeof(error)) ||
                strcmp(error, "insufficient_claims") != 0 ||
                !challenge_param(str_of(challenge), bearer, STR("claims"), text, sizeof(text)))
                return false;
        struct str encoded = str_of(text);
        if (BASE64_DECODED(encoded.len) >= CLAIMS_MOST)
                return false;
        /* with padding or without, in either alphabet */
        ssize_t len = base64_decode(encoded, out);
        while (len < 0 && str_ends(encoded, STR("=")))
                encoded.len--;
        if (len < 0)
                len = base64url_decode(encoded, out);
        json_t *claims =
                len > 0 ? json_loadb(out, (size_t)len, JSON_REJECT_DUPLICATES, NULL) : NULL;
        bool good = json_is_object(claims) && !memchr(out, '\0', (size_t)len);
        json_decref(claims);
        out[good ? len : 0] = '\0';
        return good;
}

bool challenge_arc_path(struct str path)
{
        static const struct str folder = {"/var/opt/azcmagent/tokens/", 26};
        struct str name = str_from(path, folder.len);

        return str_starts(path, folder) && str_ends(name, STR(".key")) && name.len > 4 &&
               name.len <= 128 && str_find(name, '/') < 0 && str_find(name, '\0') < 0;
}
