/* Room for the next message of a topic: which subscribers publishers wait for, and dropping messages.
   Each function requires send_lock. No Python.h here.

   `head` is stored before anything that belongs to a dropped message is overwritten. A subscriber that
   is overtaken loads `head` after it has copied the message, and rejects the copy (ring/topic_receive.h),
   as in a seqlock. */
#ifndef IPCKIT_RING_TOPIC_ROOM_H
#define IPCKIT_RING_TOPIC_ROOM_H

#include "ring/blocks.h"
#include "ring/lock.h"

static inline topic_entry *
topic_entry_of(const ring *r, uint64_t number)
{
    return &r->entries[number % r->slots];
}

/* Returns the index of the block of an entry's message; NO_BLOCK if it is in the arena. */
static inline uint32_t
topic_block_of(uint64_t shape)
{
    return (uint32_t)(shape >> LENGTH_BITS) - 1;
}

/* The copies to and from the arena. A subscriber may copy while publishers overwrite, and then rejects
   its copy. The fence orders the copy after the store of `head`; the one in topic_was_dropped orders the
   other copy before the load of `head`. */
static inline void
topic_copy_in(char *to, const char *from, uint64_t length)
{
#ifdef __SANITIZE_THREAD__
    seqlock_copy_in((uint64_t *)(void *)to, from, length);
#else
    release_fence();
    copy_shared(to, from, length);
#endif
}

static inline void
topic_copy_out(char *to, const char *from, uint64_t length)
{
#ifdef __SANITIZE_THREAD__
    seqlock_copy_out(to, (const uint64_t *)(const void *)from, length);
#else
    copy_shared(to, from, length);
#endif
}

/* -- subscribers ------------------------------------------------------------------------------- */

/* Returns a member that publishers must consider, or NULL: `members` also has a bit for one that left. */
static inline topic_subscriber *
topic_active(const ring *r, uint32_t place)
{
    topic_subscriber *member = &r->subscribers[place];
    bool active = load_acquire(&member->owner) != 0
        && !load_acquire(&member->closed);
    return active ? member : NULL;
}

/* Calls for each place in a set of bits. */
#define FOR_EACH_PLACE(place, bits)                                                                  \
    for (uint64_t left_ = (bits), place = 0;                                                         \
         left_ != 0 && (place = (uint64_t)__builtin_ctzll(left_), true); left_ &= left_ - 1)

/* Finds out how far the subscribers are that publishers wait for. Stores `limit` and `floor`. The acquire
   of `cursor` pairs with the release in topic_advance: publishers may overwrite what was read. */
static inline void
topic_update_limit(ring *r, uint64_t tail)
{
    uint64_t limit = UINT64_MAX, floor = tail;
    FOR_EACH_PLACE(place, load_relaxed(&r->shared->members)) {
        const topic_subscriber *member = topic_active(r, (uint32_t)place);
        if (member == NULL || load_relaxed(&member->drops)) {
            continue;
        }
        uint64_t cursor = load_acquire(&member->cursor), depth = load_relaxed(&member->depth);
        cursor = cursor < tail ? cursor : tail;
        depth = depth < r->capacity ? depth : r->capacity;
        floor = cursor < floor ? cursor : floor;
        limit = cursor + depth < limit ? cursor + depth : limit;
    }
    store_relaxed(&r->shared->floor, floor);
    RING_POINT(floor_stored);
    store_relaxed(&r->shared->limit, limit);
}

/* Tells whether the subscribers let one more message be published. */
static inline bool
topic_may_publish(ring *r, uint64_t tail)
{
    if (tail < load_relaxed(&r->shared->limit)) {
        return true;
    }
    topic_update_limit(r, tail);
    return tail < load_relaxed(&r->shared->limit);
}

/* Returns a number that changes when a subscriber that is waited for reads. */
static inline uint64_t
topic_progress(const ring *r)
{
    uint64_t sum = 0;
    FOR_EACH_PLACE(place, load_relaxed(&r->shared->members)) {
        const topic_subscriber *member = topic_active(r, (uint32_t)place);
        if (member != NULL && !load_relaxed(&member->drops)) {
            sum += load_relaxed(&member->cursor);
        }
    }
    return sum;
}

/* -- dropping ---------------------------------------------------------------------------------- */

/* Frees the block of a message that was dropped, or leaves it to its readers. The barrier pairs with the
   one in topic_hold: either this function sees the reader's bit, or the reader sees the new `head`. */
static inline void
topic_drop_block(ring *r, uint32_t block, uint64_t number)
{
    full_barrier(&r->shared->small_in_use);
    uint64_t word = block_load(r, block);
    if (word == block_word(BLOCK_QUEUED, block_span(word), number & BLOCK_HOLDER_MASK)) {
        bool read = load_acquire(&r->readers[block]) != 0;
        block_store(r, block, read ? block_word(BLOCK_READ, block_span(word), 0) : BLOCK_FREE);
    }
}

