/* ChannelBase: the native base class of ipckit.Channel. */
#include "channel/channel.h"

#include <errno.h>
#include <structmember.h>

PyObject *
ipckit_channel_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    channel_object *self = (channel_object *)alloc(type, 0);
    if (self != NULL) {
        self->closed = true;
    }
    return (PyObject *)self;
}

/* Closes the channel, and wakes the threads that wait in it. Does nothing if it is closed. The store
   of `closed` pairs with the loads in ring_run and rejoin_after_fork. */
static void
release_channel(channel_object *self)
{
    channel_core *core = self->core;
    __atomic_store_n(&self->closed, true, __ATOMIC_RELEASE);
    self->core = NULL;
    if (core == NULL) {
        return;
    }
    core->memory_fd = -1; /* the handle closes it now; leases may keep the core for longer */
    if (ring_file_is_intact(&core->r)) {
        if (core->joined && core->r.subscriber != NULL) {
            topic_unsubscribe(&core->r);
        }
        ring_wake_all(&core->r.shared->items);
        ring_wake_all(&core->r.shared->space);
    }
    ipckit_core_close(core);
}

/* Ends a core's export of its Mapping and drops its reference. */
static void
release_mapping(void *mapping)
{
    ipckit_mapping_end_export(mapping);
    Py_DECREF((PyObject *)mapping);
}

channel_core *
ipckit_channel_map(mapping_object *mapping, int fd, bool creator, bool topic)
{
    Py_INCREF((PyObject *)mapping);
    mapping->exports++;
    channel_core *core = ipckit_core_new(mapping->data, (uint64_t)mapping->size, fd, creator, topic,
                                         ipckit_own_token(), release_mapping, mapping);
    if (core == NULL) {
        int error = errno;
        release_mapping(mapping);
        errno = error;
        if (error == ENOMEM) {
            PyErr_NoMemory();
        } else {
            ipckit_oserror();
        }
    }
    return core;
}

const char ipckit_channel_attach_doc[] = (
             "_attach($self, mapping, fd, creator, record_type, encode, decode, spin, wait, /)\n--\n\n"
             "Open the channel in a Mapping. The caller owns the descriptor `fd`, and keeps it open\n"
             "until `_detach`. Raises OSError: EUCLEAN if the memory is not a channel, EUSERS if the\n"
             "channel has the maximum number of peers.");

PyObject *
ipckit_channel_attach(channel_object *self, native_state *state, PyObject *const *args, Py_ssize_t nargs,
                      bool topic)
{
    int fd;
    long spin;
    if (ipckit_check_nargs("_attach", nargs, 8) < 0 || ipckit_int_arg(args[1], "fd", &fd) < 0
        || ipckit_record_type_arg(args[3], &self->record_type) < 0
        || ipckit_long_arg(args[6], "spin", 0, SPIN_LIMIT, &spin) < 0) {
        self->record_type = NULL;
        return NULL;
    }
    Py_XINCREF(self->record_type);
    if (!Py_IS_TYPE(args[0], state->mapping_type) || self->core != NULL) {
        PyErr_SetString(PyExc_TypeError, self->core != NULL ? "_attach was called before"
                                                            : "mapping is not a Mapping");
        return NULL;
    }
    self->core = ipckit_channel_map((mapping_object *)args[0], fd, PyObject_IsTrue(args[2]) == 1, topic);
    if (self->core == NULL) {
        return NULL;
    }
    self->state = state;
    self->topic = topic;
    self->closed = false;
    self->plain = args[5] == Py_None && self->record_type == NULL;
    self->encode = Py_NewRef(args[4]);
    self->decode = args[5] == Py_None ? NULL : Py_NewRef(args[5]);
    self->spin = self->spin_max = (uint32_t)spin;
    self->wait_for_peers = topic || PyObject_IsTrue(args[7]) == 1; /* publishers need no subscribers */
    Py_RETURN_NONE;
}

static PyObject *
channel_attach(channel_object *self, PyTypeObject *defining_class, PyObject *const *args,
               Py_ssize_t nargs, PyObject *Py_UNUSED(kwnames))
{
    return ipckit_channel_attach(self, PyType_GetModuleState(defining_class), args, nargs, false);
}

const char ipckit_channel_detach_doc[] = ( "_detach($self, /)\n--\n\nClose the channel. Never raises.");

PyObject *
ipckit_channel_detach(channel_object *self, PyObject *Py_UNUSED(ignored))
{
    release_channel(self);
    Py_RETURN_NONE;
}

const char ipckit_channel_poll_fd_doc[] = ( "_poll_fd($self, which, /)\n--\n\n"
                          "Return a descriptor that is readable when a message waits (POLL_ITEMS) or\n"
                          "when the channel has room (POLL_SPACE). The channel closes it.");

