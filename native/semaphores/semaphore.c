/* Semaphore, one of a set: taking and giving back without a Python frame in between. What else there
   is to do, and what an error means, the set's handle says in Python. */
#include "native.h"
#include "semaphores/undo_counts.h"
#include "semaphores/semop.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    PyObject *row; /* the handle, which stays open as long as this is in use */
    int index;
} semaphore_object;

/* The handle turns the exception that is set into ipckit's; always NULL. */
static PyObject *
explain(semaphore_object *self, long delta, PyObject *timeout)
{
    PyObject *exception = ipckit_take_exception();
    PyObject *meant = PyObject_CallMethod(self->row, "_explain_op", "OilO", exception, self->index,
                                          delta, timeout == NULL ? Py_None : timeout);
    Py_DECREF(exception);
    return ipckit_raise(meant);
}

static PyObject *
operate(semaphore_object *self, long delta, PyObject *timeout, bool undo)
{
    int64_t wait_ns = 0;
    if (timeout != NULL && ipckit_wait_arg(timeout, &wait_ns) < 0) {
        return PyErr_ExceptionMatches(PyExc_ValueError) ? explain(self, delta, timeout) : NULL;
    }
    if (self->index > USHRT_MAX) { /* sembuf can't name it; the low half would name another */
        errno = EFBIG;
        ipckit_oserror();
        return explain(self, delta, timeout);
    }
    struct sembuf op = {.sem_num = (unsigned short)self->index,
                        .sem_op = (short)delta,
                        .sem_flg = (short)(undo ? SEM_UNDO : 0)};
    switch (ipckit_semop(((row_object *)self->row)->id, &op, 1, wait_ns)) {
    case 0:
        Py_RETURN_NONE;
    case SEMOP_INTERRUPTED:
        return NULL; /* what a signal handler raised is nobody's to explain */
    default:
        ipckit_oserror();
        return explain(self, delta, timeout);
    }
}

