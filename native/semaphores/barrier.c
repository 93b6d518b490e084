/* Waiting at a barrier, in one native call: a signal handler's exception never comes between taking the barrier's
   mutex and releasing it, nor while the process is counted as there. */
#include "ring/clock.h"
#include "semaphores/semop.h"

#include <errno.h>

/* The semaphores of a set; those of round 0 are followed by those of round 1. */
enum { MUTEX, ROUND, THERE, TICKETS = 4, PARTIES = 6, BARRIER_COUNT };

/* What a process that comes finds, while it holds the mutex. */
typedef struct {
    int round;
    int there;   /* in this round */
    int leaving; /* in the other round, still on their way out */
    int stale;   /* tickets of the other round that nobody will take */
    int parties;
} situation;

static int
value_of(int id, int index, int *value)
{
    *value = semctl(id, index, GETVAL);
    return *value < 0 ? -1 : 0;
}

static int
look(int id, situation *now)
{
    if (value_of(id, ROUND, &now->round) < 0) {
        return -1;
    }
    if (now->round > 1) {
        errno = EUCLEAN;
        return -1;
    }
    int other = 1 - now->round;
    if (value_of(id, THERE + now->round, &now->there) < 0
        || value_of(id, THERE + other, &now->leaving) < 0
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

static int
unlock(int id)
{
    struct sembuf op = sem_op(MUTEX, +1, SEM_UNDO);
    return ipckit_semop(id, &op, 1, 0);
}

static int
unlock_after_error(int id)
{
    int error = errno;
    unlock(id);
    errno = error;
    return -1;
}

/* What is left of a timeout; not 0 unless it was, which would mean not to wait. */
static int64_t
left_of(int64_t wait_ns, int64_t deadline)
{
    if (wait_ns == WAIT_FOREVER || wait_ns == 0) {
        return wait_ns;
    }
    int64_t left = deadline - monotonic_ns();
    return left > 0 ? left : 1;
}

/* The last to come gives tickets to the others, begins the other round, and takes away what processes that died on
   their way out have left there; all at once, with the mutex. */
static int
open_round(int id, const situation *now)
{
    struct sembuf ops[4];
    size_t count = 0;
    ops[count++] = sem_op(ROUND, 1 - 2 * now->round, 0);
    ops[count++] = sem_op(MUTEX, +1, SEM_UNDO);
    if (now->there > 0) {
        ops[count++] = sem_op(TICKETS + now->round, now->there, 0);
    }
    if (now->stale > 0) {
        ops[count++] = sem_op(TICKETS + 1 - now->round, -now->stale, 0);
    }
    return ipckit_semop(id, ops, count, 0) < 0 ? unlock_after_error(id) : 1;
}

/* Takes this process out of the count, or lets it out if all have come meanwhile: then true. With the mutex, if that
   can be had before another signal handler raises; without it the process is gone as if it had died. */
static bool
withdraw(int id, int round)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    struct sembuf lock = sem_op(MUTEX, -1, SEM_UNDO);
    bool locked = ipckit_semop(id, &lock, 1, WAIT_FOREVER) == 0;
    struct sembuf out[] = {sem_op(TICKETS + round, -1, 0), sem_op(THERE + round, -1, SEM_UNDO)};
    struct sembuf gone[] = {sem_op(TICKETS + round, 0, 0), sem_op(THERE + round, -1, SEM_UNDO)};
    bool came;
    do { /* one of the two can be done, unless the set was removed */
        came = ipckit_semop(id, out, 2, 0) == 0;
    } while (!came && ipckit_semop(id, gone, 2, 0) < 0 && errno == EAGAIN
             && semctl(id, THERE + round, GETVAL) > 0);
    if (locked) {
        unlock(id);
    }
    if (type != NULL) {
        PyErr_Clear();
        PyErr_Restore(type, value, traceback);
    }
    return came;
}

/* Comes, with the mutex, which is released; and waits for the others. */
static int
come(int id, int round, int64_t wait_ns, int64_t deadline)
{
    struct sembuf in[] = {sem_op(THERE + round, +1, SEM_UNDO), sem_op(MUTEX, +1, SEM_UNDO)};
    if (ipckit_semop(id, in, 2, 0) < 0) {
        return unlock_after_error(id);
    }
    struct sembuf out[] = {sem_op(TICKETS + round, -1, 0), sem_op(THERE + round, -1, SEM_UNDO)};
    int result = ipckit_semop(id, out, 2, left_of(wait_ns, deadline));
    if (result == 0) {
        return 0;
    }
    int error = errno;
    bool came = withdraw(id, round);
    errno = error;
    bool raised = result == SEMOP_INTERRUPTED || PyErr_Occurred() != NULL;
    if (came && !raised && (error == EAGAIN || error == ETIMEDOUT)) {
        return 0;
    }
    return raised ? SEMOP_INTERRUPTED : -1;
}

/* 1 for the last to come, 0 for the others, -1 with errno, or SEMOP_INTERRUPTED. */
static int
wait_at(int id, int64_t wait_ns)
{
    int64_t deadline = wait_ns > 0 ? deadline_after(wait_ns) : 0;
    for (;;) {
        struct sembuf lock = sem_op(MUTEX, -1, SEM_UNDO);
        situation now;
        int result = ipckit_semop(id, &lock, 1, left_of(wait_ns, deadline));
        if (result < 0) {
            return result;
        }
        if (look(id, &now) < 0) {
            return unlock_after_error(id);
        }
        bool last = now.there + 1 >= now.parties;
        if (!last || now.leaving == 0) {
            return last ? open_round(id, &now) : come(id, now.round, wait_ns, deadline);
        }
        /* Of the round before a process is still on the way out, with a ticket of its own. */
        struct sembuf empty = sem_op(THERE + 1 - now.round, 0, 0);
        if (unlock(id) < 0) {
            return -1;
        }
        result = ipckit_semop(id, &empty, 1, left_of(wait_ns, deadline));
        if (result < 0) {
            return result;
        }
    }
}

PyDoc_STRVAR(barrier_wait_doc,
             "barrier_wait(row, timeout, /)\n--\n\n"
             "Wait at the barrier in a semaphore set: whether this was the last to come. OSError:\n"
             "EAGAIN with a timeout of 0, ETIMEDOUT at the deadline, EUCLEAN if it is no barrier,\n"
             "else as semop(2) gives it.");

static PyObject *
native_barrier_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    const native_state *state = PyModule_GetState(module);
    int64_t wait_ns;
    if (ipckit_check_nargs("barrier_wait", nargs, 2) < 0 || ipckit_wait_arg(args[1], &wait_ns) < 0) {
        return NULL;
    }
    if (!PyObject_TypeCheck(args[0], state->semaphore_row_type)
        || ((row_object *)args[0])->count != BARRIER_COUNT) {
        PyErr_SetString(PyExc_TypeError, "a barrier's semaphores are wanted");
        return NULL;
    }
    int result = wait_at(((row_object *)args[0])->id, wait_ns);
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
    return PyModule_AddFunctions(module, functions);
}
