/*
 * Loading everything that a file says, at start and again: all of it is good, or nothing changes.
 */
#include <event2/event.h>
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "dagward/world/preflight.h"
#include "inside.h"

enum { WATCH_MS = 2000 };

static void watch_file(struct parts *parts, const char *path)
{
        if (!path)
                return;
        parts->watched = realloc(parts->watched, (parts->n_watched + 1) * sizeof(char *));
        parts->stamps = realloc(parts->stamps, (parts->n_watched + 1) * sizeof(struct file_stamp));
        if (!parts->watched || !parts->stamps)
                abort();
        parts->watched[parts->n_watched] = str_dup(str_of(path));
        parts->stamps[parts->n_watched++] = file_stamp_of(path);
}

/* --- certificates --- */

static bool tls_part(struct parts *parts, struct error_list *errors)
{
        const struct config *config = parts->config;
        struct error err;
        bool ok = true;

        parts->listener_tls = calloc(config->n_listeners + 1, sizeof(struct tls_context *));
        if (!parts->listener_tls)
                abort();
        for (size_t i = 0; i < config->n_listeners; i++) {
                const struct config_tls *tls = &config->listeners[i].tls;
                if (!config->listeners[i].has_tls)
                        continue;
                watch_file(parts, tls->certificate.ptr);
                watch_file(parts, tls->key.ptr);
                watch_file(parts, tls->client_ca.ptr);
                parts->listener_tls[i] =
                        tls_server(tls->certificate.ptr, tls->key.ptr, tls->client_ca.ptr, &err);
                if (!parts->listener_tls[i]) {
                        error_list_add(
                                errors, config_place(config, &tls->certificate), "%s", err.text);
                        ok = false;
                }
        }
        watch_file(parts, config->upstream.ca.ptr);
        parts->upstream_tls = tls_client(config->upstream.ca.ptr, &err);
        if (!parts->upstream_tls) {
                error_list_add(errors, config_place(config, &config->upstream.ca), "%s", err.text);
                ok = false;
        }
        return ok;
}

/* --- all of it --- */

/* The first file whose bytes are others than those that were stamped before it was read. */
static const char *moved_under_us(const struct parts *parts)
{
        for (size_t i = 0; i < parts->n_watched; i++) {
                struct file_stamp now = file_stamp_of(parts->watched[i]);
                if (!file_stamp_same(&now, &parts->stamps[i]))
                        return parts->watched[i];
        }
        return NULL;
}

struct parts *parts_load(const char *config_path, struct error_list *errors)
{
        struct parts *parts = calloc(1, sizeof(*parts));
        struct preflight checked;

        if (!parts)
                abort();
        watch_file(parts, config_path);
        bool ok = preflight_load(config_path, clock_wall_ms(), &checked, errors);
        for (size_t i = 0; i < checked.n_policy_files; i++)
                watch_file(parts, checked.policy_files[i]);
        if (checked.config) {
                parts->config = config_ref(checked.config);
                parts->policy = checked.policy ? policy_ref(checked.policy) : NULL;
                memcpy(parts->policy_digest, checked.policy_digest, sizeof(checked.policy_digest));
                ok = preflight_files(checked.config, errors) && ok;
        }
        ok = ok && tls_part(parts, errors);
        const char *moved = moved_under_us(parts);
        if (ok && moved) {
                error_list_add(errors, (struct mark){moved, 0, 0}, "changed while it was read");
                ok = false;
        }
        preflight_clear(&checked);
        if (ok)
                return parts;
        parts_free(parts);
        return NULL;
}

void parts_free(struct parts *parts)
{
        if (!parts)
                return;
        for (size_t i = 0; parts->listener_tls && i < parts->config->n_listeners; i++)
                tls_unref(parts->listener_tls[i]);
        free(parts->listener_tls);
        tls_unref(parts->upstream_tls);
        policy_unref(parts->policy);
        config_unref(parts->config);
        for (size_t i = 0; i < parts->n_watched; i++)
                free(parts->watched[i]);
        free(parts->watched);
        free(parts->stamps);
        free(parts);
}

bool parts_changed(struct parts *parts)
{
        bool changed = false;

        for (size_t i = 0; i < parts->n_watched; i++) {
                struct file_stamp now = file_stamp_of(parts->watched[i]);
                changed = !file_stamp_same(&now, &parts->stamps[i]) || changed;
                parts->stamps[i] = now;
        }
        return changed;
}

