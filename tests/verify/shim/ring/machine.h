/* Stands in for native/ring/machine.h: each access to shared memory is a step of the model (model.cpp).
   The headers of native/ring/ are compiled over it unchanged. */
#ifndef IPCKIT_MACHINE_H
#define IPCKIT_MACHINE_H

#include "model.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* -- atomics ----------------------------------------------------------------------------------- */

/* A site is one use of an atomic in the source. A mutant weakens one site. */
#define MODEL_SITE(operation, kind_, success_, failure_)                                             \
    static model_site site_ = {.file = __FILE__,                                                    \
                               .function = __func__,                                                \
                               .text = operation,                                                   \
                               .line = __LINE__,                                                    \
                               .kind = kind_,                                                       \
                               .success = success_,                                                 \
                               .failure = failure_}

#define MODEL_LOAD(name, word, order)                                                                \
    __extension__({                                                                                  \
        MODEL_SITE(name "(" #word ")", MODEL_IS_LOAD, order, order);                                 \
        (__typeof__(*(word) + 0))model_load(&site_, word, sizeof *(word));                           \
    })
#define MODEL_STORE(name, word, value, order)                                                        \
    __extension__({                                                                                  \
        MODEL_SITE(name "(" #word ")", MODEL_IS_STORE, order, order);                                \
        model_store(&site_, word, sizeof *(word), (uint64_t)(value));                                \
    })
#define MODEL_UPDATE(name, word, value, order, how)                                                  \
    __extension__({                                                                                  \
        MODEL_SITE(name "(" #word ")", MODEL_IS_UPDATE, order, order);                               \
        (__typeof__(*(word) + 0))model_update(&site_, word, sizeof *(word), how,                     \
                                              (__typeof__(*(word) + 0))(value));                     \
    })

#define load_relaxed(word) MODEL_LOAD("load_relaxed", word, MODEL_RELAXED)
#define load_acquire(word) MODEL_LOAD("load_acquire", word, MODEL_ACQUIRE)
#define store_relaxed(word, value) MODEL_STORE("store_relaxed", word, value, MODEL_RELAXED)
#define store_release(word, value) MODEL_STORE("store_release", word, value, MODEL_RELEASE)
#define exchange_acquire(word, value)                                                                \
    MODEL_UPDATE("exchange_acquire", word, value, MODEL_ACQUIRE, MODEL_EXCHANGE)
#define exchange_release(word, value)                                                                \
    MODEL_UPDATE("exchange_release", word, value, MODEL_RELEASE, MODEL_EXCHANGE)
#define fetch_add_relaxed(word, value)                                                               \
    MODEL_UPDATE("fetch_add_relaxed", word, value, MODEL_RELAXED, MODEL_ADD)
#define fetch_add_release(word, value)                                                               \
    MODEL_UPDATE("fetch_add_release", word, value, MODEL_RELEASE, MODEL_ADD)
#define fetch_and_relaxed(word, value)                                                               \
    MODEL_UPDATE("fetch_and_relaxed", word, value, MODEL_RELAXED, MODEL_AND)
#define fetch_and_acquire(word, value)                                                               \
    MODEL_UPDATE("fetch_and_acquire", word, value, MODEL_ACQUIRE, MODEL_AND)
#define fetch_and_release(word, value)                                                               \
    MODEL_UPDATE("fetch_and_release", word, value, MODEL_RELEASE, MODEL_AND)
#define fetch_or_relaxed(word, value)                                                                \
    MODEL_UPDATE("fetch_or_relaxed", word, value, MODEL_RELAXED, MODEL_OR)
#define fetch_or_release(word, value)                                                                \
    MODEL_UPDATE("fetch_or_release", word, value, MODEL_RELEASE, MODEL_OR)

#define compare_exchange(word, found, value, success, failure)                                       \
    __extension__({                                                                                  \
        MODEL_SITE("compare_exchange(" #word ")", MODEL_IS_EXCHANGE, MODEL_##success,                \
                   MODEL_##failure);                                                                 \
        __typeof__(*(word) + 0) *found_ = (found);                                                   \
        uint64_t expected_ = *found_;                                                                \
        bool stored_ = model_compare_exchange(&site_, word, sizeof *(word), &expected_,              \
                                              (__typeof__(*(word) + 0))(value));                     \
        *found_ = (__typeof__(*(word) + 0))expected_;                                                \
        stored_;                                                                                     \
    })

/* -- barriers ---------------------------------------------------------------------------------- */

#define MODEL_FENCE(name, kind, order)                                                               \
    __extension__({                                                                                  \
        MODEL_SITE(name, kind, order, order);                                                        \
        model_fence(&site_);                                                                         \
    })

#define release_fence() MODEL_FENCE("release_fence()", MODEL_IS_FENCE, MODEL_RELEASE)
#define acquire_fence() MODEL_FENCE("acquire_fence()", MODEL_IS_FENCE, MODEL_ACQUIRE)
#define full_barrier(word) ((void)(word), MODEL_FENCE("full_barrier()", MODEL_IS_FENCE, MODEL_SEQ_CST))
#define compiler_fence() ((void)0) /* the model keeps the order of a thread's own steps */
#define membarrier_register() model_has_membarrier()
#define membarrier_all()                                                                             \
    __extension__({                                                                                  \
        MODEL_SITE("membarrier_all()", MODEL_IS_MEMBARRIER, MODEL_SEQ_CST, MODEL_SEQ_CST);           \
        model_membarrier(&site_);                                                                    \
    })

/* -- futexes, files, the clock, copies --------------------------------------------------------- */

#define NS_PER_SECOND INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

static inline int64_t
monotonic_ns(void)
{
    return model_now();
}

static inline int64_t
deadline_after(int64_t wait_ns)
{
    return wait_ns > INT64_MAX - model_now() ? INT64_MAX : model_now() + wait_ns;
}

static inline int
futex_wait(uint32_t *word, uint32_t expected, int64_t until_ns)
{
    return model_futex_wait(word, expected, until_ns);
}

static inline int
futex_wake(uint32_t *word, int count)
{
    return model_futex_wake(word, count);
}

static inline bool
file_lock_byte(int fd, int64_t at)
{
    return model_lock_byte(fd, at);
}

static inline void
file_unlock_byte(int fd, int64_t at)
{
    model_unlock_byte(fd, at);
}

static inline bool
file_byte_is_unlocked(int fd, int64_t at)
{
    return model_byte_is_unlocked(fd, at);
}

static inline bool
file_has_bytes(int fd, uint64_t size)
{
    (void)fd;
    (void)size;
    return true;
}

static inline void
copy_shared(char *to, const char *from, uint64_t length)
{
    model_copy(to, from, length);
}

static inline void
cpu_relax(void)
{
}

static inline void
cpu_prefetch_to_write(const void *address)
{
    (void)address;
}

/* Named in the trace of a death. */
#define RING_POINT(name) model_point(#name)

/* The model has no use for a second look: it tries every order anyway. */
#define LOCK_SPINS 1

#endif
