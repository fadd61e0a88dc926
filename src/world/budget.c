#include "dagward/world/budget.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "dagward/base/id.h"

enum { LINE = 64 };
enum { NEAR = 8 };               /* slots in which something is looked for: an address has a line */
enum { IDENTITIES = 16 * 1024 }; /* a power of two; 1 MiB */
enum { ADDRESSES_LEAST = 1024 }; /* likewise */
enum { CLOCKS_DIFFER_US = 1000 * 1000 };
enum { COUNT_BITS = 24 }; /* of an address's word; the rest tells whose it is */

/* One word: the address's number above, its connections below. No connections: the slot is free. */
struct address_slot {
        _Atomic uint64_t word;
};

struct identity_slot {
        _Alignas(LINE) _Atomic uint64_t whose; /* 0: nobody's yet */
        _Atomic uint32_t requests, streams;
        /* When the bucket will be full again (GCRA's theoretical arrival time), by budget_flow. */
        _Atomic int64_t full_us[2];
};

struct budget {
        uint64_t key[2];
        size_t n_addresses;
        struct address_slot *addresses;
        struct identity_slot *identities; /* IDENTITIES; the first one is the shared account */
        _Alignas(LINE) _Atomic uint64_t crowded;
};

/* --- SipHash-2-4 (Aumasson, Bernstein: SipHash: a fast short-input PRF, 2012) --- */

static uint64_t rotate(uint64_t x, unsigned bits)
{
        return x << bits | x >> (64 - bits);
}

static void sip_rounds(uint64_t v[4], int rounds)
{
        while (rounds--) {
                v[0] += v[1];
                v[2] += v[3];
                v[1] = rotate(v[1], 13) ^ v[0];
                v[3] = rotate(v[3], 16) ^ v[2];
                v[0] = rotate(v[0], 32);
                v[2] += v[1];
                v[0] += v[3];
                v[1] = rotate(v[1], 17) ^ v[2];
                v[3] = rotate(v[3], 21) ^ v[0];
                v[2] = rotate(v[2], 32);
        }
}

static void sip_word(uint64_t v[4], uint64_t word)
{
        v[3] ^= word;
        sip_rounds(v, 2);
        v[0] ^= word;
}

static void sip_init(uint64_t v[4], const uint64_t key[2])
{
        v[0] = key[0] ^ 0x736f6d6570736575u;
        v[1] = key[1] ^ 0x646f72616e646f6du;
        v[2] = key[0] ^ 0x6c7967656e657261u;
        v[3] = key[1] ^ 0x7465646279746573u;
}

static uint64_t sip_end(uint64_t v[4])
{
        v[2] ^= 0xFF;
        sip_rounds(v, 4);
        return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t sip(const uint64_t key[2], const void *bytes, size_t len)
{
        const unsigned char *at = bytes;
        uint64_t v[4], last = (uint64_t)len << 56, word;

        sip_init(v, key);
        for (; len >= 8; at += 8, len -= 8) {
                memcpy(&word, at, 8);
                sip_word(v, word);
        }
        for (size_t i = 0; i < len; i++)
                last |= (uint64_t)at[i] << 8 * i;
        sip_word(v, last);
        return sip_end(v);
}

/* Of two texts, so that neither can end where the other begins. */
static uint64_t number_of(const struct budget *budget, char kind, struct str a, struct str b)
{
        uint64_t parts[3] = {(unsigned char)kind, sip(budget->key, a.ptr, a.len),
                sip(budget->key, b.ptr, b.len)};
        uint64_t number = sip(budget->key, parts, sizeof(parts));

        return number ? number : 1;
}

uint64_t budget_identity(const struct budget *budget, struct str issuer, struct str subject)
{
        return number_of(budget, 'i', issuer, subject);
}

uint64_t budget_role(const struct budget *budget, struct str role)
{
        return number_of(budget, 'r', role, STR(""));
}

/* --- addresses --- */

static uint64_t count_of(uint64_t word)
{
        return word & ((1u << COUNT_BITS) - 1);
}

/* Another one of the same address, or the first one in a free slot; 0: `slot` is not for it, and
 * -1: it has `most` already. */
static int slot_connect(struct address_slot *slot, uint64_t whose, uint64_t most, bool free_too)
{
        uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);

        for (;;) {
                uint64_t n = count_of(word);
                if (n ? word >> COUNT_BITS != whose : !free_too)
                        return 0;
                if (n >= most)
                        return -1;
                if (atomic_compare_exchange_weak_explicit(&slot->word, &word,
                            whose << COUNT_BITS | (n + 1), memory_order_relaxed,
                            memory_order_relaxed))
                        return 1;
        }
}

