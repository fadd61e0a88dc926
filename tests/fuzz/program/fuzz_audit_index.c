/* A file in the place of an index of a log: whoever can write there can make a search miss
 * something, and nothing else. The file's own identity of the log is put into its head, so that
 * what follows it is looked at. */
#include <assert.h>
#include <stdlib.h>

#define AUDIT_INDEX_SEGMENT_ENTRIES (4 << 10)
#include "../../../proxy/audit_index.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];
static char log_path[96];

static void clean_up(void)
{
        char command[160];

        snprintf(command, sizeof(command), "rm -rf '%s'", folder);
        if (system(command) != 0)
                abort();
}

static void set_up(void)
{
        static const char line[] =
                "{\"time\":\"2026-11-23T09:12:33.123Z\",\"seq\":1,\"kind\":\"outcome\",\"request_"
                "id\":"
                "\"019ab1c2-0000-7000-8000-000000000001\",\"correlation_id\":"
                "\"019ab1c2-0000-7000-8000-00000000000c\",\"prev\":\"\",\"hash\":\"\"}\n";

        snprintf(folder, sizeof(folder), "/dev/shm/dagward-fuzz-XXXXXX");
        if (!mkdtemp(folder)) {
                snprintf(folder, sizeof(folder), "/tmp/dagward-fuzz-XXXXXX");
                if (!mkdtemp(folder))
                        abort();
        }
        atexit(clean_up);
        snprintf(log_path, sizeof(log_path), "%s/log", folder);
        FILE *log = fopen(log_path, "w");
        if (!log)
                abort();
        for (int i = 0; i < 100; i++)
                fputs(line, log);
        fclose(log);
}

/* Segments of the sizes that are said, as far as there are entries: else nearly every input would
 * be thrown away and built anew. */
static void make_fit(struct head *head, size_t entries)
{
        head->n_segments %= SEGMENTS_MOST;
        for (uint64_t i = 0; i < head->n_segments; i++) {
                head->sizes[i] = head->sizes[i] < entries ? head->sizes[i] : entries;
                entries -= head->sizes[i];
        }
        head->sizes[head->n_segments++] = entries;
}

/* The name and the head under which audit_index_open would look for one. */
static void write_index(const struct audit_file *log, int fd, struct str bytes, char *path)
{
        struct head head = {0};

        memcpy(&head, bytes.ptr, bytes.len < sizeof(head) ? bytes.len : sizeof(head));
        memcpy(head.magic, magic, sizeof(magic));
        head.device = (uint64_t)log->info.st_dev;
        head.inode = (uint64_t)log->info.st_ino;
        head.size = (uint64_t)log->info.st_size;
        head.mtime_ns = mtime_of(&log->info);
        head.begin = hash_first(log, fd);
        sprintf(path, "%s/trace-%016llx-%llx.idx", folder, (unsigned long long)head.begin,
                (unsigned long long)head.inode);
        struct str rest = str_from(bytes, sizeof(head));
        if (bytes.len && bytes.ptr[0] != 'x') /* the magic's place: free to say so */
                make_fit(&head, rest.len / sizeof(uint64_t));
        FILE *out = fopen(path, "w");
        if (!out)
                abort();
        fwrite(&head, sizeof(head), 1, out);
        if (bytes.len && bytes.ptr[0] != 'x')
                rest = str_head(rest, rest.len / sizeof(uint64_t) * sizeof(uint64_t));
        fwrite(rest.ptr, 1, rest.len, out);
        fclose(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct audit_index index;
        struct audit_file log;
        uint32_t blocks[64], key = 0;
        char path[160];

        if (!folder[0])
                set_up();
        int fd = open(log_path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || !audit_file_open_fd(&log, log_path, dup(fd)))
                abort();
        write_index(&log, fd, str_view((const char *)data, size), path);
        if (audit_index_open(&index, folder, &log, fd)) {
                memcpy(&key, data, size < sizeof(key) ? size : sizeof(key));
                size_t n = audit_index_find(&index, key, blocks, 0, 64);
                assert(n <= 64);
                key = audit_key(AUDIT_KEY_ID, STR("019ab1c2-0000-7000-8000-000000000001"));
                n = audit_index_find(&index, key, blocks, 0, 64);
                assert(n <= 64 && (!index.built || n == 1));
                audit_index_close(&index);
        }
        unlink(path);
        audit_file_close(&log);
        close(fd);
        return 0;
}
