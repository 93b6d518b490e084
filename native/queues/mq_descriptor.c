/* QueueDescriptor: the descriptor of a POSIX queue, which closes when no call uses it any more.
   It counts the calls. Without the count another thread, or a signal handler, could close the
   descriptor during a call that waits, and its number could come to mean another queue. */
#include "queues/posix_mq.h"

#include <unistd.h>

/* Resets the count in a forked child, in which the parent's other threads do not exist. */
static void
reset_after_fork(queue_descriptor *self)
{
    uint64_t process = ipckit_own_token();
    if (self->process != process) {
        self->process = process;
        self->users = 0;
    }
}

/* Closes the descriptor if `close` was called and no call is in progress. */
static void
close_if_unused(queue_descriptor *self)
{
    if (self->closing && self->users <= 0 && self->number >= 0) {
        int number = self->number;
        self->number = -1;
        close(number);
    }
}

int
ipckit_queue_arg(const native_state *state, PyObject *object, int *fd, queue_descriptor **descriptor)
{
    *descriptor = NULL;
    if (!Py_IS_TYPE(object, state->queue_descriptor_type)) {
        return ipckit_int_arg(object, "fd", fd);
    }
    *descriptor = (queue_descriptor *)object;
    return 0;
}

int
ipckit_queue_acquire(queue_descriptor *descriptor)
{
    reset_after_fork(descriptor);
    descriptor->users++;
    return descriptor->closing ? -1 : descriptor->number;
}

void
ipckit_queue_release(queue_descriptor *descriptor)
{
    reset_after_fork(descriptor);
    descriptor->users--;
    close_if_unused(descriptor);
}

/* QueueDescriptor(fd). Returns a new reference, or NULL with an exception set. */
static PyObject *
descriptor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    int number;
    if (kwargs != NULL && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "QueueDescriptor takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "i:QueueDescriptor", &number)) {
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    queue_descriptor *self = (queue_descriptor *)alloc(type, 0);
    if (self != NULL) {
        self->number = number;
    }
    return (PyObject *)self;
}

/* Frees the object and leaves the descriptor open: its owner, the Python class WaitedDescriptor,
   calls `close`. */
static void
descriptor_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(close_doc,
             "close($self)\n--\n\n"
             "Close the descriptor, now or when the last call on it returns; idempotent.");

static PyObject *
descriptor_close(queue_descriptor *self, PyObject *Py_UNUSED(ignored))
{
    reset_after_fork(self);
    self->closing = true;
    close_if_unused(self);
    Py_RETURN_NONE;
}

static PyMethodDef descriptor_methods[] = {
    {"close", (PyCFunction)descriptor_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(descriptor_doc,
             "QueueDescriptor(fd, /)\n--\n\n"
             "The descriptor of a POSIX queue, which only `close` closes.");

static PyType_Slot descriptor_slots[] = {
    {Py_tp_doc, (void *)descriptor_doc},
    {Py_tp_new, descriptor_new},
    {Py_tp_dealloc, descriptor_dealloc},
    {Py_tp_methods, descriptor_methods},
    {0, NULL},
};

static PyType_Spec descriptor_spec = {
    .name = "ipckit._native.QueueDescriptor",
    .basicsize = sizeof(queue_descriptor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = descriptor_slots,
};

/* Adds the type of this file to the module: 0, or -1 with an exception set. */
int
ipckit_add_mq_descriptor(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    PyObject *type = PyType_FromModuleAndSpec(module, &descriptor_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    state->queue_descriptor_type = (PyTypeObject *)type;
    return PyModule_AddType(module, state->queue_descriptor_type);
}
