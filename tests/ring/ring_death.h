/* Death at named points: a peer that dies is thrown out of its call by longjmp. Its memory and locks are
   then as SIGKILL leaves them at that point. */
#ifndef RING_DEATH_H
#define RING_DEATH_H

static void ring_point(const char *name);
#define RING_POINT(name) ring_point(#name)
#include "ring_harness.h"

#include <setjmp.h>

static jmp_buf out;
static long fuse;         /* the peer dies at the point at which this becomes 0 */
static const char *fatal; /* the peer dies at this point */
static const char *paused; /* the peer is held up at this point, once, while others do `meanwhile` */
static void (*meanwhile)(void);
static uint64_t attempts, deaths;
static struct {
    const char *name;
    uint64_t deaths;
    uint64_t passed; /* the last attempt that came to it */
} points[64];

static int
point_index(const char *name)
{
    int index = 0;
    while (points[index].name != NULL && strcmp(points[index].name, name) != 0) {
        index++;
    }
    points[index].name = name;
    return index;
}

static void
ring_point(const char *name)
{
    int index = point_index(name);
    points[index].passed = attempts;
    if (paused != NULL && strcmp(paused, name) == 0) {
        paused = NULL;
        meanwhile();
    }
    if ((fuse != 0 && --fuse == 0) || (fatal != NULL && strcmp(fatal, name) == 0)) {
        points[index].deaths++;
        longjmp(out, 1);
    }
}

/* Tells whether the last attempt came to a point. */
static inline bool
passed(const char *name)
{
    return points[point_index(name)].passed == attempts;
}

typedef ring_result (*work)(handle *by, ring_call *call);

/* A function of its own, so that longjmp changes no local variable of the steps. */
__attribute__((noinline, unused)) static ring_result
run_to_death(work what, handle *by, ring_call *call)
{
    if (setjmp(out) != 0) {
        return RING_GONE;
    }
    ring_result result = what(by, call);
    fuse = 0;
    return result;
}

#endif
