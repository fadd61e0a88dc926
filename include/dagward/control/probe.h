/*
 * probe: one attempt to obtain the token of one credential, for whoever wants to know whether it
 * works.
 *
 * It is the proxy's own source of tokens that runs, so what is found out here is what `serve` would
 * meet. On the thread of the event base.
 */
#ifndef DAGWARD_CONTROL_PROBE_H
#define DAGWARD_CONTROL_PROBE_H

#include "dagward/config/config.h"
#include "dagward/credential/credential.h"
#include "dagward/net/fetch.h"

struct credential_probe;

/* Runs once. `credential` NULL: none could be had, and `why` says so for people, without a secret;
 * otherwise it is valid during the callback, take a reference to keep it. */
typedef void credential_probed(void *owner, const struct credential *credential, const char *why);

/* Begins; `done` may run before this returns (a token in a file is read at once). `all` is where
 * the credentials are that `config` needs to be obtained; NULL: it needs none. Both outlive the
 * probe. */
struct credential_probe *credential_probe_start(const struct config *all,
        const struct config_credential *config, struct event_base *base, struct fetcher *fetcher,
        credential_probed *done, void *owner);
/* Ends what is under way; `done` will not run any more. Not inside `done`. Harmless on NULL. */
void credential_probe_free(struct credential_probe *probe);
/* What to do about an AADSTS code of Entra; NULL for one without an entry. */
const char *credential_remedy(int64_t aadsts);

#endif
