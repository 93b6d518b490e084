/* Death at named points of a ring, and a model of what must come through all the same. */
#ifndef RING_MODEL_H
#define RING_MODEL_H

static void ring_point(const char *name);
#define RING_POINT(name) ring_point(#name)
#include "ring_harness.h"

#include <setjmp.h>

#define PEERS 4
#define SLOTS 6
#define ENTRIES 512

typedef struct {
    uint64_t at, length, number;
} slot;

typedef struct {
    handle h;
    bool gone;
    slot loans[SLOTS], views[SLOTS];
    int lent, viewed;
} peer;

typedef struct {
    uint64_t number;
    bool maybe; /* somebody died who was about to send or to take it */
} entry;

static channel shared;
static peer peers[PEERS];
static entry entries[ENTRIES];
static int first, last;
static uint64_t next_number, deaths;
static bool overwrite;

/* -- dying --------------------------------------------------------------------------------------- */

static jmp_buf out;
static long fuse;
static const char *fatal; /* the point at which whoever comes by dies */
static struct {
    const char *name;
    uint64_t deaths;
} points[64];

static void
ring_point(const char *name)
{
    int index = 0;
    while (points[index].name != NULL && strcmp(points[index].name, name) != 0) {
        index++;
    }
    points[index].name = name;
    if ((fuse != 0 && --fuse == 0) || (fatal != NULL && strcmp(fatal, name) == 0)) {
        points[index].deaths++;
        longjmp(out, 1);
    }
}

static void
bury(peer *dead)
{
    handle_die(&dead->h);
    dead->lent = dead->viewed = 0;
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
expect(uint64_t number, bool maybe)
{
    check(last < ENTRIES, "the test's own queue is full");
    entries[last++] = (entry){number, maybe || overwrite};
}

/* A receiver died: what it may have taken. */
static void
doubt(uint64_t messages)
{
    for (int i = first; i < last && messages > 0; i++) {
        messages -= !entries[i].maybe;
        entries[i].maybe = true;
    }
}

static void
arrived(uint64_t number)
{
    while (first < last && entries[first].number != number) {
        check(entries[first].maybe, "a message is lost, or comes out of order");
        first++;
    }
    check(first < last, "a message comes twice, or was never sent");
    first++;
}

static void
nothing_left(void)
{
    while (first < last) {
        check(entries[first++].maybe, "a message is lost");
    }
    first = last = 0;
}

#endif
