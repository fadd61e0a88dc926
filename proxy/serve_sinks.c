#include "serve_sinks.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void fill(struct sink_settings *out, const struct config_sink *sink)
{
        static const enum sink_transport transports[] = {
                [CONFIG_SINK_TCP] = SINK_TCP,
                [CONFIG_SINK_TLS] = SINK_TLS,
                [CONFIG_SINK_UNIX] = SINK_UNIX,
        };
        static const enum sink_type types[] = {
                [CONFIG_SINK_STDOUT] = SINK_STDOUT,
                [CONFIG_SINK_SYSLOG] = SINK_SYSLOG,
                [CONFIG_SINK_MONITOR] = SINK_MONITOR,
        };

        *out = (struct sink_settings){
                .name = sink->name.ptr,
                .type = types[sink->type],
                .from_start = sink->from == CONFIG_SINK_START,
                .syslog =
                        {
                                .host = sink->host.ptr,
                                .port = sink->port,
                                .ca = sink->ca.ptr,
                                .certificate = sink->certificate.ptr,
                                .key = sink->key.ptr,
                                .facility = sink->facility,
                                .severity = {[SINK_ROUTINE] = sink->severity.routine,
                                        [SINK_DENIED] = sink->severity.denied,
                                        [SINK_FAILED] = sink->severity.failed},
                                .hostname = sink->hostname.ptr,
                                .app_name = sink->app_name.ptr,
                                .enterprise = sink->enterprise,
                        },
                .monitor =
                        {
                                .endpoint = sink->endpoint.text.ptr,
                                .rule = sink->rule.ptr,
                                .stream = sink->stream.ptr,
                                .credential = sink->credential.ptr,
                                .ca = sink->ca.ptr,
                                .interval_ms = sink->interval_ms,
                        },
        };
        if (sink->type == CONFIG_SINK_SYSLOG)
                out->syslog.transport = transports[sink->transport];
}

void serve_sinks_prepare(struct serve_sinks *it, const struct config_audit *audit)
{
        char path[4096];

        it->n = audit->n_sinks;
        it->settings = calloc(it->n + 1, sizeof(*it->settings));
        it->paths = calloc(it->n + 1, sizeof(*it->paths));
        if (!it->settings || !it->paths)
                abort();
        for (size_t i = 0; i < it->n; i++) {
                fill(&it->settings[i], &audit->sinks[i]);
                (void)!sink_position_path(
                        audit->file.ptr, audit->sinks[i].name.ptr, path, sizeof(path));
                it->paths[i] = str_dup(str_of(path));
        }
}

bool serve_sinks_open(struct serve_sinks *it, const struct config_audit *audit,
        struct egress *egress, struct scribe *scribe, bool patient, struct error *err)
{
        const struct sinks_settings settings = {
                .log = audit->file.ptr,
                .sync = audit->durability != DURABILITY_NONE,
                .patient = patient,
                .items = it->settings,
                .n = it->n,
        };

        if (!it->n)
                return true;
        it->egress = egress_ref(egress);
        for (size_t i = 0; i < it->n; i++)
                it->settings[i].monitor.egress = it->egress;
        it->sinks = sinks_new(&settings, scribe, err);
        return it->sinks != NULL;
}

bool serve_sinks_start(struct serve_sinks *it, struct error *err)
{
        return !it->sinks || sinks_start(it->sinks, err);
}

void serve_sinks_stop(struct serve_sinks *it, int status)
{
        if (sinks_stop(it->sinks))
                return;
        fflush(NULL);
        _exit(status);
}

void serve_sinks_free(struct serve_sinks *it)
{
        sinks_free(it->sinks);
        egress_unref(it->egress);
        for (size_t i = 0; i < it->n; i++)
                free((void *)(uintptr_t)it->paths[i]);
        free(it->paths);
        free(it->settings);
        *it = (struct serve_sinks){.n = 0};
}
