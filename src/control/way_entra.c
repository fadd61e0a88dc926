/* Entra's token endpoint (OAuth 2 client credentials), with a secret or an assertion from a file.
 */
#include <stdlib.h>

#include "attempt.h"
#include "dagward/base/buf.h"
#include "dagward/base/clock.h"
#include "dagward/base/id.h"
#include "token_source.h"

enum { PROOF_MOST_BYTES = 64 * 1024 };

void entra_url(const struct config_credential *config, struct buf *url)
{
        buf_init(url, 8192);
        buf_str_add(url, config->authority.text);
        buf_char(url, '/');
        form_write(url, config->tenant);
        BUF_LITERAL(url, "/oauth2/v2.0/token");
        buf_char(url, '\0');
}

/* What the refusal is about, behind the advice. */
static void say_sent(const struct attempt *a, struct error *why)
{
        size_t len = strlen(why->text);
        const struct config_credential *c = a->config;

        if (a->sent[0])
                snprintf(why->text + len, sizeof(why->text) - len, "%s", a->sent);
        else
                snprintf(why->text + len, sizeof(why->text) - len,
                        "; sent was client_id \"%.80s\" to tenant \"%.80s\"", c->client_id.ptr,
                        c->tenant.ptr);
}

/* Reads the answer; true: a token, and the attempt is over. */
static bool answer_taken(
        struct attempt *a, const struct fetch_result *result, struct entra_answer *answer)
{
        *answer = (struct entra_answer){.verdict = ENTRA_RETRY};
        if (!result->answered) {
                answer->why = result->error;
                return false;
        }
        entra_answer_read(result->status, result->content_type, result->body,
                a->config->assertion_is_callers, answer);
        if (answer->verdict != ENTRA_TOKEN) {
                a->aadsts = answer->aadsts;
                if (answer->aadsts) {
                        const char *fact = entra_fact(answer->aadsts);
                        say_sent(a, &answer->why);
                        attempt_cause(a, "Microsoft Entra refused: AADSTS%lld%s%s%s",
                                (long long)answer->aadsts, fact[0] ? " (" : "", fact,
                                fact[0] ? ")" : "");
                }
                return false;
        }
        int64_t refresh_s = answer->refresh_in_s;
        bool said = refresh_s > 0 && refresh_s < answer->expires_in_s;
        attempt_token(a, secret_reveal(&answer->token), answer->expires_in_s * 1000,
                said ? refresh_s * 1000 : -1);
        secret_drop(&answer->token);
        return true;
}

static void on_answer(struct attempt *a, const struct fetch_result *result)
{
        struct entra_answer answer;

        if (answer_taken(a, result, &answer))
                return;
        attempt_fail_answer(a, answer.verdict == ENTRA_OPERATOR ? OUTCOME_OPERATOR : OUTCOME_RETRY,
                result, &answer.why);
}

/* Proof is a secret: all of its room at once, as a buffer that moved would leave it behind. */
static void body_write(const struct config_credential *config, enum entra_proof kind,
        struct str proof, struct str claims, struct buf *body)
{
        buf_init(body, 8192 + 3 * PROOF_MOST_BYTES);
        buf_reserve(body, body->ceiling);
        BUF_LITERAL(body, "grant_type=client_credentials&client_id=");
        form_write(body, config->client_id);
        BUF_LITERAL(body, "&scope=");
        form_write(body, config->scope);
        if (claims.len) {
                BUF_LITERAL(body, "&claims=");
                form_write(body, claims);
        }
        switch (kind) {
        case PROOF_ASSERTION:
                BUF_LITERAL(body, "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3A"
                                  "client-assertion-type%3Ajwt-bearer&client_assertion=");
                break;
        case PROOF_SECRET: BUF_LITERAL(body, "&client_secret="); break;
        }
        form_write(body, proof);
}

