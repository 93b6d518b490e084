/* A topic without Python, for the tests of native/ring. */
#ifndef TOPIC_HARNESS_H
#define TOPIC_HARNESS_H

#include "ring_harness.h"

static inline channel
topic_make(ring_shape shape, uint64_t history)
{
    size_t wanted = topic_bytes(shape.capacity, shape.units, shape.granules, shape.granule);
    channel made = memory_make(wanted);
    const uint8_t id[16] = {(uint8_t)getpid(), 1, 2, 3};
    ring_identity identity = {.magic = TOPIC_MAGIC, .version = TOPIC_VERSION, .history = history,
                              .fingerprint = 1, .id = id, .type = "bytes"};
    check(topic_shape_is_valid(&shape, history, made.size), "invalid shape");
    ring_format((channel_header *)made.memory, wanted, &shape, &identity);
    return made;
}

/* Lets the next message have another number than 0, at another position of the arena. */
static inline void
topic_begin_at(channel *made, uint64_t number, uint64_t position)
{
    channel_header *header = (channel_header *)made->memory;
    topic_entry *entries = (topic_entry *)(void *)(made->memory + TOPIC_START);
    header->head = header->tail = header->senders_tail = number;
    entries[(number - 1) % topic_slots(header->capacity)].position = position;
}

/* A topic of messages of any length, in blocks of several granules. */
static inline ring_shape
topic_of_any(uint64_t units, uint64_t granules, uint64_t capacity)
{
    return (ring_shape){.units = units,
                        .granules = granules,
                        .granule = 64,
                        .capacity = capacity,
                        .longest = granules * 64 > INLINE_MAX ? granules * 64 : INLINE_MAX};
}

/* A topic of messages of one length, each in a block of its own if it is long. */
static inline ring_shape
topic_of_items(uint64_t units, uint64_t granules, uint64_t capacity, uint64_t item)
{
    return shape_of_items(units, granules, capacity, item);
}

static inline void
topic_open(handle *opened, const channel *on)
{
    handle_open_either(opened, on, true);
}

/* -- operations ---------------------------------------------------------------------------------- */

static inline ring_result
op_subscribe(ring *r, ring_call *call)
{
    return topic_subscribe(r, (const topic_wishes *)(const void *)call->data);
}

static inline ring_result
subscribe(handle *by, ring_call *call)
{
    ring_add_role(&by->r, ROLE_RECEIVER);
    ring_result result;
    do {
        result = ring_run(&by->r, call);
    } while (result == RING_INTERRUPTED);
    return result;
}

static inline ring_call
subscribe_call(handle *by, const topic_wishes *wishes, int64_t deadline)
{
    ring_call call = call_of(by, op_subscribe, deadline);
    call.lends = true; /* it has no message for others */
    call.data = (const char *)(const void *)wishes;
    return call;
}

/* -- what must be true of a topic's memory that no peer is using ---------------------------------- */

/* Checks that a granule's block is free, or has a message that is kept. */
static inline void
check_block(const ring *r, uint64_t at, uint64_t word)
{
    uint64_t head = r->shared->head, tail = r->shared->tail;
    uint64_t number = head + ((block_holder(word) - head) & BLOCK_HOLDER_MASK);
    check(r->readers[at] == 0, "a block has a reader that is gone");
    if (block_is_free(r, at, word)) {
        return;
    }
    check(block_kind_of(word) == BLOCK_QUEUED, "a block is leaked");
    check(number >= head && number < tail, "a block has a message that is not kept");
    check(topic_block_of(topic_entry_of(r, number)->shape) == at, "a message has another block");
}

/* Checks that no block is leaked, and no lock held. Nobody reads in a block, and nothing is lent. */
static inline void
check_memory(const ring *r)
{
    for (uint64_t at = 0; at < r->granules;) {
        uint64_t word = r->words[at], step = block_step(r, at, word);
        check_block(r, at, word);
        for (uint64_t inside = at + 1; inside < at + step; inside++) {
            check(r->words[inside] == BLOCK_FREE && r->readers[inside] == 0,
                  "a word inside a block");
        }
        at += step;
    }
    check(r->shared->send_lock.owner == 0, "a lock is held");
    check(r->shared->recovery_wanted == 0, "a recovery has no end");
    check(r->shared->tail == r->shared->senders_tail, "the tails differ");
    check(r->shared->tail - r->shared->head <= r->slots, "more messages than entries");
}

#endif
