#include "token_file.h"

#include <errno.h>
#include <unistd.h>

#include "dagward/base/clock.h"

struct credential *token_file_not_longer(struct token_source *source, struct credential *fresh)
{
        struct credential *first = source->first_seen;

        if (!first || !credential_same(first, fresh)) {
                credential_unref(first);
                source->first_seen = credential_ref(fresh);
                return fresh;
        }
        if (fresh->until_mono_ms > first->until_mono_ms) {
                credential_unref(fresh);
                fresh = credential_ref(first);
        }
        return fresh;
}

bool token_file_is_gone(struct token_source *source)
{
        bool gone = access(source->config->file.ptr, F_OK) != 0 &&
                    (errno == ENOENT || errno == ENOTDIR);
        int64_t now = clock_mono_ms();

        if (!gone)
                source->gone_mono_ms = INT64_MAX;
        else if (source->gone_mono_ms > now)
                source->gone_mono_ms = now;
        return gone && now - source->gone_mono_ms >= SOURCE_FILE_POLL_MS;
}
