#include <stdlib.h>

#include "inside.h"

enum {
        CONNECTION_MS = 5000,
        LIST_MS = 3000,
        ANSWER_MOST_BYTES = 1 << 20,
        PROOF_MOST_BYTES = 64 * 1024,
        GUID = 36,
};

void credential_check_prepare(struct credential_check *check)
{
        const struct config_credential *c = check->config;
        struct doctor *doctor = check->doctor;
        const struct {
                const char *setting;
                struct str path;
        } files[] = {{"secret_file", c->secret_file}, {"assertion_file", c->assertion_file},
                {"key_file", c->key_file}, {"certificate_file", c->certificate_file},
                {"secret_file", c->assertion.secret_file}, {"file", c->file}};

        check->seen.config = c;
        check->seen.claims.exp_s = INT64_MIN;
        check->organizations =
                calloc(doctor->p.config->upstream.n_organizations, sizeof(*check->organizations));
        if (!check->organizations)
                abort();
        for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
                if (!files[i].path.ptr || check->file_setting)
                        continue;
                check->file_setting = files[i].setting;
                file_look(files[i].path.ptr, &check->file);
        }
        check->file_good = !check->file_setting ||
                           (!check->file.error && check->file.regular && !check->file.empty);
        if (c->tenant.ptr && c->authority.host.ptr)
                check->reach = reach_want(&doctor->reaches, c->authority.host, c->authority.port,
                        c->authority.https, c->ca.ptr);
}

/* 8-4-4-4-12 hex digits, as ids are. */
static bool is_guid(struct str s)
{
        for (size_t i = 0; i < s.len; i++) {
                char c = char_lower(s.ptr[i]);
                bool dash = i == 8 || i == 13 || i == 18 || i == 23;
                if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
                        return false;
        }
        return s.len == GUID;
}

static void proof_look(struct credential_check *check)
{
        struct secret proof = {NULL, 0};
        struct error err;

        if (!check->file_setting || !check->file_good)
                return;
        if (secret_read(&proof, check->file.path, PROOF_MOST_BYTES, &err)) {
                check->seen.looks_like_id =
                        check->config->secret_file.ptr && is_guid(secret_reveal(&proof));
                if (!check->config->secret_file.ptr)
                        token_claims_read(secret_reveal(&proof), &check->seen.claims);
        }
        secret_drop(&proof);
}

/* --- at an organization --- */

static const char *user_text(const json_t *connection, const char *member)
{
        const json_t *user = json_object_get(connection, "authenticatedUser");
        const char *text = json_string_value(json_object_get(user, member));

        return text ? text : "";
}

static void organization_ask(struct organization_check *check, struct ask_once *ask,
        const char *path, int64_t timeout_ms)
{
        struct doctor *doctor = check->credential->doctor;
        const struct ask_settings settings = {
                .secret_field = &check->credential->field,
                .ca = doctor->p.config->upstream.ca.ptr,
                .plain = doctor->upstream.plain,
                .timeout_ms = timeout_ms,
                .most_bytes = ANSWER_MOST_BYTES,
                .suppress_sign_in = true,
        };

        snprintf(ask->url, sizeof(ask->url), "%s/%s/_apis/%s", doctor->upstream.base, check->name,
                path);
        ask->owner = check;
        ask_start(doctor, ask, &settings);
}

static void on_projects(struct ask_once *ask, const struct fetch_result *result)
{
        struct organization_check *check = ask->owner;

        (void)result;
        if (ask->seen.status == 200 && json_integer_value(json_object_get(ask->json, "count")) > 0)
                organization_ask(check, &check->repositories,
                        "git/repositories?includeLinks=false&api-version=7.1", LIST_MS);
}

static void on_connection(struct ask_once *ask, const struct fetch_result *result)
{
        struct organization_check *check = ask->owner;
        const char *id = user_text(ask->json, "id"),
                   *name = user_text(ask->json, "providerDisplayName");

        struct str tenant = fetch_field(result, "X-VSS-ResourceTenant");

        check->recognized = fetch_field(result, "X-VSS-UserData").ptr != NULL;
        if (tenant.ptr && !str_starts(tenant, STR("00000000-")))
                snprintf(check->tenant, sizeof(check->tenant), "%.60s", tenant.ptr);
        if (ask->seen.status != 200 || !ask->json)
                return;
        check->anonymous = str_starts(str_of(id), STR("aaaaaaaa-aaaa-")) || !id[0] ||
                           str_eq_fold(str_of(name), STR("anonymous"));
        snprintf(check->identity, sizeof(check->identity), "%s%s%s%s", name, name[0] ? " (" : "",
                id, name[0] ? ")" : "");
        if (check->anonymous)
                return;
        check->projects.done = on_projects;
        organization_ask(check, &check->projects, "projects?$top=1&api-version=7.1", LIST_MS);
}

static void organizations_ask(struct credential_check *check)
{
        struct doctor *doctor = check->doctor;
        const struct config_upstream *upstream = &doctor->p.config->upstream;

        if (!reach_good(doctor->upstream.services[SERVICE_DEV]))
                return;
        for (size_t i = 0; i < upstream->n_organizations; i++) {
                struct organization_check *one = &check->organizations[i];
                one->credential = check;
                one->name = upstream->organizations[i].ptr;
                one->connection.done = on_connection;
                organization_ask(one, &one->connection,
                        "connectionData?connectOptions=none&api-version=7.1-preview.1",
                        CONNECTION_MS);
        }
}

