/* Recognizes numpy's scalars and arrays. It uses the attributes that numpy documents, so that the
   extension compiles without numpy's headers. */
#include "native.h"

#include <string.h>

/* Puts a class of numpy into `cached`, a member of `state`, if numpy is imported. Sets no exception. */
static void
find_numpy_class(interpreter_state *state, PyTypeObject **cached, const char *class_name)
{
    if (*cached != NULL || state->numpy_name == NULL) { /* the interpreter ends if it has no name */
        return;
    }
    PyObject *numpy = PyImport_GetModule(state->numpy_name);
    PyObject *found = numpy == NULL ? NULL : PyObject_GetAttrString(numpy, class_name);
    if (found != NULL && PyType_Check(found)) {
        *cached = (PyTypeObject *)Py_NewRef(found);
    }
    PyErr_Clear();
    Py_XDECREF(found);
    Py_XDECREF(numpy);
}

static bool
is_array(PyObject *value)
{
    if (PyBytes_CheckExact(value) || PyByteArray_CheckExact(value) || PyMemoryView_Check(value)) {
        return false; /* the commonest buffers */
    }
    interpreter_state *state = ipckit_interpreter();
    find_numpy_class(state, &state->array_type, "ndarray");
    return state->array_type != NULL && PyObject_TypeCheck(value, state->array_type);
}

/* Whether an array of this class is no more than its elements. Any other subclass of ndarray can have a
   unit, a scale or another meaning of its own. */
static bool
is_plain_class(PyTypeObject *type)
{
    interpreter_state *state = ipckit_interpreter();
    if (type == state->array_type) {
        return true;
    }
    find_numpy_class(state, &state->memmap_type, "memmap");
    find_numpy_class(state, &state->recarray_type, "recarray");
    return type == state->memmap_type || type == state->recarray_type;
}

/* Sets TypeError for an instance of a subclass of ndarray. */
static void
refuse_subclass(PyTypeObject *type)
{
    /* Look at the class, because a field of a record array can have the name mask. */
    if (PyObject_HasAttrString((PyObject *)type, "mask")) {
        PyErr_SetString(PyExc_TypeError,
                        "a masked array is not accepted, because its bytes include the elements "
                        "that the mask hides; filled(x) or compressed() gives a plain array");
        return;
    }
    PyObject *name = ipckit_type_text(type);
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "an array of class %U is not accepted, because its bytes do not include what "
                     "the class adds to them; numpy.asarray(x) gives a plain array",
                     name);
        Py_DECREF(name);
    }
}

/* Whether an array's bytes are addresses of Python objects: 1, 0, or -1 with an exception set. */
static int
has_objects(PyObject *array)
{
    interpreter_state *state = ipckit_interpreter();
    PyObject *dtype = PyObject_GetAttr(array, state->dtype_name);
    PyObject *found = dtype == NULL ? NULL : PyObject_GetAttr(dtype, state->hasobject_name);
    int result = found == NULL ? -1 : PyObject_IsTrue(found);
    Py_XDECREF(found);
    Py_XDECREF(dtype);
    return result;
}

/* The same as ipckit_check_array, for an array. */
static int
check_elements(PyObject *array)
{
    if (!is_plain_class(Py_TYPE(array))) {
        refuse_subclass(Py_TYPE(array));
        return -1;
    }
    int objects = has_objects(array);
    if (objects > 0) {
        PyErr_SetString(PyExc_TypeError, "an array of Python objects has no bytes that another "
                                         "process could read");
    }
    return objects == 0 ? 0 : -1;
}

int
ipckit_check_array(PyObject *value)
{
    return is_array(value) ? check_elements(value) : 0;
}

static void
refuse_objects(void)
{
    PyErr_SetString(PyExc_TypeError, "a buffer of Python objects has no bytes that another process "
                                     "could read or write");
}

/* Whether a buffer's items contain Python objects: 'O' in a format of PEP 3118, outside the names of
   fields, which are between colons. */
static bool
format_has_objects(const char *format)
{
    bool in_name = false;
    for (; format != NULL && *format != 0; format++) {
        if (*format == ':') {
            in_name = !in_name;
        } else if (*format == 'O' && !in_name) {
            return true;
        }
    }
    return false;
}

/* Gets the buffer of an object that is not an array; see ipckit_get_buffer. */
static int
get_foreign_buffer(PyObject *object, Py_buffer *buffer, int flags)
{
    if (PyObject_GetBuffer(object, buffer, flags | PyBUF_ND | PyBUF_FORMAT) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError)) {
            return -1;
        }
        PyErr_Clear(); /* a PickleBuffer of an array whose dtype has no format, such as datetime64 */
        return PyObject_GetBuffer(object, buffer, flags);
    }
    if (format_has_objects(buffer->format)) {
        PyBuffer_Release(buffer);
        refuse_objects();
        return -1;
    }
    return 0;
}

int
ipckit_get_buffer(PyObject *object, Py_buffer *buffer, int flags)
{
    if (PyBytes_CheckExact(object)) {
        return PyObject_GetBuffer(object, buffer, flags);
    }
    if (!is_array(object)) {
        return get_foreign_buffer(object, buffer, flags);
    }
    return check_elements(object) < 0 ? -1 : PyObject_GetBuffer(object, buffer, flags);
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
    if (PyMemoryView_Check(value)) {
        Py_buffer buffer;
        if (PyObject_GetBuffer(value, &buffer, PyBUF_FULL_RO) < 0) {
            return NULL;
        }
        bool objects = format_has_objects(buffer.format);
        PyBuffer_Release(&buffer);
        if (objects) {
            refuse_objects();
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"check_array", check_array, METH_O,
     "check_array(value, /)\n--\n\n"
     "Raise TypeError for a numpy array that is more than its elements: masked, of a subclass, or of\n"
     "Python objects. Raise it for a memoryview of Python objects too."},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_foreign(PyObject *module)
{
    interpreter_state *state = ipckit_interpreter();
    if (state->numpy_name == NULL) { /* the last one, because a name that is there is not created again */
        state->dtype_name = PyUnicode_InternFromString("dtype");
        state->hasobject_name =
            state->dtype_name == NULL ? NULL : PyUnicode_InternFromString("hasobject");
        state->numpy_name =
            state->hasobject_name == NULL ? NULL : PyUnicode_InternFromString("numpy");
    }
    return state->numpy_name == NULL ? -1 : PyModule_AddFunctions(module, methods);
}
