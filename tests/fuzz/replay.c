/*
 * replay: runs a fuzz target over seed files, and over simple mutations of them, without libFuzzer.
 *
 * Usage: TARGET FOLDER-OR-FILE... Every seed runs as it is, cut short at every 1/16th, and with
 * 200 pseudo-random byte changes (same ones each time). Exits 2 if there is no seed: a replay that
 * runs nothing proves nothing.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long runs;

static void run(const uint8_t *data, size_t size)
{
        /* An exact-size heap copy, so that a sanitizer sees one byte too many. */
        uint8_t *copy = malloc(size ? size : 1);

        if (!copy)
                abort();
        memcpy(copy, data, size);
        LLVMFuzzerTestOneInput(copy, size);
        free(copy);
        runs++;
}

static void mutate(const uint8_t *data, size_t size)
{
        uint32_t state = 2463534242u;
        uint8_t *copy = malloc(size ? size : 1);

        if (!copy)
                abort();
        for (int round = 0; size && round < 200; round++) {
                memcpy(copy, data, size);
                for (int change = 0; change <= round % 4; change++) {
                        state ^= state << 13;
                        state ^= state >> 17;
                        state ^= state << 5;
                        copy[state % size] = (uint8_t)(state >> 16);
                }
                run(copy, size);
        }
        free(copy);
        for (size_t cut = 1; cut < 16; cut++)
                run(data, size * cut / 16);
}

static void replay_file(const char *path)
{
        FILE *file = fopen(path, "rb");
        static uint8_t data[1 << 20];

        if (!file) {
                perror(path);
                exit(2);
        }
        size_t size = fread(data, 1, sizeof(data), file);
        fclose(file);
        run(data, size);
        mutate(data, size);
}

static void replay(const char *path)
{
        struct stat info;

        if (stat(path, &info) != 0) {
                perror(path);
                exit(2);
        }
        if (!S_ISDIR(info.st_mode)) {
                replay_file(path);
                return;
        }
        DIR *folder = opendir(path);
        for (struct dirent *entry; folder && (entry = readdir(folder));) {
                char inner[4096];
                if (entry->d_name[0] == '.')
                        continue;
                snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
                replay_file(inner);
        }
        if (folder)
                closedir(folder);
}

int main(int argc, char **argv)
{
        for (int i = 1; i < argc; i++)
                replay(argv[i]);
        printf("%lu runs\n", runs);
        return runs ? 0 : 2;
}
