/* The monotonic clock in nanoseconds. */
#ifndef IPCKIT_CLOCK_H
#define IPCKIT_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_SECOND INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

static inline int64_t
monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

/* Returns the time `wait_ns` from now, or INT64_MAX if that overflows. */
static inline int64_t
deadline_after(int64_t wait_ns)
{
    int64_t now = monotonic_ns();
    return wait_ns > INT64_MAX - now ? INT64_MAX : now + wait_ns;
}

static inline struct timespec
timespec_of(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / NS_PER_SECOND, .tv_nsec = ns % NS_PER_SECOND};
}

#endif
