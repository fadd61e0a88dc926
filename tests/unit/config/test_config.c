#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dagward/config/config.h"

static const char *environment(const char *name)
{
        static const char *const variables[][2] = {{"FOLDER", "/srv"}, {"NAME", "etl"},
                {"COUNT", "7"}, {"EMPTY", ""}, {"BAD_UTF8", "\xff"},
                {"LATE_SECRET",
                        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2kuZXhhbXBsZSJ9.c2lnbmF0dXJl"},
                {"AZURE_TENANT_ID", NULL}};

        for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++)
                if (strcmp(name, variables[i][0]) == 0)
                        return variables[i][1];
        return NULL;
}

static const char *azure(const char *name)
{
        static const char *const variables[][2] = {{"AZURE_TENANT_ID", "contoso.onmicrosoft.com"},
                {"AZURE_CLIENT_ID", "22222222-2222-2222-2222-222222222222"},
                {"AZURE_FEDERATED_TOKEN_FILE", "/var/run/token"},
                {"AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/"}};

        for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++)
                if (strcmp(name, variables[i][0]) == 0)
                        return variables[i][1];
        return NULL;
}

static struct config *load(
        const char *text, const char *(*env)(const char *), struct error_list *errors)
{
        struct config_source source = {.name = "t.yaml",
                .text = str_of(text),
                .folder = "/etc/dagward/",
                .environment = env};

        return config_load_text(&source, errors);
}

static int by_place_and_text(const void *left, const void *right)
{
        const struct finding *a = left, *b = right;

        if (a->line != b->line)
                return a->line < b->line ? -1 : 1;
        if (a->column != b->column)
                return a->column < b->column ? -1 : 1;
        return strcmp(a->text, b->text);
}

/* The findings as `line:column: text`, in order, joined by newlines. */
static void findings_of(struct error_list *errors, char *out, size_t size)
{
        size_t len = 0;

        out[0] = '\0';
        if (errors->n)
                qsort(errors->findings, errors->n, sizeof(*errors->findings), by_place_and_text);
        for (size_t i = 0; i < errors->n && len < size; i++) {
                const struct finding *f = &errors->findings[i];
                assert_string_equal(f->file, "t.yaml");
                len += (size_t)snprintf(out + len, size - len, "%s%u:%u: %s%s", i ? "\n" : "",
                        f->line, f->column, f->warning ? "warning: " : "", f->text);
        }
}

#define LISTEN "listen: [{address: 127.0.0.1:8080}]\n"
#define ISSUERS "issuers: [{name: a, issuer: https://a.example, audiences: dagward}]\n"
#define UPSTREAM "upstream: {organizations: contoso}\n"
#define CREDENTIALS "credentials: [{name: c, type: static_file, file: token}]\n"
#define REST "policy: {files: p.yaml}\naudit: {file: a.jsonl}\n"
#define MINIMAL LISTEN ISSUERS UPSTREAM CREDENTIALS REST

static void assert_str(struct str s, const char *expected)
{
        assert_non_null(s.ptr);
        assert_string_equal(s.ptr, expected); /* also: there is a NUL behind it */
        assert_int_equal(s.len, strlen(expected));
}

static struct config *load_good(const char *text, const char *(*env)(const char *))
{
        struct error_list errors;
        char found[2048];

        error_list_init(&errors);
        struct config *c = load(text, env, &errors);
        findings_of(&errors, found, sizeof(found));
        assert_string_equal(found, "");
        assert_non_null(c);
        error_list_clear(&errors);
        return c;
}

static void what_is_left_out_has_its_default(void **state)
{
        struct config *c = load_good(MINIMAL, environment);

        (void)state;
        assert_int_equal(c->n_listeners, 1);
        assert_false(c->listeners[0].has_tls);
        assert_null(c->public_url.text.ptr);
        assert_str(c->admin.address.text, "127.0.0.1:9901");
        assert_true(c->admin.address.loopback);
        assert_int_equal(c->workers, 0);
        const struct config_issuer *i = &c->issuers[0];
        assert_str(i->issuers[0], "https://a.example");
        assert_str(i->audiences[0], "dagward");
        assert_true(i->keys.discovery);
        assert_int_equal(i->keys.refresh_ms, 15 * 60 * 1000);
        assert_int_equal(i->keys.cooldown_ms, 30 * 1000);
        assert_int_equal(i->keys.keep_ms, 24 * 3600 * 1000);
        assert_int_equal(i->keys.timeout_ms, 10 * 1000);
        assert_int_equal(i->n_algorithms, 2);
        assert_str(i->algorithms[0], "RS256");
        assert_str(i->algorithms[1], "ES256");
        assert_int_equal(i->clock_skew_ms, 60 * 1000);
        assert_int_equal(i->max_lifetime_ms, 24 * 3600 * 1000);
        assert_int_equal(i->n_require, 0);
        assert_int_equal(i->n_roles_paths, 3);
        assert_str(i->roles_paths[2], "realm_access.roles");
        assert_str(c->upstream.organizations[0], "contoso");
        assert_null(c->upstream.ca.ptr);
        assert_int_equal(c->upstream.n_hosts, 0);
        assert_null(config_host_override(&c->upstream, "dev.azure.com"));
        assert_int_equal(c->upstream.connect_ms, 5000);
        assert_int_equal(c->upstream.first_byte_ms, 90000);
        assert_int_equal(c->upstream.idle_ms, 120000);
        assert_int_equal(c->upstream.keep_alive_ms, 60000);
        assert_int_equal(c->upstream.connections, 1024);
        assert_int_equal(c->upstream.attempt_ms, 1000);
        assert_int_equal(c->upstream.resolve_ms, 60000);
        assert_int_equal(c->upstream.retries, 20);
        assert_int_equal(c->upstream.eject_failures, 3);
        assert_int_equal(c->upstream.eject_ms, 1000);
        assert_int_equal(c->upstream.eject_most_ms, 60000);
        assert_int_equal(c->upstream.throttle, THROTTLE_SHED);
        assert_int_equal(c->credentials[0].type, CREDENTIAL_STATIC_FILE);
        assert_str(c->credentials[0].file, "/etc/dagward/token");
        assert_str(c->policy.files[0], "/etc/dagward/p.yaml");
        assert_int_equal(c->policy.n_shadow, 0);
        assert_str(c->audit.file, "/etc/dagward/a.jsonl");
        assert_int_equal(c->audit.durability, DURABILITY_WRITES);
        assert_int_equal(c->audit.on_failure, ON_FAILURE_REFUSE);
        assert_int_equal(c->limits.connections, 20000);
        assert_int_equal(c->limits.connections_per_address, 5000);
        assert_int_equal(c->limits.requests_per_identity, 256);
        assert_int_equal(c->limits.memory_bytes, 512 << 20);
        assert_false(c->limits.has_rate);
        assert_int_equal(c->limits.headers_bytes, 64 << 10);
        assert_int_equal(c->limits.header_bytes, 32 << 10);
        assert_int_equal(c->limits.inspect_bytes, 1 << 20);
        assert_int_equal(c->limits.token_bytes, 16 << 10);
        assert_int_equal(c->timeouts.headers_ms, 10000);
        assert_int_equal(c->timeouts.body_ms, 60000);
        assert_int_equal(c->timeouts.keep_alive_ms, 120000);
        assert_int_equal(c->timeouts.drain_ms, 30000);
        assert_int_equal(c->log_level, LOG_LEVEL_INFO);
        config_unref(c);
}

