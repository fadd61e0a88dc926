/* What a credential of each type needs, and what the environment fills in. */
#include <arpa/inet.h>

#include "settings.h"

#define BIT(type) (1u << (type))
#define SECRET BIT(CREDENTIAL_CLIENT_SECRET)
#define FEDERATED BIT(CREDENTIAL_FEDERATED)
#define CERTIFICATE BIT(CREDENTIAL_CERTIFICATE)
#define MANAGED BIT(CREDENTIAL_MANAGED_IDENTITY)
#define VAULT BIT(CREDENTIAL_KEY_VAULT_SECRET)
#define CHAIN BIT(CREDENTIAL_DEFAULT)
#define FILES (BIT(CREDENTIAL_STATIC_FILE) | BIT(CREDENTIAL_PAT_FILE))
/* Those that ask Entra's token endpoint themselves. */
#define ENTRA (SECRET | FEDERATED | CERTIFICATE | VAULT)

struct str config_credential_type_name(enum config_credential_type type)
{
        switch (type) {
        case CREDENTIAL_STATIC_FILE: return STR("static_file");
        case CREDENTIAL_PAT_FILE: return STR("pat_file");
        case CREDENTIAL_CLIENT_SECRET: return STR("client_secret");
        case CREDENTIAL_FEDERATED: return STR("federated");
        case CREDENTIAL_CERTIFICATE: return STR("certificate");
        case CREDENTIAL_MANAGED_IDENTITY: return STR("managed_identity");
        case CREDENTIAL_KEY_VAULT_SECRET: return STR("key_vault_secret");
        case CREDENTIAL_DEFAULT: return STR("default");
        case CREDENTIAL_ISSUER: return STR("assertion");
        }
        return STR("");
}

bool config_credential_is_emergency(const struct config_credential *c)
{
        return c->type == CREDENTIAL_STATIC_FILE || c->type == CREDENTIAL_PAT_FILE ||
               (c->type == CREDENTIAL_KEY_VAULT_SECRET && c->holds == HOLDS_PAT);
}

size_t config_credential_files(
        const struct config_credential *c, const struct str *files[CONFIG_CREDENTIAL_FILES])
{
        size_t n = 0;

        for (size_t i = 0; i <= c->n_candidates; i++) {
                const struct config_credential *one = i ? &c->candidates[i - 1] : c;
                const struct str *all[] = {&one->file, &one->secret_file, &one->assertion_file,
                        &one->certificate_file, &one->key_file, &one->assertion.secret_file};
                for (size_t k = 0; k < sizeof(all) / sizeof(*all); k++)
                        if (all[k]->ptr && n < CONFIG_CREDENTIAL_FILES)
                                files[n++] = all[k];
        }
        return n;
}

static bool same_url(const struct config_url *a, const struct config_url *b)
{
        return str_eq(a->text, b->text);
}

/* `candidates` apart. */
static bool same_settings(const struct config_credential *a, const struct config_credential *b)
{
        static const size_t texts[] = {
#define TEXT(field) offsetof(struct config_credential, field)
                TEXT(name),
                TEXT(tenant),
                TEXT(client_id),
                TEXT(secret_file),
                TEXT(assertion_file),
                TEXT(certificate_file),
                TEXT(key_file),
                TEXT(vault_credential),
                TEXT(object_id),
                TEXT(resource_id),
                TEXT(file),
                TEXT(scope),
                TEXT(assertion.client_id),
                TEXT(assertion.secret_file),
                TEXT(assertion.scope),
                TEXT(assertion.audience),
                TEXT(assertion.resource),
#undef TEXT
        };

        for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
                const struct str *one = (const void *)((const char *)a + texts[i]);
                const struct str *other = (const void *)((const char *)b + texts[i]);
                if (!str_eq(*one, *other))
                        return false;
        }
        return a->type == b->type && a->source == b->source && a->holds == b->holds &&
               a->assertion_is_callers == b->assertion_is_callers &&
               same_url(&a->authority, &b->authority) && same_url(&a->endpoint, &b->endpoint) &&
               same_url(&a->key_vault_key, &b->key_vault_key) &&
               same_url(&a->key_vault_secret, &b->key_vault_secret) &&
               same_url(&a->vault_endpoint, &b->vault_endpoint) &&
               same_url(&a->assertion.token_endpoint, &b->assertion.token_endpoint) &&
               a->n_candidates == b->n_candidates;
}

