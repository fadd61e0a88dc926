/*
 * lent: credentials of callers of this worker, found by the digest of the caller's token.
 *
 * Sets of WAYS places; the least recently used of a set makes room. What is found was obtained with
 * exactly that token: the whole digest is compared, and nothing else of the request decides. A new
 * configuration empties it (worker.c), as indexes are of one configuration.
 */
#include "lent.h"

#include <stdlib.h>

enum { WAYS = 8, AGAIN_MS = 15 * 1000 };

struct place {
        uint64_t used; /* the clock below at its last use; 0: empty */
        unsigned index;
        unsigned char digest[TOKEN_DIGEST_BYTES];
        struct credential *credential;
        int64_t renew_ms; /* not asked for another one before */
};

struct lent {
        struct place *places; /* sets of WAYS */
        size_t sets;          /* a power of two */
        uint64_t clock;
        size_t held;
};

struct lent *lent_new(size_t most)
{
        struct lent *lent = calloc(1, sizeof(*lent));

        if (!lent)
                abort();
        for (lent->sets = 1; lent->sets * WAYS < most; lent->sets *= 2)
                ;
        lent->places = calloc(lent->sets * WAYS, sizeof(*lent->places));
        if (!lent->places)
                abort();
        return lent;
}

static void drop(struct lent *lent, struct place *place)
{
        if (!place->used)
                return;
        credential_unref(place->credential);
        *place = (struct place){0};
        lent->held--;
}

void lent_clear(struct lent *lent)
{
        for (size_t i = 0; lent && i < lent->sets * WAYS; i++)
                drop(lent, &lent->places[i]);
}

void lent_free(struct lent *lent)
{
        if (!lent)
                return;
        lent_clear(lent);
        free(lent->places);
        free(lent);
}

static struct place *set_of(const struct lent *lent, const unsigned char *digest)
{
        uint32_t word;

        memcpy(&word, digest, sizeof(word));
        return lent->places + (word & (lent->sets - 1)) * WAYS;
}

static struct place *find(const struct lent *lent, const unsigned char *digest, unsigned index)
{
        struct place *set = set_of(lent, digest);

        for (size_t i = 0; i < WAYS; i++)
                if (set[i].used && set[i].index == index &&
                        memcmp(set[i].digest, digest, TOKEN_DIGEST_BYTES) == 0)
                        return &set[i];
        return NULL;
}

struct credential *lent_find(
        struct lent *lent, const unsigned char *digest, unsigned index, int64_t now_ms)
{
        struct place *place = find(lent, digest, index);

        if (place && now_ms >= place->credential->until_mono_ms) {
                drop(lent, place);
                place = NULL;
        }
        if (!place)
                return NULL;
        place->used = ++lent->clock;
        return place->credential;
}

bool lent_is_due(struct lent *lent, const unsigned char *digest, unsigned index, int64_t now_ms)
{
        struct place *place = find(lent, digest, index);

        if (!place || now_ms < place->renew_ms)
                return false;
        place->renew_ms = now_ms + AGAIN_MS;
        return true;
}

/* An empty place of the set, or the one that was used least recently. */
static struct place *room(struct place *set)
{
        struct place *best = set;

        for (size_t i = 1; i < WAYS; i++)
                if (set[i].used < best->used)
                        best = &set[i];
        return best;
}

void lent_put(struct lent *lent, const unsigned char *digest, unsigned index,
        struct credential *credential)
{
        struct place *place = find(lent, digest, index);
        int64_t renew_ms = credential->refresh_mono_ms;

        if (!place)
                place = room(set_of(lent, digest));
        else if (place->credential == credential)
                renew_ms = place->renew_ms; /* nothing newer was to be had */
        credential_ref(credential);
        drop(lent, place);
        place->used = ++lent->clock;
        place->index = index;
        memcpy(place->digest, digest, TOKEN_DIGEST_BYTES);
        place->credential = credential;
        place->renew_ms = renew_ms;
        lent->held++;
}

void lent_forget(
        struct lent *lent, const unsigned char *digest, unsigned index, uint64_t generation)
{
        struct place *place = find(lent, digest, index);

        if (place && place->credential->generation == generation)
                drop(lent, place);
}

void lent_expire(struct lent *lent, int64_t now_ms)
{
        for (size_t i = 0; lent && i < lent->sets * WAYS; i++)
                if (lent->places[i].used && now_ms >= lent->places[i].credential->until_mono_ms)
                        drop(lent, &lent->places[i]);
}

size_t lent_held(const struct lent *lent)
{
        return lent ? lent->held : 0;
}
