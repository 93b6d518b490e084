/* The layout of a channel's shared memory. docs/layout.md describes it byte by byte. No Python.h
   here.

   A header, a table of peers, an arena of records, and a pool of blocks.

   The arena is a ring of 32-byte units. A position counts units from 0 to twice the arena's size,
   so that a full ring and an empty ring differ. One subtraction turns a position into an index in
   the arena. A record contains short messages, or refers to a block that contains a long one.

   The pool consists of granules of equal size. A block is one granule or several that follow each
   other.

   Everything in this memory is untrusted. A value is copied, then checked, then used. What never
   changes is read once, when the channel is opened. */
#ifndef IPCKIT_CHANNEL_LAYOUT_H
#define IPCKIT_CHANNEL_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define CHANNEL_MAGIC UINT64_C(0x314c4e4843504900) /* "\0IPCHNL1" in memory */
#define CHANNEL_VERSION 2
#define CHANNEL_PEERS 256
#define CHANNEL_TYPE_SIZE 384
#define CHANNEL_ARENA_START 20480

#define UNIT 32
#ifndef INLINE_MAX
#define INLINE_MAX 4096 /* a longer message is in a block */
#endif
#define POOL_ALIGN 4096 /* the pool begins at a multiple of this */

/* Flags of a channel. */
#define CHANNEL_OVERWRITE 1u

/* Roles: what a peer has done. */
#define ROLE_SENDER 1u
#define ROLE_RECEIVER 2u

/* The two sides that a call, or a descriptor, can wait for. */
#define POLL_ITEMS 1u
#define POLL_SPACE 2u

/* The bits of a futex word. From WORD_STEP on it counts the changes, so that a peer that is about
   to sleep notices one. */
#define WORD_SLEEPERS 1u /* a peer sleeps on the word */
#define WORD_POLLERS 2u /* of `items` and `space`: a descriptor waits */
#define WORD_DEFERRED 2u  /* of a lock: its holder signals all descriptors when it releases it */
#define WORD_STEP 4u

typedef struct {
    uint32_t owner; /* 0, or the owner */
    uint32_t word;  /* futex: peers that wait for the lock sleep on it */
} channel_lock;

/* If the newest message is this short, it is also stored beside the tail. A waiting receiver gets
   it with the cache line that tells it of the message. */
#define SMALL_MAX 40
#define SMALL_NONE UINT32_MAX /* not the number of any message */

typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t flags;
    uint64_t file_size;
    uint64_t fingerprint; /* of the payload's type */
    uint64_t arena_units;
    uint64_t capacity;  /* messages */
    uint64_t item_size; /* bytes of every message; 0: sizes differ */
    uint64_t created;   /* seconds since the epoch */
    uint8_t id[16];     /* random */
    uint32_t roles_seen;
    uint32_t recovery_wanted; /* a peer died, and may have held blocks */
    uint32_t peers_high;  /* the highest place that was ever used */
    uint32_t full_barriers; /* a peer can't use membarrier(2): every peer uses full barriers */
    uint64_t longest;     /* maximum bytes of a message */
    uint64_t checked_at;  /* when a sleeper last checked the peers: monotonic ns */
    uint64_t granule;     /* bytes of a granule of the pool, a multiple of 64 */
    uint64_t granules;    /* of the pool */

    /* Senders only. */
    channel_lock send_lock;
    uint64_t cached_head;  /* `head` as senders last read it */
    uint64_t senders_tail; /* copy of `tail`: reading `tail` would take its line from receivers */
    uint32_t small_in_use;   /* `small_number` may be the number of a message */
    uint32_t senders_seen;   /* how many peers have become senders, also those that have left */
    /* Of a topic only (ring/topic_layout.h); 0 in a channel. */
    uint64_t limit;   /* publishers may publish messages with numbers below it */
    uint64_t floor;   /* messages below it were read by all subscribers that are waited for */
    uint64_t history; /* messages to keep for new subscribers; never changes */
    uint64_t members; /* the subscribers: a bit for each place */
    channel_lock pool_lock; /* of the peer that allocates a block */
    uint64_t next_granule;  /* the end of the block that was allocated last */
    uint8_t unused2[48];

    /* Written by senders, read by receivers. */
    uint64_t tail;  /* word: the end of what was sent, and the number of messages ever sent */
    uint32_t small_number; /* the number of the message in `small`, or SMALL_NONE */
    uint32_t unused3;
    uint64_t small_length;
    uint64_t small[5];
    /* On another line than the tail: senders read it for each message, right after receivers took
       the tail's line. */
    uint32_t items; /* futex: receivers sleep on it */
    uint32_t poll_futex; /* futex: the threads behind descriptors sleep on it */
    uint32_t items_signals; /* how often descriptors for messages were signalled */
    uint32_t space_signals; /* how often descriptors for room were signalled */
    uint8_t unused4[48];

    /* Receivers only. */
    channel_lock receive_lock;
    uint64_t returned;      /* how often a message was returned, so that it is received again */
    uint64_t dropped;
    uint64_t cached_tail;   /* `tail` as receivers last read it */
    uint64_t returned_seen; /* `returned` when no message was left that had been returned */
    uint64_t takes;         /* how many messages were taken to be acknowledged */
    uint8_t unused5[80];

    /* Written by receivers, read by senders. */
    uint64_t head;  /* word: the next record to receive, and the number of messages ever received */
    uint8_t unused6[56];
    uint32_t space; /* futex: senders sleep on it */
    uint32_t unused7;
    uint64_t freed; /* how often a block was freed */
    uint8_t unused8[48];

    char type[CHANNEL_TYPE_SIZE]; /* the payload's type as text, NUL-terminated */
} channel_header;

