/* POSIX semaphores in mapped memory: taking and giving back without a Python frame in between. The
   memory is a Mapping of the semaphore's file, whose size was looked at when it was mapped, so that
   a short file is an error and not a SIGBUS, as sem_open would make it. */
#include "memory/mapping.h"
#include "ring/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <semaphore.h>
#include <stddef.h>
#include <string.h>
#include <structmember.h>
#include <time.h>

#if defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 30)
#define HAVE_CLOCKWAIT 1
#endif
#endif
#ifndef HAVE_CLOCKWAIT
#define HAVE_CLOCKWAIT 0
#endif

typedef struct {
    PyObject_HEAD
    mapping_object *mapping; /* NULL when closed */
    uint64_t process;        /* whose `own` is */
    long own;                /* taken through this handle, and not given back yet */
    long inherited;          /* by parents when they forked */
} sem_object;

/* In a forked child, what was the process's own is its parent's. */
static void
settle(sem_object *self)
{
    uint64_t process = ipckit_own_token();
    if (self->process != process) {
        self->inherited += self->own;
        self->own = 0;
        self->process = process;
    }
}

static PyObject *
taken(sem_object *self)
{
    settle(self);
    self->own++;
    Py_RETURN_NONE;
}

static PyObject *
sem_object_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return alloc(type, 0);
}

/* The exception that is set, as the handle explains it; always NULL. */
static PyObject *
explain(sem_object *self, const char *op, PyObject *timeout)
{
    PyObject *exception = ipckit_take_exception();
    PyObject *meant = PyObject_CallMethod((PyObject *)self, "_explain_op", "OsO", exception, op,
                                          timeout == NULL ? Py_None : timeout);
    Py_DECREF(exception);
    return ipckit_raise(meant);
}

/* Whether the memory holds what sem_open puts there: glibc hands the word after the value to futex,
   and aborts the process over one that the kernel does not know. */
static bool
holds_semaphore(const char *memory)
{
#if defined(__GLIBC__) && defined(__LP64__)
    uint64_t value;
    uint32_t shared;
    memcpy(&value, memory, sizeof value);
    memcpy(&shared, memory + sizeof value, sizeof shared);
    return (value & UINT32_MAX) <= INT_MAX && shared == FUTEX_PRIVATE_FLAG;
#else
    (void)memory;
    return true;
#endif
}

static sem_t *
semaphore_of(sem_object *self)
{
    if (self->mapping == NULL || self->mapping->closed) {
        errno = EBADF;
        return NULL;
    }
    if (!holds_semaphore(self->mapping->data)) {
        errno = EUCLEAN;
        return NULL;
    }
    return (sem_t *)self->mapping->data;
}

/* sem_wait until a moment on the monotonic clock; on an older C library on the clock of the day. */
static int
wait_until(sem_t *semaphore, int64_t deadline)
{
    if (deadline == INT64_MAX) {
        return sem_wait(semaphore);
    }
#if HAVE_CLOCKWAIT
    struct timespec until = timespec_of(deadline);
    return sem_clockwait(semaphore, CLOCK_MONOTONIC, &until);
#else
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t left = deadline - monotonic_ns();
    int64_t until_ns = (int64_t)now.tv_sec * NS_PER_SECOND + now.tv_nsec + (left > 0 ? left : 0);
    struct timespec until = timespec_of(until_ns);
    return sem_timedwait(semaphore, &until);
#endif
}

static PyObject *
wait_for(sem_object *self, sem_t *semaphore, int64_t wait_ns, PyObject *timeout)
{
    int64_t deadline = wait_ns == WAIT_FOREVER ? INT64_MAX : deadline_after(wait_ns);
    mapping_object *mapping = (mapping_object *)Py_NewRef((PyObject *)self->mapping);
    mapping->exports++; /* another thread may close the handle meanwhile */
    int result, error;
    bool raised = false;
    do {
        Py_BEGIN_ALLOW_THREADS
        result = wait_until(semaphore, deadline);
        error = errno;
        Py_END_ALLOW_THREADS
        raised = result < 0 && error == EINTR && PyErr_CheckSignals() < 0;
    } while (result < 0 && error == EINTR && !raised);
    ipckit_mapping_end_export(mapping);
    Py_DECREF((PyObject *)mapping);
    if (result == 0) {
        return taken(self);
    }
    if (raised) {
        return NULL; /* what a signal handler raised is nobody's to explain */
    }
    errno = error;
    ipckit_oserror();
    return explain(self, "sem_wait", timeout);
}

static PyObject *
acquire(sem_object *self, PyObject *timeout)
{
    int64_t wait_ns;
    if (ipckit_wait_arg(timeout, &wait_ns) < 0) {
        return PyErr_ExceptionMatches(PyExc_ValueError) ? explain(self, "sem_wait", timeout) : NULL;
    }
    sem_t *semaphore = semaphore_of(self);
    if (semaphore != NULL) {
        if (sem_trywait(semaphore) == 0) {
            return taken(self);
        }
        if ((errno == EAGAIN || errno == EINTR) && wait_ns != 0) {
            return wait_for(self, semaphore, wait_ns, timeout);
        }
    }
    ipckit_oserror();
    return explain(self, "sem_wait", timeout);
}

PyDoc_STRVAR(acquire_doc,
             "acquire($self, *, timeout=None)\n--\n\n"
             "Take 1 from the semaphore, waiting until it has that much.\n\n"
             "Args:\n"
             "    timeout: seconds to wait; 0 does not wait, None waits for ever.\n\n"
             "Raises:\n"
             "    WouldBlock: it is 0, and `timeout` is 0.\n"
             "    Timeout: it was 0 until the deadline.\n"
             "    InvalidArgument: `timeout` is out of range.\n"
             "    ClosedHandle: the handle is closed.\n\n"
             "See sem_wait(3).");

