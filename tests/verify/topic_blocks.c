/* Long messages of a topic, which are in blocks that subscribers read in place. */
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

/* -- one publisher, one subscriber ------------------------------------------------------------------ */

static void
thread_pair(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 52);
    } else {
        topic_receive_all(&r, 2);
    }
}

/* One block: the publisher waits until the subscriber has read in it. All messages are long, so every peer has
   its own full barriers. */
static void
prepare_one_block(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 2, .slots = 3, .granules = 1, .item_size = 52, .threads = 2,
                             .wishes = {[1] = WAITS(2)}});
}

SCENARIO(topic_block) = {
    .name = "topic-block",
    .about = "two messages, one block: the publisher waits for its reader",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_one_block,
    .begin = topic_begin,
    .thread = thread_pair,
    .end = end_one,
};

/* A message of two granules, then of one, then of two: the second one finds the words of a block that was
   dropped and read. */
static void
prepare_spans(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .granules = 3, .threads = 2,
                             .wishes = {[1] = WAITS(1)}});
}

static void
thread_spans(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 1, 52);
        topic_publish_all(&r, 1, 1, 52);
        topic_publish_all(&r, 2, 1, 80);
    } else {
        topic_receive_all(&r, 3);
    }
}

SCENARIO(topic_block_spans) = {
    .name = "topic-block-spans",
    .about = "a block of two granules takes the place of two that were read",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_spans,
    .begin = topic_begin,
    .thread = thread_spans,
    .end = end_one,
};

/* The subscriber reads in two blocks at once, and releases them in the other order. */
static void
prepare_two_blocks(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 2, .slots = 3, .granules = 2, .item_size = 52, .threads = 2,
                             .wishes = {[1] = WAITS(2)}});
}

static void
thread_views(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 3, 52);
        return;
    }
    ring_message first, second;
    model_check(topic_begin_read(&r, &first, FOREVER) == RING_OK);
    model_check(topic_begin_read(&r, &second, FOREVER) == RING_OK);
    topic_end_read(&r, &first);
    topic_end_read(&r, &second);
    topic_receive_all(&r, 3);
}

SCENARIO(topic_block_views) = {
    .name = "topic-block-views",
    .about = "a subscriber reads in both blocks at once; the publisher waits for the first one released",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_two_blocks,
    .begin = topic_begin,
    .thread = thread_views,
    .end = end_one,
};

/* -- dropping --------------------------------------------------------------------------------------- */

/* Only one message of two granules fits into three. The peers use membarrier, which is no help between a
   subscriber that begins to read and a publisher that drops. */
static void
prepare_drop(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .granules = 3, .threads = 2,
                             .wishes = {[1] = DROPS(1)}});
}

static void
thread_drop(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 68);
    } else {
        topic_receive_to(&r, 0, 1);
    }
}

SCENARIO(topic_block_drop) = {
    .name = "topic-block-drop",
    .about = "publishers drop a message while a subscriber begins to read it, and never write in its block then",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_drop,
    .begin = topic_begin,
    .thread = thread_drop,
    .end = end_any,
};

static void
prepare_drop_one(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .granules = 1, .item_size = 52, .threads = 2,
                             .wishes = {[1] = DROPS(1)}});
}

static void
thread_drop_one(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 52);
    } else {
        topic_receive_to(&r, 0, 1);
    }
}

SCENARIO(topic_block_drop_one) = {
    .name = "topic-block-drop-one",
    .about = "as topic-block-drop with one block: the publisher waits for the reader, though not for the subscriber",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_drop_one,
    .begin = topic_begin,
    .thread = thread_drop_one,
    .end = end_any,
};

/* -- two subscribers -------------------------------------------------------------------------------- */

static void
prepare_two(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .granules = 1, .item_size = 52, .threads = 3,
                             .wishes = {[1] = WAITS(1), [2] = WAITS(1)}});
}

SCENARIO(topic_block_two) = {
    .name = "topic-block-two",
    .about = "two subscribers read in one block; the publisher waits for the last one",
    .threads = 3,
    .bound = 1,
    .quick = 0,
    .fifo = true,
    .prepare = prepare_two,
    .begin = topic_begin,
    .thread = thread_pair,
    .end = end_two,
};

/* -- two publishers --------------------------------------------------------------------------------- */

static void
prepare_publishers(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .granules = 1, .item_size = 52, .threads = 2});
}

/* Nobody subscribes, so the message of one publisher may be dropped as soon as it is sent, or is in the way as a
   loan that is cancelled. */
static void
thread_publishers(int thread)
{
    ring r = world_rings[thread];
    topic_publish_all(&r, 0, 1, 52);
}

SCENARIO(topic_block_publishers) = {
    .name = "topic-block-publishers",
    .about = "two publishers and one block: each is told when the other one's loan became a message",
    .threads = 2,
    .bound = 3,
    .quick = 2,
    .prepare = prepare_publishers,
    .begin = topic_begin,
    .thread = thread_publishers,
    .end = end_any,
};

/* Two of three granules, so that only one loan fits; the peers use membarrier. */
static void
prepare_cancel(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .granules = 3, .threads = 2});
}

static ring_result
lend_only(ring *r, ring_call *call)
{
    return topic_lend(r, call->length, &call->block);
}

static void
thread_cancel(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 1, 80);
        return;
    }
    ring_add_role(&r, ROLE_SENDER);
    ring_call call = {.operation = lend_only, .which = POLL_SPACE, .deadline = FOREVER, .lends = true,
                      .length = 80};
    model_check(world_call(&r, &call) == RING_OK);
    copy_shared(block_data(&r, call.block), "unsent", 4);
    model_check(ring_release_block(&r, call.block, BLOCK_LENT, r.owner) == RING_OK);
}

SCENARIO(topic_block_cancel) = {
    .name = "topic-block-cancel",
    .about = "a publisher that waits for a block gets that of a loan that was cancelled",
    .threads = 2,
    .bound = 3,
    .quick = 2,
    .prepare = prepare_cancel,
    .begin = topic_begin,
    .thread = thread_cancel,
    .end = end_any,
};
