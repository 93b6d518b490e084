/* A process that publishes and receives in all ways. For tests in which processes go on at the same time,
   and one is killed or stopped. */
#ifndef TOPIC_WORKERS_H
#define TOPIC_WORKERS_H

#include "topic_ledger.h"

#define LONGEST 1500
#define BATCH 6

typedef struct {
    handle own_publisher, own_subscriber;
    handle *publisher, *subscriber; /* two workers may have one in common */
    bool publishes, subscribes;
    bool patient;    /* waits without limit if it holds nothing */
    bool alone;      /* no other thread uses its subscription */
    bool ends;       /* its receives end when the last publisher is gone */
    bool subscribed;
    topic_wishes wishes;
    uint64_t identity; /* of the next message; 0 modulo EACH: it takes a new life */
    uint64_t first, next, received; /* the subscription's numbers */
    uint64_t published, all_received;
    held loans, views;
} worker;

/* While a process is stopped, these may own locks, and all others are stopped or dead; 0: none is. */
static uint32_t stopped_owners[2];

/* Tells whether a call did nothing because it could not yet. */
static inline bool
refused(const ring_call *call, ring_result result)
{
    if (result == RING_BUSY && stopped_owners[0] != 0) {
        uint32_t owner = call->busy->owner;
        check(owner == stopped_owners[0] || owner == stopped_owners[1], "a lock that no process holds");
    }
    return result == RING_TIMEOUT || result == RING_BUSY || result == RING_FULL
        || result == RING_EMPTY;
}

static inline int64_t
deadline_of(const worker *w)
{
    return w->patient && w->loans.count + w->views.count == 0 ? INT64_MAX : soon();
}

/* -- publishing ------------------------------------------------------------------------------------ */

/* Gives identities to the next messages, at most as many as its life has left. Returns how many. */
static inline uint64_t
begin_messages(worker *w, uint64_t wanted)
{
    if (w->identity % EACH == 0) {
        w->identity = new_life() + 1; /* the first is not used */
    }
    uint64_t left = EACH - w->identity % EACH;
    wanted = wanted < left ? wanted : left;
    for (uint64_t i = 0; i < wanted; i++) {
        mark(w->identity + i, BEGUN);
    }
    return wanted;
}

static inline void
end_messages(worker *w, const ring_call *call, ring_result result, uint64_t items)
{
    check(result == RING_OK || refused(call, result), "a message can't be published");
    for (uint64_t i = 0; result == RING_OK && i < items; i++) {
        mark(w->identity++, SENT);
        w->published++;
    }
}

static inline ring_result
work_send(worker *w)
{
    char data[BATCH * LONGEST];
    bool batch = below(3) == 0;
    ring_call call = call_of(w->publisher, batch ? op_batch : op_send, deadline_of(w));
    call.length = LEAST + below(batch ? 60 : below(3) == 0 ? INLINE_MAX * 4 : 90);
    call.items = begin_messages(w, batch ? 1 + below(BATCH) : 1);
    call.data = data;
    for (uint64_t i = 0; i < call.items; i++) {
        message_fill(data + i * call.length, call.length, w->identity + i);
    }
    ring_result result = send_message(w->publisher, &call);
    end_messages(w, &call, result, call.items);
    return result;
}

static inline void
work_lend(worker *w)
{
    ring_call call = call_of(w->publisher, op_lend, soon());
    call.length = INLINE_MAX + 1 + below(400);
    ring_result result = call_do(w->publisher, &call);
    check(result == RING_OK || refused(&call, result), "no loan");
    if (result == RING_OK) {
        w->loans.slots[w->loans.count++] = (slot){.block = call.block, .length = call.length};
    }
}

static inline void
cancel(worker *w, slot loan)
{
    check(release_block(w->publisher, loan.block, BLOCK_LENT) == RING_OK, "a loan can't be cancelled");
}

static inline void
work_send_loan(worker *w)
{
    slot loan = pick(&w->loans);
    begin_messages(w, 1);
    message_fill(block_data(&w->publisher->r, loan.block), loan.length, w->identity);
    ring_call call = call_of(w->publisher, op_send_block, soon());
    call.block = loan.block;
    call.length = loan.length;
    ring_result result = call_do(w->publisher, &call);
    if (result != RING_OK) {
        cancel(w, loan);
    }
    end_messages(w, &call, result, 1);
}

static inline void
work_to_publish(worker *w)
{
    uint64_t what = below(8);
    if (what < 5) {
        work_send(w);
    } else if (what < 7 && w->loans.count < HELD) {
        work_lend(w);
    } else if (w->loans.count > 0) {
        if (below(4) == 0) {
            cancel(w, pick(&w->loans));
        } else {
            work_send_loan(w);
        }
    }
}

/* -- receiving ------------------------------------------------------------------------------------- */

/* Checks that the subscription counts what it missed. */
static inline void
check_lost(const worker *w)
{
    const topic_subscriber *own = w->subscriber->r.subscriber;
    uint64_t passed = own->cursor - w->first;
    uint64_t lost = topic_missed(own, own->cursor);
    check(lost == passed - w->received, "a wrong number of messages is lost");
    check(w->wishes.drops || lost == 0, "a subscriber that is waited for lost a message");
}

static inline void
note_received(worker *w, uint64_t topic_number, uint64_t identity)
{
    saw(topic_number, identity);
    __atomic_fetch_add(&w->all_received, 1, __ATOMIC_RELAXED);
    if (!w->alone) {
        return;
    }
    check(topic_number >= w->next, "a message came twice, or out of order");
    check(w->wishes.drops || topic_number == w->next, "a message is missing");
    check(w->subscriber->r.seen - topic_number <= w->wishes.depth, "more unread than the depth");
    w->next = topic_number + 1;
    w->received++;
    check_lost(w);
}

