/* ChannelBase.receive and iteration. They are in C to save the time of a Python function call. */
#include "channel/channel.h"
#include "records/record.h"

/* Creates the object for a message's bytes: a Struct, or bytes. Returns NULL with an exception set. */
static PyObject *
new_payload(channel_object *self, const char *data, uint64_t length)
{
    if (self->record_type != NULL) {
        return ipckit_payload_new(self->record_type, data, (Py_ssize_t)length);
    }
    return PyBytes_FromStringAndSize(data, (Py_ssize_t)length);
}

/* Replaces the codec's exception by the one of Python's `_undecodable`, which keeps the bytes: the
   message was taken, and its bytes must not be lost. */
static void
raise_undecodable(channel_object *self, PyObject *bytes)
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

/* Decodes a message with the codec, if the channel has one. Steals `bytes`, which may be NULL with an
   exception set. Returns a new reference, or NULL with an exception set. */
static PyObject *
decode_payload(channel_object *self, PyObject *bytes)
{
    if (bytes == NULL || self->decode == NULL) {
        return bytes;
    }
    PyObject *value = PyObject_CallFunctionObjArgs(self->decode, bytes, NULL);
    if (value == NULL) {
        raise_undecodable(self, bytes);
    }
    Py_DECREF(bytes);
    return value;
}

/* Creates an object for a message of `length` bytes before the message is taken, so that MemoryError
   does not lose it. Sets `*to` to where the bytes must be copied. Returns a new reference, or NULL with
   an exception set. */
