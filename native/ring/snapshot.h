/* Whether the other side has changed something since a moment, and polling for that. No Python.h here. */
#ifndef IPCKIT_RING_SNAPSHOT_H
#define IPCKIT_RING_SNAPSHOT_H

#include "ring/topic_members.h"

typedef struct {
    uint64_t first, second;
} ring_snapshot;

static inline bool
ring_snapshots_differ(ring_snapshot one, ring_snapshot other)
{
    return one.first != other.first || one.second != other.second;
}

/* Takes a snapshot of the words that the other side changes. A peer that arms a descriptor
   (which has a barrier) and then finds the snapshot unchanged will be signalled. */
static inline ring_snapshot
ring_take_snapshot(const ring *r, uint32_t which)
{
    if (which == POLL_ITEMS) {
        return (ring_snapshot){load_relaxed(&r->shared->tail), load_relaxed(&r->shared->returned)};
    }
    if (ring_is_topic(r)) {
        return (ring_snapshot){topic_progress(r), load_acquire(&r->shared->freed)};
    }
    return (ring_snapshot){load_relaxed(&r->shared->head), load_acquire(&r->shared->freed)};
}

/* The snapshot of an empty ring: what was sent ends where what is received ends. Receivers know
   it without reading the senders' memory, which would cost time for each message. */
static inline ring_snapshot
ring_empty_snapshot(const ring *r)
{
    const uint64_t *next = ring_is_topic(r) ? &r->subscriber->cursor : &r->shared->head;
    return (ring_snapshot){load_relaxed(next), load_relaxed(&r->shared->returned)};
}

/* Tells whether a message or padding waits. Needs no lock. */
static inline bool
ring_has_items(const ring *r)
{
    uint64_t tail = load_relaxed(&r->shared->tail);
    if (ring_is_topic(r)) {
        return r->subscriber != NULL && load_relaxed(&r->subscriber->cursor) != tail;
    }
    return position_of(tail) != position_of(load_relaxed(&r->shared->head))
        || ring_may_have_returned(r);
}

/* Polls up to `looks` times. Returns whether the other side changed something. */
static inline bool
ring_spin(const ring *r, uint32_t which, ring_snapshot before, uint32_t looks)
{
    for (uint32_t look = 0; look < looks; look++) {
        ring_snapshot now = ring_take_snapshot(r, which);
        if (ring_snapshots_differ(now, before)) {
            return true;
        }
        cpu_relax();
    }
    return false;
}

#define BACKOFF_PAUSES 64
#define BACKOFF_ROUNDS_MAX 32

/* Backs off when the ring is full: the sender lets receivers make room for many messages before
   it continues, as long as they make progress. Each poll takes their cache line away, and so
   does each record written right behind them. No receiver waits for this message, because a full
   ring comes before it. */
static inline void
ring_backoff(const ring *r, uint32_t which)
{
    if (which != POLL_SPACE || r->capacity < BACKOFF_PAUSES) {
        return;
    }
    uint64_t first = ring_take_snapshot(r, POLL_SPACE).first, taken = 0;
    first = ring_is_topic(r) ? first : count_of(first);
    for (int round = 0; round < BACKOFF_ROUNDS_MAX; round++) {
        for (int pause = 0; pause < BACKOFF_PAUSES; pause++) {
            cpu_relax();
        }
        uint64_t now = ring_take_snapshot(r, POLL_SPACE).first;
        now = ((ring_is_topic(r) ? now : count_of(now)) - first) & COUNT_MASK;
        if (now == taken || now >= r->capacity / 8) {
            return;
        }
        taken = now;
    }
}

#endif
