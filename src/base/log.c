#include "dagward/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dagward/base/clock.h"

/* A reload changes it while all threads write. */
static _Atomic int threshold = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
        atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

/* One line, one write(2); control characters become blanks so that nobody can forge a line. */
static void emit(enum log_level level, const char *format, va_list args, int errnum)
{
        static const char *const names[] = {"error", "info", "debug"};
        char line[2048];
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
        ssize_t written = write(STDERR_FILENO, line, used);
        (void)written; /* nobody is left to be told */
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

void fatal(const char *format, ...)
{
        EMIT(LOG_LEVEL_ERROR, 0);
        exit(2);
}
