/* What peers do to a topic, each step one call, checked against the model. */
#ifndef TOPIC_STEPS_H
#define TOPIC_STEPS_H

#include "topic_model.h"

/* -- publishing ------------------------------------------------------------------------------------ */

/* Checks that a call did not fail for nothing. */
static void
check_refusal(ring_result result, uint64_t length)
{
    if (result == RING_FULL || result == RING_TIMEOUT) {
        check(one_is_full() || something_is_kept(length > INLINE_MAX), "a topic is full for nothing");
    }
}

/* Notes what the last attempt published, of `items` messages of `length` bytes from `number` on. */
static void
note_sent(ring_result result, uint64_t number, uint64_t items, uint64_t length)
{
    check(result == RING_OK ? sent == items : sent == 0 || result == RING_GONE,
          "a publisher did not publish what it says");
    check_refusal(result, length);
    for (uint64_t i = 0; i < sent; i++) {
        published[(header_of()->tail - sent + i) % LOG] = number + i;
    }
}

static inline ring_result
publish(peer *p, uint64_t length, int64_t deadline)
{
    ring_call call = call_of(&p->h, op_send, deadline);
    uint64_t number = ++next_number;
    call.length = length;
    message_fill(buffer, call.length, number);
    call.data = buffer;
    ring_result result = attempt(send_message, &p->h, &call);
    note_sent(result, number, 1, length);
    return result;
}

static inline ring_result
step_send(peer *p)
{
    return publish(p, some_length(&p->h.r), some_deadline());
}

static inline ring_result
publish_batch(peer *p, uint64_t length, uint64_t items, uint64_t *done)
{
    ring_call call = call_of(&p->h, op_batch, some_deadline());
    uint64_t number = next_number + 1;
    call.length = length;
    call.items = items;
    call.data = buffer;
    next_number += items;
    for (uint64_t i = 0; i < items; i++) {
        message_fill(buffer + i * length, length, number + i);
    }
    ring_result result = attempt(call_do, &p->h, &call);
    note_sent(result, number, call.items, length);
    check(sent <= items && sent <= p->h.r.capacity, "too many messages at once");
    *done = sent;
    return result;
}

static inline ring_result
step_batch(peer *p)
{
    uint64_t item = p->h.r.item_size, done;
    if (item > INLINE_MAX) {
        return step_send(p);
    }
    return publish_batch(p, item != 0 ? item : LEAST + below(40), 1 + below(9), &done);
}

static inline ring_result
lend(peer *p, uint64_t length, int64_t deadline)
{
    ring_call call = call_of(&p->h, op_lend, deadline);
    call.length = length;
    ring_result result = attempt(call_do, &p->h, &call);
    check(sent == 0, "a loan was published");
    check_refusal(result, length);
    if (result == RING_OK) {
        slot lent = {.block = call.block, .length = call.length, .number = ++next_number};
        check((lent.block == NO_BLOCK) == (length <= INLINE_MAX), "a block for a short message");
        p->loans[p->lent++] = lent;
        if (lent.block != NO_BLOCK) {
            message_fill(block_data(&p->h.r, lent.block), lent.length, lent.number);
        }
    }
    return result;
}

static inline ring_result
step_lend(peer *p)
{
    return p->lent == SLOTS ? RING_FULL : lend(p, some_length(&p->h.r), some_deadline());
}

/* Publishes a loan, any of them. */
static inline ring_result
step_send_loan(peer *p)
{
    if (p->lent == 0) {
        return RING_EMPTY;
    }
    int which = (int)below((uint64_t)p->lent);
    slot lent = p->loans[which];
    bool short_one = lent.block == NO_BLOCK;
    ring_call call = call_of(&p->h, short_one ? op_send : op_send_block, some_deadline());
    call.block = lent.block;
    call.length = lent.length;
    call.data = buffer;
    if (short_one) {
        message_fill(buffer, lent.length, lent.number);
    }
    ring_result result = attempt(call_do, &p->h, &call);
    note_sent(result, lent.number, 1, 0);
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
    ring_result result = call.block == NO_BLOCK ? RING_OK : attempt(do_cancel, &p->h, &call);
    if (result == RING_OK) {
        p->loans[which] = p->loans[--p->lent];
    }
    return result;
}

/* -- subscribing ----------------------------------------------------------------------------------- */

/* The number of the first message that a new subscriber reads. */
static uint64_t
first_of(const peer *p)
{
    const channel_header *header = header_of();
    uint64_t old = p->wishes.history, most[] = {p->h.r.history, p->wishes.depth,
                                                header->tail - header->head};
    for (int i = 0; i < 3; i++) {
        old = old < most[i] ? old : most[i];
    }
    return header->tail - old;
}

