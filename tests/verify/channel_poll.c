/* Descriptors: a process that waits for messages or for room in an event loop, and the thread behind its
   descriptors (ring/descriptor.h). */
#include <pthread.h>
#include <stdint.h>
#include <sys/eventfd.h>

/* An eventfd is a word of the scenario's memory, and so is the mutex of the descriptors. */
static void mutex_lock(void);
static void mutex_unlock(void);
static int eventfd_new(void);
static int eventfd_set(int fd);
static void eventfd_reset(int fd);
#define eventfd(count, flags) eventfd_new()
#define eventfd_write(fd, count) eventfd_set(fd)
#define eventfd_read(fd, count) ((void)(count), eventfd_reset(fd))
#define pthread_mutex_lock(mutex) ((void)(mutex), mutex_lock())
#define pthread_mutex_unlock(mutex) ((void)(mutex), mutex_unlock())

#include "channel_calls.h"

static ring_descriptors descriptors; /* of thread 1, whose process thread 2 belongs to */

static void
mutex_lock(void)
{
    uint32_t *word = (uint32_t *)(void *)world_extra + 1;
    while (exchange_acquire(word, 1) != 0) {
        futex_wait(word, 1, FOREVER);
    }
}

static void
mutex_unlock(void)
{
    uint32_t *word = (uint32_t *)(void *)world_extra + 1;
    store_release(word, 0);
    futex_wake(word, 1);
}

static uint32_t *
eventfd_word(int fd)
{
    model_check(fd == 100);
    return (uint32_t *)(void *)world_extra;
}

static int
eventfd_new(void)
{
    return 100;
}

static int
eventfd_set(int fd)
{
    MODEL_UPDATE("eventfd_set", eventfd_word(fd), 1, MODEL_SEQ_CST, MODEL_OR);
    futex_wake(eventfd_word(fd), INT_MAX);
    return 0;
}

static void
eventfd_reset(int fd)
{
    MODEL_UPDATE("eventfd_reset", eventfd_word(fd), 0, MODEL_SEQ_CST, MODEL_AND);
}

/* What select(2) does. */
static void
wait_readable(uint32_t which)
{
    uint32_t *word = eventfd_word(descriptors.fd[which - 1]);
    while (MODEL_LOAD("select", word, MODEL_SEQ_CST) == 0) {
        futex_wait(word, 0, FOREVER);
    }
}

static void
begin(void)
{
    world_begin();
    descriptors = (ring_descriptors){.r = &world_rings[1], .fd = {-1, -1}};
}

/* -- an event loop (ipckit/_aio/messages.py) ---------------------------------------------------- */

/* A receive with a timeout of 0. */
static ring_result
poll_receive(void)
{
    ring_result result = world_receive(&world_rings[1], 0);
    if (result == RING_BUSY) {
        descriptor_update_busy(&descriptors, POLL_ITEMS, &world_rings[1].shared->receive_lock);
    } else {
        descriptor_update_items(&descriptors);
    }
    return result;
}

/* A send with a timeout of 0. */
static ring_result
poll_send(int number)
{
    ring_snapshot before = ring_take_snapshot(&world_rings[1], POLL_SPACE);
    ring_result result = world_send(&world_rings[1], 1, number, 16, 0);
    if (result == RING_BUSY) {
        descriptor_update_busy(&descriptors, POLL_SPACE, &world_rings[1].shared->send_lock);
    } else if (result == RING_FULL) {
        descriptor_update_space(&descriptors, before);
    }
    return result;
}

/* Waits as an event loop does. Returns RING_OK or RING_GONE. */
static ring_result
loop_receive(void)
{
    for (;;) {
        ring_result result = poll_receive();
        if (result != RING_OK && ring_other_side(&world_rings[1], ROLE_SENDER) == SIDE_GONE) {
            result = poll_receive();
            return result == RING_OK ? RING_OK : RING_GONE;
        }
        if (result == RING_OK) {
            return result;
        }
        wait_readable(POLL_ITEMS);
    }
}

static ring_result
loop_send(int number)
{
    for (;;) {
        ring_result result = poll_send(number);
        if (result != RING_OK && ring_other_side(&world_rings[1], ROLE_RECEIVER) == SIDE_GONE) {
            result = poll_send(number);
            return result == RING_OK ? RING_OK : RING_GONE;
        }
        if (result == RING_OK) {
            return result;
        }
        wait_readable(POLL_SPACE);
    }
}

/* The end of descriptors_free. */
static void
stop_descriptors(void)
{
    store_release(&descriptors.stop, 1);
    ring_wake_all(&world_rings[1].shared->poll_futex);
}

/* -- messages ---------------------------------------------------------------------------------- */

static void
prepare(void)
{
    world_make((world_shape){.units = 2, .capacity = 2, .extra = 8}, 4);
    ring_leave(&world_rings[2]); /* thread 2 is no process */
}

static void
thread_poll_items(int thread)
{
    if (thread == 0) {
        for (int number = 0; number < 2; number++) {
            model_check(send_fast(&world_rings[0], 0, number, 16, FOREVER) == RING_OK);
        }
    } else if (thread == 1) {
        model_check(descriptor_get(&descriptors, POLL_ITEMS) >= 0);
        model_check(loop_receive() == RING_OK && loop_receive() == RING_OK);
        stop_descriptors();
    } else {
        descriptor_thread(&descriptors);
    }
}

SCENARIO(poll_items) = {
    .name = "poll-items",
    .about = "a receiver in an event loop is told of each message",
    .threads = 3,
    .bound = 2,
    .quick = 1,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_poll_items,
    .end = end_complete,
};

