/* An assertion of our own, signed with the key of a certificate (RFC 7523 2.2): here, or by a key
 * vault that never gives the key away. */
#include "attempt.h"
#include "dagward/base/buf.h"
#include "dagward/base/clock.h"
#include "dagward/base/id.h"
#include "dagward/token/base64.h"
#include "dagward/token/x5t.h"
#include "dagward/token/mint.h"
#include "token_source.h"
#include "vault_answer.h"

enum { ASSERTION_S = 600, EARLIER_S = 60, PATH = 320, CLAIMS = 12 * 1024 };

static enum token_alg alg_of(const struct attempt *a)
{
        switch (a->config->algorithm) {
        case SIGNATURE_PS256: return TOKEN_PS256;
        case SIGNATURE_RS256: return TOKEN_RS256;
        }
        return TOKEN_PS256;
}

static struct pair header_of(const struct attempt *a, const struct x5t *certificate)
{
        return alg_of(a) == TOKEN_PS256
                       ? (struct pair){STR("x5t#S256"), str_of(certificate->sha256)}
                       : (struct pair){STR("x5t"), str_of(certificate->sha1)};
}

/* Valid from a minute ago, so that a clock that is a little ahead does no harm. */
static void claims_write(const struct attempt *a, struct buf *out)
{
        int64_t now_ms = clock_wall_ms(), now = now_ms / 1000;
        char id[ID_UUID_LEN + 1];
        struct buf url;

        entra_url(a->config, &url);
        id_uuid7(now_ms, id);
        buf_init(out, CLAIMS);
        BUF_LITERAL(out, "{\"aud\":");
        buf_json_str(out, str_of(url.data));
        BUF_LITERAL(out, ",\"iss\":");
        buf_json_str(out, a->config->client_id);
        BUF_LITERAL(out, ",\"sub\":");
        buf_json_str(out, a->config->client_id);
        buf_printf(out, ",\"jti\":\"%s\",\"nbf\":%lld,\"iat\":%lld,\"exp\":%lld}", id,
                (long long)(now - EARLIER_S), (long long)now, (long long)(now + ASSERTION_S));
        buf_clear(&url);
}

/* Notes the certificate for messages; false when the attempt has ended because it is of no use. */
static bool certificate_fits(struct attempt *a, const struct x5t *certificate)
{
        int64_t now = clock_wall_ms() / 1000;
        char day[CLOCK_RFC3339_LEN + 1];

        a->memory->proof_until_s = certificate->not_after_s;
        snprintf(a->sent, sizeof(a->sent),
                "; sent was client_id \"%.80s\" with the certificate of SHA-256 thumbprint %s",
                a->config->client_id.ptr, certificate->hex);
        if (certificate->not_after_s > now &&
                (certificate->algorithms & TOKEN_ALG_BIT(alg_of(a))) != 0)
                return true;
        clock_rfc3339(certificate->not_after_s * 1000, day);
        if (certificate->not_after_s <= now)
                attempt_failf(a, OUTCOME_OPERATOR,
                        "the certificate %.16s... ended at %s: make a new one and upload it",
                        certificate->hex, day);
        else
                attempt_failf(a, OUTCOME_OPERATOR,
                        "the certificate's key is not RSA, and Entra takes no other");
        return false;
}

/* --- the key is in a file --- */

static bool read_pair(struct attempt *a, struct x5t *certificate, struct mint_key **key)
{
        const struct config_credential *c = a->config;
        struct str key_path = c->key_file.ptr ? c->key_file : c->certificate_file;
        struct secret pem = {0}, key_pem = {0};
        struct error err;

        *key = NULL;
        if (!attempt_read(a, c->certificate_file, &pem))
                return false;
        if (!attempt_read(a, key_path, &key_pem)) {
                secret_drop(&pem);
                return false;
        }
        bool good = x5t_read_pem(secret_reveal(&pem), certificate, &err);
        if (!good)
                error_wrap(&err, "%s", c->certificate_file.ptr);
        if (good) {
                *key = mint_key_from_pem(secret_reveal(&key_pem), STR_NONE, &err);
                good = *key || error_wrap(&err, "%s", key_path.ptr);
        }
        if (good && !str_eq(mint_key_kid(*key), str_of(certificate->key_id)))
                good = error_set(&err, "%s is not the key of the certificate in %s", key_path.ptr,
                        c->certificate_file.ptr);
        secret_drop(&pem);
        secret_drop(&key_pem);
        if (good)
                return true;
        mint_key_free(*key);
        /* Perhaps one of the two has been renewed and the other is about to be. */
        attempt_fail(a, OUTCOME_RETRY, &err);
        return false;
}

static void sign_here(struct attempt *a)
{
        struct x5t certificate;
        struct secret assertion = {0};
        struct mint_key *key;
        struct buf claims;
        struct error err;

        if (!read_pair(a, &certificate, &key))
                return;
        if (!certificate_fits(a, &certificate)) {
                mint_key_free(key);
                return;
        }
        struct pair header[] = {header_of(a, &certificate), {STR("kid"), STR("")}};
        claims_write(a, &claims);
        bool good = mint_sign(key, alg_of(a), header, 2, buf_str(&claims), &assertion, &err);
        mint_key_free(key);
        buf_clear(&claims);
        if (good)
                entra_ask(a, PROOF_ASSERTION, secret_reveal(&assertion));
        else
                attempt_fail(a, OUTCOME_OPERATOR, &err);
        secret_drop(&assertion);
}

