/* Descriptors that are readable when there are messages, or room: eventfds, and a thread that
   sleeps on the channel's memory and writes to them. Only peers of the channel can signal them.
   No Python.h here. */
#ifndef IPCKIT_RING_DESCRIPTOR_H
#define IPCKIT_RING_DESCRIPTOR_H

#include "ring/wait.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>

typedef struct {
    ring *r;
    int fd[2];             /* for POLL_ITEMS and POLL_SPACE; -1 until requested */
    bool readable[2];      /* whether it is readable; under the mutex */
    uint32_t stop;
    pthread_mutex_t mutex;
    pthread_t thread;
} ring_descriptors;

/* Makes a descriptor readable, if it exists. Takes the mutex. */
static inline void
descriptor_signal(ring_descriptors *d, uint32_t which)
{
    pthread_mutex_lock(&d->mutex);
    int fd = d->fd[which - 1];
    if (fd >= 0 && !d->readable[which - 1]) {
        d->readable[which - 1] = eventfd_write(fd, 1) == 0;
    }
    pthread_mutex_unlock(&d->mutex);
}

/* Makes a descriptor not readable. Takes the mutex. */
static inline void
descriptor_clear(ring_descriptors *d, uint32_t which)
{
    eventfd_t count;
    pthread_mutex_lock(&d->mutex);
    eventfd_read(d->fd[which - 1], &count);
    d->readable[which - 1] = false;
    pthread_mutex_unlock(&d->mutex);
}

/* The thread: signals the descriptors when a peer asks for it, and takes part in checking the
   peers. `stop` pairs with the release in descriptors_free. */
static inline void *
descriptor_thread(void *argument)
{
    ring_descriptors *d = argument;
    ring *r = d->r;
    uint32_t told[2] = {0, 0};
    int64_t pause = PEER_CHECK_NS, told_at = monotonic_ns();
    for (;;) {
        /* Before the look at `stop`: descriptors_free sets that, then steps the word. */
        uint32_t ticket = load_acquire(&r->shared->poll_futex);
        if (load_acquire(&d->stop)) {
            break;
        }
        for (uint32_t which = POLL_ITEMS; which <= POLL_SPACE; which++) {
            uint32_t count = load_acquire(poll_signals(r, which));
            if (count != told[which - 1]) {
                told[which - 1] = count;
                descriptor_signal(d, which);
            }
        }
        int64_t now = monotonic_ns();
        int error = futex_wait(&r->shared->poll_futex, ticket, now + pause);
        if (error == EFAULT || (error == ETIMEDOUT && !ring_file_is_intact(r))) {
            descriptor_signal(d, POLL_ITEMS); /* the file was truncated; the next call reports it */
            descriptor_signal(d, POLL_SPACE);
            break;
        }
        now = monotonic_ns();
        if (now - told_at >= OWN_CHECK_NS) { /* a peer that removed a dead one may have died too */
            told_at = now;
            descriptor_signal(d, POLL_ITEMS);
            descriptor_signal(d, POLL_SPACE);
        }
        if (error == ETIMEDOUT && ring_checked_recently(r, now)) {
            pause = ring_longer_pause(pause, now);
        } else if (error == ETIMEDOUT) {
            ring_check_peers(r, 0, now);
            pause = PEER_CHECK_NS;
        }
    }
    return NULL;
}

/* Starts the thread. Returns NULL with errno on failure. The ring must not move. */
static inline ring_descriptors *
descriptors_new(ring *r)
{
    ring_descriptors *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return NULL;
    }
    d->r = r;
    d->fd[0] = d->fd[1] = -1;
    pthread_mutex_init(&d->mutex, NULL);
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the interpreter's threads */
    int error = pthread_create(&d->thread, &attributes, descriptor_thread, d);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
        pthread_mutex_destroy(&d->mutex);
        free(d);
        errno = error;
        return NULL;
    }
    return d;
}

/* Closes the descriptors and frees them. In a forked child the thread does not exist, so this is
   all. */
