/* A discovery document: it is taken only if it names the configured issuer, and then a place for
 * keys that is https where the issuer is. The static function under test is reached by including
 * its file; the library's copy is not linked then. */
#include <assert.h>

#include "../../../src/control/discovery.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_as(struct str wanted, struct str body)
{
        struct config_issuer config = {.issuers = &wanted, .n_issuers = 1};
        struct issuer issuer = {.config = &config};
        struct error err = {{0}};

        if (document_read(&issuer, body, &err)) {
                assert(issuer.jwks_url);
                assert(!url_is_https(wanted.ptr) || url_is_https(issuer.jwks_url));
        } else {
                assert(!issuer.jwks_url && err.text[0]);
        }
        free(issuer.jwks_url);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str body = str_view((const char *)data, size);

        read_as(STR("https://issuer.example"), body);
        read_as(STR("http://127.0.0.1:1"), body);
        return 0;
}
