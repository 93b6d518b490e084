/* Lease: the memory of one message: a block that is used in place, or a copy of a short message. */
#include "channel/channel.h"

/* Creates an empty Lease, with memory of its own if `bytes` is not 0. Returns NULL with an exception
   set. */
static lease_object *
new_lease(native_state *state, size_t bytes)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(state->lease_type, Py_tp_alloc);
    lease_object *self = (lease_object *)alloc(state->lease_type, 0);
    if (self == NULL || bytes == 0) {
        return self;
    }
    self->copy = PyMem_Calloc(bytes, 1);
    if (self->copy == NULL) {
        Py_DECREF((PyObject *)self);
        PyErr_NoMemory();
        return NULL;
    }
    return self;
}

lease_object *
ipckit_lease_new(native_state *state, channel_core *core, block_kind kind, uint32_t block,
                 const char *data, uint64_t length)
{
    size_t own = block != NO_BLOCK ? 0 : length != 0 ? (size_t)length : 1;
    lease_object *self = new_lease(state, own);
    if (self == NULL) {
        if (block != NO_BLOCK && kind == BLOCK_READ) {
            either_end_read(&core->r, block, core->r.owner);
        } else if (block != NO_BLOCK) {
            ring_release_block(&core->r, block, kind, core->r.owner);
        }
        return NULL;
    }
    if (kind != BLOCK_READ || block != NO_BLOCK) { /* a copy to read needs no channel */
        self->core = core;
        self->forks = ipckit_core_acquire(core);
    }
    self->block = block;
    self->owner = core->r.owner;
    self->kind = kind;
    self->data = block == NO_BLOCK ? self->copy : block_data(&core->r, block);
    self->size = (Py_ssize_t)length;
    if (self->copy != NULL && data != NULL) {
        memcpy(self->copy, data, length);
    }
    return self;
}

static int
lease_getbuffer(lease_object *self, Py_buffer *view, int flags)
{
    int readonly = self->kind != BLOCK_LENT;
    return PyBuffer_FillInfo(view, (PyObject *)self, self->data, self->size, readonly, flags);
}

/* Frees the block, if the lease has one, and releases the core. In a forked child, a lease from before
   the fork does not free the block, because the parent still uses it. A message that was taken and not
   acknowledged is received again. */
static void
lease_end(lease_object *self)
{
    channel_core *core = self->core;
    self->core = NULL;
    if (core == NULL) {
        return;
    }
    if (self->forks == core->forks && self->block != NO_BLOCK) {
        if (self->kind == BLOCK_TAKEN) {
            ring_requeue(&core->r, self->block, self->owner);
        } else if (self->kind == BLOCK_READ) {
            either_end_read(&core->r, self->block, self->owner);
        } else {
            ring_release_block(&core->r, self->block, self->kind, self->owner);
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
