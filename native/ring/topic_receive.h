/* Reading messages as a subscriber: by a copy, or by holding a block that is read in place. Each function
   requires the subscriber's own lock. No Python.h here.

   A subscriber takes no lock that publishers take. Publishers may drop a message while it is being read,
   unless they wait for the subscriber; `head` tells (ring/topic_room.h). */
#ifndef IPCKIT_RING_TOPIC_RECEIVE_H
#define IPCKIT_RING_TOPIC_RECEIVE_H

#include "ring/receive.h"
#include "ring/topic_room.h"

/* Tells whether a message was dropped. Loads that come before it, of what it guards, stay before it. */
static inline bool
topic_was_dropped(const ring *r, uint64_t number)
{
#ifndef __SANITIZE_THREAD__ /* TSan knows no fences; the loads of the bytes acquire there (topic_copy_out) */
    acquire_fence();
#endif
    return load_relaxed(&r->shared->head) > number;
}

/* Returns this subscriber's bit. */
static inline uint64_t
topic_own_bit(const ring *r)
{
    return UINT64_C(1) << (r->subscriber - r->subscribers);
}

/* Tells whether the subscriber seems to have read everything. Needs no lock. */
static inline bool
topic_looks_empty(const ring *r)
{
    uint64_t cursor = load_relaxed(&r->subscriber->cursor);
    return load_acquire(&r->seen) == cursor && load_relaxed(&r->shared->tail) == cursor;
}

/* Returns how many messages before `next` a subscriber has missed. */
static inline uint64_t
topic_missed(const topic_subscriber *member, uint64_t next)
{
    uint64_t received = load_relaxed(&member->received), passed = next - load_relaxed(&member->first);
    return passed > received ? passed - received : 0;
}

/* Returns the number of messages that a subscriber has not read, and sets `*lost` to those that it has
   missed. Needs no lock. Both change by one store each, so nothing is counted twice. */
static inline uint64_t
topic_unread(const ring *r, const topic_subscriber *member, uint64_t *lost)
{
    uint64_t cursor = load_acquire(&member->cursor), tail = load_relaxed(&r->shared->tail);
    uint64_t head = load_relaxed(&r->shared->head);
    uint64_t depth = load_relaxed(&member->depth), unread = tail > cursor ? tail - cursor : 0;
    depth = depth < r->capacity ? depth : r->capacity;
    *lost = 0;
    if (load_relaxed(&member->drops)) {
        uint64_t kept = tail > head ? tail - head : 0;
        kept = kept < depth ? kept : depth;
        *lost = topic_missed(member, unread > kept ? tail - kept : cursor);
        unread = unread < kept ? unread : kept;
    }
    return unread < depth ? unread : depth;
}

/* Tells whether another subscriber has messages to read. */
static inline bool
topic_others_lag(const ring *r)
{
    uint64_t tail = load_relaxed(&r->shared->tail);
    FOR_EACH_PLACE(place, load_relaxed(&r->shared->members)) {
        const topic_subscriber *member = topic_active(r, (uint32_t)place);
        if (member != NULL && member != r->subscriber && load_relaxed(&member->cursor) < tail) {
            return true;
        }
    }
    return false;
}

/* Advances `cursor` (release; pairs with topic_update_limit). */
static inline void
topic_advance(ring *r, uint64_t cursor)
{
    RING_POINT(before_cursor);
    store_release(&r->subscriber->cursor, cursor);
    RING_POINT(after_cursor);
}

/* Skips the messages that the subscriber has missed. Sets `*number` to the next one. Returns RING_OK,
   RING_EMPTY, RING_OVERTAKEN, RING_CLOSED or RING_CORRUPT. */
static inline ring_result
topic_find_next(ring *r, uint64_t *number)
{
    topic_subscriber *own = r->subscriber;
    uint64_t cursor = load_relaxed(&own->cursor), depth = load_relaxed(&own->depth);
    bool drops = load_relaxed(&own->drops);
    if (drops || r->seen == cursor) {
        store_release(&r->seen, load_acquire(&r->shared->tail));
    }
    if (r->seen == cursor) {
        return RING_EMPTY;
    }
    if (r->seen < cursor) {
        return RING_CORRUPT;
    }
    uint64_t start = drops && r->seen - cursor > depth ? r->seen - depth : cursor;
    uint64_t head = load_acquire(&r->shared->head);
    if (!drops && (head > start || r->seen - cursor > depth)) {
        /* Publishers wait for this subscriber, unless another thread has ended the subscription. */
        return load_relaxed(&own->closed) ? RING_CLOSED : RING_CORRUPT;
    }
    start = head > start ? head : start;
    if (start >= r->seen && head > load_relaxed(&r->shared->tail)) {
        return RING_CORRUPT;
    }
    if (start != cursor) {
        topic_advance(r, start);
    }
    *number = start;
    return start < r->seen ? RING_OK : RING_OVERTAKEN;
}

/* Fills in a message from its entry, which publishers may be overwriting. topic_was_dropped has the fence
   for these loads. Returns RING_OK, RING_OVERTAKEN or RING_CORRUPT. */
