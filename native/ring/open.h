/* Formatting a channel's memory, opening it, and leaving it. No Python.h here. */
#ifndef IPCKIT_RING_OPEN_H
#define IPCKIT_RING_OPEN_H

#include "ring/descriptor.h"

/* The sizes of a channel. */
typedef struct {
    uint64_t units;     /* of the arena */
    uint64_t granules;  /* of the pool */
    uint64_t granule;   /* bytes */
    uint64_t capacity;  /* messages */
    uint64_t item_size; /* bytes of every message; 0: sizes differ */
    uint64_t longest;   /* maximum bytes of a message */
} ring_shape;

/* Tells whether a file of `size` bytes holds a channel of this shape. Every message must fit into the
   arena or the pool. */
static inline bool
ring_shape_is_valid(const ring_shape *shape, uint64_t size)
{
    uint64_t spare = spare_granules(shape->item_size, shape->granule);
    return shape->units >= 64 && shape->units < UNITS_MAX && shape->granules < GRANULES_MAX
        && shape->granule != 0 && shape->granule % 64 == 0 && shape->granule <= LENGTH_MAX
        && (shape->granules == 0 || shape->granule <= LENGTH_MAX / shape->granules)
        && channel_bytes(shape->units, shape->granules, shape->granule) <= size
        && shape->capacity >= 1 && shape->capacity <= CAPACITY_MAX
        && shape->item_size <= shape->longest
        && (shape->item_size == 0 || shape->item_size == shape->longest)
        && 2 * units_for(shape->longest < INLINE_MAX ? shape->longest : INLINE_MAX) <= shape->units
        && (shape->longest <= INLINE_MAX
            || (shape->granules > spare
                && shape->longest
                    <= shape->granule * (shape->item_size == 0 ? shape->granules - spare : 1)));
}

/* Writes the header into memory of zeros. Stores the magic last (release); it pairs with the acquire
   in ring_open. */
static inline void
ring_format(channel_header *header, uint64_t file_size, const ring_shape *shape,
            uint64_t fingerprint, uint32_t flags, uint64_t now, const uint8_t id[16],
            const char *type)
{
    header->version = CHANNEL_VERSION;
    header->flags = flags;
    header->file_size = file_size;
    header->fingerprint = fingerprint;
    header->arena_units = shape->units;
    header->granules = shape->granules;
    header->granule = shape->granule;
    header->capacity = shape->capacity;
    header->item_size = shape->item_size;
    header->longest = shape->longest;
    header->created = now;
    header->small_number = SMALL_NONE;
    memcpy(header->id, id, sizeof header->id);
    strncpy(header->type, type, sizeof header->type - 1);
    __atomic_store_n(&header->magic, CHANNEL_MAGIC, __ATOMIC_RELEASE);
}

/* Reads and checks what never changes. Returns false if the memory is not a channel of this
   version. */
static inline bool
ring_open(ring *r, void *memory, uint64_t size, int fd)
{
    channel_header *header = memory;
    if (size < CHANNEL_ARENA_START
        || __atomic_load_n(&header->magic, __ATOMIC_ACQUIRE) != CHANNEL_MAGIC
        || __atomic_load_n(&header->version, __ATOMIC_RELAXED) != CHANNEL_VERSION) {
        return false;
    }
    ring_shape shape = {
        .units = __atomic_load_n(&header->arena_units, __ATOMIC_RELAXED),
        .granules = __atomic_load_n(&header->granules, __ATOMIC_RELAXED),
        .granule = __atomic_load_n(&header->granule, __ATOMIC_RELAXED),
        .capacity = __atomic_load_n(&header->capacity, __ATOMIC_RELAXED),
        .item_size = __atomic_load_n(&header->item_size, __ATOMIC_RELAXED),
        .longest = __atomic_load_n(&header->longest, __ATOMIC_RELAXED),
    };
    if (!ring_shape_is_valid(&shape, size)) {
        return false;
    }
    char *bytes = memory;
    *r = (ring){
        .shared = header,
        .peers = (channel_peer *)(header + 1),
        .arena = bytes + CHANNEL_ARENA_START,
        .words = (uint64_t *)(void *)(bytes + words_start(shape.units)),
        .deliveries =
            (channel_delivery *)(void *)(bytes + deliveries_start(shape.units, shape.granules)),
        .pool = bytes + pool_start(shape.units, shape.granules),
        .units = shape.units,
        .granules = shape.granules,
        .granule = shape.granule,
        .capacity = shape.capacity,
        .item_size = shape.item_size,
        .longest = shape.longest,
        .overwrite = __atomic_load_n(&header->flags, __ATOMIC_RELAXED) & CHANNEL_OVERWRITE,
        .file_size = size,
        .fd = fd,
        .index = CHANNEL_PEERS, /* no place among the peers yet */
    };
    memcpy(r->id, header->id, sizeof r->id);
    return true;
}

/* Leaves the place among the peers and wakes all sleepers. The caller has joined. */
static inline void
ring_leave(ring *r)
{
    channel_peer *peer = &r->peers[r->index];
    __atomic_store_n(&peer->joined, 0, __ATOMIC_RELEASE);
    RING_POINT(leaving);
    peer_unlock(r->fd, r->index);
    ring_wake_everyone(r);
}

#endif
