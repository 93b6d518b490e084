/* Record, the native base of Struct: the type, its constructor, and the classes' from_bytes and
   from_buffer. */
#include "records/record.h"

PyTypeObject *ipckit_record_type;

static PyObject *
record_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    return (PyObject *)ipckit_record_zeroed(type);
}

/* A new reference to the value of field `i`. NULL with an exception set, or NULL without one if the
   call has no value for the field. */
static PyObject *
initial_value(Layout *layout, Py_ssize_t i, PyObject *args, PyObject *kwargs, Py_ssize_t *used)
{
    if (i < PyTuple_Size(args)) {
        return Py_NewRef(PyTuple_GetItem(args, i));
    }
    Field *field = (Field *)PyTuple_GetItem(layout->fields, i);
    PyObject *value = kwargs == NULL ? NULL : PyDict_GetItemWithError(kwargs, field->name);
    if (value != NULL) {
        (*used)++;
    } else if (!PyErr_Occurred()) {
        Py_ssize_t required = PyTuple_Size(layout->fields) - PyTuple_Size(layout->defaults);
        value = i < required ? NULL : PyTuple_GetItem(layout->defaults, i - required);
    }
    return Py_XNewRef(value);
}

/* Sets TypeError for the keyword argument that no field used. Returns -1. */
static int
refuse_argument(PyObject *self, PyObject *args, Layout *layout, PyObject *kwargs)
{
    PyObject *name;
    PyObject *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(kwargs, &position, &name, &value)) {
        bool known = false;
        for (Py_ssize_t i = PyTuple_Size(args); i < PyTuple_Size(layout->fields) && !known; i++) {
            Field *field = (Field *)PyTuple_GetItem(layout->fields, i);
            int same = PyObject_RichCompareBool(field->name, name, Py_EQ);
            if (same < 0) {
                return -1;
            }
            known = same;
        }
        if (!known) {
            PyErr_Format(PyExc_TypeError, "%R got %R, which is not a field or has two values",
                         (PyObject *)Py_TYPE(self), name);
            return -1;
        }
    }
    PyErr_SetString(PyExc_TypeError, "the keyword arguments changed during the call");
    return -1;
}

/* Sets each field to its argument or default: 0, or -1 with an exception set. */
static int
set_initial(Record *self, Layout *layout, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t used = 0;
    for (Py_ssize_t i = 0; i < PyTuple_Size(layout->fields); i++) {
        Field *field = (Field *)PyTuple_GetItem(layout->fields, i);
        PyObject *value = initial_value(layout, i, args, kwargs, &used);
        if (value == NULL) {
            if (!PyErr_Occurred()) {
                PyErr_Format(PyExc_TypeError, "%R needs a value for field %R",
                             (PyObject *)Py_TYPE((PyObject *)self), field->name);
            }
            return -1;
        }
        int result = ipckit_field_set(field, (PyObject *)self, value);
        Py_DECREF(value);
        if (result < 0) {
            return -1;
        }
    }
    if (kwargs != NULL && used != PyDict_Size(kwargs)) {
        return refuse_argument((PyObject *)self, args, layout, kwargs);
    }
    return 0;
}

static int
record_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    Record *self = (Record *)op;
    if (PyTuple_Size(args) > PyTuple_Size(self->layout->fields)) {
        PyErr_Format(PyExc_TypeError, "%R has %zd fields, but got %zd values",
                     (PyObject *)Py_TYPE(op), PyTuple_Size(self->layout->fields),
                     PyTuple_Size(args));
        return -1;
    }
    return set_initial(self, self->layout, args, kwargs);
}

static int
check_type(PyObject *type)
{
    if (PyType_Check(type) && PyType_IsSubtype((PyTypeObject *)type, ipckit_record_type)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%R is not a subclass of Struct", type);
    return -1;
}

PyDoc_STRVAR(from_bytes_doc,
             "from_bytes(cls, data, /)\n--\n\n"
             "Create an instance that owns a copy of the bytes.\n\n"
             "Args:\n"
             "    data: a bytes-like object of exactly `size` bytes.\n\n"
             "Raises:\n"
             "    LayoutMismatch: `data` has another size; the error's ``raw`` is the bytes.\n"
             "    TypeError: the class has no fields.");

static PyObject *
record_from_bytes(PyObject *cls, PyObject *data)
{
    if (check_type(cls) < 0) {
        return NULL;
    }
    PyTypeObject *type = (PyTypeObject *)cls;
    if (PyBytes_CheckExact(data)) {
        return ipckit_record_from_memory(type, PyBytes_AsString(data), PyBytes_Size(data));
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    PyObject *result = ipckit_record_from_memory(type, view.buf, view.len);
    PyBuffer_Release(&view);
    return result;
}

PyDoc_STRVAR(from_buffer_doc,
             "from_buffer(cls, buffer, offset=0)\n--\n\n"
             "Create an instance that is a view of a buffer: writing a field writes to the buffer.\n"
             "The view keeps the buffer exported.\n\n"
             "Args:\n"
             "    buffer: an object with the buffer protocol. If it is read-only, the view is too.\n"
             "    offset: bytes from the start of the buffer; 0 by default.\n\n"
             "Raises:\n"
             "    InvalidArgument: the struct does not fit into the buffer there.\n"
             "    TypeError: the class has no fields.");

static PyObject *
record_from_buffer(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"buffer", "offset", NULL};
    PyObject *buffer;
    Py_ssize_t offset = 0;
    if (check_type(cls) < 0 || !PyArg_ParseTupleAndKeywords(args, kwargs, "O|n:from_buffer", names,
                                                            &buffer, &offset)) {
        return NULL;
    }
    return ipckit_record_view((PyTypeObject *)cls, buffer, offset);
}

static PyMethodDef from_bytes_def = {"from_bytes", record_from_bytes, METH_O,
                                     from_bytes_doc};
static PyMethodDef from_buffer_def = {"from_buffer",
                                      (PyCFunction)(void (*)(void))record_from_buffer,
                                      METH_VARARGS | METH_KEYWORDS, from_buffer_doc};

/* Adds a method descriptor to the module. StructType has it as an attribute, so it is a method of Struct
   classes, and a call needs no Python frame. */
static int
add_class_method(PyObject *module, const char *name, PyMethodDef *def)
{
    PyObject *method = PyDescr_NewMethod(&PyType_Type, def);
    int result = method == NULL ? -1 : PyModule_AddObjectRef(module, name, method);
    Py_XDECREF(method);
    return result;
}

static PyType_Slot record_slots[] = {
    {Py_tp_doc, "Bytes that the Fields of a subclass read and write; the base of Struct."},
    {Py_tp_new, record_new},
    {Py_tp_init, record_init},
    {Py_tp_dealloc, ipckit_record_dealloc},
    {Py_tp_traverse, ipckit_record_traverse},
    {Py_bf_getbuffer, ipckit_record_getbuffer},
    {0, NULL},
};

static PyType_Spec record_spec = {
    .name = "ipckit._native.Record",
    .basicsize = sizeof(Record),
    .itemsize = 1,
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = record_slots,
};

int
ipckit_add_record(PyObject *module)
{
    if (ipckit_record_type == NULL) {
        ipckit_record_type = (PyTypeObject *)PyType_FromSpec(&record_spec);
    }
    if (ipckit_record_type == NULL || PyModule_AddType(module, ipckit_record_type) < 0) {
        return -1;
    }
    return add_class_method(module, "record_from_bytes", &from_bytes_def) < 0
                   || add_class_method(module, "record_from_buffer", &from_buffer_def) < 0
               ? -1
               : 0;
}
