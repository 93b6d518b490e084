/* Sleeping and waking: full and empty channels, two sleepers of one side, deadlines. */
#include "channel_calls.h"

static void
prepare_one(void)
{
    world_make((world_shape){.units = 2, .capacity = 1}, 3);
}

/* -- both sides wait for each other ------------------------------------------------------------ */

static void
thread_one(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){16, 16, 16}, 3);
    } else {
        receive_count(1, 0, 3);
    }
}

SCENARIO(one) = {
    .name = "one",
    .about = "three messages through a channel for one: both sides sleep, and both are woken",
    .threads = 2,
    .bound = 2,
    .quick = 2,
    .prepare = prepare_one,
    .begin = world_begin,
    .thread = thread_one,
    .end = end_complete,
};

SCENARIO(one_no_membarrier) = {
    .name = "one-no-membarrier",
    .about = "as one, without membarrier(2): every peer uses full barriers",
    .threads = 2,
    .no_membarrier = true,
    .bound = 1,
    .quick = 1,
    .prepare = prepare_one,
    .begin = world_begin,
    .thread = thread_one,
    .end = end_complete,
};

SCENARIO(one_death) = {
    .name = "one-death",
    .about = "as one; one of the two dies at any point",
    .threads = 2,
    .deaths = 1,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_one,
    .begin = world_begin,
    .thread = thread_one,
    .end = end_receiver_is_1,
};

SCENARIO(one_stop) = {
    .name = "one-stop",
    .about = "as one; one of the two is stopped at any point and goes on later",
    .threads = 2,
    .stops = 1,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_one,
    .begin = world_begin,
    .thread = thread_one,
    .end = end_complete,
};

/* -- two sleepers of one side ------------------------------------------------------------------ */

/* Two messages in one record: one wake for two sleepers. */
static ring_result
send_two(ring *r, ring_call *call)
{
    uint64_t items = 2;
    ring_result result = ring_send_batch(r, call->data, call->length, &items);
    model_check(result != RING_OK || items == 2);
    return result;
}

static void
prepare_two(void)
{
    world_make((world_shape){.units = 4, .capacity = 2}, 4);
}

static void
thread_wake_receivers(int thread)
{
    ring *r = &world_rings[thread];
    if (thread != 0) {
        model_check(world_receive(r, FOREVER) == RING_OK);
        return;
    }
    const uint32_t words[2] = {0, 1};
    ring_add_role(r, ROLE_SENDER);
    ring_call call = {.operation = send_two, .which = POLL_SPACE, .deadline = FOREVER,
                      .data = (const char *)words, .length = 4};
    model_check(world_call(r, &call) == RING_OK);
    ledger.sent[0] += 2;
}

SCENARIO(wake_receivers) = {
    .name = "wake-receivers",
    .about = "two messages are sent at once: both sleeping receivers are woken",
    .threads = 3,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_two,
    .begin = world_begin,
    .thread = thread_wake_receivers,
    .end = end_complete,
};

/* The channel is full: a message of thread 0 and one of thread 1. */
static void
prepare_full(void)
{
    prepare_two();
    for (uint32_t sender = 0; sender < 2; sender++) {
        const uint32_t words[4] = {sender << 16, sender << 16, sender << 16, sender << 16};
        ring_add_role(&world_rings[sender], ROLE_SENDER);
        model_check(ring_send(&world_rings[sender], words, sizeof words) == RING_OK);
    }
}

static void
begin_full(void)
{
    world_begin();
    ledger.sent[0] = ledger.sent[1] = 1;
}

/* Takes all messages at once: one wake for two sleepers. */
static ring_result
receive_all(ring *r, ring_call *call)
{
    call->items = 0;
    for (;;) {
        ring_result result = ring_peek(r, &call->message);
        if (result != RING_OK) {
            return result == RING_EMPTY && call->items != 0 ? RING_OK : result;
        }
        copy_shared((char *)call->data + 16 * call->items++, call->message.data, 16);
        ring_take(r, &call->message, 1);
    }
}

static void
thread_wake_senders(int thread)
{
    ring *r = &world_rings[thread];
    if (thread != 2) {
        send_lengths(thread, 1, (const uint64_t[]){16}, 1);
        return;
    }
    char copies[4 * 16];
    ring_add_role(r, ROLE_RECEIVER);
    ring_call call = {.operation = receive_all, .which = POLL_ITEMS, .deadline = FOREVER, .data = copies};
    model_check(world_call(r, &call) == RING_OK);
    for (uint64_t at = 0; at < call.items; at++) {
        world_note(2, copies + 16 * at, 16);
    }
}

