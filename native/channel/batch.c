/* ChannelBase._send_batch and _receive_batch: many records of one size in one call, from an array into
   the ring and back. */
#include "channel/channel.h"

/* The maximum number of bytes to copy before the lock is released, so that other peers get it. */
#define TURN_BYTES (1 << 20)

/* Sends up to call->items records of call->length bytes each. Sets call->items to the number of records
   that were sent. Requires send_lock. Returns as ring_send_batch. */
static ring_result
op_send_batch(ring *r, ring_call *call)
{
    uint64_t item = call->length, most = TURN_BYTES / item;
    uint64_t items = call->items < most ? call->items : most > 0 ? most : 1;
    ring_result result = either_send_batch(r, call->data, item, &items);
    call->items = result == RING_OK ? items : call->items;
    return result;
}

int
ipckit_add_progress(PyObject *progress, Py_ssize_t more)
{
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyObject *before = PyList_GetItem(progress, 0);
    Py_ssize_t count = before == NULL ? -1 : PyLong_AsSsize_t(before);
    PyObject *sum = PyErr_Occurred() ? NULL : PyLong_FromSsize_t(count + more);
    int result = sum == NULL ? -1 : PyList_SetItem(progress, 0, sum);
    if (type != NULL) {
        PyErr_Restore(type, exception, traceback);
    }
    return result;
}

/* _send_batch(records, item, timeout, progress): sends a buffer of records of `item` bytes. Adds the
   number of records that were sent to the number in the list `progress`. Returns the ring_result that
   ended the call: RING_OK if all were sent. */
PyObject *
ipckit_channel_send_batch(channel_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t item;
    ring_call call;
    Py_buffer records;
    const char *op = self->topic ? "publish_many" : "send_many";
    if (ipckit_check_nargs("_send_batch", nargs, 4) < 0
        || ipckit_size_arg(args[1], "item", &item) < 0
        || ipckit_call_init(self, &call, POLL_SPACE, op_send_batch, args[2], op) < 0
        || ipckit_bytes_arg(args[0], &records) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_joined(self, op);
    if (core == NULL || item == 0 || item > INLINE_MAX || records.len % item != 0) {
        if (core != NULL) {
            PyErr_Format(PyExc_ValueError, "%s takes whole records of 1 to INLINE_MAX bytes", op);
        }
        PyBuffer_Release(&records);
        return NULL;
    }
    ipckit_note_sender(core);
    call.length = (uint64_t)item;
    ring_snapshot before = ring_take_snapshot(&core->r, POLL_SPACE);
    long forks = ipckit_core_acquire(core);
    Py_ssize_t done = 0;
    ring_result result = RING_OK;
    while (done < records.len && result == RING_OK) {
        call.data = (char *)records.buf + done;
        call.items = (uint64_t)(records.len - done) / (uint64_t)item;
        result = ipckit_call(core, &call);
        done += result == RING_OK ? (Py_ssize_t)call.items * item : 0;
    }
    PyBuffer_Release(&records);
    ipckit_update_space_fd(core, &call, result, before);
    ipckit_core_release(core, forks);
    if (ipckit_add_progress(args[3], done / item) < 0 || result == RING_INTERRUPTED) {
        return NULL;
    }
    return PyLong_FromLong((long)result);
}

/* Takes messages that were copied, also from a block: it was returned, or is the beginning of a loan.
   Returns RING_OK or RING_OVERTAKEN. */
static ring_result
take_copied(ring *r, const ring_message *message, uint64_t count)
{
    if (ring_is_topic(r) || message->block == NO_BLOCK) {
        return either_take(r, message, count);
    }
    ring_drop(r, message);
    ring_count_received(r, 1);
    return RING_OK;
}

/* Copies messages of call->length bytes to call->data and takes them. Stops when call->items messages
   were copied, when TURN_BYTES were, when the channel is empty, or at a message of another size. Sets
   call->items to the number of messages. Requires receive_lock. Returns RING_OK if there was one, else
   RING_EMPTY, RING_TOO_LONG for another size, RING_OVERTAKEN or RING_CORRUPT. */
static ring_result
op_receive_batch(ring *r, ring_call *call)
{
    uint64_t item = call->length, most = TURN_BYTES / item + 1, done = 0;
    most = call->items < most ? call->items : most;
    while (done < most) {
        ring_message *message = &call->message;
        ring_result result = either_peek(r, message);
        if (result != RING_OK || message->length != item) {
            if (done == 0) {
                return result == RING_OK ? RING_TOO_LONG : result;
            }
            break;
        }
        uint64_t count = message->items - message->index;
        count = count < most - done ? count : most - done;
        either_copy(r, (char *)call->data + done * item, message->data, count * item);
        result = take_copied(r, message, count);
        if (result != RING_OK) {
            if (done == 0) {
                return result;
            }
            break;
        }
        done += count;
    }
    call->items = done;
    return RING_OK;
}

/* _receive_batch(records, item, timeout, progress): copies messages of `item` bytes into a buffer. Waits
   for the first message only. Adds the number of messages to the number in the list `progress`. Returns
   the ring_result that ended the call: RING_OK if the buffer is full. */
PyObject *
ipckit_channel_receive_batch(channel_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t item;
    ring_call call;
    Py_buffer records;
    if (ipckit_check_nargs("_receive_batch", nargs, 4) < 0
        || ipckit_size_arg(args[1], "item", &item) < 0
        || ipckit_call_init(self, &call, POLL_ITEMS, op_receive_batch, args[2], "receive_many") < 0
        || ipckit_hold_buffer(args[0], &records) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_joined(self, "receive_many");
    if (core == NULL || item == 0 || records.readonly || records.len < item) {
        if (core != NULL) {
            PyErr_SetString(PyExc_ValueError, "receive_many takes a writable buffer for at least one record");
        }
        PyBuffer_Release(&records);
        return NULL;
    }
    ring_add_role(&core->r, ROLE_RECEIVER);
    call.length = (uint64_t)item;
    long forks = ipckit_core_acquire(core);
    Py_ssize_t done = 0, room = records.len / item;
    ring_result result = RING_OK;
    while (done < room && result == RING_OK) {
        call.data = (char *)records.buf + done * item;
        call.items = (uint64_t)(room - done);
        result = done == 0 ? ipckit_call(core, &call) : ipckit_call_uninterrupted(core, &call);
        done += result == RING_OK ? (Py_ssize_t)call.items : 0;
        call.deadline = 0; /* take what has arrived; do not wait for more */
    }
    PyBuffer_Release(&records);
    ipckit_update_items_fd(core, result);
    ipckit_core_release(core, forks);
    if (ipckit_add_progress(args[3], done) < 0 || result == RING_INTERRUPTED) {
        return NULL;
    }
    return PyLong_FromLong((long)result);
}
