#include "dagward/credential/credential.h"

#include <assert.h>
#include <stdlib.h>

#define BEARER "Authorization: Bearer "

static void credential_drop(struct snapshot *self)
{
        struct credential *credential = (struct credential *)self;

        secret_drop(&credential->line);
        free(credential);
}

static bool token_ok(struct str token)
{
        size_t i = 0;

        while (i < token.len) {
                char c = char_lower(token.ptr[i]);
                if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                            (c && strchr("-._~+/", c))))
                        break;
                i++;
        }
        if (i == 0)
                return false;
        while (i < token.len && token.ptr[i] == '=')
                i++;
        return i == token.len && token.len <= CREDENTIAL_TOKEN_MOST_BYTES;
}

static struct credential *credential_make(
        struct str head, struct str value, uint64_t generation, int64_t until_mono_ms)
{
        size_t len = head.len + value.len + 2;

        assert(generation != 0);
        if (!token_ok(value))
                return NULL;
        struct credential *credential = calloc(1, sizeof(*credential));
        if (!credential)
                abort();
        char *line = secret_room(&credential->line, len);
        memcpy(line, head.ptr, head.len);
        memcpy(line + head.len, value.ptr, value.len);
        memcpy(line + len - 2, "\r\n", 2);
        snapshot_init(&credential->snap, credential_drop);
        credential->generation = generation;
        credential->until_mono_ms = until_mono_ms;
        credential->refresh_mono_ms = INT64_MAX;
        return credential;
}

struct credential *credential_new(struct str token, uint64_t generation, int64_t until_mono_ms)
{
        return credential_make(STR(BEARER), token, generation, until_mono_ms);
}

struct credential *credential_new_basic(
        struct str encoded, uint64_t generation, int64_t until_mono_ms)
{
        return credential_make(STR("Authorization: Basic "), encoded, generation, until_mono_ms);
}

struct str credential_token(const struct credential *credential)
{
        struct str field = credential_field(credential);

        return str_starts(field, STR(BEARER)) ? str_from(field, sizeof(BEARER) - 1) : STR_NONE;
}

bool credential_same(const struct credential *a, const struct credential *b)
{
        return str_eq(secret_reveal(&a->line), secret_reveal(&b->line));
}

void credential_unref(struct credential *credential)
{
        if (credential)
                snapshot_unref(&credential->snap);
}

static void store_drop(struct snapshot *self)
{
        struct credential_store *store = (struct credential_store *)self;

        for (size_t i = 0; i < store->n; i++) {
                free((void *)store->slots[i].name.ptr);
                free((void *)store->slots[i].type.ptr);
                credential_unref(store->slots[i].credential);
        }
        free(store->slots);
        free(store);
}

struct credential_store *credential_store_new(const struct credential_slot *slots, size_t n)
{
        struct credential_store *store = calloc(1, sizeof(*store));

        if (!store)
                abort();
        snapshot_init(&store->snap, store_drop);
        store->n = n;
        store->slots = calloc(n ? n : 1, sizeof(*store->slots));
        if (!store->slots)
                abort();
        for (size_t i = 0; i < n; i++) {
                store->slots[i].name = str_view(str_dup(slots[i].name), slots[i].name.len);
                store->slots[i].type = str_view(str_dup(slots[i].type), slots[i].type.len);
                store->slots[i].credential = credential_ref(slots[i].credential);
        }
        return store;
}

void credential_store_unref(struct credential_store *store)
{
        if (store)
                snapshot_unref(&store->snap);
}

bool credential_find(const struct credential_store *store, struct str name, unsigned *index)
{
        for (size_t i = 0; i < store->n; i++) {
                if (str_eq(store->slots[i].name, name)) {
                        *index = (unsigned)i;
                        return true;
                }
        }
        return false;
}

const struct credential *credential_lend(
        const struct credential_store *store, unsigned index, int64_t now_mono_ms)
{
        assert(index < store->n);
        const struct credential *credential = store->slots[index].credential;
        return credential && now_mono_ms < credential->until_mono_ms ? credential : NULL;
}

uint64_t credential_generation(const struct credential_store *store, unsigned index)
{
        assert(index < store->n);
        const struct credential *credential = store->slots[index].credential;
        return credential ? credential->generation : 0;
}
