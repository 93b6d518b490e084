/* OrderedBlock, a ``with`` block that holds a lock of a LockOrder. One native call acquires the lock and appends its
   name to the thread's list of held locks; one native call releases it and removes the name. A signal handler's
   exception therefore can't come between the two. */
#include "native.h"

typedef struct {
    PyObject_HEAD
    PyObject *lock;
    PyObject *order;   /* the LockOrder */
    PyObject *held;    /* the thread's list of held names; set on entry, so that leaving calls no method of `order` */
    PyObject *name;
    PyObject *options; /* a dict: the keyword arguments of acquire */
    PyObject *undo;    /* a dict: the keyword arguments of release */
    uint64_t process;  /* the process that entered, or 0 */
} ordered_object;

/* Calls a method of the lock. Returns a new reference, or NULL with an exception set. */
static PyObject *
call_lock(ordered_object *self, const char *method, PyObject *options)
{
    PyObject *function = PyObject_GetAttrString(self->lock, method);
    PyObject *none = PyTuple_New(0);
    PyObject *result = NULL;
    if (function != NULL && none != NULL) {
        result = PyObject_Call(function, none, options);
    }
    Py_XDECREF(function);
    Py_XDECREF(none);
    return result;
}

/* Returns the last place of a name in the list, or -1. Compares by identity, so that no Python code runs. */
static Py_ssize_t
place_of(PyObject *held, PyObject *name)
{
    for (Py_ssize_t i = PyList_Size(held); i-- > 0;) {
        if (PyList_GetItem(held, i) == name) {
            return i;
        }
    }
    return -1;
}

/* Removes a name from the list. Keeps an exception that is set. */
static void
remove_name(PyObject *held, PyObject *name)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    Py_ssize_t place = place_of(held, name);
    if (place >= 0) {
        PyList_SetSlice(held, place, place + 1, NULL);
    }
    PyErr_Restore(type, value, traceback);
}

/* Calls a method of the order that returns the list of held names. Returns a new reference, or NULL with an exception
   set: the order forbids it. */
static PyObject *
ask_order(ordered_object *self, const char *method)
{
    PyObject *held = PyObject_CallMethod(self->order, method, "O", self->name);
    if (held != NULL && !PyList_Check(held)) {
        PyErr_Format(PyExc_TypeError, "%s must return a list", method);
        Py_CLEAR(held);
    }
    return held;
}

/* Acquires the lock, appends its name and returns the lock. */
static PyObject *
ordered_enter(ordered_object *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *held = ask_order(self, "_check_acquire");
    PyObject *acquired = held == NULL ? NULL : call_lock(self, "acquire", self->options);
    if (acquired == NULL) {
        Py_XDECREF(held);
        return NULL;
    }
    Py_DECREF(acquired);
    if (PyList_Append(held, self->name) < 0) {
        Py_DECREF(held);
        PyObject *exception = ipckit_take_exception();
        Py_XDECREF(call_lock(self, "release", self->undo));
        PyErr_Clear();
        return ipckit_raise(exception);
    }
    Py_XDECREF(self->held);
    self->held = held;
    self->process = ipckit_own_token();
    return Py_NewRef(self->lock);
}

/* Releases the lock and removes its name. A forked child that leaves the block of its parent releases nothing. */
static PyObject *
ordered_exit(ordered_object *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    if (self->process != 0 && self->process != ipckit_own_token()) {
        Py_RETURN_NONE;
    }
    bool listed = self->held != NULL && place_of(self->held, self->name) >= 0;
    PyObject *held = listed ? Py_NewRef(self->held) : ask_order(self, "_check_release");
    if (held == NULL) {
        return NULL;
    }
    PyObject *released = call_lock(self, "release", self->undo);
    remove_name(held, self->name);
    Py_DECREF(held);
    return released;
}

/* OrderedBlock(order, lock, name, options, undo). */
static PyObject *
ordered_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *order, *lock, *name, *options, *undo;
    if (kwargs != NULL && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "OrderedBlock takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "OOUO!O!:OrderedBlock", &order, &lock, &name, &PyDict_Type, &options,
                          &PyDict_Type, &undo)) {
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    ordered_object *self = (ordered_object *)alloc(type, 0);
    if (self != NULL) {
        self->order = Py_NewRef(order);
        self->lock = Py_NewRef(lock);
        self->name = Py_NewRef(name);
        self->options = Py_NewRef(options);
        self->undo = Py_NewRef(undo);
    }
    return (PyObject *)self;
}

static int
ordered_traverse(ordered_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->order);
    Py_VISIT(self->held);
    Py_VISIT(self->lock);
    Py_VISIT(self->options);
    Py_VISIT(self->undo);
    return 0;
}

static void
ordered_dealloc(ordered_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->order);
    Py_CLEAR(self->held);
    Py_CLEAR(self->lock);
    Py_CLEAR(self->name);
    Py_CLEAR(self->options);
    Py_CLEAR(self->undo);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef ordered_methods[] = {
    {"__enter__", (PyCFunction)ordered_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))ordered_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(ordered_doc,
             "OrderedBlock(order, lock, name, options, undo, /)\n--\n\n"
             "A block that holds a lock of a LockOrder. `options` go to the lock's acquire, `undo` to its\n"
             "release. `order._check_acquire(name)` and `order._check_release(name)` return the list of\n"
             "held names, or raise.");

static PyType_Slot ordered_slots[] = {
    {Py_tp_doc, (void *)ordered_doc},
    {Py_tp_new, ordered_new},
    {Py_tp_traverse, ordered_traverse},
    {Py_tp_dealloc, ordered_dealloc},
    {Py_tp_methods, ordered_methods},
    {0, NULL},
};

static PyType_Spec ordered_spec = {
    .name = "ipckit._native.OrderedBlock",
    .basicsize = sizeof(ordered_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = ordered_slots,
};

int
ipckit_add_ordered(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &ordered_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int added = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return added;
}
