/* Publishing messages: by a copy into the arena, several at once, or in a block that is written first.
   Each function requires send_lock. A publisher that dies before ring_publish_tail has published nothing.
   No Python.h here. */
#ifndef IPCKIT_RING_TOPIC_PUBLISH_H
#define IPCKIT_RING_TOPIC_PUBLISH_H

#include "ring/send.h"
#include "ring/topic_room.h"

static inline void
topic_write_entry(ring *r, uint64_t number, uint64_t position, uint64_t shape)
{
    topic_entry *entry = topic_entry_of(r, number);
    store_release(&entry->position, position);
    store_release(&entry->shape, shape);
}

/* Publishes the messages before `end`, which are not stored beside the tail. */
static inline void
topic_advance_tail(ring *r, uint64_t end)
{
    channel_header *shared = r->shared;
    if (load_relaxed(&shared->small_in_use)) {
        store_relaxed(&shared->small_number, SMALL_NONE);
        RING_POINT(repeating);
        store_relaxed(&shared->small_in_use, 0);
    }
    ring_publish_tail(r, end);
}

/* Publishes a message that is also stored beside the tail (ring_advance_tail_small). */
static inline void
topic_advance_tail_small(ring *r, uint64_t number, const char *data, uint64_t length)
{
    channel_header *shared = r->shared;
    store_relaxed(&shared->small_in_use, 1);
    store_relaxed(&shared->small_number, SMALL_NONE);
    RING_POINT(repeating);
    store_release(&shared->small_length, length);
    seqlock_copy_in(shared->small, data, length);
    store_relaxed(&shared->small_number, (uint32_t)(number & COUNT_MASK));
    ring_publish_tail(r, number + 1);
}

/* Publishes one message of up to INLINE_MAX bytes by a copy. Returns RING_OK, RING_FULL, RING_TOO_LONG or
   RING_CORRUPT. */
static inline ring_result
topic_send(ring *r, const char *data, uint64_t length)
{
    uint64_t head, tail;
    if (length > INLINE_MAX || !ring_length_is_valid(r, length)) {
        return RING_TOO_LONG;
    }
    ring_result result = topic_read_ends(r, &head, &tail);
    if (result != RING_OK) {
        return result;
    }
    uint64_t position = topic_next_position(r, tail);
    result = topic_may_publish(r, tail)
        ? topic_find_room(r, tail, tail, topic_units(length), &position)
        : RING_FULL;
    if (result != RING_OK) {
        return result;
    }
    topic_write_entry(r, tail, position, length);
    RING_POINT(before_copy);
    topic_copy_in(r->arena + position % r->units * UNIT, data, length);
    RING_POINT(after_copy);
    if (length <= SMALL_MAX) {
        topic_advance_tail_small(r, tail, data, length);
    } else {
        topic_advance_tail(r, tail + 1);
    }
    ring_count_sent(r, 1);
    return RING_OK;
}

/* Publishes as many of `*items` messages of `item` bytes, at most INLINE_MAX, as there is room for, and
   sets `*items` to their number. Returns as topic_send. */
static inline ring_result
topic_send_batch(ring *r, const char *data, uint64_t item, uint64_t *items)
{
    uint64_t head, tail, done = 0;
    if (item == 0 || item > INLINE_MAX || !ring_length_is_valid(r, item)) {
        return RING_TOO_LONG;
    }
    ring_result result = topic_read_ends(r, &head, &tail);
    if (result != RING_OK) {
        return result;
    }
    uint64_t position = topic_next_position(r, tail), units = topic_units(item);
    /* Not more than the capacity at once: a subscriber gets time to read before it loses messages. */
    uint64_t most = *items < r->capacity ? *items : r->capacity;
    while (done < most && (tail + done < load_relaxed(&r->shared->limit)
                           || (done == 0 && topic_may_publish(r, tail)))) {
        result = topic_find_room(r, tail + done, tail, units, &position);
        if (result != RING_OK) {
            break;
        }
        topic_write_entry(r, tail + done, position, item);
        topic_copy_in(r->arena + position % r->units * UNIT, data + done * item, item);
        position += units;
        done++;
    }
    if (done == 0) {
        return result == RING_OK ? RING_FULL : result;
    }
    RING_POINT(after_copy);
    topic_advance_tail(r, tail + done);
    ring_count_sent(r, done);
    *items = done;
    return RING_OK;
}

/* -- blocks ------------------------------------------------------------------------------------ */

/* Returns the lowest run of `span` granules that becomes free if as few of the oldest messages as possible
   are dropped, at most `most`; NO_BLOCK if there is none, because views and loans are in the way. */
