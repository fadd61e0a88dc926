#include "issuer_form.h"

#include "dagward/token/base64.h"

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c = char_lower(c);
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undoes application/x-www-form-urlencoded. */
static bool decode(struct str text, struct arena *arena, struct str *out)
{
        char *bytes = arena_alloc(arena, text.len + 1);
        size_t n = 0;

        if (!bytes)
                return false;
        for (size_t i = 0; i < text.len; i++) {
                char c = text.ptr[i];
                if (c == '%') {
                        int high = i + 2 < text.len ? hex_digit(text.ptr[i + 1]) : -1;
                        int low = high >= 0 ? hex_digit(text.ptr[i + 2]) : -1;
                        if (low < 0)
                                return false;
                        bytes[n++] = (char)(high * 16 + low);
                        i += 2;
                } else {
                        bytes[n++] = c == '+' ? ' ' : c;
                }
        }
        *out = str_view(bytes, n);
        return str_utf8_valid(*out);
}

static bool read_member(struct issuer_form *form, struct str part, struct arena *arena)
{
        const struct {
                struct str name;
                struct str *to;
        } members[] = {
                {STR("grant_type"), &form->grant_type},
                {STR("client_id"), &form->client_id},
                {STR("client_secret"), &form->client_secret},
                {STR("client_assertion"), &form->client_assertion},
                {STR("audience"), &form->audience},
        };
        struct str head, name, value = str_cut(part, '=', &head);

        if (!decode(head, arena, &name))
                return false;
        for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
                if (str_eq(name, members[i].name))
                        return !members[i].to->ptr && decode(value, arena, members[i].to);
        return true;
}

/* The client's name and secret of Basic; form-encoded before they were joined. */
static bool read_basic(struct issuer_form *form, struct str authorization, struct arena *arena)
{
        struct str encoded = str_trim(str_from(authorization, 6)), head;
        char *bytes = arena_alloc(arena, BASE64_DECODED(encoded.len) + 1);
        ssize_t len = bytes ? base64_decode(encoded, bytes) : -1;

        if (len < 0)
                return false;
        struct str secret = str_cut(str_view(bytes, (size_t)len), ':', &head);
        return decode(head, arena, &form->client_id) && decode(secret, arena, &form->client_secret);
}

void issuer_form_read(
        struct issuer_form *form, struct str body, struct str authorization, struct arena *arena)
{
        bool good = true;

        *form = (struct issuer_form){0};
        while (good && body.len) {
                struct str part;
                body = str_cut(body, '&', &part);
                good = read_member(form, part, arena);
        }
        if (good && str_empty(form->client_id) && str_starts_fold(authorization, STR("Basic ")))
                good = read_basic(form, authorization, arena);
        form->whole = good;
}
