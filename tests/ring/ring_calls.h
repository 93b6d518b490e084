/* What peers of a channel and peers of a topic do alike: calls that may end in the peer's death. */
#ifndef RING_CALLS_H
#define RING_CALLS_H

#include "ring_death.h"

static char buffer[1 << 16];

static uint64_t
some_length(const ring *r)
{
    uint64_t kind = below(8);
    uint64_t length = kind == 0 ? below(r->longest) : kind < 4 ? below(4 * INLINE_MAX) : below(80);
    length = length < LEAST ? LEAST : length > r->longest ? r->longest : length;
    return r->item_size != 0 ? r->item_size : length;
}

static bool impatient;

static int64_t
some_deadline(void)
{
    return !impatient && below(4) == 0 ? 1 : 0; /* 1 is long over: all of ring_run, but no sleep */
}

/* -- calls ------------------------------------------------------------------------------------------ */

static ring_result
do_cancel(handle *by, ring_call *call)
{
    return release_block(by, call->block, BLOCK_LENT);
}

static ring_result
do_release(handle *by, ring_call *call)
{
    return release_block(by, call->block, BLOCK_READ);
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

/* As a call with a descriptor that found no room and no message, or a lock taken. */
static void
defer(ring *r, uint32_t which, channel_lock *lock)
{
    ring_descriptors descriptors = {.r = r};
    poll_arm(r, which);
    if (r->shared->recovery_wanted) {
        descriptor_recover(&descriptors);
    } else {
        ring_defer_to_holder(r, lock);
    }
}

#endif
