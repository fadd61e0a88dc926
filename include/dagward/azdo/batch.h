/*
 * batch: requests inside a request.
 *
 * `_apis/wit/$batch` takes a JSON list of requests and runs each with the rights of the one that
 * carries them. Here they are taken out one by one, to be judged like any other, and put together
 * again with the addresses that were judged. What an item says beyond method, address, media type
 * and body is refused: a field could change the method, or name somebody else.
 */
#ifndef DAGWARD_AZDO_BATCH_H
#define DAGWARD_AZDO_BATCH_H

#include "dagward/azdo/catalogue.h"
#include "dagward/base/arena.h"

enum { BATCH_MOST = 200 }; /* as upstream's own limit */

/* Whether `op` carries such a list in its body. */
bool operation_is_batch(const struct operation *op);

/* Defined in batch.c; holds the parsed list. */
struct batch;

struct batch_item {
        struct str method; /* in the batch */
        struct str uri;    /* begins with one slash; relative to the organization */
        struct str body;   /* JSON text in the arena; empty: none */
};

/* Reads the list; NULL with `*why` (static text): not a list of objects, duplicate or unknown
 * members, too many, none. Free with batch_free. */
struct batch *batch_open(struct str text, const char **why) __attribute__((warn_unused_result));
/* Harmless on NULL. */
void batch_free(struct batch *batch);
size_t batch_count(const struct batch *batch);
/* Item `i`. False with `*why`: it is malformed, or the arena is full. */
bool batch_item(const struct batch *batch, size_t i, struct arena *arena, struct batch_item *out,
        const char **why) __attribute__((warn_unused_result));
/* What the item's address is from now on. */
void batch_readdress(struct batch *batch, size_t i, struct str uri);
/* The list as it is now. */
void batch_write(const struct batch *batch, struct buf *out);

#endif
