#include "embedded/azure_devops.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "dagward/base/clock.h"
#include "dagward/base/id.h"
#include "dagward/token/base64.h"
#include "embedded/emu.h"

const struct emu_project emu_projects[EMU_PROJECTS] = {
        {"a7a1371c-5000-4b1e-9d5a-000000000001", "analytics",
                "Pipelines and DAGs of the data team"},
        {"91a7f02d-5000-4b1e-9d5a-000000000002", "platform", "What everybody stands on"},
};

const struct emu_repository emu_repositories[EMU_REPOSITORIES] = {
        {"da65da65-6000-4e90-8a11-000000000001", "dags", 0},
        {"0de15000-6000-4e90-8a11-000000000002", "models", 0},
        {"91a7f02d-6000-4e90-8a11-000000000003", "platform", 1},
};

const struct emu_pipeline emu_pipelines[EMU_PIPELINES] = {
        {7, "train-models", 0, 1},
        {42, "nightly-load", 0, 0},
        {99, "drop-everything", 0, 0},
};

/* --- lookups --- */

const struct emu_project *emu_project_named(struct str name)
{
        for (size_t i = 0; i < EMU_PROJECTS; i++) {
                if (str_eq_fold(name, str_of(emu_projects[i].name)) ||
                        str_eq_fold(name, str_of(emu_projects[i].id)))
                        return &emu_projects[i];
        }
        return NULL;
}

const struct emu_repository *emu_repository_named(
        const struct emu_project *project, struct str name)
{
        for (size_t i = 0; i < EMU_REPOSITORIES; i++) {
                const struct emu_repository *r = &emu_repositories[i];

                if (project && &emu_projects[r->project] != project)
                        continue;
                if (str_eq_fold(name, str_of(r->id)) ||
                        (project && str_eq_fold(name, str_of(r->name))))
                        return r;
        }
        return NULL;
}

struct str emu_query(const struct emu_call *call, const char *name)
{
        return target_query(&call->request->target, str_of(name));
}

/* --- answers --- */

void emu_json(struct emu_call *call, int status, json_t *body)
{
        char *text = json_dumps(body, JSON_COMPACT);

        if (!text)
                abort();
        emu_reply(call->request, status,
                "application/json; charset=utf-8; api-version=7.2-preview.1", str_of(text));
        free(text);
        json_decref(body);
}

void emu_error(struct emu_call *call, int status, const char *type_key, const char *format, ...)
{
        char message[1024];
        va_list args;

        va_start(args, format);
        vsnprintf(message, sizeof(message), format, args);
        va_end(args);
        struct str type_name = arena_printf(call->request->arena,
                "Microsoft.TeamFoundation.Framework.Server.%s, "
                "Microsoft.TeamFoundation.Framework.Server",
                type_key);
        /* A message cut in the middle of a character would be no JSON. */
        json_t *text = json_string(message);
        emu_json(call, status,
                json_pack("{ss sn so ss ss si si}", "$id", "1", "innerException", "message",
                        text ? text : json_string("?"), "typeName", type_name.ptr, "typeKey",
                        type_key, "errorCode", 0, "eventId", 3000));
}

void emu_no_project(struct emu_call *call, int status, struct str name)
{
        emu_error(call, status, "ProjectDoesNotExistException",
                "VS800075: The project with id 'vstfs:///Classification/TeamProject/%.*s' does not "
                "exist, or you do not have permission to access it.",
                STR_FMT(name));
}

/* --- who calls --- */

static bool token_good(const struct azure_devops *azure, struct str token)
{
        bool good = token.len > 9 && str_starts(token, STR("emulated-"));

        for (size_t i = 0; i < azure->n_tokens; i++)
                good |= str_eq(token, str_of(azure->tokens[i]));
        return good;
}

