/* What peers do to a ring, each step one call, checked against the model. */
#ifndef RING_STEPS_H
#define RING_STEPS_H

#include "ring_attempt.h"

/* -- sending --------------------------------------------------------------------------------------- */

/* Notes what the last attempt sent, of `items` messages from `number` on. */
static void
note_sent(ring_result result, uint64_t number, uint64_t items)
{
    was_dropped(passed_by);
    check(result == RING_OK ? sent == items : sent == 0 || result == RING_GONE,
          "a send did not send what it says");
    for (uint64_t i = 0; i < sent; i++) {
        was_sent(number + i);
    }
}

static inline ring_result
step_send(peer *p)
{
    ring_call call = call_of(&p->h, op_send, some_deadline());
    uint64_t number = ++next_number;
    call.length = some_length(&p->h.r);
    message_fill(buffer, call.length, number);
    call.data = buffer;
    ring_result result = attempt(send_message, &p->h, &call);
    note_sent(result, number, 1);
    return result;
}

static inline ring_result
step_batch(peer *p)
{
    ring_call call = call_of(&p->h, op_batch, some_deadline());
    uint64_t number = next_number + 1, items = 1 + below(6), item = p->h.r.item_size;
    if (item > INLINE_MAX) {
        return step_send(p);
    }
    call.length = item != 0 ? item : LEAST + below(40);
    call.items = items;
    call.data = buffer;
    next_number += items;
    for (uint64_t i = 0; i < items; i++) {
        message_fill(buffer + i * call.length, call.length, number + i);
    }
    ring_result result = attempt(call_do, &p->h, &call);
    note_sent(result, number, call.items);
    return result;
}

static inline ring_result
step_lend(peer *p)
{
    if (p->lent == SLOTS) {
        return RING_FULL;
    }
    ring_call call = call_of(&p->h, op_lend, some_deadline());
    call.length = some_length(&p->h.r);
    ring_result result = attempt(call_do, &p->h, &call);
    note_sent(RING_FULL, 0, 0);
    if (result == RING_OK) {
        slot lent = {.block = call.block, .length = call.length, .number = ++next_number};
        check((lent.block == NO_BLOCK) == (lent.length <= INLINE_MAX), "a block for a short message");
        p->loans[p->lent++] = lent;
        if (lent.block != NO_BLOCK) {
            message_fill(block_data(&p->h.r, lent.block), lent.length, lent.number);
        }
    }
    return result;
}

/* Sends a loan, any of them. */
static inline ring_result
step_send_loan(peer *p)
{
    if (p->lent == 0) {
        return RING_EMPTY;
    }
    int which = (int)below((uint64_t)p->lent);
    slot lent = p->loans[which];
    bool in_ring = lent.block == NO_BLOCK;
    ring_call call = call_of(&p->h, in_ring ? op_send : op_send_block, some_deadline());
    call.block = lent.block;
    call.length = lent.length;
    call.data = buffer;
    if (in_ring) {
        message_fill(buffer, lent.length, lent.number);
    } else {
        uint64_t number = message_number(block_data(&p->h.r, lent.block), lent.length);
        check(number == lent.number, "a loan changed while it was lent");
    }
    ring_result result = attempt(call_do, &p->h, &call);
    note_sent(result, lent.number, 1);
    if (result == RING_OK) {
        p->loans[which] = p->loans[--p->lent];
    }
    return result;
}

static inline ring_result
step_cancel(peer *p)
{
    if (p->lent == 0) {
        return RING_EMPTY;
    }
    int which = (int)below((uint64_t)p->lent);
    ring_call call = {.block = p->loans[which].block};
    ring_result result =
        call.block == NO_BLOCK ? RING_OK : attempt(do_cancel, &p->h, &call);
    if (result == RING_OK) {
        p->loans[which] = p->loans[--p->lent];
    }
    return result;
}

/* -- the peers ------------------------------------------------------------------------------------- */

static inline ring_result
step_look(peer *p)
{
    ring_call call = call_of(&p->h, op_send, 0);
    return attempt(do_look, &p->h, &call);
}

static inline ring_result
step_defer(peer *p)
{
    ring_call call = call_of(&p->h, below(2) ? op_send : op_receive, 0);
    return attempt(do_defer, &p->h, &call);
}

static inline ring_result
step_leave(peer *p)
{
    if (p->lent + p->viewed + p->took != 0) {
        return RING_EMPTY;
    }
    ring_result result = attempt(do_leave, &p->h, NULL);
    if (result == RING_OK) {
        fuse = (long)below(3);
        result = attempt(do_open, &p->h, NULL);
    }
    return result;
}

#endif
