/* Waiting for a ring's locks, and for the other side. No Python.h here. */
#ifndef IPCKIT_RING_LOCK_H
#define IPCKIT_RING_LOCK_H

#include "ring.h"

/* How often who sleeps looks whether the others live. Tests have it shorter. */
#ifndef LOOK_NS
#define LOOK_NS (INT64_C(40) * NS_PER_MS)
#endif

/* A lock is held for microseconds. One that a living peer seems to hold over so many looks (10 s),
   and that nobody has opened meanwhile, was not taken by any: somebody overwrote it. (Or its holder
   was stopped; then it is right to give up too.) */
#ifndef STUCK_LOOKS
#define STUCK_LOOKS 250
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
ring_prepare(const ring *r, uint32_t *word, uint32_t flag)
{
    uint32_t found = __atomic_load_n(word, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(word, &found, found | flag, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED)) {
    }
    ring_barrier_before_sleep(r, word);
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
        if (__atomic_compare_exchange_n(&lock->owner, &found, r->me, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            RING_POINT(locked);
            return true;
        }
        cpu_relax();
    }
    return false;
}

/* Gives a lock up. What was done under it comes before any look at who sleeps, here and by
   ring_notify afterwards; whoever is about to sleep says so first and then looks once more. */
static inline void
ring_unlock(const ring *r, channel_lock *lock)
{
    RING_POINT(unlocking);
    __atomic_store_n(&lock->owner, 0, __ATOMIC_RELEASE);
    ring_barrier_before_look(r, &lock->word);
    ring_wake_one(&lock->word);
}

/* One try to take the lock from a holder that is dead, given whom it was found to be. */
static inline ring_result
ring_take_over(ring *r, channel_lock *lock, uint32_t found)
{
    bool valid;
    if (!ring_is_dead(r, found, &valid)) {
        return valid ? RING_BUSY : RING_CORRUPT;
    }
    if (!__atomic_compare_exchange_n(&lock->owner, &found, r->me, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED)) {
        return RING_BUSY;
    }
    RING_POINT(taken_over);
    if (lock == &r->shared->send_lock) {
        store_word(&r->shared->sent_tail, load_word(&r->shared->tail));
    }
    __atomic_store_n(&r->shared->reap_wanted, 1, __ATOMIC_RELEASE);
    return RING_OK;
}

/* Takes a lock, sleeping: RING_OK, RING_TIMEOUT, RING_INTERRUPTED by a signal, or RING_CORRUPT. */
static inline ring_result
ring_lock(ring *r, channel_lock *lock, int64_t deadline)
{
    if (ring_try_lock(r, lock)) {
        return RING_OK;
    }
    uint32_t same = 0;
    for (int looks = 0; looks < STUCK_LOOKS;) {
        uint32_t ticket = ring_prepare(r, &lock->word, WORD_SLEEPERS);
        uint32_t found = 0;
        if (__atomic_compare_exchange_n(&lock->owner, &found, r->me, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            RING_POINT(locked);
            return RING_OK;
        }
        ring_result result = ring_take_over(r, lock, found);
        if (result != RING_BUSY) {
            return result;
        }
        int error = futex_wait(&lock->word, ticket, earlier(deadline, monotonic_ns() + LOOK_NS));
        if (error == EINTR) {
            return RING_INTERRUPTED;
        }
        looks = error == ETIMEDOUT && found == same ? looks + 1 : 0;
        same = found;
        if (monotonic_ns() >= deadline) {
            ring_wake_one(&lock->word); /* who is woken and goes has somebody else woken */
            return RING_TIMEOUT;
        }
    }
    return RING_CORRUPT;
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

/* Until when to wait for a lock: it is held for microseconds, so a call that does not wait for
   messages waits for that all the same, but not for ever. */
static inline int64_t
lock_deadline(int64_t deadline)
{
    return deadline == 0 ? monotonic_ns() + STUCK_LOOKS * LOOK_NS : deadline;
}

/* -- who is there ------------------------------------------------------------------------------ */

typedef enum { SIDE_NEVER_CAME, SIDE_PRESENT, SIDE_GONE } side_state;

/* Whether anybody lives who has the role, or may yet take one: who opened the channel and did not
   use it yet, but for its creator. This peer counts by its role: another thread may use it.

   That somebody died is noted, since it may have left something. */
static inline side_state
ring_side(ring *r, uint32_t role)
{
    uint32_t high = __atomic_load_n(&r->shared->peers_high, __ATOMIC_ACQUIRE);
    bool present = false;
    for (uint32_t index = 0; index <= high && index < CHANNEL_PEERS; index++) {
        channel_peer *peer = &r->peers[index];
        if (!__atomic_load_n(&peer->joined, __ATOMIC_ACQUIRE)) {
            continue;
        }
        uint32_t roles = __atomic_load_n(&peer->roles, __ATOMIC_RELAXED);
        bool idle = roles == 0 && !__atomic_load_n(&peer->creator, __ATOMIC_RELAXED);
        if (index == r->index) {
            present |= (roles & role) != 0;
        } else if (!peer_lock_is_free(r->fd, index)) {
            present |= idle || (roles & role) != 0;
        } else {
            ring_remember(r, peer);
            __atomic_store_n(&r->shared->reap_wanted, 1, __ATOMIC_RELEASE);
        }
    }
    if (present) {
        return SIDE_PRESENT;
    }
    uint32_t seen = __atomic_load_n(&r->shared->roles_seen, __ATOMIC_ACQUIRE);
    return seen & role ? SIDE_GONE : SIDE_NEVER_CAME;
}

#endif
