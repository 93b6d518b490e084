/* Two threads of one process: both use its place among the peers. */
#include "channel_calls.h"

/* -- a handle is closed while another thread waits ---------------------------------------------- */

static void
prepare_close(void)
{
    world_make((world_shape){.units = 2, .capacity = 1, .extra = 4}, 3);
}

static ring_result
find_none(ring *r, ring_call *call)
{
    return ring_peek(r, &call->message);
}

/* Thread 0 closes the handle with which thread 1 waits (release_channel in channel.c). */
static void
thread_close(int thread)
{
    ring *r = &world_rings[1];
    bool *closed = (bool *)world_extra;
    uint32_t no_spin = 0;
    if (thread == 0) {
        store_release(closed, true);
        ring_wake_all(&r->shared->items);
        ring_wake_all(&r->shared->space);
        return;
    }
    ring_add_role(r, ROLE_RECEIVER);
    ring_call call = {.operation = find_none, .which = POLL_ITEMS, .deadline = FOREVER,
                      .closed = closed, .spin = &no_spin};
    model_check(ring_run(r, &call) == RING_CLOSED);
}

SCENARIO(close_handle) = {
    .name = "close-handle",
    .about = "a handle is closed: a thread that waits with it returns",
    .threads = 2,
    .bound = 4,
    .quick = 2,
    .prepare = prepare_close,
    .begin = world_begin,
    .thread = thread_close,
    .end = end_complete,
};

/* -- both receive ------------------------------------------------------------------------------- */

/* Threads 1 and 2 are of the process with place 1. */
static void
prepare_threads(void)
{
    world_make((world_shape){.units = 2, .capacity = 1}, 4);
    ring_leave(&world_rings[2]);
}

static void
thread_threads(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){16}, 1);
        ring_leave(&world_rings[0]);
        return;
    }
    ring_result result = world_receive(&world_rings[1], FOREVER);
    model_check(result == RING_OK || result == RING_GONE);
}

/* One gets the message, and both end. */
static void
end_threads(void)
{
    world_finish();
    model_check(model_is_dead(0) || ledger.received[0][0] == 1);
    model_check(ledger.received[0][0] <= 1 && missing_of(0) == 0);
}

SCENARIO(threads) = {
    .name = "threads",
    .about = "two threads of one process receive: both are told that the sender left",
    .threads = 3,
    .bound = 1,
    .quick = 1,
    .prepare = prepare_threads,
    .begin = world_begin,
    .thread = thread_threads,
    .end = end_threads,
};

SCENARIO(threads_death) = {
    .name = "threads-death",
    .about = "two threads of one process receive: both are told that the sender died, maybe with a lock",
    .threads = 3,
    .deaths = 1,
    .spared = 1 << 1 | 1 << 2,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_threads,
    .begin = world_begin,
    .thread = thread_threads,
    .end = end_threads,
};
