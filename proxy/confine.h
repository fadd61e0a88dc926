/* What serve and agent give up once they have what they need. */
#ifndef DAGWARD_PROXY_CONFINE_H
#define DAGWARD_PROXY_CONFINE_H

#include "agent.h"
#include "dagward/config/config.h"

/* No core dumps; as many descriptors and locked pages as may be had. Before secrets are read. */
void confine_begin(void);
/* Becomes `user`, keeps the files that the configuration names, and checks that they can be read as
 * a reload will read them. With sockets bound, before threads and the audit file. False with a
 * reason, or with findings in `errors`. */
bool confine_serve(const struct config *config, struct error_list *errors, struct error *err)
        __attribute__((warn_unused_result));
/* The same for an agent, whose configuration was read from `path`. */
bool confine_agent(const struct agent_settings *settings, const char *path, struct error *err)
        __attribute__((warn_unused_result));

#endif
