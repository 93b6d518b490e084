/* The blocks of a pool: allocating one, passing it on, and freeing it. No Python.h here.

   One word tells who holds a block (ring/channel_layout.h). Allocating changes words from free to
   lent and requires pool_lock. After that the holder alone changes the word, without a lock, so a
   block is passed on and freed by one store. A block whose holder died is found by reading the words
   (ring/recover.h). */
#ifndef IPCKIT_RING_BLOCKS_H
#define IPCKIT_RING_BLOCKS_H

#include "ring/ring.h"

/* Tells whether all blocks have one granule, as for messages of one size. */
static inline bool
blocks_are_equal(const ring *r)
{
    return r->item_size != 0;
}

/* Returns the granules of a block for `length` bytes. */
static inline uint64_t
blocks_span(const ring *r, uint64_t length)
{
    return length <= r->granule ? 1 : (length + r->granule - 1) / r->granule;
}

static inline char *
block_data(const ring *r, uint32_t block)
{
    return r->pool + (uint64_t)block * r->granule;
}

/* Loads a block's word (acquire; pairs with block_store and block_change). */
static inline uint64_t
block_load(const ring *r, uint32_t block)
{
    return __atomic_load_n(&r->words[block], __ATOMIC_ACQUIRE);
}

static inline void
block_store(const ring *r, uint32_t block, uint64_t word)
{
    __atomic_store_n(&r->words[block], word, __ATOMIC_RELEASE);
}

/* Changes a block's word. Returns false if it is not `from`. */
static inline bool
block_change(const ring *r, uint32_t block, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(&r->words[block], &from, to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

/* Returns the granules from `at` to the next word that is to be read: 1 after a free granule. Limits
   a span that another process wrote. */
static inline uint64_t
block_step(const ring *r, uint64_t at, uint64_t word)
{
    uint64_t span = block_span(word), left = r->granules - at;
    return span == 0 ? 1 : span < left ? span : left;
}

/* -- which block to take first -------------------------------------------------------------------

   Memory that was used a moment ago is still in the processor's cache. Among blocks of one size, the
   one that was freed last is taken first, then the lowest. Blocks of several granules are the lowest
   that are free. So a channel keeps to as much memory as is in flight.

   `freed` has the index of the block that was freed last, and an index before which no block is free,
   so that a long queue is not searched from its start. It also counts, so that a compare-and-swap
   notices a block that is freed in between. It is only a hint: all words are read before a search
   fails. With blocks of several granules it is not used, because it could point into a block. */

#define FREED_BITS 24
#define FREED_MASK ((UINT64_C(1) << FREED_BITS) - 1)

static inline uint64_t
freed_of(uint64_t count, uint64_t last, uint64_t lowest)
{
    return count << (2 * FREED_BITS) | last << FREED_BITS | lowest;
}

/* Notes that a block was freed. */
static inline void
blocks_note_freed(ring *r, uint32_t block)
{
    uint64_t *freed = &r->shared->freed, found = load_word(freed), next;
    do {
        uint64_t lowest = found & FREED_MASK;
        next = freed_of((found >> (2 * FREED_BITS)) + 1, block, block < lowest ? block : lowest);
    } while (!__atomic_compare_exchange_n(freed, &found, next, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE));
}

/* Frees a block if its word is still `word`. Returns whether it was. */
static inline bool
block_free(ring *r, uint32_t block, uint64_t word)
{
    if (!block_change(r, block, word, BLOCK_FREE)) {
        return false;
    }
    RING_POINT(freed);
    blocks_note_freed(r, block);
    return true;
}

/* Finds a free granule for a block of one. Returns its index, or NO_BLOCK. */
static inline uint32_t
blocks_find_one(ring *r)
{
    uint64_t found = load_word(&r->shared->freed);
    uint64_t last = found >> FREED_BITS & FREED_MASK, lowest = found & FREED_MASK;
    if (last < r->granules && block_load(r, (uint32_t)last) == BLOCK_FREE) {
        return (uint32_t)last;
    }
    for (uint64_t at = lowest; at < r->granules; at++) {
        if (block_load(r, (uint32_t)at) == BLOCK_FREE) {
            /* Fails if a block was freed in between, because it may be a lower one. */
            __atomic_compare_exchange_n(&r->shared->freed, &found,
                                        freed_of(found >> (2 * FREED_BITS), last, at), false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
            return (uint32_t)at;
        }
    }
    /* A process may have died after it freed a block and before it noted that. */
    for (uint64_t at = 0; at < lowest && at < r->granules; at++) {
        if (block_load(r, (uint32_t)at) == BLOCK_FREE) {
            return (uint32_t)at;
        }
    }
    return NO_BLOCK;
}

/* Finds the lowest `span` granules that follow each other and are free; with `droppable`, also those
   of messages that wait. Returns the first one's index, or NO_BLOCK. */
static inline uint32_t
blocks_find_run(const ring *r, uint64_t span, bool droppable)
{
    uint64_t run = 0;
    for (uint64_t at = 0; at < r->granules;) {
        uint64_t word = block_load(r, (uint32_t)at), step = block_step(r, at, word);
        block_kind kind = block_kind_of(word);
        bool counts = word == BLOCK_FREE
            || (droppable && (kind == BLOCK_QUEUED || kind == BLOCK_RETURNED));
        run = counts ? run + step : 0;
        at += step;
        if (run >= span) {
            return (uint32_t)(at - run);
        }
    }
    return NO_BLOCK;
}

/* Allocates a block for `length` bytes, which this peer then holds as BLOCK_LENT. Returns its index,
   or NO_BLOCK if there is none. Requires pool_lock. */
static inline uint32_t
blocks_allocate(ring *r, uint64_t length)
{
    uint64_t span = blocks_span(r, length);
    if (span > r->granules) {
        return NO_BLOCK;
    }
    uint32_t block = blocks_are_equal(r) ? blocks_find_one(r) : blocks_find_run(r, span, false);
    if (block != NO_BLOCK) {
        RING_POINT(allocating);
        block_store(r, block, block_word(BLOCK_LENT, span, r->owner));
        RING_POINT(allocated);
    }
    return block;
}

/* Tells whether there would be a block for `length` bytes if all messages that wait were dropped. */
static inline bool
blocks_could_hold(const ring *r, uint64_t length)
{
    return blocks_find_run(r, blocks_span(r, length), true) != NO_BLOCK;
}

/* Tells whether a block of this word has `length` bytes. */
static inline bool
block_fits(const ring *r, uint32_t block, uint64_t word, uint64_t length)
{
    uint64_t span = block_span(word);
    return span != 0 && span <= r->granules - block && length <= span * r->granule;
}

/* Returns how many granules blocks of `kind` have; all blocks if it is 0. Sets `*blocks` to the
   number of blocks. Needs no lock. */
static inline uint64_t
blocks_count(const ring *r, block_kind kind, uint64_t *blocks)
{
    uint64_t granules = 0;
    *blocks = 0;
    for (uint64_t at = 0; at < r->granules;) {
        uint64_t word = block_load(r, (uint32_t)at), step = block_step(r, at, word);
        if (word != BLOCK_FREE && (kind == 0 || block_kind_of(word) == kind)) {
            granules += step;
            *blocks += 1;
        }
        at += step;
    }
    return granules;
}

#endif
