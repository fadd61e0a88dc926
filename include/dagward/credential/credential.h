/*
 * credential: what may be lent to a request, as it is at one moment.
 *
 * A store holds one slot per credential of the configuration, in that order. A slot's credential is
 * a ready-made header line with a generation and an end; it is counted by itself, so that a new
 * store after one refresh shares all the others. Stores and credentials never change. The module
 * knows no URL, no client and no clock: somebody else obtains the tokens and says what time it is.
 */
#ifndef DAGWARD_CREDENTIAL_CREDENTIAL_H
#define DAGWARD_CREDENTIAL_CREDENTIAL_H

#include "dagward/base/secret.h"
#include "dagward/base/snapshot.h"
#include "dagward/base/str.h"

enum { CREDENTIAL_TOKEN_MOST_BYTES = 16 * 1024 };

struct credential {
        struct snapshot snap;
        struct secret line;    /* "Authorization: Bearer <token>\r\n", or Basic */
        uint64_t generation;   /* grows with each token of its slot, never 0 */
        int64_t until_mono_ms; /* not to be lent from then on */
        /* A caller's own, and lent after this: time to ask for the next one. Set before it is
         * shared; INT64_MAX unless it was. */
        int64_t refresh_mono_ms;
};

struct credential_slot {
        struct str name;               /* in the configuration; owned by the store, NUL behind it */
        struct str type;               /* "federated"; owned by the store, NUL behind it */
        struct credential *credential; /* NULL: none (yet); one reference is the store's */
};

struct credential_store {
        struct snapshot snap;
        size_t n;
        struct credential_slot *slots;
};

/* With one reference. NULL when `token` cannot stand in a header line (RFC 6750 2.1: letters,
 * digits, `-._~+/`, `=` at the end) or is empty or too long. */
struct credential *credential_new(struct str token, uint64_t generation, int64_t until_mono_ms);
static inline struct credential *credential_ref(struct credential *credential)
{
        if (credential)
                snapshot_ref(&credential->snap);
        return credential;
}
/* The same for Basic: `encoded` is the base64 of user, colon and password (RFC 7617 2). */
struct credential *credential_new_basic(
        struct str encoded, uint64_t generation, int64_t until_mono_ms);
/* The header line without its CRLF. */
static inline struct str credential_field(const struct credential *credential)
{
        struct str line = secret_reveal(&credential->line);

        return str_head(line, line.len - 2);
}
/* The token of a credential_new; empty for Basic. */
struct str credential_token(const struct credential *credential);
/* Whether both are the same header line: the token is the same one. */
bool credential_same(const struct credential *a, const struct credential *b);
/* Harmless on NULL. */
void credential_unref(struct credential *credential);

/* Copies names and types, takes a reference of every credential. The result holds one. */
struct credential_store *credential_store_new(const struct credential_slot *slots, size_t n);
static inline struct credential_store *credential_store_ref(struct credential_store *store)
{
        snapshot_ref(&store->snap);
        return store;
}
/* Harmless on NULL. */
void credential_store_unref(struct credential_store *store);

/* Index of the slot of that name; false when there is none. */
bool credential_find(const struct credential_store *store, struct str name, unsigned *index)
        __attribute__((warn_unused_result));
/* The credential of slot `index` if it may be lent at `now_mono_ms`, else NULL. It lives as long as
 * the store; take a reference to keep it longer. */
const struct credential *credential_lend(
        const struct credential_store *store, unsigned index, int64_t now_mono_ms);
/* The generation that slot `index` has, usable or not; 0: none. For asking for a newer one. */
uint64_t credential_generation(const struct credential_store *store, unsigned index);

#endif
