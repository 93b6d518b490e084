/* A channel's ring as one process has it open: positions, records, peers and locks.

   Senders take turns with one lock and receivers with another, so a sender and a receiver never
   wait for each other's lock. The holder of a lock makes its changes in an order in which every
   prefix is a valid ring: first the bytes, then the one word that publishes them. A peer that
   finds a dead holder therefore takes the lock over and only repairs the copy of that word that
   the holders of the lock keep for themselves. Everything read from the memory is checked before
   it is used. No Python.h here.

   Which store pairs with which load:

   `tail` is released by ring_publish_tail and acquired by ring_peek; it publishes the records
   before it.

   `head` is released by ring_advance_head and ring_skip_record and acquired by
   ring_measure_space; it publishes that the records before it may be overwritten, except those
   from `low_water` on, which is released before `head` and acquired after it.

   A record's `state` is released by ring_write_record, ring_set_record_state and
   ring_try_free_record and acquired by ring_read_record.

   A lock's `owner` is acquired by a compare-and-swap (ring/lock.h) and released by ring_unlock.

   `joined`, `generation` and `roles` of a peer are released by ring_join and ring_add_role and
   acquired by ring_side_state and ring_owner_is_dead. */
#ifndef IPCKIT_RING_H
#define IPCKIT_RING_H

#include "ring/channel_layout.h"
#include "ring/futex.h"
#include "ring/seqlock.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

/* Where a fault build kills the process (tests/ring). */
#ifndef RING_POINT
#define RING_POINT(name)
#endif

typedef enum {
    RING_OK,
    RING_EMPTY,
    RING_FULL,
    RING_BUSY, /* another peer has the lock */
    RING_TOO_LONG,
    RING_CORRUPT,
    RING_TIMEOUT,
    RING_INTERRUPTED,
    RING_GONE,
    RING_CLOSED,
    RING_NO_PLACE, /* no place among the peers, or no descriptor for one */
} ring_result; /* exported to Python by channel/constants.c */

typedef struct {
    channel_header *shared;
    channel_peer *peers;
    char *arena;
    uint64_t units;
    uint64_t capacity;
    uint64_t item_size;
    uint64_t longest; /* maximum bytes of one message */
    bool overwrite;
    uint8_t id[16];
    uint64_t file_size; /* bytes of the file when it was opened */
    int fd;           /* the file, with this peer's OFD lock */
    uint32_t index;   /* this peer's place in the table */
    uint32_t owner;   /* this peer's name in locks and records */
    uint32_t removing_peer; /* not 0: a thread of this process is removing a peer */
    /* Called with receive_lock held before a message is taken, with its bytes. May be NULL. */
    void (*on_take)(void *data, const char *message, uint64_t length);
    void *on_take_data;
} ring;

/* Tells whether the file still has all its bytes. Memory after its end raises SIGBUS. One system
   call. */
static inline bool
ring_file_is_intact(const ring *r)
{
    struct stat file;
    return fstat(r->fd, &file) == 0 && (uint64_t)file.st_size >= r->file_size;
}

