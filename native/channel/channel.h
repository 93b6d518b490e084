/* The declarations that the C files of channels share. Every function here needs the GIL. */
#ifndef IPCKIT_CHANNEL_H
#define IPCKIT_CHANNEL_H

#include "native.h"
#include "channel/core.h"
#include "memory/mapping.h"

#define FAST(function) ((PyCFunction)(void (*)(void))(function))
#define SPIN_LIMIT 1000000

/* How often a call polls before it releases the GIL: the other side often answers within that time. */
#define QUICK_POLLS 64
/* A message that comes within this many polls belongs to a stream of messages. */
#define STREAM_POLLS 3
/* The maximum number of pauses in the backoff of a receiver of a stream. */
#define RECEIVE_BACKOFF_MAX 32

/* The native base of ipckit.Channel, Topic and Subscription. */
typedef struct {
    PyObject_HEAD
    channel_core *core;  /* NULL when closed */
    native_state *state;   /* of the module; NULL until the channel is opened */
    bool closed;           /* stored by release_channel; waiting threads load it (ring_run) */
    bool topic;            /* it is a topic or a subscription */
    bool plain;            /* payloads are bytes */
    bool wait_for_peers;   /* wait for new peers after the last one of the other side has left */
    uint32_t spin, spin_max;
    uint32_t backoff;      /* pauses before a receiver polls an empty ring */
    uint32_t sends_seen;   /* ipckit_channel_sends at the last receive that polled */
    PyObject *record_type; /* a Struct class, or NULL */
    PyObject *encode;      /* of the codec */
    PyObject *decode;      /* of the codec, or NULL if payloads are bytes or structs */
    PyObject *loan_type, *view_type;  /* subclasses of LeaseHolder */
    Py_ssize_t loan_unit, loan_size;  /* bytes of an element and of every message; 0: not known */
} channel_object;

typedef struct {
    PyObject_HEAD
    channel_core *core; /* NULL after the message was sent, cancelled or released */
    long forks;         /* core->forks when the lease was created */
    uint32_t block;     /* NO_BLOCK: the message is short, and `copy` has it */
    uint32_t owner;     /* this peer, as the block names it */
    block_kind kind;    /* BLOCK_LENT, BLOCK_READ or BLOCK_TAKEN */
    char *data;
    Py_ssize_t size;
    char *copy;         /* memory of PyMem_Malloc, or NULL */
} lease_object;

/* The native base of ipckit.Loan, View and Delivery. */
typedef struct {
    PyObject_HEAD
    PyObject *channel;
    lease_object *lease; /* NULL once it was sent, cancelled, released or acknowledged */
} holder_object;

/* Where a message goes: into the caller's buffer, or into a new object. */
typedef struct {
    char *buffer;    /* NULL: create an object */
    uint64_t size;   /* bytes of the buffer */
    uint64_t length; /* of the message that was copied into it */
    PyObject *value; /* the new object, if a message was taken and there is no buffer */
} receive_target;

/* How often this process has sent, on any channel. An interpreter may overwrite the count of another, whose GIL
   is another one. That does no harm: a receiver only compares it with an earlier count, as a hint. */
extern HIDDEN uint32_t ipckit_channel_sends;

/* Notes that this process is a sender, and counts the send. The core must be joined. */
static inline void
ipckit_note_sender(channel_core *core)
{
    ring_add_role(&core->r, ROLE_SENDER);
    store_relaxed(&ipckit_channel_sends, load_relaxed(&ipckit_channel_sends) + 1);
}

/* Creates the Lease of a block that this peer holds as `kind`. With NO_BLOCK, the lease has memory of
   its own, with a copy of `data` unless that is NULL. Acquires the core, except for a copy that is
   BLOCK_READ. Returns NULL with an exception set; then the block is released. */
HIDDEN lease_object *ipckit_lease_new(native_state *state, channel_core *core, block_kind kind,
                                      uint32_t block, const char *data, uint64_t length);

/* Opens a core in a Mapping, and exports that. Returns NULL with an exception set. */
HIDDEN channel_core *ipckit_channel_map(mapping_object *mapping, int fd, bool creator, bool topic);

/* Returns the core of an open channel, or NULL with ClosedHandle set. Without ipckit_channel_joined
   or ipckit_channel_unjoined, only the values that never change may be read from it. */
HIDDEN channel_core *ipckit_channel_open(channel_object *self, const char *op);
/* Returns the core of an open channel, after joining its peers if this process has not. Returns NULL
   with an exception set. */
HIDDEN channel_core *ipckit_channel_joined(channel_object *self, const char *op);
/* Returns the core of an open channel for reading its state. Does not join: a process that only reads
   the state is not a peer. Returns NULL with an exception set, also if the file was truncated. */
HIDDEN channel_core *ipckit_channel_unjoined(channel_object *self, const char *op);
/* Raises the exception of Python's _explain_errno for the errno of opening or joining. Returns NULL. */
HIDDEN PyObject *ipckit_channel_oserror(channel_object *self, const char *op);

