/* Messages that a receiver takes and acknowledges later. */
#include "block_calls.h"

static ring_message first, second; /* messages that thread 0 has taken before the start */

static void
end_all(void)
{
    world_finish();
    world_check_received(0);
}

static void
requeue(ring *r, const ring_message *message)
{
    model_check(ring_requeue(r, message->block, r->owner) == RING_OK);
}

/* Takes a message, checks its number, and how often it was returned. */
static void
take(ring *r, ring_message *message, int number, uint64_t redelivered)
{
    model_check(block_deliver(r, FOREVER, message) == RING_OK);
    model_check(block_number(r, message) == number);
    model_check(load_acquire(&r->deliveries[message->block].redelivered) == redelivered);
}

static void
take_and_acknowledge(ring *r)
{
    ring_message message;
    model_check(block_deliver(r, FOREVER, &message) == RING_OK);
    block_acknowledge(r, &message);
}

/* -- one sender, one receiver ------------------------------------------------------------------------ */

static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 2}, 3);
}

/* The second message is short. Its receiver moves it to a block, for which one granule is spare. */
static void
send_two(ring *r)
{
    model_check(block_send_new(r, 0, 52, FOREVER) == RING_OK);
    model_check(world_send(r, 0, 1, 16, FOREVER) == RING_OK);
}

static void
thread_two(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        send_two(&r);
        return;
    }
    ring_message one, other;
    take(&r, &one, 0, 0);
    take(&r, &other, 1, 0);
    bool in_order = model_choose(2) == 0;
    block_acknowledge(&r, in_order ? &one : &other);
    block_acknowledge(&r, in_order ? &other : &one);
}

SCENARIO(taken) = {
    .name = "taken",
    .about = "two messages are taken, and acknowledged in any order",
    .threads = 2,
    .bound = 3,
    .quick = 1,
    .prepare = prepare,
    .begin = block_begin,
    .thread = thread_two,
    .end = end_all,
};

/* The sender waits for a block. The receiver returns the first message, which comes before the third. */
static void
thread_again(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        send_two(&r);
        model_check(block_send_new(&r, 2, 52, FOREVER) == RING_OK);
        return;
    }
    ring_message one, other;
    take(&r, &one, 0, 0);
    take(&r, &other, 1, 0);
    requeue(&r, &one);
    take(&r, &one, 0, 1);
    block_acknowledge(&r, &other);
    block_acknowledge(&r, &one);
    take_and_acknowledge(&r);
}

SCENARIO(taken_again) = {
    .name = "taken-again",
    .about = "a message that is returned comes again, before all others",
    .threads = 2,
    .bound = 1,
    .quick = 1,
    .prepare = prepare,
    .begin = block_begin,
    .thread = thread_again,
    .end = end_all,
};

/* Two receivers take one message each, the second of which is short. */
static void
prepare_three(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 2}, 4);
}

static void
thread_three(int thread)
{
    ring r = world_rings[thread];
    if (thread == 2) {
        model_check(block_send_new(&r, 0, 52, FOREVER) == RING_OK);
        model_check(world_send(&r, 2, 1, 16, FOREVER) == RING_OK);
    } else {
        take_and_acknowledge(&r);
    }
}

SCENARIO(taken_three) = {
    .name = "taken-three",
    .about = "two receivers take and acknowledge one message each",
    .threads = 3,
    .bound = 1,
    .prepare = prepare_three,
    .begin = block_begin,
    .thread = thread_three,
    .end = end_all,
};

/* -- a receiver returns messages for which others wait ------------------------------------------------ */

static void
prepare_taken(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 3}, 4);
    block_begin();
    model_check(block_send_new(&world_rings[0], 0, 52, 0) == RING_OK);
    model_check(world_send(&world_rings[0], 0, 1, 16, 0) == RING_OK);
    model_check(block_deliver(&world_rings[0], 0, &first) == RING_OK);
    model_check(block_deliver(&world_rings[0], 0, &second) == RING_OK);
}

static void
begin_taken(void)
{
    block_begin();
    ledger.sent[0] = 2;
}

/* Returns the messages in any order. They come in the order in which they were taken if both were there. */
static void
thread_requeue(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        bool in_order = model_choose(2) == 0;
        requeue(&r, in_order ? &first : &second);
        requeue(&r, in_order ? &second : &first);
        return;
    }
    take_and_acknowledge(&r);
    take_and_acknowledge(&r);
}

SCENARIO(taken_requeue) = {
    .name = "taken-requeue",
    .about = "a receiver that waits is woken by each message that another returns",
    .threads = 2,
    .bound = 3,
    .quick = 2,
    .prepare = prepare_taken,
    .begin = begin_taken,
    .thread = thread_requeue,
    .end = end_all,
};

static void
thread_requeue_three(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        requeue(&r, &second);
        requeue(&r, &first);
    } else {
        take_and_acknowledge(&r);
    }
}

SCENARIO(taken_requeue_three) = {
    .name = "taken-requeue-three",
    .about = "two receivers wait, and each gets one of two messages that a third returns",
    .threads = 3,
    .bound = 1,
    .prepare = prepare_taken,
    .begin = begin_taken,
    .thread = thread_requeue_three,
    .end = end_all,
};

/* -- a take that waits for a block -------------------------------------------------------------------- */