static bool identify(const struct azure_devops *azure, const struct emu_request *request)
{
        struct str value = h1_field_value(&request->head, H1_AUTHORIZATION), scheme, user;
        struct str rest = str_trim(str_cut(value, ' ', &scheme));

        if (h1_field_values(&request->head, H1_AUTHORIZATION, NULL, 0) != 1)
                return false;
        if (str_eq_fold(scheme, STR("Bearer")))
                return token_good(azure, rest);
        if (!str_eq_fold(scheme, STR("Basic")))
                return false;
        char *plain = arena_alloc(request->arena, BASE64_DECODED(rest.len) + 1);
        ssize_t n = plain ? base64_decode(rest, plain) : -1;
        if (n < 0)
                return false;
        return token_good(azure, str_cut(str_view(plain, (size_t)n), ':', &user));
}

static const char sign_in_page[] =
        "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Azure DevOps Services | Sign In</title>"
        "<meta http-equiv=\"refresh\" content=\"0;url=https://login.microsoftonline.com/" EMU_TENANT
        "/oauth2/authorize\"></head>\n<body><h1>Sign in to your account</h1></body></html>\n";

static void challenge(struct emu_request *request)
{
        emu_header(request, STR("WWW-Authenticate"),
                STR("Bearer authorization_uri=https://login.microsoftonline.com/" EMU_TENANT));
        emu_header(request, STR("WWW-Authenticate"),
                STR("Basic realm=\"https://tfsprodweu3.visualstudio.com/\""));
        emu_header(request, STR("WWW-Authenticate"), STR("TFS-Federated"));
        emu_header(
                request, STR("X-TFS-FedAuthRealm"), STR("https://tfsprodweu3.visualstudio.com/"));
        emu_header(request, STR("X-TFS-FedAuthIssuer"),
                STR("https://" EMU_ORGANIZATION ".visualstudio.com/"));
        emu_header(request, STR("X-TFS-FedAuthRedirect"),
                STR("https://app.vssps.visualstudio.com/_signin?realm=dev.azure.com"));
        emu_header(request, STR("X-VSS-AuthorizationEndpoint"),
                STR("https://vssps.dev.azure.com/" EMU_ORGANIZATION "/"));
        emu_header(request, STR("X-VSS-ResourceTenant"), STR(EMU_TENANT));
        emu_header(request, STR("X-TFS-ServiceError"),
                STR("TF400813%3a+Resource+not+available+for+anonymous+access."));
}

/* Refuses the credential in the way of `forced`, or as the original does when that is "". */
static void sign_in(struct emu_call *call, const char *forced, bool git)
{
        struct emu_request *q = call->request;
        struct str suppress = h1_field_value(&q->head, H1_X_TFS_FEDAUTHREDIRECT);
        bool plain =
                git || str_eq_fold(suppress, STR("Suppress")) || str_eq(call->method, STR("PATCH"));

        if (forced[0])
                plain = strcmp(forced, "401") == 0;
        if (strcmp(forced, "302") == 0) {
                emu_header(q, STR("Location"),
                        STR("https://app.vssps.visualstudio.com/_signin?realm=dev.azure.com&"
                            "reply_to=https%3A%2F%2Fdev.azure.com%2F" EMU_ORGANIZATION "%2F"));
                emu_header(
                        q, STR("X-TFS-FedAuthRealm"), STR("https://tfsprodweu3.visualstudio.com/"));
                emu_reply(q, 302, "text/html; charset=utf-8",
                        STR("<html><body>Object moved to sign in.</body></html>\n"));
        } else if (!plain) {
                emu_header(q, STR("P3P"), STR("CP=\"CAO DSP COR ADMa DEV CONo TELo\""));
                emu_reply(q, 203, "text/html; charset=utf-8", str_of(sign_in_page));
        } else {
                challenge(q);
                if (git)
                        emu_reply(q, 401, "text/html", STR("<html>401: Unauthorized</html>\n"));
                else
                        emu_error(call, 401, "UnauthorizedRequestException",
                                "TF400813: The user '' is not authorized to access this resource.");
        }
}

/* --- api-version --- */

/* The version that a request names in its query, Accept or Content-Type; empty: none. */
static struct str version_of(const struct emu_call *call)
{
        const enum h1_name places[] = {H1_ACCEPT, H1_CONTENT_TYPE};
        struct str version = emu_query(call, "api-version");