/* The sender dies or leaves: the event loop is told. */
static void
thread_poll_death(int thread)
{
    if (thread == 0) {
        model_check(world_send(&world_rings[0], 0, 0, 16, FOREVER) == RING_OK);
        ring_leave(&world_rings[0]);
    } else if (thread == 1) {
        model_check(descriptor_get(&descriptors, POLL_ITEMS) >= 0);
        while (loop_receive() == RING_OK) {
        }
        model_check(missing_of(0) == 0);
        stop_descriptors();
    } else {
        descriptor_thread(&descriptors);
    }
}

SCENARIO(poll_leave) = {
    .name = "poll-leave",
    .about = "a receiver in an event loop is told that the last sender left",
    .threads = 3,
    .bound = 2,
    .quick = 1,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_poll_death,
    .end = end_complete,
};

SCENARIO(poll_death) = {
    .name = "poll-death",
    .about = "as poll-leave; the sender dies at any point",
    .threads = 3,
    .deaths = 1,
    .spared = 1 << 1 | 1 << 2,
    .bound = 1,
    .quick = 0,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_poll_death,
    .end = end_complete,
};

/* -- room -------------------------------------------------------------------------------------- */

static void
prepare_one(void)
{
    world_make((world_shape){.units = 1, .capacity = 1, .extra = 8}, 4);
    ring_leave(&world_rings[2]);
}

static void
thread_poll_space(int thread)
{
    if (thread == 0) {
        model_check(receive_fast(&world_rings[0], FOREVER) == RING_OK);
        model_check(receive_fast(&world_rings[0], FOREVER) == RING_OK);
    } else if (thread == 1) {
        model_check(descriptor_get(&descriptors, POLL_SPACE) >= 0);
        model_check(loop_send(0) == RING_OK && loop_send(1) == RING_OK);
        stop_descriptors();
    } else {
        descriptor_thread(&descriptors);
    }
}

SCENARIO(poll_space) = {
    .name = "poll-space",
    .about = "a sender in an event loop is told of room",
    .threads = 3,
    .bound = 1,
    .quick = 1,
    .prepare = prepare_one,
    .begin = begin,
    .thread = thread_poll_space,
    .end = end_complete,
};

static void
thread_poll_space_death(int thread)
{
    if (thread == 0) {
        model_check(world_receive(&world_rings[0], FOREVER) == RING_OK);
        ring_leave(&world_rings[0]);
    } else if (thread == 1) {
        model_check(descriptor_get(&descriptors, POLL_SPACE) >= 0);
        for (int number = 0; number < NUMBERS && loop_send(number) == RING_OK; number++) {
        }
        model_check(ledger.sent[1] <= 2);
        stop_descriptors();
    } else {
        descriptor_thread(&descriptors);
    }
}

static void
end_receiver_is_0(void)
{
    end_after_deaths(0);
}

SCENARIO(poll_space_death) = {
    .name = "poll-space-death",
    .about = "a sender in an event loop is told that the last receiver died or left",
    .threads = 3,
    .deaths = 1,
    .spared = 1 << 1 | 1 << 2,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_one,
    .begin = begin,
    .thread = thread_poll_space_death,
    .end = end_receiver_is_0,
};

/* -- a lock that is taken ---------------------------------------------------------------------- */

/* Both send. Thread 0 may be stopped with the lock: when it goes on, it tells the event loop. */
static void
thread_poll_busy(int thread)
{
    if (thread == 0) {
        model_check(world_send(&world_rings[0], 0, 0, 16, FOREVER) == RING_OK);
    } else if (thread == 1) {
        model_check(descriptor_get(&descriptors, POLL_SPACE) >= 0);
        model_check(loop_send(0) == RING_OK);
        stop_descriptors();
    } else {
        descriptor_thread(&descriptors);
    }
}

static void
prepare_two(void)
{
    world_make((world_shape){.units = 2, .capacity = 2, .extra = 8}, 4);
    ring_leave(&world_rings[2]);
}

SCENARIO(poll_busy) = {
    .name = "poll-busy",
    .about = "a sender in an event loop finds the lock taken by a stopped one: it is told when that goes on",
    .threads = 3,
    .stops = 1,
    .spared = 1 << 1 | 1 << 2,
    .bound = 2,
    .quick = 0,
    .prepare = prepare_two,
    .begin = begin,
    .thread = thread_poll_busy,
    .end = end_complete,
};

/* Only processes with full barriers order what they read after they have cleared a flag. */
SCENARIO(poll_busy_no_membarrier) = {
    .name = "poll-busy-no-membarrier",
    .about = "as poll-busy, on a kernel without membarrier",
    .threads = 3,
    .stops = 1,
    .spared = 1 << 1 | 1 << 2,
    .no_membarrier = true,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_two,
    .begin = begin,
    .thread = thread_poll_busy,
    .end = end_complete,
};

/* Thread 0 may die with the lock, or after it has released it and before it tells the event loop. */
static void
thread_poll_busy_death(int thread)
{
    if (thread == 0) {
        model_check(world_send(&world_rings[0], 0, 0, 16, FOREVER) == RING_OK);
    } else if (thread == 1) {
        model_check(descriptor_get(&descriptors, POLL_SPACE) >= 0);
        ring_result result = loop_send(0);
        model_check(result == RING_OK || (result == RING_GONE && model_is_dead(0)));
        stop_descriptors();
    } else {
        descriptor_thread(&descriptors);
    }
}

SCENARIO(poll_busy_death) = {
    .name = "poll-busy-death",
    .about = "as poll-busy; the other sender dies at any point",
    .threads = 3,
    .deaths = 1,
    .spared = 1 << 1 | 1 << 2,
    .bound = 1,
    .quick = 1,
    .prepare = prepare_two,
    .begin = begin,
    .thread = thread_poll_busy_death,
    .end = end_complete,
};
