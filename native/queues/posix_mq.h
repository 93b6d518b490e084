/* QueueDescriptor: the descriptor of a POSIX queue, as the calls on it use it. */
#ifndef IPCKIT_MQ_H
#define IPCKIT_MQ_H

#include "native.h"

/* All fields are guarded by the GIL. */
typedef struct {
    PyObject_HEAD
    int number;       /* -1 once it is closed */
    int users;        /* calls in progress; the last one closes the descriptor if `closing` */
    bool closing;     /* `close` was called */
    int sleep_first;  /* the number of receives that sleep without a first attempt */
    uint64_t process; /* the process that `users` counts calls of */
} queue_descriptor;

/* Reads the first argument of a call, which is an int or a QueueDescriptor. Sets `descriptor`, to
   NULL for an int, and for an int also `fd`. Returns 0, or -1 with TypeError or ValueError set. */
HIDDEN int ipckit_queue_arg(const native_state *state, PyObject *object, int *fd,
                            queue_descriptor **descriptor);

/* Counts a call, so that `close` leaves the descriptor open until `ipckit_queue_release`. Needs the
   GIL. Returns the descriptor's number, or -1 if it is closed; release it in both cases. */
HIDDEN int ipckit_queue_acquire(queue_descriptor *descriptor);

/* Ends a call; closes the descriptor if this was the last call and `close` was called. Needs the
   GIL; may change errno. */
HIDDEN void ipckit_queue_release(queue_descriptor *descriptor);

#endif