bool config_credential_same(const struct config_credential *a, const struct config_credential *b)
{
        if (!same_settings(a, b))
                return false;
        for (size_t i = 0; i < a->n_candidates; i++)
                if (!same_settings(&a->candidates[i], &b->candidates[i]))
                        return false;
        return true;
}

/* --- one setting --- */

/* Which types have it. */
struct trait {
        const char *key;
        size_t offset;
        unsigned needed, allowed; /* BITs */
        const char *variable;     /* of the environment, fills it when it is left out */
};

#define FIELD(name) #name, offsetof(struct config_credential, name)

static const struct trait traits[] = {
        {FIELD(tenant), ENTRA, ENTRA | CHAIN, "AZURE_TENANT_ID"},
        {FIELD(client_id), ENTRA, ENTRA | MANAGED | CHAIN, "AZURE_CLIENT_ID"},
        {FIELD(secret_file), SECRET, SECRET, NULL},
        {FIELD(assertion_file), FEDERATED, FEDERATED, "AZURE_FEDERATED_TOKEN_FILE"},
        {FIELD(assertion), 0, FEDERATED, NULL},
        {FIELD(certificate_file), CERTIFICATE, CERTIFICATE, "AZURE_CLIENT_CERTIFICATE_PATH"},
        {FIELD(key_file), 0, CERTIFICATE, NULL},
        {FIELD(algorithm), 0, CERTIFICATE, NULL},
        {FIELD(key_vault_key), 0, CERTIFICATE, NULL},
        {FIELD(key_vault_secret), VAULT, VAULT, NULL},
        {FIELD(holds), 0, VAULT, NULL},
        {FIELD(poll_ms), 0, VAULT, NULL},
        {FIELD(vault_credential), VAULT, VAULT | CERTIFICATE, NULL},
        {FIELD(vault_endpoint), 0, VAULT | CERTIFICATE, NULL},
        {FIELD(source), 0, MANAGED | CHAIN, NULL},
        {FIELD(endpoint), 0, MANAGED | CHAIN, NULL},
        {FIELD(object_id), 0, MANAGED, NULL},
        {FIELD(resource_id), 0, MANAGED, NULL},
        {FIELD(file), FILES, FILES, NULL},
        {FIELD(authority), 0, ENTRA | CHAIN, NULL},
        {FIELD(scope), 0, ENTRA | MANAGED | CHAIN, NULL},
        {FIELD(ca), 0, ENTRA | CHAIN, NULL},
};

/* What it is written as, where that is not the name of the member. */
static const char *key_of(const struct trait *t)
{
        return strcmp(t->key, "poll_ms") == 0 ? "poll" : t->key;
}

static struct str from_environment(struct reader *r, const char *variable)
{
        const char *value = r->environment(variable);
        struct str text = str_trim(str_of(value));

        if (str_empty(text) || !str_utf8_valid(text))
                return STR_NONE;
        return arena_copy(&r->doc->arena, text);
}

/* For what is a secret: only that it is there. */
static bool in_environment(const struct reader *r, const char *variable)
{
        return !str_empty(str_trim(str_of(r->environment(variable))));
}

/* Whether the type needs the setting in this one's case. */
static bool needs(const struct reader *r, const struct config_credential *c, const struct trait *t)
{
        const void *field = (const char *)c + t->offset;

        if (!(t->needed & BIT(c->type)))
                return false;
        if (field == &c->assertion_file)
                return !c->has_assertion && !c->assertion_is_callers;
        if (field == &c->certificate_file)
                return !config_given(r, &c->key_vault_key);
        if (field == &c->tenant || field == &c->client_id)
                return !(c->type == CREDENTIAL_KEY_VAULT_SECRET && c->holds == HOLDS_PAT);
        if (field == &c->secret_file)
                return !c->secret_from_environment;
        return true;
}

