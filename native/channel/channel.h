/* What the C files of channels share. */
#ifndef IPCKIT_CHANNEL_H
#define IPCKIT_CHANNEL_H

#include "channel/core.h"
#include "memory/mapping.h"

/* Looks while the interpreter is still held: the other side is often just about to answer. */
#define QUICK_POLLS 64
/* A message that comes within so many looks is one of a stream. */
#define STREAM_POLLS 3
/* Pauses at most for which a receiver of a stream holds still. */
#define RECEIVE_BACKOFF_MAX 32

/* The native base of ipckit.Channel. */
typedef struct {
    PyObject_HEAD
    channel_core *core;  /* NULL when closed */
    native_state *state; /* the module's; NULL until the channel is opened */
    bool closed;
    bool plain;            /* payloads are bytes */
    bool wait_for_peers;
    uint32_t spin, spin_max;
    uint32_t backoff;         /* pauses before a receiver that met an empty ring looks again */
    uint32_t sends_seen;   /* ipckit_channel_sends when it last was in a hurry */
    PyObject *record_type; /* a Struct class, or NULL */
    PyObject *encode;      /* of the codec, or NULL where payloads are bytes or structs */
    PyObject *decode;
    PyObject *loan_type, *view_type;  /* subclasses of LeaseHolder */
    Py_ssize_t loan_unit, loan_size;  /* bytes of an element and of every message; 0: not known */
} channel_object;

typedef struct {
    PyObject_HEAD
    channel_core *core; /* NULL where nothing has to be given back */
    long forks;
    uint64_t at;
    uint32_t owner;
    bool loan;
    char *data;
    Py_ssize_t size;
    char *own; /* bytes of its own, or NULL */
} lease_object;

/* Where a message goes: into the caller's buffer, or into a new object. */
typedef struct {
    char *buffer;    /* NULL: make an object */
    uint64_t size;   /* bytes of the buffer */
    uint64_t length; /* of the message that was taken into it */
    PyObject *value; /* the new object, if a message was taken and there is no buffer */
} receive_target;

/* How often this process has sent, by any channel. Under the GIL. */
extern HIDDEN uint32_t ipckit_channel_sends;

/* Notes that this process sends. */
static inline void
ipckit_note_sender(channel_core *core)
{
    ring_add_role(&core->r, ROLE_SENDER);
    ipckit_channel_sends++;
}

/* The lease of a record that is this process's, and one of bytes of its own. */
HIDDEN lease_object *ipckit_lease_new(native_state *state, channel_core *core, uint64_t at,
                                      uint64_t length, bool loan);
HIDDEN lease_object *ipckit_lease_copy(native_state *state, const char *data, uint64_t length);

/* The open channel, for what never changes: NULL with an exception set. */
HIDDEN channel_core *ipckit_channel_open(channel_object *self, const char *op);
/* The open channel, joined: NULL with an exception set. */
HIDDEN channel_core *ipckit_channel_joined(channel_object *self, const char *op);
/* The open channel, to look at: a process that only looks is no peer. NULL with an exception set, also
   if the file was cut short. */
HIDDEN channel_core *ipckit_channel_unjoined(channel_object *self, const char *op);
/* Raises what an errno of opening or joining means, as Python's _explain_errno has it; always NULL. */
HIDDEN PyObject *ipckit_channel_oserror(channel_object *self, const char *op);

/* Raises what a result means, as Python's _explain_ring has it; always NULL. */
HIDDEN PyObject *ipckit_ring_error(channel_object *self, ring_result result, const char *op,
                                   PyObject *timeout);

/* The timeout of a call that takes so many arguments by position, and that one by name. */
HIDDEN int ipckit_timeout_arg(channel_object *self, const char *function, PyObject *const *args,
                              Py_ssize_t nargs, Py_ssize_t wanted, PyObject *kwnames,
                              PyObject **timeout);

/* The same, quicker where there is none. */
static inline int
ipckit_timeout_of(channel_object *self, const char *function, PyObject *const *args,
                  Py_ssize_t nargs, Py_ssize_t wanted, PyObject *kwnames, PyObject **timeout)
{
    *timeout = Py_None;
    return kwnames == NULL && nargs == wanted
        ? 0
        : ipckit_timeout_arg(self, function, args, nargs, wanted, kwnames, timeout);
}

/* A call that waits as `timeout` says: 0, or -1 with an exception set. */
HIDDEN int ipckit_call_init(channel_object *self, ring_call *call, uint32_t which,
                            ring_operation operation, PyObject *timeout, const char *op);
/* ring_run without the interpreter, with Python's signal handlers run: RING_INTERRUPTED where one of
   them raised. The caller holds a reference to the core. */