PyDoc_STRVAR(acquire_doc,
             "acquire($self, n=1, *, timeout=None, undo=False)\n--\n\n"
             "Take `n` from the semaphore, waiting until it has that much (P).\n\n"
             "Args:\n"
             "    n: how much, 1 to 32767.\n"
             "    timeout: seconds to wait; 0 does not wait, None waits for ever.\n"
             "    undo: give it back when this process ends without doing so (SEM_UNDO); for\n"
             "        locks, whose holder also releases with undo, not for hand-off counters.\n\n"
             "Raises:\n"
             "    WouldBlock: too little, and `timeout` is 0.\n"
             "    Timeout: too little until the deadline.\n"
             "    Removed: the set was removed, before or meanwhile.\n"
             "    AccessDenied: no right to alter it.\n"
             "    LimitReached: this process's undo count would leave its range.\n"
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
             "Give `n` to the semaphore (V); never waits.\n\n"
             "Args:\n"
             "    n: how much, 1 to 32767.\n"
             "    undo: as `acquire` had it.\n\n"
             "Raises:\n"
             "    LimitReached: the value would exceed 32767, or this process's undo count.\n"
             "    AccessDenied: no right to alter it; or `undo`, and this is a forked child whose\n"
             "        parent took what it would release.\n"
             "    Removed, InvalidArgument, ClosedHandle: as `acquire`.\n\n"
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
             "    WouldBlock: it is not 0, and `timeout` is 0.\n"
             "    Timeout: it was not 0 until the deadline.\n"
             "    Removed, AccessDenied, InvalidArgument, ClosedHandle: as `acquire`.\n\n"
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

static PyObject *
semaphore_enter(semaphore_object *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *taken = operate(self, -1, Py_None, true);
    if (taken == NULL) {
        return NULL;
    }
    Py_DECREF(taken);
    return Py_NewRef((PyObject *)self);
}

/* In a forked child that leaves the block of its parent nothing is the child's to release. */
static PyObject *
semaphore_exit(semaphore_object *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    holdings held = ipckit_holdings(((row_object *)self->row)->id, self->index);
    if (held.own < 1 && held.inherited > 0) {
        Py_RETURN_NONE;
    }
    return operate(self, 1, NULL, true);
}

/* The handle's own method of the name that the getter was made with. */
static PyObject *
semaphore_ask(semaphore_object *self, void *method)
{
    return PyObject_CallMethod(self->row, method, "i", self->index);
}

static int
semaphore_set_value(semaphore_object *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a semaphore's value can't be deleted");
        return -1;
    }
    PyObject *done = PyObject_CallMethod(self->row, "_set_value", "iO", self->index, value);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static PyObject *
semaphore_repr(semaphore_object *self)
{
    return PyUnicode_FromFormat("%R[%d]", self->row, self->index);
}

static PyObject *
semaphore_richcompare(PyObject *left, PyObject *right, int how)
{
    if ((how != Py_EQ && how != Py_NE) || Py_TYPE(left) != Py_TYPE(right)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    semaphore_object *a = (semaphore_object *)left, *b = (semaphore_object *)right;
    return PyBool_FromLong((a->row == b->row && a->index == b->index) == (how == Py_EQ));
}

static Py_hash_t
semaphore_hash(semaphore_object *self)
{
    Py_hash_t hash = (Py_hash_t)((uintptr_t)self->row >> 4) + self->index;
    return hash == -1 ? -2 : hash;
}

static int
semaphore_traverse(semaphore_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->row);
    return 0;
}

/* The memory of one that died, for the next: ``set[i].acquire()`` makes one each time. */
static semaphore_object *spare;

static void
semaphore_dealloc(semaphore_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->row);
    if (spare == NULL) {
        spare = self;
        Py_DECREF(type);
        return;
    }
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMemberDef semaphore_members[] = {
    {"set", T_OBJECT_EX, offsetof(semaphore_object, row), READONLY, PyDoc_STR("its set's handle")},
    {"index", T_INT, offsetof(semaphore_object, index), READONLY,
     PyDoc_STR("its place in the set, from 0")},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef semaphore_getset[] = {
    {"value", (getter)semaphore_ask, (setter)semaphore_set_value,
     PyDoc_STR("0 to 32767; setting it clears everybody's undo count for it (SETVAL)"), "_value"},
    {"pid", (getter)semaphore_ask, NULL,
     PyDoc_STR("who operated on it last; 0 for nobody (GETPID)"), "_pid"},
    {"waiting", (getter)semaphore_ask, NULL,
     PyDoc_STR("how many wait for it to grow (GETNCNT)"), "_waiting"},
    {"waiting_zero", (getter)semaphore_ask, NULL,
     PyDoc_STR("how many wait for it to be 0 (GETZCNT)"), "_waiting_zero"},
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

PyDoc_STRVAR(semaphore_doc, "One semaphore of a set. ``with`` takes 1 with undo, and gives it back:\n"
                            "a holder that is killed lets go.");

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
    .name = "ipckit._native.Semaphore",
    .basicsize = sizeof(semaphore_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = semaphore_slots,
};

static PyTypeObject *semaphore_type; /* made once a process and never freed */

PyObject *
ipckit_semaphore_new(PyObject *row, int index)
{
    semaphore_object *self = spare;
    if (self != NULL) {
        spare = NULL;
        PyObject_Init((PyObject *)self, semaphore_type);
    } else {
        self = PyObject_GC_New(semaphore_object, semaphore_type);
        if (self == NULL) {
            return NULL;
        }
    }
    self->row = Py_NewRef(row);
    self->index = index;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

int
ipckit_add_semaphore(PyObject *module)
{
    if (semaphore_type == NULL) {
        semaphore_type = (PyTypeObject *)PyType_FromSpec(&semaphore_spec);
        if (semaphore_type == NULL) {
            return -1;
        }
    }
    return PyModule_AddType(module, semaphore_type);
}
