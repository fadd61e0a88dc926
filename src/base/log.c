#include "dagward/base/log.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dagward/base/clock.h"

/* A reload changes it while all threads write. */
static _Atomic int threshold = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
        atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

enum {
        LINE_MOST = 2048,
        NOTE_MOST = 160, /* together below what a pipe takes whole or not (POSIX, PIPE_BUF) */
        TURNS_MOST = 1000,
};

static _Atomic bool waits = true;
static _Atomic unsigned long left_out;
/* Who looks for room writes before others look. None of it waits, so that a turn soon comes. */
static atomic_flag writing = ATOMIC_FLAG_INIT;

void log_wait_for_nobody(void)
{
        atomic_store_explicit(&waits, false, memory_order_relaxed);
}

static bool my_turn(void)
{
        for (int i = 0; i < TURNS_MOST; i++) {
                if (!atomic_flag_test_and_set(&writing))
                        return true;
                sched_yield();
        }
        return false;
}

static bool put_if_there_is_room(const char *text, size_t len)
{
        struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};

        return poll(&fd, 1, 0) != 0 && write(STDERR_FILENO, text, len) >= 0;
}

/* The line, behind a word on those that were left out before it, if there is room for both. */
static void put_without_waiting(const char *when, const char *line, size_t len)
{
        char both[NOTE_MOST + LINE_MOST];
        unsigned long lost = 1;
        int note = 0;

        if (my_turn()) {
                lost = atomic_exchange(&left_out, 0);
                if (lost)
                        note = snprintf(both, NOTE_MOST,
                                "%s error log lines left out: %lu, as there was no room on "
                                "stderr\n",
                                when, lost);
                memcpy(both + note, line, len);
                lost = put_if_there_is_room(both, (size_t)note + len) ? 0 : lost + 1;
                atomic_flag_clear(&writing);
        }
        if (lost)
                atomic_fetch_add(&left_out, lost);
}

/* One line, one write(2); control characters become blanks so that nobody can forge a line. */
static void emit(enum log_level level, const char *format, va_list args, int errnum)
{
        static const char *const names[] = {"error", "info", "debug"};
        char line[LINE_MOST];
        char when[CLOCK_RFC3339_LEN + 1];
        int saved = errno;

        if ((int)level > atomic_load_explicit(&threshold, memory_order_relaxed))
                return;
        clock_rfc3339(clock_wall_ms(), when);
        int len = snprintf(line, sizeof(line), "%s %s ", when, names[level]);
        size_t used = (size_t)len;
        len = vsnprintf(line + used, sizeof(line) - used, format, args);
        used += len < 0 ? 0 : (size_t)len;
        if (used > sizeof(line) - 2)
                used = sizeof(line) - 2;
        if (errnum) {
                len = snprintf(line + used, sizeof(line) - 1 - used, ": %s", strerror(errnum));
                used += (size_t)len;
                if (used > sizeof(line) - 2)
                        used = sizeof(line) - 2;
        }
        for (size_t i = 0; i < used; i++)
                if ((unsigned char)line[i] < 0x20 || line[i] == 0x7F)
                        line[i] = ' ';
        line[used++] = '\n';
        if (!atomic_load_explicit(&waits, memory_order_relaxed))
                put_without_waiting(when, line, used);
        else
                (void)!write(STDERR_FILENO, line, used); /* nobody is left to be told */
        errno = saved;
}

#define EMIT(level, errnum)                                                                        \
        do {                                                                                       \
                va_list args;                                                                      \
                va_start(args, format);                                                            \
                emit((level), format, args, (errnum));                                             \
                va_end(args);                                                                      \
        } while (0)

void log_error(const char *format, ...)
{
        EMIT(LOG_LEVEL_ERROR, 0);
}

void log_errno(const char *format, ...)
{
        EMIT(LOG_LEVEL_ERROR, errno);
}

void log_info(const char *format, ...)
{
        EMIT(LOG_LEVEL_INFO, 0);
}

void log_debug(const char *format, ...)
{
        EMIT(LOG_LEVEL_DEBUG, 0);
}
