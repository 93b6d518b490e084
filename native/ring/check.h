/* Checking whether the peers are alive.

   A check costs a system call for each peer, so sleepers share the work. Each wakes after a pause. If
   another peer has checked within PEER_CHECK_NS, this one sleeps again, twice as long, up to
   PAUSE_MAX_NS. Otherwise it checks, and its next pause is PEER_CHECK_NS. So one sleeper checks and the
   others rarely wake. If that one leaves, the next to wake takes over. A sleeper that finds a dead peer
   wakes all others. No Python.h here. */
#ifndef IPCKIT_RING_CHECK_H
#define IPCKIT_RING_CHECK_H

#include "ring/blocks.h"
#include "ring/lock.h"

#define PAUSE_MAX_NS (4 * PEER_CHECK_NS)
#define OWN_CHECK_NS (250 * PEER_CHECK_NS) /* each sleeper checks for itself this often */

/* Tells whether another peer has checked recently. Clocks differ between time namespaces; then
   the answer is no. */
static inline bool
ring_checked_recently(const ring *r, int64_t now)
{
    uint64_t at = load_relaxed(&r->shared->checked_at);
    return (uint64_t)now - at < (uint64_t)PEER_CHECK_NS;
}

/* Tells whether another peer has taken a message that it may return, or has returned one. */
static inline bool
ring_others_have_taken(const ring *r)
{
    for (uint64_t at = 0; at < r->granules;) {
        uint64_t word = block_load(r, (uint32_t)at);
        block_kind kind = block_kind_of(word);
        if ((kind == BLOCK_TAKEN && block_holder(word) != r->owner) || kind == BLOCK_RETURNED) {
            return true;
        }
        at += block_step(r, at, word);
    }
    return false;
}

/* Returns the state of the side that has the role. A receiver may also get a message from another
   receiver that has taken one. */
static inline side_state
ring_other_side(ring *r, uint32_t role)
{
    side_state state = ring_side_state(r, role);
    return state == SIDE_GONE && role == ROLE_SENDER && ring_others_have_taken(r) ? SIDE_PRESENT : state;
}

/* Checks the peers and stores the time. Returns as ring_other_side. */
static inline side_state
ring_check_peers(ring *r, uint32_t role, int64_t now)
{
    store_relaxed(&r->shared->checked_at, (uint64_t)now);
    return ring_other_side(r, role);
}

/* Returns the next, longer pause. It differs between sleepers that started together. */
static inline int64_t
ring_longer_pause(int64_t pause, int64_t now)
{
    pause = 2 * pause < PAUSE_MAX_NS ? 2 * pause : PAUSE_MAX_NS;
    return pause - now % (pause / 4);
}

/* Lets a peer that never waits notice a dead one, but not at each call. */
static inline void
ring_check_peers_sometimes(ring *r)
{
    int64_t now = monotonic_ns();
    if (!ring_checked_recently(r, now)) {
        ring_check_peers(r, 0, now);
    }
}

#endif
