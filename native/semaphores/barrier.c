/* Waiting at a barrier, in one native call. A signal handler's exception therefore can't come between acquiring the
   barrier's mutex and releasing it, nor while the process counts as arrived. */
#include "semaphores/semop.h"
#include "ring/clock.h"

#include <errno.h>

/* The semaphores of the set. Two rounds alternate: while processes still leave one round, others arrive in the next.
   ARRIVED and TICKETS are followed by the same semaphore of round 1. */
enum {
    MUTEX,
    ROUND,       /* the current round, 0 or 1 */
    ARRIVED,     /* the processes in a round, with undo */
    TICKETS = 4, /* a process takes one ticket to leave a round */
    PARTIES = 6, /* the number of processes that wait for each other */
    BARRIER_COUNT
};

/* A snapshot of the semaphores, taken while this process holds the mutex. */
typedef struct {
    int round;
    int arrived; /* in the current round */
    int leaving; /* processes of the other round that have not left yet */
    int stale;   /* tickets of the other round, for processes that died before they left */
    int parties;
} snapshot;

/* Reads one value. Returns 0, or -1 with errno. */
static int
value_of(int id, int index, int *value)
{
    *value = semctl(id, index, GETVAL);
    return *value < 0 ? -1 : 0;
}

/* Takes the snapshot. Returns 0, or -1 with errno: EUCLEAN if the set is not a barrier. */
static int
take_snapshot(int id, snapshot *now)
{
    if (value_of(id, ROUND, &now->round) < 0) {
        return -1;
    }
    if (now->round > 1) {
        errno = EUCLEAN;
        return -1;
    }
    int other = 1 - now->round;
    if (value_of(id, ARRIVED + now->round, &now->arrived) < 0
        || value_of(id, ARRIVED + other, &now->leaving) < 0
        || value_of(id, TICKETS + other, &now->stale) < 0) {
        return -1;
    }
    return value_of(id, PARTIES, &now->parties);
}

static struct sembuf
sem_op(int index, int delta, int flags)
{
    return (struct sembuf){
        .sem_num = (unsigned short)index, .sem_op = (short)delta, .sem_flg = (short)flags};
}

/* Releases the mutex. Returns as ipckit_semop. */
static int
unlock(int id)
{
    struct sembuf op = sem_op(MUTEX, +1, SEM_UNDO);
    return ipckit_semop(id, &op, 1, 0);
}

/* Releases the mutex and keeps errno. Returns -1. */
static int
unlock_after_error(int id)
{
    int error = errno;
    unlock(id);
    errno = error;
    return -1;
}

/* Ends the round, for the last process to arrive, which holds the mutex. In one step it gives tickets to the other
   processes, makes the other round the current one, removes that round's stale tickets and releases the mutex. Returns
   1, or -1 with errno and the mutex released. */
static int
end_round(int id, const snapshot *now)
{
    struct sembuf ops[4];
    size_t count = 0;
    ops[count++] = sem_op(ROUND, 1 - 2 * now->round, 0);
    ops[count++] = sem_op(MUTEX, +1, SEM_UNDO);
    if (now->arrived > 0) {
        ops[count++] = sem_op(TICKETS + now->round, now->arrived, 0);
    }
    if (now->stale > 0) {
        ops[count++] = sem_op(TICKETS + 1 - now->round, -now->stale, 0);
    }
    return ipckit_semop(id, ops, count, 0) < 0 ? unlock_after_error(id) : 1;
}

/* Removes this process from a round after its wait failed. Returns true if all processes had arrived before that: then
   this process has taken its ticket. It holds the mutex, unless another signal handler raises while it waits for the
   mutex; then it leaves the round as a process that dies does. Keeps the exception that is set. */
static bool
withdraw(int id, int round)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    struct sembuf lock = sem_op(MUTEX, -1, SEM_UNDO);
    bool locked = ipckit_semop(id, &lock, 1, WAIT_FOREVER) == 0;
    struct sembuf leave[] = {sem_op(TICKETS + round, -1, 0), sem_op(ARRIVED + round, -1, SEM_UNDO)};
    struct sembuf give_up[] = {sem_op(TICKETS + round, 0, 0), sem_op(ARRIVED + round, -1, SEM_UNDO)};
    bool left;
    do { /* one of the two is possible, unless the set was removed */
        left = ipckit_semop(id, leave, 2, 0) == 0;
    } while (!left && ipckit_semop(id, give_up, 2, 0) < 0 && errno == EAGAIN
             && semctl(id, ARRIVED + round, GETVAL) > 0);
    if (locked) {
        unlock(id);
    }
    if (type != NULL) {
        PyErr_Clear();
        PyErr_Restore(type, value, traceback);
    }
    return left;
}