/* --- the key is in a vault --- */

/* `/keys/NAME/VERSION`, or of another kind; VERSION as configured, or as the vault said. */
static void path_of(const struct attempt *a, const char *kind, bool versioned, char out[PATH])
{
        struct str name, version = str_cut(str_from(a->config->key_vault_key.path, 6), '/', &name);

        if (!version.ptr && versioned)
                version = str_of(a->version);
        snprintf(out, PATH, "/%s/%.*s%s%.*s", kind, STR_FMT(name), version.len ? "/" : "",
                STR_FMT(version.ptr ? version : STR("")));
}

static void on_signature(struct attempt *a, const struct fetch_result *result)
{
        struct vault_answer answer;
        struct buf assertion;

        if (!vault_answered(a, VAULT_SIGNATURE, result, &answer))
                return;
        buf_init(&assertion, 64 * 1024);
        buf_str_add(&assertion, secret_reveal(&a->kept));
        buf_char(&assertion, '.');
        buf_str_add(&assertion, secret_reveal(&answer.value));
        entra_ask(a, PROOF_ASSERTION, buf_str(&assertion));
        secret_wipe(assertion.data, assertion.len);
        buf_clear(&assertion);
        secret_drop(&answer.value);
}

static void sign_there(struct attempt *a, const struct x5t *certificate)
{
        struct pair header = header_of(a, certificate);
        unsigned char digest[MINT_DIGEST_BYTES];
        struct buf claims, input, body;
        char path[PATH + 8];
        struct error err;

        if (!certificate_fits(a, certificate))
                return;
        claims_write(a, &claims);
        buf_init(&input, 64 * 1024);
        bool good = mint_signing_input(alg_of(a), &header, 1, buf_str(&claims), &input, &err);
        buf_clear(&claims);
        if (!good) {
                buf_clear(&input);
                attempt_fail(a, OUTCOME_OPERATOR, &err);
                return;
        }
        secret_drop(&a->kept);
        secret_set(&a->kept, buf_str(&input));
        mint_signing_digest(buf_str(&input), digest);
        buf_clear(&input);
        buf_init(&body, 512);
        buf_printf(&body, "{\"alg\":\"%s\",\"value\":\"", token_alg_name(alg_of(a)));
        base64url_write(&body, digest, sizeof(digest));
        BUF_LITERAL(&body, "\"}");
        path_of(a, "keys", true, path);
        strcat(path, "/sign");
        vault_ask(a, &a->config->key_vault_key, path, buf_str(&body), on_signature);
        buf_clear(&body);
}

static void on_certificate(struct attempt *a, const struct fetch_result *result)
{
        struct x5t certificate;
        struct vault_answer answer;
        struct error err;

        if (!vault_answered(a, VAULT_CERTIFICATE, result, &answer))
                return;
        snprintf(a->version, sizeof(a->version), "%s", answer.version);
        bool good = x5t_read_der(secret_reveal(&answer.value), &certificate, &err);
        secret_drop(&answer.value);
        if (good)
                sign_there(a, &certificate);
        else
                attempt_fail(a, OUTCOME_OPERATOR, &err);
}

static void sign_with_file(struct attempt *a)
{
        struct x5t certificate;
        struct secret pem = {0};
        struct error err;

        if (!attempt_read(a, a->config->certificate_file, &pem))
                return;
        bool good = x5t_read_pem(secret_reveal(&pem), &certificate, &err);
        secret_drop(&pem);
        if (good) {
                sign_there(a, &certificate);
        } else {
                error_wrap(&err, "%s", a->config->certificate_file.ptr);
                attempt_fail(a, OUTCOME_OPERATOR, &err);
        }
}

static void on_key(struct attempt *a, const struct fetch_result *result)
{
        struct vault_answer answer;

        if (!vault_answered(a, VAULT_KEY, result, &answer))
                return;
        snprintf(a->version, sizeof(a->version), "%s", answer.version);
        sign_with_file(a);
}

static void on_vault_token(struct attempt *a)
{
        const struct config_url *url = &a->config->key_vault_key;
        char path[PATH];

        if (!a->config->certificate_file.ptr) {
                path_of(a, "certificates", false, path);
                vault_ask(a, url, path, STR_NONE, on_certificate);
        } else if (str_find(str_from(url->path, 6), '/') < 0) {
                path_of(a, "keys", false, path);
                vault_ask(a, url, path, STR_NONE, on_key);
        } else {
                sign_with_file(a);
        }
}

void way_certificate(struct attempt *a)
{
        if (a->config->key_vault_key.text.ptr)
                attempt_need(a, "token for the key vault", on_vault_token);
        else
                sign_here(a);
}