/* Raises the exception of Python's _explain_ring for a result. Keeps the exception of a signal handler
   if the result is RING_INTERRUPTED. Returns NULL. */
HIDDEN PyObject *ipckit_ring_error(channel_object *self, ring_result result, const char *op,
                                   PyObject *timeout);

/* Checks the arguments of a method that takes `wanted` positional arguments and the keyword argument
   timeout. Stores the timeout (borrowed; None by default). Returns 0, or -1 with an exception set. */
HIDDEN int ipckit_timeout_arg(channel_object *self, const char *function, PyObject *const *args,
                              Py_ssize_t nargs, Py_ssize_t wanted, PyObject *kwnames,
                              PyObject **timeout);

/* The same, inlined for a call without a timeout. */
static inline int
ipckit_timeout_of(channel_object *self, const char *function, PyObject *const *args,
                  Py_ssize_t nargs, Py_ssize_t wanted, PyObject *kwnames, PyObject **timeout)
{
    *timeout = Py_None;
    return kwnames == NULL && nargs == wanted
        ? 0
        : ipckit_timeout_arg(self, function, args, nargs, wanted, kwnames, timeout);
}

/* Prepares a call that waits for `timeout`. Converting the timeout may run any Python code. Returns 0,
   or -1 with an exception set. */
HIDDEN int ipckit_call_init(channel_object *self, ring_call *call, uint32_t which,
                            ring_operation operation, PyObject *timeout, const char *op);
/* Runs the operation: first once with the GIL held, then ring_run without the GIL. Runs Python's
   signal handlers in between. Returns as ring_run, or RING_INTERRUPTED with the exception of a signal
   handler set, or RING_NO_PLACE. The caller has acquired the core and holds no lock. */
HIDDEN ring_result ipckit_call(channel_core *core, ring_call *call);
/* Runs the operation without the GIL and without signal handlers, for a call that does not wait for a
   message: an exception would lose the messages that the caller has already taken. */
HIDDEN ring_result ipckit_call_uninterrupted(channel_core *core, ring_call *call);

/* Update the descriptors, if they exist. After each receive, the descriptor for messages is readable if
   a message waits. After a send that found no room, the descriptor for room is readable only if the ring
   has changed since the snapshot `before`, from before the send. `result` is that of the call. After
   RING_BUSY, the holder of call->busy makes it readable. */
HIDDEN void ipckit_update_items_fd(channel_core *core, ring_result result);
HIDDEN void ipckit_update_space_fd(channel_core *core, const ring_call *call, ring_result result,
                                   ring_snapshot before);

/* Takes the next message if it is small and comes soon (receive_small.c). Returns RING_OK,
   RING_INTERRUPTED with an exception set, or another result if the caller must take the slow path. The
   caller has acquired the core. */
HIDDEN ring_result ipckit_receive_small(channel_object *self, channel_core *core, PyObject *timeout,
                                        receive_target *to);

/* Copies a message that ipckit_op_view holds, and releases its block. Releases the GIL for a long
   copy. */
HIDDEN void ipckit_copy_and_release(channel_core *core, const ring_call *call, char *to);

/* Sends bytes; waits while the channel is full. `op` is for exceptions. Returns 0, or -1 with an exception
   set. */
HIDDEN int ipckit_send_bytes(channel_object *self, channel_core *core, const char *data,
                             uint64_t length, const char *op, PyObject *timeout);

/* The operations of a call. The lock of the call's side is held; the GIL may or may not be, so they use
   no Python object. */

/* Sends a copy of call->data. Returns as ring_send. */
HIDDEN ring_result ipckit_op_send(ring *r, ring_call *call);
/* Lends a block for a message of call->length bytes, and sets call->block to it. Returns as
   ring_lend. */
HIDDEN ring_result ipckit_op_lend(ring *r, ring_call *call);
/* Sends call->length bytes of the block call->block, which was lent to the owner call->items. Returns as
   ring_send_block, or RING_CLOSED in a forked child of the owner. */
HIDDEN ring_result ipckit_op_send_block(ring *r, ring_call *call);
/* Takes the next message. Copies one from the ring to call->data, which has INLINE_MAX bytes, and sets
   call->items to 0. Holds the block of any other one as BLOCK_READ, and sets call->items to its owner.
   Returns as ring_peek. */
HIDDEN ring_result ipckit_op_view(ring *r, ring_call *call);
/* Takes the message that either_peek found, as ipckit_op_view. Not the next one: that may be another. */
HIDDEN ring_result ipckit_take_found(ring *r, ring_call *call);

/* Returns the module's state, or NULL with ValueError set if the channel was never opened. */
HIDDEN native_state *ipckit_channel_state(channel_object *self);
/* Checks that an object is a subclass of LeaseHolder. Returns 0, or -1 with TypeError set. */
HIDDEN int ipckit_holder_type_arg(PyObject *object, native_state *state);
/* Creates an instance of `type`, a subclass of LeaseHolder. Steals the reference to the lease. Returns
   NULL with an exception set, also if the lease is NULL. */
