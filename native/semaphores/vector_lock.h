/* VectorLock, the native base of a Lock and of the ``with`` blocks of the other locks. One vector of operations on a
   semaphore set acquires it, another one releases it. */
#ifndef IPCKIT_VECTOR_LOCK_H
#define IPCKIT_VECTOR_LOCK_H

#include "semaphores/semop.h"
#include "semaphores/undo_counts.h"

/* The maximum length of a lock's vector. */
#define LOCK_OPS 8

typedef struct {
    PyObject *given; /* a tuple of SemOp, for messages; NULL if there is none */
    struct sembuf ops[LOCK_OPS];
    size_t count;
} lock_vector;

typedef struct {
    PyObject_HEAD
    PyObject *set; /* the set's handle; NULL before _bind */
    PyObject *timeout;
    lock_vector acquire;
    lock_vector release;
    lock_vector commit; /* instead of `release` at the end of a block that raised nothing */
    int waiters;        /* the semaphore that counts the processes that wait, or -1 */
    bool checked;       /* entering a block calls _check_acquired */
    bool block;         /* entering a block returns None, and not the lock itself */
} lock_object;

/* The undo counts of the semaphore that shows whether the lock is held, with a sign that is above 0 for readers
   too. 0 before _bind. */
HIDDEN undo_counts ipckit_lock_counts(const lock_object *self);

/* Acquires the lock, and calls _check_acquired if `checked`. Returns 0, or -1 with an exception set and the lock not
   held. */
HIDDEN int ipckit_lock_acquire(lock_object *self, PyObject *timeout, bool checked);

/* Releases the lock by one of its vectors. Returns 0, or -1 with an exception set: only the process that acquired
   the lock can release it. */
HIDDEN int ipckit_lock_release(lock_object *self, const lock_vector *vector);

#endif
