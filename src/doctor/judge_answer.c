#include "judge.h"

enum { SKEW_WARNING_S = 60, SKEW_PROBLEM_S = 300 };

static void judge_portal(
        struct diagnoses *out, const struct about *about, const struct http_seen *seen)
{
        bool redirect = seen->status >= 300 && seen->status < 400;
        struct diagnosis *d =
                diagnose(out, about, DOCTOR_PROBLEM, "captive-portal", "%s answered %d with %s%s",
                        seen->url, seen->status, redirect ? "a redirect to " : "an HTML page",
                        redirect ? seen->location : " instead of JSON");

        diagnosis_cause(d,
                "a proxy or captive portal of the network answers in its place, or the URL is that "
                "of a web page");
        diagnosis_remedy(d,
                "fetch %s with curl from this machine and look at the page; let this machine past "
                "the proxy, or correct the URL",
                seen->url);
}

/* Statuses that are neither 200 nor a redirect. */
static void judge_status(
        struct diagnoses *out, const struct about *about, const struct http_seen *seen)
{
        struct diagnosis *d = diagnose(
                out, about, DOCTOR_PROBLEM, "status", "%s answered %d", seen->url, seen->status);

        if (seen->status == 401 || seen->status == 403) {
                diagnosis_cause(d, "the server wants to know who asks, as Kubernetes does");
                diagnosis_remedy(d,
                        "set `keys.bearer_file` to a token that may read %s (in a pod: "
                        "/var/run/secrets/kubernetes.io/serviceaccount/token with the cluster role "
                        "system:service-account-issuer-discovery)",
                        seen->url);
        } else if (seen->status == 404) {
                diagnosis_cause(d, "there is nothing at %s", seen->url);
                diagnosis_remedy(d,
                        "correct the URL to the last slash; an issuer without discovery needs "
                        "`keys.url` or `keys.file`");
        } else {
                diagnosis_cause(d, "the server has trouble, or does not like the request");
                diagnosis_remedy(d, "look at the log of the server of %s", seen->url);
        }
}

bool judge_json_answer(
        struct diagnoses *out, const struct about *about, const struct http_seen *seen)
{
        struct diagnosis *d;

        if (!seen->tried) {
                diagnose(out, about, DOCTOR_SKIPPED, "not-tried", "%s was not asked: %s", seen->url,
                        seen->error);
                return false;
        }
        if (!seen->answered) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "no-answer", "%s: %s", seen->url,
                        seen->error[0] ? seen->error : "no answer in time");
                diagnosis_cause(d, "the connection works, but no whole answer came");
                diagnosis_remedy(
                        d, "ask %s with curl from this machine; look at its server", seen->url);
                return false;
        }
        if (seen->html || (seen->status >= 300 && seen->status < 400)) {
                judge_portal(out, about, seen);
                return false;
        }
        if (seen->status != 200) {
                judge_status(out, about, seen);
                return false;
        }
        if (!seen->json) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "not-json",
                        "%s answered something that is not a JSON object (%s)", seen->url,
                        seen->type[0] ? seen->type : "without Content-Type");
                diagnosis_cause(d, "it is another kind of document, or it was cut off");
                diagnosis_remedy(d, "look at %s with curl and correct the URL", seen->url);
                return false;
        }
        return true;
}

bool judge_upstream(struct diagnoses *out, const struct about *about, const struct http_seen *seen)
{
        if (!seen->tried || !seen->answered)
                return judge_json_answer(out, about, seen);
        if (!seen->azure && (seen->html || (seen->status >= 300 && seen->status < 400))) {
                judge_portal(out, about, seen);
                return false;
        }
        diagnose(out, about, DOCTOR_OK, "answers", "%s answers", seen->url);
        return true;
}

void judge_clock(struct diagnoses *out, const struct about *about, const struct http_seen *seen)
{
        char span[32];

        if (!seen->answered || seen->date_ms < 0)
                return;
        int64_t ahead_s = (seen->at_ms - seen->date_ms) / 1000;
        int64_t off_s = ahead_s < 0 ? -ahead_s : ahead_s;
        if (off_s <= SKEW_WARNING_S)
                return;
        struct diagnosis *d =
                diagnose(out, about, off_s > SKEW_PROBLEM_S ? DOCTOR_PROBLEM : DOCTOR_WARNING,
                        "clock", "this machine's clock is %s %s that of %s", span_text(off_s, span),
                        ahead_s > 0 ? "ahead of" : "behind", seen->url);
        diagnosis_cause(d,
                "one of the two clocks is off by %lld s; tokens are judged by `exp` and `nbf`, and "
                "assertions are refused when clocks differ by 5 minutes (AADSTS700024)",
                (long long)off_s);
        diagnosis_remedy(d,
                "compare `date -u` with a clock you trust and run chrony here; if this one is "
                "right, tell who runs %s",
                seen->url);
}
