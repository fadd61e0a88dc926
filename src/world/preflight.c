#include "dagward/world/preflight.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dagward/audit/chain.h"
#include "dagward/audit/signing.h"
#include "dagward/azdo/catalogue.h"
#include "dagward/base/reach.h"
#include "dagward/base/secret.h"
#include "dagward/confine/confine.h"
#include "dagward/net/tls.h"
#include "dagward/token/x5t.h"
#include "dagward/token/keyset.h"
#include "dagward/yaml/yaml.h"
#include "dagward/world/way_out.h"

/* --- policy files --- */

bool file_list_same(const struct file_list *a, const struct file_list *b)
{
        bool same = a->n == b->n;

        for (size_t i = 0; same && i < a->n; i++)
                same = strcmp(a->names[i], b->names[i]) == 0;
        return same;
}

void file_list_clear(struct file_list *list)
{
        for (size_t i = 0; i < list->n; i++)
                free(list->names[i]);
        free(list->names);
        *list = (struct file_list){0};
}

static void keep_file(struct file_list *list, const char *path)
{
        for (size_t i = 0; i < list->n; i++)
                if (strcmp(list->names[i], path) == 0)
                        return;
        list->names = realloc(list->names, (list->n + 1) * sizeof(char *));
        if (!list->names)
                abort();
        list->names[list->n++] = str_dup(str_of(path));
}

/* One entry of policy.files or policy.shadow: the file of that name, or all that the pattern
 * matches. */
static void expand(
        struct file_list *list, const char *pattern, struct mark at, struct error_list *errors)
{
        glob_t found;
        bool is_pattern = strpbrk(pattern, "*?[") != NULL;

        if (access(pattern, R_OK) == 0) {
                keep_file(list, pattern);
                return;
        }
        if (!is_pattern) {
                error_list_add(errors, at, "`%s` cannot be read: %s", pattern, strerror(errno));
                return;
        }
        int result = glob(pattern, 0, NULL, &found);
        if (result == GLOB_NOSPACE)
                abort();
        if (result == GLOB_NOMATCH)
                error_list_add(errors, at, "`%s` matches no file", pattern);
        else if (result != 0)
                error_list_add(errors, at, "`%s`: the folder cannot be read", pattern);
        else if (list->n + found.gl_pathc > POLICY_MOST_FILES)
                error_list_add(errors, at, "`%s` matches too many files (more than %d)", pattern,
                        POLICY_MOST_FILES);
        else
                for (size_t i = 0; i < found.gl_pathc; i++)
                        keep_file(list, found.gl_pathv[i]);
        if (result == 0)
                globfree(&found);
}

static void expand_all(const struct config *c, const struct str *patterns, size_t n,
        struct file_list *list, struct error_list *errors)
{
        for (size_t i = 0; i < n; i++)
                expand(list, patterns[i].ptr, config_place(c, &patterns[i]), errors);
}

void preflight_policy_files(const struct config *c, struct file_list *out)
{
        struct error_list unsaid;

        *out = (struct file_list){0};
        error_list_init(&unsaid);
        expand_all(c, c->policy.files, c->policy.n_files, out, &unsaid);
        expand_all(c, c->policy.shadow, c->policy.n_shadow, out, &unsaid);
        error_list_clear(&unsaid);
}

static bool digest_file(struct chain *chain, const char *path, char out[65], struct error *err)
{
        const char *why = "";
        int fd = file_open(path, &why);
        FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
        struct buf bytes;
        char block[16384];
        size_t got;

        if (fd >= 0 && !file)
                abort();
        if (!file)
                return error_set(err, "%s: %s", path, why);
        buf_init(&bytes, YAML_MAX_BYTES);
        while ((got = fread(block, 1, sizeof(block), file)) > 0)
                buf_add(&bytes, block, got);
        bool good = !ferror(file) && !bytes.overflow;
        fclose(file);
        if (good)
                chain_digest(chain, buf_str(&bytes), out);
        else
                error_set(err, "%s: cannot be read", path);
        buf_clear(&bytes);
        return good;
}

bool preflight_digest(char *const *files, size_t n, char out[65], struct error *err)
{
        struct chain *chain = chain_new();
        struct buf digests;
        bool good = true;

        buf_init(&digests, 1 << 20);
        for (size_t i = 0; i < n && good; i++) {
                good = digest_file(chain, files[i], out, err);
                buf_printf(&digests, "%s\n", out);
        }
        if (good && n != 1)
                chain_digest(chain, buf_str(&digests), out);
        buf_clear(&digests);
        chain_free(chain);
        return good;
}