static void everything_that_can_be_set_is_read(void **state)
{
        static const char text[] =
                "listen:\n"
                "  - address: 0.0.0.0:8443\n"
                "    tls: {certificate: tls.crt, key: /k/tls.key, client_ca: ca.crt}\n"
                "  - {address: '[::1]:8080'}\n"
                "  - {address: 10.0.0.1:80, insecure: true}\n"
                "public_url: https://Dagward.Example:8443/\n"
                "admin: {address: '0.0.0.0:9000', insecure: true}\n"
                "workers: 4\n"
                "issuers:\n"
                "  - name: k8s\n"
                "    issuer: [https://one, two]\n"
                "    audiences: [x, y]\n"
                "    keys: {url: 'https://h:6443/jwks?x=1', ca: ca.pem, bearer_file: t, refresh: "
                "1h,\n"
                "      cooldown: 10s, keep: 2h, timeout: 3s}\n"
                "    algorithms: [PS512, EdDSA]\n"
                "    clock_skew: 0s\n"
                "    max_lifetime: 1h\n"
                "    require: {tid: abc, n: 12, b: true}\n"
                "    roles: []\n"
                "  - {name: file, issuer: plain, audiences: x, keys: {file: jwks.json}}\n"
                "upstream:\n"
                "  organizations: [Contoso, fabrikam-2]\n"
                "  ca: up.pem\n"
                "  insecure: true\n"
                "  hosts: {Dev.Azure.com: 'http://127.0.0.1:9443', '*': 'http://emulator:80/'}\n"
                "  timeouts: {connect: 1s, first_byte: 2s, idle: 3s, keep_alive: 4s}\n"
                "  connections: 9\n"
                "  resolve: 5s\n"
                "  retries: 0\n"
                "  ejection: {failures: 0, time: 2s, most: 3s}\n"
                "  throttle: relay\n"
                "credentials:\n"
                "  - {name: s, type: client_secret, tenant: t.example, client_id: id,\n"
                "     secret_file: s.txt, authority: 'http://localhost:5000/x/',\n"
                "     scope: api://x/.default, ca: ca.pem}\n"
                "policy: {files: ['p/*.yaml', /q.yaml], shadow: c.yaml}\n"
                "audit: {file: /a, durability: all, on_failure: allow-reads}\n"
                "limits: {connections: 1, headers: 48KiB, header: 24KiB, inspect: 2MiB, token: "
                "8KiB,\n"
                "  connections_per_address: 2, trusted_addresses: [10.1.0.0/16, 'fd00::1'],\n"
                "  requests_per_identity: 3, memory: 9MiB,\n"
                "  rate: {requests: 600, burst: 5, by: role, writes: {requests: 7, per: 1h}}}\n"
                "timeouts: {headers: 1s, body: 2s, keep_alive: 3s, drain: 0s}\n"
                "log: {level: debug}\n";
        struct config *c = load_good(text, environment);

        (void)state;
        assert_true(c->listeners[0].has_tls);
        assert_str(c->listeners[0].tls.certificate, "/etc/dagward/tls.crt");
        assert_str(c->listeners[0].tls.key, "/k/tls.key");
        assert_str(c->listeners[0].tls.client_ca, "/etc/dagward/ca.crt");
        assert_true(c->listeners[1].address.loopback);
        assert_int_equal(c->listeners[1].address.socket.ss_family, AF_INET6);
        assert_true(c->listeners[2].insecure);
        assert_str(c->public_url.text, "https://Dagward.Example:8443");
        assert_str(c->public_url.host, "dagward.example");
        assert_int_equal(c->public_url.port, 8443);
        assert_int_equal(c->workers, 4);
        const struct config_issuer *i = &c->issuers[0];
        assert_int_equal(i->n_issuers, 2);
        assert_str(i->issuers[1], "two");
        assert_false(i->keys.discovery);
        assert_str(i->keys.url.path, "/jwks?x=1");
        assert_str(i->keys.bearer_file, "/etc/dagward/t");
        assert_int_equal(i->keys.cooldown_ms, 10000);
        assert_str(i->algorithms[1], "EdDSA");
        assert_int_equal(i->clock_skew_ms, 0);
        assert_int_equal(i->n_require, 3);
        assert_str(i->require[1].name, "n");
        assert_str(i->require[1].value, "12");
        assert_int_equal(i->n_roles_paths, 0);
        assert_str(c->issuers[1].keys.file, "/etc/dagward/jwks.json");
        assert_false(c->issuers[1].keys.discovery);
        assert_int_equal(c->upstream.n_organizations, 2);
        assert_str(c->upstream.hosts[0].pattern, "dev.azure.com");
        assert_int_equal(c->upstream.hosts[0].url.port, 9443);
        assert_str(c->upstream.hosts[1].url.host, "emulator");
        assert_str(c->upstream.hosts[1].url.path, "");
        assert_ptr_equal(
                config_host_override(&c->upstream, "DEV.azure.com"), &c->upstream.hosts[0].url);
        assert_ptr_equal(config_host_override(&c->upstream, "vsrm.dev.azure.com"),
                &c->upstream.hosts[1].url);
        assert_int_equal(c->upstream.keep_alive_ms, 4000);
        assert_int_equal(c->upstream.resolve_ms, 5000);
        assert_int_equal(c->upstream.retries, 0);
        assert_int_equal(c->upstream.eject_failures, 0);
        assert_int_equal(c->upstream.eject_ms, 2000);
        assert_int_equal(c->upstream.eject_most_ms, 3000);
        assert_int_equal(c->upstream.throttle, THROTTLE_RELAY);
        assert_str(c->credentials[0].authority.text, "http://localhost:5000/x");
        assert_str(c->credentials[0].authority.path, "/x");
        assert_str(c->credentials[0].scope, "api://x/.default");
        assert_str(c->policy.files[0], "/etc/dagward/p/*.yaml");
        assert_str(c->policy.files[1], "/q.yaml");
        assert_int_equal(c->policy.n_shadow, 1);
        assert_str(c->policy.shadow[0], "/etc/dagward/c.yaml");
        assert_int_equal(c->audit.durability, DURABILITY_ALL);
        assert_int_equal(c->audit.on_failure, ON_FAILURE_ALLOW_READS);
        assert_int_equal(c->limits.headers_bytes, 48 << 10);
        assert_int_equal(c->limits.connections_per_address, 2);
        assert_int_equal(c->limits.requests_per_identity, 3);
        assert_int_equal(c->limits.memory_bytes, 9 << 20);
        assert_int_equal(c->limits.rate.reads.per_ms, 60 * 1000);
        assert_int_equal(c->limits.rate.reads.burst, 5);
        assert_int_equal(c->limits.rate.by, RATE_BY_ROLE);
        assert_true(c->limits.rate.has_writes);
        assert_int_equal(c->limits.rate.writes.per_ms, 3600 * 1000);
        assert_int_equal(c->limits.rate.writes.burst, 7);
        assert_int_equal(c->timeouts.drain_ms, 0);
        assert_int_equal(c->log_level, LOG_LEVEL_DEBUG);
        config_unref(c);
}

static void json_is_accepted(void **state)
{
        struct config *c = load_good(
                "{\"listen\":[{\"address\":\"localhost:1\"}],\"issuers\":[{\"name\":\"a\","
                "\"issuer\":\"https://a\",\"audiences\":[\"d\"]}],\"upstream\":{"
                "\"organizations\":[\"c\"]},\"credentials\":[{\"name\":\"c\",\"type\":"
                "\"static_file\",\"file\":\"/t\"}],\"policy\":{\"files\":[\"p\"]},"
                "\"audit\":{\"file\":\"a\"},\"workers\":2}",
                environment);

        (void)state;
        assert_int_equal(c->workers, 2);
        config_unref(c);
}

static void the_environment_fills_references_and_credentials(void **state)
{
        struct config *c = load_good(LISTEN ISSUERS UPSTREAM
                "workers: ${env:COUNT}\n"
                "limits: {connections: '${env:COUNT}'}\n"
                "credentials: [{name: '${env:NAME}-${env:COUNT}', type: static_file, file: "
                "'${env:FOLDER}/t'}]\n" REST,
                environment);

        (void)state;
        assert_int_equal(c->workers, 7);
        assert_int_equal(c->limits.connections, 7);
        assert_str(c->credentials[0].name, "etl-7");
        assert_str(c->credentials[0].file, "/srv/t");
        config_unref(c);
        c = load_good(LISTEN ISSUERS UPSTREAM
                "credentials:\n"
                " - {name: f, type: federated}\n"
                " - {name: s, type: client_secret, secret_file: s, tenant: own.example}\n"
                " - {name: o, type: federated, authority: https://other.example}\n"
                " - {name: t, type: static_file, file: t}\n" REST,
                azure);
        assert_str(c->credentials[0].tenant, "contoso.onmicrosoft.com");
        assert_str(c->credentials[0].client_id, "22222222-2222-2222-2222-222222222222");
        assert_str(c->credentials[0].assertion_file, "/var/run/token");
        assert_str(c->credentials[0].authority.text, "https://login.microsoftonline.us");
        assert_str(c->credentials[1].tenant, "own.example");
        assert_null(c->credentials[1].assertion_file.ptr);
        assert_str(c->credentials[2].authority.text, "https://other.example");
        assert_null(c->credentials[3].tenant.ptr);
        config_unref(c);
        c = load_good(LISTEN ISSUERS UPSTREAM
                "credentials: [{name: f, type: federated, assertion: caller}]\n" REST,
                azure);
        assert_true(c->credentials[0].assertion_is_callers && c->credentials[0].on_demand);
        assert_false(c->credentials[0].has_assertion);
        assert_null(c->credentials[0].assertion_file.ptr);
        assert_str(c->credentials[0].tenant, "contoso.onmicrosoft.com");
        config_unref(c);
}

