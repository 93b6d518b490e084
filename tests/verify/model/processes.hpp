/* Processes that sleep, die and are stopped, the locks of their places, and time. */
#ifndef MODEL_PROCESSES_HPP
#define MODEL_PROCESSES_HPP

#include "model/mutants.hpp"

namespace {

struct process {
    jmp_buf top;
    bool dead, finished, parked, stopped, was_stopped, timed_out;
    uint32_t *word; /* that it sleeps on */
    int asleep_since; /* the number of its sleep */
    int64_t until;
};

process processes[MODEL_THREADS];
int64_t now;
int pauses, deaths, stops, sleeps;
int lock_holders[PEERS], first_holders[PEERS]; /* descriptor, or -1; first_holders: after `prepare` */

void park()
{
    rl::ctx().park_current_thread(false, false, false, RL_INFO);
}

void unpark(int thread)
{
    processes[thread].parked = false;
    processes[thread].word = nullptr;
    rl::ctx().unpark_thread((rl::thread_id_t)thread, false, RL_INFO);
}

bool somebody_runs()
{
    for (int thread = 0; thread < scenario->threads; thread++) {
        if (!processes[thread].finished && !processes[thread].parked) {
            return true;
        }
    }
    return false;
}

rl::thread_info<MODEL_THREADS> &relacy_thread(int thread)
{
    using threads = rl::aligned<rl::thread_info<MODEL_THREADS>>;
    auto *self = static_cast<threads *>(static_cast<rl::thread_info<MODEL_THREADS> *>(rl::ctx().threadx_));
    return self[thread - thread_now()];
}

/* A store is seen by all within the milliseconds that pass: a process that has read an older value before
   does not read it again. Orders nothing else. */
void let_stores_arrive()
{
    for (int thread = 0; thread < scenario->threads; thread++) {
        rl::thread_info<MODEL_THREADS> &info = relacy_thread(thread);
        info.last_yield_ = info.own_acq_rel_order_;
    }
}

/* Called when nobody runs: the first sleeper's time is over, or a stopped process goes on. Returns which
   thread goes on, or -1 if all have finished. It is not unparked yet. */
int let_time_pass()
{
    int first = -1, stopped = -1;
    for (int thread = 0; thread < scenario->threads; thread++) {
        if (processes[thread].finished) {
            continue;
        }
        if (processes[thread].stopped) {
            stopped = thread;
        } else if (first < 0 || processes[thread].until < processes[first].until) {
            first = thread;
        }
    }
    if (stopped >= 0 && (first < 0 || pauses >= PAUSES_STOPPED || processes[first].until == INT64_MAX)) {
        processes[stopped].stopped = false;
        TRACE("thread %d is continued", stopped);
        return stopped;
    }
    if (first < 0) {
        return -1;
    }
    if (!scenario->time && deaths == 0 && stops == 0) {
        fail("all sleep, and nobody died: a wake was lost");
    }
    if (processes[first].until == INT64_MAX || pauses++ > PAUSES_MAX) {
        fail("nobody goes on, however long it takes");
    }
    now = processes[first].until > now ? processes[first].until : now;
    processes[first].timed_out = true;
    let_stores_arrive();
    TRACE("time passes, thread %d looks again", first);
    return first;
}

/* Parks this thread until another unparks it. */
void sleep_here()
{
    process &self = processes[thread_now()];
    self.parked = true;
    if (!somebody_runs()) {
        int next = let_time_pass();
        if (next == thread_now()) {
            self.parked = false;
            self.word = nullptr;
            return;
        }
        unpark(next);
    }
    park();
}

void finish()
{
    processes[thread_now()].finished = true;
    if (!somebody_runs()) {
        int next = let_time_pass();
        if (next >= 0) {
            unpark(next);
        }
    }
}

const char *last_point[MODEL_THREADS]; /* RING_POINT */
const char *points[POINTS_MAX];        /* those that were reached */
int point_count;
bool show_points;

void note_point(const char *name)
{
    for (int index = 0; index < point_count; index++) {
        if (strcmp(points[index], name) == 0) {
            return;
        }
    }
    if (point_count < POINTS_MAX) {
        points[point_count++] = name;
    }
}

/* A step in the kernel that reads or changes the lock of a place. The kernel's own lock orders these steps. */
atomic_cell &kernel_cell(int64_t at)
{
    int place = (int)(at & (PEERS - 1));
    return atomic_at(MEMORY_MAX / 4 + (size_t)place, 0);
}

void kernel_step(int64_t at, bool writes)
{
    int place = (int)(at & (PEERS - 1));
    step here(locks[place], writes);
    kernel_cell(at).rmw(rl::rmw_type_t<rl::rmw_type_add>(), (uint64_t)0, rl::mo_acq_rel, RL_INFO);
}

[[noreturn]] void die()
{
    TRACE("is killed here, after the point %s", last_point[thread_now()]);
    deaths++;
    processes[thread_now()].dead = true;
    pending[thread_now()].site = nullptr;
    for (int place = 0; place < PEERS; place++) {
        if (lock_holders[place] == thread_now()) {
            kernel_step(place, true);
            lock_holders[place] = -1;
        }
    }
    _longjmp(processes[thread_now()].top, 1);
}

void stop()
{
    TRACE("is stopped here, after the point %s", last_point[thread_now()]);
    stops++;
    processes[thread_now()].stopped = processes[thread_now()].was_stopped = true;
    processes[thread_now()].until = INT64_MAX;
    sleep_here();
}

/* Called before each step that others can see. A process may die or be stopped there. So it may at each
   RING_POINT: between a point and the next such step nothing happens that others can see. */
void may_end_here()
{
    if (checking || (scenario->spared >> thread_now() & 1) != 0) {
        return;
    }
    bool may_die = deaths < scenario->deaths, may_stop = stops < scenario->stops;
    if (!may_die && !may_stop) {
        return;
    }
    unsigned chosen = rl::rand(1u + may_die + may_stop);
    if (chosen == 1 && may_die) {
        die();
    } else if (chosen != 0) {
        stop();
    }
}

} // namespace

#endif
