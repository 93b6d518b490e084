/* Processes that die with a loan, a view, a message or a lock: all of it comes back. */
#include "block_calls.h"

#define GHOST 2 /* a peer that is dead when the threads begin */

static bool
is_fine(ring_result result, int other)
{
    return result == RING_OK || (result == RING_GONE && model_is_dead(other));
}

/* A receiver that dies may have taken one message. */
static void
end_death(void)
{
    world_finish();
    world_check_received(model_is_dead(1));
}

/* -- at any point --------------------------------------------------------------------------------------- */

static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 1, .item_size = 52}, 3);
}

static void
thread_two(int thread)
{
    ring r = world_rings[thread];
    for (int number = 0; number < 2; number++) {
        ring_result result =
            thread == 0 ? block_send_new(&r, number, 52, FOREVER) : block_receive(&r, FOREVER);
        model_check(is_fine(result, 1 - thread));
    }
}

SCENARIO(block_death) = {
    .name = "block-death",
    .about = "a sender or a receiver of blocks dies at any point",
    .threads = 2,
    .deaths = 1,
    .bound = 1,
    .quick = 1,
    .prepare = prepare,
    .begin = block_begin,
    .thread = thread_two,
    .end = end_death,
};

/* Thread 0 lends the only block, cancels the loan and receives. Thread 1 sends. */
static void
thread_cancel(int thread)
{
    ring r = world_rings[thread];
    uint32_t block;
    if (thread == 1) {
        model_check(is_fine(block_send_new(&r, 0, 52, FOREVER), 0));
        return;
    }
    ring_add_role(&r, ROLE_RECEIVER);
    if (block_lend(&r, 52, 0, &block) == RING_OK) {
        model_check(ring_release_block(&r, block, BLOCK_LENT, r.owner) == RING_OK);
    }
    /* With a deadline: this process counts as a sender too, so it is not told that the other died. */
    ring_result result = block_receive(&r, model_now() + 100 * NS_PER_MS);
    model_check(is_fine(result, 1) || (result == RING_TIMEOUT && model_is_dead(1)));
}

static void
end_cancel(void)
{
    world_finish();
    world_check_received(model_is_dead(0));
}

SCENARIO(cancel_death) = {
    .name = "block-cancel-death",
    .about = "a process dies with a loan, or while it cancels one for which another waits",
    .threads = 2,
    .deaths = 1,
    .bound = 2,
    .quick = 1,
    .prepare = prepare,
    .begin = block_begin,
    .thread = thread_cancel,
    .end = end_cancel,
};

/* -- beside a dead peer ------------------------------------------------------------------------------------ */

static bool ghost_sent, ghost_received;

static ring *
make_world_with_ghost(uint64_t granules)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = granules, .item_size = 52}, 4);
    block_begin();
    return &world_rings[GHOST];
}

static void
let_ghost_die(void)
{
    ghost_sent = ledger.sent[GHOST] != 0;
    ghost_received = ledger.received[GHOST][0] != 0;
    block_kill(GHOST);
}

static void
begin_ghost(void)
{
    block_begin();
    ledger.sent[GHOST] = ghost_sent;
    ledger.received[GHOST][0] = ghost_received;
}

static void
thread_ghost(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        model_check(is_fine(block_send_new(&r, 0, 52, FOREVER), 1));
        return;
    }
    while (ledger.received[0][0] == 0) {
        ring_result result = block_receive(&r, FOREVER);
        model_check(is_fine(result, 0));
        if (result == RING_GONE) {
            return;
        }
    }
}

static void
prepare_loan(void)
{
    uint32_t block;
    model_check(block_lend(make_world_with_ghost(1), 52, 0, &block) == RING_OK);
    let_ghost_die();
}

/* A recovery is wanted already, for another peer. It must not end with this peer half removed. */
static void
prepare_wanted(void)
{
    prepare_loan();
    store_release(&world_rings[0].shared->recovery_wanted, 1);
}

static void
prepare_view(void)
{
    ring_message message;
    ring *ghost = make_world_with_ghost(1);
    model_check(block_send_new(ghost, 0, 52, 0) == RING_OK);
    model_check(block_view(ghost, 0, &message) == RING_OK);
    let_ghost_die();
}

static void
prepare_taken(void)
{
    ring_message message;
    ring *ghost = make_world_with_ghost(1);
    model_check(block_send_new(ghost, 0, 52, 0) == RING_OK);
    model_check(block_deliver(ghost, 0, &message) == RING_OK);
    let_ghost_die();
}

/* Two blocks, so that next_granule is inside the second if it is not repaired. */
static void
prepare_allocating(void)
{
    ring *ghost = make_world_with_ghost(2);
    ring_add_role(ghost, ROLE_SENDER);
    model_check(ring_lock(ghost, &ghost->shared->pool_lock, 0) == RING_OK);
    model_check(blocks_allocate(ghost, 52, 2) == 0);
    let_ghost_die();
}

