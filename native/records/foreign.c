/* Recognizes numpy's scalars and arrays. It uses the attributes that numpy documents, so that the
   extension compiles without numpy's headers. */
#include "native.h"

#include <string.h>

/* numpy.ndarray; NULL until numpy is imported. Never freed. */
static PyTypeObject *array_type;

/* Interned, because each call that sends an array looks both up. */
static PyObject *dtype_name, *hasobject_name;

static bool
is_array(PyObject *value)
{
    if (array_type == NULL) {
        PyObject *name = PyUnicode_FromString("numpy");
        PyObject *numpy = name == NULL ? NULL : PyImport_GetModule(name);
        PyObject *found = numpy == NULL ? NULL : PyObject_GetAttrString(numpy, "ndarray");
        if (found != NULL && PyType_Check(found)) {
            array_type = (PyTypeObject *)Py_NewRef(found);
        }
        PyErr_Clear();
        Py_XDECREF(found);
        Py_XDECREF(numpy);
        Py_XDECREF(name);
    }
    return array_type != NULL && PyObject_TypeCheck(value, array_type);
}

/* Whether an array's bytes are addresses of Python objects: 1, 0, or -1 with an exception set. */
static int
has_objects(PyObject *array)
{
    PyObject *dtype = PyObject_GetAttr(array, dtype_name);
    PyObject *found = dtype == NULL ? NULL : PyObject_GetAttr(dtype, hasobject_name);
    int result = found == NULL ? -1 : PyObject_IsTrue(found);
    Py_XDECREF(found);
    Py_XDECREF(dtype);
    return result;
}

int
ipckit_check_array(PyObject *value)
{
    if (PyBytes_CheckExact(value) || PyMemoryView_Check(value) || !is_array(value)) {
        return 0;
    }
    /* Look at the class, because a field of a record array can have the name mask. */
    PyTypeObject *type = Py_TYPE(value);
    if (type != array_type && PyObject_HasAttrString((PyObject *)type, "mask")) {
        PyErr_SetString(PyExc_TypeError,
                        "a masked array is not accepted, because its bytes include the elements "
                        "that the mask hides; filled(x) or compressed() gives a plain array");
        return -1;
    }
    int objects = has_objects(value);
    if (objects > 0) {
        PyErr_SetString(PyExc_TypeError, "an array of Python objects has no bytes that another "
                                         "process could read");
    }
    return objects == 0 ? 0 : -1;
}

PyObject *
ipckit_type_text(PyTypeObject *type)
{
    PyObject *name = PyType_GetQualName(type);
    PyObject *module = name == NULL ? NULL : PyObject_GetAttrString((PyObject *)type, "__module__");
    if (module == NULL || !PyUnicode_Check(module)
        || PyUnicode_CompareWithASCIIString(module, "builtins") == 0) {
        PyErr_Clear();
        Py_XDECREF(module);
        return name;
    }
    PyObject *text = PyUnicode_FromFormat("%U.%U", module, name);
    Py_DECREF(module);
    Py_DECREF(name);
    return text;
}

bool
ipckit_is_bool(PyObject *value)
{
    if (PyBool_Check(value)) {
        return true;
    }
    PyObject *text = ipckit_type_text(Py_TYPE(value));
    bool found = text != NULL
                 && (PyUnicode_CompareWithASCIIString(text, "numpy.bool") == 0
                     || PyUnicode_CompareWithASCIIString(text, "numpy.bool_") == 0);
    PyErr_Clear();
    Py_XDECREF(text);
    return found;
}

/* The kind of a numpy scalar's or array's dtype, or 0 for anything else. */
static char
dtype_kind(PyObject *value)
{
    PyObject *dtype = PyObject_GetAttrString(value, "dtype");
    PyObject *kind = dtype == NULL ? NULL : PyObject_GetAttrString(dtype, "kind");
    Py_UCS4 found = 0;
    if (kind != NULL && PyUnicode_Check(kind) && PyUnicode_GetLength(kind) == 1) {
        found = PyUnicode_ReadChar(kind, 0);
    }
    PyErr_Clear();
    Py_XDECREF(kind);
    Py_XDECREF(dtype);
    return found < 128 ? (char)found : 0;
}

bool
ipckit_is_real(PyObject *value)
{
    if (PyFloat_Check(value) || PyLong_Check(value)) {
        return true;
    }
    /* numpy converts text to a float, and a complex number by dropping its imaginary part. */
    if (PyUnicode_Check(value) || PyBytes_Check(value) || PyComplex_Check(value)) {
        return false;
    }
    char kind = dtype_kind(value);
    return kind == 0 || strchr("cSUmMOT", kind) == NULL;
}

static PyObject *
check_array(PyObject *Py_UNUSED(module), PyObject *value)
{
    if (ipckit_check_array(value) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"check_array", check_array, METH_O,
     "check_array(value, /)\n--\n\n"
     "Raise TypeError for a numpy array whose bytes are not its values: with a mask, or of objects."},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_foreign(PyObject *module)
{
    if (hasobject_name == NULL) {
        dtype_name = PyUnicode_InternFromString("dtype");
        hasobject_name = dtype_name == NULL ? NULL : PyUnicode_InternFromString("hasobject");
    }
    return hasobject_name == NULL ? -1 : PyModule_AddFunctions(module, methods);
}
