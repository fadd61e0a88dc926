/*
 * authorities: who vouches for the server that something was obtained from. Private to control.
 *
 * They are told apart by what is in their files, whatever the names: authorities are taken away by
 * replacing a file. A digest is empty when the system's vouch, or a file cannot be read.
 */
#ifndef DAGWARD_CONTROL_AUTHORITIES_H
#define DAGWARD_CONTROL_AUTHORITIES_H

#include "dagward/config/config.h"

enum { AUTHORITIES_DIGEST = 65 };

/* Of what `keys.ca` of an issuer names. */
void authorities_of_keys(const struct config_keys *keys, char out[AUTHORITIES_DIGEST]);
/* Of what `ca` and `assertion.ca` of a credential name. */
void authorities_of_credential(
        const struct config_credential *credential, char out[AUTHORITIES_DIGEST]);
/* Whether `now`, those of `credential`, are those that vouched when it was `old`: `before`. */
bool authorities_same(const struct config_credential *credential, const char *now,
        const struct config_credential *old, const char *before);

#endif
