#include "dagward/base/snapshot.h"

#include <stddef.h>

void snapshot_unref(struct snapshot *self)
{
        /* Release what this thread did to it, acquire what others did before it is dropped. */
        if (self && atomic_fetch_sub_explicit(&self->references, 1, memory_order_acq_rel) == 1)
                self->drop(self);
}