uint64_t budget_address(const struct budget *budget, const unsigned char address[16])
{
        static const unsigned char mapped[12] = {[10] = 0xFF, [11] = 0xFF};
        bool v4 = memcmp(address, mapped, sizeof(mapped)) == 0;

        return sip(budget->key, address, v4 ? 16 : 8);
}

bool budget_connect(
        struct budget *budget, const unsigned char address[16], uint64_t most, budget_place *place)
{
        uint64_t hash = budget_address(budget, address);
        size_t first = (hash & (budget->n_addresses - 1)) & ~(size_t)(NEAR - 1);
        uint64_t whose = hash >> COUNT_BITS;

        *place = 0;
        for (int free_too = 0; free_too < 2; free_too++) {
                for (size_t i = 0; i < NEAR; i++) {
                        int took =
                                slot_connect(&budget->addresses[first + i], whose, most, free_too);
                        if (took < 0)
                                return false;
                        if (took > 0) {
                                *place = (budget_place)(first + i + 1);
                                return true;
                        }
                }
        }
        return true; /* its line is full of others: not counted, but in the total it is */
}

void budget_disconnect(struct budget *budget, budget_place place)
{
        if (place)
                atomic_fetch_sub_explicit(
                        &budget->addresses[place - 1].word, 1, memory_order_relaxed);
}

/* --- identities --- */

/* Whether it says nothing that would be lost. */
static bool slot_is_idle(struct identity_slot *slot, int64_t now_us)
{
        /* Acquire, and release in `take`: who sees that it is used sees for whom. */
        return atomic_load_explicit(&slot->requests, memory_order_acquire) == 0 &&
               atomic_load_explicit(&slot->full_us[0], memory_order_relaxed) <= now_us &&
               atomic_load_explicit(&slot->full_us[1], memory_order_relaxed) <= now_us;
}

static struct identity_slot *slot_of(struct budget *budget, uint64_t whose, int64_t now_us)
{
        struct identity_slot *near =
                &budget->identities[whose & (IDENTITIES - 1) & ~(uint64_t)(NEAR - 1)];

        for (unsigned i = 0; i < NEAR; i++)
                if (atomic_load_explicit(&near[i].whose, memory_order_relaxed) == whose)
                        return &near[i];
        for (unsigned i = 0; i < NEAR; i++) {
                /* Another worker may have taken it for the same identity meanwhile, and be using it
                 * already: with a second slot the two would be counted apart. So whose it is, is
                 * looked at after whether it is used. */
                bool idle = slot_is_idle(&near[i], now_us);
                uint64_t before = atomic_load_explicit(&near[i].whose, memory_order_relaxed);
                if (before == whose)
                        return &near[i];
                if (&near[i] == &budget->identities[0] || !idle)
                        continue;
                if (atomic_compare_exchange_strong_explicit(&near[i].whose, &before, whose,
                            memory_order_relaxed, memory_order_relaxed) ||
                        before == whose)
                        return &near[i];
        }
        atomic_fetch_add_explicit(&budget->crowded, 1, memory_order_relaxed);
        return &budget->identities[0];
}

static bool take(_Atomic uint32_t *count, uint64_t most)
{
        uint32_t n = atomic_load_explicit(count, memory_order_relaxed);

        do {
                if (n >= most)
                        return false;
        } while (!atomic_compare_exchange_weak_explicit(
                count, &n, n + 1, memory_order_release, memory_order_relaxed));
        return true;
}

