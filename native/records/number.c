/* Converts the bytes of numbers and bools to Python objects, and back. */
#include "records/record.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* The bits of the field's number. */
static int
bits_of(const Field *field)
{
    return field->width > 0 ? field->width : 8 * (int)field->size;
}

/* Reads the field's bits as an unsigned number in this machine's byte order. */
static uint64_t
load(const Field *field, const char *data)
{
    uint16_t half;
    uint32_t word;
    uint64_t wide;
    if (field->width > 0) {
        return ipckit_bits_load(field, data);
    }
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

/* Writes the low bits of `value` in the field's byte order. */
static void
store(const Field *field, char *data, uint64_t value)
{
    uint16_t half = (uint16_t)value;
    uint32_t word = (uint32_t)value;
    if (field->width > 0) {
        ipckit_bits_store(field, data, value);
        return;
    }
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
    int unused = 64 - bits_of(field);
    int64_t value = (int64_t)(load(field, data) << unused) >> unused;
    /* PyLong_FromLong is faster, but a long of 32 bits is too short. */
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

/* The member of an enum for a number. Steals `number`, which may be NULL with an exception set. */
static PyObject *
member_of(const Field *field, PyObject *number)
{
    if (field->type == Py_None || number == NULL) {
        return number;
    }
    PyObject *member = PyObject_GetItem(field->type, number);
    Py_DECREF(number);
    return member;
}

PyObject *
ipckit_number_get(const Field *field, const char *data)
{
    switch (field->code) {
    case 'i':
        return member_of(field, get_int(field, data));
    case 'u':
        return member_of(field, PyLong_FromUnsignedLongLong(load(field, data)));
    case 'f':
        return get_float(field, data);
    default:
        return PyBool_FromLong(load(field, data) != 0);
    }
}

int
ipckit_wrong_type(Field *field, const char *wanted, PyObject *value)
{
    PyObject *name = PyType_GetName(Py_TYPE(value));
    const char *text = name == NULL ? NULL : PyUnicode_AsUTF8AndSize(name, NULL);
    const char *last = wanted == NULL ? NULL : strrchr(wanted, ' ');
    if (text != NULL && last != NULL && strcmp(last + 1, text) == 0) {
        /* Both classes have the same name, so the message needs the module too. */
        Py_DECREF(name);
        name = ipckit_type_text(Py_TYPE(value));
    }
    if (text != NULL && name != NULL && wanted != NULL) {
        PyErr_Format(PyExc_TypeError, "field %R takes %s, not %U", field->name, wanted, name);
    }
    Py_XDECREF(name);
    return -1;
}

static int
out_of_range(Field *field, PyObject *value)
{
    int bits = bits_of(field);
    PyObject *text = PyObject_Repr(value);
    if (text == NULL) { /* Python refuses to print an int of more than 4300 digits */
        PyErr_Clear();
        text = PyUnicode_FromString("a huge int");
    }
    if (text == NULL) {
        return -1;
    }
    PyObject *message;
    if (field->code == 'i') {
        int64_t max = (int64_t)(((uint64_t)1 << (bits - 1)) - 1);
        message = PyUnicode_FromFormat("field %R must be %lld to %lld, not %U", field->name,
                                       (long long)(-max - 1), (long long)max, text);
    } else {
        message = PyUnicode_FromFormat("field %R must be 0 to %llu, not %U", field->name,
                                       (unsigned long long)(UINT64_MAX >> (64 - bits)), text);
    }
    Py_DECREF(text);
    return ipckit_raise_invalid(message);
}

/* Whether an int is in the range of the field; its bits go to `result`. */
static bool
fits(const Field *field, PyObject *number, uint64_t *result)
{
    int bits = bits_of(field);
    if (field->code == 'i') {
        int overflow;
        int64_t value = PyLong_AsLongLongAndOverflow(number, &overflow);
        int64_t max = (int64_t)(((uint64_t)1 << (bits - 1)) - 1);
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
too_large(Field *field)
{
    return ipckit_raise_invalid(
        PyUnicode_FromFormat("the value of field %R is too large for a double", field->name));
}

/* Replaces the exception of a failed conversion by one that names the field. Returns -1. */
static int
wrong_number(Field *field, const char *wanted, PyObject *value)
{
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        return ipckit_wrong_type(field, wanted, value);
    }
    if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
        return too_large(field);
    }
    return -1;
}

/* Whether `value`, which was converted to the infinite double `wide`, is infinite itself. If not, it is
   a number of a wider type that a double can't represent. */
static bool
is_infinite(PyObject *value, double wide)
{
    PyObject *number = PyFloat_FromDouble(wide);
    int same = number == NULL ? -1 : PyObject_RichCompareBool(value, number, Py_EQ);
    PyErr_Clear();
    Py_XDECREF(number);
    return same == 1;
}

static int
set_int(Field *field, char *data, PyObject *value)
{
    if (!PyLong_Check(value) && ipckit_check_array(value) < 0) {
        return -1;
    }
    PyObject *number = PyNumber_Index(value);
    if (number == NULL) {
        return wrong_number(field, "an int", value);
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
    if (!PyFloat_Check(value) && ipckit_check_array(value) < 0) {
        return -1;
    }
    if (!ipckit_is_real(value)) {
        return ipckit_wrong_type(field, "a float", value);
    }
    double wide = PyFloat_AsDouble(value);
    if (wide == -1.0 && PyErr_Occurred()) {
        return wrong_number(field, "a float", value);
    }
    if (isinf(wide) && !PyFloat_Check(value) && !is_infinite(value, wide)) {
        return too_large(field);
    }
    uint64_t bits = 0;
    if (field->size == 8) {
        memcpy(&bits, &wide, sizeof wide);
    } else {
        float narrow = (float)wide;
        if (isinf(narrow) && !isinf(wide)) {
            return ipckit_raise_invalid(
                PyUnicode_FromFormat("field %R is %R; a float takes -3.4028235e38 to 3.4028235e38",
                                     field->name, value));
        }
        memcpy(&bits, &narrow, sizeof narrow);
    }
    store(field, data, bits);
    return 0;
}

static int
set_bool(Field *field, char *data, PyObject *value)
{
    int truth = ipckit_is_bool(value) ? PyObject_IsTrue(value) : ipckit_wrong_type(field, "a bool", value);
    if (truth >= 0) {
        store(field, data, (uint64_t)truth);
    }
    return truth < 0 ? -1 : 0;
}

int
ipckit_number_set(Field *field, char *data, PyObject *value)
{
    switch (field->code) {
    case 'i':
    case 'u':
        return set_int(field, data, value);
    case 'f':
        return set_float(field, data, value);
    default:
        return set_bool(field, data, value);
    }
}
