/*
 * The little world of the tour: an issuer, an Azure DevOps, a policy, and the proxy between them.
 */
#include "tour.h"

#include <poll.h>
#include <time.h>

#include "dagward/base/clock.h"

enum { PROXY_MS = 20000, LOOK_MS = 20, STARTS_MOST = 5, HOUR_S = 3600 };

#define SUBJECT "system:serviceaccount:airflow:worker"

static const char config_text[] =
        "# The configuration of the demo; docs/configuration.md explains every setting.\n"
        "listen:\n"
        "  - address: 127.0.0.1:%u       # plain HTTP is accepted on loopback only\n"
        "admin: {address: \"127.0.0.1:%u\"} # /healthz, /readyz, /metrics\n"
        "workers: 2\n"
        "\n"
        "# Whose tokens are accepted. Keys are found through the issuer's discovery document.\n"
        "issuers:\n"
        "  - name: airflow\n"
        "    issuer: %s\n"
        "    audiences: [dagward]\n"
        "    keys: {discovery: true}\n"
        "\n"
        "# Where allowed requests go. The real hosts are the default; here the emulator stands for "
        "all.\n"
        "upstream:\n"
        "  organizations: [contoso]\n"
        "  hosts: {\"*\": \"%s\"}\n"
        "\n"
        "# What is lent to an allowed request: a fresh token of a service principal, obtained with "
        "a\n"
        "# federated assertion. There is no secret to store.\n"
        "credentials:\n"
        "  - name: etl\n"
        "    type: federated\n"
        "    tenant: 72f988bf-0000-4000-8000-000000000001\n"
        "    client_id: 72f988bf-0000-4000-8000-000000000002\n"
        "    assertion_file: assertion\n"
        "    authority: %s\n"
        "\n"
        "policy: {files: [policy.yaml]}\n"
        "audit: {file: audit.jsonl, durability: writes}\n"
        "timeouts: {drain: 1s}\n";

static const char policy_text[] =
        "# Who may do what. Deny is the default, a matching `deny` wins over every `allow`, and "
        "the\n"
        "# order never matters. The names of operations: `dagward operations`.\n"
        "version: 1\n"
        "\n"
        "roles:\n"
        "  etl-operator:\n"
        "    description: Start the nightly pipeline, watch it, read the repository with the "
        "DAGs.\n"
        "    allow:\n"
        "      - operations: [pipelines.runs.run, pipelines.runs.get]\n"
        "        projects: [analytics]\n"
        "        pipelines: [42]\n"
        "      - operations: [git.fetch] # no git.push anywhere\n"
        "        repositories: [analytics/dags]\n"
        "      - operations: [discovery] # what the SDKs ask first\n"
        "    deny:\n"
        "      - operations: [pipelines.runs.run, build.builds.queue]\n"
        "        pipelines: [99] # never, whatever another role allows\n"
        "  viewer:\n"
        "    description: Look, do not touch.\n"
        "    allow:\n"
        "      - {access: [read], areas: [pipelines, build], projects: [analytics]}\n"
        "      - operations: [discovery]\n"
        "\n"
        "bindings:\n"
        "  - name: Airflow workers\n"
        "    callers: {issuer: airflow, subject: \"system:serviceaccount:airflow:*\"}\n"
        "    roles: [etl-operator]\n"
        "    credential: etl\n"
        "  - name: people with the Airflow role Viewer\n"
        "    callers: {issuer: airflow, roles: [Viewer]}\n"
        "    roles: [viewer]\n"
        "    credential: etl\n"
        "\n"
        "tests: # `dagward check` runs them\n"
        "  - name: a worker starts 42\n"
        "    caller: {issuer: airflow, subject: \"" SUBJECT "\"}\n"
        "    request: POST /contoso/analytics/_apis/pipelines/42/runs\n"
        "    expect: allow\n"
        "  - name: a worker does not start 99\n"
        "    caller: {issuer: airflow, subject: \"" SUBJECT "\"}\n"
        "    request: POST /contoso/analytics/_apis/pipelines/99/runs\n"
        "    expect: deny\n"
        "  - name: a worker clones the repository with the DAGs\n"
        "    caller: {issuer: airflow, subject: \"" SUBJECT "\"}\n"
        "    request: GET /contoso/analytics/_git/dags/info/refs?service=git-upload-pack\n"
        "    expect: allow\n"
        "  - name: a worker does not push\n"
        "    caller: {issuer: airflow, subject: \"" SUBJECT "\"}\n"
        "    request: GET /contoso/analytics/_git/dags/info/refs?service=git-receive-pack\n"
        "    expect: deny\n"
        "  - name: a viewer starts nothing\n"
        "    caller: {issuer: airflow, subject: alice, roles: [Viewer]}\n"
        "    request: POST /contoso/analytics/_apis/pipelines/42/runs\n"
        "    expect: deny\n";

/* --- tokens --- */

