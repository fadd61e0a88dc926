#include "heir.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dagward/audit/passed.h"
#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "dagward/trigger/passed.h"

/* A key that a request of the other process has in hand. */
struct held {
        struct trigger_key key;
        char request_id[TRIGGER_ID + 1];
        bool looking;
        int64_t lost_ms;
};

struct heir {
        struct scribe *scribe;
        struct ledger *ledger; /* NULL: its journal is not kept by us */
        int audit_fd, triggers_fd;
        pthread_t audit_thread, triggers_thread;
        bool audit_runs, triggers_run;

        /* the audit thread's */
        struct mailbox *audit_box;
        struct mailbox *told_box; /* whose business it is that the other has gone */
        struct mail *told;
        struct audit_batch batch;
        bool batch_back;

        /* the triggers' thread's */
        struct mailbox *box;
        struct held *held;
        size_t n_held, room;
        size_t n_asked; /* questions that the ledger has not answered */
        bool gone;      /* the other process is */
        bool stop;
};

/* --- records --- */

static void batch_done(struct audit_batch *batch, void *receiver)
{
        (void)batch;
        ((struct heir *)receiver)->batch_back = true;
}

static bool write_batch(struct heir *heir)
{
        struct pollfd fd = {.fd = mailbox_fd(heir->audit_box), .events = POLLIN};

        heir->batch_back = false;
        scribe_post(heir->scribe, &heir->batch);
        while (!heir->batch_back) {
                poll(&fd, 1, -1);
                mailbox_drain(heir->audit_box);
        }
        return passed_answer(heir->audit_fd, heir->batch.ok);
}

static void *run_audit(void *argument)
{
        struct heir *heir = argument;

        /* One that ends sends its last records and waits for no answer. */
        while (passed_read(heir->audit_fd, &heir->batch)) {
                (void)write_batch(heir);
                audit_batch_reset(&heir->batch);
        }
        mailbox_post(heir->told_box, heir->told);
        return NULL;
}

/* --- triggers --- */

/* Embeds what the ledger is asked. */
struct asked {
        struct trigger_ask ask; /* first: it is freed as this */
        uint64_t number;
};

static void hold(struct heir *heir, const struct held *what)
{
        for (size_t i = 0; i < heir->n_held; i++)
                if (strcmp(heir->held[i].request_id, what->request_id) == 0)
                        return;
        if (heir->n_held == heir->room) {
                heir->room = heir->room ? 2 * heir->room : 16;
                heir->held = realloc(heir->held, heir->room * sizeof(*heir->held));
                if (!heir->held)
                        abort();
        }
        heir->held[heir->n_held++] = *what;
}

static void let_go(struct heir *heir, const char *request_id)
{
        for (size_t i = 0; i < heir->n_held; i++) {
                if (strcmp(heir->held[i].request_id, request_id) != 0)
                        continue;
                heir->held[i] = heir->held[--heir->n_held];
                return;
        }
}

/* The other process has heard of it, or never will. */
static void take_in_hand(struct heir *heir, const struct trigger_ask *ask)
{
        struct held what = {.key = ask->key};

        if (ask->verdict != TRIGGER_FIRST && ask->verdict != TRIGGER_LOOK)
                return;
        if (heir->gone) {
                /* Nobody has sent it: who was told first is not there. */
                ledger_tell(heir->ledger, &ask->key, ask->request_id,
                        ask->verdict == TRIGGER_FIRST && !ask->renew ? TRIGGER_NOT_STARTED
                                                                     : TRIGGER_ENDED_LOST,
                        NULL);
                return;
        }
        memcpy(what.request_id, ask->request_id, sizeof(what.request_id));
        hold(heir, &what);
}

static void on_answered(struct mail *mail, void *receiver)
{
        struct asked *asked = (struct asked *)mail;
        struct trigger_ask *ask = &asked->ask;
        struct heir *heir = receiver;
        struct passed_trigger what = {.kind = PASSED_VERDICT,
                .result = (int8_t)ask->verdict,
                .number = asked->number,
                .key = ask->key,
                .begun_ms = ask->begun_ms,
                .lost_ms = ask->lost_ms,
                .lost_age_ms = clock_steady_ms() - ask->lost_steady_ms};

        heir->n_asked--;
        memcpy(what.request_id, ask->request_id, sizeof(what.request_id));
        memcpy(what.first_id, ask->first_id, sizeof(what.first_id));
        memcpy(what.first_correlation_id, ask->first_correlation_id,
                sizeof(what.first_correlation_id));
        if (!heir->stop)
                take_in_hand(heir, ask);
        if (!heir->gone && !passed_send(heir->triggers_fd, &what, ask->answer))
                shutdown(heir->triggers_fd, SHUT_RDWR); /* its end is met below */
        free(ask->answer);
        free(asked);
}

static void ask(struct heir *heir, const struct passed_trigger *what)
{
        struct asked *asked = calloc(1, sizeof(*asked));

        if (!asked)
                abort();
        asked->number = what->number;
        asked->ask = (struct trigger_ask){.key = what->key,
                .renew = what->flag,
                .window_ms = what->window_ms,
                .most = (size_t)what->most,
                .reply_to = heir->box,
                .answered = on_answered};
        memcpy(asked->ask.request_id, what->request_id, sizeof(what->request_id));
        memcpy(asked->ask.correlation_id, what->correlation_id, sizeof(what->correlation_id));
        heir->n_asked++;
        ledger_ask(heir->ledger, &asked->ask);
}

