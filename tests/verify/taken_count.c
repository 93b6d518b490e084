/* How often a message was returned, as the receiver that takes it again sees it. The search for one may find
   the other, which is being returned. */
#include "block_calls.h"

static ring_message taken[2];

static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 3}, 3);
    block_begin();
    for (int number = 0; number < 2; number++) {
        model_check(block_send_new(&world_rings[0], number, 52, 0) == RING_OK);
        model_check(block_deliver(&world_rings[0], 0, &taken[number]) == RING_OK);
    }
}

static void
begin(void)
{
    block_begin();
    ledger.sent[0] = 2;
}

static void
thread_count(int thread)
{
    ring r = world_rings[thread];
    for (int number = 0; number < 2; number++) {
        ring_message message;
        if (thread == 0) {
            model_check(ring_requeue(&r, taken[number].block, r.owner) == RING_OK);
        } else {
            model_check(block_deliver(&r, FOREVER, &message) == RING_OK);
            model_check(load_relaxed(&r.deliveries[message.block].redelivered) == 1);
            block_acknowledge(&r, &message);
        }
    }
}

static void
end(void)
{
    world_finish();
    world_check_received(0);
}

SCENARIO(taken_count) = {
    .name = "taken-count",
    .about = "the receiver of a message that was returned sees how often",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_count,
    .end = end,
};
