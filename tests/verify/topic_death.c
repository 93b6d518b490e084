/* Processes of a topic that die or are stopped at any point. */
#include "topic_world.h"

#define WAITS(depth_) {.depth = depth_}
#define DROPS(depth_) {.depth = depth_, .drops = true}

static void
end_one(void)
{
    topic_finish();
    topic_check_all(1);
}

static void
end_two(void)
{
    topic_finish();
    topic_check_all(1);
    topic_check_all(2);
}

static void
end_any(void)
{
    topic_finish();
}

/* -- short messages --------------------------------------------------------------------------------- */

static void
prepare_short(void)
{
    topic_make(&(topic_plan){.units = 1, .capacity = 1, .slots = 2, .threads = 2, .wishes = {[1] = WAITS(1)}});
}

static void
thread_short(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 8);
    } else {
        topic_receive_all(&r, 2);
    }
}

SCENARIO(topic_death) = {
    .name = "topic-death",
    .about = "the publisher or the subscriber dies; the other one gets all that was promised, and goes on",
    .threads = 2,
    .deaths = 1,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_short,
    .begin = topic_begin,
    .thread = thread_short,
    .end = end_one,
};

static void
thread_shortest(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 1, 8);
    } else {
        topic_receive_all(&r, 1);
    }
}

SCENARIO(topic_deaths) = {
    .name = "topic-deaths",
    .about = "both may die; the checker takes all back",
    .threads = 2,
    .deaths = 2,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_short,
    .begin = topic_begin,
    .thread = thread_shortest,
    .end = end_one,
};

/* A chain of wakes breaks if a subscriber dies in it. The other one looks again after a pause. */
static void
prepare_two(void)
{
    topic_make(&(topic_plan){.units = 1, .capacity = 1, .slots = 2, .threads = 3,
                             .wishes = {[1] = WAITS(1), [2] = WAITS(1)}});
}

SCENARIO(topic_death_two) = {
    .name = "topic-death-two",
    .about = "one of a publisher and two subscribers dies; those that live get the message",
    .threads = 3,
    .deaths = 1,
    .bound = 1,
    .quick = 0,
    .fifo = true,
    .prepare = prepare_two,
    .begin = topic_begin,
    .thread = thread_shortest,
    .end = end_two,
};

/* -- blocks ----------------------------------------------------------------------------------------- */

static void
prepare_block(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .granules = 1, .item_size = 52, .threads = 2,
                             .wishes = {[1] = WAITS(1)}});
}

static void
thread_block(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 52);
    } else {
        topic_receive_all(&r, 2);
    }
}

SCENARIO(topic_death_block) = {
    .name = "topic-death-block",
    .about = "one dies while it writes, sends, reads or releases the only block, which comes back",
    .threads = 2,
    .deaths = 1,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_block,
    .begin = topic_begin,
    .thread = thread_block,
    .end = end_one,
};

static void
prepare_drop(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .granules = 1, .item_size = 52, .threads = 2,
                             .wishes = {[1] = DROPS(1)}});
}

static void
thread_drop(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 52);
    } else {
        topic_receive_to(&r, 0, 1);
    }
}

SCENARIO(topic_death_drop) = {
    .name = "topic-death-drop",
    .about = "as topic-death-block, while the publisher drops the message",
    .threads = 2,
    .deaths = 1,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_drop,
    .begin = topic_begin,
    .thread = thread_drop,
    .end = end_any,
};

/* -- joining and leaving ---------------------------------------------------------------------------- */

static void
prepare_join(void)
{
    topic_make(&(topic_plan){.units = 1, .capacity = 1, .slots = 2, .threads = 2});
}

static void
thread_join(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 8);
    } else {
        model_check(topic_join(&r, (topic_wishes)WAITS(1), FOREVER) == RING_OK);
        topic_close(&r);
    }
}

SCENARIO(topic_death_join) = {
    .name = "topic-death-join",
    .about = "a subscriber dies while it joins or leaves; the publisher goes on, and the place comes back",
    .threads = 2,
    .deaths = 1,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_join,
    .begin = topic_begin,
    .thread = thread_join,
    .end = end_any,
};

/* -- stops ------------------------------------------------------------------------------------------ */

static void
thread_stop(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        for (int number = 0; number < 2; number++) {
            ring_result result = topic_publish(&r, number, 8, deadline_after(100 * NS_PER_MS));
            model_check(result == RING_OK || result == RING_TIMEOUT);
            if (result != RING_OK) {
                break;
            }
        }
    } else {
        model_check(topic_receive(&r, FOREVER) == RING_OK);
    }
}

static void
end_stop(void)
{
    topic_finish();
    model_check(topic_taken(1) == 1);
}

SCENARIO(topic_stop) = {
    .name = "topic-stop",
    .about = "a publisher waits for a subscriber that is stopped, until its deadline",
    .threads = 2,
    .stops = 1,
    .bound = 2,
    .quick = 0,
    .prepare = prepare_short,
    .begin = topic_begin,
    .thread = thread_stop,
    .end = end_stop,
};

/* Nobody subscribes, so only the lock can be in the way. */
static void
thread_stop_publisher(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        model_check(topic_publish(&r, 0, 8, FOREVER) == RING_OK);
    } else {
        int64_t start = monotonic_ns();
        ring_result result = topic_publish(&r, 0, 8, 0);
        model_check(result == RING_OK || result == RING_BUSY);
        model_check(monotonic_ns() <= start + LOCK_GRACE_NS);
        result = topic_publish(&r, result == RING_OK ? 1 : 0, 8, deadline_after(100 * NS_PER_MS));
        model_check(result == RING_OK || result == RING_BUSY);
    }
}

SCENARIO(topic_stop_publisher) = {
    .name = "topic-stop-publisher",
    .about = "a publisher that is stopped in the lock keeps another one only until its deadline",
    .threads = 2,
    .stops = 1,
    .spared = 1u << 1,
    .bound = 2,
    .quick = 0,
    .prepare = prepare_join,
    .begin = topic_begin,
    .thread = thread_stop_publisher,
    .end = end_any,
};
