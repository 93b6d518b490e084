/* Semaphore, one semaphore of a set: acquire and release without a Python frame. The set's handle, in Python, explains
   errors and does what needs no speed. */
#include "native.h"
#include "semaphores/undo_counts.h"
#include "semaphores/semop.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    PyObject *set; /* the set's handle */
    int index;
} semaphore_object;

/* Replaces the exception that is set by the one that the set's handle returns for it. Returns NULL. */
static PyObject *
explain(semaphore_object *self, long delta, PyObject *timeout)
{
    PyObject *exception = ipckit_take_exception();
    PyObject *explained = PyObject_CallMethod(self->set, "_explain_op", "OilO", exception, self->index,
                                              delta, timeout == NULL ? Py_None : timeout);
    Py_DECREF(exception);
    return ipckit_raise(explained);
}

/* One operation on the semaphore; `timeout` is NULL for one that never waits. Returns None, or NULL with an exception
   set. */
static PyObject *
operate(semaphore_object *self, long delta, PyObject *timeout, bool undo)
{
    int64_t wait_ns = 0;
    if (timeout != NULL && ipckit_wait_arg(timeout, &wait_ns) < 0) {
        return PyErr_ExceptionMatches(PyExc_ValueError) ? explain(self, delta, timeout) : NULL;
    }
    if (self->index > USHRT_MAX) { /* sem_num has 16 bits, which would name another semaphore */
        errno = EFBIG;
        ipckit_oserror();
        return explain(self, delta, timeout);
    }
    struct sembuf op = {.sem_num = (unsigned short)self->index,
                        .sem_op = (short)delta,
                        .sem_flg = (short)(undo ? SEM_UNDO : 0)};
    switch (ipckit_semop(((set_object *)self->set)->id, &op, 1, wait_ns)) {
    case 0:
        Py_RETURN_NONE;
    case SEMOP_INTERRUPTED:
        return NULL; /* what a signal handler raised stays as it is */
    default:
        ipckit_oserror();
        return explain(self, delta, timeout);
    }
}

PyDoc_STRVAR(acquire_doc,
             "acquire($self, n=1, *, timeout=None, undo=False)\n--\n\n"
             "Subtract `n` from the semaphore; wait until its value is at least `n`.\n\n"
             "Args:\n"
             "    n: the number to subtract, 1 to 32767.\n"
             "    timeout: seconds to wait; 0 does not wait, None waits for ever.\n"
             "    undo: whether the kernel adds `n` again when this process ends (SEM_UNDO). It is for\n"
             "        locks, which the same process releases with undo, not for counters that one\n"
             "        process decrements and another increments.\n\n"
             "Raises:\n"
             "    WouldBlock: the value is below `n`, and `timeout` is 0.\n"
             "    Timeout: the value was below `n` until the deadline.\n"
             "    Removed: the set was removed, during the call or before it.\n"
             "    AccessDenied: the caller has no write permission.\n"
             "    LimitReached: this process's undo count would exceed its range.\n"
             "    InvalidArgument: an argument is out of range.\n"
             "    ClosedHandle: the set's handle is closed.\n\n"
             "See semop(2).");

static PyObject *
semaphore_acquire(semaphore_object *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    semaphore_args call = {.n = 1, .timeout = Py_None, .undo = 0};
    if (ipckit_semaphore_args("acquire", args, nargs, kwnames, &call) < 0) {
        return PyErr_ExceptionMatches(PyExc_ValueError) ? explain(self, 0, NULL) : NULL;
    }
    return operate(self, -call.n, call.timeout, call.undo);
}

