/* Any bytes: a configuration without holes, or at least one error that can be printed. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "dagward/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *environment(const char *name)
{
        return name[0] == 'A' ? "a.example" : name[0] == 'N' ? "7" : NULL;
}

/* What everybody who is handed a configuration relies on. */
static void look(const struct config *c)
{
        struct mark at;
        char names[64];

        assert(c->n_listeners && c->n_issuers && c->n_credentials);
        assert(c->upstream.n_organizations && c->policy.n_files && c->audit.file.len);
        for (size_t i = 0; i < c->n_listeners; i++) {
                const struct config_listener *l = &c->listeners[i];
                assert(l->address.socket_len);
                assert(l->has_tls || l->address.loopback || l->insecure);
                assert(!l->has_tls || (l->tls.certificate.len && l->tls.key.len));
        }
        for (size_t i = 0; i < c->n_issuers; i++) {
                const struct config_issuer *one = &c->issuers[i];
                assert(one->name.len && one->n_issuers && one->n_audiences && one->n_algorithms);
                assert(one->keys.discovery + (one->keys.url.text.len > 0) +
                                (one->keys.file.len > 0) ==
                        1);
                for (size_t k = 0; k < one->n_require; k++)
                        assert(one->require[k].value.len);
                assert(one->clock_skew_ms >= 0 && one->keys.cooldown_ms > 0);
        }
        for (size_t i = 0; i < c->upstream.n_hosts; i++)
                assert(c->upstream.hosts[i].url.host.len && c->upstream.hosts[i].url.port);
        for (size_t i = 0; i < c->n_credentials; i++) {
                const struct config_credential *one = &c->credentials[i];
                switch (one->type) {
                case CREDENTIAL_STATIC_FILE:
                case CREDENTIAL_PAT_FILE: assert(one->file.len); break;
                case CREDENTIAL_CLIENT_SECRET:
                        assert(one->secret_file.len || one->secret_from_environment);
                        assert(one->tenant.len && one->client_id.len);
                        break;
                case CREDENTIAL_FEDERATED:
                        assert((one->assertion_file.len > 0) +
                                        (one->assertion.token_endpoint.text.len > 0) +
                                        one->assertion_is_callers ==
                                1);
                        assert(one->tenant.len && one->client_id.len);
                        break;
                case CREDENTIAL_CERTIFICATE:
                        assert(one->certificate_file.len || one->vault_scope.len);
                        assert(one->tenant.len && one->client_id.len);
                        break;
                case CREDENTIAL_MANAGED_IDENTITY: break;
                case CREDENTIAL_KEY_VAULT_SECRET:
                        assert(one->vault_scope.len && one->vault_index < c->n_credentials);
                        assert(str_starts(one->key_vault_secret.path, STR("/secrets/")));
                        break;
                case CREDENTIAL_DEFAULT: assert(one->n_candidates); break;
                case CREDENTIAL_ISSUER: assert(!"in no file"); break;
                }
                /* Nobody needs himself to be obtained. */
                for (size_t steps = 0; one->vault_credential.ptr; steps++) {
                        assert(steps < c->n_credentials);
                        one = &c->credentials[one->vault_index];
                }
                assert(one->authority.https || one->authority.loopback);
        }
        assert(c->limits.token_bytes <= c->limits.header_bytes);
        assert(c->limits.header_bytes <= c->limits.headers_bytes);
        config_restart_needed(c, c, &at, names, sizeof(names));
        assert(!names[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct error_list errors;
        struct config_source source = {
                .name = "fuzz",
                .text = str_view((const char *)data, size),
                .folder = "/f",
                .environment = environment,
        };

        error_list_init(&errors);
        struct config *config = config_load_text(&source, &errors);
        assert((config == NULL) == (errors.errors > 0));
        if (config)
                look(config);
        config_unref(config);
        error_list_clear(&errors);
        return 0;
}
