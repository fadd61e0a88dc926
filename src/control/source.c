#include "source.h"

#include "dagward/base/id.h"

struct file_stamp file_stamp_of(const char *path)
{
        struct stat st;

        if (stat(path, &st) != 0)
                return (struct file_stamp){.there = false};
        return (struct file_stamp){st.st_dev, st.st_ino, st.st_size, st.st_mtim, true};
}

bool file_stamp_same(const struct file_stamp *a, const struct file_stamp *b)
{
        return a->there == b->there &&
               (!a->there ||
                       (a->device == b->device && a->inode == b->inode && a->bytes == b->bytes &&
                               a->modified.tv_sec == b->modified.tv_sec &&
                               a->modified.tv_nsec == b->modified.tv_nsec));
}

/* 0 to `most`, both included. */
static int64_t chance(int64_t most)
{
        uint64_t random;

        id_random(&random, sizeof(random));
        return (int64_t)(random % ((uint64_t)most + 1));
}

int64_t backoff_ms(unsigned failures, int64_t most_ms)
{
        int64_t delay = failures < 20 ? INT64_C(1000) << failures : most_ms;

        if (delay > most_ms)
                delay = most_ms;
        return delay / 2 + chance(delay / 2);
}

int64_t jitter_ms(int64_t ms)
{
        return ms - ms / 10 + chance(ms / 5);
}

int64_t later_ms(int64_t ms)
{
        return ms + chance(ms / 4);
}
