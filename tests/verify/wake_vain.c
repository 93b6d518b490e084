/* A wake that reaches a process which can't use it: another that sleeps behind it must get it. */
#include "scenario.h"

static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 8}, 4);
    ring *r = &world_rings[0];
    uint32_t words[4] = {0};
    for (int number = 0; number < 4; number++) { /* the arena is full */
        model_check(ring_lock(r, &r->shared->send_lock, 0) == RING_OK);
        model_check(ring_send(r, words, sizeof words) == RING_OK);
        ring_unlock(r, &r->shared->send_lock);
    }
}

/* One takes a message; that makes room for a short message, not for a long one. No time may pass until the
   sender of the short one is done. */
static void
thread_room(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        ring_message message;
        model_check(ring_lock(&r, &r.shared->receive_lock, FOREVER) == RING_OK);
        model_check(ring_peek(&r, &message) == RING_OK);
        ring_take(&r, &message, 1);
        ring_unlock(&r, &r.shared->receive_lock);
        ring_notify(&r, POLL_SPACE);
    } else if (thread == 1) {
        int64_t start = model_now();
        model_check(world_send(&r, 1, 0, 16, FOREVER) == RING_OK);
        model_check(model_now() == start /* it was woken */);
    } else {
        model_check(world_send(&r, 2, 0, 44, model_now() + NS_PER_SECOND) == RING_TIMEOUT);
    }
}

SCENARIO(wake_vain) = {
    .name = "wake-vain",
    .about = "room for a short message wakes its sender, though one of a long message sleeps first",
    .threads = 3,
    .bound = 2,
    .quick = 1,
    .time = true,
    .fifo = true,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_room,
};
