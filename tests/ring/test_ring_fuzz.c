/* Somebody scribbles over a ring's memory: no call crashes, hangs, or touches what is not the ring's.

   The memory lies between two pages that nobody may touch, messages are copied to and from blocks of
   exactly their size, and at each named point, which is between a check and the use of what was
   checked, something may change. test_ring_fuzz ROUNDS SEED SECONDS; exits 0, or dies. */
#define PEER_CHECK_NS INT64_C(20000)
#define LOCK_GRACE_NS INT64_C(40000)
static void ring_point(void);
#define RING_POINT(name) ring_point()
#include "ring_harness.h"

#define HANDLES 3
#define SLOTS 5

typedef struct {
    handle h;
    uint64_t loans[SLOTS], lengths[SLOTS], views[SLOTS];
    int lent, viewed;
} peer;

static channel shared;
static uint64_t units, results[16];
static __thread uint64_t danger; /* one in so many points, or 0 */

/* A number that a check may let through, or just not. */
static uint64_t
evil_number(void)
{
    uint64_t near = units * below(4) + below(5) - 2;
    switch (below(10)) {
    case 0:
        return random_number();
    case 1:
        return below(16);
    case 2:
        return near;
    case 3:
        return near << COUNT_BITS | below(40);
    case 4:
        return near << 1 | below(2);
    case 5:
        return below(16) | (uint64_t)owner_of((uint32_t)below(5), (uint32_t)below(4)) << 4
            | below(30) << 32;
    case 6:
        return shape_of(below(units * UNIT * 2), below(2) == 0 ? below(6) : 1);
    case 7:
        return shape_of(below(80) * below(80), below(3) == 0 ? COUNT_MASK : below(30));
    case 8:
        return owner_of((uint32_t)below(600), (uint32_t)below(4)) | below(2) << 31;
    default:
        return UINT64_MAX << below(64);
    }
}

/* The whole ring elsewhere: consistent, and perhaps beyond what there is. */
static void
displace(channel_header *header)
{
    uint64_t by = below(3) * units + below(units), word = by << COUNT_BITS;
    uint64_t *words[] = {&header->tail, &header->senders_tail, &header->head, &header->cached_head,
                         &header->cached_tail, &header->reserve};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        __atomic_fetch_add(words[i], word, __ATOMIC_RELAXED);
    }
    __atomic_fetch_add(&header->low_water, by << 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&header->cached_low_water, by << 1, __ATOMIC_RELAXED);
}

static void
scribble(void)
{
    if (below(20) == 0) {
        displace((channel_header *)shared.memory);
    }
    static const uint16_t favourites[] = {
        offsetof(channel_header, roles_seen),   offsetof(channel_header, recovery_wanted),
        offsetof(channel_header, peers_high),   offsetof(channel_header, send_lock),
        offsetof(channel_header, reserve),      offsetof(channel_header, cached_head),
        offsetof(channel_header, cached_low_water),    offsetof(channel_header, tail),
        offsetof(channel_header, items),        offsetof(channel_header, receive_lock),
        offsetof(channel_header, low_water),         offsetof(channel_header, cached_tail),
        offsetof(channel_header, head),         offsetof(channel_header, space),
        offsetof(channel_header, small_number), offsetof(channel_header, small_length),
        offsetof(channel_header, senders_tail),    offsetof(channel_header, small_in_use),
    };
    size_t at;
    const channel_header *header = (const channel_header *)shared.memory;
    switch (below(6)) {
    case 0:
    case 1:
        at = favourites[below(sizeof favourites / sizeof *favourites)];
        break;
    case 2:
        at = below(CHANNEL_ARENA_START / 8) * 8;
        break;
    case 3: /* the record at head, at low_water, or one near them */
        at = below(2) ? position_of(header->head) : header->low_water >> 1;
        at = CHANNEL_ARENA_START + (at + below(3) * below(4)) % units * UNIT + below(2) * 8;
        break;
    default:
        at = CHANNEL_ARENA_START + below(units) * UNIT + below(2) * 8;
    }
    uint64_t number = evil_number();
    char *word = shared.memory + at;
    if (at % 8 != 0 || below(3) == 0) {
        __atomic_store_n((uint32_t *)word, (uint32_t)number, __ATOMIC_RELAXED);
    } else if (below(8) == 0) {
        /* Only a bit of what stands there. */
        __atomic_fetch_xor((uint64_t *)word, UINT64_C(1) << below(64), __ATOMIC_RELAXED);
    } else {
        __atomic_store_n((uint64_t *)word, number, __ATOMIC_RELAXED);
    }
}

static void
ring_point(void)
{
    if (danger != 0 && below(danger) == 0) {
        scribble();
    }
}

static void
inside(const ring *r, const char *data, uint64_t length)
{
    check(data >= r->arena && length <= r->units * UNIT
              && data + length <= r->arena + r->units * UNIT,
          "memory that is not the arena's was given out");
}

