/* store: the journal's file. Private to trigger; one thread. */
#ifndef DAGWARD_TRIGGER_STORE_H
#define DAGWARD_TRIGGER_STORE_H

#include "dagward/base/error.h"
#include "dagward/trigger/table.h"

struct store {
        int fd;
        char *path; /* owned */
        uint64_t size;
        uint64_t tidied; /* its size when it was last written anew */
        bool failed;     /* what is in the file is not known to be on disk: write it anew */
};

struct store_place {
        uint64_t offset;
        size_t bytes;
};

/* Opens and locks the file and reads it into `table`. False: nothing is open. */
bool store_open(struct store *store, const char *path, struct trigger_table *table,
        struct error *err) __attribute__((warn_unused_result));
void store_close(struct store *store);
/* Appends, all or nothing; `at` (may be NULL) is where. */
bool store_append(struct store *store, const struct trigger_record *record, struct store_place *at,
        struct error *err) __attribute__((warn_unused_result));
/* Makes durable what was appended; false also when some of it could not be appended. */
bool store_sync(struct store *store, struct error *err) __attribute__((warn_unused_result));
/* The answer at that place, malloc'd; NULL with a reason. */
struct trigger_answer *store_answer(
        struct store *store, const struct store_place *at, struct error *err);
/* Whether most of the file says what nobody wants to know any more, or it has failed. */
bool store_wants_tidying(const struct store *store, const struct trigger_table *table);
/* Writes a new file of what `table` holds and puts it in the place of the old one. */
bool store_tidy(struct store *store, struct trigger_table *table, struct error *err)
        __attribute__((warn_unused_result));

#endif
