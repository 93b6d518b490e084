/* A channel's ring as one process has it open: positions, records, peers and locks.

   There are three locks: send_lock, receive_lock, and pool_lock to allocate a block. So a sender and
   a receiver wait for each other only if both allocate a block, or if the sender drops messages. A
   process that needs several locks takes them in this order. The holder of a lock makes its changes
   in an order in which every prefix is a valid ring: first the bytes, then the one word that publishes
   them. So a peer that finds a dead holder takes the lock over and repairs no more than one word.
   Everything read from the memory is checked before it is used. No Python.h here.

   Which store pairs with which load:

   `tail` is released by ring_publish_tail and acquired by ring_peek; it publishes the records
   before it.

   `head` is released by ring_advance_head and ring_skip_padding and acquired by
   ring_measure_space; it publishes that the records before it may be overwritten.

   The word of a block is acquired wherever it is read. Releasing stores publish what was written to
   the block, or that it is free (ring/blocks.h).

   A lock's `owner` is acquired by a compare-and-swap (ring/lock.h) and released by ring_unlock.

   `joined`, `generation` and `roles` of a peer are released by ring_join and ring_add_role and
   acquired by ring_find_role and ring_owner_is_dead.

   Relaxed are words that only the holder of one lock uses, because the lock orders them (`senders_tail`,
   `cached_head`, `cached_tail`, `next_granule`, `takes`, a topic's `limit` and `floor`); what the word of a
   block publishes (channel_delivery); what is only compared with an older value (ring/snapshot.h); the flags
   of a futex word, after a barrier (ring/peers.h); hints, for which a peer looks again under a lock or at the
   next check (`recovery_wanted`, `peers_high`); and what is for people. docs/verification.md says how that
   is checked. */
#ifndef IPCKIT_RING_H
#define IPCKIT_RING_H

#include "ring/topic_layout.h"
#include "ring/machine.h"
#include "ring/seqlock.h"

#include <stdbool.h>
#include <string.h>

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
    RING_LIMIT,    /* a topic has the maximum number of subscribers */
    RING_OVERTAKEN, /* publishers dropped the message while a subscriber read it */
} ring_result; /* exported to Python by channel/constants.c */

typedef struct {
    channel_header *shared;
    channel_peer *peers;
    char *arena;
    uint64_t *words; /* of the blocks: one for each granule */
    channel_delivery *deliveries;
    char *pool;
    uint64_t units;
    uint64_t granule; /* bytes */
    uint64_t granules;
    uint64_t capacity;
    uint64_t item_size;
    uint64_t longest; /* maximum bytes of one message */
    bool overwrite;
    /* Of a topic (ring/topic_layout.h); otherwise 0 and NULL. */
    uint64_t slots;    /* messages that the table of entries can have */
    uint64_t history;  /* messages to keep for new subscribers */
    topic_entry *entries;
    uint64_t *readers; /* of the blocks: one word for each granule */
    topic_subscriber *subscribers;
    topic_subscriber *subscriber; /* this one, or NULL */
    int processors;    /* on which this process may run */
    uint64_t seen;     /* `tail` as this subscriber last read it; stored under its lock */
    uint8_t id[16];
    uint64_t file_size; /* bytes of the file when it was opened */
    int fd;           /* the file, with this peer's OFD lock */
    uint32_t index;   /* this peer's place in the table */
    uint32_t owner;   /* this peer's name in locks and blocks */
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
    return file_has_bytes(r->fd, r->file_size);
}

/* Tells whether the memory is a topic's, not a channel's. */
static inline bool
ring_is_topic(const ring *r)
{
    return r->slots != 0;
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
    uint32_t first;
    uint64_t units;
    uint64_t length; /* bytes of payload */
    uint64_t items;
} record_info;

/* Copies and checks a record's header. Returns false unless the record lies in one piece within
   the next `limit` units. Relaxed: `tail` publishes the record. */
static inline bool
ring_read_record(const ring *r, uint64_t position, uint64_t limit, record_info *info)
{
    const channel_record *record = ring_record_at(r, position);
    uint64_t shape = load_relaxed(&record->shape);
    info->kind = (record_kind)load_relaxed(&record->kind);
    info->first = load_relaxed(&record->first);
    info->length = shape & LENGTH_MAX;
    info->items = shape >> LENGTH_BITS;
    switch (info->kind) {
    case RECORD_PAD:
        info->units = shape;
        break;
    case RECORD_DATA:
        info->units = units_for(info->length);
        if (info->items == 0 || (info->items > 1 && info->length % info->items != 0)) {
            return false;
        }
        break;
    case RECORD_BLOCK:
        info->units = 1;
        break;
    default:
        return false;
    }
    return info->units != 0 && info->units <= limit
        && info->units <= r->units - ring_arena_index(r, position);
}

/* Writes a record's header. The caller holds send_lock, and publishes the record with `tail`. */
static inline void
ring_write_record(const ring *r, uint64_t position, record_kind kind, uint64_t first, uint64_t shape)
{
    channel_record *record = ring_record_at(r, position);
    store_relaxed(&record->kind, (uint32_t)kind);
    store_relaxed(&record->first, (uint32_t)first);
    store_relaxed(&record->shape, shape);
}

static inline char *
ring_payload(const ring *r, uint64_t position)
{
    return (char *)(ring_record_at(r, position) + 1);
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

#endif