bool budget_begin(struct budget *budget, uint64_t identity, uint64_t most, bool stream,
        int64_t now_us, budget_place *place)
{
        struct identity_slot *slot = slot_of(budget, identity, now_us);

        *place = 0;
        if (stream && !take(&slot->streams, most - most / 4))
                return false;
        if (!take(&slot->requests, most)) {
                if (stream)
                        atomic_fetch_sub_explicit(&slot->streams, 1, memory_order_relaxed);
                return false;
        }
        *place = (budget_place)(slot - budget->identities + 1);
        return true;
}

void budget_end(struct budget *budget, budget_place place, bool stream)
{
        if (!place)
                return;
        struct identity_slot *slot = &budget->identities[place - 1];
        if (stream)
                atomic_fetch_sub_explicit(&slot->streams, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&slot->requests, 1, memory_order_relaxed);
}

/* When a bucket of `burst` could be full again at the latest. What says more was filled under
 * another rate: who was given more by a reload is not made to wait for what he owed before.
 * Workers' clocks differ by a turn of their loops, which is no reason. The shared account keeps
 * what others owe. */
static int64_t latest_of(struct budget *budget, const struct identity_slot *slot, int64_t full_us,
        int64_t emptied_us)
{
        return slot != &budget->identities[0] && full_us - emptied_us > CLOCKS_DIFFER_US
                       ? emptied_us
                       : full_us;
}

/* A request costs per/requests; the bucket holds burst of them. */
int64_t budget_spend(struct budget *budget, uint64_t identity, enum budget_flow flow,
        const struct config_bucket *bucket, int64_t now_us)
{
        struct identity_slot *slot = slot_of(budget, identity, now_us);
        int64_t one_us = bucket->per_ms * 1000 / (int64_t)bucket->requests;
        int64_t full_us = atomic_load_explicit(&slot->full_us[flow], memory_order_relaxed);
        int64_t next_us, wait_us;

        one_us = one_us > 0 ? one_us : 1;
        int64_t whole_us = one_us * (int64_t)bucket->burst;
        do {
                int64_t owed_us = latest_of(budget, slot, full_us, now_us + whole_us);
                next_us = (owed_us > now_us ? owed_us : now_us) + one_us;
                wait_us = next_us - now_us - whole_us;
                if (wait_us > 0 && owed_us == full_us)
                        return wait_us;
                if (wait_us > 0)
                        next_us = owed_us; /* is forgotten for good, not anew each time */
        } while (!atomic_compare_exchange_weak_explicit(&slot->full_us[flow], &full_us, next_us,
                memory_order_relaxed, memory_order_relaxed));
        return wait_us > 0 ? wait_us : 0;
}

uint64_t budget_crowded(const struct budget *budget)
{
        return atomic_load_explicit(&budget->crowded, memory_order_relaxed);
}

/* --- life --- */

static void *lines_new(size_t n, size_t size)
{
        void *memory = aligned_alloc(LINE, n * size);

        if (!memory)
                abort();
        return memset(memory, 0, n * size);
}

struct budget *budget_new(uint64_t connections)
{
        struct budget *budget = lines_new(1, sizeof(*budget));

        static_assert(sizeof(struct identity_slot) == LINE, "a slot is a line");
        id_random(budget->key, sizeof(budget->key));
        budget->n_addresses = ADDRESSES_LEAST;
        while (budget->n_addresses < 2 * connections && budget->n_addresses < 1u << 21)
                budget->n_addresses *= 2;
        budget->addresses = lines_new(budget->n_addresses, sizeof(*budget->addresses));
        budget->identities = lines_new(IDENTITIES, sizeof(*budget->identities));
        return budget;
}

void budget_free(struct budget *budget)
{
        if (!budget)
                return;
        free(budget->addresses);
        free(budget->identities);
        free(budget);
}