static void ask(struct attempt *a, enum entra_proof kind, struct str proof, attempt_answer *then)
{
        const struct config_credential *config = a->config;
        char id[ID_UUID_LEN + 1], id_line[64];
        const char *fields[] = {id_line, "return-client-request-id: true"};
        struct buf body, url;

        a->step = NULL; /* what goes wrong from here on is Entra's, and says so */
        a->asked = "Microsoft Entra";
        entra_url(config, &url);
        body_write(config, kind, proof, str_of(a->memory->claims), &body);
        a->memory->claims[0] = '\0';
        id_uuid7(clock_wall_ms(), id);
        snprintf(id_line, sizeof(id_line), "client-request-id: %s", id);
        struct fetch_request request = {
                .url = url.data,
                .body = buf_str(&body),
                .content_type = "application/x-www-form-urlencoded",
                .fields = fields,
                .n_fields = 2,
                .ca = config->ca.ptr,
                .allow_plain_loopback = !config->authority.https,
        };
        attempt_fetch(a, &request, then);
        secret_wipe(body.data, body.len);
        buf_clear(&body);
        buf_clear(&url);
}

void entra_ask(struct attempt *a, enum entra_proof kind, struct str proof)
{
        ask(a, kind, proof, on_answer);
}

static void on_answer_or(struct attempt *a, const struct fetch_result *result)
{
        struct entra_answer answer;

        if (answer_taken(a, result, &answer))
                return;
        if (answer.verdict == ENTRA_OPERATOR)
                a->on_refused(a, &answer.why);
        else
                attempt_fail_answer(a, OUTCOME_RETRY, result, &answer.why);
}

void entra_ask_or(
        struct attempt *a, enum entra_proof kind, struct str proof, attempt_refused *refused)
{
        a->on_refused = refused;
        ask(a, kind, proof, on_answer_or);
}

void way_client_secret(struct attempt *a)
{
        struct secret secret = {0};

        if (a->config->secret_from_environment) {
                struct str value = str_trim(str_of(getenv("AZURE_CLIENT_SECRET")));
                if (str_empty(value) || value.len > PROOF_MOST_BYTES) {
                        attempt_failf(a, OUTCOME_ABSENT, "AZURE_CLIENT_SECRET is not set");
                        return;
                }
                secret_set(&secret, value);
        } else if (!attempt_read(a, a->config->secret_file, &secret)) {
                return;
        }
        entra_ask(a, PROOF_SECRET, secret_reveal(&secret));
        secret_drop(&secret);
}

/* --- federated --- */

/* What an issuer gave may have become useless before its end: its keys have changed, say. */
static void on_assertion_refused(struct attempt *a, const struct error *why)
{
        if (a->other)
                token_source_reject(a->other);
        attempt_fail(a, OUTCOME_OPERATOR, why);
}

static void send_assertion(struct attempt *a, struct str assertion, const char *from)
{
        int64_t expires_s = attempt_jwt_expires_s(assertion);
        int64_t ago_s = clock_wall_ms() / 1000 - expires_s;

        if (expires_s != INT64_MAX && ago_s >= 0) {
                attempt_cause(a, "the assertion that it is obtained with has expired");
                attempt_failf(a, OUTCOME_RETRY,
                        "the assertion in %s has expired %lld s ago: is it still being renewed, "
                        "and is the clock right?",
                        from, (long long)ago_s);
                return;
        }
        attempt_describe(assertion, a->sent, sizeof(a->sent));
        entra_ask_or(a, PROOF_ASSERTION, assertion, on_assertion_refused);
}

/* The other source's token: an issuer's, for us as its client. */
static void on_assertion(struct attempt *a)
{
        struct secret assertion = {0};

        secret_set(&assertion, token_source_token(a->other));
        send_assertion(a, secret_reveal(&assertion), a->config->assertion.token_endpoint.text.ptr);
        secret_drop(&assertion);
}

void way_federated(struct attempt *a)
{
        struct secret assertion = {0};

        if (a->config->assertion_is_callers) {
                assertion = a->kept;
                a->kept = (struct secret){0};
                send_assertion(a, secret_reveal(&assertion), "the request");
                secret_drop(&assertion);
                return;
        }
        if (a->config->has_assertion) {
                attempt_need(a, "assertion", on_assertion);
                return;
        }
        if (!attempt_read(a, a->config->assertion_file, &assertion))
                return;
        send_assertion(a, secret_reveal(&assertion), a->config->assertion_file.ptr);
        secret_drop(&assertion);
}
