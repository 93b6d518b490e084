/* Subscribers of a topic that lose their oldest messages instead of being waited for. */
#include "topic_world.h"

#define WAITS(depth_) {.depth = depth_}
#define DROPS(depth_) {.depth = depth_, .drops = true}

/* -- one publisher, one subscriber ------------------------------------------------------------------ */

static void
thread_small(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 3, 16);
    } else {
        topic_receive_to(&r, 0, 2);
        model_check(topic_check_counts(&r, topic_taken(1)) == 3 - (uint64_t)topic_taken(1));
    }
}

static void
end(void)
{
    topic_finish();
}

static void
prepare_small(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .threads = 2, .wishes = {[1] = DROPS(1)}});
}

SCENARIO(topic_drop_small) = {
    .name = "topic-drop-small",
    .about = "messages of 16 bytes may be lost, but none is torn, reordered or counted wrong",
    .threads = 2,
    .bound = 1,
    .quick = 1,
    .prepare = prepare_small,
    .begin = topic_begin,
    .thread = thread_small,
    .end = end,
};

/* The arena has room for one message, which is overwritten while the subscriber copies it. */
static void
prepare_arena(void)
{
    topic_make(&(topic_plan){.units = 1, .capacity = 2, .slots = 3, .threads = 2, .wishes = {[1] = DROPS(2)}});
}

static void
thread_arena(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 3, 8);
        return;
    }
    while (ledger.last[1][0] < 2) {
        model_check(topic_view(&r, FOREVER) == RING_OK);
    }
    model_check(topic_check_counts(&r, topic_taken(1)) == 3 - (uint64_t)topic_taken(1));
}

SCENARIO(topic_drop_arena) = {
    .name = "topic-drop-arena",
    .about = "messages in the arena that publishers overwrite while the subscriber copies them",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_arena,
    .begin = topic_begin,
    .thread = thread_arena,
    .end = end,
};

/* The entries wrap before the arena does. */
static void
prepare_entries(void)
{
    topic_make(&(topic_plan){.units = 8, .capacity = 1, .slots = 2, .threads = 2, .wishes = {[1] = DROPS(1)}});
}

/* The third message is longer: its entry differs from that of the first in both words. */
static void
thread_entries(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 8);
        topic_publish_all(&r, 2, 1, 16);
        return;
    }
    while (ledger.last[1][0] < 2) {
        model_check(topic_view(&r, FOREVER) == RING_OK);
    }
    model_check(topic_check_counts(&r, topic_taken(1)) == 3 - (uint64_t)topic_taken(1));
}

SCENARIO(topic_drop_entries) = {
    .name = "topic-drop-entries",
    .about = "an entry that publishers overwrite while the subscriber reads it",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_entries,
    .begin = topic_begin,
    .thread = thread_entries,
    .end = end,
};

/* The subscriber wants one message of three that are kept. */
static void
prepare_depth(void)
{
    topic_make(&(topic_plan){.units = 8, .capacity = 3, .slots = 4, .threads = 2, .wishes = {[1] = DROPS(1)}});
}

SCENARIO(topic_drop_depth) = {
    .name = "topic-drop-depth",
    .about = "a subscriber skips messages that are kept, but are more than it wants",
    .threads = 2,
    .bound = 1,
    .quick = 1,
    .prepare = prepare_depth,
    .begin = topic_begin,
    .thread = thread_small,
    .end = end,
};

static void
prepare_batch(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 2, .slots = 3, .threads = 2, .wishes = {[1] = DROPS(2)}});
}

static void
thread_batch(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        model_check(topic_publish_many(&r, 0, 4, 8, FOREVER) == RING_OK);
        return;
    }
    while (ledger.last[thread][0] < 3) {
        uint64_t count = 4;
        model_check(topic_read_many(&r, &count, 8, FOREVER) == RING_OK);
        topic_check_counts(&r, topic_taken(thread));
    }
}

SCENARIO(topic_drop_batch) = {
    .name = "topic-drop-batch",
    .about = "batches that are dropped while the subscriber reads several messages at once",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_batch,
    .begin = topic_begin,
    .thread = thread_batch,
    .end = end,
};

/* -- one waits, one does not ------------------------------------------------------------------------ */

static void
prepare_mixed(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .threads = 3,
                             .wishes = {[1] = WAITS(1), [2] = DROPS(1)}});
}

static void
thread_mixed(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 8);
    } else if (thread == 1) {
        topic_receive_all(&r, 2);
    } else {
        topic_receive_to(&r, 0, 1);
    }
}

static void
end_mixed(void)
{
    topic_finish();
    topic_check_all(1);
}

SCENARIO(topic_mixed) = {
    .name = "topic-mixed",
    .about = "one subscriber is waited for and gets all; the other one may lose some",
    .threads = 3,
    .bound = 1,
    .quick = 0,
    .fifo = true,
    .prepare = prepare_mixed,
    .begin = topic_begin,
    .thread = thread_mixed,
    .end = end_mixed,
};

/* -- two publishers --------------------------------------------------------------------------------- */

static void
prepare_publishers(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .threads = 3, .wishes = {[2] = DROPS(1)}});
}

/* Whichever message is the last cannot be lost. */
static void
thread_publishers(int thread)
{
    ring r = world_rings[thread];
    if (thread < 2) {
        topic_publish_all(&r, 0, 1, 8);
        return;
    }
    while (load_acquire(&r.subscriber->cursor) < 2) {
        model_check(topic_receive(&r, FOREVER) == RING_OK);
        topic_check_counts(&r, topic_taken(2));
    }
}

SCENARIO(topic_drop_publishers) = {
    .name = "topic-drop-publishers",
    .about = "two publishers that do not wait for a subscriber, which gets the last message",
    .threads = 3,
    .bound = 1,
    .quick = 1,
    .prepare = prepare_publishers,
    .begin = topic_begin,
    .thread = thread_publishers,
    .end = end,
};

/* -- stops ------------------------------------------------------------------------------------------ */

static void
thread_stopped(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        model_check(topic_publish(&r, 0, 8, 0) == RING_OK);
        model_check(topic_publish(&r, 1, 8, 0) == RING_OK);
    } else {
        model_check(topic_view(&r, FOREVER) == RING_OK);
    }
}

SCENARIO(topic_drop_stopped) = {
    .name = "topic-drop-stopped",
    .about = "a publisher that must not wait is never kept by a subscriber that is stopped",
    .threads = 2,
    .stops = 1,
    .bound = 2,
    .quick = 0,
    .prepare = prepare_small,
    .begin = topic_begin,
    .thread = thread_stopped,
    .end = end,
};
