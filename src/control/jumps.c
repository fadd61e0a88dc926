/*
 * A wall clock that is set while the process runs, or has gone on while the machine slept.
 *
 * Lifetimes are counted by the monotonic clock, so that nothing depends on being noticed here but
 * this: after a sleep that clock is behind, and a token may have ended that counts as good. Which
 * of the two it was cannot be told; asking for new tokens is right after either.
 */
#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "inside.h"

enum { JUMP_LEAST_MS = 30 * 1000 };

void control_look_for_jumps(struct control *control)
{
        int64_t moved = clock_wall_ms() - clock_steady_ms() - control->clock_moved_ms;
        char by[24];

        if (moved > -JUMP_LEAST_MS && moved < JUMP_LEAST_MS)
                return;
        control->clock_moved_ms += moved;
        snprintf(by, sizeof(by), "%+lld", (long long)(moved / 1000));
        log_error("clock moved by_s=%s: tokens of callers and times of records follow it", by);
        struct pair detail[] = {{STR("by_s"), str_of(by)}};
        control_event(control, "clock.moved", detail, 1);
        for (size_t i = 0; moved > 0 && i < control->parts->config->n_credentials; i++)
                token_source_doubt(control->sources[i]);
}
