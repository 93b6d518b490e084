/* Checks of the model itself: what C11 and the kernel allow must be found, and what they forbid must not. */
#include "scenario.h"

/* Words and plain memory that the two processes share. */
static struct {
    uint32_t data, flag, futex, unused;
    char bytes[16];
} *m;
static uint32_t seen[2]; /* what a process read; plain memory of the test */

static void
prepare(void)
{
    m = model_memory(sizeof *m);
    model_plain(m->bytes, sizeof m->bytes);
    model_lock_byte(0, 0); /* the lock of each process's place */
    model_lock_byte(1, 1);
}

static void
begin(void)
{
    seen[0] = seen[1] = 2;
}

static void
end_one_saw(void)
{
    model_check(seen[0] != 0 || seen[1] != 0);
}

/* -- store buffering: each stores its word, then reads the other's --------------------------------- */

static void
buffering(int thread, bool barriers[2])
{
    uint32_t *own = thread == 0 ? &m->data : &m->flag, *other = thread == 0 ? &m->flag : &m->data;
    store_relaxed(own, 1);
    if (barriers[thread]) {
        full_barrier(own);
    } else {
        compiler_fence();
    }
    seen[thread] = load_relaxed(other);
}

static void
buffering_bare(int thread)
{
    buffering(thread, (bool[]){false, false});
}

static void
buffering_one(int thread)
{
    buffering(thread, (bool[]){false, true});
}

static void
buffering_both(int thread)
{
    buffering(thread, (bool[]){true, true});
}

static void
buffering_membarrier(int thread)
{
    if (thread == 0) {
        buffering_bare(0);
        return;
    }
    store_relaxed(&m->flag, 1);
    membarrier_all();
    seen[1] = load_relaxed(&m->data);
}

#define LITMUS(id, text, body, finish, wrong)                                                        \
    SCENARIO(id) = {.name = "litmus-" text,                                                          \
                    .about = wrong ? "the model finds what must go wrong" : "the model allows no more than C11", \
                    .threads = 2,                                                                    \
                    .bound = 9,                                                                      \
                    .quick = 9,                                                                      \
                    .fails = wrong,                                                                  \
                    .prepare = prepare,                                                              \
                    .begin = begin,                                                                  \
                    .thread = body,                                                                  \
                    .end = finish}

LITMUS(sb_bare, "buffering", buffering_bare, end_one_saw, true);
LITMUS(sb_one, "buffering-one-barrier", buffering_one, end_one_saw, true);
LITMUS(sb_both, "buffering-two-barriers", buffering_both, end_one_saw, false);
LITMUS(sb_membarrier, "buffering-membarrier", buffering_membarrier, end_one_saw, false);

/* -- message passing: one writes data, then a flag ---------------------------------------------------- */

static void
end_message(void)
{
    model_check(seen[0] != 1 || seen[1] == 1);
}

static void
message_relaxed(int thread)
{
    if (thread == 0) {
        store_relaxed(&m->data, 1);
        store_relaxed(&m->flag, 1);
    } else {
        seen[0] = load_relaxed(&m->flag);
        seen[1] = load_relaxed(&m->data);
    }
}

static void
message_released(int thread)
{
    if (thread == 0) {
        store_relaxed(&m->data, 1);
        store_release(&m->flag, 1);
    } else {
        seen[0] = load_acquire(&m->flag);
        seen[1] = load_relaxed(&m->data);
    }
}

static void
message_fenced(int thread)
{
    if (thread == 0) {
        store_relaxed(&m->data, 1);
        release_fence();
        store_relaxed(&m->flag, 1);
    } else {
        seen[0] = load_relaxed(&m->flag);
        acquire_fence();
        seen[1] = load_relaxed(&m->data);
    }
}

/* A copy in plain memory, handed over by a flag, and read or overwritten too early. */
static void
copy_early(int thread)
{
    char bytes[16] = {1};
    if (thread == 0) {
        copy_shared(m->bytes, bytes, sizeof bytes);
        store_release(&m->flag, 1);
    } else if (load_relaxed(&m->flag) == 1) {
        copy_shared(bytes, m->bytes, sizeof bytes);
    }
}

