/* No peer sleeps through what it waits for: senders and receivers that never spin, in processes of their
   own, where no regular check makes up for a wake that did not come.
       test_ring_wakes ROUNDS */
#include "ring_wakes.h"

/* Long enough that a message is still on its way to memory when its sender looks who sleeps. */
enum { PEERS = 3, IN_RING = 4000, IN_BLOCK = 6000 };

/* -- what a process does --------------------------------------------------------------------------- */

typedef void (*life)(uint64_t rounds, uint64_t length);

static void
send_all(uint64_t rounds, uint64_t length)
{
    for (uint64_t round = 0; round < rounds; round++) {
        must(op_send, length);
    }
}

static void
receive_all(uint64_t rounds, uint64_t length)
{
    for (uint64_t round = 0; round < rounds; round++) {
        must(op_receive, length);
    }
}

/* Returns one message of four, and receives it again. */
static void
take_all(uint64_t rounds, uint64_t length)
{
    for (uint64_t round = 0; round < rounds; round++) {
        uint32_t block = must(op_take, length);
        if (round % 4 == 0) {
            check(ring_requeue(&mine.r, block, mine.r.owner) == RING_OK, "no return");
            block = must(op_take, length);
        }
        check(acknowledge(&mine, block) == RING_OK, "no acknowledgement");
    }
}

/* -- processes ------------------------------------------------------------------------------------- */

/* As many processes send as receive. */
static void
run(ring_shape shape, int pairs, life receives, uint64_t rounds)
{
    shared = channel_make(shape, 0);
    pid_t pids[2 * PEERS];
    for (int i = 0; i < 2 * pairs; i++) {
        pids[i] = fork();
        check(pids[i] >= 0, "no process");
        if (pids[i] == 0) {
            handle_open(&mine, &shared);
            (i % 2 == 0 ? send_all : receives)(rounds, shape.item_size);
            _exit(0); /* without ring_leave, which wakes all */
        }
    }
    for (int i = 0; i < 2 * pairs; i++) {
        must_end(pids[i]);
    }
    channel_unmake(&shared);
}

/* -- one process that waits for memory -------------------------------------------------------------- */

/* Starts a process that does one thing, and returns when it sleeps. */
static pid_t
start_asleep(ring_operation operation, uint64_t length)
{
    pid_t pid = fork();
    check(pid >= 0, "no process");
    if (pid == 0) {
        handle_open(&mine, &shared);
        uint32_t block = must(operation, length);
        _exit(operation == op_lend && release_block(&mine, block, BLOCK_LENT) != RING_OK);
    }
    wait_asleep(pid);
    return pid;
}

static uint32_t
lend(uint64_t granules)
{
    ring_call call = call_of(&mine, op_lend, 0);
    call.length = granules * INLINE_MAX;
    check(call_do(&mine, &call) == RING_OK, "no loan");
    return call.block;
}

static void
cancel(uint32_t block)
{
    check(release_block(&mine, block, BLOCK_LENT) == RING_OK, "a loan can't be cancelled");
}

static void
open_mine(uint64_t granules)
{
    ring_shape shape = {.units = 1024, .granules = granules + 1, .granule = INLINE_MAX, .capacity = 8,
                        .longest = granules * INLINE_MAX};
    shared = channel_make(shape, 0);
    handle_open(&mine, &shared);
}

/* A sender that is woken and still finds too little room passes the wake on. */
static void
test_a_wake_is_passed_on(void)
{
    open_mine(6);
    uint32_t first = lend(2), second = lend(2), third = lend(2);
    pid_t large = start_asleep(op_lend, 4 * INLINE_MAX), small = start_asleep(op_lend, 2 * INLINE_MAX);
    cancel(second);
    must_end(small);
    cancel(first);
    cancel(third);
    must_end(large);
    close_mine();
}

/* A receiver that needs a block for a short message is woken when one is free, or when a message is
   returned that has one. */
static void
test_a_take_waits_for_a_block(void)
{
    for (int returns = 0; returns < 2; returns++) {
        open_mine(2);
        uint32_t block = NO_BLOCK;
        if (returns) {
            must(op_send, 2 * INLINE_MAX);
            block = must(op_take, 0);
        } else {
            block = lend(2);
        }
        must(op_send, 100);
        must(op_take, 0); /* uses the granule that senders leave */
        must(op_send, 100);
        pid_t taker = start_asleep(op_take, 0);
        if (returns) {
            check(ring_requeue(&mine.r, block, mine.r.owner) == RING_OK, "no return");
        } else {
            cancel(block);
        }
        must_end(taker);
        close_mine();
    }
}

/* A receiver that needs a block, and is woken by room for a message, passes the wake on. */
static void
test_a_take_passes_a_wake_on(void)
{
    open_mine(2);
    uint32_t block = lend(2);
    must(op_send, 100);
    must(op_take, 0); /* uses the granule that senders leave */
    for (uint64_t i = 0; i < mine.r.capacity; i++) {
        must(op_send, 100);
    }
    pid_t taker = start_asleep(op_take, 0), sender = start_asleep(op_send, 100);
    must(op_receive, sizeof data);
    must_end(sender);
    cancel(block);
    must_end(taker);
    close_mine();
}

/* A receiver that waits for a message is woken when one is returned. */
static void
test_a_return_wakes_a_receiver(void)
{
    open_mine(2);
    must(op_send, 2 * INLINE_MAX);
    uint32_t block = must(op_take, 0);
    pid_t receiver = start_asleep(op_receive, sizeof data);
    check(ring_requeue(&mine.r, block, mine.r.owner) == RING_OK, "no return");
    must_end(receiver);
    close_mine();
}

int
main(int argc, char **argv)
{
    check(argc == 2, "how many rounds?");
    uint64_t rounds = strtoull(argv[1], NULL, 10), units = 64 * IN_RING / UNIT;
    ring_shape short_one = shape_of_items(units, 1, 1, IN_RING);
    ring_shape short_many = shape_of_items(units, PEERS, 8, IN_RING);
    ring_shape long_one = shape_of_items(units, 1, 1, IN_BLOCK);
    ring_shape long_many = shape_of_items(units, 5, 8, IN_BLOCK);
    run(short_one, 1, receive_all, rounds);      /* each sleeps for the other */
    run(short_many, PEERS, receive_all, rounds); /* and all for the locks */
    run(long_one, 1, receive_all, rounds);       /* for a block */
    run(long_many, PEERS, receive_all, rounds);
    run(short_one, 1, take_all, rounds);
    run(short_many, PEERS, take_all, rounds);
    run(long_many, PEERS, take_all, rounds);
    test_a_wake_is_passed_on();
    test_a_take_waits_for_a_block();
    test_a_take_passes_a_wake_on();
    test_a_return_wakes_a_receiver();
    puts("ok");
    return 0;
}
