/* Overwriting a ring's memory with numbers that a check may let through, or just not. */
#ifndef RING_SCRIBBLE_H
#define RING_SCRIBBLE_H

#include "ring_harness.h"

static channel shared;

static inline const channel_header *
shared_header(void)
{
    return (const channel_header *)shared.memory;
}

static inline ring_shape
shared_shape(void)
{
    const channel_header *header = shared_header();
    return (ring_shape){.units = header->arena_units, .granules = header->granules};
}

/* The word of a block, valid or nearly. */
static inline uint64_t
evil_word(void)
{
    uint64_t granules = shared_header()->granules;
    uint64_t span = below(3) == 0 ? below(granules % 4096 + 3) : below(4);
    uint64_t holder = below(3) == 0 ? below(2 * shared_header()->arena_units + 3)
        : below(3) == 0             ? position_of(shared_header()->head)
                                    : owner_of((uint32_t)below(5), (uint32_t)below(4));
    return block_word((block_kind)below(7), below(9) == 0 ? BLOCK_SPAN_MAX : span, holder);
}

static inline uint64_t
evil_number(void)
{
    uint64_t units = shared_header()->arena_units, bytes = units * UNIT;
    uint64_t near = units * below(4) + below(5) - 2;
    switch (below(12)) {
    case 0:
        return random_number();
    case 1:
        return below(16);
    case 2:
        return near;
    case 3:
        return near << COUNT_BITS | below(40);
    case 4:
        return shared_header()->granules + below(5) - 2;
    case 5:
        return (uint64_t)RECORD_BLOCK | (below(70) - 2) << 32; /* kind and block of a record */
    case 6:
        return shape_of(below(bytes * 2 + 1), below(2) == 0 ? below(6) : 1);
    case 7:
        return shape_of(below(80) * below(80), below(3) == 0 ? COUNT_MASK : below(30));
    case 8:
        return owner_of((uint32_t)below(below(2) ? 5 : 600), (uint32_t)below(4)) | below(2) << 31;
    case 9:
        return below(70);
    case 10:
        return evil_word();
    default:
        return UINT64_MAX << below(64);
    }
}

/* Moves the whole ring elsewhere: consistent, and perhaps beyond the arena. */
static inline void
displace(channel_header *header)
{
    uint64_t units = header->arena_units;
    uint64_t word = (below(3) * units + below(units)) << COUNT_BITS;
    uint64_t *words[] = {&header->tail, &header->senders_tail, &header->head, &header->cached_head,
                         &header->cached_tail};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        __atomic_fetch_add(words[i], word, __ATOMIC_RELAXED);
    }
}

#define AT(field) offsetof(channel_header, field)
static const uint16_t favourites[] = {
    AT(roles_seen),   AT(recovery_wanted), AT(peers_high),   AT(send_lock),     AT(pool_lock),
    AT(cached_head),  AT(tail),            AT(items),        AT(receive_lock),  AT(cached_tail),
    AT(head),         AT(space),           AT(small_number), AT(small_length),  AT(senders_tail),
    AT(small_in_use), AT(next_granule),    AT(returned),     AT(returned_seen), AT(takes),
};

/* Chooses a place: in the header, the records, the words of blocks, or the deliveries. */
static inline size_t
evil_place(void)
{
    ring_shape shape = shared_shape();
    uint64_t at;
    switch (below(8)) {
    case 0:
    case 1:
        return favourites[below(sizeof favourites / sizeof *favourites)];
    case 2: /* not what never changes: only an open channel's users read the rest */
        return 128 + below(CHANNEL_ARENA_START / 8 - 16) * 8;
    case 3: /* the record at head, or one near it */
        at = position_of(shared_header()->head) + below(3) * below(4);
        return CHANNEL_ARENA_START + at % shape.units * UNIT + below(2) * 8;
    case 4:
    case 5:
        at = below(2) ? below(shape.granules) : below(4);
        return words_start(shape.units) + at * 8;
    case 6:
        at = below(2) ? below(shape.granules) : below(4);
        return deliveries_start(shape.units, shape.granules) + at * sizeof(channel_delivery)
            + below(4) * 8;
    default:
        return CHANNEL_ARENA_START + below(shape.units) * UNIT + below(2) * 8;
    }
}

static inline void
scribble(void)
{
    if (below(20) == 0) {
        displace((channel_header *)shared.memory);
    }
    size_t at = evil_place();
    bool is_word = at >= words_start(shared_shape().units)
        && at < deliveries_start(shared_shape().units, shared_shape().granules);
    uint64_t number = is_word && below(4) != 0 ? evil_word() : evil_number();
    char *word = shared.memory + at;
    if (at % 8 != 0 || below(3) == 0) {
        __atomic_store_n((uint32_t *)(void *)word, (uint32_t)number, __ATOMIC_RELAXED);
    } else if (below(8) == 0) { /* one bit of what is there */
        __atomic_fetch_xor((uint64_t *)(void *)word, UINT64_C(1) << below(64), __ATOMIC_RELAXED);
    } else {
        __atomic_store_n((uint64_t *)(void *)word, number, __ATOMIC_RELAXED);
    }
}

#endif