PyDoc_STRVAR(release_doc,
             "release($self, n=1, *, undo=False)\n--\n\n"
             "Add `n` to the semaphore. Never waits.\n\n"
             "Args:\n"
             "    n: the number to add, 1 to 32767.\n"
             "    undo: the same as for the `acquire` that this reverses.\n\n"
             "Raises:\n"
             "    LimitReached: the value would exceed 32767, or this process's undo count its range.\n"
             "    AccessDenied: the caller has no write permission; or, with `undo`, this is a forked\n"
             "        child, and its parent acquired what the call would release.\n"
             "    Removed, InvalidArgument, ClosedHandle: as for `acquire`.\n\n"
             "See semop(2).");

static PyObject *
semaphore_release(semaphore_object *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    semaphore_args call = {.n = 1, .timeout = NULL, .undo = 0};
    if (ipckit_semaphore_args("release", args, nargs, kwnames, &call) < 0) {
        return PyErr_ExceptionMatches(PyExc_ValueError) ? explain(self, 0, NULL) : NULL;
    }
    return operate(self, call.n, call.timeout, call.undo);
}

PyDoc_STRVAR(wait_zero_doc,
             "wait_zero($self, *, timeout=None)\n--\n\n"
             "Wait until the semaphore is 0.\n\n"
             "Args:\n"
             "    timeout: seconds to wait; 0 does not wait, None waits for ever.\n\n"
             "Raises:\n"
             "    WouldBlock: the value is not 0, and `timeout` is 0.\n"
             "    Timeout: the value was not 0 until the deadline.\n"
             "    AccessDenied: the caller has no read permission.\n"
             "    Removed, InvalidArgument, ClosedHandle: as for `acquire`.\n\n"
             "See semop(2).");

static PyObject *
semaphore_wait_zero(semaphore_object *self, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    semaphore_args call = {.n = 0, .timeout = Py_None, .undo = -1};
    if (ipckit_semaphore_args("wait_zero", args, nargs, kwnames, &call) < 0) {
        return NULL;
    }
    return operate(self, 0, call.timeout, false);
}

/* Acquires with undo. */
static PyObject *
semaphore_enter(semaphore_object *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *acquired = operate(self, -1, Py_None, true);
    if (acquired == NULL) {
        return NULL;
    }
    Py_DECREF(acquired);
    return Py_NewRef((PyObject *)self);
}

/* Releases with undo. A forked child that leaves the block of its parent releases nothing. */
static PyObject *
semaphore_exit(semaphore_object *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    undo_counts counts = ipckit_undo_counts(((set_object *)self->set)->id, self->index);
    if (counts.own < 1 && counts.inherited > 0) {
        Py_RETURN_NONE;
    }
    return operate(self, 1, NULL, true);
}

/* A getter: calls the handle's method of the name in `method`. */
static PyObject *
semaphore_ask(semaphore_object *self, void *method)
{
    return PyObject_CallMethod(self->set, method, "i", self->index);
}

static int
semaphore_set_value(semaphore_object *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a semaphore's value can't be deleted");
        return -1;
    }
    PyObject *done = PyObject_CallMethod(self->set, "_set_value", "iO", self->index, value);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static PyObject *
semaphore_repr(semaphore_object *self)
{
    return PyUnicode_FromFormat("%R[%d]", self->set, self->index);
}

static PyObject *
semaphore_richcompare(PyObject *left, PyObject *right, int how)
{
    if ((how != Py_EQ && how != Py_NE) || Py_TYPE(left) != Py_TYPE(right)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    semaphore_object *a = (semaphore_object *)left, *b = (semaphore_object *)right;
    return PyBool_FromLong((a->set == b->set && a->index == b->index) == (how == Py_EQ));
}

static Py_hash_t
semaphore_hash(semaphore_object *self)
{
    Py_hash_t hash = (Py_hash_t)((uintptr_t)self->set >> 4) + self->index;
    return hash == -1 ? -2 : hash;
}

static int
semaphore_traverse(semaphore_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->set);
    return 0;
}

