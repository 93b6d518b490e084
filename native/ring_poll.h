/* Telling those who wait for a channel with select, poll or epoll: each has a datagram socket of
   its own, in the abstract name space, and is sent an empty datagram. No Python.h here. */
#ifndef IPCKIT_RING_POLL_H
#define IPCKIT_RING_POLL_H

#include "ring_lock.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The name of a peer's socket: the channel's random number, the place and what it waits for. */
static inline socklen_t
poll_address(const ring *r, uint32_t owner, uint32_t which, struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    char *text = address->sun_path + 1;
    size_t room = sizeof address->sun_path - 1;
    int length = snprintf(text, room, "ipckit-channel-");
    for (size_t byte = 0; byte < sizeof r->id; byte++) {
        length += snprintf(text + length, room - (size_t)length, "%02x", r->id[byte]);
    }
    length += snprintf(text + length, room - (size_t)length, "-%x-%c", owner,
                       which == POLL_ITEMS ? 'r' : 's');
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

/* A socket that is readable once the other side has done something: a descriptor, or -1. */
static inline int
poll_open(const ring *r, uint32_t which)
{
    struct sockaddr_un address;
    socklen_t length = poll_address(r, r->me, which, &address);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, length) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static inline void
poll_tell(ring *r, uint32_t owner, uint32_t which)
{
    int fd = __atomic_load_n(&r->tell_fd, __ATOMIC_ACQUIRE);
    if (fd < 0) {
        int found = -1;
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) {
            return; /* no descriptor left; who polls also looks from time to time */
        }
        if (!__atomic_compare_exchange_n(&r->tell_fd, &found, fd, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE)) {
            close(fd);
            fd = found;
        }
    }
    struct sockaddr_un address;
    socklen_t length = poll_address(r, owner, which, &address);
    /* Where its queue is full it is readable already; where it is gone nobody waits. */
    sendto(fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address, length);
}

static inline uint32_t *
poll_word(ring *r, uint32_t which)
{
    return which == POLL_ITEMS ? &r->shared->items : &r->shared->space;
}

/* Asks to be told of the next change. What is waited for must be looked at once more afterwards. */
static inline void
poll_arm(ring *r, uint32_t which)
{
    __atomic_fetch_or(&r->peers[r->index].armed, which, __ATOMIC_SEQ_CST);
    ring_prepare(r, poll_word(r, which), WORD_POLLERS);
}

/* Tells all who asked. The flag goes first: who arms meanwhile sets it again, and looks again. */
static inline void
poll_tell_all(ring *r, uint32_t which)
{
    __atomic_fetch_and(poll_word(r, which), ~WORD_POLLERS, __ATOMIC_SEQ_CST);
    uint32_t high = __atomic_load_n(&r->shared->peers_high, __ATOMIC_ACQUIRE);
    for (uint32_t index = 0; index <= high && index < CHANNEL_PEERS; index++) {
        channel_peer *peer = &r->peers[index];
        if (!(__atomic_load_n(&peer->armed, __ATOMIC_SEQ_CST) & which)) {
            continue;
        }
        uint32_t generation = __atomic_load_n(&peer->generation, __ATOMIC_ACQUIRE);
        if (__atomic_fetch_and(&peer->armed, ~which, __ATOMIC_SEQ_CST) & which) {
            poll_tell(r, owner_of(index, generation), which);
        }
    }
}

/* After something was sent (POLL_ITEMS) or taken (POLL_SPACE): wakes who waits for it. */
static inline void
ring_notify(ring *r, uint32_t which)
{
    uint32_t *word = poll_word(r, which);
    uint32_t found = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    if (found & WORD_SLEEPERS) {
        ring_wake_one(word);
    }
    if (found & WORD_POLLERS) {
        poll_tell_all(r, which);
    }
}

/* Forgets a socket's datagrams. */
static inline void
poll_drain(int fd)
{
    char byte;
    /* Its queue is shorter; what a flood leaves makes it readable once too often. */
    for (int most = 0; most < 1024 && recv(fd, &byte, 1, MSG_DONTWAIT) >= 0; most++) {
    }
}

#endif
