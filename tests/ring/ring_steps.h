/* What peers do to a ring, each step one call, checked against the model. */
#ifndef RING_STEPS_H
#define RING_STEPS_H

#include "ring_model.h"

/* -- work that may end in death: RING_GONE ---------------------------------------------------------- */

typedef ring_result (*work)(handle *by, ring_call *call);

static ring_result
do_cancel(handle *by, ring_call *call)
{
    return cancel(by, call->at);
}

static ring_result
do_release(handle *by, ring_call *call)
{
    return release(by, call->at);
}

static ring_result
do_look(handle *by, ring_call *call)
{
    return ring_check_peers_before_sleep(&by->r, call, 0);
}

static ring_result
do_leave(handle *by, ring_call *call)
{
    (void)call;
    handle_close(by);
    return RING_OK;
}

static ring_result
do_open(handle *by, ring_call *call)
{
    (void)call;
    handle_open(by, &shared);
    return RING_OK;
}

/* A function of its own, so that longjmp spoils no local variable of the steps. */
__attribute__((noinline)) static ring_result
attempt(work what, handle *by, ring_call *call)
{
    if (setjmp(out) != 0) {
        return RING_GONE;
    }
    ring_result result = what(by, call);
    fuse = 0;
    return result;
}

/* -- steps: each gives what the operation did ------------------------------------------------------ */

static char buffer[1 << 16];

static uint64_t
some_length(void)
{
    uint64_t most = ring_longest(&peers[0].h.r);
    uint64_t kind = below(8);
    uint64_t length = kind == 0 ? below(most) : kind < 3 ? below(1200) : below(120);
    return length < LEAST ? LEAST : length > most ? most : length;
}

static bool impatient;

static int64_t
some_deadline(void)
{
    return !impatient && below(4) == 0 ? 1 : 0; /* long over: all of ring_run, but no sleep */
}

static ring_result
step_send(peer *p)
{
    ring_call call = call_of(&p->h, op_send, some_deadline());
    uint64_t number = ++next_number;
    call.length = some_length();
    message_fill(buffer, call.length, number);
    call.data = buffer;
    ring_result result = attempt(call_do, &p->h, &call);
    if (result == RING_OK || result == RING_GONE) {
        expect(number, result == RING_GONE);
    }
    return result;
}

static ring_result
step_batch(peer *p)
{
    ring_call call = call_of(&p->h, op_batch, some_deadline());
    uint64_t number = next_number + 1, items = 1 + below(6);
    call.length = LEAST + below(40);
    call.items = items;
    call.data = buffer;
    next_number += items;
    for (uint64_t i = 0; i < items; i++) {
        message_fill(buffer + i * call.length, call.length, number + i);
    }
    ring_result result = attempt(call_do, &p->h, &call);
    bool died = result == RING_GONE;
    for (uint64_t i = 0; i < items && (died || (result == RING_OK && i < call.items)); i++) {
        expect(number + i, died);
    }
    return result;
}

static ring_result
step_lend(peer *p)
{
    if (p->lent == SLOTS) {
        return RING_FULL;
    }
    ring_call call = call_of(&p->h, op_lend, some_deadline());
    call.length = some_length();
    ring_result result = attempt(call_do, &p->h, &call);
    if (result == RING_OK) {
        slot *lent = &p->loans[p->lent++];
        *lent = (slot){call.at, call.length, ++next_number};
        message_fill(ring_payload(&p->h.r, lent->at, lent->length), lent->length, lent->number);
    }
    return result;
}

static ring_result
step_end_loan(peer *p, bool send)
{
    if (p->lent == 0) {
        return RING_EMPTY;
    }
    int which = (int)below((uint64_t)p->lent);
    slot lent = p->loans[which];
    ring_call call = call_of(&p->h, op_send_loan, some_deadline());
    call.at = lent.at;
    call.length = lent.length;
    call.items = p->h.r.owner;
    ring_result result = attempt(send ? call_do : do_cancel, &p->h, &call);
    if (send && result == RING_GONE) {
        expect(lent.number, true);
    }
    if (result == RING_OK) {
        p->loans[which] = p->loans[--p->lent];
        if (send) {
            expect(lent.number, false);
        }
    }
    return result;
}

static ring_result
step_receive(peer *p)
{
    ring_call call = call_of(&p->h, op_copy, some_deadline());
    uint64_t most = 1 + below(4);
    call.items = most;
    call.data = buffer;
    call.length = sizeof buffer;
    ring_result result = attempt(call_do, &p->h, &call);
    if (result == RING_GONE) {
        doubt(most);
    }
    for (uint64_t i = 0; i < call.items && result == RING_OK; i++) {
        arrived(message_number(buffer + i * call.message.length, call.message.length));
    }
    return result;
}

static ring_result
step_view(peer *p)
{
    if (p->viewed == SLOTS) {
        return RING_EMPTY;
    }
    ring_call call = call_of(&p->h, op_view, some_deadline());
    call.data = buffer;
    call.length = sizeof buffer;
    ring_result result = attempt(call_do, &p->h, &call);
    if (result == RING_GONE) {
        doubt(1);
    }
    if (result == RING_OK) {
        uint64_t length = call.message.length;
        uint64_t number = message_number(call.items == 0 ? buffer : call.message.data, length);
        arrived(number);
        if (call.items != 0) {
            p->views[p->viewed++] = (slot){call.message.at, length, number};
        }
    }
    return result;
}

static ring_result
step_release(peer *p)
{
    if (p->viewed == 0) {
        return RING_EMPTY;
    }
    int which = (int)below((uint64_t)p->viewed);
    slot view = p->views[which];
    const char *data = ring_payload(&p->h.r, view.at, view.length);
    check(message_number(data, view.length) == view.number, "a message changed while it was read");
    ring_call call = {.at = view.at};
    ring_result result = attempt(do_release, &p->h, &call);
    if (result == RING_OK) {
        p->views[which] = p->views[--p->viewed];
    }
    return result;
}

static ring_result
step_look(peer *p)
{
    ring_call call = call_of(&p->h, op_send, 0);
    return attempt(do_look, &p->h, &call);
}

static ring_result
step_leave(peer *p)
{
    if (p->lent + p->viewed != 0) {
        return RING_EMPTY;
    }
    ring_result result = attempt(do_leave, &p->h, NULL);
    if (result == RING_OK) {
        fuse = (long)below(3);
        result = attempt(do_open, &p->h, NULL);
    }
    return result;
}

static ring_result
one_step(peer *p, uint64_t what)
{
    return what < 4 ? step_send(p)
        : what < 6  ? step_batch(p)
        : what < 9  ? step_lend(p)
        : what < 12 ? step_end_loan(p, true)
        : what < 13 ? step_end_loan(p, false)
        : what < 17 ? step_receive(p)
        : what < 20 ? step_view(p)
        : what < 23 ? step_release(p)
        : what < 24 ? step_look(p)
                    : step_leave(p);
}

#endif
