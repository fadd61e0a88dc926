/* Any file read as a journal: what is accepted is within the file, and written again it says the
 * same; a table takes it. */
#include <assert.h>
#include <stdlib.h>

#include "dagward/trigger/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare(const struct trigger_record *record, struct str bytes)
{
        struct buf again;

        buf_init(&again, TRIGGER_RECORD_MOST);
        trigger_record_write(&again, record);
        assert(str_eq(buf_str(&again), bytes));
        buf_clear(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct trigger_table *table = trigger_table_new();
        struct str file = str_view((const char *)data, size);
        struct trigger_record record;
        size_t at = 0;

        for (;;) {
                size_t before = at;
                enum trigger_read read = trigger_record_read(file, &at, &record);
                assert(at <= size);
                if (read != TRIGGER_READ_RECORD)
                        break;
                if (before == 0)
                        before = sizeof(TRIGGER_JOURNAL_HEAD) - 1;
                compare(&record, str_view(file.ptr + before, at - before));
                (void)trigger_table_replay(table, &record, before, at - before);
        }
        trigger_table_recover(table, 1);
        for (struct trigger_entry *entry = trigger_table_oldest(table); entry; entry = entry->newer)
                assert(entry->state == TRIGGER_ANSWERED || entry->state == TRIGGER_LOST);
        trigger_table_free(table);
        return 0;
}
