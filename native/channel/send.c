/* ChannelBase.send. It is in C to save the time of a Python function call. */
#include "channel/channel.h"
#include "records/record.h"

uint32_t ipckit_channel_sends = 0;

/* A payload's bytes, and the references that keep them in memory. */
typedef struct {
    const char *data;
    uint64_t length;
    Py_buffer buffer;  /* buffer.obj is NULL if the bytes are the value's own */
    PyObject *encoded; /* what the codec returned, or NULL */
} payload;

/* Gets the bytes of a value, encoded by the codec if it needs that. The caller has a reference to the
   value, and calls payload_release afterwards. May run any Python code. Returns 0, or -1 with an exception
   set; then there is nothing to release. */
static int
payload_get(channel_object *self, PyObject *value, payload *result)
{
    result->buffer.obj = NULL;
    result->encoded = NULL;
    if (self->plain && PyBytes_CheckExact(value)) {
        result->data = PyBytes_AsString(value);
        result->length = (uint64_t)PyBytes_Size(value);
        return 0;
    }
    if (self->record_type != NULL && Py_IS_TYPE(value, (PyTypeObject *)self->record_type)) {
        const Record *record = (const Record *)value;
        result->data = record->data;
        result->length = (uint64_t)record->size;
        return 0;
    }
    if (!self->plain || !PyObject_CheckBuffer(value)) {
        result->encoded = PyObject_CallFunctionObjArgs(self->encode, value, NULL);
        if (result->encoded == NULL) {
            return -1;
        }
        value = result->encoded;
    }
    if (ipckit_bytes_arg(value, &result->buffer) < 0) {
        Py_CLEAR(result->encoded);
        result->buffer.obj = NULL;
        return -1;
    }
    result->data = result->buffer.buf;
    result->length = (uint64_t)result->buffer.len;
    return 0;
}

static void
payload_release(payload *result)
{
    if (result->buffer.obj != NULL) {
        PyBuffer_Release(&result->buffer);
    }
    Py_CLEAR(result->encoded);
}

/* Finds out whether send_lock is available. Returns as ring_lock; holds no lock afterwards. */
static ring_result
try_send_lock(ring *r, ring_call *call)
{
    ring_result result = RING_OK;
    call->busy = &r->shared->send_lock;
    if (!ring_try_lock(r, call->busy)) {
        Py_BEGIN_ALLOW_THREADS
        result = ring_lock(r, call->busy, 0);
        Py_END_ALLOW_THREADS
    }
    if (result == RING_OK) {
        ring_unlock(r, call->busy);
    }
    return result;
}

/* Sends a payload in a block: lends it, copies the payload without a lock, and sends it. The caller has
   acquired the core. Returns as ipckit_call. */
static ring_result
send_in_block(channel_core *core, ring_call *call)
{
    ring *r = &core->r;
    /* A sender that polls must not lend and return a block while the other lock is taken: it would wake
       itself by that. */
    ring_result result = call->deadline == 0 ? try_send_lock(r, call) : RING_OK;
    if (result == RING_OK) {
        call->operation = ipckit_op_lend;
        call->lends = true;
        result = ipckit_call(core, call);
    }
    if (result != RING_OK) {
        return result;
    }
    char *to = block_data(r, call->block);
    if (call->length <= GIL_FREE_BYTES) {
        memcpy(to, call->data, call->length);
    } else {
        Py_BEGIN_ALLOW_THREADS
        memcpy(to, call->data, call->length);
        Py_END_ALLOW_THREADS
    }
    call->operation = ipckit_op_send_block;
    call->lends = false;
    uint32_t owner = r->owner;
    call->items = owner;
    result = ipckit_call(core, call);
    if (result != RING_OK && owner == r->owner) { /* not in a child of a signal handler's fork */
        ring_release_block(r, call->block, BLOCK_LENT, owner);
    }
    return result;
}

int
ipckit_send_bytes(channel_object *self, channel_core *core, const char *data, uint64_t length,
                  const char *op, PyObject *timeout)
{
    ring_call call;
    long forks = ipckit_core_acquire(core); /* first: ipckit_call_init may run any Python code */
    if (ipckit_call_init(self, &call, POLL_SPACE, ipckit_op_send, timeout, op) < 0) {
        ipckit_core_release(core, forks);
        return -1;
    }
    call.data = data;
    call.length = length;
    ring_snapshot before = ring_take_snapshot(&core->r, POLL_SPACE);
    ring_result result = length > INLINE_MAX ? send_in_block(core, &call) : ipckit_call(core, &call);
    if (result != RING_OK) {
        ipckit_update_space_fd(core, &call, result, before);
        ipckit_ring_error(self, result, op, timeout);
    }
    ipckit_core_release(core, forks);
    return result == RING_OK ? 0 : -1;
}

