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

static void
end_all(void)
{
    world_finish();
    world_check_received(0);
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
    .end = end_all,
};

/* A receiver that dies may have taken one message; after a death, the other side is told. */
static void
thread_mortal(int thread)
{
    ring r = world_rings[thread];
    for (int number = 0; number < 2; number++) {
        if (thread == 0) {
            ring_result result = world_send(&r, 0, number, 16, FOREVER);
            model_check(result == RING_OK || (result == RING_GONE && model_is_dead(1)));
        } else {
            ring_result result = world_receive(&r, FOREVER);
            model_check(result == RING_OK || (result == RING_GONE && model_is_dead(0)));
        }
    }
}

static void
end_mortal(void)
{
    world_finish();
    world_check_received(model_is_dead(1));
}

SCENARIO(small_death) = {
    .name = "small-death",
    .about = "as small; one of the two dies at any point",
    .threads = 2,
    .deaths = 1,
    .bound = 2,
    .quick = 1,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_mortal,
    .end = end_mortal,
};
