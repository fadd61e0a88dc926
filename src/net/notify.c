#include "dagward/net/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dagward/base/log.h"
#include "dagward/base/str.h"

static int connect_to(const char *name)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        const struct timeval wait = {.tv_sec = 1};
        size_t len = strlen(name);

        if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof(address.sun_path)) {
                log_error("NOTIFY_SOCKET is no path of a socket; nothing is told to it");
                return -1;
        }
        memcpy(address.sun_path, name, len);
        if (name[0] == '@')
                address.sun_path[0] = '\0'; /* a name that is no file's (unix(7)) */
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
        if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) == 0 &&
                connect(fd, (struct sockaddr *)&address, size) == 0)
                return fd;
        log_errno("NOTIFY_SOCKET");
        if (fd >= 0)
                close(fd);
        return -1;
}

static int64_t watchdog_ms(const char *usec, const char *pid)
{
        uint64_t number;

        if (!usec || !str_to_u64(str_of(usec), &number) || number == 0 || number / 1000 > INT32_MAX)
                return 0;
        int64_t ms = (int64_t)(number / 1000);
        if (pid && (!str_to_u64(str_of(pid), &number) || number != (uint64_t)getpid()))
                return 0;
        return ms;
}

void notifier_open(struct notifier *out)
{
        const char *name = getenv("NOTIFY_SOCKET");

        *out = (struct notifier){.fd = name ? connect_to(name) : -1};
        if (out->fd >= 0)
                out->watchdog_ms = watchdog_ms(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"));
        unsetenv("NOTIFY_SOCKET");
        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
}

void notifier_say(const struct notifier *notifier, const char *format, ...)
{
        char text[1024];
        va_list args;

        if (!notifier || notifier->fd < 0)
                return;
        va_start(args, format);
        int n = vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        if (n <= 0)
                return;
        if ((size_t)n >= sizeof(text))
                n = sizeof(text) - 1;
        if (send(notifier->fd, text, (size_t)n, MSG_NOSIGNAL) < 0)
                log_errno("cannot tell the service manager");
}

void notifier_close(struct notifier *notifier)
{
        if (notifier->fd >= 0)
                close(notifier->fd);
        notifier->fd = -1;
}
