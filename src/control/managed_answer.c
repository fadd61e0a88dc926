#include "managed_answer.h"

#include "dagward/base/clock.h"

enum { EXPIRES_MOST_S = 10 * 365 * 24 * 3600 };

/* `expires_in`, or `expires_on` as Unix time or in RFC 3339, whatever this host writes. */
static int64_t life_of(const json_t *root, int64_t now_s)
{
        const json_t *on = json_object_get(root, "expires_on");
        int64_t life = answer_seconds(json_object_get(root, "expires_in"));
        int64_t at = answer_seconds(on), at_ms;

        if (life >= 0)
                return life;
        if (at < 0 && json_is_string(on) && clock_parse(str_of(json_string_value(on)), &at_ms))
                at = at_ms / 1000;
        return at < 0 ? -1 : at - now_s;
}

static void text_of(const json_t *value, char *out, size_t size)
{
        snprintf(out, size, "%s", json_is_string(value) ? json_string_value(value) : "");
}

static void token_read(json_t *root, int64_t now_s, struct managed_answer *out)
{
        int64_t life = life_of(root, now_s);

        if (!answer_token(root, "the identity endpoint", &out->token, &out->why))
                return;
        if (life <= 0) {
                secret_drop(&out->token);
                error_set(&out->why, "the identity endpoint's answer has no usable expires_in");
                return;
        }
        out->verdict = ENTRA_TOKEN;
        out->expires_in_s = life < EXPIRES_MOST_S ? life : EXPIRES_MOST_S;
        out->refresh_in_s = answer_seconds(json_object_get(root, "refresh_in"));
        answer_word(json_object_get(root, "client_id"), out->client_id);
        answer_word(json_object_get(root, "object_id"), out->object_id);
        text_of(json_object_get(root, "msi_res_id"), out->resource_id, sizeof(out->resource_id));
}

static const char *remedy(int status, struct str word)
{
        if (str_eq(word, STR("unknown_source")))
                return "it was not asked from the machine itself: check the container's network";
        if (str_eq(word, STR("invalid_resource")))
                return "the resource is not known: check `scope`";
        if (str_eq(word, STR("unauthorized_client")))
                return "the identity is not known: check `client_id`, `object_id` or `resource_id`";
        switch (status) {
        case 400:
                return "no identity is assigned to this host, or not the one that is named, or "
                       "there are several and none is named";
        case 401: return "the host does not know us: check IDENTITY_HEADER, or the agent's group";
        case 403: return "a proxy answered: the identity endpoint must be reached directly";
        case 404: return "the identity is being set up, or there is none; it is tried again";
        case 410: return "the metadata service is being updated; it is tried again";
        case 429: return "it is throttled and tried again";
        default: return status >= 500 ? "it has trouble and is tried again" : "this is no answer";
        }
}

static void error_read(int status, const json_t *root, struct managed_answer *out)
{
        char word[ANSWER_WORD];

        answer_word(json_object_get(root, "error"), word);
        bool passes = status == 404 || status == 410 || status == 429 || status >= 500;
        out->verdict = passes ? ENTRA_RETRY : ENTRA_OPERATOR;
        error_set(&out->why, "the identity endpoint answered %d%s%s: %s", status,
                word[0] ? " " : "", word, remedy(status, str_of(word)));
}

void managed_answer_read(int status, struct str content_type, struct str body, int64_t now_s,
        struct managed_answer *out)
{
        json_error_t where;
        json_t *root = json_loadb(body.ptr ? body.ptr : "", body.len, 0, &where);

        *out = (struct managed_answer){.verdict = ENTRA_RETRY, .refresh_in_s = -1};
        if (status != 200)
                error_read(status, root, out);
        else if (json_is_object(root))
                token_read(root, now_s, out);
        else
                error_set(&out->why, "the identity endpoint answered 200 with %s",
                        str_starts_fold(content_type, STR("text/html"))
                                ? "an HTML page: is a proxy of the network in between?"
                                : "something that is not a JSON object");
        json_decref(root);
}
