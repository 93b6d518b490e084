/* Futexes (futex(2)) in shared memory, and memory barriers. No Python.h here. */
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

/* Sleeps while the word is `expected`, at most until a time of the monotonic clock (INT64_MAX:
   without limit). Returns 0 after a wake, or an errno: EAGAIN if the word is different, ETIMEDOUT,
   EINTR, or EFAULT if the memory is gone. */
static inline int
futex_wait(uint32_t *word, uint32_t expected, int64_t until_ns)
{
    struct timespec until = timespec_of(until_ns);
    long result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected,
                          until_ns == INT64_MAX ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);
    return result < 0 ? errno : 0;
}

/* Wakes up to `count` sleepers. Returns how many were asleep. */
static inline int
futex_wake(uint32_t *word, int count)
{
    long result = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    return result < 0 ? 0 : (int)result;
}

/* A full barrier: all threads see this thread's earlier stores before it performs any later load. */
static inline void
full_barrier(uint32_t *word)
{
#ifdef __SANITIZE_THREAD__ /* TSan knows no fences; a read-modify-write of one word orders */
    __atomic_fetch_add(word, 0, __ATOMIC_SEQ_CST);
#else
    (void)word;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Registers this process with membarrier(2), so that other processes can execute barriers in it.
   Returns false if the kernel does not allow it. */
static inline bool
membarrier_register(void)
{
#if defined(__SANITIZE_THREAD__) || defined(NO_MEMBARRIER)
    return false;
#else
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
#endif
}

/* Executes a full barrier in every running thread of the registered processes, and in this one.
   Returns false if the kernel does not allow it. */
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

/* Prefetches a cache line for writing. The builtin prefetches for reading unless the compiler
   targets a specific processor. Processors that do not know the instruction ignore it. */
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