static inline ring_result
topic_describe(const ring *r, uint64_t number, ring_message *message)
{
    const topic_entry *entry = topic_entry_of(r, number);
    uint64_t position = load_relaxed(&entry->position), shape = load_relaxed(&entry->shape);
    *message = (ring_message){
        .head = number, .items = 1, .block = topic_block_of(shape), .length = shape & LENGTH_MAX};
    bool valid = r->item_size == 0 || message->length == r->item_size;
    if (message->block == NO_BLOCK) {
        uint64_t offset = position % r->units;
        message->data = r->arena + offset * UNIT;
        valid &= message->length <= INLINE_MAX && topic_units(message->length) <= r->units - offset;
    } else if (message->block < r->granules) {
        message->data = block_data(r, message->block);
        message->word = block_load(r, message->block);
        uint64_t queued = block_word(BLOCK_QUEUED, block_span(message->word), number & BLOCK_HOLDER_MASK);
        valid &= message->word == queued
            && block_fits(r, message->block, message->word, message->length);
    } else {
        valid = false;
    }
    return valid ? RING_OK : topic_was_dropped(r, number) ? RING_OVERTAKEN : RING_CORRUPT;
}

#define OVERTAKEN_MAX 100

/* Finds the next message and does not take it. Counts those that were missed. Returns RING_OK, RING_EMPTY,
   RING_OVERTAKEN if publishers are always faster, RING_CLOSED or RING_CORRUPT. */
static inline ring_result
topic_peek(ring *r, ring_message *message)
{
    for (int tries = 0; tries < OVERTAKEN_MAX; tries++) {
        uint64_t number = 0;
        ring_result result = topic_find_next(r, &number);
        if (result == RING_OK) {
            result = topic_describe(r, number, message);
        }
        if (result != RING_OVERTAKEN) {
            return result;
        }
    }
    return RING_OVERTAKEN;
}

/* Finds the next message if it is the only one and is stored beside the tail, as ring_peek_small. */
static inline bool
topic_peek_small(ring *r, ring_message *message, char *copy)
{
    channel_header *shared = r->shared;
    uint64_t cursor = load_relaxed(&r->subscriber->cursor);
    if (r->seen != cursor) {
        return false; /* several were published; reading the tail takes its line from publishers */
    }
    uint64_t tail = load_acquire(&shared->tail);
    uint32_t number = load_relaxed(&shared->small_number);
    uint64_t length = load_acquire(&shared->small_length);
    if (tail - cursor != 1 || number != (cursor & COUNT_MASK) || length > SMALL_MAX
        || (r->item_size != 0 && length != r->item_size)) {
        return false;
    }
    RING_POINT(small_found);
    seqlock_copy_out(copy, shared->small, length);
    if (load_relaxed(&shared->small_number) != number
        || load_relaxed(&shared->tail) != tail) {
        return false;
    }
    store_release(&r->seen, tail);
    *message = (ring_message){
        .head = cursor, .items = 1, .block = NO_BLOCK, .checked = true, .data = copy, .length = length};
    return true;
}

/* Advances past a message that was received. Both words in this order: one between the two stores is
   counted as neither lost nor unread. */
static inline void
topic_count_and_advance(ring *r, uint64_t number)
{
    topic_subscriber *own = r->subscriber;
    store_relaxed(&own->received, load_relaxed(&own->received) + 1);
    topic_advance(r, number + 1);
}

/* Takes a message whose bytes were copied. Returns RING_OK, or RING_OVERTAKEN if the copy is to be
   rejected. */
static inline ring_result
topic_take(ring *r, const ring_message *message)
{
    if (!message->checked && topic_was_dropped(r, message->head)) {
        return RING_OVERTAKEN;
    }
    topic_count_and_advance(r, message->head);
    return RING_OK;
}

/* Lets go of a block that this subscriber reads in. The last reader lets publishers try again. Needs no
   lock. Returns RING_OK, or RING_CORRUPT if this subscriber does not read in it. */
static inline ring_result
topic_release_block(ring *r, uint32_t block, uint64_t bit)
{
    if (block >= r->granules) {
        return RING_CORRUPT;
    }
    uint64_t before = fetch_and_release(&r->readers[block], ~bit);
    RING_POINT(reader_left);
    if (before == bit) {
        fetch_add_release(&r->shared->freed, 1);
        ring_light_barrier(r, &r->shared->space);
        ring_notify(r, POLL_SPACE);
    }
    return before & bit ? RING_OK : RING_CORRUPT;
}

/* Takes a message in a block, which this subscriber reads in place until topic_release_block. The barrier
   pairs with the one in topic_drop_block. If the message was dropped before, the block may be another's
   already; then the bit keeps it from being used again for a moment, and nothing else. Returns RING_OK or
   RING_OVERTAKEN. */
static inline ring_result
topic_hold(ring *r, const ring_message *message)
{
    uint64_t bit = topic_own_bit(r), *readers = &r->readers[message->block];
    fetch_or_relaxed(readers, bit);
    RING_POINT(reader_came);
    full_barrier((uint32_t *)(void *)readers);
    if (topic_was_dropped(r, message->head)) {
        topic_release_block(r, message->block, bit);
        return RING_OVERTAKEN;
    }
    topic_count_and_advance(r, message->head);
    return RING_OK;
}

/* After a receive, tells publishers of room, if they wait for this subscriber. Needs no lock. */
static inline void
topic_notify_space(ring *r)
{
    if (!load_relaxed(&r->subscriber->drops)) {
        ring_notify(r, POLL_SPACE);
    }
}

#endif
