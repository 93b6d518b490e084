/* A model of a topic: which message each subscriber must receive next, and how many it has lost.

   All peers are in one thread, so the model is exact: after each step, and after each death, it knows
   what each subscriber has, and what publishers may do. */
#ifndef TOPIC_MODEL_H
#define TOPIC_MODEL_H

#include "ring_calls.h"
#include "topic_harness.h"

#define PUBLISHERS 3
#define SUBSCRIBERS 4
#define PEERS (PUBLISHERS + SUBSCRIBERS)
#define SLOTS 6
#define LOG 8192

/* What a peer holds: a loan, or a view. */
typedef struct {
    uint32_t block; /* NO_BLOCK: a loan of a short message */
    uint64_t length, number;
} slot;

typedef struct {
    handle h;
    bool gone;
    bool subscribed, closed; /* closed: it only keeps views */
    topic_wishes wishes;
    uint64_t cursor, lost, depth;
    slot loans[SLOTS], views[SLOTS];
    int lent, viewed;
} peer;

static channel shared;
static peer peers[PEERS];
static uint64_t published[LOG]; /* the number in each message that was published */
static uint64_t next_number;
static bool unrecovered; /* a peer died, and no recovery came after that */

static const channel_header *
header_of(void)
{
    return (const channel_header *)shared.memory;
}

static inline bool
is_publisher(const peer *p)
{
    return p < &peers[PUBLISHERS];
}

static void
bury(peer *dead)
{
    handle_die(&dead->h);
    dead->lent = dead->viewed = 0;
    dead->gone = true;
    deaths++;
    unrecovered = true;
}

static void
revive(peer *dead)
{
    fuse = 0;
    if (dead->gone) {
        topic_open(&dead->h, &shared);
        dead->gone = dead->subscribed = dead->closed = false;
    }
}

/* -- what must be true at any time ------------------------------------------------------------------ */

/* Tells whether publishers wait for a peer. */
static bool
is_waited_for(const peer *p)
{
    return !p->gone && p->subscribed && !p->closed && !p->wishes.drops;
}

/* Tells whether publishers lack memory because of what peers hold or have not read. */
static bool
something_is_kept(bool blocks)
{
    bool kept = unrecovered;
    for (peer *p = peers; p < peers + PEERS; p++) {
        kept |= is_waited_for(p) && p->cursor != header_of()->tail;
        kept |= blocks && !p->gone && p->lent + p->viewed != 0;
    }
    return kept;
}

/* Returns how many messages a subscriber has counted as missed. */
static inline uint64_t
lost_by(const peer *p)
{
    return topic_missed(p->h.r.subscriber, p->h.r.subscriber->cursor);
}

/* Tells whether a subscriber lets no publisher publish. */
static bool
one_is_full(void)
{
    bool full = unrecovered;
    for (peer *p = peers; p < peers + PEERS; p++) {
        full |= is_waited_for(p) && header_of()->tail - p->cursor >= p->depth;
    }
    return full;
}

static void
check_view(const peer *p, slot view)
{
    const ring *r = &p->h.r;
    uint64_t word = r->words[view.block];
    block_kind kind = block_kind_of(word);
    check(r->readers[view.block] & topic_own_bit(r), "a view is not noted");
    check(kind == BLOCK_QUEUED || kind == BLOCK_READ, "a block is used again that a view has");
    check(message_number(block_data(r, view.block), view.length) == view.number,
          "a message changed while it was viewed");
}

static void
check_subscriber(const peer *p)
{
    const channel_header *header = header_of();
    const topic_subscriber *own = p->h.r.subscriber;
    check(own->owner == p->h.r.owner, "a subscriber lost its place");
    check(header->members >> (own - p->h.r.subscribers) & 1, "a subscriber is not a member");
    for (int i = 0; i < p->viewed; i++) {
        check_view(p, p->views[i]);
    }
    if (p->closed) {
        return;
    }
    check(own->cursor == p->cursor && topic_missed(own, own->cursor) == p->lost, "a cursor moved by itself");
    if (!p->wishes.drops) {
        check(header->head <= p->cursor, "a message was dropped that a subscriber needs");
        check(header->tail - p->cursor <= p->depth, "a publisher did not wait");
        check(header->floor <= p->cursor, "publishers may drop what a subscriber needs");
        check(header->limit <= p->cursor + p->depth, "publishers need not wait");
    }
}

static void
check_all(void)
{
    for (peer *p = peers; p < peers + PEERS; p++) {
        if (!p->gone && p->subscribed) {
            check_subscriber(p);
        }
        for (int i = 0; !p->gone && i < p->lent; i++) {
            slot loan = p->loans[i];
            check(loan.block == NO_BLOCK
                      || message_number(block_data(&p->h.r, loan.block), loan.length) == loan.number,
                  "a loan changed while it was lent");
        }
    }
    check(header_of()->tail - header_of()->head <= peers[0].h.r.slots, "more messages than entries");
}

/* -- calls that may end in a death ------------------------------------------------------------------ */

static uint64_t sent; /* how many messages the last attempt published */

static ring_result
attempt(work what, handle *by, ring_call *call)
{
    uint64_t tail = header_of()->tail;
    attempts++;
    ring_result result = run_to_death(what, by, call);
    sent = header_of()->tail - tail;
    return result;
}

static ring_result
do_defer(handle *by, ring_call *call)
{
    defer(&by->r, call->which, &by->r.shared->send_lock);
    return RING_OK;
}

static ring_result
do_unsubscribe(handle *by, ring_call *call)
{
    (void)call;
    topic_unsubscribe(&by->r);
    return RING_OK;
}

static ring_result
do_open(handle *by, ring_call *call)
{
    (void)call;
    topic_open(by, &shared);
    return RING_OK;
}

#endif
