/* Three receivers of messages to be acknowledged, of which two may die. */
#include "block_calls.h"

#define CHECKER 3

static ring_message first; /* that thread 0 has taken before the start */

/* The checker sent a message in a block, and perhaps a short one. It does not count as a sender afterwards. */
static void
make_world(bool with_short)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 2}, 4);
    block_begin();
    model_check(block_send_new(&world_rings[CHECKER], 0, 52, 0) == RING_OK);
    if (with_short) {
        model_check(world_send(&world_rings[CHECKER], CHECKER, 1, 16, 0) == RING_OK);
    }
    store_relaxed(&world_rings[CHECKER].peers[CHECKER].roles, 0);
    model_check(block_deliver(&world_rings[0], 0, &first) == RING_OK);
    ring_add_role(&world_rings[1], ROLE_RECEIVER);
    ring_add_role(&world_rings[2], ROLE_RECEIVER);
}

static void
prepare_one(void)
{
    make_world(false);
}

static void
prepare_two(void)
{
    make_world(true);
}

static void
begin_one(void)
{
    block_begin();
    ledger.sent[CHECKER] = 1;
}

static void
begin_two(void)
{
    block_begin();
    ledger.sent[CHECKER] = 2;
}

static void
thread_three(int thread)
{
    ring r = world_rings[thread];
    ring_message message;
    if (thread == 0 && model_choose(2) == 1) {
        model_check(ring_requeue(&r, first.block, r.owner) == RING_OK);
    } else if (thread == 0) {
        block_acknowledge(&r, &first);
        return;
    }
    while (block_deliver(&r, FOREVER, &message) == RING_OK) {
        block_acknowledge(&r, &message);
    }
    model_check(ledger.result[thread] == RING_GONE);
}

static void
end(void)
{
    world_finish();
    world_check_received(block_half_acknowledged());
}

SCENARIO(taken_death_three) = {
    .name = "taken-death-three",
    .about = "one of three receivers dies: the others get what it had taken, and then the end of the stream",
    .threads = 3,
    .deaths = 1,
    .bound = 0,
    .prepare = prepare_two,
    .begin = begin_two,
    .thread = thread_three,
    .end = end,
};

SCENARIO(taken_two_deaths) = {
    .name = "taken-two-deaths",
    .about = "two of three receivers die, also one that returns what another had taken",
    .threads = 3,
    .deaths = 2,
    .bound = 0,
    .prepare = prepare_one,
    .begin = begin_one,
    .thread = thread_three,
    .end = end,
};