const char ipckit_channel_send_doc[] = (
             "send($self, value, /, *, timeout=None)\n--\n\n"
             "Send one message. Wait while the channel is full.\n\n"
             "Args:\n"
             "    value: the message, of the channel's type. A channel of bytes takes any bytes-like\n"
             "        object.\n"
             "    timeout: seconds to wait; None (default) waits without limit, 0 does not wait.\n\n"
             "Raises:\n"
             "    WouldBlock: the channel is full, and `timeout` is 0.\n"
             "    Timeout: the channel was full until the timeout ended.\n"
             "    PeerGone: the channel is full, and the last receiver is gone.\n"
             "    MessageTooLong: the message is longer than the limit of this channel.\n"
             "    Corrupt: another process overwrote or truncated the channel's memory.\n"
             "    TypeError: the value is not of the channel's type.\n"
             "    InvalidArgument: `timeout` is out of range.\n"
             "    ClosedHandle: the handle is closed.\n\n"
             ">>> from ipckit import Channel\n"
             ">>> with Channel.anonymous(type=str) as channel:\n"
             "...     channel.send(\"hello\", timeout=1)\n"
             "...     channel.receive()\n"
             "'hello'");

/* Lends a block and copies a payload of up to GIL_FREE_BYTES into it. Returns the block, or NO_BLOCK if
   the slow path must do it. */
static uint32_t
fill_block(ring *r, const char *data, uint64_t length)
{
    uint32_t block;
    /* If the other lock is taken too, only the slow path lends the block: it keeps the block meanwhile. */
    if (length > GIL_FREE_BYTES || __atomic_load_n(&r->shared->send_lock.owner, __ATOMIC_RELAXED) != 0
        || !ring_try_lock(r, either_lend_lock(r))) {
        return NO_BLOCK;
    }
    ring_result result = either_lend(r, length, &block);
    ring_unlock(r, either_lend_lock(r));
    if (result != RING_OK) {
        return NO_BLOCK;
    }
    memcpy(block_data(r, block), data, length);
    return block;
}

/* Sends a payload of up to GIL_FREE_BYTES if there is room and no other peer has a lock that it needs.
   Returns whether it did. */
static bool
send_at_once(ring *r, const char *data, uint64_t length)
{
    uint32_t block = length <= INLINE_MAX ? NO_BLOCK : fill_block(r, data, length);
    if (length > INLINE_MAX && block == NO_BLOCK) {
        return false;
    }
    ring_result result = RING_BUSY;
    if (ring_try_lock(r, &r->shared->send_lock)) {
        result = block == NO_BLOCK ? either_send(r, data, length)
                                   : either_send_block(r, block, length, r->owner);
        ring_unlock(r, &r->shared->send_lock);
    }
    if (result == RING_OK) {
        ring_notify(r, POLL_ITEMS);
    } else if (block != NO_BLOCK) {
        ring_release_block(r, block, BLOCK_LENT, r->owner);
    }
    return result == RING_OK;
}

/* Sends a value; waits while the channel is full. Returns 0, or -1 with an exception set. */
static int
send_value(channel_object *self, PyObject *object, PyObject *timeout)
{
    payload value;
    const char *op = self->topic ? "publish" : "send";
    if (ipckit_channel_joined(self, op) == NULL || payload_get(self, object, &value) < 0) {
        return -1;
    }
    /* Check again: encoding may have run code that closed the handle. */
    channel_core *core = ipckit_channel_joined(self, op);
    if (core == NULL) {
        payload_release(&value);
        return -1;
    }
    ipckit_note_sender(core);
    int sent = send_at_once(&core->r, value.data, value.length)
        ? 0
        : ipckit_send_bytes(self, core, value.data, value.length, op, timeout);
    payload_release(&value);
    return sent;
}

PyObject *
ipckit_channel_send(channel_object *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *timeout;
    if (ipckit_timeout_of(self, "send", args, nargs, 1, kwnames, &timeout) < 0
        || send_value(self, args[0], timeout) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
ipckit_topic_publish(channel_object *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *timeout;
    if (ipckit_timeout_of(self, "publish", args, nargs, 1, kwnames, &timeout) < 0
        || send_value(self, args[0], timeout) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* _send_one(value, timeout, progress): sends one message, and adds 1 to the number in the list
   `progress`. */
PyObject *
ipckit_channel_send_one(channel_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (ipckit_check_nargs("_send_one", nargs, 3) < 0
        || send_value(self, args[0], args[1]) < 0 || ipckit_add_progress(args[2], 1) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}
