/* Loans and views of one process, ended in any order. */
#include "block_calls.h"

static void
end_all(void)
{
    world_finish();
    world_check_received(0);
}

static void
prepare_two_blocks(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 2, .item_size = 52}, 3);
}

/* Sends one message in each of two loans, or cancels the first and lends again. */
static void
send_in_any_order(ring *r)
{
    uint32_t first, second;
    model_check(block_lend(r, 52, FOREVER, &first) == RING_OK);
    model_check(block_lend(r, 52, FOREVER, &second) == RING_OK);
    unsigned order = model_choose(3);
    if (order == 2) {
        model_check(ring_release_block(r, first, BLOCK_LENT, r->owner) == RING_OK);
        model_check(block_send(r, second, 0, 52, FOREVER) == RING_OK);
        model_check(block_send_new(r, 1, 52, FOREVER) == RING_OK);
    } else {
        model_check(block_send(r, order == 0 ? first : second, 0, 52, FOREVER) == RING_OK);
        model_check(block_send(r, order == 0 ? second : first, 1, 52, FOREVER) == RING_OK);
    }
}

static void
view_in_any_order(ring *r)
{
    ring_message first, second;
    model_check(block_view(r, FOREVER, &first) == RING_OK);
    model_check(block_view(r, FOREVER, &second) == RING_OK);
    bool in_order = model_choose(2) == 0;
    block_end_view(r, in_order ? &first : &second);
    block_end_view(r, in_order ? &second : &first);
}

static void
thread_any_order(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        send_in_any_order(&r);
    } else {
        view_in_any_order(&r);
    }
}

SCENARIO(block_order) = {
    .name = "block-order",
    .about = "two loans are sent or cancelled in any order, and two views end in any order",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_two_blocks,
    .begin = block_begin,
    .thread = thread_any_order,
    .end = end_all,
};

/* The only block is lent and then cancelled, while another sender waits for it. */
static void
prepare_one_block(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 1, .item_size = 52}, 3);
}

static void
thread_cancel(int thread)
{
    ring r = world_rings[thread];
    uint32_t block;
    if (thread == 1) {
        model_check(block_send_new(&r, 0, 52, FOREVER) == RING_OK);
        return;
    }
    ring_add_role(&r, ROLE_RECEIVER);
    if (block_lend(&r, 52, 0, &block) == RING_OK) {
        model_check(ring_release_block(&r, block, BLOCK_LENT, r.owner) == RING_OK);
    }
    model_check(block_receive(&r, FOREVER) == RING_OK);
}

SCENARIO(block_cancel) = {
    .name = "block-cancel",
    .about = "a sender that waits for memory is woken when another cancels its loan",
    .threads = 2,
    .bound = 3,
    .quick = 2,
    .prepare = prepare_one_block,
    .begin = block_begin,
    .thread = thread_cancel,
    .end = end_all,
};

/* A sender that polls, beside one that waits: it must not keep the block from the other. */
static void
thread_poll(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        ring_result result = block_send_new(&r, 0, 52, 0);
        model_check(result == RING_OK || result == RING_FULL || result == RING_BUSY);
    } else if (thread == 1) {
        model_check(block_send_new(&r, 0, 52, FOREVER) == RING_OK);
    } else {
        do {
            model_check(block_receive(&r, FOREVER) == RING_OK);
        } while (ledger.received[1][0] == 0);
    }
}

static void
prepare_poll(void)
{
    world_make((world_shape){.units = 4, .capacity = 1, .granules = 1, .item_size = 52}, 4);
}

SCENARIO(block_poll) = {
    .name = "block-poll",
    .about = "a sender that polls for a block, beside one that waits for it",
    .threads = 3,
    .bound = 1,
    .prepare = prepare_poll,
    .begin = block_begin,
    .thread = thread_poll,
    .end = end_all,
};