static PyObject *
sem_acquire(sem_object *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_Size(kwnames);
    if (nargs != 0 || named > 1
        || (named == 1
            && PyUnicode_CompareWithASCIIString(PyTuple_GetItem(kwnames, 0), "timeout") != 0)) {
        PyErr_SetString(PyExc_TypeError, "acquire() takes timeout= and nothing else");
        return NULL;
    }
    return acquire(self, named == 1 ? args[0] : Py_None);
}

PyDoc_STRVAR(release_doc,
             "release($self)\n--\n\n"
             "Give 1 to the semaphore; never waits.\n\n"
             "Raises:\n"
             "    LimitReached: it is at its most, 2147483647.\n"
             "    ClosedHandle: the handle is closed.\n\n"
             "See sem_post(3).");

static PyObject *
sem_release(sem_object *self, PyObject *Py_UNUSED(ignored))
{
    sem_t *semaphore = semaphore_of(self);
    if (semaphore == NULL || sem_post(semaphore) < 0) {
        ipckit_oserror();
        return explain(self, "sem_post", NULL);
    }
    settle(self);
    self->own -= self->own > 0;
    Py_RETURN_NONE;
}

static PyObject *
sem_enter(sem_object *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *taken = acquire(self, Py_None);
    if (taken == NULL) {
        return NULL;
    }
    Py_DECREF(taken);
    return Py_NewRef((PyObject *)self);
}

/* In a forked child that leaves the block of its parent nothing is the child's to release. */
static PyObject *
sem_exit(sem_object *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    settle(self);
    if (self->own == 0 && self->inherited > 0) {
        Py_RETURN_NONE;
    }
    return sem_release(self, NULL);
}

PyDoc_STRVAR(attach_doc, "_attach($self, mapping, /)\n--\n\nUse the semaphore in a Mapping.");

static PyObject *
sem_attach(sem_object *self, PyTypeObject *defining_class, PyObject *const *args, Py_ssize_t nargs,
           PyObject *Py_UNUSED(kwnames))
{
    native_state *state = PyType_GetModuleState(defining_class);
    if (ipckit_check_nargs("_attach", nargs, 1) < 0) {
        return NULL;
    }
    if (!Py_IS_TYPE(args[0], state->mapping_type)
        || ((mapping_object *)args[0])->size < (Py_ssize_t)sizeof(sem_t)
        || (uintptr_t)((mapping_object *)args[0])->data % _Alignof(sem_t) != 0) {
        PyErr_SetString(PyExc_ValueError, "a Mapping with room for a semaphore is wanted");
        return NULL;
    }
    PyObject *old = (PyObject *)self->mapping;
    self->mapping = (mapping_object *)Py_NewRef(args[0]);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

static PyObject *
sem_value(sem_object *self, void *Py_UNUSED(closure))
{
    sem_t *semaphore = semaphore_of(self);
    int value;
    if (semaphore == NULL || sem_getvalue(semaphore, &value) < 0) {
        ipckit_oserror();
        return explain(self, "sem_getvalue", NULL);
    }
    return PyLong_FromLong(value);
}

static int
sem_traverse(sem_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->mapping);
    return 0;
}

static void
sem_dealloc(sem_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->mapping);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyGetSetDef sem_getset[] = {
    {"value", (getter)sem_value, NULL,
     PyDoc_STR("what it has now; other processes change it at any time"), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef sem_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))sem_acquire, METH_FASTCALL | METH_KEYWORDS,
     acquire_doc},
    {"release", (PyCFunction)sem_release, METH_NOARGS, release_doc},
    {"__enter__", (PyCFunction)sem_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))sem_exit, METH_FASTCALL, NULL},
    {"_attach", (PyCFunction)(void (*)(void))sem_attach,
     METH_METHOD | METH_FASTCALL | METH_KEYWORDS, attach_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(sem_doc, "The native base of a POSIX semaphore's handle.");

PyDoc_STRVAR(create_doc,
             "sem_create(name, mode, value, /)\n--\n\n"
             "sem_open(3) with O_CREAT and O_EXCL, and sem_close(3).");

static PyObject *
native_sem_create(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *name;
    unsigned int mode, value;
    if (!PyArg_ParseTuple(args, "O&II", PyUnicode_FSConverter, &name, &mode, &value)) {
        return NULL;
    }
    sem_t *semaphore = sem_open(PyBytes_AsString(name), O_CREAT | O_EXCL, (mode_t)mode, value);
    PyObject *result = NULL;
    if (semaphore == SEM_FAILED) {
        ipckit_oserror();
    } else {
        sem_close(semaphore);
        result = Py_NewRef(Py_None);
    }
    Py_DECREF(name);
    return result;
}

static PyMethodDef functions[] = {
    {"sem_create", native_sem_create, METH_VARARGS, create_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot sem_slots[] = {
    {Py_tp_doc, (void *)sem_doc},
    {Py_tp_new, sem_object_new},
    {Py_tp_traverse, sem_traverse},
    {Py_tp_dealloc, sem_dealloc},
    {Py_tp_methods, sem_methods},
    {Py_tp_getset, sem_getset},
    {0, NULL},
};

static PyType_Spec sem_spec = {
    .name = "ipckit._native.PosixSemaphoreBase",
    .basicsize = sizeof(sem_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = sem_slots,
};

int
ipckit_add_posix_sem(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &sem_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int added = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    if (added < 0 || PyModule_AddIntConstant(module, "SEM_T_SIZE", sizeof(sem_t)) < 0) {
        return -1;
    }
    if (PyModule_AddIntConstant(module, "SEM_CLOCK_IS_MONOTONIC", HAVE_CLOCKWAIT) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
