/* ChannelBase.receive_into: copies the bytes of a message into the caller's buffer. */
#include "channel/channel.h"

/* Takes the next message as ipckit_op_view does, if it fits into the buffer of call->length bytes at
   call->data. Returns RING_TOO_LONG if it does not; then it still waits. Requires receive_lock. */
static ring_result
op_receive_into(ring *r, ring_call *call)
{
    ring_result result = either_peek(r, &call->message);
    if (result == RING_OK && call->message.length > call->length) {
        return RING_TOO_LONG;
    }
    return result == RING_OK ? ipckit_take_found(r, call) : result;
}

/* Waits for the next message and copies it into the buffer. Sets to->length. Returns 0, or -1 with an
   exception set. The caller has acquired the core. */
static int
receive_into_waiting(channel_object *self, channel_core *core, PyObject *timeout, receive_target *to)
{
    ring_call call;
    if (ipckit_call_init(self, &call, POLL_ITEMS, op_receive_into, timeout, "receive_into") < 0) {
        return -1;
    }
    call.data = to->buffer;
    call.length = to->size;
    ring_result result = ipckit_call(core, &call);
    const ring_message *message = &call.message;
    to->length = message->length;
    if (result == RING_OK && call.items != 0) {
        ipckit_copy_and_release(core, &call, to->buffer);
    } else if (result == RING_TOO_LONG) {
        ring_notify(&core->r, POLL_ITEMS); /* another receiver can take the message */
    }
    ipckit_update_items_fd(core, result);
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
             "Take the next message and copy its bytes into a buffer. Wait until there is one.\n\n"
             "No object is created for the message, and no codec decodes it.\n\n"
             "Args:\n"
             "    buffer: a writable, contiguous buffer, such as a bytearray or an array.\n"
             "    timeout: seconds to wait; None (default) waits without limit, 0 does not wait.\n\n"
             "Returns:\n"
             "    The number of bytes of the message.\n\n"
             "Raises:\n"
             "    MessageTooLong: the message is larger than the buffer; it stays in the channel.\n"
             "    TypeError: the buffer is not writable or not contiguous, or it is an array of\n"
             "        Python objects or of a subclass of ndarray.\n"
             "    IpcError: as for `receive`.\n\n"
             ">>> from ipckit import Channel\n"
             ">>> buffer = bytearray(1024)\n"
             ">>> with Channel.anonymous() as channel:\n"
             "...     channel.send(b\"hello\")\n"
             "...     length = channel.receive_into(buffer)\n"
             ">>> buffer[:length]\n"
             "bytearray(b'hello')");

/* Gets a writable, contiguous buffer, which the caller releases. Returns 0, or -1 with an exception
   set. */
static int
writable_arg(PyObject *object, Py_buffer *buffer)
{
    if (ipckit_get_buffer(object, buffer, PyBUF_WRITABLE) == 0) {
        return 0;
    }
    /* Most exporters raise BufferError, but numpy raises ValueError. */
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
    channel_core *core = ipckit_channel_joined(self, "receive_into");
    if (core == NULL) {
        PyBuffer_Release(&buffer);
        return NULL;
    }
    receive_target to = {.buffer = buffer.buf, .size = (uint64_t)buffer.len};
    char nothing;
    if (to.buffer == NULL) {
        to.buffer = &nothing; /* an empty buffer takes empty messages */
    }
    long forks = ipckit_core_acquire(core);
    ring_result result = ipckit_receive_small(self, core, timeout, &to);
    bool taken = result == RING_OK;
    if (!taken && result != RING_INTERRUPTED) {
        taken = receive_into_waiting(self, core, timeout, &to) == 0;
    }
    ipckit_core_release(core, forks);
    PyBuffer_Release(&buffer);
    return taken ? PyLong_FromUnsignedLongLong(to.length) : NULL;
}
