/* Ending a loan, a view or a delivery. A destructor may do so while it holds the GIL, so no function
   here takes a lock. No Python.h here. */
#ifndef IPCKIT_RING_RELEASE_H
#define IPCKIT_RING_RELEASE_H

#include "ring/poll.h"

/* Returns the word of a block that `owner` holds as `kind`, or BLOCK_FREE if `owner` does not hold it. */
static inline uint64_t
ring_held_word(const ring *r, uint32_t block, block_kind kind, uint32_t owner)
{
    uint64_t word = block < r->granules ? block_load(r, block) : BLOCK_FREE;
    return word == block_word(kind, block_span(word), owner) ? word : BLOCK_FREE;
}

/* Frees a block that `owner` holds: cancels a loan (BLOCK_LENT) or ends a view (BLOCK_READ). Returns
   RING_OK, or RING_CORRUPT if `owner` does not hold it. */
static inline ring_result
ring_release_block(ring *r, uint32_t block, block_kind kind, uint32_t owner)
{
    uint64_t word = ring_held_word(r, block, kind, owner);
    if (word == BLOCK_FREE || !block_free(r, block, word)) {
        return RING_CORRUPT;
    }
    ring_light_barrier(r, &r->shared->space);
    ring_notify(r, POLL_SPACE);
    return RING_OK;
}

/* Tells whether a peer is present that may send. Makes no system call: a dead peer that was not removed
   yet counts as present, and its removal wakes everyone. */
static inline bool
ring_may_have_senders(const ring *r)
{
    uint32_t high = load_relaxed(&r->shared->peers_high);
    for (uint32_t index = 0; index <= high && index < CHANNEL_PEERS; index++) {
        const channel_peer *peer = &r->peers[index];
        uint32_t roles = load_relaxed(&peer->roles);
        bool idle = index != r->index && roles == 0
            && !load_relaxed(&peer->creator);
        if ((idle || (roles & ROLE_SENDER)) && load_relaxed(&peer->joined)) {
            return true;
        }
    }
    return false;
}

/* Acknowledges a message that `owner` has taken. Its block becomes a view, which ends with
   ring_release_block. Without a sender, receivers may be waiting only because the message could have been
   returned, so this wakes them (ring_others_have_taken). The barrier pairs with ring_leave: either the
   last sender finds that the message is acknowledged, or this function finds that the sender left. Returns
   as ring_release_block. */
static inline ring_result
ring_acknowledge(ring *r, uint32_t block, uint32_t owner)
{
    uint64_t word = ring_held_word(r, block, BLOCK_TAKEN, owner);
    if (word == BLOCK_FREE
        || !block_change(r, block, word, block_word(BLOCK_READ, block_span(word), owner))) {
        return RING_CORRUPT;
    }
    RING_POINT(acknowledged);
    ring_count_taken(r, owner, -1);
    full_barrier(&r->peers[owner_index(owner)].roles);
    if (!ring_may_have_senders(r)) {
        ring_wake_all(&r->shared->items);
        poll_signal_all(r, POLL_ITEMS);
    }
    return RING_OK;
}

/* Returns a message to the queue and counts that. `word` is that of its block. Returns false if the word
   has changed. */
static inline bool
ring_requeue_word(ring *r, uint32_t block, uint64_t word)
{
    channel_delivery *delivery = &r->deliveries[block];
    store_relaxed(&delivery->redelivered, load_relaxed(&delivery->redelivered) + 1);
    RING_POINT(requeuing);
    if (!block_change(r, block, word, block_word(BLOCK_RETURNED, block_span(word), 0))) {
        return false;
    }
    RING_POINT(requeued);
    ring_note_returned(r);
    return true;
}

/* Returns a message that `owner` has taken, so that it is received again, before all others. If the
   process dies before ring_note_returned, ring_recover does that. Returns as ring_release_block. */
static inline ring_result
ring_requeue(ring *r, uint32_t block, uint32_t owner)
{
    uint64_t word = ring_held_word(r, block, BLOCK_TAKEN, owner);
    if (word == BLOCK_FREE || !ring_requeue_word(r, block, word)) {
        return RING_CORRUPT;
    }
    ring_count_taken(r, owner, -1);
    ring_light_barrier(r, &r->shared->items);
    ring_notify(r, POLL_ITEMS);
    ring_notify(r, POLL_SPACE); /* a take that waits for a block can take this message instead */
    return RING_OK;
}

#endif