        for (size_t i = 0; i < 2 && str_empty(version); i++) {
                struct str rest = h1_field_value(&call->request->head, places[i]), part;

                while (rest.ptr && str_empty(version)) {
                        rest = str_cut(rest, ';', &part);
                        part = str_trim(part);
                        if (str_starts_fold(part, STR("api-version=")))
                                str_cut(str_from(part, 12), ',', &version);
                }
        }
        return str_trim(version);
}

/* Answers and says false when the version is missing or cannot be. */
static bool version_good(struct emu_call *call)
{
        struct str version = version_of(call), major, minor, preview;
        struct str rest = str_cut(version, '.', &major);
        uint64_t a, b;

        if (str_empty(version)) {
                if (str_eq(call->method, STR("GET")) || str_eq(call->method, STR("HEAD")))
                        return true;
                emu_error(call, 400, "VssVersionNotSpecifiedException",
                        "No api-version was supplied for the \"%.*s\" request. The version must be "
                        "supplied either as part of the Accept header (e.g. \"application/json; "
                        "api-version=1.0\") or as a query parameter (e.g. \"?api-version=1.0\").",
                        STR_FMT(call->method));
                return false;
        }
        preview = str_cut(rest, '-', &minor);
        if (!str_to_u64(major, &a) || !str_to_u64(minor, &b) ||
                (preview.ptr && !str_starts_fold(preview, STR("preview")))) {
                emu_error(call, 400, "VssInvalidApiVersionException",
                        "The requested version \"%.*s\" is not valid.", STR_FMT(version));
                return false;
        }
        if (a < 1 || a > 7 || (a == 7 && b > 2)) {
                emu_error(call, 400, "VssVersionOutOfRangeException",
                        "The requested REST API version of %.*s is out of range for this server. "
                        "The latest REST API version this server supports is 7.2.",
                        STR_FMT(version));
                return false;
        }
        return true;
}

/* --- the way of a request --- */

static void correlate(struct emu_request *request)
{
        struct str session = h1_field_value(&request->head, H1_X_TFS_SESSION);
        struct str end_to_end = h1_field_value(&request->head, H1_X_VSS_E2EID);
        char activity[ID_UUID_LEN + 1];

        id_uuid7(clock_wall_ms(), activity);
        emu_header(request, STR("ActivityId"), str_of(activity));
        emu_header(request, STR("X-TFS-Session"), str_empty(session) ? str_of(activity) : session);
        emu_header(
                request, STR("X-VSS-E2EID"), str_empty(end_to_end) ? str_of(activity) : end_to_end);
        emu_header(request, STR("X-TFS-ProcessId"), STR("3f2b1c00-0000-4c1d-8001-0e0a0de77a01"));
        emu_header(request, STR("X-VSS-SenderDeploymentId"),
                STR("5f0e9000-0000-4c1d-8001-0e0a0de77a02"));
        emu_header(request, STR("Set-Cookie"),
                str_of(arena_printf(request->arena,
                        "VstsSession=emulated-session-%s; domain=.dev.azure.com; path=/; secure; "
                        "HttpOnly",
                        activity)
                                .ptr));
}

static void limits(struct emu_request *request, const struct emu_fault *fault)
{
        char text[32];

        if (fault->retry_after < 0)
                return;
        snprintf(text, sizeof(text), "%ld", fault->retry_after);
        emu_header(request, STR("Retry-After"), str_of(text));
        emu_header(request, STR("X-RateLimit-Resource"), STR("Core"));
        emu_header(request, STR("X-RateLimit-Limit"), STR("200"));
        emu_header(request, STR("X-RateLimit-Remaining"), STR("0"));
        if (fault->delay_ms > 0) { /* it was held back, and is answered all the same */
                snprintf(text, sizeof(text), "%ld.%03ld", fault->delay_ms / 1000,
                        fault->delay_ms % 1000);
                emu_header(request, STR("X-RateLimit-Delay"), str_of(text));
        }
        snprintf(text, sizeof(text), "%lld",
                (long long)(clock_wall_ms() / 1000 + fault->retry_after));
        emu_header(request, STR("X-RateLimit-Reset"), str_of(text));
}

