/* SemOp, one operation on a semaphore set, and semop(2) on several of them with a deadline. */
#include "native.h"
#include "ring/clock.h"
#include "semaphores/undo_counts.h"
#include "semaphores/semop.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <structmember.h>
#include <sys/ipc.h>

/* Up to this many operations are copied to the stack. */
#define STAGED_OPS 16

typedef struct {
    PyObject_HEAD
    struct sembuf op;
} semop_object;

/* SemOp(index, delta, *, undo=False, nowait=False). InvalidArgument for a number out of range. */
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

/* Pickles as pickle itself does for a class whose `__new__` takes keyword arguments. */
static PyObject *
semop_reduce(semop_object *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *copyreg = PyImport_ImportModule("copyreg");
    PyObject *function = copyreg == NULL ? NULL : PyObject_GetAttrString(copyreg, "__newobj_ex__");
    Py_XDECREF(copyreg);
    if (function == NULL) {
        return NULL;
    }
    return Py_BuildValue("N(O(ii){s:O,s:O})", function, (PyObject *)Py_TYPE((PyObject *)self),
                         (int)self->op.sem_num, (int)self->op.sem_op, "undo",
                         self->op.sem_flg & SEM_UNDO ? Py_True : Py_False, "nowait",
                         self->op.sem_flg & IPC_NOWAIT ? Py_True : Py_False);
}

static PyMethodDef semop_methods[] = {
    {"__reduce__", (PyCFunction)semop_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef semop_members[] = {
    {"index", T_USHORT, offsetof(semop_object, op.sem_num), READONLY,
     PyDoc_STR("which semaphore of the set, from 0")},
    {"delta", T_SHORT, offsetof(semop_object, op.sem_op), READONLY,
     PyDoc_STR("the number to add; below 0 waits until the value is high enough, 0 waits for 0")},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef semop_getset[] = {
    {"undo", (getter)semop_undo, NULL, PyDoc_STR("whether the kernel reverses it when the process ends"),
     NULL},
    {"nowait", (getter)semop_nowait, NULL, PyDoc_STR("whether the call fails instead of waiting for this operation"),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(semop_doc,
             "SemOp(index, delta, *, undo=False, nowait=False)\n--\n\n"
             "One operation on a semaphore set, for `SysVSemaphoreSet.op`. Immutable.\n\n"
             "Args:\n"
             "    index: the semaphore of the set, from 0.\n"
             "    delta: the number to add. Below 0 waits until the value is high enough, 0 waits\n"
             "        until the value is 0.\n"
             "    undo: whether the kernel reverses it when the process ends (SEM_UNDO).\n"
             "    nowait: whether the call fails instead of waiting for this operation (IPC_NOWAIT).\n\n"
             "Raises:\n"
             "    InvalidArgument: a number is out of range.\n\n"
             ">>> SemOp(0, -1, undo=True)\n"
             "SemOp(0, -1, undo=True)\n\n"
             "See semop(2).");

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
    .name = "ipckit.sem.SemOp",
    .basicsize = sizeof(semop_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = semop_slots,
};

/* Waits until the operations are possible, with the GIL released. After a signal it runs the handlers and waits for the
   remaining time. Returns 0, SEMOP_INTERRUPTED, or -1 with errno (ETIMEDOUT at the deadline). */
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
            error = ETIMEDOUT; /* before the deadline, EAGAIN is about an operation with nowait */
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

/* Tries the operations with the GIL held, because that never sleeps, and then waits if it has to. Returns as
   ipckit_semop. */
static int
operate(int id, struct sembuf *ops, size_t count, int64_t wait_ns)
{
    int result;
    if (count <= STAGED_OPS) {
        struct sembuf now[STAGED_OPS]; /* IPC_NOWAIT costs the kernel less than a timeout of 0 */
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
    if (ipckit_undo_begin(id, ops, count) < 0) {
        return -1;
    }
    int result = operate(id, ops, count, wait_ns);
    int error = errno;
    ipckit_undo_end(id, ops, count, result == 0);
    if (result == -1 && (error == EIDRM || error == EINVAL)) {
        ipckit_undo_cleared(id, -1); /* the set was removed, and its undo counts with it */
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
            PyErr_Format(PyExc_TypeError, "operation %zd is not a SemOp", i);
            return -1;
        }
        ops[i] = ((semop_object *)op)->op;
    }
    return 0;
}

/* ipckit_semop as a Python call. Returns None, or NULL with CallFailed or a signal handler's exception set. */
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
             "semtimedop(2) with SemOps, all or none. CallFailed: EAGAIN with a timeout of 0 or if an\n"
             "operation has nowait, ETIMEDOUT at the deadline, or what semop(2) sets.");

/* Copies a tuple of SemOp and performs the operations. Returns as `perform`; TypeError for other objects. */
static PyObject *
perform_tuple(const native_state *state, int id, PyObject *ops, int64_t wait_ns)
{
    Py_ssize_t count = PyTuple_Size(ops);
    struct sembuf staged[STAGED_OPS], *vector = staged;
    if (count > STAGED_OPS) {
        vector = PyMem_Calloc((size_t)count, sizeof *vector);
        if (vector == NULL) {
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
    return result;
}

static PyObject *
native_sem_ops(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    int id;
    int64_t wait_ns;
    if (ipckit_check_nargs("sem_ops", nargs, 3) < 0 || ipckit_int_arg(args[0], "id", &id) < 0
        || ipckit_wait_arg(args[2], &wait_ns) < 0) {
        return NULL;
    }
    /* A tuple, because another thread could change the caller's list. */
    PyObject *ops = PySequence_Tuple(args[1]);
    if (ops == NULL) {
        return NULL;
    }
    PyObject *result = perform_tuple(PyModule_GetState(module), id, ops, wait_ns);
    Py_DECREF(ops);
    return result;
}

static PyMethodDef functions[] = {
    {"sem_ops", (PyCFunction)(void (*)(void))native_sem_ops, METH_FASTCALL, semops_doc},
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
