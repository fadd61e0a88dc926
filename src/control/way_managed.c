/* The identity that Azure gives a machine, an app or an Arc server: asked for on the host itself,
 * without a secret that somebody would have to keep. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attempt.h"
#include "challenge.h"
#include "dagward/base/buf.h"
#include "dagward/base/clock.h"
#include "managed_answer.h"

enum { CONNECT_MS = 2000, ARC_KEY_MOST_BYTES = 4096 };

static const char arc_agent[] = "/opt/azcmagent/bin/himds";

/* What tells the three hosts apart. */
struct host {
        const char *base, *path, *api_version, *resource_id_name;
        const char *field; /* NULL: none */
};

static const struct host hosts[] = {
        [IDENTITY_IMDS] = {"http://169.254.169.254", "/metadata/identity/oauth2/token",
                "2018-02-01", "msi_res_id", "Metadata: true"},
        [IDENTITY_APP_SERVICE] = {"http://127.0.0.1", "/msi/token", "2019-08-01", "mi_res_id",
                NULL},
        [IDENTITY_ARC] = {"http://127.0.0.1:40342", "/metadata/identity/oauth2/token", "2020-06-01",
                "msi_res_id", "Metadata: true"},
};

static enum config_identity_source source_of(const struct attempt *a)
{
        if (a->config->source != IDENTITY_AUTO)
                return a->config->source;
        return access(arc_agent, X_OK) == 0 ? IDENTITY_ARC : IDENTITY_IMDS;
}

static void parameter(struct buf *url, const char *name, struct str value)
{
        if (!value.ptr)
                return;
        buf_printf(url, "&%s=", name);
        form_write(url, value);
}

static void url_write(const struct attempt *a, const struct host *host, struct buf *url)
{
        const struct config_credential *c = a->config;
        /* The resource itself, without what makes it a scope. */
        struct str resource = str_head(c->scope, c->scope.len - (sizeof("/.default") - 1));

        buf_init(url, 8192);
        if (c->endpoint.text.ptr)
                buf_str_add(url, c->endpoint.text);
        else
                buf_printf(url, "%s", host->base);
        if (!c->endpoint.path.len)
                buf_printf(url, "%s", host->path);
        buf_printf(url, "?api-version=%s", host->api_version);
        parameter(url, "resource", resource);
        parameter(url, "client_id", c->client_id);
        parameter(url, "object_id", c->object_id);
        parameter(url, host->resource_id_name, c->resource_id);
        buf_char(url, '\0');
}

static void ask(struct attempt *a, const struct secret *field, attempt_answer *then)
{
        const struct host *host = &hosts[source_of(a)];
        struct buf url;

        url_write(a, host, &url);
        a->asked = "the identity endpoint";
        struct fetch_request request = {
                .url = url.data,
                .secret_field = field,
                .fields = &host->field,
                .n_fields = host->field != NULL,
                .connect_ms = CONNECT_MS,
                .allow_plain_loopback = true,
                .allow_plain_link_local = true,
                .no_egress = true,
        };
        attempt_fetch(a, &request, then);
        buf_clear(&url);
}

/* An agent that does not know the parameter gives the machine's own identity without a word. */
static bool is_asked_one(const struct attempt *a, const struct managed_answer *answer)
{
        const struct config_credential *c = a->config;

        if (source_of(a) != IDENTITY_ARC)
                return true;
        return (!c->client_id.ptr || str_eq_fold(c->client_id, str_of(answer->client_id))) &&
               (!c->object_id.ptr || str_eq_fold(c->object_id, str_of(answer->object_id))) &&
               (!c->resource_id.ptr || str_eq_fold(c->resource_id, str_of(answer->resource_id)));
}

