/* Returning a view or a loan. A destructor may do it, with the interpreter held, so neither waits for
   a lock: when another peer has it, the rest is left to that peer or to the next reap. No Python.h
   here. */
#ifndef IPCKIT_RING_RETURN_H
#define IPCKIT_RING_RETURN_H

#include "ring/poll.h"
#include "ring/send.h"

/* Ends a view. The record is free at once; that hold moves on needs receive_lock. */
static inline ring_result
ring_end_view(ring *r, uint64_t at, uint32_t owner)
{
    channel_lock *lock = &r->shared->receive_lock;
    if (!ring_set_free(r, at, RECORD_VIEW, owner)) {
        return RING_CORRUPT;
    }
    RING_POINT(freed);
    ring_result result = RING_OK;
    if (ring_try_lock(r, lock)) {
        result = ring_move_hold(r);
        ring_unlock(r, lock);
    } else {
        ring_leave_chores(r, lock);
    }
    ring_notify(r, POLL_SPACE);
    return result;
}

static inline bool
ring_try_lock_both(ring *r)
{
    if (!ring_try_lock(r, &r->shared->send_lock)) {
        return false;
    }
    if (!ring_try_lock(r, &r->shared->receive_lock)) {
        ring_unlock(r, &r->shared->send_lock);
        return false;
    }
    return true;
}

/* Ends a loan that was not sent. Without the locks only the record is freed, and a reap counts the
   loans anew: a loan that was counted too often costs a unit, one too few would lose a record. */
static inline ring_result
ring_cancel_loan(ring *r, uint64_t at, uint32_t owner)
{
    ring_space space;
    bool locked = ring_try_lock_both(r);
    ring_result result = ring_set_free(r, at, RECORD_LOAN, owner) ? RING_OK : RING_CORRUPT;
    RING_POINT(freed);
    if (!locked) {
        __atomic_store_n(&r->shared->reap_wanted, 1, __ATOMIC_RELEASE);
        ring_barrier_before_look(r, &r->shared->space);
        ring_notify(r, POLL_SPACE);
        return result;
    }
    if (result == RING_OK) {
        result = ring_move_hold(r);
    }
    if (result == RING_OK && ring_look_for_space(r, true, &space) == RING_OK) {
        ring_end_loan(r, &space, space.alloc);
    }
    ring_unlock_both(r);
    ring_notify(r, POLL_SPACE);
    return result;
}

#endif
