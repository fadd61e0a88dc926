/* The sinks of the audit log: where they lead, whether they are let in, how far they are. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dagward/audit/position.h"
#include "dagward/audit/tail.h"
#include "inside.h"

enum { CALL_MS = 8000, ANSWER_MOST_BYTES = 64 * 1024 };

static bool is_monitor(const struct sink_check *check)
{
        return check->config->type == CONFIG_SINK_MONITOR;
}

/* For whom the token is differs from what the configuration says of the credential. */
static void rescope(struct sink_check *check)
{
        const struct config *config = check->doctor->p.config;
        struct config_credential *c = &check->credential;

        *c = config->credentials[check->config->credential_index];
        c->scope = check->config->scope;
        c->candidates = calloc(c->n_candidates + 1, sizeof(*c->candidates));
        if (!c->candidates)
                abort();
        for (size_t i = 0; i < c->n_candidates; i++) {
                c->candidates[i] =
                        config->credentials[check->config->credential_index].candidates[i];
                c->candidates[i].scope = c->scope;
        }
}

void sink_check_prepare(struct sink_check *check)
{
        const struct config_sink *sink = check->config;
        struct reaches *reaches = &check->doctor->reaches;

        if (is_monitor(check)) {
                rescope(check);
                check->reach = reach_want(reaches, sink->endpoint.host, sink->endpoint.port,
                        sink->endpoint.https, sink->ca.ptr);
        } else if (sink->transport == CONFIG_SINK_TCP || sink->transport == CONFIG_SINK_TLS) {
                check->reach = reach_want(reaches, sink->host, sink->port,
                        sink->transport == CONFIG_SINK_TLS, sink->ca.ptr);
        }
}

/* --- looking --- */

static void socket_look(struct sink_check *check)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        snprintf(address.sun_path, sizeof(address.sun_path), "%s", check->config->host.ptr);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
                check->seen.socket_error = errno;
        if (fd >= 0)
                close(fd);
}

/* How far it is; the log's own end is known to the look at the audit file. */
static void position_look(struct sink_check *check)
{
        const char *log = check->doctor->p.config->audit.file.ptr;
        struct chain_head position;
        char path[4096];

        snprintf(path, sizeof(path), "%s.sink-%s", log, check->config->name.ptr);
        if (position_read(path, &position) != POSITION_GOOD)
                return;
        check->seen.has_position = true;
        check->seen.position = position.seq;
        check->seen.oldest = tail_oldest_seq(log);
        check->seen.last = check->doctor->machine.audit.seq;
}

static void on_called(struct ask_once *ask, const struct fetch_result *result)
{
        struct sink_check *check = ask->owner;
        const json_t *error = json_object_get(ask->json, "error");
        const char *message = json_string_value(json_object_get(error, "message"));

        (void)result;
        snprintf(check->seen.said, sizeof(check->seen.said), "%s", message ? message : "");
}

static void on_probed(void *owner, const struct credential *credential, const char *why)
{
        struct sink_check *check = owner;
        const struct config_sink *sink = check->config;
        const struct ask_settings settings = {
                .secret_field = &check->field,
                .body = STR("[]"), /* no record: it is asked whether it would take one */
                .ca = sink->ca.ptr,
                .plain = !sink->endpoint.https,
                .timeout_ms = CALL_MS,
                .most_bytes = ANSWER_MOST_BYTES,
        };

        check->seen.obtained = credential != NULL;
        snprintf(check->why, sizeof(check->why), "%s", why ? why : "");
        if (credential) {
                secret_set(&check->field, credential_field(credential));
                snprintf(check->call.url, sizeof(check->call.url),
                        "%s/dataCollectionRules/%s/streams/%s?api-version=2023-01-01",
                        sink->endpoint.text.ptr, sink->rule.ptr, sink->stream.ptr);
                check->call.done = on_called;
                check->call.owner = check;
                ask_start(check->doctor, &check->call, &settings);
        }
        doctor_settled(check->doctor);
}

void sink_check_start(struct sink_check *check)
{
        struct doctor *doctor = check->doctor;

        if (check->config->transport == CONFIG_SINK_UNIX)
                socket_look(check);
        position_look(check);
        if (!is_monitor(check) || !reach_good(check->reach))
                return;
        check->started = true;
        doctor_pending(doctor);
        check->probe = credential_probe_start(doctor->p.config, &check->credential, doctor->base,
                doctor->fetcher, on_probed, check);
}

/* --- what it means --- */

static void file_judge(struct sink_check *check, const struct about *about, const char *setting,
        struct str path, enum file_care care)
{
        struct file_seen seen;

        if (!path.ptr)
                return;
        file_look(path.ptr, &seen);
        judge_file(check->doctor->out, about, setting, &seen, care, check->doctor->uid);
}

void sink_check_judge(struct sink_check *check)
{
        const struct config_sink *sink = check->config;
        struct doctor *doctor = check->doctor;
        const struct about about = {DOCTOR_SINK, check->index, sink->name.ptr, "sink"};
        bool reached = true;

        if (check->reach) {
                struct reach_seen seen = reach_view(check->reach);
                reached = judge_reach(
                        doctor->out, &about, &seen, DOCTOR_PROBLEM, false, doctor->now_s);
        }
        file_judge(check, &about, "certificate", sink->certificate, CARE_NONE);
        file_judge(check, &about, "key", sink->key, CARE_GROUP);
        check->seen.config = sink;
        check->seen.tried = check->started;
        check->seen.why = check->why;
        check->seen.http = check->call.seen;
        if (reached)
                judge_sink(doctor->out, &about, &check->seen);
        judge_position(doctor->out, &about, &check->seen);
}

void sink_check_clear(struct sink_check *check)
{
        credential_probe_free(check->probe);
        ask_clear(&check->call);
        secret_drop(&check->field);
        free(check->credential.candidates);
}
