/* ChannelIterator: iterates over a channel's messages. It is in C because a Python generator would take
   as long as the receive itself. */
#include "channel/channel.h"

typedef struct {
    PyObject_HEAD
    channel_object *channel; /* NULL after the end */
} iterator_object;

PyObject *
ipckit_channel_iterate(channel_object *self, PyObject *Py_UNUSED(ignored))
{
    native_state *state = ipckit_channel_state(self);
    if (state == NULL) {
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(state->channel_iterator_type, Py_tp_alloc);
    iterator_object *iterator = (iterator_object *)alloc(state->channel_iterator_type, 0);
    if (iterator != NULL) {
        iterator->channel = (channel_object *)Py_NewRef((PyObject *)self);
    }
    return (PyObject *)iterator;
}

static PyObject *
iterator_next(iterator_object *self)
{
    if (self->channel == NULL) {
        return NULL;
    }
    /* Other threads run during the receive, and may end the iteration. */
    PyObject *channel = Py_NewRef((PyObject *)self->channel);
    PyObject *value = ipckit_channel_next((channel_object *)channel);
    Py_DECREF(channel);
    if (value == NULL) {
        Py_CLEAR(self->channel); /* an exception ends the iteration too, as in a generator */
    }
    return value;
}

static int
iterator_traverse(iterator_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->channel);
    return 0;
}

static int
iterator_clear(iterator_object *self)
{
    Py_CLEAR(self->channel);
    return 0;
}

static void
iterator_dealloc(iterator_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    iterator_clear(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(iterator_doc, "Iterates over a channel's messages until it is empty and the last sender is\n"
                           "gone.");

static PyType_Slot iterator_slots[] = {
    {Py_tp_doc, (void *)iterator_doc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iterator_next},
    {Py_tp_traverse, iterator_traverse},
    {Py_tp_clear, iterator_clear},
    {Py_tp_dealloc, iterator_dealloc},
    {0, NULL},
};

static PyType_Spec iterator_spec = {
    .name = "ipckit._native.ChannelIterator",
    .basicsize = sizeof(iterator_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
        | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = iterator_slots,
};

int
ipckit_add_channel_iterate(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    state->channel_iterator_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &iterator_spec, NULL);
    return state->channel_iterator_type == NULL
        ? -1
        : PyModule_AddType(module, state->channel_iterator_type);
}
