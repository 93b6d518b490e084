/* Overwriting a topic's memory with numbers that a check may let through, or just not. */
#ifndef TOPIC_SCRIBBLE_H
#define TOPIC_SCRIBBLE_H

#include "ring_scribble.h"
#include "topic_harness.h"

/* A number of a message near those that are kept, or any. */
static inline uint64_t
evil_topic_number(void)
{
    const channel_header *header = shared_header();
    uint64_t slots = topic_slots(header->capacity);
    uint64_t from[] = {header->head, header->tail, header->tail - slots, header->head + slots,
                       header->limit, header->floor};
    return below(4) == 0 ? evil_number() : from[below(6)] + below(5) - 2;
}

/* The word of a block: of a message near those that are kept, or any. */
static inline uint64_t
evil_topic_word(void)
{
    return below(2) ? evil_word()
                    : block_word(BLOCK_QUEUED, below(4),
                                 evil_topic_number() & BLOCK_HOLDER_MASK);
}

/* The shape of an entry: short, in a block, or too long for what it is in. */
static inline uint64_t
evil_shape(void)
{
    uint64_t granules = shared_header()->granules, granule = shared_header()->granule;
    uint64_t block = below(3) == 0 ? granules + below(5) - 2 : below(granules + 1);
    uint64_t length = below(3) == 0 ? INLINE_MAX + below(5) - 2 : below(granule * 5);
    return below(6) == 0 ? evil_number() : shape_of(length, below(2) ? block + 1 : 0);
}

/* The position of an entry: near the end of the arena, or of the numbers. */
static inline uint64_t
evil_position(void)
{
    uint64_t units = shared_header()->arena_units;
    return below(4) == 0 ? evil_number() : below(3) * units + below(5) - 2 - below(2) * units;
}

/* Moves all messages to other numbers: consistent, and perhaps beyond all that a topic can have. */
static inline void
renumber(void)
{
    channel_header *header = (channel_header *)shared.memory;
    topic_subscriber *members = (topic_subscriber *)(shared.memory + CHANNEL_ARENA_START);
    uint64_t more = below(2) ? below(100) : evil_number();
    uint64_t *words[] = {&header->tail, &header->senders_tail, &header->head, &header->limit,
                         &header->floor};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        __atomic_fetch_add(words[i], more, __ATOMIC_RELAXED);
    }
    for (int place = 0; place < TOPIC_SUBSCRIBERS; place++) {
        __atomic_fetch_add(&members[place].cursor, more, __ATOMIC_RELAXED);
    }
}

static const uint16_t topic_favourites[] = {
    AT(roles_seen),   AT(recovery_wanted), AT(peers_high),   AT(send_lock),    AT(limit),
    AT(floor),        AT(members),         AT(next_granule), AT(tail),         AT(senders_tail),
    AT(small_number), AT(small_length),    AT(head),         AT(small_in_use), AT(items),
    AT(space),
};

static inline void
evil_store(size_t at, uint64_t value)
{
    char *word = shared.memory + at;
    if (at % 8 != 0 || below(4) == 0) {
        __atomic_store_n((uint32_t *)(void *)word, (uint32_t)value, __ATOMIC_RELAXED);
    } else if (below(8) == 0) { /* one bit of what is there */
        __atomic_fetch_xor((uint64_t *)(void *)word, UINT64_C(1) << below(64), __ATOMIC_RELAXED);
    } else {
        __atomic_store_n((uint64_t *)(void *)word, value, __ATOMIC_RELAXED);
    }
}

/* Overwrites a word of a subscriber, mostly one of the first. */
static inline void
scribble_subscriber(void)
{
    const uint16_t fields[] = {
        offsetof(topic_subscriber, owner), offsetof(topic_subscriber, drops),
        offsetof(topic_subscriber, closed), offsetof(topic_subscriber, depth),
        offsetof(topic_subscriber, lock), offsetof(topic_subscriber, cursor),
        offsetof(topic_subscriber, received),
    };
    uint64_t place = below(below(2) ? 4 : TOPIC_SUBSCRIBERS);
    size_t at = CHANNEL_ARENA_START + place * sizeof(topic_subscriber) + fields[below(7)];
    evil_store(at, evil_topic_number());
}

static inline void
scribble_topic(void)
{
    const channel_header *header = shared_header();
    uint64_t capacity = header->capacity, granules = header->granules;
    uint64_t entry = TOPIC_START
        + (below(2) ? header->head + below(3) : below(topic_slots(capacity)))
            % topic_slots(capacity) * sizeof(topic_entry);
    uint64_t granule = below(granules) * 8;
    switch (below(10)) {
    case 0:
    case 1:
        evil_store(topic_favourites[below(sizeof topic_favourites / 2)], evil_topic_number());
        break;
    case 2: /* not what never changes: only an open topic's users read the rest */
        evil_store(128 + below(TOPIC_START / 8 - 16) * 8, evil_number());
        break;
    case 3:
    case 4:
        evil_store(entry, evil_position());
        break;
    case 5:
        evil_store(entry + 8, evil_shape());
        break;
    case 6:
        evil_store(topic_words_start(capacity) + granule, evil_topic_word());
        break;
    case 7:
        evil_store(topic_readers_start(capacity, granules) + granule,
                   below(2) ? UINT64_C(1) << below(4) : evil_number());
        break;
    case 8:
        renumber();
        break;
    default:
        scribble_subscriber();
    }
}

#endif
