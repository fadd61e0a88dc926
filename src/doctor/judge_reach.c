#include "judge.h"

enum { SOON_S = 21 * 24 * 3600 };

static struct diagnosis *fail(struct diagnoses *out, const struct about *about,
        enum doctor_level severity, const char *name, const struct reach_seen *seen)
{
        return diagnose(out, about, severity, name, "%s:%u: %s", seen->host, seen->port, seen->why);
}

static const char *past_proxy(bool proxy_set)
{
        return proxy_set ? "; the proxy of the environment is not used unless "
                           "`outgoing_proxy: {environment: true}` says so"
                         : "";
}

/* The outgoing proxy did not open the way. */
static bool judge_way(struct diagnoses *out, const struct about *about,
        const struct reach_seen *seen, enum doctor_level severity)
{
        struct diagnosis *d;

        if (seen->stage == REACH_PROXY_NO && seen->proxy_status == 407) {
                d = fail(out, about, severity, "proxy-credentials", seen);
                diagnosis_cause(d, "%s (%s) serves only who shows a user and a password (407)",
                        seen->proxy, seen->proxy_from);
                diagnosis_remedy(d, "write `user:password` for it into a file and name that in "
                                    "`outgoing_proxy.credentials_file`; only Basic is spoken");
        } else if (seen->stage == REACH_PROXY_NO) {
                d = fail(out, about, severity, "proxy-refuses", seen);
                diagnosis_cause(d, "%s (%s) answered %d instead of connecting to %s:%u",
                        seen->proxy, seen->proxy_from, seen->proxy_status, seen->host, seen->port);
                diagnosis_remedy(d,
                        "have %s allowed to connect to %s:%u, or list that host in "
                        "`outgoing_proxy.except` if it is reached directly",
                        seen->proxy, seen->host, seen->port);
        } else if (seen->stage == REACH_PROXY_BROKEN) {
                d = fail(out, about, severity, "proxy-broken", seen);
                diagnosis_cause(d,
                        "what listens at %s (%s) is no proxy that opens tunnels, or it "
                        "hangs",
                        seen->proxy, seen->proxy_from);
                diagnosis_remedy(d,
                        "try `curl -v -x %s https://%s:%u/`; correct the proxy's "
                        "address in `outgoing_proxy.url` or the environment",
                        seen->proxy, seen->host, seen->port);
        } else {
                d = fail(out, about, severity, "proxy-unreachable", seen);
                diagnosis_cause(d, "the outgoing proxy %s (%s) %s", seen->proxy, seen->proxy_from,
                        seen->stage == REACH_NO_NAME || seen->stage == REACH_PENDING
                                ? "has a name that cannot be resolved on this machine"
                        : seen->stage == REACH_REFUSED ? "is not there: nothing listens at its port"
                                                       : "does not answer");
                diagnosis_remedy(d,
                        "correct `outgoing_proxy`, or allow this machine to reach %s; list %s in "
                        "`outgoing_proxy.except` if it is reached directly",
                        seen->proxy, seen->host);
        }
        return false;
}

