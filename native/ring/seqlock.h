/* A struct in shared memory that readers always see whole, and that a dead writer cannot break.

   Two slots and a counter. The writer fills the slot that nobody is told to read, then moves the
   counter on, which is what tells the readers; so a writer that dies on the way has changed nothing.
   A reader copies the slot that the counter names, and takes the copy if the counter stands where
   it stood: the next writer but one is the first that could have touched that slot, and it comes
   after the counter has moved.

   There is one writer at a time: `writer` holds its token, or 0. No Python.h here, so that tests/ring
   can run it under the sanitizers. docs/layout.md has the layout byte by byte. */
#ifndef IPCKIT_SEQLOCK_H
#define IPCKIT_SEQLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SEQLOCK_ALIGNMENT 8

typedef struct {
    uint64_t fingerprint; /* of the struct's layout; 0 until somebody came */
    uint64_t size;        /* bytes of the struct; written by who set the fingerprint, for people */
    uint64_t writer;      /* token of who is storing, or 0 */
    uint64_t count;       /* stores so far; slot count % 2 is the one to read */
} seqlock_header;

_Static_assert(sizeof(seqlock_header) == 32, "the layout is a promise");
_Static_assert(offsetof(seqlock_header, count) == 24, "the layout is a promise");
_Static_assert(__atomic_always_lock_free(8, 0), "64-bit atomics take no lock");

/* Bytes of one slot: whole words, so that it can be copied word by word. */
static inline size_t
seqlock_slot_size(size_t size)
{
    return (size + 7) / 8 * 8;
}

static inline size_t
seqlock_total_size(size_t size)
{
    return sizeof(seqlock_header) + 2 * seqlock_slot_size(size);
}

static inline uint64_t *
seqlock_slot(seqlock_header *lock, size_t size, uint64_t count)
{
    char *slots = (char *)(lock + 1);
    return (uint64_t *)(slots + (count % 2) * seqlock_slot_size(size));
}

/* Claims fresh memory for a layout, or confirms that it is this one's. Pairs with itself: all
   sides exchange the same word. */
static inline bool
seqlock_claim(seqlock_header *lock, uint64_t fingerprint, size_t size)
{
    uint64_t found = 0;
    if (__atomic_compare_exchange_n(&lock->fingerprint, &found, fingerprint, false,
                                    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&lock->size, size, __ATOMIC_RELAXED);
        return true;
    }
    return found == fingerprint;
}

/* The copies are word by word and atomic, since a reader may overlap a writer and drops the copy.
   Each acquire pairs with a release: a reader that sees a word of a later store also sees that the
   counter has left the slot. (On x86 that costs nothing, and the sanitizers understand it better
   than fences.) */
static inline void
seqlock_copy_out(char *to, const uint64_t *slot, size_t size)
{
    size_t done = 0;
    for (; size - done >= 8; done += 8) {
        uint64_t word = __atomic_load_n(slot++, __ATOMIC_ACQUIRE);
        memcpy(to + done, &word, 8);
    }
    if (done < size) {
        uint64_t word = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
        memcpy(to + done, &word, size - done);
    }
}

static inline void
seqlock_copy_in(uint64_t *slot, const char *from, size_t size)
{
    size_t done = 0;
    for (; size - done >= 8; done += 8) {
        uint64_t word;
        memcpy(&word, from + done, 8);
        __atomic_store_n(slot++, word, __ATOMIC_RELEASE);
    }
    if (done < size) {
        uint64_t word = 0;
        memcpy(&word, from + done, size - done);
        __atomic_store_n(slot, word, __ATOMIC_RELEASE);
    }
}

/* One try to read the struct; false where a writer came in between. */
static inline bool
seqlock_try_load(seqlock_header *lock, char *to, size_t size)
{
    /* Pairs with the release of `count` in seqlock_store: what the slot holds is visible. */
    uint64_t before = __atomic_load_n(&lock->count, __ATOMIC_ACQUIRE);
    seqlock_copy_out(to, seqlock_slot(lock, size, before), size);
    return __atomic_load_n(&lock->count, __ATOMIC_RELAXED) == before;
}

/* Becomes the writer: true, or false with the token of the one who is. */
static inline bool
seqlock_begin_store(seqlock_header *lock, uint64_t token, uint64_t *holder)
{
    *holder = 0;
    /* Pairs with the release of `writer` in seqlock_end_store: sees the last writer's counter. */
    return __atomic_compare_exchange_n(&lock->writer, holder, token, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

/* Takes the place of a writer that is known to be dead; false where somebody else did. */
static inline bool
seqlock_take_over(seqlock_header *lock, uint64_t dead, uint64_t token)
{
    return __atomic_compare_exchange_n(&lock->writer, &dead, token, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

/* Fills the slot that nobody reads, and tells the readers. The caller is the writer. */
static inline void
seqlock_store(seqlock_header *lock, const char *from, size_t size)
{
    uint64_t next = __atomic_load_n(&lock->count, __ATOMIC_RELAXED) + 1;
    seqlock_copy_in(seqlock_slot(lock, size, next), from, size);
    /* Pairs with the acquire in seqlock_try_load. */
    __atomic_store_n(&lock->count, next, __ATOMIC_RELEASE);
}

static inline void
seqlock_end_store(seqlock_header *lock, uint64_t token)
{
    uint64_t mine = token;
    /* Pairs with the acquire in seqlock_begin_store. By exchange: whoever took this process for
       dead is the writer now. */
    __atomic_compare_exchange_n(&lock->writer, &mine, 0, false, __ATOMIC_RELEASE,
                                __ATOMIC_RELAXED);
}

#endif
