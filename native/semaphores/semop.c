/* System V semaphores: semop on vectors, with a deadline, and SemOp, which is one entry of one. */
#include "native.h"
#include "ring/clock.h"
#include "semaphores/undo_counts.h"
#include "semaphores/semop.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <structmember.h>
#include <sys/ipc.h>

/* Vectors up to this long are put together on the stack. */
#define STAGED_OPS 16

typedef struct {
    PyObject_HEAD
    struct sembuf op;
} semop_object;

static PyObject *
semop_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"index", "delta", "undo", "nowait", NULL};
    PyObject *index_arg, *delta_arg;
    int undo = 0, nowait = 0;
    long index, delta;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$pp:SemOp", names, &index_arg, &delta_arg,
                                     &undo, &nowait)
        || ipckit_long_arg(index_arg, "index", 0, USHRT_MAX, &index) < 0
        || ipckit_long_arg(delta_arg, "delta", SHRT_MIN, SHRT_MAX, &delta) < 0) {
        return ipckit_as_invalid_argument();
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    semop_object *self = (semop_object *)alloc(type, 0);
    if (self != NULL) {
        self->op.sem_num = (unsigned short)index;
        self->op.sem_op = (short)delta;
        self->op.sem_flg = (short)((undo ? SEM_UNDO : 0) | (nowait ? IPC_NOWAIT : 0));
    }
    return (PyObject *)self;
}

static void
semop_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *
semop_undo(semop_object *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->op.sem_flg & SEM_UNDO);
}

static PyObject *
semop_nowait(semop_object *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->op.sem_flg & IPC_NOWAIT);
}

static PyObject *
semop_repr(semop_object *self)
{
    return PyUnicode_FromFormat("SemOp(%d, %d%s%s)", (int)self->op.sem_num, (int)self->op.sem_op,
                                self->op.sem_flg & SEM_UNDO ? ", undo=True" : "",
                                self->op.sem_flg & IPC_NOWAIT ? ", nowait=True" : "");
}

