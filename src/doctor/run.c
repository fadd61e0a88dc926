#include <stdlib.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "dagward/policy/analyse.h"
#include "dagward/world/way_out.h"
#include "inside.h"

enum {
        REACH_MS = 8 * 1000,
        SOON_MS = 14 * 24 * 3600 * 1000, /* a binding that expires within is told of */
};

void doctor_pending(struct doctor *doctor)
{
        doctor->n_pending++;
}

void doctor_settled(struct doctor *doctor)
{
        if (--doctor->n_pending == 0)
                event_base_loopbreak(doctor->base);
}

/* --- configuration and policy --- */

static void judge_files(
        struct doctor *doctor, const char *config_file, const struct error_list *errors)
{
        for (size_t i = 0; i < errors->n; i++) {
                const struct finding *f = &errors->findings[i];
                bool config = !doctor->p.config || !f->file || strcmp(f->file, config_file) == 0;
                const struct about about = {config ? DOCTOR_CONFIGURATION : DOCTOR_POLICY, 0,
                        f->file ? f->file : config_file, config ? "configuration" : "policy"};
                /* What makes everything else impossible is said whatever was asked for. */
                if (doctor->p.config && !doctor_wants(doctor, about.part))
                        continue;
                struct diagnosis *d =
                        diagnose(doctor->out, &about, f->warning ? DOCTOR_WARNING : DOCTOR_PROBLEM,
                                f->warning ? "doubtful" : "invalid", "%s:%u:%u: %s",
                                f->file ? f->file : config_file, f->line, f->column, f->text);
                diagnosis_cause(d, f->warning ? "it can be meant so, but most likely is not"
                                              : "with this `serve` does not start, and a reload "
                                                "changes nothing");
                diagnosis_remedy(d,
                        "correct line %u of %s; `dagward check --config %s` checks "
                        "without looking at the world",
                        f->line, f->file ? f->file : config_file, config_file);
        }
}

static const char *plural(size_t n)
{
        return n == 1 ? "" : "s";
}

static void say_loaded(struct doctor *doctor)
{
        const struct config *c = doctor->p.config;
        const struct about configuration = {DOCTOR_CONFIGURATION, 0, c->file.ptr, "configuration"};
        const struct about policy = {DOCTOR_POLICY, 0, "", "policy"};
        size_t n = c->upstream.n_organizations;

        if (doctor_wants(doctor, DOCTOR_CONFIGURATION))
                diagnose(doctor->out, &configuration, DOCTOR_OK, "loaded",
                        "%zu listener%s, %zu issuer%s, %zu credential%s, %zu organization%s",
                        c->n_listeners, plural(c->n_listeners), c->n_issuers, plural(c->n_issuers),
                        c->n_credentials, plural(c->n_credentials), n, plural(n));
        if (doctor->p.policy && doctor_wants(doctor, DOCTOR_POLICY)) {
                struct policy_size size = policy_size(doctor->p.policy);
                diagnose(doctor->out, &policy, DOCTOR_OK, "loaded",
                        "%zu file%s, %zu role%s, %zu binding%s", size.files, plural(size.files),
                        size.roles, plural(size.roles), size.bindings, plural(size.bindings));
        }
}

struct expiry {
        struct doctor *doctor;
        const struct expiry *already; /* those that have expired; NULL: these are they */
        char places[64][128];
        size_t n;
};

static bool expiry_has(const struct expiry *expiry, struct str place)
{
        for (size_t i = 0; expiry && i < expiry->n; i++) {
                if (str_eq(str_of(expiry->places[i]), place))
                        return true;
        }
        return false;
}

static void on_lint(void *owner, const struct policy_finding *finding)
{
        struct expiry *expiry = owner;
        const struct about about = {DOCTOR_POLICY, 1, "", "binding"};
        bool soon = expiry->already != NULL;

        if (strcmp(finding->check, "expired") != 0 || expiry_has(expiry->already, finding->place))
                return;
        if (expiry->n < 64)
                snprintf(expiry->places[expiry->n++], 128, "%.*s",
                        (int)(finding->place.len < 127 ? finding->place.len : 127),
                        finding->place.ptr);
        struct str text = str_of(finding->text), name;
        text = str_cut(text, '`', &name);
        str_cut(text, '`', &name);
        struct diagnosis *d =
                diagnose(expiry->doctor->out, &about, DOCTOR_WARNING, soon ? "expires" : "expired",
                        "%.*s: the binding `%.*s` %s", STR_FMT(finding->place), STR_FMT(name),
                        soon ? "expires within 14 days" : "has expired and gives nothing any more");
        diagnosis_cause(d, "`expires` of `%.*s` %s", STR_FMT(name),
                soon ? "is near: its callers will be denied then" : "is past");
        diagnosis_remedy(
                d, "set a later `expires` in %.*s, or remove the binding", STR_FMT(finding->place));
}