static void check_trait(struct reader *r, struct config_credential *c, const struct trait *t)
{
        void *field = (char *)c + t->offset;
        /* the first member of a config_url is its text */
        struct str *text = field;

        if (config_given(r, field) && !(t->allowed & BIT(c->type))) {
                error_list_add(r->errors, config_place(r->config, field),
                        "`%s` has no meaning for a credential of type %s", key_of(t),
                        config_credential_type_name(c->type).ptr);
                return;
        }
        if (config_given(r, field) || !needs(r, c, t))
                return;
        if (t->variable)
                *text = from_environment(r, t->variable);
        if (!text->ptr)
                error_list_add(r->errors, config_place(r->config, c),
                        "`%s` is missing for type %s%s%s%s", key_of(t),
                        config_credential_type_name(c->type).ptr, t->variable ? " (and `" : "",
                        t->variable ? t->variable : "", t->variable ? "` is not set)" : "");
}

/* --- Entra --- */

static void fill_authority(struct reader *r, struct config_credential *c)
{
        struct config_url url;
        struct error err;
        struct str text = from_environment(r, "AZURE_AUTHORITY_HOST");

        if (config_given(r, &c->authority) || !text.ptr)
                return;
        if (str_find_str(text, STR("://")) < 0)
                text = arena_printf(&r->doc->arena, "https://%.*s", STR_FMT(text));
        while (text.ptr && str_ends(text, STR("/")) && !str_ends(text, STR("://")))
                text = arena_copy(&r->doc->arena, str_head(text, text.len - 1));
        if (!config_url_parse(&r->doc->arena, text, &url, &err))
                error_list_add(r->errors, config_place(r->config, c), "`AZURE_AUTHORITY_HOST` %s",
                        err.text);
        else if (!url.https && !url.loopback)
                error_list_add(r->errors, config_place(r->config, c),
                        "`AZURE_AUTHORITY_HOST` must begin with https://");
        else
                c->authority = url;
}

/* Goes into a URL path. */
static bool tenant_ok(struct str tenant)
{
        for (size_t i = 0; i < tenant.len; i++) {
                char c = char_lower(tenant.ptr[i]);
                if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.'))
                        return false;
        }
        return tenant.len > 0 && tenant.ptr[0] != '.' && tenant.len <= 253;
}

static void check_entra(struct reader *r, const struct config_credential *c)
{
        config_check_confidential(r, "authority", &c->authority);
        if (c->tenant.ptr && (str_eq_fold(c->tenant, STR("common")) ||
                                     str_eq_fold(c->tenant, STR("organizations")) ||
                                     str_eq_fold(c->tenant, STR("consumers"))))
                error_list_add(r->errors, config_at(r, &c->tenant, c),
                        "`tenant` must be your tenant's GUID or domain: `%s` does not work for a "
                        "service principal",
                        yaml_shown(c->tenant));
        else if (c->tenant.ptr && !tenant_ok(c->tenant))
                error_list_add(r->errors, config_at(r, &c->tenant, c),
                        "`tenant` must be a GUID or a domain, not `%s`", yaml_shown(c->tenant));
}

static void check_scope(struct reader *r, const struct config_credential *c)
{
        if (c->scope.ptr && (!str_ends(c->scope, STR("/.default")) || str_find(c->scope, ' ') >= 0))
                error_list_add(r->errors, config_at(r, &c->scope, c),
                        "`scope` must be one resource and end in `/.default`");
}

