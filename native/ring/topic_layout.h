/* The layout of a topic's shared memory. docs/layout.md describes it byte by byte. No Python.h here.

   A topic has the header, the table of peers and the pool of blocks of a channel. The rest differs: a
   table of subscribers, a table of entries, and an arena for the bytes of short messages.

   Messages are numbered from 0. The entry of a message tells where its bytes are. `tail` is the number
   of the next message, and `head` is the number of the oldest one that is kept. Only publishers change
   both. A subscriber's `cursor` is the number of the message that it reads next. Numbers do not wrap. */
#ifndef IPCKIT_TOPIC_LAYOUT_H
#define IPCKIT_TOPIC_LAYOUT_H

#include "ring/channel_layout.h"

#define TOPIC_MAGIC UINT64_C(0x3143504f54504900) /* "\0IPTOPC1" in memory */
#define TOPIC_VERSION 1
#define TOPIC_SUBSCRIBERS 64 /* a bit of a word for each */

/* One subscriber. Its place in the table is its bit in `readers`. The first 64 bytes change only when it
   comes or goes. It alone writes the others. */
typedef struct {
    uint32_t owner;  /* 0: the place is free */
    uint32_t drops;  /* not 0: publishers do not wait for it; it loses its oldest messages instead */
    uint32_t closed; /* not 0: it receives no more, but it may still hold blocks */
    uint32_t unused1;
    uint64_t depth;  /* how many messages may be unread */
    uint64_t since;  /* seconds since the epoch */
    uint64_t first;  /* the number of its first message */
    uint8_t unused2[24];

    channel_lock lock; /* of the threads of its process */
    uint64_t cursor;   /* the number of the message to read next */
    uint64_t received; /* how many messages; it has missed the others from `first` to `cursor` */
    uint8_t unused3[40];
} topic_subscriber;

_Static_assert(sizeof(topic_subscriber) == 128, "the layout is a promise");
_Static_assert(offsetof(topic_subscriber, lock) == 64, "the layout is a promise");

#define TOPIC_START (CHANNEL_ARENA_START + TOPIC_SUBSCRIBERS * sizeof(topic_subscriber))

/* Where the bytes of a message are. Positions count units of the arena and do not wrap; the place in the
   arena is the remainder. The position of a message in a block is that of the next message. */
typedef struct {
    uint64_t position;
    uint64_t shape; /* bytes in 40 bits; above them 0, or 1 plus the index of the block */
} topic_entry;

_Static_assert(sizeof(topic_entry) == 16, "the layout is a promise");

/* The units of a message in the arena. */
static inline uint64_t
topic_units(uint64_t length)
{
    return (length + UNIT - 1) / UNIT;
}

/* Returns how many entries a topic has. They are more than may be unread, so that a subscriber that
   reads its oldest message has time until publishers overwrite the entry. */
static inline uint64_t
topic_slots(uint64_t capacity)
{
    return capacity + (capacity / 4 > 16 ? capacity / 4 : 16);
}

/* Where the parts after the subscribers begin: the entries; a word for each granule; a word with the
   readers of each; the arena; and the granules. */
static inline uint64_t
topic_words_start(uint64_t capacity)
{
    return (TOPIC_START + topic_slots(capacity) * sizeof(topic_entry) + 63) / 64 * 64;
}

static inline uint64_t
topic_readers_start(uint64_t capacity, uint64_t granules)
{
    return (topic_words_start(capacity) + granules * sizeof(uint64_t) + 63) / 64 * 64;
}

static inline uint64_t
topic_arena_start(uint64_t capacity, uint64_t granules)
{
    return (topic_readers_start(capacity, granules) + granules * sizeof(uint64_t) + 63) / 64 * 64;
}

static inline uint64_t
topic_pool_start(uint64_t capacity, uint64_t units, uint64_t granules)
{
    uint64_t end = topic_arena_start(capacity, granules) + units * UNIT;
    return (end + POOL_ALIGN - 1) / POOL_ALIGN * POOL_ALIGN;
}

/* Bytes of the whole file. */
static inline uint64_t
topic_bytes(uint64_t capacity, uint64_t units, uint64_t granules, uint64_t granule)
{
    return topic_pool_start(capacity, units, granules) + granules * granule;
}

#endif
