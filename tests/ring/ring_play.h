/* A channel for the steps of these tests, and the check that nothing is left of it. */
#ifndef RING_PLAY_H
#define RING_PLAY_H

#include "ring_receive_steps.h"

static void
make(ring_shape shape, bool overwriting)
{
    overwrite = overwriting;
    shared = channel_make(shape, overwrite ? CHANNEL_OVERWRITE : 0);
    /* Soon at the end of the arena, where padding is, and of the counts. */
    channel_header *header = (channel_header *)shared.memory;
    uint64_t position = shape.units * (1 + below(2)) - 1 - below(50);
    header->head = header->cached_head = header->tail = header->cached_tail = header->senders_tail =
        word_of(position, COUNT_MASK - below(100));
    fuse = 0;
    first = last = returns = 0;
    next_order = 0;
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
            check(result == RING_FULL || result == RING_TIMEOUT, "a loan can't be sent");
            check(step_cancel(p) == RING_OK, "a loan can't be cancelled");
        }
    }
    while (p->took > 0) {
        check(step_end_delivery(p, below(2)) == RING_OK, "a message can't be acknowledged");
    }
}

/* Takes a loan of the longest message, so that a dead peer's pool_lock is taken over. */
static void
use_pool(peer *p)
{
    ring_call call = call_of(&p->h, op_lend, 0);
    call.length = p->h.r.longest;
    if (call.length > INLINE_MAX) {
        check(attempt(call_do, &p->h, &call) == RING_OK, "an empty channel has no block");
        check(attempt(do_cancel, &p->h, &call) == RING_OK, "a loan can't be cancelled");
    }
    ring *r = &p->h.r;
    check(ring_lock(r, &r->shared->pool_lock, 0) == RING_OK, "pool_lock is held");
    ring_unlock(r, &r->shared->pool_lock);
}

static void
check_free(const ring *r)
{
    const channel_header *header = r->shared;
    check(header->send_lock.owner == 0 && header->receive_lock.owner == 0
              && header->pool_lock.owner == 0,
          "a lock is held");
    check(header->recovery_wanted == 0, "a recovery has no end");
    for (uint64_t at = 0; at < r->granules; at++) {
        check(r->words[at] == BLOCK_FREE, "a block is leaked");
    }
    for (int i = 0; i < PEERS; i++) {
        check(peers[i].gone || r->peers[peers[i].h.r.index].taken == 0, "a wrong count of deliveries");
    }
}

/* All peers let go of what they hold, and the messages are received. Then the channel must be as free
   as a new one. */
static void
settle(void)
{
    fuse = 0;
    revive(&peers[0]);
    for (int i = 0; i < PEERS; i++) {
        if (!peers[i].gone) {
            let_go(&peers[i]);
        }
    }
    check(step_look(&peers[0]) == RING_OK, "no recovery");
    was_recovered();
    ring_result result;
    while ((result = step_receive(&peers[0])) == RING_OK) {
    }
    check(result == RING_EMPTY || result == RING_TIMEOUT, "the ring can't be emptied");
    nothing_left();
    use_pool(&peers[0]);
    check(step_look(&peers[0]) == RING_OK, "no recovery");
    ring *r = &peers[0].h.r;
    ring_space space;
    check(ring_measure_space(r, true, &space) == RING_OK, "corrupt at the end");
    check(space.room == r->units && space.queued == 0, "what dead peers had is not free again");
    check_free(r);
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