/* --- the token --- */

static void on_probed(void *owner, const struct credential *credential, const char *why)
{
        struct credential_check *check = owner;

        check->seen.settled = true;
        check->seen.obtained = credential != NULL;
        snprintf(check->why, sizeof(check->why), "%s", why);
        if (credential) {
                secret_set(&check->field, credential_field(credential));
                organizations_ask(check);
        }
        doctor_settled(check->doctor);
}

void credential_check_start(struct credential_check *check)
{
        struct doctor *doctor = check->doctor;

        proof_look(check);
        if (check->config->on_demand || !check->file_good ||
                (check->reach && !reach_good(check->reach)))
                return;
        check->started = true;
        doctor_pending(doctor);
        check->probe = credential_probe_start(
                doctor->p.config, check->config, doctor->base, doctor->fetcher, on_probed, check);
}

/* --- what it means --- */

static void organization_judge(const struct organization_check *check, const struct about *about)
{
        const struct ask_once *ask = &check->connection;
        struct organization_seen seen = {
                .organization = check->name,
                .credential = check->credential->config->name.ptr,
                .http = ask->seen,
                .anonymous = check->anonymous,
                .own_tenant = check->credential->config->tenant.ptr,
                .projects_status = check->projects.seen.answered ? check->projects.seen.status : 0,
                .repositories_status =
                        check->repositories.seen.answered ? check->repositories.seen.status : 0,
                .projects = json_integer_value(json_object_get(check->projects.json, "count")),
                .repositories =
                        json_integer_value(json_object_get(check->repositories.json, "count")),
        };
        const struct about at = {about->part, about->order, about->subject, "organization"};
        struct str location = str_of(ask->seen.location);
        const char *message = json_string_value(json_object_get(ask->json, "message"));

        snprintf(seen.identity, sizeof(seen.identity), "%s", check->identity);
        snprintf(seen.tenant, sizeof(seen.tenant), "%s", check->tenant);
        bool redirect = ask->seen.status >= 300 && ask->seen.status < 400;
        seen.sign_in =
                ask->seen.status == 203 ||
                (redirect && (ask->seen.azure || str_find_str(location, STR("/_signin")) > 0));
        if (ask->seen.status >= 400)
                seen.recognized = refusal_read(str_of(message), seen.code, seen.identity) ||
                                  check->recognized;
        judge_organization(check->credential->doctor->out, &at, &seen);
}

static void organizations_judge(struct credential_check *check, const struct about *about)
{
        struct doctor *doctor = check->doctor;

        if (!reach_good(doctor->upstream.services[SERVICE_DEV])) {
                diagnose(doctor->out, about, DOCTOR_SKIPPED, "not-shown",
                        "the token was not tried at any organization: Azure DevOps cannot be "
                        "reached");
                return;
        }
        for (size_t i = 0; i < doctor->p.config->upstream.n_organizations; i++)
                organization_judge(&check->organizations[i], about);
}

void credential_check_judge(struct credential_check *check)
{
        const struct config_credential *c = check->config;
        struct doctor *doctor = check->doctor;
        const struct about about = {DOCTOR_CREDENTIAL, check->index, c->name.ptr, "credential"};
        const struct about authority = {DOCTOR_CREDENTIAL, check->index, c->name.ptr, "authority"};
        bool good = true;

        if (check->file_setting)
                good = judge_file(doctor->out, &about, check->file_setting, &check->file,
                        CARE_WORLD, doctor->uid);
        if (check->reach) {
                struct reach_seen seen = reach_view(check->reach);
                good &= judge_reach(doctor->out, &authority, &seen, DOCTOR_PROBLEM,
                        doctor->machine.limits.n_proxies > 0, doctor->now_s);
        }
        check->seen.why = check->why;
        if (check->file_good)
                judge_proof(doctor->out, &about, &check->seen, doctor->now_s);
        if (c->assertion_is_callers) {
                diagnose(doctor->out, &about, DOCTOR_SKIPPED, "for-each-caller",
                        "a token is asked for with each caller's own, so none was tried: "
                        "application %s needs a federated credential for each caller, with issuer, "
                        "subject and audience of its token to the byte; the issuer's keys have to "
                        "be public, and the tokens signed with RS256",
                        c->client_id.ptr);
                return;
        }
        if (c->on_demand) {
                diagnose(doctor->out, &about, DOCTOR_SKIPPED, "on-demand",
                        c->only_for_sinks
                                ? "no binding lends it: it is for sinks, and tried with them"
                                : "it opens a vault for others, and is tried with them");
                return;
        }
        if (!good || !check->started) {
                diagnose(doctor->out, &about, DOCTOR_SKIPPED, "not-tried",
                        "no token was asked for, because of what is said above");
                return;
        }
        if (judge_obtained(
                    doctor->out, &about, &check->seen, credential_remedy(aadsts_of(check->why))))
                organizations_judge(check, &about);
}

void credential_check_clear(struct credential_check *check)
{
        for (size_t i = 0; i < check->doctor->p.config->upstream.n_organizations; i++) {
                ask_clear(&check->organizations[i].connection);
                ask_clear(&check->organizations[i].projects);
                ask_clear(&check->organizations[i].repositories);
        }
        free(check->organizations);
        credential_probe_free(check->probe);
        secret_drop(&check->field);
}
