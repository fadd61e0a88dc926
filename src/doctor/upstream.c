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

/* Names that a line has room for. */
struct hosts {
        char names[400];
        size_t n;
};

static void add_host(struct hosts *hosts, int service)
{
        size_t at = strlen(hosts->names);

        snprintf(hosts->names + at, sizeof(hosts->names) - at, "%s%s", hosts->n ? ", " : "",
                service_host((enum service)service));
        hosts->n++;
}

/* The hosts beside dev.azure.com: what is well, or wrong in the same way, is said once for all. */
static void siblings_judge(struct upstream_check *check, const struct about *first)
{
        struct doctor *doctor = check->doctor;
        const struct reach *dev = check->services[SERVICE_DEV];
        struct hosts good = {.n = 0}, same = {.n = 0};

        for (int s = 0; s < SERVICE_COUNT; s++) {
                if (seen_before(check, s) || s == SERVICE_DEV)
                        continue;
                struct reach_seen seen = reach_view(check->services[s]);
                const struct about about = {DOCTOR_UPSTREAM, 1u + (unsigned)s,
                        service_host((enum service)s), "upstream"};
                if (reach_good(check->services[s]))
                        add_host(&good, s);
                else if (!reach_good(dev) && reach_view(dev).stage == seen.stage)
                        add_host(&same, s);
                else
                        (void)judge_reach(doctor->out, &about, &seen, DOCTOR_WARNING,
                                doctor->machine.limits.n_proxies > 0, doctor->now_s);
        }
        if (good.n)
                diagnose(doctor->out, first, DOCTOR_OK, "siblings", "reached as well: %s",
                        good.names);
        if (same.n)
                diagnose(doctor->out, first, DOCTOR_SKIPPED, "siblings", "the same is true of %s",
                        same.names);
}

void upstream_check_judge(struct upstream_check *check)
{
        struct doctor *doctor = check->doctor;
        struct reach_seen seen = reach_view(check->services[SERVICE_DEV]);
        const struct about about = {DOCTOR_UPSTREAM, 0, service_host(SERVICE_DEV), "upstream"};

        if (judge_reach(doctor->out, &about, &seen, DOCTOR_PROBLEM,
                    doctor->machine.limits.n_proxies > 0, doctor->now_s) &&
                judge_upstream(doctor->out, &about, &check->anonymous.seen))
                judge_clock(doctor->out, &about, &check->anonymous.seen);
        siblings_judge(check, &about);
}
