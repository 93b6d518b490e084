/* The table of a ProcessQueue's large objects, in memory that its processes share. No Python.h here.

   The file has the table first, then the pieces. A piece holds one object. An entry's word says who
   has its piece: nobody, a process (its token), or the queue (the number of the message that refers
   to it). So the pieces of a dead process are found by looking, and no lock is needed: a process
   takes a piece by one compare-and-swap, and each prefix of what it does leaves a table that works.

   The first entries are kept warm: their memory stays allocated, because fresh pages cost more than
   copying into them does. The memory of all others goes back to the kernel with each object. */
#ifndef IPCKIT_SPILL_TABLE_H
#define IPCKIT_SPILL_TABLE_H

#include "ring/ring.h"

#include <errno.h>

#define SPILL_ENTRIES (UINT32_C(1) << 18)
#define SPILL_WARM 16u
#define SPILL_WARM_SIZE (UINT64_C(1) << 22)
#define SPILL_LEAST_CLASS 16u /* 64 KiB, a multiple of every page size */
#define SPILL_CLASSES 48u
#define SPILL_DATA_START ((UINT64_C(1) << 23) + (UINT64_C(1) << 16))

/* Who has a piece. A token has its process's pid, which is never 0, in the upper 22 bits. */
#define SPILL_FREE UINT64_C(0)
#define SPILL_QUEUED (UINT64_C(1) << COUNT_BITS) /* and the message's number below */
#define SPILL_IS_TOKEN(word) ((word) >> 42 != 0)

typedef struct {
    uint64_t word;
    uint64_t taken;  /* the word that its process found when it took the piece from the queue */
    uint64_t place;  /* of one that is not kept warm: offset, and log2 of its bytes in 6 bits */
    uint64_t filled; /* of one that is kept warm: bytes that have memory */
} spill_entry;

typedef struct {
    uint64_t end;      /* of the pieces, in the file */
    uint32_t high;     /* entries in use; no entry from here on ever was */
    uint32_t sweep_at; /* `high` from which on the dead are looked for before the table grows */
    /* For each size, the first entry that may be free below a count of all that were freed. */
    uint64_t hints[SPILL_CLASSES];
    uint8_t unused[1024 - 16 - 8 * SPILL_CLASSES];
    spill_entry entries[];
} spill_table;

_Static_assert(sizeof(spill_table) == 1024, "the entries begin on a cache line");
_Static_assert(sizeof(spill_table) + SPILL_ENTRIES * sizeof(spill_entry) <= SPILL_DATA_START,
               "the pieces begin behind the table");

/* What a message in the channel is that refers to a piece. */
typedef struct {
    uint64_t magic;
    uint64_t index;
    uint64_t word; /* the entry's, as long as the message is in the channel */
    uint64_t size;
} spill_reference;

#define SPILL_MAGIC UINT64_C(0x0051746b63706902) /* "\2ipcktQ" in memory: no pickle, and no frame */

