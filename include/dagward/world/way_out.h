/*
 * way_out: the outgoing proxy that a configuration asks for, with its credentials.
 */
#ifndef DAGWARD_WORLD_WAY_OUT_H
#define DAGWARD_WORLD_WAY_OUT_H

#include "dagward/config/config.h"
#include "dagward/net/egress.h"

/* Complains about exceptions that are none; those of the environment are warned of, and ignored as
 * curl does. */
void way_out_check(const struct config *config, struct error_list *errors);
/* Reads the file with the credentials, if there is one, or the environment's. False with a reason;
 * else `*out` is NULL when no proxy is configured. One reference. */
bool way_out_of(const struct config *config, struct egress **out, struct error *err)
        __attribute__((warn_unused_result));
/* "http://proxy:3128 (HTTPS_PROXY, with credentials)", or why there is none. Static per thread. */
const char *way_out_text(const struct config *config, const struct egress *egress);

#endif
