/* Subscribers that come, go and die, and the blocks that dead peers held. No Python.h here. */
#ifndef IPCKIT_RING_TOPIC_MEMBERS_H
#define IPCKIT_RING_TOPIC_MEMBERS_H

#include "ring/topic_publish.h"
#include "ring/topic_receive.h"

/* Tells whether the entry of the message that a queued block names refers to that block, and the message
   is kept. */
static inline bool
topic_is_queued(const ring *r, uint32_t block, uint64_t word)
{
    uint64_t head = load_relaxed(&r->shared->head), tail = load_relaxed(&r->shared->tail);
    uint64_t number = head + ((block_holder(word) - head) & BLOCK_HOLDER_MASK);
    return number < tail && topic_block_of(load_relaxed(&topic_entry_of(r, number)->shape)) == block;
}

/* Reclaims a block whose publisher died while it wrote, published or dropped the message. Returns RING_OK,
   or RING_CORRUPT for a word that no peer writes. */
static inline ring_result
topic_recover_block(ring *r, uint32_t block, uint64_t word)
{
    bool valid = true;
    switch (block_kind_of(word)) {
    case BLOCK_LENT:
        if (ring_owner_is_dead(r, (uint32_t)block_holder(word), &valid)) {
            block_free(r, block, word);
        }
        break;
    case BLOCK_QUEUED:
        if (!topic_is_queued(r, block, word)) {
            block_change(r, block, word, block_word(BLOCK_READ, block_span(word), 0));
        }
        break;
    case BLOCK_READ: /* free as soon as it has no readers */
        break;
    default:
        return RING_CORRUPT;
    }
    RING_POINT(sweeping);
    return valid ? RING_OK : RING_CORRUPT;
}

/* Returns the bits of the subscribers that died. Clears those of the ones that left from `members`. */
static inline uint64_t
topic_dead_members(ring *r)
{
    uint64_t dead = 0, members = load_relaxed(&r->shared->members);
    FOR_EACH_PLACE(place, members) {
        bool valid;
        uint32_t owner = load_relaxed(&r->subscribers[place].owner);
        if (owner == 0) {
            members &= ~(UINT64_C(1) << place);
        } else if (ring_owner_is_dead(r, owner, &valid) || !valid) {
            dead |= UINT64_C(1) << place;
        }
    }
    store_relaxed(&r->shared->members, members);
    return dead;
}

/* Takes all blocks back from dead subscribers, then frees their places, then clears their bits. In this
   order (release): until its place is free, a dead subscriber is found again if this process dies too. */
static inline void
topic_remove_dead_members(ring *r)
{
    uint64_t dead = topic_dead_members(r);
    if (dead == 0) {
        return;
    }
    for (uint64_t at = 0; at < r->granules; at++) {
        if (load_relaxed(&r->readers[at]) & dead) {
            fetch_and_relaxed(&r->readers[at], ~dead);
        }
    }
    RING_POINT(readers_removed);
    FOR_EACH_PLACE(place, dead) {
        store_release(&r->subscribers[place].owner, 0);
    }
    RING_POINT(members_removed);
    store_release(&r->shared->members, load_relaxed(&r->shared->members) & ~dead);
    store_relaxed(&r->shared->limit, 0); /* it is computed again */
    fetch_add_relaxed(&r->shared->freed, 1);
}

/* Reclaims what dead peers held. Requires send_lock. Clears recovery_wanted first, as ring_recover.
   Returns RING_OK or RING_CORRUPT. */
static inline ring_result
topic_recover(ring *r)
{
    exchange_acquire(&r->shared->recovery_wanted, 0);
    RING_POINT(recovering);
    ring_side_state(r, 0);
    RING_POINT(peers_checked);
    topic_remove_dead_members(r);
    for (uint64_t at = 0; at < r->granules;) {
        uint64_t word = block_load(r, (uint32_t)at);
        ring_result result =
            word == BLOCK_FREE ? RING_OK : topic_recover_block(r, (uint32_t)at, word);
        if (result != RING_OK) {
            return result;
        }
        at += block_step(r, at, word);
    }
    RING_POINT(swept);
    return RING_OK;
}

