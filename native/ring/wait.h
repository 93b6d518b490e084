/* Running an operation on a ring as soon as it is possible: under its lock, after a spin, after
   a sleep. It runs without the interpreter. No Python.h here. */
#ifndef IPCKIT_RING_WAIT_H
#define IPCKIT_RING_WAIT_H

#include "ring/check.h"
#include "ring/poll.h"
#include "ring/recover.h"
#include "ring/snapshot.h"

typedef struct ring_call ring_call;

/* One try of the operation, with its lock held. */
typedef ring_result (*ring_operation)(ring *r, ring_call *call);

struct ring_call {
    ring_operation operation;
    uint32_t which;       /* what it waits for: POLL_ITEMS to receive, POLL_SPACE to send */
    int64_t deadline;     /* monotonic ns; 0: do not wait; INT64_MAX: wait without limit */
    bool lends;           /* the operation allocates a block and needs pool_lock */
    bool wait_for_peers;  /* also when the last peer of the other side is gone */
    const bool *closed;   /* set by another thread that closes the handle */
    uint32_t *spin;       /* polls before a sleep; adapted */
    uint32_t spin_max;
    /* About the previous sleep, for the next one. */
    uint32_t ticket;
    bool timed_out;
    int64_t pause;        /* ns to sleep before the next check of the peers is due */
    int64_t checked_at;   /* monotonic; when this call checked them itself */
    /* For the operation. */
    const char *data;
    uint64_t length;
    uint64_t items;
    uint32_t block;
    ring_message message;
    channel_lock *busy;   /* the lock that another peer had, after RING_BUSY */
};

static inline channel_lock *
ring_call_lock(ring *r, const ring_call *call)
{
    if (ring_is_topic(r)) {
        return call->which == POLL_ITEMS ? &r->subscriber->lock : &r->shared->send_lock;
    }
    return call->which == POLL_ITEMS ? &r->shared->receive_lock
        : call->lends                ? &r->shared->pool_lock
                                     : &r->shared->send_lock;
}

/* Drops the oldest messages until the operation has room. Takes its lock and receive_lock. Drops
   nothing if that would make no room, because loans and views are in the way. Returns what the
   operation returns, or what ring_lock does. */
static inline ring_result
ring_overwrite(ring *r, ring_call *call)
{
    channel_lock *lock = ring_call_lock(r, call), *receive = &r->shared->receive_lock;
    channel_lock *first = call->lends ? receive : lock, *second = call->lends ? lock : receive;
    ring_result result = ring_lock(r, call->busy = first, call->deadline);
    if (result != RING_OK) {
        return result;
    }
    result = ring_lock(r, call->busy = second, call->deadline);
    if (result != RING_OK) {
        ring_unlock(r, first);
        return result;
    }
    /* Before the try: a view that ends after it would make room, and a drop would be needless. */
    bool useful = !call->lends || blocks_could_hold(r, call->length);
    result = call->operation(r, call);
    if (result == RING_FULL && useful) {
        /* Each drop is one message. More than the capacity would mean that another process adds
           messages without the lock. */
        for (uint64_t drops = 0; drops <= r->capacity + r->granules && result == RING_FULL; drops++) {
            if (ring_drop_oldest(r) != RING_OK) {
                break;
            }
            result = call->operation(r, call);
        }
    }
    ring_unlock(r, second);
    ring_unlock(r, first);
    return result;
}

/* Tries the operation once, under its lock. A send drops messages if the ring is full and overwrites. */
static inline ring_result
ring_try_once(ring *r, ring_call *call)
{
    channel_lock *lock = ring_call_lock(r, call);
    ring_result result = ring_lock(r, call->busy = lock, call->deadline);
    if (result != RING_OK) {
        return result;
    }
    result = call->operation(r, call);
    ring_unlock(r, lock);
    /* A take that finds no block drops nothing, because it would drop what it is about to take. */
    if (result == RING_FULL && r->overwrite && call->which == POLL_SPACE) {
        result = ring_overwrite(r, call);
    }
    return result;
}

#define SPIN_MIN 32
/* A sleeper that was woken this soon would have done better to spin; waking it takes half of the
   time. */
#define SHORT_SLEEP_NS (INT64_C(100) * 1000)
#define TURNS_MAX 10000

/* Reclaims what dead peers held, if a peer asked for it. */
static inline ring_result
ring_reclaim(ring *r)
{
    return ring_is_topic(r) ? topic_recover_if_wanted(r) : ring_recover_if_wanted(r);
}

/* Adapts how long to spin. Threads of a process share the number and may overwrite each other's
   update, which is harmless. */