static const char *app_service(const char *name)
{
        if (strcmp(name, "IDENTITY_ENDPOINT") == 0)
                return "http://169.254.130.4:8081/msi/token";
        return strcmp(name, "IDENTITY_HEADER") == 0 ? "x" : NULL;
}

static const char *arc(const char *name)
{
        if (strcmp(name, "IDENTITY_ENDPOINT") == 0)
                return "http://localhost:40342/metadata/identity/oauth2/token";
        return strcmp(name, "IMDS_ENDPOINT") == 0 ? "http://localhost:40342" : NULL;
}

static const char *secret_of_environment(const char *name)
{
        return strcmp(name, "AZURE_CLIENT_SECRET") == 0 ? "hunter2" : azure(name);
}

static const char *certificate_of_environment(const char *name)
{
        return strcmp(name, "AZURE_CLIENT_CERTIFICATE_PATH") == 0 ? "/c.pem" : azure(name);
}

static void the_environment_tells_which_host_gives_the_identity(void **state)
{
#define MANAGED(more)                                                                              \
        LISTEN ISSUERS UPSTREAM "credentials: [{name: c, type: managed_identity" more "}]\n" REST
        (void)state;
        struct config *c = load_good(MANAGED(""), app_service);
        assert_int_equal(c->credentials[0].source, IDENTITY_APP_SERVICE);
        assert_str(c->credentials[0].endpoint.text, "http://169.254.130.4:8081/msi/token");
        config_unref(c);
        c = load_good(MANAGED(""), arc);
        assert_int_equal(c->credentials[0].source, IDENTITY_ARC);
        assert_str(c->credentials[0].endpoint.host, "localhost");
        config_unref(c);
        c = load_good(MANAGED(", source: imds"), arc);
        assert_int_equal(c->credentials[0].source, IDENTITY_IMDS);
        assert_null(c->credentials[0].endpoint.text.ptr);
        config_unref(c);
        c = load_good(MANAGED(""), azure);
        assert_int_equal(c->credentials[0].source, IDENTITY_AUTO);
        assert_null(c->credentials[0].client_id.ptr); /* of an application, not of an identity */
        config_unref(c);
#undef MANAGED
}

static void default_is_what_the_environment_offers(void **state)
{
        static const char text[] =
                LISTEN ISSUERS UPSTREAM "credentials: [{name: c, type: default}]\n" REST;
        const struct config_credential *one;

        (void)state;
        struct config *c = load_good(text, secret_of_environment);
        one = &c->credentials[0];
        assert_int_equal(one->n_candidates, 3);
        assert_int_equal(one->candidates[0].type, CREDENTIAL_CLIENT_SECRET);
        assert_true(one->candidates[0].secret_from_environment);
        assert_str(one->candidates[0].authority.text, "https://login.microsoftonline.us");
        assert_int_equal(one->candidates[1].type, CREDENTIAL_FEDERATED);
        assert_str(one->candidates[1].assertion_file, "/var/run/token");
        assert_int_equal(one->candidates[2].type, CREDENTIAL_MANAGED_IDENTITY);
        assert_str(one->candidates[2].client_id, "22222222-2222-2222-2222-222222222222");
        config_unref(c);
        c = load_good(text, certificate_of_environment);
        one = &c->credentials[0];
        assert_int_equal(one->candidates[0].type, CREDENTIAL_CERTIFICATE);
        assert_str(one->candidates[0].certificate_file, "/c.pem");
        config_unref(c);
        c = load_good(text, app_service);
        one = &c->credentials[0];
        assert_int_equal(one->n_candidates, 1);
        assert_int_equal(one->candidates[0].source, IDENTITY_APP_SERVICE);
        assert_true(config_credential_same(one, one));
        config_unref(c);
}

static void who_opens_a_vault_is_found(void **state)
{
        (void)state;
        struct config *c = load_good(LISTEN ISSUERS UPSTREAM
                "credentials:\n"
                " - {name: a, type: key_vault_secret, tenant: t, client_id: i, key_vault_secret: "
                "'https://V.vault.azure.net/secrets/etl/0a', vault_credential: b}\n"
                " - {name: b, type: managed_identity}\n"
                " - {name: c, type: certificate, tenant: t, client_id: i, key_vault_key: "
                "'https://v.vault.usgovcloudapi.net/keys/k', vault_credential: b}\n" REST,
                NULL);
        assert_int_equal(c->credentials[0].vault_index, 1);
        assert_str(c->credentials[0].vault_scope, "https://vault.azure.net/.default");
        assert_str(c->credentials[0].key_vault_secret.path, "/secrets/etl/0a");
        assert_false(c->credentials[0].on_demand);
        assert_true(c->credentials[1].on_demand);
        assert_str(c->credentials[2].vault_scope, "https://vault.usgovcloudapi.net/.default");
        assert_int_equal(c->credentials[0].poll_ms, 300000);
        assert_false(config_credential_same(&c->credentials[0], &c->credentials[2]));
        config_unref(c);
}

struct bad {
        const char *text, *findings;
};

static void assert_findings(const struct bad *cases, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                struct error_list errors;
                char found[4096];
                error_list_init(&errors);
                assert_null(load(cases[i].text, environment, &errors));
                findings_of(&errors, found, sizeof(found));
                assert_string_equal(found, cases[i].findings);
                error_list_clear(&errors);
        }
}

static void a_file_that_says_nothing_useful_is_told_so(void **state)
{
        static const struct bad cases[] = {
                {"", "1:1: the file is empty"},
                {"[]\n", "1:1: the configuration must be a mapping, not a list"},
                {"x\n", "1:1: the configuration must be a mapping, not `x`"},
                {"log: {}\n", "1:1: `audit` is missing\n"
                              "1:1: `credentials` is missing\n"
                              "1:1: `issuers` is missing\n"
                              "1:1: `listen` is missing\n"
                              "1:1: `policy` is missing\n"
                              "1:1: `upstream` is missing"},
                {"listen:\nissuers: []\nupstream: {}\ncredentials: {}\npolicy: {files: []}\n"
                 "audit: []\n",
                        "1:8: `listen` has no value; leave it out to have the default\n"
                        "2:10: `issuers` must have at least one item\n"
                        "3:11: `organizations` is missing\n"
                        "4:14: `credentials` must be a list, not a mapping\n"
                        "5:17: `files` must not be empty\n"
                        "6:8: `audit` must be a mapping, not a list"},
        };

        (void)state;
        assert_findings(cases, sizeof(cases) / sizeof(*cases));
}