static void lose_all(struct heir *heir)
{
        heir->gone = true;
        if (heir->n_held)
                log_error("triggers: %zu were under way in the process that ended; they are lost",
                        heir->n_held);
        for (size_t i = 0; i < heir->n_held; i++)
                ledger_tell(heir->ledger, &heir->held[i].key, heir->held[i].request_id,
                        TRIGGER_ENDED_LOST, NULL);
        heir->n_held = 0;
}

static void hear(struct heir *heir)
{
        struct passed_trigger what;
        struct trigger_answer *answer;

        if (!passed_receive(heir->triggers_fd, &what, &answer)) {
                lose_all(heir);
                return;
        }
        if (what.kind == PASSED_ASK) {
                ask(heir, &what);
        } else if (what.kind == PASSED_TELL) {
                let_go(heir, what.request_id);
                ledger_tell(heir->ledger, &what.key, what.request_id, (enum trigger_end)what.result,
                        answer);
        }
        free(answer);
}

static void stop_arrived(struct mail *mail, void *receiver)
{
        ((struct heir *)receiver)->stop = true;
        free(mail);
}

static void *run_triggers(void *argument)
{
        struct heir *heir = argument;

        while (!heir->stop && (!heir->gone || heir->n_asked)) {
                struct pollfd fds[] = {{.fd = mailbox_fd(heir->box), .events = POLLIN},
                        {.fd = heir->gone ? -1 : heir->triggers_fd, .events = POLLIN}};
                poll(fds, 2, -1);
                mailbox_drain(heir->box);
                if (fds[1].revents && !heir->gone)
                        hear(heir);
        }
        return NULL;
}

/* --- life --- */

/* What is in hand comes before the word that the journal is free. */
static bool read_held(struct heir *heir, int64_t until_ms)
{
        struct pollfd there = {.fd = heir->triggers_fd, .events = POLLIN};
        struct passed_trigger what;
        struct trigger_answer *answer;
        int64_t left;

        while ((left = until_ms - clock_mono_ms()) > 0 && poll(&there, 1, (int)left) > 0 &&
                passed_receive(heir->triggers_fd, &what, &answer)) {
                struct held held = {.key = what.key, .looking = what.flag, .lost_ms = what.lost_ms};
                free(answer);
                if (what.kind == PASSED_RELEASED)
                        return true;
                if (what.kind != PASSED_HELD)
                        return false;
                memcpy(held.request_id, what.request_id, sizeof(held.request_id));
                hold(heir, &held);
        }
        return false;
}

struct heir *heir_new(int audit_fd, int triggers_fd, int64_t limit_ms, struct error *err)
{
        struct heir *heir = calloc(1, sizeof(*heir));
        int64_t until_ms = clock_mono_ms() + limit_ms;

        if (!heir)
                abort();
        heir->audit_fd = audit_fd;
        heir->triggers_fd = triggers_fd;
        heir->audit_box = mailbox_new(heir);
        heir->box = mailbox_new(heir);
        audit_batch_init(&heir->batch, heir->audit_box, batch_done, heir);
        if (passed_wait_released(audit_fd, limit_ms) && read_held(heir, until_ms))
                return heir;
        error_set(err, "the process that runs did not let go of its files, or not in time");
        heir_free(heir);
        return NULL;
}

static bool start_thread(pthread_t *thread, void *(*run)(void *), struct heir *heir)
{
        sigset_t all, before;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        bool ok = pthread_create(thread, NULL, run, heir) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return ok;
}

bool heir_start(struct heir *heir, struct scribe *scribe, struct ledger *ledger,
        struct mailbox *box, struct mail *gone, struct error *err)
{
        heir->told_box = box;
        heir->told = gone;
        heir->scribe = scribe;
        heir->ledger = ledger;
        for (size_t i = 0; ledger && i < heir->n_held; i++)
                ledger_hold(ledger, &heir->held[i].key, heir->held[i].request_id,
                        heir->held[i].looking, heir->held[i].lost_ms);
        heir->audit_runs = start_thread(&heir->audit_thread, run_audit, heir);
        if (ledger)
                heir->triggers_run = start_thread(&heir->triggers_thread, run_triggers, heir);
        else
                shutdown(heir->triggers_fd, SHUT_RDWR);
        return (heir->audit_runs && (heir->triggers_run || !ledger)) ||
               error_set(err, "a thread cannot be started");
}

bool heir_is_needed(const struct heir *heir)
{
        char word;

        return recv(heir->audit_fd, &word, 1, MSG_PEEK | MSG_DONTWAIT) != 0;
}

void heir_stop(struct heir *heir)
{
        struct mail *mail = heir ? calloc(1, sizeof(*mail)) : NULL;

        if (!heir)
                return;
        if (!mail)
                abort();
        mail->deliver = stop_arrived;
        mailbox_post(heir->box, mail);
        shutdown(heir->audit_fd, SHUT_RDWR);
        /* A thread that waits for room there would not read its mail. */
        shutdown(heir->triggers_fd, SHUT_WR);
        if (heir->audit_runs)
                pthread_join(heir->audit_thread, NULL);
        if (heir->triggers_run)
                pthread_join(heir->triggers_thread, NULL);
        heir->audit_runs = heir->triggers_run = false;
        shutdown(heir->triggers_fd, SHUT_RDWR);
        heir->stop = true;
}

void heir_free(struct heir *heir)
{
        if (!heir)
                return;
        heir->gone = heir->stop = true;
        mailbox_drain(heir->box); /* questions that the ledger has answered at its end */
        mailbox_free(heir->box);
        mailbox_free(heir->audit_box);
        audit_batch_clear(&heir->batch);
        close(heir->audit_fd);
        close(heir->triggers_fd);
        free(heir->held);
        free(heir);
}