/* The memory of a freed object is for the next one: ``set[i].acquire()`` creates one each time. */
static void
semaphore_dealloc(semaphore_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->set);
    interpreter_state *state = ipckit_interpreter();
    if (state->semaphore_type == type && state->spare_semaphore == NULL) {
        state->spare_semaphore = self;
        Py_DECREF(type);
        return;
    }
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMemberDef semaphore_members[] = {
    {"set", T_OBJECT_EX, offsetof(semaphore_object, set), READONLY, PyDoc_STR("the set's handle")},
    {"index", T_INT, offsetof(semaphore_object, index), READONLY,
     PyDoc_STR("its place in the set, from 0")},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef semaphore_getset[] = {
    {"value", (getter)semaphore_ask, (setter)semaphore_set_value,
     PyDoc_STR("0 to 32767; an assignment clears every process's undo count for it (SETVAL)"), "_value"},
    {"pid", (getter)semaphore_ask, NULL,
     PyDoc_STR("the process that operated on it last; 0 for none (GETPID)"), "_pid"},
    {"waiting", (getter)semaphore_ask, NULL,
     PyDoc_STR("the number of processes that wait for a higher value (GETNCNT)"), "_waiting"},
    {"waiting_zero", (getter)semaphore_ask, NULL,
     PyDoc_STR("the number of processes that wait for 0 (GETZCNT)"), "_waiting_zero"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef semaphore_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))semaphore_acquire, METH_FASTCALL | METH_KEYWORDS,
     acquire_doc},
    {"release", (PyCFunction)(void (*)(void))semaphore_release, METH_FASTCALL | METH_KEYWORDS,
     release_doc},
    {"wait_zero", (PyCFunction)(void (*)(void))semaphore_wait_zero, METH_FASTCALL | METH_KEYWORDS,
     wait_zero_doc},
    {"__enter__", (PyCFunction)semaphore_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))semaphore_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(semaphore_doc, "One semaphore of a set. ``with`` acquires and releases 1 with undo, so that\n"
                            "the kernel releases it if this process is killed.\n\n"
                            "Example:\n"
                            "    >>> from ipckit import SysVSemaphoreSet\n"
                            "    >>> with SysVSemaphoreSet.create(values=[1, 1]) as semaphores:\n"
                            "    ...     with semaphores[0]:\n"
                            "    ...         semaphores.values\n"
                            "    [0, 1]");

static PyType_Slot semaphore_slots[] = {
    {Py_tp_doc, (void *)semaphore_doc},
    {Py_tp_traverse, semaphore_traverse},
    {Py_tp_dealloc, semaphore_dealloc},
    {Py_tp_repr, semaphore_repr},
    {Py_tp_richcompare, semaphore_richcompare},
    {Py_tp_hash, semaphore_hash},
    {Py_tp_methods, semaphore_methods},
    {Py_tp_members, semaphore_members},
    {Py_tp_getset, semaphore_getset},
    {0, NULL},
};

static PyType_Spec semaphore_spec = {
    .name = "ipckit.sem.Semaphore",
    .basicsize = sizeof(semaphore_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = semaphore_slots,
};

PyObject *
ipckit_semaphore_new(PyObject *set, int index)
{
    interpreter_state *state = ipckit_interpreter();
    semaphore_object *self = state->spare_semaphore;
    if (state->semaphore_type == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the interpreter ends");
        return NULL;
    }
    if (self != NULL) {
        state->spare_semaphore = NULL;
        PyObject_Init((PyObject *)self, state->semaphore_type);
    } else {
        self = PyObject_GC_New(semaphore_object, state->semaphore_type);
        if (self == NULL) {
            return NULL;
        }
    }
    self->set = Py_NewRef(set);
    self->index = index;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

int
ipckit_add_semaphore(PyObject *module)
{
    interpreter_state *state = ipckit_interpreter();
    if (state->semaphore_type == NULL) {
        state->semaphore_type = (PyTypeObject *)PyType_FromSpec(&semaphore_spec);
    }
    return state->semaphore_type == NULL ? -1 : PyModule_AddType(module, state->semaphore_type);
}
