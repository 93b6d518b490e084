/* An operation on a ring, done when it can be: under its lock, after a spin, after a sleep. All of
   it runs without the interpreter. No Python.h here. */
#ifndef IPCKIT_RING_WAIT_H
#define IPCKIT_RING_WAIT_H

#include "ring_poll.h"
#include "ring_reap.h"

typedef struct ring_call ring_call;

/* One try, with the lock held. */
typedef ring_result (*ring_operation)(ring *r, ring_call *call);

struct ring_call {
    ring_operation operation;
    uint32_t which;       /* what it waits for: POLL_ITEMS to receive, POLL_SPACE to send */
    int64_t deadline;     /* monotonic; 0 does not wait, INT64_MAX waits for ever */
    bool lends;           /* the operation wants a unit to spare, */
    bool lent;            /* or no room, but only a place in the count */
    bool wait_for_peers;  /* also when the last peer on the other side is gone */
    const bool *closed;   /* set by another thread that closes the handle */
    uint32_t *spin;       /* looks before it sleeps; adapted */
    uint32_t spin_most;
    /* For the operation. */
    const char *data;
    uint64_t length;
    uint64_t items;
    uint64_t at;
    ring_message message;
};

static inline channel_lock *
call_lock(ring *r, const ring_call *call)
{
    return call->which == POLL_ITEMS ? &r->shared->receive_lock : &r->shared->send_lock;
}

/* Drops the oldest messages until the operation has room. */
static inline ring_result
ring_overwrite(ring *r, ring_call *call)
{
    ring_result result = ring_lock_both(r, lock_deadline(call->deadline));
    if (result != RING_OK) {
        return result == RING_TIMEOUT && call->deadline == 0 ? RING_CORRUPT : result;
    }
    result = call->operation(r, call);
    if (result == RING_FULL && (call->lent || ring_drop_makes_room(r, call->length, call->lends))) {
        /* Each drop is one message: more than there can be means that somebody adds to them. */
        for (uint64_t drops = 0; drops <= r->capacity && result == RING_FULL; drops++) {
            if (ring_drop_oldest(r) != RING_OK) {
                break;
            }
            result = call->operation(r, call);
        }
    }
    ring_unlock_both(r);
    return result;
}

/* One try. */
static inline ring_result
ring_once(ring *r, ring_call *call)
{
    channel_lock *lock = call_lock(r, call);
    ring_result result = ring_lock(r, lock, lock_deadline(call->deadline));
    if (result != RING_OK) {
        return result == RING_TIMEOUT && call->deadline == 0 ? RING_CORRUPT : result;
    }
    result = call->operation(r, call);
    ring_unlock(r, lock);
    if (result == RING_FULL && r->overwrite) {
        result = ring_overwrite(r, call);
    }
    return result;
}

/* Frees what the dead have left, where somebody died. */
static inline ring_result
ring_clear_away(ring *r, int64_t deadline)
{
    if (!__atomic_load_n(&r->shared->reap_wanted, __ATOMIC_ACQUIRE)) {
        return RING_OK;
    }
    ring_result result = ring_lock_both(r, lock_deadline(deadline));
    if (result == RING_OK) {
        result = ring_reap(r);
        ring_unlock_both(r);
        ring_notify(r, POLL_SPACE);
    }
    return result;
}

typedef struct {
    uint64_t first, second;
    uint64_t loans; /* another sender that gives a loan back makes room too */
} ring_sight;

/* What the other side changes when it does something. Who arms a descriptor, for which there is a
   barrier, and then sees nothing new here is told of what comes. */
static inline ring_sight
ring_see(const ring *r, uint32_t which)
{
    if (which == POLL_ITEMS) {
        return (ring_sight){.first = load_word(&r->shared->tail)};
    }
    return (ring_sight){load_word(&r->shared->head), load_word(&r->shared->hold),
                        load_word(&r->shared->reserve)};
}

/* What ring_see gives of a ring that was found empty: what is sent ends where what is received does.
   Receivers know that without a look at the senders' memory, which would cost each message time. */
