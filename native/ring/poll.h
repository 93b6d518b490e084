/* Waking the other side, and signalling descriptors. A process that asks for a descriptor has a
   thread (ring/descriptor.h) that sleeps on `poll_futex`, which only peers can reach, and makes the
   descriptor readable. No Python.h here. */
#ifndef IPCKIT_RING_POLL_H
#define IPCKIT_RING_POLL_H

#include "ring/lock.h"
#include "ring/receive.h"

static inline uint32_t *
poll_side_futex(ring *r, uint32_t which)
{
    return which == POLL_ITEMS ? &r->shared->items : &r->shared->space;
}

static inline uint32_t *
poll_signals(ring *r, uint32_t which)
{
    return which == POLL_ITEMS ? &r->shared->items_signals : &r->shared->space_signals;
}

/* Makes every descriptor for that side readable. */
static inline void
poll_signal_all(ring *r, uint32_t which)
{
    fetch_add_seq_cst(poll_signals(r, which), 1);
    ring_wake_all(&r->shared->poll_futex);
}

/* Asks for a signal at the next change. The caller must check its condition once more afterwards. */
static inline void
poll_arm(ring *r, uint32_t which)
{
    ring_prepare_sleep(r, poll_side_futex(r, which), WORD_POLLERS);
}

/* Returns how many subscribers a publisher wakes. Each that received the message then wakes one more. More
   would take the publisher's processor away, so a machine with two has one such chain. Otherwise there are
   two, so that all are woken even if a subscriber is stopped or dies before it wakes the next. Without a
   wake they look again after a pause (ring/check.h). */
static inline int
topic_wakes(const ring *r)
{
    return r->processors > 2 ? 2 : 1;
}

/* Wakes the peers of a topic that sleep on a word. Steps the word first: a peer that checked before the
   change, and is about to sleep, would otherwise sleep behind one that has seen the change already, and
   that one wakes no other. */
static inline void
topic_wake(const ring *r, uint32_t *word, uint32_t which)
{
    fetch_add_seq_cst(word, WORD_STEP);
    ring_wake(word, which == POLL_ITEMS ? topic_wakes(r) : 1);
}

/* After a send (POLL_ITEMS) or a receive (POLL_SPACE), without locks: wakes one sleeper, and
   signals the descriptors. In a topic, a message is for all (topic_wakes). It clears the flag before it
   signals: a process that arms its descriptor in between sets the flag again, and checks again. */
static inline void
ring_notify(ring *r, uint32_t which)
{
    uint32_t *word = poll_side_futex(r, which);
    uint32_t found = load_relaxed(word);
    if ((found & WORD_SLEEPERS) && ring_is_topic(r)) {
        topic_wake(r, word, which);
    } else if (found & WORD_SLEEPERS) {
        ring_wake_one(word);
    }
    if (found & WORD_POLLERS) {
        fetch_and_seq_cst(word, ~WORD_POLLERS);
        poll_signal_all(r, which);
    }
}

/* Declared in ring/ring.h. */
static inline void
ring_wake_everyone(ring *r)
{
    ring_wake_all(&r->shared->items);
    ring_wake_all(&r->shared->space);
    poll_signal_all(r, POLL_ITEMS);
    poll_signal_all(r, POLL_SPACE);
}

/* Declared in ring/lock.h. */
static inline void
ring_run_deferred(ring *r, channel_lock *lock)
{
    if (fetch_and_seq_cst(&lock->word, ~WORD_DEFERRED) & WORD_DEFERRED) {
        RING_POINT(deferred);
        ring_notify(r, POLL_ITEMS);
        ring_notify(r, POLL_SPACE);
    }
}

#endif