static void check_assertion(struct reader *r, struct config_credential *c)
{
        if (c->assertion_is_callers)
                c->on_demand = true;
        if ((c->has_assertion || c->assertion_is_callers) && config_given(r, &c->assertion_file))
                error_list_add(r->errors, config_place(r->config, &c->assertion_file),
                        "`assertion_file` and `assertion` are two ways: one of them");
        if (!c->has_assertion)
                return;
        config_check_confidential(r, "token_endpoint", &c->assertion.token_endpoint);
        if (!c->assertion.scope.ptr && !c->assertion.audience.ptr && !c->assertion.resource.ptr)
                error_list_warn(r->errors, config_at(r, &c->assertion, c),
                        "`assertion` has no `scope`, `audience` or `resource`: the issuer decides "
                        "whom "
                        "its token is for");
}

static void check_certificate(struct reader *r, const struct config_credential *c)
{
        if (c->type != CREDENTIAL_CERTIFICATE)
                return;
        bool vault = config_given(r, &c->key_vault_key);
        if (vault && config_given(r, &c->key_file))
                error_list_add(r->errors, config_place(r->config, &c->key_file),
                        "`key_file` and `key_vault_key` are two keys: one of them");
        if (vault && !c->vault_credential.ptr)
                error_list_add(r->errors, config_place(r->config, &c->key_vault_key),
                        "`key_vault_key` needs `vault_credential`: who may use the key");
        if (!vault &&
                (config_given(r, &c->vault_credential) || config_given(r, &c->vault_endpoint)))
                error_list_add(r->errors, config_place(r->config, c),
                        "`vault_credential` and `vault_endpoint` need `key_vault_key`");
}

/* --- Key Vault --- */

struct vault_cloud {
        const char *suffix, *scope;
};

static const struct vault_cloud vault_clouds[] = {
        {".vault.azure.net", "https://vault.azure.net/.default"},
        {".vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net/.default"},
        {".vault.azure.cn", "https://vault.azure.cn/.default"},
};

/* `/keys/NAME` or `/keys/NAME/VERSION`: names of letters, digits and dashes. */
static bool vault_path_ok(struct str path, const char *kind)
{
        char prefix[16];
        size_t slashes = 0;

        snprintf(prefix, sizeof(prefix), "/%s/", kind);
        if (!str_starts(path, str_of(prefix)))
                return false;
        path = str_from(path, strlen(prefix));
        for (size_t i = 0; i < path.len; i++) {
                char c = char_lower(path.ptr[i]);
                slashes += c == '/';
                if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '/'))
                        return false;
        }
        return path.len > 0 && path.len <= 200 && slashes <= 1 && path.ptr[0] != '/' &&
               path.ptr[path.len - 1] != '/';
}

/* A token for key vaults must reach nobody but a key vault. */
static void check_vault_url(struct reader *r, struct config_credential *c, const char *key,
        const char *kind, const struct config_url *url)
{
        struct mark at = config_place(r->config, url);
        const size_t n = sizeof(vault_clouds) / sizeof(*vault_clouds);
        size_t i = 0;

        if (!url->text.ptr)
                return;
        while (i < n && !(str_ends(url->host, str_of(vault_clouds[i].suffix)) &&
                                url->host.len > strlen(vault_clouds[i].suffix)))
                i++;
        if (i == n || !url->https || url->port != 443)
                error_list_add(r->errors, at,
                        "`%s` must be https:// at a key vault: its host ends in .vault.azure.net, "
                        ".vault.usgovcloudapi.net or .vault.azure.cn",
                        key);
        else
                c->vault_scope = str_of(vault_clouds[i].scope);
        if (!vault_path_ok(url->path, kind))
                error_list_add(r->errors, at,
                        "`%s` must end in /%s/NAME or /%s/NAME/VERSION, as the vault's page shows "
                        "it",
                        key, kind, kind);
}

static void check_vault(struct reader *r, struct config_credential *c)
{
        check_vault_url(r, c, "key_vault_key", "keys", &c->key_vault_key);
        check_vault_url(r, c, "key_vault_secret", "secrets", &c->key_vault_secret);
        config_check_confidential(r, "vault_endpoint", &c->vault_endpoint);
}

