/* A process that sends, receives and acknowledges in all ways. For tests in which one is killed or stopped
   at a named point. */
#ifndef RING_WORKERS_H
#define RING_WORKERS_H

static void ring_point(const char *name);
#define RING_POINT(name) ring_point(#name)
#include "ring_tally.h"

#define LONGEST 1500

typedef struct {
    handle h;
    int place;
    uint64_t number;    /* of the next message */
    bool sends, receives;
    bool consuming;     /* it receives: what it takes is not delivered again */
    held loans, views, taken;
    uint64_t *newest;   /* received from each life */
} worker;

static worker *self; /* of this process */
static uint32_t stopped_owner; /* not 0: all other processes but this one are stopped */

static inline void
in_hand(uint32_t messages)
{
    __atomic_store_n(&counted->in_hand[self->place], messages, __ATOMIC_SEQ_CST);
}

/* For ring_point: notes that the process is about to take a message. */
static inline void
note_point(const char *name)
{
    if (self != NULL && self->consuming
        && (strcmp(name, "before_head") == 0 || strcmp(name, "held") == 0)) {
        in_hand(1);
    }
}

/* Tells whether a call did nothing because it could not yet. Beside a stopped process, a lock may be held
   only by that process. */
static inline bool
refused(const ring_call *call, ring_result result)
{
    if (result == RING_BUSY && stopped_owner != 0) {
        check(call->busy->owner == stopped_owner, "a lock that no process holds");
    }
    return result == RING_TIMEOUT || result == RING_BUSY || result == RING_FULL
        || result == RING_EMPTY;
}

/* -- sending --------------------------------------------------------------------------------------- */

/* A sender that holds nothing waits without limit: what it waits for must come. */
static inline int64_t
send_deadline(const worker *w)
{
    bool free = w->loans.count + w->views.count + w->taken.count == 0;
    return free && !w->receives ? INT64_MAX : soon();
}

/* Numbers the next message. */
static inline void
begin_message(worker *w)
{
    if (w->number % EACH == 0) {
        uint64_t life = __atomic_fetch_add(&counted->lives, 1, __ATOMIC_RELAXED);
        check(life < lives_max, "the test's table is too small");
        w->number = life * EACH;
    }
    mark(w->number, BEGUN);
}

/* Notes that the message was sent. A message of number 0 in its life begins a new one. */
static inline void
end_message(worker *w, const ring_call *call, ring_result result)
{
    if (result == RING_OK) {
        mark(w->number, SENT);
        if (++w->number % EACH == 0) {
            w->number = 0;
        }
    }
    check(result == RING_OK || refused(call, result), "a send fails");
}

static inline void
work_send(worker *w)
{
    char data[LONGEST];
    begin_message(w);
    ring_call call = call_of(&w->h, below(4) == 0 ? op_batch : op_send, send_deadline(w));
    call.length = LEAST + below(below(3) == 0 ? INLINE_MAX * 4 : call.operation == op_batch ? 60 : 100);
    call.data = data;
    message_fill(data, call.length, w->number);
    ring_result result = send_message(&w->h, &call);
    end_message(w, &call, result);
}

static inline void
work_lend(worker *w)
{
    ring_call call = call_of(&w->h, op_lend, soon());
    call.length = INLINE_MAX + 1 + below(400);
    ring_result result = call_do(&w->h, &call);
    check(result == RING_OK || refused(&call, result), "no loan");
    if (result == RING_OK) {
        w->loans.slots[w->loans.count++] = (slot){.block = call.block, .length = call.length};
    }
}

static inline void
work_send_loan(worker *w)
{
    slot loan = pick(&w->loans);
    begin_message(w);
    message_fill(block_data(&w->h.r, loan.block), loan.length, w->number);
    ring_call call = call_of(&w->h, op_send_block, soon());
    call.block = loan.block;
    call.length = loan.length;
    ring_result result = call_do(&w->h, &call);
    if (result != RING_OK) {
        check(release_block(&w->h, loan.block, BLOCK_LENT) == RING_OK, "a loan can't be cancelled");
    }
    end_message(w, &call, result);
}

/* -- receiving ------------------------------------------------------------------------------------- */

/* Notes the order of messages that were not returned in between. */
static inline void
note_order(worker *w, uint64_t number, const ring_message *message)
{
    check(number < (uint64_t)lives_max * EACH, "a message that nobody sent");
    if (!message->returned) {
        check(w->newest[number / EACH] <= number, "a message out of order");
        w->newest[number / EACH] = number;
    }
}

static inline ring_call
receiving_call(worker *w, ring_operation operation)
{
    ring_call call = call_of(&w->h, operation, soon());
    call.wait_for_peers = w->sends || !stopping();
    call.length = LONGEST;
    return call;
}

static inline ring_result
work_receive(worker *w, bool view)
{
    char data[LONGEST];
    ring_call call = receiving_call(w, op_receive);
    call.data = data;
    w->consuming = true;
    ring_result result = view ? call_do(&w->h, &call) : receive_message(&w->h, &call);
    w->consuming = false;
    if (result == RING_OK) {
        const ring_message *message = &call.message;
        bool holds = view && message->block != NO_BLOCK;
        uint64_t number = message_number(holds ? message->data : data, message->length);
        mark(number, RECEIVED);
        note_order(w, number, message);
        if (holds) {
            w->views.slots[w->views.count++] = (slot){message->block, message->length, number};
        }
    }
    in_hand(0);
    check(result == RING_OK || refused(&call, result) || result == RING_GONE, "a receive fails");
    return result;
}

