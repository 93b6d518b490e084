/* Between the bytes of a field and the Python object that stands for them. */
#include "record.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define TEXT_ON_STACK 256

static int
wrong_type(Field *field, const char *wanted, PyObject *value)
{
    PyObject *name = PyType_GetName(Py_TYPE(value));
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError, "field %R takes %s, not %U", field->name, wanted, name);
        Py_DECREF(name);
    }
    return -1;
}

static uint64_t
load(const Field *field, const char *data)
{
    uint16_t half;
    uint32_t word;
    uint64_t wide;
    switch (field->size) {
    case 1:
        return (uint8_t)data[0];
    case 2:
        memcpy(&half, data, sizeof half);
        return field->swap ? __builtin_bswap16(half) : half;
    case 4:
        memcpy(&word, data, sizeof word);
        return field->swap ? __builtin_bswap32(word) : word;
    default:
        memcpy(&wide, data, sizeof wide);
        return field->swap ? __builtin_bswap64(wide) : wide;
    }
}

static void
store(const Field *field, char *data, uint64_t value)
{
    uint16_t half = (uint16_t)value;
    uint32_t word = (uint32_t)value;
    switch (field->size) {
    case 1:
        data[0] = (char)value;
        break;
    case 2:
        half = field->swap ? __builtin_bswap16(half) : half;
        memcpy(data, &half, sizeof half);
        break;
    case 4:
        word = field->swap ? __builtin_bswap32(word) : word;
        memcpy(data, &word, sizeof word);
        break;
    default:
        value = field->swap ? __builtin_bswap64(value) : value;
        memcpy(data, &value, sizeof value);
    }
}

static PyObject *
get_int(const Field *field, const char *data)
{
    int unused = 64 - 8 * (int)field->size;
    int64_t value = (int64_t)(load(field, data) << unused) >> unused;
    /* PyLong_FromLong is the faster one, where a long is wide enough. */
    return sizeof(long) == 8 ? PyLong_FromLong((long)value) : PyLong_FromLongLong(value);
}

static PyObject *
get_float(const Field *field, const char *data)
{
    uint64_t bits = load(field, data);
    if (field->size == 8) {
        double value;
        memcpy(&value, &bits, sizeof value);
        return PyFloat_FromDouble(value);
    }
    uint32_t word = (uint32_t)bits;
    float value;
    memcpy(&value, &word, sizeof value);
    return PyFloat_FromDouble(value);
}

static PyObject *
get_text(const Field *field, const char *data)
{
    /* Decoded from a copy: another process may be writing, and the decoder reads more than once. */
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
        return get_int(field, data);
    case 'u':
        return PyLong_FromUnsignedLongLong(load(field, data));
    case 'f':
        return get_float(field, data);
    case '?':
        return PyBool_FromLong(data[0] != 0);
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

static int
out_of_range(Field *field, PyObject *value)
{
    int bits = 8 * (int)field->size;
    PyObject *text = PyObject_Repr(value);
    if (text == NULL) { /* thousands of digits: Python refuses to print them */
        PyErr_Clear();
        text = PyUnicode_FromString("a huge int");
    }
    if (text == NULL) {
        return -1;
    }
    PyObject *message;
    if (field->code == 'i') {
        int64_t max = (int64_t)(UINT64_MAX >> (65 - bits));
        message = PyUnicode_FromFormat("field %R is %U; it takes %lld to %lld", field->name, text,
                                       (long long)(-max - 1), (long long)max);
    } else {
        message = PyUnicode_FromFormat("field %R is %U; it takes 0 to %llu", field->name, text,
                                       (unsigned long long)(UINT64_MAX >> (64 - bits)));
    }
    Py_DECREF(text);
    return ipckit_raise_invalid(message);
}

static bool
fits(const Field *field, PyObject *number, uint64_t *result)
{
    int bits = 8 * (int)field->size;
    if (field->code == 'i') {
        int overflow;
        int64_t value = PyLong_AsLongLongAndOverflow(number, &overflow);
        int64_t max = (int64_t)(UINT64_MAX >> (65 - bits));
        *result = (uint64_t)value;
        return !overflow && value <= max && value >= -max - 1;
    }
    *result = PyLong_AsUnsignedLongLong(number);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return *result <= UINT64_MAX >> (64 - bits);
}

static int
set_int(Field *field, char *data, PyObject *value)
{
    if (!PyLong_Check(value) && !PyIndex_Check(value)) {
        return wrong_type(field, "an int", value);
    }
    PyObject *number = PyNumber_Index(value);
    if (number == NULL) {
        return -1;
    }
    uint64_t bits;
    int result = 0;
    if (fits(field, number, &bits)) {
        store(field, data, bits);
    } else {
        result = out_of_range(field, number);
    }
    Py_DECREF(number);
    return result;
}

static int
set_float(Field *field, char *data, PyObject *value)
{
    double wide = PyFloat_AsDouble(value);
    if (wide == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            return wrong_type(field, "a float", value);
        }
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            return ipckit_raise_invalid(
                PyUnicode_FromFormat("field %R is too large for a double", field->name));
        }
        return -1;
    }
    uint64_t bits = 0;
    if (field->size == 8) {
        memcpy(&bits, &wide, sizeof wide);
    } else {
        float narrow = (float)wide;
        if (isinf(narrow) && !isinf(wide)) {
            return ipckit_raise_invalid(
                PyUnicode_FromFormat("field %R is %R; a float reaches 3.4028235e38", field->name,
                                     value));
        }
        memcpy(&bits, &narrow, sizeof narrow);
    }
    store(field, data, bits);
    return 0;
}