static inline uint64_t
load_word(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void
store_word(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* -- positions --------------------------------------------------------------------------------- */

static inline bool
ring_position_is_valid(const ring *r, uint64_t position)
{
    return position < 2 * r->units;
}

static inline uint64_t
ring_arena_index(const ring *r, uint64_t position)
{
    return position >= r->units ? position - r->units : position;
}

static inline uint64_t
ring_advance(const ring *r, uint64_t position, uint64_t units)
{
    position += units;
    return position >= 2 * r->units ? position - 2 * r->units : position;
}

/* Returns the units from one position forward to another. */
static inline uint64_t
ring_distance(const ring *r, uint64_t from, uint64_t to)
{
    return to >= from ? to - from : to + 2 * r->units - from;
}

static inline channel_record *
ring_record_at(const ring *r, uint64_t position)
{
    return (channel_record *)(r->arena + ring_arena_index(r, position) * UNIT);
}

/* -- records ----------------------------------------------------------------------------------- */

typedef struct {
    record_kind kind;
    uint32_t owner;
    uint32_t first;
    uint64_t units;
    uint64_t length; /* bytes of payload; RECORD_REF: the position that it refers to */
    uint64_t items;
} record_info;

/* Copies and checks a record's header. Returns false unless the record lies in one piece within
   the next `limit` units. The acquire pairs with ring_write_record and ring_set_record_state. */
static inline bool
ring_read_record(const ring *r, uint64_t position, uint64_t limit, record_info *info)
{
    const channel_record *record = ring_record_at(r, position);
    uint32_t state = __atomic_load_n(&record->state, __ATOMIC_ACQUIRE);
    uint64_t shape = __atomic_load_n(&record->shape, __ATOMIC_RELAXED);
    info->kind = kind_of(state);
    info->owner = state >> 4;
    info->first = __atomic_load_n(&record->first, __ATOMIC_RELAXED);
    info->length = shape & LENGTH_MAX;
    info->items = shape >> LENGTH_BITS;
    switch (info->kind) {
    case RECORD_PAD:
        info->units = shape;
        break;
    case RECORD_REF:
        info->units = 1;
        info->length = shape;
        break;
    case RECORD_DATA:
    case RECORD_LOAN:
    case RECORD_SENT:
    case RECORD_VIEW:
    case RECORD_FREE:
    case RECORD_MARKED:
        info->units = units_for(info->length);
        if (info->items == 0 || (info->items > 1 && info->length % info->items != 0)) {
            return false;
        }
        break;
    default:
        return false;
    }
    return info->units != 0 && info->units <= limit
        && info->units <= r->units - ring_arena_index(r, position);
}

/* Writes a record's header. The release publishes it, but not the payload: `tail` does that. The caller
   holds send_lock. */
static inline void
ring_write_record(const ring *r, uint64_t position, uint32_t state, uint64_t first, uint64_t shape)
{
    channel_record *record = ring_record_at(r, position);
    __atomic_store_n(&record->first, (uint32_t)(first & COUNT_MASK), __ATOMIC_RELAXED);
    __atomic_store_n(&record->shape, shape, __ATOMIC_RELAXED);
    __atomic_store_n(&record->state, state, __ATOMIC_RELEASE);
}

/* Changes a record's kind and owner (release). The caller holds the lock that covers the record. */
static inline void
ring_set_record_state(const ring *r, uint64_t position, record_kind kind, uint32_t owner)
{
    __atomic_store_n(&ring_record_at(r, position)->state, state_of(kind, owner), __ATOMIC_RELEASE);
}

static inline char *
ring_payload(const ring *r, uint64_t position, uint64_t length)
{
    return (char *)ring_record_at(r, position) + payload_offset(length);
}

#define PREFETCH_MAX 8192

/* Returns how many bytes from a record on to prefetch, if its payload has `length` bytes. 0 for
   a long payload, because the processor prefetches that itself during the copy. */
static inline uint64_t
ring_prefetch_bytes(const ring *r, uint64_t position, uint64_t length)
{
    uint64_t left = (r->units - ring_arena_index(r, position)) * UNIT;
    uint64_t bytes = units_for(length) * UNIT;
    return length > PREFETCH_MAX ? 0 : bytes < left ? bytes : left;
}

/* Returns the longest payload that always fits into an arena that is otherwise empty, wherever
   the last record ended. */
static inline uint64_t
ring_longest(const ring *r)
{
    uint64_t bytes = (r->units - 4) / 2 * UNIT - 128;
    return bytes > LENGTH_MAX ? LENGTH_MAX : bytes;
}

/* -- peers ------------------------------------------------------------------------------------- */

/* Takes the OFD lock of a place without waiting. Returns whether it did. */
static inline bool
peer_lock(int fd, uint32_t index)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = PEER_LOCK_BASE + index, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static inline void
peer_unlock(int fd, uint32_t index)
{
    struct flock lock = {
        .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = PEER_LOCK_BASE + index, .l_len = 1};
    fcntl(fd, F_OFD_SETLK, &lock);
}

/* Tells whether no other file description has the lock of a place. Returns false if that cannot
   be known. */
static inline bool
peer_lock_is_free(int fd, uint32_t index)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = PEER_LOCK_BASE + index, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
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
    uint32_t generation = __atomic_load_n(&r->peers[index].generation, __ATOMIC_ACQUIRE);
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
    uint32_t roles = __atomic_load_n(&peer->roles, __ATOMIC_RELAXED);
    if (roles == 0 && !__atomic_load_n(&peer->creator, __ATOMIC_RELAXED)) {
        roles = ROLE_SENDER | ROLE_RECEIVER;
    }
    __atomic_fetch_or(&r->shared->roles_seen, roles, __ATOMIC_RELEASE);
}

/* Removes a peer from the table. The caller has the lock of its place, so the peer is dead.
   Returns whether it was still there; then the caller must wake everyone. */
static inline bool
ring_remove_locked_peer(ring *r, channel_peer *peer)
{
    if (!__atomic_load_n(&peer->joined, __ATOMIC_ACQUIRE)) {
        return false;
    }
    ring_note_roles_of_dead_peer(r, peer);
    __atomic_store_n(&r->shared->recovery_wanted, 1, __ATOMIC_RELEASE);
    RING_POINT(removing_peer);
    return __atomic_exchange_n(&peer->joined, 0, __ATOMIC_ACQ_REL) != 0;
}

/* Removes a dead peer; takes the lock of its place for that. Sets `*dead` if it got the lock, so
   that the place is empty. The threads of a process share OFD locks, so only one of them at a
   time does this. Returns whether the peer was still there. */
static inline bool
ring_remove_dead_peer(ring *r, uint32_t index, bool *dead)
{
    *dead = false;
    if (__atomic_exchange_n(&r->removing_peer, 1, __ATOMIC_ACQUIRE)) {
        return false;
    }
    bool died = false;
    if (peer_lock(r->fd, index)) {
        *dead = true;
        died = ring_remove_locked_peer(r, &r->peers[index]);
        peer_unlock(r->fd, index);
        if (died) { /* an earlier recovery took the peer for alive: its place was locked */
            __atomic_store_n(&r->shared->recovery_wanted, 1, __ATOMIC_RELEASE);
        }
    }
    __atomic_store_n(&r->removing_peer, 0, __ATOMIC_RELEASE);
    return died;
}

/* -- barriers ---------------------------------------------------------------------------------- */

/* A peer that sends or takes writes its data and then reads the futex word. A peer that wants to
   sleep sets a flag in that word and then reads the data. One of the two must see the other,
   which takes a full barrier between the two steps on both sides. Sends are frequent and sleeps
   are rare, so the barrier is asymmetric: the sender's is light (for the compiler only), and the
   sleeper's is heavy: membarrier(2) executes a barrier in all running peers. If a peer cannot
   use membarrier, every peer uses full barriers. */

/* The barrier between writing data and reading a futex word; pairs with ring_heavy_barrier. */
static inline void
ring_light_barrier(const ring *r, uint32_t *word)
{
    if (__atomic_load_n(&r->shared->full_barriers, __ATOMIC_RELAXED)) {
        full_barrier(word);
    } else {
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
    }
}

/* The barrier between setting a flag in a futex word and reading data; pairs with ring_light_barrier. */
static inline void
ring_heavy_barrier(const ring *r, uint32_t *word)
{
    if (!membarrier_all()) {
        __atomic_store_n(&r->shared->full_barriers, 1, __ATOMIC_SEQ_CST);
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
        uint32_t generation = __atomic_load_n(&peer->generation, __ATOMIC_RELAXED) + 1;
        __atomic_store_n(&peer->generation, generation, __ATOMIC_RELEASE);
        __atomic_store_n(&peer->roles, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&peer->creator, creator, __ATOMIC_RELAXED);
        __atomic_store_n(&peer->pid, pid, __ATOMIC_RELAXED);
        __atomic_store_n(&peer->token, token, __ATOMIC_RELAXED);
        __atomic_store_n(&peer->since, now, __ATOMIC_RELAXED);
        __atomic_store_n(&peer->sent, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&peer->received, 0, __ATOMIC_RELAXED);
        uint32_t high = __atomic_load_n(&r->shared->peers_high, __ATOMIC_RELAXED);
        while (high < index
               && !__atomic_compare_exchange_n(&r->shared->peers_high, &high, index, false,
                                               __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
        }
        RING_POINT(joining);
        __atomic_store_n(&peer->joined, 1, __ATOMIC_RELEASE);
        r->index = index;
        r->owner = owner_of(index, generation);
        if (!membarrier_register()) {
            __atomic_store_n(&r->shared->full_barriers, 1, __ATOMIC_SEQ_CST);
        }
        if (died) {
            /* Once more: until the generation changed, the lock of the place made the dead peer
               seem alive. */
            __atomic_store_n(&r->shared->recovery_wanted, 1, __ATOMIC_RELEASE);
            ring_wake_everyone(r);
        }
        return true;
    }
    return false;
}

/* Notes that this peer has sent or received. Only the first call stores. */
static inline void
ring_add_role(ring *r, uint32_t role)
{
    channel_peer *peer = &r->peers[r->index];
    if (!(__atomic_load_n(&peer->roles, __ATOMIC_RELAXED) & role)) {
        __atomic_fetch_or(&peer->roles, role, __ATOMIC_RELAXED);
        RING_POINT(role_taken);
        __atomic_fetch_or(&r->shared->roles_seen, role, __ATOMIC_RELEASE);
    }
}

#endif
