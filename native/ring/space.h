/* Finding space for the next record. Each function requires send_lock. No Python.h here. */
#ifndef IPCKIT_RING_SPACE_H
#define IPCKIT_RING_SPACE_H

#include "ring/lock.h"

/* The space in the ring, as senders see it. */
typedef struct {
    uint64_t tail;   /* word */
    uint64_t head;   /* word */
    uint64_t room;   /* free units from tail on */
    uint64_t queued; /* messages */
} ring_space;

/* Measures the space. With `fresh` it reads how far the receivers have come (acquire; pairs with
   ring_advance_head), otherwise it uses the cached value. Returns RING_OK or RING_CORRUPT. */
static inline ring_result
ring_measure_space(ring *r, bool fresh, ring_space *space)
{
    channel_header *shared = r->shared;
    if (fresh) {
        space->head = load_acquire(&shared->head);
        RING_POINT(caching_head);
        store_relaxed(&shared->cached_head, space->head);
    } else {
        space->head = load_relaxed(&shared->cached_head);
    }
    space->tail = load_relaxed(&shared->senders_tail);
    uint64_t head = position_of(space->head), tail = position_of(space->tail);
    if (!ring_position_is_valid(r, tail) || !ring_position_is_valid(r, head)) {
        return RING_CORRUPT;
    }
    uint64_t used = ring_distance(r, head, tail);
    space->queued = (count_of(space->tail) - count_of(space->head)) & COUNT_MASK;
    if (used > r->units || space->queued > r->capacity) {
        return RING_CORRUPT;
    }
    space->room = r->units - used;
    return RING_OK;
}

/* Publishes everything up to a position to the receivers (release; pairs with ring_peek). A
   sender that dies between the two stores holds the lock, and ring_recover_lock repairs the
   second word. */
static inline void
ring_publish_tail(ring *r, uint64_t tail)
{
    RING_POINT(before_tail);
    store_release(&r->shared->tail, tail);
    RING_POINT(after_tail);
    store_relaxed(&r->shared->senders_tail, tail);
}

/* Advances tail past messages that are not stored beside it. */
static inline void
ring_advance_tail(ring *r, const ring_space *space, uint64_t end, uint64_t items)
{
    channel_header *shared = r->shared;
    if (load_relaxed(&shared->small_in_use)) {
        store_relaxed(&shared->small_number, SMALL_NONE);
        RING_POINT(repeating);
        store_relaxed(&shared->small_in_use, 0);
    }
    ring_publish_tail(r, word_of(end, count_of(space->tail) + items));
}

/* Returns the units of padding before a record of `units`, so that it lies in one piece. */
static inline uint64_t
ring_padding(const ring *r, uint64_t position, uint64_t units)
{
    uint64_t offset = ring_arena_index(r, position);
    return offset + units > r->units ? r->units - offset : 0;
}

/* Finds room for a record of `units`. Writes padding if needed. Returns RING_OK and the record's
   position and end, or RING_FULL or RING_CORRUPT. */
static inline ring_result
ring_find_room(ring *r, uint64_t units, ring_space *space, uint64_t *at, uint64_t *end)
{
    for (int fresh = 0;; fresh = 1) {
        ring_result result = ring_measure_space(r, fresh, space);
        if (result != RING_OK && fresh) {
            return result;
        }
        if (result == RING_OK && space->queued < r->capacity) {
            uint64_t tail = position_of(space->tail), padding = ring_padding(r, tail, units);
            if (padding + units <= space->room) {
                if (padding != 0) {
                    ring_write_record(r, tail, RECORD_PAD, 0, padding);
                }
                *at = ring_advance(r, tail, padding);
                *end = ring_advance(r, *at, units);
                return RING_OK;
            }
        }
        if (fresh) {
            return RING_FULL;
        }
    }
}

#endif