static void all_errors_of_a_file_come_in_one_run(void **state)
{
        static const struct bad cases[] = {
                {"lisen: 1\n"
                 "listen:\n"
                 "  - {address: '127.0.0.1'}\n"
                 "workers: many\n"
                 "issuers:\n"
                 "  - name: a b\n"
                 "    audience: x\n"
                 "    algorithms: [HS256, none, RS1024, RS256]\n"
                 "    clock_skew: 301s\n"
                 "upstream: {organizations: ['*', a/b], timeouts: {connect: 5}}\n"
                 "credentials:\n"
                 "  - {name: c, type: sttic_file}\n"
                 "policy: {files: p, shadow: q}\n"
                 "audit: {file: a, durability: maybe}\n"
                 "limits: {headers: 1MB, rate: {requests: 0}}\n",
                        "1:1: unknown key `lisen`; did you mean `listen`?\n"
                        "3:15: `address` must be ip:port; the port is missing\n"
                        "4:10: `workers` must be a whole number from 1 to 256, not `many`\n"
                        "6:5: `audiences` is missing\n"
                        "6:5: `issuer` is missing\n"
                        "6:11: `name` must be at most 64 letters, digits, `.`, `_` and `-`, not "
                        "`a b`\n"
                        "7:5: unknown key `audience`; did you mean `audiences`?\n"
                        "8:18: `algorithms`: `HS256` is never accepted: whoever can check a "
                        "symmetric signature can also forge it\n"
                        "8:25: `algorithms`: `none` is never accepted: a token without a "
                        "signature proves nothing\n"
                        "8:31: `algorithms` must be one of RS256, RS384, RS512, PS256, PS384, "
                        "PS512, ES256, ES384, ES512, EdDSA, not `RS1024`\n"
                        "9:17: `clock_skew` must be from 0s to 5m, not `301s`\n"
                        "10:28: `organizations` must be named one by one: credentials go to no "
                        "other\n"
                        "10:33: `a/b` is not the name of an organization (letters, digits and "
                        "`-`, at most 50)\n"
                        "10:59: `connect` must be a duration such as 250ms, 30s, 5m, 24h or 7d, "
                        "not `5`\n"
                        "12:21: `type` must be one of federated, managed_identity, certificate, "
                        "key_vault_secret, client_secret, default, pat_file, static_file, not "
                        "`sttic_file`; did you mean `static_file`?\n"
                        "14:30: `durability` must be one of writes, all, none, not `maybe`\n"
                        "15:19: `headers` must be a size such as 512B, 64KiB or 1MiB, not `1MB`\n"
                        "15:41: `requests` must be a whole number from 1 to 10000000, not `0`"},
        };

        (void)state;
        assert_findings(cases, sizeof(cases) / sizeof(*cases));
}

static void listeners_are_checked(void **state)
{
#define WITH(listen) listen ISSUERS UPSTREAM CREDENTIALS REST
        static const struct bad cases[] = {
                {WITH("listen: [{address: '0.0.0.0:80'}]\n"),
                        "1:20: plain HTTP on `0.0.0.0:80`, which is not loopback: add `tls`, or "
                        "`insecure: true` if something in front ends TLS"},
                {WITH("listen:\n - address: localhost:80\n - address: localhost:80\n"),
                        "3:13: `localhost:80` is listened on twice"},
                {WITH("listen: [{address: '127.0.0.1:9901'}]\n"),
                        "1:20: `127.0.0.1:9901` is the address of `admin`"},
                {WITH("listen: [{address: 'localhost:80', tls: {certificate: c}}]\n"),
                        "1:41: `key` is missing"},
                {WITH("listen: [{address: 'localhost:80', tls: yes}]\n"),
                        "1:41: `tls` must be a mapping, not `yes`"},
                {WITH("listen: [{address: 'localhost:80', insecure: yes}]\n"),
                        "1:46: `insecure` must be true or false, not `yes`"},
                {WITH("listen: [{tls: {certificate: c, key: k}}, 'x']\n"),
                        "1:10: `address` is missing\n"
                        "1:43: an item of `listen` must be a mapping, not `x`"},
                {"admin: {address: '10.0.0.1:9901'}\n" MINIMAL,
                        "1:18: `admin` on `10.0.0.1:9901`, which is not loopback: add `insecure: "
                        "true` if that is wanted"},
                {"public_url: http://x/y\n" MINIMAL,
                        "1:13: `public_url` must be scheme, host and port only, without the path "
                        "`/y`"},
                {"workers: 0\n" MINIMAL,
                        "1:10: `workers` must be a whole number from 1 to 256, not `0`"},
        };
#undef WITH

        (void)state;
        assert_findings(cases, sizeof(cases) / sizeof(*cases));
}

static void sinks_are_checked(void **state)
{
#define WITH(sinks)                                                                                \
        LISTEN ISSUERS UPSTREAM CREDENTIALS "policy: {files: p.yaml}\naudit:\n file: a.jsonl\n"    \
                                            " sinks:\n" sinks
#define MONITOR "type: azure_monitor, endpoint: 'https://e.ingest.monitor.azure.com', rule: r, "
        static const struct bad cases[] = {
                {WITH("  - {name: a, type: stdout}\n  - {name: a, type: stdout}\n"),
                        "10:12: there are two sinks named `a`\n"
                        "10:12: there are two sinks of type stdout, and one standard output"},
                {WITH("  - {name: a, type: stdout, server: 'tls://h:1'}\n"),
                        "9:37: `server` has no meaning for a sink of type stdout"},
                {WITH("  - {name: a, type: syslog}\n"),
                        "9:12: `server` is missing for type syslog"},
                {WITH("  - {name: a, type: syslog, server: 'udp://h:1'}\n"),
                        "9:37: `server` must be tls://HOST:PORT, tcp://HOST:PORT or unix:/PATH, "
                        "not `udp://h:1`"},
                {WITH("  - {name: a, type: syslog, server: 'tls://h'}\n"),
                        "9:37: `server` must be tls://HOST:PORT, tcp://HOST:PORT or unix:/PATH, "
                        "not `tls://h`"},
                {WITH("  - {name: a, type: syslog, server: 'tcp://h.example:1'}\n"),
                        "9:37: `server` sends records to another machine in the clear: use "
                        "tls://, or add `insecure: true` if that is wanted"},
                {WITH("  - {name: a, type: syslog, server: 'tcp://127.0.0.1:1', ca: c.pem}\n"),
                        "9:62: `ca`, `certificate` and `key` need a server of tls://"},
                {WITH("  - {name: a, type: syslog, server: 'tls://h:1', certificate: c.pem}\n"),
                        "9:63: `certificate` and `key` belong together"},
                {WITH("  - {name: a, " MONITOR "credential: nobody}\n"),
                        "9:105: there is no credential named `nobody`"},
                {WITH("  - {name: a, " MONITOR "credential: c, scope: 'a b'}\n"),
                        "9:105: `c` is a static_file, which Azure Monitor does not take\n"
                        "9:115: `scope` must be one resource and end in `/.default`"},
        };
#undef WITH

        (void)state;
        assert_findings(cases, sizeof(cases) / sizeof(*cases));
}

static void issuers_are_checked(void **state)
{
#define WITH(issuers) issuers LISTEN UPSTREAM CREDENTIALS REST
#define ONE(more) WITH("issuers: [{name: a, audiences: d, " more "}]\n")
        static const struct bad cases[] = {
                {WITH("issuers:\n"
                      " - {name: a, issuer: https://a, audiences: d}\n"
                      " - {name: a, issuer: [https://b, https://a], audiences: d}\n"),
                        "3:11: there are two issuers named `a`\n"
                        "3:34: `https://a` is already the issuer `a`"},
                {ONE("issuer: kubernetes"),
                        "1:43: `issuer` must be a URL that begins with https:// (or http://), "
                        "because its keys are found by discovery; or set `keys`"},
                {ONE("issuer: 'http://a.example'"),
                        "1:43: `issuer` must begin with https://, because its keys are found by "
                        "discovery; http:// is for loopback only"},
                {ONE("issuer: 'https://a', keys: {discovery: true, file: f}"),
                        "1:74: `keys` must have exactly one of `discovery: true`, `url` and "
                        "`file`"},
                {ONE("issuer: 'https://a', keys: {discovery: false}"),
                        "1:74: `keys` must have exactly one of `discovery: true`, `url` and "
                        "`file`"},
                {ONE("issuer: 'https://a', keys: {url: 'http://b/keys'}"),
                        "1:68: `url` must begin with https://; http:// is for loopback only"},
                {ONE("issuer: 'https://a', keys: {file: f, bearer_file: t, ca: c}"),
                        "1:85: `bearer_file` has no meaning for keys from a `file`\n"
                        "1:92: `ca` has no meaning for keys from a `file`"},
                {ONE("issuer: 'https://a', keys: {file: f, cooldown: 0s}"),
                        "1:82: `cooldown` must be from 1s to 1h, not `0s`"},
                {ONE("issuer: 'https://a', require: [tid]"),
                        "1:65: `require` must be a mapping, not a list"},
                {ONE("issuer: 'https://a', require: {tid: [x]}"),
                        "1:71: `tid` must be text, not a list"},
                {ONE("issuer: 'https://a', algorithms: []"),
                        "1:68: `algorithms` must not be empty"},
                {ONE("issuer: ['https://a', 'https://a']"),
                        "1:57: `issuer`: `https://a` is there twice"},
                {ONE("issuer: ''"), "1:43: `issuer` must not be empty"},
        };
#undef ONE
#undef WITH

        (void)state;
        assert_findings(cases, sizeof(cases) / sizeof(*cases));
}

