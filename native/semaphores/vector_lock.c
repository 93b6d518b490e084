/* Holding a lock that is a vector of operations on a semaphore set. A signal handler's exception comes between two
   instructions of Python: so taking the lock and entering the block are one native call, and so is releasing it.
   What an error means, and what a lock looks at once it is taken, is said in Python. */
#include "ring/clock.h"
#include "semaphores/vector_lock.h"
#include "semaphores/undo_counts.h"

#include <errno.h>

#define DRIFT_OPS 2

/* What tells that the lock is held: the first semaphore that `take` changes with undo. */
holdings
ipckit_hold_held(const hold_object *self)
{
    for (size_t i = 0; self->row != NULL && i < self->take.count; i++) {
        const struct sembuf *op = &self->take.ops[i];
        if (op->sem_flg & SEM_UNDO) {
            holdings held = ipckit_holdings(((row_object *)self->row)->id, op->sem_num);
            /* Readers add themselves, others take: alike from here on. */
            return op->sem_op < 0 ? held : (holdings){-held.own, -held.inherited};
        }
    }
    return (holdings){0, 0};
}

static int
operate(const hold_object *self, const struct sembuf *ops, size_t count, int64_t wait_ns)
{
    struct sembuf vector[HOLD_OPS + DRIFT_OPS];
    for (size_t i = 0; i < count; i++) {
        vector[i] = ops[i];
    }
    return ipckit_semop(((row_object *)self->row)->id, vector, count, wait_ns);
}

/* A lock that is wanted is marked while its taker waits; the mark goes as the lock is taken, or when it can't be. */
static int
take_marked(const hold_object *self, int64_t wait_ns)
{
    struct sembuf mark = {.sem_num = (unsigned short)self->mark, .sem_op = 1, .sem_flg = SEM_UNDO};
    if (operate(self, &mark, 1, 0) < 0) {
        return -1;
    }
    mark.sem_op = -1;
    struct sembuf vector[HOLD_OPS + 1];
    for (size_t i = 0; i < self->take.count; i++) {
        vector[i] = self->take.ops[i];
    }
    vector[self->take.count] = mark;
    int result = operate(self, vector, self->take.count + 1, wait_ns);
    if (result != 0) {
        int error = errno;
        operate(self, &mark, 1, 0);
        errno = error;
    }
    return result;
}

static int
take_once(const hold_object *self, int64_t wait_ns)
{
    if (self->mark < 0) {
        return operate(self, self->take.ops, self->take.count, wait_ns);
    }
    int result = operate(self, self->take.ops, self->take.count, 0);
    return result == 0 || errno != EAGAIN || wait_ns == 0 ? result : take_marked(self, wait_ns);
}

/* The exception that is set, as Python explains it: -1, or 0 if it is not one and taking is to be tried again. */
static int
explain(hold_object *self, const char *method, PyObject *detail)
{
    PyObject *exception = ipckit_take_exception();
    PyObject *meant = PyObject_CallMethod((PyObject *)self, method, "OO", exception,
                                          detail == NULL ? Py_None : detail);
    Py_DECREF(exception);
    if (meant == Py_None) {
        Py_DECREF(meant);
        return 0;
    }
    ipckit_raise(meant);
    return -1;
}

/* Leaves again what was taken in vain, and lets the counters follow by `drift` at the same moment. */
static int
leave_with(hold_object *self, const short drift[DRIFT_OPS])
{
    struct sembuf vector[HOLD_OPS + DRIFT_OPS];
    size_t count = 0;
    for (; count < self->leave.count; count++) {
        vector[count] = self->leave.ops[count];
    }
    for (unsigned short i = 0; i < DRIFT_OPS; i++) {
        if (drift[i] != 0) {
            vector[count++] = (struct sembuf){.sem_num = i, .sem_op = drift[i]};
        }
    }
    return operate(self, vector, count, 0);
}

/* Asks _check whether what was taken may be kept: 1; 0 if it was not there after all and is left again; -1 with an
   exception if it is left because of that. */
static int
check(hold_object *self)
{
    static const short no_drift[DRIFT_OPS] = {0, 0};
    short drift[DRIFT_OPS];
    PyObject *verdict = PyObject_CallMethod((PyObject *)self, "_check", NULL);
    if (verdict == Py_None) {
        Py_DECREF(verdict);
        return 1;
    }
    if (verdict != NULL && PyArg_ParseTuple(verdict, "hh:_check", &drift[0], &drift[1])) {
        Py_DECREF(verdict);
        if (leave_with(self, drift) == 0) {
            return 0;
        }
        ipckit_oserror();
        explain(self, "_explain_leave", self->leave.given);
        return -1;
    }
    Py_XDECREF(verdict);
    leave_with(self, no_drift); /* that it fails is less than what is raised already */
    return -1;
}

int
ipckit_hold_take(hold_object *self, PyObject *timeout, bool checked)
{
    int64_t wait_ns;
    if (self->row == NULL) {
        PyErr_SetString(PyExc_ValueError, "the lock has no semaphores");
        return -1;
    }
    if (ipckit_wait_arg(timeout, &wait_ns) < 0) {
        return PyErr_ExceptionMatches(PyExc_ValueError) ? explain(self, "_explain_take", timeout) : -1;
    }
    int64_t deadline = wait_ns > 0 ? deadline_after(wait_ns) : 0;
    for (;;) {
        int result = take_once(self, wait_ns);
        if (result == 0) {
            int kept = checked ? check(self) : 1;
            if (kept != 0) {
                return kept < 0 ? -1 : 0;
            }
        } else if (result == SEMOP_INTERRUPTED) {
            return -1;
        } else {
            ipckit_oserror();
            if (explain(self, "_explain_take", timeout) < 0) {
                return -1;
            }
        }
        if (wait_ns > 0) {
            int64_t left = deadline - monotonic_ns();
            wait_ns = left > 0 ? left : 1;
        }
    }
}

int
ipckit_hold_leave(hold_object *self, const hold_vector *vector)
{
    if (ipckit_hold_held(self).own < 1) {
        errno = EPERM;
    } else if (operate(self, vector->ops, vector->count, 0) == 0) {
        return 0;
    } else if (vector != &self->leave) {
        int error = errno; /* then at least nothing stays held */
        operate(self, self->leave.ops, self->leave.count, 0);
        errno = error;
    }
    ipckit_oserror();
    explain(self, "_explain_leave", vector->given);
    return -1;
}