_Static_assert(sizeof(channel_header) == 1024, "the layout is a promise");
_Static_assert(offsetof(channel_header, send_lock) == 128, "the layout is a promise");
_Static_assert(offsetof(channel_header, pool_lock) == 192, "the layout is a promise");
_Static_assert(offsetof(channel_header, tail) == 256, "the layout is a promise");
_Static_assert(offsetof(channel_header, items) == 320, "the layout is a promise");
_Static_assert(offsetof(channel_header, receive_lock) == 384, "the layout is a promise");
_Static_assert(offsetof(channel_header, head) == 512, "the layout is a promise");
_Static_assert(offsetof(channel_header, space) == 576, "the layout is a promise");
_Static_assert(offsetof(channel_header, type) == 640, "the layout is a promise");

/* One open handle. It is alive as long as it has the OFD lock on one byte of the file (fcntl(2)).
   The kernel releases that lock when the process ends, in any way. */
typedef struct {
    uint32_t generation; /* incremented by each peer that takes this place */
    uint32_t joined;
    uint32_t roles;
    uint32_t creator;
    uint32_t waits; /* for people: what its call waits for (WAITS_BITS), and since when; 0: none */
    uint32_t pid;
    uint64_t token; /* of the process (docs/layout.md) */
    uint64_t since; /* seconds since the epoch */
    uint64_t sent;
    uint64_t received;
    uint64_t taken; /* messages that it has taken and not acknowledged */
} channel_peer;

/* In `waits`: the side (POLL_ITEMS or POLL_SPACE) in the lowest bits; above them, the second of the
   monotonic clock. */
#define WAITS_BITS 2

_Static_assert(sizeof(channel_peer) == 64, "the layout is a promise");
_Static_assert(sizeof(channel_header) + CHANNEL_PEERS * sizeof(channel_peer)
                   <= CHANNEL_ARENA_START,
               "the arena begins behind the peers");

/* The byte of the file that a peer locks, far after the end of the file. */
#define PEER_LOCK_BASE (INT64_C(1) << 40)

typedef enum {
    RECORD_PAD = 1,   /* padding; `shape` is its number of units */
    RECORD_DATA = 2,  /* messages of at most INLINE_MAX bytes */
    RECORD_BLOCK = 3, /* a message in a block */
} record_kind;

typedef struct {
    uint32_t kind;  /* record_kind */
    uint32_t first; /* the number of its first message; RECORD_BLOCK: the index of the block */
    uint64_t shape; /* bytes in 40 bits, messages in 24 */
} channel_record;

_Static_assert(sizeof(channel_record) == 16, "the layout is a promise");
_Static_assert(sizeof(channel_record) <= UNIT, "a record of a block has one unit");
_Static_assert(__atomic_always_lock_free(8, 0) && __atomic_always_lock_free(4, 0),
               "the ring's atomics take no lock");

/* A word combines a position and a count of messages, so that both change at once. */
#define COUNT_BITS 24
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)
#define CAPACITY_MAX (COUNT_MASK / 2)
#define UNITS_MAX (UINT64_C(1) << 35) /* of an arena; positions reach twice as far, and have 36 bits */

static inline uint64_t
word_of(uint64_t position, uint64_t count)
{
    return position << COUNT_BITS | (count & COUNT_MASK);
}

static inline uint64_t
position_of(uint64_t word)
{
    return word >> COUNT_BITS;
}

static inline uint64_t
count_of(uint64_t word)
{
    return word & COUNT_MASK;
}

#define LENGTH_BITS 40
#define LENGTH_MAX ((UINT64_C(1) << LENGTH_BITS) - 1)