static void upstream_is_checked(void **state)
{
#define WITH(upstream) "upstream: {" upstream "}\n" LISTEN ISSUERS CREDENTIALS REST
        static const struct bad cases[] = {
                {WITH("organizations: [a, A]"), "1:31: `organizations`: `A` is there twice"},
                {WITH("organizations: a, hosts: {'dev.azure.com:443': 'https://x'}"),
                        "1:38: `hosts`: `dev.azure.com:443` is not a host name (without scheme and "
                        "port) or `*`"},
                {WITH("organizations: a, hosts: {x.y: 'https://x/y'}"),
                        "1:43: `hosts` must be scheme, host and port only, without the path `/y`"},
                {WITH("organizations: a, hosts: {x.y: 'http://x'}"),
                        "1:43: `hosts`: http:// beyond loopback sends credentials in the clear; "
                        "use "
                        "https://, or add `insecure: true` to `upstream`"},
                {WITH("organizations: a, hosts: {x.y: 'https://x', X.Y: 'https://x'}"),
                        "1:56: `hosts`: `x.y` is there twice"},
                {WITH("organizations: a, redirects: never"),
                        "1:41: `redirects` must be one of follow, relay, not `never`"},
                {WITH("organizations: a, storage: windows.net"),
                        "1:39: `storage`: `windows.net` is not the end of a host name, like "
                        "`.blob.core.windows.net`"},
                {WITH("organizations: a, storage: .net"),
                        "1:39: `storage`: `.net` is not the end of a host name, like "
                        "`.blob.core.windows.net`"},
                {WITH("organizations: a, connections: 0"),
                        "1:43: `connections` must be a whole number from 1 to 100000, not `0`"},
        };
#undef WITH

        (void)state;
        assert_findings(cases, sizeof(cases) / sizeof(*cases));
}

static void credentials_are_checked(void **state)
{
#define WITH(one) "credentials: [{name: c, " one "}]\n" LISTEN ISSUERS UPSTREAM REST
        static const struct bad cases[] = {
                {"credentials:\n - {name: c, type: static_file, file: f}\n - {name: c, type: "
                 "static_file, file: f}\n" LISTEN ISSUERS UPSTREAM REST,
                        "3:11: there are two credentials named `c`"},
                {WITH("type: static_file"), "1:22: `file` is missing for type static_file"},
                {WITH("type: federated"),
                        "1:22: `assertion_file` is missing for type federated (and "
                        "`AZURE_FEDERATED_TOKEN_FILE` is not set)\n"
                        "1:22: `client_id` is missing for type federated (and `AZURE_CLIENT_ID` is "
                        "not set)\n"
                        "1:22: `tenant` is missing for type federated (and `AZURE_TENANT_ID` is "
                        "not set)"},
                {WITH("type: static_file, file: f, tenant: t, scope: s"),
                        "1:61: `tenant` has no meaning for a credential of type static_file\n"
                        "1:71: `scope` has no meaning for a credential of type static_file"},
                {WITH("type: client_secret, client_id: i, secret_file: s, tenant: common"),
                        "1:84: `tenant` must be your tenant's GUID or domain: `common` does not "
                        "work for a service principal"},
                {WITH("type: client_secret, client_id: i, secret_file: s, tenant: a/b"),
                        "1:84: `tenant` must be a GUID or a domain, not `a/b`"},
                {WITH("type: client_secret, client_id: i, secret_file: s, tenant: t, scope: x"),
                        "1:94: `scope` must be one resource and end in `/.default`"},
                {WITH("type: client_secret, client_id: i, secret_file: s, tenant: t, authority: "
                      "'http://h'"),
                        "1:98: `authority` must begin with https://; http:// is for loopback only"},
                {WITH("type: client_secret, client_id: i, secret_file: s, tenant: t, authority: "
                      "login.example"),
                        "1:98: `authority` must be a URL that begins with https:// (or http://)"},
                {WITH("type: federated, assertion: caller, tenant: t, client_id: i, "
                      "assertion_file: f"),
                        "1:102: `assertion_file` and `assertion` are two ways: one of them"},
                {WITH("type: client_secret, assertion: caller, tenant: t, client_id: i, "
                      "secret_file: f"),
                        "1:57: `assertion` has no meaning for a credential of type "
                        "client_secret"},
                {WITH("type: federated, assertion: callers, tenant: t, client_id: i"),
                        "1:22: `assertion_file` is missing for type federated (and "
                        "`AZURE_FEDERATED_TOKEN_FILE` is not set)\n"
                        "1:53: `assertion` must be a mapping, not `callers`"},
                {WITH("type: federated, tenant: t, client_id: i, assertion_file: f, assertion: "
                      "{token_endpoint: 'http://h/t', client_id: x, secret_file: s, scope: y}"),
                        "1:83: `assertion_file` and `assertion` are two ways: one of them\n"
                        "1:114: `token_endpoint` must begin with https://; http:// is for loopback "
                        "only"},
                {WITH("type: certificate, tenant: t, client_id: i"),
                        "1:22: `certificate_file` is missing for type certificate (and "
                        "`AZURE_CLIENT_CERTIFICATE_PATH` is not set)"},
                {WITH("type: certificate, tenant: t, client_id: i, key_vault_key: "
                      "https://v.vault.azure.net/keys/k, key_file: f"),
                        "1:84: `key_vault_key` needs `vault_credential`: who may use the key\n"
                        "1:128: `key_file` and `key_vault_key` are two keys: one of them"},
                {WITH("type: certificate, tenant: t, client_id: i, certificate_file: f, "
                      "vault_endpoint: https://v"),
                        "1:22: `vault_credential` and `vault_endpoint` need `key_vault_key`"},
                {WITH("type: key_vault_secret, holds: pat"),
                        "1:22: `key_vault_secret` is missing for type key_vault_secret\n"
                        "1:22: `vault_credential` is missing for type key_vault_secret"},
                {WITH("type: key_vault_secret, holds: pat, key_vault_secret: "
                      "https://vault.azure.net.evil.example/secrets/x, vault_credential: nobody"),
                        "1:79: `key_vault_secret` must be https:// at a key vault: its host ends "
                        "in .vault.azure.net, .vault.usgovcloudapi.net or .vault.azure.cn\n"
                        "1:145: there is no credential named `nobody`"},
                {WITH("type: key_vault_secret, holds: pat, key_vault_secret: "
                      "https://v.vault.azure.net/keys/x, vault_credential: c"),
                        "1:79: `key_vault_secret` must end in /secrets/NAME or "
                        "/secrets/NAME/VERSION, as the vault's page shows it\n"
                        "1:131: `c` is a key_vault_secret, which opens no vault\n"
                        "1:131: `vault_credential`: `c` needs itself to be obtained"},
                {WITH("type: managed_identity, client_id: a, object_id: b"),
                        "1:22: a user-assigned identity is named by one of `client_id`, "
                        "`object_id` and `resource_id`"},
                {WITH("type: managed_identity, endpoint: 'http://10.0.0.1'"),
                        "1:59: `endpoint` must be on this machine (loopback or 169.254.0.0/16) or "
                        "begin with https://"},
                {WITH("type: managed_identity, source: app_service"),
                        "1:22: `source: app_service` needs `IDENTITY_ENDPOINT`, which is not set"},
                {WITH("type: managed_identity, file: f"),
                        "1:55: `file` has no meaning for a credential of type managed_identity"},
                {WITH("type: pat_file, poll: 5m"),
                        "1:22: `file` is missing for type pat_file\n"
                        "1:47: `poll` has no meaning for a credential of type pat_file"},
        };
#undef WITH

        (void)state;
        assert_findings(cases, sizeof(cases) / sizeof(*cases));
}

