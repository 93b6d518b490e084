/* Short messages of a channel. */
#include "scenario.h"

static void
prepare(void)
{
    world_make((world_shape){.units = 8, .capacity = 4}, 3);
}

static void
thread_two(int thread)
{
    ring r = world_rings[thread];
    for (int number = 0; number < 2; number++) {
        if (thread == 0) {
            model_check(world_send(&r, 0, number, 16, FOREVER) == RING_OK);
        } else {
            model_check(world_receive(&r, FOREVER) == RING_OK);
        }
    }
}

SCENARIO(small) = {
    .name = "small",
    .about = "two messages of 16 bytes arrive whole and in order",
    .threads = 2,
    .bound = 3,
    .quick = 2,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_two,
};
