/* Sending messages: by a copy into the ring, several at once, or in a block that is written first.
   Unless a comment says otherwise, a function requires send_lock. No Python.h here. */
#ifndef IPCKIT_RING_SEND_H
#define IPCKIT_RING_SEND_H

#include "ring/blocks.h"
#include "ring/space.h"

/* Advances tail past a message that is also stored beside it. Receivers may be reading the
   previous one: they read small_number before and after (ring_peek_small), as in a seqlock. The release
   of small_length and of the words orders SMALL_NONE before them; ring_publish_tail publishes all. */
static inline void
ring_advance_tail_small(ring *r, const ring_space *space, uint64_t end, const void *data,
                        uint64_t length)
{
    channel_header *shared = r->shared;
    store_relaxed(&shared->small_in_use, 1);
    store_relaxed(&shared->small_number, SMALL_NONE);
    RING_POINT(repeating);
    store_release(&shared->small_length, length);
    seqlock_copy_in(shared->small, data, length);
    store_relaxed(&shared->small_number, (uint32_t)count_of(space->tail));
    ring_publish_tail(r, word_of(end, count_of(space->tail) + 1));
}

/* Counts messages that were sent, for people. */
static inline void
ring_count_sent(ring *r, uint64_t items)
{
    channel_peer *peer = &r->peers[r->index];
    store_relaxed(&peer->sent, load_relaxed(&peer->sent) + items);
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

/* Tells whether the channel takes a message of `length` bytes. Needs no lock. */
static inline bool
ring_length_is_valid(const ring *r, uint64_t length)
{
    return length <= r->longest && (r->item_size == 0 || length == r->item_size);
}

/* Sends one message of up to INLINE_MAX bytes by a copy. Returns RING_OK, RING_FULL, RING_TOO_LONG
   or RING_CORRUPT. A sender that dies before ring_publish_tail has sent nothing. */
static inline ring_result
ring_send(ring *r, const void *data, uint64_t length)
{
    ring_space space;
    uint64_t at, end;
    ring_result result = length > INLINE_MAX || !ring_length_is_valid(r, length)
        ? RING_TOO_LONG
        : ring_find_room(r, units_for(length), &space, &at, &end);
    if (result != RING_OK) {
        return result;
    }
    ring_write_record(r, at, RECORD_DATA, count_of(space.tail), shape_of(length, 1));
    RING_POINT(before_copy);
    copy_shared(ring_payload(r, at), data, length);
    RING_POINT(after_copy);
    if (length <= SMALL_MAX) {
        ring_advance_tail_small(r, &space, end, data, length);
    } else {
        ring_advance_tail(r, &space, end, 1);
    }
    ring_count_sent(r, 1);
    ring_prefetch_room(r, &space, end, length);
    return RING_OK;
}

/* Sends as many of `*items` messages of `item` bytes, at most INLINE_MAX, as there is room for, in one
   record, and sets `*items` to their number. Returns as ring_send. */
static inline ring_result
ring_send_batch(ring *r, const char *data, uint64_t item, uint64_t *items)
{
    ring_space space;
    uint64_t at, end;
    ring_result result = item == 0 || item > INLINE_MAX || !ring_length_is_valid(r, item)
        ? RING_TOO_LONG
        : ring_measure_space(r, true, &space);
    if (result != RING_OK) {
        return result;
    }
    uint64_t count = r->capacity > space.queued ? r->capacity - space.queued : 0;
    count = count < *items ? count : *items;
    /* The memory in one piece: up to the end of the arena, or from its start. */
    uint64_t piece = r->units - ring_arena_index(r, position_of(space.tail));
    uint64_t units = space.room < piece ? space.room : piece;
    if (space.room > piece && units < units_for(item)) {
        units = space.room - piece;
    }
    uint64_t bytes = units > 1 ? units * UNIT - sizeof(channel_record) : 0;
    if (bytes / item < count) {
        count = bytes / item > 1 ? bytes / item : 1;
    }
    if (count == 0) {
        return RING_FULL;
    }
    result = ring_find_room(r, units_for(count * item), &space, &at, &end);
    if (result != RING_OK) {
        return result;
    }
    ring_write_record(r, at, RECORD_DATA, count_of(space.tail), shape_of(count * item, count));
    RING_POINT(before_copy);
    copy_shared(ring_payload(r, at), data, count * item);
    RING_POINT(after_copy);
    ring_advance_tail(r, &space, end, count);
    ring_count_sent(r, count);
    *items = count;
    return RING_OK;
}

/* -- blocks ------------------------------------------------------------------------------------ */

/* Tells whether a message could be sent now: there is room, or room can be made because the channel
   overwrites and no other peer has receive_lock. Needs no lock. */
static inline bool
ring_looks_sendable(const ring *r)
{
    /* Read head first, so that tail is never behind it, and then head again: not older than the head that the
       sender of this tail saw. */
    uint64_t head = load_acquire(&r->shared->head);
    RING_POINT(looking);
    uint64_t tail = load_acquire(&r->shared->tail);
    uint64_t from = position_of(head), to = position_of(tail);
    if (!ring_position_is_valid(r, from) || !ring_position_is_valid(r, to)) {
        return true; /* ring_send_block reports it */
    }
    if (((count_of(tail) - count_of(head)) & COUNT_MASK) < r->capacity
        && ring_distance(r, from, to) < r->units) {
        return true;
    }
    if (load_relaxed(&r->shared->head) != head) {
        return true; /* there is room now, and there may have been all the time */
    }
    uint32_t owner = load_relaxed(&r->shared->receive_lock.owner);
    return r->overwrite && (owner == 0 || owner == r->owner);
}

/* Lends a block to write a message of up to `length` bytes in; NO_BLOCK if the message will be in the
   ring. Requires pool_lock, not send_lock. Returns RING_OK, RING_FULL or RING_TOO_LONG. Lends no block
   that could not be sent yet: others may need it, and a sender that polls would return it each time and
   wake itself by that. */
static inline ring_result
ring_lend(ring *r, uint64_t length, uint32_t *block)
{
    *block = NO_BLOCK;
    if (!ring_length_is_valid(r, length)) {
        return RING_TOO_LONG;
    }
    if (!ring_looks_sendable(r)) {
        return RING_FULL;
    }
    if (length <= INLINE_MAX) {
        return RING_OK;
    }
    *block = blocks_allocate(r, length, blocks_for_senders(r));
    return *block == NO_BLOCK ? RING_FULL : RING_OK;
}

/* Sends a message of `length` bytes in a block that was lent to `owner`. The block belongs to the
   queue before tail passes its record: a sender that dies in between has sent nothing, and
   ring_recover finds that no record refers to the block. Returns RING_OK, RING_FULL, RING_TOO_LONG,
   or RING_CORRUPT if the block is not that loan. */
static inline ring_result
ring_send_block(ring *r, uint32_t block, uint64_t length, uint32_t owner)
{
    ring_space space;
    uint64_t at, end, word = block_load(r, block);
    if (!ring_length_is_valid(r, length) || !block_fits(r, block, word, length)) {
        return RING_TOO_LONG;
    }
    ring_result result = ring_find_room(r, 1, &space, &at, &end);
    if (result != RING_OK) {
        return result;
    }
    ring_write_record(r, at, RECORD_BLOCK, block, shape_of(length, 1));
    RING_POINT(before_queued);
    if (!block_change(r, block, block_word(BLOCK_LENT, block_span(word), owner),
                      block_word(BLOCK_QUEUED, block_span(word), at))) {
        return RING_CORRUPT;
    }
    RING_POINT(queued);
    ring_advance_tail(r, &space, end, 1);
    ring_count_sent(r, 1);
    return RING_OK;
}

#endif
