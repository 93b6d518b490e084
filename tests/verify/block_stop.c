/* A process that is stopped at any point, with a lock or without: the calls of others end in time, and
   nothing is lost after it goes on. */
#include "block_calls.h"

#define WAIT_NS (50 * NS_PER_MS)
#define LATE_NS (2 * LOCK_GRACE_NS) /* a recovery waits so long for its locks */

/* Checks that a call with a deadline ended in time, unless this process was stopped in it. Returns whether it
   succeeded. */
static bool
succeeded(ring_result result, int64_t deadline)
{
    model_check(result == RING_OK || result == RING_TIMEOUT || result == RING_BUSY);
    model_check(result == RING_OK || model_now() <= deadline + LATE_NS
                || model_was_stopped(model_thread()));
    return result == RING_OK;
}

static void
send_one(ring *r, int number)
{
    int64_t deadline = model_now() + WAIT_NS;
    if (!succeeded(block_send_new(r, number, 52, deadline), deadline)) {
        model_check(block_send_new(r, number, 52, FOREVER) == RING_OK);
    }
}

static void
end_all(void)
{
    world_finish();
    world_check_received(0);
}

static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 1, .item_size = 52}, 3);
}

static void
thread_two(int thread)
{
    ring r = world_rings[thread];
    for (int number = 0; number < 2; number++) {
        if (thread == 0) {
            send_one(&r, number);
            continue;
        }
        int64_t deadline = model_now() + WAIT_NS;
        if (!succeeded(block_receive(&r, deadline), deadline)) {
            model_check(block_receive(&r, FOREVER) == RING_OK);
        }
    }
}

SCENARIO(block_stop) = {
    .name = "block-stop",
    .about = "a sender or a receiver of blocks is stopped: the other's calls with a deadline end in time",
    .threads = 2,
    .stops = 1,
    .bound = 1,
    .quick = 1,
    .prepare = prepare,
    .begin = block_begin,
    .thread = thread_two,
    .end = end_all,
};

/* Three processes: two senders need the same lock and the same block. */
static void
prepare_three(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 1, .item_size = 52}, 4);
}

static void
thread_three(int thread)
{
    ring r = world_rings[thread];
    if (thread < 2) {
        send_one(&r, 0);
        return;
    }
    model_check(block_receive(&r, FOREVER) == RING_OK);
    model_check(block_receive(&r, FOREVER) == RING_OK);
}

SCENARIO(block_stop_senders) = {
    .name = "block-stop-senders",
    .about = "a sender is stopped with a lock or a loan: another's call with a deadline ends in time",
    .threads = 3,
    .stops = 1,
    .bound = 0,
    .prepare = prepare_three,
    .begin = block_begin,
    .thread = thread_three,
    .end = end_all,
};

/* -- a receiver that takes and acknowledges ------------------------------------------------------------- */

static void
prepare_taken(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 2}, 3);
    block_begin();
    model_check(world_send(&world_rings[0], 0, 0, 16, 0) == RING_OK);
    model_check(world_send(&world_rings[1], 1, 0, 16, 0) == RING_OK);
}

static void
begin_taken(void)
{
    block_begin();
    ledger.sent[0] = ledger.sent[1] = 1;
}

/* Each takes one message, which it moves to a block under receive_lock and pool_lock. */
static void
thread_taken(int thread)
{
    ring r = world_rings[thread];
    ring_message message;
    int64_t deadline = model_now() + WAIT_NS;
    if (!succeeded(block_deliver(&r, deadline, &message), deadline)) {
        model_check(block_deliver(&r, FOREVER, &message) == RING_OK);
    }
    block_acknowledge(&r, &message);
}

SCENARIO(block_stop_taken) = {
    .name = "block-stop-taken",
    .about = "a receiver is stopped while it takes a message: the other's call ends in time",
    .threads = 2,
    .stops = 1,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_taken,
    .begin = begin_taken,
    .thread = thread_taken,
    .end = end_all,
};
