/* The blocks of a pool: allocating one, passing it on, and freeing it. No Python.h here.

   A word says which peer holds a block (ring/channel_layout.h). Allocating changes words from free to
   lent and requires pool_lock. After that the holder alone changes the word, without a lock, so a
   block is passed on and freed by one store. A block whose holder died is found by reading the words
   (ring/recover.h). */
#ifndef IPCKIT_RING_BLOCKS_H
#define IPCKIT_RING_BLOCKS_H

#include "ring/ring.h"

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
    return load_acquire(&r->words[block]);
}

/* Stores a block's word. The release is for topics: a subscriber that sees the word of a later loan also sees
   that `head` has passed its message (topic_describe). */
static inline void
block_store(const ring *r, uint32_t block, uint64_t word)
{
    store_release(&r->words[block], word);
}

/* Changes a block's word. Returns false if it is not `from`. */
static inline bool
block_change(const ring *r, uint32_t block, uint64_t from, uint64_t to)
{
    return compare_exchange(&r->words[block], &from, to, RELEASE, RELAXED);
}

/* Returns the granules from `at` to the next word that is to be read: 1 after a free granule. Limits
   a span that another process wrote. */
static inline uint64_t
block_step(const ring *r, uint64_t at, uint64_t word)
{
    uint64_t span = block_span(word), left = r->granules - at;
    return span == 0 ? 1 : span < left ? span : left;
}

/* Tells whether a block with this word is free. In a topic, the block of a message that was dropped is
   BLOCK_READ, and free as soon as it has no readers. The acquire pairs with topic_release_block. */
static inline bool
block_is_free(const ring *r, uint64_t at, uint64_t word)
{
    return word == BLOCK_FREE
        || (ring_is_topic(r) && block_kind_of(word) == BLOCK_READ && load_acquire(&r->readers[at]) == 0);
}

/* Frees a block if its word is still `word`. Returns whether it was. A sender that waits for a block
   looks at `freed` (ring_take_snapshot). */
static inline bool
block_free(ring *r, uint32_t block, uint64_t word)
{
    if (!block_change(r, block, word, BLOCK_FREE)) {
        return false;
    }
    RING_POINT(freed);
    fetch_add_release(&r->shared->freed, 1);
    return true;
}

/* -- which granules to take first -----------------------------------------------------------------

   A search begins where the last block ends. It restarts at the start of the pool when it reaches the
   end, or when it has passed POOL_WINDOW_BYTES and there is room at the start. So a channel uses little
   more memory than is in flight, but never less than the window: memory in the private cache of the
   other processor takes several times as long to write as memory in the cache that both share. Measured
   with 8 KiB to 1 MiB at once: 9 GB/s in less than 1 MiB, 33 to 41 in 2 to 4 MiB, 15 in more than 16
   MiB. */
#ifndef POOL_WINDOW_BYTES
#define POOL_WINDOW_BYTES ((uint64_t)4 << 20)
#endif
#define BLOCKS_SKIPPED_MAX 16 /* at the start of the pool, such as views that a receiver keeps */

/* Tells whether a block would be free if messages that wait were dropped. In a topic, only the `oldest`
   messages count, and only those that may be dropped. In a channel, all count unless `oldest` is 0. */
static inline bool
block_is_droppable(const ring *r, uint64_t at, uint64_t word, uint64_t oldest)
{
    block_kind kind = block_kind_of(word);
    if (!ring_is_topic(r)) {
        return oldest != 0 && (kind == BLOCK_QUEUED || kind == BLOCK_RETURNED);
    }
    if (oldest == 0 || kind != BLOCK_QUEUED || load_relaxed(&r->readers[at]) != 0) {
        return false;
    }
    uint64_t head = load_relaxed(&r->shared->head), most = load_relaxed(&r->shared->floor) - head;
    return ((block_holder(word) - head) & BLOCK_HOLDER_MASK) < (oldest < most ? oldest : most);
}

#define DROPPABLE_ALL UINT64_MAX

