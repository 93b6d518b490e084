/* What the protocol needs of the processor and of the kernel: atomic loads and stores, barriers, futexes
   (futex(2)), locks of bytes of a file (fcntl(2)), a clock, and copies from and to shared memory. The
   headers of native/ring/ reach shared memory in no other way, so that tests/verify/ can put a model
   checker in the place of this header. No Python.h here. */
#ifndef IPCKIT_MACHINE_H
#define IPCKIT_MACHINE_H

#include "ring/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* -- atomics ----------------------------------------------------------------------------------- */

#define load_relaxed(word) __atomic_load_n(word, __ATOMIC_RELAXED)
#define load_acquire(word) __atomic_load_n(word, __ATOMIC_ACQUIRE)
#define store_relaxed(word, value) __atomic_store_n(word, value, __ATOMIC_RELAXED)
#define store_release(word, value) __atomic_store_n(word, value, __ATOMIC_RELEASE)
#define exchange_acquire(word, value) __atomic_exchange_n(word, value, __ATOMIC_ACQUIRE)
#define exchange_release(word, value) __atomic_exchange_n(word, value, __ATOMIC_RELEASE)
#define fetch_add_relaxed(word, value) __atomic_fetch_add(word, value, __ATOMIC_RELAXED)
#define fetch_add_release(word, value) __atomic_fetch_add(word, value, __ATOMIC_RELEASE)
#define fetch_and_relaxed(word, value) __atomic_fetch_and(word, value, __ATOMIC_RELAXED)
#define fetch_and_acquire(word, value) __atomic_fetch_and(word, value, __ATOMIC_ACQUIRE)
#define fetch_and_release(word, value) __atomic_fetch_and(word, value, __ATOMIC_RELEASE)
#define fetch_or_relaxed(word, value) __atomic_fetch_or(word, value, __ATOMIC_RELAXED)
#define fetch_or_release(word, value) __atomic_fetch_or(word, value, __ATOMIC_RELEASE)

/* Stores `value` if the word is `*found`; otherwise sets `*found` to what the word is. Returns whether it
   stored. The orders are those of C11, in capitals: after a success, and after a failure. */
#define compare_exchange(word, found, value, success, failure)                                       \
    __atomic_compare_exchange_n(word, found, value, false, __ATOMIC_##success, __ATOMIC_##failure)

/* -- barriers ---------------------------------------------------------------------------------- */

/* Stores that come later are seen after loads and stores that come before it. */
static inline void
release_fence(void)
{
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

/* Loads that come before it are performed before loads and stores that come later. */
static inline void
acquire_fence(void)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
}

/* For the compiler only. */
static inline void
compiler_fence(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
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

/* -- futexes ----------------------------------------------------------------------------------- */

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

/* Wakes up to `count` sleepers. Returns how many were asleep. The kernel performs a full barrier before it looks
   for sleepers, and a process that was woken sees what its waker had stored. */
static inline int
futex_wake(uint32_t *word, int count)
{
    long result = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    return result < 0 ? 0 : (int)result;
}

/* -- files ------------------------------------------------------------------------------------- */

static inline struct flock
byte_lock(short type, int64_t at)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
}

/* Takes the OFD lock of one byte of a file without waiting. Returns whether it did. */
static inline bool
file_lock_byte(int fd, int64_t at)
{
    struct flock lock = byte_lock(F_WRLCK, at);
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static inline void
file_unlock_byte(int fd, int64_t at)
{
    struct flock lock = byte_lock(F_UNLCK, at);
    fcntl(fd, F_OFD_SETLK, &lock);
}

/* Tells whether no other file description has the lock of a byte. Returns false if that cannot be known. */
static inline bool
file_byte_is_unlocked(int fd, int64_t at)
{
    struct flock lock = byte_lock(F_WRLCK, at);
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

/* Tells whether a file has at least `size` bytes. One system call. */
static inline bool
file_has_bytes(int fd, uint64_t size)
{
    struct stat file;
    return fstat(fd, &file) == 0 && (uint64_t)file.st_size >= size;
}

/* -- copies ------------------------------------------------------------------------------------ */

/* Copies from or to shared memory, in any order. */
static inline void
copy_shared(char *to, const char *from, uint64_t length)
{
    memcpy(to, from, length);
}

/* -- hints ------------------------------------------------------------------------------------- */

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
