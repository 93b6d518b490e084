/* Calls of a channel as the binding makes them (native/channel/), and the checks after them. */
#ifndef CHANNEL_CALLS_H
#define CHANNEL_CALLS_H

#include "scenario.h"

/* How many messages that a sender has sent were not received. */
static inline int
missing_of(int sender)
{
    int missing = 0;
    for (int number = 0; number < ledger.sent[sender]; number++) {
        missing += ledger.received[sender][number] == 0;
    }
    return missing;
}

/* Sends messages of these lengths, numbered from `first`. Stops if the receivers died. */
static inline void
send_lengths(int sender, int first, const uint64_t *lengths, int count)
{
    ring *r = &world_rings[sender];
    for (int at = 0; at < count; at++) {
        ring_result result = world_send(r, sender, first + at, lengths[at], FOREVER);
        model_check(result == RING_OK || (result == RING_GONE && model_any_death()));
        if (result != RING_OK) {
            return;
        }
    }
}

/* The only receiver: receives so many messages, or stops if the sender died and the channel is empty. */
static inline void
receive_count(int receiver, int sender, int count)
{
    ring *r = &world_rings[receiver];
    for (int at = 0; at < count; at++) {
        ring_result result = world_receive(r, FOREVER);
        model_check(result == RING_OK || (result == RING_GONE && model_is_dead(sender)));
        if (result != RING_OK) {
            model_check(missing_of(sender) == 0 /* a channel is over only when it is empty */);
            return;
        }
    }
}

/* The fast path of a send (send_at_once in send.c), then the slow one. */
static inline ring_result
send_fast(ring *r, int sender, int number, uint64_t length, int64_t deadline)
{
    uint32_t words[LONGEST / 4];
    for (uint64_t at = 0; at < length / 4; at++) {
        words[at] = (uint32_t)(sender << 16 | number);
    }
    ring_add_role(r, ROLE_SENDER);
    ring_result result = RING_BUSY;
    if (ring_try_lock(r, &r->shared->send_lock)) {
        result = ring_send(r, words, length);
        ring_unlock(r, &r->shared->send_lock);
    }
    if (result != RING_OK) {
        return world_send(r, sender, number, length, deadline);
    }
    ring_notify(r, POLL_ITEMS);
    ledger.sent[sender]++;
    return RING_OK;
}

/* The fast path of a receive (ipckit_receive_small in receive_small.c), then the slow one. */
static inline ring_result
receive_fast(ring *r, int64_t deadline)
{
    char copy[LONGEST];
    ring_message message;
    ring_add_role(r, ROLE_RECEIVER);
    if (ring_looks_empty(r) || !ring_try_lock(r, &r->shared->receive_lock)) {
        return world_receive(r, deadline);
    }
    ring_result result = RING_OK;
    if (!ring_peek_small(r, &message, copy)) {
        result = ring_peek(r, &message);
        if (result == RING_OK) {
            copy_shared(copy, message.data, message.length);
        }
    }
    if (result == RING_OK) {
        ring_take(r, &message, 1);
    }
    ring_unlock(r, &r->shared->receive_lock);
    if (result != RING_OK) {
        return world_receive(r, deadline);
    }
    ring_notify(r, POLL_SPACE);
    world_note(model_thread(), copy, message.length);
    return RING_OK;
}

/* Everything that was sent was received once. */
static inline void
end_complete(void)
{
    world_finish();
    world_check_received(0);
}

/* As end_complete, but a receiver that died may have lost the message that it was taking. Only the
   thread `receiver` receives. */
static inline void
end_after_deaths(int receiver)
{
    world_finish();
    world_check_received(model_is_dead(receiver));
}

static inline void
end_receiver_is_1(void)
{
    end_after_deaths(1);
}

#endif