static inline uint64_t
shape_of(uint64_t length, uint64_t items)
{
    return items << LENGTH_BITS | length;
}

/* Units of a record with a payload of `length` bytes. */
static inline uint64_t
units_for(uint64_t length)
{
    return (sizeof(channel_record) + length + UNIT - 1) / UNIT;
}

/* An owner: a peer as locks and blocks name it, by its place and its generation. Never 0. */
#define OWNER_INDEX_BITS 9
#define OWNER_BITS 28
#define OWNER_MASK ((UINT32_C(1) << OWNER_BITS) - 1)

static inline uint32_t
owner_of(uint32_t index, uint32_t generation)
{
    return ((index + 1) | generation << OWNER_INDEX_BITS) & OWNER_MASK;
}

static inline uint32_t
owner_index(uint32_t owner)
{
    return (owner & ((UINT32_C(1) << OWNER_INDEX_BITS) - 1)) - 1;
}

/* -- blocks ------------------------------------------------------------------------------------ */

typedef enum {
    BLOCK_LENT = 1,     /* a sender is writing in it */
    BLOCK_QUEUED = 2,   /* its message waits; the record at a position refers to it */
    BLOCK_READ = 3,     /* a receiver is reading in it */
    BLOCK_TAKEN = 4,    /* a receiver has taken its message and has not acknowledged it yet */
    BLOCK_RETURNED = 5, /* its message waits again, before all that records refer to */
} block_kind;

/* The word of a block is that of its first granule: the kind in bits 0 to 3, the number of granules
   in bits 4 to 27, and above them the owner, or the record's position if it is queued. The word of
   any other granule is 0: of those that are free, and of the rest of a block. So one store takes or
   frees a block, and memory of zeros is a pool that is free. */
#define BLOCK_SPAN_BITS 24
#define BLOCK_SPAN_MAX ((UINT64_C(1) << BLOCK_SPAN_BITS) - 1)
#define BLOCK_FREE UINT64_C(0)
#define GRANULES_MAX (UINT64_C(1) << 24)
#define NO_BLOCK UINT32_MAX

#define BLOCK_HOLDER_MASK ((UINT64_C(1) << (60 - BLOCK_SPAN_BITS)) - 1)

static inline uint64_t
block_word(block_kind kind, uint64_t span, uint64_t holder)
{
    return (uint64_t)kind | span << 4 | holder << (4 + BLOCK_SPAN_BITS);
}

static inline block_kind
block_kind_of(uint64_t word)
{
    return (block_kind)(word & 15);
}

static inline uint64_t
block_span(uint64_t word)
{
    return word >> 4 & BLOCK_SPAN_MAX;
}

static inline uint64_t
block_holder(uint64_t word)
{
    return word >> (4 + BLOCK_SPAN_BITS);
}

/* What is known of a message that was taken; written before the block's word becomes BLOCK_TAKEN. */
typedef struct {
    uint64_t length;      /* bytes of the message */
    uint64_t number;      /* messages have increasing numbers in the order in which they were taken */
    uint64_t redelivered; /* how often it was returned */
    uint64_t head;        /* `head` before it was taken for the first time */
} channel_delivery;

_Static_assert(sizeof(channel_delivery) == 32, "the layout is a promise");

/* Returns how many granules of a pool senders leave to receivers that take short messages. A take moves a
   short message to a block. Without these granules it would wait for ever if the message is the first one
   and long messages behind it fill the pool. If all messages have one size, all are short or none is. */
static inline uint64_t
spare_granules(uint64_t item_size, uint64_t granule)
{
    return item_size != 0 || granule == 0 ? 0 : (INLINE_MAX + granule - 1) / granule;
}

/* Where the parts behind the arena begin: a word for each granule, a channel_delivery for each, and
   the granules. */
static inline uint64_t
words_start(uint64_t units)
{
    return (CHANNEL_ARENA_START + units * UNIT + 63) / 64 * 64;
}

static inline uint64_t
deliveries_start(uint64_t units, uint64_t granules)
{
    return (words_start(units) + granules * sizeof(uint64_t) + 63) / 64 * 64;
}

static inline uint64_t
pool_start(uint64_t units, uint64_t granules)
{
    uint64_t end = deliveries_start(units, granules) + granules * sizeof(channel_delivery);
    return (end + POOL_ALIGN - 1) / POOL_ALIGN * POOL_ALIGN;
}

/* Bytes of the whole file. */
static inline uint64_t
channel_bytes(uint64_t units, uint64_t granules, uint64_t granule)
{
    return pool_start(units, granules) + granules * granule;
}

#endif
