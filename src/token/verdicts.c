#include "dagward/token/verdicts.h"

#include <stdlib.h>

#include "dagward/base/block.h"
#include "dagward/base/id.h"
#include "dagward/base/secret.h"

/*
 * Why the token itself is kept, and not a digest of it: comparing all bytes is exact, and costs
 * less than a fifth of hashing them with SHA-256, even on a CPU that has instructions for it. What
 * finds the slot is a keyed hash of the last bytes only, the end of the signature: nobody can
 * choose those without the issuer's key, only good tokens are ever put in, and a set has no more
 * than WAYS places, so there is nothing to flood. The comparison takes the same time wherever the
 * first difference is. The price is that good tokens stay in memory until they expire or make room;
 * they are wiped then.
 */
enum { WAYS = 4, LEAST = 8, TAIL_WORDS = 4, TAIL_BYTES = TAIL_WORDS * 8 };
_Static_assert(TAIL_BYTES >= 2 * (int)BLOCK_BYTES,
        "what is compared by pairs of blocks is as long as one");

struct entry {
        uint64_t tag;
        uint64_t used; /* the clock below at its last use; 0: empty */
        uint64_t config_generation, keys_generation;
        struct str token; /* owned; thousands of them, so not a page for each as in a secret */
        struct caller *caller;
        int64_t until_mono_ms; /* its `exp`, by the clock that nobody sets */
};

struct verdicts {
        struct entry *entries; /* sets of WAYS */
        size_t sets;           /* a power of two */
        uint64_t clock;
        uint64_t factors[TAIL_WORDS + 2]; /* random, odd */
        struct verdicts_counts counts;
};

struct verdicts *verdicts_new(size_t most)
{
        struct verdicts *v = calloc(1, sizeof(*v));

        if (!v)
                abort();
        for (v->sets = LEAST / WAYS; v->sets * WAYS < most; v->sets *= 2)
                ;
        v->entries = calloc(v->sets * WAYS, sizeof(*v->entries));
        if (!v->entries)
                abort();
        id_random(v->factors, sizeof(v->factors));
        for (size_t i = 0; i < TAIL_WORDS + 2; i++)
                v->factors[i] |= 1;
        return v;
}

static void entry_drop(struct verdicts *v, struct entry *entry)
{
        if (!entry->used)
                return;
        secret_wipe((char *)entry->token.ptr, entry->token.len);
        free((char *)entry->token.ptr);
        caller_unref(entry->caller);
        *entry = (struct entry){0};
        v->counts.held--;
}

void verdicts_free(struct verdicts *v)
{
        if (!v)
                return;
        for (size_t i = 0; i < v->sets * WAYS; i++)
                entry_drop(v, &v->entries[i]);
        free(v->entries);
        free(v);
}

static uint64_t tag_of(const struct verdicts *v, struct str token)
{
        uint64_t words[TAIL_WORDS], sum = token.len * v->factors[TAIL_WORDS];

        memcpy(words, token.ptr + token.len - TAIL_BYTES, TAIL_BYTES);
        for (size_t i = 0; i < TAIL_WORDS; i++)
                sum += (words[i] ^ words[i] >> 32) * v->factors[i];
        sum ^= sum >> 32;
        sum *= v->factors[TAIL_WORDS + 1];
        return sum ^ sum >> 29;
}

static struct entry *set_of(struct verdicts *v, uint64_t tag)
{
        return v->entries + (tag & (v->sets - 1)) * WAYS;
}

static block differences(const char *a, const char *b)
{
        return block_load(a) ^ block_load(b);
}

/* Equality in a time that depends on the length only, which is at least TAIL_BYTES. */
static bool same_bytes(const char *a, const char *b, size_t len)
{
        /* The last pair of blocks overlaps the one before. */
        const size_t pair = (size_t)2 * BLOCK_BYTES;
        size_t last = len - pair;
        block found = differences(a + last, b + last) |
                      differences(a + last + BLOCK_BYTES, b + last + BLOCK_BYTES);

        for (size_t i = 0; i < last; i += pair) {
                found |= differences(a + i, b + i) |
                         differences(a + i + BLOCK_BYTES, b + i + BLOCK_BYTES);
                /* The compiler is told that it cannot know the value, or it might one day learn to
                 * leave the loop early. */
                __asm__ volatile("" : "+m"(found));
        }
        return !block_any(found);
}

static struct entry *find_entry(struct verdicts *v, struct str token, uint64_t tag)
{
        struct entry *set = set_of(v, tag);

        for (size_t i = 0; i < WAYS; i++)
                if (set[i].used && set[i].tag == tag && set[i].token.len == token.len &&
                        same_bytes(set[i].token.ptr, token.ptr, token.len))
                        return &set[i];
        return NULL;
}

static bool still_holds(const struct entry *entry, const struct issuer_view *issuers, size_t n,
        uint64_t config_generation, int64_t now_s)
{
        unsigned index = entry->caller->issuer_index;

        return entry->config_generation == config_generation && index < n && issuers[index].keys &&
               issuers[index].keys->generation == entry->keys_generation &&
               now_s < entry->caller->expires_s;
}

struct caller *verdicts_find(struct verdicts *v, struct str token,
        const struct issuer_view *issuers, size_t n, uint64_t config_generation,
        const struct verdicts_now *now, bool *ended)
{
        struct entry *entry = NULL;

        if (token.len >= TAIL_BYTES)
                entry = find_entry(v, token, tag_of(v, token));
        /* It stays: verified anew it would be good again, by a clock that has been set back. */
        *ended = entry && now->mono_ms >= entry->until_mono_ms &&
                 now->wall_s < entry->caller->expires_s;
        if (*ended) {
                v->counts.misses++;
                return NULL;
        }
        if (entry && !still_holds(entry, issuers, n, config_generation, now->wall_s)) {
                entry_drop(v, entry);
                entry = NULL;
        }
        if (!entry) {
                v->counts.misses++;
                return NULL;
        }
        entry->used = ++v->clock;
        v->counts.hits++;
        return caller_ref(entry->caller);
}

void verdicts_put(struct verdicts *v, struct str token, struct caller *caller,
        const struct issuer_view *issuers, size_t n, uint64_t config_generation,
        const struct verdicts_now *now)
{
        unsigned index = caller->issuer_index;

        if (token.len < TAIL_BYTES || token.len > TOKEN_MOST_BYTES || index >= n ||
                !issuers[index].keys)
                return;
        uint64_t tag = tag_of(v, token);
        struct entry *place = find_entry(v, token, tag), *set = set_of(v, tag);
        for (size_t i = 0; !place && i < WAYS; i++)
                if (!set[i].used)
                        place = &set[i];
        if (!place) {
                place = set;
                for (size_t i = 1; i < WAYS; i++)
                        if (set[i].used < place->used)
                                place = &set[i];
                v->counts.evictions++;
        }
        entry_drop(v, place);
        place->tag = tag;
        place->used = ++v->clock;
        place->until_mono_ms = now->mono_ms + (caller->expires_s - now->wall_s) * 1000;
        place->config_generation = config_generation;
        place->keys_generation = issuers[index].keys->generation;
        place->token = str_view(str_dup(token), token.len);
        place->caller = caller_ref(caller);
        v->counts.held++;
}

void verdicts_expire(struct verdicts *v, int64_t now_s)
{
        for (size_t i = 0; i < v->sets * WAYS; i++)
                if (v->entries[i].used && v->entries[i].caller->expires_s <= now_s)
                        entry_drop(v, &v->entries[i]);
}

void verdicts_count(const struct verdicts *v, struct verdicts_counts *counts)
{
        *counts = v->counts;
}
