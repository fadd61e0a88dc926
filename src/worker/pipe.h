/*
 * pipe: moves one body from a stream to another, framing it anew, in constant memory.
 *
 *      from.in  [ payload_left | tail | ... ]  ->  to.out or straight to the descriptor
 *
 * Payload is sent from where it was received; it is copied only to stand behind a head or between
 * chunk marks. What the receiver cannot take stays in the sender's block, which fills up, which
 * stops the reading: that is all the backpressure there is.
 */
#ifndef DAGWARD_WORKER_PIPE_H
#define DAGWARD_WORKER_PIPE_H

#include "dagward/http/h1_body.h"
#include "dagward/net/stream.h"
#include "rewrite.h"

enum pipe_state {
        PIPE_HUNGRY,  /* everything received has been passed on; more is to come */
        PIPE_BLOCKED, /* the receiver has no room */
        PIPE_MORE,    /* stopped to let others have their turn: call again */
        PIPE_DONE,    /* the body has ended and all of it has been sent */
        PIPE_CUT,     /* the sender closed before the end */
        PIPE_BAD,     /* the sender's framing is broken; see fault */
        PIPE_FROM_BROKEN,
        PIPE_TO_BROKEN,
};

struct pipe {
        struct stream *from, *to; /* to NULL: the body is thrown away */
        struct h1_body body;      /* how it arrives */
        enum h1_framing framing;  /* how it leaves */
        struct rewrite *rewrite;  /* what it goes through; NULL: nothing. `framing` is no length */
        size_t payload_left;      /* at from's in_start, not passed on yet */
        size_t tail;              /* framing bytes behind that payload, already understood */
        bool ended;               /* the end has been queued */
        uint64_t moved;           /* payload bytes passed on, as they came */
        struct buf *copy; /* gets what is passed on, too, as far as there is room; or NULL */
        struct h1_fault fault;
};

void pipe_init(struct pipe *pipe, struct stream *from, struct stream *to, enum h1_framing arrives,
        uint64_t length, enum h1_framing leaves);
/* Moves what can be moved now. */
enum pipe_state pipe_pump(struct pipe *pipe);

#endif
