/* Formatting the memory of a channel or a topic, opening it, and leaving it. No Python.h here. */
#ifndef IPCKIT_RING_OPEN_H
#define IPCKIT_RING_OPEN_H

#include "ring/descriptor.h"

#include <sched.h>

/* The sizes of a channel or a topic. */
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

/* Tells whether a file of `size` bytes holds a topic of this shape. */
static inline bool
topic_shape_is_valid(const ring_shape *shape, uint64_t history, uint64_t size)
{
    uint64_t most = shape->longest < INLINE_MAX ? shape->longest : INLINE_MAX;
    return shape->units >= 64 && shape->units < UNITS_MAX && shape->granules < GRANULES_MAX
        && shape->granule != 0 && shape->granule % 64 == 0 && shape->granule <= LENGTH_MAX
        && (shape->granules == 0 || shape->granule <= LENGTH_MAX / shape->granules)
        && shape->capacity >= 1 && shape->capacity <= CAPACITY_MAX && history <= shape->capacity
        && topic_bytes(shape->capacity, shape->units, shape->granules, shape->granule) <= size
        && (shape->item_size == 0 || shape->item_size == shape->longest)
        && 2 * topic_units(most) <= shape->units
        && (shape->longest <= INLINE_MAX
            || (shape->granules > 0 && shape->longest <= LENGTH_MAX
                && shape->longest
                    <= shape->granule * (shape->item_size == 0 ? shape->granules : 1)));
}

/* What a new channel or topic is, besides its shape. */
typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t flags;   /* of a channel */
    uint64_t history; /* of a topic */
    uint64_t fingerprint;
    uint64_t created; /* seconds since the epoch */
    const uint8_t *id; /* 16 bytes */
    const char *type;
} ring_identity;

/* Writes the header into memory of zeros. Stores the magic last (release); it pairs with the acquire
   in ring_open. */
static inline void
ring_format(channel_header *header, uint64_t file_size, const ring_shape *shape,
            const ring_identity *identity)
{
    header->version = identity->version;
    header->flags = identity->flags;
    header->history = identity->history;
    header->file_size = file_size;
    header->fingerprint = identity->fingerprint;
    header->arena_units = shape->units;
    header->granules = shape->granules;
    header->granule = shape->granule;
    header->capacity = shape->capacity;
    header->item_size = shape->item_size;
    header->longest = shape->longest;
    header->created = identity->created;
    header->small_number = SMALL_NONE;
    memcpy(header->id, identity->id, sizeof header->id);
    strncpy(header->type, identity->type, sizeof header->type - 1);
    store_release(&header->magic, identity->magic);
}

/* Sets the addresses of the parts of a channel. */
static inline void
ring_locate_channel(ring *r, char *bytes)
{
    r->arena = bytes + CHANNEL_ARENA_START;
    r->words = (uint64_t *)(void *)(bytes + words_start(r->units));
    r->deliveries =
        (channel_delivery *)(void *)(bytes + deliveries_start(r->units, r->granules));
    r->pool = bytes + pool_start(r->units, r->granules);
}

/* Sets the addresses of the parts of a topic. */
static inline void
ring_locate_topic(ring *r, char *bytes, uint64_t history)
{
    cpu_set_t processors;
    bool known = sched_getaffinity(0, sizeof processors, &processors) == 0;
    r->processors = known ? CPU_COUNT(&processors) : 1;
    r->slots = topic_slots(r->capacity);
    r->history = history;
    r->subscribers = (topic_subscriber *)(void *)(bytes + CHANNEL_ARENA_START);
    r->entries = (topic_entry *)(void *)(bytes + TOPIC_START);
    r->words = (uint64_t *)(void *)(bytes + topic_words_start(r->capacity));
    r->readers = (uint64_t *)(void *)(bytes + topic_readers_start(r->capacity, r->granules));
    r->arena = bytes + topic_arena_start(r->capacity, r->granules);
    r->pool = bytes + topic_pool_start(r->capacity, r->units, r->granules);
}

/* Reads and checks what never changes. Returns false if the memory is not a channel, or a topic if
   `topic` is set, of this version. */
static inline bool
ring_open(ring *r, void *memory, uint64_t size, int fd, bool topic)
{
    channel_header *header = memory;
    if (size < (topic ? TOPIC_START : CHANNEL_ARENA_START)
        || load_acquire(&header->magic) != (topic ? TOPIC_MAGIC : CHANNEL_MAGIC)
        || load_relaxed(&header->version)
            != (topic ? TOPIC_VERSION : CHANNEL_VERSION)) {
        return false;
    }
    ring_shape shape = {
        .units = load_relaxed(&header->arena_units),
        .granules = load_relaxed(&header->granules),
        .granule = load_relaxed(&header->granule),
        .capacity = load_relaxed(&header->capacity),
        .item_size = load_relaxed(&header->item_size),
        .longest = load_relaxed(&header->longest),
    };
    uint64_t history = load_relaxed(&header->history);
    if (topic ? !topic_shape_is_valid(&shape, history, size) : !ring_shape_is_valid(&shape, size)) {
        return false;
    }
    *r = (ring){
        .shared = header,
        .peers = (channel_peer *)(header + 1),
        .units = shape.units,
        .granules = shape.granules,
        .granule = shape.granule,
        .capacity = shape.capacity,
        .item_size = shape.item_size,
        .longest = shape.longest,
        .overwrite =
            !topic && (load_relaxed(&header->flags) & CHANNEL_OVERWRITE),
        .file_size = size,
        .fd = fd,
        .index = CHANNEL_PEERS, /* no place among the peers yet */
    };
    if (topic) {
        ring_locate_topic(r, memory, history);
    } else {
        ring_locate_channel(r, memory);
    }
    memcpy(r->id, header->id, sizeof r->id);
    return true;
}

/* Leaves the place among the peers and wakes all sleepers. The caller has joined. */
static inline void
ring_leave(ring *r)
{
    if (r->subscriber != NULL) {
        topic_leave(r);
    }
    channel_peer *peer = &r->peers[r->index];
    store_release(&peer->joined, 0);
    RING_POINT(leaving);
    peer_unlock(r->fd, r->index);
    ring_wake_everyone(r);
}

#endif
