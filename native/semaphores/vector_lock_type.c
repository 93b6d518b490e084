/* The methods and the type of VectorLock. */
#include "semaphores/vector_lock.h"

#include <limits.h>

PyDoc_STRVAR(acquire_doc,
             "acquire($self, *, timeout=None, report_death=False)\n--\n\n"
             "Acquire the lock.\n\n"
             "Args:\n"
             "    timeout: seconds to wait; 0 does not wait, None waits for ever.\n"
             "    report_death: raise OwnerDied if a holder died since the last recovery.\n\n"
             "Raises:\n"
             "    OwnerDied: a holder died; the lock is not acquired.\n"
             "    WouldBlock: the lock is held, and `timeout` is 0.\n"
             "    Timeout: the lock was held until the deadline.\n"
             "    Removed: the lock was removed, during the call or before it.\n"
             "    InvalidArgument: `timeout` is negative.");

static PyObject *
lock_acquire(lock_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", "report_death", NULL};
    PyObject *timeout = Py_None;
    int report_death = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$Op:acquire", names, &timeout, &report_death)
        || ipckit_lock_acquire(self, timeout, report_death) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(release_doc,
             "release($self)\n--\n\n"
             "Release the lock.\n\n"
             "Raises:\n"
             "    WouldBlock: no process holds the lock.\n"
             "    AccessDenied: another process holds the lock, such as the parent of this one.\n"
             "    Removed: the lock was removed.");

static PyObject *
lock_release(lock_object *self, PyObject *Py_UNUSED(ignored))
{
    return ipckit_lock_release(self, &self->release) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Acquires the lock and enters the block, in one native call. */
static PyObject *
lock_enter(lock_object *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *timeout = self->timeout == NULL ? Py_None : self->timeout;
    if (ipckit_lock_acquire(self, timeout, self->checked) < 0) {
        return NULL;
    }
    return Py_NewRef(self->block ? Py_None : (PyObject *)self);
}

/* Releases the lock and leaves the block. A forked child that leaves the block of its parent releases nothing. */
static PyObject *
lock_exit(lock_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    undo_counts counts = ipckit_lock_counts(self);
    if (counts.own < 1 && counts.inherited > 0) {
        Py_RETURN_NONE;
    }
    bool raised = nargs > 0 && args[0] != Py_None;
    const lock_vector *vector = raised || self->commit.count == 0 ? &self->release : &self->commit;
    return ipckit_lock_release(self, vector) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Stores a tuple of SemOp, or no operations for None. Returns 0, or -1 with TypeError. */
static int
vector_arg(const native_state *state, PyObject *given, lock_vector *vector)
{
    if (given == Py_None) {
        vector->count = 0;
        Py_CLEAR(vector->given);
        return 0;
    }
    if (!PyTuple_Check(given) || PyTuple_Size(given) > LOCK_OPS) {
        PyErr_Format(PyExc_TypeError, "expected a tuple of at most %d SemOp", LOCK_OPS);
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
             "_bind($self, set, acquire, release, commit, waiters, timeout, checked, block, /)\n--\n\n"
             "Set the operations of the lock; see ipckit._sem.vector_lock for the arguments.");

static PyObject *
lock_bind(lock_object *self, PyTypeObject *defining_class, PyObject *const *args, Py_ssize_t nargs,
          PyObject *Py_UNUSED(kwnames))
{
    const native_state *state = PyType_GetModuleState(defining_class);
    long waiters;
    if (ipckit_check_nargs("_bind", nargs, 8) < 0
        || ipckit_long_arg(args[4], "waiters", -1, USHRT_MAX, &waiters) < 0) {
        return NULL;
    }
    if (!PyObject_TypeCheck(args[0], state->semaphore_set_type)) {
        PyErr_SetString(PyExc_TypeError, "expected a semaphore set's handle");
        return NULL;
    }
    int checked = PyObject_IsTrue(args[6]), block = PyObject_IsTrue(args[7]);
    if (checked < 0 || block < 0 || vector_arg(state, args[1], &self->acquire) < 0
        || vector_arg(state, args[2], &self->release) < 0
        || vector_arg(state, args[3], &self->commit) < 0) {
        return NULL;
    }
    PyObject *old_set = self->set, *old_timeout = self->timeout;
    self->set = Py_NewRef(args[0]);
    self->timeout = Py_NewRef(args[5]);
    self->waiters = (int)waiters;
    self->checked = checked;
    self->block = block;
    Py_XDECREF(old_set);
    Py_XDECREF(old_timeout);
    Py_RETURN_NONE;
}

static PyObject *
lock_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    lock_object *self = (lock_object *)alloc(type, 0);
    if (self != NULL) {
        self->waiters = -1;
    }
    return (PyObject *)self;
}

static int
lock_traverse(lock_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->set);
    Py_VISIT(self->timeout);
    Py_VISIT(self->acquire.given);
    Py_VISIT(self->release.given);
    Py_VISIT(self->commit.given);
    return 0;
}

static int
lock_clear(lock_object *self)
{
    Py_CLEAR(self->set);
    Py_CLEAR(self->timeout);
    Py_CLEAR(self->acquire.given);
    Py_CLEAR(self->release.given);
    Py_CLEAR(self->commit.given);
    return 0;
}

static void
lock_dealloc(lock_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    lock_clear(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef lock_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))lock_acquire, METH_VARARGS | METH_KEYWORDS, acquire_doc},
    {"release", (PyCFunction)lock_release, METH_NOARGS, release_doc},
    {"__enter__", (PyCFunction)lock_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))lock_exit, METH_FASTCALL, NULL},
    {"_bind", (PyCFunction)(void (*)(void))lock_bind, METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     bind_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(lock_doc, "The native base of a Lock, and of a block that holds a lock.");

static PyType_Slot lock_slots[] = {
    {Py_tp_doc, (void *)lock_doc},
    {Py_tp_new, lock_new},
    {Py_tp_traverse, lock_traverse},
    {Py_tp_clear, lock_clear},
    {Py_tp_dealloc, lock_dealloc},
    {Py_tp_methods, lock_methods},
    {0, NULL},
};

static PyType_Spec lock_spec = {
    .name = "ipckit._native.VectorLock",
    .basicsize = sizeof(lock_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = lock_slots,
};

int
ipckit_add_vector_lock(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &lock_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int added = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return added;
}
