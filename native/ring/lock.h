/* Waiting for a ring's locks, and for the other side. No Python.h here. */
#ifndef IPCKIT_RING_LOCK_H
#define IPCKIT_RING_LOCK_H

#include "ring/ring.h"

/* A process that is killed tells no other, so the peers are checked once in such a time, by one of
   those that sleep. Tests have it shorter. */
#ifndef PEER_CHECK_NS
#define PEER_CHECK_NS (INT64_C(40) * NS_PER_MS)
#endif

/* A lock is held for microseconds, by a holder that runs. A call that must not wait gives a holder
   that lost its processor such a time to run again. Beyond it the call gives up: the holder may be
   stopped (SIGSTOP, a debugger, a frozen cgroup), for as long as its user likes. */
#ifndef LOCK_GRACE_NS
#define LOCK_GRACE_NS (INT64_C(10) * NS_PER_MS)
#endif

static inline int64_t
earlier(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

/* -- sleeping until somebody has done something ------------------------------------------------- */

/* Says that somebody sleeps on the word, and gives what it is to be while one sleeps. What is
   waited for must be looked at once more between this and ring_sleep. */
static inline uint32_t
ring_prepare_sleep(const ring *r, uint32_t *word, uint32_t flag)
{
    uint32_t found = __atomic_load_n(word, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(word, &found, found | flag, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED)) {
    }
    ring_heavy_barrier(r, word);
    return found | flag;
}

#define WAKE_TRIES 16 /* others may change the word meanwhile, but no scribbler for ever */

/* Wakes one who sleeps on the word. A flag that nobody stands behind is taken away, in a way that
   who is just about to sleep notices; who fell asleep in between is woken with all others. */
static inline void
ring_wake_one(uint32_t *word)
{
    uint32_t found = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    for (int tries = 0; tries < WAKE_TRIES; tries++) {
        if (!(found & WORD_SLEEPERS) || futex_wake(word, 1) > 0) {
            return;
        }
        uint32_t cleared = (found & ~WORD_SLEEPERS) + WORD_STEP;
        if (__atomic_compare_exchange_n(word, &found, cleared, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            futex_wake(word, INT_MAX);
            return;
        }
    }
}

static inline void
ring_wake_all(uint32_t *word)
{
    __atomic_fetch_add(word, WORD_STEP, __ATOMIC_SEQ_CST);
    futex_wake(word, INT_MAX);
}

/* -- locks ------------------------------------------------------------------------------------- */

#ifndef LOCK_SPINS
#define LOCK_SPINS 100
#endif

/* Takes a lock within a microsecond or so, or not. */
static inline bool
ring_try_lock(const ring *r, channel_lock *lock)
{
    for (int spin = 0; spin < LOCK_SPINS; spin++) {
        uint32_t found = 0;
        if (__atomic_compare_exchange_n(&lock->owner, &found, r->owner, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            RING_POINT(locked);
            return true;
        }
        cpu_relax();
    }
    return false;
}

/* Does the chores of a lock that is free (ring/poll.h). */
static inline void ring_run_deferred(ring *r, channel_lock *lock);

/* Gives a lock up. What was done under it comes before any look at who sleeps, here and by
   ring_notify afterwards; whoever is about to sleep says so first and then looks once more. */
static inline void
ring_unlock(ring *r, channel_lock *lock)
{
    RING_POINT(unlocking);
    __atomic_store_n(&lock->owner, 0, __ATOMIC_RELEASE);
    ring_light_barrier(r, &lock->word);
    if (__atomic_load_n(&lock->word, __ATOMIC_SEQ_CST) & (WORD_DEFERRED | WORD_SLEEPERS)) {
        ring_run_deferred(r, lock);
        ring_wake_one(&lock->word);
    }
}

/* Leaves something to do to the peer that has the lock: it looks when it gives the lock up. Either
   it sees the flag then, or this sees that the lock is free, since ring_prepare_sleep has a barrier. */
static inline void
ring_defer_to_holder(ring *r, channel_lock *lock)
{
    ring_prepare_sleep(r, &lock->word, WORD_DEFERRED);
    if (__atomic_load_n(&lock->owner, __ATOMIC_SEQ_CST) == 0) {
        ring_run_deferred(r, lock);
    }
}

/* One try to take the lock from a holder that is dead, given whom it was found to be. */
static inline ring_result
ring_recover_lock(ring *r, channel_lock *lock, uint32_t found)
{
    bool valid;
    if (!ring_owner_is_dead(r, found, &valid)) {
        return valid ? RING_BUSY : RING_CORRUPT;
    }
    if (!__atomic_compare_exchange_n(&lock->owner, &found, r->owner, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED)) {
        return RING_BUSY;
    }
    RING_POINT(taken_over);
    if (lock == &r->shared->send_lock) {
        store_word(&r->shared->senders_tail, load_word(&r->shared->tail));
    }
    __atomic_store_n(&r->shared->recovery_wanted, 1, __ATOMIC_RELEASE);
    return RING_OK;
}

/* Takes a lock, sleeping until a deadline; with a deadline of 0 for LOCK_GRACE_NS at most. RING_OK,
   RING_BUSY when another peer still has it then, RING_CORRUPT, or, with a deadline, RING_INTERRUPTED by
   a signal or after PEER_CHECK_NS, so that the caller can look for signals. */
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
        if (__atomic_compare_exchange_n(&lock->owner, &found, r->owner, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            RING_POINT(locked);
            return RING_OK;
        }
        ring_result result = ring_recover_lock(r, lock, found);
        if (result != RING_BUSY) {
            return result;
        }
        int64_t now = monotonic_ns();
        if (now >= until) {
            ring_wake_one(&lock->word); /* a sleeper that was woken and goes wakes the next */
            return RING_BUSY;
        }
        int error = futex_wait(&lock->word, ticket, earlier(until, now + PEER_CHECK_NS));
        if (error == EFAULT) {
            return RING_CORRUPT; /* the file was cut short */
        }
        if (deadline != 0 && (error == EINTR || error == ETIMEDOUT)) {
            return RING_INTERRUPTED;
        }
    }
}

/* Takes both locks, in the one order. */
static inline ring_result
ring_lock_both(ring *r, int64_t deadline)
{
    ring_result result = ring_lock(r, &r->shared->send_lock, deadline);
    if (result == RING_OK) {
        result = ring_lock(r, &r->shared->receive_lock, deadline);
        if (result != RING_OK) {
            ring_unlock(r, &r->shared->send_lock);
        }
    }
    return result;
}

static inline void
ring_unlock_both(ring *r)
{
    ring_unlock(r, &r->shared->receive_lock);
    ring_unlock(r, &r->shared->send_lock);
}

/* -- who is there ------------------------------------------------------------------------------ */

typedef enum { SIDE_NEVER_CAME, SIDE_PRESENT, SIDE_GONE } side_state;

/* Whether anybody lives who has the role, or may yet take one: who opened the channel and did not
   use it yet, but for its creator. This peer counts by its role: another thread may use it.

   Strikes the peers that died, and announces that. A role of 0 does nothing else. */
static inline side_state
ring_side_state(ring *r, uint32_t role)
{
    uint32_t high = __atomic_load_n(&r->shared->peers_high, __ATOMIC_ACQUIRE);
    bool present = false, died = false;
    for (uint32_t index = 0; index <= high && index < CHANNEL_PEERS; index++) {
        channel_peer *peer = &r->peers[index];
        if (!__atomic_load_n(&peer->joined, __ATOMIC_ACQUIRE)) {
            continue;
        }
        uint32_t roles = __atomic_load_n(&peer->roles, __ATOMIC_RELAXED);
        bool idle = roles == 0 && !__atomic_load_n(&peer->creator, __ATOMIC_RELAXED);
        bool dead = false;
        if (index == r->index) {
            idle = false;
        } else if (peer_lock_is_free(r->fd, index)) {
            /* Not dead here when another thread strikes it, or a new peer takes the place. */
            died |= ring_remove_dead_peer(r, index, &dead);
        }
        present |= !dead && (idle || (roles & role) != 0);
    }
    if (died) {
        ring_wake_everyone(r);
    }
    if (present) {
        return SIDE_PRESENT;
    }
    uint32_t seen = __atomic_load_n(&r->shared->roles_seen, __ATOMIC_ACQUIRE);
    return seen & role ? SIDE_GONE : SIDE_NEVER_CAME;
}

#endif
