/*
 * Loading everything that a file says, at start and again: all of it is good, or nothing changes.
 */
#include <event2/event.h>
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "dagward/base/reach.h"
#include "dagward/world/preflight.h"
#include "dagward/world/way_out.h"
#include "inside.h"

enum { WATCH_MS = 2000 };

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
                parts->listener_tls[i] =
                        tls_server(tls->certificate.ptr, tls->key.ptr, tls->client_ca.ptr, &err);
                if (!parts->listener_tls[i]) {
                        error_list_add(
                                errors, config_place(config, &tls->certificate), "%s", err.text);
                        ok = false;
                }
        }
        parts->upstream_tls = tls_client(config->upstream.ca.ptr, &err);
        if (!parts->upstream_tls) {
                error_list_add(errors, config_place(config, &config->upstream.ca), "%s", err.text);
                ok = false;
        }
        return ok;
}

static bool way_part(struct parts *parts, struct error_list *errors)
{
        const struct config_outgoing_proxy *proxy = &parts->config->outgoing_proxy;
        struct error err;

        if (way_out_of(parts->config, &parts->egress, &err))
                return true;
        error_list_add(errors,
                config_place(parts->config, proxy->credentials_file.ptr
                                                    ? (const void *)&proxy->credentials_file
                                                    : &proxy->environment),
                "%s", err.text);
        return false;
}

/* --- all of it --- */

static void watch_config(struct watch *watch, struct config *config)
{
        watch_add_policies(watch, config);
        for (size_t i = 0; i < config->n_listeners; i++) {
                const struct config_tls *tls = &config->listeners[i].tls;
                if (!config->listeners[i].has_tls)
                        continue;
                watch_add(watch, tls->certificate.ptr);
                watch_add(watch, tls->key.ptr);
                watch_add(watch, tls->client_ca.ptr);
        }
        watch_add(watch, config->upstream.ca.ptr);
        watch_add(watch, config->outgoing_proxy.credentials_file.ptr);
}

/* What the configuration names. Everything is watched before it is read: a file that is replaced
 * meanwhile (as Kubernetes does, all of a folder at once) must not be taken for the old one. */
static bool load_rest(struct parts *parts, struct watch *watch, struct error_list *errors)
{
        struct preflight checked;

        watch_config(watch, parts->config);
        /* Otherwise each of the errors below would be a riddle. */
        if (!preflight_reach(parts->config, errors))
                return false;
        bool ok = preflight_complete(config_ref(parts->config), clock_wall_ms(), &checked, errors);
        parts->policy = checked.policy ? policy_ref(checked.policy) : NULL;
        parts->shadow = checked.shadow ? policy_ref(checked.shadow) : NULL;
        memcpy(parts->policy_digest, checked.policy_digest, sizeof(checked.policy_digest));
        memcpy(parts->shadow_digest, checked.shadow_digest, sizeof(checked.shadow_digest));
        ok = preflight_files(parts->config, errors) && ok;
        preflight_clear(&checked);
        return ok && tls_part(parts, errors) && way_part(parts, errors);
}

struct parts *parts_load(const char *config_path, struct watch *watch, struct error_list *errors)
{
        struct parts *parts = calloc(1, sizeof(*parts));