static PyObject *
semop_richcompare(PyObject *left, PyObject *right, int how)
{
    if ((how != Py_EQ && how != Py_NE) || Py_TYPE(left) != Py_TYPE(right)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    const struct sembuf *a = &((semop_object *)left)->op, *b = &((semop_object *)right)->op;
    bool equal = a->sem_num == b->sem_num && a->sem_op == b->sem_op && a->sem_flg == b->sem_flg;
    return PyBool_FromLong(equal == (how == Py_EQ));
}

static Py_hash_t
semop_hash(semop_object *self)
{
    Py_hash_t hash = self->op.sem_num;
    hash = hash * 65599 + self->op.sem_op;
    hash = hash * 65599 + self->op.sem_flg;
    return hash == -1 ? -2 : hash;
}

/* Keyword-only arguments do not fit the plain protocol; a function that takes them all does. */
static PyObject *
semop_reduce(semop_object *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *module = PyImport_ImportModule("ipckit._native");
    PyObject *make = module == NULL ? NULL : PyObject_GetAttrString(module, "sem_op_of");
    Py_XDECREF(module);
    if (make == NULL) {
        return NULL;
    }
    return Py_BuildValue("N(iii)", make, (int)self->op.sem_num, (int)self->op.sem_op,
                         (int)self->op.sem_flg);
}

static PyMethodDef semop_methods[] = {
    {"__reduce__", (PyCFunction)semop_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef semop_members[] = {
    {"index", T_USHORT, offsetof(semop_object, op.sem_num), READONLY,
     PyDoc_STR("which semaphore of the set, from 0")},
    {"delta", T_SHORT, offsetof(semop_object, op.sem_op), READONLY,
     PyDoc_STR("what to add; below 0 waits until that much can be taken, 0 waits for zero")},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef semop_getset[] = {
    {"undo", (getter)semop_undo, NULL, PyDoc_STR("whether it is undone when the process ends"),
     NULL},
    {"nowait", (getter)semop_nowait, NULL, PyDoc_STR("whether the vector fails instead of waiting"),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(semop_doc,
             "SemOp(index, delta, *, undo=False, nowait=False)\n--\n\n"
             "One entry of a vector of operations on a semaphore set. Immutable.");

static PyType_Slot semop_slots[] = {
    {Py_tp_doc, (void *)semop_doc},
    {Py_tp_new, semop_new},
    {Py_tp_dealloc, semop_dealloc},
    {Py_tp_repr, semop_repr},
    {Py_tp_richcompare, semop_richcompare},
    {Py_tp_hash, semop_hash},
    {Py_tp_methods, semop_methods},
    {Py_tp_members, semop_members},
    {Py_tp_getset, semop_getset},
    {0, NULL},
};

static PyType_Spec semop_spec = {
    .name = "ipckit._native.SemOp",
    .basicsize = sizeof(semop_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = semop_slots,
};

static PyObject *
native_sem_op_of(PyObject *module, PyObject *args)
{
    int index, delta, flags;
    if (!PyArg_ParseTuple(args, "iii:sem_op_of", &index, &delta, &flags)) {
        return NULL;
    }
    native_state *state = PyModule_GetState(module);
    PyObject *positional = Py_BuildValue("(ii)", index, delta);
    PyObject *named = Py_BuildValue("{s:O,s:O}", "undo", flags & SEM_UNDO ? Py_True : Py_False,
                                    "nowait", flags & IPC_NOWAIT ? Py_True : Py_False);
    PyObject *result = NULL;
    if (positional != NULL && named != NULL) {
        result = semop_new(state->semop_type, positional, named);
    }
    Py_XDECREF(positional);
    Py_XDECREF(named);
    return result;
}

/* As long as it may take, with the GIL dropped; the remaining time is counted anew after a signal.
   0, -1 with errno (ETIMEDOUT at the deadline), or SEMOP_INTERRUPTED. */
static int
wait_for(int id, struct sembuf *ops, size_t count, int64_t wait_ns)
{
    int64_t deadline = wait_ns == WAIT_FOREVER ? INT64_MAX : deadline_after(wait_ns);
    for (;;) {
        struct timespec left, *limit = NULL;
        if (wait_ns != WAIT_FOREVER) {
            int64_t ns = deadline - monotonic_ns();
            left = timespec_of(ns > 0 ? ns : 0);
            limit = &left;
        }
        int result, error;
        Py_BEGIN_ALLOW_THREADS
        result = semtimedop(id, ops, count, limit);
        error = errno;
        Py_END_ALLOW_THREADS
        if (result == 0) {
            return 0;
        }
        if (error == EAGAIN && limit != NULL && monotonic_ns() >= deadline) {
            error = ETIMEDOUT; /* else one of the vector was not to wait */
        }
        if (error != EINTR) {
            errno = error;
            return -1;
        }
        if (PyErr_CheckSignals() < 0) {
            return SEMOP_INTERRUPTED;
        }
    }
}

static int
operate(int id, struct sembuf *ops, size_t count, int64_t wait_ns)
{
    /* At once needs no other thread to run meanwhile. */
    int result;
    if (count <= STAGED_OPS) {
        struct sembuf now[STAGED_OPS]; /* IPC_NOWAIT is cheaper for the kernel than a timeout of 0 */
        for (size_t i = 0; i < count; i++) {
            now[i] = ops[i];
            now[i].sem_flg |= IPC_NOWAIT;
        }
        result = semop(id, now, count);
    } else {
        static const struct timespec at_once = {0, 0};
        result = semtimedop(id, ops, count, &at_once);
    }
    if (result < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (wait_ns != 0) {
            return wait_for(id, ops, count, wait_ns);
        }
        errno = EAGAIN;
    }
    return result;
}

int
ipckit_semop(int id, struct sembuf *ops, size_t count, int64_t wait_ns)
{
    if (ipckit_holdings_begin(id, ops, count) < 0) {
        return -1;
    }
    int result = operate(id, ops, count, wait_ns);
    int error = errno;
    ipckit_holdings_end(id, ops, count, result == 0);
    if (result == -1 && (error == EIDRM || error == EINVAL)) {
        ipckit_holdings_cleared(id, -1); /* the set was removed, and what was held of it is gone */
    }
    errno = error;
    return result;
}

int
ipckit_sembufs(const native_state *state, PyObject *tuple, struct sembuf *ops)
{
    for (Py_ssize_t i = 0; i < PyTuple_Size(tuple); i++) {
        PyObject *op = PyTuple_GetItem(tuple, i);
        if (!Py_IS_TYPE(op, state->semop_type)) {
            PyErr_Format(PyExc_TypeError, "operation %zd is no SemOp", i);
            return -1;
        }
        ops[i] = ((semop_object *)op)->op;
    }
    return 0;
}

static PyObject *
perform(int id, struct sembuf *ops, size_t count, int64_t wait_ns)
{
    int result = ipckit_semop(id, ops, count, wait_ns);
    if (result == 0) {
        Py_RETURN_NONE;
    }
    return result == SEMOP_INTERRUPTED ? NULL : ipckit_call_failed();
}

PyDoc_STRVAR(semops_doc,
             "sem_ops(id, ops, timeout, /)\n--\n\n"
             "semtimedop(2) with a list or tuple of SemOp, all or nothing. OSError: EAGAIN with a\n"
             "timeout of 0 or where an entry was not to wait, ETIMEDOUT at the deadline, else as the\n"
             "kernel gives it.");

static PyObject *
native_sem_ops(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    native_state *state = PyModule_GetState(module);
    int id;
    int64_t wait_ns;
    if (ipckit_check_nargs("sem_ops", nargs, 3) < 0 || ipckit_int_arg(args[0], "id", &id) < 0
        || ipckit_wait_arg(args[2], &wait_ns) < 0) {
        return NULL;
    }
    /* A tuple of its own: the caller's list may change while the GIL is dropped. */
    PyObject *ops = PySequence_Tuple(args[1]);
    if (ops == NULL) {
        return NULL;
    }
    Py_ssize_t count = PyTuple_Size(ops);
    struct sembuf staged[STAGED_OPS], *vector = staged;
    if (count > STAGED_OPS) {
        vector = PyMem_Calloc((size_t)count, sizeof *vector);
        if (vector == NULL) {
            Py_DECREF(ops);
            return PyErr_NoMemory();
        }
    }
    PyObject *result = NULL;
    if (ipckit_sembufs(state, ops, vector) == 0) {
        result = perform(id, vector, (size_t)count, wait_ns);
    }
    if (vector != staged) {
        PyMem_Free(vector);
    }
    Py_DECREF(ops);
    return result;
}

static PyMethodDef functions[] = {
    {"sem_ops", (PyCFunction)(void (*)(void))native_sem_ops, METH_FASTCALL, semops_doc},
    {"sem_op_of", native_sem_op_of, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_sysv_sem(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    PyObject *type = PyType_FromModuleAndSpec(module, &semop_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    state->semop_type = (PyTypeObject *)type;
    PyObject *match_args = Py_BuildValue("(ss)", "index", "delta");
    int set = match_args == NULL ? -1 : PyObject_SetAttrString(type, "__match_args__", match_args);
    Py_XDECREF(match_args);
    if (set < 0 || PyModule_AddType(module, state->semop_type) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