static void on_answer(struct attempt *a, const struct fetch_result *result)
{
        struct managed_answer answer;

        if (!result->answered) {
                /* Nobody there: it is another kind of host, or its network hides it. */
                attempt_failf(a, OUTCOME_ABSENT, "the identity endpoint does not answer: %s",
                        result->error.text);
                return;
        }
        managed_answer_read(result->status, result->content_type, result->body,
                clock_wall_ms() / 1000, &answer);
        if (answer.verdict == ENTRA_TOKEN && is_asked_one(a, &answer)) {
                bool said = answer.refresh_in_s > 0 && answer.refresh_in_s < answer.expires_in_s;
                attempt_token(a, secret_reveal(&answer.token), answer.expires_in_s * 1000,
                        said ? answer.refresh_in_s * 1000 : -1);
        } else if (answer.verdict == ENTRA_TOKEN) {
                attempt_failf(a, OUTCOME_OPERATOR,
                        "the agent gave the token of another identity: update it, as it does not "
                        "know user-assigned ones");
        } else {
                attempt_fail_answer(a,
                        answer.verdict == ENTRA_OPERATOR ? OUTCOME_OPERATOR : OUTCOME_RETRY, result,
                        &answer.why);
        }
        secret_drop(&answer.token);
}

static void ask_app_service(struct attempt *a)
{
        const char *value = getenv("IDENTITY_HEADER");
        struct secret field = {0};
        struct buf line;

        if (!value || !value[0] || strpbrk(value, "\r\n")) {
                attempt_failf(a, OUTCOME_ABSENT, "IDENTITY_HEADER is not set");
                return;
        }
        buf_init(&line, 16 * 1024);
        buf_reserve(&line, line.ceiling);
        buf_printf(&line, "X-IDENTITY-HEADER: %s", value);
        secret_set(&field, buf_str(&line));
        secret_wipe(line.data, line.len);
        buf_clear(&line);
        ask(a, &field, on_answer);
        secret_drop(&field);
}

/* --- Azure Arc: shows that we may read a file of the agent's --- */

static bool read_key(struct attempt *a, const char *path, struct secret *key)
{
        struct stat status;
        struct error err;

        if (!challenge_arc_path(str_of(path)))
                attempt_failf(a, OUTCOME_OPERATOR,
                        "the agent names a file that is not one of its keys: nothing was read");
        else if (lstat(path, &status) == 0 && !S_ISREG(status.st_mode))
                attempt_failf(a, OUTCOME_OPERATOR, "the agent's key is not a regular file");
        else if (secret_read(key, path, ARC_KEY_MOST_BYTES, &err))
                return true;
        else
                attempt_failf(a, OUTCOME_RETRY, "%s: may we read it (group himds)?", err.text);
        return false;
}

static void on_challenge(struct attempt *a, const struct fetch_result *result)
{
        struct secret key = {0}, field = {0};
        char path[256];
        struct buf line;

        if (!result->answered || result->status != 401) {
                on_answer(a, result);
                return;
        }
        if (!challenge_param(result->challenge, STR("Basic"), STR("realm"), path, sizeof(path))) {
                attempt_failf(a, OUTCOME_RETRY, "the agent's challenge names no file");
                return;
        }
        if (!read_key(a, path, &key))
                return;
        buf_init(&line, ARC_KEY_MOST_BYTES + 64);
        buf_reserve(&line, line.ceiling);
        BUF_LITERAL(&line, "Authorization: Basic ");
        buf_str_add(&line, secret_reveal(&key));
        bool one_line = str_find(buf_str(&line), '\n') < 0 && str_find(buf_str(&line), '\r') < 0 &&
                        str_find(buf_str(&line), '\0') < 0;
        secret_set(&field, buf_str(&line));
        secret_wipe(line.data, line.len);
        buf_clear(&line);
        if (one_line)
                ask(a, &field, on_answer);
        else
                attempt_failf(a, OUTCOME_RETRY, "the agent's key is not one line");
        secret_drop(&field);
        secret_drop(&key);
}

void way_managed_identity(struct attempt *a)
{
        switch (source_of(a)) {
        case IDENTITY_APP_SERVICE: ask_app_service(a); break;
        case IDENTITY_ARC: ask(a, NULL, on_challenge); break;
        case IDENTITY_AUTO:
        case IDENTITY_IMDS: ask(a, NULL, on_answer); break;
        }
}
