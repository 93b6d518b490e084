/* Sending messages: by a copy, several at once, or by a loan that is written in place. Each
   function requires send_lock. No Python.h here. */
#ifndef IPCKIT_RING_SEND_H
#define IPCKIT_RING_SEND_H

#include "ring/space.h"

/* A loan that is sent in place becomes a message before tail passes it. A sender that was killed
   in between left a message that no word counts. Frees those, because tail is about to pass
   everything up to alloc. */
static inline void
ring_discard_unsent(ring *r, const ring_space *space)
{
    uint64_t position = position_of(space->tail);
    record_info info;
    while (position != space->alloc
           && ring_read_record(r, position, ring_distance(r, position, space->alloc), &info)) {
        if (info.kind == RECORD_DATA) {
            ring_set_record_state(r, position, RECORD_FREE, info.owner);
        }
        position = ring_advance(r, position, info.units);
    }
}

/* Advances tail past a message that is also stored beside it. Receivers may be reading the
   previous one: they read small_number before and after (ring_peek_small), as in a seqlock. */
static inline void
ring_advance_tail_small(ring *r, const ring_space *space, uint64_t end, const void *data,
                     uint64_t length)
{
    channel_header *shared = r->shared;
    __atomic_store_n(&shared->small_in_use, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&shared->small_number, SMALL_NONE, __ATOMIC_RELEASE);
    RING_POINT(repeating);
    store_word(&shared->small_length, length);
    seqlock_copy_in(shared->small, data, length);
    __atomic_store_n(&shared->small_number, (uint32_t)count_of(space->tail), __ATOMIC_RELEASE);
    ring_publish_tail(r, word_of(end, count_of(space->tail) + 1));
}

/* Finishes a send: moves the end of the loans, and counts the messages for people. */
static inline void
ring_finish_send(ring *r, const ring_space *space, uint64_t end, uint64_t items)
{
    if (space->loans != 0) {
        store_word(&r->shared->reserve, word_of(end, space->loans));
    }
    channel_peer *peer = &r->peers[r->index];
    __atomic_store_n(&peer->sent, peer->sent + items, __ATOMIC_RELAXED);
}

/* Prefetches the memory of the next record for writing, because the other side had it last. Does
   not do so where receivers may be about to read. */
static inline void
ring_prefetch_room(const ring *r, const ring_space *space, uint64_t end, uint64_t length)
{
    if (space->room > 4 * units_for(length) + r->units / 4) {
        const char *record = (const char *)ring_record_at(r, end);
        for (uint64_t at = 0, bytes = ring_prefetch_bytes(r, end, length); at < bytes; at += 64) {
            cpu_prefetch_to_write(record + at);
        }
    }
}

/* Sends one message by a copy. Returns RING_OK, RING_FULL, RING_TOO_LONG or RING_CORRUPT. A
   sender that dies before ring_publish_tail has sent nothing. */
static inline ring_result
ring_send(ring *r, const void *data, uint64_t length)
{
    ring_space space;
    uint64_t at, end;
    ring_result result = length > r->longest
        ? RING_TOO_LONG
        : ring_find_room(r, length, 0, &space, &at, &end);
    if (result != RING_OK) {
        return result;
    }
    ring_write_record(r, at, state_of(RECORD_DATA, r->owner), space.tail, shape_of(length, 1));
    RING_POINT(before_copy);
    memcpy(ring_payload(r, at, length), data, length);
    RING_POINT(after_copy);
    ring_discard_unsent(r, &space);
    if (length <= SMALL_MAX) {
        ring_advance_tail_small(r, &space, end, data, length);
    } else {
        ring_advance_tail(r, &space, end, 1);
    }
    ring_finish_send(r, &space, end, 1);
    ring_prefetch_room(r, &space, end, length);
    return RING_OK;
}

/* Sends as many of `*items` messages of `item` bytes as there is room for, in one record, and
   sets `*items` to their number. Returns as ring_send. */
