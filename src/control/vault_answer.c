#include "vault_answer.h"

#include <jansson.h>
#include <stdlib.h>

#include "dagward/token/base64.h"
#include "entra_answer.h"

/* The last segment of an identifier (`https://VAULT/secrets/NAME/VERSION`), if it is one. */
static void version_of(const json_t *id, char out[VAULT_VERSION])
{
        struct str rest = str_of(json_string_value(id));
        size_t segments = 0;

        out[0] = '\0';
        while (rest.ptr) {
                struct str segment;
                rest = str_cut(rest, '/', &segment);
                /* https: (nothing) host kind name version */
                if (++segments != 6 || rest.ptr || segment.len >= VAULT_VERSION)
                        continue;
                for (size_t i = 0; i < segment.len; i++) {
                        char c = char_lower(segment.ptr[i]);
                        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
                                return;
                }
                memcpy(out, segment.ptr, segment.len);
                out[segment.len] = '\0';
        }
}

/* Takes a string that may be secret out of the tree. */
static bool take(json_t *value, struct secret *out)
{
        if (!json_is_string(value) || json_string_length(value) == 0)
                return false;
        secret_set(out, str_view(json_string_value(value), json_string_length(value)));
        secret_wipe((void *)json_string_value(value), json_string_length(value));
        return true;
}

static bool read_secret(json_t *root, struct vault_answer *out)
{
        if (!take(json_object_get(root, "value"), &out->value))
                return error_set(&out->why, "the answer has no value");
        /* as from a file: no blanks at its ends */
        struct str trimmed = str_trim(secret_reveal(&out->value));
        if (trimmed.len == 0)
                return error_set(&out->why, "the secret is empty");
        if (trimmed.len != out->value.len) {
                struct secret whole = out->value;
                secret_set(&out->value, trimmed);
                secret_drop(&whole);
        }
        version_of(json_object_get(root, "id"), out->version);
        return true;
}

static bool read_certificate(json_t *root, struct vault_answer *out)
{
        const json_t *cer = json_object_get(root, "cer");
        struct str text = str_of(json_string_value(cer));

        version_of(json_object_get(root, "kid"), out->version);
        if (!text.len || !out->version[0])
                return error_set(&out->why, "the answer has no certificate with a key");
        char *der = malloc(BASE64_DECODED(text.len) + 1);
        if (!der)
                abort();
        ssize_t len = base64_decode(text, der);
        secret_set(&out->value, str_view(der, len > 0 ? (size_t)len : 0));
        free(der);
        return len > 0 || error_set(&out->why, "the certificate is not base64");
}

static bool read_key(json_t *root, struct vault_answer *out)
{
        version_of(json_object_get(json_object_get(root, "key"), "kid"), out->version);
        return out->version[0] || error_set(&out->why, "the answer names no version of the key");
}

static bool read_signature(json_t *root, struct vault_answer *out)
{
        char bytes[1024];

        if (!take(json_object_get(root, "value"), &out->value))
                return error_set(&out->why, "the answer has no signature");
        if (BASE64_DECODED(out->value.len) > sizeof(bytes) ||
                base64url_decode(secret_reveal(&out->value), bytes) <= 0)
                return error_set(&out->why, "the signature is not base64url");
        return true;
}

static void read_good(enum vault_kind kind, json_t *root, struct vault_answer *out)
{
        int64_t exp = answer_seconds(json_object_get(json_object_get(root, "attributes"), "exp"));
        bool good = false;

        switch (kind) {
        case VAULT_SECRET: good = read_secret(root, out); break;
        case VAULT_CERTIFICATE: good = read_certificate(root, out); break;
        case VAULT_KEY: good = read_key(root, out); break;
        case VAULT_SIGNATURE: good = read_signature(root, out); break;
        }
        out->until_s = exp > 0 && exp < INT64_C(1000000000000) ? exp : 0;
        out->verdict = good ? VAULT_GOOD : VAULT_RETRY;
        if (!good)
                secret_drop(&out->value);
}

static const char *forbidden(enum vault_kind kind, struct str inner)
{
        if (str_eq_fold(inner, STR("ForbiddenByFirewall")) ||
                str_eq_fold(inner, STR("ForbiddenByConnection")))
                return "the vault's firewall does not let this machine in";
        if (str_eq_fold(inner, STR("SecretDisabled")) || str_eq_fold(inner, STR("KeyDisabled")))
                return "it is disabled: enable it, or name another version";
        switch (kind) {
        case VAULT_SECRET: return "give `vault_credential` the role Key Vault Secrets User";
        case VAULT_CERTIFICATE:
                return "give `vault_credential` the role Key Vault Certificate User, or set "
                       "`certificate_file`";
        case VAULT_KEY:
        case VAULT_SIGNATURE: return "give `vault_credential` the role Key Vault Crypto User";
        }
        abort();
}

static const char *remedy(enum vault_kind kind, int status, struct str inner)
{
        switch (status) {
        case 401: return "it does not accept the token of `vault_credential`";
        case 403: return forbidden(kind, inner);
        case 404: return "there is nothing of that name and version";
        case 429: return "it is throttled and tried again";
        default: return status >= 500 ? "it has trouble and is tried again" : "see the vault's log";
        }
}

static void read_error(enum vault_kind kind, int status, json_t *root, struct vault_answer *out)
{
        const json_t *error = json_object_get(root, "error");
        char code[ANSWER_WORD], inner[ANSWER_WORD];

        answer_word(json_object_get(error, "code"), code);
        answer_word(json_object_get(json_object_get(error, "innererror"), "code"), inner);
        if (status == 401)
                out->verdict = VAULT_REJECTED;
        else if ((status == 404 && str_eq_fold(str_of(code), STR("SecretNotFound"))) ||
                 (status == 403 && str_eq_fold(str_of(inner), STR("SecretDisabled"))))
                out->verdict = VAULT_GONE;
        else
                out->verdict = status == 429 || status >= 500 ? VAULT_RETRY : VAULT_OPERATOR;
        error_set(&out->why, "status %d%s%s%s%s: %s", status, code[0] ? " " : "", code,
                inner[0] ? " " : "", inner, remedy(kind, status, str_of(inner)));
}

void vault_answer_read(enum vault_kind kind, int status, struct str content_type, struct str body,
        struct vault_answer *out)
{
        json_error_t where;
        json_t *root = json_loadb(body.ptr ? body.ptr : "", body.len, 0, &where);

        *out = (struct vault_answer){.verdict = VAULT_RETRY};
        if (status == 200 && json_is_object(root))
                read_good(kind, root, out);
        else if (status == 200)
                error_set(&out->why, "status 200 with %s: is a proxy of the network in between?",
                        str_starts_fold(content_type, STR("text/html"))
                                ? "an HTML page"
                                : "something that is not a JSON object");
        else
                read_error(kind, status, root, out);
        json_decref(root);
}
