/* Raising exceptions: OSError from errno, and the classes of ipckit.errors that C raises itself. */
#include "native.h"

#include <errno.h>

PyObject *
ipckit_take_exception(void)
{
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return exception;
}

PyObject *
ipckit_raise(PyObject *exception)
{
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}

PyObject *
ipckit_oserror(void)
{
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* The two classes below do not exist any more while the interpreter ends; their bases do. */
PyObject *
ipckit_call_failed(void)
{
    PyObject *cls = ipckit_interpreter()->call_failed;
    return PyErr_SetFromErrno(cls != NULL ? cls : PyExc_OSError);
}

PyObject *
ipckit_bad_argument(void)
{
    PyObject *cls = ipckit_interpreter()->bad_argument;
    return cls != NULL ? cls : PyExc_ValueError;
}

int
ipckit_add_errors(PyObject *module)
{
    interpreter_state *state = ipckit_interpreter();
    if (state->call_failed == NULL) {
        state->call_failed = PyErr_NewExceptionWithDoc(
            "ipckit._native.CallFailed",
            "A system call failed. What a signal's handler raises during the call is never one.",
            PyExc_OSError, NULL);
    }
    if (state->bad_argument == NULL) {
        state->bad_argument = PyErr_NewExceptionWithDoc(
            "ipckit._native.BadArgument",
            "A number is out of range. What a method of an argument raises is never one.",
            PyExc_ValueError, NULL);
    }
    if (state->call_failed == NULL || state->bad_argument == NULL) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "CallFailed", state->call_failed) < 0
                   || PyModule_AddObjectRef(module, "BadArgument", state->bad_argument) < 0
               ? -1
               : 0;
}

static PyObject *
new_error(const char *name, PyObject *message, int error)
{
    PyObject *module = PyImport_ImportModule("ipckit.errors");
    PyObject *cls = module == NULL ? NULL : PyObject_GetAttrString(module, name);
    PyObject *args = cls == NULL ? NULL : PyTuple_Pack(1, message);
    PyObject *kwargs = args == NULL ? NULL : Py_BuildValue("{s:i}", "errno", error);
    PyObject *result = kwargs == NULL ? NULL : PyObject_Call(cls, args, kwargs);
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    Py_XDECREF(cls);
    Py_XDECREF(module);
    return result;
}

static int
raise_error(PyObject *exception)
{
    ipckit_raise(exception);
    return -1;
}

int
ipckit_raise_invalid(PyObject *message)
{
    if (message == NULL) {
        return -1;
    }
    PyObject *exception = new_error("InvalidArgument", message, EINVAL);
    Py_DECREF(message);
    return raise_error(exception);
}

PyObject *
ipckit_as_invalid_argument(void)
{
    if (!PyErr_ExceptionMatches(PyExc_ValueError)) {
        return NULL;
    }
    PyObject *exception = ipckit_take_exception();
    PyObject *message = PyObject_Str(exception);
    Py_DECREF(exception);
    ipckit_raise_invalid(message);
    return NULL;
}

int
ipckit_raise_corrupt(PyObject *message)
{
    if (message == NULL) {
        return -1;
    }
    PyObject *exception = new_error("Corrupt", message, EUCLEAN);
    Py_DECREF(message);
    return raise_error(exception);
}

int
ipckit_raise_mismatch(PyObject *message, const char *raw, Py_ssize_t size)
{
    if (message == NULL) {
        return -1;
    }
    PyObject *exception = new_error("LayoutMismatch", message, EBADMSG);
    Py_DECREF(message);
    PyObject *bytes = exception == NULL ? NULL : PyBytes_FromStringAndSize(raw, size);
    if (bytes == NULL || PyObject_SetAttrString(exception, "raw", bytes) < 0) {
        Py_XDECREF(bytes);
        Py_XDECREF(exception);
        return -1;
    }
    Py_DECREF(bytes);
    return raise_error(exception);
}
