/* LeaseHolder: the native base class of Loan, View and Delivery, which are messages in place. A sender
   writes in a loan, and a receiver reads in a view or a delivery.

   A LeaseHolder has a reference to a Lease. numpy arrays over the message have one too, because the
   Lease is their base. The block is freed with the last reference. */
#include "channel/channel.h"
#include "ring/copy.h"

PyObject *
ipckit_holder_new(PyObject *type, channel_object *channel, lease_object *lease)
{
    if (lease == NULL) {
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot((PyTypeObject *)type, Py_tp_alloc);
    holder_object *self = (holder_object *)alloc((PyTypeObject *)type, 0);
    if (self == NULL) {
        Py_DECREF((PyObject *)lease);
        return NULL;
    }
    self->channel = Py_NewRef((PyObject *)channel);
    self->lease = lease;
    return (PyObject *)self;
}

int
ipckit_holder_type_arg(PyObject *object, native_state *state)
{
    if (PyType_Check(object)
        && PyType_IsSubtype((PyTypeObject *)object, state->lease_holder_type)) {
        return 0;
    }
    PyErr_SetString(PyExc_TypeError, "holder is not a subclass of LeaseHolder");
    return -1;
}

native_state *
ipckit_channel_state(channel_object *self)
{
    if (self->state == NULL) {
        PyErr_SetString(PyExc_ValueError, "the channel was never opened");
    }
    return self->state;
}

PyObject *
ipckit_holder_of_view(channel_object *self, native_state *state, PyObject *type, channel_core *core,
                      const ring_call *call, const char *small)
{
    const ring_message *message = &call->message;
    lease_object *lease =
        ipckit_lease_new(state, core, BLOCK_READ, message->block, small, message->length);
    return ipckit_holder_new(type, self, lease);
}

static PyObject *
holder_lease(holder_object *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->lease == NULL ? Py_None : (PyObject *)self->lease);
}

/* The property buf. Without a lease, Python's `_memory` raises ClosedHandle. */
static PyObject *
holder_buf(holder_object *self, void *Py_UNUSED(closure))
{
    if (self->lease != NULL) {
        return PyMemoryView_FromObject((PyObject *)self->lease);
    }
    PyObject *lease = PyObject_GetAttrString((PyObject *)self, "_memory");
    PyObject *view = lease == NULL ? NULL : PyMemoryView_FromObject(lease);
    Py_XDECREF(lease);
    return view;
}

PyDoc_STRVAR(buf_doc, "The message's bytes, as a memoryview of its memory.\n\n"
                      "The memory of a loan can be written; that of a view or delivery is read-only.\n\n"
                      "Raises:\n"
                      "    ClosedHandle: the message was sent, cancelled, released, acknowledged or given\n"
                      "        back.");

static PyObject *
holder_channel(holder_object *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->channel);
}

/* The property _is_ours: false for a message that belongs to the parent of this forked process. */
static PyObject *
holder_is_ours(holder_object *self, void *Py_UNUSED(closure))
{
    const lease_object *lease = self->lease;
    return PyBool_FromLong(lease != NULL
                           && (lease->core == NULL || lease->forks == lease->core->forks));
}

static PyObject *
holder_nbytes(holder_object *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(self->lease == NULL ? 0 : self->lease->size);
}

/* _drop(): drops the reference to the lease. */
static PyObject *
holder_drop(holder_object *self, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(self->lease);
    Py_RETURN_NONE;
}

/* Tells whether the holder has a loan that this process may write in: it was not sent or cancelled, and
   it is not the parent's in a forked child. */
static bool
holder_has_loan(const holder_object *self)
{
    const lease_object *lease = self->lease;
    return lease != NULL && lease->kind == BLOCK_LENT && lease->core != NULL
        && lease->forks == lease->core->forks;
}

/* _write(data, offset): copies bytes into a loan, without the GIL if they are many. Returns False if
   this process has no loan here (holder_has_loan). */
