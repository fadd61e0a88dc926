#include <stdlib.h>

#include "dagward/token/base64.h"
#include "inside.h"

static json_t *part_of(struct str part)
{
        json_t *object = NULL;
        char *json = malloc(BASE64_DECODED(part.len) + 1);

        if (!json)
                abort();
        ssize_t len = part.len ? base64url_decode(part, json) : -1;
        if (len > 0)
                object = json_loadb(json, (size_t)len, 0, NULL);
        free(json);
        if (json_is_object(object))
                return object;
        json_decref(object);
        return NULL;
}

static void text_of(const json_t *object, const char *name, char *out, size_t size)
{
        const char *value = json_string_value(json_object_get(object, name));

        snprintf(out, size, "%s", value ? value : "");
}

/* `aud`: one, or several separated by blanks. */
static void audiences_of(const json_t *claims, char *out, size_t size)
{
        const json_t *aud = json_object_get(claims, "aud");
        struct buf text;

        buf_init_fixed(&text, out, size - 1);
        for (size_t i = 0; i < json_array_size(aud); i++) {
                const char *one = json_string_value(json_array_get(aud, i));
                if (one && text.len + strlen(one) + 3 < size)
                        buf_printf(&text, "%s%s", text.len ? " " : "", one);
        }
        if (json_is_string(aud))
                buf_printf(&text, "%.*s", (int)(size - 2), json_string_value(aud));
        out[text.len] = '\0';
}

void token_claims_read(struct str token, struct token_claims *out)
{
        struct str head, payload;
        struct str rest = str_cut(token, '.', &head);

        *out = (struct token_claims){.exp_s = INT64_MIN};
        rest = str_cut(rest, '.', &payload);
        if (!rest.ptr)
                return;
        json_t *header = part_of(head), *claims = part_of(payload);
        if (header && claims) {
                const json_t *exp = json_object_get(claims, "exp");
                out->jwt = true;
                text_of(header, "alg", out->alg, sizeof(out->alg));
                text_of(header, "kid", out->kid, sizeof(out->kid));
                text_of(claims, "iss", out->iss, sizeof(out->iss));
                text_of(claims, "sub", out->sub, sizeof(out->sub));
                text_of(claims, "tid", out->tid, sizeof(out->tid));
                text_of(claims, "ver", out->version, sizeof(out->version));
                audiences_of(claims, out->aud, sizeof(out->aud));
                if (json_is_number(exp) && json_number_value(exp) > 0 &&
                        json_number_value(exp) < 1e12)
                        out->exp_s = (int64_t)json_number_value(exp);
        }
        json_decref(header);
        json_decref(claims);
}