static const char *proxies(const char *name)
{
        static const char *const variables[][2] = {
                {"HTTPS_PROXY", "http://edge:a%40b@Proxy.example:3128/"},
                {"all_proxy", "http://other.example"}, {"no_proxy", ""},
                {"NO_PROXY", ".internal, 10.0.0.0/8"}};

        for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++)
                if (strcmp(name, variables[i][0]) == 0)
                        return variables[i][1];
        return NULL;
}

static const char *a_proxy_over_tls(const char *name)
{
        return strcmp(name, "https_proxy") == 0 ? "https://proxy.example:443" : NULL;
}

static void the_outgoing_proxy_is_none_or_the_one_that_is_named(void **state)
{
        static const struct bad cases[] = {
                {"outgoing_proxy: {url: 'https://p:1'}\n" MINIMAL,
                        "1:23: `url` must begin with http://: the proxy is asked for a tunnel in "
                        "plain, and what passes through the tunnel is TLS"},
                {"outgoing_proxy: {url: 'http://p:1', environment: true}\n" MINIMAL,
                        "1:23: `url` and `environment` exclude each other: one proxy at most"},
                {"outgoing_proxy: {credentials_file: f}\n" MINIMAL,
                        "1:36: `credentials_file` has no meaning without a proxy: add `url` or "
                        "`environment: true`"},
                {"outgoing_proxy: {url: 'http://u:p@p:1'}\n" MINIMAL,
                        "1:23: `url` must not hold a user or password"},
        };
        struct error_list errors;
        char found[512];
        struct config *c = load_good(MINIMAL, proxies);

        (void)state;
        assert_null(c->outgoing_proxy.url.text.ptr);
        config_unref(c);
        c = load_good("outgoing_proxy: {environment: true, except: [a]}\n" MINIMAL, proxies);
        assert_str(c->outgoing_proxy.url.text, "http://Proxy.example:3128");
        assert_str(c->outgoing_proxy.url.host, "proxy.example");
        assert_string_equal(c->outgoing_proxy.variable, "HTTPS_PROXY");
        assert_str(c->outgoing_proxy.no_proxy, ".internal, 10.0.0.0/8");
        assert_int_equal(c->outgoing_proxy.n_except, 1);
        config_unref(c);
        c = load_good("outgoing_proxy: {environment: true}\n" MINIMAL, environment);
        assert_null(c->outgoing_proxy.url.text.ptr);
        assert_null(c->outgoing_proxy.variable);
        config_unref(c);
        assert_findings(cases, sizeof(cases) / sizeof(*cases));
        error_list_init(&errors);
        assert_null(
                load("outgoing_proxy: {environment: true}\n" MINIMAL, a_proxy_over_tls, &errors));
        findings_of(&errors, found, sizeof(found));
        assert_string_equal(found, "1:31: `environment`: https_proxy names a proxy that is not "
                                   "spoken to over http://");
        error_list_clear(&errors);
}

static void what_a_proxy_variable_says_is_cut(void **state)
{
        static const struct {
                const char *text, *user, *host;
                unsigned port; /* 0: it is refused */
        } cases[] = {
                {"http://p:3128", "", "p", 3128},
                {"p:3128", "", "p", 3128},
                {"HTTP://p", "", "p", 1080},
                {"http://u:x@y@p:1/", "u:x@y", "p", 1},
                {"u:x@p", "u:x", "p", 1080},
                {"http://[::1]:8", "", "::1", 8},
                {"http://[::1]", "", "::1", 1080},
                {"http://p:0", NULL, NULL, 0},
                {"http://p:65536", NULL, NULL, 0},
                {"http://p:", NULL, NULL, 0},
                {"http://p:x", NULL, NULL, 0},
                {"http://", NULL, NULL, 0},
                {"http://u:p@", NULL, NULL, 0},
                {"http://a b", NULL, NULL, 0},
                {"socks5://p:1", NULL, NULL, 0},
                {"https://p:1", NULL, NULL, 0},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct str user, host;
                uint16_t port = 0;
                bool good = config_proxy_cut(str_of(cases[i].text), &user, &host, &port, NULL);
                if (good != (cases[i].port > 0))
                        fail_msg("%s", cases[i].text);
                if (good && (port != cases[i].port || !str_eq(host, str_of(cases[i].host)) ||
                                    !str_eq(user, str_of(cases[i].user))))
                        fail_msg("%s", cases[i].text);
        }
}

static void limits_fit_together(void **state)
{
        static const struct bad cases[] = {
                {"limits: {headers: 8KiB, header: 16KiB, token: 1KiB}\n" MINIMAL,
                        "1:33: `header` is more than `headers`: one field larger than all "
                        "together"},
                {"limits: {header: 4KiB, token: 8KiB}\n" MINIMAL,
                        "1:31: `token` is more than `header`: a token comes in one header field"},
                {"limits: {headers: 1KiB}\n" MINIMAL,
                        "1:19: `headers` must be from 4KiB to 64KiB, not `1KiB`"},
        };
        struct error_list errors;
        char found[512];

        (void)state;
        assert_findings(cases, sizeof(cases) / sizeof(*cases));
        error_list_init(&errors);
        struct config *c =
                load("limits: {header: 17KiB, token: 16KiB}\n" MINIMAL, environment, &errors);
        assert_non_null(c); /* a warning is no reason to refuse */
        findings_of(&errors, found, sizeof(found));
        assert_string_equal(found,
                "1:32: warning: a token of the allowed size does not fit into `header` when it "
                "comes as a Basic password, which is a third longer");
        error_list_clear(&errors);
        config_unref(c);
}

static bool trusts(const struct config *c, const char *text)
{
        unsigned char address[16];

        assert_true(config_address_bytes(text, address));
        return config_trusts_address(&c->limits, address);
}

static void trusted_addresses_are_those_of_the_networks_and_no_others(void **state)
{
        struct config *c = load_good("limits: {trusted_addresses: [10.1.0.0/16, 192.0.2.7, "
                                     "'fd00::/9', '2001:db8::1']}\n" MINIMAL,
                environment);
        static const struct bad cases[] = {
                {"limits: {trusted_addresses: [10.1.0.0/33, 10.1, '::/129', lb.example, 1.2.3.4/x]}"
                 "\n" MINIMAL,
                        "1:30: `trusted_addresses`: `10.1.0.0/33` is not an address or a network "
                        "like 10.1.0.0/16\n"
                        "1:43: `trusted_addresses`: `10.1` is not an address or a network like "
                        "10.1.0.0/16\n"
                        "1:49: `trusted_addresses`: `::/129` is not an address or a network like "
                        "10.1.0.0/16\n"
                        "1:59: `trusted_addresses`: `lb.example` is not an address or a network "
                        "like 10.1.0.0/16\n"
                        "1:71: `trusted_addresses`: `1.2.3.4/x` is not an address or a network "
                        "like 10.1.0.0/16"}};

        (void)state;
        assert_true(trusts(c, "10.1.255.255") && trusts(c, "::ffff:10.1.0.1"));
        assert_false(trusts(c, "10.2.0.0") || trusts(c, "10.0.255.255") || trusts(c, "::10.1.0.1"));
        assert_true(trusts(c, "192.0.2.7") && !trusts(c, "192.0.2.6"));
        assert_true(trusts(c, "fd7f::1") && !trusts(c, "fd80::1"));
        assert_true(trusts(c, "2001:db8::1") && !trusts(c, "2001:db8::2"));
        config_unref(c);
        c = load_good(MINIMAL, environment);
        assert_false(trusts(c, "127.0.0.1"));
        config_unref(c);
        assert_findings(cases, sizeof(cases) / sizeof(*cases));
}

#define JWT "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2kuZXhhbXBsZSJ9.c2lnbmF0dXJl"
#define PAT "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst"
#define LOOKS(kind)                                                                                \
        "this looks like " kind                                                                    \
        "; secrets do not belong in the configuration: write it into a file of its own and name "  \
        "that file"

