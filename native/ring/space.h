/* Where in a ring the next record goes. Each function wants send_lock. No Python.h here. */
#ifndef IPCKIT_RING_SPACE_H
#define IPCKIT_RING_SPACE_H

#include "ring/lock.h"

/* Where the next record goes. */
typedef struct {
    uint64_t tail;    /* word */
    uint64_t free;    /* position from which on records are in use */
    uint64_t alloc;   /* position behind the last record, sent or lent */
    uint64_t loans;   /* that are not sent yet; each may need a unit more when it is */
    uint64_t room;    /* units that are free from alloc on */
    uint64_t queued;  /* messages */
} ring_space;

/* Reads the senders' words. Fresh: with another look at how far the receivers have come. */
static inline ring_result
ring_measure_space(ring *r, bool fresh, ring_space *space)
{
    channel_header *shared = r->shared;
    uint64_t head, low_water;
    if (fresh) {
        /* The head first: once it has passed a record that stays in use, low_water says so. What was seen
           is stored the other way round: with an older head any low_water is right. */
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
    if (!ring_position_is_valid(r, tail) || !ring_position_is_valid(r, space->free) || !ring_position_is_valid(r, lent)) {
        return RING_CORRUPT;
    }
    space->loans = count_of(reserve);
    space->alloc = tail;
    /* Who was killed after moving tail had no time to move reserve, which may be anywhere behind. */
    uint64_t beyond = ring_distance(r, space->free, lent);
    if (space->loans != 0 && beyond <= r->units && beyond > ring_distance(r, space->free, tail)) {
        space->alloc = lent;
    } else if (space->loans != 0 && lent != tail) {
        store_word(&shared->reserve, word_of(tail, space->loans)); /* before it falls far behind */
    }
    uint64_t used = ring_distance(r, space->free, space->alloc);
    space->queued = (count_of(space->tail) - count_of(head)) & COUNT_MASK;
    if (used > r->units || space->queued > r->capacity) {
        return RING_CORRUPT;
    }
    space->room = used + space->loans > r->units ? 0 : r->units - used - space->loans;
    return RING_OK;
}

/* Tells the receivers of everything up to a position. Who dies before the second word is right holds
   the lock, and who takes that over puts it right. */
static inline void
ring_publish_tail(ring *r, uint64_t tail)
{
    RING_POINT(before_tail);
    store_word(&r->shared->tail, tail);
    RING_POINT(after_tail);
    store_word(&r->shared->senders_tail, tail);
}

/* Moves tail behind messages that nothing small_in_use. */
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

/* The unused units that must stand before a record of so many, so that it is in one piece. */
static inline uint64_t
ring_padding(const ring *r, uint64_t alloc, uint64_t units, bool large)
{
    uint64_t offset = ring_arena_index(r, alloc);
    uint64_t padding = large ? offset & 1 : 0;
    return offset + padding + units > r->units ? r->units - offset : padding;
}

/* What the processors' caches low_water of a ring that is used all the time. */
#ifndef CACHE_WINDOW_BYTES
#define CACHE_WINDOW_BYTES ((uint64_t)512 << 10)
#endif

/* Whether a record takes the ring on to memory that was not used for long. */
static inline bool
ring_leaves_cache_window(const ring *r, uint64_t alloc, uint64_t units)
{
    uint64_t warm = CACHE_WINDOW_BYTES / UNIT, offset = ring_arena_index(r, alloc);
    return offset / warm != (offset + units) / warm;
}

/* Has an empty ring go on at the beginning of its arena, where it was used a moment ago. Both sides
   move, so that no padding is left in the way of a ring that gets full before anybody receives. */
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
        /* Receivers must not find their head beyond the tail that they remember. */
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

/* Finds room for a payload, and for `spare` units more: RING_OK and where, or RING_FULL. */
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
