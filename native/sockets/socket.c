/* UnixSocketBase: the fast path of sending and receiving on a UNIX socket, without a Python frame. It
   calls a method of the handle in Python to wait with a deadline, for the less usual arguments, and
   for errors. */
#include "sockets/socket.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <structmember.h>

/* The stage of the interpreter, which the first receive allocates; NULL with MemoryError set. */
static char *
get_stage(void)
{
    interpreter_state *state = ipckit_interpreter();
    if (state->stage == NULL && state->record_type != NULL) { /* NULL while the interpreter ends */
        state->stage = malloc(STAGE_BYTES);
    }
    if (state->stage == NULL) {
        PyErr_NoMemory();
    }
    return state->stage;
}

int
ipckit_unix_buffer(unix_buffer *buffer, Py_ssize_t size, bool staged)
{
    *buffer = (unix_buffer){.size = size};
    if (staged) {
        buffer->memory = get_stage();
        return buffer->memory == NULL ? -1 : 0;
    }
    buffer->bytes = PyBytes_FromStringAndSize(NULL, size);
    if (buffer->bytes == NULL) {
        return -1;
    }
    buffer->memory = PyBytes_AsString(buffer->bytes);
    return 0;
}

void
ipckit_unix_buffer_drop(unix_buffer *buffer)
{
    Py_CLEAR(buffer->bytes);
}

PyObject *
ipckit_unix_buffer_take(unix_buffer *buffer, Py_ssize_t got)
{
    if (buffer->bytes == NULL) {
        return PyBytes_FromStringAndSize(buffer->memory, got);
    }
    if (got == buffer->size) {
        return buffer->bytes;
    }
    PyObject *copy = PyBytes_FromStringAndSize(buffer->memory, got);
    Py_CLEAR(buffer->bytes);
    return copy;
}

int
ipckit_unix_fd(unix_object *self)
{
    PyObject *number = self->fileno == NULL ? NULL : PyObject_CallNoArgs(self->fileno);
    long fd = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    if (fd < 0 || fd > INT_MAX) {
        PyErr_Clear();
        errno = EBADF;
        return -1;
    }
    return (int)fd;
}

int
ipckit_unix_parse(const char *function, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                  unix_arg *wanted, Py_ssize_t count)
{
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes 1 positional argument, not %zd", function, nargs);
        return -1;
    }
    if (nargs == 1) {
        wanted[0].value = args[0];
    }
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_Size(kwnames);
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GetItem(kwnames, i);
        Py_ssize_t at = 0;
        while (at < count && PyUnicode_CompareWithASCIIString(name, wanted[at].name) != 0) {
            at++;
        }
        if (at == count || wanted[at].value != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() has no argument %R, or got it twice", function,
                         name);
            return -1;
        }
        wanted[at].value = args[nargs + i];
    }
    return 0;
}

bool
ipckit_unix_wait(PyObject *timeout, int64_t *wait_ns)
{
    if (timeout == NULL || timeout == Py_None) {
        *wait_ns = WAIT_FOREVER;
        return true;
    }
    return ipckit_wait_arg(timeout, wait_ns) == 0;
}

bool
ipckit_unix_clear_exception(void)
{
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception)) {
        return false;
    }
    PyErr_Clear();
    return true;
}

PyObject *
ipckit_unix_raise(unix_object *self, int error, const char *method, PyObject *context)
{
    errno = error;
    ipckit_oserror();
    PyObject *exception = ipckit_take_exception();
    PyObject *error_object = PyObject_CallMethod((PyObject *)self, method, "OO", exception, context);
    Py_XDECREF(exception);
    return ipckit_raise(error_object);
}

PyDoc_STRVAR(attach_doc,
             "_attach($self, fileno, packet, descriptors, stream, /)\n--\n\n"
             "Initialize the object: `fileno` is the socket's method, `packet` and `descriptors` are\n"
             "the classes of results, `stream` says whether it is a stream.");

