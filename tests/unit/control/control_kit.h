/* What the tests of control share: keys, an event loop with a deadline, what sources tell. */
#ifndef CONTROL_KIT_H
#define CONTROL_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <event2/event.h>

#include "../net/stub_server.h"
#include "dagward/base/clock.h"
#include "dagward/base/log.h"

#define KEY_1                                                                                      \
        "{\"kty\":\"EC\",\"crv\":\"P-256\",\"use\":\"sig\",\"kid\":\"k1\","                        \
        "\"x\":\"-2AWXqRg_KfbHWFq3vZRZpyiRtKRFui3a5ZJN1w3yP4\","                                   \
        "\"y\":\"qd7VU-td1Mk-oR13VNgbUfHBmCTbaiZmkSfhBMa8FBk\"}"
#define KEY_2                                                                                      \
        "{\"kty\":\"EC\",\"crv\":\"P-256\",\"use\":\"sig\",\"kid\":\"k2\","                        \
        "\"x\":\"LFd_uymtp0Rq1ZZgXO7FPHqtbQl4yYvdff-WQXXOSA8\","                                   \
        "\"y\":\"krSxLeUre8gDm80YK3z1tQVR-EepXrTiTQJDmL2eZC0\"}"
#define KEY_3                                                                                      \
        "{\"kty\":\"EC\",\"crv\":\"P-256\",\"use\":\"sig\",\"kid\":\"k3\","                        \
        "\"x\":\"ylMSjIbg6QDerpftEFghiTBZfbuTl9hDtnB0z6WJPoE\","                                   \
        "\"y\":\"pRRsWzBi4l-RHc4knRsGnSIEbqa1GCn76Gpy4V_9iaE\"}"
#define KEYS(list) "{\"keys\":[" list "]}"

/* What a source told its owner. */
struct told {
        unsigned changed, settled;
        bool ok; /* of the last settled */
        char why[512];
        char events[2048];  /* names, each with a blank behind it */
        char details[4096]; /* their values */
};

static inline void told_changed(void *owner)
{
        ((struct told *)owner)->changed++;
}

static inline void told_settled(void *owner, unsigned index, bool ok, const char *why)
{
        struct told *told = owner;

        (void)index;
        told->settled++;
        told->ok = ok;
        snprintf(told->why, sizeof(told->why), "%s", why);
}

static inline void told_event(void *owner, const char *name, const struct pair *detail, size_t n)
{
        struct told *told = owner;
        size_t at = strlen(told->events);

        snprintf(told->events + at, sizeof(told->events) - at, "%s ", name);
        for (size_t i = 0; i < n; i++) {
                at = strlen(told->details);
                snprintf(told->details + at, sizeof(told->details) - at, "%.*s=%.*s;",
                        STR_FMT(detail[i].name), STR_FMT(detail[i].value));
        }
}

/* Runs the loop until `*counter` has reached `least`, or for `most_ms`. */
static inline bool turn_until(
        struct event_base *base, const unsigned *counter, unsigned least, int64_t most_ms)
{
        int64_t end = clock_mono_ms() + most_ms;

        while (*counter < least && clock_mono_ms() < end) {
                struct timeval moment = {0, 10 * 1000};
                event_base_loopexit(base, &moment);
                event_base_dispatch(base);
        }
        return *counter >= least;
}

static inline void turn(struct event_base *base, int64_t ms)
{
        unsigned never = 0;

        turn_until(base, &never, 1, ms);
}

static inline void file_write(const char *path, const char *text)
{
        char next[400];
        snprintf(next, sizeof(next), "%s.new", path);
        FILE *file = fopen(next, "w");
        assert_non_null(file);
        fputs(text, file);
        fclose(file);
        assert_int_equal(rename(next, path), 0);
}

static inline bool holds(const char *text, const char *part)
{
        return strstr(text, part) != NULL;
}

#endif
