/* PosixSemaphoreBase, the native base of PosixSemaphore: acquire and release without a Python frame. The memory is a
   Mapping of the semaphore's file. Its size is checked before it is mapped, so a short file raises an error. With
   sem_open(3) it would cause SIGBUS. */
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

/* glibc has it since 2.30. The reference is weak, so that a wheel for an older glibc uses it where it exists; it is NULL
   elsewhere, and with musl. */
extern int sem_clockwait(sem_t *, clockid_t, const struct timespec *) __attribute__((weak));

/* What the C library puts before the name in /dev/shm. musl puts nothing, so shared memory and a semaphore can't have
   the same name there. */
#ifdef __GLIBC__
#define FILE_PREFIX "sem."
#else
#define FILE_PREFIX ""
#endif
#define SEM_NAME_MAX (NAME_MAX + 1 - (int)sizeof FILE_PREFIX)

typedef struct {
    PyObject_HEAD
    mapping_object *mapping; /* NULL when closed */
    uint64_t process;        /* the process that `own` belongs to */
    long own;                /* acquired through this handle and not released yet */
    long inherited;          /* acquired by parents before they forked */
} sem_object;

/* After a fork, turns what the parent acquired into inherited acquisitions. */
static void
detect_fork(sem_object *self)
{
    uint64_t process = ipckit_own_token();
    if (self->process != process) {
        self->inherited += self->own;
        self->own = 0;
        self->process = process;
    }
}

/* Counts an acquisition. Returns None. */
static PyObject *
acquired(sem_object *self)
{
    detect_fork(self);
    self->own++;
    Py_RETURN_NONE;
}

static PyObject *
sem_object_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return alloc(type, 0);
}

/* Replaces the exception that is set by the one that the handle returns for it. Returns NULL. */
static PyObject *
explain(sem_object *self, const char *op, PyObject *timeout)
{
    PyObject *exception = ipckit_take_exception();
    PyObject *explained = PyObject_CallMethod((PyObject *)self, "_explain_op", "OsO", exception, op,
                                              timeout == NULL ? Py_None : timeout);
    Py_DECREF(exception);
    return ipckit_raise(explained);
}

/* Whether the memory holds what sem_open(3) writes. glibc passes the word after the value to futex(2), and aborts the
   process if the kernel rejects it. */
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

/* Returns the semaphore in the mapping, or NULL with errno: EBADF if the handle is closed, EUCLEAN if the memory does not
   hold a semaphore. */
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

/* sem_wait(3) until a deadline on the monotonic clock; without sem_clockwait(3), on the real-time clock. Returns 0, or
   -1 with errno. The GIL is not held. */
static int
wait_until(sem_t *semaphore, int64_t deadline)
{
    if (deadline == INT64_MAX) {
        return sem_wait(semaphore);
    }
    if (sem_clockwait != NULL) {
        struct timespec until = timespec_of(deadline);
        return sem_clockwait(semaphore, CLOCK_MONOTONIC, &until);
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t left = deadline - monotonic_ns();
    int64_t until_ns = (int64_t)now.tv_sec * NS_PER_SECOND + now.tv_nsec + (left > 0 ? left : 0);
    struct timespec until = timespec_of(until_ns);
    return sem_timedwait(semaphore, &until);
}

/* Waits with the GIL released; runs signal handlers and continues after EINTR. Returns None, or NULL with an exception
   set. */
static PyObject *
wait_for(sem_object *self, sem_t *semaphore, int64_t wait_ns, PyObject *timeout)
{
    int64_t deadline = wait_ns == WAIT_FOREVER ? INT64_MAX : deadline_after(wait_ns);
    mapping_object *mapping = (mapping_object *)Py_NewRef((PyObject *)self->mapping);
    mapping->exports++; /* so that it stays mapped if another thread closes the handle */
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
        return acquired(self);
    }
    if (raised) {
        return NULL; /* what a signal handler raised stays as it is */
    }
    errno = error;
    ipckit_oserror();
    return explain(self, "sem_wait", timeout);
}

/* Acquires 1: at once if possible, else it waits. Returns None, or NULL with an exception set. */
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
            return acquired(self);
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
             "Subtract 1 from the semaphore; wait until its value is at least 1.\n\n"
             "Args:\n"
             "    timeout: seconds to wait; 0 does not wait, None waits for ever.\n\n"
             "Raises:\n"
             "    WouldBlock: the value is 0, and `timeout` is 0.\n"
             "    Timeout: the value was 0 until the deadline.\n"
             "    InvalidArgument: `timeout` is negative.\n"
             "    Corrupt: another program wrote over the semaphore.\n"
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
             "Add 1 to the semaphore. Never waits.\n\n"
             "Raises:\n"
             "    LimitReached: the value is at its maximum, 2147483647.\n"
             "    Corrupt: another program wrote over the semaphore.\n"
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
    detect_fork(self);
    self->own -= self->own > 0;
    Py_RETURN_NONE;
}

static PyObject *
sem_enter(sem_object *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *done = acquire(self, Py_None);
    if (done == NULL) {
        return NULL;
    }
    Py_DECREF(done);
    return Py_NewRef((PyObject *)self);
}

/* Releases 1. A forked child that leaves the block of its parent releases nothing. */
static PyObject *
sem_exit(sem_object *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    detect_fork(self);
    if (self->own == 0 && self->inherited > 0) {
        Py_RETURN_NONE;
    }
    return sem_release(self, NULL);
}

PyDoc_STRVAR(attach_doc, "_attach($self, mapping, /)\n--\n\nUse the semaphore in a Mapping.");

/* Sets the mapping. ValueError unless it has room for a semaphore, at an aligned address. */
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
        PyErr_SetString(PyExc_ValueError, "expected a Mapping with room for a semaphore");
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
     PyDoc_STR("the value now; other processes can change it at any time"), NULL},
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
             "Creates a semaphore: sem_open(3) with O_CREAT and O_EXCL, then sem_close(3).");

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
    if (added < 0 || PyModule_AddIntConstant(module, "SEM_T_SIZE", sizeof(sem_t)) < 0
        || PyModule_AddIntConstant(module, "SEM_VALUE_MAX", SEM_VALUE_MAX) < 0
        || PyModule_AddIntConstant(module, "SEM_NAME_MAX", SEM_NAME_MAX) < 0
        || PyModule_AddStringConstant(module, "SEM_FILE_PREFIX", FILE_PREFIX) < 0
        || PyModule_AddIntConstant(module, "SEM_CLOCK_IS_MONOTONIC", sem_clockwait != NULL) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