        if (!parts)
                abort();
        watch_clear(watch);
        watch_add(watch, config_path);
        if (file_out_of_reach(config_path))
                error_list_add(errors, (struct mark){config_path, 0, 0}, "%s", FILE_OUT_OF_REACH);
        else
                parts->config = config_load(config_path, errors);
        bool ok = parts->config && load_rest(parts, watch, errors);
        const char *moved = watch_moved(watch);
        if (ok && moved) {
                error_list_add(errors, (struct mark){moved, 0, 0}, "changed while it was read");
                ok = false;
        }
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
        egress_unref(parts->egress);
        policy_unref(parts->policy);
        policy_unref(parts->shadow);
        config_unref(parts->config);
        free(parts);
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
        struct sink_tokens *sink_tokens = control->sink_tokens;
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
        runs_cancel(control->runs, "the configuration was reloaded meanwhile");
        assertions_reconfigure(control->assertions, fresh->config);
        control_sources_make(control);
        adopt(control, issuers, old->config->n_issuers, sources, old->config->n_credentials, names);
        sink_tokens_adopt(control->sink_tokens, sink_tokens);
        sink_tokens_free(sink_tokens);
        if (control->sinks)
                sinks_reloaded(control->sinks, fresh->egress);
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

/* --- bindings that end --- */

/* More than these are a policy that nobody looks after; `policy lint` lists all. */
enum { EXPIRIES_MOST = 32 };

struct telling {
        struct control *control;
        const char *policy;
        size_t n;
};

static void tell_expiry(void *owner, const struct policy_expiry *expiry)
{
        struct telling *telling = owner;
        char when[CLOCK_RFC3339_LEN + 1];

        if (telling->n++ >= EXPIRIES_MOST)
                return;
        clock_rfc3339(expiry->expires_ms < 0 ? 0 : expiry->expires_ms, when);
        struct pair detail[] = {
                {STR("binding"), expiry->binding},
                {STR("place"), expiry->place},
                {STR("expires"), str_of(when)},
                {STR("policy"), str_of(telling->policy)},
        };
        control_event(telling->control,
                expiry->expired ? "binding.expired" : "binding.expires_soon", detail, 4);
}

void control_tell_expiries(struct control *control)
{
        const struct parts *parts = control->parts;
        struct telling live = {.control = control, .policy = "live"};
        struct telling shadow = {.control = control, .policy = "shadow"};

        policy_expiries(parts->policy, clock_wall_ms(), tell_expiry, &live);
        if (parts->shadow)
                policy_expiries(parts->shadow, clock_wall_ms(), tell_expiry, &shadow);
}

void control_tell_way_out(const struct parts *parts)
{
        if (parts->egress || parts->config->outgoing_proxy.environment)
                log_info("outgoing_proxy=\"%s\"", way_out_text(parts->config, parts->egress));
}

/* --- again --- */

static void say_done(struct control *control, const char *cause, const struct parts *fresh)
{
        const struct parts *old = control->parts;
        struct pair detail[5] = {
                {STR("cause"), str_of(cause)},
                {STR("policy_before"), str_of(old->policy_digest)},
                {STR("policy"), str_of(fresh->policy_digest)},
        };
        size_t n = 3;

        if (old->shadow)
                detail[n++] = (struct pair){STR("shadow_before"), str_of(old->shadow_digest)};
        if (fresh->shadow)
                detail[n++] = (struct pair){STR("shadow"), str_of(fresh->shadow_digest)};
        control_event(control, "reload.done", detail, n);
        log_info("reload cause=\"%s\" done policy=%s%s%s", cause, fresh->policy_digest,
                fresh->shadow ? " shadow=" : "", fresh->shadow_digest);
        control_tell_way_out(fresh);
}

/* Type=notify-reload: from when on it is being done (systemd.service(5)). */
static void tell_reloading(struct control *control)
{
        notifier_say(control->notifier,
                "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=reading the configuration again",
                (long long)clock_mono_us());
}

static void tell_serving(struct control *control, const char *remark)
{
        notifier_say(control->notifier, "READY=1\nSTATUS=serving%s; policy %.12s", remark,
                control->parts->policy_digest);
}

void control_tell_ready(struct control *control)
{
        tell_serving(control, "");
}

void control_reload(struct control *control, const char *cause)
{
        struct error_list errors;
        char restart[400] = "";

        control->change_seen = false;
        event_del(&control->reload_due);
        tell_reloading(control);
        error_list_init(&errors);
        struct parts *fresh = parts_load(control->path, &control->watch, &errors);
        if (fresh) {
                struct mark at;
                config_restart_needed(
                        control->parts->config, fresh->config, &at, restart, sizeof(restart));
                if (restart[0])
                        error_list_add(&errors, at, "these settings need a restart: %s", restart);
        }
        if (!fresh || restart[0]) {
                parts_free(fresh);
                say_failed(control, cause, &errors);
                error_list_clear(&errors);
                tell_serving(control, "; the last reload failed and changed nothing, see the log");
                return;
        }
        for (size_t i = 0; i < errors.n; i++)
                log_info("reload warning %s:%u:%u: %s",
                        errors.findings[i].file ? errors.findings[i].file : "",
                        errors.findings[i].line, errors.findings[i].column,
                        errors.findings[i].text);
        error_list_clear(&errors);
        control->n_reloads++;
        control->loaded_wall_ms = clock_wall_ms();
        log_set_level(fresh->config->log_level);
        say_done(control, cause, fresh);
        swap(control, fresh);
        control_tell_expiries(control);
        tell_serving(control, "");
}

void on_watch_timer(evutil_socket_t fd, short what, void *arg)
{
        struct control *control = arg;
        struct timeval again = {WATCH_MS / 1000, WATCH_MS % 1000 * 1000};
        bool changed = watch_changed(&control->watch);

        (void)fd;
        (void)what;
        control_look_for_jumps(control);
        sinks_start_rest(control->sinks);
        /* Half-written files are left alone: a change counts when it is over. */
        if (!changed && control->change_seen && !control->draining)
                control_reload(control, "a changed file");
        else
                control->change_seen = changed || control->change_seen;
        event_add(&control->watch_timer, &again);
}
