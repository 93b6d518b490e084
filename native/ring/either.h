/* The operations of a channel or a topic: one name for both. No Python.h here. */
#ifndef IPCKIT_RING_EITHER_H
#define IPCKIT_RING_EITHER_H

#include "ring/wait.h"

/* The lock that receivers, or the threads of a subscriber, need. */
static inline channel_lock *
either_receive_lock(ring *r)
{
    return ring_is_topic(r) ? &r->subscriber->lock : &r->shared->receive_lock;
}

/* The lock that ring_lend and topic_lend need. */
static inline channel_lock *
either_lend_lock(ring *r)
{
    return ring_is_topic(r) ? &r->shared->send_lock : &r->shared->pool_lock;
}

static inline ring_result
either_send(ring *r, const char *data, uint64_t length)
{
    return ring_is_topic(r) ? topic_send(r, data, length) : ring_send(r, data, length);
}

static inline ring_result
either_send_batch(ring *r, const char *data, uint64_t item, uint64_t *items)
{
    return ring_is_topic(r) ? topic_send_batch(r, data, item, items)
                            : ring_send_batch(r, data, item, items);
}

static inline ring_result
either_lend(ring *r, uint64_t length, uint32_t *block)
{
    return ring_is_topic(r) ? topic_lend(r, length, block) : ring_lend(r, length, block);
}

static inline ring_result
either_send_block(ring *r, uint32_t block, uint64_t length, uint32_t owner)
{
    return ring_is_topic(r) ? topic_send_block(r, block, length, owner)
                            : ring_send_block(r, block, length, owner);
}

static inline bool
either_looks_empty(const ring *r)
{
    return ring_is_topic(r) ? topic_looks_empty(r) : ring_looks_empty(r);
}

static inline ring_result
either_peek(ring *r, ring_message *message)
{
    return ring_is_topic(r) ? topic_peek(r, message) : ring_peek(r, message);
}

static inline bool
either_peek_small(ring *r, ring_message *message, char *copy)
{
    return ring_is_topic(r) ? topic_peek_small(r, message, copy) : ring_peek_small(r, message, copy);
}

/* Copies bytes of a message that was found and not taken. */
static inline void
either_copy(const ring *r, char *to, const char *from, uint64_t length)
{
    if (ring_is_topic(r)) {
        topic_copy_out(to, from, length);
    } else {
        copy_shared(to, from, length);
    }
}

/* Takes `items` messages that were copied; one of a topic. Returns RING_OK, or RING_OVERTAKEN if the copy
   is to be rejected. */
static inline ring_result
either_take(ring *r, const ring_message *message, uint64_t items)
{
    if (ring_is_topic(r)) {
        return topic_take(r, message);
    }
    ring_take(r, message, items);
    return RING_OK;
}

/* Takes a message in a block to read it in place, until either_end_read. Returns RING_OK, RING_OVERTAKEN
   or RING_CORRUPT. */
static inline ring_result
either_begin_read(ring *r, const ring_message *message)
{
    return ring_is_topic(r) ? topic_hold(r, message) : ring_hold(r, message, BLOCK_READ);
}

/* Ends the reading in a block. `owner` is the peer that began it. */
static inline ring_result
either_end_read(ring *r, uint32_t block, uint32_t owner)
{
    return ring_is_topic(r) ? topic_release_block(r, block, topic_own_bit(r))
                            : ring_release_block(r, block, BLOCK_READ, owner);
}

#endif
