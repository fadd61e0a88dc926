#include "judge.h"

enum { OWN_DESCRIPTORS = 128 }; /* listeners, files, event loops, the control thread's sockets */

static void judge_descriptors(
        struct diagnoses *out, const struct about *about, const struct limits_seen *seen)
{
        uint64_t upstream = seen->upstream < seen->connections ? seen->upstream : seen->connections;
        uint64_t needed = seen->connections + upstream + OWN_DESCRIPTORS;

        if (seen->descriptors >= needed) {
                diagnose(out, about, DOCTOR_OK, "descriptors",
                        "%llu descriptors are allowed, %llu may be needed",
                        (unsigned long long)seen->descriptors, (unsigned long long)needed);
                return;
        }
        struct diagnosis *d = diagnose(out, about, DOCTOR_WARNING, "descriptors",
                "RLIMIT_NOFILE allows %llu descriptors; `limits.connections` %llu and their "
                "upstream connections may need %llu",
                (unsigned long long)seen->descriptors, (unsigned long long)seen->connections,
                (unsigned long long)needed);
        diagnosis_cause(d, "each connection is a descriptor; so that they do not run out, fewer "
                           "connections than configured are taken");
        diagnosis_remedy(d,
                "set LimitNOFILE=%llu in the unit (or ulimit -Hn), or lower `limits.connections`",
                (unsigned long long)needed);
}

static void judge_proxies(
        struct diagnoses *out, const struct about *about, const struct limits_seen *seen)
{
        char names[160];
        struct buf list;

        if (seen->n_proxies == 0)
                return;
        buf_init_fixed(&list, names, sizeof(names) - 1);
        for (size_t i = 0; i < seen->n_proxies; i++)
                buf_printf(&list, "%s%s", i ? ", " : "", seen->proxies[i]);
        names[list.len] = '\0';
        struct diagnosis *d = diagnose(out, about, DOCTOR_WARNING, "proxy-ignored",
                "the environment sets %s; dagward does not use it", names);
        diagnosis_cause(d, "Azure DevOps, Entra and issuers are reached directly unless the "
                           "configuration names an outgoing proxy");
        diagnosis_remedy(d,
                "set `outgoing_proxy: {environment: true}` if that is the way out; else let this "
                "machine reach these hosts directly, and unset %s for dagward",
                names);
}

void judge_limits(struct diagnoses *out, const struct about *about, const struct limits_seen *seen)
{
        judge_descriptors(out, about, seen);
        judge_proxies(out, about, seen);
        if (!seen->admin_open)
                return;
        struct diagnosis *d = diagnose(out, about, DOCTOR_WARNING, "admin-open",
                "the admin listener %s is not on loopback", seen->admin);
        diagnosis_cause(d,
                "whoever reaches %s reads, without TLS or token, who uses the proxy "
                "how much",
                seen->admin);
        diagnosis_remedy(d, "set `admin.address` to 127.0.0.1, or close the port to all but the "
                            "metrics collector");
}
