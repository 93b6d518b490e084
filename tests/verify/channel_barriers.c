/* Peers that can't use membarrier(2), beside peers that can. */
#include "scenario.h"

static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 1}, 3);
    ring_leave(&world_rings[1]); /* it joins while the sender runs */
}

static void
thread_late(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        model_check(world_send(&r, 0, 0, 44, FOREVER) == RING_OK);
        return;
    }
    model_check(ring_join(&r, 2, 2, 1, false));
    model_check(world_receive(&r, FOREVER) == RING_OK);
    ring_leave(&r);
}

static void
end_all(void)
{
    world_finish();
    world_check_received(0);
}

SCENARIO(barriers_late_blind) = {
    .name = "barriers-late-blind",
    .about = "a peer without membarrier joins: until others see the flag, a wake can be lost",
    .threads = 2,
    .bound = 3,
    .quick = 3,
    .last_lacks_membarrier = true,
    .fails = true,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_late,
    .end = end_all,
};

SCENARIO(barriers_late) = {
    .name = "barriers-late",
    .about = "a peer without membarrier joins: it looks again, and gets the message",
    .threads = 2,
    .bound = 4,
    .quick = 2,
    .last_lacks_membarrier = true,
    .time = true,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_late,
    .end = end_all,
};