static void secrets_in_the_file_are_refused_and_never_repeated(void **state)
{
        static const struct bad cases[] = {
                {"workers: " JWT "\n" MINIMAL, "1:10: " LOOKS("a token (JWT)")},
                {"workers: ${env:LATE_SECRET}\n" MINIMAL, "1:10: " LOOKS("a token (JWT)")},
                {"listen: [{address: Bearer " JWT "}]\n" ISSUERS UPSTREAM CREDENTIALS REST,
                        "1:20: " LOOKS("a token (JWT)")},
                {"x: " PAT "\n" MINIMAL,
                        "1:1: unknown key `x`\n1:4: " LOOKS("a personal access token")},
                {"x: " PAT "234567abcdefghijklmnopqrAZDOabcd\n" MINIMAL,
                        "1:1: unknown key `x`\n1:4: " LOOKS("a personal access token")},
                {"x: Abc8Q~0123456789abcdefghijklmnopqrstuv\n" MINIMAL,
                        "1:1: unknown key `x`\n1:4: " LOOKS("an Entra client secret")},
                {"x: |\n  -----BEGIN PRIVATE KEY-----\n  MC4=\n" MINIMAL,
                        "1:1: unknown key `x`\n1:4: " LOOKS("a private key")},
                {"credentials: [{name: c, type: client_secret, tenant: t, client_id: i, secret: "
                 "hunter2}]\n" LISTEN ISSUERS UPSTREAM REST,
                        "1:22: `secret_file` is missing for type client_secret\n"
                        "1:71: `secret`: secrets do not belong in the configuration; write it into "
                        "a file of its own and name that file, with `secret_file` for a client "
                        "secret or `file` for a token"},
        };

        (void)state;
        assert_findings(cases, sizeof(cases) / sizeof(*cases));
}

static void references_that_lead_nowhere_are_errors(void **state)
{
        static const struct bad cases[] = {
                {"log: {level: '${env:NOPE}'}\n" MINIMAL,
                        "1:14: the environment variable `NOPE` is not set"},
                {"public_url: https://${env:EMPTY}\n" MINIMAL,
                        "1:13: the environment variable `EMPTY` is empty"},
                {LISTEN ISSUERS UPSTREAM CREDENTIALS "policy: {files: ['${HOME}/x', '${env:', "
                                                     "'${env:A-B}', '${env:BAD_UTF8}']}\n"
                                                     "audit: {file: a}\n",
                        "5:18: `${` must be the start of `${env:NAME}`, the only reference there "
                        "is\n"
                        "5:31: `${` must be the start of `${env:NAME}`, the only reference there "
                        "is\n"
                        "5:41: `A-B` is not the name of an environment variable\n"
                        "5:55: the environment variable `BAD_UTF8` is not valid UTF-8"},
        };

        (void)state;
        assert_findings(cases, sizeof(cases) / sizeof(*cases));
}

static void yaml_and_meaning_are_reported_together(void **state)
{
        static const struct bad cases[] = {
                {"workers: &x 1\nworkers: 2\nlogs: {}\n" MINIMAL,
                        "1:10: anchors (`&x`) are not supported\n"
                        "2:1: duplicate key `workers`, already given in line 1\n"
                        "3:1: unknown key `logs`; did you mean `log`?"},
                {"a: [\n", "2:1: not valid YAML: did not find expected node content (while parsing "
                           "a flow node)"},
        };

        (void)state;
        assert_findings(cases, sizeof(cases) / sizeof(*cases));
}

static void addresses_are_ip_and_port(void **state)
{
        static const struct {
                const char *text, *why; /* NULL: good */
                bool loopback;
        } cases[] = {
                {"127.0.0.1:8080", NULL, true},
                {"127.9.9.9:0", NULL, true},
                {"localhost:1", NULL, true},
                {"LocalHost:65535", NULL, true},
                {"[::1]:80", NULL, true},
                {"0.0.0.0:80", NULL, false},
                {"[::]:80", NULL, false},
                {"[2001:db8::1]:443", NULL, false},
                {"", "must be ip:port; the port is missing", false},
                {"8080", "must be ip:port; the port is missing", false},
                {":8080", "must name an address; every one is 0.0.0.0:8080 or [::]:8080", false},
                {"*:8080", "must name an address; every one is 0.0.0.0:8080 or [::]:8080", false},
                {"127.0.0.1:", "`` is not a port", false},
                {"127.0.0.1:65536", "`65536` is not a port", false},
                {"127.0.0.1:080", "`080` is not a port", false},
                {"127.0.0.1:-1", "`-1` is not a port", false},
                {"::1:80", "an IPv6 address needs brackets: [::1:80]:port", false},
                {"[::1]", "must be [ipv6]:port", false},
                {"[127.0.0.1]:80", "must be [ipv6]:port", false},
                {"[localhost]:80", "must be [ipv6]:port", false},
                {"[::1", "must be [ipv6]:port", false},
                {"dagward.example:80",
                        "must be ip:port, [ipv6]:port or localhost:port; `dagward.example` is not "
                        "an IP address",
                        false},
                {"127.1:80",
                        "must be ip:port, [ipv6]:port or localhost:port; `127.1` is not an IP "
                        "address",
                        false},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct config_address address;
                struct error err;
                bool good = config_address_parse(str_of(cases[i].text), &address, &err);
                assert_int_equal(good, cases[i].why == NULL);
                if (good)
                        assert_int_equal(address.loopback, cases[i].loopback);
                else
                        assert_string_equal(err.text, cases[i].why);
        }
        struct config_address v4, v6;
        assert_true(config_address_parse(STR("10.1.2.3:8443"), &v4, NULL));
        const struct sockaddr_in *in = (const struct sockaddr_in *)&v4.socket;
        assert_int_equal(v4.socket_len, sizeof(*in));
        assert_int_equal(ntohs(in->sin_port), 8443);
        assert_int_equal(ntohl(in->sin_addr.s_addr), 0x0a010203);
        assert_true(config_address_parse(STR("[::1]:7"), &v6, NULL));
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&v6.socket;
        assert_int_equal(v6.socket_len, sizeof(*in6));
        assert_int_equal(ntohs(in6->sin6_port), 7);
}

