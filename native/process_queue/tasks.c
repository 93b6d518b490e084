/* SpillFile.task_done and join: how many objects of a ProcessQueue are not done yet, and waiting for them.

   put and get count nothing for this. `tail` and `head` have the numbers of messages ever sent and
   received, and each peer's place has the number that it received. So only `task_done` counts, for the peer
   that calls it. What was received, but neither by a live peer nor reported by a dead one, is lost: its
   process exited before it called task_done. A process can be killed at any moment: a message counts as
   received when `head` has passed it, and the count of a dead peer's place is not used. */
#include "process_queue/tasks.h"

static task_table *
table_of(const spill_object *self)
{
    return (task_table *)((char *)self->table + TASKS_START);
}

/* Returns a 64-bit count from its lower bits and from its value at the last look. */
static uint64_t
extended(uint64_t last, uint64_t word)
{
    return last + ((count_of(word) - last) & COUNT_MASK);
}

/* Returns the tasks that a peer has reported as done. */
static uint64_t
done_by(const task_counts *counts, uint32_t owner)
{
    return counts->owner == owner ? counts->done - counts->base : 0;
}

/* Tells whether a place has a live peer. One system call for each place that has another peer. */
static bool
is_live(const ring *r, uint32_t index)
{
    return load_acquire(&r->peers[index].joined)
        && (index == r->index || !peer_lock_is_free(r->fd, index));
}

static uint32_t
places(const ring *r)
{
    uint32_t high = load_relaxed(&r->shared->peers_high);
    return high < CHANNEL_PEERS ? high + 1 : CHANNEL_PEERS;
}

/* Finds the tasks of processes that exited. Requires receive_lock. */
static void
find_lost(const ring *r, task_table *tasks, uint64_t done)
{
    uint64_t live = 0; /* received by live peers; in place of what they reported, which is in `done` */
    for (uint32_t index = 0; index < places(r); index++) {
        if (is_live(r, index)) {
            const channel_peer *peer = &r->peers[index];
            uint32_t owner = owner_of(index, load_relaxed(&peer->generation));
            live += load_relaxed(&peer->received) - done_by(&tasks->peers[index], owner);
        }
    }
    int64_t lost = (int64_t)(tasks->got - tasks->lost - done - live);
    /* Negative if a child reported the tasks of its parent and exited. */
    if (lost > 0) {
        tasks->lost += (uint64_t)lost;
    }
}

/* Returns the objects that wait in the memory of live processes. The acquire pairs with the store in
   ipckit_tasks_note_waiting: an object that is not counted any more was sent before. */
static uint64_t
waiting_in_processes(const ring *r, const task_table *tasks)
{
    uint64_t waiting = 0;
    for (uint32_t index = 0; index < places(r); index++) {
        uint64_t word = load_acquire(&tasks->peers[index].waiting);
        uint32_t generation = load_relaxed(&r->peers[index].generation);
        if ((uint32_t)word != 0 && word >> 32 == owner_of(index, generation) && is_live(r, index)) {
            waiting += (uint32_t)word;
        }
    }
    return waiting;
}

/* Returns the number of tasks that are not done. If all of them may belong to processes that exited,
   looks for such processes if `search` is set. Requires receive_lock, so that `head` and the counts of
   the peers do not change. Reads what waits in processes before `tail`: an object goes this way. */
static int64_t
unfinished(const ring *r, task_table *tasks, bool search)
{
    uint64_t waiting = waiting_in_processes(r, tasks), done = 0;
    tasks->put = extended(tasks->put, load_acquire(&r->shared->tail));
    tasks->got = extended(tasks->got, load_acquire(&r->shared->head));
    for (uint32_t index = 0; index < places(r); index++) {
        done += tasks->peers[index].done;
    }
    uint64_t before = waiting + tasks->put - done;
    if (search && before > tasks->lost && waiting == 0 && tasks->put == tasks->got) {
        find_lost(r, tasks, done);
    }
    return (int64_t)(before - tasks->lost);
}

/* Reports one task as done. Requires receive_lock. Each store leaves the counts valid: until `owner` is
   stored, the peer has reported nothing. */
static void
count_done(const ring *r, task_table *tasks)
{
    task_counts *counts = &tasks->peers[r->index];
    if (counts->owner != r->owner) {
        counts->base = counts->done;
        store_release(&counts->owner, r->owner);
    }
    store_release(&counts->done, counts->done + 1);
}

/* Takes receive_lock, and acquires the core. Runs signal handlers, which may raise or fork. Returns the core
   and sets `*forks`; or NULL with an exception set. */
static channel_core *
lock_tasks(const spill_object *self, const char *op, long *forks)
{
    for (;;) {
        channel_core *core = ipckit_channel_joined(self->channel, op);
        if (core == NULL) {
            return NULL;
        }
        *forks = ipckit_core_acquire(core);
        channel_lock *lock = &core->r.shared->receive_lock;
        ring_result result = ring_try_lock(&core->r, lock) ? RING_OK : RING_BUSY;
        if (result != RING_OK) {
            Py_BEGIN_ALLOW_THREADS
            result = ring_lock(&core->r, lock, INT64_MAX);
            Py_END_ALLOW_THREADS
        }
        if (result == RING_OK) {
            return core;
        }
        ipckit_core_release(core, *forks);
        if (result == RING_INTERRUPTED ? PyErr_CheckSignals() < 0
                                       : ipckit_ring_error(self->channel, result, op, NULL) == NULL) {
            return NULL;
        }
    }
}

