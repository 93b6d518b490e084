/* The table of a ProcessQueue's spill file, which its processes share. No Python.h here.

   The file has the objects for which the channel has no block. It contains the table, then the pieces. A
   piece contains one object, and its memory is freed with the object. The entry of a piece has
   a word with its owner: no owner (SPILL_FREE), a process (its token), or the queue (SPILL_QUEUED and
   the number of the message that refers to the piece). A scan of the table finds the pieces of a dead
   process. There is no lock: a process takes a piece by one compare-and-swap, and the table is valid
   after each of its stores. */
#ifndef IPCKIT_SPILL_TABLE_H
#define IPCKIT_SPILL_TABLE_H

#include "ring/ring.h"

#include <errno.h>

#define SPILL_ENTRIES (UINT32_C(1) << 18)
#define SPILL_SWEEP_MIN 16u /* the table grows by at least so many entries between two sweeps */
#define SPILL_CLASS_MIN 16u /* log2 of the smallest size: 64 KiB, a multiple of every page size */
#define SPILL_CLASSES 48u   /* log2 of any size is less */
#define SPILL_DATA_START ((UINT64_C(1) << 23) + (UINT64_C(1) << 16))

/* The values of an entry's word. A token has the pid, which is never 0, in its upper 22 bits. */
#define SPILL_FREE UINT64_C(0)
#define SPILL_QUEUED (UINT64_C(1) << COUNT_BITS) /* plus the message's number */
#define SPILL_IS_TOKEN(word) ((word) >> 42 != 0)

typedef struct {
    uint64_t word;
    uint64_t taken;  /* the word before the present owner took the piece from the queue */
    uint64_t place;  /* the piece's offset, then log2 of its size in 6 bits */
    uint64_t unused;
} spill_entry;

typedef struct {
    uint64_t end;      /* the end of the pieces, as an offset in the file */
    uint32_t high;     /* no entry from this index on was ever used */
    uint32_t sweep_at; /* when `high` reaches it, reclaim from dead processes before the table grows */
    /* For each log2 of a size: in bits 0 to 31, an entry before which no piece of that size is free;
       above, a count of the pieces that were freed, so that a compare-and-swap notices one. */
    uint64_t hints[SPILL_CLASSES];
    uint8_t unused[1024 - 16 - 8 * SPILL_CLASSES];
    spill_entry entries[];
} spill_table;

_Static_assert(sizeof(spill_table) == 1024, "the entries begin on a cache line");
_Static_assert(sizeof(spill_table) + SPILL_ENTRIES * sizeof(spill_entry) <= SPILL_DATA_START,
               "the pieces begin after the table");

/* The message that refers to a piece. */
typedef struct {
    uint64_t magic;
    uint64_t index;
    uint64_t word; /* of the entry, while the message is in the channel */
    uint64_t size; /* bytes of the object */
} spill_reference;

#define SPILL_MAGIC UINT64_C(0x0051746b63706902) /* "\2ipcktQ" in memory; no pickle or frame starts so */

/* Loads a value of the table. The acquire pairs with the exchanges in spill_change and spill_hint, and with
   the release stores to a word. */
static inline uint64_t
spill_load(const uint64_t *word)
{
    return load_acquire(word);
}

/* Changes an entry's word from one value to another. Returns false if it has a third value. The
   exchange publishes the stores to the piece; it pairs with spill_load and with itself in the process
   that takes the piece next. */
static inline bool
spill_change(spill_entry *entry, uint64_t from, uint64_t to)
{
    return compare_exchange(&entry->word, &from, to, ACQ_REL, RELAXED);
}

/* Returns how many entries to scan. An entry that is not seen yet looks free and has no size. */
static inline uint32_t
spill_high(const spill_table *table)
{
    uint32_t high = load_relaxed(&table->high);
    return high < SPILL_ENTRIES ? high : SPILL_ENTRIES;
}

/* Returns the offset of a piece in the file. */
static inline uint64_t
spill_offset(const spill_table *table, uint32_t index)
{
    return spill_load(&table->entries[index].place) >> 6;
}

/* Returns the bytes of a piece; 0 if a process died before it stored the entry's `place`. */
static inline uint64_t
spill_span(const spill_table *table, uint32_t index)
{
    uint64_t place = spill_load(&table->entries[index].place);
    return place == 0 ? 0 : UINT64_C(1) << (place & 63);
}

