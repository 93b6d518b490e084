/* What a channel's shared memory holds. docs/layout.md has it byte by byte; no Python.h here.

   A header, a table of peers, and an arena of records. The arena is a ring of 32-byte units. A
   position counts units from 0 to twice the arena's size, so that a full ring and an empty one
   differ; what stands in memory at a position follows from it by one subtraction.

   Everything in here is untrusted: a value is copied, checked and then used, and what never changes
   is read once, when the channel is opened. */
#ifndef IPCKIT_LAYOUT_H
#define IPCKIT_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define CHANNEL_MAGIC UINT64_C(0x314c4e4843504900) /* "\0IPCHNL1" in memory */
#define CHANNEL_VERSION 1
#define CHANNEL_PEERS 256
#define CHANNEL_TYPE_SIZE 384
#define CHANNEL_ARENA_START 20480

#define UNIT 32
#define LARGE_PAYLOAD 1024 /* bytes from which on a payload begins on a cache line of its own */

/* Flags of a channel. */
#define CHANNEL_OVERWRITE 1u

/* What a peer has done: roles. */
#define ROLE_SENDER 1u
#define ROLE_RECEIVER 2u

/* What a peer's descriptors wait for. */
#define POLL_ITEMS 1u
#define POLL_SPACE 2u

/* The words that sides sleep on: flags below a count of the times they were cleared. */
#define WORD_SLEEPERS 1u
#define WORD_POLLERS 2u /* of `items` and `space`: a descriptor waits for it */
#define WORD_DEFERRED 2u  /* of a lock: its holder left something undone for another peer */
#define WORD_STEP 4u

typedef struct {
    uint32_t owner; /* 0, or who holds it */
    uint32_t word;  /* those who want it sleep on it */
} channel_lock;

/* The newest message, where it is so short, is repeated beside the tail: who waits for it has it with
   the word that tells of it. */
#define SMALL_MAX 40
#define SMALL_NONE UINT32_MAX /* no message has that number */

typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t flags;
    uint64_t file_size;
    uint64_t fingerprint; /* of the payload's type */
    uint64_t arena_units;
    uint64_t capacity;  /* messages */
    uint64_t item_size; /* bytes of each message, or 0 */
    uint64_t created;   /* seconds of the clock of the day */
    uint8_t id[16];     /* random */
    uint32_t roles_seen;
    uint32_t recovery_wanted; /* somebody died and may have left something */
    uint32_t peers_high;  /* no peer beyond this one has ever been */
    uint32_t full_barriers; /* somebody can't have the kernel put barriers into the others */
    uint64_t longest;     /* bytes of a message at most */
    uint64_t checked_at;  /* when a sleeper last checked whether the peers live: monotonic ns */
    uint8_t unused7[16];

    /* Senders only. */
    channel_lock send_lock;
    uint64_t reserve;    /* end of the loans, and their number */
    uint64_t cached_head;  /* as senders last saw it */
    uint64_t cached_low_water;
    uint64_t senders_tail; /* `tail`, for senders: who looks at the word itself takes it from receivers */
    uint32_t small_in_use;   /* `small_number` may be that of a message */
    uint8_t unused2[84];

    /* Written by senders, read by receivers. */
    uint64_t tail;  /* end of what is sent, and the number of messages ever sent */
    uint32_t small_number; /* of the message that `small` small_in_use, or SMALL_NONE */
    uint32_t unused1;
    uint64_t small_length;
    uint64_t small[5];
    /* On a line of its own: senders look at it each time, and have just lost that of the tail. */
    uint32_t items; /* receivers sleep on it */
    uint32_t poll_futex; /* the threads behind descriptors sleep on it */
    uint32_t items_signals; /* how often descriptors for items became readable */
    uint32_t space_signals; /* and those for space */
    uint8_t unused3[48];

    /* Receivers only. */
    channel_lock receive_lock;
    uint64_t low_water; /* the first record behind head that is still in use, and whether there is one */
    uint64_t dropped;
    uint64_t cached_tail; /* as receivers last saw it */
    uint8_t unused5[96];

    /* Written by receivers, read by senders. */
    uint64_t head;  /* the next record to receive, and the number of messages ever received */
    uint8_t unused4[56];
    uint32_t space; /* senders sleep on it */
    uint8_t unused6[60];

    char type[CHANNEL_TYPE_SIZE]; /* the payload's type, for people; ends with NUL */
} channel_header;