/* Has the issuer sign these claims. NULL: t->err. */
static const char *mint(struct tour *t, const char *claims)
{
        static const char *const headers[] = {"Content-Type: application/json", NULL};
        struct tour_call call = {.method = "POST",
                .url = arena_printf(&t->arena, "%s/mint", t->issuer_url).ptr,
                .headers = headers,
                .body = claims};
        struct tour_answer answer;
        const char *token = NULL;

        tour_call(t, &call, &answer);
        if (answer.status == 200)
                token = arena_copy(&t->arena, str_trim(answer.body)).ptr;
        else
                error_set(&t->err, "the issuer signs no token: %s", answer.line);
        tour_answer_clear(&answer);
        return token;
}

static bool write_token(struct tour *t, const char *name, const char *token)
{
        return token && tour_write(t, name, str_of(token), 0600);
}

static bool get_tokens(struct tour *t)
{
        long long now = (long long)time(NULL);

        t->token = mint(
                t, arena_printf(&t->arena, "{\"sub\":\"" SUBJECT "\",\"iat\":%lld,\"exp\":%lld}",
                           now, now + 12 * HOUR_S)
                           .ptr);
        if (!write_token(t, "token", t->token))
                return false;
        t->expired = mint(
                t, arena_printf(&t->arena, "{\"sub\":\"" SUBJECT "\",\"iat\":%lld,\"exp\":%lld}",
                           now - 2 * HOUR_S, now - HOUR_S)
                           .ptr);
        if (!t->expired)
                return false;
        const char *viewer = mint(t, arena_printf(&t->arena,
                                             "{\"sub\":\"alice\",\"roles\":[\"Viewer\"],"
                                             "\"iat\":%lld,\"exp\":%lld}",
                                             now, now + 12 * HOUR_S)
                                             .ptr);
        if (!write_token(t, "viewer-token", viewer))
                return false;
        return write_token(t, "assertion",
                mint(t, "{\"sub\":\"system:serviceaccount:dagward:dagward\","
                        "\"aud\":\"api://AzureADTokenExchange\"}"));
}

/* --- the three programs --- */

static bool start_ends(struct tour *t)
{
        const char *const issuer[] = {NULL, "emulate", "issuer", "--port", "0", NULL};
        const char *const emulator[] = {NULL, "emulate", "azure-devops", "--port", "0", "--data",
                tour_path(t, "azure-devops"), NULL};

        return tour_start(t, &t->issuer, issuer) && tour_start(t, &t->emulator, emulator) &&
               tour_ready(t, &t->issuer, &t->issuer_url) &&
               tour_ready(t, &t->emulator, &t->emulator_url);
}

static bool write_files(struct tour *t)
{
        struct str config = arena_printf(&t->arena, config_text, t->port, t->admin_port,
                t->issuer_url, t->emulator_url, t->issuer_url);

        return tour_write(t, "config.yaml", config, 0600) &&
               tour_write(t, "policy.yaml", str_of(policy_text), 0600);
}

/* Asks /readyz until it says yes. False: t->err. */
static bool proxy_ready(struct tour *t)
{
        struct tour_call call = {.method = "GET",
                .url = arena_printf(&t->arena, "http://127.0.0.1:%u/readyz", t->admin_port).ptr};
        int64_t end = clock_mono_ms() + PROXY_MS;
        struct tour_answer answer;

        for (;;) {
                if (tour_stopped())
                        return error_set(&t->err, "stopped");
                if (!tour_alive(t, &t->proxy))
                        return false;
                tour_call(t, &call, &answer);
                tour_answer_clear(&answer);
                if (answer.status == 200)
                        return true;
                if (clock_mono_ms() > end)
                        return error_set(&t->err, "the proxy is not ready after %d s: %s %.*s",
                                PROXY_MS / 1000, answer.line, STR_FMT(str_head(answer.body, 300)));
                poll(NULL, 0, LOOK_MS);
        }
}

static bool start_proxy(struct tour *t, uint16_t wanted)
{
        const char *const proxy[] = {NULL, "serve", "--config", tour_path(t, "config.yaml"), NULL};

        t->port = tour_free_port(wanted);
        t->admin_port = tour_free_port(0);
        if (wanted && !t->port)
                return error_set(&t->err,
                        "port %u of 127.0.0.1 cannot be had; name another with --port, or leave "
                        "it out",
                        wanted);
        t->proxy_url = arena_printf(&t->arena, "http://127.0.0.1:%u", t->port).ptr;
        return write_files(t) && tour_start(t, &t->proxy, proxy) && proxy_ready(t);
}

bool tour_world_start(struct tour *t)
{
        uint16_t wanted = t->port;

        t->issuer.name = "issuer";
        t->emulator.name = "emulator";
        t->proxy.name = "proxy";
        t->audit_file = tour_path(t, "audit.jsonl");
        if (!start_ends(t) || !get_tokens(t))
                return false;
        /* Between choosing a port and taking it somebody else may have: then another. */
        for (int i = 1; !start_proxy(t, wanted); i++)
                if (i == STARTS_MOST || t->proxy.pid || tour_stopped() ||
                        !strstr(t->err.text, "in use"))
                        return false;
        return true;
}