SCENARIO(wake_senders) = {
    .name = "wake-senders",
    .about = "a full channel is emptied at once: both sleeping senders are woken",
    .threads = 3,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_full,
    .begin = begin_full,
    .thread = thread_wake_senders,
    .end = end_complete,
};

/* A receiver that was woken dies before it wakes the other: that one looks again. */
static void
thread_wake_death(int thread)
{
    if (thread == 0) {
        thread_wake_receivers(0);
        return;
    }
    ring_result result = world_receive(&world_rings[thread], FOREVER);
    model_check(result == RING_OK || (result == RING_GONE && model_is_dead(0)));
}

static void
end_wake_death(void)
{
    world_finish();
    if (model_is_dead(0)) { /* it sent both or none */
        model_check(ledger.received[0][0] == ledger.received[0][1] && ledger.received[0][0] <= 1);
    } else {
        world_check_received(model_is_dead(1) + model_is_dead(2));
    }
}

SCENARIO(wake_death) = {
    .name = "wake-death",
    .about = "as wake-receivers; one of the three dies at any point",
    .threads = 3,
    .deaths = 1,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_two,
    .begin = world_begin,
    .thread = thread_wake_death,
    .end = end_wake_death,
};

/* -- deadlines --------------------------------------------------------------------------------- */

/* The channel has one message less room than the sender has messages. */
static void
thread_deadline(int thread)
{
    int64_t start = model_now();
    if (thread == 1) {
        model_check(world_receive(&world_rings[1], start + NS_PER_MS) == RING_OK);
        return;
    }
    for (int number = 0; number < 3; number++) {
        int64_t deadline = start + 100 * NS_PER_MS;
        ring_result result = world_send(&world_rings[0], 0, number, 16, deadline);
        model_check(result == (number < 2 ? RING_OK : RING_TIMEOUT));
        model_check(result == RING_OK || model_now() >= deadline);
    }
}

SCENARIO(deadline) = {
    .name = "deadline",
    .about = "a call whose time is over ends then and not before, and has sent nothing",
    .threads = 2,
    .time = true,
    .bound = 3,
    .quick = 1,
    .prepare = prepare_one,
    .begin = world_begin,
    .thread = thread_deadline,
    .end = end_complete,
};

/* A process may be stopped. The calls of the others end in time, whatever the stopped process holds. */
static void
check_deadline(int thread, int64_t deadline, ring_result result)
{
    model_check(result == RING_OK || result == RING_TIMEOUT || result == RING_BUSY);
    model_check(model_was_stopped(thread) || model_now() <= deadline + LOCK_GRACE_NS);
}

static void
thread_deadline_stop(int thread)
{
    ring *r = &world_rings[thread];
    int sent = 0;
    for (int number = 0; number < 2; number++) {
        int64_t deadline = model_now() + 50 * NS_PER_MS;
        ring_result result = thread == 0 ? world_send(r, 0, sent, 16, deadline) : world_receive(r, deadline);
        check_deadline(thread, deadline, result);
        sent += result == RING_OK;
    }
}

SCENARIO(deadline_stop) = {
    .name = "deadline-stop",
    .about = "one of the two is stopped at any point: the other's calls end, and nothing is lost",
    .threads = 2,
    .stops = 1,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_one,
    .begin = world_begin,
    .thread = thread_deadline_stop,
    .end = end_complete,
};

/* Two send, and one of them may be stopped with send_lock. */
static void
thread_lock_stop(int thread)
{
    ring *r = &world_rings[thread];
    int64_t deadline = model_now() + 50 * NS_PER_MS;
    ring_result result =
        thread == 2 ? world_receive(r, deadline) : world_send(r, thread, 0, 16, deadline);
    check_deadline(thread, deadline, result);
}

static void
prepare_lock_stop(void)
{
    world_make((world_shape){.units = 2, .capacity = 1}, 4);
}

SCENARIO(lock_stop) = {
    .name = "lock-stop",
    .about = "of two senders and a receiver one is stopped, maybe with a lock: the others' calls end",
    .threads = 3,
    .stops = 1,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_lock_stop,
    .begin = world_begin,
    .thread = thread_lock_stop,
    .end = end_complete,
};
