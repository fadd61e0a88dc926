#include <errno.h>

#include "judge.h"

enum { SOON_S = 21 * 24 * 3600 };

void judge_port(struct diagnoses *out, const struct about *about, const struct port_seen *seen)
{
        struct diagnosis *d;

        if (seen->error == 0) {
                diagnose(out, about, DOCTOR_OK, "port", "%s is free", seen->address);
                return;
        }
        if (seen->error == EADDRINUSE && seen->running) {
                diagnose(out, about, DOCTOR_OK, "port",
                        "%s is in use: dagward is running here, which is as it should be",
                        seen->address);
                return;
        }
        d = diagnose(out, about, DOCTOR_PROBLEM,
                seen->error == EADDRINUSE      ? "port-in-use"
                : seen->error == EADDRNOTAVAIL ? "address-not-here"
                : seen->error == EACCES        ? "port-privileged"
                                               : "port-unusable",
                "%s cannot be bound: %s", seen->address, strerror(seen->error));
        if (seen->error == EADDRINUSE) {
                diagnosis_cause(d, "another program listens on %s (no dagward answers here)",
                        seen->address);
                diagnosis_remedy(d, "see `ss -ltnp` for who has %s; stop it, or change `address`",
                        seen->address);
        } else if (seen->error == EADDRNOTAVAIL) {
                diagnosis_cause(
                        d, "no interface of this machine has the address of %s", seen->address);
                diagnosis_remedy(
                        d, "compare %s with `ip address`, or listen on 0.0.0.0", seen->address);
        } else if (seen->error == EACCES) {
                diagnosis_cause(d, "ports below 1024 need a capability that this user has not");
                diagnosis_remedy(d,
                        "give dagward CAP_NET_BIND_SERVICE (AmbientCapabilities= of its unit), or "
                        "use another port than that of %s",
                        seen->address);
        } else {
                diagnosis_cause(d, "the kernel refuses the address %s", seen->address);
                diagnosis_remedy(d, "choose another `address` than %s", seen->address);
        }
}

static void judge_dates(struct diagnoses *out, const struct about *about,
        const struct certificate_seen *seen, int64_t now_s)
{
        const struct certificate *own = &seen->file->chain[0];
        int64_t left = own->not_after_s - now_s;
        char span[32], day[32];
        struct diagnosis *d;

        if (own->not_before_s > now_s) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "certificate-not-yet",
                        "%s is valid from %s on", seen->path, day_text(own->not_before_s, day));
                diagnosis_cause(d, "it was made for later, or this machine's clock is behind");
                diagnosis_remedy(
                        d, "compare `date -u`; put the current certificate into %s", seen->path);
        } else if (left <= 0) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "certificate-expired",
                        "%s expired %s ago (%s)", seen->path, span_text(left, span),
                        day_text(own->not_after_s, day));
                diagnosis_cause(
                        d, "nobody renewed the certificate %s: no client trusts it", own->subject);
                diagnosis_remedy(d,
                        "put a renewed certificate into %s; dagward reads it again by "
                        "itself",
                        seen->path);
        } else if (left < SOON_S) {
                d = diagnose(out, about, DOCTOR_WARNING, "certificate-expires",
                        "%s expires in %s (%s)", seen->path, span_text(left, span),
                        day_text(own->not_after_s, day));
                diagnosis_cause(d, "the certificate %s has not been renewed yet", own->subject);
                diagnosis_remedy(d,
                        "put a renewed certificate into %s; dagward reads it again by "
                        "itself",
                        seen->path);
        } else {
                diagnose(out, about, DOCTOR_OK, "certificate", "%s is for %s, until %s", seen->path,
                        own->names[0] ? own->names : own->subject, day_text(own->not_after_s, day));
        }
}

static void judge_chain(
        struct diagnoses *out, const struct about *about, const struct certificate_seen *seen)
{
        const struct certificate_file *file = seen->file;
        const struct certificate *last = &file->chain[file->n - 1];
        struct diagnosis *d;

        if (file->broken_at < file->n) {
                const struct certificate *one = &file->chain[file->broken_at];
                d = diagnose(out, about, DOCTOR_PROBLEM, "chain-broken",
                        "%s: certificate %zu (%s) was issued by %s, but %s follows", seen->path,
                        file->broken_at + 1, one->subject, one->issuer,
                        file->chain[file->broken_at + 1].subject);
                diagnosis_cause(d, "certificates are in the wrong order, or one is missing");
                diagnosis_remedy(d,
                        "write into %s the server's own certificate first, then that of %s, and so "
                        "on up to the root",
                        seen->path, one->issuer);
        } else if (!file->system_trusts && !last->self_issued && last->issuer_url) {
                d = diagnose(out, about, DOCTOR_WARNING, "chain-incomplete",
                        "%s ends at %s, whose issuer %s is not in it", seen->path, last->subject,
                        last->issuer);
                diagnosis_cause(d,
                        "the intermediate certificate %s is missing: clients that know "
                        "the root only do not trust the chain",
                        last->issuer);
                diagnosis_remedy(d, "append the certificate of %s to %s (the \"full chain\" file)",
                        last->issuer, seen->path);
        }
}

void judge_certificate(struct diagnoses *out, const struct about *about,
        const struct certificate_seen *seen, int64_t now_s)
{
        const struct certificate *own = &seen->file->chain[0];
        struct diagnosis *d;

        judge_dates(out, about, seen, now_s);
        if (seen->fit != KEY_FITS) {
                d = diagnose(out, about, DOCTOR_PROBLEM,
                        seen->fit == KEY_OTHER ? "key-mismatch" : "key-unusable", "the key %s %s",
                        seen->key,
                        seen->fit == KEY_OTHER ? "belongs to another certificate"
                                               : "holds no private key that can be read");
                if (seen->fit == KEY_OTHER)
                        diagnosis_cause(
                                d, "%s and %s are of two different pairs", seen->path, seen->key);
                else
                        diagnosis_cause(d, "%s is not PEM, or has a passphrase", seen->key);
                diagnosis_remedy(
                        d, "put the key of %s into %s, unencrypted", own->subject, seen->key);
        }
        if (seen->public_host && !seen->covers) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "certificate-name",
                        "%s is for %s, but `public_url` says %s", seen->path,
                        own->names[0] ? own->names : "no host name", seen->public_host);
                diagnosis_cause(d, "clients connect to %s and find a certificate for %s",
                        seen->public_host, own->names[0] ? own->names : own->subject);
                diagnosis_remedy(
                        d, "have a certificate made with the subjectAltName %s", seen->public_host);
        }
        judge_chain(out, about, seen);
}
