#include "dagward/net/descriptors.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dagward/net/listener.h"

union control_space {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(DESCRIPTORS_MOST * sizeof(int))];
};

bool descriptors_send(int fd, const char *text, const int *fds, size_t n)
{
        struct iovec part = {(void *)text, strlen(text)};
        union control_space space;
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        ssize_t sent;

        if (n) {
                memset(&space, 0, sizeof(space));
                message.msg_control = space.bytes;
                message.msg_controllen = CMSG_SPACE(n * sizeof(int));
                struct cmsghdr *head = CMSG_FIRSTHDR(&message);
                head->cmsg_level = SOL_SOCKET;
                head->cmsg_type = SCM_RIGHTS;
                head->cmsg_len = CMSG_LEN(n * sizeof(int));
                memcpy(CMSG_DATA(head), fds, n * sizeof(int));
        }
        do
                sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        return sent >= 0;
}

/* Takes the descriptors out of the message, or closes them. */
static void take(struct msghdr *message, int *fds, size_t *n)
{
        for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head;
                head = CMSG_NXTHDR(message, head)) {
                if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
                        continue;
                size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < count; i++) {
                        int one;
                        memcpy(&one, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
                        if (fds && *n < DESCRIPTORS_MOST)
                                fds[(*n)++] = one;
                        else
                                close(one);
                }
        }
}

bool descriptors_receive(int fd, char *text, int *fds, size_t *n)
{
        struct iovec part = {text, DESCRIPTORS_TEXT - 1};
        union control_space space;
        struct msghdr message = {.msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = space.bytes,
                .msg_controllen = sizeof(space.bytes)};
        ssize_t got;
        size_t none = 0;

        text[0] = '\0';
        if (n)
                *n = 0;
        do
                got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
        while (got < 0 && errno == EINTR);
        if (got < 0)
                return false;
        text[got] = '\0';
        take(&message, fds, n ? n : &none);
        return got > 0;
}

static bool address_of(const char *path, struct sockaddr_un *out)
{
        size_t len = strlen(path);

        *out = (struct sockaddr_un){.sun_family = AF_UNIX};
        if (len == 0 || len >= sizeof(out->sun_path)) {
                errno = ENAMETOOLONG;
                return false;
        }
        memcpy(out->sun_path, path, len);
        return true;
}

int descriptors_connect(const char *path, int64_t limit_ms)
{
        const struct timeval limit = {limit_ms / 1000, limit_ms % 1000 * 1000};
        struct sockaddr_un address;
        int fd;

        if (!address_of(path, &address) ||
                (fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) < 0)
                return -1;
        /* Behind a full queue connect() waits as long as sending may. */
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
                return fd;
        int why = errno;
        close(fd);
        errno = why;
        return -1;
}

int descriptors_listen(const char *path, struct error *err)
{
        return listener_open_local(path, SOCK_SEQPACKET, 4, err);
}
