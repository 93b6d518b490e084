/* Two loans at the same time: the place where the next search begins is never inside a block. */
#include "block_calls.h"

static uint32_t blocks[2];
static bool lent[2];

/* The last block ended at granule 2 of 3 for senders, and all are free. A loan of 3 granules passes that place. */
static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 4}, 3);
    block_begin();
    model_check(block_send_new(&world_rings[0], 0, 100, 0) == RING_OK);
    model_check(block_receive(&world_rings[0], 0) == RING_OK);
}

static void
begin(void)
{
    block_begin();
    memset(lent, 0, sizeof lent);
}

static void
thread_apart(int thread)
{
    ring r = world_rings[thread];
    lent[thread] = block_lend(&r, thread == 0 ? 180 : 52, 0, &blocks[thread]) == RING_OK;
}

static void
end(void)
{
    model_check(!lent[0] || !lent[1] /* one loan needs what the other has */);
    for (int thread = 0; thread < 2; thread++) {
        ring r = world_rings[thread];
        model_check(!lent[thread] || ring_release_block(&r, blocks[thread], BLOCK_LENT, r.owner) == RING_OK);
    }
    world_finish();
}

SCENARIO(lend_apart) = {
    .name = "lend-apart",
    .about = "two processes lend blocks at the same time: the blocks are apart",
    .threads = 2,
    .bound = 3,
    .quick = 3,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_apart,
    .end = end,
};