static inline void
descriptors_discard(ring_descriptors *d)
{
    for (int i = 0; i < 2; i++) {
        if (d->fd[i] >= 0) {
            close(d->fd[i]);
        }
    }
    free(d);
}

/* Stops the thread and frees everything. */
static inline void
descriptors_free(ring_descriptors *d)
{
    store_release(&d->stop, 1);
    if (ring_file_is_intact(d->r)) {
        ring_wake_all(&d->r->shared->poll_futex);
    }
    pthread_join(d->thread, NULL);
    pthread_mutex_destroy(&d->mutex);
    descriptors_discard(d);
}

/* Returns the descriptor, which is created at the first request, or -1 with errno. For room it
   starts readable: there may be room already, and a sender that finds none clears it. */
static inline int
descriptor_get(ring_descriptors *d, uint32_t which)
{
    if (d->fd[which - 1] < 0) {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (fd < 0) {
            return -1;
        }
        pthread_mutex_lock(&d->mutex);
        d->fd[which - 1] = fd;
        pthread_mutex_unlock(&d->mutex);
        poll_arm(d->r, which);
        if (which == POLL_SPACE || ring_has_items(d->r)) {
            descriptor_signal(d, which);
        }
    }
    return d->fd[which - 1];
}

/* After a receive: makes the descriptor readable if and only if a message waits. */
static inline void
descriptor_update_items(ring_descriptors *d)
{
    if (!ring_has_items(d->r)) {
        descriptor_clear(d, POLL_ITEMS);
        poll_arm(d->r, POLL_ITEMS);
    }
    if (ring_has_items(d->r)) {
        descriptor_signal(d, POLL_ITEMS);
    }
}

/* Recovers a topic, if its lock is free, as descriptor_recover. */
static inline void
descriptor_recover_topic(ring *r)
{
    if (ring_try_lock(r, &r->shared->send_lock)) {
        topic_recover(r);
        ring_unlock(r, &r->shared->send_lock);
        ring_notify(r, POLL_SPACE);
    } else {
        ring_defer_to_holder(r, &r->shared->send_lock);
    }
}

/* Recovers from dead peers, if both locks are free. Otherwise the holder signals the descriptor when it
   releases its lock: retrying all the time would keep an event loop busy beside a stopped peer. */
static inline void
descriptor_recover(ring_descriptors *d)
{
    ring *r = d->r;
    if (ring_is_topic(r)) {
        descriptor_recover_topic(r);
        return;
    }
    channel_lock *locks[] = {&r->shared->send_lock, &r->shared->receive_lock};
    bool first = ring_try_lock(r, locks[0]);
    if (first && ring_try_lock(r, locks[1])) {
        ring_recover(r);
        ring_unlock(r, locks[1]);
        ring_unlock(r, locks[0]);
        ring_notify(r, POLL_SPACE); /* other senders, and receivers of messages that were returned */
        ring_notify(r, POLL_ITEMS);
        return;
    }
    if (first) {
        ring_unlock(r, locks[0]);
    }
    ring_defer_to_holder(r, locks[first]);
}

/* After a send that found no room. `before` is the snapshot from before the send. */
static inline void
descriptor_update_space(ring_descriptors *d, ring_snapshot before)
{
    descriptor_clear(d, POLL_SPACE);
    poll_arm(d->r, POLL_SPACE);
    if (load_relaxed(&d->r->shared->recovery_wanted)) {
        descriptor_recover(d);
    }
    ring_snapshot now = ring_take_snapshot(d->r, POLL_SPACE);
    if (now.first != before.first || now.second != before.second) {
        descriptor_signal(d, POLL_SPACE);
    }
}

/* After a call that found a lock taken: the holder of the lock signals the descriptor. */
static inline void
descriptor_update_busy(ring_descriptors *d, uint32_t which, channel_lock *lock)
{
    descriptor_clear(d, which);
    poll_arm(d->r, which);
    ring_defer_to_holder(d->r, lock);
}

#endif