/* Finds who opens the vault. */
static void link_vault(struct reader *r, struct config_credential *c)
{
        struct config *config = r->config;
        enum { most = 64 };
        struct str names[most];
        size_t n = 0;

        if (!c->vault_credential.ptr)
                return;
        struct mark at = config_place(config, &c->vault_credential);
        for (size_t i = 0; i < config->n_credentials; i++) {
                struct config_credential *other = &config->credentials[i];
                if (n < most && other->name.ptr)
                        names[n++] = other->name;
                if (!str_eq(other->name, c->vault_credential))
                        continue;
                c->vault_index = (unsigned)i;
                other->on_demand = true;
                if (other->type && config_credential_is_emergency(other))
                        error_list_add(r->errors, at, "`%s` is a %s, which opens no vault",
                                yaml_shown(other->name),
                                config_credential_type_name(other->type).ptr);
                else if (other->assertion_is_callers)
                        error_list_add(r->errors, at,
                                "`%s` is each caller's own (`assertion: caller`), which opens no "
                                "vault",
                                yaml_shown(other->name));
                return;
        }
        error_list_add(r->errors, at, "there is no credential named `%s`%s",
                yaml_shown(c->vault_credential),
                error_did_you_mean(str_head(c->vault_credential, 64), names, n));
        c->vault_credential = STR_NONE;
}

/* Each step goes to another credential, so that more steps than credentials are a circle. */
static void check_circle(struct reader *r, const struct config_credential *c)
{
        const struct config *config = r->config;
        const struct config_credential *at = c;

        for (size_t steps = 0; at->vault_credential.ptr; steps++) {
                at = &config->credentials[at->vault_index];
                if (at == c || steps > config->n_credentials) {
                        error_list_add(r->errors, config_place(config, &c->vault_credential),
                                "`vault_credential`: `%s` needs itself to be obtained",
                                yaml_shown(c->name));
                        return;
                }
        }
}

/* --- managed identity --- */

static bool link_local(const struct config_url *url)
{
        struct in_addr v4;

        return inet_pton(AF_INET, url->host.ptr, &v4) == 1 &&
               ntohl(v4.s_addr) >> 16 == (169u << 8 | 254u);
}

/* Azure answers on the machine itself, in the clear; nothing leaves it. */
static bool endpoint_ok(const struct config_url *url)
{
        return url->https || url->loopback || link_local(url);
}

/* IDENTITY_ENDPOINT and what stands beside it tell which host this is, as Azure's SDKs have it. */
static void fill_endpoint(struct reader *r, struct config_credential *c)
{
        struct str text = from_environment(r, "IDENTITY_ENDPOINT");
        bool app_service = in_environment(r, "IDENTITY_HEADER");
        bool arc = in_environment(r, "IMDS_ENDPOINT");
        struct config_url url;
        struct error err;

        if (config_given(r, &c->endpoint) || !text.ptr || c->source == IDENTITY_IMDS)
                return;
        if (c->source == IDENTITY_AUTO && (app_service || arc))
                c->source = app_service ? IDENTITY_APP_SERVICE : IDENTITY_ARC;
        if (c->source == IDENTITY_AUTO)
                return;
        if (!config_url_parse(&r->doc->arena, text, &url, &err))
                error_list_add(
                        r->errors, config_place(r->config, c), "`IDENTITY_ENDPOINT` %s", err.text);
        else
                c->endpoint = url;
}

static void check_managed(struct reader *r, struct config_credential *c)
{
        unsigned names = 0;

        names += c->client_id.ptr != NULL;
        names += c->object_id.ptr != NULL;
        names += c->resource_id.ptr != NULL;
        fill_endpoint(r, c);
        if (c->endpoint.text.ptr && !endpoint_ok(&c->endpoint))
                error_list_add(r->errors, config_at(r, &c->endpoint, c),
                        "`endpoint` must be on this machine (loopback or 169.254.0.0/16) or begin "
                        "with https://");
        if (names > 1)
                error_list_add(r->errors, config_place(r->config, c),
                        "a user-assigned identity is named by one of `client_id`, `object_id` and "
                        "`resource_id`");
        if (c->source == IDENTITY_APP_SERVICE && !c->endpoint.text.ptr)
                error_list_add(r->errors, config_place(r->config, c),
                        "`source: app_service` needs `IDENTITY_ENDPOINT`, which is not set");
}

