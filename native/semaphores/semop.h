/* The base of a semaphore set's handle, its semaphores, and semtimedop with a deadline. */
#ifndef IPCKIT_SYSV_SEM_H
#define IPCKIT_SYSV_SEM_H

#include "native.h"
#include "ring/clock.h"

#include <sys/sem.h>

/* A result: a signal handler raised an exception, which is set. */
#define SEMOP_INTERRUPTED (-2)

/* The native base of a set's handle. */
typedef struct {
    PyObject_HEAD
    int id; /* -1 when closed */
    int count;
} set_object;

/* Returns a new Semaphore, which keeps a reference to the set's handle; NULL with an exception set. */
HIDDEN PyObject *ipckit_semaphore_new(PyObject *set, int index);

/* The arguments of acquire, release and wait_zero. */
typedef struct {
    long n;
    PyObject *timeout;
    int undo;
} semaphore_args;

/* Parses the arguments of `function`. At the start `call` has the defaults. They also say which arguments exist: n if
   it is not 0, timeout if it is not NULL, undo if it is not below 0. Returns 0, or -1 with TypeError or ValueError. */
HIDDEN int ipckit_semaphore_args(const char *function, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames, semaphore_args *call);

/* Copies a tuple of SemOp to `ops`, which has room for it. Returns 0, or -1 with TypeError. */
HIDDEN int ipckit_sembufs(const native_state *state, PyObject *tuple, struct sembuf *ops);

/* Performs the operations, all or none, and updates the undo counts. The GIL is held; it is released only to wait, and
   no Python code runs if `wait_ns` is 0. Returns 0, SEMOP_INTERRUPTED, or -1 with errno: EAGAIN if the operations are
   not possible and must not wait, ETIMEDOUT at the deadline, EPERM if they would release what only a parent acquired,
   or what semop(2) sets. */
HIDDEN int ipckit_semop(int id, struct sembuf *ops, size_t count, int64_t wait_ns);

/* The time that remains until `deadline`, for a call that was given `wait_ns`. Never rounds a positive time down to 0,
   because 0 means "do not wait". */
static inline int64_t
remaining_wait(int64_t wait_ns, int64_t deadline)
{
    if (wait_ns == WAIT_FOREVER || wait_ns == 0) {
        return wait_ns;
    }
    int64_t left = deadline - monotonic_ns();
    return left > 0 ? left : 1;
}

#endif
