/* A channel's ring as one process has it open: its positions, its records, its peers and locks.

   Senders take turns by one lock and receivers by another, so that one of each never meet in a
   lock. What a holder changes, it changes in an order in which every prefix is a ring that works:
   bytes first, then the one word that tells the other side. So who finds a dead holder takes the
   lock over, and copies that word to where the holders keep it for themselves. Everything read from the memory is checked before it is used. No Python.h here. */
#ifndef IPCKIT_RING_H
#define IPCKIT_RING_H

#include "ring/channel_layout.h"
#include "ring/futex.h"
#include "ring/seqlock.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

/* Where a fault build kills the process. */
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
    RING_NO_PLACE, /* among the peers, or no descriptor for one */
} ring_result;

typedef struct {
    channel_header *shared;
    channel_peer *peers;
    char *arena;
    uint64_t units;
    uint64_t capacity;
    uint64_t item_size;
    uint64_t longest; /* bytes of one message */
    bool overwrite;
    uint8_t id[16];
    uint64_t file_size; /* bytes that the file had when it was opened */
    int fd;           /* of the file, with this peer's lock on it */
    uint32_t index;   /* this peer's place */
    uint32_t owner;   /* this peer in locks and records */
    uint32_t removing_peer; /* a thread of this process strikes a peer */
    /* Called with receive_lock held before a message is taken, with its bytes; or NULL. */
    void (*on_take)(void *data, const char *message, uint64_t length);
    void *on_take_data;
} ring;

/* Whether the file still has all its bytes; memory behind its end is SIGBUS. One system call. */
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

/* Units from one position on to another. */
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
    uint64_t length; /* bytes of payload; of a RECORD_REF, the position it leads to */
    uint64_t items;
} record_info;

/* A copy of a record's header, checked: it lies within the next `limit` units and in one piece. */
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

static inline void
ring_write_record(const ring *r, uint64_t position, uint32_t state, uint64_t first, uint64_t shape)
{
    channel_record *record = ring_record_at(r, position);
    __atomic_store_n(&record->first, (uint32_t)(first & COUNT_MASK), __ATOMIC_RELAXED);
    __atomic_store_n(&record->shape, shape, __ATOMIC_RELAXED);
    __atomic_store_n(&record->state, state, __ATOMIC_RELEASE);
}

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

/* How many bytes from a record on are worth bringing near before it is used, if its payload has such
   a length: none of a long one, which comes by itself while it is copied. */
static inline uint64_t
ring_prefetch_bytes(const ring *r, uint64_t position, uint64_t length)
{
    uint64_t left = (r->units - ring_arena_index(r, position)) * UNIT;
    uint64_t bytes = units_for(length) * UNIT;
    return length > PREFETCH_MAX ? 0 : bytes < left ? bytes : left;
}

/* The longest record: what fits whatever stands where in an arena that is otherwise empty. */
static inline uint64_t
ring_longest(const ring *r)
{
    uint64_t bytes = (r->units - 4) / 2 * UNIT - 128;
    return bytes > LENGTH_MAX ? LENGTH_MAX : bytes;
}

/* -- peers ------------------------------------------------------------------------------------- */

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

/* Whether nobody else has the lock of a place; false where that can't be known. */
static inline bool
peer_lock_is_free(int fd, uint32_t index)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = PEER_LOCK_BASE + index, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

/* Whether a peer is gone. What no peer can be called is not dead but corrupt: `*valid`. */
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
        return true; /* somebody else has the place, so it was free in between */
    }
    return peer_lock_is_free(r->fd, index);
}

/* A peer is gone that never left: what it did, or was about to do, is remembered. */
static inline void
ring_note_roles_of_dead_peer(ring *r, const channel_peer *peer)
{
    uint32_t roles = __atomic_load_n(&peer->roles, __ATOMIC_RELAXED);
    if (roles == 0 && !__atomic_load_n(&peer->creator, __ATOMIC_RELAXED)) {
        roles = ROLE_SENDER | ROLE_RECEIVER;
    }
    __atomic_fetch_or(&r->shared->roles_seen, roles, __ATOMIC_RELEASE);
}

/* Strikes a peer from the table if it is there; the caller has the lock of its place, so it is dead.
   Returns whether it was there: then the caller announces the death. */
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

/* The same without that lock, which it takes; `*dead`: whether it could, so that the place is empty.
   The threads of a process share the lock, so one of them at a time. */
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
        if (died) { /* a reap that came before took the peer for alive: its place was locked */
            __atomic_store_n(&r->shared->recovery_wanted, 1, __ATOMIC_RELEASE);
        }
    }
    __atomic_store_n(&r->removing_peer, 0, __ATOMIC_RELEASE);
    return died;
}

/* -- barriers ---------------------------------------------------------------------------------- */

/* Who sends or takes writes something and then looks whether anybody sleeps; who wants to sleep says
   so and then looks whether something was written. One of them must see the other, which takes a
   barrier between writing and looking on both sides. Sends are many and sleeps are few, so a sleeper
   has the kernel put one into all who run. Where the kernel does not do that, all have their own. */

static inline void
ring_light_barrier(const ring *r, uint32_t *word)
{
    if (__atomic_load_n(&r->shared->full_barriers, __ATOMIC_RELAXED)) {
        full_barrier(word);
    } else {
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
    }
}

static inline void
ring_heavy_barrier(const ring *r, uint32_t *word)
{
    if (!membarrier_all()) {
        __atomic_store_n(&r->shared->full_barriers, 1, __ATOMIC_SEQ_CST);
    }
    full_barrier(word);
}

/* Has all sleepers check the peers once more: one of those left or died (ring/poll.h). */
static inline void ring_wake_everyone(ring *r);

/* Takes a place among the peers: false where there is none left. */
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
            /* Again: until the generation was new, the place's lock let the dead seem alive. */
            __atomic_store_n(&r->shared->recovery_wanted, 1, __ATOMIC_RELEASE);
            ring_wake_everyone(r);
        }
        return true;
    }
    return false;
}

/* Notes that this peer has sent or received; cheap after the first time. */
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