/* --- default --- */

static void add_candidate(
        struct config_credential *c, enum config_credential_type type, struct str file)
{
        struct config_credential *one = &c->candidates[c->n_candidates++];

        *one = *c;
        one->type = type;
        one->candidates = NULL;
        one->n_candidates = 0;
        if (type == CREDENTIAL_CLIENT_SECRET)
                one->secret_from_environment = true;
        else if (type == CREDENTIAL_CERTIFICATE)
                one->certificate_file = file;
        else if (type == CREDENTIAL_FEDERATED)
                one->assertion_file = file;
        if (type != CREDENTIAL_MANAGED_IDENTITY)
                one->endpoint = (struct config_url){.text = STR_NONE};
}

/* In the order of Azure's SDKs, without what only a developer's machine has. */
static void make_candidates(struct reader *r, struct config_credential *c)
{
        struct str certificate = from_environment(r, "AZURE_CLIENT_CERTIFICATE_PATH");
        struct str assertion = from_environment(r, "AZURE_FEDERATED_TOKEN_FILE");

        c->candidates = config_alloc(r, 3 * sizeof(*c->candidates));
        if (!c->tenant.ptr)
                c->tenant = from_environment(r, "AZURE_TENANT_ID");
        if (!c->client_id.ptr)
                c->client_id = from_environment(r, "AZURE_CLIENT_ID");
        bool named = c->tenant.ptr && c->client_id.ptr;
        if (named && in_environment(r, "AZURE_CLIENT_SECRET"))
                add_candidate(c, CREDENTIAL_CLIENT_SECRET, STR_NONE);
        else if (named && certificate.ptr)
                add_candidate(c, CREDENTIAL_CERTIFICATE, certificate);
        if (named && assertion.ptr)
                add_candidate(c, CREDENTIAL_FEDERATED, assertion);
        add_candidate(c, CREDENTIAL_MANAGED_IDENTITY, STR_NONE);
        check_managed(r, &c->candidates[c->n_candidates - 1]);
}

/* --- all --- */

static void check_credential(struct reader *r, struct config_credential *c)
{
        if (c->type == CREDENTIAL_CLIENT_SECRET && !config_given(r, &c->secret_file))
                c->secret_from_environment = in_environment(r, "AZURE_CLIENT_SECRET");
        for (size_t t = 0; t < sizeof(traits) / sizeof(*traits); t++)
                check_trait(r, c, &traits[t]);
        if (BIT(c->type) & (ENTRA | CHAIN)) {
                fill_authority(r, c);
                check_entra(r, c);
        }
        if (BIT(c->type) & (ENTRA | MANAGED | CHAIN))
                check_scope(r, c);
        check_assertion(r, c);
        check_certificate(r, c);
        check_vault(r, c);
        if (c->type == CREDENTIAL_MANAGED_IDENTITY)
                check_managed(r, c);
        if (c->type == CREDENTIAL_DEFAULT)
                make_candidates(r, c);
}

void config_check_credentials(struct reader *r)
{
        struct config *c = r->config;

        for (size_t i = 0; i < c->n_credentials; i++) {
                struct config_credential *one = &c->credentials[i];
                for (size_t before = 0; before < i; before++)
                        if (one->name.ptr && str_eq(one->name, c->credentials[before].name))
                                error_list_add(r->errors, config_place(c, &one->name),
                                        "there are two credentials named `%s`",
                                        yaml_shown(one->name));
                /* without a good type there is no telling what it needs */
                if (one->type)
                        check_credential(r, one);
        }
        for (size_t i = 0; i < c->n_credentials; i++)
                link_vault(r, &c->credentials[i]);
        for (size_t i = 0; i < c->n_credentials; i++)
                check_circle(r, &c->credentials[i]);
}