/* Whether the arguments of _attach are a callable and subclasses of PacketBase and DescriptorsBase. */
static bool
are_attachable(native_state *state, PyObject *const *args)
{
    return PyCallable_Check(args[0]) && PyType_Check(args[1]) && PyType_Check(args[2])
           && PyType_IsSubtype((PyTypeObject *)args[1], state->packet_type)
           && PyType_IsSubtype((PyTypeObject *)args[2], state->descriptors_type);
}

/* `_attach`: may be called once for each object. */
static PyObject *
unix_attach(unix_object *self, PyTypeObject *defining_class, PyObject *const *args,
            Py_ssize_t nargs, PyObject *Py_UNUSED(kwnames))
{
    native_state *state = PyType_GetModuleState(defining_class);
    if (ipckit_check_nargs("_attach", nargs, 4) < 0) {
        return NULL;
    }
    int stream = PyObject_IsTrue(args[3]);
    if (stream < 0) {
        return NULL;
    }
    if (!are_attachable(state, args)) {
        PyErr_SetString(PyExc_TypeError, "_attach takes a function and two classes");
        return NULL;
    }
    if (self->fileno != NULL) {
        PyErr_SetString(PyExc_ValueError, "it is attached already");
        return NULL;
    }
    self->fileno = Py_NewRef(args[0]);
    self->packet_type = (PyTypeObject *)Py_NewRef(args[1]);
    self->descriptors_type = (PyTypeObject *)Py_NewRef(args[2]);
    self->stream = (char)stream;
    Py_RETURN_NONE;
}

static PyObject *
unix_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return alloc(type, 0);
}

static int
unix_traverse(unix_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->fileno);
    Py_VISIT(self->packet_type);
    Py_VISIT(self->descriptors_type);
    return 0;
}

static void
unix_dealloc(unix_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->fileno);
    Py_CLEAR(self->packet_type);
    Py_CLEAR(self->descriptors_type);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMemberDef unix_members[] = {
    {"_bytes_only", T_BOOL, offsetof(unix_object, bytes_only), 0,
     PyDoc_STR("whether a packet needs neither the sender's address nor its credentials")},
    {"_exposed", T_BOOL, offsetof(unix_object, exposed), 0,
     PyDoc_STR("whether the caller has the socket inside")},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef unix_methods[] = {
    {"send", (PyCFunction)(void (*)(void))ipckit_unix_send, METH_FASTCALL | METH_KEYWORDS,
     ipckit_unix_send_doc},
    {"receive", (PyCFunction)(void (*)(void))ipckit_unix_receive, METH_FASTCALL | METH_KEYWORDS,
     ipckit_unix_receive_doc},
    {"_recvmsg", (PyCFunction)ipckit_unix_recvmsg, METH_O, ipckit_unix_recvmsg_doc},
    {"_sendmsg", (PyCFunction)(void (*)(void))ipckit_unix_sendmsg, METH_FASTCALL,
     ipckit_unix_sendmsg_doc},
    {"_attach", (PyCFunction)(void (*)(void))unix_attach,
     METH_METHOD | METH_FASTCALL | METH_KEYWORDS, attach_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(unix_doc, "The native base of a UNIX socket's handle.");

static PyType_Slot unix_slots[] = {
    {Py_tp_doc, (void *)unix_doc},
    {Py_tp_new, unix_new},
    {Py_tp_traverse, unix_traverse},
    {Py_tp_dealloc, unix_dealloc},
    {Py_tp_methods, unix_methods},
    {Py_tp_members, unix_members},
    {0, NULL},
};

static PyType_Spec unix_spec = {
    .name = "ipckit._native.UnixSocketBase",
    .basicsize = sizeof(unix_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = unix_slots,
};

int
ipckit_add_unix_socket(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &unix_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int added = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    if (added < 0 || PyModule_AddIntConstant(module, "SCM_MAX_FD", SCM_MAX_FD) < 0) {
        return -1;
    }
    return PyModule_AddIntConstant(module, "CONTROL_CROWDED", CONTROL_CROWDED);
}
