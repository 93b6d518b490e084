/* Counter: a signed 64-bit number in memory that other threads and processes change too. */
#include "native.h"
#include "records/record.h"

#include <stddef.h>

_Static_assert(__atomic_always_lock_free(sizeof(int64_t), NULL),
               "a process that is killed must not leave a lock behind");

typedef struct {
    PyObject_HEAD
    Py_buffer memory; /* keeps the exporter's bytes in place until `detach` */
    int64_t *cell;    /* inside `memory`; NULL after `detach` */
} counter_object;

/* The number at `offset` of a buffer: NULL with IndexError or ValueError set if it is not inside, or
   if its address is not aligned. A copy at another address would not be atomic. */
static int64_t *
cell_at(const Py_buffer *memory, Py_ssize_t offset)
{
    const Py_ssize_t size = sizeof(int64_t);
    if (memory->len < size || offset > memory->len - size) {
        PyErr_Format(PyExc_IndexError, "8 bytes from %zd on are not inside %zd bytes", offset,
                     memory->len);
        return NULL;
    }
    char *start = (char *)memory->buf + offset;
    if ((uintptr_t)start % sizeof(int64_t) != 0) {
        PyErr_Format(PyExc_ValueError,
                     "the number at offset %zd is not at an address that is a multiple of 8", offset);
        return NULL;
    }
    return (int64_t *)start;
}

PyDoc_STRVAR(counter_doc, "Counter(memory, offset, /)\n--\n\n"
                          "IndexError: it is outside the memory. ValueError: it is not aligned.");

static PyObject *
counter_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *memory, *offset_arg;
    Py_ssize_t offset;
    if (!PyArg_ParseTuple(args, "OO:Counter", &memory, &offset_arg)
        || ipckit_size_arg(offset_arg, "offset", &offset) < 0) {
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    counter_object *self = (counter_object *)alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    if (ipckit_hold_buffer(memory, &self->memory) < 0
        || (self->cell = cell_at(&self->memory, offset)) == NULL) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
counter_traverse(counter_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    return ipckit_visit_exporter(self->memory.obj, visit, arg);
}

static void
counter_dealloc(counter_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    self->cell = NULL;
    PyBuffer_Release(&self->memory);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(detach_doc, "_detach($self)\n--\n\nRelease the memory; all other calls raise from now on.");

static PyObject *
counter_detach(counter_object *self, PyObject *Py_UNUSED(ignored))
{
    self->cell = NULL;
    PyBuffer_Release(&self->memory);
    Py_RETURN_NONE;
}

/* Sets ClosedHandle: Python's _check_open(op) raises it. Always -1. */
static int
closed(counter_object *self, const char *op)
{
    PyObject *checked = PyObject_CallMethod((PyObject *)self, "_check_open", "s", op);
    if (checked != NULL) { /* not yet closed as a handle: a subclass called _detach */
        Py_DECREF(checked);
        PyErr_SetString(PyExc_ValueError, "the counter is detached from its memory");
    }
    return -1;
}

/* Checks that the counter may be changed: 0, or -1 with an exception set. All arguments are
   converted before, because that can run Python code which closes the counter. */
static int
check_writable(counter_object *self, const char *op)
{
    if (self->cell == NULL) {
        return closed(self, op);
    }
    if (self->memory.readonly) {
        PyErr_SetString(PyExc_TypeError, "the memory of the counter is read-only");
        return -1;
    }
    return 0;
}

/* An argument of 64 bits: 0, or -1 with TypeError or OverflowError set. */
static int
number_arg(PyObject *object, const char *name, int64_t *result)
{
    if (PyBool_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be an int, not bool", name);
        return -1;
    }
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (overflow != 0) {
        PyErr_Format(PyExc_OverflowError, "%s must be -2**63 to 2**63 - 1, not %S", name, object);
        return -1;
    }
    *result = value;
    return 0;
}

PyDoc_STRVAR(add_doc,
             "add($self, n=1, /)\n--\n\n"
             "Add a number, and return the new value.\n\n"
             "Args:\n"
             "    n: the number, which can be negative; by default 1.\n\n"
             "Returns:\n"
             "    The new value. If all processes add 1, each gets a number of its own.\n\n"
             "Raises:\n"
             "    OverflowError: `n` or the new value does not fit into 64 bits; the value stays.\n"
             "    TypeError: `n` is not an int, or the memory is read-only.\n"
             "    ClosedHandle: the handle is closed.\n\n"
             "Example:\n"
             "    >>> from ipckit import Counter\n"
             "    >>> counter = Counter.create(value=5)\n"
             "    >>> counter.add(), counter.add(-2)\n"
             "    (6, 4)");

static PyObject *
counter_add(counter_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    int64_t n = 1;
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "add takes at most 1 argument, not %zd", nargs);
        return NULL;
    }
    if ((nargs == 1 && number_arg(args[0], "n", &n) < 0) || check_writable(self, "add") < 0) {
        return NULL;
    }
    /* A sum that does not fit must not be stored, so this is no fetch_add. The exchange is the only
       change: a process that is killed before or after it leaves a whole number. */
    int64_t before = __atomic_load_n(self->cell, __ATOMIC_RELAXED), after;
    do {
        if (__builtin_add_overflow(before, n, &after)) {
            PyErr_Format(PyExc_OverflowError, "%lld + %lld does not fit into 64 bits",
                         (long long)before, (long long)n);
            return NULL;
        }
        /* Pairs with every load and change of the counter in any process. */
    } while (!__atomic_compare_exchange_n(self->cell, &before, after, true, __ATOMIC_SEQ_CST,
                                          __ATOMIC_RELAXED));
    return PyLong_FromLongLong(after);
}