/* Thread 0 has taken the first message and reads the second. A third waits, and no granule is free. */
static void
prepare_no_block(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 2}, 3);
    block_begin();
    model_check(block_send_new(&world_rings[0], 0, 52, 0) == RING_OK);
    model_check(world_send(&world_rings[0], 0, 1, 16, 0) == RING_OK);
    model_check(block_deliver(&world_rings[0], 0, &first) == RING_OK);
    model_check(block_deliver(&world_rings[0], 0, &second) == RING_OK);
    model_check(world_send(&world_rings[0], 0, 2, 16, 0) == RING_OK);
}

static void
begin_no_block(void)
{
    block_begin();
    ledger.sent[0] = 3;
}

static void
thread_no_block(int thread)
{
    ring r = world_rings[thread];
    bool returns = thread == 0 && model_choose(2) == 1;
    if (thread == 0 && returns) {
        requeue(&r, &second);
        block_acknowledge(&r, &first);
    } else if (thread == 0) {
        block_acknowledge(&r, &first);
        block_acknowledge(&r, &second);
    } else {
        do {
            take_and_acknowledge(&r);
        } while (ledger.received[0][2] == 0);
    }
}

SCENARIO(taken_no_block) = {
    .name = "taken-no-block",
    .about = "a take that waits for a block is woken by a block that is freed, or by a message that is returned",
    .threads = 2,
    .bound = 3,
    .quick = 2,
    .prepare = prepare_no_block,
    .begin = begin_no_block,
    .thread = thread_no_block,
    .end = end_all,
};

/* -- the end of the stream ------------------------------------------------------------------------------ */

static void
prepare_end(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 1, .item_size = 52}, 4);
    block_begin();
    model_check(block_send_new(&world_rings[2], 0, 52, 0) == RING_OK);
    model_check(block_deliver(&world_rings[0], 0, &first) == RING_OK);
}

static void
begin_end(void)
{
    block_begin();
    ledger.sent[2] = 1;
}

/* Thread 1 is told of the end only when the message can't come to it any more. */
static void
thread_end(int thread)
{
    ring r = world_rings[thread];
    if (thread == 2) {
        ring_leave(&r);
    } else if (thread == 0) {
        if (model_choose(2) == 0) {
            block_acknowledge(&r, &first);
        } else {
            requeue(&r, &first);
        }
    } else {
        ring_message message;
        ring_result result = block_deliver(&r, FOREVER, &message);
        if (result == RING_OK) {
            block_acknowledge(&r, &message);
            result = block_deliver(&r, FOREVER, &message);
        }
        model_check(result == RING_GONE);
        model_check(ledger.received[2][0] + block_half_acknowledged() == 1);
    }
}

SCENARIO(taken_end) = {
    .name = "taken-end",
    .about = "the last sender leaves while a receiver has a message: the other waits until it is acknowledged",
    .threads = 3,
    .bound = 2,
    .prepare = prepare_end,
    .begin = begin_end,
    .thread = thread_end,
    .end = end_all,
};

/* membarrier(2) would be a barrier in thread 0 too: without it, ring_acknowledge needs its own. */
SCENARIO(taken_end_barriers) = {
    .name = "taken-end-barriers",
    .about = "as taken-end, on a kernel without membarrier",
    .threads = 3,
    .bound = 2,
    .no_membarrier = true,
    .prepare = prepare_end,
    .begin = begin_end,
    .thread = thread_end,
    .end = end_all,
};

/* -- deaths ----------------------------------------------------------------------------------------------- */

/* Peer 2 sent a message in a block and a short one, and left. Thread 0 has taken the first. */
static void
prepare_death(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 2}, 4);
    block_begin();
    model_check(block_send_new(&world_rings[2], 0, 52, 0) == RING_OK);
    model_check(world_send(&world_rings[2], 2, 1, 16, 0) == RING_OK);
    ring_leave(&world_rings[2]);
    ring_add_role(&world_rings[1], ROLE_RECEIVER); /* without a role it could become a sender */
    model_check(block_deliver(&world_rings[0], 0, &first) == RING_OK);
}

static void
begin_death(void)
{
    block_begin();
    ledger.sent[2] = 2;
}

static void
thread_death(int thread)
{
    ring r = world_rings[thread];
    ring_message message;
    bool returns = thread == 0 && model_choose(2) == 1;
    if (returns) {
        requeue(&r, &first);
    } else if (thread == 0) {
        block_acknowledge(&r, &first);
    }
    for (;;) {
        /* A receiver that knows of the death before its call gets the message next. */
        bool is_next = thread == 1 && peer_lock_is_free(r.fd, 0) && ledger.received[2][0] == 0
            && block_half_acknowledged() == 0;
        ring_result result = block_deliver(&r, FOREVER, &message);
        if (result != RING_OK) {
            model_check(result == RING_GONE);
            return;
        }
        model_check(!is_next || block_number(&r, &message) == 0);
        block_acknowledge(&r, &message);
    }
}

static void
end_death(void)
{
    world_finish();
    world_check_received(block_half_acknowledged());
}

SCENARIO(taken_death) = {
    .name = "taken-death",
    .about = "a receiver dies: what it has not acknowledged comes again, before all others; then the stream ends",
    .threads = 2,
    .deaths = 1,
    .bound = 1,
    .prepare = prepare_death,
    .begin = begin_death,
    .thread = thread_death,
    .end = end_death,
};
