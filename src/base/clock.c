#include "dagward/base/clock.h"

#include <stdio.h>
#include <time.h>

int64_t clock_wall_ms(void)
{
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_mono_ms(void)
{
        return clock_mono_us() / 1000;
}

int64_t clock_mono_us(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_thread_us(void)
{
        struct timespec now;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t steady_base_ms; /* wall minus monotonic time, when the program began */

__attribute__((constructor)) static void begin(void)
{
        steady_base_ms = clock_wall_ms() - clock_mono_ms();
}

int64_t clock_steady_ms(void)
{
        return steady_base_ms + clock_mono_ms();
}

static void two(char *at, int value)
{
        at[0] = (char)('0' + value / 10 % 10);
        at[1] = (char)('0' + value % 10);
}

void clock_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_LEN + 1])
{
        time_t seconds = (time_t)(wall_ms / 1000);
        int ms = (int)(wall_ms % 1000);
        struct tm tm;

        gmtime_r(&seconds, &tm);
        memcpy(out, "0000-00-00T00:00:00.000Z", CLOCK_RFC3339_LEN + 1);
        two(out, (tm.tm_year + 1900) / 100);
        two(out + 2, (tm.tm_year + 1900) % 100);
        two(out + 5, tm.tm_mon + 1);
        two(out + 8, tm.tm_mday);
        two(out + 11, tm.tm_hour);
        two(out + 14, tm.tm_min);
        two(out + 17, tm.tm_sec);
        out[20] = (char)('0' + ms / 100);
        two(out + 21, ms % 100);
}

/* Takes `width` digits at *at into *value. */
static bool digits(const char **at, const char *end, int width, int *value)
{
        *value = 0;
        for (int i = 0; i < width; i++, (*at)++) {
                if (*at >= end || **at < '0' || **at > '9')
                        return false;
                *value = *value * 10 + (**at - '0');
        }
        return true;
}

static bool expect(const char **at, const char *end, char c)
{
        return *at < end && *(*at)++ == c;
}

bool clock_parse(struct str text, int64_t *wall_ms)
{
        if (!text.len)
                return false; /* perhaps there is no text: nothing may be added to NULL */

        const char *at = text.ptr, *end = text.ptr + text.len;
        struct tm tm = {0};
        int ms = 0, offset = 0;

        if (!digits(&at, end, 4, &tm.tm_year) || !expect(&at, end, '-') ||
                !digits(&at, end, 2, &tm.tm_mon) || !expect(&at, end, '-') ||
                !digits(&at, end, 2, &tm.tm_mday))
                return false;
        if (at < end) {
                if (!expect(&at, end, 'T') || !digits(&at, end, 2, &tm.tm_hour) ||
                        !expect(&at, end, ':') || !digits(&at, end, 2, &tm.tm_min) ||
                        !expect(&at, end, ':') || !digits(&at, end, 2, &tm.tm_sec))
                        return false;
                if (at < end && *at == '.') {
                        int scale = 100;
                        for (at++; at < end && *at >= '0' && *at <= '9'; at++, scale /= 10)
                                ms += (*at - '0') * scale;
                }
                if (at < end && *at == 'Z') {
                        at++;
                } else {
                        int hours, minutes;
                        if (at >= end || (*at != '+' && *at != '-'))
                                return false;
                        int sign = *at++ == '-' ? -1 : 1;
                        if (!digits(&at, end, 2, &hours) || !expect(&at, end, ':') ||
                                !digits(&at, end, 2, &minutes))
                                return false;
                        offset = sign * (hours * 3600 + minutes * 60);
                }
        }
        if (at != end || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
                tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
                return false;
        tm.tm_year -= 1900;
        tm.tm_mon -= 1;
        int day = tm.tm_mday;
        time_t seconds = timegm(&tm);
        if (tm.tm_mday != day) /* 31 February */
                return false;
        *wall_ms = ((int64_t)seconds - offset) * 1000 + ms;
        return true;
}
