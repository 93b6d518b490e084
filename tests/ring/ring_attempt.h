/* Calls of a peer that may end in its death, and how many messages they sent or took. */
#ifndef RING_ATTEMPT_H
#define RING_ATTEMPT_H

#include "ring_calls.h"
#include "ring_model.h"

static ring_result
do_acknowledge(handle *by, ring_call *call)
{
    return acknowledge(by, call->block);
}

static ring_result
do_requeue(handle *by, ring_call *call)
{
    return ring_requeue(&by->r, call->block, by->r.owner);
}

static ring_result
do_defer(handle *by, ring_call *call)
{
    defer(&by->r, call->which, ring_call_lock(&by->r, call));
    return RING_OK;
}

static ring_result
do_open(handle *by, ring_call *call)
{
    (void)call;
    handle_open(by, &shared);
    return RING_OK;
}

/* How many messages the last attempt sent, and how many it took from the ring or dropped. */
static uint64_t sent, passed_by;

static ring_result
attempt(work what, handle *by, ring_call *call)
{
    const channel_header *header = (const channel_header *)shared.memory;
    uint64_t tail = count_of(header->tail), head = count_of(header->head);
    attempts++;
    ring_result result = run_to_death(what, by, call);
    sent = (count_of(header->tail) - tail) & COUNT_MASK;
    passed_by = (count_of(header->head) - head) & COUNT_MASK;
    return result;
}

#endif
