/* Another process overwrites a topic's memory: no call crashes, hangs, or touches what is not the topic's.

   The memory lies between two pages that nobody may touch, messages are copied to and from memory of
   exactly their size, and at each named point, which is between a check and the use of what was
   checked, something may change. test_topic_fuzz ROUNDS SEED SECONDS; exits 0, or dies. */
#define PEER_CHECK_NS INT64_C(20000)
#define LOCK_GRACE_NS INT64_C(40000)
static void ring_point(void);
#define RING_POINT(name) ring_point()
#include "topic_scribble.h"

#define HANDLES 4 /* two subscribe */
#define SLOTS 5

typedef struct {
    uint32_t blocks[SLOTS];
    uint64_t lengths[SLOTS];
    int count;
} held;

typedef struct {
    handle h;
    held loans, views;
} peer;

static uint64_t results[16];
static __thread uint64_t danger; /* one in so many points, or 0 */

static void
ring_point(void)
{
    if (danger != 0 && below(danger) == 0) {
        scribble_topic();
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
step_receive(peer *p)
{
    ring_call call = call_of(&p->h, op_receive, (int64_t)below(2));
    call.length = below(4) == 0 ? 9 * INLINE_MAX : below(200);
    call.items = 1 + below(9);
    char *data = malloc(call.length + 1);
    call.data = data;
    ring_result result = call_do(&p->h, &call);
    free(data);
    if (result == RING_OK && call.message.block != NO_BLOCK) {
        inside(&p->h.r, (char *)call.message.data, call.message.length, false);
        keep(&p->views, call.message.block, call.message.length);
    }
    return result;
}

static ring_result
step_release(peer *p)
{
    uint64_t length;
    return release_block(&p->h, pick(&p->views, &length), BLOCK_READ);
}

static ring_result
step_subscribe(peer *p)
{
    topic_wishes wishes = {.drops = below(2), .depth = 1 + below(p->h.r.capacity),
                           .history = below(p->h.r.capacity + 1)};
    ring_call call = subscribe_call(&p->h, &wishes, (int64_t)below(2));
    return subscribe(&p->h, &call);
}

static ring_result
step_on_peers(peer *p)
{
    ring *r = &p->h.r;
    uint64_t blocks;
    bool subscribed = r->subscriber != NULL;
    ring_call call = call_of(&p->h, subscribed ? op_receive : op_send, (int64_t)below(2));
    ring_descriptors descriptors = {.r = r};
    switch (below(6)) {
    case 0:
        poll_arm(r, call.which);
        ring_defer_to_holder(r, ring_call_lock(r, &call));
        return RING_OK;
    case 1:
        blocks_count(r, (block_kind)below(6), &blocks);
        for (int place = 0; place < TOPIC_SUBSCRIBERS; place++) {
            topic_unread(r, &r->subscribers[place], &blocks);
        }
        return RING_OK;
    case 2:
        descriptor_recover(&descriptors);
        return RING_OK;
    case 3:
        if (subscribed && p->views.count == 0) {
            topic_unsubscribe(r);
            topic_leave(r);
        }
        return RING_OK;
    default:
        return ring_check_peers_before_sleep(r, &call, (uint32_t)below(100));
    }
}

static ring_result
publisher_step(peer *p)
{
    switch (below(8)) {
    case 0:
    case 1:
        return step_send(p, op_send);
    case 2:
    case 3:
        return step_send(p, op_batch);
    case 4:
    case 5:
        return p->loans.count < SLOTS ? step_send(p, op_lend) : step_end_loan(p);
    case 6:
        return p->loans.count > 0 ? step_end_loan(p) : RING_EMPTY;
    default:
        return step_on_peers(p);
    }
}

static ring_result
one_step(peer *p, bool subscribes)
{
    if (!subscribes) {
        return publisher_step(p);
    }
    uint64_t what = below(8);
    return p->h.r.subscriber == NULL                          ? step_subscribe(p)
        : what < 5                                            ? p->views.count < SLOTS
            ? step_receive(p)
            : step_release(p)
        : what < 7 ? p->views.count > 0 ? step_release(p) : RING_EMPTY
                   : step_on_peers(p);
}

/* Opening a topic reads the rest of the header: what it accepts must be in the file. */
static void
try_open(void)
{
    ring r;
    char saved[192];
    memcpy(saved, shared.memory, sizeof saved);
    for (int i = 0; i < 6; i++) {
        *(uint64_t *)(shared.memory + 8 * (1 + below(24))) = below(2) ? evil_number() : below(200);
        if (ring_open(&r, shared.memory, shared.size, -1, true)) {
            char *end = shared.memory + shared.size;
            check((char *)(r.entries + r.slots) <= (char *)r.words, "too many entries");
            check((char *)(r.words + r.granules) <= (char *)r.readers, "too many words");
            check((char *)(r.readers + r.granules) <= r.arena, "too many readers");
            check(r.arena + r.units * UNIT <= r.pool, "too large an arena");
            check(r.pool + r.granules * r.granule <= end, "too large a pool");
            check(r.longest <= INLINE_MAX || r.longest <= r.granules * r.granule, "too long");
            check(r.item_size <= r.longest && r.granule % 64 == 0, "no room for an item");
            check(r.history <= r.capacity && r.slots > r.capacity, "too long a history");
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
        topic_of_any(64 + below(100), 64, 2 + below(30)), /* the pool ends with a page */
        topic_of_any(64 + below(1000), 64, 2 + below(30)),
        topic_of_items(64 + below(100), 16, 2 + below(30), 200),
        topic_of_items(64 + below(100), 64, 2 + below(30), 24),
    };
    ring_shape shape = shapes[below(4)];
    shared = topic_make(shape, below(shape.capacity + 1));
    for (int i = 0; i < HANDLES; i++) {
        peers[i] = (peer){.loans = {.count = 0}};
        topic_open(&peers[i].h, &shared);
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

static ring_result
any_step(peer peers[HANDLES])
{
    uint64_t which = below(HANDLES);
    return one_step(&peers[which], which >= HANDLES / 2);
}

/* After some steps without harm: again and again from there, each time with other numbers. */
static void
play(uint64_t seed)
{
    peer peers[HANDLES], then[HANDLES];
    begin(seed, peers);
    for (uint64_t quiet = below(400); quiet > 0; quiet--) {
        any_step(peers);
    }
    char *before = malloc(shared.size);
    memcpy(before, shared.memory, shared.size);
    memcpy(then, peers, sizeof then);
    for (int again = 0; again < 40; again++) {
        scribble_topic();
        for (uint64_t steps = 1 + below(5); steps > 0; steps--) {
            danger = 2 + below(40);
            results[any_step(peers)]++;
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
race(void *which)
{
    peer *p = &racing[(size_t)which];
    seed_chance((size_t)which + 77);
    for (int step = 0; step < 400; step++) {
        one_step(p, (size_t)which >= HANDLES / 2);
    }
    return NULL;
}

static void *
scribble_on(void *seed)
{
    seed_chance((size_t)seed);
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        scribble_topic();
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
    for (int i = 0; i <= RING_OVERTAKEN; i++) {
        fprintf(stderr, ", %d: %llu", i, (unsigned long long)results[i]);
    }
    check(results[RING_OK] > 0 && results[RING_CORRUPT] > 0, "nothing happened");
    check(results[RING_OVERTAKEN] == 0, "a call returns RING_OVERTAKEN");
    puts("ok");
    return 0;
}
