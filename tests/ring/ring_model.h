/* Death at named points of a ring, and a model of the messages that must be received nevertheless.

   All peers are in one thread, so the model is exact: after each step, and after each death, it knows
   what waits, and in which order. */
#ifndef RING_MODEL_H
#define RING_MODEL_H

#include "ring_death.h"

#define PEERS 4
#define SLOTS 6
#define ENTRIES 1024

/* What a peer holds: a loan, a view, or a message that it has taken. */
typedef struct {
    uint32_t block; /* NO_BLOCK: a loan of a short message */
    uint64_t length, number, order, redelivered;
} slot;

typedef struct {
    handle h;
    bool gone;
    slot loans[SLOTS], views[SLOTS], taken[SLOTS];
    int lent, viewed, took;
} peer;

/* A message that was taken and waits again. */
typedef struct {
    uint64_t number, order, redelivered;
    uint64_t deaths; /* how many peers had died when its receiver did */
    bool visible;    /* false: its receiver died, and it waits after the next recovery */
    bool exact;      /* its receiver returned it */
} comeback;

static channel shared;
static peer peers[PEERS];
static uint64_t queued[ENTRIES]; /* the numbers of messages that no peer has taken, from `first` on */
static int first, last;
static comeback returned[ENTRIES];
static int returns;
static uint64_t next_number, next_order;
static bool overwrite;

/* -- dying --------------------------------------------------------------------------------------- */

static void
comes_back(slot message, bool visible)
{
    check(returns < ENTRIES, "the model's list is full");
    returned[returns++] =
        (comeback){message.number, message.order, message.redelivered + 1, deaths, visible, visible};
}

static void
bury(peer *dead)
{
    handle_die(&dead->h);
    for (int i = 0; i < dead->took; i++) {
        comes_back(dead->taken[i], false);
    }
    dead->lent = dead->viewed = dead->took = 0;
    deaths++;
    dead->gone = true;
}

static void
revive(peer *dead)
{
    fuse = 0;
    if (dead->gone) {
        handle_open(&dead->h, &shared);
        dead->gone = false;
    }
}

/* -- the model ----------------------------------------------------------------------------------- */

static void
was_sent(uint64_t number)
{
    check(last < ENTRIES, "the model's queue is full");
    queued[last++] = number;
}

static void
was_dropped(uint64_t messages)
{
    check(messages == 0 || overwrite, "a message was dropped");
    first += (int)messages;
    check(first <= last, "more messages were dropped than waited");
}

/* A message was received, or taken, for the first time. */
static void
arrived(uint64_t number)
{
    for (int i = 0; i < returns; i++) {
        check(overwrite || !returned[i].visible, "a message overtook one that was returned");
    }
    check(first < last, "a message came twice, or was never sent");
    check(queued[first] == number, "a message is lost, or out of order");
    first++;
}

static void
forget(int index)
{
    returned[index] = returned[--returns];
}

/* A message was received, or taken, that had been returned. Returns what was known of it. */
static comeback
arrived_again(uint64_t number, uint64_t order)
{
    int found = 0;
    while (found < returns && returned[found].number != number) {
        found++;
    }
    check(found < returns, "a message was delivered again that was acknowledged or received");
    comeback message = returned[found];
    check(message.order == order, "a message has another number than when it was taken first");
    forget(found);
    for (int i = returns - 1; i >= 0; i--) {
        if (returned[i].visible && returned[i].order < order) {
            check(overwrite, "messages that were returned are out of order");
            forget(i); /* it was dropped */
        }
    }
    return message;
}

/* A recovery has made all messages visible that dead peers had taken. */
static void
was_recovered(void)
{
    for (int i = 0; i < returns; i++) {
        returned[i].visible = true;
    }
}

static void
nothing_left(void)
{
    check(first == last, "a message is lost");
    check(returns == 0 || overwrite, "a message that was returned is lost");
    first = last = returns = 0;
}

#endif