static inline ring_result
work_receive(worker *w, bool view)
{
    char data[LONGEST];
    ring_call call = call_of(w->subscriber, op_receive, deadline_of(w));
    call.wait_for_peers = !w->ends;
    call.length = LONGEST;
    call.data = data;
    ring_result result = view ? call_do(w->subscriber, &call) : receive_message(w->subscriber, &call);
    const ring_message *message = &call.message;
    if (result == RING_OK) {
        bool stays = view && message->block != NO_BLOCK;
        uint64_t identity = message_number(stays ? message->data : data, message->length);
        note_received(w, message->head, identity);
        if (stays) {
            w->views.slots[w->views.count++] = (slot){message->block, message->length, identity};
        }
    } else if (w->alone && result != RING_GONE) {
        check_lost(w);
    }
    check(result == RING_OK || refused(&call, result) || result == RING_GONE,
          "a message can't be received");
    return result;
}

static inline void
work_release(worker *w)
{
    slot view = pick(&w->views);
    check(message_number(block_data(&w->subscriber->r, view.block), view.length) == view.number,
          "a message changed while it was viewed");
    check(release_block(w->subscriber, view.block, BLOCK_READ) == RING_OK, "a view can't be released");
}

/* Opens a subscription as w->wishes says. Returns whether it could. */
static inline bool
work_subscribe(worker *w)
{
    topic_open(w->subscriber, &shared);
    w->subscriber->spin = (uint32_t)below(2) * 50;
    ring_call call = subscribe_call(w->subscriber, &w->wishes, w->patient ? INT64_MAX : soon());
    ring_result result = subscribe(w->subscriber, &call);
    check(result == RING_OK || refused(&call, result), "no place");
    w->subscribed = result == RING_OK;
    if (!w->subscribed) {
        handle_close(w->subscriber);
        return false;
    }
    w->first = w->next = w->subscriber->r.subscriber->cursor;
    w->received = 0;
    return true;
}

/* Ends the subscription, before or after its views. */
static inline void
work_unsubscribe(worker *w)
{
    topic_unsubscribe(&w->subscriber->r);
    while (w->views.count > 0) {
        work_release(w);
    }
    handle_close(w->subscriber);
    w->subscribed = false;
}

/* Returns RING_GONE if no publisher is left, and no message. */
static inline ring_result
work_to_receive(worker *w)
{
    uint64_t what = below(8);
    ring_result result = RING_OK;
    if (what < 3 || (what < 6 && w->views.count == HELD)) {
        result = work_receive(w, false);
    } else if (what < 6) {
        result = work_receive(w, true);
    } else if (w->views.count > 0) {
        work_release(w);
    }
    while (result != RING_OK && w->views.count > 0) {
        work_release(w); /* publishers may wait for it */
    }
    return result;
}

/* -- all ------------------------------------------------------------------------------------------- */

static inline void
let_go(worker *w)
{
    while (w->views.count > 0) {
        work_release(w);
    }
    while (w->loans.count > 0) {
        cancel(w, pick(&w->loans));
    }
}

static inline void
worker_open(worker *w, bool publishes, bool subscribes)
{
    *w = (worker){.publishes = publishes, .subscribes = subscribes, .alone = true};
    w->publisher = &w->own_publisher;
    w->subscriber = &w->own_subscriber;
    if (publishes) {
        topic_open(w->publisher, &shared);
        w->publisher->spin = (uint32_t)below(2) * 50;
    }
}

static inline void
worker_close(worker *w)
{
    let_go(w);
    if (w->subscribed) {
        work_unsubscribe(w);
    }
    if (w->publishes) {
        handle_close(w->publisher);
    }
}

/* What a peer does without a message. */
static inline void
work_on_peers(handle *by)
{
    ring_call call = call_of(by, op_send, 0);
    if (below(2)) {
        poll_arm(&by->r, below(2) ? POLL_ITEMS : POLL_SPACE);
        ring_defer_to_holder(&by->r, &by->r.shared->send_lock);
    } else {
        check(ring_check_peers_before_sleep(&by->r, &call, 0) == RING_OK, "no recovery");
    }
}

/* Receives all that is left, and checks that no block is leaked, no lock held, and no place lost. No other
   process may use the topic. The worker publishes and is subscribed. */
static inline void
drain(worker *w)
{
    ring *r = &w->publisher->r;
    let_go(w);
    ring_call look = call_of(w->publisher, op_send, 0);
    check(ring_check_peers_before_sleep(r, &look, 0) == RING_OK, "no recovery");
    ring_result result = RING_EMPTY;
    while (w->subscribed && (result = work_receive(w, false)) == RING_OK) {
    }
    check(result == RING_TIMEOUT || result == RING_EMPTY, "not all can be received");
    look = call_of(w->publisher, op_lend, 0);
    look.length = r->longest;
    check(call_do(w->publisher, &look) == RING_OK, "a topic without readers has no block");
    cancel(w, (slot){.block = look.block});
    check(ring_check_peers_before_sleep(r, &look, 0) == RING_OK, "no recovery");
    check_memory(r);
    for (int place = 0; place < TOPIC_SUBSCRIBERS; place++) {
        const topic_subscriber *member = &r->subscribers[place];
        check(member->owner == 0 || member == w->subscriber->r.subscriber, "a place is lost");
    }
}

#endif
