/* Messages in blocks: sent from memory that is lent, and read in place. */
#include "block_calls.h"

static void
end_all(void)
{
    world_finish();
    world_check_received(0);
}

/* -- one sender, one receiver ------------------------------------------------------------------------ */

static void
prepare_one_block(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 1, .item_size = 52}, 3);
}

static void
thread_two(int thread)
{
    ring r = world_rings[thread];
    for (int number = 0; number < 2; number++) {
        if (thread == 0) {
            model_check(block_send_new(&r, number, 52, FOREVER) == RING_OK);
        } else {
            model_check(block_receive(&r, FOREVER) == RING_OK);
        }
    }
}

SCENARIO(block) = {
    .name = "block",
    .about = "two messages share one block: the sender waits for it, and is woken when a view ends",
    .threads = 2,
    .bound = 3,
    .quick = 2,
    .prepare = prepare_one_block,
    .begin = block_begin,
    .thread = thread_two,
    .end = end_all,
};

/* Each record is written where the one before it was. */
static void
prepare_wrap(void)
{
    world_make((world_shape){.units = 1, .capacity = 1, .granules = 2, .item_size = 52}, 3);
}

SCENARIO(block_wrap) = {
    .name = "block-wrap",
    .about = "the records of two messages in blocks share one unit",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_wrap,
    .begin = block_begin,
    .thread = thread_two,
    .end = end_all,
};

/* Sizes differ, so one granule is for receivers. */
static void
prepare_sizes(void)
{
    world_make((world_shape){.units = 8, .capacity = 4, .granules = 3}, 3);
}

static void
thread_sizes(int thread)
{
    static const uint64_t lengths[] = {52, 100, 52};
    ring r = world_rings[thread];
    for (int number = 0; number < 3; number++) {
        if (thread == 0) {
            model_check(block_send_new(&r, number, lengths[number], FOREVER) == RING_OK);
        } else {
            model_check(block_receive(&r, FOREVER) == RING_OK);
        }
    }
}

SCENARIO(block_sizes) = {
    .name = "block-sizes",
    .about = "blocks of one granule and of two use the same memory, one after the other",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_sizes,
    .begin = block_begin,
    .thread = thread_sizes,
    .end = end_all,
};

static void
prepare_mixed(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 2}, 3);
}

static void
thread_mixed(int thread)
{
    ring r = world_rings[thread];
    for (int number = 0; number < 3; number++) {
        if (thread == 1) {
            model_check(block_receive(&r, FOREVER) == RING_OK);
        } else if (number == 1) {
            model_check(world_send(&r, 0, number, 16, FOREVER) == RING_OK);
        } else {
            model_check(block_send_new(&r, number, 52, FOREVER) == RING_OK);
        }
    }
}

SCENARIO(block_mixed) = {
    .name = "block-mixed",
    .about = "a short message between two in blocks: the order is kept",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_mixed,
    .begin = block_begin,
    .thread = thread_mixed,
    .end = end_all,
};

/* -- three processes ----------------------------------------------------------------------------------- */

static void
prepare_two_senders(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 1, .item_size = 52}, 4);
}

static void
thread_two_senders(int thread)
{
    ring r = world_rings[thread];
    if (thread < 2) {
        model_check(block_send_new(&r, 0, 52, FOREVER) == RING_OK);
    } else {
        model_check(block_receive(&r, FOREVER) == RING_OK);
        model_check(block_receive(&r, FOREVER) == RING_OK);
    }
}

SCENARIO(block_two_senders) = {
    .name = "block-two-senders",
    .about = "two senders need the same block",
    .threads = 3,
    .bound = 1,
    .prepare = prepare_two_senders,
    .begin = block_begin,
    .thread = thread_two_senders,
    .end = end_all,
};

/* All memory is in use by one message. Two senders wait, and only one of them can use what comes free. */
static void
prepare_unlike(void)
{
    world_make((world_shape){.units = 8, .capacity = 4, .granules = 3}, 4);
    model_check(block_send_new(&world_rings[0], 0, 52, 0) == RING_OK);
    model_check(block_send_new(&world_rings[1], 0, 52, 0) == RING_OK);
}

static void
begin_unlike(void)
{
    block_begin();
    ledger.sent[0] = ledger.sent[1] = 1;
}

static void
thread_unlike(int thread)
{
    ring r = world_rings[thread];
    if (thread < 2) {
        model_check(block_send_new(&r, 1, thread == 0 ? 100 : 52, FOREVER) == RING_OK);
        return;
    }
    for (int count = 0; count < 4; count++) {
        model_check(block_receive(&r, FOREVER) == RING_OK);
    }
}

SCENARIO(block_unlike) = {
    .name = "block-unlike",
    .about = "a sender that needs more memory than came free wakes the one for whom it is enough",
    .threads = 3,
    .bound = 1,
    .prepare = prepare_unlike,
    .begin = begin_unlike,
    .thread = thread_unlike,
    .end = end_all,
};

static void
thread_two_receivers(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        model_check(block_send_new(&r, 0, 52, FOREVER) == RING_OK);
        model_check(block_send_new(&r, 1, 52, FOREVER) == RING_OK);
    } else {
        model_check(block_receive(&r, FOREVER) == RING_OK);
    }
}

SCENARIO(block_two_receivers) = {
    .name = "block-two-receivers",
    .about = "two receivers get one message each through the same block",
    .threads = 3,
    .bound = 1,
    .prepare = prepare_two_senders,
    .begin = block_begin,
    .thread = thread_two_receivers,
    .end = end_all,
};
