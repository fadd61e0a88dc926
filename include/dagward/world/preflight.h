/*
 * preflight: is what the operator wrote fit to be run?
 *
 * Introduces configuration to policy, and both to the files they name. Used by `dagward check`, at
 * start and at every reload, so that all three agree. Opens files, but no socket.
 */
#ifndef DAGWARD_WORLD_PREFLIGHT_H
#define DAGWARD_WORLD_PREFLIGHT_H

#include "dagward/base/buf.h"
#include "dagward/base/error.h"
#include "dagward/config/config.h"
#include "dagward/policy/policy.h"

struct file_list {
        char **names; /* owned, as are they */
        size_t n;
};
/* Whether both name the same files in the same order. */
bool file_list_same(const struct file_list *a, const struct file_list *b);
void file_list_clear(struct file_list *list);

struct preflight {
        struct config *config;         /* one reference, the caller's; NULL when it has errors */
        struct policy *policy;         /* the same */
        char policy_digest[65];        /* hex; "" without a policy */
        struct file_list policy_files; /* what the patterns stand for */
        struct policy *shadow;         /* as `policy`, of policy.shadow; NULL also: none is named */
        char shadow_digest[65];
};

/* Loads a configuration file and the policy files it names, those of the shadow policy included,
 * and checks one against the other: bindings name issuers and credentials that are configured,
 * overridden hosts are hosts of Azure DevOps. All that is wrong is added to `errors`; true when
 * nothing is (warnings may be). Clear `out` in both cases: on false, it holds what could be loaded.
 * `now_ms` is wall time. */
bool preflight_load(const char *config_path, int64_t now_ms, struct preflight *out,
        struct error_list *errors) __attribute__((warn_unused_result));
/* As preflight_load for a configuration that is already there; takes over the reference. */
bool preflight_complete(struct config *config, int64_t now_ms, struct preflight *out,
        struct error_list *errors) __attribute__((warn_unused_result));
void preflight_clear(struct preflight *preflight);

/* Which files policy.files and policy.shadow stand for at this moment, the live ones first. What
 * cannot be read or found is left out. Clear `out`. */
void preflight_policy_files(const struct config *config, struct file_list *out);

/* Checks the files that the configuration names, policies apart: certificates and keys fit
 * together, authorities and key sets can be parsed, secrets can be read, the audit log can be
 * written. Adds errors with the place of the setting; true when there was none. */
bool preflight_files(const struct config *config, struct error_list *errors)
        __attribute__((warn_unused_result));

/* Whether this process can still open what the configuration names: it may have confined itself.
 * Adds an error with the place of each setting that it cannot; true when there was none. */
bool preflight_reach(const struct config *config, struct error_list *errors)
        __attribute__((warn_unused_result));

/* The digest that audit records name a policy by: SHA-256 of the file, as `sha256sum` prints it;
 * of several files, SHA-256 of their digests in order, each in hex and with a newline. Writes 64
 * hex digits and a NUL. False with a reason when a file cannot be read. */
bool preflight_digest(char *const *files, size_t n, char out[65], struct error *err)
        __attribute__((warn_unused_result));

/* The JSON Schema (draft 2020-12) of policy files, with the names of all operations. */
void policy_schema_write(struct buf *out);

#endif