static void
copy_handed_over(int thread)
{
    char bytes[16] = {1};
    if (thread == 0) {
        copy_shared(m->bytes, bytes, sizeof bytes);
        store_release(&m->flag, 1);
    } else if (load_acquire(&m->flag) == 1) {
        copy_shared(bytes, m->bytes, sizeof bytes);
        model_check(bytes[0] == 1);
    }
}

/* A read of plain memory that is overwritten after a flag which does not release the read. */
static void
overwritten_early(int thread)
{
    char bytes[16] = {1};
    if (thread == 0) {
        copy_shared(bytes, m->bytes, sizeof bytes);
        store_relaxed(&m->flag, 1);
    } else if (load_acquire(&m->flag) == 1) {
        copy_shared(m->bytes, bytes, sizeof bytes);
    }
}

LITMUS(mp_relaxed, "message-relaxed", message_relaxed, end_message, true);
LITMUS(mp_released, "message-released", message_released, end_message, false);
LITMUS(mp_fenced, "message-fenced", message_fenced, end_message, false);
LITMUS(copy_wrong, "copy-relaxed", copy_early, NULL, true);
LITMUS(copy_right, "copy-released", copy_handed_over, NULL, false);
LITMUS(overwritten, "overwrite-relaxed", overwritten_early, NULL, true);

/* -- the kernel ------------------------------------------------------------------------------------ */

/* A sleeper whose word changes without a wake. */
static void
sleep_unwoken(int thread)
{
    if (thread == 0) {
        store_release(&m->futex, 1);
    } else {
        futex_wait(&m->futex, 0, model_now() + 1);
    }
}

static void
sleep_woken(int thread)
{
    if (thread == 0) {
        store_release(&m->futex, 1);
        futex_wake(&m->futex, 1);
    } else {
        futex_wait(&m->futex, 0, model_now() + 1);
    }
}

/* Two that wait for each other. */
static void
sleep_both(int thread)
{
    (void)thread;
    futex_wait(&m->futex, 0, INT64_MAX);
}

LITMUS(sleep_wrong, "wake-forgotten", sleep_unwoken, NULL, true);
LITMUS(sleep_right, "wake", sleep_woken, NULL, false);
LITMUS(deadlock, "deadlock", sleep_both, NULL, true);

/* What a process wrote before it died is seen by the one that finds its lock free. */
static void
death_seen(int thread)
{
    char bytes[16] = {1};
    if (thread == 0) {
        copy_shared(m->bytes, bytes, sizeof bytes);
        store_relaxed(&m->data, 1);
        store_relaxed(&m->data, 2);
        return;
    }
    if (model_byte_is_unlocked(1, 0)) {
        copy_shared(bytes, m->bytes, sizeof bytes);
        model_check(bytes[0] == 1 && load_relaxed(&m->data) != 2);
    }
}

/* The same, without the look at the lock. */
static void
death_unseen(int thread)
{
    char bytes[16] = {1};
    if (thread == 0) {
        death_seen(0);
    } else {
        copy_shared(bytes, m->bytes, sizeof bytes);
    }
}

#define LITMUS_DEATH(id, text, body, wrong)                                                          \
    SCENARIO(id) = {.name = "litmus-" text,                                                          \
                    .about = wrong ? "the model finds what must go wrong" : "the model allows no more than C11", \
                    .threads = 2,                                                                    \
                    .deaths = 1,                                                                     \
                    .bound = 9,                                                                      \
                    .quick = 9,                                                                      \
                    .fails = wrong,                                                                  \
                    .prepare = prepare,                                                              \
                    .begin = begin,                                                                  \
                    .thread = body}

LITMUS_DEATH(death_right, "death-seen", death_seen, false);
LITMUS_DEATH(death_wrong, "death-unseen", death_unseen, true);
