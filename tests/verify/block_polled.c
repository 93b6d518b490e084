/* A sender that polls for a block. Unlike a call that waits, it does not try again before it sleeps. */
#include "block_calls.h"

/* As descriptor_thread of native/ring/descriptor.h: sleeps until the descriptors of a side are signalled. */
static void
wait_for_signal(ring *r, uint32_t which, uint32_t *told)
{
    for (;;) {
        uint32_t ticket = load_acquire(&r->shared->poll_futex);
        uint32_t count = load_acquire(poll_signals(r, which));
        if (count != *told) {
            *told = count;
            return;
        }
        futex_wait(&r->shared->poll_futex, ticket, FOREVER);
    }
}

static void
thread(int thread)
{
    ring r = world_rings[thread];
    if (thread == 1) {
        model_check(block_receive(&r, FOREVER) == RING_OK);
        model_check(block_receive(&r, FOREVER) == RING_OK);
        return;
    }
    uint32_t told = 0;
    for (int number = 0; number < 2;) {
        ring_snapshot before = ring_take_snapshot(&r, POLL_SPACE);
        ring_result result = block_send_new(&r, number, 52, 0);
        number += result == RING_OK;
        if (result != RING_OK) {
            model_check(result == RING_FULL);
            poll_arm(&r, POLL_SPACE); /* as descriptor_update_space */
            if (!ring_snapshots_differ(ring_take_snapshot(&r, POLL_SPACE), before)) {
                wait_for_signal(&r, POLL_SPACE, &told);
            }
        }
    }
}

static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 1, .item_size = 52}, 3);
}

static void
end(void)
{
    world_finish();
    world_check_received(0);
}

SCENARIO(block_polled) = {
    .name = "block-polled",
    .about = "a sender that polls is told when the only block is free",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare,
    .begin = block_begin,
    .thread = thread,
    .end = end,
};
