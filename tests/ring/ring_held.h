/* The blocks that a peer of a test holds. */
#ifndef RING_HELD_H
#define RING_HELD_H

#include "ring_harness.h"

#define HELD 4

typedef struct {
    uint32_t block;
    uint64_t length, number;
} slot;

typedef struct {
    slot slots[HELD];
    int count;
} held;

/* Removes one of them, any, and returns it. */
static inline slot
pick(held *from)
{
    int which = (int)below((uint64_t)from->count--);
    slot picked = from->slots[which];
    from->slots[which] = from->slots[from->count];
    return picked;
}

#ifndef SOON_NS
#define SOON_NS NS_PER_MS
#endif

/* The deadline of a call that may find nothing to do. */
static inline int64_t
soon(void)
{
    return monotonic_ns() + SOON_NS;
}

#endif