HIDDEN ring_result ipckit_call(channel_core *core, ring_call *call);
/* A call that waits for no message, and leaves signals to who is called next: what an earlier one took
   must not get lost. */
HIDDEN ring_result ipckit_call_uninterrupted(channel_core *core, ring_call *call);

/* After a receive, and after a send that found no room: makes a descriptor that is poll_futex tell the
   truth. `before`: what was to be seen before the send. */
HIDDEN void ipckit_update_items_fd(channel_core *core, ring_result result);
HIDDEN void ipckit_update_space_fd(channel_core *core, ring_result result, ring_snapshot before);

/* Takes the next message if it is small and comes soon (receive_small.c): RING_OK, RING_INTERRUPTED with an
   exception set, or another result for the slow path. The caller holds a reference to the core. */
HIDDEN ring_result ipckit_receive_small(channel_object *self, channel_core *core, PyObject *timeout,
                                        receive_target *to);

/* Sends bytes as `send` does: 0, or -1 with an exception set. */
HIDDEN int ipckit_send_bytes(channel_object *self, channel_core *core, const char *data,
                             uint64_t length, PyObject *timeout);

HIDDEN ring_result ipckit_op_send(ring *r, ring_call *call);
HIDDEN ring_result ipckit_op_lend(ring *r, ring_call *call);
HIDDEN ring_result ipckit_op_send_loan(ring *r, ring_call *call);
HIDDEN ring_result ipckit_op_view(ring *r, ring_call *call);

/* The module's state: NULL and an exception for a channel that was never opened. */
HIDDEN native_state *ipckit_channel_state(channel_object *self);
/* 0 for a subclass of LeaseHolder, else -1 and TypeError. */
HIDDEN int ipckit_holder_type_arg(PyObject *object, native_state *state);
/* Steals the lease; NULL with an exception set, also where the lease is NULL. */
HIDDEN PyObject *ipckit_holder_new(PyObject *type, channel_object *channel, lease_object *lease);
HIDDEN PyObject *ipckit_holder_of_view(channel_object *self, native_state *state, PyObject *type,
                                       channel_core *core, const ring_call *call,
                                       const char *small);

/* The next message, waiting for it: NULL with an exception set, or without one where all who sent are
   gone. */
HIDDEN PyObject *ipckit_channel_next(channel_object *self);

/* Methods of ChannelBase. */
extern HIDDEN const char ipckit_channel_send_doc[], ipckit_channel_receive_doc[];
HIDDEN PyObject *ipckit_channel_send(channel_object *self, PyObject *const *args, Py_ssize_t nargs,
                                     PyObject *kwnames);
HIDDEN PyObject *ipckit_channel_receive(channel_object *self, PyObject *const *args,
                                        Py_ssize_t nargs, PyObject *kwnames);
extern HIDDEN const char ipckit_channel_receive_into_doc[];
HIDDEN PyObject *ipckit_channel_receive_into(channel_object *self, PyObject *const *args,
                                             Py_ssize_t nargs, PyObject *kwnames);
/* For calls that are interrupted between two messages: what is done by then is in a list. */
HIDDEN int ipckit_add_progress(PyObject *progress, Py_ssize_t more);
HIDDEN PyObject *ipckit_channel_send_one(channel_object *self, PyObject *const *args,
                                         Py_ssize_t nargs);
HIDDEN PyObject *ipckit_channel_receive_to(channel_object *self, PyObject *const *args,
                                           Py_ssize_t nargs);
HIDDEN PyObject *ipckit_channel_send_batch(channel_object *self, PyObject *const *args,
                                           Py_ssize_t nargs);
HIDDEN PyObject *ipckit_channel_receive_batch(channel_object *self, PyObject *const *args,
                                              Py_ssize_t nargs);
HIDDEN PyObject *ipckit_channel_lend(channel_object *self, PyObject *const *args, Py_ssize_t nargs);
HIDDEN PyObject *ipckit_channel_set_in_place(channel_object *self, PyObject *const *args,
                                             Py_ssize_t nargs);
extern HIDDEN const char ipckit_channel_loan_doc[], ipckit_channel_receive_view_doc[];
HIDDEN PyObject *ipckit_channel_loan(channel_object *self, PyObject *const *args, Py_ssize_t nargs,
                                     PyObject *kwnames);
HIDDEN PyObject *ipckit_channel_receive_view(channel_object *self, PyObject *const *args,
                                             Py_ssize_t nargs, PyObject *kwnames);
HIDDEN PyObject *ipckit_channel_iterate(channel_object *self, PyObject *ignored);
HIDDEN PyObject *ipckit_channel_take(channel_object *self, PyObject *const *args,
                                     Py_ssize_t nargs);

#endif
