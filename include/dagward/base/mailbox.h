/*
 * mailbox: how one thread hands another a piece of work.
 *
 * Many senders, one receiver. A mail is embedded in whatever is sent; posting moves ownership of
 * that to the receiver. Mails of one sender arrive in the order they were posted. The receiver
 * watches mailbox_fd (an eventfd) and calls mailbox_drain, which runs each mail's `deliver` on the
 * receiving thread. The only mutex of the program lives here.
 */
#ifndef DAGWARD_BASE_MAILBOX_H
#define DAGWARD_BASE_MAILBOX_H

#include <stdbool.h>

struct mail {
        struct mail *next;
        /* Runs on the receiving thread; `receiver` is what mailbox_new was given. Owns the mail. */
        void (*deliver)(struct mail *mail, void *receiver);
};

struct mailbox;

struct mailbox *mailbox_new(void *receiver);
/* Only when no sender is left. Mails still inside are dropped without being delivered. */
void mailbox_free(struct mailbox *box);
/* Readable when something has been posted. */
int mailbox_fd(const struct mailbox *box);
/* From any thread. */
void mailbox_post(struct mailbox *box, struct mail *mail);
/* Delivers what is there now; true if there was anything. Receiving thread only. */
bool mailbox_drain(struct mailbox *box);

#endif
