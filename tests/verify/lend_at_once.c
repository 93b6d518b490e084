/* Loans without waiting: what a call says if it looks at head and tail without their locks. */
#include "block_calls.h"

static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 3}, 3);
}

/* One process sends and receives, so that at most one message waits, in a channel for two. */
static void
thread_lend(int thread)
{
    ring r = world_rings[thread];
    if (thread == 1) {
        for (int number = 0; number < 2; number++) {
            model_check(world_send(&r, 1, number, 16, FOREVER) == RING_OK);
            model_check(world_receive(&r, FOREVER) == RING_OK);
        }
        return;
    }
    uint32_t block;
    model_check(block_lend(&r, 52, 0, &block) == RING_OK /* there is room all the time */);
    model_check(ring_release_block(&r, block, BLOCK_LENT, r.owner) == RING_OK);
}

static void
end(void)
{
    world_finish();
    world_check_received(0);
}

SCENARIO(lend_at_once) = {
    .name = "lend-at-once",
    .about = "a loan without waiting succeeds if there is room all the time, while messages come and go",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare,
    .begin = block_begin,
    .thread = thread_lend,
    .end = end,
};
