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
receive_waiting(channel_object *self, channel_core *core, PyObject *type, PyObject *timeout,
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
        ring_release_view(&core->r, message->at, (uint32_t)call.items);
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

/* The next message; as receive_waiting gives it. */
static PyObject *
receive_any(channel_object *self, channel_core *core, PyObject *type, PyObject *timeout, bool ends)
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
    channel_core *core = ipckit_channel_joined(self, "receive");
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
    channel_core *core = ipckit_channel_joined(self, "receive");
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
    channel_core *core = ipckit_channel_joined(self, "receive");
    if (core == NULL) {
        return NULL;
    }
    return receive_any(self, core, args[0], args[1], false);
}