/* Judged twice: what has expired in two weeks and has not by now expires soon. */
static void judge_expiry(struct doctor *doctor)
{
        struct expiry *past = calloc(2, sizeof(*past));

        if (!past)
                abort();
        past[0].doctor = past[1].doctor = doctor;
        past[1].already = &past[0];
        policy_lint(doctor->p.policy, doctor->now_s * 1000, on_lint, &past[0]);
        policy_lint(doctor->p.policy, doctor->now_s * 1000 + SOON_MS, on_lint, &past[1]);
        free(past);
}

/* False: there is nothing to go on with. */
static bool load(struct doctor *doctor)
{
        const char *path = doctor->request->config;
        struct error_list errors;

        error_list_init(&errors);
        /* As if it were 1970: what has expired is said by judge_expiry, once. */
        (void)!preflight_load(path, 0, &doctor->p, &errors);
        judge_files(doctor, path, &errors);
        error_list_clear(&errors);
        if (!doctor->p.config)
                return false;
        say_loaded(doctor);
        if (doctor->p.policy && doctor_wants(doctor, DOCTOR_POLICY))
                judge_expiry(doctor);
        return true;
}

/* --- the world --- */

static void find_way_out(struct doctor *doctor)
{
        const struct config *config = doctor->p.config;
        const struct about about = {DOCTOR_LIMITS, 1, "", "limits"};
        struct error err;

        if (!way_out_of(config, &doctor->egress, &err)) {
                struct diagnosis *d = diagnose(doctor->out, &about, DOCTOR_PROBLEM,
                        "outgoing-proxy-invalid", "%s", err.text);
                diagnosis_cause(d, "the credentials of the outgoing proxy cannot be used");
                diagnosis_remedy(d, "correct what the message names; the file holds one line, "
                                    "`user:password`");
        } else if ((doctor->egress || config->outgoing_proxy.environment) &&
                   doctor_wants(doctor, DOCTOR_LIMITS)) {
                diagnose(doctor->out, &about, DOCTOR_OK, "outgoing-proxy",
                        "the outgoing proxy is %s", way_out_text(config, doctor->egress));
        }
}

static bool wants_issuers(const struct doctor *doctor)
{
        return doctor_wants(doctor, DOCTOR_ISSUER) || doctor->request->token_file;
}

static void prepare(struct doctor *doctor)
{
        const struct config *config = doctor->p.config;

        doctor->issuers = calloc(config->n_issuers, sizeof(*doctor->issuers));
        doctor->credentials = calloc(config->n_credentials, sizeof(*doctor->credentials));
        doctor->sinks = calloc(config->audit.n_sinks + 1, sizeof(*doctor->sinks));
        if (!doctor->issuers || !doctor->credentials || !doctor->sinks)
                abort();
        reaches_init(&doctor->reaches, doctor->egress);
        for (unsigned i = 0; i < config->n_issuers && wants_issuers(doctor); i++) {
                doctor->issuers[i] = (struct issuer_check){
                        .doctor = doctor, .config = &config->issuers[i], .index = i};
                issuer_check_prepare(&doctor->issuers[i]);
        }
        doctor->upstream.doctor = doctor;
        if (doctor_wants(doctor, DOCTOR_UPSTREAM) || doctor_wants(doctor, DOCTOR_CREDENTIAL))
                upstream_check_prepare(&doctor->upstream);
        for (unsigned i = 0; i < config->n_credentials && doctor_wants(doctor, DOCTOR_CREDENTIAL);
                i++) {
                doctor->credentials[i] = (struct credential_check){
                        .doctor = doctor, .config = &config->credentials[i], .index = i};
                credential_check_prepare(&doctor->credentials[i]);
        }
        for (unsigned i = 0; i < config->audit.n_sinks && doctor_wants(doctor, DOCTOR_SINK); i++) {
                doctor->sinks[i] = (struct sink_check){
                        .doctor = doctor, .config = &config->audit.sinks[i], .index = i};
                sink_check_prepare(&doctor->sinks[i]);
        }
}

