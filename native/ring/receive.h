/* Finding and taking messages: by a copy, by holding a block that is read in place, or to be
   acknowledged later. Unless a comment says otherwise, a function requires receive_lock. No Python.h
   here. */
#ifndef IPCKIT_RING_RECEIVE_H
#define IPCKIT_RING_RECEIVE_H

#include "ring/blocks.h"
#include "ring/lock.h"

/* The next message, found but not taken. */
typedef struct {
    uint64_t head;   /* the word that was read */
    uint64_t end;    /* position after its record */
    uint64_t items;  /* messages in the record */
    uint64_t index;  /* the index of this message among them */
    uint32_t block;  /* that has the message, or NO_BLOCK */
    bool returned;   /* it was taken before, and no record refers to it */
    bool checked;    /* its bytes are a copy, which is whole */
    uint64_t word;   /* of the block */
    const char *data;
    uint64_t length; /* bytes of this message */
} ring_message;

/* Tells whether a returned message may wait. Needs no lock. ring_peek_returned has the acquire. */
static inline bool
ring_may_have_returned(const ring *r)
{
    return load_relaxed(&r->shared->returned)
        != load_relaxed(&r->shared->returned_seen);
}

/* Notes that a message was returned. Needs no lock. */
static inline void
ring_note_returned(ring *r)
{
    fetch_add_release(&r->shared->returned, 1);
}

/* Finds the returned message that was taken first. Returns RING_OK, RING_EMPTY or RING_CORRUPT. The
   acquire of `returned` pairs with the addition in ring_note_returned. */
static inline ring_result
ring_peek_returned(ring *r, ring_message *message)
{
    uint64_t returned = load_acquire(&r->shared->returned), number = UINT64_MAX;
    *message = (ring_message){.block = NO_BLOCK};
    for (uint64_t at = 0; at < r->granules;) {
        uint64_t word = block_load(r, (uint32_t)at);
        uint64_t found = load_relaxed(&r->deliveries[at].number);
        if (block_kind_of(word) == BLOCK_RETURNED && found < number) {
            number = found;
            message->block = (uint32_t)at;
            message->word = word;
        }
        at += block_step(r, at, word);
    }
    if (message->block == NO_BLOCK) {
        store_relaxed(&r->shared->returned_seen, returned);
        return RING_EMPTY;
    }
    message->returned = true;
    message->items = 1;
    message->data = block_data(r, message->block);
    message->length = load_relaxed(&r->deliveries[message->block].length);
    return block_fits(r, message->block, message->word, message->length)
            && (r->item_size == 0 || message->length == r->item_size)
        ? RING_OK
        : RING_CORRUPT;
}

/* Advances head over padding. The release pairs with ring_measure_space: senders may overwrite it. */
static inline void
ring_skip_padding(ring *r, uint64_t head, uint64_t units)
{
    RING_POINT(before_skip);
    store_release(&r->shared->head, word_of(ring_advance(r, position_of(head), units), count_of(head)));
}

/* Fills in a message from its record, whose header was read. Returns RING_OK or RING_CORRUPT. */
static inline ring_result
ring_describe_message(const ring *r, const record_info *info, ring_message *message)
{
    uint64_t position = position_of(message->head);
    message->items = info->items;
    message->index = 0;
    message->length = info->length;
    message->returned = false;
    message->block = NO_BLOCK;
    if (r->item_size != 0 && info->length != r->item_size * info->items) {
        return RING_CORRUPT;
    }
    if (info->kind == RECORD_BLOCK) {
        message->block = info->first;
        if (message->block >= r->granules || info->items != 1) {
            return RING_CORRUPT;
        }
        message->word = block_load(r, message->block);
        message->data = block_data(r, message->block);
        bool queued = block_kind_of(message->word) == BLOCK_QUEUED
            && block_holder(message->word) == position;
        return queued && block_fits(r, message->block, message->word, message->length)
            ? RING_OK
            : RING_CORRUPT;
    }
    message->data = ring_payload(r, position);
    if (info->items > 1) {
        message->index = (count_of(message->head) - info->first) & COUNT_MASK;
        if (message->index >= info->items) {
            return RING_CORRUPT;
        }
        message->length = info->length / info->items;
        message->data += message->index * message->length;
    }
    return message->length <= INLINE_MAX ? RING_OK : RING_CORRUPT;
}

/* Tells whether the ring seems empty. Needs no lock. */
static inline bool
ring_looks_empty(const ring *r)
{
    uint64_t head = load_relaxed(&r->shared->head);
    return load_relaxed(&r->shared->cached_tail) == head && load_relaxed(&r->shared->tail) == head
        && !ring_may_have_returned(r);
}