PyDoc_STRVAR(compare_exchange_doc,
             "compare_exchange($self, expected, new, /)\n--\n\n"
             "Set the value, but only if no other process has changed it.\n\n"
             "Args:\n"
             "    expected: the value that it must have.\n"
             "    new: the value that it gets.\n\n"
             "Returns:\n"
             "    Whether it had the expected value, and has been set.\n\n"
             "Raises:\n"
             "    OverflowError: an argument does not fit into 64 bits.\n"
             "    TypeError: an argument is not an int, or the memory is read-only.\n"
             "    ClosedHandle: the handle is closed.\n\n"
             "Example:\n"
             "    >>> from ipckit import Counter\n"
             "    >>> leader = Counter.create()\n"
             "    >>> leader.compare_exchange(0, 77), leader.compare_exchange(0, 78), leader.value\n"
             "    (True, False, 77)");

static PyObject *
counter_compare_exchange(counter_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    int64_t expected, wanted;
    if (ipckit_check_nargs("compare_exchange", nargs, 2) < 0
        || number_arg(args[0], "expected", &expected) < 0 || number_arg(args[1], "new", &wanted) < 0
        || check_writable(self, "compare_exchange") < 0) {
        return NULL;
    }
    /* Pairs with every load and change of the counter in any process. */
    return PyBool_FromLong(__atomic_compare_exchange_n(self->cell, &expected, wanted, false,
                                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
}

static PyObject *
counter_get_value(counter_object *self, void *Py_UNUSED(closure))
{
    if (self->cell == NULL) {
        closed(self, "value");
        return NULL;
    }
    /* Pairs with every change of the counter in any process. */
    return PyLong_FromLongLong(__atomic_load_n(self->cell, __ATOMIC_SEQ_CST));
}

static int
counter_set_value(counter_object *self, PyObject *value, void *Py_UNUSED(closure))
{
    int64_t wanted;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the value of a counter can't be deleted");
        return -1;
    }
    if (number_arg(value, "value", &wanted) < 0 || check_writable(self, "value") < 0) {
        return -1;
    }
    /* Pairs with every load of the counter in any process. */
    __atomic_store_n(self->cell, wanted, __ATOMIC_SEQ_CST);
    return 0;
}

static PyObject *
counter_get_readonly(counter_object *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->memory.readonly);
}

static PyGetSetDef counter_getset[] = {
    {"value", (getter)counter_get_value, (setter)counter_set_value,
     PyDoc_STR("The value, which is read and set atomically.\n\n"
               "Raises:\n"
               "    OverflowError: the new value does not fit into 64 bits.\n"
               "    TypeError: the new value is not an int, or the memory is read-only.\n"
               "    ClosedHandle: the handle is closed."),
     NULL},
    {"readonly", (getter)counter_get_readonly, NULL,
     PyDoc_STR("Whether this handle cannot change the value."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef counter_methods[] = {
    {"add", (PyCFunction)(void (*)(void))counter_add, METH_FASTCALL, add_doc},
    {"compare_exchange", (PyCFunction)(void (*)(void))counter_compare_exchange, METH_FASTCALL,
     compare_exchange_doc},
    {"_detach", (PyCFunction)counter_detach, METH_NOARGS, detach_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot counter_slots[] = {
    {Py_tp_doc, (void *)counter_doc},
    {Py_tp_new, counter_new},
    {Py_tp_traverse, counter_traverse},
    {Py_tp_dealloc, counter_dealloc},
    {Py_tp_methods, counter_methods},
    {Py_tp_getset, counter_getset},
    {0, NULL},
};

static PyType_Spec counter_spec = {
    .name = "ipckit._native.Counter",
    .basicsize = sizeof(counter_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = counter_slots,
};

int
ipckit_add_counter(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &counter_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int added = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return added;
}