_Static_assert(sizeof(channel_header) == 1024, "the layout is a promise");
_Static_assert(offsetof(channel_header, send_lock) == 128, "the layout is a promise");
_Static_assert(offsetof(channel_header, tail) == 256, "the layout is a promise");
_Static_assert(offsetof(channel_header, items) == 320, "the layout is a promise");
_Static_assert(offsetof(channel_header, receive_lock) == 384, "the layout is a promise");
_Static_assert(offsetof(channel_header, head) == 512, "the layout is a promise");
_Static_assert(offsetof(channel_header, space) == 576, "the layout is a promise");
_Static_assert(offsetof(channel_header, type) == 640, "the layout is a promise");

/* Whoever has the channel open. It lives as long as its lock on one byte of the file: the kernel
   drops that when the process ends, however it ends. */
typedef struct {
    uint32_t generation; /* of those who had this place, one after the other */
    uint32_t joined;
    uint32_t roles;
    uint32_t creator;
    uint32_t unused1;
    uint32_t pid;
    uint64_t token; /* of the process, as ipckit._process makes it */
    uint64_t since; /* seconds of the clock of the day */
    uint64_t sent;
    uint64_t received;
    uint64_t unused;
} channel_peer;

_Static_assert(sizeof(channel_peer) == 64, "the layout is a promise");
_Static_assert(sizeof(channel_header) + CHANNEL_PEERS * sizeof(channel_peer)
                   <= CHANNEL_ARENA_START,
               "the arena begins behind the peers");

/* The byte of the file that a peer has locked while it lives: far behind the end. */
#define PEER_LOCK_BASE (INT64_C(1) << 40)

typedef enum {
    RECORD_PAD = 1,  /* nothing; `shape` is its units */
    RECORD_DATA = 2, /* messages */
    RECORD_REF = 3,  /* a message whose bytes stand in an earlier record; `shape` is where */
    RECORD_LOAN = 4, /* a sender writes in it */
    RECORD_SENT = 5, /* a loan that a RECORD_REF leads to */
    RECORD_VIEW = 6, /* a receiver reads in it */
    RECORD_FREE = 7, /* a loan or a view that is over */
    RECORD_MARKED = 8, /* RECORD_SENT, while the dead are being cleared away */
} record_kind;

typedef struct {
    uint32_t state; /* record_kind in 4 bits, then whose it is */
    uint32_t first; /* number of the first message in it */
    uint64_t shape; /* bytes in 40 bits, messages in 24 */
} channel_record;

_Static_assert(sizeof(channel_record) == 16, "the layout is a promise");
_Static_assert(sizeof(channel_record) <= UNIT, "a record's header is never split");
_Static_assert(__atomic_always_lock_free(8, 0) && __atomic_always_lock_free(4, 0),
               "the ring's atomics take no lock");

/* A position and a count of messages in one word, so that both move at once. */
#define COUNT_BITS 24
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)
#define CAPACITY_MAX (COUNT_MASK / 2)
#define UNITS_MAX (UINT64_C(1) << (63 - COUNT_BITS)) /* of an arena; positions go twice as far */

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

/* Bytes from a record's start to its payload. */
static inline uint64_t
payload_offset(uint64_t length)
{
    return length < LARGE_PAYLOAD ? sizeof(channel_record) : 64;
}

/* Units of a record with a payload of so many bytes; a large one begins and ends on a cache line. */
static inline uint64_t
units_for(uint64_t length)
{
    return length < LARGE_PAYLOAD ? (sizeof(channel_record) + length + UNIT - 1) / UNIT
                                  : (64 + length + 63) / 64 * 2;
}

/* A peer as locks and records name it: its place and its generation; never 0. */
#define OWNER_INDEX_BITS 9
#define OWNER_BITS 28 /* what a record's state has room for */
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

static inline uint32_t
state_of(record_kind kind, uint32_t owner)
{
    return (uint32_t)kind | owner << 4;
}

static inline record_kind
kind_of(uint32_t state)
{
    return (record_kind)(state & 15);
}

#endif
