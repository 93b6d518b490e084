/* The kernel, as the tested code calls it: futexes, the locks of places, the clock. */
#ifndef MODEL_KERNEL_HPP
#define MODEL_KERNEL_HPP

#include "model/processes.hpp"

int64_t model_now(void)
{
    return running ? now : START;
}

/* The kernel compares the word and begins the sleep in one step, after a full barrier. */
int model_futex_wait(uint32_t *word, uint32_t expected, int64_t until_ns)
{
    if (checking) {
        fail("at the end, a lock is still held");
    }
    may_end_here();
    process &self = processes[thread_now()];
    perform_pending();
    size_t index = index_of(word);
    rl::ctx().atomic_thread_fence_seq_cst();
    words[index].readers |= 1u << thread_now();
    rl::ctx().disable_preemption();
    uint32_t value = (uint32_t)atomic_at(index, first_value(index, 4)).load(rl::mo_relaxed, RL_INFO);
    rl::ctx().enable_preemption();
    if (value != expected) {
        TRACE("futex_wait: the word is %#x, not %#x", value, expected);
        return ERROR_AGAIN;
    }
    TRACE("futex_wait: sleeps at %#zx", index * 4);
    self.word = word;
    self.until = until_ns;
    self.timed_out = false;
    self.asleep_since = sleeps++;
    sleep_here();
    /* The scheduler's barriers: a thread that was woken sees what its waker had stored. */
    rl::ctx().atomic_thread_fence_seq_cst();
    TRACE("futex_wait: %s", self.timed_out ? "timed out" : "woken");
    return self.timed_out ? ERROR_TIMED_OUT : 0;
}

int model_futex_wake(uint32_t *word, int count)
{
    if (!running || checking) {
        return 0;
    }
    may_end_here();
    perform_pending();
    rl::ctx().atomic_thread_fence_seq_cst();
    int woken = 0;
    for (; woken < count; woken++) {
        int sleepers[MODEL_THREADS], found = 0;
        for (int thread = 0; thread < scenario->threads; thread++) {
            if (processes[thread].parked && processes[thread].word == word) {
                sleepers[found++] = thread;
            }
        }
        if (found == 0) {
            break;
        }
        /* Any of them: the kernel prefers those of higher priority. Of one priority, it wakes the first. */
        int chosen = sleepers[found > 1 && !scenario->fifo ? rl::rand((unsigned)found) : 0];
        for (int at = 1; scenario->fifo && at < found; at++) {
            bool earlier = processes[sleepers[at]].asleep_since < processes[chosen].asleep_since;
            chosen = earlier ? sleepers[at] : chosen;
        }
        TRACE("futex_wake: wakes thread %d", chosen);
        unpark(chosen);
    }
    return woken;
}

bool model_lock_byte(int fd, int64_t at)
{
    int place = (int)(at & (PEERS - 1));
    if ((at & 0xffff) >= PEERS) {
        return false;
    }
    if (!running) {
        bool free = lock_holders[place] < 0;
        lock_holders[place] = free ? fd : lock_holders[place];
        return free;
    }
    may_end_here();
    kernel_step(at, true);
    bool free = lock_holders[place] < 0 || lock_holders[place] == fd;
    lock_holders[place] = free ? fd : lock_holders[place];
    TRACE("takes the lock of place %d: %s", place, free ? "yes" : "no");
    return free;
}

void model_unlock_byte(int fd, int64_t at)
{
    int place = (int)(at & (PEERS - 1));
    if (running) {
        may_end_here();
        kernel_step(at, true);
        TRACE("releases the lock of place %d", place);
    }
    if (lock_holders[place] == fd) {
        lock_holders[place] = -1;
    }
}

bool model_byte_is_unlocked(int fd, int64_t at)
{
    int place = (int)(at & (PEERS - 1));
    if ((at & 0xffff) >= PEERS) {
        return true;
    }
    if (running) {
        kernel_step(at, false);
    }
    bool free = lock_holders[place] < 0 || lock_holders[place] == fd;
    TRACE("the lock of place %d is %s", place, free ? "free" : "held");
    return free;
}

void model_point(const char *name)
{
    if (running && !checking) {
        last_point[thread_now()] = name;
        if (show_points) {
            note_point(name);
        }
    }
}

#endif
