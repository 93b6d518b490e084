/* QueueDescriptor: an open descriptor of a POSIX queue, closed once that was asked for and no call is made on it.
   Without the count another thread, or a signal handler, could close it under a call that waits, and its number
   could come to mean another queue. */
#include "queues/posix_mq.h"

#include <unistd.h>

/* The threads whose calls were counted are not in a forked child. */
static void
settle(queue_descriptor *self)
{
    uint64_t process = ipckit_own_token();
    if (self->process != process) {
        self->process = process;
        self->users = 0;
    }
}

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
ipckit_queue_keep(queue_descriptor *descriptor)
{
    settle(descriptor);
    descriptor->users++;
    return descriptor->closing ? -1 : descriptor->number;
}

void
ipckit_queue_let_go(queue_descriptor *descriptor)
{
    settle(descriptor);
    descriptor->users--;
    close_if_unused(descriptor);
}

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

static void
descriptor_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(close_doc, "close($self)\n--\n\n"
                        "Close it, now or when the last call on it is done; idempotent.");

static PyObject *
descriptor_close(queue_descriptor *self, PyObject *Py_UNUSED(ignored))
{
    settle(self);
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
             "A POSIX queue's descriptor, which this takes over; nothing but `close` closes it.");

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
