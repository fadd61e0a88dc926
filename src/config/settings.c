#include "settings.h"

static const struct setting tls_rows[] = {
        {.key = "certificate",
                .type = SETTING_PATH,
                .required = true,
                AT(config_tls, certificate),
                .help = "PEM file with the certificate chain, the server's own certificate first. "
                        "Read again at every reload."},
        {.key = "key",
                .type = SETTING_PATH,
                .required = true,
                AT(config_tls, key),
                .help = "PEM file with the private key of the certificate."},
        {.key = "client_ca",
                .type = SETTING_PATH,
                AT(config_tls, client_ca),
                .without = "clients need no certificate",
                .help = "PEM file of the authorities whose client certificates are accepted. When "
                        "it "
                        "is set, a client must show one; it still needs a token."},
};
static const struct settings tls = TABLE(struct config_tls, tls_rows);

static const struct setting listen_rows[] = {
        {.key = "address",
                .type = SETTING_ADDRESS,
                .required = true,
                .restart = true,
                AT(config_listener, address),
                .help = "Where to listen: `ip:port`, `[ipv6]:port` or `localhost:port`. Port 0 "
                        "takes "
                        "any free port."},
        {.key = "tls",
                .type = SETTING_SECTION,
                AT(config_listener, tls),
                .count_offset = offsetof(struct config_listener, has_tls),
                .section = &tls,
                .without = "plain HTTP",
                .help = "Serve TLS 1.2 and 1.3 on this address."},
        {.key = "insecure",
                .type = SETTING_BOOL,
                AT(config_listener, insecure),
                .fallback = "false",
                .help = "Allow plain HTTP on an address that is not loopback. Tokens then cross "
                        "the "
                        "network in the clear: only behind something that ends TLS."},
};
static const struct settings listeners = TABLE(struct config_listener, listen_rows);

static const struct setting admin_rows[] = {
        {.key = "address",
                .type = SETTING_ADDRESS,
                .restart = true,
                AT(config_admin, address),
                .fallback = "127.0.0.1:9901",
                .help = "Where `/healthz`, `/readyz`, `/metrics` and the public key of the audit "
                        "log are served, over plain HTTP."},
        {.key = "insecure",
                .type = SETTING_BOOL,
                AT(config_admin, insecure),
                .fallback = "false",
                .help = "Allow an address that is not loopback. What is served holds no secrets, "
                        "but "
                        "tells who uses the proxy how much."},
};
static const struct settings admin = TABLE(struct config_admin, admin_rows);

static const struct setting keys_rows[] = {
        {.key = "discovery",
                .type = SETTING_BOOL,
                AT(config_keys, discovery),
                .fallback = "false",
                .help = "Find the key set through `<issuer>/.well-known/openid-configuration` of "
                        "the "
                        "first `issuer`. This is what happens when `keys` is left out."},
        {.key = "url",
                .type = SETTING_URL,
                AT(config_keys, url),
                .without = "not used",
                .help = "URL of the key set (JWKS). `http://` only to loopback."},
        {.key = "file",
                .type = SETTING_PATH,
                AT(config_keys, file),
                .without = "not used",
                .help = "File with the key set (JWKS) or with a public key in PEM. Read again at "
                        "every "
                        "reload."},
        {.key = "ca",
                .type = SETTING_PATH,
                AT(config_keys, ca),
                .without = "the system's authorities",
                .help = "PEM file of the authorities that may vouch for the server of `discovery` "
                        "or "
                        "`url`."},
        {.key = "bearer_file",
                .type = SETTING_PATH,
                AT(config_keys, bearer_file),
                .without = "no token is sent",
                .help = "File with a token to send when fetching keys, as a Kubernetes API server "
                        "wants it. Read again for each fetch."},
        {.key = "refresh",
                .type = SETTING_DURATION,
                AT(config_keys, refresh_ms),
                .fallback = "15m",
                .least = 10 * SECOND,
                .most = 7 * DAY,
                .help = "Fetch keys again after this time when the answer carries no cache "
                        "lifetime "
                        "of its own."},
        {.key = "cooldown",
                .type = SETTING_DURATION,
                AT(config_keys, cooldown_ms),
                .fallback = "30s",
                .least = 1 * SECOND,
                .most = 1 * HOUR,
                .help = "A token with an unknown `kid` asks for one fetch; no more than one in "
                        "this "
                        "time, however many such tokens arrive."},
        {.key = "keep",
                .type = SETTING_DURATION,
                AT(config_keys, keep_ms),
                .fallback = "24h",
                .least = 1 * MINUTE,
                .most = 30 * DAY,
                .help = "Keys of an issuer that cannot be reached are used for this long after the "
                        "last good fetch."},
        {.key = "timeout",
                .type = SETTING_DURATION,
                AT(config_keys, timeout_ms),
                .fallback = "10s",
                .least = 100,
                .most = 2 * MINUTE,
                .help = "How long one fetch may take."},
};
static const struct settings keys = TABLE(struct config_keys, keys_rows);

