/* ChannelBase's receive, without a Python frame in between. */
#include "channel/channel.h"
#include "records/record.h"

/* What a receive gives for a message's bytes. */
static PyObject *
value_of(channel_object *self, const char *data, uint64_t length)
{
    if (self->record_type != NULL) {
        return ipckit_payload_new(self->record_type, data, (Py_ssize_t)length);
    }
    return PyBytes_FromStringAndSize(data, (Py_ssize_t)length);
}

/* What the codec raised for these bytes, as `_undecodable` has it: the message is taken, and its bytes
   must not be lost. */
static void
keep_raw(channel_object *self, PyObject *bytes)
{
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(exception, traceback);
    }
    ipckit_raise(PyObject_CallMethod((PyObject *)self, "_undecodable", "OO", exception, bytes));
    Py_XDECREF(type);
    Py_XDECREF(exception);
    Py_XDECREF(traceback);
}

/* As the codec has it; steals `bytes`. */
static PyObject *
decoded(channel_object *self, PyObject *bytes)
{
    if (bytes == NULL || self->decode == NULL) {
        return bytes;
    }
    PyObject *value = PyObject_CallFunctionObjArgs(self->decode, bytes, NULL);
    if (value == NULL) {
        keep_raw(self, bytes);
    }
    Py_DECREF(bytes);
    return value;
}

/* Memory for a message of that length, made before the message is taken: a new reference, or NULL with
   an exception set. `to` is where its bytes belong. */