/* Finds the next message and does not take it. Skips padding. Returns RING_OK, RING_EMPTY or
   RING_CORRUPT. The acquire of `tail` pairs with ring_publish_tail. */
static inline ring_result
ring_peek(ring *r, ring_message *message)
{
    channel_header *shared = r->shared;
    if (ring_may_have_returned(r)) {
        ring_result result = ring_peek_returned(r, message);
        if (result != RING_EMPTY) {
            return result;
        }
    }
    /* A message follows after at most this many records. */
    for (uint64_t passed = 0; passed <= r->units; passed++) {
        message->head = load_relaxed(&shared->head);
        uint64_t position = position_of(message->head);
        uint64_t tail = load_relaxed(&shared->cached_tail);
        if (position == position_of(tail)) {
            tail = load_acquire(&shared->tail);
            if (position == position_of(tail)) {
                return RING_EMPTY;
            }
            store_relaxed(&shared->cached_tail, tail);
        }
        if (!ring_position_is_valid(r, position) || !ring_position_is_valid(r, position_of(tail))) {
            return RING_CORRUPT;
        }
        uint64_t limit = ring_distance(r, position, position_of(tail));
        record_info info;
        if (limit > r->units || !ring_read_record(r, position, limit, &info)) {
            return RING_CORRUPT;
        }
        message->end = ring_advance(r, position, info.units);
        if (info.kind != RECORD_PAD) {
            return ring_describe_message(r, &info, message);
        }
        ring_skip_padding(r, message->head, info.units);
    }
    return RING_CORRUPT;
}

/* Finds the next message if it is the only one and is stored beside the tail. Copies it to
   `copy` (SMALL_MAX bytes) without touching its record. Returns false if ring_peek must be used.
   It is a seqlock read. The acquire of `tail` makes the message visible. Those of small_length and of
   the words pair with the stores in ring_advance_tail_small: if one is of the next message, the second
   look at small_number finds that it has changed. */
static inline bool
ring_peek_small(ring *r, ring_message *message, char *copy)
{
    channel_header *shared = r->shared;
    uint64_t head = load_relaxed(&shared->head);
    if (position_of(head) != position_of(load_relaxed(&shared->cached_tail))
        || ring_may_have_returned(r)) {
        return false; /* several were sent; reading the tail takes its line from senders */
    }
    uint64_t tail = load_acquire(&shared->tail);
    uint32_t number = load_relaxed(&shared->small_number);
    uint64_t length = load_acquire(&shared->small_length);
    if (((count_of(tail) - count_of(head)) & COUNT_MASK) != 1 || number != count_of(head)
        || length > SMALL_MAX || (r->item_size != 0 && length != r->item_size)) {
        return false;
    }
    seqlock_copy_out(copy, shared->small, length);
    uint64_t position = position_of(head), end = position_of(tail);
    if (load_relaxed(&shared->small_number) != number
        || !ring_position_is_valid(r, position) || !ring_position_is_valid(r, end)
        || ring_distance(r, position, end) != units_for(length)) {
        return false;
    }
    store_relaxed(&shared->cached_tail, tail);
    *message = (ring_message){.head = head,
                              .end = end,
                              .items = 1,
                              .block = NO_BLOCK,
                              .data = copy,
                              .length = length};
    return true;
}

/* Prefetches the record after a message that is being taken, if one was sent, so that it arrives
   while the caller uses this message. */
static inline void
ring_prefetch_next(const ring *r, const ring_message *message)
{
    if (message->block == NO_BLOCK && message->index + 1 == message->items
        && message->end != position_of(load_relaxed(&r->shared->cached_tail))) {
        const char *record = (const char *)ring_record_at(r, message->end);
        uint64_t bytes = ring_prefetch_bytes(r, message->end, message->length);
        for (uint64_t at = 0; at < bytes; at += 64) {
            __builtin_prefetch(record + at);
        }
    }
}

/* Advances head past `items` messages of the record. The release pairs with ring_measure_space:
   senders may overwrite the record. */
static inline void
ring_advance_head(ring *r, const ring_message *message, uint64_t items)
{
    bool all = message->index + items == message->items;
    uint64_t position = all ? message->end : position_of(message->head);
    RING_POINT(before_head);
    store_release(&r->shared->head, word_of(position, count_of(message->head) + items));
    RING_POINT(after_head);
}

/* Counts messages that were received, for people. */
static inline void
ring_count_received(ring *r, uint64_t items)
{
    channel_peer *peer = &r->peers[r->index];
    store_relaxed(&peer->received, load_relaxed(&peer->received) + items);
}

/* Takes `items` messages of the record, starting with this one. The caller has copied their bytes. A
   message in a block must be held instead. */
static inline void
ring_take(ring *r, const ring_message *message, uint64_t items)
{
    if (r->on_take != NULL) {
        r->on_take(r->on_take_data, message->data, message->length);
    }
    ring_advance_head(r, message, items);
    ring_count_received(r, items);
}

