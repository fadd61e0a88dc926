/* The sinks of the audit log that `serve` runs. */
#ifndef DAGWARD_PROXY_SERVE_SINKS_H
#define DAGWARD_PROXY_SERVE_SINKS_H

#include "dagward/config/config.h"
#include "dagward/sink/sinks.h"

struct serve_sinks {
        struct sink_settings *settings;
        const char **paths;    /* of their positions */
        struct egress *egress; /* a reference, or NULL */
        struct sinks *sinks;   /* NULL: none */
        size_t n;
};

/* Fills settings and paths. */
void serve_sinks_prepare(struct serve_sinks *it, const struct config_audit *audit);
/* `egress` is the outgoing proxy, or NULL. `patient`: the process serves already, so that what
 * fails is tried again. */
bool serve_sinks_open(struct serve_sinks *it, const struct config_audit *audit,
        struct egress *egress, struct scribe *scribe, bool patient, struct error *err);
bool serve_sinks_start(struct serve_sinks *it, struct error *err);
/* When a thread cannot be ended, the process ends here, with `status`. */
void serve_sinks_stop(struct serve_sinks *it, int status);
/* After scribe_close. */
void serve_sinks_free(struct serve_sinks *it);

#endif