static PyObject *
room_for(channel_object *self, uint64_t length, char **to)
{
    if (self->record_type != NULL) {
        Layout *layout = ipckit_layout_of((PyTypeObject *)self->record_type);
        bool fits = layout != NULL && (uint64_t)layout->size == length;
        Record *record =
            fits ? ipckit_record_new((PyTypeObject *)self->record_type, layout) : NULL;
        *to = record == NULL ? NULL : record->data;
        Py_XDECREF((PyObject *)layout);
        if (layout == NULL || fits) {
            return (PyObject *)record;
        }
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    *to = bytes == NULL ? NULL : PyBytes_AsString(bytes);
    return bytes;
}

/* As ipckit_op_view, but what is not small is taken only if `at` is its length, for which there is room
   then. RING_TOO_LONG: it waits, and is of message.length. */
static ring_result
op_copy(ring *r, ring_call *call)
{
    ring_message *message = &call->message;
    ring_result result = ring_peek(r, message);
    if (result == RING_OK && message->length > call->length && message->items == 1
        && message->length != call->at) {
        return RING_TOO_LONG;
    }
    return result == RING_OK ? ipckit_op_view(r, call) : result;
}

/* Waits for the next message and takes it, with room for it made before: RING_OK, or what it met;
   RING_INTERRUPTED with an exception set. */
static ring_result
copy_next(channel_object *self, channel_core *core, ring_call *call, PyObject **room, char **to)
{
    call->operation = op_copy;
    for (;;) {
        ring_result result = ipckit_call(core, call);
        if (result != RING_TOO_LONG) {
            return result;
        }
        Py_CLEAR(*room);
        *room = room_for(self, call->message.length, to);
        if (*room == NULL) {
            ring_notify(&core->r, POLL_ITEMS); /* the message is another receiver's to take */
            return RING_INTERRUPTED;
        }
        call->at = call->message.length;
    }
}

/* The next message, waiting for it: a new reference, or NULL with an exception set. What is not small
   is left in place, in a holder of that type, or copied where the type is NULL. With `ends` there is no
   exception where all who sent are gone. */
static PyObject *
receive_slowly(channel_object *self, channel_core *core, PyObject *type, PyObject *timeout,
               bool ends)
{
    ring_call call;
    char small[GIL_FREE_BYTES];
    if (ipckit_call_init(self, &call, POLL_ITEMS, ipckit_op_view, timeout, "receive") < 0) {
        return NULL;
    }
    call.data = small;
    call.length = sizeof small;
    PyObject *value = NULL;
    char *to = NULL;
    ring_result result = type == NULL ? copy_next(self, core, &call, &value, &to)
                                      : ipckit_call(core, &call);
    const ring_message *message = &call.message;
    if (result == RING_OK && call.items == 0) {
        Py_CLEAR(value);
        value = value_of(self, small, message->length);
    } else if (result == RING_OK && type == NULL) {
        Py_BEGIN_ALLOW_THREADS
        memcpy(to, message->data, message->length);
        Py_END_ALLOW_THREADS
        ring_end_view(&core->r, message->at, (uint32_t)call.items);
    } else if (result == RING_OK) {
        value = ipckit_holder_of_view(self, self->state, type, core, &call, small);
    }
    ipckit_settle_items(core, result);
    if (result == RING_OK) {
        return value;
    }
    Py_CLEAR(value);
    if (result == RING_GONE && ends) {
        return NULL;
    }
    return ipckit_ring_error(self, result, "receive", timeout);
}

/* Where a message goes: into the caller's buffer, or into a new object. */
typedef struct {
    char *buffer;    /* NULL: make an object */
    uint64_t size;   /* bytes of the buffer */
    uint64_t length; /* of the message that was taken into it */
    PyObject *value; /* the new object, if a message was taken and there is no buffer */
} destination;

#define SMALL_RECORD 1024 /* bytes of a Struct that is copied to the stack first */

/* Takes the message that was peeked into `to`, or leaves it. The caller holds receive_lock and the
   interpreter. Returns RING_OK, RING_BUSY for what the slow path must do, or RING_INTERRUPTED with an
   exception set. For a Struct the bytes go to `record`: no object that the garbage collector tracks is
   created under the lock, because a collection may release a view, which takes the lock. */
static ring_result
take_peeked(channel_object *self, ring *r, const ring_message *message, destination *to, char *record)
{
    uint64_t most = to->buffer != NULL && to->size < GIL_FREE_BYTES ? to->size
        : to->buffer == NULL && self->record_type != NULL           ? SMALL_RECORD
                                                                    : GIL_FREE_BYTES;
    if (message->length > most) {
        return RING_BUSY;
    }
    ring_expect_message(r, message);
    if (to->buffer != NULL || self->record_type != NULL) {
        memcpy(to->buffer != NULL ? to->buffer : record, message->data, message->length);
    } else {
        to->value = PyBytes_FromStringAndSize(message->data, (Py_ssize_t)message->length);
        if (to->value == NULL) {
            return RING_INTERRUPTED;
        }
    }
    to->length = message->length;
    ring_take(r, message, 1);
    return RING_OK;
}

/* Takes the next message if it is there and small, with one try of the lock. The caller holds the
   interpreter. Returns as take_peeked does, or RING_EMPTY. */
static ring_result
receive_quickly(channel_object *self, ring *r, destination *to)
{
    char record[SMALL_RECORD], copy[SMALL_MOST];
    ring_message message;
    if (!ring_try_lock(r, &r->shared->receive_lock)) {
        return RING_BUSY;
    }
    ring_result result = ring_peek_small(r, &message, copy) ? RING_OK : ring_peek(r, &message);
    if (result == RING_OK) {
        result = take_peeked(self, r, &message, to, record);
    }
    ring_unlock(r, &r->shared->receive_lock);
    if (result != RING_OK) {
        return result;
    }
    ring_notify(r, POLL_SPACE);
    if (to->buffer == NULL && self->record_type != NULL) {
        to->value = ipckit_payload_new(self->record_type, record, (Py_ssize_t)to->length);
        return to->value == NULL ? RING_INTERRUPTED : RING_OK;
    }
    return RING_OK;
}

const char ipckit_channel_receive_doc[] = (
             "receive($self, *, timeout=None)\n--\n\n"
             "Take the next message, waiting until there is one.\n\n"
             "Args:\n"
             "    timeout: seconds to wait; 0 does not wait, None waits for ever.\n\n"
             "Returns:\n"
             "    The message, of the payload type; it shares no memory with the channel.\n\n"
             "Raises:\n"
             "    WouldBlock: it is empty, and `timeout` is 0.\n"
             "    Timeout: it was empty until the deadline.\n"
             "    PeerGone: it is empty, and the last who sent is gone.\n"
             "    LayoutMismatch: the bytes are no such payload; they are its `raw`.\n"
             "    Corrupt: somebody overwrote the shared memory.\n"
             "    InvalidArgument: `timeout` is out of range.\n"
             "    ClosedHandle: the handle is closed.");

/* How many messages are known to wait, without a look at the senders' memory. */
static uint64_t
known_to_wait(const ring *r)
{
    return (count_of(load_word(&r->shared->seen_tail)) - count_of(load_word(&r->shared->head)))
        & COUNT_MASK;
}

/* Spins for a short time before the interpreter is released, and receives if a message comes. In a
   stream of messages, each look takes the senders' cache line away, so the receiver backs off before it
   looks and finds several messages. The backoff grows while that brings more. A process that has sent
   since its last receive may get one answer at a time: that is not a stream. Returns as
   receive_quickly. */
static ring_result
receive_soon(channel_object *self, ring *r, destination *to)
{
    ring_sight before = ring_empty_sight(r);
    if (self->sends_seen != ipckit_channel_sends) {
        self->sends_seen = ipckit_channel_sends;
        self->lull = 0;
        return ring_spin(r, POLL_ITEMS, before, QUICK_LOOKS) ? receive_quickly(self, r, to)
                                                             : RING_EMPTY;
    }
    for (uint32_t pause = 0; pause < self->lull; pause++) {
        cpu_relax();
    }
    bool stream = ring_spin(r, POLL_ITEMS, before, STREAM_LOOKS);
    if (!stream && !ring_spin(r, POLL_ITEMS, before, QUICK_LOOKS)) {
        self->lull = 0;
        return RING_EMPTY;
    }
    ring_result result = receive_quickly(self, r, to);
    if (stream && known_to_wait(r) >= (self->lull < 8 ? 0 : 1 + self->lull / 16)) {
        self->lull = self->lull < LULL_MOST ? self->lull + 1 : LULL_MOST;
    } else {
        self->lull /= 2;
    }
    return result;
}

/* Takes the next message if it is small and comes soon. Returns as receive_quickly. The caller holds a
   reference to the core, because creating the object and asking for `timeout`'s truth may run any
   code. */
static ring_result
receive_small(channel_object *self, channel_core *core, PyObject *timeout, destination *to)
{
    ring *r = &core->r;
    ring_take_role(r, ROLE_RECEIVER);
    ring_result result = ring_looks_empty(r) ? RING_EMPTY : receive_quickly(self, r, to);
    if (result == RING_EMPTY && self->spin != 0) {
        int waits = timeout == Py_None ? 1 : PyObject_IsTrue(timeout);
        if (waits < 0) {
            result = RING_INTERRUPTED;
        } else if (waits) {
            result = receive_soon(self, r, to);
        }
    }
    if ((result == RING_OK || result == RING_INTERRUPTED) && core->descriptors != NULL) {
        ipckit_settle_items(core, RING_OK);
    }
    return result;
}

/* The next message; as receive_slowly gives it. */
static PyObject *
receive_any(channel_object *self, channel_core *core, PyObject *type, PyObject *timeout, bool ends)
{
    destination to = {.value = NULL};
    long forks = ipckit_core_hold(core);
    ring_result result = receive_small(self, core, timeout, &to);
    if (result != RING_OK && result != RING_INTERRUPTED) {
        to.value = receive_slowly(self, core, type, timeout, ends);
    }
    ipckit_core_drop(core, forks);
    return to.value;
}

PyObject *
ipckit_channel_receive(channel_object *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *timeout;
    if (ipckit_timeout_of(self, "receive", args, nargs, 0, kwnames, &timeout) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_core(self, "receive");
    if (core == NULL) {
        return NULL;
    }
    return decoded(self, receive_any(self, core, NULL, timeout, false));
}

/* (list, timeout): appends the next message. What a signal handler raises after this took a message
   finds it in the list. */
PyObject *
ipckit_channel_receive_to(channel_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (ipckit_check_nargs("_receive_to", nargs, 2) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_core(self, "receive");
    if (core == NULL) {
        return NULL;
    }
    PyObject *value = decoded(self, receive_any(self, core, NULL, args[1], false));
    int appended = value == NULL ? -1 : PyList_Append(args[0], value);
    Py_XDECREF(value);
    if (appended < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
ipckit_channel_next(channel_object *self)
{
    channel_core *core = ipckit_channel_core(self, "receive");
    return core == NULL ? NULL : decoded(self, receive_any(self, core, NULL, Py_None, true));
}

/* (holder class, timeout): the next message of a channel of bytes, as bytes where it is small, else in
   place. */
PyObject *
ipckit_channel_take(channel_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    native_state *state = ipckit_channel_state(self);
    if (state == NULL || ipckit_check_nargs("_take", nargs, 2) < 0
        || ipckit_holder_type_arg(args[0], state) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_core(self, "receive");
    if (core == NULL) {
        return NULL;
    }
    return receive_any(self, core, args[0], args[1], false);
}

/* Takes a message that fits into the buffer: a small one by a copy, a large one as a view that the caller
   copies without the lock. `call->items` is 0 after a copy. RING_TOO_LONG: it does not fit, and waits. */
static ring_result
op_into(ring *r, ring_call *call)
{
    ring_message *message = &call->message;
    uint64_t size = call->length;
    ring_result result = ring_peek(r, message);
    if (result != RING_OK) {
        return result;
    }
    if (message->length > size) {
        return RING_TOO_LONG;
    }
    call->length = size < GIL_FREE_BYTES ? size : GIL_FREE_BYTES;
    result = ipckit_op_view(r, call);
    call->length = size;
    return result;
}

/* Waits for the next message and copies it into the buffer: 0, or -1 with an exception set. */
static int
receive_into_slowly(channel_object *self, channel_core *core, PyObject *timeout, destination *to)
{
    ring_call call;
    if (ipckit_call_init(self, &call, POLL_ITEMS, op_into, timeout, "receive_into") < 0) {
        return -1;
    }
    call.data = to->buffer;
    call.length = to->size;
    ring_result result = ipckit_call(core, &call);
    const ring_message *message = &call.message;
    to->length = message->length;
    if (result == RING_OK && call.items != 0) {
        Py_BEGIN_ALLOW_THREADS
        memcpy(to->buffer, message->data, message->length);
        Py_END_ALLOW_THREADS
        ring_end_view(&core->r, message->at, (uint32_t)call.items);
    } else if (result == RING_TOO_LONG) {
        ring_notify(&core->r, POLL_ITEMS); /* another receiver can take the message */
    }
    ipckit_settle_items(core, result);
    if (result == RING_TOO_LONG) {
        ipckit_raise(PyObject_CallMethod((PyObject *)self, "_explain_too_long", "KK",
                                         (unsigned long long)to->length,
                                         (unsigned long long)to->size));
    } else if (result != RING_OK) {
        ipckit_ring_error(self, result, "receive_into", timeout);
    }
    return result == RING_OK ? 0 : -1;
}

const char ipckit_channel_receive_into_doc[] = (
             "receive_into($self, buffer, /, *, timeout=None)\n--\n\n"
             "Copy the bytes of the next message into a buffer, waiting until there is one.\n\n"
             "No object is created for the message, and no codec decodes it.\n\n"
             "Args:\n"
             "    buffer: a writable, contiguous buffer, such as a bytearray or an array.\n"
             "    timeout: seconds to wait; 0 does not wait, None waits without limit.\n\n"
             "Returns:\n"
             "    The number of bytes of the message.\n\n"
             "Raises:\n"
             "    MessageTooLong: the message is larger than the buffer; it stays in the channel.\n"
             "    TypeError: the buffer is not writable or not contiguous.\n"
             "    IpcError: as `receive`.");

/* A buffer to write in, in one piece: 0, or -1 with an exception set. The caller releases it. */
static int
writable_arg(PyObject *object, Py_buffer *buffer)
{
    if (PyObject_GetBuffer(object, buffer, PyBUF_WRITABLE) == 0) {
        return 0;
    }
    /* Exporters disagree on the exception: BufferError, ValueError of numpy. */
    if (PyErr_ExceptionMatches(PyExc_BufferError) || PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_SetString(PyExc_TypeError, "receive_into takes a writable, contiguous buffer");
    }
    return -1;
}

PyObject *
ipckit_channel_receive_into(channel_object *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    PyObject *timeout;
    Py_buffer buffer;
    if (ipckit_timeout_of(self, "receive_into", args, nargs, 1, kwnames, &timeout) < 0
        || writable_arg(args[0], &buffer) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_core(self, "receive_into");
    if (core == NULL) {
        PyBuffer_Release(&buffer);
        return NULL;
    }
    destination to = {.buffer = buffer.buf, .size = (uint64_t)buffer.len};
    char nothing;
    if (to.buffer == NULL) {
        to.buffer = &nothing; /* an empty buffer takes empty messages */
    }
    long forks = ipckit_core_hold(core);
    ring_result result = receive_small(self, core, timeout, &to);
    bool taken = result == RING_OK;
    if (!taken && result != RING_INTERRUPTED) {
        taken = receive_into_slowly(self, core, timeout, &to) == 0;
    }
    ipckit_core_drop(core, forks);
    PyBuffer_Release(&buffer);
    return taken ? PyLong_FromUnsignedLongLong(to.length) : NULL;
}
