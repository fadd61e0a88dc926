#include "dagward/trigger/passed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { HEAD = sizeof(TRIGGER_JOURNAL_HEAD) - 1 };

static bool send_one(
        int fd, struct passed_trigger *what, const struct trigger_answer *answer, int flags)
{
        struct buf record;
        ssize_t sent;

        buf_init(&record, TRIGGER_RECORD_MOST);
        what->has_answer = answer != NULL;
        if (answer) {
                struct trigger_record as = {
                        .kind = TRIGGER_RECORD_ANSWERED, .key = what->key, .answer = *answer};
                trigger_record_write(&record, &as);
        }
        struct iovec parts[] = {{what, sizeof(*what)}, {(void *)buf_str(&record).ptr, record.len}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = answer ? 2 : 1};
        do
                sent = sendmsg(fd, &message, MSG_NOSIGNAL | flags);
        while (sent < 0 && errno == EINTR);
        int why = errno;
        buf_clear(&record);
        errno = why;
        return sent >= 0;
}

bool passed_send(int fd, struct passed_trigger *what, const struct trigger_answer *answer)
{
        return send_one(fd, what, answer, 0);
}

bool passed_offer(
        int fd, struct passed_trigger *what, const struct trigger_answer *answer, bool *full)
{
        bool ok = send_one(fd, what, answer, MSG_DONTWAIT);

        *full = !ok && (errno == EAGAIN || errno == EWOULDBLOCK);
        return ok;
}

bool passed_nothing(int fd)
{
        struct passed_trigger released = {.kind = PASSED_RELEASED};
        bool ok = passed_send(fd, &released, NULL);

        close(fd);
        return ok;
}

/* A record is read as the journal's first. */
static struct trigger_answer *read_answer(char *bytes, size_t n)
{
        struct trigger_record record;
        size_t at = HEAD;

        memcpy(bytes, TRIGGER_JOURNAL_HEAD, HEAD);
        if (trigger_record_read(str_view(bytes, HEAD + n), &at, &record) != TRIGGER_READ_RECORD ||
                record.kind != TRIGGER_RECORD_ANSWERED)
                return NULL;
        return trigger_answer_keep(&record.answer);
}

static bool texts_end(const struct passed_trigger *what)
{
        return !what->request_id[TRIGGER_ID] && !what->correlation_id[TRIGGER_ID] &&
               !what->first_id[TRIGGER_ID] && !what->first_correlation_id[TRIGGER_ID];
}

bool passed_receive(int fd, struct passed_trigger *what, struct trigger_answer **answer)
{
        char *bytes = malloc(HEAD + TRIGGER_RECORD_MOST);
        ssize_t got;

        if (!bytes)
                abort();
        struct iovec parts[] = {{what, sizeof(*what)}, {bytes + HEAD, TRIGGER_RECORD_MOST}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        *answer = NULL;
        do
                got = recvmsg(fd, &message, 0);
        while (got < 0 && errno == EINTR);
        bool ok = got >= (ssize_t)sizeof(*what) && !(message.msg_flags & MSG_TRUNC) &&
                  texts_end(what);
        if (ok && what->has_answer)
                *answer = read_answer(bytes, (size_t)got - sizeof(*what));
        free(bytes);
        return ok && (!what->has_answer || *answer);
}
