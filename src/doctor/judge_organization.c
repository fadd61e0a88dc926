#include "judge.h"

bool refusal_read(struct str message, char code[16], char identity[128])
{
        ssize_t at = message.ptr ? str_find_str(message, STR("TF40")) : -1;
        struct str name;

        code[0] = identity[0] = '\0';
        if (at < 0)
                return false;
        message = str_from(message, (size_t)at);
        snprintf(code, 16, "%.*s", (int)(message.len < 8 ? message.len : 8), message.ptr);
        struct str rest = str_cut(message, '\'', &name);
        if (rest.ptr)
                str_cut(rest, '\'', &name);
        bool nobody = !rest.ptr || str_empty(name) || str_starts(name, STR("aaaaaaaa-aaaa-"));
        if (!nobody)
                snprintf(identity, 128, "%.*s", (int)(name.len < 120 ? name.len : 120), name.ptr);
        return !nobody || strcmp(code, "TF401444") == 0;
}

/* It is not known who we are. */
static void judge_sign_in(
        struct diagnoses *out, const struct about *about, const struct organization_seen *seen)
{
        bool other = seen->tenant[0] && seen->own_tenant && seen->own_tenant[0] &&
                     strchr(seen->own_tenant, '-') &&
                     !str_eq_fold(str_of(seen->tenant), str_of(seen->own_tenant));
        struct diagnosis *d = diagnose(out, about, DOCTOR_PROBLEM,
                other ? "other-tenant" : "not-accepted",
                "organization %s does not accept the token: it answered %d%s%s", seen->organization,
                seen->http.status, seen->anonymous ? " as to nobody" : "",
                seen->sign_in ? " with its sign-in page" : "");

        if (other) {
                diagnosis_cause(d,
                        "organization %s belongs to tenant %s, the token is of tenant "
                        "%s",
                        seen->organization, seen->tenant, seen->own_tenant);
                diagnosis_remedy(d,
                        "use an application of tenant %s (set `tenant: %s`), or connect the "
                        "organization to %s",
                        seen->tenant, seen->tenant, seen->own_tenant);
                return;
        }
        diagnosis_cause(d,
                "the service principal of credential %s is no member of organization %s, the "
                "organization belongs to another tenant than %s, or the token is not one for Azure "
                "DevOps",
                seen->credential, seen->organization,
                seen->own_tenant && seen->own_tenant[0] ? seen->own_tenant : "the token's");
        diagnosis_remedy(d,
                "add it in https://dev.azure.com/%s/_settings/users with the object id of its "
                "*enterprise application* and access level Basic",
                seen->organization);
}

static void judge_forbidden(
        struct diagnoses *out, const struct about *about, const struct organization_seen *seen)
{
        struct diagnosis *d = diagnose(out, about, DOCTOR_PROBLEM, "no-access",
                "organization %s knows who asks%s%s and answered %d%s%s", seen->organization,
                seen->identity[0] ? ", " : "", seen->identity, seen->http.status,
                seen->code[0] ? " " : "", seen->code);

        diagnosis_cause(d,
                "the service principal of credential %s may not use organization %s: it is no "
                "member (TF401444: it has never been added), or has no access level",
                seen->credential, seen->organization);
        diagnosis_remedy(d,
                "add it in https://dev.azure.com/%s/_settings/users with access level Basic, and "
                "to a group of each project that callers need",
                seen->organization);
}

static bool judge_status(
        struct diagnoses *out, const struct about *about, const struct organization_seen *seen)
{
        const struct http_seen *http = &seen->http;
        struct diagnosis *d;

        if (http->status == 404) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "not-found",
                        "there is no organization %s (404)", seen->organization);
                diagnosis_cause(d,
                        "`upstream.organizations` names %s, which Azure DevOps does not "
                        "know",
                        seen->organization);
                diagnosis_remedy(d, "correct %s: it is what stands behind https://dev.azure.com/",
                        seen->organization);
                return false;
        }
        if (http->status == 429 || http->status >= 500) {
                d = diagnose(out, about, DOCTOR_WARNING, "busy", "organization %s answered %d",
                        seen->organization, http->status);
                diagnosis_cause(d, "%s",
                        http->status == 429 ? "the credential's budget of requests is used up"
                                            : "Azure DevOps has trouble");
                diagnosis_remedy(d, "try again in some minutes; see https://status.dev.azure.com");
                return false;
        }
        return judge_json_answer(out, about, http);
}

/* Signed in; what does it see? */
static void judge_sight(
        struct diagnoses *out, const struct about *about, const struct organization_seen *seen)
{
        struct diagnosis *d;
        bool refused = seen->projects_status == 401 || seen->projects_status == 403;

        if (refused || (seen->projects_status == 200 && seen->projects == 0)) {
                d = diagnose(out, about, DOCTOR_WARNING, "no-project",
                        "in organization %s, %s sees no project", seen->organization,
                        seen->identity);
                diagnosis_cause(d, "%s is a member, but of no project's group", seen->identity);
                diagnosis_remedy(d, "add %s to a group (Readers, Contributors) of each project",
                        seen->identity);
                return;
        }
        refused = seen->repositories_status >= 400 && seen->repositories_status < 500 &&
                  seen->repositories_status != 429;
        if (seen->projects > 0 &&
                (refused || (seen->repositories_status == 200 && seen->repositories == 0))) {
                d = diagnose(out, about, DOCTOR_WARNING, "stakeholder",
                        "in organization %s, %s sees projects but no repository (%d)",
                        seen->organization, seen->identity, seen->repositories_status);
                diagnosis_cause(d,
                        "%s most likely has the access level Stakeholder, which hides "
                        "repositories",
                        seen->identity);
                diagnosis_remedy(d,
                        "set its access level to Basic in https://dev.azure.com/%s/_settings/users",
                        seen->organization);
        }
}

void judge_organization(
        struct diagnoses *out, const struct about *about, const struct organization_seen *seen)
{
        const struct http_seen *http = &seen->http;

        if (http->answered &&
                (seen->sign_in || seen->anonymous || (http->status == 401 && !seen->recognized))) {
                judge_sign_in(out, about, seen);
                return;
        }
        if (http->answered && (http->status == 401 || http->status == 403)) {
                judge_forbidden(out, about, seen);
                return;
        }
        if (!judge_status(out, about, seen))
                return;
        diagnose(out, about, DOCTOR_OK, "accepted", "organization %s knows it as %s",
                seen->organization, seen->identity);
        judge_sight(out, about, seen);
}