static inline uint64_t
spill_load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* Changes an entry's word from one value to another: false if it is something else. */
static inline bool
spill_change(spill_entry *entry, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(&entry->word, &from, to, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
}

static inline uint32_t
spill_high(const spill_table *table)
{
    uint32_t high = __atomic_load_n(&table->high, __ATOMIC_ACQUIRE);
    return high < SPILL_ENTRIES ? high : SPILL_ENTRIES;
}

static inline uint64_t
spill_offset(const spill_table *table, uint32_t index)
{
    return index < SPILL_WARM ? SPILL_DATA_START + index * SPILL_WARM_SIZE
                              : spill_load(&table->entries[index].place) >> 6;
}

/* Bytes of a piece; 0 if its process died before the entry was complete. */
static inline uint64_t
spill_span(const spill_table *table, uint32_t index)
{
    uint64_t place = spill_load(&table->entries[index].place);
    return index < SPILL_WARM ? SPILL_WARM_SIZE : place == 0 ? 0 : UINT64_C(1) << (place & 63);
}

/* Fills a fresh table, which is all zeros. */
static inline void
spill_format(spill_table *table)
{
    table->end = SPILL_DATA_START + SPILL_WARM * SPILL_WARM_SIZE;
    table->high = SPILL_WARM;
    table->sweep_at = 2 * SPILL_WARM;
}

/* Notes that an entry may be free. */
static inline void
spill_hint(spill_table *table, uint32_t index)
{
    uint64_t place = spill_load(&table->entries[index].place);
    if (index < SPILL_WARM || (place & 63) >= SPILL_CLASSES) {
        return;
    }
    uint64_t *hint = &table->hints[place & 63], found = spill_load(hint), next;
    do {
        uint32_t first = (uint32_t)found < index ? (uint32_t)found : index;
        next = ((found >> 32) + 1) << 32 | first;
    } while (!__atomic_compare_exchange_n(hint, &found, next, true, __ATOMIC_SEQ_CST,
                                          __ATOMIC_RELAXED));
}

/* A free piece that is kept warm, now the token's: its index, or SPILL_ENTRIES. */
static inline uint32_t
spill_claim_warm(spill_table *table, uint64_t token)
{
    for (uint32_t index = 0; index < SPILL_WARM; index++) {
        spill_entry *entry = &table->entries[index];
        if (spill_load(&entry->word) == SPILL_FREE && spill_change(entry, SPILL_FREE, token)) {
            return index;
        }
    }
    return SPILL_ENTRIES;
}

/* A free piece of 2^log2 bytes, now the token's: its index, or SPILL_ENTRIES. */
static inline uint32_t
spill_claim_used(spill_table *table, uint32_t log2, uint64_t token)
{
    uint64_t *hint = &table->hints[log2], before = spill_load(hint);
    uint32_t first = (uint32_t)before, high = spill_high(table);
    uint32_t index = first > SPILL_WARM ? first : SPILL_WARM;
    for (; index < high; index++) {
        spill_entry *entry = &table->entries[index];
        if ((spill_load(&entry->place) & 63) == log2 && spill_load(&entry->word) == SPILL_FREE
            && spill_change(entry, SPILL_FREE, token)) {
            break;
        }
    }
    bool found = index < high;
    uint64_t after = (before >> 32) << 32 | (found ? index + 1 : high);
    /* Not if another entry was freed meanwhile, which may be one before. */
    __atomic_compare_exchange_n(hint, &before, after, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    return found ? index : SPILL_ENTRIES;
}

/* A new piece of 2^log2 bytes, now the token's: its index, or SPILL_ENTRIES if the table is full. */
static inline uint32_t
spill_claim_new(spill_table *table, uint32_t log2, uint64_t token)
{
    uint32_t index = __atomic_load_n(&table->high, __ATOMIC_RELAXED);
    do {
        if (index >= SPILL_ENTRIES || index < SPILL_WARM) {
            return SPILL_ENTRIES;
        }
    } while (!__atomic_compare_exchange_n(&table->high, &index, index + 1, true, __ATOMIC_SEQ_CST,
                                          __ATOMIC_RELAXED));
    spill_entry *entry = &table->entries[index];
    if (!spill_change(entry, SPILL_FREE, token)) {
        return SPILL_ENTRIES; /* another process overwrote the table */
    }
    uint64_t at = __atomic_fetch_add(&table->end, UINT64_C(1) << log2, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->place, at << 6 | log2, __ATOMIC_RELEASE);
    return index;
}

/* Called with receive_lock held before a message is taken: if it refers to a piece, the piece is this
   process's from here on. If the process is killed before the message is taken, another one meets the
   message, finds that the piece is not the queue's any more, and skips it. */
static inline void
spill_take_from_queue(spill_table *table, const char *data, uint64_t length, uint64_t token)
{
    spill_reference reference;
    if (length != sizeof reference) {
        return;
    }
    memcpy(&reference, data, sizeof reference);
    if (reference.magic != SPILL_MAGIC || reference.index >= SPILL_ENTRIES
        || SPILL_IS_TOKEN(reference.word)) {
        return;
    }
    spill_entry *entry = &table->entries[reference.index];
    if (spill_change(entry, reference.word, token)) {
        __atomic_store_n(&entry->taken, reference.word, __ATOMIC_RELEASE);
    }
}

/* Whether a piece is the queue's, and the message that referred to it is not in the channel any more:
   a sender died between the two. */
static inline bool
spill_is_orphan(const ring *r, uint64_t word)
{
    if (SPILL_IS_TOKEN(word) || !(word & SPILL_QUEUED)) {
        return false;
    }
    uint64_t head = count_of(load_word(&r->shared->head));
    uint64_t since = (head - count_of(word)) & COUNT_MASK;
    return since >= 1 && since <= COUNT_MASK / 2;
}

#endif
