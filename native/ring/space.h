/* Finding space for the next record. Each function requires send_lock. No Python.h here. */
#ifndef IPCKIT_RING_SPACE_H
#define IPCKIT_RING_SPACE_H

#include "ring/lock.h"

/* The space in the ring, as senders see it. */
typedef struct {
    uint64_t tail;    /* word */
    uint64_t free;    /* position of the first record in use */
    uint64_t alloc;   /* position after the last record, sent or lent */
    uint64_t loans;   /* not sent yet; each may need a unit more when it is sent */
    uint64_t room;    /* free units from alloc on */
    uint64_t queued;  /* messages */
} ring_space;

/* Measures the space. With `fresh` it reads how far the receivers have come (acquire; pairs with
   ring_advance_head and ring_advance_low_water), otherwise it uses the cached values. Returns
   RING_OK or RING_CORRUPT. */
static inline ring_result
ring_measure_space(ring *r, bool fresh, ring_space *space)
{
    channel_header *shared = r->shared;
    uint64_t head, low_water;
    if (fresh) {
        /* Read head first: once head has passed a record that stays in use, the low water mark
           covers it. Store the cached values the other way round: with an older head any low
           water mark is right. */
        head = load_word(&shared->head);
        low_water = load_word(&shared->low_water);
        __atomic_store_n(&shared->cached_low_water, low_water, __ATOMIC_RELAXED);
        RING_POINT(caching_head);
        store_word(&shared->cached_head, head);
    } else {
        head = load_word(&shared->cached_head);
        low_water = __atomic_load_n(&shared->cached_low_water, __ATOMIC_RELAXED);
    }
    space->tail = load_word(&shared->senders_tail);
    uint64_t reserve = load_word(&shared->reserve);
    uint64_t tail = position_of(space->tail), lent = position_of(reserve);
    space->free = low_water & 1 ? low_water >> 1 : position_of(head);
    if (!ring_position_is_valid(r, tail) || !ring_position_is_valid(r, space->free)
        || !ring_position_is_valid(r, lent)) {
        return RING_CORRUPT;
    }
    space->loans = count_of(reserve);
    space->alloc = tail;
    /* A sender that was killed after it advanced tail had no time to update reserve, which may
       be anywhere before tail. */
    uint64_t beyond = ring_distance(r, space->free, lent);
    if (space->loans != 0 && beyond <= r->units && beyond > ring_distance(r, space->free, tail)) {
        space->alloc = lent;
    } else if (space->loans != 0 && lent != tail) {
        store_word(&shared->reserve, word_of(tail, space->loans)); /* before it falls too far behind */
    }
    uint64_t used = ring_distance(r, space->free, space->alloc);
    space->queued = (count_of(space->tail) - count_of(head)) & COUNT_MASK;
    if (used > r->units || space->queued > r->capacity) {
        return RING_CORRUPT;
    }
    space->room = used + space->loans > r->units ? 0 : r->units - used - space->loans;
    return RING_OK;
}

/* Publishes everything up to a position to the receivers (release; pairs with ring_peek). A
   sender that dies between the two stores holds the lock, and ring_recover_lock repairs the
   second word. */
static inline void
ring_publish_tail(ring *r, uint64_t tail)
{
    RING_POINT(before_tail);
    store_word(&r->shared->tail, tail);
    RING_POINT(after_tail);
    store_word(&r->shared->senders_tail, tail);
}

/* Advances tail past messages that are not stored beside it. */
static inline void
ring_advance_tail(ring *r, const ring_space *space, uint64_t end, uint64_t items)
{
    channel_header *shared = r->shared;
    if (__atomic_load_n(&shared->small_in_use, __ATOMIC_RELAXED)) {
        __atomic_store_n(&shared->small_number, SMALL_NONE, __ATOMIC_RELAXED);
        RING_POINT(repeating);
        __atomic_store_n(&shared->small_in_use, 0, __ATOMIC_RELEASE);
    }
    ring_publish_tail(r, word_of(end, count_of(space->tail) + items));
}

/* Returns the units of padding before a record of `units`, so that it lies in one piece. */
static inline uint64_t
ring_padding(const ring *r, uint64_t alloc, uint64_t units, bool large)
{
    uint64_t offset = ring_arena_index(r, alloc);
    uint64_t padding = large ? offset & 1 : 0;
    return offset + padding + units > r->units ? r->units - offset : padding;
}

/* The part of a ring in constant use that the processors' caches hold. */
#ifndef CACHE_WINDOW_BYTES
#define CACHE_WINDOW_BYTES ((uint64_t)512 << 10)
#endif

/* Tells whether a record reaches memory that was not used recently. */
static inline bool
ring_leaves_cache_window(const ring *r, uint64_t alloc, uint64_t units)
{
    uint64_t warm = CACHE_WINDOW_BYTES / UNIT, offset = ring_arena_index(r, alloc);
    return offset / warm != (offset + units) / warm;
}

/* Rewinds an empty ring to the start of its arena, which was used recently. Moves both sides, so
   that no padding remains in a ring that fills up before a receiver runs. Also takes
   receive_lock, if it is free. */
static inline void
ring_rewind(ring *r, ring_space *space)
{
    channel_header *shared = r->shared;
    uint64_t position = position_of(space->tail), offset = ring_arena_index(r, position);
    bool taken = __atomic_load_n(&shared->receive_lock.owner, __ATOMIC_RELAXED) != 0;
    if (offset == 0 || space->free != position || space->alloc != position || space->loans != 0
        || taken || !ring_try_lock(r, &shared->receive_lock)) {
        return;
    }
    if (load_word(&shared->head) == space->tail) {
        uint64_t units = r->units - offset, end = ring_advance(r, position, units);
        uint64_t word = word_of(end, count_of(space->tail));
        ring_write_record(r, position, state_of(RECORD_PAD, r->owner), 0, units);
        ring_advance_tail(r, space, end, 0);
        /* Receivers must not find head after the tail that they cached. */
        store_word(&shared->cached_tail, word);
        RING_POINT(rewinding);
        store_word(&shared->head, word);
        RING_POINT(rewound);
        store_word(&shared->cached_head, word);
        space->tail = word;
        space->free = space->alloc = end;
        space->room = r->units;
    }
    ring_unlock(r, &shared->receive_lock);
}

/* Finds room for a payload and `spare` more units. Writes padding if needed. Returns RING_OK and
   the record's position and end, or RING_FULL, RING_TOO_LONG, RING_CORRUPT. */
static inline ring_result
ring_find_room(ring *r, uint64_t length, uint64_t spare, ring_space *space, uint64_t *at,
               uint64_t *end)
{
    uint64_t units = units_for(length);
    if (length > ring_longest(r) || (r->item_size != 0 && length % r->item_size != 0)) {
        return RING_TOO_LONG;
    }
    for (int fresh = 0;; fresh = 1) {
        ring_result result = ring_measure_space(r, fresh, space);
        if (result != RING_OK && fresh) {
            return result;
        }
        if (result == RING_OK && ring_leaves_cache_window(r, space->alloc, units)) {
            if (!fresh) {
                continue;
            }
            ring_rewind(r, space);
        }
        if (result == RING_OK && space->queued + space->loans < r->capacity) {
            uint64_t padding =
                ring_padding(r, space->alloc, units, length >= LARGE_PAYLOAD);
            if (padding + units + spare <= space->room) {
                if (padding != 0) {
                    ring_write_record(r, space->alloc, state_of(RECORD_PAD, r->owner), 0, padding);
                }
                *at = ring_advance(r, space->alloc, padding);
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
