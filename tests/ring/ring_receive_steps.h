/* What receivers do to a ring, each step one call, checked against the model. */
#ifndef RING_RECEIVE_STEPS_H
#define RING_RECEIVE_STEPS_H

#include "ring_steps.h"

/* -- receiving ------------------------------------------------------------------------------------- */

/* Tells whether the last attempt took a message, though the peer may have died afterwards. */
static bool
was_taken(ring_result result, const ring_message *message)
{
    bool took = message->returned ? passed("held") : passed_by != 0;
    check(result != RING_OK || took, "nothing was received");
    check(took ? result == RING_OK || result == RING_GONE : passed_by == 0, "a message is lost");
    return took;
}

static uint64_t
message_order(const peer *p, const ring_message *message)
{
    return p->h.r.deliveries[message->block].number;
}

/* Notes that the messages arrived which the last attempt received: in a block, or copied. */
static void
note_received(const peer *p, ring_result result, const ring_call *call)
{
    const ring_message *message = &call->message;
    if (!was_taken(result, message)) {
        return;
    }
    if (message->returned) {
        arrived_again(message_number(message->data, message->length), message_order(p, message));
        return;
    }
    for (uint64_t i = 0; i < passed_by; i++) {
        const char *data = message->block == NO_BLOCK ? buffer : message->data;
        arrived(message_number(data + i * message->length, message->length));
    }
}

static inline ring_result
step_receive(peer *p)
{
    ring_call call = call_of(&p->h, op_receive, some_deadline());
    call.items = 1 + below(4);
    call.data = buffer;
    call.length = sizeof buffer;
    ring_result result = attempt(receive_message, &p->h, &call);
    note_received(p, result, &call);
    return result;
}

static inline ring_result
step_view(peer *p)
{
    if (p->viewed == SLOTS) {
        return RING_EMPTY;
    }
    ring_call call = call_of(&p->h, op_receive, some_deadline());
    call.data = buffer;
    call.length = sizeof buffer;
    ring_result result = attempt(call_do, &p->h, &call);
    note_received(p, result, &call);
    const ring_message *message = &call.message;
    if (result == RING_OK && message->block != NO_BLOCK) {
        uint64_t number = message_number(message->data, message->length);
        p->views[p->viewed++] =
            (slot){.block = message->block, .length = message->length, .number = number};
    }
    return result;
}

static void
check_slot(const peer *p, slot held)
{
    check(message_number(block_data(&p->h.r, held.block), held.length) == held.number,
          "a message changed while it was held");
}

static inline ring_result
step_release(peer *p)
{
    if (p->viewed == 0) {
        return RING_EMPTY;
    }
    int which = (int)below((uint64_t)p->viewed);
    check_slot(p, p->views[which]);
    ring_call call = {.block = p->views[which].block};
    ring_result result = attempt(do_release, &p->h, &call);
    if (result == RING_OK) {
        p->views[which] = p->views[--p->viewed];
    }
    return result;
}

/* -- acknowledging --------------------------------------------------------------------------------- */

static inline ring_result
step_take(peer *p)
{
    if (p->took == SLOTS) {
        return RING_EMPTY;
    }
    ring_call call = call_of(&p->h, op_take, some_deadline());
    ring_result result = attempt(call_do, &p->h, &call);
    const ring_message *message = &call.message;
    if (!was_taken(result, message)) {
        return result;
    }
    slot taken = {.block = message->block, .length = message->length};
    taken.number = message_number(message->data, message->length);
    taken.order = message_order(p, message);
    taken.redelivered = p->h.r.deliveries[message->block].redelivered;
    if (message->returned) {
        comeback known = arrived_again(taken.number, taken.order);
        /* Each peer that dies while it returns a message may have counted that. */
        uint64_t slack = known.exact ? 0 : deaths - known.deaths;
        check(taken.redelivered >= known.redelivered
                  && taken.redelivered <= known.redelivered + slack,
              "a message was not returned as often as it says");
    } else {
        arrived(taken.number);
        check(taken.redelivered == 0, "a new message was delivered before");
        check(taken.order >= next_order, "messages are numbered out of order");
        next_order = taken.order + 1;
    }
    p->taken[p->took++] = taken;
    return result;
}

/* Acknowledges a message that was taken, any of them, or returns it. */
static inline ring_result
step_end_delivery(peer *p, bool acknowledges)
{
    if (p->took == 0) {
        return RING_EMPTY;
    }
    int which = (int)below((uint64_t)p->took);
    slot taken = p->taken[which];
    check_slot(p, taken);
    ring_call call = {.block = taken.block};
    ring_result result = attempt(acknowledges ? do_acknowledge : do_requeue, &p->h, &call);
    if (result == RING_OK || (acknowledges && passed("acknowledged"))) {
        p->taken[which] = p->taken[--p->took];
    }
    if (result == RING_OK && !acknowledges) {
        comes_back(taken, true);
    }
    return result;
}

#endif