static const struct choice algorithm_choices[] = {{.name = "RS256"}, {.name = "RS384"},
        {.name = "RS512"}, {.name = "PS256"}, {.name = "PS384"}, {.name = "PS512"},
        {.name = "ES256"}, {.name = "ES384"}, {.name = "ES512"}, {.name = "EdDSA"}, {0}};

static const struct setting issuer_rows[] = {
        {.key = "name",
                .type = SETTING_NAME,
                .required = true,
                AT(config_issuer, name),
                .help = "How policy, audit records and metrics name this issuer."},
        {.key = "issuer",
                .type = SETTING_TEXTS,
                .required = true,
                .least = 1,
                LIST(config_issuer, issuers),
                .help = "The exact `iss` claim, character for character; a list where a provider "
                        "has "
                        "two forms."},
        {.key = "audiences",
                .type = SETTING_TEXTS,
                .required = true,
                .least = 1,
                LIST(config_issuer, audiences),
                .help = "A token must be meant for one of these (`aud`)."},
        {.key = "keys",
                .type = SETTING_SECTION,
                AT(config_issuer, keys),
                .section = &keys,
                .without = "`{discovery: true}`",
                .help = "Where the keys that sign tokens come from: exactly one of `discovery`, "
                        "`url` "
                        "and `file`."},
        {.key = "algorithms",
                .type = SETTING_CHOICES,
                .least = 1,
                LIST(config_issuer, algorithms),
                .fallback = "RS256, ES256",
                .choices = algorithm_choices,
                .help = "Signature algorithms that are accepted. `none` and the symmetric HS* "
                        "never "
                        "are."},
        {.key = "clock_skew",
                .type = SETTING_DURATION,
                AT(config_issuer, clock_skew_ms),
                .fallback = "60s",
                .least = 0,
                .most = 300 * SECOND,
                .help = "How far the issuer's clock may be off when `exp`, `nbf` and `iat` are "
                        "judged."},
        {.key = "max_lifetime",
                .type = SETTING_DURATION,
                AT(config_issuer, max_lifetime_ms),
                .fallback = "24h",
                .least = 1 * MINUTE,
                .most = 36600 * DAY,
                .help = "Tokens made to live longer are refused: `exp` - `iat`, or `exp` - now "
                        "when "
                        "there is no `iat`."},
        {.key = "require",
                .type = SETTING_PAIRS,
                LIST(config_issuer, require),
                .without = "nothing more is required",
                .help = "Claims that must have exactly this value, for example the tenant "
                        "(`tid`)."},
        {.key = "roles",
                .type = SETTING_TEXTS,
                LIST(config_issuer, roles_paths),
                .fallback = "roles, groups, realm_access.roles",
                .help = "Where role names are found in the claims, a dot for each step down. All "
                        "places are read and put together."},
};
static const struct settings issuers = TABLE(struct config_issuer, issuer_rows);