/* The ghost has written the record and given its block to the queue, and has not advanced tail. */
static void
prepare_sending(void)
{
    uint32_t block;
    ring *ghost = make_world_with_ghost(1);
    model_check(block_lend(ghost, 52, 0, &block) == RING_OK);
    model_check(ring_lock(ghost, &ghost->shared->send_lock, 0) == RING_OK);
    ring_write_record(ghost, 0, RECORD_BLOCK, block, shape_of(52, 1));
    block_store(ghost, block, block_word(BLOCK_QUEUED, 1, 0));
    let_ghost_die();
}

/* The ghost holds the message, and has not advanced head. */
static void
prepare_holding(void)
{
    ring_message message;
    ring *ghost = make_world_with_ghost(1);
    model_check(block_send_new(ghost, 0, 52, 0) == RING_OK);
    ring_add_role(ghost, ROLE_RECEIVER);
    model_check(ring_lock(ghost, &ghost->shared->receive_lock, 0) == RING_OK);
    model_check(ring_peek(ghost, &message) == RING_OK);
    block_store(ghost, message.block, block_word(BLOCK_READ, 1, ghost->owner));
    let_ghost_die();
}

#define GHOST_SCENARIO(id, name_, about_)                                                            \
    SCENARIO(id) = {                                                                                 \
        .name = name_,                                                                               \
        .about = about_,                                                                             \
        .threads = 2,                                                                                \
        .deaths = 1,                                                                                 \
        .time = true, /* a peer that waits for a lock of the dead one looks again after a pause */   \
        .bound = 1,                                                                                  \
        .prepare = prepare_##id,                                                                     \
        .begin = begin_ghost,                                                                        \
        .thread = thread_ghost,                                                                      \
        .end = end_death,                                                                            \
    }

GHOST_SCENARIO(loan, "block-ghost-loan", "a peer died with the only block as a loan; another may die while it recovers");
GHOST_SCENARIO(view, "block-ghost-view", "as block-ghost-loan, with a view");
GHOST_SCENARIO(taken, "block-ghost-taken", "as block-ghost-loan, with a message that was taken: it is received");
GHOST_SCENARIO(allocating, "block-ghost-allocating", "a peer died with pool_lock and a new block; another may die");
GHOST_SCENARIO(sending, "block-ghost-sending", "a peer died with send_lock before tail passed its record; another may die");
GHOST_SCENARIO(holding, "block-ghost-holding", "a peer died with receive_lock before head passed its record; another may die");

/* Without membarrier(2), whose barrier would come into the peer that removes the dead one. */
SCENARIO(ghost_wanted) = {
    .name = "block-ghost-wanted",
    .about = "as block-ghost-loan, while one peer recovers and another removes the dead one",
    .threads = 2,
    .time = true,
    .no_membarrier = true,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_wanted,
    .begin = begin_ghost,
    .thread = thread_ghost,
    .end = end_death,
};

/* A sender that polls finds the dead peer too. */
static void
thread_poll(int thread)
{
    ring r = world_rings[thread];
    if (thread == 1) {
        thread_ghost(thread);
        return;
    }
    ring_result result = block_send_new(&r, 0, 52, 0);
    if (result != RING_OK) {
        model_check(result == RING_FULL || result == RING_BUSY);
        model_check(is_fine(block_send_new(&r, 0, 52, FOREVER), 1));
    }
}

SCENARIO(ghost_poll) = {
    .name = "block-ghost-poll",
    .about = "as block-ghost-loan, with a sender that polls",
    .threads = 2,
    .deaths = 1,
    .time = true,
    .bound = 1,
    .prepare = prepare_loan,
    .begin = begin_ghost,
    .thread = thread_poll,
    .end = end_death,
};

/* -- three processes, two deaths --------------------------------------------------------------------------- */

static void
prepare_three(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 1, .item_size = 52}, 4);
}

/* Thread 1 receives what there is. Threads 0 and 2 send one message each, and leave. */
static void
thread_three(int thread)
{
    ring r = world_rings[thread];
    if (thread != 1) {
        model_check(is_fine(block_send_new(&r, 0, 52, FOREVER), 1));
        ring_leave(&r);
        return;
    }
    ring_result result;
    do {
        result = block_receive(&r, FOREVER);
    } while (result == RING_OK);
    model_check(result == RING_GONE);
}

SCENARIO(block_two_deaths) = {
    .name = "block-two-deaths",
    .about = "two of three processes die at any point",
    .threads = 3,
    .deaths = 2,
    .bound = 0,
    .prepare = prepare_three,
    .begin = block_begin,
    .thread = thread_three,
    .end = end_death,
};
