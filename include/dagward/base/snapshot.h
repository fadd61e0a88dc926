/*
 * snapshot: a counted, immutable thing that several threads read.
 *
 * Embed it first. Whoever builds it holds one reference; publishing means handing a reference to
 * each reader by mail. The last unref calls `drop`, on whichever thread that happens.
 */
#ifndef DAGWARD_BASE_SNAPSHOT_H
#define DAGWARD_BASE_SNAPSHOT_H

#include <stdatomic.h>

struct snapshot {
        atomic_int references;
        void (*drop)(struct snapshot *self);
};

/* One reference, the caller's. */
static inline void snapshot_init(struct snapshot *self, void (*drop)(struct snapshot *self))
{
        atomic_init(&self->references, 1);
        self->drop = drop;
}

static inline void snapshot_ref(struct snapshot *self)
{
        atomic_fetch_add_explicit(&self->references, 1, memory_order_relaxed);
}

/* Harmless on NULL. */
void snapshot_unref(struct snapshot *self);

#endif