static const struct setting upstream_timeout_rows[] = {
        {.key = "connect",
                .type = SETTING_DURATION,
                AT(config_upstream, connect_ms),
                .fallback = "5s",
                .least = 100,
                .most = 5 * MINUTE,
                .help = "To connect, the TLS handshake included."},
        {.key = "attempt",
                .type = SETTING_DURATION,
                AT(config_upstream, attempt_ms),
                .fallback = "1s",
                .least = 100,
                .most = 5 * MINUTE,
                .help = "Of `connect`, for one address of a host that has others; the last one has "
                        "what is left."},
        {.key = "first_byte",
                .type = SETTING_DURATION,
                AT(config_upstream, first_byte_ms),
                .fallback = "90s",
                .least = 100,
                .most = 1 * HOUR,
                .help = "From the last byte of the request to the first byte of the answer."},
        {.key = "idle",
                .type = SETTING_DURATION,
                AT(config_upstream, idle_ms),
                .fallback = "120s",
                .least = 100,
                .most = 1 * HOUR,
                .help = "Without a byte moving while a body is on its way."},
        {.key = "keep_alive",
                .type = SETTING_DURATION,
                AT(config_upstream, keep_alive_ms),
                .fallback = "60s",
                .least = 100,
                .most = 1 * HOUR,
                .help = "A pooled connection that nobody used for this long is closed."},
};
/* these fill the section's own struct: `timeouts` is a name, not a struct of its own */
static const struct settings upstream_timeouts =
        TABLE(struct config_upstream, upstream_timeout_rows);

static const struct setting ejection_rows[] = {
        {.key = "failures",
                .type = SETTING_COUNT,
                AT(config_upstream, eject_failures),
                .fallback = "3",
                .least = 0,
                .most = 1000,
                .help = "So many failures in a row: no connection, no TLS, no HTTP, or 502 to 504 "
                        "without a body. 0: an address is always tried."},
        {.key = "time",
                .type = SETTING_DURATION,
                AT(config_upstream, eject_ms),
                .fallback = "1s",
                .least = 100,
                .most = 10 * MINUTE,
                .help = "How long it is not used at first; doubled each time that the one request "
                        "that tries it then fails."},
        {.key = "most",
                .type = SETTING_DURATION,
                AT(config_upstream, eject_most_ms),
                .fallback = "60s",
                .least = 100,
                .most = 1 * HOUR,
                .help = "The longest that becomes."},
};
static const struct settings ejection = TABLE(struct config_upstream, ejection_rows);

static const struct choice throttle_choices[] = {
        {.name = "shed",
                .value = THROTTLE_SHED,
                .help = "until then, requests with it get the same status and the time that is "
                        "left, and are not sent"},
        {.name = "relay", .value = THROTTLE_RELAY, .help = "the caller is told, and that is all"},
        {0}};

static const struct choice redirects_choices[] = {
        {.name = "follow",
                .value = REDIRECTS_FOLLOW,
                .help = "the proxy fetches it, and the client sees the content only"},
        {.name = "relay",
                .value = REDIRECTS_RELAY,
                .help = "the client gets the signed URL and goes there itself"},
        {0}};

static const struct choice links_choices[] = {
        {.name = "rewrite", .value = LINKS_REWRITE, .help = "they lead back to the proxy"},
        {.name = "keep",
                .value = LINKS_KEEP,
                .help = "as upstream wrote them: who follows one leaves the proxy, with its token"},
        {0}};

static const struct choice discovery_choices[] = {
        {.name = "single",
                .value = DISCOVERY_SINGLE,
                .help = "the URL they were given serves everything; answered here, at once"},
        {.name = "mirror",
                .value = DISCOVERY_MIRROR,
                .help = "each service has a URL of its own (`/~vsrm/contoso/`), and is asked for "
                        "its locations"},
        {0}};

static const struct choice names_choices[] = {
        {.name = "resolve",
                .value = NAMES_RESOLVE,
                .help = "Azure DevOps is asked, with the credential of the rule's binding"},
        {.name = "literal",
                .value = NAMES_LITERAL,
                .help = "nobody is asked: a rule by name does not allow an id, nor the reverse"},
        {0}};

