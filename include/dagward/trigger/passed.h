/*
 * passed: what two processes say to each other of triggers while one of them ends.
 *
 * The one that ends has handed its journal over (ledger_hand_over) and sends what it has in hand,
 * its questions and what came of them; the other answers the questions. One message each, over a
 * SOCK_SEQPACKET socket. Both are on one machine and of one version of this (handover.h).
 */
#ifndef DAGWARD_TRIGGER_PASSED_H
#define DAGWARD_TRIGGER_PASSED_H

#include "dagward/trigger/ledger.h"

enum passed_kind {
        PASSED_HELD = 'H',     /* `request_id` has `key` in hand; `flag`: it is looked for */
        PASSED_RELEASED = 'R', /* all of those were said, and the journal is free */
        PASSED_ASK = 'A',
        PASSED_VERDICT = 'V', /* the answer to that */
        PASSED_TELL = 'T',
};

struct passed_trigger {
        uint8_t kind;
        uint8_t flag;  /* ASK: renew */
        int8_t result; /* VERDICT: enum trigger_verdict; TELL: enum trigger_end */
        uint8_t has_answer;
        uint64_t number; /* ASK, VERDICT: which question */
        struct trigger_key key;
        char request_id[TRIGGER_ID + 1], correlation_id[TRIGGER_ID + 1];
        char first_id[TRIGGER_ID + 1], first_correlation_id[TRIGGER_ID + 1];
        int64_t window_ms, begun_ms, lost_ms;
        int64_t lost_age_ms; /* VERDICT: how long that is ago; the two count steady time apart */
        uint64_t most;
};

/* Sends one; `answer` NULL: without. Waits when the other one is slow; false when it is gone. */
bool passed_send(int fd, struct passed_trigger *what, const struct trigger_answer *answer)
        __attribute__((warn_unused_result));
/* The same without waiting: false and `*full` when there is no room just now. */
bool passed_offer(int fd, struct passed_trigger *what, const struct trigger_answer *answer,
        bool *full) __attribute__((warn_unused_result));
/* For a process that keeps no triggers: tells the other one that it has none in hand, and closes
 * `fd`. */
bool passed_nothing(int fd) __attribute__((warn_unused_result));
/* Receives one; `*answer` is malloc'd, or NULL. Waits for it; false when there will be none any
 * more, or what came is none. */
bool passed_receive(int fd, struct passed_trigger *what, struct trigger_answer **answer)
        __attribute__((warn_unused_result));

#endif
