/* SpillFile.send_parts: copies the parts of an object into a block of the channel, and sends it. All of
   that is one call of a C function, so an exception of a signal handler can't leak the block. And
   copy_bytes, for the buffers of a received object. */
#include "process_queue/spill.h"
#include "ring/copy.h"

/* The bytes of an object. */
typedef struct {
    Py_buffer *buffers;
    Py_ssize_t count;
    uint64_t size;
} parts;

static void
release_parts(parts *self)
{
    while (self->count > 0) {
        PyBuffer_Release(&self->buffers[--self->count]);
    }
    PyMem_Free(self->buffers);
}

/* Gets the buffers of a list of bytes-like objects. May run any Python code. Returns 0, or -1 with an
   exception set; then there is nothing to release. */
static int
get_parts(PyObject *list, parts *self)
{
    if (!PyList_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "send_parts takes a list of bytes-like objects");
        return -1;
    }
    Py_ssize_t count = PyList_Size(list);
    *self = (parts){.buffers = PyMem_Calloc((size_t)count + 1, sizeof(Py_buffer))};
    if (self->buffers == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    while (self->count < count) {
        PyObject *part = PyList_GetItem(list, self->count);
        if (part == NULL || ipckit_bytes_arg(part, &self->buffers[self->count]) < 0) {
            release_parts(self);
            return -1;
        }
        self->size += (uint64_t)self->buffers[self->count++].len;
    }
    return 0;
}

/* Copies all parts to memory, one after the other. Needs no GIL. */
static void
copy_parts(const parts *self, char *to)
{
    for (Py_ssize_t i = 0; i < self->count; i++) {
        copy_large(to, self->buffers[i].buf, (size_t)self->buffers[i].len);
        to += self->buffers[i].len;
    }
}

/* How long to wait for memory, which receivers free as they go on. A piece of the spill file takes longer
   to allocate than a receiver takes for an object of the same size. */
#define PATIENCE_NS (2 * NS_PER_MS)

/* As ipckit_op_lend, but does not wait for memory. Returns RING_OK and sets call->block to NO_BLOCK if
   the queue has a place for the message and the pool has no memory. Requires pool_lock. */
static ring_result
lend_if_possible(ring *r, ring_call *call)
{
    call->block = NO_BLOCK;
    if (!ring_length_is_valid(r, call->length)) {
        return RING_OK;
    }
    if (!ring_looks_sendable(r)) {
        return RING_FULL;
    }
    call->block = blocks_allocate(r, call->length, blocks_for_senders(r));
    return RING_OK;
}

/* Waits a moment for a block. Waits once only until a receiver takes the next message, because receivers
   may not run at all. A signal handler that puts another object during the wait does not wait, so
   signals that come faster do not nest. Returns as ipckit_call; RING_OK also if there is no memory. */
static ring_result
wait_for_memory(spill_object *self, channel_core *core, ring_call *call)
{
    const uint64_t *head = &core->r.shared->head;
    int64_t deadline = call->deadline, patience = deadline_after(PATIENCE_NS);
    if (deadline == 0 || load_acquire(head) == self->stalled_head) {
        return RING_OK;
    }
    self->stalled_head = load_acquire(head);
    call->operation = ipckit_op_lend;
    call->deadline = earlier(deadline, patience);
    ring_result result = ipckit_call(core, call);
    call->deadline = deadline;
    if (result == RING_TIMEOUT || result == RING_GONE || result == RING_BUSY) {
        self->stalled_head = load_acquire(head);
        call->block = NO_BLOCK;
        return RING_OK;
    }
    self->stalled_head = 0;
    return result;
}

/* Waits for a place in the queue and lends a block. If there is no memory, reclaims that of dead
   processes, or waits a moment. Returns as ipckit_call; call->block is NO_BLOCK if there is no memory. */