static inline ring_result
ring_send_batch(ring *r, const char *data, uint64_t item, uint64_t *items)
{
    ring_space space;
    uint64_t at, end;
    ring_result result = ring_measure_space(r, true, &space);
    if (result != RING_OK) {
        return result;
    }
    uint64_t queued = space.queued + space.loans;
    uint64_t count = r->capacity > queued ? r->capacity - queued : 0;
    count = count < *items ? count : *items;
    /* The memory in one piece: up to the end of the arena, or from its start. */
    uint64_t piece = r->units - ring_arena_index(r, space.alloc);
    uint64_t units = space.room < piece ? space.room : piece;
    if (space.room > piece && units < units_for(item) + 2) {
        units = space.room - piece;
    }
    uint64_t bytes = units > 4 ? (units - 4) * UNIT : 0;
    bytes = bytes < ring_longest(r) ? bytes : ring_longest(r);
    if (bytes / item < count) {
        count = bytes / item > 1 ? bytes / item : 1;
    }
    if (count == 0) {
        return RING_FULL;
    }
    result = ring_find_room(r, count * item, 0, &space, &at, &end);
    if (result != RING_OK) {
        return result;
    }
    ring_write_record(r, at, state_of(RECORD_DATA, r->owner), space.tail, shape_of(count * item, count));
    RING_POINT(before_copy);
    memcpy(ring_payload(r, at, count * item), data, count * item);
    RING_POINT(after_copy);
    ring_discard_unsent(r, &space);
    ring_advance_tail(r, &space, end, count);
    ring_finish_send(r, &space, end, count);
    *items = count;
    return RING_OK;
}

/* -- loans ------------------------------------------------------------------------------------- */

/* Lends a record of `length` bytes to write in; `*at` is its position. Returns as ring_send. */
static inline ring_result
ring_lend(ring *r, uint64_t length, uint64_t *at)
{
    ring_space space;
    uint64_t end;
    /* A unit to spare, for the RECORD_REF that may have to refer to it. */
    ring_result result =
        length > r->longest ? RING_TOO_LONG : ring_find_room(r, length, 1, &space, at, &end);
    if (result != RING_OK) {
        return result;
    }
    ring_write_record(r, *at, state_of(RECORD_LOAN, r->owner), 0, shape_of(length, 1));
    RING_POINT(before_lend);
    store_word(&r->shared->reserve, word_of(end, space.loans + 1));
    return RING_OK;
}

/* Tells whether only padding lies between what was sent and a loan. */
static inline bool
ring_loan_is_next(const ring *r, const ring_space *space, uint64_t at)
{
    uint64_t position = position_of(space->tail);
    record_info info;
    for (int pads = 0; position != at; pads++) {
        uint64_t limit = ring_distance(r, position, at);
        if (pads == 4 || limit > r->units || !ring_read_record(r, position, limit, &info)
            || info.kind != RECORD_PAD) {
            return false;
        }
        position = ring_advance(r, position, info.units);
    }
    return true;
}

/* Counts one loan less, and sets the end of the loans. */
static inline void
ring_uncount_loan(ring *r, const ring_space *space, uint64_t alloc)
{
    if (space->loans != 0) {
        store_word(&r->shared->reserve, word_of(alloc, space->loans - 1));
    }
}

/* Sends a loan with the first `length` bytes of its record. The loan becomes a message in place
   if it is the next one, otherwise a RECORD_REF refers to it. Returns RING_OK, RING_FULL, or
   RING_CORRUPT if the record is not this loan. */
static inline ring_result
ring_send_loan(ring *r, uint64_t at, uint64_t length, uint32_t owner)
{
    ring_space space;
    ring_result result = ring_measure_space(r, true, &space);
    if (result != RING_OK) {
        return result;
    }
    uint32_t state = __atomic_load_n(&ring_record_at(r, at)->state, __ATOMIC_ACQUIRE);
    if (state != state_of(RECORD_LOAN, owner)
        || ring_distance(r, space.free, at) >= r->units) {
        return RING_CORRUPT;
    }
    if (space.queued >= r->capacity) {
        return RING_FULL;
    }
    if (ring_loan_is_next(r, &space, at)) {
        ring_write_record(r, at, state_of(RECORD_DATA, owner), space.tail, shape_of(length, 1));
        ring_advance_tail(r, &space, ring_advance(r, at, units_for(length)), 1);
        ring_uncount_loan(r, &space, space.alloc);
    } else {
        uint64_t end = ring_advance(r, space.alloc, 1);
        ring_discard_unsent(r, &space);
        ring_write_record(r, space.alloc, state_of(RECORD_REF, owner), space.tail, at);
        RING_POINT(before_sent);
        ring_set_record_state(r, at, RECORD_SENT, owner);
        ring_advance_tail(r, &space, end, 1);
        ring_uncount_loan(r, &space, end);
    }
    channel_peer *peer = &r->peers[r->index];
    __atomic_store_n(&peer->sent, peer->sent + 1, __ATOMIC_RELAXED);
    return RING_OK;
}

#endif