static inline ring_result
work_take(worker *w)
{
    ring_call call = receiving_call(w, op_take);
    ring_result result = call_do(&w->h, &call);
    if (result == RING_OK) {
        const ring_message *message = &call.message;
        uint64_t number = message_number(message->data, message->length);
        note_order(w, number, message);
        uint8_t state = __atomic_load_n(&counted->state[number], __ATOMIC_SEQ_CST);
        check(!(state & (RECEIVED | ACKNOWLEDGED)), "a message came after it was acknowledged");
        check(!message->returned || w->h.r.deliveries[message->block].redelivered > 0,
              "a message does not say that it was delivered before");
        w->taken.slots[w->taken.count++] = (slot){message->block, message->length, number};
    }
    check(result == RING_OK || refused(&call, result) || result == RING_GONE, "a take fails");
    return result;
}

static inline void
check_slot(const worker *w, slot held)
{
    check(message_number(block_data(&w->h.r, held.block), held.length) == held.number,
          "a message changed while it was held");
}

static inline void
work_release(worker *w)
{
    slot view = pick(&w->views);
    check_slot(w, view);
    check(release_block(&w->h, view.block, BLOCK_READ) == RING_OK, "a view can't be released");
}

static inline void
work_end_delivery(worker *w, bool acknowledges)
{
    slot taken = pick(&w->taken);
    check_slot(w, taken);
    if (!acknowledges) {
        check(ring_requeue(&w->h.r, taken.block, w->h.r.owner) == RING_OK, "no return");
        return;
    }
    in_hand(1);
    check(acknowledge(&w->h, taken.block) == RING_OK, "no acknowledgement");
    mark(taken.number, ACKNOWLEDGED);
    in_hand(0);
}

/* -- all ------------------------------------------------------------------------------------------- */

static inline void
let_go(worker *w)
{
    while (w->views.count > 0) {
        work_release(w);
    }
    while (w->taken.count > 0) {
        work_end_delivery(w, below(2));
    }
    while (w->loans.count > 0) {
        check(release_block(&w->h, pick(&w->loans).block, BLOCK_LENT) == RING_OK,
              "a loan can't be cancelled");
    }
}

static inline void
work_to_send(worker *w)
{
    uint64_t what = below(8);
    if (what < 4) {
        work_send(w);
    } else if (what < 6 && w->loans.count < HELD) {
        work_lend(w);
    } else if (w->loans.count > 0 && below(4) != 0) {
        work_send_loan(w);
    } else {
        let_go(w);
    }
}

/* Returns RING_GONE if no sender is left, and no message. */
static inline ring_result
work_to_receive(worker *w)
{
    uint64_t what = below(10);
    ring_result result = RING_OK;
    if (what < 2) {
        result = work_receive(w, false);
    } else if (what < 4 && w->views.count < HELD) {
        result = work_receive(w, true);
    } else if (what < 7 && w->taken.count < HELD) {
        result = work_take(w);
    } else if (what < 8 && w->taken.count > 0) {
        work_end_delivery(w, below(3) != 0);
    } else if (w->views.count > 0) {
        work_release(w);
    }
    if (result != RING_OK) {
        let_go(w); /* others may wait for it */
    }
    return result;
}

static inline void
worker_open(worker *w, int place, bool sends, bool receives)
{
    *w = (worker){.place = place, .sends = sends, .receives = receives};
    w->newest = calloc(lives_max, sizeof *w->newest);
    check(w->newest != NULL, "no memory");
    handle_open(&w->h, &shared);
    w->h.spin = (uint32_t)below(2) * 50;
    self = w;
}

static inline void
worker_close(worker *w)
{
    let_go(w);
    handle_close(&w->h);
    free(w->newest);
    self = NULL;
}

/* What a peer does without a message. */
static inline void
work_on_peers(worker *w)
{
    ring_call call = call_of(&w->h, below(2) ? op_send : op_receive, 0);
    bool idle = w->loans.count + w->views.count + w->taken.count == 0;
    uint64_t what = below(3);
    if (what == 0 && idle) {
        handle_close(&w->h);
        handle_open(&w->h, &shared);
    } else if (what == 1) {
        poll_arm(&w->h.r, call.which);
        ring_defer_to_holder(&w->h.r, ring_call_lock(&w->h.r, &call));
    } else {
        check(ring_check_peers_before_sleep(&w->h.r, &call, 0) == RING_OK, "no recovery");
    }
}

static inline ring_result
worker_step(worker *w)
{
    if (below(12) == 0) {
        work_on_peers(w);
        return RING_OK;
    }
    if (w->sends && (!w->receives || below(2))) {
        work_to_send(w);
        return RING_OK;
    }
    return work_to_receive(w);
}

/* Receives all that is left, and checks that no block is leaked and no lock held. No other process may
   use the channel. */
static inline void
drain(worker *w)
{
    ring *r = &w->h.r;
    ring_call look = call_of(&w->h, op_send, 0);
    check(ring_check_peers_before_sleep(r, &look, 0) == RING_OK, "no recovery");
    ring_result result;
    while ((result = work_receive(w, false)) == RING_OK) {
    }
    check(result == RING_TIMEOUT || result == RING_EMPTY, "the channel can't be emptied");
    ring_lock(r, &r->shared->pool_lock, 0);
    ring_unlock(r, &r->shared->pool_lock);
    check(ring_check_peers_before_sleep(r, &look, 0) == RING_OK, "no recovery");
    ring_space space;
    check(ring_measure_space(r, true, &space) == RING_OK && space.room == r->units
              && space.queued == 0,
          "there is something left in the ring");
    for (uint64_t at = 0; at < r->granules; at++) {
        check(r->words[at] == BLOCK_FREE, "a block is leaked");
    }
    check(r->shared->send_lock.owner == 0 && r->shared->receive_lock.owner == 0
              && r->shared->pool_lock.owner == 0,
          "a lock is held");
}

#endif