/* The policy that is made of these files, and its digest; NULL when anything is wrong. */
static struct policy *load_policy(
        const struct file_list *files, char digest[65], struct error_list *errors)
{
        size_t before = errors->errors;
        struct error err;

        if (files->n == 0)
                return NULL;
        struct policy *policy = policy_load((const char *const *)files->names, files->n, errors);
        if (policy && errors->errors == before &&
                !preflight_digest(files->names, files->n, digest, &err))
                error_list_add(errors, (struct mark){0}, "%s", err.text);
        return policy;
}

/* --- configuration x policy --- */

static void review(const struct config *c, const struct policy *policy, int64_t now_ms,
        struct error_list *errors)
{
        struct str *issuers = calloc(c->n_issuers + 1, sizeof(*issuers));
        struct str *credentials = calloc(c->n_credentials + 1, sizeof(*credentials));

        if (!issuers || !credentials)
                abort();
        for (size_t i = 0; i < c->n_issuers; i++)
                issuers[i] = c->issuers[i].name;
        for (size_t i = 0; i < c->n_credentials; i++)
                credentials[i] = c->credentials[i].name;
        if (policy)
                (void)!policy_review(policy, issuers, c->n_issuers, credentials, c->n_credentials,
                        now_ms, errors);
        free(issuers);
        free(credentials);
}

/* A sink's token has a scope of its own; one for Azure DevOps beside it would be of no use. */
static void note_lent(struct config *c, const struct policy *policy)
{
        for (size_t i = 0; policy && i < c->audit.n_sinks; i++) {
                const struct config_sink *sink = &c->audit.sinks[i];
                if (sink->type != CONFIG_SINK_MONITOR)
                        continue;
                struct config_credential *one = &c->credentials[sink->credential_index];
                one->only_for_sinks = !policy_lends(policy, one->name);
                one->on_demand = one->on_demand || one->only_for_sinks;
        }
}

static bool is_found(const struct error_list *list, const struct finding *finding)
{
        for (size_t i = 0; i < list->n; i++) {
                const struct finding *one = &list->findings[i];
                if (one->line == finding->line && one->column == finding->column &&
                        strcmp(one->file, finding->file) == 0 &&
                        strcmp(one->text, finding->text) == 0)
                        return true;
        }
        return false;
}

/* Live and shadow policy may share files; what is wrong with one of those is said once. */
static void add_new(struct error_list *list, const struct error_list *more)
{
        for (size_t i = 0; i < more->n; i++) {
                const struct finding *found = &more->findings[i];
                struct mark at = {found->file, found->line, found->column};
                if (is_found(list, found))
                        continue;
                if (found->warning)
                        error_list_warn(list, at, "%s", found->text);
                else
                        error_list_add(list, at, "%s", found->text);
        }
        /* A shared file that is wrong is so for both. */
        if (more->errors && !list->errors)
                error_list_add(list, (struct mark){0}, "the shadow policy has errors");
}

static void load_shadow(struct preflight *p, int64_t now_ms, struct error_list *errors)
{
        const struct config *c = p->config;
        struct file_list files = {0};
        struct error_list own;

        error_list_init(&own);
        expand_all(c, c->policy.shadow, c->policy.n_shadow, &files, &own);
        p->shadow = load_policy(&files, p->shadow_digest, &own);
        review(c, p->shadow, now_ms, &own);
        add_new(errors, &own);
        error_list_clear(&own);
        file_list_clear(&files);
}

/* --- configuration x catalogue --- */

static void review_hosts(const struct config *c, struct error_list *errors)
{
        struct str hosts[SERVICE_COUNT];

        for (int s = 0; s < SERVICE_COUNT; s++)
                hosts[s] = str_of(service_host((enum service)s));
        for (size_t i = 0; i < c->upstream.n_hosts; i++) {
                const struct config_host *host = &c->upstream.hosts[i];
                bool known = str_eq(host->pattern, STR("*"));
                for (int s = 0; s < SERVICE_COUNT && !known; s++)
                        known = str_eq_fold(host->pattern, hosts[s]);
                for (size_t s = 0; s < c->upstream.n_storage && !known; s++)
                        known = str_ends_fold(host->pattern, c->upstream.storage[s]);
                if (!known)
                        error_list_add(errors, config_place(c, host),
                                "`hosts`: `%s` is not a host of Azure DevOps%s",
                                yaml_shown(host->pattern),
                                error_did_you_mean(host->pattern, hosts, SERVICE_COUNT));
        }
}

bool preflight_complete(
        struct config *config, int64_t now_ms, struct preflight *out, struct error_list *errors)
{
        size_t before = errors->errors;