/* Arrives in the round, releases the mutex, which this process holds, and waits for a ticket. Returns 0,
   SEMOP_INTERRUPTED, or -1 with errno; in all cases the process is not in the round any more. */
static int
arrive(int id, int round, int64_t wait_ns, int64_t deadline)
{
    struct sembuf enter[] = {sem_op(ARRIVED + round, +1, SEM_UNDO), sem_op(MUTEX, +1, SEM_UNDO)};
    if (ipckit_semop(id, enter, 2, 0) < 0) {
        return unlock_after_error(id);
    }
    struct sembuf leave[] = {sem_op(TICKETS + round, -1, 0), sem_op(ARRIVED + round, -1, SEM_UNDO)};
    int result = ipckit_semop(id, leave, 2, remaining_wait(wait_ns, deadline));
    if (result == 0) {
        return 0;
    }
    int error = errno;
    bool left = withdraw(id, round);
    errno = error;
    bool raised = result == SEMOP_INTERRUPTED || PyErr_Occurred() != NULL;
    if (left && !raised && (error == EAGAIN || error == ETIMEDOUT)) {
        return 0;
    }
    return raised ? SEMOP_INTERRUPTED : -1;
}

/* Releases the mutex and waits until the last process of the other round has taken its ticket and left. Returns as
   ipckit_semop. */
static int
await_leaving(int id, int round, int64_t wait_ns, int64_t deadline)
{
    struct sembuf empty = sem_op(ARRIVED + 1 - round, 0, 0);
    if (unlock(id) < 0) {
        return -1;
    }
    return ipckit_semop(id, &empty, 1, remaining_wait(wait_ns, deadline));
}

/* Waits at the barrier. Returns 1 for the last process to arrive, 0 for the others, SEMOP_INTERRUPTED, or -1 with
   errno. */
static int
wait_at(int id, int64_t wait_ns)
{
    int64_t deadline = wait_ns > 0 ? deadline_after(wait_ns) : 0;
    for (;;) {
        struct sembuf lock = sem_op(MUTEX, -1, SEM_UNDO);
        snapshot now;
        int result = ipckit_semop(id, &lock, 1, remaining_wait(wait_ns, deadline));
        if (result < 0) {
            return result;
        }
        if (take_snapshot(id, &now) < 0) {
            return unlock_after_error(id);
        }
        bool last = now.arrived + 1 >= now.parties;
        if (!last) {
            return arrive(id, now.round, wait_ns, deadline);
        }
        if (now.leaving == 0) {
            return end_round(id, &now);
        }
        result = await_leaving(id, now.round, wait_ns, deadline);
        if (result < 0) {
            return result;
        }
    }
}

PyDoc_STRVAR(barrier_wait_doc,
             "barrier_wait(set, timeout, /)\n--\n\n"
             "Wait at the barrier in a semaphore set. Returns whether this process was the last to\n"
             "arrive. CallFailed: EAGAIN with a timeout of 0, ETIMEDOUT at the deadline, EUCLEAN if\n"
             "the set is not a barrier, or what semop(2) sets.");

static PyObject *
native_barrier_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    const native_state *state = PyModule_GetState(module);
    int64_t wait_ns;
    if (ipckit_check_nargs("barrier_wait", nargs, 2) < 0 || ipckit_wait_arg(args[1], &wait_ns) < 0) {
        return NULL;
    }
    if (!PyObject_TypeCheck(args[0], state->semaphore_set_type)
        || ((set_object *)args[0])->count != BARRIER_COUNT) {
        PyErr_SetString(PyExc_TypeError, "expected a barrier's semaphore set");
        return NULL;
    }
    int result = wait_at(((set_object *)args[0])->id, wait_ns);
    if (result < 0) {
        return result == SEMOP_INTERRUPTED ? NULL : ipckit_call_failed();
    }
    return PyBool_FromLong(result);
}

static PyMethodDef functions[] = {
    {"barrier_wait", (PyCFunction)(void (*)(void))native_barrier_wait, METH_FASTCALL,
     barrier_wait_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_barrier(PyObject *module)
{
    if (PyModule_AddIntConstant(module, "BARRIER_MUTEX", MUTEX) < 0
        || PyModule_AddIntConstant(module, "BARRIER_ROUND", ROUND) < 0
        || PyModule_AddIntConstant(module, "BARRIER_ARRIVED", ARRIVED) < 0
        || PyModule_AddIntConstant(module, "BARRIER_PARTIES", PARTIES) < 0
        || PyModule_AddIntConstant(module, "BARRIER_COUNT", BARRIER_COUNT) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
