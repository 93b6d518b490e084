/* Channels with two senders or two receivers. */
#include "channel_calls.h"

static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 4}, 4);
}

static void
prepare_one(void)
{
    world_make((world_shape){.units = 2, .capacity = 1}, 4);
}

/* -- two senders ------------------------------------------------------------------------------- */

static void
thread_two_senders(int thread)
{
    if (thread == 2) {
        for (int number = 0; number < 3; number++) {
            model_check(world_receive(&world_rings[2], FOREVER) == RING_OK);
        }
    } else {
        send_lengths(thread, 0, (const uint64_t[]){16, 16}, thread == 0 ? 2 : 1);
    }
}

SCENARIO(two_senders) = {
    .name = "two-senders",
    .about = "of two senders each message arrives once, and those of one sender in order",
    .threads = 3,
    .bound = 1,
    .quick = 1,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_two_senders,
    .end = end_complete,
};

static void
thread_two_senders_full(int thread)
{
    if (thread == 2) {
        for (int number = 0; number < 2; number++) {
            model_check(world_receive(&world_rings[2], FOREVER) == RING_OK);
        }
    } else {
        send_lengths(thread, 0, (const uint64_t[]){16}, 1);
    }
}

SCENARIO(two_senders_full) = {
    .name = "two-senders-full",
    .about = "two senders wait for room for one message: both are woken in the end",
    .threads = 3,
    .bound = 1,
    .quick = 1,
    .prepare = prepare_one,
    .begin = world_begin,
    .thread = thread_two_senders_full,
    .end = end_complete,
};

static void
thread_two_senders_death(int thread)
{
    if (thread != 2) {
        send_lengths(thread, 0, (const uint64_t[]){16}, 1);
        ring_leave(&world_rings[thread]);
        return;
    }
    for (int number = 0; number < 2; number++) {
        ring_result result = world_receive(&world_rings[2], FOREVER);
        model_check(result == RING_OK || (result == RING_GONE && model_any_death()));
        if (result == RING_GONE) {
            model_check(missing_of(0) == 0 && missing_of(1) == 0);
            return;
        }
    }
}

static void
end_receiver_is_2(void)
{
    end_after_deaths(2);
}

SCENARIO(two_senders_death) = {
    .name = "two-senders-death",
    .about = "as two-senders-full; one of the three dies at any point, the others leave",
    .threads = 3,
    .deaths = 1,
    .bound = 0,
    .quick = 0,
    .prepare = prepare_one,
    .begin = world_begin,
    .thread = thread_two_senders_death,
    .end = end_receiver_is_2,
};

SCENARIO(two_senders_deaths) = {
    .name = "two-senders-deaths",
    .about = "as two-senders-full; two of the three die at any points",
    .threads = 3,
    .deaths = 2,
    .bound = 0,
    .quick = 0,
    .prepare = prepare_one,
    .begin = world_begin,
    .thread = thread_two_senders_death,
    .end = end_receiver_is_2,
};

/* -- two receivers ----------------------------------------------------------------------------- */

static void
thread_two_receivers(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){16, 44}, 2);
    } else {
        model_check(world_receive(&world_rings[thread], FOREVER) == RING_OK);
    }
}

SCENARIO(two_receivers) = {
    .name = "two-receivers",
    .about = "each message goes to one of two receivers",
    .threads = 3,
    .bound = 1,
    .quick = 1,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_two_receivers,
    .end = end_complete,
};

/* If a receiver dies, the other gets one message: more if it asked again. */
static void
thread_two_receivers_death(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){16, 16}, 2);
        return;
    }
    ring_result result = world_receive(&world_rings[thread], FOREVER);
    model_check(result == RING_OK || (result == RING_GONE && model_is_dead(0)));
}

static void
end_two_receivers(void)
{
    world_finish();
    world_check_received(model_is_dead(1) + model_is_dead(2));
}

SCENARIO(two_receivers_death) = {
    .name = "two-receivers-death",
    .about = "as two-receivers; one of the three dies at any point",
    .threads = 3,
    .deaths = 1,
    .bound = 0,
    .quick = 0,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_two_receivers_death,
    .end = end_two_receivers,
};

SCENARIO(two_receivers_deaths) = {
    .name = "two-receivers-deaths",
    .about = "as two-receivers; two of the three die at any points",
    .threads = 3,
    .deaths = 2,
    .bound = 0,
    .quick = 0,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_two_receivers_death,
    .end = end_two_receivers,
};

/* -- one of two receivers polls ---------------------------------------------------------------- */

/* The sender sends one more than the poll can take. The poll finds a message or none. */
static void
thread_poll_beside(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){16, 16}, 2);
    } else if (thread == 1) {
        ring_result result = world_receive(&world_rings[1], 0);
        model_check(result == RING_OK || result == RING_EMPTY);
    } else {
        model_check(world_receive(&world_rings[2], FOREVER) == RING_OK);
    }
}

SCENARIO(poll_beside) = {
    .name = "poll-beside",
    .about = "a receiver that does not wait takes no wake from one that sleeps",
    .threads = 3,
    .bound = 1,
    .quick = 1,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_poll_beside,
    .end = end_complete,
};

/* Its deadline is over when it is about to sleep. */
static void
thread_late_beside(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){16, 16}, 2);
    } else if (thread == 1) {
        ring_result result = world_receive(&world_rings[1], model_now());
        model_check(result == RING_OK || result == RING_TIMEOUT || result == RING_BUSY);
    } else {
        model_check(world_receive(&world_rings[2], FOREVER) == RING_OK);
    }
}

SCENARIO(late_beside) = {
    .name = "late-beside",
    .about = "a receiver whose time is over takes no wake from one that sleeps",
    .threads = 3,
    .bound = 1,
    .quick = 1,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_late_beside,
    .end = end_complete,
};