static inline ring_result
enter(peer *p, bool drops, uint64_t depth, uint64_t history)
{
    p->wishes = (topic_wishes){.drops = drops, .depth = depth, .history = history, .since = 9};
    ring_call call = subscribe_call(&p->h, &p->wishes, some_deadline());
    ring_result result = attempt(subscribe, &p->h, &call);
    check(result != RING_FULL && result != RING_TIMEOUT, "it waits to subscribe");
    if (result == RING_OK) {
        p->subscribed = true;
        p->closed = false;
        p->cursor = first_of(p);
        p->lost = 0;
        p->depth = depth;
        check(p->h.r.subscriber->cursor == p->cursor, "it begins with another message");
    }
    return result;
}

static inline ring_result
step_subscribe(peer *p)
{
    uint64_t capacity = p->h.r.capacity;
    if (p->subscribed) {
        return RING_EMPTY;
    }
    return enter(p, below(2), below(3) == 0 ? 1 : 1 + below(capacity), below(capacity + 1));
}

static inline ring_result
step_unsubscribe(peer *p)
{
    if (!p->subscribed || p->closed) {
        return RING_EMPTY;
    }
    ring_result result = attempt(do_unsubscribe, &p->h, NULL);
    p->closed = true;
    return result;
}

/* -- receiving ------------------------------------------------------------------------------------- */

/* The number of the oldest message that the subscriber may still receive. */
static uint64_t
next_of(const peer *p)
{
    const channel_header *header = header_of();
    uint64_t oldest = header->tail - header->head < p->depth ? header->head
                                                             : header->tail - p->depth;
    return p->wishes.drops && p->cursor < oldest ? oldest : p->cursor;
}

/* Notes that the subscriber received a message. */
static void
note_received(peer *p, const ring_message *message, const char *data)
{
    uint64_t next = next_of(p);
    check(message->head == next, "another message than the next one");
    check(message_number(data, message->length) == published[next % LOG], "a wrong message");
    p->lost += next - p->cursor;
    p->cursor = next + 1;
}

static inline ring_result
receive(peer *p, work how, ring_call *call, int64_t deadline)
{
    *call = call_of(&p->h, op_receive, deadline);
    call->items = 1 + below(4);
    call->data = buffer;
    call->length = sizeof buffer;
    ring_result result = attempt(how, &p->h, call);
    check(sent == 0, "a receiver published something");
    if (result == RING_EMPTY || result == RING_TIMEOUT) {
        check(next_of(p) == header_of()->tail, "a message is not received");
        p->lost += next_of(p) - p->cursor; /* those that publishers dropped */
        p->cursor = next_of(p);
    }
    return result;
}

static inline ring_result
step_receive(peer *p)
{
    ring_call call;
    if (!p->subscribed || p->closed) {
        return RING_EMPTY;
    }
    ring_result result = receive(p, receive_message, &call, some_deadline());
    if (result == RING_OK) {
        note_received(p, &call.message, buffer);
    }
    return result;
}

static inline ring_result
step_view(peer *p)
{
    ring_call call;
    if (!p->subscribed || p->closed || p->viewed == SLOTS) {
        return RING_EMPTY;
    }
    ring_result result = receive(p, call_do, &call, some_deadline());
    const ring_message *message = &call.message;
    if (result == RING_OK) {
        bool stays = message->block != NO_BLOCK;
        note_received(p, message, stays ? message->data : buffer);
        if (stays) {
            p->views[p->viewed++] = (slot){.block = message->block, .length = message->length,
                                           .number = published[message->head % LOG]};
        }
    }
    return result;
}

static inline ring_result
step_release(peer *p)
{
    if (p->viewed == 0) {
        return RING_EMPTY;
    }
    int which = (int)below((uint64_t)p->viewed);
    check_view(p, p->views[which]);
    ring_call call = {.block = p->views[which].block};
    ring_result result = attempt(do_release, &p->h, &call);
    if (result == RING_OK) {
        p->views[which] = p->views[--p->viewed];
    }
    return result;
}

/* -- the peers ------------------------------------------------------------------------------------- */

static inline ring_result
step_look(peer *p)
{
    ring_call call = call_of(&p->h, op_send, 0);
    ring_result result = attempt(do_look, &p->h, &call);
    unrecovered &= result != RING_OK;
    return result;
}

static inline ring_result
step_defer(peer *p)
{
    ring_call call = call_of(&p->h, below(2) ? op_send : op_receive, 0);
    return attempt(do_defer, &p->h, &call);
}

static bool mortal; /* a peer may die while it opens the topic again */

/* Leaves the topic, and opens it again. */
static inline ring_result
step_leave(peer *p)
{
    if (p->lent + p->viewed != 0) {
        return RING_EMPTY;
    }
    ring_result result = step_unsubscribe(p);
    if (result == RING_GONE) {
        return result;
    }
    result = attempt(do_leave, &p->h, NULL);
    p->subscribed = p->closed = false;
    if (result == RING_OK) {
        fuse = mortal ? (long)below(3) : 0;
        result = attempt(do_open, &p->h, NULL);
    }
    return result;
}

#endif
