/*
 * watch: has something changed of what was read? Known files are looked at by their stamps; the
 * patterns of the policy settings are expanded anew, so that a file that appears is one more.
 */
#include "watch.h"

#include <stdlib.h>

void watch_add(struct watch *watch, const char *path)
{
        if (!path)
                return;
        watch->paths = realloc(watch->paths, (watch->n + 1) * sizeof(char *));
        watch->stamps = realloc(watch->stamps, (watch->n + 1) * sizeof(struct file_stamp));
        if (!watch->paths || !watch->stamps)
                abort();
        watch->paths[watch->n] = str_dup(str_of(path));
        watch->stamps[watch->n++] = file_stamp_of(path);
}

void watch_add_policies(struct watch *watch, struct config *config)
{
        watch->config = config_ref(config);
        preflight_policy_files(config, &watch->policies);
        for (size_t i = 0; i < watch->policies.n; i++)
                watch_add(watch, watch->policies.names[i]);
}

const char *watch_moved(const struct watch *watch)
{
        struct file_list now;
        const char *moved = NULL;

        for (size_t i = 0; i < watch->n && !moved; i++) {
                struct file_stamp stamp = file_stamp_of(watch->paths[i]);
                if (!file_stamp_same(&stamp, &watch->stamps[i]))
                        moved = watch->paths[i];
        }
        if (moved || !watch->config)
                return moved;
        preflight_policy_files(watch->config, &now);
        if (!file_list_same(&now, &watch->policies))
                moved = watch->config->file.ptr;
        file_list_clear(&now);
        return moved;
}

bool watch_changed(struct watch *watch)
{
        bool changed = false;

        for (size_t i = 0; i < watch->n; i++) {
                struct file_stamp now = file_stamp_of(watch->paths[i]);
                changed = !file_stamp_same(&now, &watch->stamps[i]) || changed;
                watch->stamps[i] = now;
        }
        if (watch->config) {
                struct file_list now;
                preflight_policy_files(watch->config, &now);
                changed = !file_list_same(&now, &watch->policies) || changed;
                file_list_clear(&watch->policies);
                watch->policies = now;
        }
        return changed;
}

void watch_clear(struct watch *watch)
{
        for (size_t i = 0; i < watch->n; i++)
                free(watch->paths[i]);
        free(watch->paths);
        free(watch->stamps);
        file_list_clear(&watch->policies);
        config_unref(watch->config);
        *watch = (struct watch){0};
}
