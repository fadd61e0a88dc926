#include "authorities.h"

#include "dagward/world/preflight.h"

static void digest_of(const struct str *files[], size_t n, char out[AUTHORITIES_DIGEST])
{
        char *paths[2];
        size_t named = 0;

        for (size_t i = 0; i < n; i++)
                if (files[i]->ptr)
                        paths[named++] = (char *)(uintptr_t)files[i]->ptr;
        out[0] = '\0';
        if (named && !preflight_digest(paths, named, out, &(struct error){{0}}))
                out[0] = '\0';
}

void authorities_of_keys(const struct config_keys *keys, char out[AUTHORITIES_DIGEST])
{
        const struct str *files[] = {&keys->ca};

        digest_of(files, 1, out);
}

void authorities_of_credential(
        const struct config_credential *credential, char out[AUTHORITIES_DIGEST])
{
        const struct str *files[] = {&credential->ca, &credential->assertion.ca};

        digest_of(files, 2, out);
}

bool authorities_same(const struct config_credential *credential, const char *now,
        const struct config_credential *old, const char *before)
{
        bool named = credential->ca.ptr || credential->assertion.ca.ptr;

        return str_eq(credential->ca, old->ca) &&
               str_eq(credential->assertion.ca, old->assertion.ca) &&
               (!named || (now[0] && strcmp(now, before) == 0));
}
