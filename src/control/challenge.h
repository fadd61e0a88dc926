/*
 * challenge: one WWW-Authenticate field (RFC 9110 11.6.1). Private to control.
 *
 * What it says comes from whoever answered: it is compared and shown, and never decides where a
 * credential goes.
 */
#ifndef DAGWARD_CONTROL_CHALLENGE_H
#define DAGWARD_CONTROL_CHALLENGE_H

#include "dagward/base/str.h"

/* The parameter `name` of a challenge with `scheme`, letter case ignored in both: the first one,
 * its quotes and escapes taken off. False when there is none, it does not fit, or it holds anything
 * but printable ASCII. */
bool challenge_param(struct str challenge, struct str scheme, struct str name, char *out,
        size_t size) __attribute__((warn_unused_result));
/* The claims that a challenge wants in the next token (error="insufficient_claims"), decoded: a
 * JSON object, at most CLAIMS_MOST - 1 bytes of text. `challenge` may be NULL. False, and "", when
 * it wants none or too many. */
enum { CLAIMS_MOST = 1024 };
bool challenge_claims(const char *challenge, char out[CLAIMS_MOST]);
/* Whether `path`, as Azure Arc's agent names it, is a key file of that agent: in its folder, not
 * below it, ending in `.key`. Any other is somebody's attempt to read files through us. */
bool challenge_arc_path(struct str path);

#endif
