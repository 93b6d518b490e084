/* Releasing a view or a loan. A destructor may do it while it holds the interpreter, so neither
   function waits for a lock. If another peer has the lock, the rest is deferred to that peer or
   to the next recovery. No Python.h here. */
#ifndef IPCKIT_RING_RELEASE_H
#define IPCKIT_RING_RELEASE_H

#include "ring/poll.h"
#include "ring/send.h"

/* Releases a view. The record is free at once; advancing the low water mark needs receive_lock,
   and is deferred if another peer has it. Returns RING_CORRUPT if the record is not this view. */
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

/* Tries to take both locks. Returns whether it did. */
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

/* Releases a loan that was not sent. Without the locks only the record is freed, and a recovery
   counts the loans again. A loan counted too often costs one unit; one counted too seldom would
   lose a record. Returns RING_OK or RING_CORRUPT. */
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