static const struct setting upstream_rows[] = {
        {.key = "organizations",
                .type = SETTING_TEXTS,
                .required = true,
                .least = 1,
                LIST(config_upstream, organizations),
                .help = "The Azure DevOps organizations that may be reached; a credential is never "
                        "sent to another. No wildcards."},
        {.key = "ca",
                .type = SETTING_PATH,
                AT(config_upstream, ca),
                .without = "the system's authorities",
                .help = "PEM file of the authorities that may vouch for Azure DevOps."},
        {.key = "hosts",
                .type = SETTING_HOSTS,
                LIST(config_upstream, hosts),
                .without = "the real hosts",
                .help = "Where to connect instead of a host of the catalogue (`dev.azure.com: "
                        "\"https://127.0.0.1:9443\"`), for emulators and tests; `\"*\"` stands for "
                        "every host without a line of its own."},
        {.key = "insecure",
                .type = SETTING_BOOL,
                AT(config_upstream, insecure),
                .fallback = "false",
                .help = "Allow `http://` in `hosts` beyond loopback. Credentials then cross the "
                        "network "
                        "in the clear."},
        {.key = "timeouts",
                .type = SETTING_SECTION,
                .section = &upstream_timeouts,
                .without = "the defaults below",
                .help = "Deadlines on the side of Azure DevOps."},
        {.key = "connections",
                .type = SETTING_COUNT,
                AT(config_upstream, connections),
                .fallback = "1024",
                .least = 1,
                .most = 100000,
                .help = "The most connections of one worker to all hosts together, and so the "
                        "requests that it serves at once; more are answered with 503."},
        {.key = "resolve",
                .type = SETTING_DURATION,
                AT(config_upstream, resolve_ms),
                .fallback = "60s",
                .least = 1 * SECOND,
                .most = 1 * HOUR,
                .help = "How often host names are looked up anew; also at once when an address "
                        "cannot be reached. While that fails, what was found last is used."},
        {.key = "retries",
                .type = SETTING_COUNT,
                AT(config_upstream, retries),
                .fallback = "20",
                .least = 0,
                .most = 100,
                .help = "Per cent of requests that may be sent a second time, when a connection "
                        "that was kept turns out to be closed; with a POST only if not one byte "
                        "was sent. 0: none."},
        {.key = "ejection",
                .type = SETTING_SECTION,
                .section = &ejection,
                .without = "the defaults below",
                .help = "When an address of a host is left alone for a while."},
        {.key = "throttle",
                .type = SETTING_CHOICE,
                AT(config_upstream, throttle),
                .fallback = "shed",
                .choices = throttle_choices,
                .help = "What happens when Azure DevOps answers a credential with 429, or 503, and "
                        "`Retry-After`."},
        {.key = "redirects",
                .type = SETTING_CHOICE,
                AT(config_upstream, redirects),
                .fallback = "follow",
                .choices = redirects_choices,
                .help = "What happens when Azure DevOps redirects a download to storage, with a "
                        "URL that is signed."},
        {.key = "links",
                .type = SETTING_CHOICE,
                AT(config_upstream, links),
                .fallback = "rewrite",
                .choices = links_choices,
                .help = "What becomes of links to Azure DevOps in the bodies of answers."},
        {.key = "discovery",
                .type = SETTING_CHOICE,
                AT(config_upstream, discovery),
                .fallback = "single",
                .choices = discovery_choices,
                .help = "What SDKs are told when they ask which host serves an area."},
        {.key = "names",
                .type = SETTING_CHOICE,
                AT(config_upstream, names),
                .fallback = "resolve",
                .choices = names_choices,
                .help = "What happens when a rule depends on whether a name and an id are one "
                        "resource, or on what a build belongs to."},
        {.key = "storage",
                .type = SETTING_TEXTS,
                LIST(config_upstream, storage),
                .fallback = ".blob.core.windows.net, .vsblob.visualstudio.com, .vsassets.io",
                .help = "Where such a redirect may lead: the ends of host names. Always https, "
                        "never with a credential. An empty list: nowhere."},
};
static const struct settings upstream = TABLE(struct config_upstream, upstream_rows);