static inline void
ring_adapt_spin(ring_call *call, bool worth_it)
{
    uint32_t before = load_relaxed(call->spin);
    uint32_t spin = worth_it ? before * 2 : before / 2;
    spin = spin > SPIN_MIN ? spin : SPIN_MIN;
    spin = spin < call->spin_max ? spin : call->spin_max;
    store_relaxed(call->spin, spin);
}

/* Tells whether a call receives from a topic. */
static inline bool
ring_is_subscriber(const ring *r, const ring_call *call)
{
    return ring_is_topic(r) && call->which == POLL_ITEMS;
}

/* Checks the peers before a sleep, if that is due, and recovers. Returns RING_GONE if no peer is
   left to wait for, RING_OK or an error. The check may be left to others only if the last sleep
   timed out and the word's count has not changed since. A subscriber, whose peers are many,
   leaves it to others also before the first sleep of a call, as long as there seems to be a publisher. */
static inline ring_result
ring_check_peers_before_sleep(ring *r, ring_call *call, uint32_t ticket)
{
    uint32_t role = call->which == POLL_ITEMS ? ROLE_SENDER : ROLE_RECEIVER;
    int64_t now = monotonic_ns();
    bool quiet = call->timed_out && ticket / WORD_STEP == call->ticket / WORD_STEP;
    bool gone = false;
    if (quiet && ring_checked_recently(r, now) && now - call->checked_at < OWN_CHECK_NS) {
        call->pause = ring_longer_pause(call->pause, now);
    } else if (ring_is_subscriber(r, call) && !call->timed_out && ring_checked_recently(r, now)
               && ring_may_have_senders(r)) {
        call->pause = PEER_CHECK_NS;
    } else {
        gone = ring_check_peers(r, role, now) == SIDE_GONE && !call->wait_for_peers;
        call->checked_at = now;
        call->pause = PEER_CHECK_NS;
    }
    call->ticket = ticket;
    ring_result result = ring_reclaim(r);
    return result == RING_OK && gone ? RING_GONE : result;
}

/* After a receive: tells senders of room. */
static inline void
ring_notify_space(ring *r)
{
    if (ring_is_topic(r)) {
        topic_notify_space(r);
    } else {
        ring_notify(r, POLL_SPACE);
    }
}

/* Wakes the other side if the operation succeeded. Returns the result. A loan has no message for receivers
   yet: waking one would only take the processor from the sender. */
static inline ring_result
ring_notify_other_side(ring *r, const ring_call *call, ring_result result)
{
    if (result == RING_OK && call->which == POLL_ITEMS) {
        ring_notify_space(r);
    } else if (result == RING_OK && !call->lends) {
        ring_notify(r, POLL_ITEMS);
    }
    return result;
}

/* Wakes the next waiter of the same side if there is more to do. A batch that was sent, or a
   large block that was freed, causes one wake and is work for several. */
static inline void
ring_wake_next(ring *r, const ring_call *call)
{
    if (ring_is_topic(r)) { /* the message is for all subscribers (topic_wakes) */
        if (call->which == POLL_SPACE || topic_others_lag(r)) {
            ring_wake_one(poll_side_futex(r, call->which));
        }
        return;
    }
    uint64_t head = load_acquire(&r->shared->head), tail = load_acquire(&r->shared->tail);
    uint64_t waiting = (count_of(tail) - count_of(head)) & COUNT_MASK;
    bool more = waiting != 0 || ring_may_have_returned(r);
    if (call->which == POLL_ITEMS ? more : waiting < r->capacity) {
        ring_wake_one(poll_side_futex(r, call->which));
    }
}

/* Returns the side whose word a call sleeps on after `result`. A take that finds a message but no block
   (RING_FULL) waits for a block. */
static inline uint32_t
ring_awaited_side(ring_result result)
{
    return result == RING_FULL ? POLL_SPACE : POLL_ITEMS;
}

/* Tells whether a receive may still succeed though the last sender is gone: a message waits for a block,
   or another receiver took one after the peers were checked. */
static inline bool
ring_is_not_over(const ring *r, const ring_call *call, ring_result result)
{
    return call->which == POLL_ITEMS && (result == RING_FULL || ring_others_have_taken(r));
}

/* Returns how often to poll before a sleep. If a topic has more subscribers than this process has
   processors, one that spins keeps another from running. So does one of as many if messages are long: it
   would spin while the publisher writes the next one. */
static inline uint32_t
ring_looks(const ring *r, const ring_call *call)
{
    int room = r->processors - (ring_has_own_barriers(r) ? 1 : 0);
    bool crowded =
        ring_is_topic(r) && __builtin_popcountll(load_relaxed(&r->shared->members)) > room;
    return crowded ? 0 : load_relaxed(call->spin);
}