static void observe(struct doctor *doctor)
{
        const struct config *config = doctor->p.config;

        reaches_run(&doctor->reaches, clock_mono_ms() + REACH_MS);
        doctor_pending(doctor); /* nothing may end the loop before all have begun */
        machine_look(doctor);
        for (unsigned i = 0; i < config->n_issuers && wants_issuers(doctor); i++)
                issuer_check_start(&doctor->issuers[i]);
        if (doctor_wants(doctor, DOCTOR_UPSTREAM))
                upstream_check_start(&doctor->upstream);
        for (unsigned i = 0; i < config->n_credentials && doctor_wants(doctor, DOCTOR_CREDENTIAL);
                i++)
                credential_check_start(&doctor->credentials[i]);
        for (unsigned i = 0; i < config->audit.n_sinks && doctor_wants(doctor, DOCTOR_SINK); i++)
                sink_check_start(&doctor->sinks[i]);
        if (--doctor->n_pending == 0)
                return;
        int64_t left = doctor->deadline_mono_ms - clock_mono_ms();
        if (left < 100)
                left = 100;
        struct timeval most = {left / 1000, left % 1000 * 1000};
        event_base_loopexit(doctor->base, &most);
        event_base_dispatch(doctor->base);
}

static void judge(struct doctor *doctor)
{
        const struct config *config = doctor->p.config;

        machine_judge(doctor);
        for (unsigned i = 0; i < config->n_issuers && doctor_wants(doctor, DOCTOR_ISSUER); i++)
                issuer_check_judge(&doctor->issuers[i]);
        if (doctor->request->token_file && doctor_wants(doctor, DOCTOR_TOKEN))
                caller_judge(doctor);
        for (unsigned i = 0; i < config->n_credentials && doctor_wants(doctor, DOCTOR_CREDENTIAL);
                i++)
                credential_check_judge(&doctor->credentials[i]);
        if (doctor_wants(doctor, DOCTOR_UPSTREAM))
                upstream_check_judge(&doctor->upstream);
        for (unsigned i = 0; i < config->audit.n_sinks && doctor_wants(doctor, DOCTOR_SINK); i++)
                sink_check_judge(&doctor->sinks[i]);
}

static void clear(struct doctor *doctor)
{
        const struct config *config = doctor->p.config;

        for (size_t i = 0; i < config->n_issuers && wants_issuers(doctor); i++)
                issuer_check_clear(&doctor->issuers[i]);
        for (size_t i = 0; i < config->n_credentials && doctor_wants(doctor, DOCTOR_CREDENTIAL);
                i++)
                credential_check_clear(&doctor->credentials[i]);
        for (size_t i = 0; i < config->audit.n_sinks && doctor_wants(doctor, DOCTOR_SINK); i++)
                sink_check_clear(&doctor->sinks[i]);
        ask_clear(&doctor->upstream.anonymous);
        machine_clear(doctor);
        reaches_clear(&doctor->reaches);
        free(doctor->issuers);
        free(doctor->credentials);
        free(doctor->sinks);
        fetcher_free(doctor->fetcher);
        egress_unref(doctor->egress);
        event_base_free(doctor->base);
}

bool doctor_run(const struct doctor_request *request, struct diagnoses *out)
{
        struct doctor doctor = {
                .request = request,
                .out = out,
                .now_s = clock_wall_ms() / 1000,
                .deadline_mono_ms = clock_mono_ms() + DOCTOR_BOUND_MS,
                .uid = (unsigned)geteuid(),
        };
        bool loaded = load(&doctor);

        if (loaded) {
                doctor.base = event_base_new();
                if (!doctor.base)
                        abort();
                doctor.fetcher = fetcher_new(doctor.base);
                find_way_out(&doctor);
                fetcher_set_egress(doctor.fetcher, doctor.egress);
                prepare(&doctor);
                observe(&doctor);
                judge(&doctor);
                clear(&doctor);
        }
        preflight_clear(&doctor.p);
        return loaded;
}
