/* PacketBase: the result of a receive on a UNIX socket. In C because each receive creates one. */
#include "sockets/socket.h"

#include <stddef.h>
#include <structmember.h>

PyObject *
ipckit_packet_new(PyTypeObject *type, PyObject *data)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    packet_object *self = data == NULL ? NULL : (packet_object *)alloc(type, 0);
    if (self == NULL) {
        Py_XDECREF(data);
        return NULL;
    }
    self->data = data;
    return (PyObject *)self;
}

static PyObject *
packet_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return ipckit_packet_new(type, PyBytes_FromStringAndSize(NULL, 0));
}

/* The attribute `fds`: creates an empty list at the first read if no descriptor came, so that the usual
   packet does without one. */
static PyObject *
packet_fds(packet_object *self, void *Py_UNUSED(closure))
{
    if (self->fds == NULL) {
        PyObject *list = PyObject_CallMethod((PyObject *)self, "_no_fds", NULL);
        if (list == NULL) {
            return NULL;
        }
        if (self->fds != NULL) { /* another thread created it during the call */
            Py_DECREF(list);
        } else {
            self->fds = list;
        }
    }
    return Py_NewRef(self->fds);
}

static int
packet_set_fds(packet_object *self, PyObject *value, void *Py_UNUSED(closure))
{
    PyObject *old = self->fds;
    self->fds = Py_XNewRef(value);
    Py_XDECREF(old);
    return 0;
}

static int
packet_traverse(packet_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->data);
    Py_VISIT(self->fds);
    Py_VISIT(self->credentials);
    Py_VISIT(self->address);
    return 0;
}

static int
packet_clear(packet_object *self)
{
    Py_CLEAR(self->data);
    Py_CLEAR(self->fds);
    Py_CLEAR(self->credentials);
    Py_CLEAR(self->address);
    return 0;
}

static void
packet_dealloc(packet_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    packet_clear(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMemberDef packet_members[] = {
    {"data", T_OBJECT_EX, offsetof(packet_object, data), 0, PyDoc_STR("the bytes")},
    {"credentials", T_OBJECT, offsetof(packet_object, credentials), 0,
     PyDoc_STR("the sender's pid, uid and gid, or None")},
    {"address", T_OBJECT, offsetof(packet_object, address), 0,
     PyDoc_STR("the sender's address, or None")},
    {"truncated", T_BOOL, offsetof(packet_object, truncated), 0,
     PyDoc_STR("whether the message was longer than max_bytes")},
    {"eof", T_BOOL, offsetof(packet_object, eof), 0, PyDoc_STR("whether nothing more will come")},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef packet_getset[] = {
    {"fds", (getter)packet_fds, (setter)packet_set_fds, PyDoc_STR("the descriptors that came"),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(packet_doc, "The native base of a packet.");

static PyType_Slot packet_slots[] = {
    {Py_tp_doc, (void *)packet_doc},
    {Py_tp_new, packet_tp_new},
    {Py_tp_traverse, packet_traverse},
    {Py_tp_clear, packet_clear},
    {Py_tp_dealloc, packet_dealloc},
    {Py_tp_members, packet_members},
    {Py_tp_getset, packet_getset},
    {0, NULL},
};

static PyType_Spec packet_spec = {
    .name = "ipckit._native.PacketBase",
    .basicsize = sizeof(packet_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = packet_slots,
};

int
ipckit_add_unix_packet(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    PyObject *type = PyType_FromModuleAndSpec(module, &packet_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    state->packet_type = (PyTypeObject *)type;
    return PyModule_AddType(module, (PyTypeObject *)type);
}