/* Finds the lowest run of `span` free granules that begins between two indexes. Blocks that are droppable
   count as free (block_is_droppable). Returns the index of the first granule; NO_BLOCK if there is no such
   run, or if more than `skips` blocks come before it. `from` must not be inside a block. */
static inline uint32_t
blocks_find(const ring *r, uint64_t from, uint64_t to, uint64_t span, uint64_t skips, uint64_t oldest)
{
    uint64_t run = 0;
    for (uint64_t at = from; at < to && at < r->granules;) {
        uint64_t word = block_load(r, (uint32_t)at), step = block_step(r, at, word);
        bool counts = block_is_free(r, at, word) || block_is_droppable(r, at, word, oldest);
        if (!counts && skips-- == 0) {
            return NO_BLOCK;
        }
        run = counts ? run + step : 0;
        at += step;
        if (run >= span) {
            return (uint32_t)(at - run);
        }
    }
    return NO_BLOCK;
}

/* Returns how many granules senders may use; the rest is for receivers (spare_granules). Publishers may
   use all. */
static inline uint64_t
blocks_for_senders(const ring *r)
{
    uint64_t spare = ring_is_topic(r) ? 0 : spare_granules(r->item_size, r->granule);
    return r->granules > spare ? r->granules - spare : 0;
}

/* Finds free granules before `end` for a block, as the comment above says. Requires pool_lock. */
static inline uint32_t
blocks_find_next(const ring *r, uint64_t span, uint64_t end)
{
    uint64_t next = load_relaxed(&r->shared->next_granule);
    uint32_t block = NO_BLOCK;
    if (next * r->granule >= POOL_WINDOW_BYTES) {
        block = blocks_find(r, 0, next < end ? next : end, span, BLOCKS_SKIPPED_MAX, 0);
    }
    if (block == NO_BLOCK) {
        block = blocks_find(r, next, end, span, r->granules, 0);
    }
    return block != NO_BLOCK ? block : blocks_find(r, 0, end, span, r->granules, 0);
}

/* Stores BLOCK_FREE in the words of a run of free granules, except in the first: in a topic, some can be
   BLOCK_READ. */
static inline void
blocks_clear_run(const ring *r, uint32_t block, uint64_t span)
{
    for (uint64_t at = block + 1; at < block + span; at++) {
        if (block_load(r, (uint32_t)at) != BLOCK_FREE) {
            block_store(r, (uint32_t)at, BLOCK_FREE);
        }
    }
}

/* Allocates a block for `length` bytes among the granules before `end`. This peer then holds it as
   BLOCK_LENT. Returns its index, or NO_BLOCK if there is none. Requires pool_lock; send_lock in a topic.
   `next_granule` is never inside a block: it is the end of the last one, and 0 after a process died here
   (ring_recover_lock). */
static inline uint32_t
blocks_allocate(ring *r, uint64_t length, uint64_t end)
{
    uint64_t span = blocks_span(r, length);
    if (span > end) {
        return NO_BLOCK;
    }
    uint32_t block = blocks_find_next(r, span, end);
    if (block != NO_BLOCK) {
        RING_POINT(allocating);
        if (ring_is_topic(r)) {
            blocks_clear_run(r, block, span);
        }
        block_store(r, block, block_word(BLOCK_LENT, span, r->owner));
        RING_POINT(allocated);
        store_relaxed(&r->shared->next_granule, block + span);
    }
    return block;
}

/* Tells whether a sender could get a block for `length` bytes if all messages that wait were dropped. */
static inline bool
blocks_could_hold(const ring *r, uint64_t length)
{
    uint32_t found = blocks_find(r, 0, blocks_for_senders(r), blocks_span(r, length), r->granules,
                                 DROPPABLE_ALL);
    return found != NO_BLOCK;
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
        if (!block_is_free(r, at, word) && (kind == 0 || block_kind_of(word) == kind)) {
            granules += step;
            *blocks += 1;
        }
        at += step;
    }
    return granules;
}

#endif
