/* The assertion of a federated credential, as a token that another issuer gives its client (RFC
 * 6749 4.4, with the secret in Basic, which every issuer has to take: 2.3.1). */
#include "attempt.h"
#include "dagward/base/buf.h"
#include "dagward/base/clock.h"
#include "dagward/token/base64.h"

enum { SECRET_ROOM = 3 * 64 * 1024 + 8192 };

/* "Authorization: Basic " and what belongs behind it. */
static void authorization(
        const struct config_assertion *config, struct str secret, struct secret *out)
{
        struct buf plain, line;

        buf_init(&plain, SECRET_ROOM);
        buf_reserve(&plain, plain.ceiling);
        form_write(&plain, config->client_id);
        buf_char(&plain, ':');
        form_write(&plain, secret);
        buf_init(&line, 2 * SECRET_ROOM);
        buf_reserve(&line, line.ceiling);
        BUF_LITERAL(&line, "Authorization: Basic ");
        base64_write(&line, plain.data, plain.len);
        secret_set(out, buf_str(&line));
        secret_wipe(plain.data, plain.len);
        secret_wipe(line.data, line.len);
        buf_clear(&plain);
        buf_clear(&line);
}

static void parameter(struct buf *body, const char *name, struct str value)
{
        if (!value.ptr)
                return;
        buf_printf(body, "&%s=", name);
        form_write(body, value);
}

static void on_answer(struct attempt *a, const struct fetch_result *result)
{
        struct entra_answer answer = {.verdict = ENTRA_RETRY};

        if (!result->answered) {
                attempt_fail(a, OUTCOME_RETRY, &result->error);
                return;
        }
        entra_answer_read(result->status, result->content_type, result->body, false, &answer);
        if (answer.verdict == ENTRA_TOKEN) {
                /* What it says of itself counts as well: Entra will look at that. */
                int64_t expires_s = attempt_jwt_expires_s(secret_reveal(&answer.token));
                int64_t life_ms = answer.expires_in_s * 1000;
                if (expires_s != INT64_MAX && expires_s * 1000 - clock_wall_ms() < life_ms)
                        life_ms = expires_s * 1000 - clock_wall_ms();
                if (life_ms > 0)
                        attempt_token(a, secret_reveal(&answer.token), life_ms, -1);
                else
                        attempt_failf(a, OUTCOME_RETRY,
                                "what the issuer gave has expired: is the clock right?");
        } else {
                attempt_fail_answer(a,
                        answer.verdict == ENTRA_OPERATOR ? OUTCOME_OPERATOR : OUTCOME_RETRY, result,
                        &answer.why);
        }
        secret_drop(&answer.token);
}

void way_assertion(struct attempt *a)
{
        const struct config_assertion *config = &a->config->assertion;
        struct secret secret = {0}, field = {0};
        struct buf body;

        a->step = config->token_endpoint.text.ptr;
        if (!attempt_read(a, config->secret_file, &secret))
                return;
        buf_init(&body, 16384);
        BUF_LITERAL(&body, "grant_type=client_credentials");
        parameter(&body, "scope", config->scope);
        parameter(&body, "audience", config->audience);
        parameter(&body, "resource", config->resource);
        authorization(config, secret_reveal(&secret), &field);
        struct fetch_request request = {
                .url = config->token_endpoint.text.ptr,
                .body = buf_str(&body),
                .content_type = "application/x-www-form-urlencoded",
                .secret_field = &field,
                .ca = config->ca.ptr,
                .allow_plain_loopback = !config->token_endpoint.https,
        };
        a->asked = "the issuer of the assertion";
        attempt_fetch(a, &request, on_answer);
        secret_drop(&field);
        secret_drop(&secret);
        buf_clear(&body);
}
