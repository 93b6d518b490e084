/* Short messages of a topic, for subscribers that publishers wait for. */
#include "topic_world.h"

#define WAITS(depth_) {.depth = depth_}

/* -- one publisher, one subscriber ------------------------------------------------------------------ */

/* Each message has to be read before the next. Entries and arena wrap at the third. */
static void
prepare_small(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .threads = 2, .wishes = {[1] = WAITS(1)}});
}

static void
thread_small(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 3, 16);
    } else {
        topic_receive_all(&r, 3);
    }
}

static void
end_one(void)
{
    topic_finish();
    topic_check_all(1);
}

SCENARIO(topic_small) = {
    .name = "topic-small",
    .about = "a subscriber gets three messages of 16 bytes, whole and in order",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_small,
    .begin = topic_begin,
    .thread = thread_small,
    .end = end_one,
};

SCENARIO(topic_fences) = {
    .name = "topic-fences",
    .about = "as topic-small, without membarrier",
    .threads = 2,
    .bound = 1,
    .quick = 0,
    .no_membarrier = true,
    .prepare = prepare_small,
    .begin = topic_begin,
    .thread = thread_small,
    .end = end_one,
};

/* A message has two of three units, so that the third unit is skipped before each wrap. */
static void
prepare_inline(void)
{
    topic_make(&(topic_plan){.units = 3, .capacity = 2, .slots = 3, .threads = 2, .wishes = {[1] = WAITS(2)}});
}

static void
thread_inline(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 44);
    } else {
        topic_receive_all(&r, 2);
    }
}

SCENARIO(topic_inline) = {
    .name = "topic-inline",
    .about = "two messages that are not stored beside the tail; the arena has room for one",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_inline,
    .begin = topic_begin,
    .thread = thread_inline,
    .end = end_one,
};

/* The copy beside the tail is of the first message while the second and the third are published. */
static void
prepare_changing(void)
{
    topic_make(&(topic_plan){.units = 4, .capacity = 2, .slots = 3, .threads = 2, .wishes = {[1] = WAITS(2)}});
}

static void
thread_changing(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 1, 8);
        topic_publish_all(&r, 1, 1, 44);
        topic_publish_all(&r, 2, 1, 8);
    } else {
        topic_receive_all(&r, 3);
    }
}

SCENARIO(topic_changing) = {
    .name = "topic-changing",
    .about = "messages that are stored beside the tail, and one between them that is not",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_changing,
    .begin = topic_begin,
    .thread = thread_changing,
    .end = end_one,
};

static void
prepare_batch(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 2, .slots = 3, .threads = 2, .wishes = {[1] = WAITS(2)}});
}

static void
thread_batch(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        model_check(topic_publish_many(&r, 0, 3, 8, FOREVER) == RING_OK);
        return;
    }
    while (topic_taken(thread) < 3) {
        uint64_t count = 3;
        model_check(topic_read_many(&r, &count, 8, FOREVER) == RING_OK);
    }
}

SCENARIO(topic_batch) = {
    .name = "topic-batch",
    .about = "a batch of three; there is room for two",
    .threads = 2,
    .bound = 3,
    .quick = 1,
    .prepare = prepare_batch,
    .begin = topic_begin,
    .thread = thread_batch,
    .end = end_one,
};

/* -- two subscribers -------------------------------------------------------------------------------- */

static void
prepare_two(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .threads = 3,
                             .wishes = {[1] = WAITS(1), [2] = WAITS(1)}});
}

static void
thread_two(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 8);
    } else {
        topic_receive_all(&r, 2);
    }
}

static void
end_two(void)
{
    topic_finish();
    topic_check_all(1);
    topic_check_all(2);
}

SCENARIO(topic_two) = {
    .name = "topic-two",
    .about = "two subscribers get two messages each; a chain of wakes, and the publisher waits for both",
    .threads = 3,
    .bound = 1,
    .quick = 0,
    .fifo = true,
    .prepare = prepare_two,
    .begin = topic_begin,
    .thread = thread_two,
    .end = end_two,
};

static void
prepare_wide(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .threads = 3, .processors = 4,
                             .wishes = {[1] = WAITS(1), [2] = WAITS(1)}});
}