/* Formats a fresh table, which is all zeros. No other process may use it yet. */
static inline void
spill_format(spill_table *table)
{
    table->end = SPILL_DATA_START;
    table->sweep_at = SPILL_SWEEP_MIN;
}

/* Notes in the hints that an entry may be free. The release pairs with the load in spill_claim_used, which
   then finds the entry free. */
static inline void
spill_hint(spill_table *table, uint32_t index)
{
    uint64_t place = spill_load(&table->entries[index].place);
    if ((place & 63) >= SPILL_CLASSES) {
        return;
    }
    uint64_t *hint = &table->hints[place & 63], found = spill_load(hint), next;
    do {
        uint32_t first = (uint32_t)found < index ? (uint32_t)found : index;
        next = ((found >> 32) + 1) << 32 | first;
    } while (!compare_exchange(hint, &found, next, RELEASE, RELAXED));
}

/* Claims a free piece of 2^log2 bytes that was used before. Returns its index, or SPILL_ENTRIES if
   none is free. */
static inline uint32_t
spill_claim_used(spill_table *table, uint32_t log2, uint64_t token)
{
    uint64_t *hint = &table->hints[log2], before = spill_load(hint);
    uint32_t index = (uint32_t)before, high = spill_high(table);
    for (; index < high; index++) {
        spill_entry *entry = &table->entries[index];
        if ((spill_load(&entry->place) & 63) == log2 && spill_load(&entry->word) == SPILL_FREE
            && spill_change(entry, SPILL_FREE, token)) {
            break;
        }
    }
    bool found = index < high;
    uint64_t after = (before >> 32) << 32 | (found ? index + 1 : high);
    /* The exchange fails if another entry was freed in the meantime, because it may be an earlier
       one. It publishes nothing. */
    compare_exchange(hint, &before, after, RELAXED, RELAXED);
    return found ? index : SPILL_ENTRIES;
}

/* Appends a new piece of 2^log2 bytes, which the token owns. Returns its index, or SPILL_ENTRIES if
   the table is full. Others learn of `place` with the word or a message. A process that dies before it leaves
   an entry with a span of 0. */
static inline uint32_t
spill_claim_new(spill_table *table, uint32_t log2, uint64_t token)
{
    uint32_t index = load_relaxed(&table->high);
    do {
        if (index >= SPILL_ENTRIES) {
            return SPILL_ENTRIES;
        }
    } while (!compare_exchange(&table->high, &index, index + 1, RELAXED, RELAXED));
    spill_entry *entry = &table->entries[index];
    if (!spill_change(entry, SPILL_FREE, token)) {
        return SPILL_ENTRIES; /* another process overwrote the table */
    }
    uint64_t at = fetch_add_relaxed(&table->end, UINT64_C(1) << log2);
    store_relaxed(&entry->place, at << 6 | log2);
    return index;
}

/* Takes the piece from the queue, if the message refers to one. Requires receive_lock. The caller takes
   the message afterwards. If it is killed before, the next receiver finds that the queue does not own
   the piece any more, and skips the message. Only this process reads `taken`. */
static inline void
spill_take_from_queue(spill_table *table, const char *data, uint64_t length, uint64_t token)
{
    spill_reference reference;
    if (length != sizeof reference) {
        return;
    }
    copy_shared((char *)&reference, data, sizeof reference);
    if (reference.magic != SPILL_MAGIC || reference.index >= SPILL_ENTRIES
        || SPILL_IS_TOKEN(reference.word)) {
        return;
    }
    spill_entry *entry = &table->entries[reference.index];
    if (spill_change(entry, reference.word, token)) {
        store_relaxed(&entry->taken, reference.word);
    }
}

/* Tells from an entry's word whether the queue owns the piece and no message refers to it. The sender
   was killed before it sent the message, another sender used its number, and head has passed it. */
static inline bool
spill_is_orphan(const ring *r, uint64_t word)
{
    if (SPILL_IS_TOKEN(word) || !(word & SPILL_QUEUED)) {
        return false;
    }
    uint64_t head = count_of(load_acquire(&r->shared->head));
    uint64_t since = (head - count_of(word)) & COUNT_MASK;
    return since >= 1 && since <= COUNT_MASK / 2;
}

#endif
