/* Several messages in one record: send_many and receive_many (native/channel/batch.c). */
#include "channel_calls.h"

#define ITEM 8 /* bytes of a message */
#define MOST 4

/* op_send_batch */
static ring_result
send_batch(ring *r, ring_call *call)
{
    uint64_t items = call->items;
    ring_result result = ring_send_batch(r, call->data, call->length, &items);
    call->items = result == RING_OK ? items : call->items;
    return result;
}

/* op_receive_batch */
static ring_result
receive_batch(ring *r, ring_call *call)
{
    uint64_t done = 0, most = call->items;
    while (done < most) {
        ring_message *message = &call->message;
        ring_result result = ring_peek(r, message);
        if (result != RING_OK || message->length != call->length) {
            if (done == 0) {
                return result == RING_OK ? RING_TOO_LONG : result;
            }
            break;
        }
        uint64_t count = message->items - message->index;
        count = count < most - done ? count : most - done;
        copy_shared((char *)call->data + done * call->length, message->data, count * call->length);
        ring_take(r, message, count);
        done += count;
    }
    call->items = done;
    return RING_OK;
}

/* Sends `count` messages from number `first` on, as many at once as there is room for. */
static void
send_many(int sender, int first, int count)
{
    ring *r = &world_rings[sender];
    uint32_t words[MOST][ITEM / 4];
    for (int at = 0; at < count; at++) {
        words[at][0] = words[at][1] = (uint32_t)(sender << 16 | (first + at));
    }
    ring_add_role(r, ROLE_SENDER);
    ring_call call = {.operation = send_batch, .which = POLL_SPACE, .deadline = FOREVER, .length = ITEM};
    for (int done = 0; done < count; done += (int)call.items) {
        call.data = (const char *)words[done];
        call.items = (uint64_t)(count - done);
        ring_result result = world_call(r, &call);
        model_check(result == RING_OK || (result == RING_GONE && model_any_death()));
        if (result != RING_OK) {
            return;
        }
        ledger.sent[sender] += (int)call.items;
    }
}

/* Receives 1 to `most` messages: waits for the first, and takes what else is there. Returns how many. */
static int
receive_many(int receiver, int most)
{
    ring *r = &world_rings[receiver];
    uint32_t words[MOST][ITEM / 4];
    ring_add_role(r, ROLE_RECEIVER);
    ring_call call = {.operation = receive_batch, .which = POLL_ITEMS, .deadline = FOREVER, .length = ITEM};
    int done = 0;
    while (done < most) {
        call.data = (const char *)words[done];
        call.items = (uint64_t)(most - done);
        ring_result result = world_call(r, &call);
        if (result != RING_OK) {
            model_check(result == RING_EMPTY || model_any_death());
            break;
        }
        for (uint64_t at = 0; at < call.items; at++) {
            world_note(receiver, (const char *)words[done + (int)at], ITEM);
        }
        done += (int)call.items;
        call.deadline = 0;
    }
    return done;
}

/* -- a batch, taken in parts ------------------------------------------------------------------- */

static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 4, .item_size = ITEM}, 3);
}

static void
thread_batch(int thread)
{
    if (thread == 0) {
        send_many(0, 0, 3);
        return;
    }
    int received = receive_many(1, 2);
    model_check(world_receive(&world_rings[1], FOREVER) == RING_OK);
    received += 1;
    while (received < 3) {
        received += receive_many(1, 3 - received);
    }
}

SCENARIO(batch) = {
    .name = "batch",
    .about = "three messages in a batch: two are taken at once, one alone",
    .threads = 2,
    .bound = 4,
    .quick = 2,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_batch,
    .end = end_complete,
};

/* -- a batch that is too large for the room, and wraps ------------------------------------------ */

static void
prepare_three(void)
{
    world_make((world_shape){.units = 3, .capacity = 3}, 3);
}

/* In 3 units: 2 and 2 of 8 bytes, of 1 unit each. The batch of 4 is sent in parts, and needs padding. */
static void
thread_batch_wrap(int thread)
{
    if (thread == 0) {
        send_many(0, 0, 2);
        send_many(0, 2, 4);
        return;
    }
    for (int received = 0; received < 6;) {
        received += receive_many(1, MOST);
    }
}

SCENARIO(batch_wrap) = {
    .name = "batch-wrap",
    .about = "a batch with less room than messages is sent in parts, in order, and wraps",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_three,
    .begin = world_begin,
    .thread = thread_batch_wrap,
    .end = end_complete,
};

/* -- deaths ------------------------------------------------------------------------------------ */

static void
thread_batch_death(int thread)
{
    if (thread == 0) {
        send_many(0, 0, 3);
        return;
    }
    for (int received = 0; received < 3;) {
        int more = receive_many(1, 2);
        received += more;
        if (more == 0) {
            model_check(model_is_dead(0) && missing_of(0) == 0);
            return;
        }
    }
}

/* A batch of a dead sender was sent as a whole or not at all: there was room for all. */
static void
end_batch_death(void)
{
    world_finish();
    if (!model_is_dead(0)) {
        world_check_received(model_is_dead(1) ? 2 : 0);
        return;
    }
    int times = ledger.received[0][0];
    for (int number = 0; number < 3; number++) {
        model_check(times <= 1 && ledger.received[0][number] == times);
    }
}

SCENARIO(batch_death) = {
    .name = "batch-death",
    .about = "as batch; one of the two dies at any point: a batch is sent as a whole or not at all",
    .threads = 2,
    .deaths = 1,
    .bound = 2,
    .quick = 0,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_batch_death,
    .end = end_batch_death,
};

/* -- two receivers of one batch ----------------------------------------------------------------- */

static void
prepare_shared(void)
{
    world_make((world_shape){.units = 4, .capacity = 4}, 4);
}

static void
thread_batch_shared(int thread)
{
    if (thread == 0) {
        send_many(0, 0, 3);
    } else {
        receive_many(thread, thread);
    }
}

SCENARIO(batch_shared) = {
    .name = "batch-shared",
    .about = "two receivers take the messages of one batch, each message once",
    .threads = 3,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_shared,
    .begin = world_begin,
    .thread = thread_batch_shared,
    .end = end_complete,
};
