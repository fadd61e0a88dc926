#include "health.h"

#include <netinet/in.h>
#include <string.h>

struct health_key health_key_of(const struct sockaddr_storage *address)
{
        struct health_key key = {.family = address->ss_family};

        if (address->ss_family == AF_INET) {
                const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
                key.port = v4->sin_port;
                memcpy(key.ip, &v4->sin_addr, sizeof(v4->sin_addr));
        } else if (address->ss_family == AF_INET6) {
                const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
                key.port = v6->sin6_port;
                memcpy(key.ip, &v6->sin6_addr, sizeof(v6->sin6_addr));
        }
        return key;
}

bool health_key_eq(const struct health_key *a, const struct health_key *b)
{
        return a->family == b->family && a->port == b->port &&
               memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

static struct health_entry *find(struct health *health, const struct health_key *key)
{
        for (unsigned i = 0; health->n && i < HEALTH_MOST; i++)
                if (health->entries[i].used && health_key_eq(&health->entries[i].key, key))
                        return &health->entries[i];
        return NULL;
}

const struct health_entry *health_find(const struct health *health, const struct health_key *key)
{
        return find((struct health *)health, key);
}

enum health_state health_look(const struct health_entry *entry, int64_t now_ms)
{
        if (!entry || !entry->ejected)
                return HEALTH_GOOD;
        return now_ms >= entry->until_ms && !entry->probed ? HEALTH_PROBE : HEALTH_OUT;
}

void health_probe(struct health *health, const struct health_key *key)
{
        struct health_entry *entry = find(health, key);

        if (entry)
                entry->probed = true;
}

void health_probe_end(struct health *health, const struct health_key *key)
{
        struct health_entry *entry = find(health, key);

        if (entry)
                entry->probed = false;
}

/* A slot for one more: a free one, or that of who failed the longest ago. */
static struct health_entry *take(struct health *health)
{
        struct health_entry *oldest = NULL;

        for (unsigned i = 0; i < HEALTH_MOST; i++) {
                struct health_entry *entry = &health->entries[i];
                if (!entry->used) {
                        health->n++;
                        return entry;
                }
                if (!oldest || entry->since_ms < oldest->since_ms)
                        oldest = entry;
        }
        return oldest;
}

static int64_t ejection_ms(
        const struct health_entry *entry, const struct health_rule *rule, uint32_t random)
{
        int64_t ms = rule->time_ms;

        for (unsigned i = 1; i < entry->ejections && ms < rule->most_ms; i++)
                ms *= 2;
        if (ms > rule->most_ms)
                ms = rule->most_ms;
        /* Between 80 and 100 %, so that workers do not try all at once. */
        return ms - ms / 5 * (int64_t)(random % 1024) / 1024;
}

bool health_failed(struct health *health, const struct health_key *key, enum health_fault fault,
        const struct health_rule *rule, int64_t now_ms, uint32_t random)
{
        struct health_entry *entry = find(health, key);

        if (!rule->failures)
                return false;
        if (!entry) {
                entry = take(health);
                *entry = (struct health_entry){.used = true, .key = *key};
        }
        bool early = entry->ejected && !entry->probed && now_ms < entry->until_ms;
        if (!entry->ejected && now_ms - entry->since_ms > HEALTH_FORGET_MS)
                entry->failures = entry->ejections = 0;
        entry->fault = fault;
        entry->failures++;
        if (!entry->ejected)
                entry->since_ms = now_ms;
        /* Those that were under way when it was ejected say nothing new. */
        if (early || (!entry->ejected && entry->failures < rule->failures))
                return false;
        entry->ejections++;
        entry->ejected = true;
        entry->probed = false;
        entry->since_ms = now_ms;
        entry->until_ms = now_ms + ejection_ms(entry, rule, random);
        return true;
}

bool health_worked(struct health *health, const struct health_key *key, enum health_fault proved,
        int64_t now_ms)
{
        struct health_entry *entry = find(health, key);

        /* A connection says nothing about answers. */
        if (!entry || entry->fault > proved)
                return false;
        bool back = entry->ejected;
        entry->ejected = entry->probed = false;
        entry->failures = 0;
        if (back)
                entry->since_ms = now_ms;
        if (!entry->ejections) { /* nothing is held against it any more */
                entry->used = false;
                health->n--;
        }
        return back;
}

void health_rule_changed(struct health *health, const struct health_rule *rule, int64_t now_ms)
{
        if (!rule->failures) {
                *health = (struct health){0};
                return;
        }
        for (unsigned i = 0; health->n && i < HEALTH_MOST; i++) {
                struct health_entry *entry = &health->entries[i];
                if (entry->used && entry->ejected && entry->until_ms > now_ms + rule->most_ms)
                        entry->until_ms = now_ms + rule->most_ms;
        }
}

void health_expire(struct health *health, int64_t now_ms)
{
        for (unsigned i = 0; health->n && i < HEALTH_MOST; i++) {
                struct health_entry *entry = &health->entries[i];
                if (!entry->used || entry->ejected || now_ms - entry->since_ms <= HEALTH_FORGET_MS)
                        continue;
                entry->used = false;
                health->n--;
        }
}