static PyObject *
new_unfilled_payload(channel_object *self, uint64_t length, char **to)
{
    if (self->record_type != NULL) {
        Layout *layout = ipckit_layout_of((PyTypeObject *)self->record_type);
        PyTypeObject *type = (PyTypeObject *)self->record_type;
        Py_ssize_t size = (Py_ssize_t)length;
        bool fits = layout != NULL && ipckit_layout_takes(layout, size);
        Record *record = fits ? ipckit_record_new(type, layout, size) : NULL;
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

/* As ipckit_op_view, but holds only a block with call->length bytes, because the caller has an object
   of that size. Returns RING_TOO_LONG for another size, message.length; that message still waits.
   Requires receive_lock. */
static ring_result
op_view_of_size(ring *r, ring_call *call)
{
    ring_message *message = &call->message;
    ring_result result = either_peek(r, message);
    if (result == RING_OK && message->block != NO_BLOCK && message->length != call->length) {
        return RING_TOO_LONG;
    }
    return result == RING_OK ? ipckit_take_found(r, call) : result;
}

/* Waits for the next message and takes it. Before it holds a block, it creates the object `*value` for
   a copy, and sets `*to` (new_unfilled_payload). Returns as ipckit_call. */
static ring_result
take_next(channel_object *self, channel_core *core, ring_call *call, PyObject **value, char **to)
{
    call->operation = op_view_of_size;
    for (;;) {
        ring_result result = ipckit_call(core, call);
        if (result != RING_TOO_LONG) {
            return result;
        }
        Py_CLEAR(*value);
        *value = new_unfilled_payload(self, call->message.length, to);
        if (*value == NULL) {
            ring_notify(&core->r, POLL_ITEMS); /* another receiver can take the message */
            return RING_INTERRUPTED;
        }
        call->length = call->message.length;
    }
}

/* Waits for the next message and takes it. Returns a new reference, or NULL with an exception set. If
   `type` is not NULL, it is a subclass of LeaseHolder, and a large message is left in place and returned
   as an instance of it. With `ends`, returns NULL without an exception if the channel is empty and the
   last sender is gone. The caller has acquired the core. */
static PyObject *
receive_waiting(channel_object *self, channel_core *core, PyObject *type, PyObject *timeout,
               bool ends)
{
    ring_call call;
    char small[INLINE_MAX];
    if (ipckit_call_init(self, &call, POLL_ITEMS, ipckit_op_view, timeout, "receive") < 0) {
        return NULL;
    }
    call.data = small;
    call.length = UINT64_MAX; /* no object yet */
    PyObject *value = NULL;
    char *to = NULL;
    ring_result result = type == NULL ? take_next(self, core, &call, &value, &to)
                                      : ipckit_call(core, &call);
    const ring_message *message = &call.message;
    if (result == RING_OK && call.items == 0) {
        Py_CLEAR(value);
        value = new_payload(self, small, message->length);
    } else if (result == RING_OK && type == NULL) {
        ipckit_copy_and_release(core, &call, to);
    } else if (result == RING_OK) {
        value = ipckit_holder_of_view(self, self->state, type, core, &call, small);
    }
    ipckit_update_items_fd(core, result);
    if (result == RING_OK) {
        return value;
    }
    Py_CLEAR(value);
    if (result == RING_GONE && ends) {
        return NULL;
    }
    return ipckit_ring_error(self, result, "receive", timeout);
}

void
ipckit_copy_and_release(channel_core *core, const ring_call *call, char *to)
{
    const ring_message *message = &call->message;
    if (message->length <= GIL_FREE_BYTES) {
        memcpy(to, message->data, message->length);
    } else {
        Py_BEGIN_ALLOW_THREADS
        memcpy(to, message->data, message->length);
        Py_END_ALLOW_THREADS
    }
    either_end_read(&core->r, message->block, (uint32_t)call->items);
}

const char ipckit_channel_receive_doc[] = (
             "receive($self, *, timeout=None)\n--\n\n"
             "Take the next message. Wait until there is one.\n\n"
             "Args:\n"
             "    timeout: seconds to wait; None (default) waits without limit, 0 does not wait.\n\n"
             "Returns:\n"
             "    The message, of the channel's type. It shares no memory with the channel.\n\n"
             "Raises:\n"
             "    WouldBlock: the channel is empty, and `timeout` is 0.\n"
             "    Timeout: the channel was empty until the timeout ended.\n"
             "    PeerGone: the channel is empty, and the last sender is gone.\n"
             "    LayoutMismatch: the message could not be decoded; ``.raw`` has its bytes.\n"
             "    Corrupt: another process overwrote or truncated the channel's memory.\n"
             "    InvalidArgument: `timeout` is out of range.\n"
             "    ClosedHandle: the handle is closed.\n\n"
             ">>> from ipckit import Channel\n"
             ">>> with Channel.anonymous() as channel:\n"
             "...     channel.send(b\"hello\")\n"
             "...     channel.receive(timeout=1)\n"
             "b'hello'");

/* Takes the next message: first on the fast path, then as receive_waiting, with the same result. */
static PyObject *
receive_undecoded(channel_object *self, channel_core *core, PyObject *type, PyObject *timeout, bool ends)
{
    receive_target to = {.value = NULL};
    long forks = ipckit_core_acquire(core);
    ring_result result = ipckit_receive_small(self, core, timeout, &to);
    if (result != RING_OK && result != RING_INTERRUPTED) {
        to.value = receive_waiting(self, core, type, timeout, ends);
    }
    ipckit_core_release(core, forks);
    return to.value;
}

PyObject *
ipckit_channel_receive(channel_object *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *timeout;
    if (ipckit_timeout_of(self, "receive", args, nargs, 0, kwnames, &timeout) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_joined(self, "receive");
    if (core == NULL) {
        return NULL;
    }
    return decode_payload(self, receive_undecoded(self, core, NULL, timeout, false));
}

/* _receive_to(found, timeout): takes the next message and appends it to the list `found`. If a signal
   handler raises after the message was taken, the list still has it. */
PyObject *
ipckit_channel_receive_to(channel_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (ipckit_check_nargs("_receive_to", nargs, 2) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_joined(self, "receive");
    if (core == NULL) {
        return NULL;
    }
    PyObject *value = decode_payload(self, receive_undecoded(self, core, NULL, args[1], false));
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
    channel_core *core = ipckit_channel_joined(self, "receive");
    if (core == NULL) {
        return NULL;
    }
    return decode_payload(self, receive_undecoded(self, core, NULL, Py_None, true));
}

/* _take(holder, timeout): takes the next message of a channel of bytes. Returns a small one as bytes,
   and a large one in place, as an instance of `holder`, a subclass of LeaseHolder. */
PyObject *
ipckit_channel_take(channel_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    native_state *state = ipckit_channel_state(self);
    if (state == NULL || ipckit_check_nargs("_take", nargs, 2) < 0
        || ipckit_holder_type_arg(args[0], state) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_joined(self, "receive");
    if (core == NULL) {
        return NULL;
    }
    return receive_undecoded(self, core, args[0], args[1], false);
}
