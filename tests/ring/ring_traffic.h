/* Senders and receivers that use a ring in all ways at the same time, until all messages are received. */
#ifndef RING_TRAFFIC_H
#define RING_TRAFFIC_H

#include "ring_held.h"

#include <poll.h>

#define SENDERS 3
#define RECEIVERS 3

typedef struct {
    uint32_t ready;
    uint32_t senders_left;
    uint64_t received;
    uint64_t dropped;
    uint8_t seen[]; /* by sender and number */
} tally;

static channel shared;
static tally *counted;
static size_t counted_size;
static uint64_t messages; /* of each sender */
static bool overwrite;

typedef struct {
    handle *h;
    uint64_t id;
    bool polls;
} worker;

/* -- senders --------------------------------------------------------------------------------------- */

static uint64_t
number_of(const worker *w, uint64_t sequence)
{
    return w->id << 32 | sequence;
}

static void
cancel(worker *w, slot loan)
{
    check(release_block(w->h, loan.block, BLOCK_LENT) == RING_OK, "a loan can't be cancelled");
}

/* Sends or cancels one of the loans. Returns whether it was sent. With other loans, it does not wait for
   long: other peers may wait for those. */
static bool
end_a_loan(worker *w, held *loans, uint64_t sequence)
{
    slot loan = pick(loans);
    ring_result result = RING_FULL;
    if (below(5) != 0) {
        message_fill(block_data(&w->h->r, loan.block), loan.length, number_of(w, sequence));
        ring_call call = call_of(w->h, op_send_block, loans->count == 0 ? INT64_MAX : soon());
        call.block = loan.block;
        call.length = loan.length;
        result = call_do(w->h, &call);
        check(result == RING_OK
                  || ((result == RING_TIMEOUT || result == RING_BUSY) && loans->count > 0),
              "a loan can't be sent");
    }
    if (result != RING_OK) {
        cancel(w, loan);
    }
    return result == RING_OK;
}

/* Sends some by copy. Returns how many, or 0 if there is no room while loans are held. */
static uint64_t
send_some(worker *w, uint64_t sequence, uint64_t left, bool patient)
{
    char data[6 * 400];
    bool batch = below(3) == 0;
    ring_call call = call_of(w->h, batch ? op_batch : op_send, patient ? INT64_MAX : soon());
    call.length = LEAST + below(batch ? 40 : below(3) == 0 ? 6 * INLINE_MAX : 90);
    call.items = batch ? 1 + below(left < 6 ? left : 6) : 1;
    call.data = data;
    for (uint64_t i = 0; i < call.items; i++) {
        message_fill(data + i * call.length, call.length, number_of(w, sequence + i));
    }
    ring_result result = send_message(w->h, &call);
    check(result == RING_OK || ((result == RING_TIMEOUT || result == RING_BUSY) && !patient),
          "a message can't be sent");
    return result == RING_OK ? call.items : 0;
}