static const struct setting policy_rows[] = {
        {.key = "files",
                .type = SETTING_PATHS,
                .required = true,
                .least = 1,
                LIST(config_policy, files),
                .help = "Policy files or patterns such as `policies/*.yaml`; all of them together "
                        "are "
                        "the policy. A pattern that matches nothing is an error."},
        {.key = "shadow",
                .type = SETTING_PATHS,
                LIST(config_policy, shadow),
                .without = "no shadow policy",
                .help = "Files or patterns of a second, whole policy. It is asked beside the live "
                        "one, decides nothing, and audit records say where it disagrees."},
};
static const struct settings policy = TABLE(struct config_policy, policy_rows);

static const struct setting timeout_rows[] = {
        {.key = "headers",
                .type = SETTING_DURATION,
                AT(config_timeouts, headers_ms),
                .fallback = "10s",
                .least = 100,
                .most = 10 * MINUTE,
                .help = "For a whole request head, and for the TLS handshake."},
        {.key = "body",
                .type = SETTING_DURATION,
                AT(config_timeouts, body_ms),
                .fallback = "60s",
                .least = 100,
                .most = 1 * HOUR,
                .help = "Without a byte of a body moving."},
        {.key = "keep_alive",
                .type = SETTING_DURATION,
                AT(config_timeouts, keep_alive_ms),
                .fallback = "120s",
                .least = 100,
                .most = 1 * HOUR,
                .help = "Between two requests of a connection."},
        {.key = "drain",
                .type = SETTING_DURATION,
                AT(config_timeouts, drain_ms),
                .fallback = "30s",
                .least = 0,
                .most = 1 * HOUR,
                .help = "After SIGTERM, for requests that are being served."},
        {.key = "drain_delay",
                .type = SETTING_DURATION,
                AT(config_timeouts, drain_delay_ms),
                .fallback = "0s",
                .least = 0,
                .most = 10 * MINUTE,
                .help = "After SIGTERM and before `drain` begins: `/readyz` says 503 and "
                        "everything is "
                        "still served, each answer with `Connection: close`. As long as a load "
                        "balancer needs to notice."},
        {.key = "handover",
                .type = SETTING_DURATION,
                .restart = true,
                AT(config_timeouts, handover_ms),
                .fallback = "60s",
                .least = 100,
                .most = 10 * MINUTE,
                .help = "How long one process may be silent while another takes its place "
                        "(`--handover`). More than a new process waits for keys and tokens, which "
                        "is 30s at most."},
};
static const struct settings timeouts = TABLE(struct config_timeouts, timeout_rows);

static const struct choice level_choices[] = {
        {.name = "error", .value = LOG_LEVEL_ERROR, .help = "what went wrong"},
        {.name = "info", .value = LOG_LEVEL_INFO, .help = "and what changed"},
        {.name = "debug", .value = LOG_LEVEL_DEBUG, .help = "and what happens"}, {0}};
static const struct setting log_rows[] = {
        {.key = "level",
                .type = SETTING_CHOICE,
                AT(config, log_level),
                .fallback = "info",
                .choices = level_choices,
                .help = "How much is written to stderr."},
};
static const struct settings logging = TABLE(struct config, log_rows);

static const struct choice confine_choices[] = {
        {.name = "auto",
                .value = CONFIG_CONFINE_AUTO,
                .help = "what the kernel has; the log says what that is"},
        {.name = "off", .value = CONFIG_CONFINE_OFF, .help = "nothing is taken away"},
        {.name = "require",
                .value = CONFIG_CONFINE_REQUIRE,
                .help = "all of it, or the start is refused"},
        {0}};

