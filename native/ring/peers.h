/* The peers of a ring: joining, finding dead peers, and the barriers between them. No Python.h here. */
#ifndef IPCKIT_RING_PEERS_H
#define IPCKIT_RING_PEERS_H

#include "ring/ring.h"

/* -- peers ------------------------------------------------------------------------------------- */

/* Takes the OFD lock of a place without waiting. Returns whether it did. */
static inline bool
peer_lock(int fd, uint32_t index)
{
    return file_lock_byte(fd, PEER_LOCK_BASE + index);
}

static inline void
peer_unlock(int fd, uint32_t index)
{
    file_unlock_byte(fd, PEER_LOCK_BASE + index);
}

/* Tells whether no other file description has the lock of a place. Returns false if that cannot
   be known. */
static inline bool
peer_lock_is_free(int fd, uint32_t index)
{
    return file_byte_is_unlocked(fd, PEER_LOCK_BASE + index);
}

/* Tells whether an owner is dead. Sets `*valid` to false for an owner that no peer can have
   (corruption). The acquire pairs with the release of `generation` in ring_join. */
static inline bool
ring_owner_is_dead(const ring *r, uint32_t owner, bool *valid)
{
    uint32_t index = owner_index(owner);
    *valid = index < CHANNEL_PEERS;
    if (!*valid || owner == r->owner) {
        return false;
    }
    uint32_t generation = load_acquire(&r->peers[index].generation);
    if (index == r->index || owner_of(index, generation) != owner) {
        return true; /* another peer has the place, so it was free in between */
    }
    return peer_lock_is_free(r->fd, index);
}

/* Notes the roles of a peer that died without leaving in `roles_seen`. A peer without a role may
   have been about to take either. */
static inline void
ring_note_roles_of_dead_peer(ring *r, const channel_peer *peer)
{
    uint32_t roles = load_relaxed(&peer->roles);
    if (roles == 0 && !load_relaxed(&peer->creator)) {
        roles = ROLE_SENDER | ROLE_RECEIVER;
    }
    fetch_or_relaxed(&r->shared->roles_seen, roles);
}

/* Removes a peer from the table. The caller has the lock of its place, so the peer is dead.
   Returns whether it was still there; then the caller must wake everyone.

   Increments the generation first. Until then the lock makes the peer seem alive, so a recovery would
   keep its blocks. A peer that clears recovery_wanted afterwards sees the new generation
   (ring_recover), and if this process dies before it sets recovery_wanted, the peer is still there to
   be removed. */
static inline bool
ring_remove_locked_peer(ring *r, channel_peer *peer)
{
    if (!load_relaxed(&peer->joined)) { /* the lock of the place orders it */
        return false;
    }
    ring_note_roles_of_dead_peer(r, peer);
    uint32_t generation = load_relaxed(&peer->generation);
    store_release(&peer->generation, generation + 1);
    store_release(&r->shared->recovery_wanted, 1);
    RING_POINT(removing_peer);
    /* Pairs with the acquire in ring_find_role: a peer that finds the place empty sees all that the dead one
       stored. */
    return exchange_release(&peer->joined, 0) != 0;
}

/* Removes a dead peer; takes the lock of its place for that. Sets `*dead` if it got the lock, so
   that the place is empty. The threads of a process share OFD locks, so only one of them at a
   time does this. Returns whether the peer was still there. */
static inline bool
ring_remove_dead_peer(ring *r, uint32_t index, bool *dead)
{
    *dead = false;
    if (exchange_acquire(&r->removing_peer, 1)) {
        return false;
    }
    bool died = false;
    if (peer_lock(r->fd, index)) {
        *dead = true;
        died = ring_remove_locked_peer(r, &r->peers[index]);
        peer_unlock(r->fd, index);
    }
    store_release(&r->removing_peer, 0);
    return died;
}

/* -- barriers ---------------------------------------------------------------------------------- */

/* A peer that sends or takes writes its data and then reads the futex word. A peer that wants to
   sleep sets a flag in that word and then reads the data. One of the two must see the other,
   which takes a full barrier between the two steps on both sides. Sends are frequent and sleeps
   are rare, so the barrier is asymmetric: the sender's is light (for the compiler only), and the
   sleeper's is heavy: membarrier(2) executes a barrier in all running peers. If a peer cannot
   use membarrier, every peer uses full barriers. */

