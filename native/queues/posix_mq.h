/* A POSIX queue's descriptor, as its calls use it. */
#ifndef IPCKIT_MQ_H
#define IPCKIT_MQ_H

#include "native.h"

typedef struct {
    PyObject_HEAD
    int number; /* -1 when closed */
    int users;  /* calls on it in this process; the last one closes it if that was asked for */
    bool closing;
    int straight;     /* how many receives are to sleep without looking first */
    uint64_t process; /* whose `users` are */
} queue_descriptor;

/* What a call is made on, an int, or a QueueDescriptor that is to be kept: 0, or -1 with TypeError or ValueError.
   `descriptor` is NULL for an int. */
HIDDEN int ipckit_queue_arg(const native_state *state, PyObject *object, int *fd,
                            queue_descriptor **descriptor);

/* Around a call, with the GIL held: between the two nothing closes the descriptor. `keep` gives its number, or -1 if
   it is closed. */
HIDDEN int ipckit_queue_keep(queue_descriptor *descriptor);
HIDDEN void ipckit_queue_let_go(queue_descriptor *descriptor);

#endif