static bool judge_tcp(struct diagnoses *out, const struct about *about,
        const struct reach_seen *seen, enum doctor_level severity, bool proxy_set)
{
        struct diagnosis *d;

        if (seen->proxy[0] && seen->stage < REACH_NO_CA)
                return judge_way(out, about, seen, severity);
        switch (seen->stage) {
        case REACH_PROXY_NO:
        case REACH_PROXY_BROKEN: return false; /* not without a proxy */
        case REACH_PENDING:
                d = fail(out, about, severity, "dns-silent", seen);
                diagnosis_cause(d, "the name service did not answer for %s in time", seen->host);
                diagnosis_remedy(d, "check /etc/resolv.conf and that its servers can be reached");
                return false;
        case REACH_NO_NAME:
                d = fail(out, about, severity, "dns", seen);
                diagnosis_cause(d, "the name %s cannot be resolved on this machine", seen->host);
                diagnosis_remedy(d,
                        "correct %s in the configuration, or make it resolvable "
                        "(`getent hosts %s`, /etc/resolv.conf)%s",
                        seen->host, seen->host, past_proxy(proxy_set));
                return false;
        case REACH_REFUSED:
                d = fail(out, about, severity, "refused", seen);
                diagnosis_cause(d, "%s (%s) is there, but nothing listens on port %u", seen->host,
                        seen->address, seen->port);
                diagnosis_remedy(d, "start the server, or correct port %u of %s%s", seen->port,
                        seen->host, past_proxy(proxy_set));
                return false;
        case REACH_SILENT:
                d = fail(out, about, severity, "silent", seen);
                diagnosis_cause(d, "packets to %s port %u are dropped, most likely by a firewall",
                        seen->address[0] ? seen->address : seen->host, seen->port);
                diagnosis_remedy(d, "allow this machine to reach %s port %u%s", seen->host,
                        seen->port, past_proxy(proxy_set));
                return false;
        case REACH_NO_ROUTE:
                d = fail(out, about, severity, "no-route", seen);
                diagnosis_cause(d, "this machine has no way to %s",
                        seen->address[0] ? seen->address : seen->host);
                diagnosis_remedy(d, "check routes and network policy for %s port %u%s", seen->host,
                        seen->port, past_proxy(proxy_set));
                return false;
        case REACH_NO_CA:
                d = fail(out, about, DOCTOR_PROBLEM, "ca", seen);
                diagnosis_cause(d, "the file %s cannot be used as authorities",
                        seen->ca[0] ? seen->ca : "of the system");
                diagnosis_remedy(d, "`ca` must name a PEM file with CA certificates: check %s",
                        seen->ca[0] ? seen->ca : "the package ca-certificates");
                return false;
        case REACH_TCP:
        case REACH_TLS: return true;
        }
        return true;
}

/* A server that shows something that cannot be trusted. */
static void judge_distrust(struct diagnoses *out, const struct about *about,
        const struct reach_seen *seen, enum doctor_level severity, int64_t now_s)
{
        const struct tls_seen *tls = &seen->tls;
        const char *ca = seen->ca[0] ? seen->ca : "the system's authorities";
        char day[32], span[32];
        struct diagnosis *d;

        switch (tls->trust) {
        case TLS_TRUSTED: return;
        case TLS_UNKNOWN_ISSUER:
        case TLS_SELF_SIGNED:
                d = diagnose(out, about, severity, "tls-untrusted",
                        "%s:%u: its certificate (%s) is %s%s", seen->host, seen->port,
                        tls->leaf.subject,
                        tls->trust == TLS_SELF_SIGNED ? "signed by itself" : "issued by ",
                        tls->trust == TLS_SELF_SIGNED ? "" : tls->unknown_issuer);
                if (seen->proxy[0]) {
                        diagnosis_cause(d,
                                "the outgoing proxy %s opens the TLS that passes through it and "
                                "shows certificates of its own, most likely: %s is not in %s",
                                seen->proxy, tls->leaf.issuer, ca);
                        diagnosis_remedy(d,
                                "have %s left out of its inspection, since it would see every "
                                "credential and token; only if that is accepted, put the CA "
                                "certificate \"%s\" into %s",
                                seen->host, tls->leaf.issuer,
                                seen->ca[0] ? seen->ca : "a PEM file and name it in `ca`");
                        return;
                }
                diagnosis_cause(d,
                        "%s is not in %s; or a TLS-inspecting proxy of the network is in between; "
                        "or the server leaves an intermediate certificate out (it sent %zu)",
                        tls->trust == TLS_SELF_SIGNED ? tls->leaf.subject : tls->unknown_issuer, ca,
                        tls->n_chain);
                diagnosis_remedy(d, "put the CA certificate \"%s\" into %s",
                        tls->trust == TLS_SELF_SIGNED ? tls->leaf.subject : tls->unknown_issuer,
                        seen->ca[0] ? seen->ca : "a PEM file and name it in `ca`");
                return;
        case TLS_EXPIRED:
                d = diagnose(out, about, severity, "tls-expired",
                        "%s:%u: the certificate %s expired %s ago (%s)", seen->host, seen->port,
                        tls->faulty.subject, span_text(now_s - tls->faulty.not_after_s, span),
                        day_text(tls->faulty.not_after_s, day));
                diagnosis_cause(d, "nobody renewed the server's certificate, or this machine's "
                                   "clock is wrong");
                diagnosis_remedy(d, "have the certificate of %s renewed; compare `date -u` first",
                        seen->host);
                return;
        case TLS_NOT_YET_VALID:
                d = diagnose(out, about, severity, "tls-not-yet",
                        "%s:%u: the certificate %s is valid from %s on", seen->host, seen->port,
                        tls->faulty.subject, day_text(tls->faulty.not_before_s, day));
                diagnosis_cause(d, "this machine's clock is behind, or the certificate is early");
                diagnosis_remedy(d, "compare `date -u` with a clock you trust; run chrony");
                return;
        case TLS_WRONG_NAME:
                d = diagnose(out, about, severity, "tls-name", "%s:%u: its certificate is for %s",
                        seen->host, seen->port,
                        tls->leaf.names[0] ? tls->leaf.names : "no host name at all");
                diagnosis_cause(d, "%s is none of the names in the certificate (%s)", seen->host,
                        tls->leaf.names[0] ? tls->leaf.names : tls->leaf.subject);
                diagnosis_remedy(d,
                        "use one of these names in the configuration instead of %s, or have a "
                        "certificate made that has it as subjectAltName",
                        seen->host);
                return;
        case TLS_DISTRUSTED:
                d = diagnose(out, about, severity, "tls-untrusted", "%s:%u: %s: %s", seen->host,
                        seen->port, tls->faulty.subject, tls->why);
                diagnosis_cause(d, "its certificate cannot be used: %s", tls->why);
                diagnosis_remedy(d, "have another certificate made for %s", seen->host);
                return;
        }
}