/* Tells whether every peer uses full barriers from the start: in a topic whose messages are all long,
   many subscribers sleep after each, and membarrier interrupts every processor. */
static inline bool
ring_has_own_barriers(const ring *r)
{
    return ring_is_topic(r) && r->item_size > INLINE_MAX;
}

/* The barrier between writing data and reading a futex word; pairs with ring_heavy_barrier. */
static inline void
ring_light_barrier(const ring *r, uint32_t *word)
{
    if (ring_has_own_barriers(r) || load_relaxed(&r->shared->full_barriers)) {
        full_barrier(word);
    } else {
        compiler_fence();
    }
}

/* The barrier between setting a flag in a futex word and reading data; pairs with ring_light_barrier. */
static inline void
ring_heavy_barrier(const ring *r, uint32_t *word)
{
    if (!ring_has_own_barriers(r) && !membarrier_all()) {
        store_relaxed(&r->shared->full_barriers, 1);
    }
    full_barrier(word);
}

/* Wakes all sleepers and signals all descriptors, because a peer left or died (ring/poll.h). */
static inline void ring_wake_everyone(ring *r);

/* Takes a place among the peers, removing a dead peer that had it. Sets r->index and r->owner.
   Returns false if no place is free. */
static inline bool
ring_join(ring *r, uint32_t pid, uint64_t token, uint64_t now, bool creator)
{
    for (uint32_t index = 0; index < CHANNEL_PEERS; index++) {
        if (!peer_lock(r->fd, index)) {
            continue;
        }
        channel_peer *peer = &r->peers[index];
        bool died = ring_remove_locked_peer(r, peer);
        uint32_t generation = load_relaxed(&peer->generation) + 1;
        store_release(&peer->generation, generation);
        store_relaxed(&peer->roles, 0);
        store_relaxed(&peer->waits, 0);
        store_relaxed(&peer->creator, creator);
        store_relaxed(&peer->pid, pid);
        store_relaxed(&peer->token, token);
        store_relaxed(&peer->since, now);
        store_relaxed(&peer->sent, 0);
        store_relaxed(&peer->received, 0);
        store_relaxed(&peer->taken, 0);
        uint32_t high = load_relaxed(&r->shared->peers_high);
        while (high < index
               && !compare_exchange(&r->shared->peers_high, &high, index, RELEASE, RELAXED)) {
        }
        RING_POINT(joining);
        store_release(&peer->joined, 1);
        r->index = index;
        r->owner = owner_of(index, generation);
        if (!membarrier_register()) {
            store_relaxed(&r->shared->full_barriers, 1); /* a sleeper stores it too */
        }
        if (died) {
            ring_wake_everyone(r);
        }
        return true;
    }
    return false;
}

/* Counts a message that a peer has taken (1), or acknowledged or returned (-1). */
static inline void
ring_count_taken(ring *r, uint32_t owner, int64_t more)
{
    fetch_add_relaxed(&r->peers[owner_index(owner)].taken, (uint64_t)more);
}

/* Tells whether another peer has died that had taken messages. One system call for each peer that has
   some. */
static inline bool
ring_taker_is_dead(const ring *r)
{
    uint32_t high = load_relaxed(&r->shared->peers_high);
    for (uint32_t index = 0; index <= high && index < CHANNEL_PEERS; index++) {
        const channel_peer *peer = &r->peers[index];
        if (index != r->index && load_relaxed(&peer->joined)
            && load_relaxed(&peer->taken) != 0
            && peer_lock_is_free(r->fd, index)) {
            return true;
        }
    }
    return false;
}

/* Notes that this peer has sent or received. Only the first call stores. */
static inline void
ring_add_role(ring *r, uint32_t role)
{
    channel_peer *peer = &r->peers[r->index];
    if (!(load_relaxed(&peer->roles) & role)) {
        if (role == ROLE_SENDER) { /* first: if it dies in between, the count is too high */
            fetch_add_relaxed(&r->shared->senders_seen, 1);
        }
        fetch_or_relaxed(&peer->roles, role);
        RING_POINT(role_taken);
        fetch_or_release(&r->shared->roles_seen, role);
    }
}

#endif