static void say_failed(struct control *control, const char *cause, struct error_list *errors)
{
        char count[24], first[400] = "";

        control->n_reloads_failed++;
        for (size_t i = 0; i < errors->n; i++) {
                const struct finding *found = &errors->findings[i];
                if (found->warning)
                        continue;
                log_error("reload %s:%u:%u: %s", found->file ? found->file : "", found->line,
                        found->column, found->text);
                if (!first[0])
                        snprintf(first, sizeof(first), "%s:%u:%u: %s",
                                found->file ? found->file : "", found->line, found->column,
                                found->text);
        }
        log_error("reload cause=\"%s\" refused errors=%zu: the running state stays as it was",
                cause, errors->errors);
        snprintf(count, sizeof(count), "%zu", errors->errors);
        struct pair detail[] = {
                {STR("cause"), str_of(cause)},
                {STR("errors"), str_of(count)},
                {STR("first"), str_of(first)},
        };
        control_event(control, "reload.failed", detail, 3);
}

static void adopt(struct control *control, struct issuer **issuers, size_t n_issuers,
        struct token_source **sources, size_t n_sources, struct names *names)
{
        const struct config *config = control->parts->config;

        for (size_t i = 0; i < config->n_issuers; i++) {
                for (size_t j = 0; j < n_issuers; j++) {
                        if (str_eq(config->issuers[i].name, issuers[j]->config->name))
                                issuer_adopt(control->issuers[i], issuers[j]);
                }
        }
        for (size_t i = 0; i < config->n_credentials; i++) {
                for (size_t j = 0; j < n_sources; j++)
                        token_source_adopt(control->sources[i], sources[j]);
        }
        names_adopt(control->names, names);
}

static void swap(struct control *control, struct parts *fresh)
{
        struct parts *old = control->parts;
        struct issuer **issuers = control->issuers;
        struct token_source **sources = control->sources;
        struct supply *supply = control->supply;
        struct names *names = control->names;
        struct waiter *waiting = control->waiters, **last = control->last_waiter;

        /* One world at the end, not one for each source that starts. Those who wait for a source of
         * before are told to look again, behind that world. */
        control->waiters = NULL;
        control->last_waiter = &control->waiters;
        control->booted = false;
        control->parts = fresh;
        control->reload++;
        control->policy_generation++;
        lookups_cancel(control->lookups); /* credentials have other numbers now */
        control_sources_make(control);
        adopt(control, issuers, old->config->n_issuers, sources, old->config->n_credentials, names);
        control_sources_free(issuers, old->config->n_issuers, sources, old->config->n_credentials,
                supply, names);
        control_sources_start(control);
        control->booted = true;
        control_publish(control);
        if (waiting) {
                control->waiters = waiting;
                control->last_waiter = last;
                control_answer_all(control, true, "");
        }
        parts_free(old);
}

void control_reload(struct control *control, const char *cause)
{
        struct error_list errors;
        char restart[400] = "";

        control->change_seen = false;
        parts_changed(control->parts); /* a refusal is said once, not at every look */
        error_list_init(&errors);
        struct parts *fresh = parts_load(control->path, &errors);
        if (fresh) {
                config_restart_needed(
                        control->parts->config, fresh->config, restart, sizeof(restart));
                if (restart[0])
                        error_list_add(&errors, (struct mark){control->path, 0, 0},
                                "these settings need a restart: %s", restart);
        }
        if (!fresh || restart[0]) {
                parts_free(fresh);
                say_failed(control, cause, &errors);
                error_list_clear(&errors);
                return;
        }
        for (size_t i = 0; i < errors.n; i++)
                log_info("reload warning %s:%u:%u: %s",
                        errors.findings[i].file ? errors.findings[i].file : "",
                        errors.findings[i].line, errors.findings[i].column,
                        errors.findings[i].text);
        error_list_clear(&errors);
        char before[65];
        memcpy(before, control->parts->policy_digest, sizeof(before));
        control->n_reloads++;
        control->loaded_wall_ms = clock_wall_ms();
        struct pair detail[] = {
                {STR("cause"), str_of(cause)},
                {STR("policy_before"), str_of(before)},
                {STR("policy"), str_of(fresh->policy_digest)},
        };
        control_event(control, "reload.done", detail, 3);
        log_info("reload cause=\"%s\" done policy=%s", cause, fresh->policy_digest);
        swap(control, fresh);
}

void on_watch_timer(evutil_socket_t fd, short what, void *arg)
{
        struct control *control = arg;
        struct timeval again = {WATCH_MS / 1000, WATCH_MS % 1000 * 1000};
        bool changed = parts_changed(control->parts);

        (void)fd;
        (void)what;
        /* Half-written files are left alone: a change counts when it is over. */
        if (!changed && control->change_seen && !control->draining)
                control_reload(control, "a changed file");
        else
                control->change_seen = changed || control->change_seen;
        event_add(&control->watch_timer, &again);
}
