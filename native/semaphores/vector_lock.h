/* The native base of what is taken and released by vectors of operations on a semaphore set: a Lock, and the
   blocks of the other locks. */
#ifndef IPCKIT_HOLD_H
#define IPCKIT_HOLD_H

#include "semaphores/undo_counts.h"
#include "semaphores/semop.h"

/* A lock's vector has at most so many operations. */
#define HOLD_OPS 8

typedef struct {
    PyObject *given; /* a tuple of SemOp, for messages; NULL if there is none */
    struct sembuf ops[HOLD_OPS];
    size_t count;
} hold_vector;

typedef struct {
    PyObject_HEAD
    PyObject *row; /* the set's handle; NULL before _bind */
    PyObject *timeout;
    hold_vector take;
    hold_vector leave;
    hold_vector done; /* instead of `leave` at the end of a block that raised nothing */
    int mark;         /* the semaphore that counts those who wait, or -1 */
    bool checked;     /* entering a block calls _check */
    bool block;       /* entering gives None, and not the lock itself */
} hold_object;

/* What tells whether the lock is held; above 0 for readers too. */
HIDDEN holdings ipckit_hold_held(const hold_object *self);

/* Takes the lock, and asks _check if `checked`: 0, or -1 with an exception set and nothing held. */
HIDDEN int ipckit_hold_take(hold_object *self, PyObject *timeout, bool checked);

/* Releases the lock by one of its vectors: 0, or -1 with an exception set. Only the process that took the lock can. */
HIDDEN int ipckit_hold_leave(hold_object *self, const hold_vector *vector);

#endif
