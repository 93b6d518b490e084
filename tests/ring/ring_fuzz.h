/* Another process overwrites the memory of a channel or topic: no call crashes, hangs, or touches what is
   not in it.

   The memory lies between two pages that nobody may touch, messages are copied to and from memory of
   exactly their size, and at each named point, which is between a check and the use of what was
   checked, something may change. */
#ifndef RING_FUZZ_H
#define RING_FUZZ_H

#define PEER_CHECK_NS INT64_C(20000)
#define LOCK_GRACE_NS INT64_C(40000)
static void ring_point(void);
#define RING_POINT(name) ring_point()
#include "ring_scribble.h"

#define HANDLES_MAX 4
#define SLOTS 5

typedef struct {
    uint32_t blocks[SLOTS];
    uint64_t lengths[SLOTS];
    int count;
} held;

typedef struct {
    handle h;
    held loans, views, taken; /* nothing is taken from a topic */
} peer;

/* What is fuzzed: a channel or a topic. */
typedef struct {
    int handles;
    void (*make)(void); /* sets `shared` */
    void (*open)(handle *opened, const channel *on);
    ring_result (*step)(int which); /* one call of peers[which] */
    void (*scribble)(void);
    void (*try_open)(void); /* what ring_open accepts must be in the file */
} target;

static const target *fuzzed;
static peer peers[HANDLES_MAX];
static uint64_t results[16];
static __thread uint64_t danger; /* one in so many points, or 0 */

static void
ring_point(void)
{
    if (danger != 0 && below(danger) == 0) {
        fuzzed->scribble();
    }
}

/* Checks that a message lies in a block, and uses its bytes. */
static void
inside(const ring *r, char *data, uint64_t length, bool write)
{
    check(data >= r->pool && length <= r->granules * r->granule
              && data + length <= r->pool + r->granules * r->granule,
          "memory that is not the pool's was given out");
    if (write) {
        memset(data, 2, length);
    }
    for (uint64_t i = 0; i < length; i++) {
        results[15] += data[i] & 1;
    }
}

static void
keep(held *in, uint32_t block, uint64_t length)
{
    in->lengths[in->count] = length;
    in->blocks[in->count++] = block;
}

static uint32_t
pick(held *from, uint64_t *length)
{
    int which = (int)below((uint64_t)from->count--);
    uint32_t block = from->blocks[which];
    *length = from->lengths[which];
    from->blocks[which] = from->blocks[from->count];
    from->lengths[which] = from->lengths[from->count];
    return block;
}

static ring_result
step_send(peer *p, ring_operation operation)
{
    ring *r = &p->h.r;
    ring_call call = call_of(&p->h, operation, (int64_t)below(2));
    bool batch = operation == op_batch;
    call.items = batch ? 1 + below(9) : 1;
    call.length = (below(5) == 0 ? below(r->longest + 9) : below(100)) + batch;
    if (r->item_size != 0 && below(4) != 0) {
        call.length = r->item_size;
    }
    uint64_t length = call.length;
    char *data = malloc(length * call.items + 1);
    memset(data, 1, length * call.items + 1);
    call.data = data;
    ring_result result =
        operation == op_send ? send_message(&p->h, &call) : call_do(&p->h, &call);
    free(data);
    if (result == RING_OK && operation == op_lend && call.block != NO_BLOCK) {
        inside(r, block_data(r, call.block), length, true);
        keep(&p->loans, call.block, length);
    }
    return result;
}

static ring_result
step_end_loan(peer *p)
{
    ring_call call = call_of(&p->h, op_send_block, (int64_t)below(2));
    call.block = pick(&p->loans, &call.length);
    return below(3) == 0 ? release_block(&p->h, call.block, BLOCK_LENT) : call_do(&p->h, &call);
}

