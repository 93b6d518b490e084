/* A semaphore set's handle, one of its semaphores, and one semtimedop with a deadline. */
#ifndef IPCKIT_SYSV_SEM_H
#define IPCKIT_SYSV_SEM_H

#include "native.h"

#include <sys/sem.h>

/* A signal handler raised: its exception is set. */
#define SEMOP_INTERRUPTED (-2)

/* The native base of a set's handle. */
typedef struct {
    PyObject_HEAD
    int id; /* -1 when closed */
    int count;
} row_object;

/* Semaphore `index` of a row, which it keeps. */
HIDDEN PyObject *ipckit_semaphore_new(PyObject *row, int index);

/* The arguments of acquire, release and wait_zero. */
typedef struct {
    long n;
    PyObject *timeout;
    int undo;
} semaphore_args;

/* What `call` has at the start says what may be given: n is not 0, timeout not NULL, undo not < 0. */
HIDDEN int ipckit_semaphore_args(const char *function, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames, semaphore_args *call);

/* Copies a tuple of SemOp, which `ops` has room for: 0, or -1 with TypeError. */
HIDDEN int ipckit_sembufs(const native_state *state, PyObject *tuple, struct sembuf *ops);

/* At once if that can be, else within `wait_ns` with the GIL dropped: 0, -1 with errno (EAGAIN,
   ETIMEDOUT at the deadline, EPERM if only a parent holds what the vector releases, else as the
   kernel gives it), or SEMOP_INTERRUPTED. No Python code runs if `wait_ns` is 0. */
HIDDEN int ipckit_semop(int id, struct sembuf *ops, size_t count, int64_t wait_ns);

#endif
