/*
 * fuzz_keyset: any bytes as a key set, then every key of it against a signature.
 */
#include <stdlib.h>

#include "dagward/token/keyset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str text = str_view((const char *)data, size);
        struct error_list warnings;
        struct error err = {""};
        char signature[1024] = {1};
        bool other_alg;

        error_list_init(&warnings);
        struct keyset *set = keyset_parse(text, true, "fuzz", &warnings, &err);
        if (!set && !err.text[0])
                abort();
        for (size_t i = 0; set && i < set->n; i++) {
                const struct key *key = &set->keys[i];
                if (!key->algorithms || key->signature_bytes > sizeof(signature))
                        abort();
                for (int alg = 0; alg < TOKEN_ALG_COUNT && i < 4; alg++) {
                        /* Nobody signed this: a key that says yes is one that anybody can use. */
                        if (key_verify(key, (enum token_alg)alg, text,
                                    str_view(signature, key->signature_bytes)))
                                abort();
                        (void)keyset_find(set, key->kid, (enum token_alg)alg, &other_alg);
                }
        }
        keyset_unref(set);
        error_list_clear(&warnings);
        return 0;
}
