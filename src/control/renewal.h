/*
 * renewal: when a token is asked for again, and when it is not lent any more. Private to control.
 * Says how long, in ms from now; who waits is token_source.
 */
#ifndef DAGWARD_CONTROL_RENEWAL_H
#define DAGWARD_CONTROL_RENEWAL_H

#include "attempt.h"

/* After an attempt that failed, and `failures` in a row before it. */
int64_t renewal_after_failure_ms(const struct outcome *outcome, unsigned failures);
/* After one that brought a token. `exact`: as the outcome says, without chance or a part of the
 * life put in front. */
int64_t renewal_after_token_ms(const struct outcome *outcome, bool exact);
/* How long before its end a token that lives so long is not lent any more. */
int64_t renewal_margin_ms(int64_t life_ms);

#endif