static int
set_bool(Field *field, char *data, PyObject *value)
{
    if (!PyBool_Check(value)) {
        return wrong_type(field, "a bool", value);
    }
    data[0] = value == Py_True;
    return 0;
}

/* Copies `length` bytes and pads with NULs. */
static int
fill(Field *field, char *data, const char *bytes, Py_ssize_t length)
{
    if (length > field->size) {
        return ipckit_raise_invalid(PyUnicode_FromFormat(
            "field %R takes at most %zd bytes, and this is %zd", field->name, field->size, length));
    }
    memmove(data, bytes, (size_t)length);
    memset(data + length, 0, (size_t)(field->size - length));
    return 0;
}

static int
set_text(Field *field, char *data, PyObject *value)
{
    if (!PyUnicode_Check(value)) {
        return wrong_type(field, "a str", value);
    }
    PyObject *encoded = NULL;
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(value, &length);
    if (text == NULL) { /* surrogates: bytes that were not UTF-8 when they were read */
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
            "field %R is text that ends at the first NUL, and this has one inside", field->name));
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
        return wrong_type(field, "a bytes-like object", value);
    }
    if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    int result = fill(field, data, view.buf, view.len);
    PyBuffer_Release(&view);
    return result;
}

static int
set_record(Field *field, char *data, PyObject *value)
{
    if (!PyObject_TypeCheck(value, (PyTypeObject *)field->type)) {
        PyObject *wanted = PyObject_GetAttrString(field->type, "__name__");
        PyObject *got = PyType_GetName(Py_TYPE(value));
        if (wanted != NULL && got != NULL) {
            PyErr_Format(PyExc_TypeError, "field %R takes a %S, not %U", field->name, wanted, got);
        }
        Py_XDECREF(wanted);
        Py_XDECREF(got);
        return -1;
    }
    Record *source = (Record *)value;
    if (source->size != field->size) {
        PyErr_Format(PyExc_TypeError, "field %R takes a record of %zd bytes, not %zd", field->name,
                     field->size, source->size);
        return -1;
    }
    memmove(data, source->data, (size_t)field->size);
    return 0;
}

int
ipckit_value_set(Field *field, PyObject *record, char *data, PyObject *value)
{
    switch (field->code) {
    case 'i':
    case 'u':
        return set_int(field, data, value);
    case 'f':
        return set_float(field, data, value);
    case '?':
        return set_bool(field, data, value);
    case 'c':
        return set_text(field, data, value);
    case 's':
        return set_bytes(field, data, value);
    case 'r':
        return set_record(field, data, value);
    default: {
        PyObject *none = PyObject_CallMethod(field->type, "assign", "OO", record, value);
        Py_XDECREF(none);
        return none == NULL ? -1 : 0;
    }
    }
}
