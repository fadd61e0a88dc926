/*
 * sinks: what control does for the sinks of the audit log. Private to control.
 *
 * It obtains the tokens that some of them show to their receivers, with a scope of their own, and
 * keeps what they say of themselves.
 */
#ifndef DAGWARD_CONTROL_SINKS_H
#define DAGWARD_CONTROL_SINKS_H

#include "dagward/sink/sinks.h"
#include "supply.h"
#include "token_source.h"

struct sink_state {
        struct sink_stats stats;
        bool told; /* the sink has said something */
};

struct control;
struct sink_tokens; /* of one configuration */

/* NULL: no sink needs one. */
struct sink_tokens *sink_tokens_new(struct control *control);
/* Takes over what is the same in `old` (NULL: nothing). */
void sink_tokens_adopt(struct sink_tokens *tokens, const struct sink_tokens *old);
void sink_tokens_start(struct sink_tokens *tokens);
/* Harmless on NULL, as the two before. */
void sink_tokens_free(struct sink_tokens *tokens);

#endif