static ring_result
lend(spill_object *self, channel_core *core, ring_call *call)
{
    ring *r = &core->r;
    call->operation = lend_if_possible;
    call->lends = true;
    ring_result result = ipckit_call(core, call);
    if (result == RING_OK && call->block == NO_BLOCK) {
        bool recovered = false;
        Py_BEGIN_ALLOW_THREADS /* it may wait for locks */
        ring_check_peers_sometimes(r);
        recovered = load_relaxed(&r->shared->recovery_wanted)
            && ring_recover_if_wanted(r) == RING_OK;
        Py_END_ALLOW_THREADS
        if (recovered) {
            result = ipckit_call(core, call);
        }
    }
    if (result == RING_OK && call->block == NO_BLOCK && ring_length_is_valid(r, call->length)) {
        result = wait_for_memory(self, core, call);
    }
    call->lends = false;
    return result;
}

/* Sends the object in a block. Sets `*inherited` if a signal handler forked and this is the child: the
   parent has the block and sends it. Returns as ipckit_call; call->block is NO_BLOCK if there is no
   memory. The caller has acquired the core. */
static ring_result
send_in_block(spill_object *self, channel_core *core, ring_call *call, const parts *object,
              bool *inherited)
{
    ring *r = &core->r;
    ring_result result = lend(self, core, call);
    if (result != RING_OK || call->block == NO_BLOCK) {
        return result;
    }
    uint32_t owner = r->owner;
    if (call->length <= GIL_FREE_BYTES) {
        copy_parts(object, block_data(r, call->block));
    } else {
        Py_BEGIN_ALLOW_THREADS
        copy_parts(object, block_data(r, call->block));
        Py_END_ALLOW_THREADS
    }
    call->operation = ipckit_op_send_block;
    call->items = owner;
    result = ipckit_call(core, call);
    *inherited = owner != r->owner;
    if (result != RING_OK && !*inherited) {
        ring_release_block(r, call->block, BLOCK_LENT, owner);
    }
    return result;
}

const char ipckit_spill_send_parts_doc[] = (
             "send_parts($self, parts, timeout, /)\n--\n\n"
             "Send a list of bytes-like objects as one message, in a block of the channel. Wait while the\n"
             "channel has reached its capacity, but hardly for memory. Return True; None if the channel has\n"
             "no memory for the message, which must be sent as a Piece; or False in a forked child whose\n"
             "parent sends the message. Raise as `Channel.send`; then the message was not sent.");

PyObject *
ipckit_spill_send_parts(spill_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    parts object;
    ring_call call;
    channel_object *channel = self->channel;
    if (ipckit_check_nargs("send_parts", nargs, 2) < 0
        || ipckit_call_init(channel, &call, POLL_SPACE, lend_if_possible, args[1], "send") < 0
        || get_parts(args[0], &object) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_joined(channel, "send");
    if (core == NULL) {
        release_parts(&object);
        return NULL;
    }
    call.length = object.size;
    ipckit_note_sender(core);
    long forks = ipckit_core_acquire(core);
    bool inherited = false;
    ring_snapshot before = ring_take_snapshot(&core->r, POLL_SPACE);
    ring_result result = send_in_block(self, core, &call, &object, &inherited);
    release_parts(&object);
    PyObject *sent = NULL;
    if (result == RING_OK) {
        sent = call.block == NO_BLOCK ? Py_NewRef(Py_None) : PyBool_FromLong(true);
    } else if (result == RING_CLOSED && inherited) {
        sent = PyBool_FromLong(false);
    } else {
        ipckit_update_space_fd(core, &call, result, before);
        ipckit_ring_error(channel, result, "send", args[1]);
    }
    ipckit_core_release(core, forks);
    return sent;
}

PyDoc_STRVAR(copy_bytes_doc,
             "copy_bytes($module, data, /)\n--\n\n"
             "Return a bytearray with the bytes of `data`. Other threads run during a large copy.");

static PyObject *
copy_bytes(PyObject *Py_UNUSED(module), PyObject *object)
{
    Py_buffer data;
    if (ipckit_bytes_arg(object, &data) < 0) {
        return NULL;
    }
    PyObject *copy = PyByteArray_FromStringAndSize(NULL, data.len);
    if (copy != NULL) {
        char *to = PyByteArray_AsString(copy);
        Py_BEGIN_ALLOW_THREADS
        copy_large(to, data.buf, (size_t)data.len);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    return copy;
}

static PyMethodDef functions[] = {
    {"copy_bytes", copy_bytes, METH_O, copy_bytes_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_parts(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
