#include <stdlib.h>
#include <string.h>

#include "dagward/base/clock.h"
#include "inside.h"

static void keep_text(char *out, size_t size, struct str text)
{
        snprintf(out, size, "%.*s", (int)(text.len < size ? text.len : size - 1),
                text.ptr ? text.ptr : "");
}

/* One of the fields that stand in every answer of Azure DevOps, of whatever status. */
static bool is_azure(const struct fetch_result *result)
{
        static const char *const names[] = {
                "ActivityId", "X-TFS-ProcessId", "X-TFS-FedAuthRealm", "X-VSS-E2EID"};

        for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
                if (fetch_field(result, names[i]).ptr)
                        return true;
        }
        return false;
}

/* The token, without the field's name and its scheme. */
static void keep_sent(struct ask_once *ask, const struct ask_settings *settings)
{
        const struct secret *from = settings->bearer && settings->bearer->len
                                            ? settings->bearer
                                            : settings->secret_field;

        if (!from || !from->len)
                return;
        struct str token = str_trim(secret_reveal(from));
        for (ssize_t blank; (blank = str_find(token, ' ')) >= 0;)
                token = str_from(token, (size_t)blank + 1);
        if (token.len)
                secret_set(&ask->sent, token);
}

/* Words of an answer are shown to whoever reads, and pasted into tickets: one that says the token
 * back (a server for debugging, an enemy) has none. */
static bool says_it_back(const struct ask_once *ask, const struct fetch_result *result)
{
        struct str token = secret_reveal(&ask->sent);

        if (!ask->sent.len)
                return false;
        if (str_find_str(result->body, token) >= 0 ||
                str_find_str(result->content_type, token) >= 0 ||
                str_find_str(fetch_field(result, "Location"), token) >= 0)
                return true;
        /* JSON has other spellings. */
        char *plain = ask->json ? json_dumps(ask->json, JSON_COMPACT) : NULL;
        bool said = plain && str_find_str(str_of(plain), token) >= 0;
        if (plain)
                secret_wipe(plain, strlen(plain));
        free(plain);
        return said;
}

static void forget_answer(struct ask_once *ask)
{
        json_decref(ask->json);
        ask->json = NULL;
        ask->seen = (struct http_seen){
                .url = ask->url, .tried = true, .date_ms = -1, .at_ms = ask->seen.at_ms};
        keep_text(ask->seen.error, sizeof(ask->seen.error),
                STR("the answer says the token back that was sent; none of it is shown"));
}

static void on_answer(const struct fetch_result *result, void *arg)
{
        struct ask_once *ask = arg;
        struct http_seen *seen = &ask->seen;
        struct str body = str_trim(result->body);

        ask->fetch = NULL;
        seen->answered = result->answered;
        seen->at_ms = clock_wall_ms();
        seen->date_ms = result->date_ms;
        if (result->answered) {
                seen->status = result->status;
                keep_text(seen->type, sizeof(seen->type), result->content_type);
                keep_text(seen->location, sizeof(seen->location), fetch_field(result, "Location"));
                seen->html = str_starts_fold(result->content_type, STR("text/html")) ||
                             (body.len && body.ptr[0] == '<');
                seen->azure = is_azure(result);
                json_error_t where;
                ask->json = json_loadb(body.ptr ? body.ptr : "", body.len, 0, &where);
                if (!json_is_object(ask->json)) {
                        json_decref(ask->json);
                        ask->json = NULL;
                }
                seen->json = ask->json != NULL;
                if (says_it_back(ask, result))
                        forget_answer(ask);
        } else {
                keep_text(seen->error, sizeof(seen->error), str_of(result->error.text));
        }
        if (ask->done)
                ask->done(ask, result);
        doctor_settled(ask->doctor);
}

void ask_start(struct doctor *doctor, struct ask_once *ask, const struct ask_settings *settings)
{
        static const char *const fields[] = {"X-TFS-FedAuthRedirect: Suppress"};
        struct fetch_request request = {
                .url = ask->url,
                .bearer = settings->bearer,
                .secret_field = settings->secret_field,
                .body = settings->body,
                .content_type = settings->body.ptr ? "application/json" : NULL,
                .fields = fields,
                .n_fields = settings->suppress_sign_in ? 1 : 0,
                .ca = settings->ca,
                .timeout_ms = settings->timeout_ms,
                .most_bytes = settings->most_bytes,
                .allow_plain_loopback = settings->plain,
        };

        keep_sent(ask, settings);
        ask->doctor = doctor;
        ask->seen = (struct http_seen){.url = ask->url, .tried = true, .date_ms = -1, .at_ms = -1};
        doctor_pending(doctor);
        ask->fetch = fetch_start(doctor->fetcher, &request, on_answer, ask);
}

void ask_clear(struct ask_once *ask)
{
        fetch_cancel(ask->fetch);
        ask->fetch = NULL;
        json_decref(ask->json);
        ask->json = NULL;
        secret_drop(&ask->sent);
}