static ring_result
step_receive(peer *p, ring_operation operation, held *into)
{
    ring_call call = call_of(&p->h, operation, (int64_t)below(2));
    call.length = below(4) == 0 ? 9 * INLINE_MAX : below(200);
    call.items = 1 + below(9);
    char *data = malloc(call.length + 1);
    call.data = data;
    ring_result result = call_do(&p->h, &call);
    free(data);
    if (result == RING_OK && call.message.block != NO_BLOCK) {
        inside(&p->h.r, (char *)call.message.data, call.message.length, operation == op_take);
        keep(into, call.message.block, call.message.length);
    }
    return result;
}

static ring_result
step_release(peer *p)
{
    uint64_t length;
    return release_block(&p->h, pick(&p->views, &length), BLOCK_READ);
}

/* -- playing --------------------------------------------------------------------------------------- */

static void
begin(uint64_t seed)
{
    seed_chance(seed);
    danger = 0;
    fuzzed->make();
    for (int i = 0; i < fuzzed->handles; i++) {
        peers[i] = (peer){.loans = {.count = 0}};
        fuzzed->open(&peers[i].h, &shared);
    }
}

static void
end(void)
{
    for (int i = 0; i < fuzzed->handles; i++) {
        handle_close(&peers[i].h);
    }
    channel_unmake(&shared);
}

static ring_result
any_step(void)
{
    return fuzzed->step((int)below((uint64_t)fuzzed->handles));
}

/* After some steps without harm: again and again from there, each time with other numbers. */
static void
play(uint64_t seed)
{
    peer then[HANDLES_MAX];
    begin(seed);
    for (uint64_t quiet = below(400); quiet > 0; quiet--) {
        any_step();
    }
    char *before = malloc(shared.size);
    memcpy(before, shared.memory, shared.size);
    memcpy(then, peers, sizeof then);
    for (int again = 0; again < 40; again++) {
        fuzzed->scribble();
        for (uint64_t steps = 1 + below(5); steps > 0; steps--) {
            danger = 2 + below(40);
            results[any_step()]++;
            danger = 0;
        }
        memcpy(shared.memory, before, shared.size);
        memcpy(peers, then, sizeof then);
    }
    free(before);
    fuzzed->try_open();
    end();
}

/* -- at the same time ------------------------------------------------------------------------------ */

static bool over;

static void *
race(void *which)
{
    seed_chance((size_t)which + 77);
    for (int step = 0; step < 400; step++) {
        fuzzed->step((int)(size_t)which);
    }
    return NULL;
}

static void *
scribble_on(void *seed)
{
    seed_chance((size_t)seed);
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        fuzzed->scribble();
        usleep((useconds_t)below(3) * 10);
    }
    return NULL;
}

static void
play_at_once(uint64_t seed)
{
    pthread_t players[HANDLES_MAX], enemy;
    begin(seed);
    over = false;
    check(pthread_create(&enemy, NULL, scribble_on, (void *)seed) == 0, "no thread");
    for (int i = 0; i < fuzzed->handles; i++) {
        check(pthread_create(&players[i], NULL, race, (void *)(size_t)i) == 0, "no thread");
    }
    for (int i = 0; i < fuzzed->handles; i++) {
        pthread_join(players[i], NULL);
    }
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    pthread_join(enemy, NULL);
    end();
}

/* Runs a test with the arguments ROUNDS SEED SECONDS. */
static void
fuzz(const target *what, int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 1000, seed = argc > 2 ? atol(argv[2]) : 1;
    alarm(argc > 3 ? (unsigned)atoi(argv[3]) : 100); /* a hang is a failure */
    fuzzed = what;
    for (long round = 0; round < rounds; round++) {
        fprintf(stderr, "seed %ld\r", seed + round);
        play((uint64_t)(seed + round));
        if (round % 100 == 0) {
            play_at_once((uint64_t)(seed + round));
        }
    }
    for (int i = 0; i <= RING_OVERTAKEN; i++) {
        fprintf(stderr, ", %d: %llu", i, (unsigned long long)results[i]);
    }
    check(results[RING_OK] > 0 && results[RING_CORRUPT] > 0, "nothing happened");
}

#endif