static const struct setting root_rows[] = {
        {.key = "listen",
                .type = SETTING_SECTIONS,
                .required = true,
                .least = 1,
                LIST(config, listeners),
                .section = &listeners,
                .help = "Where callers connect; at least one."},
        {.key = "public_url",
                .type = SETTING_ORIGIN,
                AT(config, public_url),
                .without = "what the client used (`Host`)",
                .help = "How clients reach the proxy; links in answers are rewritten to it."},
        {.key = "admin",
                .type = SETTING_SECTION,
                AT(config, admin),
                .section = &admin,
                .without = "the defaults below",
                .help = "The listener for health and metrics."},
        {.key = "workers",
                .type = SETTING_AUTO,
                .restart = true,
                AT(config, workers),
                .fallback = "auto",
                .least = 1,
                .most = 256,
                .help = "Threads that serve requests; `auto` is one per CPU."},
        {.key = "issuers",
                .type = SETTING_SECTIONS,
                .required = true,
                .least = 1,
                LIST(config, issuers),
                .section = &issuers,
                .help = "Whose tokens are accepted; at least one."},
        {.key = "upstream",
                .type = SETTING_SECTION,
                .required = true,
                AT(config, upstream),
                .section = &upstream,
                .help = "Azure DevOps."},
        {.key = "credentials",
                .type = SETTING_SECTIONS,
                .required = true,
                .least = 1,
                LIST(config, credentials),
                .section = &settings_credentials,
                .help = "What is lent to callers; bindings of the policy choose one by name."},
        {.key = "policy",
                .type = SETTING_SECTION,
                .required = true,
                AT(config, policy),
                .section = &policy,
                .help = "Who may do what."},
        {.key = "audit",
                .type = SETTING_SECTION,
                .required = true,
                AT(config, audit),
                .section = &settings_audit,
                .help = "What happened."},
        {.key = "limits",
                .type = SETTING_SECTION,
                AT(config, limits),
                .section = &settings_limits,
                .without = "the defaults below",
                .help = "How large things may be."},
        {.key = "timeouts",
                .type = SETTING_SECTION,
                AT(config, timeouts),
                .section = &timeouts,
                .without = "the defaults below",
                .help = "Deadlines on the side of the client."},
        {.key = "log",
                .type = SETTING_SECTION,
                .section = &logging,
                .without = "the defaults below",
                .help = "The log on stderr."},
        {.key = "confine",
                .type = SETTING_CHOICE,
                .restart = true,
                AT(config, confine),
                .fallback = "auto",
                .choices = confine_choices,
                .help = "What the process takes from itself once it has started: files that are "
                        "not named here, other programs, system calls that it has no use for."},
        {.key = "user",
                .type = SETTING_TEXT,
                .restart = true,
                AT(config, user),
                .without = "the user that started it",
                .help = "Who the process becomes when it is started as root, once its sockets are "
                        "bound: `name`, `name:group` or `uid:gid`. All files must be readable for "
                        "that user, because a reload reads them again."},
        {.key = "idempotency",
                .type = SETTING_SECTION,
                AT(config, idempotency),
                .section = &settings_idempotency,
                .without = "the defaults below",
                .help = "Triggers that are sent once, however often they are asked for "
                        "([triggers.md](triggers.md))."},
        {.key = "outgoing_proxy",
                .type = SETTING_SECTION,
                AT(config, outgoing_proxy),
                .section = &settings_outgoing_proxy,
                .without = "no proxy, whatever the environment says",
                .help = "The proxy of the network through which everything outside is reached "
                        "([credentials.md](credentials.md#through-a-proxy-of-the-network)). Only "
                        "TLS goes through it, in tunnels (`CONNECT`) that it cannot look into."},
        {.key = "correlation",
                .type = SETTING_SECTION,
                AT(config, correlation),
                .section = &settings_correlation,
                .without = "the defaults below",
                .help = "What runs that are started through the proxy carry "
                        "([triggers.md](triggers.md#correlation))."},
};
const struct settings settings_root = TABLE(struct config, root_rows);