static inline ring_sight
ring_empty_sight(const ring *r)
{
    return (ring_sight){.first = load_word(&r->shared->head)};
}

static inline bool
ring_has_items(const ring *r)
{
    uint64_t tail = load_word(&r->shared->tail);
    return position_of(tail) != position_of(load_word(&r->shared->head));
}

/* After a receive: makes the descriptor that is polled tell the truth. */
static inline void
poll_settle_items(ring *r, int fd)
{
    if (ring_has_items(r)) {
        /* It is readable, unless who sent them has yet to tell, or died before. */
        uint32_t *armed = &r->peers[r->index].armed;
        if (__atomic_fetch_and(armed, ~POLL_ITEMS, __ATOMIC_SEQ_CST) & POLL_ITEMS) {
            poll_tell(r, r->me, POLL_ITEMS);
        }
        return;
    }
    poll_drain(fd);
    poll_arm(r, POLL_ITEMS);
    if (ring_has_items(r)) {
        poll_tell(r, r->me, POLL_ITEMS);
    }
}

/* After a send that found no room; `before` is from before it looked. */
static inline void
poll_settle_space(ring *r, int fd, ring_sight before)
{
    poll_drain(fd);
    poll_arm(r, POLL_SPACE);
    ring_sight now = ring_see(r, POLL_SPACE);
    if (now.first != before.first || now.second != before.second || now.loans != before.loans) {
        poll_tell(r, r->me, POLL_SPACE);
    }
}

/* Looks so many times whether the other side did something. */
static inline bool
ring_spin(const ring *r, uint32_t which, ring_sight before, uint32_t looks)
{
    for (uint32_t look = 0; look < looks; look++) {
        ring_sight now = ring_see(r, which);
        if (now.first != before.first || now.second != before.second) {
            return true;
        }
        cpu_relax();
    }
    return false;
}

#define HOLD_STILL_PAUSES 64
#define HOLD_STILL_ROUNDS 32

/* A sender that met a full ring lets the receivers make room for many messages before it goes on, as
   long as they do: each look takes their memory away from them, and so does each record written close
   behind them. Nobody waits for that message: a ring full of others comes before it. */
static inline void
ring_hold_still(const ring *r, uint32_t which)
{
    if (which != POLL_SPACE || r->capacity < HOLD_STILL_PAUSES) {
        return;
    }
    uint64_t first = count_of(load_word(&r->shared->head)), taken = 0;
    for (int round = 0; round < HOLD_STILL_ROUNDS; round++) {
        for (int pause = 0; pause < HOLD_STILL_PAUSES; pause++) {
            cpu_relax();
        }
        uint64_t now = (count_of(load_word(&r->shared->head)) - first) & COUNT_MASK;
        if (now == taken || now >= r->capacity / 8) {
            return;
        }
        taken = now;
    }
}

#define SPIN_LEAST 32
/* Who was woken so soon would have done better to spin; waking a sleeper alone takes half of it. */
#define SHORT_SLEEP_NS (INT64_C(100) * 1000)
#define TURNS_AT_MOST 10000

/* Threads of a process share the number, and may each miss what another made of it. */
static inline void
ring_adapt(ring_call *call, bool worth_it)
{
    uint32_t before = __atomic_load_n(call->spin, __ATOMIC_RELAXED);
    uint32_t spin = worth_it ? before * 2 : before / 2;
    spin = spin > SPIN_LEAST ? spin : SPIN_LEAST;
    spin = spin < call->spin_most ? spin : call->spin_most;
    __atomic_store_n(call->spin, spin, __ATOMIC_RELAXED);
}

/* Whether nobody is left to wait for; and clears up after the dead. */
static inline ring_result
ring_look_around(ring *r, const ring_call *call)
{
    uint32_t role = call->which == POLL_ITEMS ? ROLE_SENDER : ROLE_RECEIVER;
    bool gone = ring_side(r, role) == SIDE_GONE && !call->wait_for_peers;
    ring_result result = ring_clear_away(r, call->deadline);
    return result == RING_OK && gone ? RING_GONE : result;
}

