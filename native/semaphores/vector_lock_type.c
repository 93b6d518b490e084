/* Hold, the native base of a lock and of a block that holds one: its methods and its type. */
#include "semaphores/vector_lock.h"

#include <limits.h>

PyDoc_STRVAR(acquire_doc,
             "acquire($self, *, timeout=None, report_death=False)\n--\n\n"
             "Take the lock.\n\n"
             "Args:\n"
             "    timeout: seconds to wait; 0 does not wait, None waits for ever.\n"
             "    report_death: raise if a holder died and nobody has recovered since.\n\n"
             "Raises:\n"
             "    OwnerDied: a holder died; the lock is not taken.\n"
             "    WouldBlock: it is held, and `timeout` is 0.\n"
             "    Timeout: it was held until the deadline.\n"
             "    Removed: it was removed, before or meanwhile.\n"
             "    InvalidArgument: `timeout` is out of range.");

static PyObject *
hold_acquire(hold_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", "report_death", NULL};
    PyObject *timeout = Py_None;
    int report_death = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$Op:acquire", names, &timeout, &report_death)
        || ipckit_hold_take(self, timeout, report_death) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(release_doc,
             "release($self)\n--\n\n"
             "Release the lock.\n\n"
             "Raises:\n"
             "    WouldBlock: it is not held.\n"
             "    AccessDenied: another process holds it, such as the parent that this process was\n"
             "        forked from.\n"
             "    Removed: it was removed.");

static PyObject *
hold_release(hold_object *self, PyObject *Py_UNUSED(ignored))
{
    return ipckit_hold_leave(self, &self->leave) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
hold_enter(hold_object *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *timeout = self->timeout == NULL ? Py_None : self->timeout;
    if (ipckit_hold_take(self, timeout, self->checked) < 0) {
        return NULL;
    }
    return Py_NewRef(self->block ? Py_None : (PyObject *)self);
}

/* In a forked child that leaves the block of its parent nothing is the child's to release. */
static PyObject *
hold_exit(hold_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    holdings held = ipckit_hold_held(self);
    if (held.own < 1 && held.inherited > 0) {
        Py_RETURN_NONE;
    }
    bool raised = nargs > 0 && args[0] != Py_None;
    const hold_vector *vector = raised || self->done.count == 0 ? &self->leave : &self->done;
    return ipckit_hold_leave(self, vector) < 0 ? NULL : Py_NewRef(Py_None);
}

static int
vector_arg(const native_state *state, PyObject *given, hold_vector *vector)
{
    if (given == Py_None) {
        vector->count = 0;
        Py_CLEAR(vector->given);
        return 0;
    }
    if (!PyTuple_Check(given) || PyTuple_Size(given) > HOLD_OPS) {
        PyErr_Format(PyExc_TypeError, "a tuple of up to %d SemOp is wanted", HOLD_OPS);
        return -1;
    }
    if (ipckit_sembufs(state, given, vector->ops) < 0) {
        return -1;
    }
    vector->count = (size_t)PyTuple_Size(given);
    PyObject *old = vector->given;
    vector->given = Py_NewRef(given);
    Py_XDECREF(old);
    return 0;
}

PyDoc_STRVAR(bind_doc,
             "_bind($self, row, take, leave, done, mark, timeout, checked, block, /)\n--\n\n"
             "Say what is taken and left: tuples of SemOp on a set's handle. `done` instead of `leave`\n"
             "ends a block that raised nothing (or None), `mark` is the semaphore that counts those\n"
             "who wait (or -1); a block waits for `timeout`, and calls _check if it is `checked`.\n"
             "With `block`, entering gives None and not the lock itself.");

static PyObject *
hold_bind(hold_object *self, PyTypeObject *defining_class, PyObject *const *args, Py_ssize_t nargs,
          PyObject *Py_UNUSED(kwnames))
{
    const native_state *state = PyType_GetModuleState(defining_class);
    long mark;
    if (ipckit_check_nargs("_bind", nargs, 8) < 0
        || ipckit_long_arg(args[4], "mark", -1, USHRT_MAX, &mark) < 0) {
        return NULL;
    }
    if (!PyObject_TypeCheck(args[0], state->semaphore_row_type)) {
        PyErr_SetString(PyExc_TypeError, "a semaphore set's handle is wanted");
        return NULL;
    }
    int checked = PyObject_IsTrue(args[6]), block = PyObject_IsTrue(args[7]);
    if (checked < 0 || block < 0 || vector_arg(state, args[1], &self->take) < 0
        || vector_arg(state, args[2], &self->leave) < 0
        || vector_arg(state, args[3], &self->done) < 0) {
        return NULL;
    }
    PyObject *old_row = self->row, *old_timeout = self->timeout;
    self->row = Py_NewRef(args[0]);
    self->timeout = Py_NewRef(args[5]);
    self->mark = (int)mark;
    self->checked = checked;
    self->block = block;
    Py_XDECREF(old_row);
    Py_XDECREF(old_timeout);
    Py_RETURN_NONE;
}

static PyObject *
hold_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    hold_object *self = (hold_object *)alloc(type, 0);
    if (self != NULL) {
        self->mark = -1;
    }
    return (PyObject *)self;
}

static int
hold_traverse(hold_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->row);
    Py_VISIT(self->timeout);
    Py_VISIT(self->take.given);
    Py_VISIT(self->leave.given);
    Py_VISIT(self->done.given);
    return 0;
}

static int
hold_clear(hold_object *self)
{
    Py_CLEAR(self->row);
    Py_CLEAR(self->timeout);
    Py_CLEAR(self->take.given);
    Py_CLEAR(self->leave.given);
    Py_CLEAR(self->done.given);
    return 0;
}

static void
hold_dealloc(hold_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    hold_clear(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef hold_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))hold_acquire, METH_VARARGS | METH_KEYWORDS, acquire_doc},
    {"release", (PyCFunction)hold_release, METH_NOARGS, release_doc},
    {"__enter__", (PyCFunction)hold_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))hold_exit, METH_FASTCALL, NULL},
    {"_bind", (PyCFunction)(void (*)(void))hold_bind, METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     bind_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(hold_doc, "The native base of a lock, and of a block that holds one.");

static PyType_Slot hold_slots[] = {
    {Py_tp_doc, (void *)hold_doc},
    {Py_tp_new, hold_new},
    {Py_tp_traverse, hold_traverse},
    {Py_tp_clear, hold_clear},
    {Py_tp_dealloc, hold_dealloc},
    {Py_tp_methods, hold_methods},
    {0, NULL},
};

static PyType_Spec hold_spec = {
    .name = "ipckit._native.Hold",
    .basicsize = sizeof(hold_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = hold_slots,
};

int
ipckit_add_hold(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &hold_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int added = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return added;
}
