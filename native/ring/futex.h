/* Sleeping on a word of shared memory, and waking who does. No Python.h here. */
#ifndef IPCKIT_FUTEX_H
#define IPCKIT_FUTEX_H

#include "ring/clock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Sleeps while the word is `expected`, at most until a moment of the monotonic clock: 0 or an
   errno: EAGAIN where it is something else, ETIMEDOUT, EINTR. */
static inline int
futex_wait(uint32_t *word, uint32_t expected, int64_t until_ns)
{
    struct timespec until = timespec_of(until_ns);
    long result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected,
                          until_ns == INT64_MAX ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);
    return result < 0 ? errno : 0;
}

/* Wakes so many: how many slept. */
static inline int
futex_wake(uint32_t *word, int count)
{
    long result = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    return result < 0 ? 0 : (int)result;
}

/* What this thread wrote before is seen by all before it reads anything after. */
static inline void
full_barrier(uint32_t *word)
{
#ifdef __SANITIZE_THREAD__ /* knows no fences; this is one to it for who changes the same word */
    __atomic_fetch_add(word, 0, __ATOMIC_SEQ_CST);
#else
    (void)word;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Lets others put full barriers into this process: false where that can't be. */
static inline bool
membarrier_register(void)
{
#if defined(__SANITIZE_THREAD__) || defined(NO_MEMBARRIER)
    return false;
#else
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
#endif
}

/* A full barrier in every thread that runs of the processes that have joined, and here. */
static inline bool
membarrier_all(void)
{
#if defined(__SANITIZE_THREAD__) || defined(NO_MEMBARRIER)
    return false;
#else
    return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
#endif
}

static inline void
cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

/* The compiler's own prefetch is one to read where it is told of no particular processor; those that
   know no other take this instruction for one that does nothing. */
static inline void
cpu_prefetch_to_write(const void *address)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)address));
#else
    __builtin_prefetch(address, 1);
#endif
}

#endif
