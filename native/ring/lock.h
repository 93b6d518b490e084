/* The locks of a ring, sleeping and waking, and the state of the other side. No Python.h here. */
#ifndef IPCKIT_RING_LOCK_H
#define IPCKIT_RING_LOCK_H

#include "ring/peers.h"

/* A process that is killed notifies no other, so one of the sleepers checks the peers in this
   interval. Tests use a shorter one. */
#ifndef PEER_CHECK_NS
#define PEER_CHECK_NS (INT64_C(40) * NS_PER_MS)
#endif

/* A running holder keeps a lock for microseconds. A call that must not wait gives a holder that
   lost its processor this long to run again, then gives up: the holder may be stopped (SIGSTOP, a
   debugger, a frozen cgroup) for any time. */
#ifndef LOCK_GRACE_NS
#define LOCK_GRACE_NS (INT64_C(10) * NS_PER_MS)
#endif

static inline int64_t
earlier(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

/* -- sleep and wake ---------------------------------------------------------------------------- */

/* Announces a sleep: sets `flag` in the word, with a heavy barrier after it. Returns the value to
   sleep on. The caller must check its condition once more between this call and futex_wait; the
   flag pairs with the reads in ring_notify and ring_unlock. */
static inline uint32_t
ring_prepare_sleep(const ring *r, uint32_t *word, uint32_t flag)
{
    uint32_t found = load_relaxed(word);
    while (!compare_exchange(word, &found, found | flag, RELAXED, RELAXED)) {
    }
    ring_heavy_barrier(r, word);
    return found | flag;
}

#define WAKE_TRIES 16 /* a peer that corrupts the word must not keep us here */

/* Wakes up to `count` sleepers of the word. If the flag is set but nobody sleeps, clears the flag and
   steps the counter, so that a peer that is about to sleep notices (futex_wait returns EAGAIN). A peer
   that fell asleep in between is woken with all others. */
static inline void
ring_wake(uint32_t *word, int count)
{
    uint32_t found = load_relaxed(word);
    for (int tries = 0; tries < WAKE_TRIES; tries++) {
        if (!(found & WORD_SLEEPERS) || futex_wake(word, count) > 0) {
            return;
        }
        uint32_t cleared = (found & ~WORD_SLEEPERS) + WORD_STEP;
        if (compare_exchange(word, &found, cleared, RELAXED, RELAXED)) {
            futex_wake(word, INT_MAX);
            return;
        }
    }
}

static inline void
ring_wake_one(uint32_t *word)
{
    ring_wake(word, 1);
}

/* Wakes all sleepers of the word. The release pairs with the acquire in descriptor_thread, and with the
   barrier of a peer that is about to sleep: one that finds the new count sees what was stored before. */
static inline void
ring_wake_all(uint32_t *word)
{
    fetch_add_release(word, WORD_STEP);
    futex_wake(word, INT_MAX);
}

/* -- locks ------------------------------------------------------------------------------------- */

#ifndef LOCK_SPINS
#define LOCK_SPINS 100
#endif

/* Tries to take a lock for about a microsecond. Returns whether it did. The acquire pairs with the
   release in ring_unlock. */
static inline bool
ring_try_lock(const ring *r, channel_lock *lock)
{
    for (int spin = 0; spin < LOCK_SPINS; spin++) {
        uint32_t found = 0;
        if (compare_exchange(&lock->owner, &found, r->owner, ACQUIRE, RELAXED)) {
            RING_POINT(locked);
            return true;
        }
        cpu_relax();
    }
    return false;
}

/* Signals all descriptors, if a peer asked for it (ring/poll.h). */
static inline void ring_run_deferred(ring *r, channel_lock *lock);

/* Releases a lock that this peer holds, and wakes the next waiter. A light barrier orders the stores
   made under the lock before the check for sleepers, here and in the ring_notify that follows; it
   pairs with the heavy barrier in ring_prepare_sleep. */
static inline void
ring_unlock(ring *r, channel_lock *lock)
{
    RING_POINT(unlocking);
    store_release(&lock->owner, 0);
    ring_light_barrier(r, &lock->word);
    if (load_relaxed(&lock->word) & (WORD_DEFERRED | WORD_SLEEPERS)) {
        ring_run_deferred(r, lock);
        ring_wake_one(&lock->word);
    }
}

/* Asks the holder of a lock to signal all descriptors when it releases the lock. Either the holder
   sees the flag, or this function sees that the lock is free and signals: ring_prepare_sleep has
   the barrier. */
static inline void
ring_defer_to_holder(ring *r, channel_lock *lock)
{
    ring_prepare_sleep(r, &lock->word, WORD_DEFERRED);
    if (load_relaxed(&lock->owner) == 0) {
        ring_run_deferred(r, lock);
    }
}

/* Repairs the block of the next record after a receiver died before it took the message: gives it
   back to the queue (ring/receive.h). */
static inline void ring_repair_next(ring *r);

/* Takes a lock over from a dead holder. `found` is the owner that was read. Returns RING_OK with
   the lock held, RING_BUSY if the holder is alive or another peer was faster, or RING_CORRUPT.
   Asks for a recovery. Repairs what the holder may have left half done: senders_tail, if it died in
   ring_publish_tail; the block of the next record, if it died in ring_hold; next_granule, which may lie
   inside a block now, if it died in blocks_allocate. A topic's send_lock is for allocation too. */
static inline ring_result
ring_recover_lock(ring *r, channel_lock *lock, uint32_t found)
{
    bool valid;
    if (!ring_owner_is_dead(r, found, &valid)) {
        return valid ? RING_BUSY : RING_CORRUPT;
    }
    /* Relaxed: no peer has had the lock since the holder died, and the kernel reports a death after the
       last store. */
    if (!compare_exchange(&lock->owner, &found, r->owner, RELAXED, RELAXED)) {
        return RING_BUSY;
    }
    RING_POINT(taken_over);
    if (lock == &r->shared->send_lock) {
        store_relaxed(&r->shared->senders_tail, load_relaxed(&r->shared->tail));
        if (ring_is_topic(r)) {
            store_relaxed(&r->shared->next_granule, 0);
            store_relaxed(&r->shared->limit, 0); /* it is computed again */
        }
    } else if (lock == &r->shared->receive_lock) {
        ring_repair_next(r);
    } else {
        store_relaxed(&r->shared->next_granule, 0);
    }
    store_relaxed(&r->shared->recovery_wanted, 1);
    return RING_OK;
}

/* Takes a lock, sleeping until the deadline; with a deadline of 0, for LOCK_GRACE_NS at most.
   Returns RING_OK; RING_BUSY if another peer still has the lock; RING_CORRUPT; or, with a deadline,
   RING_INTERRUPTED after a signal or after PEER_CHECK_NS, so that the caller can check for signals. */
static inline ring_result
ring_lock(ring *r, channel_lock *lock, int64_t deadline)
{
    if (ring_try_lock(r, lock)) {
        return RING_OK;
    }
    int64_t until = deadline == 0 ? monotonic_ns() + LOCK_GRACE_NS : deadline;
    for (;;) {
        uint32_t ticket = ring_prepare_sleep(r, &lock->word, WORD_SLEEPERS);
        uint32_t found = 0;
        if (compare_exchange(&lock->owner, &found, r->owner, ACQUIRE, RELAXED)) {
            RING_POINT(locked);
            return RING_OK;
        }
        ring_result result = ring_recover_lock(r, lock, found);
        if (result != RING_BUSY) {
            return result;
        }
        int64_t now = monotonic_ns();
        if (now >= until) {
            ring_wake_one(&lock->word); /* it may have consumed a wake: pass it on */
            return RING_BUSY;
        }
        int error = futex_wait(&lock->word, ticket, earlier(until, now + PEER_CHECK_NS));
        if (error == EFAULT) {
            return RING_CORRUPT; /* the file was truncated */
        }
        if (deadline != 0 && (error == EINTR || error == ETIMEDOUT)) {
            return RING_INTERRUPTED;
        }
    }
}

/* Takes two locks, in this order. Returns as ring_lock; on failure neither lock is held. */
static inline ring_result
ring_lock_both(ring *r, channel_lock *first, channel_lock *second, int64_t deadline)
{
    ring_result result = ring_lock(r, first, deadline);
    if (result == RING_OK) {
        result = ring_lock(r, second, deadline);
        if (result != RING_OK) {
            ring_unlock(r, first);
        }
    }
    return result;
}

/* -- the other side ---------------------------------------------------------------------------- */

typedef enum { SIDE_NEVER_CAME, SIDE_PRESENT, SIDE_GONE } side_state;

/* Tells whether a living peer has the role or may still take it: a peer that opened the channel and
   has not used it yet, except the creator. This peer counts only by its own role, because another
   of its threads may use it. Removes the peers that died, and sets `*died` if there were any. Sets `*table`
   to a number that differs after a peer joined or took a role. */
static inline bool
ring_find_role(ring *r, uint32_t role, bool *died, uint64_t *table)
{
    uint32_t high = load_relaxed(&r->shared->peers_high);
    bool present = false;
    *table = 0;
    for (uint32_t index = 0; index <= high && index < CHANNEL_PEERS; index++) {
        channel_peer *peer = &r->peers[index];
        *table += (uint64_t)load_relaxed(&peer->generation) << 2;
        if (!load_acquire(&peer->joined)) {
            continue;
        }
        uint32_t roles = load_relaxed(&peer->roles);
        bool idle = roles == 0 && !load_relaxed(&peer->creator);
        bool dead = false;
        if (index == r->index) {
            idle = false;
        } else if (peer_lock_is_free(r->fd, index)) {
            /* `dead` stays false if another thread removes it, or a new peer takes the place. */
            *died |= ring_remove_dead_peer(r, index, &dead);
        }
        *table += roles;
        present |= !dead && (idle || (roles & role) != 0);
    }
    return present;
}

#define SEARCHES_MAX 4

/* Returns the state of the side that has the role. If peers died, wakes all sleepers. With a role of 0 it
   does nothing else.

   A peer may join in a place that the search has passed, and then another may leave. So the side is gone
   only if two searches find nobody in the same table. The acquire of `roles_seen` pairs with the release in
   ring_add_role: the next search finds the peer whose role it has. */
static inline side_state
ring_side_state(ring *r, uint32_t role)
{
    bool died = false;
    uint64_t table = 0, before = 0;
    side_state state = SIDE_PRESENT; /* also if peers come and go all the time */
    for (int search = 0; search < SEARCHES_MAX; search++, before = table) {
        if (ring_find_role(r, role, &died, &table)) {
            break;
        }
        if (!(load_acquire(&r->shared->roles_seen) & role)) {
            state = SIDE_NEVER_CAME;
            break;
        }
        if (search > 0 && table == before) {
            state = SIDE_GONE;
            break;
        }
    }
    if (died) {
        ring_wake_everyone(r);
    }
    return state;
}

#endif
