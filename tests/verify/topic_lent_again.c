/* A block of a topic that one publisher frees, by dropping its message, and another one lends. */
#include "topic_world.h"

#define DROPS(depth_) {.depth = depth_, .drops = true}

static void
prepare(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .granules = 1, .item_size = 52, .threads = 3,
                             .wishes = {[2] = DROPS(1)}});
    model_check(topic_publish(&world_rings[0], 0, 52, 0) == RING_OK);
}

static void
begin(void)
{
    topic_begin();
    ledger.sent[0] = 1;
}

static ring_result
do_lend(ring *r, ring_call *call)
{
    return topic_lend(r, call->length, &call->block);
}

/* The first publisher drops the message. */
static void
lend_and_cancel(ring *r)
{
    ring_add_role(r, ROLE_SENDER);
    ring_call call = {.operation = do_lend, .which = POLL_SPACE, .lends = true, .length = 52};
    if (world_call(r, &call) == RING_OK) {
        model_check(ring_release_block(r, call.block, BLOCK_LENT, r->owner) == RING_OK);
    }
}

/* The subscriber gets the message or finds none: a block that is not the message's means that it was dropped. */
static void
thread_lent_again(int thread)
{
    ring r = world_rings[thread];
    if (thread < 2) {
        lend_and_cancel(&r);
    } else {
        topic_receive(&r, 0);
    }
}

SCENARIO(topic_lent_again) = {
    .name = "topic-lent-again",
    .about = "the block of a dropped message is lent by another publisher: a subscriber sees that it was dropped",
    .threads = 3,
    .bound = 1,
    .quick = 0,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_lent_again,
    .end = topic_finish,
};
