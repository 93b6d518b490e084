/* Returning a view or a loan. A destructor may do it, with the interpreter held, so neither waits for
   a lock: when another peer has it, the rest is left to that peer or to the next reap. No Python.h
   here. */
#ifndef IPCKIT_RING_RELEASE_H
#define IPCKIT_RING_RELEASE_H

#include "ring/poll.h"
#include "ring/send.h"

/* Ends a view. The record is free at once; that low_water moves on needs receive_lock. */
static inline ring_result
ring_release_view(ring *r, uint64_t at, uint32_t owner)
{
    channel_lock *lock = &r->shared->receive_lock;
    if (!ring_try_free_record(r, at, RECORD_VIEW, owner)) {
        return RING_CORRUPT;
    }
    RING_POINT(freed);
    ring_result result = RING_OK;
    if (ring_try_lock(r, lock)) {
        result = ring_advance_low_water(r);
        ring_unlock(r, lock);
    } else {
        ring_defer_to_holder(r, lock);
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
    ring_result result = ring_try_free_record(r, at, RECORD_LOAN, owner) ? RING_OK : RING_CORRUPT;
    RING_POINT(freed);
    if (!locked) {
        __atomic_store_n(&r->shared->recovery_wanted, 1, __ATOMIC_RELEASE);
        ring_light_barrier(r, &r->shared->space);
        ring_notify(r, POLL_SPACE);
        return result;
    }
    if (result == RING_OK) {
        result = ring_advance_low_water(r);
    }
    if (result == RING_OK && ring_measure_space(r, true, &space) == RING_OK) {
        ring_uncount_loan(r, &space, space.alloc);
    }
    ring_unlock_both(r);
    ring_notify(r, POLL_SPACE);
    return result;
}

#endif