SCENARIO(topic_wide) = {
    .name = "topic-wide",
    .about = "as topic-two, on a machine where a publisher wakes two",
    .threads = 3,
    .bound = 1,
    .quick = 0,
    .fifo = true,
    .prepare = prepare_wide,
    .begin = topic_begin,
    .thread = thread_two,
    .end = end_two,
};

/* -- two publishers --------------------------------------------------------------------------------- */

static void
prepare_publishers(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .threads = 3, .wishes = {[2] = WAITS(1)}});
}

static void
thread_publishers(int thread)
{
    ring r = world_rings[thread];
    if (thread < 2) {
        topic_publish_all(&r, 0, thread == 0 ? 2 : 1, 8);
    } else {
        topic_receive_all(&r, 3);
    }
}

static void
end_publishers(void)
{
    topic_finish();
    topic_check_all(2);
}

SCENARIO(topic_publishers) = {
    .name = "topic-publishers",
    .about = "two publishers wait for one subscriber, which gets all of both",
    .threads = 3,
    .bound = 1,
    .quick = 0,
    .fifo = true,
    .prepare = prepare_publishers,
    .begin = topic_begin,
    .thread = thread_publishers,
    .end = end_publishers,
};

/* -- descriptors ------------------------------------------------------------------------------------ */

/* As descriptor_thread of native/ring/descriptor.h: sleeps until the descriptors of a side are signalled. */
static void
wait_for_signal(ring *r, uint32_t which, uint32_t *told)
{
    for (;;) {
        uint32_t ticket = load_acquire(&r->shared->poll_futex);
        uint32_t count = load_acquire(poll_signals(r, which));
        if (count != *told) {
            *told = count;
            return;
        }
        futex_wait(&r->shared->poll_futex, ticket, FOREVER);
    }
}

/* Receives without waiting, and polls in between. */
static void
poll_items(ring *r, int count)
{
    uint32_t told = 0;
    while (topic_taken(model_thread()) < count) {
        ring_result result = topic_receive(r, 0);
        if (result != RING_OK) {
            model_check(result == RING_EMPTY);
            poll_arm(r, POLL_ITEMS); /* as descriptor_update_items */
            if (!ring_has_items(r)) {
                wait_for_signal(r, POLL_ITEMS, &told);
            }
        }
    }
}

/* Publishes without waiting, and polls in between. */
static void
poll_space(ring *r, int count, uint64_t length)
{
    uint32_t told = 0;
    for (int number = 0; number < count;) {
        ring_snapshot before = ring_take_snapshot(r, POLL_SPACE);
        ring_result result = topic_publish(r, number, length, 0);
        if (result == RING_OK) {
            number++;
            continue;
        }
        model_check(result == RING_FULL);
        poll_arm(r, POLL_SPACE); /* as descriptor_update_space */
        if (!ring_snapshots_differ(ring_take_snapshot(r, POLL_SPACE), before)) {
            wait_for_signal(r, POLL_SPACE, &told);
        }
    }
}

static void
thread_poll(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 8);
    } else {
        poll_items(&r, 2);
    }
}

SCENARIO(topic_poll) = {
    .name = "topic-poll",
    .about = "a subscriber that polls is told of each message",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_small,
    .begin = topic_begin,
    .thread = thread_poll,
    .end = end_one,
};

static void
thread_poll_space(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        poll_space(&r, 2, 8);
    } else {
        topic_receive_all(&r, 2);
    }
}

SCENARIO(topic_poll_space) = {
    .name = "topic-poll-space",
    .about = "a publisher that polls is told when a subscriber has read",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_small,
    .begin = topic_begin,
    .thread = thread_poll_space,
    .end = end_one,
};

/* Of three granules only one message of two can be used at a time. */
static void
prepare_poll_block(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 2, .slots = 3, .granules = 3, .threads = 2,
                             .wishes = {[1] = WAITS(2)}});
}

static void
thread_poll_block(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        poll_space(&r, 2, 80);
    } else {
        topic_receive_all(&r, 2);
    }
}

SCENARIO(topic_poll_block) = {
    .name = "topic-poll-block",
    .about = "a publisher that polls is told when the last reader has left the only block",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_poll_block,
    .begin = topic_begin,
    .thread = thread_poll_block,
    .end = end_one,
};
