/* A struct in shared memory that readers see as a whole, even if a writer dies.

   It has two slots and a counter of stores. A writer fills the slot that readers do not use, and
   then increments the counter, which makes readers use that slot. If the writer dies before it
   increments the counter, readers still use the other slot. A reader copies the slot that the
   counter selects, and accepts the copy if the counter has not changed. The first writer that can
   overwrite that slot comes after the next one, so the counter has changed before it begins.

   One process writes at a time: `writer` has its token, or 0. This header does not use Python, so
   that tests/ring can run it under the sanitizers. docs/layout.md describes each byte. */
#ifndef IPCKIT_SEQLOCK_H
#define IPCKIT_SEQLOCK_H

#include "ring/machine.h"

#include <stddef.h>

#define SEQLOCK_ALIGNMENT 8

typedef struct {
    uint64_t fingerprint; /* of the struct's layout; 0 until the first seqlock_claim */
    uint64_t size;        /* bytes of the struct, for error messages; set after the fingerprint */
    uint64_t writer;      /* the token of the process that stores, or 0 */
    uint64_t count;       /* the number of stores; readers use slot count % 2 */
} seqlock_header;

_Static_assert(sizeof(seqlock_header) == 32, "the layout is public");
_Static_assert(offsetof(seqlock_header, count) == 24, "the layout is public");
_Static_assert(__atomic_always_lock_free(8, 0), "64-bit atomics take no lock");

/* The size of a slot in bytes: whole words, because the slot is copied word by word. */
static inline size_t
seqlock_slot_size(size_t size)
{
    return (size + 7) / 8 * 8;
}

/* The size in bytes of the header and both slots, for a struct of `size` bytes. */
static inline size_t
seqlock_total_size(size_t size)
{
    return sizeof(seqlock_header) + 2 * seqlock_slot_size(size);
}

/* The slot that readers use after `count` stores. */
static inline uint64_t *
seqlock_slot(seqlock_header *lock, size_t size, uint64_t count)
{
    char *slots = (char *)(lock + 1);
    return (uint64_t *)(slots + (count % 2) * seqlock_slot_size(size));
}

/* Sets the layout of new memory. Returns whether the memory has this layout now. Relaxed, because the
   fingerprint is all that other processes depend on. */
static inline bool
seqlock_claim(seqlock_header *lock, uint64_t fingerprint, size_t size)
{
    uint64_t found = 0;
    if (compare_exchange(&lock->fingerprint, &found, fingerprint, RELAXED, RELAXED)) {
        store_relaxed(&lock->size, size); /* no process depends on it */
        return true;
    }
    return found == fingerprint;
}

/* Copies `size` bytes out of a slot, word by word. The words are atomic, because a writer may store
   to the slot during the copy; the reader then rejects the copy. Each acquire pairs with the
   release in seqlock_copy_in: a reader that sees a word of a later store also sees that the counter
   has changed. On x86 this costs nothing, and the sanitizers support it better than fences. */
static inline void
seqlock_copy_out(char *to, const uint64_t *slot, size_t size)
{
    size_t done = 0;
    for (; size - done >= 8; done += 8) {
        uint64_t word = load_acquire(slot++);
        memcpy(to + done, &word, 8);
    }
    if (done < size) {
        uint64_t word = load_acquire(slot);
        memcpy(to + done, &word, size - done);
    }
}

/* Copies `size` bytes into a slot, word by word. Only one writer calls it at a time. Each release
   pairs with the acquire in seqlock_copy_out. */
static inline void
seqlock_copy_in(uint64_t *slot, const char *from, size_t size)
{
    size_t done = 0;
    for (; size - done >= 8; done += 8) {
        uint64_t word;
        memcpy(&word, from + done, 8);
        store_release(slot++, word);
    }
    if (done < size) {
        uint64_t word = 0;
        memcpy(&word, from + done, size - done);
        store_release(slot, word);
    }
}

/* Copies the struct to `to`. Returns false if a writer stored in the meantime: then the copy may be
   a mixture, and the caller tries again. */
static inline bool
seqlock_try_load(seqlock_header *lock, char *to, size_t size)
{
    /* Pairs with the release of `count` in seqlock_store: the contents of the slot are visible. */
    uint64_t before = load_acquire(&lock->count);
    seqlock_copy_out(to, seqlock_slot(lock, size, before), size);
    /* Relaxed: the acquire loads of the words order it after them. */
    return load_relaxed(&lock->count) == before;
}

/* Makes this process the writer, until seqlock_end_store. Returns false if another process is the
   writer; `*holder` is then its token. */
static inline bool
seqlock_begin_store(seqlock_header *lock, uint64_t token, uint64_t *holder)
{
    *holder = 0;
    /* Pairs with the release of `writer` in seqlock_end_store: the last writer's count is visible.
       */
    return compare_exchange(&lock->writer, holder, token, ACQUIRE, RELAXED);
}

/* Replaces a writer that is known to be dead by `token`, or by no writer if that is 0. Returns
   false if another process did so first. */
static inline bool
seqlock_take_over(seqlock_header *lock, uint64_t dead, uint64_t token)
{
    /* The dead writer released nothing. Its stores are visible, because the kernel reports that a
       process has exited only after its last store. The release passes them on to the next writer. */
    return compare_exchange(&lock->writer, &dead, token, RELEASE, RELAXED);
}

/* Fills the slot that readers do not use, and makes readers use it. The caller is the writer. */
static inline void
seqlock_store(seqlock_header *lock, const char *from, size_t size)
{
    /* Relaxed: only the writer changes `count`. */
    uint64_t next = load_relaxed(&lock->count) + 1;
    seqlock_copy_in(seqlock_slot(lock, size, next), from, size);
    /* Pairs with the acquire in seqlock_try_load. */
    store_release(&lock->count, next);
}

/* Ends the turn of the writer `token`; does nothing if another process took the turn over. */
static inline void
seqlock_end_store(seqlock_header *lock, uint64_t token)
{
    uint64_t mine = token;
    /* Pairs with the acquire in seqlock_begin_store. An exchange, because a process that considered
       this one dead may be the writer now. */
    compare_exchange(&lock->writer, &mine, 0, RELEASE, RELAXED);
}

#endif