static PyObject *
holder_write(holder_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t offset;
    Py_buffer data;
    /* Converting the arguments may run any Python code, which may send the loan. Look at it later. */
    if (ipckit_check_nargs("_write", nargs, 2) < 0
        || ipckit_size_arg(args[1], "offset", &offset) < 0
        || ipckit_bytes_arg(args[0], &data) < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    lease_object *lease = self->lease;
    if (!holder_has_loan(self)) {
        result = PyBool_FromLong(false);
    } else if (offset > lease->size || data.len > lease->size - offset) {
        PyErr_Format(PyExc_ValueError, "%zd bytes at offset %zd do not fit into a message of %zd bytes",
                     data.len, offset, lease->size);
    } else {
        Py_INCREF((PyObject *)lease); /* keeps the memory if another thread sends or drops the loan */
        char *to = lease->data + offset;
        const char *from = data.buf;
        size_t bytes = (size_t)data.len;
        if (bytes <= GIL_FREE_BYTES) {
            memmove(to, from, bytes);
        } else {
            Py_BEGIN_ALLOW_THREADS
            copy_large(to, from, bytes);
            Py_END_ALLOW_THREADS
        }
        Py_DECREF((PyObject *)lease);
        result = PyBool_FromLong(true);
    }
    PyBuffer_Release(&data);
    return result;
}

/* Sends the first `length` bytes of a loan by a copy. Returns 0, or -1 with an exception set. */
static int
send_copy(holder_object *self, channel_core *core, lease_object *lease, uint64_t length,
          PyObject *timeout)
{
    Py_INCREF((PyObject *)lease);
    int sent = ipckit_send_bytes((channel_object *)self->channel, core, lease->data, length, "send",
                                 timeout);
    if (sent == 0 && self->lease == lease) {
        Py_CLEAR(self->lease);
    }
    Py_DECREF((PyObject *)lease);
    return sent;
}

/* Sends the first `length` bytes of a loan in its block. Returns 0, or -1 with an exception set. */
static int
send_in_place(holder_object *self, lease_object *lease, ring_call *call, PyObject *timeout)
{
    call->block = lease->block;
    call->items = lease->owner;
    self->lease = NULL; /* other threads run during the call, and must not use the loan */
    ring_snapshot before = ring_take_snapshot(&lease->core->r, POLL_SPACE);
    ring_result result = ipckit_call(lease->core, call);
    if (result != RING_OK) {
        self->lease = lease;
        ipckit_update_space_fd(lease->core, call, result, before);
        ipckit_ring_error((channel_object *)self->channel, result, "send", timeout);
        return -1;
    }
    /* Without a core the lease does not free the block, which has a message now. */
    channel_core *core = lease->core;
    long forks = lease->forks;
    lease->core = NULL;
    Py_DECREF((PyObject *)lease);
    ipckit_core_release(core, forks);
    return 0;
}

/* _send(nbytes, timeout): sends the first `nbytes` of the loan, all of them if it is None. Sends a copy
   if the message is short; if an array of the sender still refers to the loan, because the array could
   change a sent message; or if the loan is the parent's in a forked child. */
static PyObject *
holder_send(holder_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    ring_call call;
    Py_ssize_t nbytes = -1;
    channel_object *channel = (channel_object *)self->channel;
    /* Do this first: it may run any Python code, which may send the loan. */
    if (ipckit_check_nargs("_send", nargs, 2) < 0
        || (args[0] != Py_None && ipckit_size_arg(args[0], "nbytes", &nbytes) < 0)
        || ipckit_call_init(channel, &call, POLL_SPACE, ipckit_op_send_block, args[1], "send") < 0) {
        return NULL;
    }
    lease_object *lease = self->lease;
    if (lease == NULL || lease->kind != BLOCK_LENT || lease->core == NULL || nbytes > lease->size) {
        PyErr_SetString(PyExc_ValueError, "the loan was sent or cancelled before, or has fewer bytes");
        return NULL;
    }
    channel_core *core = ipckit_channel_joined(channel, "send");
    if (core == NULL) {
        return NULL;
    }
    call.length = (uint64_t)(nbytes < 0 ? lease->size : nbytes);
    bool copy = lease->block == NO_BLOCK || Py_REFCNT((PyObject *)lease) > 1
        || lease->forks != core->forks;
    int sent = copy ? send_copy(self, core, lease, call.length, args[1])
                    : send_in_place(self, lease, &call, args[1]);
    return sent < 0 ? NULL : Py_NewRef(Py_None);
}

static int
holder_traverse(holder_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->channel);
    return 0;
}

static void
holder_dealloc(holder_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->lease);
    Py_CLEAR(self->channel);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef holder_methods[] = {
    {"_drop", (PyCFunction)holder_drop, METH_NOARGS, NULL},
    {"_send", (PyCFunction)(void (*)(void))holder_send, METH_FASTCALL, NULL},
    {"_acknowledge", (PyCFunction)ipckit_holder_acknowledge, METH_NOARGS, NULL},
    {"_write", (PyCFunction)(void (*)(void))holder_write, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef holder_getset[] = {
    {"buf", (getter)holder_buf, NULL, buf_doc, NULL},
    {"_lease", (getter)holder_lease, NULL, PyDoc_STR("The Lease, or None."), NULL},
    {"_nbytes", (getter)holder_nbytes, NULL, PyDoc_STR("The message's bytes; 0 without a lease."), NULL},
    {"_is_ours", (getter)holder_is_ours, NULL,
     PyDoc_STR("Whether this process has the message, and not its parent."), NULL},
    {"_redelivered", (getter)ipckit_holder_redelivered, NULL,
     PyDoc_STR("How often the message was returned; None unless this process has taken it."), NULL},
    {"_number", (getter)ipckit_holder_number, NULL,
     PyDoc_STR("The number of the message; None unless this process has taken it."), NULL},
    {"_channel", (getter)holder_channel, NULL, PyDoc_STR("The channel."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(holder_doc, "The native base class of Loan, View and Delivery.");

static PyType_Slot holder_slots[] = {
    {Py_tp_doc, (void *)holder_doc},
    {Py_tp_traverse, holder_traverse},
    {Py_tp_dealloc, holder_dealloc},
    {Py_tp_methods, holder_methods},
    {Py_tp_getset, holder_getset},
    {0, NULL},
};

static PyType_Spec holder_spec = {
    .name = "ipckit._native.LeaseHolder",
    .basicsize = sizeof(holder_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE
        | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = holder_slots,
};

int
ipckit_add_lease_holder(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    state->lease_holder_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &holder_spec, NULL);
    return state->lease_holder_type == NULL ? -1
                                            : PyModule_AddType(module, state->lease_holder_type);
}
