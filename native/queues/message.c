/* Message: the result of a receive. In C, because each receive creates one. */
#include "native.h"
#include "records/record.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

/* Immutable after its creation. */
typedef struct {
    PyObject_HEAD
    PyObject *value;
    long mtype;
    long priority;
    char truncated;
} message_object;

/* A shortcut past message_tp_new: no keywords to parse, and no call through the type. */
PyObject *
ipckit_message_new(PyObject *module, PyObject *value, long mtype, long priority, bool truncated)
{
    native_state *state = PyModule_GetState(module);
    message_object *self = PyObject_GC_New(message_object, state->message_type);
    if (self == NULL) {
        return NULL;
    }
    self->value = Py_NewRef(value);
    self->mtype = mtype;
    self->priority = priority;
    self->truncated = truncated;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* Creates an instance of a Struct class from the bytes of a message. Returns a new reference, or
   NULL with an exception set; NULL without an exception if the class has another size. */
static PyObject *
new_record(PyTypeObject *record_type, const char *data, Py_ssize_t size)
{
    Layout *layout = ipckit_layout_of(record_type);
    if (layout == NULL) {
        return NULL;
    }
    Record *record = NULL;
    if (ipckit_layout_takes(layout, size)) {
        record = ipckit_record_new(record_type, layout, size);
    }
    Py_DECREF((PyObject *)layout);
    if (record != NULL) {
        memcpy(record->data, data, (size_t)size);
    }
    return (PyObject *)record;
}

PyObject *
ipckit_payload_new(PyObject *record_type, const char *data, Py_ssize_t size)
{
    if (record_type != NULL) {
        PyObject *record = new_record((PyTypeObject *)record_type, data, size);
        if (record != NULL || PyErr_Occurred()) {
            return record;
        }
    }
    return PyBytes_FromStringAndSize(data, size);
}

/* Message(value, mtype=0, priority=0, truncated=False). */
static PyObject *
message_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"value", "mtype", "priority", "truncated", NULL};
    PyObject *value;
    long mtype = 0, priority = 0;
    int truncated = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|llp:Message", names, &value, &mtype,
                                     &priority, &truncated)) {
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    message_object *self = (message_object *)alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->value = Py_NewRef(value);
    self->mtype = mtype;
    self->priority = priority;
    self->truncated = (char)truncated;
    return (PyObject *)self;
}

/* For the garbage collector: a value may refer back to its message. */
static int
message_traverse(message_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->value);
    return 0;
}

static int
message_clear(message_object *self)
{
    Py_CLEAR(self->value);
    return 0;
}

static void
message_dealloc(message_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->value);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *
message_repr(message_object *self)
{
    return PyUnicode_FromFormat("Message(value=%R, mtype=%ld, priority=%ld, truncated=%s)",
                                self->value, self->mtype, self->priority,
                                self->truncated ? "True" : "False");
}

/* Messages are equal if all four attributes are. There is no order. */
static PyObject *
message_richcompare(PyObject *left, PyObject *right, int op)
{
    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(left) != Py_TYPE(right)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    message_object *a = (message_object *)left, *b = (message_object *)right;
    if (a->mtype != b->mtype || a->priority != b->priority || a->truncated != b->truncated) {
        return PyBool_FromLong(op == Py_NE);
    }
    return PyObject_RichCompare(a->value, b->value, op);
}

/* Fails with TypeError if the value is not hashable. Leaves out `truncated`, as a hash may. */
static Py_hash_t
message_hash(message_object *self)
{
    Py_hash_t hash = PyObject_Hash(self->value);
    if (hash == -1) {
        return -1;
    }
    Py_uhash_t mixed = (Py_uhash_t)hash * 1000003u ^ (Py_uhash_t)self->mtype;
    mixed = mixed * 1000003u ^ (Py_uhash_t)self->priority;
    return mixed == (Py_uhash_t)-1 ? -2 : (Py_hash_t)mixed;
}

