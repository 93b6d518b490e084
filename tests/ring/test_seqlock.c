/* native/ring/seqlock.h under the sanitizers: torn reads, writers killed in their turn, a hostile peer.

   test_seqlock SCALE: how many thousand stores. Exits 0, or says what was wrong and exits 1. */
#include "ring/seqlock.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS 12
#define SIZE (WORDS * 8 - 3) /* no whole number of words */
#define PAD 64

typedef struct {
    unsigned char bytes[SIZE];
} value;

static long scale;

static void
check(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "test_seqlock: %s\n", what);
        _exit(1);
    }
}

/* A value whose every byte follows from its number, which stands in the first eight. */
static value
make(uint64_t number)
{
    value made;
    memcpy(made.bytes, &number, 8);
    uint64_t state = number * 0x9E3779B97F4A7C15u + 1;
    for (size_t i = 8; i < SIZE; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        made.bytes[i] = (unsigned char)(state >> 56);
    }
    return made;
}

static uint64_t
number_of(const value *seen)
{
    static const value zeros;
    uint64_t number;
    memcpy(&number, seen->bytes, 8);
    value wanted = make(number);
    check(memcmp(seen, &wanted, SIZE) == 0 || memcmp(seen, &zeros, SIZE) == 0, "a torn struct");
    return number;
}

/* Shared memory with a border of known bytes around what the lock may touch. */
static char *
shared_memory(seqlock_header **lock)
{
    size_t size = PAD + seqlock_total_size(SIZE) + PAD;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(memory != MAP_FAILED, "no memory");
    memset(memory, 0x5A, PAD);
    memset(memory + size - PAD, 0x5A, PAD);
    *lock = (seqlock_header *)(memory + PAD);
    check(seqlock_claim(*lock, 7, SIZE), "fresh memory was not ours");
    return memory;
}

static void
check_border(const char *memory)
{
    const char *end = memory + PAD + seqlock_total_size(SIZE);
    for (size_t i = 0; i < PAD; i++) {
        check(memory[i] == 0x5A && end[i] == 0x5A, "written beside the struct");
    }
}

static void
load(seqlock_header *lock, value *to)
{
    while (!seqlock_try_load(lock, (char *)to, SIZE)) {
    }
}

static void
store(seqlock_header *lock, uint64_t token, uint64_t number)
{
    uint64_t holder;
    value fresh = make(number);
    while (!seqlock_begin_store(lock, token, &holder)) {
    }
    seqlock_store(lock, (const char *)&fresh, SIZE);
    seqlock_end_store(lock, token);
}

static void
test_basics(void)
{
    seqlock_header *lock;
    char *memory = shared_memory(&lock);
    value seen;
    uint64_t holder;
    load(lock, &seen);
    check(number_of(&seen) == 0, "fresh memory is not a struct of zeros");
    check(seqlock_claim(lock, 7, SIZE) && !seqlock_claim(lock, 8, SIZE), "the wrong layout");
    check(lock->fingerprint == 7 && lock->size == SIZE, "the header");
    for (uint64_t i = 1; i < 6; i++) {
        store(lock, 3, i);
        load(lock, &seen);
        check(number_of(&seen) == i && lock->count == i && lock->writer == 0, "store and load");
    }
    check(seqlock_begin_store(lock, 3, &holder), "the turn was free");
    check(!seqlock_begin_store(lock, 4, &holder) && holder == 3, "two writers at once");
    check(!seqlock_take_over(lock, 5, 4), "taken over from who had no turn");
    check(seqlock_take_over(lock, 3, 4) && lock->writer == 4, "not taken over");
    seqlock_end_store(lock, 3); /* the one taken for dead comes back */
    check(lock->writer == 4, "another's turn was ended");
    seqlock_end_store(lock, 4);
    check(lock->writer == 0, "the turn was not ended");
    check_border(memory);
    for (size_t size = 0; size < 40; size++) {
        char from[40], to[41];
        _Alignas(8) char room[32 + 2 * 40];
        memset(room, 0, sizeof room);
        memset(from, 'x', sizeof from);
        memset(to, '-', sizeof to);
        seqlock_store((seqlock_header *)room, from, size);
        check(seqlock_try_load((seqlock_header *)room, to, size), "a quiet load failed");
        check(memcmp(from, to, size) == 0 && to[size] == '-', "the copy's size");
    }
}

static seqlock_header *the_lock;
static atomic_int done;

static void *
read_on(void *unused)
{
    value seen;
    uint64_t last = 0;
    while (!done) {
        load(the_lock, &seen);
        uint64_t number = number_of(&seen);
        check(number >= last, "an older struct after a newer one");
        last = number;
    }
    return unused;
}

