/* SemaphoreRow, the native base of a semaphore set's handle: ``set[i]`` without a Python frame. */
#include "native.h"
#include "semaphores/semop.h"

#include <stddef.h>
#include <structmember.h>

static PyObject *
row_subscript(PyObject *self, PyObject *key)
{
    row_object *row = (row_object *)self;
    if (!PyIndex_Check(key)) {
        PyErr_Format(PyExc_TypeError, "a semaphore's index is an int, not %R",
                     (PyObject *)Py_TYPE(key));
        return NULL;
    }
    Py_ssize_t index = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (index == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (index < 0 || index >= row->count) {
        PyErr_Format(PyExc_IndexError, "semaphore %zd of a set of %d", index, row->count);
        return NULL;
    }
    return ipckit_semaphore_new(self, (int)index);
}

static Py_ssize_t
row_length(PyObject *self)
{
    return ((row_object *)self)->count;
}

static PyObject *
row_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    row_object *self = (row_object *)alloc(type, 0);
    if (self != NULL) {
        self->id = -1;
    }
    return (PyObject *)self;
}

static PyMemberDef row_members[] = {
    {"_id", T_INT, offsetof(row_object, id), 0, PyDoc_STR("the set's id, or -1 when closed")},
    {"_count", T_INT, offsetof(row_object, count), 0, PyDoc_STR("the semaphores of the set")},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(row_doc, "The native base of a semaphore set's handle.");

static PyType_Slot row_slots[] = {
    {Py_tp_doc, (void *)row_doc},
    {Py_tp_new, row_new},
    {Py_tp_members, row_members},
    {Py_mp_subscript, row_subscript},
    {Py_mp_length, row_length},
    {0, NULL},
};

static PyType_Spec row_spec = {
    .name = "ipckit._native.SemaphoreRow",
    .basicsize = sizeof(row_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = row_slots,
};

int
ipckit_add_semaphore_row(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &row_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    native_state *state = PyModule_GetState(module);
    state->semaphore_row_type = (PyTypeObject *)type;
    return PyModule_AddType(module, state->semaphore_row_type);
}
