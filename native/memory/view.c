/* View: the base of a numpy array over a Mapping. It is one export of the Mapping while it exists.
   A memoryview cannot do this, because its user can release it. */
#include "memory/mapping.h"

typedef struct {
    PyObject_HEAD
    mapping_object *mapping;
    char *data;
    Py_ssize_t size;
    bool readonly;
} view_object;

PyObject *
ipckit_view_new(native_state *state, mapping_object *mapping, Py_ssize_t offset, Py_ssize_t size,
                bool readonly)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(state->view_type, Py_tp_alloc);
    view_object *self = (view_object *)alloc(state->view_type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->mapping = (mapping_object *)Py_NewRef((PyObject *)mapping);
    self->data = mapping->data + offset;
    self->size = size;
    self->readonly = readonly;
    return (PyObject *)self;
}

/* The buffer protocol. A buffer holds a reference to the View, and the View's export keeps the
   memory mapped. 0, or -1 with an exception set. */
static int
view_getbuffer(view_object *self, Py_buffer *view, int flags)
{
    return PyBuffer_FillInfo(view, (PyObject *)self, self->data, self->size, self->readonly, flags);
}

static void
view_dealloc(view_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->mapping != NULL) { /* NULL if the allocation was all that succeeded */
        ipckit_mapping_end_export(self->mapping);
        Py_DECREF((PyObject *)self->mapping);
    }
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(view_type_doc, "Bytes of a Mapping; keeps its memory mapped.");

static PyType_Slot view_slots[] = {
    {Py_tp_doc, (void *)view_type_doc},
    {Py_tp_dealloc, view_dealloc},
    {Py_bf_getbuffer, view_getbuffer},
    {0, NULL},
};

static PyType_Spec view_spec = {
    .name = "ipckit._native.View",
    .basicsize = sizeof(view_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = view_slots,
};

int
ipckit_add_view(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    state->view_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &view_spec, NULL);
    if (state->view_type == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->view_type);
}
