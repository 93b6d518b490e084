/* The arguments of a semaphore's methods. */
#include "semaphores/semop.h"

#include <limits.h>

/* Stores one keyword argument in `call`. Returns 0, or -1 with TypeError or ValueError. */
static int
keyword_arg(const char *function, PyObject *name, PyObject *value, semaphore_args *call)
{
    if (call->timeout != NULL && PyUnicode_CompareWithASCIIString(name, "timeout") == 0) {
        call->timeout = value;
        return 0;
    }
    if (call->undo >= 0 && PyUnicode_CompareWithASCIIString(name, "undo") == 0) {
        call->undo = PyObject_IsTrue(value);
        return call->undo < 0 ? -1 : 0;
    }
    if (call->n != 0 && PyUnicode_CompareWithASCIIString(name, "n") == 0) {
        return ipckit_long_arg(value, "n", 1, SHRT_MAX, &call->n);
    }
    PyErr_Format(PyExc_TypeError, "%s() has no argument %R", function, name);
    return -1;
}

int
ipckit_semaphore_args(const char *function, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                      semaphore_args *call)
{
    if (nargs > (call->n != 0)) {
        PyErr_Format(PyExc_TypeError, "%s() takes %d positional arguments, not %zd", function,
                     call->n != 0, nargs);
        return -1;
    }
    if (nargs == 1 && ipckit_long_arg(args[0], "n", 1, SHRT_MAX, &call->n) < 0) {
        return -1;
    }
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_Size(kwnames);
    for (Py_ssize_t i = 0; i < named; i++) {
        if (nargs == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GetItem(kwnames, i), "n") == 0) {
            PyErr_Format(PyExc_TypeError, "%s() takes n once", function);
            return -1;
        }
        if (keyword_arg(function, PyTuple_GetItem(kwnames, i), args[nargs + i], call) < 0) {
            return -1;
        }
    }
    return 0;
}