/* Runs a recovery if one is wanted, as ring_recover_if_wanted. Requires no lock. */
static inline ring_result
topic_recover_if_wanted(ring *r)
{
    channel_header *shared = r->shared;
    if (!load_relaxed(&shared->recovery_wanted)) {
        return RING_OK;
    }
    ring_result result = ring_lock(r, &shared->send_lock, 0);
    if (result == RING_BUSY) {
        return RING_OK;
    }
    if (result == RING_OK) {
        result = topic_recover(r);
        ring_unlock(r, &shared->send_lock);
        ring_notify(r, POLL_SPACE);
    }
    return result;
}

/* -- come and go ------------------------------------------------------------------------------- */

typedef struct {
    bool drops;       /* loses its oldest messages when it is full */
    uint64_t depth;   /* how many messages may be unread, 1 to the capacity */
    uint64_t history; /* how many old messages it wants */
    uint64_t since;   /* seconds since the epoch */
} topic_wishes;

/* Returns a free place among the subscribers; TOPIC_SUBSCRIBERS if there is none. */
static inline uint32_t
topic_free_place(const ring *r)
{
    uint32_t place = 0;
    while (place < TOPIC_SUBSCRIBERS
           && load_acquire(&r->subscribers[place].owner) != 0) {
        place++;
    }
    return place;
}

/* Makes this peer a subscriber. The first message that it reads is the next one, or an old one. Requires
   send_lock, so that no message comes or goes meanwhile. Returns RING_OK, RING_LIMIT or RING_CORRUPT. */
static inline ring_result
topic_subscribe(ring *r, const topic_wishes *wishes)
{
    uint64_t head, tail;
    ring_result result = topic_read_ends(r, &head, &tail);
    if (result != RING_OK) {
        return result;
    }
    uint32_t place = topic_free_place(r);
    if (place == TOPIC_SUBSCRIBERS) { /* dead ones may have places */
        topic_recover(r);
        place = topic_free_place(r);
    }
    if (place == TOPIC_SUBSCRIBERS) {
        return RING_LIMIT;
    }
    uint64_t old = wishes->history < r->history ? wishes->history : r->history;
    old = old < wishes->depth ? old : wishes->depth;
    old = old < tail - head ? old : tail - head;
    /* First: publishers must not drop these messages because of what they computed before. */
    store_relaxed(&r->shared->floor, 0);
    store_relaxed(&r->shared->limit, 0);
    topic_subscriber *own = &r->subscribers[place];
    store_relaxed(&own->drops, wishes->drops);
    store_relaxed(&own->closed, 0);
    store_relaxed(&own->depth, wishes->depth);
    store_relaxed(&own->since, wishes->since);
    store_relaxed(&own->lock.owner, 0);
    store_relaxed(&own->received, 0);
    store_relaxed(&own->first, tail - old);
    store_relaxed(&own->cursor, tail - old);
    store_relaxed(&r->shared->members, load_relaxed(&r->shared->members) | UINT64_C(1) << place);
    RING_POINT(subscribing);
    store_release(&own->owner, r->owner);
    RING_POINT(subscribed);
    r->subscriber = own;
    r->seen = tail - old;
    ring_add_role(r, ROLE_RECEIVER);
    return RING_OK;
}

/* Ends the subscription: publishers no longer wait for it. It keeps its place, and the blocks in which it
   reads, until topic_leave. */
static inline void
topic_unsubscribe(ring *r)
{
    store_release(&r->subscriber->closed, 1);
    RING_POINT(unsubscribed);
    ring_light_barrier(r, &r->shared->space);
    fetch_add_relaxed(&r->shared->freed, 1);
    ring_wake_all(&r->shared->space);
    poll_signal_all(r, POLL_SPACE);
}

/* Gives up the place. The subscriber holds no block any more. The next publisher that holds send_lock
   clears its bit in `members`. */
static inline void
topic_leave(ring *r)
{
    store_release(&r->subscriber->owner, 0);
    r->subscriber = NULL;
}

#endif