static void urls_are_taken_apart(void **state)
{
        static const struct {
                const char *text, *host;
                unsigned port;
                const char *path; /* NULL: refused */
                bool https, loopback;
        } cases[] = {
                {"https://a.example", "a.example", 443, "", true, false},
                {"HTTPS://A.Example:8443/X?y=Z", "a.example", 8443, "/X?y=Z", true, false},
                {"http://127.0.0.1:80/", "127.0.0.1", 80, "/", false, true},
                {"http://localhost", "localhost", 80, "", false, true},
                {"http://[::1]:9/", "::1", 9, "/", false, true},
                {"https://[2001:DB8::1]", "2001:db8::1", 443, "", true, false},
                {"https://a?b", "a", 443, "?b", true, false},
                {"http://localhost.evil.example", "localhost.evil.example", 80, "", false, false},
                {"http://127.0.0.1.evil.example", "127.0.0.1.evil.example", 80, "", false, false},
                {.text = ""},
                {.text = "ftp://a"},
                {.text = "a.example"},
                {.text = "https://"},
                {.text = "https:///x"},
                {.text = "https://u@a"},
                {.text = "https://u:p@a"},
                {.text = "https://a:0"},
                {.text = "https://a:x"},
                {.text = "https://a:"},
                {.text = "https://a:70000"},
                {.text = "https://a b"},
                {.text = "https://a/\x01"},
                {.text = "https://\xc3\xa9.example"},
                {.text = "https://a#b"},
                {.text = "https://a..b"},
                {.text = "https://.a"},
                {.text = "https://a\\b"},
                {.text = "https://[::1"},
                {.text = "https://[::1]x"},
                {.text = "https://[1.2.3.4]"},
                {.text = "https://[]"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct config_url url;
                struct arena arena;
                arena_init(&arena, 1024, 65536);
                bool good = config_url_parse(&arena, str_of(cases[i].text), &url, NULL);
                if (good != (cases[i].path != NULL))
                        fail_msg("%s", cases[i].text);
                if (good) {
                        assert_str(url.host, cases[i].host);
                        assert_int_equal(url.port, cases[i].port);
                        assert_int_equal(url.path.len, strlen(cases[i].path));
                        assert_memory_equal(url.path.ptr, cases[i].path, url.path.len);
                        assert_int_equal(url.https, cases[i].https);
                        assert_int_equal(url.loopback, cases[i].loopback);
                }
                arena_clear(&arena);
        }
}

struct told {
        struct buf text;
        const struct config *config;
};

static void tell(void *owner, const struct str *path, bool pattern)
{
        struct told *told = owner;

        buf_printf(&told->text, "%s%.*s\n", pattern ? "~" : "", STR_FMT(*path));
        assert_true(path != &told->config->audit.file || str_ends(*path, STR("audit.jsonl")));
}

static void every_path_is_told(void **state)
{
        static const char text[] =
                "listen: [{address: 127.0.0.1:1, tls: {certificate: c.crt, key: c.key}}]\n"
                "issuers: [{name: i, issuer: x, audiences: a, keys: {file: keys.json}},\n"
                "          {name: j, issuer: https://y, audiences: a, keys: {url: https://y/k, ca: "
                "y.pem, bearer_file: bearer}}]\n"
                "upstream: {organizations: contoso, ca: up.pem}\n"
                "credentials: [{name: etl, type: static_file, file: /t/token}]\n"
                "policy: {files: [a.yaml, 'p/*.yaml'], shadow: s.yaml}\n"
                "audit: {file: audit.jsonl}\n"
                "user: nobody\nconfine: require\n";
        struct config_source source = {"t.yaml", str_of(text), "/etc/d", NULL};
        struct error_list errors;
        struct told told;

        (void)state;
        error_list_init(&errors);
        struct config *config = config_load_text(&source, &errors);
        assert_non_null(config);
        assert_int_equal(config->confine, CONFIG_CONFINE_REQUIRE);
        assert_string_equal(config->user.ptr, "nobody");
        told.config = config;
        buf_init(&told.text, 4096);
        config_paths(config, tell, &told);
        buf_char(&told.text, '\0');
        assert_string_equal(told.text.data,
                "/etc/d/c.crt\n/etc/d/c.key\n/etc/d/keys.json\n/etc/d/y.pem\n/etc/d/bearer\n"
                "/etc/d/up.pem\n/t/token\n~/etc/d/a.yaml\n~/etc/d/p/*.yaml\n~/etc/d/s.yaml\n"
                "/etc/d/audit.jsonl\n/etc/d/audit.jsonl.triggers\n");
        buf_clear(&told.text);
        config_unref(config);
        error_list_clear(&errors);
}

static void settings_know_where_they_stand(void **state)
{
        struct config *c = load_good("workers: 3\n" MINIMAL, environment);

        (void)state;
        assert_int_equal(config_place(c, &c->workers).line, 1);
        assert_int_equal(config_place(c, &c->workers).column, 10);
        assert_string_equal(config_place(c, &c->workers).file, "t.yaml");
        assert_int_equal(config_place(c, &c->credentials[0].file).line, 5);
        assert_int_equal(config_place(c, &c->policy.files[0]).line, 6);
        assert_int_equal(config_place(c, &c->issuers[0].name).column, 18);
        assert_int_equal(config_place(c, &c->log_level).line, 0);
        assert_string_equal(config_place(c, &c->log_level).file, "t.yaml");
        config_unref(c);
}

static void what_a_reload_cannot_change_is_named(void **state)
{
        struct config *running = load_good(MINIMAL, environment);
        struct config *same =
                load_good(MINIMAL "workers: auto\nlog: {level: debug}\n", environment);
        struct config *other =
                load_good("listen: [{address: 127.0.0.1:8080}, {address: "
                          "127.0.0.1:8081}]\n" ISSUERS UPSTREAM CREDENTIALS REST "workers: 2\n",
                        environment);
        struct mark at;
        char names[256];

        (void)state;
        config_restart_needed(running, same, &at, names, sizeof(names));
        assert_string_equal(names, "");
        config_restart_needed(running, other, &at, names, sizeof(names));
        assert_string_equal(names, "workers, listen[1].address");
        assert_string_equal(at.file, "t.yaml");
        assert_int_equal(at.line, 1);
        assert_int_equal(at.column, 47);
        config_restart_needed(other, running, &at, names, sizeof(names));
        assert_string_equal(names, "listen[1].address, workers");
        assert_int_equal(at.line, 0); /* they are left out */
        config_unref(running);
        config_unref(same);
        config_unref(other);
}

static void a_file_is_found_and_its_folder_is_where_paths_begin(void **state)
{
        char folder[] = "/tmp/dagward-config-XXXXXX", path[64], expected[64];
        struct error_list errors;

        (void)state;
        assert_non_null(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/c.yaml", folder);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs(MINIMAL, file);
        fclose(file);
        error_list_init(&errors);
        struct config *c = config_load(path, &errors);
        assert_non_null(c);
        snprintf(expected, sizeof(expected), "%s/token", folder);
        assert_str(c->credentials[0].file, expected);
        config_unref(c);
        assert_int_equal(chdir(folder), 0);
        c = config_load("c.yaml", &errors);
        assert_non_null(c);
        assert_str(c->credentials[0].file, "token");
        config_unref(c);
        unlink(path);
        rmdir(folder);
        assert_null(config_load(path, &errors));
        assert_string_equal(errors.findings[0].file, path);
        error_list_clear(&errors);
        config_unref(NULL);
}

static void the_example_is_good(void **state)
{
        struct error_list errors;

        (void)state;
        error_list_init(&errors);
        struct config *c = config_load(SOURCE_DIR "/policies/dagward.example.yaml", &errors);
        error_list_print(&errors, stderr);
        assert_int_equal(errors.n, 0);
        assert_non_null(c);
        config_unref(c);
}

/* Whether the file holds `wanted` somewhere. */
static bool file_holds(const char *path, struct str wanted)
{
        FILE *file = fopen(path, "r");
        static char text[1 << 18];

        assert_non_null(file);
        size_t len = fread(text, 1, sizeof(text), file);
        fclose(file);
        assert_true(len < sizeof(text));
        return str_find_str(str_view(text, len), wanted) >= 0;
}

/* `dagward check --schema config` and `--reference` print what these files must hold. */
static void schema_and_reference_agree_with_the_table(void **state)
{
        struct buf out;

        (void)state;
        buf_init(&out, 1 << 18);
        config_schema_write(&out);
        assert_false(out.overflow);
        assert_true(file_holds(SOURCE_DIR "/policies/config.schema.json", buf_str(&out)));
        buf_reset(&out);
        config_reference_write(&out);
        assert_false(out.overflow);
        assert_true(file_holds(SOURCE_DIR "/docs/configuration.md", buf_str(&out)));
        buf_clear(&out);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_left_out_has_its_default),
                cmocka_unit_test(everything_that_can_be_set_is_read),
                cmocka_unit_test(json_is_accepted),
                cmocka_unit_test(the_environment_fills_references_and_credentials),
                cmocka_unit_test(a_file_that_says_nothing_useful_is_told_so),
                cmocka_unit_test(all_errors_of_a_file_come_in_one_run),
                cmocka_unit_test(listeners_are_checked),
                cmocka_unit_test(sinks_are_checked),
                cmocka_unit_test(issuers_are_checked),
                cmocka_unit_test(upstream_is_checked),
                cmocka_unit_test(the_environment_tells_which_host_gives_the_identity),
                cmocka_unit_test(default_is_what_the_environment_offers),
                cmocka_unit_test(who_opens_a_vault_is_found),
                cmocka_unit_test(credentials_are_checked),
                cmocka_unit_test(the_outgoing_proxy_is_none_or_the_one_that_is_named),
                cmocka_unit_test(what_a_proxy_variable_says_is_cut),
                cmocka_unit_test(limits_fit_together),
                cmocka_unit_test(trusted_addresses_are_those_of_the_networks_and_no_others),
                cmocka_unit_test(secrets_in_the_file_are_refused_and_never_repeated),
                cmocka_unit_test(references_that_lead_nowhere_are_errors),
                cmocka_unit_test(yaml_and_meaning_are_reported_together),
                cmocka_unit_test(addresses_are_ip_and_port),
                cmocka_unit_test(urls_are_taken_apart),
                cmocka_unit_test(every_path_is_told),
                cmocka_unit_test(settings_know_where_they_stand),
                cmocka_unit_test(what_a_reload_cannot_change_is_named),
                cmocka_unit_test(a_file_is_found_and_its_folder_is_where_paths_begin),
                cmocka_unit_test(the_example_is_good),
                cmocka_unit_test(schema_and_reference_agree_with_the_table),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
