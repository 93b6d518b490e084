/* Record, the native base of Struct: the type, and the classes' from_bytes and from_buffer. */
#include "records/record.h"

/* The bytes of a new record for the constructor's arguments, or -1 with an exception set. */
static Py_ssize_t
measured(const Layout *layout, PyObject *args, PyObject *kwargs)
{
    if (layout->measure == Py_None) {
        return layout->size;
    }
    PyObject *found = PyObject_CallFunctionObjArgs(layout->measure, args,
                                                   kwargs == NULL ? Py_None : kwargs, NULL);
    Py_ssize_t size = found == NULL ? -1 : PyLong_AsSsize_t(found);
    Py_XDECREF(found);
    if (size >= 0 && (size < layout->minimum || size > RECORD_SIZE_MAX)) {
        PyErr_SetString(PyExc_ValueError, "the size of the record is out of range");
        return -1;
    }
    return size;
}

static PyObject *
record_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Layout *layout = ipckit_layout_of(type);
    if (layout == NULL) {
        return NULL;
    }
    Py_ssize_t size = measured(layout, args, kwargs);
    Record *self = size < 0 ? NULL : ipckit_record_new(type, layout, size);
    Py_DECREF((PyObject *)layout);
    return (PyObject *)self;
}

static int
check_type(PyObject *type)
{
    if (PyType_Check(type)
        && PyType_IsSubtype((PyTypeObject *)type, ipckit_interpreter()->record_type)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%R is not a subclass of Struct", type);
    return -1;
}

PyDoc_STRVAR(from_bytes_doc,
             "from_bytes(cls, data, /)\n--\n\n"
             "Create an instance that owns a copy of the bytes.\n\n"
             "Args:\n"
             "    data: a bytes-like object of exactly `size` bytes. If the struct has a flexible\n"
             "        array member, it needs the fields before the array, and the array is the rest.\n\n"
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
    if (ipckit_get_buffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    PyObject *result = ipckit_record_from_memory(type, view.buf, view.len);
    PyBuffer_Release(&view);
    return result;
}

PyDoc_STRVAR(from_buffer_doc,
             "from_buffer(cls, buffer, offset=0)\n--\n\n"
             "Create an instance that is a view of a buffer: writing a field writes to the buffer.\n"
             "The view keeps the buffer exported. A flexible array member is the rest of the buffer.\n\n"
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
    {Py_tp_init, ipckit_record_init},
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
    interpreter_state *state = ipckit_interpreter();
    if (state->record_type == NULL) {
        state->record_type = (PyTypeObject *)PyType_FromSpec(&record_spec);
    }
    if (state->record_type == NULL || PyModule_AddType(module, state->record_type) < 0) {
        return -1;
    }
    return add_class_method(module, "record_from_bytes", &from_bytes_def) < 0
                   || add_class_method(module, "record_from_buffer", &from_buffer_def) < 0
               ? -1
               : 0;
}
