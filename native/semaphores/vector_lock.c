/* Acquiring and releasing a VectorLock. A signal handler's exception can come between two Python instructions.
   Therefore one native call acquires the lock and enters the block, and one native call releases it. Python code
   explains errors, and checks what was acquired. */
#include "semaphores/vector_lock.h"
#include "ring/clock.h"
#include "semaphores/undo_counts.h"

#include <errno.h>

/* _check_acquired returns the drift of semaphores 0 and 1. */
#define DRIFT_OPS 2

/* The first semaphore that `acquire` changes with undo shows whether the lock is held. */
undo_counts
ipckit_lock_counts(const lock_object *self)
{
    for (size_t i = 0; self->set != NULL && i < self->acquire.count; i++) {
        const struct sembuf *op = &self->acquire.ops[i];
        if (op->sem_flg & SEM_UNDO) {
            undo_counts counts = ipckit_undo_counts(((set_object *)self->set)->id, op->sem_num);
            /* A reader adds 1 to acquire, other holders subtract 1. */
            return op->sem_op < 0 ? counts : (undo_counts){-counts.own, -counts.inherited};
        }
    }
    return (undo_counts){0, 0};
}

/* ipckit_semop on a copy of the operations, on the lock's set. `count` is at most LOCK_OPS + DRIFT_OPS. */
static int
operate(const lock_object *self, const struct sembuf *ops, size_t count, int64_t wait_ns)
{
    struct sembuf vector[LOCK_OPS + DRIFT_OPS];
    for (size_t i = 0; i < count; i++) {
        vector[i] = ops[i];
    }
    return ipckit_semop(((set_object *)self->set)->id, vector, count, wait_ns);
}

/* Acquires the lock, counted as a waiter until then. The count is decremented in the same step as the lock is
   acquired, or when the wait fails; by undo if this process dies. Returns as ipckit_semop. */
static int
acquire_as_waiter(const lock_object *self, int64_t wait_ns)
{
    struct sembuf waiter = {.sem_num = (unsigned short)self->waiters, .sem_op = 1, .sem_flg = SEM_UNDO};
    if (operate(self, &waiter, 1, 0) < 0) {
        return -1;
    }
    waiter.sem_op = -1;
    struct sembuf vector[LOCK_OPS + 1];
    for (size_t i = 0; i < self->acquire.count; i++) {
        vector[i] = self->acquire.ops[i];
    }
    vector[self->acquire.count] = waiter;
    int result = operate(self, vector, self->acquire.count + 1, wait_ns);
    if (result != 0) {
        int error = errno;
        operate(self, &waiter, 1, 0);
        errno = error;
    }
    return result;
}

/* Acquires the lock, without the check. Returns as ipckit_semop. */
static int
acquire_once(const lock_object *self, int64_t wait_ns)
{
    if (self->waiters < 0) {
        return operate(self, self->acquire.ops, self->acquire.count, wait_ns);
    }
    int result = operate(self, self->acquire.ops, self->acquire.count, 0);
    bool wait = result < 0 && errno == EAGAIN && wait_ns != 0;
    return wait ? acquire_as_waiter(self, wait_ns) : result;
}

/* Replaces the exception that is set by the one that the Python method returns for it. Returns -1, or 0 with no
   exception set if the method returned None: then the caller tries again. */
static int
explain(lock_object *self, const char *method, PyObject *detail)
{
    PyObject *exception = ipckit_take_exception();
    PyObject *explained = PyObject_CallMethod((PyObject *)self, method, "OO", exception,
                                              detail == NULL ? Py_None : detail);
    Py_DECREF(exception);
    if (explained == Py_None) {
        Py_DECREF(explained);
        return 0;
    }
    ipckit_raise(explained);
    return -1;
}

/* Releases the lock and adds `drift` to the counters, in one step. Returns as ipckit_semop. */
static int
release_with(lock_object *self, const short drift[DRIFT_OPS])
{
    struct sembuf vector[LOCK_OPS + DRIFT_OPS];
    size_t count = 0;
    for (; count < self->release.count; count++) {
        vector[count] = self->release.ops[count];
    }
    for (unsigned short i = 0; i < DRIFT_OPS; i++) {
        if (drift[i] != 0) {
            vector[count++] = (struct sembuf){.sem_num = i, .sem_op = drift[i]};
        }
    }
    return operate(self, vector, count, 0);
}

/* Calls _check_acquired on the lock, which is held. Returns 1 if the lock stays held. Otherwise the lock is released:
   returns 0 to acquire it again, or -1 with an exception set. */
static int
check_acquired(lock_object *self)
{
    static const short no_drift[DRIFT_OPS] = {0, 0};
    short drift[DRIFT_OPS];
    PyObject *verdict = PyObject_CallMethod((PyObject *)self, "_check_acquired", NULL);
    if (verdict == Py_None) {
        Py_DECREF(verdict);
        return 1;
    }
    if (verdict != NULL && PyArg_ParseTuple(verdict, "hh:_check_acquired", &drift[0], &drift[1])) {
        Py_DECREF(verdict);
        if (release_with(self, drift) == 0) {
            return 0;
        }
        ipckit_oserror();
        explain(self, "_explain_release", self->release.given);
        return -1;
    }
    Py_XDECREF(verdict);
    release_with(self, no_drift); /* if that fails too, the exception that is set matters more */
    return -1;
}

/* One attempt of ipckit_lock_acquire: 1 if the lock is held, 0 to try again, -1 with an exception set. */
static int
attempt(lock_object *self, PyObject *timeout, int64_t wait_ns, bool checked)
{
    int result = acquire_once(self, wait_ns);
    if (result == 0) {
        return checked ? check_acquired(self) : 1;
    }
    if (result == SEMOP_INTERRUPTED) {
        return -1;
    }
    ipckit_oserror();
    return explain(self, "_explain_acquire", timeout);
}

int
ipckit_lock_acquire(lock_object *self, PyObject *timeout, bool checked)
{
    int64_t wait_ns;
    if (self->set == NULL) {
        PyErr_SetString(PyExc_ValueError, "the lock has no semaphores");
        return -1;
    }
    if (ipckit_wait_arg(timeout, &wait_ns) < 0) {
        bool bad_value = PyErr_ExceptionMatches(PyExc_ValueError);
        return bad_value ? explain(self, "_explain_acquire", timeout) : -1;
    }
    int64_t deadline = wait_ns > 0 ? deadline_after(wait_ns) : 0;
    int held;
    while ((held = attempt(self, timeout, wait_ns, checked)) == 0) {
        wait_ns = remaining_wait(wait_ns, deadline);
    }
    return held < 0 ? -1 : 0;
}

int
ipckit_lock_release(lock_object *self, const lock_vector *vector)
{
    if (ipckit_lock_counts(self).own < 1) {
        errno = EPERM;
    } else if (operate(self, vector->ops, vector->count, 0) == 0) {
        return 0;
    } else if (vector != &self->release) {
        int error = errno; /* release the lock at least */
        operate(self, self->release.ops, self->release.count, 0);
        errno = error;
    }
    ipckit_oserror();
    explain(self, "_explain_release", vector->given);
    return -1;
}