        *out = (struct preflight){.config = config};
        review_hosts(config, errors);
        way_out_check(config, errors);
        expand_all(
                config, config->policy.files, config->policy.n_files, &out->policy_files, errors);
        out->policy = load_policy(&out->policy_files, out->policy_digest, errors);
        review(config, out->policy, now_ms, errors);
        load_shadow(out, now_ms, errors);
        if (errors->errors == before)
                note_lent(config, out->policy);
        return errors->errors == before;
}

bool preflight_load(
        const char *config_path, int64_t now_ms, struct preflight *out, struct error_list *errors)
{
        struct config *config = config_load(config_path, errors);

        *out = (struct preflight){0};
        return config && preflight_complete(config, now_ms, out, errors);
}

void preflight_clear(struct preflight *p)
{
        config_unref(p->config);
        policy_unref(p->policy);
        policy_unref(p->shadow);
        file_list_clear(&p->policy_files);
        *p = (struct preflight){0};
}

/* --- files --- */

enum { MOST_SECRET_BYTES = 64 << 10 };

/* `path` and the place where the configuration names it. */
struct named_file {
        struct str path;
        struct mark at;
};

static struct named_file named(const struct config *c, const struct str *path)
{
        return (struct named_file){*path, config_place(c, path)};
}

/* Says plainly what OpenSSL would call a system library. */
static bool readable(struct named_file file, struct error_list *errors)
{
        if (access(file.path.ptr, R_OK) == 0 && !file_waits(file.path.ptr))
                return true;
        error_list_add(errors, file.at, "%s: %s", file.path.ptr,
                file_waits(file.path.ptr) ? FILE_WAITS : strerror(errno));
        return false;
}

static void check_authorities(struct named_file file, struct error_list *errors)
{
        struct error err;

        if (!file.path.ptr || !readable(file, errors))
                return;
        struct tls_context *context = tls_client(file.path.ptr, &err);
        if (!context)
                error_list_add(errors, file.at, "%s", err.text);
        tls_unref(context);
}

static void check_secret(struct named_file file, struct error_list *errors)
{
        struct secret secret = {0};
        struct error err;

        if (!file.path.ptr)
                return;
        if (!secret_read(&secret, file.path.ptr, MOST_SECRET_BYTES, &err))
                error_list_add(errors, file.at, "%s", err.text);
        secret_drop(&secret);
}

static void check_keys(struct named_file file, struct error_list *errors)
{
        struct secret text = {0};
        struct error err;

        if (!file.path.ptr)
                return;
        if (!secret_read(&text, file.path.ptr, KEYSET_MOST_BYTES, &err)) {
                error_list_add(errors, file.at, "%s", err.text);
                return;
        }
        struct keyset *keys = keyset_parse(secret_reveal(&text), true, file.path.ptr, errors, &err);
        if (!keys)
                error_list_add(errors, file.at, "%s: %s", file.path.ptr, err.text);
        keyset_unref(keys);
        secret_drop(&text);
}

static void check_listener(
        const struct config *c, const struct config_listener *l, struct error_list *errors)
{
        const struct config_tls *tls = &l->tls;
        struct error err;

        if (!l->has_tls)
                return;
        bool good = readable(named(c, &tls->certificate), errors);
        good &= readable(named(c, &tls->key), errors);
        if (tls->client_ca.ptr)
                good &= readable(named(c, &tls->client_ca), errors);
        if (!good)
                return;
        struct tls_context *context =
                tls_server(tls->certificate.ptr, tls->key.ptr, tls->client_ca.ptr, &err);
        if (!context)
                error_list_add(errors, config_place(c, &tls->certificate), "%s", err.text);
        tls_unref(context);
}

static void check_signing_key(struct named_file file, struct error_list *errors)
{
        struct error err;

        if (!file.path.ptr)
                return;
        struct signing_key *key = signing_key_load(file.path.ptr, &err);
        if (!key)
                error_list_add(errors, file.at, "%s", err.text);
        signing_key_free(key);
}

/* Whether `file`, which is written to, is there and can be, or can be made. The folder matters when
 * the file is there as well: it is closed, and begun anew in it. */
static void check_written(const struct config *c, const struct str *file, struct error_list *errors)
{
        struct mark at = config_place(c, file);
        const char *path = file->ptr;
        struct stat status;

        if (stat(path, &status) == 0) {
                if (!S_ISREG(status.st_mode))
                        error_list_add(errors, at, "`%s` is not a regular file", path);
                else if (access(path, R_OK | W_OK) != 0)
                        error_list_add(
                                errors, at, "`%s` cannot be written: %s", path, strerror(errno));
        }
        char *folder = str_dup(*file);
        char *slash = strrchr(folder, '/');
        if (slash)
                slash[slash == folder] = '\0';
        const char *where = slash ? folder : ".";
        if (access(where, W_OK | X_OK) != 0)
                error_list_add(errors, at, "no file can be made in the folder `%s`: %s", where,
                        strerror(errno));
        free(folder);
}

