#include "heart.h"

#include <event2/event.h>
#include <stdlib.h>

#include "dagward/base/log.h"
#include "inside.h"

struct beat {
        struct count_mail mail;
        struct heart *heart;
};

struct heart {
        struct control *control;
        struct event timer;
        struct beat *beats; /* one per worker */
        struct scribe_ask scribe;
        size_t n_out; /* mails of this round that have not come back */
        bool told;    /* that some have not come back in time */
};

static void back(struct heart *heart)
{
        if (--heart->n_out)
                return;
        notifier_say(heart->control->notifier, "WATCHDOG=1");
        if (heart->told)
                log_info("all threads answer again");
        heart->told = false;
}

static void on_worker(struct mail *mail, void *receiver)
{
        (void)receiver;
        back(((struct beat *)mail)->heart);
}

static void on_scribe(struct scribe_ask *ask, void *receiver)
{
        (void)receiver;
        back(ask->owner);
}

static void ask_all(struct heart *heart)
{
        struct control *control = heart->control;

        heart->n_out = control->n_ports + (control->scribe ? 1 : 0) + 1;
        for (size_t i = 0; i < control->n_ports; i++) {
                heart->beats[i] = (struct beat){
                        .mail = {.mail = {.deliver = control->ports[i].count},
                                .reply_to = control->box,
                                .answered = on_worker},
                        .heart = heart,
                };
                mailbox_post(control->ports[i].box, &heart->beats[i].mail.mail);
        }
        if (control->scribe) {
                heart->scribe = (struct scribe_ask){
                        .reply_to = control->box, .done = on_scribe, .owner = heart};
                scribe_ask(control->scribe, &heart->scribe);
        }
        back(heart); /* control itself */
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
        struct heart *heart = arg;

        (void)fd;
        (void)what;
        if (heart->n_out == 0) {
                ask_all(heart);
        } else if (!heart->told) {
                log_error("watchdog: %zu threads do not answer", heart->n_out);
                heart->told = true;
        }
}

struct heart *heart_new(struct control *control)
{
        int64_t ms = control->notifier ? control->notifier->watchdog_ms / 2 : 0;

        if (ms == 0)
                return NULL;
        struct timeval wait = {ms / 1000, ms % 1000 * 1000};
        struct heart *heart = calloc(1, sizeof(*heart));
        if (!heart)
                abort();
        heart->control = control;
        heart->beats = calloc(control->n_ports + 1, sizeof(*heart->beats));
        if (!heart->beats)
                abort();
        event_assign(&heart->timer, control->base, -1, EV_PERSIST, on_timer, heart);
        event_add(&heart->timer, &wait);
        return heart;
}

void heart_free(struct heart *heart)
{
        if (!heart)
                return;
        event_del(&heart->timer);
        free(heart->beats);
        free(heart);
}
