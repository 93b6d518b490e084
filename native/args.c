/* Arguments of native functions, checked one by one. */
#include "native.h"
#include "records/record.h"
#include "ring/clock.h"

#include <limits.h>
#include <math.h>

int
ipckit_check_nargs(const char *function, Py_ssize_t got, Py_ssize_t wanted)
{
    if (got == wanted) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", function, wanted, got);
    return -1;
}

int
ipckit_long_arg(PyObject *object, const char *name, long min, long max, long *result)
{
    int overflow;
    /* Takes what has __index__ too, and raises TypeError for the rest. */
    long value = PyLong_AsLongAndOverflow(object, &overflow);
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (overflow || value < min || value > max) {
        PyErr_Format(ipckit_bad_argument(), "%s must be %ld to %ld, not %S", name, min, max, object);
        return -1;
    }
    *result = value;
    return 0;
}

int
ipckit_int_arg(PyObject *object, const char *name, int *result)
{
    long value;
    if (ipckit_long_arg(object, name, INT_MIN, INT_MAX, &value) < 0) {
        return -1;
    }
    *result = (int)value;
    return 0;
}

int
ipckit_size_arg(PyObject *object, const char *name, Py_ssize_t *result)
{
    long value;
    if (ipckit_long_arg(object, name, 0, LONG_MAX, &value) < 0) {
        return -1;
    }
    *result = value;
    return 0;
}

int
ipckit_bytes_arg(PyObject *object, Py_buffer *result)
{
    if (ipckit_get_buffer(object, result, PyBUF_SIMPLE) == 0) {
        return 0;
    }
    /* For bytes that are not contiguous, memoryview raises BufferError and numpy ValueError. */
    if (PyErr_ExceptionMatches(PyExc_BufferError) || PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_Format(PyExc_TypeError, "the payload's bytes can't be had: %S",
                     error != NULL ? error : type);
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
    }
    return -1;
}

static int
negative_time(void)
{
    PyErr_SetString(ipckit_bad_argument(), "timeout must be 0 or more seconds, or None");
    return -1;
}

/* A ValueError of `float(timeout)` as BadArgument. */
static int
bad_time(void)
{
    PyObject *error = ipckit_take_exception();
    PyErr_Format(ipckit_bad_argument(), "timeout: %S", error);
    Py_XDECREF(error);
    return -1;
}

/* A number that is too large for a float: WAIT_FOREVER, or an error if it is below 0. */
static int
wait_beyond_floats(PyObject *object, int64_t *wait_ns)
{
    PyErr_Clear();
    PyObject *zero = PyLong_FromLong(0);
    int negative = zero == NULL ? -1 : PyObject_RichCompareBool(object, zero, Py_LT);
    Py_XDECREF(zero);
    if (negative > 0) {
        return negative_time();
    }
    *wait_ns = WAIT_FOREVER;
    return negative;
}

int
ipckit_wait_arg(PyObject *object, int64_t *wait_ns)
{
    if (object == Py_None) {
        *wait_ns = WAIT_FOREVER;
        return 0;
    }
    if (PyLong_CheckExact(object) && PyObject_Not(object) == 1) {
        *wait_ns = 0; /* the commonest number, without a detour through floating point */
        return 0;
    }
    double seconds = PyFloat_AsDouble(object);
    if (seconds == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_ValueError)) { /* Decimal's signaling NaN */
            return bad_time();
        }
        return PyErr_ExceptionMatches(PyExc_OverflowError) ? wait_beyond_floats(object, wait_ns) : -1;
    }
    if (isnan(seconds) || seconds < 0) {
        return negative_time();
    }
    double ns = ceil(seconds * (double)NS_PER_SECOND);
    *wait_ns = ns >= (double)INT64_MAX ? WAIT_FOREVER : (int64_t)ns;
    return 0;
}

int
ipckit_record_type_arg(PyObject *object, PyObject **record_type)
{
    *record_type = NULL;
    if (object == Py_None) {
        return 0;
    }
    if (!PyType_Check(object)
        || !PyType_IsSubtype((PyTypeObject *)object, ipckit_interpreter()->record_type)) {
        PyErr_SetString(PyExc_TypeError, "a record type is a Struct class or None");
        return -1;
    }
    *record_type = object;
    return 0;
}

int
ipckit_hold_buffer(PyObject *exporter, Py_buffer *buffer)
{
    if (ipckit_get_buffer(exporter, buffer, PyBUF_WRITABLE) == 0) {
        return 0;
    }
    /* Exporters disagree on the exception: BufferError, ValueError of numpy. */
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyErr_Clear();
    return ipckit_get_buffer(exporter, buffer, PyBUF_SIMPLE);
}
