/* A struct in shared memory (ring/seqlock.h), as SharedStruct uses it (native/memory/shared_struct.c). */
#include "scenario.h"

#define WHOLE 24 /* three words: an even number hides a store that is late by one */
#define PARTLY 20 /* the last word is copied in part */
#define TOKEN(thread) ((uint64_t)(thread) + 10)

static seqlock_header *lock;
static size_t size = WHOLE;
static int stores, last[PEERS]; /* not seen by the model */
static bool writing;

static void
prepare(void)
{
    lock = model_memory(seqlock_total_size(size));
    for (int thread = 0; thread < 3; thread++) {
        model_check(file_lock_byte(thread, PEER_LOCK_BASE + thread));
    }
}

static void
begin(void)
{
    stores = 0;
    writing = false;
    memset(last, 0, sizeof last);
}

/* Stores a struct that is whole if its words are equal. The caller is the writer. */
static void
store(uint64_t value)
{
    const uint64_t words[] = {value, value, value};
    model_check(!writing /* one process writes at a time */);
    writing = true;
    seqlock_store(lock, (const char *)words, size);
    writing = false;
    stores++;
}

/* Values only grow, so a reader must not see an older one than before. */
static uint64_t
load(void)
{
    uint64_t words[3] = {0};
    if (!seqlock_try_load(lock, (char *)words, size)) {
        return UINT64_MAX;
    }
    model_check(words[0] == words[1] && words[1] == words[2] /* the struct is whole */);
    model_check((int)words[0] >= last[model_thread()]);
    last[model_thread()] = (int)words[0];
    return words[0];
}

/* Returns whether it stored. */
static bool
store_next(uint64_t token)
{
    uint64_t holder;
    if (!seqlock_begin_store(lock, token, &holder)) {
        return false;
    }
    uint64_t value = load();
    model_check(value != UINT64_MAX /* nobody else stores */);
    store(value + 1);
    seqlock_end_store(lock, token);
    return true;
}

/* -- one writer -------------------------------------------------------------------------------- */

static void
thread_reader(int thread)
{
    for (int turn = 0; turn < 3; turn++) {
        if (thread == 0) {
            model_check(store_next(TOKEN(0)));
        } else {
            load();
        }
    }
}

static void
end_count(void)
{
    model_check(load_relaxed(&lock->count) == (uint64_t)stores);
    model_check(load() == (uint64_t)stores);
    model_check(load_relaxed(&lock->writer) == 0);
}

static void
prepare_partly(void)
{
    size = PARTLY;
    prepare();
}

SCENARIO(seqlock_partly) = {
    .name = "seqlock-partly",
    .about = "as seqlock-read, with a size that is no multiple of 8",
    .threads = 2,
    .bound = 2,
    .quick = 2,
    .prepare = prepare_partly,
    .begin = begin,
    .thread = thread_reader,
    .end = end_count,
};

SCENARIO(seqlock_read) = {
    .name = "seqlock-read",
    .about = "a reader sees a struct as a whole, and none that is older than one it saw before",
    .threads = 2,
    .bound = 3,
    .quick = 3,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_reader,
    .end = end_count,
};

/* -- two writers ------------------------------------------------------------------------------- */

static void
thread_writers(int thread)
{
    if (thread == 2) {
        load();
        load();
    } else {
        store_next(TOKEN(thread));
        store_next(TOKEN(thread));
    }
}

SCENARIO(seqlock_writers) = {
    .name = "seqlock-writers",
    .about = "two writers take turns, and a reader sees only whole structs",
    .threads = 3,
    .bound = 3,
    .quick = 2,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_writers,
    .end = end_count,
};

/* -- a writer dies ----------------------------------------------------------------------------- */

/* Takes the turn from a writer that died. The kernel unlocks its byte after its last store. */
static void
thread_take_over(int thread)
{
    if (thread == 0) {
        store_next(TOKEN(0));
        return;
    }
    for (int turn = 0; turn < 2; turn++) {
        if (file_byte_is_unlocked(thread, PEER_LOCK_BASE)) {
            writing = false;
            seqlock_take_over(lock, TOKEN(0), 0);
        }
        store_next(TOKEN(thread));
        load();
    }
}

/* A store of the dead writer counts from the moment at which readers see it. */
static void
end_take_over(void)
{
    uint64_t count = load_relaxed(&lock->count);
    model_check(count == (uint64_t)stores || (model_is_dead(0) && count == (uint64_t)stores + 1));
    model_check(load() == count);
    if (model_is_dead(0)) {
        seqlock_take_over(lock, TOKEN(0), 0);
    }
    model_check(load_relaxed(&lock->writer) == 0);
}

SCENARIO(seqlock_take_over) = {
    .name = "seqlock-take-over",
    .about = "a writer dies at any point: others see its struct or the one before, and store again",
    .threads = 2,
    .deaths = 1,
    .spared = 1 << 1,
    .bound = 4,
    .quick = 3,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_take_over,
    .end = end_take_over,
};

SCENARIO(seqlock_two_heirs) = {
    .name = "seqlock-two-heirs",
    .about = "a writer dies at any point: one of two others takes the turn, never both",
    .threads = 3,
    .deaths = 1,
    .spared = 1 << 1 | 1 << 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_take_over,
    .end = end_take_over,
};

/* -- new memory -------------------------------------------------------------------------------- */

static void
thread_claim(int thread)
{
    uint64_t fingerprint = (uint64_t)thread + 1;
    bool ours = seqlock_claim(lock, fingerprint, size);
    stores += ours;
    model_check(ours == (load_acquire(&lock->fingerprint) == fingerprint));
}

static void
end_claim(void)
{
    model_check(stores == 1);
}

SCENARIO(seqlock_claim) = {
    .name = "seqlock-claim",
    .about = "two processes claim new memory for different structs: one gets it",
    .threads = 2,
    .bound = 4,
    .quick = 3,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_claim,
    .end = end_claim,
};