static void fail(struct emu_call *call, int status)
{
        if (status == 429)
                emu_error(call, 429, "RequestBlockedException",
                        "TF400733: The request has been canceled: Request was blocked due to "
                        "exceeding usage of resource 'Concurrency' in namespace '" EMU_USER_ID
                        "'.");
        else if (status >= 300 && status < 400)
                emu_reply(call->request, status, NULL, STR_NONE);
        else
                emu_error(call, status, "EmulatedFaultException", "The fault that was asked for.");
}

/* Behind the organization: a repository, the REST API, or the portal. */
static void dispatch(struct emu_call *call)
{
        const struct str *s = call->segments;
        size_t n = call->n_segments;

        for (size_t i = 0; i < 2 && i < n; i++) {
                if (str_eq_fold(s[i], STR("_git"))) {
                        struct str name = i == 1 ? s[0] : n > 1 ? s[1] : STR_NONE;

                        if (i == 0 && str_ends_fold(name, STR(".git")))
                                name.len -= 4;
                        call->project = emu_project_named(name);
                        emu_git(call, i + 1);
                        return;
                }
                if (str_eq_fold(s[i], STR("_packaging"))) {
                        call->project = i ? emu_project_named(s[0]) : NULL;
                        if (i && !call->project)
                                emu_no_project(call, 404, s[0]);
                        else
                                emu_packaging(call, i + 1);
                        return;
                }
                if (!str_eq_fold(s[i], STR("_apis")))
                        continue;
                if (str_eq(call->method, STR("OPTIONS"))) {
                        emu_locations(call, n > i + 1 ? s[i + 1] : STR_NONE);
                        return;
                }
                if (!version_good(call))
                        return;
                if (i == 1 && !(call->project = emu_project_named(s[0]))) {
                        bool build = n > 2 && str_eq_fold(s[2], STR("build"));
                        emu_no_project(call, build ? 400 : 404, s[0]);
                        return;
                }
                emu_rest(call, s + i + 1, n - i - 1);
                return;
        }
        if (n <= 1 && (n == 0 || emu_project_named(s[0])))
                emu_reply(call->request, 200, "text/html; charset=utf-8",
                        STR("<html><head><title>Contoso</title></head></html>\n"));
        else
                emu_reply(call->request, 404, "text/html; charset=utf-8",
                        STR("<html><head><title>Page not found</title></head></html>\n"));
}

/* Cuts the organization off the path; false: it is one that does not exist. */
static bool enter(struct emu_call *call)
{
        const struct target *target = &call->request->target;
        size_t skip = 0;

        if (target->n_segments > 0 && str_eq_fold(target->segments[0], STR(EMU_ORGANIZATION)))
                skip = 1;
        else if (target->n_segments > 0 && !str_eq_fold(target->segments[0], STR("_apis")))
                return false;
        if (skip && target->n_segments > 1 &&
                str_eq_fold(target->segments[1], STR("DefaultCollection")))
                skip = 2;
        call->segments = target->segments + skip;
        call->n_segments = target->n_segments - skip;
        return true;
}

static bool is_git(const struct target *target)
{
        for (size_t i = 1; i < target->n_segments && i < 3; i++) {
                if (str_eq_fold(target->segments[i], STR("_git")))
                        return true;
        }
        return false;
}

static void handle(struct emu_request *request, void *arg)
{
        struct emu_call call = {.azure = arg, .request = request, .method = request->head.method};
        struct str override = h1_field_value(&request->head, H1_X_HTTP_METHOD_OVERRIDE);

        if (emu_control(call.azure, request))
                return;
        emu_record(call.azure, request, false);
        struct emu_fault fault = emu_fault_take(call.azure, request);
        if (fault.delay_ms > 0 && !emu_wait_ms(request, fault.delay_ms)) {
                emu_drop(request);
                return;
        }
        if (fault.close) {
                emu_body_discard(request);
                emu_drop(request);
                return;
        }
        if (fault.lose)
                emu_lose(request);
        correlate(request);
        limits(request, &fault);
        if (str_eq(call.method, STR("POST")) && !str_empty(override))
                call.method = override;
        bool anonymous = str_eq(call.method, STR("OPTIONS"));
        call.identified = identify(call.azure, request);
        if (fault.signin[0] || (!call.identified && !anonymous)) {
                sign_in(&call, fault.signin, is_git(&request->target));
                return;
        }
        if (call.identified)
                emu_header(request, STR("X-VSS-UserData"),
                        STR(EMU_USER_ID ":dagward@" EMU_ORGANIZATION ".example"));
        if (fault.next_status)
                fail(&call, fault.next_status);
        else if (enter(&call))
                dispatch(&call);
        else
                emu_error(&call, 404, "ServiceHostDoesNotExistException",
                        "TF200016: The organization %.*s does not exist.",
                        STR_FMT(request->target.segments[0]));
}

