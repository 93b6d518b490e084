/* Another process overwrites a ring's memory: no call crashes, hangs, or touches what is not the ring's.

   The memory lies between two pages that nobody may touch, messages are copied to and from memory of
   exactly their size, and at each named point, which is between a check and the use of what was
   checked, something may change. test_ring_fuzz ROUNDS SEED SECONDS; exits 0, or dies. */
#define PEER_CHECK_NS INT64_C(20000)
#define LOCK_GRACE_NS INT64_C(40000)
static void ring_point(void);
#define RING_POINT(name) ring_point()
#include "ring_scribble.h"

#define HANDLES 3
#define SLOTS 5

typedef struct {
    uint32_t blocks[SLOTS];
    uint64_t lengths[SLOTS];
    int count;
} held;

typedef struct {
    handle h;
    held loans, views, taken;
} peer;

static uint64_t results[16];
static __thread uint64_t danger; /* one in so many points, or 0 */

static void
ring_point(void)
{
    if (danger != 0 && below(danger) == 0) {
        scribble();
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
step_end_delivery(peer *p)
{
    uint64_t length;
    uint32_t block = pick(&p->taken, &length);
    return below(2) ? acknowledge(&p->h, block)
                    : ring_requeue(&p->h.r, block, p->h.r.owner);
}

static ring_result
step_release(peer *p)
{
    uint64_t length;
    return release_block(&p->h, pick(&p->views, &length), BLOCK_READ);
}

static ring_result
step_on_peers(peer *p)
{
    ring *r = &p->h.r;
    ring_call call = call_of(&p->h, below(2) ? op_send : op_take, (int64_t)below(2));
    uint64_t blocks;
    switch (below(4)) {
    case 0:
        poll_arm(r, call.which);
        ring_defer_to_holder(r, ring_call_lock(r, &call));
        return RING_OK;
    case 1:
        blocks_count(r, (block_kind)below(6), &blocks);
        return RING_OK;
    case 2: {
        ring_descriptors descriptors = {.r = r};
        descriptor_recover(&descriptors);
        return RING_OK;
    }
    default:
        return ring_check_peers_before_sleep(r, &call, (uint32_t)below(100));
    }
}

static ring_result
one_step(peer *p)
{
    switch (below(15)) {
    case 0:
    case 1:
        return step_send(p, op_send);
    case 2:
        return step_send(p, op_batch);
    case 3:
    case 4:
        return p->loans.count < SLOTS ? step_send(p, op_lend) : step_end_loan(p);
    case 5:
        return p->loans.count > 0 ? step_end_loan(p) : RING_EMPTY;
    case 6:
    case 7:
    case 8:
        return p->views.count < SLOTS ? step_receive(p, op_receive, &p->views) : step_release(p);
    case 9:
        return p->views.count > 0 ? step_release(p) : RING_EMPTY;
    case 10:
    case 11:
        return p->taken.count < SLOTS ? step_receive(p, op_take, &p->taken) : step_end_delivery(p);
    case 12:
    case 13:
        return p->taken.count > 0 ? step_end_delivery(p) : RING_EMPTY;
    default:
        return step_on_peers(p);
    }
}

/* Opening a channel reads the rest of the header: what it accepts must be in the file. */
static void
try_open(void)
{
    ring r;
    char saved[128];
    memcpy(saved, shared.memory, sizeof saved);
    for (int i = 0; i < 3; i++) {
        *(uint64_t *)(shared.memory + 8 * (1 + below(16))) = evil_number();
        if (ring_open(&r, shared.memory, shared.size, -1, false)) {
            check(r.units <= (shared.size - CHANNEL_ARENA_START) / UNIT, "too large an arena");
            check(r.pool + r.granules * r.granule <= shared.memory + shared.size, "too large a pool");
            check(r.longest <= INLINE_MAX || r.longest <= r.granules * r.granule, "too long");
            check(r.item_size <= r.longest && r.granule % 64 == 0, "no room for an item");
        }
    }
    memcpy(shared.memory, saved, sizeof saved);
}

static void
begin(uint64_t seed, peer peers[HANDLES])
{
    seed_chance(seed);
    danger = 0;
    ring_shape shapes[] = {
        shape_of_any(64 + below(100), 64, 2 + below(30)), /* the pool ends with a page */
        shape_of_any(64 + below(100), 64, 2 + below(30)),
        shape_of_items(64 + below(100), 16, 2 + below(30), 200),
        shape_of_items(64 + below(100), 64, 2 + below(30), 24),
    };
    shared = channel_make(shapes[below(4)], below(3) == 0 ? CHANNEL_OVERWRITE : 0);
    for (int i = 0; i < HANDLES; i++) {
        peers[i] = (peer){.loans = {.count = 0}};
        handle_open(&peers[i].h, &shared);
    }
}

static void
end(peer peers[HANDLES])
{
    for (int i = 0; i < HANDLES; i++) {
        handle_close(&peers[i].h);
    }
    channel_unmake(&shared);
}

/* After some steps without harm: again and again from there, each time with other numbers. */
static void
play(uint64_t seed)
{
    peer peers[HANDLES], then[HANDLES];
    begin(seed, peers);
    for (uint64_t quiet = below(400); quiet > 0; quiet--) {
        one_step(&peers[below(HANDLES)]);
    }
    char *before = malloc(shared.size);
    memcpy(before, shared.memory, shared.size);
    memcpy(then, peers, sizeof then);
    for (int again = 0; again < 40; again++) {
        scribble();
        for (uint64_t steps = 1 + below(5); steps > 0; steps--) {
            danger = 2 + below(40);
            results[one_step(&peers[below(HANDLES)])]++;
            danger = 0;
        }
        memcpy(shared.memory, before, shared.size);
        memcpy(peers, then, sizeof then);
    }
    free(before);
    try_open();
    end(peers);
}

/* -- at the same time ------------------------------------------------------------------------------ */

static bool over;
static peer racing[HANDLES];

static void *
race(void *number)
{
    peer *p = &racing[(size_t)number];
    seed_chance((size_t)number + 77);
    for (int step = 0; step < 400; step++) {
        one_step(p);
    }
    return NULL;
}

static void *
scribble_on(void *seed)
{
    seed_chance((size_t)seed);
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        scribble();
        usleep((useconds_t)below(3) * 10);
    }
    return NULL;
}

static void
play_at_once(uint64_t seed)
{
    pthread_t players[HANDLES], enemy;
    begin(seed, racing);
    over = false;
    check(pthread_create(&enemy, NULL, scribble_on, (void *)seed) == 0, "no thread");
    for (size_t i = 0; i < HANDLES; i++) {
        check(pthread_create(&players[i], NULL, race, (void *)i) == 0, "no thread");
    }
    for (int i = 0; i < HANDLES; i++) {
        pthread_join(players[i], NULL);
    }
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    pthread_join(enemy, NULL);
    end(racing);
}

int
main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 1000, seed = argc > 2 ? atol(argv[2]) : 1;
    alarm(argc > 3 ? (unsigned)atoi(argv[3]) : 100); /* a hang is a failure */
    for (long round = 0; round < rounds; round++) {
        fprintf(stderr, "seed %ld\r", seed + round);
        play((uint64_t)(seed + round));
        if (round % 100 == 0) {
            play_at_once((uint64_t)(seed + round));
        }
    }
    for (int i = 0; i <= RING_CLOSED; i++) {
        fprintf(stderr, ", %d: %llu", i, (unsigned long long)results[i]);
    }
    check(results[RING_OK] > 0 && results[RING_CORRUPT] > 0, "nothing happened");
    puts("ok");
    return 0;
}
