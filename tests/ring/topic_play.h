/* A topic for the steps of these tests, and the check that nothing is left of it. */
#ifndef TOPIC_PLAY_H
#define TOPIC_PLAY_H

#include "topic_steps.h"

/* Begins with the first message, or shortly before a number's lower bits are 0 again. */
static void
make(ring_shape shape, uint64_t history)
{
    shared = topic_make(shape, history);
    uint64_t bits = below(3);
    if (bits != 0) {
        uint64_t number = (UINT64_C(1) << (bits == 1 ? COUNT_BITS : 36)) - below(100);
        topic_begin_at(&shared, number, shape.units * (1 + below(9)) - below(50));
    }
    fuse = 0;
    fatal = paused = NULL;
    unrecovered = false;
    for (int i = 0; i < PEERS; i++) {
        peers[i] = (peer){.gone = true};
        revive(&peers[i]);
    }
}

static void
unmake(void)
{
    for (int i = 0; i < PEERS; i++) {
        if (!peers[i].gone) {
            handle_close(&peers[i].h);
        }
    }
    channel_unmake(&shared);
}

/* Ends all that a living peer holds. */
static void
let_go(peer *p)
{
    while (p->viewed > 0) {
        check(step_release(p) == RING_OK, "a view can't be released");
    }
    while (p->lent > 0) {
        ring_result result = below(2) ? step_send_loan(p) : RING_FULL;
        if (result != RING_OK) {
            check(result == RING_FULL || result == RING_TIMEOUT, "a loan can't be published");
            check(step_cancel(p) == RING_OK, "a loan can't be cancelled");
        }
    }
}

/* Receives all that a subscriber has not read. */
static void
drain(peer *p)
{
    ring_result result = RING_EMPTY;
    while (p->subscribed && !p->closed && (result = step_receive(p)) == RING_OK) {
    }
    check(result == RING_EMPTY || result == RING_TIMEOUT, "a message can't be received");
    check(!p->subscribed || p->closed || p->cursor == header_of()->tail, "a message is missing");
}

/* Checks that only living peers are subscribers, and no lock is held. */
static void
check_places(const ring *r)
{
    uint64_t living = 0;
    for (int i = 0; i < PEERS; i++) {
        if (!peers[i].gone && peers[i].subscribed) {
            living |= topic_own_bit(&peers[i].h.r);
        }
    }
    for (uint64_t place = 0; place < TOPIC_SUBSCRIBERS; place++) {
        const topic_subscriber *member = &r->subscribers[place];
        bool lives = living >> place & 1;
        check(lives || member->owner == 0, "a dead subscriber keeps its place");
        check(!lives || member->lock.owner == 0, "a subscriber's lock is held");
    }
}

/* All peers let go of what they hold, and all messages are received. Then the memory must be as free as
   that of a new topic. */
static void
settle(void)
{
    fuse = 0;
    fatal = NULL;
    revive(&peers[0]);
    for (int i = 0; i < PEERS; i++) {
        if (!peers[i].gone) {
            let_go(&peers[i]);
        }
    }
    check(step_look(&peers[0]) == RING_OK, "no recovery");
    for (int i = 0; i < PEERS; i++) {
        if (!peers[i].gone) {
            drain(&peers[i]);
        }
    }
    check_all();
    const ring *r = &peers[0].h.r;
    if (r->longest > INLINE_MAX) {
        check(lend(&peers[0], r->longest, 0) == RING_OK, "a topic without readers has no block");
        check(step_cancel(&peers[0]) == RING_OK, "a loan can't be cancelled");
    }
    check(step_look(&peers[0]) == RING_OK, "no recovery");
    check_memory(r);
    check_places(r);
    check_all();
}

/* -- cases ----------------------------------------------------------------------------------------- */

static inline void
dies_at(const char *point, work what, peer *p, ring_call call)
{
    revive(p);
    fatal = point;
    check(attempt(what, &p->h, &call) == RING_GONE, "it does not come to that point");
    fatal = NULL;
    bury(p);
}

#endif
