/*
 * policy_usage: what recorded requests used of a policy's rights, and what they use that they did
 * not use before. For `dagward policy suggest` and `dagward audit report`.
 */
#ifndef DAGWARD_PROXY_POLICY_USAGE_H
#define DAGWARD_PROXY_POLICY_USAGE_H

#include "dagward/policy/analyse.h"
#include "past.h"

struct policy_usage;

/* `policy`: whose rights are meant (NULL: of none). `since_ms`: where the second of two periods
 * begins (INT64_MIN: there is only one). At most `most` uses of each period are kept apart. */
struct policy_usage *policy_usage_new(const struct policy *policy, int64_t since_ms, size_t most);
/* Harmless on NULL. */
void policy_usage_free(struct policy_usage *usage);
/* A request that was allowed; `key` is what policy_usage_key made of it. */
void policy_usage_note(struct policy_usage *usage, const struct past *past, const char *key);
/* Uses that there was no room for. */
size_t policy_usage_left_out(const struct policy_usage *usage);

/* What an entry names it by: an operation, or "GET /_apis/profile". False when no entry can. */
bool policy_usage_key(const struct past *past, char *out, size_t bytes)
        __attribute__((warn_unused_result));
/* Numbers of builds and releases are new each time: no right is about one of them. */
bool policy_usage_lasts(enum resource_kind kind);

/* Entries that allow more operations than the `used` ones; the policy decides as it is today. */
typedef void policy_unused_found(void *owner, const struct policy_right *right, size_t used);
void policy_usage_unused(const struct policy_usage *usage, policy_unused_found *found, void *owner);
/* "never used", "3 of 12 operations were used" */
void policy_usage_text(const struct policy_right *right, size_t used, char *out, size_t bytes);

/* "build.builds.get by reader: projects analytics", and when it was first, or last, so. */
typedef void policy_drift_found(void *owner, struct str use, struct str time);
/* In the second period and not in the first; in order of arrival. */
void policy_usage_new_uses(
        const struct policy_usage *usage, policy_drift_found *found, void *owner);
/* In the first period and not in the second. */
void policy_usage_gone_uses(
        const struct policy_usage *usage, policy_drift_found *found, void *owner);

#endif