static void check_user(const struct config *c, struct error_list *errors)
{
        struct confine_user user;
        struct error err;

        if (c->user.ptr && !confine_user_find(c->user.ptr, &user, &err))
                error_list_add(errors, config_place(c, &c->user), "`user`: %s", err.text);
}

static void check_certificate(struct named_file file, struct error_list *errors)
{
        struct x5t certificate;
        struct secret pem = {0};
        struct error err;

        if (!file.path.ptr || !secret_read(&pem, file.path.ptr, X5T_MOST_BYTES, NULL))
                return; /* that it cannot be read has been said */
        if (!x5t_read_pem(secret_reveal(&pem), &certificate, &err))
                error_list_add(errors, file.at, "%s: %s", file.path.ptr, err.text);
        secret_drop(&pem);
}

/* Those of a `default` come from the environment, where what is missing is passed over. */
static void check_credential(
        const struct config *c, const struct config_credential *one, struct error_list *errors)
{
        const struct str *files[CONFIG_CREDENTIAL_FILES];
        size_t n = one->n_candidates ? 0 : config_credential_files(one, files);

        for (size_t i = 0; i < n; i++) {
                struct named_file file = named(c, files[i]);
                /* from the environment: it stands where the credential does */
                if (!file.at.line)
                        file.at = config_place(c, one);
                check_secret(file, errors);
        }
        if (one->type == CREDENTIAL_CERTIFICATE)
                check_certificate(named(c, &one->certificate_file), errors);
        check_authorities(named(c, &one->ca), errors);
        check_authorities(named(c, &one->assertion.ca), errors);
}

bool preflight_files(const struct config *c, struct error_list *errors)
{
        size_t before = errors->errors;

        for (size_t i = 0; i < c->n_listeners; i++)
                check_listener(c, &c->listeners[i], errors);
        for (size_t i = 0; i < c->n_issuers; i++) {
                const struct config_keys *k = &c->issuers[i].keys;
                check_keys(named(c, &k->file), errors);
                check_authorities(named(c, &k->ca), errors);
                check_secret(named(c, &k->bearer_file), errors);
        }
        check_authorities(named(c, &c->upstream.ca), errors);
        check_secret(named(c, &c->outgoing_proxy.credentials_file), errors);
        for (size_t i = 0; i < c->n_credentials; i++) {
                const struct config_credential *one = &c->credentials[i];
                check_credential(c, one, errors);
        }
        check_signing_key(named(c, &c->audit.signing_key), errors);
        size_t before_files = errors->errors;
        check_written(c, &c->audit.file, errors);
        /* By default it stands beside the audit log, and what is wrong there has been said. */
        if (c->idempotency.enabled && errors->errors == before_files)
                check_written(c, &c->idempotency.file, errors);
        check_user(c, errors);
        return errors->errors == before;
}

struct reaching {
        const struct config *config;
        struct error_list *errors;
};

/* Of a pattern, the folder that it begins with. */
static void check_reach(void *owner, const struct str *path, bool pattern)
{
        struct reaching *it = owner;
        char folder[PATH_MAX];
        size_t wild = pattern ? strcspn(path->ptr, "*?[\\") : path->len;

        snprintf(folder, sizeof(folder), "%.*s", (int)wild, path->ptr);
        if (wild < path->len) {
                char *slash = strrchr(folder, '/');
                if (slash)
                        slash[slash == folder] = '\0';
                else
                        strcpy(folder, ".");
        }
        if (file_out_of_reach(folder))
                error_list_add(it->errors, config_place(it->config, path), "%s %s", folder,
                        FILE_OUT_OF_REACH);
}

bool preflight_reach(const struct config *c, struct error_list *errors)
{
        struct reaching reaching = {c, errors};
        size_t before = errors->errors;
        struct file_list policies;

        config_paths(c, check_reach, &reaching);
        /* A link in an open folder may lead out of it. */
        preflight_policy_files(c, &policies);
        for (size_t i = 0; i < policies.n; i++)
                if (errors->errors == before && file_out_of_reach(policies.names[i]))
                        error_list_add(errors, (struct mark){policies.names[i], 0, 0}, "%s",
                                FILE_OUT_OF_REACH);
        file_list_clear(&policies);
        return errors->errors == before;
}
