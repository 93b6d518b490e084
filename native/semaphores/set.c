/* SemaphoreSetBase, the native base of SysVSemaphoreSet: ``set[i]`` without a Python frame. */
#include "native.h"
#include "semaphores/semop.h"

#include <stddef.h>
#include <structmember.h>

/* ``set[key]``: a new Semaphore; IndexError beyond the set, TypeError if `key` is not an int. */
static PyObject *
set_subscript(PyObject *self, PyObject *key)
{
    set_object *set = (set_object *)self;
    if (!PyIndex_Check(key)) {
        PyErr_Format(PyExc_TypeError, "a semaphore's index must be an int, not %R",
                     (PyObject *)Py_TYPE(key));
        return NULL;
    }
    Py_ssize_t index = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (index == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (index < 0 || index >= set->count) {
        PyErr_Format(PyExc_IndexError, "semaphore %zd of a set of %d", index, set->count);
        return NULL;
    }
    return ipckit_semaphore_new(self, (int)index);
}

static Py_ssize_t
set_length(PyObject *self)
{
    return ((set_object *)self)->count;
}

/* A base whose handle is closed until `_id` is assigned. */
static PyObject *
set_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    set_object *self = (set_object *)alloc(type, 0);
    if (self != NULL) {
        self->id = -1;
    }
    return (PyObject *)self;
}

static PyMemberDef set_members[] = {
    {"_id", T_INT, offsetof(set_object, id), 0, PyDoc_STR("the set's id, or -1 when closed")},
    {"_count", T_INT, offsetof(set_object, count), 0, PyDoc_STR("the number of semaphores")},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(set_doc, "The native base of a semaphore set's handle.");

static PyType_Slot set_slots[] = {
    {Py_tp_doc, (void *)set_doc},
    {Py_tp_new, set_new},
    {Py_tp_members, set_members},
    {Py_mp_subscript, set_subscript},
    {Py_mp_length, set_length},
    {0, NULL},
};

static PyType_Spec set_spec = {
    .name = "ipckit._native.SemaphoreSetBase",
    .basicsize = sizeof(set_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = set_slots,
};

int
ipckit_add_semaphore_set(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &set_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    native_state *state = PyModule_GetState(module);
    state->semaphore_set_type = (PyTypeObject *)type;
    return PyModule_AddType(module, state->semaphore_set_type);
}
