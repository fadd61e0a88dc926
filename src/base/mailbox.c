#include "dagward/base/mailbox.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mailbox {
        pthread_mutex_t lock; /* guards the list, held for a few instructions */
        struct mail *first;
        struct mail **last;
        void *receiver;
        int fd;
};

struct mailbox *mailbox_new(void *receiver)
{
        struct mailbox *box = calloc(1, sizeof(*box));

        if (!box)
                abort();
        pthread_mutex_init(&box->lock, NULL);
        box->last = &box->first;
        box->receiver = receiver;
        box->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (box->fd < 0)
                abort();
        return box;
}

void mailbox_free(struct mailbox *box)
{
        if (!box)
                return;
        close(box->fd);
        pthread_mutex_destroy(&box->lock);
        free(box);
}

int mailbox_fd(const struct mailbox *box)
{
        return box->fd;
}

void mailbox_post(struct mailbox *box, struct mail *mail)
{
        mail->next = NULL;
        pthread_mutex_lock(&box->lock);
        bool was_empty = box->first == NULL;
        *box->last = mail;
        box->last = &mail->next;
        /* Woken under the lock, so that the receiver cannot free the box between the two. */
        if (was_empty) {
                uint64_t one = 1;
                ssize_t n = write(box->fd, &one, sizeof(one));
                (void)n; /* a full counter is a wake-up as well */
        }
        pthread_mutex_unlock(&box->lock);
}

bool mailbox_drain(struct mailbox *box)
{
        uint64_t count;
        ssize_t n = read(box->fd, &count, sizeof(count));

        (void)n; /* EAGAIN: nothing was announced, the list tells */
        pthread_mutex_lock(&box->lock);
        struct mail *mail = box->first;
        box->first = NULL;
        box->last = &box->first;
        pthread_mutex_unlock(&box->lock);
        if (!mail)
                return false;
        while (mail) {
                struct mail *next = mail->next;
                mail->deliver(mail, box->receiver);
                mail = next;
        }
        return true;
}