static ring_result
step_send(peer *p, ring_operation operation)
{
    ring_call call = call_of(&p->h, operation, (int64_t)below(2));
    bool batch = operation == op_batch;
    call.items = batch ? 1 + below(9) : 1;
    call.length = (below(5) == 0 ? below(units * UNIT) : below(100)) + batch;
    char *block = malloc(call.length * call.items + 1);
    memset(block, 1, call.length * call.items + 1);
    call.data = block;
    uint64_t length = call.length;
    ring_result result = call_do(&p->h, &call);
    free(block);
    if (result == RING_OK && operation == op_lend) {
        char *data = ring_payload(&p->h.r, call.at, length);
        inside(&p->h.r, data, length);
        memset(data, 2, length);
        p->lengths[p->lent] = length;
        p->loans[p->lent++] = call.at;
    }
    return result;
}

static ring_result
step_end_loan(peer *p)
{
    int which = (int)below((uint64_t)p->lent);
    ring_call call = call_of(&p->h, op_send_loan, (int64_t)below(2));
    call.at = p->loans[which];
    call.length = p->lengths[which];
    call.items = p->h.r.owner;
    p->lent--;
    p->loans[which] = p->loans[p->lent];
    p->lengths[which] = p->lengths[p->lent];
    return below(3) == 0 ? cancel(&p->h, call.at) : call_do(&p->h, &call);
}

static ring_result
step_receive(peer *p, ring_operation operation)
{
    ring_call call = call_of(&p->h, operation, (int64_t)below(2));
    call.length = below(4) == 0 ? units * UNIT : below(200);
    call.items = 1 + below(9);
    char *block = malloc(call.length + 1);
    call.data = block;
    ring_result result = call_do(&p->h, &call);
    free(block);
    if (result == RING_OK && operation == op_view && call.items != 0) {
        inside(&p->h.r, call.message.data, call.message.length);
        unsigned sum = 0;
        for (uint64_t i = 0; i < call.message.length; i++) {
            sum += (unsigned char)call.message.data[i];
        }
        results[15] += sum & 1;
        p->views[p->viewed++] = call.message.at;
    }
    return result;
}

static ring_result
one_step(peer *p)
{
    switch (below(12)) {
    case 0:
        return step_send(p, op_send);
    case 1:
        return step_send(p, op_batch);
    case 2:
    case 3:
    case 4:
        return p->lent < SLOTS ? step_send(p, op_lend) : step_end_loan(p);
    case 5:
        return p->lent > 0 ? step_end_loan(p) : RING_EMPTY;
    case 6:
    case 7:
        return step_receive(p, op_copy);
    case 8:
        return p->viewed < SLOTS ? step_receive(p, op_view) : RING_EMPTY;
    case 9:
        return p->viewed > 0 ? release(&p->h, p->views[--p->viewed]) : RING_EMPTY;
    case 10:
        poll_arm(&p->h.r, 1 + (uint32_t)below(2));
        return RING_OK;
    default: {
        ring_call call = call_of(&p->h, op_send, (int64_t)below(2));
        return ring_check_peers_before_sleep(&p->h.r, &call, (uint32_t)below(100));
    }
    }
}

/* Whoever opens it reads the rest of the header: what it takes for a channel must be in the file. */
static void
try_open(void)
{
    ring r;
    char saved[128];
    memcpy(saved, shared.memory, sizeof saved);
    for (int i = 0; i < 3; i++) {
        *(uint64_t *)(shared.memory + 8 * (1 + below(15))) = evil_number();
        if (ring_open(&r, shared.memory, shared.size, -1)) {
            check(r.units <= (shared.size - CHANNEL_ARENA_START) / UNIT, "too large an arena");
            check(r.longest <= ring_longest(&r) && r.item_size <= ring_longest(&r), "too long");
        }
    }
    memcpy(shared.memory, saved, sizeof saved);
}

static void
begin(uint64_t seed, peer peers[HANDLES])
{
    seed_chance(seed);
    danger = 0;
    units = 128 << below(2); /* the arena ends with a page */
    uint64_t item = below(4) == 0 ? 24 : 0;
    shared = channel_make(units, 2 + below(30), item, below(3) == 0 ? CHANNEL_OVERWRITE : 0);
    for (int i = 0; i < HANDLES; i++) {
        peers[i] = (peer){.lent = 0};
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

/* After some steps in peace: again and again from there, each time with other numbers. */
static void
play(uint64_t seed)
{
    static char before[CHANNEL_ARENA_START + 256 * UNIT];
    peer peers[HANDLES], then[HANDLES];
    begin(seed, peers);
    for (uint64_t quiet = below(400); quiet > 0; quiet--) {
        one_step(&peers[below(HANDLES)]);
    }
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
    try_open();
    end(peers);
}

/* -- and truly at the same time --------------------------------------------------------------------- */

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
