/* DescriptorsBase: the descriptors that came with a message and that the caller has not taken. In C, so
   that no exception of a signal's handler comes between a number and its owner, or interrupts
   closing. */
#include "sockets/socket.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

/* Closes all descriptors, and empties the list first. */
static void
close_numbers(descriptors_object *self)
{
    int *numbers = self->numbers;
    Py_ssize_t count = self->count;
    self->numbers = NULL;
    self->count = 0;
    if (count > 0) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++) {
            close(numbers[i]);
        }
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(numbers);
}

/* Appends descriptors: 0, or -1 with MemoryError set and the list unchanged. */
static int
append(descriptors_object *self, const int *numbers, Py_ssize_t count)
{
    size_t wanted = (size_t)(self->count + count) * sizeof(int);
    int *grown = PyMem_Realloc(self->numbers, wanted == 0 ? 1 : wanted);
    if (grown == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (count > 0) {
        memcpy(grown + self->count, numbers, (size_t)count * sizeof(int));
    }
    self->numbers = grown;
    self->count += count;
    return 0;
}

PyObject *
ipckit_descriptors_new(PyTypeObject *type, const int *numbers, Py_ssize_t count)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    descriptors_object *self = (descriptors_object *)alloc(type, 0);
    if (self != NULL && append(self, numbers, count) == 0) {
        return (PyObject *)self;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        close(numbers[i]);
    }
    Py_XDECREF((PyObject *)self);
    return NULL;
}

/* The descriptors as a Python list, or NULL with an exception set. */
static PyObject *
as_list(descriptors_object *self)
{
    /* PyList_New may run the garbage collector, and so code that changes the count. */
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && i < self->count; i++) {
        PyObject *number = PyLong_FromLong(self->numbers[i]);
        if (number == NULL || PyList_Append(list, number) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(number);
    }
    return list;
}

/* Descriptors(numbers=()): on failure the descriptors stay open, because the caller owns them. */
static PyObject *
descriptors_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"numbers", NULL};
    PyObject *given = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Descriptors", names, &given)) {
        return NULL;
    }
    PyObject *list = given == NULL ? PyList_New(0) : PySequence_List(given);
    PyObject *self = list == NULL ? NULL : ipckit_descriptors_new(type, NULL, 0);
    for (Py_ssize_t i = 0; self != NULL && i < PyList_Size(list); i++) {
        int number;
        if (ipckit_int_arg(PyList_GetItem(list, i), "a descriptor", &number) < 0
            || append((descriptors_object *)self, &number, 1) < 0) {
            ((descriptors_object *)self)->count = 0; /* so that deallocation closes none */
            Py_CLEAR(self);
        }
    }
    Py_XDECREF(list);
    return self;
}

/* `_take`: removes one descriptor and returns it; IndexError if the list has no such place. */
static PyObject *
descriptors_take(descriptors_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    long index;
    if (ipckit_check_nargs("_take", nargs, 1) < 0
        || ipckit_long_arg(args[0], "index", LONG_MIN, LONG_MAX, &index) < 0) {
        return NULL;
    }
    long place = index < 0 ? index + (long)self->count : index;
    if (place < 0 || place >= self->count) {
        PyErr_SetString(PyExc_IndexError, "there is no such descriptor");
        return NULL;
    }
    PyObject *taken = PyLong_FromLong(self->numbers[place]);
    if (taken != NULL) {
        self->count--;
        memmove(self->numbers + place, self->numbers + place + 1,
                (size_t)(self->count - place) * sizeof(int));
    }
    return taken;
}

PyDoc_STRVAR(take_all_doc, "take_all($self)\n--\n\n"
                           "Remove all descriptors and return them; the caller must close them.");

static PyObject *
descriptors_take_all(descriptors_object *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *list = as_list(self);
    if (list != NULL) {
        self->count = 0;
    }
    return list;
}

PyDoc_STRVAR(extend_doc, "extend($self, others, /)\n--\n\n"
                         "Move all descriptors of another list to the end of this one.");

static PyObject *
descriptors_extend(descriptors_object *self, PyTypeObject *defining_class, PyObject *const *args,
                   Py_ssize_t nargs, PyObject *Py_UNUSED(kwnames))
{
    if (ipckit_check_nargs("extend", nargs, 1) < 0) {
        return NULL;
    }
    if (!PyObject_TypeCheck(args[0], defining_class)) {
        PyErr_SetString(PyExc_TypeError, "extend() takes another Descriptors object");
        return NULL;
    }
    descriptors_object *others = (descriptors_object *)args[0];
    if (others != self) {
        if (append(self, others->numbers, others->count) < 0) {
            return NULL;
        }
        others->count = 0;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(close_doc, "close($self)\n--\n\n"
                        "Close the descriptors that were not taken; idempotent; never raises.");

static PyObject *
descriptors_close(descriptors_object *self, PyObject *Py_UNUSED(ignored))
{
    close_numbers(self);
    Py_RETURN_NONE;
}

static PyObject *
descriptors_item(descriptors_object *self, PyObject *key)
{
    PyObject *list = as_list(self);
    PyObject *found = list == NULL ? NULL : PyObject_GetItem(list, key);
    Py_XDECREF(list);
    return found;
}

static PyObject *
descriptors_iter(descriptors_object *self)
{
    PyObject *list = as_list(self);
    PyObject *iterator = list == NULL ? NULL : PyObject_GetIter(list);
    Py_XDECREF(list);
    return iterator;
}

static Py_ssize_t
descriptors_length(descriptors_object *self)
{
    return self->count;
}

static void
descriptors_dealloc(descriptors_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    close_numbers(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef descriptors_methods[] = {
    {"_take", (PyCFunction)(void (*)(void))descriptors_take, METH_FASTCALL,
     PyDoc_STR("_take($self, index, /)\n--\n\nRemove a descriptor and return it.")},
    {"take_all", (PyCFunction)descriptors_take_all, METH_NOARGS, take_all_doc},
    {"extend", (PyCFunction)(void (*)(void))descriptors_extend,
     METH_METHOD | METH_FASTCALL | METH_KEYWORDS, extend_doc},
    {"close", (PyCFunction)descriptors_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(descriptors_doc, "The native base of a list of descriptors.");

static PyType_Slot descriptors_slots[] = {
    {Py_tp_doc, (void *)descriptors_doc},
    {Py_tp_new, descriptors_tp_new},
    {Py_tp_dealloc, descriptors_dealloc},
    {Py_tp_iter, descriptors_iter},
    {Py_tp_methods, descriptors_methods},
    {Py_mp_length, descriptors_length},
    {Py_mp_subscript, descriptors_item},
    {Py_sq_length, descriptors_length},
    {0, NULL},
};

static PyType_Spec descriptors_spec = {
    .name = "ipckit._native.DescriptorsBase",
    .basicsize = sizeof(descriptors_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = descriptors_slots,
};

int
ipckit_add_unix_descriptors(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    PyObject *type = PyType_FromModuleAndSpec(module, &descriptors_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    state->descriptors_type = (PyTypeObject *)type;
    return PyModule_AddType(module, (PyTypeObject *)type);
}