static void
test_threads(void)
{
    char *memory = shared_memory(&the_lock);
    pthread_t readers[3];
    done = 0;
    for (int i = 0; i < 3; i++) {
        check(pthread_create(&readers[i], NULL, read_on, NULL) == 0, "no thread");
    }
    for (long i = 1; i <= scale * 1000; i++) {
        store(the_lock, 1, (uint64_t)i);
    }
    done = 1;
    for (int i = 0; i < 3; i++) {
        pthread_join(readers[i], NULL);
    }
    check((long)the_lock->count == scale * 1000, "the counter");
    check_border(memory);
}

static void *
write_on(void *token)
{
    for (long i = 0; i < scale * 200; i++) {
        store(the_lock, *(uint64_t *)token, *(uint64_t *)token * 1000000000 + (uint64_t)i);
    }
    return NULL;
}

static void
test_many_writers(void)
{
    char *memory = shared_memory(&the_lock);
    pthread_t writers[3];
    static uint64_t tokens[3] = {1, 2, 3};
    for (int i = 0; i < 3; i++) {
        check(pthread_create(&writers[i], NULL, write_on, &tokens[i]) == 0, "no thread");
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(writers[i], NULL);
    }
    check((long)the_lock->count == scale * 600, "stores were lost");
    check_border(memory);
}

/* A writer that is killed wherever it happens to be, once it has stored some times. */
static void
kill_a_writer(seqlock_header *lock, uint64_t token)
{
    uint64_t until = lock->count + 1 + (uint64_t)rand() % 400;
    pid_t writer = fork();
    if (writer == 0) {
        for (uint64_t i = 1;; i++) {
            store(lock, token, token << 32 | i);
        }
    }
    while (__atomic_load_n(&lock->count, __ATOMIC_RELAXED) < until) {
    }
    kill(writer, SIGKILL);
    waitpid(writer, NULL, 0);
}

static void
test_killed_writers(void)
{
    seqlock_header *lock;
    char *memory = shared_memory(&lock);
    pid_t reader = fork();
    if (reader == 0) {
        value seen;
        for (;;) {
            load(lock, &seen);
            number_of(&seen);
        }
    }
    long held = 0;
    for (long round = 0; round < scale * 10 || held == 0; round++) {
        uint64_t token = 100 + (uint64_t)round, holder;
        check(round < scale * 1000, "no writer was ever killed in its turn");
        kill_a_writer(lock, token);
        if (seqlock_take_over(lock, token, 0)) {
            held++;
        }
        value seen, fresh = make(1);
        load(lock, &seen);
        check(number_of(&seen) >> 32 == token, "what a killed writer had stored is gone");
        uint64_t stores = lock->count;
        check(seqlock_begin_store(lock, 1, &holder), "a dead writer's turn was not free");
        seqlock_store(lock, (const char *)&fresh, SIZE);
        seqlock_end_store(lock, 1);
        load(lock, &seen);
        check(number_of(&seen) == 1 && lock->count == stores + 1, "no store after a dead writer");
    }
    int status;
    kill(reader, SIGKILL);
    waitpid(reader, &status, 0);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "a reader failed");
    check_border(memory);
}

/* Somebody who scribbles over the header: nothing is read or written outside, no call is endless. */
static void *
scribble(void *unused)
{
    unsigned seed = 5;
    uint64_t *words = (uint64_t *)the_lock;
    while (!done) {
        uint64_t word = (uint64_t)rand_r(&seed) << 33 ^ (uint64_t)rand_r(&seed);
        __atomic_store_n(&words[(unsigned)rand_r(&seed) % 4], word, __ATOMIC_RELAXED);
    }
    return unused;
}

static void
test_hostile(void)
{
    char *memory = shared_memory(&the_lock);
    pthread_t enemy;
    done = 0;
    check(pthread_create(&enemy, NULL, scribble, NULL) == 0, "no thread");
    value seen, fresh = make(1);
    for (long i = 0; i < scale * 500; i++) {
        uint64_t holder;
        seqlock_try_load(the_lock, (char *)&seen, SIZE);
        seqlock_claim(the_lock, 7, SIZE);
        if (seqlock_begin_store(the_lock, 9, &holder) || seqlock_take_over(the_lock, holder, 9)) {
            seqlock_store(the_lock, (const char *)&fresh, SIZE);
            seqlock_end_store(the_lock, 9);
        }
    }
    done = 1;
    pthread_join(enemy, NULL);
    check_border(memory);
}

int
main(int argc, char **argv)
{
    scale = argc > 1 ? atol(argv[1]) : 20;
    check(scale > 0, "SCALE is 1 or more");
    srand(1);
    test_basics();
    test_threads();
    test_many_writers();
    test_hostile();
    test_killed_writers();
    puts("ok");
    return 0;
}
