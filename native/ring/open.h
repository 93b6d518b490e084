/* Formatting a channel's memory, opening it, and leaving it. No Python.h here. */
#ifndef IPCKIT_RING_OPEN_H
#define IPCKIT_RING_OPEN_H

#include "ring/descriptor.h"

/* Writes the header into memory of zeros. The arena takes the rest of the size. Stores the magic
   last (release); it pairs with the acquire in ring_open. */
static inline void
ring_format(channel_header *header, uint64_t file_size, uint64_t capacity, uint64_t item_size,
            uint64_t longest, uint64_t fingerprint, uint32_t flags, uint64_t now, const uint8_t id[16],
            const char *type)
{
    header->version = CHANNEL_VERSION;
    header->flags = flags;
    header->file_size = file_size;
    header->fingerprint = fingerprint;
    header->arena_units = (file_size - CHANNEL_ARENA_START) / UNIT;
    header->capacity = capacity;
    header->item_size = item_size;
    header->longest = longest;
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
    if (size < CHANNEL_ARENA_START + 64 * UNIT) {
        return false;
    }
    channel_header *header = memory;
    *r = (ring){
        .shared = header,
        .peers = (channel_peer *)(header + 1),
        .arena = (char *)memory + CHANNEL_ARENA_START,
        .units = __atomic_load_n(&header->arena_units, __ATOMIC_RELAXED),
        .capacity = __atomic_load_n(&header->capacity, __ATOMIC_RELAXED),
        .item_size = __atomic_load_n(&header->item_size, __ATOMIC_RELAXED),
        .overwrite = __atomic_load_n(&header->flags, __ATOMIC_RELAXED) & CHANNEL_OVERWRITE,
        .file_size = size,
        .fd = fd,
        .index = CHANNEL_PEERS, /* no place among the peers yet */
    };
    if (r->units < 64) {
        return false;
    }
    uint64_t longest = __atomic_load_n(&header->longest, __ATOMIC_RELAXED);
    r->longest = longest < ring_longest(r) ? longest : ring_longest(r);
    memcpy(r->id, header->id, sizeof r->id);
    return __atomic_load_n(&header->magic, __ATOMIC_ACQUIRE) == CHANNEL_MAGIC
        && __atomic_load_n(&header->version, __ATOMIC_RELAXED) == CHANNEL_VERSION
        && r->units <= (size - CHANNEL_ARENA_START) / UNIT
        && r->units < UNITS_MAX && r->capacity >= 1 && r->capacity <= CAPACITY_MAX
        && r->item_size <= ring_longest(r);
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