/* Takes a message in a block, which this peer then holds: BLOCK_READ until ring_release_block, or
   BLOCK_TAKEN until ring_acknowledge or ring_requeue. A receiver that dies before it advances head has
   not taken the message (ring_repair_next). Returns RING_OK or RING_CORRUPT. */
static inline ring_result
ring_hold(ring *r, const ring_message *message, block_kind kind)
{
    uint64_t held = block_word(kind, block_span(message->word), r->owner);
    if (kind == BLOCK_TAKEN) { /* first: if it dies in between, others must find it (ring_taker_is_dead) */
        ring_count_taken(r, r->owner, 1);
    }
    if (!block_change(r, message->block, message->word, held)) {
        return RING_CORRUPT;
    }
    RING_POINT(held);
    if (!message->returned) {
        ring_advance_head(r, message, 1);
    }
    ring_count_received(r, 1);
    return RING_OK;
}

/* Drops a message. `head` passes its record before its block is free: a receiver that dies in between
   leaves a block that no record refers to. */
static inline void
ring_drop(ring *r, const ring_message *message)
{
    if (!message->returned) {
        ring_advance_head(r, message, 1);
    }
    RING_POINT(dropped);
    if (message->block != NO_BLOCK) {
        block_free(r, message->block, message->word);
    }
}

/* -- acknowledged ------------------------------------------------------------------------------ */

/* Moves a message from the ring to a block of its own, which this peer holds as BLOCK_LENT. Changes
   the message accordingly; its record stays. Returns RING_OK, or RING_FULL if there is no block or
   another peer keeps pool_lock. */
static inline ring_result
ring_move_to_block(ring *r, ring_message *message)
{
    channel_lock *lock = &r->shared->pool_lock;
    ring_result result = ring_lock(r, lock, 0);
    if (result != RING_OK) {
        return result == RING_BUSY ? RING_FULL : result;
    }
    uint32_t block = blocks_allocate(r, message->length, r->granules);
    ring_unlock(r, lock);
    if (block == NO_BLOCK) {
        return RING_FULL;
    }
    copy_shared(block_data(r, block), message->data, message->length);
    message->block = block;
    message->word = block_load(r, block);
    message->data = block_data(r, block);
    return RING_OK;
}

/* Takes a message that this peer will acknowledge. Returns RING_OK, RING_FULL as ring_move_to_block,
   or RING_CORRUPT. */
static inline ring_result
ring_take_delivery(ring *r, ring_message *message)
{
    if (message->returned) {
        return ring_hold(r, message, BLOCK_TAKEN);
    }
    if (message->block == NO_BLOCK) {
        ring_result result = ring_move_to_block(r, message);
        if (result != RING_OK) {
            return result;
        }
    }
    uint64_t number = load_relaxed(&r->shared->takes);
    channel_delivery *delivery = &r->deliveries[message->block];
    store_relaxed(&delivery->length, message->length);
    store_relaxed(&delivery->number, number);
    store_relaxed(&delivery->redelivered, 0);
    store_relaxed(&delivery->head, message->head);
    store_relaxed(&r->shared->takes, number + 1);
    return ring_hold(r, message, BLOCK_TAKEN);
}

/* Declared in ring/lock.h. If the next record refers to a block that is held, its receiver died before
   head passed the record. If the receiver had moved the message to a block, the message is still in
   the ring too, and the block goes. The block's holder may be another than the last holder of the lock:
   a peer that took the lock over may have died before this repair. */
static inline void
ring_repair_next(ring *r)
{
    uint64_t head = load_relaxed(&r->shared->head), tail = load_acquire(&r->shared->tail);
    uint64_t position = position_of(head), number = load_relaxed(&r->shared->takes) - 1;
    record_info info;
    if (position != position_of(tail) && ring_position_is_valid(r, position)
        && ring_read_record(r, position, r->units, &info) && info.kind == RECORD_BLOCK
        && info.first < r->granules) {
        uint64_t word = block_load(r, info.first);
        if (block_kind_of(word) == BLOCK_READ || block_kind_of(word) == BLOCK_TAKEN) {
            block_store(r, info.first, block_word(BLOCK_QUEUED, block_span(word), position));
        }
        return;
    }
    for (uint64_t at = 0; at < r->granules;) {
        uint64_t word = block_load(r, (uint32_t)at);
        if (block_kind_of(word) == BLOCK_TAKEN
            && load_relaxed(&r->deliveries[at].number) == number
            && load_relaxed(&r->deliveries[at].head) == head) {
            block_free(r, (uint32_t)at, word);
        }
        at += block_step(r, at, word);
    }
}

#endif