/* For pickle and copy. */
static PyObject *
message_reduce(message_object *self, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("O(OllO)", Py_TYPE((PyObject *)self), self->value, self->mtype, self->priority,
                         self->truncated ? Py_True : Py_False);
}

static PyMethodDef message_methods[] = {
    {"__reduce__", (PyCFunction)message_reduce, METH_NOARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef message_members[] = {
    {"value", T_OBJECT_EX, offsetof(message_object, value), READONLY,
     PyDoc_STR("the payload, decoded")},
    {"mtype", T_LONG, offsetof(message_object, mtype), READONLY,
     PyDoc_STR("the System V message type, 1 or more; 0 for a POSIX queue")},
    {"priority", T_LONG, offsetof(message_object, priority), READONLY,
     PyDoc_STR("the POSIX priority, 0 to 32767; 0 for a System V queue")},
    {"truncated", T_BOOL, offsetof(message_object, truncated), READONLY,
     PyDoc_STR("whether the message was longer than `receive` asked for")},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(message_doc,
             "Message(value, mtype=0, priority=0, truncated=False)\n--\n\n"
             "A received message: the payload, and the facts that came with it. Immutable.\n\n"
             "Attributes:\n"
             "    value: the payload, decoded.\n"
             "    mtype: the System V message type, 1 or more; 0 for a POSIX queue.\n"
             "    priority: the POSIX priority, 0 to 32767; 0 for a System V queue.\n"
             "    truncated: whether the message was longer than `receive` asked for.\n\n"
             "Example:\n"
             "    >>> from ipckit import SysVMessageQueue\n"
             "    >>> with SysVMessageQueue.create() as queue:\n"
             "    ...     queue.send(b\"hello\", mtype=7)\n"
             "    ...     message = queue.receive()\n"
             "    >>> message.value, message.mtype\n"
             "    (b'hello', 7)");

static PyType_Slot message_slots[] = {
    {Py_tp_doc, (void *)message_doc},
    {Py_tp_new, message_tp_new},
    {Py_tp_traverse, message_traverse},
    {Py_tp_clear, message_clear},
    {Py_tp_dealloc, message_dealloc},
    {Py_tp_repr, message_repr},
    {Py_tp_richcompare, message_richcompare},
    {Py_tp_hash, message_hash},
    {Py_tp_methods, message_methods},
    {Py_tp_members, message_members},
    {0, NULL},
};

static PyType_Spec message_spec = {
    .name = "ipckit.msgq.Message",
    .basicsize = sizeof(message_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = message_slots,
};

PyDoc_STRVAR(message_function_doc,
             "message(value, mtype, priority, truncated, /)\n--\n\n"
             "Create a Message, without the cost of parsing keywords.");

static PyObject *
message_function(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    long mtype, priority;
    if (ipckit_check_nargs("message", nargs, 4) < 0
        || ipckit_long_arg(args[1], "mtype", LONG_MIN, LONG_MAX, &mtype) < 0
        || ipckit_long_arg(args[2], "priority", LONG_MIN, LONG_MAX, &priority) < 0) {
        return NULL;
    }
    int truncated = PyObject_IsTrue(args[3]);
    if (truncated < 0) {
        return NULL;
    }
    return ipckit_message_new(module, args[0], mtype, priority, truncated);
}

static PyMethodDef functions[] = {
    {"message", (PyCFunction)(void (*)(void))message_function, METH_FASTCALL,
     message_function_doc},
    {NULL, NULL, 0, NULL},
};

/* Adds the type and the function of this file to the module: 0, or -1 with an exception set. */
int
ipckit_add_message(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    PyObject *type = PyType_FromModuleAndSpec(module, &message_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    state->message_type = (PyTypeObject *)type;
    PyObject *match_args = Py_BuildValue("(ss)", "value", "mtype");
    if (match_args == NULL) {
        return -1;
    }
    int set = PyObject_SetAttrString(type, "__match_args__", match_args);
    Py_DECREF(match_args);
    if (set < 0 || PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
