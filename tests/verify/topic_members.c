/* Subscribers and publishers of a topic that come and go while others run. */
#include "topic_world.h"

#define WAITS(depth_) {.depth = depth_}
#define DROPS(depth_) {.depth = depth_, .drops = true}

static void
end(void)
{
    topic_finish();
}

/* Receives all messages of sender 0 up to the last one, if the subscription begins before it. None of them may
   be missing. */
static void
receive_from_first(ring *r, int last)
{
    int first = (int)load_acquire(&r->subscriber->first);
    while (first + topic_taken(model_thread()) <= last) {
        int taken = topic_taken(model_thread());
        model_check(topic_receive(r, FOREVER) == RING_OK);
        model_check(ledger.last[model_thread()][0] == first + taken);
    }
}

/* -- joining ---------------------------------------------------------------------------------------- */

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
        receive_from_first(&r, 1);
    }
}

SCENARIO(topic_join) = {
    .name = "topic-join",
    .about = "a subscriber that joins while messages are published gets all from its first one on",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_join,
    .begin = topic_begin,
    .thread = thread_join,
    .end = end,
};

static void
prepare_late(void)
{
    topic_make(&(topic_plan){.units = 1, .capacity = 1, .slots = 2, .history = 1, .threads = 2});
}

static void
thread_late(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 8);
        return;
    }
    model_check(topic_join(&r, (topic_wishes){.depth = 1, .history = 1}, FOREVER) == RING_OK);
    receive_from_first(&r, 1);
    model_check(topic_taken(1) >= 1 /* the last message is kept for it */);
}

SCENARIO(topic_late) = {
    .name = "topic-late",
    .about = "a subscriber that joins late gets the old message that is kept, and all after it",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_late,
    .begin = topic_begin,
    .thread = thread_late,
    .end = end,
};

static void
prepare_late_drops(void)
{
    topic_make(&(topic_plan){
        .units = 1, .capacity = 1, .slots = 2, .history = 1, .threads = 2, .joins_and_drops = true});
}

static void
thread_late_drops(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 8);
        return;
    }
    model_check(topic_join(&r, (topic_wishes){.depth = 1, .history = 1, .drops = true}, FOREVER) == RING_OK);
    topic_receive_to(&r, 0, 1);
}

SCENARIO(topic_late_drops) = {
    .name = "topic-late-drops",
    .about = "as topic-late; the subscriber may lose all but the last",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_late_drops,
    .begin = topic_begin,
    .thread = thread_late_drops,
    .end = end,
};

static void
prepare_join_two(void)
{
    topic_make(&(topic_plan){.units = 1, .capacity = 1, .slots = 2, .threads = 3});
}

static void
thread_join_two(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 1, 8);
        return;
    }
    model_check(topic_join(&r, (topic_wishes)WAITS(1), FOREVER) == RING_OK);
    receive_from_first(&r, 0);
}

SCENARIO(topic_join_two) = {
    .name = "topic-join-two",
    .about = "two subscribers join at once, and get different places",
    .threads = 3,
    .bound = 1,
    .quick = 0,
    .fifo = true,
    .prepare = prepare_join_two,
    .begin = topic_begin,
    .thread = thread_join_two,
    .end = end,
};

/* -- leaving ---------------------------------------------------------------------------------------- */

static void
prepare_leave(void)
{
    topic_make(&(topic_plan){.units = 1, .capacity = 1, .slots = 2, .threads = 2, .wishes = {[1] = WAITS(1)}});
}

static void
thread_leave(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        for (int number = 0; number < 3; number++) {
            model_check(topic_publish(&r, number, 8, FOREVER) == RING_OK);
        }
    } else {
        model_check(topic_receive(&r, FOREVER) == RING_OK);
        topic_close(&r);
    }
}

SCENARIO(topic_leave_early) = {
    .name = "topic-leave",
    .about = "a publisher that waits for a subscriber goes on when that one leaves",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_leave,
    .begin = topic_begin,
    .thread = thread_leave,
    .end = end,
};

/* The subscriber keeps its place, as one does that still reads in a block. */
static void
thread_unsubscribe(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        for (int number = 0; number < 2; number++) {
            model_check(topic_publish(&r, number, 8, FOREVER) == RING_OK);
        }
    } else {
        topic_unsubscribe(&r);
    }
}

SCENARIO(topic_unsubscribing) = {
    .name = "topic-unsubscribe",
    .about = "a publisher that waits for a subscriber goes on when the subscription ends",
    .threads = 2,
    .bound = 4,
    .quick = 2,
    .prepare = prepare_leave,
    .begin = topic_begin,
    .thread = thread_unsubscribe,
    .end = end,
};

static void
thread_replace(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        for (int number = 0; number < 2; number++) {
            model_check(topic_publish(&r, number, 8, FOREVER) == RING_OK);
        }
    } else {
        topic_close(&r);
        topic_open_again(&r);
        model_check(topic_join(&r, (topic_wishes)WAITS(1), FOREVER) == RING_OK);
        receive_from_first(&r, 1);
    }
}

SCENARIO(topic_replace) = {
    .name = "topic-replace",
    .about = "a new subscriber takes the place of one that left",
    .threads = 2,
    .bound = 1,
    .quick = 1,
    .prepare = prepare_leave,
    .begin = topic_begin,
    .thread = thread_replace,
    .end = end,
};

static void
prepare_one_leaves(void)
{
    topic_make(&(topic_plan){.units = 1, .capacity = 1, .slots = 2, .threads = 3,
                             .wishes = {[1] = WAITS(1), [2] = WAITS(1)}});
}

static void
thread_one_leaves(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        for (int number = 0; number < 2; number++) {
            model_check(topic_publish(&r, number, 8, FOREVER) == RING_OK);
        }
    } else if (thread == 1) {
        topic_receive_all(&r, 2);
    } else {
        topic_close(&r);
    }
}

static void
end_one_leaves(void)
{
    topic_finish();
    topic_check_all(1);
}

SCENARIO(topic_one_leaves) = {
    .name = "topic-one-leaves",
    .about = "one of two subscribers leaves; the other one gets all",
    .threads = 3,
    .bound = 1,
    .quick = 0,
    .fifo = true,
    .prepare = prepare_one_leaves,
    .begin = topic_begin,
    .thread = thread_one_leaves,
    .end = end_one_leaves,
};

/* -- the publisher leaves --------------------------------------------------------------------------- */

static void
thread_end(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 1, 8);
        topic_close(&r);
        return;
    }
    ring_result result;
    while ((result = topic_receive(&r, FOREVER)) == RING_OK) {
    }
    model_check(result == RING_GONE);
    model_check(topic_taken(1) == 1 /* all that it published before */);
}

SCENARIO(topic_end) = {
    .name = "topic-end",
    .about = "a subscriber gets all of a publisher that leaves, and is then told that it is gone",
    .threads = 2,
    .bound = 3,
    .quick = 2,
    .prepare = prepare_leave,
    .begin = topic_begin,
    .thread = thread_end,
    .end = end,
};
