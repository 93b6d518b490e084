/* ChannelBase's receive_into: the bytes of a message in the caller's buffer. */
#include "channel/channel.h"

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
receive_into_waiting(channel_object *self, channel_core *core, PyObject *timeout, receive_target *to)
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
        ring_release_view(&core->r, message->at, (uint32_t)call.items);
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