PyObject *
ipckit_channel_poll_fd(channel_object *self, PyObject *arg)
{
    long which;
    if (ipckit_long_arg(arg, "which", POLL_ITEMS, POLL_SPACE, &which) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_joined(self, "fileno");
    if (core == NULL) {
        return NULL;
    }
    int fd = ipckit_core_descriptor(core, (uint32_t)which);
    return fd < 0 ? ipckit_channel_oserror(self, "fileno") : PyLong_FromLong(fd);
}

PyObject *
ipckit_channel_longest(channel_object *self, void *Py_UNUSED(closure))
{
    channel_core *core = ipckit_channel_open(self, "longest");
    return core == NULL ? NULL : PyLong_FromUnsignedLongLong(core->r.longest);
}

int
ipckit_channel_traverse(channel_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->record_type);
    Py_VISIT(self->encode);
    Py_VISIT(self->decode);
    Py_VISIT(self->loan_type);
    Py_VISIT(self->view_type);
    return 0;
}

void
ipckit_channel_dealloc(channel_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    release_channel(self);
    Py_CLEAR(self->record_type);
    Py_CLEAR(self->encode);
    Py_CLEAR(self->decode);
    Py_CLEAR(self->loan_type);
    Py_CLEAR(self->view_type);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef channel_methods[] = {
    {"send", FAST(ipckit_channel_send), METH_FASTCALL | METH_KEYWORDS, ipckit_channel_send_doc},
    {"receive", FAST(ipckit_channel_receive), METH_FASTCALL | METH_KEYWORDS,
     ipckit_channel_receive_doc},
    {"receive_into", FAST(ipckit_channel_receive_into), METH_FASTCALL | METH_KEYWORDS,
     ipckit_channel_receive_into_doc},
    {"_send_one", FAST(ipckit_channel_send_one), METH_FASTCALL, NULL},
    {"_receive_to", FAST(ipckit_channel_receive_to), METH_FASTCALL, NULL},
    {"_send_batch", FAST(ipckit_channel_send_batch), METH_FASTCALL, NULL},
    {"_receive_batch", FAST(ipckit_channel_receive_batch), METH_FASTCALL, NULL},
    {"loan", FAST(ipckit_channel_loan), METH_FASTCALL | METH_KEYWORDS, ipckit_channel_loan_doc},
    {"receive_view", FAST(ipckit_channel_receive_view), METH_FASTCALL | METH_KEYWORDS,
     ipckit_channel_receive_view_doc},
    {"_lend", FAST(ipckit_channel_lend), METH_FASTCALL, NULL},
    {"_set_in_place", FAST(ipckit_channel_set_in_place), METH_FASTCALL, NULL},
    {"_take", FAST(ipckit_channel_take), METH_FASTCALL, NULL},
    {"_deliver", FAST(ipckit_channel_deliver), METH_FASTCALL, NULL},
    {"_iterate", (PyCFunction)ipckit_channel_iterate, METH_NOARGS, NULL},
    {"_attach", FAST(channel_attach), METH_METHOD | METH_FASTCALL | METH_KEYWORDS, ipckit_channel_attach_doc},
    {"_detach", (PyCFunction)ipckit_channel_detach, METH_NOARGS, ipckit_channel_detach_doc},
    {"_poll_fd", (PyCFunction)ipckit_channel_poll_fd, METH_O, ipckit_channel_poll_fd_doc},
    {"_side", (PyCFunction)ipckit_channel_side, METH_O, ipckit_channel_side_doc},
    {"_peers", (PyCFunction)ipckit_channel_peers, METH_NOARGS, ipckit_channel_peers_doc},
    {"_lock_holder", (PyCFunction)ipckit_channel_lock_holder, METH_O,
     ipckit_channel_lock_holder_doc},
    {"_counts", (PyCFunction)ipckit_channel_counts, METH_NOARGS, ipckit_channel_counts_doc},
    {NULL, NULL, 0, NULL},
};

PyObject *
ipckit_channel_capacity(channel_object *self, void *Py_UNUSED(closure))
{
    channel_core *core = ipckit_channel_open(self, "capacity");
    return core == NULL ? NULL : PyLong_FromUnsignedLongLong(core->r.capacity);
}

static PyGetSetDef channel_getset[] = {
    {"capacity", (getter)ipckit_channel_capacity, NULL, PyDoc_STR("The maximum number of messages that wait."), NULL},
    {"longest", (getter)ipckit_channel_longest, NULL, PyDoc_STR("The maximum bytes of a message."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(channel_doc, "The native base class of Channel.");

static PyType_Slot channel_slots[] = {
    {Py_tp_doc, (void *)channel_doc},
    {Py_tp_new, ipckit_channel_new},
    {Py_tp_traverse, ipckit_channel_traverse},
    {Py_tp_dealloc, ipckit_channel_dealloc},
    {Py_tp_methods, channel_methods},
    {Py_tp_getset, channel_getset},
    {Py_sq_length, ipckit_channel_length},
    {0, NULL},
};

static PyType_Spec channel_spec = {
    .name = "ipckit._native.ChannelBase",
    .basicsize = sizeof(channel_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = channel_slots,
};

PyDoc_STRVAR(forked_doc, "channels_forked()\n--\n\nUpdate all open channels. A forked child calls it once.");

static PyObject *
native_forked(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    ipckit_cores_forked();
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"channels_forked", native_forked, METH_NOARGS, forked_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_channel(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    state->channel_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &channel_spec, NULL);
    if (state->channel_type == NULL || PyModule_AddType(module, state->channel_type) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