HIDDEN PyObject *ipckit_holder_new(PyObject *type, channel_object *channel, lease_object *lease);
/* Creates the LeaseHolder of a message that ipckit_op_view took: over its block, or over a copy of
   `small`. Returns NULL with an exception set; then the block is released. */
HIDDEN PyObject *ipckit_holder_of_view(channel_object *self, native_state *state, PyObject *type,
                                       channel_core *core, const ring_call *call,
                                       const char *small);

/* Takes the next message; waits for it without limit. Returns a new reference; NULL with an exception
   set; or NULL without an exception if the channel is empty and the last sender is gone. */
HIDDEN PyObject *ipckit_channel_next(channel_object *self);

/* The methods of ChannelBase and their docstrings. */
extern HIDDEN const char ipckit_channel_send_doc[], ipckit_channel_receive_doc[];
HIDDEN PyObject *ipckit_channel_send(channel_object *self, PyObject *const *args, Py_ssize_t nargs,
                                     PyObject *kwnames);
HIDDEN PyObject *ipckit_channel_receive(channel_object *self, PyObject *const *args,
                                        Py_ssize_t nargs, PyObject *kwnames);
extern HIDDEN const char ipckit_channel_receive_into_doc[];
HIDDEN PyObject *ipckit_channel_receive_into(channel_object *self, PyObject *const *args,
                                             Py_ssize_t nargs, PyObject *kwnames);
/* Adds to the number in a list of one number. Keeps an exception that is set. Returns 0, or -1 with an
   exception set. Python keeps the number, because a signal handler may raise before Python has the
   call's result. */
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
HIDDEN PyObject *ipckit_channel_deliver(channel_object *self, PyObject *const *args,
                                        Py_ssize_t nargs);

/* What the types of channels, topics and subscriptions share (channel.c, facts.c). */
extern HIDDEN const char ipckit_channel_attach_doc[], ipckit_channel_detach_doc[],
    ipckit_channel_poll_fd_doc[], ipckit_channel_side_doc[], ipckit_channel_peers_doc[],
    ipckit_channel_lock_holder_doc[], ipckit_channel_counts_doc[];
HIDDEN PyObject *ipckit_channel_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
HIDDEN int ipckit_channel_traverse(channel_object *self, visitproc visit, void *arg);
HIDDEN void ipckit_channel_dealloc(channel_object *self);
HIDDEN PyObject *ipckit_channel_attach(channel_object *self, native_state *state,
                                       PyObject *const *args, Py_ssize_t nargs, bool topic);
HIDDEN PyObject *ipckit_channel_detach(channel_object *self, PyObject *ignored);
HIDDEN PyObject *ipckit_channel_poll_fd(channel_object *self, PyObject *which);
HIDDEN PyObject *ipckit_channel_side(channel_object *self, PyObject *role);
HIDDEN PyObject *ipckit_channel_peers(channel_object *self, PyObject *ignored);
HIDDEN PyObject *ipckit_channel_lock_holder(channel_object *self, PyObject *which);
HIDDEN PyObject *ipckit_channel_counts(channel_object *self, PyObject *ignored);
/* Returns the number of messages that wait in a channel's ring, and sets `*units` to the units in use. */
HIDDEN uint64_t ipckit_messages_in_ring(const ring *r, uint64_t *units);

/* Returns the bytes of a topic's arena that the messages from `head` to `tail` occupy. */
HIDDEN uint64_t ipckit_topic_bytes_used(const ring *r, uint64_t head, uint64_t tail);

HIDDEN Py_ssize_t ipckit_channel_length(channel_object *self);
HIDDEN PyObject *ipckit_channel_capacity(channel_object *self, void *closure);
HIDDEN PyObject *ipckit_channel_longest(channel_object *self, void *closure);

/* Returns the fingerprint and the text of the payload type in a channel's or a topic's memory. */
HIDDEN PyObject *ipckit_type_of_memory(PyObject *module, PyObject *mapping, bool topic);

/* The docstrings of SubscriptionBase's methods, which are those of ChannelBase (topic/docs.c). */
extern HIDDEN const char ipckit_subscription_receive_doc[], ipckit_subscription_receive_into_doc[],
    ipckit_subscription_receive_view_doc[];

/* Publishes a message on a topic. */
extern HIDDEN const char ipckit_topic_publish_doc[], ipckit_topic_loan_doc[];
HIDDEN PyObject *ipckit_topic_publish(channel_object *self, PyObject *const *args, Py_ssize_t nargs,
                                      PyObject *kwnames);

/* Parts of LeaseHolder for messages that _deliver returned. */
HIDDEN PyObject *ipckit_holder_acknowledge(holder_object *self, PyObject *ignored);
HIDDEN PyObject *ipckit_holder_redelivered(holder_object *self, void *closure);
HIDDEN PyObject *ipckit_holder_number(holder_object *self, void *closure);

#endif
