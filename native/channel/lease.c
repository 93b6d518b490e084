/* Lease: the memory of one message: a record in the ring that is used in place, or a copy. */
#include "channel/channel.h"

lease_object *
ipckit_lease_new(native_state *state, channel_core *core, uint64_t at, uint64_t length, bool loan)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(state->lease_type, Py_tp_alloc);
    lease_object *self = (lease_object *)alloc(state->lease_type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->core = core;
    self->forks = ipckit_core_acquire(core);
    self->at = at;
    self->owner = core->r.owner;
    self->loan = loan;
    self->data = ring_payload(&core->r, at, length);
    self->size = (Py_ssize_t)length;
    return self;
}

/* A message that shares its record with others can't be used in place. */
lease_object *
ipckit_lease_copy(native_state *state, const char *data, uint64_t length)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(state->lease_type, Py_tp_alloc);
    lease_object *self = (lease_object *)alloc(state->lease_type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->copy = PyMem_Malloc(length > 0 ? length : 1);
    if (self->copy == NULL) {
        Py_DECREF((PyObject *)self);
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(self->copy, data, length);
    self->data = self->copy;
    self->size = (Py_ssize_t)length;
    return self;
}

static int
lease_getbuffer(lease_object *self, Py_buffer *view, int flags)
{
    return PyBuffer_FillInfo(view, (PyObject *)self, self->data, self->size, !self->loan, flags);
}

/* Frees the record and releases the core, if the lease has a record. In a forked child, a lease from
   before the fork does not free the record, because the parent still uses it. */
static void
lease_end(lease_object *self)
{
    channel_core *core = self->core;
    self->core = NULL;
    if (core == NULL) {
        return;
    }
    if (self->forks == core->forks) {
        if (self->loan) {
            ring_cancel_loan(&core->r, self->at, self->owner);
        } else {
            ring_release_view(&core->r, self->at, self->owner);
        }
    }
    ipckit_core_release(core, self->forks);
}

static void
lease_dealloc(lease_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    lease_end(self);
    PyMem_Free(self->copy);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(lease_doc, "The memory of one message. numpy arrays over it have it as their base.");

static PyType_Slot lease_slots[] = {
    {Py_tp_doc, (void *)lease_doc},
    {Py_tp_dealloc, lease_dealloc},
    {Py_bf_getbuffer, lease_getbuffer},
    {0, NULL},
};

static PyType_Spec lease_spec = {
    .name = "ipckit._native.Lease",
    .basicsize = sizeof(lease_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = lease_slots,
};

int
ipckit_add_channel_lease(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    state->lease_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &lease_spec, NULL);
    return state->lease_type == NULL ? -1 : PyModule_AddType(module, state->lease_type);
}