static void
unlock_tasks(channel_core *core, long forks)
{
    ring_unlock(&core->r, &core->r.shared->receive_lock);
    ipckit_core_release(core, forks);
}

const char ipckit_tasks_done_doc[] = (
             "task_done($self)\n--\n\n"
             "Report a task as done. Return False if no task is left.");

PyObject *
ipckit_tasks_done(spill_object *self, PyObject *Py_UNUSED(ignored))
{
    long forks;
    channel_core *core = lock_tasks(self, "task_done", &forks);
    if (core == NULL) {
        return NULL;
    }
    task_table *tasks = table_of(self);
    int64_t left = unfinished(&core->r, tasks, false);
    if (left > 0) {
        count_done(&core->r, tasks);
    }
    /* A process that is about to sleep has set the flag before it took the lock. */
    bool wakes = left == 1 && (load_relaxed(&tasks->joiners) & WORD_SLEEPERS);
    unlock_tasks(core, forks);
    if (wakes) {
        ring_wake(&tasks->joiners, INT_MAX);
    }
    return PyBool_FromLong(left > 0);
}

int
ipckit_tasks_broken(spill_object *self)
{
    long forks;
    channel_core *core = lock_tasks(self, "get", &forks);
    if (core == NULL) {
        return -1;
    }
    task_table *tasks = table_of(self);
    count_done(&core->r, tasks);
    tasks->broken++;
    unlock_tasks(core, forks);
    ring_wake(&tasks->joiners, INT_MAX);
    return 0;
}

const char ipckit_tasks_count_doc[] = (
             "tasks($self)\n--\n\n"
             "Return (tasks that are not done, tasks that processes which exited did not finish).");

PyObject *
ipckit_tasks_count(spill_object *self, PyObject *Py_UNUSED(ignored))
{
    long forks;
    channel_core *core = lock_tasks(self, "tasks", &forks);
    if (core == NULL) {
        return NULL;
    }
    task_table *tasks = table_of(self);
    int64_t left = unfinished(&core->r, tasks, true);
    uint64_t lost = tasks->lost + tasks->broken;
    unlock_tasks(core, forks);
    return Py_BuildValue("LK", (long long)left, (unsigned long long)lost);
}

const char ipckit_tasks_join_doc[] = (
             "join($self, timeout, /)\n--\n\n"
             "Wait until no task is left. Return the tasks that processes which exited did not finish;\n"
             "-1 at the timeout.");

PyObject *
ipckit_tasks_join(spill_object *self, PyObject *timeout)
{
    int64_t wait_ns;
    if (ipckit_wait_arg(timeout, &wait_ns) < 0) {
        return NULL;
    }
    int64_t deadline = wait_ns == WAIT_FOREVER ? INT64_MAX : deadline_after(wait_ns);
    task_table *tasks = table_of(self);
    for (;;) {
        long forks;
        channel_core *core = ipckit_channel_joined(self->channel, "join");
        if (core == NULL) {
            return NULL;
        }
        uint32_t ticket = ring_prepare_sleep(&core->r, &tasks->joiners, WORD_SLEEPERS);
        core = lock_tasks(self, "join", &forks);
        if (core == NULL) {
            return NULL;
        }
        int64_t left = unfinished(&core->r, tasks, true);
        uint64_t lost = tasks->lost + tasks->broken;
        unlock_tasks(core, forks);
        int64_t now = monotonic_ns();
        if (left <= 0) {
            ring_wake(&tasks->joiners, INT_MAX); /* if this call found lost tasks, others wait for the same */
            return PyLong_FromUnsignedLongLong(lost);
        }
        if (now >= deadline) {
            return PyLong_FromLong(-1);
        }
        Py_BEGIN_ALLOW_THREADS
        futex_wait(&tasks->joiners, ticket, earlier(deadline, now + PEER_CHECK_NS));
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0) {
            return NULL;
        }
    }
}

const char ipckit_tasks_note_waiting_doc[] = (
             "note_waiting($self, waiting, /)\n--\n\n"
             "Note how many objects wait in this process's memory: the length of a sequence.");

/* Counts in C, so that no other thread runs between the count and its store. */
PyObject *
ipckit_tasks_note_waiting(spill_object *self, PyObject *waiting)
{
    channel_core *core = self->channel->core;
    Py_ssize_t count = PyObject_Size(waiting);
    if (count < 0) {
        return NULL;
    }
    if (core != NULL && core->joined) {
        uint64_t shown = (uint64_t)count < UINT32_MAX ? (uint64_t)count : UINT32_MAX;
        uint64_t word = (uint64_t)core->r.owner << 32 | shown;
        store_release(&table_of(self)->peers[core->r.index].waiting, word);
    }
    Py_RETURN_NONE;
}