/* Runs the operation as soon as it is possible. Returns what the operation returns, or
   RING_TIMEOUT, RING_GONE, RING_CLOSED, RING_INTERRUPTED (a signal may have come), or RING_BUSY
   if another peer had the lock until the deadline. With a deadline of 0: RING_EMPTY, RING_FULL
   or RING_BUSY. The caller holds no lock. */
static inline ring_result
ring_run(ring *r, ring_call *call)
{
    bool slept = false;
    ring_snapshot passed = {UINT64_MAX, UINT64_MAX}; /* what the last wake that was passed on was for */
    for (int turn = 0;; turn++) {
        if (turn == TURNS_MAX) {
            if (slept) {
                ring_wake_next(r, call); /* this call may begin anew without a message */
            }
            return RING_INTERRUPTED; /* other peers are always faster; signals must be checked */
        }
        if (load_acquire(call->closed)) {
            return RING_CLOSED;
        }
        ring_snapshot before = ring_take_snapshot(r, call->which);
        ring_snapshot room = ring_take_snapshot(r, POLL_SPACE); /* a take may wait for a block */
        ring_result result = ring_try_once(r, call);
        if (result == RING_OVERTAKEN
            && (turn < OVERTAKEN_MAX || monotonic_ns() < call->deadline)) {
            continue; /* newer messages wait */
        }
        if (result == RING_OVERTAKEN) { /* every message was dropped before it could be read */
            return call->deadline == 0 ? RING_EMPTY : RING_TIMEOUT;
        }
        if (result != RING_EMPTY && result != RING_FULL) {
            if (slept) {
                ring_wake_next(r, call);
            }
            return ring_notify_other_side(r, call, result);
        }
        if (call->deadline == 0) {
            ring_check_peers_sometimes(r);
            if (load_relaxed(&r->shared->recovery_wanted)
                && ring_reclaim(r) == RING_OK) {
                result = ring_try_once(r, call);
            }
            if (result == RING_OVERTAKEN) {
                continue;
            }
            return ring_notify_other_side(r, call, result);
        }
        uint32_t awaited = ring_awaited_side(result), *word = poll_side_futex(r, awaited);
        ring_snapshot found = awaited == POLL_SPACE ? room : before;
        if (slept && (awaited == POLL_SPACE || ring_is_topic(r)) && ring_snapshots_differ(found, passed)) {
            /* This call can't use what it was woken for, but a sleeper behind it may: it may need less
               memory, or not have seen the last change before it slept, as this one had. Each state is
               passed on once by each sleeper. */
            passed = found;
            ring_wake_one(word);
        }
        uint32_t looks = awaited == call->which ? ring_looks(r, call) : 0;
        if (looks != 0) {
            ring_backoff(r, call->which);
            if (ring_spin(r, call->which, before, looks) && monotonic_ns() < call->deadline) {
                continue;
            }
        }
        uint32_t ticket = ring_prepare_sleep(r, word, WORD_SLEEPERS);
        ring_result others = ring_check_peers_before_sleep(r, call, ticket);
        if (others != RING_OK && others != RING_GONE) {
            return others;
        }
        result = ring_try_once(r, call);
        if (result == RING_OVERTAKEN) {
            continue;
        }
        if (result != RING_EMPTY && result != RING_FULL) {
            if (slept) {
                ring_wake_next(r, call);
            }
            return ring_notify_other_side(r, call, result);
        }
        if (others == RING_GONE && !ring_is_not_over(r, call, result)) {
            return others;
        }
        if (ring_awaited_side(result) != awaited) {
            continue;
        }
        if (load_acquire(call->closed)) {
            return RING_CLOSED;
        }
        int64_t now = monotonic_ns();
        if (now >= call->deadline) {
            return RING_TIMEOUT;
        }
        int error = futex_wait(word, ticket, earlier(call->deadline, now + call->pause));
        call->timed_out = error == ETIMEDOUT;
        if (error == EINTR) {
            return RING_INTERRUPTED;
        }
        if (error == EFAULT || (call->timed_out && !ring_file_is_intact(r))) {
            return RING_CORRUPT;
        }
        slept = true;
        ring_adapt_spin(call, monotonic_ns() - now < SHORT_SLEEP_NS);
        if (load_acquire(call->closed)) {
            return RING_CLOSED;
        }
        if (call->timed_out) {
            return RING_INTERRUPTED; /* a signal may have come before the sleep, or to another thread */
        }
    }
}

#endif