/* Who never waits notices here that a receiver died, and not each time: that takes system calls. */
static inline void
ring_glance(ring *r)
{
    int64_t now = monotonic_ns();
    if (now >= __atomic_load_n(&r->glance_at, __ATOMIC_RELAXED)) {
        __atomic_store_n(&r->glance_at, now + LOOK_NS, __ATOMIC_RELAXED);
        ring_side(r, ROLE_RECEIVER);
    }
}

/* Wakes the other side after an operation that went well. */
static inline ring_result
ring_done(ring *r, const ring_call *call, ring_result result)
{
    if (result == RING_OK) {
        ring_notify(r, call->which == POLL_ITEMS ? POLL_SPACE : POLL_ITEMS);
    }
    return result;
}

/* Who was woken wakes the next of its side where there is more to do: a batch that was sent, or a
   large message that was taken, is one reason to wake, and work for several. */
static inline void
ring_pass_on(ring *r, const ring_call *call)
{
    uint64_t head = load_word(&r->shared->head), tail = load_word(&r->shared->tail);
    uint64_t waiting = (count_of(tail) - count_of(head)) & COUNT_MASK;
    if (call->which == POLL_ITEMS ? waiting != 0 : waiting < r->capacity) {
        ring_wake_one(poll_word(r, call->which));
    }
}

/* Does the operation when it can be done. RING_TIMEOUT, RING_GONE, RING_CLOSED, RING_INTERRUPTED
   by a signal, or what the operation gives. Without a wait: RING_EMPTY or RING_FULL. */
static inline ring_result
ring_do(ring *r, ring_call *call)
{
    uint32_t *word = poll_word(r, call->which);
    bool slept = false;
    for (int turn = 0;; turn++) {
        if (turn == TURNS_AT_MOST) {
            return RING_INTERRUPTED; /* others are always quicker; signals must not wait for that */
        }
        ring_sight before = ring_see(r, call->which);
        ring_result result = ring_once(r, call);
        if (result != RING_EMPTY && result != RING_FULL) {
            if (slept) {
                ring_pass_on(r, call);
            }
            return ring_done(r, call, result);
        }
        if (call->deadline == 0) {
            if (result == RING_FULL) {
                ring_glance(r);
            }
            if (__atomic_load_n(&r->shared->reap_wanted, __ATOMIC_RELAXED)
                && ring_clear_away(r, 0) == RING_OK) {
                result = ring_once(r, call);
            }
            return ring_done(r, call, result);
        }
        uint32_t looks = __atomic_load_n(call->spin, __ATOMIC_RELAXED);
        if (looks != 0) {
            ring_hold_still(r, call->which);
            if (ring_spin(r, call->which, before, looks) && monotonic_ns() < call->deadline) {
                continue;
            }
        }
        ring_result others = ring_look_around(r, call);
        if (others != RING_OK && others != RING_GONE) {
            return others;
        }
        uint32_t ticket = ring_prepare(r, word, WORD_SLEEPERS);
        result = ring_once(r, call);
        if (result != RING_EMPTY && result != RING_FULL) {
            return ring_done(r, call, result);
        }
        if (others == RING_GONE) {
            return others;
        }
        if (__atomic_load_n(call->closed, __ATOMIC_ACQUIRE)) {
            return RING_CLOSED;
        }
        int64_t now = monotonic_ns();
        if (now >= call->deadline) {
            return RING_TIMEOUT;
        }
        int error = futex_wait(word, ticket, earlier(call->deadline, now + LOOK_NS));
        if (error == EINTR) {
            return RING_INTERRUPTED;
        }
        slept = true;
        ring_adapt(call, monotonic_ns() - now < SHORT_SLEEP_NS);
        if (__atomic_load_n(call->closed, __ATOMIC_ACQUIRE)) {
            return RING_CLOSED;
        }
        if (error == ETIMEDOUT) {
            return RING_INTERRUPTED; /* a signal may have come before it slept, or to another thread */
        }
    }
}

#endif
