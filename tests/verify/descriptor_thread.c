/* The thread behind descriptors alone: one signal reaches it, with what was stored before. */
#include <pthread.h>
#include <stdint.h>
#include <sys/eventfd.h>

static int event_written(int fd);
#define eventfd_write(fd, count) event_written(fd)
#define pthread_mutex_lock(mutex) ((void)(mutex)) /* only its thread uses the descriptors here */
#define pthread_mutex_unlock(mutex) ((void)(mutex))

#include "channel_calls.h"

static ring_descriptors descriptors; /* of thread 1 */

static uint32_t *
stored(void)
{
    return (uint32_t *)(void *)world_extra;
}

/* The descriptor is readable: the thread has done its work, and ends. */
static int
event_written(int fd)
{
    (void)fd;
    model_check(load_relaxed(stored()) == 1 /* what was stored before the signal is seen */);
    descriptors.stop = 1;
    ring_wake_all(&world_rings[1].shared->poll_futex);
    return 0;
}

static void
prepare(void)
{
    world_make((world_shape){.units = 1, .capacity = 1, .extra = 8}, 3);
    poll_arm(&world_rings[1], POLL_ITEMS);
}

static void
begin(void)
{
    world_begin();
    descriptors = (ring_descriptors){.r = &world_rings[1], .fd = {100, -1}};
}

static void
thread_signal(int thread)
{
    if (thread == 0) {
        store_relaxed(stored(), 1);
        ring_notify(&world_rings[0], POLL_ITEMS);
    } else {
        descriptor_thread(&descriptors);
    }
}

SCENARIO(signal) = {
    .name = "signal",
    .about = "a signal makes a descriptor readable, and what was stored before it is seen",
    .threads = 2,
    .bound = 4,
    .quick = 4,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_signal,
    .end = world_finish,
};
