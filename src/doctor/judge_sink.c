#include "judge.h"

enum { BEHIND_RECORDS = 10000 };

static void judge_call(
        struct diagnoses *out, const struct about *about, const struct sink_seen *seen)
{
        const struct config_sink *sink = seen->config;
        const char *rule = sink->rule.ptr, *said = seen->said[0] ? seen->said : "no reason";
        int status = seen->http.status;
        struct diagnosis *d;

        if (!seen->http.answered) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "unanswered", "%s: %s",
                        sink->endpoint.text.ptr, seen->http.error);
                diagnosis_cause(d, "the endpoint was reached and did not answer as HTTP should");
                diagnosis_remedy(d, "compare `endpoint` with the rule's logs ingestion endpoint");
        } else if (status >= 200 && status < 300) {
                diagnose(out, about, DOCTOR_OK, "accepted",
                        "the rule %s takes records for stream %s", rule, sink->stream.ptr);
        } else if (status == 401) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "token-rejected",
                        "the token of credential %s is not accepted (401: %s)",
                        sink->credential.ptr, said);
                diagnosis_cause(d,
                        "it is for %s, and the endpoint belongs to another cloud or "
                        "tenant",
                        sink->scope.ptr);
                diagnosis_remedy(d, "set `scope` to https://monitor.azure.us/.default or .cn in "
                                    "those clouds; take a credential of the workspace's tenant");
        } else if (status == 403) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "forbidden",
                        "credential %s may not write to the rule %s (403: %s)",
                        sink->credential.ptr, rule, said);
                diagnosis_cause(d, "it lacks the role Monitoring Metrics Publisher on the data "
                                   "collection rule, or was given it less than half an hour ago");
                diagnosis_remedy(d,
                        "az role assignment create --role \"Monitoring Metrics Publisher\" "
                        "--assignee-object-id <object id of the service principal> --scope "
                        "<resource id of the rule %s>",
                        rule);
        } else if (status == 404) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "not-found",
                        "there is no rule %s at %s (404: %s)", rule, sink->endpoint.text.ptr, said);
                diagnosis_cause(d, "`rule` is not the rule's immutable id, or the endpoint is that "
                                   "of another region");
                diagnosis_remedy(d, "az monitor data-collection rule show --query "
                                    "\"{id:immutableId, endpoint:endpoints.logsIngestion}\"");
        } else {
                d = diagnose(out, about, DOCTOR_WARNING, "answer",
                        "an empty call was answered with status %d: %s", status, said);
                diagnosis_cause(d, "the stream %s is not one of the rule's, or the service is busy",
                        sink->stream.ptr);
                diagnosis_remedy(d, "compare `stream` with the rule's streamDeclarations");
        }
}

static void judge_monitor(
        struct diagnoses *out, const struct about *about, const struct sink_seen *seen)
{
        struct diagnosis *d;

        if (!seen->tried) {
                diagnose(out, about, DOCTOR_SKIPPED, "not-called", "the endpoint was not called");
        } else if (!seen->obtained) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "token", "no token for %s: %s",
                        seen->config->scope.ptr, seen->why);
                diagnosis_cause(d, "credential %s cannot be obtained for this scope",
                        seen->config->credential.ptr);
                diagnosis_remedy(
                        d, "see what doctor says of credential %s", seen->config->credential.ptr);
        } else {
                judge_call(out, about, seen);
        }
}

void judge_sink(struct diagnoses *out, const struct about *about, const struct sink_seen *seen)
{
        const struct config_sink *sink = seen->config;
        struct diagnosis *d;

        if (sink->type == CONFIG_SINK_MONITOR) {
                judge_monitor(out, about, seen);
        } else if (sink->type == CONFIG_SINK_STDOUT) {
                diagnose(out, about, DOCTOR_OK, "stdout", "records go to standard output");
        } else if (sink->transport == CONFIG_SINK_UNIX && seen->socket_error) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "socket", "%s: %s", sink->host.ptr,
                        strerror(seen->socket_error));
                diagnosis_cause(d, "no syslog daemon listens at %s", sink->host.ptr);
                diagnosis_remedy(d, "start one, or mount its socket into the container at %s",
                        sink->host.ptr);
        } else if (sink->transport == CONFIG_SINK_UNIX) {
                diagnose(out, about, DOCTOR_OK, "socket", "%s takes messages", sink->host.ptr);
        }
}

void judge_position(struct diagnoses *out, const struct about *about, const struct sink_seen *seen)
{
        unsigned long long behind = seen->last > seen->position ? seen->last - seen->position : 0;
        struct diagnosis *d;

        if (!seen->has_position)
                return;
        if (seen->oldest > seen->position + 1) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "lost",
                        "records %llu to %llu were deleted before this sink had them",
                        (unsigned long long)seen->position + 1,
                        (unsigned long long)seen->oldest - 1);
                diagnosis_cause(d, "it has been behind for longer than `audit.rotate` keeps files");
                diagnosis_remedy(d, "find out why it is behind (`dagward_audit_sink_ok`, the log); "
                                    "keep files for longer, or set `wait_for_sinks`");
        } else if (behind > BEHIND_RECORDS) {
                d = diagnose(out, about, DOCTOR_WARNING, "behind",
                        "it is %llu records behind the log", behind);
                diagnosis_cause(d, "the receiver is or was away, or takes fewer than are written");
                diagnosis_remedy(d, "look at `dagward_audit_sink_ok`, `_lag_seconds` and "
                                    "`_failures_total` of the running process");
        } else {
                diagnose(out, about, DOCTOR_OK, "position",
                        "it has the records up to %llu, of %llu",
                        (unsigned long long)seen->position, (unsigned long long)seen->last);
        }
}
