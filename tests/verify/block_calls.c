/* Calls on blocks as the binding makes them (block_calls.h). */
#include "block_calls.h"

static int acknowledging[PEERS]; /* messages that a thread has begun to acknowledge, and not ended */

void
block_begin(void)
{
    world_begin();
    memset(acknowledging, 0, sizeof acknowledging);
}

void
block_kill(int peer)
{
    const ring *r = &world_rings[peer];
    peer_unlock(r->fd, r->index);
}

/* -- senders ---------------------------------------------------------------------------------------- */

static ring_result
do_lend(ring *r, ring_call *call)
{
    return either_lend(r, call->length, &call->block);
}

static ring_result
do_send_block(ring *r, ring_call *call)
{
    return either_send_block(r, call->block, call->length, (uint32_t)call->items);
}

static ring_call
sender_call(ring *r, uint64_t length, int64_t deadline)
{
    ring_add_role(r, ROLE_SENDER);
    return (ring_call){.operation = do_lend,
                       .which = POLL_SPACE,
                       .lends = true,
                       .deadline = deadline,
                       .length = length};
}

/* Writes the message of a call into the loan of the call, and sends it. */
static ring_result
send_loan(ring *r, ring_call *call, int number)
{
    uint32_t words[LONGEST / 4];
    for (uint64_t at = 0; at < call->length / 4; at++) {
        words[at] = (uint32_t)(r->index << 16 | (uint32_t)number);
    }
    copy_shared(block_data(r, call->block), (const char *)words, call->length);
    call->operation = do_send_block;
    call->lends = false;
    call->items = r->owner;
    ring_result result = world_call(r, call);
    ledger.sent[r->index] += result == RING_OK;
    return result;
}

ring_result
block_lend(ring *r, uint64_t length, int64_t deadline, uint32_t *block)
{
    ring_call call = sender_call(r, length, deadline);
    ring_result result = world_call(r, &call);
    *block = call.block;
    return result;
}

ring_result
block_send(ring *r, uint32_t block, int number, uint64_t length, int64_t deadline)
{
    ring_call call = sender_call(r, length, deadline);
    call.block = block;
    return send_loan(r, &call, number);
}

ring_result
block_send_new(ring *r, int number, uint64_t length, int64_t deadline)
{
    ring_call call = sender_call(r, length, deadline);
    ring_result result = RING_OK;
    if (deadline == 0) {
        result = ring_lock(r, &r->shared->send_lock, 0);
        if (result == RING_OK) {
            ring_unlock(r, &r->shared->send_lock);
        }
    }
    result = result == RING_OK ? world_call(r, &call) : result;
    if (result != RING_OK) {
        return result;
    }
    result = send_loan(r, &call, number);
    if (result != RING_OK) {
        model_check(ring_release_block(r, call.block, BLOCK_LENT, r->owner) == RING_OK);
    }
    return result;
}

/* -- receivers -------------------------------------------------------------------------------------- */

static ring_result
do_view(ring *r, ring_call *call)
{
    ring_message *message = &call->message;
    ring_result result = either_peek(r, message);
    if (result != RING_OK) {
        return result;
    }
    if (message->block != NO_BLOCK) {
        return either_begin_read(r, message);
    }
    either_copy(r, (char *)call->data, message->data, message->length);
    return either_take(r, message, 1);
}

static ring_call
receiver_call(ring *r, ring_operation operation, int64_t deadline)
{
    ring_add_role(r, ROLE_RECEIVER);
    return (ring_call){.operation = operation, .which = POLL_ITEMS, .deadline = deadline};
}

ring_result
block_view(ring *r, int64_t deadline, ring_message *message)
{
    uint32_t words[LONGEST / 4];
    ring_call call = receiver_call(r, do_view, deadline);
    call.data = (const char *)words;
    ring_result result = world_call(r, &call);
    if (result == RING_OK) {
        if (call.message.block != NO_BLOCK) {
            copy_shared((char *)words, call.message.data, call.message.length);
        }
        world_note((int)r->index, (const char *)words, call.message.length);
    }
    *message = call.message;
    return result;
}

int
block_number(const ring *r, const ring_message *message)
{
    uint32_t words[LONGEST / 4] = {0};
    copy_shared((char *)words, block_data(r, message->block), message->length);
    for (uint64_t at = 0; at < message->length / 4; at++) {
        model_check(words[at] == words[0] /* the message is whole */);
    }
    return (int)(words[0] & 0xffff);
}

void
block_check_view(const ring *r, const ring_message *message)
{
    if (message->block != NO_BLOCK) {
        block_number(r, message);
    }
}

void
block_end_view(ring *r, const ring_message *message)
{
    if (message->block != NO_BLOCK) {
        block_check_view(r, message);
        model_check(either_end_read(r, message->block, r->owner) == RING_OK);
    }
}

ring_result
block_receive(ring *r, int64_t deadline)
{
    ring_message message;
    ring_result result = block_view(r, deadline, &message);
    if (result == RING_OK) {
        block_end_view(r, &message);
    }
    return result;
}

/* -- messages to be acknowledged -------------------------------------------------------------------- */

static ring_result
do_deliver(ring *r, ring_call *call)
{
    ring_result result = ring_peek(r, &call->message);
    return result == RING_OK ? ring_take_delivery(r, &call->message) : result;
}

ring_result
block_deliver(ring *r, int64_t deadline, ring_message *message)
{
    ring_call call = receiver_call(r, do_deliver, deadline);
    if (load_relaxed(&r->shared->recovery_wanted) || ring_taker_is_dead(r)) {
        ring_side_state(r, 0);
        model_check(ring_recover_if_wanted(r) == RING_OK);
    }
    ring_result result = world_call(r, &call);
    if (result == RING_OK) {
        block_number(r, &call.message);
    }
    *message = call.message;
    return result;
}

void
block_acknowledge(ring *r, const ring_message *message)
{
    uint32_t words[LONGEST / 4] = {0};
    copy_shared((char *)words, block_data(r, message->block), message->length);
    acknowledging[r->index]++;
    model_check(ring_acknowledge(r, message->block, r->owner) == RING_OK);
    ledger.received[words[0] >> 16][words[0] & 0xffff]++;
    acknowledging[r->index]--;
    block_number(r, message); /* an array may still refer to it */
    model_check(ring_release_block(r, message->block, BLOCK_READ, r->owner) == RING_OK);
}

int
block_half_acknowledged(void)
{
    int found = 0;
    for (int thread = 0; thread < PEERS; thread++) {
        found += acknowledging[thread];
    }
    return found;
}
