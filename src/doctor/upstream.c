#include "inside.h"

enum { ANONYMOUS_MS = 5000, ANSWER_MOST_BYTES = 1 << 20 };

void upstream_check_prepare(struct upstream_check *check)
{
        const struct config_upstream *upstream = &check->doctor->p.config->upstream;

        for (int s = 0; s < SERVICE_COUNT; s++) {
                const char *host = service_host((enum service)s);
                const struct config_url *other = config_host_override(upstream, host);
                if (s != SERVICE_DEV && !doctor_wants(check->doctor, DOCTOR_UPSTREAM))
                        continue;
                check->services[s] = reach_want(&check->doctor->reaches,
                        other ? other->host : str_of(host), other ? other->port : 443,
                        other ? other->https : true, upstream->ca.ptr);
                if (s != SERVICE_DEV)
                        continue;
                snprintf(check->base, sizeof(check->base), "%s%s", other ? "" : "https://",
                        other ? other->text.ptr : host);
                check->plain = other && !other->https;
        }
}

void upstream_check_start(struct upstream_check *check)
{
        const struct config_upstream *upstream = &check->doctor->p.config->upstream;
        const struct ask_settings settings = {
                .ca = upstream->ca.ptr,
                .plain = check->plain,
                .timeout_ms = ANONYMOUS_MS,
                .most_bytes = ANSWER_MOST_BYTES,
                .suppress_sign_in = true,
        };
        struct ask_once *ask = &check->anonymous;

        if (!reach_good(check->services[SERVICE_DEV]))
                return;
        snprintf(ask->url, sizeof(ask->url), "%s/%s/_apis/connectionData", check->base,
                upstream->organizations[0].ptr);
        ask_start(check->doctor, ask, &settings);
}

static bool seen_before(const struct upstream_check *check, int service)
{
        for (int s = 0; s < service; s++) {
                if (check->services[s] == check->services[service])
                        return true;
        }
        return false;
}

void upstream_check_judge(struct upstream_check *check)
{
        struct doctor *doctor = check->doctor;

        for (int s = 0; s < SERVICE_COUNT; s++) {
                if (seen_before(check, s))
                        continue;
                struct reach_seen seen = reach_view(check->services[s]);
                const struct about about = {
                        DOCTOR_UPSTREAM, (unsigned)s, service_host((enum service)s), "upstream"};
                bool good = judge_reach(doctor->out, &about, &seen,
                        s == SERVICE_DEV ? DOCTOR_PROBLEM : DOCTOR_WARNING,
                        doctor->machine.limits.n_proxies > 0, doctor->now_s);
                if (s != SERVICE_DEV || !good)
                        continue;
                if (judge_upstream(doctor->out, &about, &check->anonymous.seen))
                        judge_clock(doctor->out, &about, &check->anonymous.seen);
        }
}
