/* A channel that overwrites: a sender that finds no room drops the oldest messages. */
#include "block_calls.h"

/* The newest message of the sender is always received. Each message was received, or was dropped and
   counted. */
static void
end_all(void)
{
    int lost = (int)load_acquire(&world_rings[0].shared->dropped), missing = 0;
    world_finish();
    world_check_received(lost);
    for (int number = 0; number < ledger.sent[0]; number++) {
        missing += ledger.received[0][number] == 0;
    }
    model_check(missing == lost || model_any_death());
}

static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 2, .granules = 2, .overwrite = true}, 3);
}

static void
send_one(ring *r, int number, uint64_t length)
{
    model_check((length > INLINE_MAX ? block_send_new(r, number, length, FOREVER)
                                     : world_send(r, 0, number, length, FOREVER))
                == RING_OK);
}

static bool
got_newest(int number)
{
    return ledger.last[1][0] == number;
}

static void
thread_mixed(int thread)
{
    static const uint64_t lengths[] = {52, 16, 52};
    ring r = world_rings[thread];
    if (thread == 0) {
        for (int number = 0; number < 3; number++) {
            send_one(&r, number, lengths[number]);
        }
        return;
    }
    while (!got_newest(2)) {
        model_check(block_receive(&r, FOREVER) == RING_OK);
    }
}

SCENARIO(overwrite) = {
    .name = "overwrite",
    .about = "a sender drops the oldest messages, short and long; the newest arrives, and views never change",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare,
    .begin = block_begin,
    .thread = thread_mixed,
    .end = end_all,
};

/* The receiver has a view of the only block that senders may use: the sender waits for it, and drops nothing,
   because that would not free the block. */
static ring_message first_view;

static void
prepare_view(void)
{
    prepare();
    block_begin();
    model_check(block_send_new(&world_rings[0], 0, 52, 0) == RING_OK);
    model_check(block_view(&world_rings[1], 0, &first_view) == RING_OK);
    model_check(world_send(&world_rings[0], 0, 1, 16, 0) == RING_OK);
}

static void
begin_view(void)
{
    block_begin();
    ledger.sent[0] = 2;
    ledger.received[0][0] = 1;
    ledger.last[1][0] = 0;
}

static void
thread_view(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        send_one(&r, 2, 52);
        return;
    }
    if (model_choose(2) == 0) {
        model_check(block_receive(&r, FOREVER) == RING_OK);
        model_check(got_newest(1) /* nothing was dropped */);
    }
    block_end_view(&r, &first_view);
    while (!got_newest(2)) {
        model_check(block_receive(&r, FOREVER) == RING_OK);
    }
}

static void
end_view(void)
{
    model_check(load_acquire(&world_rings[0].shared->dropped) == 0);
    end_all();
}

SCENARIO(overwrite_view) = {
    .name = "overwrite-view",
    .about = "a sender that could not use the memory of dropped messages drops none, and waits for a view",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_view,
    .begin = begin_view,
    .thread = thread_view,
    .end = end_view,
};

/* A message that a receiver had taken and returns is older than all others. */
static ring_message taken;

static void
prepare_returned(void)
{
    world_make((world_shape){.units = 4, .capacity = 1, .granules = 2, .overwrite = true}, 3);
    block_begin();
    model_check(block_send_new(&world_rings[0], 0, 52, 0) == RING_OK);
    model_check(block_deliver(&world_rings[1], 0, &taken) == RING_OK);
}

static void
begin_returned(void)
{
    block_begin();
    ledger.sent[0] = 1;
}

static void
thread_returned(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        send_one(&r, 1, 52);
        return;
    }
    model_check(ring_requeue(&r, taken.block, r.owner) == RING_OK);
    for (int number = -1; number != 1;) {
        ring_message message;
        model_check(block_deliver(&r, FOREVER, &message) == RING_OK);
        model_check(block_number(&r, &message) > number);
        number = block_number(&r, &message);
        block_acknowledge(&r, &message);
    }
}

SCENARIO(overwrite_returned) = {
    .name = "overwrite-returned",
    .about = "a sender drops a message that was returned, or it is received first",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_returned,
    .begin = begin_returned,
    .thread = thread_returned,
    .end = end_all,
};

/* The receiver dies, or the sender does, also while it drops. */
static void
thread_mortal(int thread)
{
    static const uint64_t lengths[] = {52, 52};
    ring r = world_rings[thread];
    for (int number = 0; thread == 0 && number < 2; number++) {
        ring_result result = block_send_new(&r, number, lengths[number], FOREVER);
        model_check(result == RING_OK || (result == RING_GONE && model_is_dead(1)));
    }
    while (thread == 1 && !got_newest(1)) {
        ring_result result = block_receive(&r, FOREVER);
        model_check(result == RING_OK || (result == RING_GONE && model_is_dead(0)));
        if (result == RING_GONE) {
            break;
        }
    }
}

static void
end_mortal(void)
{
    int dropped = (int)load_acquire(&world_rings[0].shared->dropped);
    world_finish();
    world_check_received(dropped + model_is_dead(1));
}

SCENARIO(overwrite_death) = {
    .name = "overwrite-death",
    .about = "a sender dies while it drops, or a receiver while it reads: all memory comes back",
    .threads = 2,
    .deaths = 1,
    .bound = 1,
    .prepare = prepare,
    .begin = block_begin,
    .thread = thread_mortal,
    .end = end_mortal,
};