/* --- start and stop --- */

static SSL_CTX *tls_open(const struct azure_devops_settings *settings, struct error *err)
{
        SSL_CTX *tls = SSL_CTX_new(TLS_server_method());

        if (tls && settings->certificate && settings->key &&
                SSL_CTX_use_certificate_chain_file(tls, settings->certificate) == 1 &&
                SSL_CTX_use_PrivateKey_file(tls, settings->key, SSL_FILETYPE_PEM) == 1)
                return tls;
        error_set(err, "cannot use certificate %s with key %s: %s",
                settings->certificate ? settings->certificate : "(none)",
                settings->key ? settings->key : "(none)",
                ERR_reason_error_string(ERR_peek_last_error()));
        SSL_CTX_free(tls);
        return NULL;
}

static bool listen_both(
        struct azure_devops *azure, const struct azure_devops_settings *settings, struct error *err)
{
        azure->plain = emu_listen(settings->port, NULL, handle, azure, err);
        azure->storage = azure->plain ? emu_listen(0, NULL, emu_storage, azure, err) : NULL;
        if (!azure->storage || !settings->tls)
                return azure->storage;
        SSL_CTX *tls = tls_open(settings, err);
        if (tls)
                azure->tls = emu_listen(settings->tls_port, tls, handle, azure, err);
        SSL_CTX_free(tls);
        return azure->tls;
}

struct azure_devops *azure_devops_start(
        const struct azure_devops_settings *settings, struct error *err)
{
        struct azure_devops *azure = calloc(1, sizeof(*azure));

        if (!azure)
                abort();
        pthread_mutex_init(&azure->lock, NULL);
        azure->next_run = EMU_FIRST_RUN;
        azure->fault.retry_after = -1;
        id_random(azure->storage_key, sizeof(azure->storage_key));
        azure->tokens = calloc(settings->n_tokens + 1, sizeof(*azure->tokens));
        if (!azure->tokens)
                abort();
        for (; azure->n_tokens < settings->n_tokens; azure->n_tokens++)
                azure->tokens[azure->n_tokens] = str_dup(settings->tokens[azure->n_tokens]);
        if (mkdir(settings->data, 0700) < 0 && errno != EEXIST)
                error_set(err, "cannot make %s: %s", settings->data, strerror(errno));
        else if (!(azure->data = realpath(settings->data, NULL)))
                error_set(err, "cannot use %s: %s", settings->data, strerror(errno));
        else if (emu_git_prepare(azure, err) && listen_both(azure, settings, err))
                return azure;
        azure_devops_stop(azure);
        return NULL;
}

uint16_t azure_devops_port(const struct azure_devops *azure)
{
        return emu_port(azure->plain);
}

uint16_t azure_devops_storage_port(const struct azure_devops *azure)
{
        return emu_port(azure->storage);
}

uint16_t azure_devops_tls_port(const struct azure_devops *azure)
{
        return azure->tls ? emu_port(azure->tls) : 0;
}

void azure_devops_stop(struct azure_devops *azure)
{
        if (!azure)
                return;
        emu_stop(azure->plain);
        emu_stop(azure->tls);
        emu_stop(azure->storage);
        emu_runs_free(azure);
        emu_releases_free(azure);
        emu_pages_free(azure);
        for (size_t i = 0; i < EMU_RECORDS; i++)
                json_decref(azure->records[i]);
        for (size_t i = 0; i < azure->n_tokens; i++)
                free(azure->tokens[i]);
        free(azure->tokens);
        free(azure->data);
        free(azure->exec_path);
        pthread_mutex_destroy(&azure->lock);
        free(azure);
}