static void *
send_all(void *of)
{
    worker *w = of;
    held loans = {.count = 0};
    seed_chance(w->id + 10);
    for (uint64_t sequence = 0; sequence < messages;) {
        if (loans.count < HELD && below(3) == 0) {
            ring_call call = call_of(w->h, op_lend, loans.count == 0 ? INT64_MAX : soon());
            call.length = INLINE_MAX + 1 + below(300);
            ring_result result = call_do(w->h, &call);
            check(result == RING_OK
                      || ((result == RING_TIMEOUT || result == RING_BUSY) && loans.count > 0),
                  "no loan");
            if (result == RING_OK) {
                loans.slots[loans.count++] = (slot){.block = call.block, .length = call.length};
                continue;
            }
        }
        uint64_t sent = loans.count > 0 && below(2) == 0
            ? end_a_loan(w, &loans, sequence)
            : send_some(w, sequence, messages - sequence, loans.count == 0);
        if (sent == 0 && loans.count > 0) {
            sent = end_a_loan(w, &loans, sequence); /* other peers may wait for it */
        }
        sequence += sent;
    }
    while (loans.count > 0) {
        cancel(w, pick(&loans));
    }
    __atomic_fetch_sub(&counted->senders_left, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* -- receivers ------------------------------------------------------------------------------------- */

static void
in_order(uint64_t last[SENDERS], uint64_t number)
{
    uint64_t sender = number >> 32, sequence = number & UINT32_MAX;
    check(sender < SENDERS && sequence < messages, "a message that nobody sent");
    check(last[sender] == UINT64_MAX || sequence > last[sender], "a message out of order");
    last[sender] = sequence;
}

static uint8_t *
seen_of(uint64_t number)
{
    check(number >> 32 < SENDERS && (number & UINT32_MAX) < messages, "a message that nobody sent");
    return &counted->seen[(number >> 32) * messages + (number & UINT32_MAX)];
}

static void
got(uint64_t number)
{
    check(__atomic_exchange_n(seen_of(number), 1, __ATOMIC_RELAXED) == 0, "a message came twice");
    __atomic_fetch_add(&counted->received, 1, __ATOMIC_RELAXED);
}

static slot
pick_unchanged(worker *w, held *from)
{
    slot picked = pick(from);
    const char *data = block_data(&w->h->r, picked.block);
    check(message_number(data, picked.length) == picked.number, "a message changed while it was held");
    return picked;
}

static void
release_one(worker *w, held *views)
{
    slot view = pick_unchanged(w, views);
    check(release_block(w->h, view.block, BLOCK_READ) == RING_OK, "a view can't be released");
}

/* Acknowledges one of the messages that were taken, or returns it. */
static void
end_a_delivery(worker *w, held *taken)
{
    slot one = pick_unchanged(w, taken);
    if (below(4) == 0) {
        check(ring_requeue(&w->h->r, one.block, w->h->r.owner) == RING_OK, "no return");
    } else {
        got(one.number);
        check(acknowledge(w->h, one.block) == RING_OK, "no acknowledgement");
    }
}

/* Waits with poll(2), as a program does, until there is a message or no sender is left. */
static bool
wait_by_poll(ring_descriptors *d)
{
    ring *r = d->r;
    int fd = d->fd[0];
    struct pollfd one = {.fd = fd, .events = POLLIN};
    for (;;) {
        descriptor_update_items(d);
        bool over = __atomic_load_n(&counted->senders_left, __ATOMIC_SEQ_CST) == 0;
        if (poll(&one, 1, over ? 0 : 20) > 0) {
            return true;
        }
        if (over && !ring_has_items(r)) {
            return false;
        }
        check(!ring_has_items(r) || poll(&one, 1, 60000) > 0 || !ring_has_items(r),
              "a message waits, and the descriptor does not say so");
    }
}

/* Receives, views or takes a message. Returns what the call returned. */
static ring_result
receive_one(worker *w, held *views, held *taken, uint64_t last[SENDERS])
{
    char data[6 * INLINE_MAX + LEAST];
    uint64_t what = below(3);
    bool view = what == 1 && views->count < HELD, take = what == 2 && taken->count < HELD;
    bool waits = !take && views->count + taken->count == 0;
    ring_call call = call_of(w->h, take ? op_take : op_receive,
                             w->polls ? 0 : waits ? INT64_MAX : soon());
    call.wait_for_peers = false;
    call.items = 1 + below(5);
    call.data = data;
    call.length = sizeof data;
    ring_result result = view || take ? call_do(w->h, &call) : receive_message(w->h, &call);
    if (result != RING_OK) {
        return result;
    }
    const ring_message *message = &call.message;
    bool holds = (view && message->block != NO_BLOCK) || take;
    for (uint64_t i = 0; i < (holds ? 1 : call.items); i++) {
        const char *from = holds ? message->data : data + i * message->length;
        uint64_t number = message_number(from, message->length);
        if (!message->returned) {
            in_order(last, number);
        }
        if (!take) {
            got(number);
        }
        if (holds) {
            held *into = take ? taken : views;
            check(!take || !*seen_of(number), "a message came after it was acknowledged");
            into->slots[into->count++] = (slot){message->block, message->length, number};
        }
    }
    return RING_OK;
}

static void *
receive_all(void *of)
{
    worker *w = of;
    held views = {.count = 0}, taken = {.count = 0};
    uint64_t last[SENDERS];
    memset(last, 0xff, sizeof last);
    seed_chance(w->id + 20);
    ring_descriptors *descriptors = w->polls ? descriptors_new(&w->h->r) : NULL;
    check(!w->polls || (descriptors != NULL && descriptor_get(descriptors, POLL_ITEMS) >= 0),
          "no descriptor to poll");
    for (;;) {
        bool free = views.count + taken.count == 0;
        if (w->polls && free && !wait_by_poll(descriptors)) {
            break;
        }
        ring_result result = receive_one(w, &views, &taken, last);
        if (result == RING_GONE && free) {
            break;
        }
        check(result == RING_OK || result == RING_TIMEOUT || result == RING_EMPTY
                  || result == RING_FULL || result == RING_GONE || result == RING_BUSY,
              "a message can't be received");
        while (views.count > 0 && (result != RING_OK || below(3) == 0)) {
            release_one(w, &views);
        }
        while (taken.count > 0 && (result != RING_OK || below(3) == 0)) {
            end_a_delivery(w, &taken);
        }
    }
    if (descriptors != NULL) {
        descriptors_free(descriptors);
    }
    return NULL;
}

#endif
