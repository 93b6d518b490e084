/* Converts the bytes of a field to a Python object, and back. number.c does this for numbers. */
#include "records/record.h"

#include <string.h>

#define TEXT_ON_STACK 256

static PyObject *
get_text(const Field *field, const char *data)
{
    /* Decode a copy: another process may write to the memory, and the decoder reads it more than once. */
    char small[TEXT_ON_STACK];
    Py_ssize_t size = field->size;
    char *text = size <= TEXT_ON_STACK ? small : PyMem_Malloc((size_t)size);
    if (text == NULL) {
        return PyErr_NoMemory();
    }
    memcpy(text, data, (size_t)size);
    Py_ssize_t length = (Py_ssize_t)strnlen(text, (size_t)size);
    PyObject *result = PyUnicode_DecodeUTF8(text, length, "surrogateescape");
    if (text != small) {
        PyMem_Free(text);
    }
    return result;
}

PyObject *
ipckit_value_get(Field *field, PyObject *record, const char *data)
{
    switch (field->code) {
    case 'i':
    case 'u':
    case 'f':
    case '?':
        return ipckit_number_get(field, data);
    case 'c':
        return get_text(field, data);
    case 's':
        return PyBytes_FromStringAndSize(data, field->size);
    case 'r':
        return ipckit_record_view((PyTypeObject *)field->type, record, field->offset);
    default:
        return PyObject_CallMethod(field->type, "view", "O", record);
    }
}

/* Copies `length` bytes into the field and pads it with NULs: 0, or -1 with InvalidArgument set if they
   do not fit. */
static int
fill(Field *field, char *data, const char *bytes, Py_ssize_t length)
{
    if (length > field->size) {
        return ipckit_raise_invalid(PyUnicode_FromFormat(
            "field %R takes at most %zd bytes, not %zd", field->name, field->size, length));
    }
    memmove(data, bytes, (size_t)length);
    memset(data + length, 0, (size_t)(field->size - length));
    return 0;
}

static int
set_text(Field *field, char *data, PyObject *value)
{
    if (!PyUnicode_Check(value)) {
        return ipckit_wrong_type(field, "a str", value);
    }
    PyObject *encoded = NULL;
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(value, &length);
    if (text == NULL) { /* it has surrogates: get_text returns them for bytes that are not UTF-8 */
        PyErr_Clear();
        encoded = PyUnicode_AsEncodedString(value, "utf-8", "surrogateescape");
        if (encoded == NULL) {
            return -1;
        }
        text = PyBytes_AsString(encoded);
        length = PyBytes_Size(encoded);
    }
    int result;
    if (memchr(text, 0, (size_t)length) != NULL) {
        result = ipckit_raise_invalid(PyUnicode_FromFormat(
            "field %R takes text without a NUL, because C text ends at the first one", field->name));
    } else {
        result = fill(field, data, text, length);
    }
    Py_XDECREF(encoded);
    return result;
}

static int
set_bytes(Field *field, char *data, PyObject *value)
{
    Py_buffer view;
    if (!PyObject_CheckBuffer(value)) {
        return ipckit_wrong_type(field, "a bytes-like object", value);
    }
    if (ipckit_get_buffer(value, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    int result = fill(field, data, view.buf, view.len);
    PyBuffer_Release(&view);
    return result;
}

/* The bytes of a nested record: the rest of the outer one if it has a flexible array member. Returns -1
   with an exception set. */
static Py_ssize_t
room_of(const Field *field, const Record *outer)
{
    Layout *layout = ipckit_layout_of((PyTypeObject *)field->type);
    if (layout == NULL) {
        return -1;
    }
    Py_ssize_t room = layout->measure == Py_None ? field->size : outer->size - field->offset;
    Py_DECREF((PyObject *)layout);
    return room;
}

static int
set_record(Field *field, PyObject *record, char *data, PyObject *value)
{
    PyTypeObject *wanted = (PyTypeObject *)field->type;
    int same = PyObject_TypeCheck(value, wanted) ? 1 : ipckit_same_struct(Py_TYPE(value), wanted);
    if (same <= 0) {
        PyObject *name = same < 0 ? NULL : PyType_GetName(wanted);
        PyObject *text = name == NULL ? NULL : PyUnicode_FromFormat("a %U", name);
        if (text != NULL) {
            ipckit_wrong_type(field, PyUnicode_AsUTF8AndSize(text, NULL), value);
        }
        Py_XDECREF(name);
        Py_XDECREF(text);
        return -1;
    }
    Record *source = (Record *)value;
    Py_ssize_t size = room_of(field, (Record *)record);
    if (size < 0) {
        return -1;
    }
    if (source->size != size) {
        PyErr_Format(PyExc_TypeError, "field %R takes a record of %zd bytes, not %zd", field->name,
                     size, source->size);
        return -1;
    }
    memmove(data, source->data, (size_t)size);
    return 0;
}

int
ipckit_value_set(Field *field, PyObject *record, char *data, PyObject *value)
{
    switch (field->code) {
    case 'i':
    case 'u':
    case 'f':
    case '?':
        return ipckit_number_set(field, data, value);
    case 'c':
        return set_text(field, data, value);
    case 's':
        return set_bytes(field, data, value);
    case 'r':
        return set_record(field, record, data, value);
    default: {
        PyObject *none = PyObject_CallMethod(field->type, "assign", "OO", record, value);
        Py_XDECREF(none);
        return none == NULL ? -1 : 0;
    }
    }
}