static bool judge_tls(struct diagnoses *out, const struct about *about,
        const struct reach_seen *seen, enum doctor_level severity, int64_t now_s)
{
        const struct tls_seen *tls = &seen->tls;
        struct diagnosis *d;

        if (!tls->shaken) {
                d = diagnose(out, about, severity, tls->not_tls ? "tls-plain" : "tls-failed",
                        "%s:%u: no TLS handshake: %s", seen->host, seen->port, tls->why);
                if (tls->not_tls)
                        diagnosis_cause(
                                d, "what listens on port %u does not speak TLS", seen->port);
                else if (tls->timed_out)
                        diagnosis_cause(
                                d, "%s took the connection and then said nothing", seen->address);
                else
                        diagnosis_cause(d,
                                "the two sides have nothing in common (TLS 1.2 or 1.3 with AEAD "
                                "suites is needed), or something in between cuts TLS off");
                diagnosis_remedy(d,
                        tls->not_tls ? "correct the port of %s, or `https` where it is plain http"
                                     : "try `openssl s_client -connect %s` from this machine",
                        seen->host);
                return false;
        }
        judge_distrust(out, about, seen, severity, now_s);
        return tls->trust == TLS_TRUSTED;
}

bool judge_reach(struct diagnoses *out, const struct about *about, const struct reach_seen *seen,
        enum doctor_level severity, bool proxy_set, int64_t now_s)
{
        char span[32], day[32];

        if (!judge_tcp(out, about, seen, severity, proxy_set))
                return false;
        if (seen->stage == REACH_TCP) {
                diagnose(out, about, DOCTOR_OK, "reachable", "%s:%u is reached at %s, without TLS",
                        seen->host, seen->port, seen->address);
                return true;
        }
        if (!judge_tls(out, about, seen, severity, now_s))
                return false;
        int64_t left = seen->tls.leaf.not_after_s - now_s;
        if (left < SOON_S && about->part == DOCTOR_ISSUER) {
                struct diagnosis *d = diagnose(out, about, DOCTOR_WARNING, "tls-expires",
                        "%s:%u: its certificate expires in %s (%s)", seen->host, seen->port,
                        span_text(left, span), day_text(seen->tls.leaf.not_after_s, day));
                diagnosis_cause(d, "its renewal has not happened yet");
                diagnosis_remedy(
                        d, "tell who runs %s; keys cannot be fetched after that day", seen->host);
        } else {
                diagnose(out, about, DOCTOR_OK, "reachable",
                        "%s:%u is reached at %s, its certificate is trusted until %s", seen->host,
                        seen->port, seen->address, day_text(seen->tls.leaf.not_after_s, day));
        }
        return true;
}