static inline uint32_t
topic_oldest_run(const ring *r, uint64_t span, uint64_t most)
{
    uint64_t low = 1, high = 1; /* fewer than `low` are not enough */
    uint32_t found = blocks_find(r, 0, r->granules, span, r->granules, high);
    while (found == NO_BLOCK && high < most) {
        low = high + 1;
        high = high < most / 2 ? 2 * high : most;
        found = blocks_find(r, 0, r->granules, span, r->granules, high);
    }
    while (found != NO_BLOCK && low < high) {
        uint64_t middle = low + (high - low) / 2;
        uint32_t run = blocks_find(r, 0, r->granules, span, r->granules, middle);
        low = run == NO_BLOCK ? middle + 1 : low;
        high = run == NO_BLOCK ? high : middle;
        found = run == NO_BLOCK ? found : run;
    }
    return found;
}

/* Makes a run of free granules for `length` bytes: drops the oldest messages that may be dropped, and no
   more than needed. Drops none if that would make no room. Returns RING_OK, RING_FULL or RING_CORRUPT. */
static inline ring_result
topic_free_run(ring *r, uint64_t length, uint64_t tail)
{
    topic_update_limit(r, tail);
    uint64_t head = load_relaxed(&r->shared->head), floor = load_relaxed(&r->shared->floor);
    if (tail - head > r->slots) {
        return RING_CORRUPT;
    }
    uint64_t span = blocks_span(r, length);
    uint64_t at = topic_oldest_run(r, span, tail - head), end = at + span;
    if (at == NO_BLOCK) {
        return RING_FULL;
    }
    while (at < end) {
        uint64_t word = block_load(r, (uint32_t)at);
        if (block_is_free(r, at, word)) {
            at += block_step(r, at, word);
        } else if (head < floor && head < tail) {
            topic_drop(r, head++);
        } else {
            return RING_FULL; /* a subscriber began to read there meanwhile */
        }
    }
    return RING_OK;
}

/* Lends a block to write a message of up to `length` bytes in; NO_BLOCK if the message will be in the
   arena. Drops messages that are not needed, and if there is no block then, also others that may be dropped.
   Returns RING_OK, RING_FULL, RING_TOO_LONG or RING_CORRUPT. */
static inline ring_result
topic_lend(ring *r, uint64_t length, uint32_t *block)
{
    uint64_t head, tail;
    *block = NO_BLOCK;
    if (!ring_length_is_valid(r, length)) {
        return RING_TOO_LONG;
    }
    ring_result result = topic_read_ends(r, &head, &tail);
    if (result != RING_OK || !topic_may_publish(r, tail)) {
        return result == RING_OK ? RING_FULL : result;
    }
    if (length <= INLINE_MAX) {
        return RING_OK;
    }
    topic_drop_unneeded(r, head, tail);
    *block = blocks_allocate(r, length, r->granules);
    if (*block != NO_BLOCK) {
        return RING_OK;
    }
    result = topic_free_run(r, length, tail);
    if (result == RING_OK) {
        *block = blocks_allocate(r, length, r->granules);
    }
    return result != RING_OK ? result : *block == NO_BLOCK ? RING_FULL : RING_OK;
}

/* Tells publishers that wait for memory that a block which was a loan has become a message, which may be
   dropped. */
static inline void
topic_tell_publishers(ring *r)
{
    ring_light_barrier(r, &r->shared->space);
    if (load_relaxed(&r->shared->space) % WORD_STEP != 0) {
        fetch_add_relaxed(&r->shared->freed, 1);
        ring_notify(r, POLL_SPACE);
    }
}

/* Publishes a message of `length` bytes in a block that was lent to `owner`. The block belongs to the
   message before `tail` passes it: a publisher that dies in between has published nothing, and
   topic_recover finds that no entry refers to the block. Returns RING_OK, RING_FULL, RING_TOO_LONG, or
   RING_CORRUPT if the block is not that loan. */
static inline ring_result
topic_send_block(ring *r, uint32_t block, uint64_t length, uint32_t owner)
{
    uint64_t head, tail, word = block_load(r, block);
    if (!ring_length_is_valid(r, length) || !block_fits(r, block, word, length)) {
        return RING_TOO_LONG;
    }
    ring_result result = topic_read_ends(r, &head, &tail);
    if (result != RING_OK) {
        return result;
    }
    uint64_t position = topic_next_position(r, tail);
    result = topic_may_publish(r, tail) ? topic_find_room(r, tail, tail, 0, &position) : RING_FULL;
    if (result != RING_OK) {
        return result;
    }
    topic_write_entry(r, tail, position, shape_of(length, (uint64_t)block + 1));
    RING_POINT(before_queued);
    uint64_t queued = block_word(BLOCK_QUEUED, block_span(word), tail & BLOCK_HOLDER_MASK);
    if (!block_change(r, block, block_word(BLOCK_LENT, block_span(word), owner), queued)) {
        return RING_CORRUPT;
    }
    RING_POINT(queued);
    topic_advance_tail(r, tail + 1);
    ring_count_sent(r, 1);
    topic_tell_publishers(r);
    return RING_OK;
}

#endif