/* Drops the oldest message, whose number is `head`. */
static inline void
topic_drop(ring *r, uint64_t head)
{
    uint32_t block = topic_block_of(load_relaxed(&topic_entry_of(r, head)->shape));
    store_release(&r->shared->head, head + 1);
    RING_POINT(topic_dropped);
    if (block < r->granules) {
        topic_drop_block(r, block, head);
    }
}

#define TOPIC_SPARE 2 /* dropped messages that stay, for a subscriber that just begins to read one */

/* Drops messages that neither a subscriber nor the history needs. The memory of large messages is used
   again while it is in the processor's cache. */
static inline void
topic_drop_unneeded(ring *r, uint64_t head, uint64_t tail)
{
    uint64_t keep = r->history < tail ? tail - r->history : 0;
    FOR_EACH_PLACE(place, load_relaxed(&r->shared->members)) {
        const topic_subscriber *member = topic_active(r, (uint32_t)place);
        if (member == NULL) {
            continue;
        }
        uint64_t depth = load_relaxed(&member->depth), cursor = load_acquire(&member->cursor);
        /* If all blocks would be in use, each publish would search the whole pool for one. */
        uint64_t stay = depth < r->granules - TOPIC_SPARE ? depth + TOPIC_SPARE : depth + 1;
        if (load_relaxed(&member->drops) && stay < tail && cursor < tail - stay) {
            cursor = tail - stay;
        }
        keep = cursor < keep ? cursor : keep;
    }
    for (; head < keep; head++) {
        topic_drop(r, head);
    }
}

/* -- room -------------------------------------------------------------------------------------- */

/* Reads `head` and `tail`. Returns RING_OK or RING_CORRUPT. */
static inline ring_result
topic_read_ends(const ring *r, uint64_t *head, uint64_t *tail)
{
    *head = load_relaxed(&r->shared->head);
    *tail = load_relaxed(&r->shared->senders_tail);
    return *tail - *head <= r->slots ? RING_OK : RING_CORRUPT;
}

/* Returns the position after the message before `number`, which may have been dropped. */
static inline uint64_t
topic_next_position(const ring *r, uint64_t number)
{
    if (number == 0) {
        return 0;
    }
    const topic_entry *last = topic_entry_of(r, number - 1);
    uint64_t shape = load_relaxed(&last->shape);
    bool inline_bytes = topic_block_of(shape) == NO_BLOCK;
    return load_relaxed(&last->position) + (inline_bytes ? topic_units(shape & LENGTH_MAX) : 0);
}

/* Tells whether there is an entry, and `units` of the arena from `start` on, for message `number` if the
   messages before `oldest` are dropped. */
static inline bool
topic_fits(const ring *r, uint64_t number, uint64_t tail, uint64_t oldest, uint64_t start, uint64_t units)
{
    uint64_t used_from = oldest < tail ? load_relaxed(&topic_entry_of(r, oldest)->position)
                                       : topic_next_position(r, tail);
    bool all_free = oldest >= tail && number == tail; /* whatever the positions are */
    return number - oldest < r->slots
        && (start + units - used_from <= r->units || (all_free && units <= r->units));
}

/* Returns the number before which messages may be dropped, if that makes room for message `number`. */
static inline uint64_t
topic_droppable(ring *r, uint64_t number, uint64_t tail, uint64_t head, uint64_t start, uint64_t units)
{
    uint64_t floor = load_relaxed(&r->shared->floor);
    if (floor <= head || floor > tail || !topic_fits(r, number, tail, floor, start, units)) {
        topic_update_limit(r, tail);
        floor = load_relaxed(&r->shared->floor);
    }
    return floor > head && floor <= tail ? floor : head;
}

/* Finds an entry and `units` of the arena for message `number`, from `*position` on; drops messages as
   needed, but none if that makes no room. The messages from `tail` on are not published yet. Sets
   `*position`. Returns RING_OK, RING_FULL or RING_CORRUPT. */
static inline ring_result
topic_find_room(ring *r, uint64_t number, uint64_t tail, uint64_t units, uint64_t *position)
{
    uint64_t head = load_relaxed(&r->shared->head), offset = *position % r->units;
    uint64_t start = offset + units > r->units ? *position + r->units - offset : *position;
    if (tail - head > r->slots) {
        return RING_CORRUPT;
    }
    if (!topic_fits(r, number, tail, head, start, units)) {
        uint64_t end = topic_droppable(r, number, tail, head, start, units);
        if (!topic_fits(r, number, tail, end, start, units)) {
            return RING_FULL;
        }
        while (head < end && !topic_fits(r, number, tail, head, start, units)) {
            topic_drop(r, head++);
        }
    }
    *position = start;
    return RING_OK;
}

#endif
